/* vec_portable.h: vec.h's vocabulary in the vector extension that GCC and Clang share: 4 floats, any machine.
 * VEC_LANES 16 is what tests/checkop/kernels_wide.c asks for: AVX-512's sizes, run where there is no AVX-512. So: no list of lanes here. */
#ifndef JEPA_VEC_PORTABLE_H
#define JEPA_VEC_PORTABLE_H
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef VEC_LANES
#define VEC_LANES 4
#endif
typedef float vf __attribute__((vector_size(4 * VEC_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * VEC_LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * VEC_LANES)));
typedef uint16_t vh __attribute__((vector_size(2 * VEC_LANES)));
enum { VW = VEC_LANES, TILE_ROWS = VEC_LANES > 8 ? 12 : 6 };

static inline vf vset(float x) { return x - (vf){0}; } /* not x + 0, which loses the sign of -0 */
static inline vi vseti(int32_t x) { return x - (vi){0}; }
static inline vf vload(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void vstore(float *p, vf v) { memcpy(p, &v, sizeof v); }
static inline vf vpick(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
static inline vf vfma(vf a, vf b, vf c) { return a * b + c; }
static inline vf vmax(vf a, vf b) { return vpick(a > b, a, b); }
static inline vf vmin(vf a, vf b) { return vpick(a < b, a, b); }
static inline vf vsqrt(vf a) {
    for (int i = 0; i < VW; i++) a[i] = sqrtf(a[i]);
    return a;
}
static inline vf vabs(vf a) { return (vf)((vi)a & vseti(0x7fffffff)); }
/* Adding 1.5·2^23 leaves no bits for a fraction; for |a| < 2^22. */
static inline vf vround(vf a) { return (a + vset(12582912.0f)) - vset(12582912.0f); }
/* The low bits of n + 1.5·2^23 are n itself, in two's complement. */
static inline vf vscale2(vf a, vf n) { return a * (vf)((((vi)(n + vset(12582912.0f)) & vseti(0x1ff)) + vseti(127)) << 23); }
static inline vf vzero_below(vf v, vf x, vf low) { return (vf)(~(x < low) & (vi)v); }
static inline vf vpick_below(vf x, vf low, vf a, vf b) { return vpick(x < low, a, b); }

static inline vf vload_part(const float *p, int64_t n) {
    float t[VW] = {0};
    for (int64_t i = 0; i < n && i < VW; i++) t[i] = p[i];
    return vload(t);
}
static inline void vstore_part(float *p, vf v, int64_t n) {
    for (int64_t i = 0; i < n && i < VW; i++) p[i] = v[i];
}
static inline vf vload16(const uint16_t *p) {
    vh h;
    memcpy(&h, p, sizeof h);
    return (vf)(__builtin_convertvector(h, vu) << 16);
}
static inline void vstore16(uint16_t *p, vf v) {
    vu x = (vu)v, r = x + 0x7fffu + ((x >> 16) & 1u), nan = (vu)(v != v);
    vh h = __builtin_convertvector(((r & ~nan) | ((x | 0x400000u) & nan)) >> 16, vh);
    memcpy(p, &h, sizeof h);
}

#ifdef VEC_PAIRS /* for tests */
#define VEC_DOT16 1
static inline vf vpair(const uint16_t *lo, const uint16_t *hi) {
    vh l, h;
    memcpy(&l, lo, sizeof l);
    memcpy(&h, hi, sizeof h);
    return (vf)(__builtin_convertvector(l, vu) | __builtin_convertvector(h, vu) << 16);
}
static inline vf vdot16(vf a, vf b, vf c) {
    const vi high = vseti(-65536);
    return c + (vf)((vu)a << 16) * (vf)((vu)b << 16) + (vf)((vi)a & high) * (vf)((vi)b & high);
}
static inline void vcut16(uint16_t *p, vf v) { vstore16(p, v); }
static inline vf vpairs(vf lo, vf hi) {
    uint16_t t[2][VW];
    vstore16(t[0], lo);
    vstore16(t[1], hi);
    return vpair(t[0], t[1]);
}
#endif

static inline vf vpower(vf z) { return (vf)((vi)z << 23); }
static inline void vtranspose(vf x[VW]) {
    for (int i = 0; i < VW; i++)
        for (int j = 0; j < i; j++) {
            float t = x[i][j];
            x[i][j] = x[j][i];
            x[j][i] = t;
        }
}

static inline vf vswap(vf v) {
    vf r = v;
    for (int i = 0; i < VW; i++) r[i] = v[i ^ 1];
    return r;
}
static inline vf vneg_even(vf v) {
    vi sign = {0};
    for (int i = 0; i < VW; i += 2) sign[i] = INT32_MIN;
    return (vf)((vi)v ^ sign);
}

/* Halves upon halves: the order of the other instruction sets. */
static inline float vsum(vf v) {
    for (int w = VW / 2; w > 0; w /= 2)
        for (int i = 0; i < w; i++) v[i] += v[i + w];
    return v[0];
}
static inline float vtop(vf v) {
    for (int w = VW / 2; w > 0; w /= 2)
        for (int i = 0; i < w; i++) v[i] = v[i] > v[i + w] ? v[i] : v[i + w];
    return v[0];
}
#endif
