/* gemm_tmpl.h: matrix products c = a·b whose operands may be bf16, cut into pieces that each end in a pass of the caller's over the sums while
 * they are in the cache.
 *
 * A piece is a block of rows by a block of columns. For each block of k, b's columns are laid out in panels of two vectors (GEMM_K × GEMM_N
 * floats, which stay in the second cache), widened and turned as needed on the way, and the register tile runs over them; a's rows are read
 * where they lie, or are laid out by the few rows where they are bf16 or run the other way. So bf16 costs nothing but the reading.
 * Pieces depend on the sizes only, and each sum runs over k in order: a row's result depends neither on the number of threads nor on how many
 * rows there are. */
#ifndef JEPA_GEMM_TMPL_H
#define JEPA_GEMM_TMPL_H
#include <stdatomic.h>
#include <string.h>
#include "compute/cpu/cpu.h"
#include "compute/cpu/tile_tmpl.h"
#include "compute/cpu/vec.h"

enum { GEMM_M = 504 /* 6·84, 12·42 */, GEMM_N = 256, GEMM_K = 384, GEMM_STRIPS = 8, GEMM_A = GEMM_STRIPS * TILE_ROWS, GEMM_PAD = 16 };

typedef struct mat { /* element (i,j) at i·ld + j, or turned at j·ld + i; float32 or bf16 */
    const float *f;
    const uint16_t *h;
    int64_t ld;
    int turned;
    int gelu; /* b, not turned: gelu of it */
} mat;

/* Sums of rows i …, columns j … lie in c. */
typedef void (*product_end)(const void *ctx, const float *c, int64_t ldc, int64_t i, int64_t rows, int64_t j, int64_t cols);

typedef struct gemm {
    mat a, b; /* [m,k], [k,n] */
    int64_t m, n, k;
    int64_t most_m;  /* rows of a piece at most; 0: GEMM_M */
    product_end end; /* what to do with the sums */
    const void *ctx; /* end's */
    /* the rest is gemm_run's */
    int64_t mp, np, kp, across, count;
    float *mem;
    size_t each;
    int workers;
    atomic_llong next;
} gemm;

static inline __attribute__((always_inline)) vf mat_load(const mat *m, int64_t at, int64_t n) {
    return m->h ? vload16_some(m->h + at, n) : vload_some(m->f + at, n);
}

static inline float mat_get(const mat *m, int64_t at) { return m->h ? bf16_to_f32(m->h[at]) : m->f[at]; }

/* ---- b: panels [k][PANEL]; columns past n are zeros up to a whole vector ---- */

/* Rows p …, columns j … of a b that is not turned. Four panels at once, so that reads stay long and writes go to few places. */
static inline __attribute__((always_inline)) void gemm_lay_rows(const mat *b, const int half, const int gelu, int64_t p,
                                                                int64_t k, int64_t j, int64_t n, float *to) {
    const mat src = {.f = half ? NULL : b->f, .h = half ? b->h : NULL};
    for (int64_t x = 0; x < n; x += 4 * PANEL)
        for (int64_t i = 0; i < k; i++)
            for (int64_t v = x; v < n && v < x + 4 * PANEL; v += VW) {
                vf t = mat_load(&src, (p + i) * b->ld + j + v, n - v);
                if (gelu) t = vgelu(t);
                vstore(to + v / PANEL * k * PANEL + i * PANEL + v % PANEL, t);
            }
}

/* Eight terms of eight columns, turned. */
static inline __attribute__((always_inline)) void gemm_turn8(const mat *b, int64_t at, float *to) {
#ifdef __AVX2__
    __m256 r[8], t[8], u[8];
    UNROLL
    for (int i = 0; i < 8; i++, at += b->ld)
        if (b->h) {
            __m256i h = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(b->h + at)));
            r[i] = _mm256_castsi256_ps(_mm256_slli_epi32(h, 16));
        } else {
            r[i] = _mm256_loadu_ps(b->f + at);
        }
    UNROLL
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    UNROLL
    for (int i = 0; i < 8; i += 4) {
        u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(to + i * PANEL, _mm256_permute2f128_ps(u[i], u[i + 4], 0x20));
        _mm256_storeu_ps(to + (i + 4) * PANEL, _mm256_permute2f128_ps(u[i], u[i + 4], 0x31));
    }
#else
    for (int x = 0; x < 8; x++)
        for (int i = 0; i < 8; i++) to[i * PANEL + x] = mat_get(b, at + x * b->ld + i);
#endif
}

/* The same of a turned one. */
static inline __attribute__((always_inline)) void gemm_lay_turned(const mat *b, const int half, int64_t p, int64_t k, int64_t j,
                                                                  int64_t n, float *to) {
    const mat src = {.f = half ? NULL : b->f, .h = half ? b->h : NULL, .ld = b->ld};
    for (int64_t x = 0; x < n; x += PANEL, to += k * PANEL) {
        int64_t width = least(PANEL, n - x), i = 0;
        for (; i + 8 <= k; i += 8)
            for (int64_t c = 0; c < PANEL; c += 8) {
                float *at = to + i * PANEL + c;
                if (c + 8 <= width) {
                    gemm_turn8(&src, (j + x + c) * b->ld + p + i, at);
                    continue;
                }
                for (int64_t e = 0; e < 8; e++)
                    for (int64_t z = 0; z < 8; z++) at[e * PANEL + z] = c + z < width ? mat_get(&src, (j + x + c + z) * b->ld + p + i + e) : 0;
            }
        for (; i < k; i++)
            for (int64_t c = 0; c < PANEL; c++) to[i * PANEL + c] = c < width ? mat_get(&src, (j + x + c) * b->ld + p + i) : 0;
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

/* Rows i … i+rows (at most GEMM_A), terms p … p+k as t's a: read where they lie, or laid out in mem. */
static inline void gemm_lay_a(const mat *a, int64_t i, int64_t rows, int64_t p, int64_t k, float *mem, tile *t) {
    t->a = mem;
    if (!a->turned && !a->h) {
        t->a = a->f + i * a->ld + p;
        t->am = a->ld;
        t->ak = 1;
    } else if (!a->turned) {
        t->am = GEMM_K + GEMM_PAD;
        t->ak = 1;
        for (int64_t r = 0; r < rows; r++) {
            const uint16_t *from = a->h + (i + r) * a->ld + p;
            float *to = mem + r * t->am;
            for (int64_t x = 0; x < k; x += VW) vstore(to + x, vload16_some(from + x, k - x));
        }
    } else {
        t->am = 1;
        t->ak = GEMM_A;
        for (int64_t x = 0; x < k; x++)
            for (int64_t r = 0; r < rows; r += VW) vstore_some(mem + x * GEMM_A + r, mat_load(a, (p + x) * a->ld + i + r, rows - r), rows - r);
    }
}

/* ---- pieces ---- */

static inline void gemm_piece(const gemm *g, int64_t piece, float *mem) {
    int64_t i0 = piece % g->across * g->mp, rows = least(g->mp, g->m - i0), j0 = piece / g->across * g->np, cols = least(g->np, g->n - j0);
    float *b = mem, *a = b + GEMM_K * GEMM_N, *c = a + GEMM_A * (GEMM_K + GEMM_PAD);
    int64_t ldc = GEMM_N + GEMM_PAD;
    for (int64_t p = 0; p < g->k; p += g->kp) {
        int64_t k = least(g->kp, g->k - p);
        gemm_lay_b(&g->b, p, k, j0, cols, b);
        for (int64_t i = 0; i < rows; i += GEMM_A) {
            int64_t some = least(GEMM_A, rows - i);
            tile t = {.b = b, .bk = PANEL, .panel = k * PANEL, .c = c + i * ldc, .ldc = ldc, .add = p > 0};
            gemm_lay_a(&g->a, i0 + i, some, p, k, a, &t);
            tile_product(&t, some, pieces(cols, VW), k);
        }
    }
    g->end(g->ctx, c, ldc, i0, rows, j0, cols);
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

/* g's scratch is the queue's. */
static inline int gemm_run(queue *q, gemm *g) {
    g->mp = gemm_part(g->m, g->most_m ? g->most_m : GEMM_M, TILE_ROWS);
    g->np = gemm_part(g->n, GEMM_N, PANEL);
    g->kp = gemm_part(g->k, GEMM_K, 8);
    g->across = pieces(g->m, g->mp);
    g->count = g->across * pieces(g->n, g->np);
    double work = (double)g->m * (double)g->n * (double)g->k / 16;
    g->workers = work < SERIAL_WORK ? 1 : (int)least(q->threads, g->count);
    g->each = (size_t)(GEMM_K * GEMM_N + GEMM_A * (GEMM_K + GEMM_PAD) + g->mp * (GEMM_N + GEMM_PAD));
    g->mem = queue_scratch(q, (size_t)g->workers * g->each * sizeof *g->mem);
    if (!g->mem) return JEPA_E_MEMORY;
    atomic_init(&g->next, 0);
    pool_for(q->d->team, g->workers, g->workers, gemm_worker, g);
    return 0;
}
#endif
