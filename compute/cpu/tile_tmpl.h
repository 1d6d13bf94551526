/* tile_tmpl.h: small products out of one core's cache, for attention: c[m,n] (+)= a·b with the sums of up to TILE_ROWS × 2 vectors
 * held in registers. a is read one float at a time, so any strides do; b is read in whole vectors, in panels of two. Where the processor
 * multiplies bf16 (VEC_DOT16), two terms of a and of b may lie in the place of a float. */
#ifndef JEPA_TILE_TMPL_H
#define JEPA_TILE_TMPL_H
#include "compute/cpu/cpu.h"
#include "compute/cpu/vec.h"

enum { PANEL = 2 * VW };

typedef struct tile {
    const float *a;
    int64_t am, ak; /* element (i,p) at i·am + p·ak */
    const float *b;
    int64_t bk, panel; /* row p of panel s at s·panel + p·bk */
    float *c;
    int64_t ldc;
    int add, pairs; /* pairs of bf16: strides and terms count pairs */
} tile;

static inline __attribute__((always_inline)) vf tile_term(const int pairs, vf a, vf b, vf c) {
#ifdef VEC_DOT16
    if (pairs) return vdot16(a, b, c);
#endif
    return vfma(a, b, c);
}

/* How many places so many terms take. */
static inline int64_t tile_terms(int pairs, int64_t terms) { return pairs ? (terms + 1) / 2 : terms; }

static inline __attribute__((always_inline)) void tile_run(const int mr, const int nv, const int pairs, int64_t k, const float *a,
                                                           int64_t am, int64_t ak, const float *b, int64_t bk, float *c, int64_t ldc,
                                                           int add) {
    vf s[TILE_ROWS][2];
    UNROLL
    for (int i = 0; i < mr; i++) {
        UNROLL
        for (int v = 0; v < nv; v++) s[i][v] = add ? vload(c + i * ldc + v * VW) : vset(0);
    }
    for (int64_t p = 0; p < k; p++) {
        vf b0 = vload(b + p * bk), b1 = nv > 1 ? vload(b + p * bk + VW) : b0;
        const float *ap = a + p * ak;
        UNROLL
        for (int i = 0; i < mr; i++) {
            vf x = vset(ap[i * am]);
            s[i][0] = tile_term(pairs, x, b0, s[i][0]);
            if (nv > 1) s[i][1] = tile_term(pairs, x, b1, s[i][1]);
        }
    }
    UNROLL
    for (int i = 0; i < mr; i++) {
        UNROLL
        for (int v = 0; v < nv; v++) vstore(c + i * ldc + v * VW, s[i][v]);
    }
}

static inline __attribute__((always_inline)) void tile_all(const int pairs, const tile *t, int64_t m, int64_t nv, int64_t k) {
    for (int64_t v = 0; v < nv; v += 2) {
        const float *b = t->b + v / 2 * t->panel;
        for (int64_t i = 0; i < m;) {
            const float *a = t->a + i * t->am;
            float *c = t->c + i * t->ldc + v * VW;
            int64_t left = m - i;
#define TILE_BOTH(rows)                                                                                                                    \
    if (v + 1 < nv)                                                                                                                        \
        tile_run(rows, 2, pairs, k, a, t->am, t->ak, b, t->bk, c, t->ldc, t->add);                                                         \
    else                                                                                                                                   \
        tile_run(rows, 1, pairs, k, a, t->am, t->ak, b, t->bk, c, t->ldc, t->add);                                                         \
    i += rows
            if (left >= TILE_ROWS) {
                TILE_BOTH(TILE_ROWS);
            } else if (left >= 4) {
                TILE_BOTH(4);
            } else if (left >= 2) {
                TILE_BOTH(2);
            } else {
                TILE_BOTH(1);
            }
#undef TILE_BOTH
        }
    }
}

/* m rows and nv vectors of c, k terms (or pairs of them) each. */
static inline void tile_product(const tile *t, int64_t m, int64_t nv, int64_t k) {
#ifdef VEC_DOT16
    if (t->pairs) {
        tile_all(1, t, m, nv, k);
        return;
    }
#endif
    tile_all(0, t, m, nv, k);
}
#endif
