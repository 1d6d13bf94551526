/* gemm_lay_tmpl.h: how matrix products lay out their operands: what the register tile reads lies one behind the other.
 *
 * b in panels of PANEL columns, [k][PANEL]; a in strips of TILE_ROWS rows, [k][TILE_ROWS]. Both widen bf16 and turn as needed on the way, and
 * fill up with zeros. Where the processor multiplies bf16 (VEC_DOT16) and both are bf16, they are laid out in pairs: two terms in the place
 * of a float, k counts pairs. What is float32, or becomes so by GELU, is rounded for it where gemm_run is told to. */
#ifndef JEPA_GEMM_LAY_TMPL_H
#define JEPA_GEMM_LAY_TMPL_H
#include <string.h>
#include "compute/cpu/tile_tmpl.h"
#include "compute/cpu/vec.h"

typedef struct mat { /* element (i,j) at i·ld + j, or turned at j·ld + i; float32 or bf16 */
    const float *f;
    const uint16_t *h;
    int64_t ld;
    int turned;
    int gelu;      /* b, not turned: gelu of it */
    int64_t pairs; /* not 0: in pairs, of so many terms; set by gemm_run */
} mat;

enum mat_kind { MAT_F32, MAT_BF16, MAT_PAIRS, MAT_CUT /* pairs of what is rounded */ };
static inline int mat_pairs(const enum mat_kind kind) { return kind == MAT_PAIRS || kind == MAT_CUT; }
static inline int mat_paired(const mat *m) {
#ifdef VEC_DOT16
    return m->pairs != 0;
#else
    return 0; /* what pairs would need is not compiled */
#endif
}
static inline enum mat_kind mat_kind(const mat *m) {
    if (mat_paired(m)) return m->h && !m->gelu ? MAT_PAIRS : MAT_CUT;
    return m->h ? MAT_BF16 : MAT_F32;
}

static inline __attribute__((always_inline)) vf mat_load(const mat *m, int64_t at, int64_t n) {
    return m->h ? vload16_some(m->h + at, n) : vload_some(m->f + at, n);
}
static inline uint16_t mat_get16(const mat *m, int64_t at) { return m->h ? m->h[at] : f32_to_bf16(m->f[at]); }
static inline float mat_get(const mat *m, int64_t at) { return m->h ? bf16_to_f32(m->h[at]) : m->f[at]; }

/* n terms, or pairs, p of lines ld apart. */
static inline __attribute__((always_inline)) vf mat_across(const mat *m, const enum mat_kind kind, int64_t p, int64_t at, int64_t n) {
#ifdef VEC_DOT16
    if (mat_pairs(kind)) {
        int64_t first = 2 * p * m->ld + at;
        const int both = 2 * p + 1 < m->pairs;
        if (kind == MAT_PAIRS && n >= VW && both) return vpair(m->h + first, m->h + first + m->ld);
        vf lo = mat_load(m, first, n), hi = both ? mat_load(m, first + m->ld, n) : vset(0);
        return m->gelu ? vpairs(vgelu(lo), vgelu(hi)) : vpairs(lo, hi);
    }
#endif
    return kind == MAT_F32 ? vload_some(m->f + p * m->ld + at, n) : vload16_some(m->h + p * m->ld + at, n);
}

/* Term, or pair, p of a line. */
static inline __attribute__((always_inline)) float mat_along(const mat *m, const enum mat_kind kind, int64_t line, int64_t p) {
    if (mat_pairs(kind)) {
        int64_t at = line * m->ld + 2 * p;
        const uint16_t two[2] = {mat_get16(m, at), 2 * p + 1 < m->pairs ? mat_get16(m, at + 1) : 0};
        float f;
        memcpy(&f, two, sizeof f); /* bits */
        return f;
    }
    return mat_get(m, line * m->ld + p);
}

/* VW terms, or pairs, of each of n lines → columns; zeros past the last line. */
static inline __attribute__((always_inline)) void mat_square(const mat *m, const enum mat_kind kind, int64_t line, int64_t n, int64_t p, vf x[VW]) {
    UNROLL
    for (int i = 0; i < VW; i++) {
        int64_t at = (line + i) * m->ld + p;
        if (i >= n)
            x[i] = vset(0);
        else if (kind == MAT_F32)
            x[i] = vload(m->f + at);
        else if (kind == MAT_BF16)
            x[i] = vload16(m->h + at);
        else if (kind == MAT_PAIRS)
            x[i] = vload((const float *)(const void *)(m->h + at + p));
        else {
            float t[VW] = {0};
#ifdef VEC_DOT16
            vcut16((uint16_t *)t, vload(m->f + at + p));
            vcut16((uint16_t *)t + VW, vload(m->f + at + p + VW));
#endif
            x[i] = vload(t);
        }
    }
    vtranspose(x);
}

/* The terms, or pairs, before p + k that are whole. */
static inline __attribute__((always_inline)) int64_t mat_whole(const mat *m, const enum mat_kind kind, int64_t p, int64_t k) {
    return mat_pairs(kind) ? least(k, m->pairs / 2 - p) : k;
}

/* Asks for n elements; where there are none, that is harmless. */
static inline __attribute__((always_inline)) void mat_ahead(const mat *m, int64_t at, int64_t n) {
    size_t size = m->h ? sizeof *m->h : sizeof *m->f;
    uintptr_t from = (m->h ? (uintptr_t)m->h : (uintptr_t)m->f) + (size_t)at * size;
    for (uintptr_t to = from + (size_t)n * size; from < to; from += 64) __builtin_prefetch((const void *)from);
}

/* ---- b ---- */

/* Terms p …, columns j … j+n (whole panels but for the matrix' last) of a b that is not turned. Four panels at once, so that reads stay long. */
static inline __attribute__((always_inline)) void gemm_lay_rows(const mat *b, const enum mat_kind kind, const int gelu, int64_t p, int64_t k,
                                                                int64_t j, int64_t n, float *to) {
    const mat src = *b;
    for (int64_t x = 0; x < n; x += 4 * PANEL)
        for (int64_t i = 0; i < k; i++)
            for (int64_t v = x, end = least(x + 4 * PANEL, pieces(n, PANEL) * PANEL); v < end; v += VW) {
                vf t = v < n ? mat_across(&src, kind, p + i, j + v, n - v) : vset(0);
                if (gelu) t = vgelu(t);
                vstore(to + v / PANEL * k * PANEL + i * PANEL + v % PANEL, t);
            }
}

/* The same of a turned one. */
static inline __attribute__((always_inline)) void gemm_lay_turned(const mat *b, const enum mat_kind kind, int64_t p, int64_t k, int64_t j, int64_t n,
                                                                  float *to) {
    const mat src = *b;
    int64_t whole = mat_whole(b, kind, p, k);
    for (int64_t c = 0; c < pieces(n, PANEL) * PANEL; c += VW) {
        float *at = to + c / PANEL * k * PANEL + c % PANEL;
        int64_t i = 0;
        for (; i + VW <= whole; i += VW) {
            vf x[VW];
            if (c + VW <= n)
                mat_square(&src, kind, j + c, VW, p + i, x);
            else
                mat_square(&src, kind, j + c, n - c, p + i, x);
            UNROLL
            for (int e = 0; e < VW; e++) vstore(at + (i + e) * PANEL, x[e]);
        }
        for (; i < k; i++)
            for (int64_t e = 0; e < VW; e++) at[i * PANEL + e] = c + e < n ? mat_along(&src, kind, j + c + e, p + i) : 0;
    }
}

static inline void gemm_lay_b(const mat *b, int64_t p, int64_t k, int64_t j, int64_t n, float *to) {
    enum mat_kind kind = mat_kind(b);
#define LAY_B(kind)                                                                                                                        \
    if (b->turned)                                                                                                                         \
        gemm_lay_turned(b, kind, p, k, j, n, to);                                                                                          \
    else if (b->gelu)                                                                                                                      \
        gemm_lay_rows(b, kind, 1, p, k, j, n, to);                                                                                         \
    else                                                                                                                                   \
        gemm_lay_rows(b, kind, 0, p, k, j, n, to)
    if (kind == MAT_F32) {
        LAY_B(MAT_F32);
    } else if (kind == MAT_BF16) {
        LAY_B(MAT_BF16);
    } else if (kind == MAT_CUT) { /* of a b, gelu alone */
        gemm_lay_rows(b, MAT_CUT, 0, p, k, j, n, to);
    } else {
        if (b->turned)
            gemm_lay_turned(b, MAT_PAIRS, p, k, j, n, to);
        else
            gemm_lay_rows(b, MAT_PAIRS, 0, p, k, j, n, to);
    }
#undef LAY_B
}

/* ---- a ---- */

enum { LAY_GROUPS = (TILE_ROWS + VW - 1) / VW, LAY_SPILL = LAY_GROUPS * VW - TILE_ROWS };

/* VW terms of a strip. */
static inline __attribute__((always_inline)) void gemm_lay_square(const mat *a, const enum mat_kind kind, int64_t line, int64_t p, float *to) {
    vf s[LAY_GROUPS][VW];
    UNROLL
    for (int g = 0; g < LAY_GROUPS; g++) mat_square(a, kind, line + g * VW, TILE_ROWS - g * VW, p, s[g]);
    UNROLL
    for (int e = 0; e < VW; e++) {
        UNROLL
        for (int g = 0; g < LAY_GROUPS; g++) vstore(to + e * TILE_ROWS + g * VW, s[g][e]);
    }
}

/* Rows i … i+rows, terms p … p+k, strip after strip. Whole vectors are written in order: what one writes too much, the next puts right;
 * past the last strip there is room for LAY_SPILL floats. */
static inline __attribute__((always_inline)) void gemm_lay_strips(const mat *a, const enum mat_kind kind, int64_t i, int64_t rows, int64_t p,
                                                                  int64_t k, float *to) {
    const mat src = *a;
    int64_t whole = mat_whole(a, kind, p, k);
    for (int64_t r = 0; r < rows; r += TILE_ROWS, to += k * TILE_ROWS) {
        int64_t some = rows - r, x = 0;
        if (some >= TILE_ROWS)
            for (; x + VW <= whole; x += VW) gemm_lay_square(&src, kind, i + r, p + x, to + x * TILE_ROWS);
        for (; x < k; x++)
            for (int64_t e = 0; e < TILE_ROWS; e++) to[x * TILE_ROWS + e] = e < some ? mat_along(&src, kind, i + r + e, p + x) : 0;
    }
}

/* The same of a turned one: several strips at once, so that reads stay long. */
static inline __attribute__((always_inline)) void gemm_lay_strips_turned(const mat *a, const enum mat_kind kind, int64_t i, int64_t rows, int64_t p,
                                                                         int64_t k, float *to) {
    const mat src = *a;
    enum { SIDE = 12 * TILE_ROWS, AHEAD = 8 }; /* rows lie far apart: no hardware prefetcher follows them */
    const int64_t lines = mat_pairs(kind) ? 2 : 1;
    for (int64_t r = 0; r < rows; r += SIDE)
        for (int64_t x = 0; x < k; x++) {
            for (int64_t e = 0; e < lines; e++) mat_ahead(&src, ((p + x + AHEAD) * lines + e) * a->ld + i + r, least(SIDE, rows - r));
            for (int64_t s = r; s < rows && s < r + SIDE; s += TILE_ROWS) {
                float *at = to + s * k + x * TILE_ROWS;
                UNROLL
                for (int g = 0; g < LAY_GROUPS; g++) {
                    int64_t left = rows - s - g * VW;
                    vf v = left > 0 ? mat_across(&src, kind, p + x, i + s + g * VW, left) : vset(0);
                    if (x + 1 < k)
                        vstore(at + g * VW, v);
                    else /* the next strip has begun */
                        vstore_some(at + g * VW, v, TILE_ROWS - g * VW);
                }
            }
        }
}

static inline void gemm_lay_a(const mat *a, int64_t i, int64_t rows, int64_t p, int64_t k, float *to) {
    enum mat_kind kind = mat_kind(a);
#define LAY_A(kind)                                                                                                                        \
    if (a->turned)                                                                                                                         \
        gemm_lay_strips_turned(a, kind, i, rows, p, k, to);                                                                                \
    else                                                                                                                                   \
        gemm_lay_strips(a, kind, i, rows, p, k, to)
    if (kind == MAT_F32) {
        LAY_A(MAT_F32);
    } else if (kind == MAT_BF16) {
        LAY_A(MAT_BF16);
    } else if (kind == MAT_PAIRS) {
        LAY_A(MAT_PAIRS);
    } else {
        LAY_A(MAT_CUT);
    }
#undef LAY_A
}
#endif
