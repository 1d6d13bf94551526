/* embed.c: pixels to tokens: patch embedding of clips and images, modality vector, positions; forward and backward. */
#include "encoder/parts.h"

#include <string.h>

/* ---- positions ---- */

/* 1 where all items keep the same tokens, else the batch. */
static int64_t lists(const enc_in *in, int64_t n) {
    for (int64_t i = 1; in->keep_host && i < in->batch; i++)
        if (memcmp(in->keep_host, in->keep_host + i * n, (size_t)n * sizeof *in->keep_host)) return in->batch;
    return 1;
}

/* Rotary: the table of these tokens into a->cs, one for all items or one each. Sin-cos: the indices are checked, no more. */
static int place(const enc *e, queue *q, const enc_in *in, enc_acts *a, int64_t n, jepa_err *err) {
    const enc_cfg *c = &e->c;
    const int rotary = c->positions != POS_SINCOS, rescaled = c->interpolate_rope;
    const int64_t tables = lists(in, n), rows = in->height / c->patch_size, cols = in->width / c->patch_size;
    const pos_grid g = {.frames = a->image ? 1 : in->frames / c->tubelet_size,
                        .rows = rows,
                        .cols = cols,
                        .split_rows = rotary ? in->split_rows : 0,
                        .split_cols = rotary ? in->split_cols : 0,
                        .row_factor = rescaled ? pos_rope_factor(c->patch_size, rows) : 1,
                        .col_factor = rescaled ? pos_rope_factor(c->patch_size, cols) : 1};
    int rc = 0;
    for (int64_t i = 0; i < tables && !rc; i++) {
        rc = pos_fill(&g, in->keep_host ? in->keep_host + i * n : NULL, n, a->pos_host + 3 * i * n, err);
        if (rc < 0 && in->keep_host) err_prefix(err, rc, "encoder: context of item %lld", (long long)i);
    }
    if (rc < 0) return rc;
    a->run = (block_run){.batch = in->batch, .tokens = n};
    if (!rotary) return 0;
    if ((rc = buf_put(q, a->pos, a->pos_host, (size_t)(tables * n) * 3 * sizeof(float), err)) < 0) return rc;
    rc = dev_ops(queue_dev(q))
             ->rope_table(q, &(op_rope_table){.n = tables * n,
                                              .head_dim = c->embed_dim / c->num_heads,
                                              .kind = c->positions == POS_ROPE_INTERLEAVED ? ROPE_INTERLEAVED : ROPE_TILED,
                                              .pos = a->pos,
                                              .cs = a->cs});
    if (rc < 0) return enc_failed(err, rc, q, "the rotary table");
    a->run.cs = a->cs;
    a->run.cs_per_batch = tables > 1;
    return 0;
}

static void own_grid(const enc_cfg *c, int64_t g[3]) {
    g[0] = c->num_frames / c->tubelet_size, g[1] = c->img_height / c->patch_size, g[2] = c->img_width / c->patch_size;
}

int enc_tables(const enc *e, queue *q, jepa_err *err) {
    const enc_cfg *c = &e->c;
    if (c->positions != POS_SINCOS) return 0;
    if (!e->p->value.p) return err_set(err, JEPA_E_USE, "encoder: the parameters are not allocated yet (params_alloc)");
    int64_t g[3];
    own_grid(c, g);
    const pos_sincos_cfg t = {.frames = g[0],
                              .rows = g[1],
                              .cols = g[2],
                              .dim = c->embed_dim,
                              .planar = c->num_frames == 1,
                              .uniform_power = c->uniform_power,
                              .columns_first = c->columns_first};
    const int64_t count = e->p->item[e->pos].count;
    float *host = mem_alloc((size_t)count, sizeof *host);
    if (!host) return err_set(err, JEPA_E_MEMORY, "encoder: no memory for a table of %lld positions", (long long)(g[0] * g[1] * g[2]));
    int rc = pos_sincos(&t, host, err);
    if (!rc) rc = buf_put(q, param_value(e->p, e->pos), host, (size_t)count * sizeof *host, err);
    if (!rc) rc = queue_wait(q, err);
    mem_free(host);
    return rc;
}

/* The stored table at grid g into a->table, with room for n rows behind it, unless it is there. */
static int resampled(const enc *e, queue *q, enc_acts *a, const int64_t g[3], int64_t n, jepa_err *err) {
    const enc_cfg *c = &e->c;
    const float *of = param_value(e->p, e->pos);
    const size_t d = (size_t)c->embed_dim, tokens = (size_t)(g[0] * g[1] * g[2]);
    int64_t own[3];
    size_t want;
    if (size_mul(tokens + (size_t)n, d, &want)) return err_set(err, JEPA_E_MEMORY, "encoder: too many positions");
    const int same = a->table.of == of && !memcmp(a->table.grid, g, sizeof a->table.grid);
    if (same && a->table.room >= want) return 0;
    a->table.of = NULL;
    own_grid(c, own);
    float *stored = mem_alloc((size_t)e->p->item[e->pos].count, sizeof *stored);
    if (stored && a->table.room < want) {
        mem_free(a->table.p);
        a->table.p = mem_alloc(want, sizeof *a->table.p);
        a->table.room = a->table.p ? want : 0;
    }
    int rc = 0;
    if (!stored || !a->table.p)
        rc = err_set(err, JEPA_E_MEMORY, "encoder: no memory for the positions of %lld x %lld x %lld tokens", (long long)g[0],
                     (long long)g[1], (long long)g[2]);
    if (!rc) rc = buf_get(q, stored, of, (size_t)e->p->item[e->pos].count * sizeof *stored, err);
    if (!rc) rc = queue_wait(q, err);
    if (!rc) rc = pos_resample(stored, own, c->embed_dim, c->num_frames == 1, g, a->table.p, err);
    mem_free(stored);
    if (rc < 0) return rc;
    memcpy(a->table.grid, g, sizeof a->table.grid);
    a->table.of = of;
    return 0;
}

/* Rows of the table for these tokens into the stream, where the patch embedding is added to them. *r: what it has to add, the stream or,
 * where that saves the copy, the table itself. Several items: one product for all after a copy is faster than one an item without. */
static int add_table(const enc *e, queue *q, const enc_in *in, enc_acts *a, int64_t n, const float **r, jepa_err *err) {
    const enc_cfg *c = &e->c;
    const ops *o = dev_ops(queue_dev(q));
    const int64_t d = c->embed_dim, g[3] = {in->frames / c->tubelet_size, in->height / c->patch_size, in->width / c->patch_size};
    const float *table = param_value(e->p, e->pos);
    float *to = stack_in(&a->s);
    int64_t own[3];
    own_grid(c, own);
    int rc = 0;
    *r = to;
    if (!memcmp(own, g, sizeof own)) {
        const int64_t all = g[0] * g[1] * g[2];
        if (!in->keep && in->batch == 1) {
            *r = table;
            return 0;
        }
        for (int64_t i = 0; i < in->batch && !rc; i++) {
            op_rows move = {.batch = 1, .n_src = all, .n_dst = n, .d = d, .src = table, .dst = to + i * n * d, .count = n};
            if (in->keep) move.index = in->keep + i * n;
            rc = in->keep ? o->gather_rows(q, &move) : o->copy_rows(q, &move);
        }
        return rc < 0 ? enc_failed(err, rc, q, "adding positions") : 0;
    }
    if ((rc = resampled(e, q, a, g, n, err)) < 0) return rc;
    const size_t row = (size_t)d;
    float *picked = a->table.p + (size_t)(g[0] * g[1] * g[2]) * row;
    const int64_t given = lists(in, n); /* the rest are copies of the first */
    for (int64_t i = 0; i < given && !rc; i++) {
        for (int64_t k = 0; in->keep_host && k < n; k++)
            memcpy(picked + (size_t)k * row, a->table.p + (size_t)in->keep_host[i * n + k] * row, row * sizeof *picked);
        rc = buf_put(q, to + i * n * d, in->keep_host ? picked : a->table.p, (size_t)(n * d) * sizeof *to, err);
    }
    if (rc < 0) return rc;
    for (int64_t i = given; i < in->batch && !rc; i++)
        rc = o->copy_rows(q, &(op_rows){.batch = 1, .n_src = n, .n_dst = n, .d = d, .src = to, .dst = to + i * n * d, .count = n});
    return rc < 0 ? enc_failed(err, rc, q, "adding positions") : 0;
}

/* ---- patch embedding ---- */

static int add_vector(queue *q, int64_t d, const float *x, float *y, int add) { /* y (+)= x */
    return dev_ops(queue_dev(q))
        ->copy_rows(q, &(op_rows){.batch = 1, .n_src = 1, .n_dst = 1, .d = d, .src = x, .dst = y, .count = 1, .add = add});
}

int enc_embed(const enc *e, queue *q, const enc_in *in, enc_acts *a, int64_t n, jepa_err *err) {
    static const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f}; /* ImageNet's, as published */
    const enc_cfg *c = &e->c;
    const ops *o = dev_ops(queue_dev(q));
    const float *bias = param_value(e->p, a->image ? e->image_b : e->patch_b), *r = NULL;
    int rc = place(e, q, in, a, n, err);
    if (rc < 0) return rc;
    if (c->positions == POS_SINCOS && (rc = add_table(e, q, in, a, n, &r, err)) < 0) return rc;
    rc = o->tubelets(q, &(op_tubelets){.batch = in->batch,
                                       .channels = c->in_chans,
                                       .frames = in->frames,
                                       .height = in->height,
                                       .width = in->width,
                                       .tubelet = a->image ? 1 : c->tubelet_size,
                                       .patch = c->patch_size,
                                       .x = in->x,
                                       .type = in->type,
                                       .mean = in->mean ? in->mean : mean,
                                       .std = in->std ? in->std : std,
                                       .keep = in->keep,
                                       .n_keep = in->keep ? n : 0,
                                       .y = a->patches.f,
                                       .y16 = a->patches.h,
                                       .frames_first = in->frames_first});
    if (rc < 0) return enc_failed(err, rc, q, "cutting tubelets");
    if (c->modality_embedding) { /* added to every token: one bias for both */
        rc = add_vector(q, c->embed_dim, bias, a->bias, 0);
        if (!rc) rc = add_vector(q, c->embed_dim, param_value(e->p, a->image ? e->image_mod : e->video_mod), a->bias, 1);
        if (rc < 0) return enc_failed(err, rc, q, "adding the modality vector");
        bias = a->bias;
    }
    const param_form w = param_weight(e->p, a->image ? e->image_w : e->patch_w, e->bc.type == T_BF16);
    rc = o->linear(q, &(op_linear){.rows = in->batch * n,
                                   .in = enc_row_width(c, a->image),
                                   .out = c->embed_dim,
                                   .x = a->patches.f,
                                   .x16 = a->patches.h,
                                   .w = w.w,
                                   .w16 = w.w16,
                                   .b = bias,
                                   .r = r,
                                   .y = stack_in(&a->s)});
    return rc < 0 ? enc_failed(err, rc, q, "the patch embedding") : 0;
}

int enc_embed_backward(const enc *e, queue *q, enc_acts *a, const float *dx, jepa_err *err) {
    const enc_cfg *c = &e->c;
    const ops *o = dev_ops(queue_dev(q));
    float *db = param_grad(e->p, a->image ? e->image_b : e->patch_b);
    int rc = c->modality_embedding ? o->zero(q, a->bias, (size_t)c->embed_dim * sizeof(float)) : 0;
    if (!rc)
        rc = o->linear_bwd(q, &(op_linear_bwd){.rows = a->run.batch * a->run.tokens,
                                               .in = enc_row_width(c, a->image),
                                               .out = c->embed_dim,
                                               .dy = dx,
                                               .x = a->patches.f,
                                               .x16 = a->patches.h,
                                               .dw = param_grad(e->p, a->image ? e->image_w : e->patch_w),
                                               .db = c->modality_embedding ? a->bias : db});
    if (!rc && c->modality_embedding) { /* bias and modality vector get the same; the vector not in use gets nothing */
        rc = add_vector(q, c->embed_dim, a->bias, db, 1);
        if (!rc) rc = add_vector(q, c->embed_dim, a->bias, param_grad(e->p, a->image ? e->image_mod : e->video_mod), 1);
    }
    return rc < 0 ? enc_failed(err, rc, q, "backward of the patch embedding") : 0;
}
