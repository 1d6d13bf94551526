/* vec.h: a small vocabulary of float vectors, chosen by the flags a file is compiled with, so that each kernel is written once.
 *
 * vf: VW floats; +, -, *, / work on it. vload_part, vstore_part touch the first n < VW floats only (the rest loads as 0).
 * vfma a·b + c. vmax, vmin: where either is NaN the second argument. vscale2(a, n): a·2^n for whole n. vround: to nearest even.
 * vzero_below(v, x, low): 0 where x < low, else v. vpick_below(x, low, a, b): a where x < low, else b. vsum, vtop: over the lanes.
 * TILE_ROWS: rows of the register tile of small products: what the register file holds with two vectors each. */
#ifndef JEPA_VEC_H
#define JEPA_VEC_H

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include "compute/cpu/vec_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__)
#include "compute/cpu/vec_avx2.h"
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

/* 2^x to about 1 unit in the last place; 0 below 2^-126, infinite from 2^127.5, NaN stays NaN.
 * Minimax polynomial of degree 6 on [-1/2, 1/2], relative error 1.9e-9 before rounding. */
static inline vf vexp2(vf x) {
    vf low = vset(-126.0f), t = vmin(vset(128.0f), vmax(low, x)), n = vround(t), f = t - n;
    vf p = vfma(vset(1.5345812053152983e-4f), f, vset(1.3399931224216842e-3f));
    p = vfma(p, f, vset(9.618488957100829e-3f));
    p = vfma(p, f, vset(5.5503287769478854e-2f));
    p = vfma(p, f, vset(2.4022646890629973e-1f));
    p = vfma(p, f, vset(6.931472057372838e-1f));
    p = vfma(p, f, vset(1.0f));
    return vzero_below(vscale2(p, n), x, low);
}

/* bell = e^(-x²/2); the result is the normal distribution's tail beyond |x|, erfc(|x|/√2)/2, to about 2e-7 relative.
 * tail / bell is a polynomial in 1/(1 + 0.24·|x|): minimax of degree 10 (no constant term), relative error 3e-9 before rounding, |x|
 * < 13.2. */
static inline vf vnormal_tail(vf x, vf *bell) {
    const float half_log2e = 0.72134752f, half_log2e_rest = 9.63e-9f;             /* log2(e)/2 = 0.7213475244… */
    vf a = vmin(vset(13.2f), vabs(x)), hi = a * a, lo = vfma(a, a, vset(0) - hi); /* what rounding took from a² */
    vf c = vset(-half_log2e), t = hi * c, low = vset(-126.0f), n = vround(vmax(low, t));
    vf f = vfma(hi, c, vset(0) - n);
    f = vfma(lo, c, vfma(hi, vset(-half_log2e_rest), f));
    vf p = vfma(vset(1.5345812053152983e-4f), f, vset(1.3399931224216842e-3f));
    p = vfma(p, f, vset(9.618488957100829e-3f));
    p = vfma(p, f, vset(5.5503287769478854e-2f));
    p = vfma(p, f, vset(2.4022646890629973e-1f));
    p = vfma(p, f, vset(6.931472057372838e-1f));
    p = vfma(p, f, vset(1.0f));
    vf e = vzero_below(vscale2(p, n), vset(13.15f) - vabs(x), vset(0)); /* beyond: below 2^-124 */
    vf u = vset(1.0f) / vfma(vset(0.24f), a, vset(1.0f));
    vf g = vfma(vset(0.025368194505077192f), u, vset(-0.1237315382324291f));
    g = vfma(g, u, vset(0.20321824793616436f));
    g = vfma(g, u, vset(-0.14104905899639297f));
    g = vfma(g, u, vset(0.13857077093329703f));
    g = vfma(g, u, vset(0.029828418654352186f));
    g = vfma(g, u, vset(0.08713154397427787f));
    g = vfma(g, u, vset(0.08908266675302447f));
    g = vfma(g, u, vset(0.09583755686802259f));
    g = vfma(g, u, vset(0.09574319911076695f));
    *bell = e;
    return e * (g * u);
}

/* Exact GELU: x·Φ(x), with Φ(x) = tail for x < 0 and 1 - tail otherwise. NaN stays NaN, ±infinity gives infinity and -0. */
static inline vf vgelu(vf x) {
    vf bell, tail = vnormal_tail(x, &bell), zero = vset(0);
    vf xs = vmax(vset(-14.0f), x); /* -infinity times a tail of 0 would be NaN */
    return xs * vpick_below(x, zero, tail, vset(1.0f) - tail);
}

/* gelu'(x) = Φ(x) + x·e^(-x²/2)/√(2π) */
static inline vf vgelu_slope(vf x) {
    vf bell, tail = vnormal_tail(x, &bell), zero = vset(0);
    vf xs = vmin(vset(14.0f), vmax(vset(-14.0f), x));
    return vfma(xs * vset(0.3989422804014327f), bell, vpick_below(x, zero, tail, vset(1.0f) - tail));
}
#endif
