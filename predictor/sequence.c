/* sequence.c: what enters the predictor's blocks: embedded context rows, mask tokens, modality vector, positions; forward and backward.
 *
 * One sequence is the context of an item and one of its target lists. With several target blocks (I-JEPA) the context is embedded once
 * and stands in a sequence for each: sequence block·batch + item. */
#include "predictor/parts.h"

#include <string.h>

/* ---- positions ---- */

static int64_t sequences(const pred_in *in, const pred_acts *a) { return in->batch * a->blocks; }

/* Grid positions of every row into a->pos_host, which also checks every index. *tables: 1 where all sequences are the same. */
static int place(const pred *e, const pred_in *in, pred_acts *a, int64_t *tables, jepa_err *err) {
    const pred_cfg *c = &e->c;
    const int64_t k = in->n_context, m = in->n_target, n = k + m, all = sequences(in, a);
    pos_grid g = in->grid;
    if (c->positions == POS_ROPE_INTERLEAVED && c->interpolate_rope) {
        /* the published predictor splits and scales by the square grid that it was built with */
        if (g.row_factor == 0) g.row_factor = pos_rope_factor(c->patch_size, g.split_rows ? g.split_rows : g.rows);
        if (g.col_factor == 0) g.col_factor = pos_rope_factor(c->patch_size, g.split_cols ? g.split_cols : g.cols);
    }
    *tables = 1;
    for (int64_t i = 1; *tables == 1 && i < all; i++)
        if (memcmp(in->context, in->context + i % in->batch * k, (size_t)k * sizeof *in->context) ||
            memcmp(in->target, in->target + i * m, (size_t)m * sizeof *in->target))
            *tables = all;
    int rc = 0;
    for (int64_t i = 0; i < *tables && !rc; i++) {
        float *pos = a->pos_host + 3 * i * n;
        if ((rc = pos_fill(&g, in->context + i % in->batch * k, k, pos, err)) < 0)
            err_prefix(err, rc, "predictor: context of item %lld", (long long)(i % in->batch));
        else if ((rc = pos_fill(&g, in->target + i * m, m, pos + 3 * k, err)) < 0)
            err_prefix(err, rc, "predictor: target of item %lld", (long long)i);
    }
    return rc;
}

/* The rotary table: one for all sequences, or one each where their lists differ. */
static int rotary(const pred *e, queue *q, pred_acts *a, int64_t tables, jepa_err *err) {
    const int64_t n = a->run.tokens;
    const int kind = e->c.positions == POS_ROPE_INTERLEAVED ? ROPE_INTERLEAVED : ROPE_TILED;
    int rc = buf_put(q, a->pos, a->pos_host, (size_t)(tables * n) * 3 * sizeof(float), err);
    if (rc < 0) return rc;
    const op_rope_table table = {.n = tables * n, .head_dim = e->bc.dim / e->bc.num_heads, .kind = kind, .pos = a->pos, .cs = a->cs};
    if ((rc = dev_ops(queue_dev(q))->rope_table(q, &table)) < 0) return pred_failed(err, rc, q, "the rotary table");
    a->run.cs = a->cs;
    a->run.cs_per_batch = tables > 1;
    return 0;
}

/* The stored table at grid g into a->table, with room for n rows behind it, unless it is there. */
static int resampled(const pred *e, queue *q, pred_acts *a, const int64_t g[3], int64_t n, jepa_err *err) {
    const pred_cfg *c = &e->c;
    const float *of = param_value(e->p, e->pos);
    const int64_t own[3] = {c->frames, c->rows, c->cols};
    const size_t w = (size_t)c->predictor_embed_dim, tokens = (size_t)(g[0] * g[1] * g[2]), count = (size_t)e->p->item[e->pos].count;
    size_t want;
    if (size_mul(tokens + (size_t)n, w, &want)) return err_set(err, JEPA_E_MEMORY, "predictor: too many positions");
    const int same = a->table.of == of && !memcmp(a->table.grid, g, sizeof a->table.grid);
    if (same && a->table.room >= want) return 0;
    a->table.of = NULL;
    float *stored = mem_alloc(count, sizeof *stored);
    if (stored && a->table.room < want) {
        mem_free(a->table.p);
        a->table.p = mem_alloc(want, sizeof *a->table.p);
        a->table.room = a->table.p ? want : 0;
    }
    int rc = 0;
    if (!stored || !a->table.p)
        rc = err_set(err, JEPA_E_MEMORY, "predictor: no memory for the positions of %lld x %lld x %lld tokens", (long long)g[0],
                     (long long)g[1], (long long)g[2]);
    if (!rc) rc = buf_get(q, stored, of, count * sizeof *stored, err);
    if (!rc) rc = queue_wait(q, err);
    if (!rc) rc = pos_resample(stored, own, (int64_t)w, c->frames == 1, g, a->table.p, err);
    mem_free(stored);
    if (rc < 0) return rc;
    memcpy(a->table.grid, g, sizeof a->table.grid);
    a->table.of = of;
    return 0;
}

/* Rows of the sin-cos table added to all rows of the stream. */
static int add_table(const pred *e, queue *q, const pred_in *in, pred_acts *a, jepa_err *err) {
    const pred_cfg *c = &e->c;
    const ops *o = dev_ops(queue_dev(q));
    const int64_t k = in->n_context, m = in->n_target, n = a->run.tokens, rows = a->run.batch * n, w = e->bc.dim;
    const int64_t own[3] = {c->frames, c->rows, c->cols}, g[3] = {in->grid.frames, in->grid.rows, in->grid.cols};
    int32_t *index = (int32_t *)a->pos_host; /* positions themselves are not needed here */
    for (int64_t i = 0; i < a->run.batch; i++) {
        memcpy(index + i * n, in->context + i % in->batch * k, (size_t)k * sizeof *index);
        memcpy(index + i * n + k, in->target + i * m, (size_t)m * sizeof *index);
    }
    float *picked = a->s.tmp;
    int rc;
    if (!memcmp(own, g, sizeof own)) {
        if ((rc = buf_put(q, a->index, index, (size_t)rows * sizeof *index, err)) < 0) return rc;
        rc = o->gather_rows(q, &(op_rows){.batch = 1,
                                          .n_src = own[0] * own[1] * own[2],
                                          .n_dst = rows,
                                          .d = w,
                                          .src = param_value(e->p, e->pos),
                                          .dst = picked,
                                          .index = a->index});
    } else {
        if ((rc = resampled(e, q, a, g, rows, err)) < 0) return rc;
        float *host = a->table.p + g[0] * g[1] * g[2] * w;
        for (int64_t i = 0; i < rows; i++) memcpy(host + i * w, a->table.p + index[i] * w, (size_t)w * sizeof *host);
        if ((rc = buf_put(q, picked, host, (size_t)(rows * w) * sizeof *host, err)) < 0) return rc;
    }
    if (!rc)
        rc = o->copy_rows(
            q,
            &(op_rows){.batch = 1, .n_src = rows, .n_dst = rows, .d = w, .src = picked, .dst = stack_in(&a->s), .count = rows, .add = 1});
    return rc < 0 ? pred_failed(err, rc, q, "adding positions") : 0;
}

/* ---- the rows ---- */

/* z → predictor_embed, rows·P into a->s.tmp. */
static int embed(const pred *e, queue *q, const pred_in *in, pred_acts *a, const float *bias, jepa_err *err) {
    const ops *o = dev_ops(queue_dev(q));
    const int64_t rows = in->batch * in->n_context, d = e->c.embed_dim;
    const int levels = pred_levels(&e->c);
    int rc = 0;
    if (levels > 1)
        rc = o->linear(q, &(op_linear){.rows = rows,
                                       .in = levels * d,
                                       .out = d,
                                       .x = in->z,
                                       .w = pred_weight(e, e->first_w).w,
                                       .w16 = pred_weight(e, e->first_w).w16,
                                       .b = param_value(e->p, e->first_b),
                                       .y = a->act,
                                       .pre = a->pre,
                                       .act = ACT_GELU});
    if (!rc)
        rc = o->linear(q, &(op_linear){.rows = rows,
                                       .in = d,
                                       .out = e->bc.dim,
                                       .x = levels > 1 ? a->act : in->z,
                                       .w = pred_weight(e, e->embed_w).w,
                                       .w16 = pred_weight(e, e->embed_w).w16,
                                       .b = bias,
                                       .y = a->s.tmp});
    return rc < 0 ? pred_failed(err, rc, q, "the embedding") : 0;
}

static int add_vectors(queue *q, int64_t d, const float *x, const float *y, float *sum) {
    const ops *o = dev_ops(queue_dev(q));
    op_rows move = {.batch = 1, .n_src = 1, .n_dst = 1, .d = d, .src = x, .dst = sum, .count = 1};
    int rc = o->copy_rows(q, &move);
    move.src = y, move.add = 1;
    return rc ? rc : o->copy_rows(q, &move);
}

int pred_sequence(const pred *e, queue *q, const pred_in *in, pred_acts *a, jepa_err *err) {
    const ops *o = dev_ops(queue_dev(q));
    const int64_t k = in->n_context, n = k + in->n_target, w = e->bc.dim;
    const float *bias = param_value(e->p, e->embed_b), *mask = param_value(e->p, a->mask);
    float *to = stack_in(&a->s);
    int64_t tables;
    int rc = place(e, in, a, &tables, err);
    if (rc < 0) return rc;
    a->run = (block_run){.batch = sequences(in, a), .tokens = n};
    if (e->c.positions != POS_SINCOS && (rc = rotary(e, q, a, tables, err)) < 0) return rc;
    if (e->c.modality_embedding) { /* added to every row: to the bias of the one kind and to the token of the other */
        const float *vector = param_value(e->p, a->modality);
        rc = add_vectors(q, w, bias, vector, a->shifted);
        if (!rc) rc = add_vectors(q, w, mask, vector, a->shifted + w);
        if (rc < 0) return pred_failed(err, rc, q, "adding the modality vector");
        bias = a->shifted, mask = a->shifted + w;
    }
    if ((rc = embed(e, q, in, a, bias, err)) < 0) return rc;
    for (int64_t i = 0; i < a->blocks && !rc; i++)
        rc = o->copy_rows(
            q,
            &(op_rows){.batch = in->batch, .n_src = k, .n_dst = n, .d = w, .src = a->s.tmp, .dst = to + i * in->batch * n * w, .count = k});
    if (rc < 0) return pred_failed(err, rc, q, "placing the context rows");
    rc = o->broadcast_row(
        q, &(op_rows){.batch = a->run.batch, .n_src = 1, .n_dst = n, .d = w, .src = mask, .dst = to, .dst_off = k, .count = in->n_target});
    if (rc < 0) return pred_failed(err, rc, q, "placing the mask token");
    return e->c.positions == POS_SINCOS ? add_table(e, q, in, a, err) : 0;
}

/* ---- backward ---- */

/* dx [rows,P] → embedding, dz. */
static int embed_backward(const pred *e, queue *q, pred_acts *a, int64_t rows, const float *dx, float *dz, jepa_err *err) {
    const ops *o = dev_ops(queue_dev(q));
    const int64_t w = e->bc.dim, d = e->c.embed_dim;
    const int levels = pred_levels(&e->c);
    const float *x = levels > 1 ? a->act : a->z;
    float *to = levels > 1 ? a->act : dz;
    /* the weight first: the gradient of its input may lie where that lay */
    int rc = o->linear_bwd(
        q, &(op_linear_bwd){
               .rows = rows, .in = d, .out = w, .dy = dx, .x = x, .dw = param_grad(e->p, e->embed_w), .db = param_grad(e->p, e->embed_b)});
    if (!rc && to)
        rc = o->linear_bwd(q, &(op_linear_bwd){.rows = rows,
                                               .in = d,
                                               .out = w,
                                               .dy = dx,
                                               .w = pred_weight(e, e->embed_w).w,
                                               .w16 = pred_weight(e, e->embed_w).w16,
                                               .dx = to});
    if (levels > 1) {
        if (!rc) rc = o->gelu_bwd(q, &(op_gelu_bwd){.n = rows * d, .dy = to, .x = a->pre, .dx = to});
        if (!rc)
            rc = o->linear_bwd(q, &(op_linear_bwd){.rows = rows,
                                                   .in = levels * d,
                                                   .out = d,
                                                   .dy = to,
                                                   .x = a->z,
                                                   .dw = param_grad(e->p, e->first_w),
                                                   .db = param_grad(e->p, e->first_b)});
        if (!rc && dz)
            rc = o->linear_bwd(q, &(op_linear_bwd){.rows = rows,
                                                   .in = levels * d,
                                                   .out = d,
                                                   .dy = to,
                                                   .w = pred_weight(e, e->first_w).w,
                                                   .w16 = pred_weight(e, e->first_w).w16,
                                                   .dx = dz});
    }
    return rc < 0 ? pred_failed(err, rc, q, "backward of the embedding") : 0;
}

int pred_sequence_backward(const pred *e, queue *q, pred_acts *a, float *dz, jepa_err *err) {
    const ops *o = dev_ops(queue_dev(q));
    const int64_t k = a->n_context, n = a->run.tokens, w = e->bc.dim, batch = a->run.batch / a->blocks;
    float *dx = a->s.tmp;
    op_rows sum = {.batch = a->run.batch, .n_src = n, .n_dst = 1, .d = w, .src = a->dstream, .src_off = k, .count = n - k};
    sum.dst = param_grad(e->p, a->mask);
    int rc = o->sum_rows(q, &sum);
    if (rc < 0) return pred_failed(err, rc, q, "the gradient of the mask token");
    if (e->c.modality_embedding) {
        sum.dst = param_grad(e->p, a->modality);
        sum.src_off = 0, sum.count = n;
        if ((rc = o->sum_rows(q, &sum)) < 0) return pred_failed(err, rc, q, "the gradient of the modality vector");
    }
    for (int64_t i = 0; i < a->blocks && !rc; i++) /* the context is every block's: gradients add up */
        rc = o->copy_rows(q, &(op_rows){.batch = batch,
                                        .n_src = n,
                                        .n_dst = k,
                                        .d = w,
                                        .src = a->dstream + i * batch * n * w,
                                        .dst = dx,
                                        .count = k,
                                        .add = i > 0});
    if (rc < 0) return pred_failed(err, rc, q, "taking the gradient of the context rows");
    return embed_backward(e, q, a, batch * k, dx, dz, err);
}
