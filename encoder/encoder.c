/* encoder.c: the V-JEPA ViT over tubelets: parameters, working memory, forward and backward. */
#include "encoder/encoder.h"
#include "encoder/init.h"
#include "encoder/stack.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct enc {
    enc_cfg c;
    block_cfg bc;
    params *p;
    block *b; /* [depth] */
    int patch_w, patch_b, norm_w, norm_b;
    packed *patch_p;
    const ops *packs; /* whose packed weights these are; NULL: none */
};

static int64_t row_width(const enc_cfg *c) { return (int64_t)c->in_chans * c->tubelet_size * c->patch_size * c->patch_size; }

/* ---- opening ---- */

static int add(enc *e, jepa_err *err, const char *prefix, const char *name, int rank, const int64_t *dim, int *index) {
    char full[128];
    int k = snprintf(full, sizeof full, "%s%s", prefix, name);
    if (k < 0 || (size_t)k >= sizeof full) return err_set(err, JEPA_E_USE, "parameter name too long: %s%s", prefix, name);
    int i = params_add(e->p, err, full, rank, dim);
    if (i < 0) return i;
    *index = i;
    return 0;
}

int enc_open(enc **out, const enc_cfg *c, params *p, const char *prefix, jepa_err *err) {
    *out = NULL;
    int rc = enc_cfg_check(c, err);
    if (rc < 0) return rc;
    enc *e = mem_alloc(1, sizeof *e);
    if (!e || !(e->b = mem_alloc((size_t)c->depth, sizeof *e->b))) {
        rc = err_set(err, JEPA_E_MEMORY, "encoder: no memory for %d blocks", c->depth);
        goto fail;
    }
    e->c = *c;
    e->bc = (block_cfg){c->embed_dim, c->num_heads, (int)floor(c->embed_dim * c->mlp_ratio), c->layer_norm_eps};
    e->p = p;
    /* With a tubelet of one frame the published weight is that of a 2-D convolution. */
    const int64_t d = c->embed_dim, flat = c->tubelet_size == 1;
    const int64_t cube[] = {d, c->in_chans, c->tubelet_size, c->patch_size, c->patch_size},
                  plane[] = {d, c->in_chans, c->patch_size, c->patch_size};
    if ((rc = add(e, err, prefix, "patch_embed.proj.weight", flat ? 4 : 5, flat ? plane : cube, &e->patch_w)) < 0 ||
        (rc = add(e, err, prefix, "patch_embed.proj.bias", 1, &d, &e->patch_b)) < 0)
        goto fail;
    for (int i = 0; i < c->depth; i++) {
        char name[128];
        int k = snprintf(name, sizeof name, "%sblocks.%d.", prefix, i);
        if (k < 0 || (size_t)k >= sizeof name) {
            rc = err_set(err, JEPA_E_USE, "parameter name too long: %sblocks.%d.", prefix, i);
            goto fail;
        }
        if ((rc = block_params(&e->b[i], &e->bc, p, name, err)) < 0) goto fail;
    }
    if ((rc = add(e, err, prefix, "norm.weight", 1, &d, &e->norm_w)) < 0 || (rc = add(e, err, prefix, "norm.bias", 1, &d, &e->norm_b)) < 0)
        goto fail;
    *out = e;
    return 0;
fail:
    enc_close(&e);
    return rc;
}

static void unpack(enc *e, queue *q) {
    if (!e->packs) return;
    for (int i = 0; i < e->c.depth; i++) block_unpack(&e->b[i], q, e->packs);
    if (e->patch_p) e->packs->linear_unpack(q, &e->patch_p);
    e->patch_p = NULL;
    e->packs = NULL;
}

void enc_close(enc **e) {
    if (!e || !*e) return;
    unpack(*e, NULL);
    mem_free((*e)->b);
    mem_free(*e);
    *e = NULL;
}

const enc_cfg *enc_config(const enc *e) { return &e->c; }

int enc_pack(enc *e, queue *q, jepa_err *err) {
    if (!e->p->value.p) return err_set(err, JEPA_E_USE, "encoder: the parameters are not allocated yet (params_alloc)");
    unpack(e, q);
    e->packs = dev_ops(queue_dev(q));
    int rc = e->packs->linear_pack(q, &e->patch_p, param_value(e->p, e->patch_w), e->c.embed_dim, row_width(&e->c));
    for (int i = 0; i < e->c.depth && !rc; i++) rc = block_pack(&e->b[i], &e->bc, q, e->p);
    if (rc < 0) {
        unpack(e, q);
        return err_set(err, rc, "encoder: packing the weights for %s failed (code %d)", dev_name(queue_dev(q)), rc);
    }
    return 0;
}

int enc_init(const enc *e, queue *q, double sd, uint64_t seed, jepa_err *err) {
    int rc = init_check(e->p, sd, err);
    if (!rc) rc = init_normal(q, e->p, e->patch_w, sd, 1, seed, err);
    if (!rc) rc = init_fill(q, e->p, e->patch_b, 0, err);
    for (int i = 0; i < e->c.depth && !rc; i++) rc = block_init(&e->b[i], q, e->p, i + 1, sd, seed, err);
    if (!rc) rc = init_fill(q, e->p, e->norm_w, 1, err);
    if (!rc) rc = init_fill(q, e->p, e->norm_b, 0, err);
    return rc;
}

/* ---- working memory ---- */

struct enc_acts {
    buf mem;
    enc_cfg c;    /* of the encoder it was made for */
    int64_t rows; /* batch·tokens it has room for */
    stack_acts s;
    float *patches;     /* [n, C·t·p·p] tubelet rows; without keep it shares memory with one block */
    float *pos, *cs;    /* [n,3], [n,2,head_dim] */
    float *mean, *rstd; /* of the final norm */
    float *pos_host;
    block_run run; /* of the last forward */
    int ready;     /* a backward may follow */
};

/* The one list: measures, plans or cuts up, whatever mem and plan are. */
static void layout(const enc_cfg *c, int64_t rows, int keep, recompute level, enc_acts *a, arena *mem, mem_plan *plan) {
    const block_cfg bc = {c->embed_dim, c->num_heads, (int)floor(c->embed_dim * c->mlp_ratio), c->layer_norm_eps};
    const size_t n = (size_t)rows, hd = (size_t)(c->embed_dim / c->num_heads);
    size_t mark = arena_mark(mem), patches, tables;
    if (rows < 1 || size_mul(n, (size_t)row_width(c), &patches) || size_mul(n, 2 * hd, &tables)) {
        mem->overflow = 1;
        return;
    }
    a->pos = arena_get(mem, n, 3 * sizeof(float));
    a->cs = arena_get(mem, tables, sizeof(float));
    mark = plan_part(plan, "rotary tables", mem, mark);
    if (keep) {
        a->mean = arena_get(mem, n, sizeof(float));
        a->rstd = arena_get(mem, n, sizeof(float));
        mark = plan_part(plan, "final norm", mem, mark);
        a->patches = arena_get(mem, patches, sizeof(float));
        plan_part(plan, "tubelet rows", mem, mark);
    }
    stack_acts_get(&a->s, &bc, c->depth, rows, keep, level, patches, mem, plan);
    if (!keep) a->patches = a->s.tmp;
}

static int measure(const enc_cfg *c, int64_t rows, int keep, recompute level, size_t *bytes, mem_plan *plan) {
    enc_acts a = {.rows = rows};
    arena mem;
    arena_open(&mem, 0, NULL);
    layout(c, rows, keep, level, &a, &mem, plan);
    *bytes = mem.used;
    return mem.overflow ? JEPA_E_MEMORY : 0;
}

static int shape_rows(const enc *e, const enc_shape *s, int64_t *rows, jepa_err *err) {
    const int64_t tokens = s->tokens ? s->tokens : enc_tokens(&e->c, s->frames, s->height, s->width);
    if (s->batch < 1 || tokens < 1 || tokens > INT32_MAX || s->batch > INT32_MAX ||
        (s->level != RECOMPUTE_NONE && s->level != RECOMPUTE_MLP && s->level != RECOMPUTE_BLOCK))
        return err_set(err, JEPA_E_USE,
                       "encoder working memory: batch %lld of %lld tokens (%lld frames of %lld x %lld) at recompute level %d cannot be",
                       (long long)s->batch, (long long)tokens, (long long)s->frames, (long long)s->height, (long long)s->width,
                       (int)s->level);
    *rows = s->batch * tokens;
    return 0;
}

size_t enc_acts_bytes(const enc *e, const enc_shape *s) {
    int64_t rows;
    size_t bytes;
    return shape_rows(e, s, &rows, NULL) < 0 || measure(&e->c, rows, s->keep_for_backward, s->level, &bytes, NULL) < 0 ? 0 : bytes;
}

void enc_acts_plan(const enc *e, const enc_shape *s, char *text, size_t size) {
    mem_plan plan = {.n = 0};
    jepa_err err = {0};
    int64_t rows;
    size_t bytes;
    int rc = shape_rows(e, s, &rows, &err);
    if (!rc) rc = measure(&e->c, rows, s->keep_for_backward, s->level, &bytes, &plan);
    if (rc < 0)
        snprintf(text, size, "%s\n", err.code ? err.text : "does not fit in any memory");
    else
        plan_text(&plan, "\n", text, size);
}

/* "… does not fit; recompute 2 would need …" */
static int no_memory(const enc *e, const enc_shape *s, int64_t rows, jepa_err *err) {
    mem_plan plan = {.n = 0};
    char parts[256], sum[32], less[96] = "";
    size_t bytes, other;
    if (measure(&e->c, rows, s->keep_for_backward, s->level, &bytes, &plan) < 0)
        return err_set(err, JEPA_E_MEMORY, "encoder working memory for %lld tokens does not fit in any memory", (long long)rows);
    plan_text(&plan, ", ", parts, sizeof parts);
    plan_size(sum, bytes);
    if (s->keep_for_backward && s->level != RECOMPUTE_BLOCK && !measure(&e->c, rows, 1, RECOMPUTE_BLOCK, &other, NULL)) {
        char amount[32];
        plan_size(amount, other);
        snprintf(less, sizeof less, "recompute 2 (whole blocks) needs %s; ", amount);
    }
    return err_set(err, JEPA_E_MEMORY,
                   "encoder working memory for %lld tokens needs %s (%s) and there is no room: %sa smaller batch, fewer frames or "
                   "smaller pictures need less",
                   (long long)rows, sum, parts, less);
}

int enc_acts_open(enc_acts **out, const enc *e, dev *d, const enc_shape *s, jepa_err *err) {
    int64_t rows;
    size_t bytes;
    *out = NULL;
    int rc = shape_rows(e, s, &rows, err);
    if (rc < 0) return rc;
    if (measure(&e->c, rows, s->keep_for_backward, s->level, &bytes, NULL) < 0) return no_memory(e, s, rows, err);
    enc_acts *a = mem_alloc(1, sizeof *a);
    if (!a) return no_memory(e, s, rows, err);
    a->c = e->c;
    a->rows = rows;
    if (s->keep_for_backward) a->s.kept = mem_alloc((size_t)e->c.depth, sizeof *a->s.kept);
    block_acts *kept = a->s.kept;
    /* the large one first: what does not fit is known before anything else is touched */
    if ((s->keep_for_backward && !kept) || buf_new(&a->mem, d, bytes, NULL) < 0 ||
        !(a->pos_host = mem_alloc((size_t)rows, 3 * sizeof(float)))) {
        enc_acts_close(&a);
        return no_memory(e, s, rows, err);
    }
    arena mem = {.base = a->mem.p, .size = bytes};
    layout(&e->c, rows, s->keep_for_backward, s->level, a, &mem, NULL);
    *out = a;
    return 0;
}

void enc_acts_close(enc_acts **a) {
    if (!a || !*a) return;
    buf_free(&(*a)->mem);
    mem_free((*a)->s.kept);
    mem_free((*a)->pos_host);
    mem_free(*a);
    *a = NULL;
}

/* ---- forward ---- */

static int check_input(const enc *e, queue *q, const enc_in *in, const enc_acts *a, const float *tokens, int64_t *per_item, jepa_err *err) {
    const enc_cfg *c = &e->c;
    if (!e->p->value.p) return err_set(err, JEPA_E_USE, "encoder: the parameters are not allocated yet (params_alloc)");
    if (a->mem.d != queue_dev(q) || e->p->value.d != queue_dev(q))
        return err_set(err, JEPA_E_USE, "encoder: queue, parameters and working memory belong to different devices");
    if (a->c.embed_dim != c->embed_dim || a->c.depth != c->depth || a->c.num_heads != c->num_heads || a->c.mlp_ratio != c->mlp_ratio ||
        row_width(&a->c) != row_width(c))
        return err_set(err, JEPA_E_USE, "encoder: the working memory was made for an encoder of another size");
    if (!in->x || (!tokens && (a->s.keep || !in->hidden_n)))
        return err_set(err, JEPA_E_USE, "encoder: no input or no place for the tokens");
    if (in->type != T_F32 && in->type != T_U8)
        return err_set(err, JEPA_E_USE, "encoder: input of type %s; f32 or u8 are taken", dtype_name(in->type));
    if (in->type == T_U8 && c->in_chans != 3)
        return err_set(err, JEPA_E_USE, "encoder: u8 input means 3 colours, this model has %d channels", c->in_chans);
    if (in->batch < 1 || in->batch > INT32_MAX) return err_set(err, JEPA_E_USE, "encoder: a batch of %lld", (long long)in->batch);
    if (in->frames < c->tubelet_size)
        return err_set(err, JEPA_E_USE, "encoder: %lld frame%s given, a tubelet is %d: repeat the last frame to fill it",
                       (long long)in->frames, in->frames == 1 ? "" : "s", c->tubelet_size);
    if (in->height < 1 || in->width < 1 || in->height % c->patch_size || in->width % c->patch_size)
        return err_set(err, JEPA_E_USE,
                       "encoder: input of %lld x %lld pixels (height x width) is not made of whole %d x %d patches; nearest below: "
                       "%lld x %lld",
                       (long long)in->height, (long long)in->width, c->patch_size, c->patch_size,
                       (long long)(in->height / c->patch_size * c->patch_size), (long long)(in->width / c->patch_size * c->patch_size));
    const int64_t all = enc_tokens(c, in->frames, in->height, in->width), n = in->keep ? in->n_keep : all;
    if (all < 1)
        return err_set(err, JEPA_E_USE, "encoder: %lld frames of %lld x %lld are too many tokens", (long long)in->frames,
                       (long long)in->height, (long long)in->width);
    if (!in->keep != !in->keep_host)
        return err_set(err, JEPA_E_USE, "encoder: context indices are wanted on the device and in host memory");
    if (n < 1 || n > all)
        return err_set(err, JEPA_E_USE, "encoder: %lld context tokens of a grid of %lld; 1 to %lld can be kept", (long long)n,
                       (long long)all, (long long)all);
    if (in->batch > a->rows / n)
        return err_set(err, JEPA_E_USE, "encoder: %lld x %lld tokens, and the working memory has room for %lld", (long long)in->batch,
                       (long long)n, (long long)a->rows);
    for (int i = 0; i < in->hidden_n; i++)
        if (!in->hidden_after || !in->hidden_out || !in->hidden_out[i] || in->hidden_after[i] < 0 || in->hidden_after[i] > c->depth ||
            (i && in->hidden_after[i] <= in->hidden_after[i - 1]))
            return err_set(err, JEPA_E_USE,
                           "encoder: hidden state %d is wanted after block %d; an ascending list of 0 to %d and a place for each", i,
                           in->hidden_after ? in->hidden_after[i] : -1, c->depth);
    *per_item = n;
    return 0;
}

static int failed_op(jepa_err *err, int rc, queue *q, const char *what) {
    return err_set(err, rc, "encoder: %s failed on %s (code %d)", what, dev_name(queue_dev(q)), rc);
}

static int failed_block(jepa_err *err, int rc, queue *q, const enc *e, int at, int64_t n) {
    return err_set(err, rc, "encoder: block %d of width %d, head dim %d failed on %s for %lld tokens (code %d)", at, e->c.embed_dim,
                   e->c.embed_dim / e->c.num_heads, dev_name(queue_dev(q)), (long long)n, rc);
}

/* The rotary table of these tokens into a->cs: one for all items, or one each where their lists differ. */
static int place(const enc *e, queue *q, const enc_in *in, enc_acts *a, int64_t n, jepa_err *err) {
    const enc_cfg *c = &e->c;
    const pos_grid g = {.frames = in->frames / c->tubelet_size,
                        .rows = in->height / c->patch_size,
                        .cols = in->width / c->patch_size,
                        .split_rows = in->split_rows,
                        .split_cols = in->split_cols};
    const int32_t *list = in->keep_host;
    int64_t tables = 1;
    for (int64_t i = 1; list && tables == 1 && i < in->batch; i++)
        if (memcmp(list, list + i * n, (size_t)n * sizeof *list)) tables = in->batch;
    int rc = 0;
    for (int64_t i = 0; i < tables && !rc; i++) {
        rc = pos_fill(&g, list ? list + i * n : NULL, n, a->pos_host + 3 * i * n, err);
        if (rc < 0 && list) err_prefix(err, rc, "encoder: context of item %lld", (long long)i);
    }
    if (rc < 0) return rc;
    if ((rc = buf_put(q, a->pos, a->pos_host, (size_t)(tables * n) * 3 * sizeof(float), err)) < 0) return rc;
    rc = dev_ops(queue_dev(q))
             ->rope_table(q, &(op_rope_table){
                                 .n = tables * n, .head_dim = c->embed_dim / c->num_heads, .kind = ROPE_TILED, .pos = a->pos, .cs = a->cs});
    if (rc < 0) return failed_op(err, rc, q, "the rotary table");
    a->run = (block_run){.batch = in->batch, .tokens = n, .cs = a->cs, .cs_per_batch = tables > 1};
    return 0;
}

static int final_norm(const enc *e, queue *q, int64_t rows, const float *x, float *y, float *mean, float *rstd) {
    return dev_ops(queue_dev(q))
        ->layernorm(q, &(op_layernorm){.rows = rows,
                                       .d = e->c.embed_dim,
                                       .eps = e->c.layer_norm_eps,
                                       .x = x,
                                       .y = y,
                                       .w = param_value(e->p, e->norm_w),
                                       .b = param_value(e->p, e->norm_b),
                                       .mean = mean,
                                       .rstd = rstd});
}

static int hand_out(const enc *e, queue *q, const enc_in *in, const float *x, int64_t rows, float *to) {
    if (in->hidden_norm) return final_norm(e, q, rows, x, to, NULL, NULL);
    return dev_ops(queue_dev(q))
        ->copy_rows(q, &(op_rows){.batch = 1, .n_src = rows, .n_dst = rows, .d = e->c.embed_dim, .src = x, .dst = to, .count = rows});
}

int enc_forward(const enc *e, queue *q, const enc_in *in, enc_acts *a, float *tokens, jepa_err *err) {
    static const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f}; /* ImageNet's, as published */
    const enc_cfg *c = &e->c;
    const ops *o = dev_ops(queue_dev(q));
    int64_t n;
    int rc = check_input(e, q, in, a, tokens, &n, err), wanted = 0;
    if (rc < 0) return rc;
    a->ready = 0;
    if ((rc = place(e, q, in, a, n, err)) < 0) return rc;
    const int64_t rows = in->batch * n;
    rc = o->tubelets(q, &(op_tubelets){.batch = in->batch,
                                       .channels = c->in_chans,
                                       .frames = in->frames,
                                       .height = in->height,
                                       .width = in->width,
                                       .tubelet = c->tubelet_size,
                                       .patch = c->patch_size,
                                       .x = in->x,
                                       .type = in->type,
                                       .mean = mean,
                                       .std = std,
                                       .keep = in->keep,
                                       .n_keep = in->keep ? n : 0,
                                       .y = a->patches,
                                       .frames_first = in->frames_first});
    if (rc < 0) return failed_op(err, rc, q, "cutting tubelets");
    rc = o->linear(q, &(op_linear){.rows = rows,
                                   .in = row_width(c),
                                   .out = c->embed_dim,
                                   .x = a->patches,
                                   .w = param_value(e->p, e->patch_w),
                                   .pw = a->s.keep ? NULL : e->patch_p,
                                   .b = param_value(e->p, e->patch_b),
                                   .y = stack_in(&a->s)});
    if (rc < 0) return failed_op(err, rc, q, "the patch embedding");
    const int last = tokens ? c->depth : in->hidden_after[in->hidden_n - 1];
    for (int at = 0, next;; at = next) {
        if (wanted < in->hidden_n && in->hidden_after[wanted] == at)
            if ((rc = hand_out(e, q, in, stack_out(&a->s, at), rows, in->hidden_out[wanted++])) < 0)
                return failed_op(err, rc, q, "a hidden state");
        if (at == last) break;
        next = wanted < in->hidden_n ? in->hidden_after[wanted] : last;
        int where = at;
        rc = stack_forward(q, &e->bc, e->b, e->p, &a->run, &a->s, at, next, &where);
        if (rc < 0) return failed_block(err, rc, q, e, where, rows);
    }
    if (!tokens) return 0;
    if ((rc = final_norm(e, q, rows, a->s.last, tokens, a->mean, a->rstd)) < 0) return failed_op(err, rc, q, "the final norm");
    a->ready = a->s.keep;
    return 0;
}

/* ---- backward ---- */

int enc_backward(const enc *e, queue *q, enc_acts *a, float *dtokens, jepa_err *err) {
    const ops *o = dev_ops(queue_dev(q));
    params *p = e->p;
    if (!a->ready)
        return err_set(err, JEPA_E_USE, "encoder: backward follows one forward with keep_for_backward on the same working memory, once");
    if (!p->grad.p) return err_set(err, JEPA_E_USE, "encoder: the parameters have no gradients (params_alloc with PARAMS_GRAD)");
    if (a->mem.d != queue_dev(q) || p->grad.d != queue_dev(q) || !dtokens)
        return err_set(err, JEPA_E_USE, "encoder: backward without a gradient, or on another device");
    a->ready = 0;
    const int64_t rows = a->run.batch * a->run.tokens;
    int where = 0;
    int rc = o->layernorm_bwd(q, &(op_layernorm_bwd){.rows = rows,
                                                     .d = e->c.embed_dim,
                                                     .dy = dtokens,
                                                     .x = a->s.last,
                                                     .w = param_value(p, e->norm_w),
                                                     .mean = a->mean,
                                                     .rstd = a->rstd,
                                                     .dx = dtokens,
                                                     .dw = param_grad(p, e->norm_w),
                                                     .db = param_grad(p, e->norm_b)});
    if (rc < 0) return failed_op(err, rc, q, "backward of the final norm");
    if ((rc = stack_backward(q, &e->bc, e->b, p, &a->run, &a->s, dtokens, &where)) < 0) return failed_block(err, rc, q, e, where, rows);
    rc = o->linear_bwd(q, &(op_linear_bwd){.rows = rows,
                                           .in = row_width(&e->c),
                                           .out = e->c.embed_dim,
                                           .dy = dtokens,
                                           .x = a->patches,
                                           .dw = param_grad(p, e->patch_w),
                                           .db = param_grad(p, e->patch_b)});
    return rc < 0 ? failed_op(err, rc, q, "backward of the patch embedding") : 0;
}
