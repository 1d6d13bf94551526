/* vec_avx512.h: vec.h's vocabulary in AVX-512 F and DQ: 16 floats. */
#ifndef JEPA_VEC_AVX512_H
#define JEPA_VEC_AVX512_H
#include <immintrin.h>
#include <stdint.h>

typedef __m512 vf;
enum { VW = 16, TILE_ROWS = 12 };

static inline vf vset(float x) { return _mm512_set1_ps(x); }
static inline vf vload(const float *p) { return _mm512_loadu_ps(p); }
static inline void vstore(float *p, vf v) { _mm512_storeu_ps(p, v); }
static inline vf vfma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf vmax(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf vmin(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf vsqrt(vf a) { return _mm512_sqrt_ps(a); }
static inline vf vabs(vf a) { return _mm512_abs_ps(a); }
static inline vf vround(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf vscale2(vf a, vf n) { return _mm512_scalef_ps(a, n); }
static inline vf vzero_below(vf v, vf x, vf low) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, low, _CMP_NLT_UQ), v); }
static inline vf vpick_below(vf x, vf low, vf a, vf b) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, low, _CMP_LT_OQ), b, a); }

static inline __mmask16 vmask(int64_t n) { return (__mmask16)((1u << n) - 1); }
static inline vf vload_part(const float *p, int64_t n) { return _mm512_maskz_loadu_ps(vmask(n), p); }
static inline void vstore_part(float *p, vf v, int64_t n) { _mm512_mask_storeu_ps(p, vmask(n), v); }

static inline vf vload16(const uint16_t *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
/* Not vcvtneps2bf16, which flushes what is denormal and which not every AVX-512 has. */
static inline void vstore16(uint16_t *p, vf v) {
    __m512i x = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(x, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_add_epi32(_mm512_add_epi32(x, _mm512_set1_epi32(0x7fff)), odd);
    r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), x, _mm512_set1_epi32(0x400000));
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16)));
}

#if defined(__AVX512BF16__) || defined(VEC_AVX512_BF16)
#define VEC_DOT16 1
static inline vf vpair(const uint16_t *lo, const uint16_t *hi) {
    __m512i l = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)lo)),
            h = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)hi));
    return _mm512_castsi512_ps(_mm512_or_si512(l, _mm512_slli_epi32(h, 16)));
}
static inline vf vdot16(vf a, vf b, vf c) {
    return _mm512_dpbf16_ps(c, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(b));
}
static inline vf vpairs(vf lo, vf hi) {
    const __m512i turn = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3,
                                          18, 2, 17, 1, 16, 0);
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(turn, (__m512i)_mm512_cvtne2ps_pbh(hi, lo)));
}
static inline void vcut16(uint16_t *p, vf v) { _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(v)); }
#endif

static inline vf vpower(vf z) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(z), 23)); }
static inline void vtranspose(vf x[VW]) {
    vf a[VW], b[VW];
    for (int i = 0; i < VW; i += 2) {
        a[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < VW; i += 4) { /* b[i + c]: column c of each quarter of four rows */
        b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xee);
        b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    for (int c = 0; c < 4; c++) { /* quarters q of rows 4·g → rows c + 4·q, quarters g */
        vf lo = _mm512_shuffle_f32x4(b[c], b[c + 4], 0x44), hi = _mm512_shuffle_f32x4(b[c], b[c + 4], 0xee);
        vf lo2 = _mm512_shuffle_f32x4(b[c + 8], b[c + 12], 0x44), hi2 = _mm512_shuffle_f32x4(b[c + 8], b[c + 12], 0xee);
        x[c] = _mm512_shuffle_f32x4(lo, lo2, 0x88);
        x[c + 4] = _mm512_shuffle_f32x4(lo, lo2, 0xdd);
        x[c + 8] = _mm512_shuffle_f32x4(hi, hi2, 0x88);
        x[c + 12] = _mm512_shuffle_f32x4(hi, hi2, 0xdd);
    }
}

static inline vf vswap(vf v) { return _mm512_permute_ps(v, 0xb1); }
static inline vf vneg_even(vf v) { return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(v), _mm512_set1_epi64(0x80000000))); }

static inline float vsum(vf v) { return _mm512_reduce_add_ps(v); }
static inline float vtop(vf v) { return _mm512_reduce_max_ps(v); }
#endif
