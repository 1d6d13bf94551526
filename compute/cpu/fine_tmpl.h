/* fine_tmpl.h: products of few rows, and small ones, summed in double.
 *
 * Of few rows because there the weight is read from memory once whatever is done with it. Small ones because in training AdamW turns the
 * rounding of a gradient near zero into a step of visible size, which then would depend on the order of the sum (threads, instruction set); it
 * costs well under a millisecond. Every element is summed on its own and in one order, so it does not matter who sums which. */
#ifndef JEPA_FINE_TMPL_H
#define JEPA_FINE_TMPL_H
#include "compute/cpu/gemm_tmpl.h"

enum { FINE_PRODUCT = 4 * 1024 * 1024, FINE_FEW = 4, FINE_ROWS = 32, FINE_COLS = 64, VD = VW / 2 };

typedef double vd __attribute__((vector_size(VD * 8)));
typedef float fine_vf __attribute__((vector_size(VD * 4)));
typedef uint32_t fine_vu __attribute__((vector_size(VD * 4)));
typedef uint16_t fine_vh __attribute__((vector_size(VD * 2)));

static inline int fine_wanted(int64_t m, int64_t n, int64_t k) {
    return m <= FINE_FEW || (double)m * (double)n * (double)k <= FINE_PRODUCT;
}

static inline __attribute__((always_inline)) vd fine_load(const mat *m, int64_t at) {
    if (m->h) {
        fine_vh h;
        memcpy(&h, m->h + at, sizeof h);
        fine_vu u = __builtin_convertvector(h, fine_vu) << 16;
        return __builtin_convertvector((fine_vf)u, vd);
    }
    fine_vf f;
    memcpy(&f, m->f + at, sizeof f);
    return __builtin_convertvector(f, vd);
}

/* c[r,o] for mr rows from i on and nr columns from j on, both along k: the tile of FINE_FEW × 2 sums that the registers hold. */
static inline __attribute__((always_inline)) void fine_tile(const int mr, const int nr, const mat *a, const mat *b, int64_t i,
                                                            int64_t j, int64_t k, float *c, int64_t ldc) {
    vd s[FINE_FEW][2];
    UNROLL
    for (int r = 0; r < mr; r++) {
        UNROLL
        for (int o = 0; o < nr; o++) s[r][o] = (vd){0};
    }
    int64_t p = 0;
    for (; p + VD <= k; p += VD) {
        vd w[2];
        UNROLL
        for (int o = 0; o < nr; o++) w[o] = fine_load(b, (j + o) * b->ld + p);
        UNROLL
        for (int r = 0; r < mr; r++) {
            vd x = fine_load(a, (i + r) * a->ld + p);
            UNROLL
            for (int o = 0; o < nr; o++) s[r][o] += x * w[o];
        }
    }
    for (int r = 0; r < mr; r++)
        for (int o = 0; o < nr; o++) {
            double sum = 0;
            for (int e = 0; e < VD; e++) sum += s[r][o][e];
            for (int64_t e = p; e < k; e++) sum += (double)mat_get(a, (i + r) * a->ld + e) * (double)mat_get(b, (j + o) * b->ld + e);
            c[r * ldc + o] = (float)sum;
        }
}

typedef struct fine {
    mat a, b; /* a [m,k]; b turned: [n,k] */
    int64_t m, n, k, across;
    product_end end;
    const void *ctx;
} fine;

static inline __attribute__((always_inline)) void fine_block(const mat *a, const mat *b, int64_t i, int64_t rows, int64_t j,
                                                             int64_t cols, int64_t k, float *c) {
    for (int64_t r = 0; r < rows; r += FINE_FEW) {
        int64_t mr = least(FINE_FEW, rows - r);
        for (int64_t o = 0; o < cols; o += 2) {
            float *to = c + r * FINE_COLS + o;
#define FINE_BOTH(rows)                                                                                                                    \
    if (o + 1 < cols)                                                                                                                      \
        fine_tile(rows, 2, a, b, i + r, j + o, k, to, FINE_COLS);                                                                          \
    else                                                                                                                                   \
        fine_tile(rows, 1, a, b, i + r, j + o, k, to, FINE_COLS)
            if (mr == 4) {
                FINE_BOTH(4);
            } else if (mr == 3) {
                FINE_BOTH(3);
            } else if (mr == 2) {
                FINE_BOTH(2);
            } else {
                FINE_BOTH(1);
            }
#undef FINE_BOTH
        }
    }
}

static inline void fine_piece(void *ctx, int64_t piece) {
    const fine *f = ctx;
    int64_t i = piece % f->across * FINE_ROWS, rows = least(FINE_ROWS, f->m - i);
    int64_t j = piece / f->across * FINE_COLS, cols = least(FINE_COLS, f->n - j);
    float c[FINE_ROWS * FINE_COLS];
    const mat af = {.f = f->a.f, .ld = f->a.ld}, ah = {.h = f->a.h, .ld = f->a.ld};
    const mat bf = {.f = f->b.f, .ld = f->b.ld}, bh = {.h = f->b.h, .ld = f->b.ld};
    if (f->a.h && f->b.h)
        fine_block(&ah, &bh, i, rows, j, cols, f->k, c);
    else if (f->a.h)
        fine_block(&ah, &bf, i, rows, j, cols, f->k, c);
    else if (f->b.h)
        fine_block(&af, &bh, i, rows, j, cols, f->k, c);
    else
        fine_block(&af, &bf, i, rows, j, cols, f->k, c);
    f->end(f->ctx, c, FINE_COLS, i, rows, j, cols);
}

static inline int fine_run(queue *q, const mat *a, const mat *b, int64_t m, int64_t n, int64_t k, product_end end, const void *ctx) {
    fine f = {*a, *b, m, n, k, pieces(m, FINE_ROWS), end, ctx};
    cpu_for(q, f.across * pieces(n, FINE_COLS), (double)m * (double)n * (double)k / 4, fine_piece, &f);
    return 0;
}
#endif
