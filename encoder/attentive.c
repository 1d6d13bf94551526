/* attentive.c: the attentive pooler and its classifier: parameters, working memory, forward and backward. */
#include "encoder/attentive.h"
#include "encoder/init.h"
#include "encoder/stack.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct att {
    att_cfg c;
    block_cfg bc;
    params *p;
    block *b; /* [depth - 1] */
    int query, norm1_w, norm1_b, q_w, q_b, kv_w, kv_b, norm2_w, norm2_b, fc1_w, fc1_b, fc2_w, fc2_b, linear_w, linear_b;
};

/* ---- opening ---- */

static int add(att *e, jepa_err *err, const char *prefix, const char *name, int rank, int64_t d0, int64_t d1, int64_t d2, int *index) {
    char full[128];
    int k = snprintf(full, sizeof full, "%s%s", prefix, name);
    if (k < 0 || (size_t)k >= sizeof full) return err_set(err, JEPA_E_USE, "parameter name too long: %s%s", prefix, name);
    int i = params_add(e->p, err, full, rank, (int64_t[]){d0, d1, d2});
    if (i < 0) return i;
    *index = i;
    return 0;
}

static int add_all(att *e, const char *prefix, jepa_err *err) {
    const int64_t d = e->c.embed_dim, h = e->bc.hidden, n = e->c.num_classes;
    const struct {
        const char *name;
        int rank;
        int64_t d0, d1;
        int *index;
    } cross[] = {
        {"norm1.weight", 1, d, 0, &e->norm1_w},   {"norm1.bias", 1, d, 0, &e->norm1_b},   {"xattn.q.weight", 2, d, d, &e->q_w},
        {"xattn.q.bias", 1, d, 0, &e->q_b},       {"xattn.kv.weight", 2, 2 * d, d, &e->kv_w}, {"xattn.kv.bias", 1, 2 * d, 0, &e->kv_b},
        {"norm2.weight", 1, d, 0, &e->norm2_w},   {"norm2.bias", 1, d, 0, &e->norm2_b},   {"mlp.fc1.weight", 2, h, d, &e->fc1_w},
        {"mlp.fc1.bias", 1, h, 0, &e->fc1_b},     {"mlp.fc2.weight", 2, d, h, &e->fc2_w}, {"mlp.fc2.bias", 1, d, 0, &e->fc2_b},
    };
    char name[128];
    int rc = add(e, err, prefix, "pooler.query_tokens", 3, 1, 1, d, &e->query);
    for (int i = 0; i < e->c.depth - 1 && !rc; i++) {
        int k = snprintf(name, sizeof name, "%spooler.blocks.%d.", prefix, i);
        rc = k < 0 || (size_t)k >= sizeof name ? err_set(err, JEPA_E_USE, "parameter name too long: %spooler.blocks.%d.", prefix, i)
                                               : block_params(&e->b[i], &e->bc, e->p, name, err);
    }
    for (size_t i = 0; i < sizeof cross / sizeof *cross && !rc; i++) {
        snprintf(name, sizeof name, "pooler.cross_attention_block.%s", cross[i].name);
        rc = add(e, err, prefix, name, cross[i].rank, cross[i].d0, cross[i].d1, 0, cross[i].index);
    }
    if (!rc) rc = add(e, err, prefix, "linear.weight", 2, n, d, 0, &e->linear_w);
    if (!rc) rc = add(e, err, prefix, "linear.bias", 1, n, 0, 0, &e->linear_b);
    return rc;
}

int att_open(att **out, const att_cfg *c, params *p, const char *prefix, jepa_err *err) {
    *out = NULL;
    int rc = att_cfg_check(c, err);
    if (rc < 0) return rc;
    att *e = mem_alloc(1, sizeof *e);
    if (!e || !(e->b = mem_alloc((size_t)c->depth, sizeof *e->b))) {
        rc = err_set(err, JEPA_E_MEMORY, "attentive pooler: no memory for %d blocks", c->depth);
        goto fail;
    }
    e->c = *c;
    e->bc = (block_cfg){c->embed_dim, c->num_heads, (int)floor(c->embed_dim * c->mlp_ratio), c->layer_norm_eps, T_F32};
    e->p = p;
    if ((rc = add_all(e, prefix, err)) < 0) goto fail;
    *out = e;
    return 0;
fail:
    att_close(&e);
    return rc;
}

void att_close(att **e) {
    if (!e || !*e) return;
    mem_free((*e)->b);
    mem_free(*e);
    *e = NULL;
}

const att_cfg *att_config(const att *e) { return &e->c; }

static int init_uniform(queue *q, params *p, int index, double bound, uint64_t seed, jepa_err *err) {
    const size_t n = (size_t)p->item[index].count;
    float *host = mem_alloc(n, sizeof *host);
    if (!host) return err_set(err, JEPA_E_MEMORY, "initialisation: no memory for %s", p->item[index].name);
    rng r = rng_key(seed, (uint64_t)index, 0, RNG_INIT);
    for (size_t i = 0; i < n; i++) host[i] = (float)rng_uniform(&r, -bound, bound);
    int rc = buf_put(q, param_value(p, index), host, n * sizeof *host, err);
    if (!rc) rc = queue_wait(q, err);
    mem_free(host);
    return rc;
}

int att_init(const att *e, queue *q, double sd, uint64_t seed, jepa_err *err) {
    const int blocks = e->c.depth - 1, last = e->c.cross_first || blocks < 1 ? 1 : blocks;
    const struct {
        int index;
        double divide;
    } weight[] = {{e->query, 1}, {e->q_w, 1}, {e->kv_w, 1}, {e->fc1_w, 1}, {e->fc2_w, sqrt(2.0 * last)}};
    const int one[] = {e->norm1_w, e->norm2_w}, zero[] = {e->norm1_b, e->q_b, e->kv_b, e->norm2_b, e->fc1_b, e->fc2_b};
    int rc = init_check(e->p, sd, err);
    for (int i = 0; i < 5 && !rc; i++) rc = init_normal(q, e->p, weight[i].index, sd, weight[i].divide, seed, err);
    for (int i = 0; i < 2 && !rc; i++) rc = init_fill(q, e->p, one[i], 1, err);
    for (int i = 0; i < 6 && !rc; i++) rc = init_fill(q, e->p, zero[i], 0, err);
    for (int i = 0; i < blocks && !rc; i++) rc = block_init(&e->b[i], q, e->p, i + 1, sd, seed, err);
    if (!rc) rc = init_uniform(q, e->p, e->linear_w, 1 / sqrt(e->c.embed_dim), seed, err);
    if (!rc) rc = init_uniform(q, e->p, e->linear_b, 1 / sqrt(e->c.embed_dim), seed, err);
    return rc;
}

/* ---- working memory ---- */

struct att_acts {
    buf mem;
    att_cfg c; /* of the pooler it was made for */
    int64_t batch, rows; /* room: items, and batch·tokens */
    int keep;
    stack_acts s;            /* of the self-attention blocks, where there are any */
    float *ln, *kv;          /* [n,D], [n,2D]: keys and values of all tokens; without keep in s.tmp where that is free */
    float *mean1, *rstd1;    /* [n] */
    float *dstream, *dkv;    /* gradients: [n,D], [n,2D] */
    float *query, *q, *att, *mid, *ln2, *pre, *act, *pooled; /* one row an item, from here on */
    float *lse, *mean2, *rstd2;
    float *dy, *dq, *dln;    /* [B,D]; act serves as the gradient of act */
    block_run run;           /* of the blocks */
    att_in in;               /* of the last forward */
    int ready;               /* a backward may follow */
};

static float *floats(arena *mem, int64_t rows, int64_t width) {
    size_t k;
    if (size_mul((size_t)rows, (size_t)width, &k)) {
        mem->overflow = 1;
        return NULL;
    }
    return arena_get(mem, k, sizeof(float));
}

/* The one list: measures, plans or cuts up, whatever mem and plan are. */
static void layout(const att_cfg *c, int64_t batch, int64_t rows, int keep, recompute level, att_acts *a, arena *mem, mem_plan *plan) {
    const block_cfg bc = {c->embed_dim, c->num_heads, (int)floor(c->embed_dim * c->mlp_ratio), c->layer_norm_eps, T_F32};
    const int64_t d = c->embed_dim, h = bc.hidden;
    const int over_tokens = c->depth > 1 && !c->cross_first;
    size_t mark = arena_mark(mem), wide;
    if (batch < 1 || rows < batch || size_mul((size_t)rows, 3 * (size_t)d, &wide)) {
        mem->overflow = 1;
        return;
    }
    float **const per_item[] = {&a->query, &a->q, &a->att, &a->mid, &a->ln2, &a->pooled};
    for (size_t i = 0; i < sizeof per_item / sizeof *per_item; i++) *per_item[i] = floats(mem, batch, d);
    a->pre = keep ? floats(mem, batch, h) : NULL;
    a->act = floats(mem, batch, h);
    a->lse = floats(mem, batch, c->num_heads);
    a->mean2 = floats(mem, batch, 1), a->rstd2 = floats(mem, batch, 1);
    if (keep) a->dy = floats(mem, batch, d), a->dq = floats(mem, batch, d), a->dln = floats(mem, batch, d);
    mark = plan_part(plan, "query rows", mem, mark);
    if (keep || !over_tokens) {
        a->ln = floats(mem, rows, d), a->kv = floats(mem, rows, 2 * d);
        if (keep) a->mean1 = floats(mem, rows, 1), a->rstd1 = floats(mem, rows, 1);
        mark = plan_part(plan, "keys and values", mem, mark);
    }
    if (keep) {
        a->dstream = floats(mem, rows, d);
        if (!over_tokens) a->dkv = floats(mem, rows, 2 * d);
        plan_part(plan, "gradient of the tokens", mem, mark);
    }
    if (c->depth == 1) return;
    stack_acts_get(&a->s, &bc, c->depth - 1, over_tokens ? rows : batch, keep, level, over_tokens ? wide : 0, mem, plan);
    if (over_tokens && !keep) a->ln = a->s.tmp, a->kv = a->ln ? a->ln + rows * d : NULL;
    if (over_tokens && keep) a->dkv = a->s.tmp;
}

static int measure(const att *e, const att_shape *s, recompute level, size_t *bytes, mem_plan *plan) {
    att_acts a = {.batch = s->batch};
    arena mem;
    size_t rows;
    if (s->batch < 1 || s->tokens < 1 || size_mul((size_t)s->batch, (size_t)s->tokens, &rows) || rows > INT64_MAX / 64)
        return JEPA_E_MEMORY;
    arena_open(&mem, 0, NULL);
    layout(&e->c, s->batch, (int64_t)rows, s->keep_for_backward, level, &a, &mem, plan);
    *bytes = mem.used;
    return mem.overflow ? JEPA_E_MEMORY : 0;
}

size_t att_acts_bytes(const att *e, const att_shape *s) {
    size_t bytes;
    return measure(e, s, s->level, &bytes, NULL) < 0 ? 0 : bytes;
}

void att_acts_plan(const att *e, const att_shape *s, char *text, size_t size) {
    mem_plan plan = {.n = 0};
    size_t bytes;
    if (measure(e, s, s->level, &bytes, &plan) < 0) plan.n = 0;
    plan_text(&plan, "\n", text, size);
}

static int no_memory(const att *e, const att_shape *s, jepa_err *err) {
    char parts[400], sum[32] = "more than can be counted";
    mem_plan plan = {.n = 0};
    size_t bytes;
    if (measure(e, s, s->level, &bytes, &plan) == 0) plan_size(sum, bytes);
    plan_text(&plan, "; ", parts, sizeof parts);
    return err_set(err, JEPA_E_MEMORY,
                   "attentive pooler: working memory for %lld x %lld tokens needs %s (%s) and there is no room: fewer tokens need less",
                   (long long)s->batch, (long long)s->tokens, sum, parts);
}

int att_acts_open(att_acts **out, const att *e, dev *d, const att_shape *s, jepa_err *err) {
    size_t bytes;
    *out = NULL;
    if (s->batch < 1 || s->tokens < 1)
        return err_set(err, JEPA_E_USE, "attentive pooler: working memory for %lld x %lld tokens", (long long)s->batch,
                       (long long)s->tokens);
    if (measure(e, s, s->level, &bytes, NULL) < 0) return no_memory(e, s, err);
    att_acts *a = mem_alloc(1, sizeof *a);
    if (!a) return no_memory(e, s, err);
    a->c = e->c;
    a->batch = s->batch, a->rows = s->batch * s->tokens, a->keep = s->keep_for_backward;
    if (a->keep) a->s.kept = mem_alloc((size_t)e->c.depth, sizeof *a->s.kept);
    block_acts *kept = a->s.kept;
    if ((a->keep && !kept) || buf_new(&a->mem, d, bytes, NULL) < 0) {
        att_acts_close(&a);
        return no_memory(e, s, err);
    }
    arena mem = {.base = a->mem.p, .size = bytes};
    layout(&e->c, a->batch, a->rows, a->keep, s->level, a, &mem, NULL);
    *out = a;
    return 0;
}

void att_acts_close(att_acts **a) {
    if (!a || !*a) return;
    buf_free(&(*a)->mem);
    mem_free((*a)->s.kept);
    mem_free(*a);
    *a = NULL;
}

/* ---- forward ---- */

static int failed_op(jepa_err *err, int rc, queue *q, const char *what) {
    return err_set(err, rc, "attentive pooler: %s failed on %s (code %d)", what, dev_name(queue_dev(q)), rc);
}

static int failed_block(jepa_err *err, int rc, queue *q, const att *e, int at) {
    return err_set(err, rc, "attentive pooler: block %d of width %d, head dim %d failed on %s (code %d)", at, e->bc.dim,
                   e->bc.dim / e->bc.num_heads, dev_name(queue_dev(q)), rc);
}

static int check_input(const att *e, queue *q, const att_in *in, const att_acts *a, jepa_err *err) {
    const att_cfg *c = &e->c, *m = &a->c;
    if (!e->p->value.p) return err_set(err, JEPA_E_USE, "attentive pooler: the parameters are not allocated yet (params_alloc)");
    if (a->mem.d != queue_dev(q) || e->p->value.d != queue_dev(q))
        return err_set(err, JEPA_E_USE, "attentive pooler: queue, parameters and working memory belong to different devices");
    if (m->embed_dim != c->embed_dim || m->depth != c->depth || m->num_heads != c->num_heads || m->mlp_ratio != c->mlp_ratio ||
        m->cross_first != c->cross_first)
        return err_set(err, JEPA_E_USE, "attentive pooler: the working memory was made for a pooler of another size");
    if (!in->x || in->batch < 1 || in->tokens < 1)
        return err_set(err, JEPA_E_USE, "attentive pooler: %lld x %lld tokens; at least one of each", (long long)in->batch,
                       (long long)in->tokens);
    if (in->batch > a->batch || in->tokens > a->rows / in->batch)
        return err_set(err, JEPA_E_USE, "attentive pooler: %lld x %lld tokens, and the working memory has room for %lld of %lld items",
                       (long long)in->batch, (long long)in->tokens, (long long)a->rows, (long long)a->batch);
    return 0;
}

/* Where the tokens lie that the query looks at. */
static const float *looked_at(const att *e, const att_acts *a) {
    return e->c.depth > 1 && !e->c.cross_first ? stack_out(&a->s, e->c.depth - 1) : a->in.x;
}

/* Where the pooled rows lie at last. */
static float *pooled_of(const att *e, const att_acts *a) {
    return e->c.depth > 1 && e->c.cross_first ? stack_out(&a->s, e->c.depth - 1) : a->pooled;
}

static op_attention attention_of(const att *e, const att_acts *a) {
    const int64_t d = e->c.embed_dim;
    return (op_attention){.batch = a->in.batch, .heads = e->c.num_heads, .nq = 1, .nk = a->in.tokens, .head_dim = d / e->c.num_heads,
                          .q = a->q, .k = a->kv, .v = a->kv + d, .o = a->att, .ldq = d, .ldk = 2 * d, .ldv = 2 * d, .ldo = d,
                          .lse = a->lse};
}

/* Looks with the query at the tokens, then the MLP: pooled rows into `to`. */
static int cross_forward(const att *e, queue *q, att_acts *a, float *to) {
    const ops *o = dev_ops(queue_dev(q));
    const params *p = e->p;
    const int64_t b = a->in.batch, n = b * a->in.tokens, d = e->c.embed_dim, h = e->bc.hidden;
    const op_rows query = {.batch = b, .n_src = 1, .n_dst = 1, .d = d, .src = param_value(p, e->query), .count = 1};
    op_rows rows = query;
    int rc = o->layernorm(q, &(op_layernorm){.rows = n, .d = d, .eps = e->bc.eps, .x = looked_at(e, a), .w = param_value(p, e->norm1_w),
                                             .b = param_value(p, e->norm1_b), .y = a->ln, .mean = a->mean1, .rstd = a->rstd1});
    if (!rc)
        rc = o->linear(q, &(op_linear){.rows = n, .in = d, .out = 2 * d, .x = a->ln, .w = param_value(p, e->kv_w),
                                       .b = param_value(p, e->kv_b), .y = a->kv});
    rows.dst = a->query;
    if (!rc) rc = o->broadcast_row(q, &rows);
    if (!rc)
        rc = o->linear(q, &(op_linear){.rows = b, .in = d, .out = d, .x = a->query, .w = param_value(p, e->q_w),
                                       .b = param_value(p, e->q_b), .y = a->q});
    const op_attention look = attention_of(e, a);
    if (!rc) rc = o->attention(q, &look);
    rows.dst = a->mid;
    if (!rc) rc = o->broadcast_row(q, &rows);
    if (!rc) rc = o->axpy(q, &(op_axpy){.n = b * d, .a = 1, .x = a->att, .y = a->mid});
    if (!rc)
        rc = o->layernorm(q, &(op_layernorm){.rows = b, .d = d, .eps = e->bc.eps, .x = a->mid, .w = param_value(p, e->norm2_w),
                                             .b = param_value(p, e->norm2_b), .y = a->ln2, .mean = a->mean2, .rstd = a->rstd2});
    if (!rc)
        rc = o->linear(q, &(op_linear){.rows = b, .in = d, .out = h, .x = a->ln2, .w = param_value(p, e->fc1_w),
                                       .b = param_value(p, e->fc1_b), .y = a->act, .pre = a->pre, .act = ACT_GELU});
    if (!rc)
        rc = o->linear(q, &(op_linear){.rows = b, .in = h, .out = d, .x = a->act, .w = param_value(p, e->fc2_w),
                                       .b = param_value(p, e->fc2_b), .r = a->mid, .y = to});
    return rc;
}

/* The blocks over the tokens (V-JEPA 2), or over the pooled rows (V-JEPA 1): whose first stream is filled. */
static int blocks_forward(const att *e, queue *q, att_acts *a, jepa_err *err) {
    int where = 0;
    a->run = (block_run){.batch = a->in.batch, .tokens = e->c.cross_first ? 1 : a->in.tokens};
    int rc = stack_forward(q, &e->bc, e->b, e->p, &a->run, &a->s, 0, e->c.depth - 1, &where);
    return rc < 0 ? failed_block(err, rc, q, e, where) : 0;
}

int att_forward(const att *e, queue *q, const att_in *in, att_acts *a, float *pooled, float *logits, jepa_err *err) {
    const ops *o = dev_ops(queue_dev(q));
    const int64_t d = e->c.embed_dim, many = e->c.depth > 1;
    int rc = check_input(e, q, in, a, err);
    if (rc < 0) return rc;
    a->ready = 0;
    a->in = *in;
    if (many && !e->c.cross_first) {
        rc = o->copy_rows(q, &(op_rows){.batch = in->batch, .n_src = in->tokens, .n_dst = in->tokens, .d = d, .src = in->x,
                                        .dst = stack_in(&a->s), .count = in->tokens});
        if (rc < 0) return failed_op(err, rc, q, "taking the tokens");
        if ((rc = blocks_forward(e, q, a, err)) < 0) return rc;
    }
    rc = cross_forward(e, q, a, many && e->c.cross_first ? stack_in(&a->s) : a->pooled);
    if (rc < 0) return failed_op(err, rc, q, "the cross-attention block");
    if (many && e->c.cross_first && (rc = blocks_forward(e, q, a, err)) < 0) return rc;
    const float *last = pooled_of(e, a);
    if (pooled)
        rc = o->copy_rows(q, &(op_rows){.batch = in->batch, .n_src = 1, .n_dst = 1, .d = d, .src = last, .dst = pooled, .count = 1});
    if (!rc && logits)
        rc = o->linear(q, &(op_linear){.rows = in->batch, .in = d, .out = e->c.num_classes, .x = last,
                                       .w = param_value(e->p, e->linear_w), .b = param_value(e->p, e->linear_b), .y = logits});
    if (rc < 0) return failed_op(err, rc, q, "the classifier");
    a->ready = a->keep;
    return 0;
}

/* ---- backward ---- */

/* dy: gradient of the pooled rows → gradient of y = query + attention. */
static int mlp_backward(const att *e, queue *q, att_acts *a, float *dy) {
    const ops *o = dev_ops(queue_dev(q));
    params *p = e->p;
    const int64_t b = a->in.batch, d = e->c.embed_dim, h = e->bc.hidden;
    /* the weight first: its gradient needs act, whose memory then takes the gradient of act */
    int rc = o->linear_bwd(q, &(op_linear_bwd){.rows = b, .in = h, .out = d, .dy = dy, .x = a->act, .dw = param_grad(p, e->fc2_w),
                                               .db = param_grad(p, e->fc2_b)});
    if (!rc) rc = o->linear_bwd(q, &(op_linear_bwd){.rows = b, .in = h, .out = d, .dy = dy, .w = param_value(p, e->fc2_w), .dx = a->act});
    if (!rc) rc = o->gelu_bwd(q, &(op_gelu_bwd){.n = b * h, .dy = a->act, .x = a->pre, .dx = a->act});
    if (!rc)
        rc = o->linear_bwd(q, &(op_linear_bwd){.rows = b, .in = d, .out = h, .dy = a->act, .x = a->ln2, .w = param_value(p, e->fc1_w),
                                               .dx = a->dln, .dw = param_grad(p, e->fc1_w), .db = param_grad(p, e->fc1_b)});
    if (!rc)
        rc = o->layernorm_bwd(q, &(op_layernorm_bwd){.rows = b, .d = d, .dy = a->dln, .x = a->mid, .w = param_value(p, e->norm2_w),
                                                     .mean = a->mean2, .rstd = a->rstd2, .dx = dy, .add = 1,
                                                     .dw = param_grad(p, e->norm2_w), .db = param_grad(p, e->norm2_b)});
    return rc;
}

/* dy: gradient of y → the query's, through the residual and through q; a->dstream: of the tokens that were looked at. */
static int look_backward(const att *e, queue *q, att_acts *a, const float *dy) {
    const ops *o = dev_ops(queue_dev(q));
    params *p = e->p;
    const int64_t b = a->in.batch, n = b * a->in.tokens, d = e->c.embed_dim;
    const op_attention f = attention_of(e, a);
    op_rows sum = {.batch = b, .n_src = 1, .n_dst = 1, .d = d, .src = dy, .dst = param_grad(p, e->query), .count = 1};
    int rc = o->sum_rows(q, &sum);
    if (!rc)
        rc = o->attention_bwd(q, &(op_attention_bwd){.batch = b, .heads = f.heads, .nq = 1, .nk = f.nk, .head_dim = f.head_dim, .q = f.q,
                                                     .k = f.k, .v = f.v, .o = f.o, .dout = dy, .lse = f.lse, .ldq = d, .ldk = 2 * d,
                                                     .ldv = 2 * d, .ldo = d, .lddo = d, .dq = a->dq, .dk = a->dkv, .dv = a->dkv + d,
                                                     .lddq = d, .lddk = 2 * d, .lddv = 2 * d});
    if (!rc)
        rc = o->linear_bwd(q, &(op_linear_bwd){.rows = b, .in = d, .out = d, .dy = a->dq, .x = a->query, .w = param_value(p, e->q_w),
                                               .dx = a->dln, .dw = param_grad(p, e->q_w), .db = param_grad(p, e->q_b)});
    sum.src = a->dln;
    if (!rc) rc = o->sum_rows(q, &sum);
    if (!rc)
        rc = o->linear_bwd(q, &(op_linear_bwd){.rows = n, .in = d, .out = 2 * d, .dy = a->dkv, .x = a->ln, .w = param_value(p, e->kv_w),
                                               .dx = a->dstream, .dw = param_grad(p, e->kv_w), .db = param_grad(p, e->kv_b)});
    if (!rc)
        rc = o->layernorm_bwd(q, &(op_layernorm_bwd){.rows = n, .d = d, .dy = a->dstream, .x = looked_at(e, a),
                                                     .w = param_value(p, e->norm1_w), .mean = a->mean1, .rstd = a->rstd1,
                                                     .dx = a->dstream, .dw = param_grad(p, e->norm1_w), .db = param_grad(p, e->norm1_b)});
    return rc;
}

int att_backward(const att *e, queue *q, att_acts *a, const float *dlogits, float *dtokens, jepa_err *err) {
    if (!a->ready)
        return err_set(err, JEPA_E_USE,
                       "attentive pooler: backward follows one forward with keep_for_backward on the same working memory, once");
    if (!e->p->grad.p)
        return err_set(err, JEPA_E_USE, "attentive pooler: the parameters have no gradients (params_alloc with PARAMS_GRAD)");
    if (a->mem.d != queue_dev(q) || e->p->grad.d != queue_dev(q) || !dlogits)
        return err_set(err, JEPA_E_USE, "attentive pooler: backward without a gradient, or on another device");
    a->ready = 0;
    const ops *o = dev_ops(queue_dev(q));
    const int64_t d = e->c.embed_dim;
    int where = 0, rc;
    rc = o->linear_bwd(q, &(op_linear_bwd){.rows = a->in.batch, .in = d, .out = e->c.num_classes, .dy = dlogits, .x = pooled_of(e, a),
                                           .w = param_value(e->p, e->linear_w), .dx = a->dy, .dw = param_grad(e->p, e->linear_w),
                                           .db = param_grad(e->p, e->linear_b)});
    if (rc < 0) return failed_op(err, rc, q, "backward of the classifier");
    if (e->c.depth > 1 && e->c.cross_first) rc = stack_backward(q, &e->bc, e->b, e->p, &a->run, &a->s, a->dy, &where);
    if (rc < 0) return failed_block(err, rc, q, e, where);
    if ((rc = mlp_backward(e, q, a, a->dy)) < 0 || (rc = look_backward(e, q, a, a->dy)) < 0)
        return failed_op(err, rc, q, "backward of the cross-attention block");
    if (e->c.depth > 1 && !e->c.cross_first) rc = stack_backward(q, &e->bc, e->b, e->p, &a->run, &a->s, a->dstream, &where);
    if (rc < 0) return failed_block(err, rc, q, e, where);
    if (!dtokens) return 0;
    rc = o->copy_rows(q, &(op_rows){.batch = a->in.batch, .n_src = a->in.tokens, .n_dst = a->in.tokens, .d = d, .src = a->dstream,
                                    .dst = dtokens, .count = a->in.tokens});
    return rc < 0 ? failed_op(err, rc, q, "handing on the gradient of the tokens") : 0;
}
