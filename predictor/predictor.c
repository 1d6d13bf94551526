/* predictor.c: the masked predictor: parameters, working memory, forward and backward. */
#include "predictor/predictor.h"
#include "encoder/init.h"
#include "encoder/stack.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct pred {
    pred_cfg c;
    block_cfg bc;
    params *p;
    block *b;  /* [depth] */
    int *mask; /* [num_mask_tokens] */
    int embed_w, embed_b, norm_w, norm_b, proj_w, proj_b;
    packed *embed_p, *proj_p;
    const ops *packs; /* whose packed weights these are; NULL: none */
};

/* ---- opening ---- */

static int add(pred *e, jepa_err *err, const char *prefix, const char *name, int rank, int64_t d0, int64_t d1, int64_t d2, int *index) {
    char full[128];
    int k = snprintf(full, sizeof full, "%s%s", prefix, name);
    if (k < 0 || (size_t)k >= sizeof full) return err_set(err, JEPA_E_USE, "parameter name too long: %s%s", prefix, name);
    int i = params_add(e->p, err, full, rank, (int64_t[]){d0, d1, d2});
    if (i < 0) return i;
    *index = i;
    return 0;
}

static int add_all(pred *e, const char *prefix, jepa_err *err) {
    const int64_t d = e->c.embed_dim, w = e->c.predictor_embed_dim;
    char name[128];
    int rc = add(e, err, prefix, "predictor_embed.weight", 2, w, d, 0, &e->embed_w);
    if (!rc) rc = add(e, err, prefix, "predictor_embed.bias", 1, w, 0, 0, &e->embed_b);
    for (int i = 0; i < e->c.num_mask_tokens && !rc; i++) {
        snprintf(name, sizeof name, "mask_tokens.%d", i);
        rc = add(e, err, prefix, name, 3, 1, 1, w, &e->mask[i]);
    }
    for (int i = 0; i < e->c.depth && !rc; i++) {
        int k = snprintf(name, sizeof name, "%spredictor_blocks.%d.", prefix, i);
        if (k < 0 || (size_t)k >= sizeof name)
            rc = err_set(err, JEPA_E_USE, "parameter name too long: %spredictor_blocks.%d.", prefix, i);
        else
            rc = block_params(&e->b[i], &e->bc, e->p, name, err);
    }
    if (!rc) rc = add(e, err, prefix, "predictor_norm.weight", 1, w, 0, 0, &e->norm_w);
    if (!rc) rc = add(e, err, prefix, "predictor_norm.bias", 1, w, 0, 0, &e->norm_b);
    if (!rc) rc = add(e, err, prefix, "predictor_proj.weight", 2, e->c.out_dim, w, 0, &e->proj_w);
    if (!rc) rc = add(e, err, prefix, "predictor_proj.bias", 1, e->c.out_dim, 0, 0, &e->proj_b);
    return rc;
}

int pred_open(pred **out, const pred_cfg *c, params *p, const char *prefix, jepa_err *err) {
    *out = NULL;
    int rc = pred_cfg_check(c, err);
    if (rc < 0) return rc;
    pred *e = mem_alloc(1, sizeof *e);
    if (!e || !(e->b = mem_alloc((size_t)c->depth, sizeof *e->b)) || !(e->mask = mem_alloc((size_t)c->num_mask_tokens, sizeof *e->mask))) {
        rc = err_set(err, JEPA_E_MEMORY, "predictor: no memory for %d blocks", c->depth);
        goto fail;
    }
    e->c = *c;
    e->bc = (block_cfg){c->predictor_embed_dim, c->num_heads, (int)floor(c->predictor_embed_dim * c->mlp_ratio), c->layer_norm_eps};
    e->p = p;
    if ((rc = add_all(e, prefix, err)) < 0) goto fail;
    *out = e;
    return 0;
fail:
    pred_close(&e);
    return rc;
}

static void unpack(pred *e, queue *q) {
    if (!e->packs) return;
    for (int i = 0; i < e->c.depth; i++) block_unpack(&e->b[i], q, e->packs);
    if (e->embed_p) e->packs->linear_unpack(q, &e->embed_p);
    if (e->proj_p) e->packs->linear_unpack(q, &e->proj_p);
    e->embed_p = e->proj_p = NULL;
    e->packs = NULL;
}

void pred_close(pred **e) {
    if (!e || !*e) return;
    unpack(*e, NULL);
    mem_free((*e)->b);
    mem_free((*e)->mask);
    mem_free(*e);
    *e = NULL;
}

const pred_cfg *pred_config(const pred *e) { return &e->c; }

int pred_pack(pred *e, queue *q, jepa_err *err) {
    if (!e->p->value.p) return err_set(err, JEPA_E_USE, "predictor: the parameters are not allocated yet (params_alloc)");
    unpack(e, q);
    e->packs = dev_ops(queue_dev(q));
    int rc = e->packs->linear_pack(q, &e->embed_p, param_value(e->p, e->embed_w), e->c.predictor_embed_dim, e->c.embed_dim);
    for (int i = 0; i < e->c.depth && !rc; i++) rc = block_pack(&e->b[i], &e->bc, q, e->p);
    if (!rc) rc = e->packs->linear_pack(q, &e->proj_p, param_value(e->p, e->proj_w), e->c.out_dim, e->c.predictor_embed_dim);
    if (rc < 0) {
        unpack(e, q);
        return err_set(err, rc, "predictor: packing the weights for %s failed (code %d)", dev_name(queue_dev(q)), rc);
    }
    return 0;
}

int pred_init(const pred *e, queue *q, double sd, uint64_t seed, jepa_err *err) {
    int rc = init_check(e->p, sd, err);
    if (!rc) rc = init_normal(q, e->p, e->embed_w, sd, 1, seed, err);
    if (!rc) rc = init_fill(q, e->p, e->embed_b, 0, err);
    for (int i = 0; i < e->c.num_mask_tokens && !rc; i++) rc = init_fill(q, e->p, e->mask[i], 0, err);
    for (int i = 0; i < e->c.depth && !rc; i++) rc = block_init(&e->b[i], q, e->p, i + 1, sd, seed, err);
    if (!rc) rc = init_fill(q, e->p, e->norm_w, 1, err);
    if (!rc) rc = init_fill(q, e->p, e->norm_b, 0, err);
    if (!rc) rc = init_normal(q, e->p, e->proj_w, sd, 1, seed, err);
    if (!rc) rc = init_fill(q, e->p, e->proj_b, 0, err);
    return rc;
}

/* ---- working memory ---- */

struct pred_acts {
    buf mem;
    pred_cfg c;   /* of the predictor it was made for */
    int64_t rows; /* batch·(context + target) it has room for */
    stack_acts s;
    float *pos, *cs;     /* [n,3], [n,2,head_dim] */
    float *out, *normed; /* [m,P] rows that are projected, before and after the norm; without keep both in s.tmp */
    float *mean, *rstd;  /* of that norm */
    float *dstream;      /* [n,P] */
    float *pos_host;
    block_run run; /* of the last forward */
    const float *z;
    int64_t n_context, first, count; /* rows first … first+count-1 of each item were projected */
    int mask;                        /* parameter index of the token in use */
    int ready;                       /* a backward may follow */
};

/* The one list: measures, plans or cuts up, whatever mem and plan are. */
static void layout(const pred_cfg *c, int64_t rows, int keep, recompute level, pred_acts *a, arena *mem, mem_plan *plan) {
    const block_cfg bc = {c->predictor_embed_dim, c->num_heads, (int)floor(c->predictor_embed_dim * c->mlp_ratio), c->layer_norm_eps};
    const size_t n = (size_t)rows, hd = (size_t)(bc.dim / bc.num_heads);
    size_t mark = arena_mark(mem), stream, tables;
    if (rows < 1 || size_mul(n, (size_t)bc.dim, &stream) || size_mul(n, 2 * hd, &tables)) {
        mem->overflow = 1;
        return;
    }
    a->pos = arena_get(mem, n, 3 * sizeof(float));
    a->cs = arena_get(mem, tables, sizeof(float));
    mark = plan_part(plan, "rotary tables", mem, mark);
    if (keep) {
        a->mean = arena_get(mem, n, sizeof(float));
        a->rstd = arena_get(mem, n, sizeof(float));
        a->out = arena_get(mem, stream, sizeof(float));
        a->normed = arena_get(mem, stream, sizeof(float));
        mark = plan_part(plan, "predicted rows", mem, mark);
        a->dstream = arena_get(mem, stream, sizeof(float));
        plan_part(plan, "gradient of the stream", mem, mark);
    }
    stack_acts_get(&a->s, &bc, c->depth, rows, keep, level, 0, mem, plan);
    if (!keep) a->out = a->normed = a->s.tmp;
}

static int measure(const pred_cfg *c, int64_t rows, int keep, recompute level, size_t *bytes, mem_plan *plan) {
    pred_acts a = {.rows = rows};
    arena mem;
    arena_open(&mem, 0, NULL);
    layout(c, rows, keep, level, &a, &mem, plan);
    *bytes = mem.used;
    return mem.overflow ? JEPA_E_MEMORY : 0;
}

static int shape_rows(const pred_shape *s, int64_t *rows, jepa_err *err) {
    const int64_t most = INT32_MAX;
    if (s->batch < 1 || s->batch > most || s->context < 1 || s->context > most || s->target < 1 || s->target > most || s->rows < 0 ||
        s->rows > 2 * most || (s->level != RECOMPUTE_NONE && s->level != RECOMPUTE_MLP && s->level != RECOMPUTE_BLOCK))
        return err_set(err, JEPA_E_USE,
                       "predictor working memory: batch %lld of %lld context and %lld target tokens (together %lld) at recompute level %d "
                       "cannot be",
                       (long long)s->batch, (long long)s->context, (long long)s->target, (long long)s->rows, (int)s->level);
    *rows = s->batch * (s->rows ? s->rows : s->context + s->target);
    return 0;
}

size_t pred_acts_bytes(const pred *e, const pred_shape *s) {
    int64_t rows;
    size_t bytes;
    return shape_rows(s, &rows, NULL) < 0 || measure(&e->c, rows, s->keep_for_backward, s->level, &bytes, NULL) < 0 ? 0 : bytes;
}

void pred_acts_plan(const pred *e, const pred_shape *s, char *text, size_t size) {
    mem_plan plan = {.n = 0};
    jepa_err err = {0};
    int64_t rows;
    size_t bytes;
    int rc = shape_rows(s, &rows, &err);
    if (!rc) rc = measure(&e->c, rows, s->keep_for_backward, s->level, &bytes, &plan);
    if (rc < 0)
        snprintf(text, size, "%s\n", err.code ? err.text : "does not fit in any memory");
    else
        plan_text(&plan, "\n", text, size);
}

static int no_memory(const pred *e, const pred_shape *s, int64_t rows, jepa_err *err) {
    mem_plan plan = {.n = 0};
    char parts[256], sum[32], less[96] = "";
    size_t bytes, other;
    if (measure(&e->c, rows, s->keep_for_backward, s->level, &bytes, &plan) < 0)
        return err_set(err, JEPA_E_MEMORY, "predictor working memory for %lld tokens does not fit in any memory", (long long)rows);
    plan_text(&plan, ", ", parts, sizeof parts);
    plan_size(sum, bytes);
    if (s->keep_for_backward && s->level != RECOMPUTE_BLOCK && !measure(&e->c, rows, 1, RECOMPUTE_BLOCK, &other, NULL)) {
        char amount[32];
        plan_size(amount, other);
        snprintf(less, sizeof less, "recompute 2 (whole blocks) needs %s; ", amount);
    }
    return err_set(
        err, JEPA_E_MEMORY,
        "predictor working memory for %lld tokens needs %s (%s) and there is no room: %sa smaller batch or fewer tokens need less",
        (long long)rows, sum, parts, less);
}

int pred_acts_open(pred_acts **out, const pred *e, dev *d, const pred_shape *s, jepa_err *err) {
    int64_t rows;
    size_t bytes;
    *out = NULL;
    int rc = shape_rows(s, &rows, err);
    if (rc < 0) return rc;
    if (measure(&e->c, rows, s->keep_for_backward, s->level, &bytes, NULL) < 0) return no_memory(e, s, rows, err);
    pred_acts *a = mem_alloc(1, sizeof *a);
    if (!a) return no_memory(e, s, rows, err);
    a->c = e->c;
    a->rows = rows;
    if (s->keep_for_backward) a->s.kept = mem_alloc((size_t)e->c.depth, sizeof *a->s.kept);
    block_acts *kept = a->s.kept;
    /* the large one first: what does not fit is known before anything else is touched */
    if ((s->keep_for_backward && !kept) || buf_new(&a->mem, d, bytes, NULL) < 0 ||
        !(a->pos_host = mem_alloc((size_t)rows, 3 * sizeof(float)))) {
        pred_acts_close(&a);
        return no_memory(e, s, rows, err);
    }
    arena mem = {.base = a->mem.p, .size = bytes};
    layout(&e->c, rows, s->keep_for_backward, s->level, a, &mem, NULL);
    *out = a;
    return 0;
}

void pred_acts_close(pred_acts **a) {
    if (!a || !*a) return;
    buf_free(&(*a)->mem);
    mem_free((*a)->s.kept);
    mem_free((*a)->pos_host);
    mem_free(*a);
    *a = NULL;
}

/* ---- forward ---- */

static int check_input(const pred *e, queue *q, const pred_in *in, const pred_acts *a, const float *out, jepa_err *err) {
    const pred_cfg *c = &e->c, *m = &a->c;
    if (!e->p->value.p) return err_set(err, JEPA_E_USE, "predictor: the parameters are not allocated yet (params_alloc)");
    if (a->mem.d != queue_dev(q) || e->p->value.d != queue_dev(q))
        return err_set(err, JEPA_E_USE, "predictor: queue, parameters and working memory belong to different devices");
    if (m->predictor_embed_dim != c->predictor_embed_dim || m->depth != c->depth || m->num_heads != c->num_heads ||
        m->mlp_ratio != c->mlp_ratio)
        return err_set(err, JEPA_E_USE, "predictor: the working memory was made for a predictor of another size");
    if (!in->z || !in->context || !in->target || !out)
        return err_set(err, JEPA_E_USE, "predictor: tokens, an index list or the place for predictions is missing");
    if (in->batch < 1 || in->n_context < 1 || in->n_target < 1 || in->n_context > INT32_MAX || in->n_target > INT32_MAX)
        return err_set(err, JEPA_E_USE, "predictor: batch %lld of %lld context and %lld target tokens; at least one of each",
                       (long long)in->batch, (long long)in->n_context, (long long)in->n_target);
    if (in->batch > a->rows / (in->n_context + in->n_target))
        return err_set(err, JEPA_E_USE, "predictor: %lld x (%lld + %lld) tokens, and the working memory has room for %lld",
                       (long long)in->batch, (long long)in->n_context, (long long)in->n_target, (long long)a->rows);
    return 0;
}

static int failed_op(jepa_err *err, int rc, queue *q, const char *what) {
    return err_set(err, rc, "predictor: %s failed on %s (code %d)", what, dev_name(queue_dev(q)), rc);
}

static int failed_block(jepa_err *err, int rc, queue *q, const pred *e, int at, int64_t n) {
    return err_set(err, rc, "predictor: block %d of width %d, head dim %d failed on %s for %lld tokens (code %d)", at, e->bc.dim,
                   e->bc.dim / e->bc.num_heads, dev_name(queue_dev(q)), (long long)n, rc);
}

/* The rotary table of context and target rows into a->cs: one for all items, or one each where their lists differ. */
static int place(const pred *e, queue *q, const pred_in *in, pred_acts *a, jepa_err *err) {
    const int64_t k = in->n_context, m = in->n_target, n = k + m;
    int64_t tables = 1;
    int rc = 0;
    for (int64_t i = 1; tables == 1 && i < in->batch; i++)
        if (memcmp(in->context, in->context + i * k, (size_t)k * sizeof *in->context) ||
            memcmp(in->target, in->target + i * m, (size_t)m * sizeof *in->target))
            tables = in->batch;
    for (int64_t i = 0; i < tables && !rc; i++) {
        float *pos = a->pos_host + 3 * i * n;
        if ((rc = pos_fill(&in->grid, in->context + i * k, k, pos, err)) < 0)
            err_prefix(err, rc, "predictor: context of item %lld", (long long)i);
        else if ((rc = pos_fill(&in->grid, in->target + i * m, m, pos + 3 * k, err)) < 0)
            err_prefix(err, rc, "predictor: target of item %lld", (long long)i);
    }
    if (rc < 0) return rc;
    if ((rc = buf_put(q, a->pos, a->pos_host, (size_t)(tables * n) * 3 * sizeof(float), err)) < 0) return rc;
    const op_rope_table table = {.n = tables * n, .head_dim = e->bc.dim / e->bc.num_heads, .kind = ROPE_TILED, .pos = a->pos, .cs = a->cs};
    if ((rc = dev_ops(queue_dev(q))->rope_table(q, &table)) < 0) return failed_op(err, rc, q, "the rotary table");
    a->run = (block_run){.batch = in->batch, .tokens = n, .cs = a->cs, .cs_per_batch = tables > 1};
    return 0;
}

/* Rows first … first+count-1 of each item of the last stream → norm → projection. */
static int project(const pred *e, queue *q, pred_acts *a, float *out, jepa_err *err) {
    const ops *o = dev_ops(queue_dev(q));
    const int64_t w = e->bc.dim, rows = a->run.batch * a->count;
    int rc = o->copy_rows(q, &(op_rows){.batch = a->run.batch,
                                        .n_src = a->run.tokens,
                                        .n_dst = a->count,
                                        .d = w,
                                        .src = a->s.last,
                                        .src_off = a->first,
                                        .dst = a->out,
                                        .count = a->count});
    if (rc < 0) return failed_op(err, rc, q, "taking the target rows");
    rc = o->layernorm(q, &(op_layernorm){.rows = rows,
                                         .d = w,
                                         .eps = e->c.layer_norm_eps,
                                         .x = a->out,
                                         .w = param_value(e->p, e->norm_w),
                                         .b = param_value(e->p, e->norm_b),
                                         .y = a->normed,
                                         .mean = a->mean,
                                         .rstd = a->rstd});
    if (rc < 0) return failed_op(err, rc, q, "the final norm");
    rc = o->linear(q, &(op_linear){.rows = rows,
                                   .in = w,
                                   .out = e->c.out_dim,
                                   .x = a->normed,
                                   .w = param_value(e->p, e->proj_w),
                                   .pw = a->s.keep ? NULL : e->proj_p,
                                   .b = param_value(e->p, e->proj_b),
                                   .y = out});
    return rc < 0 ? failed_op(err, rc, q, "the projection") : 0;
}

static int forward(const pred *e, queue *q, const pred_in *in, pred_acts *a, int all, float *out, jepa_err *err) {
    const ops *o = dev_ops(queue_dev(q));
    int rc = check_input(e, q, in, a, out, err), where = 0;
    if (rc < 0) return rc;
    a->ready = 0;
    if ((rc = place(e, q, in, a, err)) < 0) return rc;
    const int64_t k = in->n_context, n = a->run.tokens, w = e->bc.dim;
    const int tokens = e->c.num_mask_tokens;
    a->z = in->z;
    a->n_context = k;
    a->first = all ? 0 : k;
    a->count = n - a->first;
    a->mask = e->mask[(in->mask_token % tokens + tokens) % tokens];
    rc = o->linear(q, &(op_linear){.rows = in->batch * k,
                                   .in = e->c.embed_dim,
                                   .out = w,
                                   .x = in->z,
                                   .w = param_value(e->p, e->embed_w),
                                   .pw = a->s.keep ? NULL : e->embed_p,
                                   .b = param_value(e->p, e->embed_b),
                                   .y = a->s.tmp});
    if (rc < 0) return failed_op(err, rc, q, "the embedding");
    rc = o->copy_rows(q,
                      &(op_rows){.batch = in->batch, .n_src = k, .n_dst = n, .d = w, .src = a->s.tmp, .dst = stack_in(&a->s), .count = k});
    if (rc < 0) return failed_op(err, rc, q, "placing the context rows");
    rc = o->broadcast_row(q, &(op_rows){.batch = in->batch,
                                        .n_src = 1,
                                        .n_dst = n,
                                        .d = w,
                                        .src = param_value(e->p, a->mask),
                                        .dst = stack_in(&a->s),
                                        .dst_off = k,
                                        .count = in->n_target});
    if (rc < 0) return failed_op(err, rc, q, "placing the mask token");
    rc = stack_forward(q, &e->bc, e->b, e->p, &a->run, &a->s, 0, e->c.depth, &where);
    if (rc < 0) return failed_block(err, rc, q, e, where, in->batch * n);
    if ((rc = project(e, q, a, out, err)) < 0) return rc;
    a->ready = a->s.keep;
    return 0;
}

int pred_forward(const pred *e, queue *q, const pred_in *in, pred_acts *a, float *predicted, jepa_err *err) {
    return forward(e, q, in, a, 0, predicted, err);
}

int pred_forward_all(const pred *e, queue *q, const pred_in *in, pred_acts *a, float *all, jepa_err *err) {
    return forward(e, q, in, a, 1, all, err);
}

/* ---- backward ---- */

/* Gradient of the projected rows → a->dstream, zero elsewhere. */
static int project_backward(const pred *e, queue *q, pred_acts *a, const float *dout, jepa_err *err) {
    const ops *o = dev_ops(queue_dev(q));
    const int64_t w = e->bc.dim, rows = a->run.batch * a->count;
    float *dx = a->s.tmp;
    int rc = o->linear_bwd(q, &(op_linear_bwd){.rows = rows,
                                               .in = w,
                                               .out = e->c.out_dim,
                                               .dy = dout,
                                               .x = a->normed,
                                               .w = param_value(e->p, e->proj_w),
                                               .dx = dx,
                                               .dw = param_grad(e->p, e->proj_w),
                                               .db = param_grad(e->p, e->proj_b)});
    if (rc < 0) return failed_op(err, rc, q, "backward of the projection");
    rc = o->layernorm_bwd(q, &(op_layernorm_bwd){.rows = rows,
                                                 .d = w,
                                                 .dy = dx,
                                                 .x = a->out,
                                                 .w = param_value(e->p, e->norm_w),
                                                 .mean = a->mean,
                                                 .rstd = a->rstd,
                                                 .dx = dx,
                                                 .dw = param_grad(e->p, e->norm_w),
                                                 .db = param_grad(e->p, e->norm_b)});
    if (rc < 0) return failed_op(err, rc, q, "backward of the final norm");
    rc = o->zero(q, a->dstream, (size_t)(a->run.batch * a->run.tokens * w) * sizeof(float));
    if (!rc)
        rc = o->copy_rows(q, &(op_rows){.batch = a->run.batch,
                                        .n_src = a->count,
                                        .n_dst = a->run.tokens,
                                        .d = w,
                                        .src = dx,
                                        .dst = a->dstream,
                                        .dst_off = a->first,
                                        .count = a->count});
    return rc < 0 ? failed_op(err, rc, q, "placing the gradient of the predicted rows") : 0;
}

/* a->dstream, now the gradient of the sequence → mask token, embedding, dz. */
static int embed_backward(const pred *e, queue *q, pred_acts *a, float *dz, jepa_err *err) {
    const ops *o = dev_ops(queue_dev(q));
    const int64_t k = a->n_context, n = a->run.tokens, w = e->bc.dim, d = e->c.embed_dim, rows = a->run.batch * k;
    float *dx = a->s.tmp;
    int rc = o->sum_rows(q, &(op_rows){.batch = a->run.batch,
                                       .n_src = n,
                                       .n_dst = 1,
                                       .d = w,
                                       .src = a->dstream,
                                       .src_off = k,
                                       .dst = param_grad(e->p, a->mask),
                                       .count = n - k});
    if (rc < 0) return failed_op(err, rc, q, "the gradient of the mask token");
    rc = o->copy_rows(q, &(op_rows){.batch = a->run.batch, .n_src = n, .n_dst = k, .d = w, .src = a->dstream, .dst = dx, .count = k});
    /* the weight first: dz may lie where z lay */
    if (!rc)
        rc = o->linear_bwd(q, &(op_linear_bwd){.rows = rows,
                                               .in = d,
                                               .out = w,
                                               .dy = dx,
                                               .x = a->z,
                                               .dw = param_grad(e->p, e->embed_w),
                                               .db = param_grad(e->p, e->embed_b)});
    if (!rc && dz)
        rc = o->linear_bwd(q, &(op_linear_bwd){.rows = rows, .in = d, .out = w, .dy = dx, .w = param_value(e->p, e->embed_w), .dx = dz});
    return rc < 0 ? failed_op(err, rc, q, "backward of the embedding") : 0;
}

int pred_backward(const pred *e, queue *q, pred_acts *a, float *dpredicted, float *dz, jepa_err *err) {
    if (!a->ready)
        return err_set(err, JEPA_E_USE, "predictor: backward follows one forward with keep_for_backward on the same working memory, once");
    if (!e->p->grad.p) return err_set(err, JEPA_E_USE, "predictor: the parameters have no gradients (params_alloc with PARAMS_GRAD)");
    if (a->mem.d != queue_dev(q) || e->p->grad.d != queue_dev(q) || !dpredicted)
        return err_set(err, JEPA_E_USE, "predictor: backward without a gradient, or on another device");
    a->ready = 0;
    int where = 0, rc = project_backward(e, q, a, dpredicted, err);
    if (rc < 0) return rc;
    rc = stack_backward(q, &e->bc, e->b, e->p, &a->run, &a->s, a->dstream, &where);
    if (rc < 0) return failed_block(err, rc, q, e, where, a->run.batch * a->run.tokens);
    return embed_backward(e, q, a, dz, err);
}
