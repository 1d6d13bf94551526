/* rope_tmpl.h: rotary positions. */
#ifndef JEPA_ROPE_TMPL_H
#define JEPA_ROPE_TMPL_H
#include <math.h>
#include <string.h>
#include "compute/cpu/cpu.h"
#include "compute/cpu/vec.h"

/* Positions repeat: a grid has few frames, rows and columns. Each value that occurs gets its cosines and sines once, in double. */
enum { ROPE_VALUES = 1024, ROPE_SLOTS = 4096, ROPE_PIECE = 64 };

typedef struct rope_memo {
    uint32_t bits[ROPE_SLOTS]; /* of the position, a float */
    int32_t entry[ROPE_SLOTS]; /* its number + 1; 0: empty */
    int32_t count;
} rope_memo;

typedef struct rope_fill {
    const op_rope_table *a;
    int64_t half;
    const int32_t *which;
    const float *turns;
    const double *omega;
} rope_fill;

static inline int32_t rope_entry(rope_memo *m, float pos) /* number, or -1 where there are too many */
{
    uint32_t bits;
    memcpy(&bits, &pos, sizeof bits);
    uint32_t at = bits * 2654435761u >> 20;
    while (m->entry[at] && m->bits[at] != bits) at = (at + 1) % ROPE_SLOTS;
    if (!m->entry[at]) {
        if (m->count == ROPE_VALUES) return -1;
        m->bits[at] = bits;
        m->entry[at] = ++m->count;
    }
    return m->entry[at] - 1;
}

static inline void rope_turns(float *out, float pos, const double *omega, int64_t half) /* [2,half] */
{
    for (int64_t i = 0; i < half; i++) {
        double angle = pos * omega[i];
        out[i] = (float)cos(angle);
        out[half + i] = (float)sin(angle);
    }
}

static inline void rope_fill_piece(void *ctx, int64_t p) {
    const rope_fill *f = ctx;
    const op_rope_table *a = f->a;
    int64_t half = f->half, d = 2 * half, dim = a->head_dim;
    float own[2 * 32]; /* the turns of 32 frequencies at a time, for a position without an entry */
    for (int64_t n = p * ROPE_PIECE, end = least(n + ROPE_PIECE, a->n); n < end; n++) {
        float *co = a->cs + n * 2 * dim, *si = co + dim;
        for (int64_t axis = 0; axis < 3; axis++, co += d, si += d) {
            int32_t e = f->which[n * 3 + axis];
            for (int64_t from = 0; from < half; from += 32) {
                int64_t count = least(32, half - from);
                const float *c = own, *s = own + count;
                if (e < 0) {
                    rope_turns(own, a->pos[n * 3 + axis], f->omega + from, count);
                } else {
                    c = f->turns + e * d + from;
                    s = c + half;
                }
                for (int64_t i = 0; i < count; i++) {
                    int64_t first = a->kind == ROPE_TILED ? from + i : 2 * (from + i),
                            second = a->kind == ROPE_TILED ? first + half : first + 1;
                    co[first] = co[second] = c[i];
                    si[first] = si[second] = s[i];
                }
            }
        }
        for (int64_t c = 3 * d; c < dim; c++, co++, si++) {
            *co = 1;
            *si = 0;
        }
    }
}

static inline int t_rope_table(queue *q, const op_rope_table *a) {
    int rc = check_rope_table(a);
    if (rc < 0 || a->n == 0) return rc;
    int64_t half = a->head_dim / 3 / 2, d = 2 * half;
    size_t which = (size_t)(3 * a->n + 1) / 2 * 2;
    size_t bytes = sizeof(rope_memo) + which * sizeof(int32_t) + (size_t)half * sizeof(double) + (size_t)(ROPE_VALUES * d) * sizeof(float);
    double *omega = queue_scratch(q, bytes); /* first: the memo's size is no multiple of 8 */
    if (!omega) return JEPA_E_MEMORY;
    rope_memo *memo = (rope_memo *)(omega + half);
    int32_t *entry = (int32_t *)(memo + 1);
    float *turns = (float *)(entry + which);
    memset(memo, 0, sizeof *memo);
    for (int64_t i = 0; i < half; i++) omega[i] = pow(10000, -(double)i / (double)half);
    for (int64_t i = 0; i < 3 * a->n; i++) {
        int32_t known = memo->count;
        entry[i] = rope_entry(memo, a->pos[i]);
        if (memo->count > known) rope_turns(turns + entry[i] * d, a->pos[i], omega, half);
    }
    rope_fill f = {a, half, entry, turns, omega};
    cpu_for(q, pieces(a->n, ROPE_PIECE), 2.0 * (double)a->n * (double)a->head_dim, rope_fill_piece, &f);
    return 0;
}

/* Each pair times [cos c, -sin c; sin c+1, cos c+1], or its transpose (not the inverse where the two angles differ: ROPE_TILED). */
static inline void rope_row(float *restrict x, const float *restrict co, const float *restrict si, int64_t dim, int transpose) {
    if (transpose)
        for (int64_t c = 0; c + 1 < dim; c += 2) {
            float x0 = x[c], x1 = x[c + 1];
            x[c] = x0 * co[c] + x1 * si[c + 1];
            x[c + 1] = x1 * co[c + 1] - x0 * si[c];
        }
    else
        for (int64_t c = 0; c + 1 < dim; c += 2) {
            float x0 = x[c], x1 = x[c + 1];
            x[c] = x0 * co[c] - x1 * si[c];
            x[c + 1] = x1 * co[c + 1] + x0 * si[c + 1];
        }
}

static inline void rope_piece(void *ctx, int64_t p) {
    const op_rope *a = ctx;
    int64_t dim = a->head_dim, ldx = stride_or(a->ldx, a->heads * dim);
    for (int64_t n = p * ROPE_PIECE, end = least(n + ROPE_PIECE, a->batch * a->n); n < end; n++) {
        const float *co = a->cs + (a->per_batch ? n : n % a->n) * 2 * dim;
        for (int64_t h = 0; h < a->heads; h++) rope_row(a->x + n * ldx + h * dim, co, co + dim, dim, a->transpose);
    }
}

static inline int t_rope(queue *q, const op_rope *a) {
    int rc = check_rope(a);
    if (rc < 0 || a->n == 0) return rc;
    double work = 2.0 * (double)(a->batch * a->n) * (double)(a->heads * a->head_dim);
    cpu_for(q, pieces(a->batch * a->n, ROPE_PIECE), work, rope_piece, (void *)(uintptr_t)a);
    return 0;
}
#endif
