/* kernels_avx512_simde.c: the AVX-512 kernels with every instruction spelt out in plain C and AVX2 by SIMDe: what vec_avx512.h computes,
 * checked where no processor has AVX-512. What SIMDe 0.7.4 lacks is written here, lane by lane. */
#ifdef CHECKOP_SIMDE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <math.h>
#include <simde/x86/avx512.h>
#include <stdint.h>
#include <string.h>

static inline __m512 as_loads(__mmask16 k, const void *p) {
    __m512 r = {0};
    for (int i = 0; i < 16; i++)
        if (k >> i & 1) r[i] = ((const float *)p)[i];
    return r;
}
static inline void as_stores(void *p, __mmask16 k, __m512 v) {
    for (int i = 0; i < 16; i++)
        if (k >> i & 1) ((float *)p)[i] = v[i];
}
static inline __m512i as_widens(__m256i v) {
    uint16_t h[16];
    uint32_t w[16];
    __m512i r;
    memcpy(h, &v, sizeof h);
    for (int i = 0; i < 16; i++) w[i] = h[i];
    memcpy(&r, w, sizeof r);
    return r;
}
static inline __m256i as_narrows(__m512i v) {
    uint16_t h[16];
    uint32_t w[16];
    __m256i r;
    memcpy(w, &v, sizeof w);
    for (int i = 0; i < 16; i++) h[i] = (uint16_t)w[i];
    memcpy(&r, h, sizeof r);
    return r;
}
static inline __m512 as_permutes(__m512 v, int control) { /* within each quarter of four */
    __m512 r;
    for (int i = 0; i < 16; i++) r[i] = v[i / 4 * 4 + (control >> i % 4 * 2 & 3)];
    return r;
}
static inline __m512 as_shuffles(__m512 a, __m512 b, int control) { /* quarters: two of a, then two of b */
    __m512 r;
    for (int i = 0; i < 16; i++) r[i] = (i < 8 ? a : b)[(control >> i / 4 * 2 & 3) * 4 + i % 4];
    return r;
}
static inline float as_sum(__m512 v) {
    for (int n = 8; n > 0; n /= 2)
        for (int i = 0; i < n; i++) v[i] += v[i + n];
    return v[0];
}
static inline float as_largest(__m512 v) {
    for (int n = 8; n > 0; n /= 2)
        for (int i = 0; i < n; i++) v[i] = v[i] > v[i + n] ? v[i] : v[i + n];
    return v[0];
}
/* Two products a lane, from pairs of bf16; what is denormal counts as 0, as the instruction has it. */
static inline float as_bf16(uint16_t h) {
    uint32_t u = h & 0x7f80 ? (uint32_t)h << 16 : 0;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static inline __m512 as_dots(__m512 c, __m512i a, __m512i b) {
    uint16_t x[32], y[32];
    memcpy(x, &a, sizeof x);
    memcpy(y, &b, sizeof y);
    for (int i = 0; i < 16; i++)
        c[i] = fmaf(as_bf16(x[2 * i]), as_bf16(y[2 * i]), fmaf(as_bf16(x[2 * i + 1]), as_bf16(y[2 * i + 1]), c[i]));
    return c;
}
static inline __m256i as_cuts(__m512 v) { /* floats rounded to bf16; what is denormal becomes 0 */
    uint32_t u[16];
    uint16_t h[16];
    __m256i r;
    memcpy(u, &v, sizeof u);
    for (int i = 0; i < 16; i++)
        h[i] = !(u[i] & 0x7f800000) ? u[i] >> 16 & 0x8000 : isnan(v[i]) ? u[i] >> 16 | 0x40 : (u[i] + 0x7fff + (u[i] >> 16 & 1)) >> 16;
    memcpy(&r, h, sizeof r);
    return r;
}
static inline __m512i as_cuts_both(__m512 high, __m512 low) {
    __m256i both[2] = {as_cuts(low), as_cuts(high)};
    __m512i r;
    memcpy(&r, both, sizeof r);
    return r;
}
static inline __m512i as_picks(__m512i index, __m512i a) {
    uint16_t x[32], y[32], r[32];
    memcpy(x, &index, sizeof x);
    memcpy(y, &a, sizeof y);
    for (int i = 0; i < 32; i++) r[i] = y[x[i] & 31];
    memcpy(&a, r, sizeof a);
    return a;
}
/* SIMDe has it, but by way of 2^n, which is infinite for n = 128. The instruction's result is a·2^n rounded once. */
static inline __m512 as_scales(__m512 a, __m512 n) {
    for (int i = 0; i < 16; i++) a[i] = isnan(n[i]) ? n[i] : ldexpf(a[i], (int)fmaxf(-1000, fminf(1000, floorf(n[i]))));
    return a;
}

#define _mm512_maskz_loadu_ps(k, p) as_loads(k, p)
#define _mm512_mask_storeu_ps(p, k, v) as_stores(p, k, v)
#define _mm512_cvtepu16_epi32(v) as_widens(v)
#define _mm512_cvtepi32_epi16(v) as_narrows(v)
#undef _mm512_permute_ps /* without optimisation the compiler's own are macros */
#define _mm512_permute_ps(v, control) as_permutes(v, control)
#undef _mm512_shuffle_f32x4
#define _mm512_shuffle_f32x4(a, b, control) as_shuffles(a, b, control)
#define _mm512_reduce_add_ps(v) as_sum(v)
#define _mm512_reduce_max_ps(v) as_largest(v)
#undef _mm512_scalef_ps
#define _mm512_scalef_ps(a, n) as_scales(a, n)

#undef _mm512_dpbf16_ps
#define _mm512_dpbf16_ps(c, a, b) as_dots(c, (__m512i)(a), (__m512i)(b))

#undef _mm512_cvtneps_pbh
#define _mm512_cvtneps_pbh(v) as_cuts(v)
#undef _mm512_cvtne2ps_pbh
#define _mm512_cvtne2ps_pbh(high, low) as_cuts_both(high, low)
#undef _mm512_permutexvar_epi16
#define _mm512_permutexvar_epi16(index, a) as_picks(index, a)

#define VEC_AVX512
#define VEC_AVX512_BF16
#include "compute/cpu/kernels_tmpl.h"
#include "tests/checkop/checkop.h"

void ops_init_avx512_simde(ops *t) { kernels_fill(t); }
#else
typedef int nothing_to_compile_here;
#endif
