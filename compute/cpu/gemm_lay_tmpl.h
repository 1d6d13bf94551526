/* gemm_lay_tmpl.h: how matrix products lay out their operands: what the register tile reads lies one behind the other.
 *
 * b in panels of PANEL columns, [k][PANEL]; a in strips of TILE_ROWS rows, [k][TILE_ROWS]. Both widen bf16 and turn as needed on the way, and
 * fill up with zeros. */
#ifndef JEPA_GEMM_LAY_TMPL_H
#define JEPA_GEMM_LAY_TMPL_H
#include "compute/cpu/tile_tmpl.h"
#include "compute/cpu/vec.h"

typedef struct mat { /* element (i,j) at i·ld + j, or turned at j·ld + i; float32 or bf16 */
    const float *f;
    const uint16_t *h;
    int64_t ld;
    int turned;
    int gelu; /* b, not turned: gelu of it */
} mat;

static inline __attribute__((always_inline)) vf mat_load(const mat *m, int64_t at, int64_t n) {
    return m->h ? vload16_some(m->h + at, n) : vload_some(m->f + at, n);
}
static inline float mat_get(const mat *m, int64_t at) { return m->h ? bf16_to_f32(m->h[at]) : m->f[at]; }

/* Asks for n elements; where there are none, that is harmless. */
static inline __attribute__((always_inline)) void mat_ahead(const mat *m, int64_t at, int64_t n) {
    size_t size = m->h ? sizeof *m->h : sizeof *m->f;
    uintptr_t from = (m->h ? (uintptr_t)m->h : (uintptr_t)m->f) + (size_t)at * size;
    for (uintptr_t to = from + (size_t)n * size; from < to; from += 64) __builtin_prefetch((const void *)from);
}

/* n rows of VW elements, ld apart, into x; zeros below them. */
static inline __attribute__((always_inline)) void mat_square(const mat *m, int64_t at, int64_t n, vf x[VW]) {
    if (n >= VW) {
        UNROLL
        for (int i = 0; i < VW; i++) x[i] = m->h ? vload16(m->h + at + i * m->ld) : vload(m->f + at + i * m->ld);
        return;
    }
    UNROLL
    for (int i = 0; i < VW; i++) x[i] = i >= n ? vset(0) : m->h ? vload16(m->h + at + i * m->ld) : vload(m->f + at + i * m->ld);
}

/* ---- b ---- */

/* Terms p …, columns j … j+n (whole panels but for the matrix' last) of a b that is not turned. Four panels at once, so that reads stay long. */
static inline __attribute__((always_inline)) void gemm_lay_rows(const mat *b, const int half, const int gelu, int64_t p, int64_t k, int64_t j,
                                                                int64_t n, float *to) {
    const mat src = {.f = half ? NULL : b->f, .h = half ? b->h : NULL};
    for (int64_t x = 0; x < n; x += 4 * PANEL)
        for (int64_t i = 0; i < k; i++)
            for (int64_t v = x, end = least(x + 4 * PANEL, pieces(n, PANEL) * PANEL); v < end; v += VW) {
                vf t = v < n ? mat_load(&src, (p + i) * b->ld + j + v, n - v) : vset(0);
                if (gelu) t = vgelu(t);
                vstore(to + v / PANEL * k * PANEL + i * PANEL + v % PANEL, t);
            }
}

/* The same of a turned one. */
static inline __attribute__((always_inline)) void gemm_lay_turned(const mat *b, const int half, int64_t p, int64_t k, int64_t j, int64_t n,
                                                                  float *to) {
    const mat src = {.f = half ? NULL : b->f, .h = half ? b->h : NULL, .ld = b->ld};
    for (int64_t c = 0; c < pieces(n, PANEL) * PANEL; c += VW) {
        float *at = to + c / PANEL * k * PANEL + c % PANEL;
        int64_t i = 0;
        for (; i + VW <= k; i += VW) {
            vf x[VW];
            mat_square(&src, (j + c) * b->ld + p + i, n - c, x);
            vtranspose(x);
            UNROLL
            for (int e = 0; e < VW; e++) vstore(at + (i + e) * PANEL, x[e]);
        }
        for (; i < k; i++)
            for (int64_t e = 0; e < VW; e++) at[i * PANEL + e] = c + e < n ? mat_get(&src, (j + c + e) * b->ld + p + i) : 0;
    }
}

static inline void gemm_lay_b(const mat *b, int64_t p, int64_t k, int64_t j, int64_t n, float *to) {
    if (b->turned) {
        if (b->h)
            gemm_lay_turned(b, 1, p, k, j, n, to);
        else
            gemm_lay_turned(b, 0, p, k, j, n, to);
    } else if (b->gelu) {
        if (b->h)
            gemm_lay_rows(b, 1, 1, p, k, j, n, to);
        else
            gemm_lay_rows(b, 0, 1, p, k, j, n, to);
    } else {
        if (b->h)
            gemm_lay_rows(b, 1, 0, p, k, j, n, to);
        else
            gemm_lay_rows(b, 0, 0, p, k, j, n, to);
    }
}

/* ---- a ---- */

enum { LAY_GROUPS = (TILE_ROWS + VW - 1) / VW, LAY_SPILL = LAY_GROUPS * VW - TILE_ROWS };

/* VW terms of a strip's `rows` rows. */
static inline __attribute__((always_inline)) void gemm_lay_square(const mat *a, int64_t at, const int64_t rows, float *to) {
    vf s[LAY_GROUPS][VW];
    UNROLL
    for (int g = 0; g < LAY_GROUPS; g++) {
        mat_square(a, at + g * VW * a->ld, rows - g * VW, s[g]);
        vtranspose(s[g]);
    }
    UNROLL
    for (int e = 0; e < VW; e++) {
        UNROLL
        for (int g = 0; g < LAY_GROUPS; g++) vstore(to + e * TILE_ROWS + g * VW, s[g][e]);
    }
}

/* Rows i … i+rows, terms p … p+k, strip after strip. Whole vectors are written in order: what one writes too much, the next puts right;
 * past the last strip there is room for LAY_SPILL floats. */
static inline __attribute__((always_inline)) void gemm_lay_strips(const mat *a, const int half, int64_t i, int64_t rows, int64_t p, int64_t k,
                                                                  float *to) {
    const mat src = {.f = half ? NULL : a->f, .h = half ? a->h : NULL, .ld = a->ld};
    for (int64_t r = 0; r < rows; r += TILE_ROWS, to += k * TILE_ROWS) {
        int64_t some = rows - r, at = (i + r) * a->ld + p, x = 0;
        if (some >= TILE_ROWS)
            for (; x + VW <= k; x += VW) gemm_lay_square(&src, at + x, TILE_ROWS, to + x * TILE_ROWS);
        for (; x < k; x++)
            for (int64_t e = 0; e < TILE_ROWS; e++) to[x * TILE_ROWS + e] = e < some ? mat_get(&src, at + e * a->ld + x) : 0;
    }
}

/* The same of a turned one: several strips at once, so that reads stay long. */
static inline __attribute__((always_inline)) void gemm_lay_strips_turned(const mat *a, const int half, int64_t i, int64_t rows, int64_t p,
                                                                         int64_t k, float *to) {
    const mat src = {.f = half ? NULL : a->f, .h = half ? a->h : NULL};
    enum { SIDE = 12 * TILE_ROWS, AHEAD = 8 }; /* rows lie far apart: no hardware prefetcher follows them */
    for (int64_t r = 0; r < rows; r += SIDE)
        for (int64_t x = 0; x < k; x++) {
            mat_ahead(&src, (p + x + AHEAD) * a->ld + i + r, least(SIDE, rows - r));
            for (int64_t s = r; s < rows && s < r + SIDE; s += TILE_ROWS) {
                float *at = to + s * k + x * TILE_ROWS;
                UNROLL
                for (int g = 0; g < LAY_GROUPS; g++) {
                    int64_t left = rows - s - g * VW;
                    vf v = left > 0 ? mat_load(&src, (p + x) * a->ld + i + s + g * VW, left) : vset(0);
                    if (x + 1 < k)
                        vstore(at + g * VW, v);
                    else /* the next strip has begun */
                        vstore_some(at + g * VW, v, TILE_ROWS - g * VW);
                }
            }
        }
}

static inline void gemm_lay_a(const mat *a, int64_t i, int64_t rows, int64_t p, int64_t k, float *to) {
    if (a->turned) {
        if (a->h)
            gemm_lay_strips_turned(a, 1, i, rows, p, k, to);
        else
            gemm_lay_strips_turned(a, 0, i, rows, p, k, to);
    } else {
        if (a->h)
            gemm_lay_strips(a, 1, i, rows, p, k, to);
        else
            gemm_lay_strips(a, 0, i, rows, p, k, to);
    }
}
#endif
