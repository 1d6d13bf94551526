/* rng.c: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC 2011). */
#include "base/base.h"

#include <math.h>
#include <string.h>

static void philox(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = ctr[0], c1 = ctr[1], c2 = ctr[2], c3 = ctr[3], k0 = key[0], k1 = key[1];
    for (int i = 0; i < 10; i++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c0 = n0, c1 = (uint32_t)p1, c2 = n2, c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* key: seed and stream mixed (so that equal seeds with other purposes differ); counter: step, sample, position. */
rng rng_key(uint64_t seed, uint64_t step, uint32_t sample, uint32_t stream) {
    rng r;
    uint32_t a[4] = {(uint32_t)seed, (uint32_t)(seed >> 32), stream, (uint32_t)(step >> 32)}, k[2] = {0x6a657061u, stream}, o[4];
    philox(a, k, o);
    memset(&r, 0, sizeof r);
    r.key[0] = o[0], r.key[1] = o[1];
    r.ctr[1] = (uint32_t)step, r.ctr[2] = sample, r.ctr[3] = o[2]; /* ctr[0] counts blocks of four */
    return r;
}

uint32_t rng_u32(rng *r) {
    if (!r->left) {
        philox(r->ctr, r->key, r->out);
        r->ctr[0]++;
        r->left = 4;
    }
    return r->out[--r->left];
}

double rng_unit(rng *r) { return rng_u32(r) * (1.0 / 4294967296.0); }
double rng_uniform(rng *r, double low, double high) { return low + (high - low) * rng_unit(r); }

uint32_t rng_below(rng *r, uint32_t n) {
    if (n < 2) return 0;
    uint32_t skip = (0u - n) % n; /* 2^32 mod n values would be drawn once too often */
    for (;;) {
        uint64_t p = (uint64_t)rng_u32(r) * n;
        if ((uint32_t)p >= skip) return (uint32_t)(p >> 32);
    }
}

double rng_normal(rng *r) {
    double u = (rng_u32(r) + 1.0) * (1.0 / 4294967296.0), v = rng_unit(r); /* u in (0,1] */
    return sqrt(-2 * log(u)) * cos(6.283185307179586476925 * v);
}

void rng_permute(rng *r, uint32_t *index, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t j = rng_below(r, i + 1);
        index[i] = index[j];
        index[j] = i;
    }
}
