/* rows_tmpl.h: moves between sets of rows, and the clip cut into tubelets. */
#ifndef JEPA_ROWS_TMPL_H
#define JEPA_ROWS_TMPL_H
#include <string.h>
#include "compute/cpu/linear_tmpl.h"

enum { MOVE_PIECE = 64 };

typedef struct move {
    const op_rows *a;
    int64_t lds, ldd;
} move;

static inline const float *src_row(const move *m, int64_t b, int64_t i) { return m->a->src + (b * m->a->n_src + i) * m->lds; }
static inline float *dst_row(const move *m, int64_t b, int64_t i) { return m->a->dst + (b * m->a->n_dst + i) * m->ldd; }

static inline void add_row(float *restrict y, const float *restrict x, int64_t d) {
    for (int64_t c = 0; c < d; c++) y[c] += x[c];
}

static inline void gather_piece(void *ctx, int64_t p) {
    const move *m = ctx;
    const op_rows *a = m->a;
    for (int64_t n = p * MOVE_PIECE, end = least(n + MOVE_PIECE, a->batch * a->n_dst); n < end; n++)
        memcpy(dst_row(m, n / a->n_dst, n % a->n_dst), src_row(m, n / a->n_dst, a->index[n]), (size_t)a->d * sizeof(float));
}

static inline int t_gather_rows(queue *q, const op_rows *a) {
    int rc = check_gather_rows(a);
    if (rc < 0 || a->batch == 0 || a->n_dst == 0) return rc;
    move m = {a, stride_or(a->lds, a->d), stride_or(a->ldd, a->d)};
    cpu_for(q, pieces(a->batch * a->n_dst, MOVE_PIECE), 0.5 * (double)(a->batch * a->n_dst) * (double)a->d, gather_piece, &m);
    return 0;
}

static inline void scatter_item(void *ctx, int64_t b) /* one item whole: rows may repeat, and add up in order */
{
    const move *m = ctx;
    const op_rows *a = m->a;
    for (int64_t i = 0; i < a->n_src; i++) add_row(dst_row(m, b, a->index[b * a->n_src + i]), src_row(m, b, i), a->d);
}

static inline int t_scatter_add_rows(queue *q, const op_rows *a) {
    int rc = check_scatter_add_rows(a);
    if (rc < 0 || a->batch == 0 || a->n_src == 0) return rc;
    move m = {a, stride_or(a->lds, a->d), stride_or(a->ldd, a->d)};
    cpu_for(q, a->batch, (double)(a->batch * a->n_src) * (double)a->d, scatter_item, &m);
    return 0;
}

static inline void copy_piece(void *ctx, int64_t p) {
    const move *m = ctx;
    const op_rows *a = m->a;
    for (int64_t n = p * MOVE_PIECE, end = least(n + MOVE_PIECE, a->batch * a->count); n < end; n++) {
        int64_t b = n / a->count, i = n % a->count;
        if (a->add)
            add_row(dst_row(m, b, a->dst_off + i), src_row(m, b, a->src_off + i), a->d);
        else
            memcpy(dst_row(m, b, a->dst_off + i), src_row(m, b, a->src_off + i), (size_t)a->d * sizeof(float));
    }
}

static inline int t_copy_rows(queue *q, const op_rows *a) {
    int rc = check_copy_rows(a);
    if (rc < 0 || a->batch == 0 || a->count == 0) return rc;
    move m = {a, stride_or(a->lds, a->d), stride_or(a->ldd, a->d)};
    cpu_for(q, pieces(a->batch * a->count, MOVE_PIECE), 0.5 * (double)(a->batch * a->count) * (double)a->d, copy_piece, &m);
    return 0;
}

static inline void broadcast_piece(void *ctx, int64_t p) {
    const move *m = ctx;
    const op_rows *a = m->a;
    for (int64_t n = p * MOVE_PIECE, end = least(n + MOVE_PIECE, a->batch * a->count); n < end; n++)
        memcpy(dst_row(m, n / a->count, a->dst_off + n % a->count), a->src, (size_t)a->d * sizeof(float));
}

static inline int t_broadcast_row(queue *q, const op_rows *a) {
    int rc = check_broadcast_row(a);
    if (rc < 0 || a->batch == 0 || a->count == 0) return rc;
    move m = {a, 0, stride_or(a->ldd, a->d)};
    cpu_for(q, pieces(a->batch * a->count, MOVE_PIECE), 0.5 * (double)(a->batch * a->count) * (double)a->d, broadcast_piece, &m);
    return 0;
}

typedef struct item_sum {
    const op_rows *a;
    int64_t ld, cuts;
    float *part;
} item_sum;

static inline void item_sum_piece(void *ctx, int64_t p) {
    const item_sum *s = ctx;
    const op_rows *a = s->a;
    int64_t b = p / s->cuts, from = p % s->cuts * SUM_PIECE;
    col_sum_rows(a->src + (b * a->n_src + a->src_off + from) * s->ld, NULL, s->ld, least(SUM_PIECE, a->count - from), a->d, s->part + p * a->d);
}

static inline int t_sum_rows(queue *q, const op_rows *a) {
    int rc = check_sum_rows(a);
    if (rc < 0 || a->batch == 0 || a->count == 0) return rc;
    item_sum s = {.a = a, .ld = stride_or(a->lds, a->d), .cuts = pieces(a->count, SUM_PIECE)};
    int64_t n = a->batch * s.cuts;
    s.part = queue_scratch(q, (size_t)(n * a->d) * sizeof(float));
    if (!s.part) return JEPA_E_MEMORY;
    cpu_for(q, n, (double)(a->batch * a->count) * (double)a->d, item_sum_piece, &s);
    col_sum_end(s.part, n, a->d, a->dst);
    return 0;
}

/* ---- tubelets ---- */

typedef struct cut {
    const op_tubelets *a;
    int64_t rows, cols, n, width;
    const float *value;
    const uint16_t *value16;
} cut; /* value: [channels,256] for T_U8; or value16, the same as bf16 */

static inline void cut_token(const cut *t, int64_t b, int64_t token, float *y, uint16_t *y16) /* one of the two */
{
    const op_tubelets *a = t->a;
    int64_t p = a->patch, ch = a->channels;
    int64_t t0 = token / (t->rows * t->cols) * a->tubelet, y0 = token / t->cols % t->rows * p, x0 = token % t->cols * p;
    for (int64_t c = 0; c < ch; c++)
        for (int64_t dt = 0; dt < a->tubelet; dt++)
            for (int64_t dy = 0; dy < p; dy++) {
                if (a->type == T_U8) {
                    const uint8_t *x = a->x;
                    x += (((b * a->frames + t0 + dt) * a->height + y0 + dy) * a->width + x0) * ch + c;
                    if (y16)
                        for (int64_t dx = 0; dx < p; dx++) y16[dx] = t->value16[c * 256 + x[dx * ch]];
                    else
                        for (int64_t dx = 0; dx < p; dx++) y[dx] = t->value[c * 256 + x[dx * ch]];
                } else {
                    int64_t plane = a->frames_first ? (b * a->frames + t0 + dt) * ch + c : (b * ch + c) * a->frames + t0 + dt;
                    const float *x = (const float *)a->x + (plane * a->height + y0 + dy) * a->width + x0;
                    if (y16)
                        for (int64_t dx = 0; dx < p; dx += VW) vstore16_some(y16 + dx, vload_some(x + dx, p - dx), p - dx);
                    else
                        memcpy(y, x, (size_t)p * sizeof *y);
                }
                if (y16)
                    y16 += p;
                else
                    y += p;
            }
}

enum { CUT_PIECE = 16 };

static inline void cut_piece(void *ctx, int64_t piece) {
    const cut *t = ctx;
    const op_tubelets *a = t->a;
    for (int64_t i = piece * CUT_PIECE, end = least(i + CUT_PIECE, a->batch * t->n); i < end; i++)
        cut_token(t, i / t->n, a->keep ? a->keep[i] : i % t->n, a->y16 ? NULL : a->y + i * t->width, a->y16 ? a->y16 + i * t->width : NULL);
}

static inline int t_tubelets(queue *q, const op_tubelets *a) {
    int rc = check_tubelets(a);
    if (rc < 0) return rc;
    cut t = {.a = a, .rows = a->height / a->patch, .cols = a->width / a->patch, .width = a->channels * a->tubelet * a->patch * a->patch};
    t.n = a->keep ? a->n_keep : a->frames / a->tubelet * t.rows * t.cols;
    if (a->batch == 0 || t.n == 0) return 0;
    if (a->type == T_U8) {
        float *value = queue_scratch(q, (size_t)a->channels * 256 * (sizeof *value + sizeof(uint16_t)));
        if (!value) return JEPA_E_MEMORY;
        uint16_t *value16 = (uint16_t *)(value + a->channels * 256);
        for (int64_t c = 0; c < a->channels; c++)
            for (int v = 0; v < 256; v++) value[c * 256 + v] = (float)((v / 255.0 - a->mean[c]) / a->std[c]);
        for (int64_t i = 0; i < a->channels * 256; i++) value16[i] = f32_to_bf16(value[i]);
        t.value = value;
        t.value16 = value16;
    }
    cpu_for(q, pieces(a->batch * t.n, CUT_PIECE), (double)(a->batch * t.n) * (double)t.width, cut_piece, &t);
    return 0;
}
#endif
