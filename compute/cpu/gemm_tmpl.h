/* gemm_tmpl.h: matrix products c = a·b whose operands may be bf16, cut into pieces that each end in a pass of the caller's over the sums while
 * they are in the cache.
 *
 * First b is laid out whole, by all threads. Then each piece, a block of rows by a block of columns, lays out its rows of a for one block of
 * k after the other and runs the register tile over them: a panel of b stays in the first cache while all strips of the piece pass by it. So
 * bf16, turning and b's GELU cost one pass over the operands. Where the processor multiplies pairs of bf16, it does so if both operands are.
 * Each sum runs over k in order, in blocks that depend on k only, and zeros fill up what is cut off: a row's result depends neither on the
 * number of threads nor on how many rows there are. */
#ifndef JEPA_GEMM_TMPL_H
#define JEPA_GEMM_TMPL_H
#include <stdatomic.h>
#include <string.h>
#include "compute/cpu/cpu.h"
#include "compute/cpu/gemm_lay_tmpl.h"

enum { GEMM_M = 72 /* 6·12, 12·6 */, GEMM_N = 768, GEMM_K = 384, GEMM_LAY = 64, GEMM_END = 64, GEMM_STEP = 16 };
#ifndef GEMM_B /* tests make it small */
#define GEMM_B (4 * 1024 * 1024) /* floats of b laid out at a time */
#endif

/* Sums of rows i …, columns j … lie in c. */
typedef void (*product_end)(const void *ctx, const float *c, int64_t ldc, int64_t i, int64_t rows, int64_t j, int64_t cols);

typedef struct gemm {
    mat a, b; /* [m,k], [k,n] */
    int64_t m, n, k;
    product_end end; /* what to do with the sums */
    const void *ctx; /* end's */
    int adds;        /* end may be called for one part of k after the other: it adds */
    int cuts;        /* beside a b of bf16, float32 may be rounded to it: where pairs are multiplied */
    /* the rest is gemm_run's */
    int64_t j0, cols, p0, terms; /* what is laid out of b */
    int64_t mp, np, kp, across, count;
    float *laid, *mem;
    size_t each;
    atomic_llong next;
} gemm;

/* c[TILE_ROWS][PANEL] (+)= a·b, both laid out; next: what to ask for on the way, two lines every GEMM_STEP terms. */
static inline __attribute__((always_inline)) void gemm_tile(const int add, const int pairs, int64_t k, const float *a, const float *b,
                                                            const float *next, float *c, int64_t ldc) {
    vf s[TILE_ROWS][2];
    UNROLL
    for (int i = 0; i < TILE_ROWS; i++) {
        UNROLL
        for (int v = 0; v < 2; v++) s[i][v] = add ? vload(c + i * ldc + v * VW) : vset(0);
    }
    while (k > 0) {
        int64_t some = least(k, GEMM_STEP);
        __builtin_prefetch(next, 0, 2);
        __builtin_prefetch(next + 16, 0, 2);
        next += 32;
        k -= some;
        for (int64_t p = 0; p < some; p++, a += TILE_ROWS, b += PANEL) {
            vf b0 = vload(b), b1 = vload(b + VW);
            UNROLL
            for (int i = 0; i < TILE_ROWS; i++) {
                vf x = vset(a[i]);
                s[i][0] = tile_term(pairs, x, b0, s[i][0]);
                s[i][1] = tile_term(pairs, x, b1, s[i][1]);
            }
        }
    }
    UNROLL
    for (int i = 0; i < TILE_ROWS; i++) {
        UNROLL
        for (int v = 0; v < 2; v++) vstore(c + i * ldc + v * VW, s[i][v]);
    }
}

/* The block of k from p on lies in `laid` at p·(whole panels): panel after panel of it. */
static inline int64_t gemm_laid_at(const gemm *g, int64_t p, int64_t j) {
    return p * pieces(g->cols, PANEL) * PANEL + j * least(g->kp, g->terms - p);
}

static inline void gemm_lay(void *ctx, int64_t piece) {
    gemm *g = ctx;
    int64_t wide = pieces(g->cols, GEMM_LAY), p = piece / wide * g->kp, j = piece % wide * GEMM_LAY;
    gemm_lay_b(&g->b, g->p0 + p, least(g->kp, g->terms - p), g->j0 + j, least(GEMM_LAY, g->cols - j), g->laid + gemm_laid_at(g, p, j));
}

static inline void gemm_piece(const gemm *g, int64_t piece, float *mem) {
    int64_t i0 = piece % g->across * g->mp, rows = least(g->mp, g->m - i0), j0 = piece / g->across * g->np, cols = least(g->np, g->cols - j0);
    int64_t ldc = g->np + 16;
    float *c = mem, *a = c + g->mp * ldc;
    for (int64_t p = 0; p < g->terms; p += g->kp) {
        int64_t k = least(g->kp, g->terms - p);
        int64_t ahead = k * PANEL / pieces(rows, TILE_ROWS); /* of the next panel, by each strip */
        gemm_lay_a(&g->a, i0, rows, g->p0 + p, k, a);
        for (int64_t j = 0, ended = 0; j < cols; j += PANEL) {
            const float *b = g->laid + gemm_laid_at(g, p, j0 + j), *next = b + k * PANEL; /* past the last: harmless */
            for (int64_t i = 0; i < rows; i += TILE_ROWS, next += ahead) {
                if (mat_paired(&g->b))
                    gemm_tile(p > 0, 1, k, a + i * k, b, next, c + i * ldc + j, ldc);
                else
                    gemm_tile(p > 0, 0, k, a + i * k, b, next, c + i * ldc + j, ldc);
            }
            int64_t done = least(cols, j + PANEL);
            if (p + k == g->terms && (done == cols || done - ended >= GEMM_END)) {
                g->end(g->ctx, c + ended, ldc, i0, rows, g->j0 + j0 + ended, done - ended);
                ended = done;
            }
        }
    }
}

static inline void gemm_worker(void *ctx, int64_t w) {
    gemm *g = ctx;
    float *mem = g->mem + (size_t)w * g->each;
    for (int64_t i; (i = atomic_fetch_add_explicit(&g->next, 1, memory_order_relaxed)) < g->count;) gemm_piece(g, i, mem);
}

/* n in parts of at most `most`, all about as large, each a multiple of unit. */
static inline int64_t gemm_part(int64_t n, int64_t most, int64_t unit) {
    int64_t parts = pieces(n, most);
    return least(most, pieces(pieces(n, parts), unit) * unit);
}

static inline int64_t gemm_most(int64_t n) { return n > 1 ? n : 1; }

/* g's scratch is the queue's. */
static inline int gemm_run(queue *q, gemm *g) {
#ifdef VEC_DOT16
    if (g->b.h && ((g->a.h && !g->b.gelu) || g->cuts)) {
        g->a.pairs = g->b.pairs = g->k;
        g->k = pieces(g->k, 2);
    }
#endif
    int64_t terms = g->k, cols = g->n;
    g->kp = gemm_part(g->k, GEMM_K, 8);
    if (g->adds)
        terms = gemm_part(terms, gemm_most(GEMM_B / pieces(cols, PANEL) / PANEL / g->kp) * g->kp, g->kp);
    cols = gemm_part(cols, gemm_most(GEMM_B / terms / PANEL) * PANEL, PANEL);
    g->mp = gemm_part(g->m, GEMM_M, TILE_ROWS);
    double work = (double)g->m * (double)g->n * (double)g->k / 16;
    int threads = work < SERIAL_WORK ? 1 : q->threads;
    g->np = gemm_part(cols, GEMM_N, PANEL);
    while (pieces(g->m, g->mp) * pieces(cols, g->np) < 3 * threads && g->np > 4 * PANEL)
        g->np = pieces(g->np, 2 * PANEL) * PANEL;
    g->across = pieces(g->m, g->mp);
    g->each = (size_t)(g->mp * g->kp + g->mp * (g->np + 16) + LAY_SPILL + 15) / 16 * 16;
    size_t laid = (size_t)(terms * pieces(cols, PANEL) * PANEL);
    int workers = (int)least(threads, g->across * pieces(cols, g->np));
    g->laid = queue_scratch(q, (laid + (size_t)workers * g->each) * sizeof *g->mem);
    if (!g->laid) return JEPA_E_MEMORY;
    g->mem = g->laid + laid;
    for (g->j0 = 0; g->j0 < g->n; g->j0 += cols)
        for (g->p0 = 0; g->p0 < g->k; g->p0 += terms) {
            g->cols = least(cols, g->n - g->j0);
            g->terms = least(terms, g->k - g->p0);
            pool_for(q->d->team, threads, pieces(g->cols, GEMM_LAY) * pieces(g->terms, g->kp), gemm_lay, g);
            g->count = g->across * pieces(g->cols, g->np);
            atomic_store_explicit(&g->next, 0, memory_order_relaxed);
            pool_for(q->d->team, workers, workers, gemm_worker, g);
        }
    return 0;
}
#endif
