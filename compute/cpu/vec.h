/* vec.h: a small vocabulary of float vectors, chosen by the flags a file is compiled with, so that each kernel is written once.
 * A file that defines VEC_LANES gets vec_portable.h, one that defines VEC_AVX512 vec_avx512.h.
 *
 * vf: VW floats; +, -, *, / work on it. vload_part, vstore_part touch the first n < VW floats only (the rest loads as 0).
 * vfma a·b + c. vmax, vmin: where either is NaN the second argument. vscale2(a, n): a·2^n for whole n. vround: to nearest even.
 * vzero_below(v, x, low): 0 where x < low, else v. vpick_below(x, low, a, b): a where x < low, else b. vsum, vtop: over the lanes.
 * vload16, vstore16: the same numbers stored as bf16 (to nearest even, NaN stays NaN).
 * vpower: the lowest bits of each lane as the exponent of a power of two.
 * vtranspose: VW vectors as the rows of a square → its columns.
 * vswap: the two lanes of each pair exchanged; vneg_even: the first of each pair with the other sign.
 * Where VEC_DOT16 is defined, a vector may hold pairs of bf16, the first in the low half: vpair(lo, hi) makes it of VW each; vdot16(a, b, c)
 * c + both products (the processor takes what is denormal for 0). vpairs(lo, hi): pairs of rounded floats; vcut16: vstore16. Both may make
 * 0 of what is denormal.
 * TILE_ROWS: rows of the register tile of small products: what the register file holds with two vectors each. */
#ifndef JEPA_VEC_H
#define JEPA_VEC_H

#if defined(VEC_LANES)
#include "compute/cpu/vec_portable.h"
#elif defined(VEC_AVX512) || (defined(__AVX512F__) && defined(__AVX512DQ__))
#include "compute/cpu/vec_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__)
#include "compute/cpu/vec_avx2.h"
#elif defined(__aarch64__)
#include "compute/cpu/vec_neon.h"
#else
#include "compute/cpu/vec_portable.h"
#endif

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

static inline vf vload_some(const float *p, int64_t n) { return n >= VW ? vload(p) : vload_part(p, n); }
static inline void vstore_some(float *p, vf v, int64_t n) {
    if (n >= VW)
        vstore(p, v);
    else
        vstore_part(p, v, n);
}

static inline vf vload16_some(const uint16_t *p, int64_t n) {
    if (n >= VW) return vload16(p);
    uint16_t t[VW] = {0};
    for (int64_t i = 0; i < n; i++) t[i] = p[i];
    return vload16(t);
}
static inline void vstore16_some(uint16_t *p, vf v, int64_t n) {
    if (n >= VW) {
        vstore16(p, v);
        return;
    }
    uint16_t t[VW];
    vstore16(t, v);
    for (int64_t i = 0; i < n; i++) p[i] = t[i];
}

/* 2^f for f in [-1/2, 1/2]: minimax polynomial of degree 6, relative error 1.9e-9 before rounding. In pairs, not by Horner's rule: a
 * chain of six would keep the units waiting. */
static inline vf vexp2_part(vf f) {
    vf f2 = f * f, low = vfma(vset(6.931472057372838e-1f), f, vset(1.0f));
    vf mid = vfma(vset(5.5503287769478854e-2f), f, vset(2.4022646890629973e-1f));
    vf high = vfma(vset(1.3399931224216842e-3f), f, vset(9.618488957100829e-3f));
    high = vfma(vset(1.5345812053152983e-4f), f2, high);
    return vfma(f2, vfma(f2, high, mid), low);
}

/* 2^x to about 1 unit in the last place; 0 below 2^-126, infinite from 2^127.5, NaN stays NaN. */
static inline vf vexp2(vf x) {
    vf low = vset(-126.0f), t = vmin(vset(128.0f), vmax(low, x)), n = vround(t);
    return vzero_below(vscale2(vexp2_part(t - n), n), x, low);
}

/* The same for x <= 0 beside a sum that holds a 1: 2^-125, which such a sum does not see, stands for all that is smaller. */
static inline vf vexp2_softmax(vf x) {
    vf t = vmax(vset(-125.0f), x), n = vround(t);
    return vscale2(vexp2_part(t - n), n);
}

/* 2^(x - m), for whole m below 2^22 and x <= m + 127; what lies below m - 125 counts as `low`, which is that. turn: EXP2_MAGIC - m.
 * Minimax polynomial of degree 5, relative error 1.6 units of 2^-24 before rounding. x + turn rounds x to a whole number n and leaves n - m + 127 in
 * the lowest bits. */
#define EXP2_MAGIC (12582912.0f + 127.0f)
enum { EXP2_BATCH = 4 }; /* several at a time, each step for all of them: the processor looks ahead for less than one such chain */
static inline void vexp2_from(vf x[EXP2_BATCH], vf turn, vf low) {
    vf f[EXP2_BATCH], z[EXP2_BATCH];
#define EACH UNROLL for (int u = 0; u < EXP2_BATCH; u++)
    EACH x[u] = vmax(low, x[u]);
    EACH z[u] = x[u] + turn;
    EACH f[u] = z[u] - turn;
    EACH f[u] = x[u] - f[u];
    EACH z[u] = vpower(z[u]);
    EACH x[u] = vfma(f[u], vset(0.00132646994f), vset(0.00967149809f));
    EACH x[u] = vfma(f[u], x[u], vset(0.0555072017f));
    EACH x[u] = vfma(f[u], x[u], vset(0.240222439f));
    EACH x[u] = vfma(f[u], x[u], vset(0.693147004f));
    EACH x[u] = vfma(f[u], x[u], vset(1.0f));
    EACH x[u] = x[u] * z[u];
#undef EACH
}

/* bell = e^(-x²/2); the result is the normal distribution's tail beyond |x|, erfc(|x|/√2)/2. Both are those of 12.8 (8e-38) beyond.
 * tail / bell is a polynomial in 1/(1 + 0.24·|x|): minimax of degree 10 (no constant term), relative error 3e-9 before rounding. The
 * rounding of x² is the largest error: 6e-8·x² relative, of a tail that falls faster. */
static inline vf vnormal_tail(vf x, vf *bell) {
    vf a = vmin(vset(12.8f), vabs(x)), t = a * a * vset(-0.72134752f); /* log2(e)/2 */
    vf u = vset(1.0f) / vfma(vset(0.24f), a, vset(1.0f)), u2 = u * u, u4 = u2 * u2, n = vround(t);
    *bell = vscale2(vexp2_part(t - n), n);
    vf g0 = vfma(vset(0.09583755686802259f), u, vset(0.09574319911076695f)),
       g2 = vfma(vset(0.08713154397427787f), u, vset(0.08908266675302447f));
    vf g4 = vfma(vset(0.13857077093329703f), u, vset(0.029828418654352186f)),
       g6 = vfma(vset(0.20321824793616436f), u, vset(-0.14104905899639297f));
    vf g8 = vfma(vset(0.025368194505077192f), u, vset(-0.1237315382324291f));
    vf high = vfma(u4, g8, vfma(u2, g6, g4));
    return *bell * (vfma(u4, high, vfma(u2, g2, g0)) * u);
}

/* Exact GELU: x·Φ(x), with Φ(x) = tail for x < 0 and 1 - tail otherwise. NaN stays NaN. */
static inline vf vgelu(vf x) {
    vf bell, tail = vnormal_tail(x, &bell), zero = vset(0);
    vf xs = vmax(vset(-14.0f), x); /* the tail does not fall for ever */
    return xs * vpick_below(x, zero, tail, vset(1.0f) - tail);
}

/* gelu'(x) = Φ(x) + x·e^(-x²/2)/√(2π) */
static inline vf vgelu_slope(vf x) {
    vf bell, tail = vnormal_tail(x, &bell), zero = vset(0);
    vf xs = vmin(vset(14.0f), vmax(vset(-14.0f), x));
    return vfma(xs * vset(0.3989422804014327f), bell, vpick_below(x, zero, tail, vset(1.0f) - tail));
}
#endif
