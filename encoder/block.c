/* block.c: one pre-norm transformer block: names of its weights, its activations, forward and backward. */
#include "encoder/block.h"

#include <stdio.h>
#include <string.h>

/* ---- weights ---- */

static int add(params *p, jepa_err *err, const char *prefix, const char *name, int rank, int64_t d0, int64_t d1, int *index) {
    char full[128];
    int k = snprintf(full, sizeof full, "%s%s", prefix, name);
    if (k < 0 || (size_t)k >= sizeof full) return err_set(err, JEPA_E_USE, "parameter name too long: %s%s", prefix, name);
    int i = params_add(p, err, full, rank, (int64_t[]){d0, d1});
    if (i < 0) return i;
    *index = i;
    return 0;
}

int block_params(block *b, const block_cfg *c, params *p, const char *prefix, jepa_err *err) {
    const int64_t d = c->dim, h = c->hidden;
    const struct {
        const char *name;
        int rank;
        int64_t d0, d1;
        int *index;
    } list[] = {
        {"norm1.weight", 1, d, 0, &b->norm1_w},    {"norm1.bias", 1, d, 0, &b->norm1_b},      {"attn.qkv.weight", 2, 3 * d, d, &b->qkv_w},
        {"attn.qkv.bias", 1, 3 * d, 0, &b->qkv_b}, {"attn.proj.weight", 2, d, d, &b->proj_w}, {"attn.proj.bias", 1, d, 0, &b->proj_b},
        {"norm2.weight", 1, d, 0, &b->norm2_w},    {"norm2.bias", 1, d, 0, &b->norm2_b},      {"mlp.fc1.weight", 2, h, d, &b->fc1_w},
        {"mlp.fc1.bias", 1, h, 0, &b->fc1_b},      {"mlp.fc2.weight", 2, d, h, &b->fc2_w},    {"mlp.fc2.bias", 1, d, 0, &b->fc2_b},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        int rc = add(p, err, prefix, list[i].name, list[i].rank, list[i].d0, list[i].d1, list[i].index);
        if (rc < 0) return rc;
        if (list[i].rank == 2) p->item[*list[i].index].flags |= PARAM_PRODUCT;
    }
    return 0;
}

/* ---- activations ---- */

act_rows act_rows_get(arena *mem, dtype type, int64_t rows, int64_t width) {
    act_rows a = {NULL, NULL};
    size_t k;
    if (rows < 0 || width < 0 || size_mul((size_t)rows, (size_t)width, &k)) {
        mem->overflow = 1;
        return a;
    }
    if (type == T_BF16)
        a.h = arena_get(mem, k, sizeof *a.h);
    else
        a.f = arena_get(mem, k, sizeof *a.f);
    return a;
}

static float *floats(arena *mem, int64_t rows, int64_t width) { return act_rows_get(mem, T_F32, rows, width).f; }

static int64_t all_rows(arena *mem, int64_t batch, int64_t tokens) {
    size_t n;
    if (batch < 0 || tokens < 0 || size_mul((size_t)batch, (size_t)tokens, &n) || n > INT64_MAX) {
        mem->overflow = 1;
        return 0;
    }
    return (int64_t)n;
}

static int there(act_rows a) { return a.f || a.h; }

/* The same rows from column `at` of the first on. */
static act_rows from(act_rows a, int64_t at) { return (act_rows){a.f ? a.f + at : NULL, a.h ? a.h + at : NULL}; }

/* Inference: LN1 and LN2 share one array with the attention output, qkv shares one with the MLP's. n·(D + max(3D, hidden)). */
static void inference_get(block_acts *a, const block_cfg *c, int64_t n, arena *mem) {
    int64_t wide = 3 * (int64_t)c->dim > c->hidden ? 3 * (int64_t)c->dim : c->hidden;
    a->ln1 = a->ln2 = a->att = act_rows_get(mem, c->type, n, c->dim);
    a->qkv = a->act = act_rows_get(mem, c->type, n, wide);
}

/* All but x; ln1 and ln2 in one array where both are computed again just before their use. */
static void attention_get(block_acts *a, const block_cfg *c, int64_t n, arena *mem) {
    a->mean1 = floats(mem, n, 1);
    a->rstd1 = floats(mem, n, 1);
    a->qkv = act_rows_get(mem, c->type, n, 3 * (int64_t)c->dim);
    a->att = act_rows_get(mem, c->type, n, c->dim);
    a->lse = floats(mem, n, c->num_heads);
    a->mid = floats(mem, n, c->dim);
    a->mean2 = floats(mem, n, 1);
    a->rstd2 = floats(mem, n, 1);
}

static void mlp_get(block_acts *a, const block_cfg *c, int64_t n, int shared, arena *mem) {
    a->ln1 = act_rows_get(mem, c->type, n, c->dim);
    a->ln2 = shared ? a->ln1 : act_rows_get(mem, c->type, n, c->dim);
    a->pre = act_rows_get(mem, c->type, n, c->hidden);
}

void block_acts_get(block_acts *a, const block_cfg *c, int64_t batch, int64_t tokens, int kept, recompute level, arena *mem) {
    const int64_t n = all_rows(mem, batch, tokens);
    memset(a, 0, sizeof *a);
    a->level = level;
    if (!kept) {
        inference_get(a, c, n, mem);
        return;
    }
    a->x = floats(mem, n, c->dim);
    if (level != RECOMPUTE_BLOCK) attention_get(a, c, n, mem);
    if (level == RECOMPUTE_NONE) mlp_get(a, c, n, 0, mem);
}

void block_work_get(block_acts *work, const block_cfg *c, int64_t batch, int64_t tokens, recompute level, arena *mem) {
    const int64_t n = all_rows(mem, batch, tokens);
    memset(work, 0, sizeof *work);
    work->level = level;
    work->act = act_rows_get(mem, c->type, n, c->hidden);
    if (level == RECOMPUTE_BLOCK) attention_get(work, c, n, mem);
    if (level != RECOMPUTE_NONE) mlp_get(work, c, n, 1, mem);
}

block_acts block_acts_join(const block_acts *kept, const block_acts *work) {
    block_acts a = *kept;
    if (!a.mean1) {
        a.mean1 = work->mean1, a.rstd1 = work->rstd1, a.qkv = work->qkv, a.att = work->att, a.lse = work->lse;
        a.mid = work->mid, a.mean2 = work->mean2, a.rstd2 = work->rstd2;
    }
    if (!there(a.pre)) a.ln1 = work->ln1, a.ln2 = work->ln2, a.pre = work->pre;
    a.act = work->act;
    return a;
}

/* one [n,D] and one [n,3D] */
size_t block_scratch(const block_cfg *c, int64_t batch, int64_t tokens) {
    size_t n, k;
    if (batch < 0 || tokens < 0 || size_mul((size_t)batch, (size_t)tokens, &n) || size_mul(n, 4 * (size_t)c->dim, &k)) return 0;
    return k;
}

/* ---- forward, in the pieces that backward may run again ---- */

typedef struct pass { /* one call's arguments */
    queue *q;
    const ops *o;
    const block_cfg *c;
    const block *b;
    const params *p;
    const block_run *run;
    const block_acts *a;
    int64_t n;
} pass;

static param_form weight_of(const pass *s, int i) { return param_weight(s->p, i, s->c->type == T_BF16); }

static int norm(const pass *s, const float *x, int w, int b, act_rows y, float *mean, float *rstd) {
    return s->o->layernorm(s->q, &(op_layernorm){.rows = s->n,
                                                 .d = s->c->dim,
                                                 .eps = s->c->eps,
                                                 .x = x,
                                                 .w = param_value(s->p, w),
                                                 .b = param_value(s->p, b),
                                                 .y = y.f,
                                                 .y16 = y.h,
                                                 .mean = mean,
                                                 .rstd = rstd});
}

/* ln1, qkv, att, then mid = x + proj(att) */
static int forward_attention(const pass *s, const float *x, float *mid) {
    const block_acts *a = s->a;
    const block *b = s->b;
    const int64_t d = s->c->dim, hd = d / s->c->num_heads;
    const act_rows k = from(a->qkv, d), v = from(a->qkv, 2 * d);
    param_form w = weight_of(s, b->qkv_w);
    int rc = norm(s, x, b->norm1_w, b->norm1_b, a->ln1, a->mean1, a->rstd1);
    if (!rc)
        rc = s->o->linear(s->q, &(op_linear){.rows = s->n,
                                             .in = d,
                                             .out = 3 * d,
                                             .x = a->ln1.f,
                                             .x16 = a->ln1.h,
                                             .w = w.w,
                                             .w16 = w.w16,
                                             .b = param_value(s->p, b->qkv_b),
                                             .y = a->qkv.f,
                                             .y16 = a->qkv.h});
    if (!rc)
        rc = s->o->attention(s->q, &(op_attention){.batch = s->run->batch,
                                                   .heads = s->c->num_heads,
                                                   .nq = s->run->tokens,
                                                   .nk = s->run->tokens,
                                                   .head_dim = hd,
                                                   .q = a->qkv.f,
                                                   .k = k.f,
                                                   .v = v.f,
                                                   .o = a->att.f,
                                                   .q16 = a->qkv.h,
                                                   .k16 = k.h,
                                                   .v16 = v.h,
                                                   .o16 = a->att.h,
                                                   .ldq = 3 * d,
                                                   .ldk = 3 * d,
                                                   .ldv = 3 * d,
                                                   .ldo = d,
                                                   .cs = s->run->cs,
                                                   .cs_per_batch = s->run->cs_per_batch,
                                                   .lse = a->lse,
                                                   .block = s->run->causal_block});
    w = weight_of(s, b->proj_w);
    if (!rc)
        rc = s->o->linear(s->q, &(op_linear){.rows = s->n,
                                             .in = d,
                                             .out = d,
                                             .x = a->att.f,
                                             .x16 = a->att.h,
                                             .w = w.w,
                                             .w16 = w.w16,
                                             .b = param_value(s->p, b->proj_b),
                                             .r = x,
                                             .y = mid});
    return rc;
}

/* ln2 and pre, and with `whole` act; backward needs no more than the two. */
static int forward_fc1(const pass *s, const float *mid, int whole) {
    const block_acts *a = s->a;
    const block *b = s->b;
    const act_rows y = whole ? a->act : a->pre, none = {NULL, NULL}, pre = whole ? a->pre : none;
    const param_form w = weight_of(s, b->fc1_w);
    int rc = norm(s, mid, b->norm2_w, b->norm2_b, a->ln2, a->mean2, a->rstd2);
    if (!rc)
        rc = s->o->linear(s->q, &(op_linear){.rows = s->n,
                                             .in = s->c->dim,
                                             .out = s->c->hidden,
                                             .x = a->ln2.f,
                                             .x16 = a->ln2.h,
                                             .w = w.w,
                                             .w16 = w.w16,
                                             .b = param_value(s->p, b->fc1_b),
                                             .y = y.f,
                                             .y16 = y.h,
                                             .pre = pre.f,
                                             .pre16 = pre.h,
                                             .act = whole ? ACT_GELU : ACT_NONE});
    return rc;
}

int block_forward(queue *q, const block_cfg *c, const block *b, const params *p, const block_run *run, const block_acts *a, const float *x,
                  float *y) {
    if (a->x && (a->x != x || y == x)) return JEPA_E_USE;
    const pass s = {q, dev_ops(queue_dev(q)), c, b, p, run, a, run->batch * run->tokens};
    const param_form w = weight_of(&s, b->fc2_w);
    float *mid = a->x ? a->mid : y;
    int rc = forward_attention(&s, x, mid);
    if (!rc) rc = forward_fc1(&s, mid, 1);
    if (!rc)
        rc = s.o->linear(q, &(op_linear){.rows = s.n,
                                         .in = c->hidden,
                                         .out = c->dim,
                                         .x = a->act.f,
                                         .x16 = a->act.h,
                                         .w = w.w,
                                         .w16 = w.w16,
                                         .b = param_value(p, b->fc2_b),
                                         .r = mid,
                                         .y = y});
    return rc;
}

/* ---- backward: the halves in reverse ---- */

/* dx += the gradient of x, dy being that of norm(x) */
static int norm_bwd(const pass *s, params *p, act_rows dy, const float *x, int w, int b, const float *mean, const float *rstd, float *dx) {
    return s->o->layernorm_bwd(s->q, &(op_layernorm_bwd){.rows = s->n,
                                                         .d = s->c->dim,
                                                         .dy = dy.f,
                                                         .dy16 = dy.h,
                                                         .x = x,
                                                         .w = param_value(p, w),
                                                         .mean = mean,
                                                         .rstd = rstd,
                                                         .dx = dx,
                                                         .add = 1,
                                                         .dw = param_grad(p, w),
                                                         .db = param_grad(p, b)});
}

/* In: dx = gradient of y. Out: dx = gradient of mid. */
static int backward_mlp(const pass *s, params *p, float *dx, act_rows dln) {
    const block_acts *a = s->a;
    const block *b = s->b;
    const int64_t d = s->c->dim, h = s->c->hidden;
    param_form w = weight_of(s, b->fc2_w);
    int rc = s->o->linear_bwd(s->q, &(op_linear_bwd){.rows = s->n,
                                                     .in = h,
                                                     .out = d,
                                                     .dy = dx,
                                                     .x = a->pre.f,
                                                     .x16 = a->pre.h,
                                                     .x_act = ACT_GELU,
                                                     .w = w.w,
                                                     .w16 = w.w16,
                                                     .dx = a->act.f,
                                                     .dx16 = a->act.h,
                                                     .pre = a->pre.f,
                                                     .pre16 = a->pre.h,
                                                     .dw = param_grad(p, b->fc2_w),
                                                     .db = param_grad(p, b->fc2_b)});
    w = weight_of(s, b->fc1_w);
    if (!rc)
        rc = s->o->linear_bwd(s->q, &(op_linear_bwd){.rows = s->n,
                                                     .in = d,
                                                     .out = h,
                                                     .dy = a->act.f,
                                                     .dy16 = a->act.h,
                                                     .x = a->ln2.f,
                                                     .x16 = a->ln2.h,
                                                     .w = w.w,
                                                     .w16 = w.w16,
                                                     .dx = dln.f,
                                                     .dx16 = dln.h,
                                                     .dw = param_grad(p, b->fc1_w),
                                                     .db = param_grad(p, b->fc1_b)});
    return rc ? rc : norm_bwd(s, p, dln, a->mid, b->norm2_w, b->norm2_b, a->mean2, a->rstd2, dx);
}

/* In: dx = gradient of mid. Out: dx = gradient of x. */
static int backward_attention(const pass *s, params *p, float *dx, act_rows dln, act_rows dqkv) {
    const block_acts *a = s->a;
    const block *b = s->b;
    const int64_t d = s->c->dim;
    const act_rows k = from(a->qkv, d), v = from(a->qkv, 2 * d), dk = from(dqkv, d), dv = from(dqkv, 2 * d);
    param_form w = weight_of(s, b->proj_w);
    int rc = s->o->linear_bwd(s->q, &(op_linear_bwd){.rows = s->n,
                                                     .in = d,
                                                     .out = d,
                                                     .dy = dx,
                                                     .x = a->att.f,
                                                     .x16 = a->att.h,
                                                     .w = w.w,
                                                     .w16 = w.w16,
                                                     .dx = dln.f,
                                                     .dx16 = dln.h,
                                                     .dw = param_grad(p, b->proj_w),
                                                     .db = param_grad(p, b->proj_b)});
    if (!rc)
        rc = s->o->attention_bwd(s->q, &(op_attention_bwd){.batch = s->run->batch,
                                                           .heads = s->c->num_heads,
                                                           .nq = s->run->tokens,
                                                           .nk = s->run->tokens,
                                                           .head_dim = d / s->c->num_heads,
                                                           .q = a->qkv.f,
                                                           .k = k.f,
                                                           .v = v.f,
                                                           .o = a->att.f,
                                                           .dout = dln.f,
                                                           .q16 = a->qkv.h,
                                                           .k16 = k.h,
                                                           .v16 = v.h,
                                                           .o16 = a->att.h,
                                                           .dout16 = dln.h,
                                                           .lse = a->lse,
                                                           .ldq = 3 * d,
                                                           .ldk = 3 * d,
                                                           .ldv = 3 * d,
                                                           .ldo = d,
                                                           .lddo = d,
                                                           .dq = dqkv.f,
                                                           .dk = dk.f,
                                                           .dv = dv.f,
                                                           .dq16 = dqkv.h,
                                                           .dk16 = dk.h,
                                                           .dv16 = dv.h,
                                                           .lddq = 3 * d,
                                                           .lddk = 3 * d,
                                                           .lddv = 3 * d,
                                                           .cs = s->run->cs,
                                                           .cs_per_batch = s->run->cs_per_batch,
                                                           .block = s->run->causal_block});
    w = weight_of(s, b->qkv_w);
    if (!rc)
        rc = s->o->linear_bwd(s->q, &(op_linear_bwd){.rows = s->n,
                                                     .in = d,
                                                     .out = 3 * d,
                                                     .dy = dqkv.f,
                                                     .dy16 = dqkv.h,
                                                     .x = a->ln1.f,
                                                     .x16 = a->ln1.h,
                                                     .w = w.w,
                                                     .w16 = w.w16,
                                                     .dx = dln.f,
                                                     .dx16 = dln.h,
                                                     .dw = param_grad(p, b->qkv_w),
                                                     .db = param_grad(p, b->qkv_b)});
    return rc ? rc : norm_bwd(s, p, dln, a->x, b->norm1_w, b->norm1_b, a->mean1, a->rstd1, dx);
}

int block_backward(queue *q, const block_cfg *c, const block *b, params *p, const block_run *run, const block_acts *a, float *dx,
                   float *scratch) {
    if (!a->x || !a->mid || !there(a->pre) || !there(a->act)) return JEPA_E_USE;
    const pass s = {q, dev_ops(queue_dev(q)), c, b, p, run, a, run->batch * run->tokens};
    const int half = c->type == T_BF16; /* the scratch has room for floats in both cases */
    float *wide = scratch + s.n * c->dim;
    const act_rows dln = {half ? NULL : scratch, half ? (uint16_t *)scratch : NULL},
                   dqkv = {half ? NULL : wide, half ? (uint16_t *)wide : NULL};
    int rc = 0;
    if (a->level == RECOMPUTE_BLOCK) rc = forward_attention(&s, a->x, a->mid);
    if (!rc && a->level != RECOMPUTE_NONE) rc = forward_fc1(&s, a->mid, 0);
    if (!rc) rc = backward_mlp(&s, p, dx, dln);
    if (!rc && a->level != RECOMPUTE_NONE) rc = norm(&s, a->x, b->norm1_w, b->norm1_b, a->ln1, NULL, NULL); /* ln2 stood there */
    if (!rc) rc = backward_attention(&s, p, dx, dln, dqkv);
    return rc;
}
