/* predictor.c: the masked predictor of the whole family: parameters, initialisation, forward and backward. */
#include "encoder/init.h"
#include "predictor/parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

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

/* A Linear's weight and bias; what stands between prefix and those words is its name. */
static int add_linear(pred *e, jepa_err *err, const char *prefix, const char *name, int64_t out, int64_t in, int *w, int *b) {
    char full[128];
    snprintf(full, sizeof full, "%s.weight", name);
    int rc = add(e, err, prefix, full, 2, out, in, 0, w);
    if (!rc) e->p->item[*w].flags |= PARAM_PRODUCT;
    snprintf(full, sizeof full, "%s.bias", name);
    return rc ? rc : add(e, err, prefix, full, 1, out, 0, 0, b);
}

static int add_inputs(pred *e, const char *prefix, jepa_err *err) {
    const pred_cfg *c = &e->c;
    const int64_t d = c->embed_dim, w = c->predictor_embed_dim;
    const int levels = pred_levels(c);
    char name[128];
    int rc = 0;
    if (levels > 1) rc = add_linear(e, err, prefix, "predictor_embed.0", d, levels * d, &e->first_w, &e->first_b);
    if (!rc) rc = add_linear(e, err, prefix, levels > 1 ? "predictor_embed.2" : "predictor_embed", w, d, &e->embed_w, &e->embed_b);
    for (int i = 0; i < c->num_mask_tokens && !rc; i++) {
        snprintf(name, sizeof name, c->single_mask_token ? "mask_token" : "mask_tokens.%d", i);
        rc = add(e, err, prefix, name, 3, 1, 1, w, &e->mask[i]);
    }
    if (!rc && c->modality_embedding) rc = add(e, err, prefix, "img_mod_embed", 3, 1, 1, w, &e->image_mod);
    if (!rc && c->modality_embedding) rc = add(e, err, prefix, "video_mod_embed", 3, 1, 1, w, &e->video_mod);
    if (!rc && c->positions == POS_SINCOS) {
        rc = add(e, err, prefix, "predictor_pos_embed", 3, 1, (int64_t)c->frames * c->rows * c->cols, w, &e->pos);
        if (!rc) e->p->item[e->pos].flags |= PARAM_FIXED;
    }
    return rc;
}

static int add_all(pred *e, const char *prefix, jepa_err *err) {
    const int64_t w = e->c.predictor_embed_dim;
    char name[128];
    int rc = add_inputs(e, prefix, err);
    for (int i = 0; i < e->c.depth && !rc; i++) {
        int k = snprintf(name, sizeof name, "%spredictor_blocks.%d.", prefix, i);
        if (k < 0 || (size_t)k >= sizeof name)
            rc = err_set(err, JEPA_E_USE, "parameter name too long: %spredictor_blocks.%d.", prefix, i);
        else
            rc = block_params(&e->b[i], &e->bc, e->p, name, err);
    }
    if (!rc) rc = add(e, err, prefix, "predictor_norm.weight", 1, w, 0, 0, &e->norm_w);
    if (!rc) rc = add(e, err, prefix, "predictor_norm.bias", 1, w, 0, 0, &e->norm_b);
    if (!rc) rc = add_linear(e, err, prefix, "predictor_proj", e->c.out_dim, w, &e->proj_w, &e->proj_b);
    if (!rc && e->c.context_proj) rc = add_linear(e, err, prefix, "predictor_proj_context", e->c.out_dim, w, &e->context_w, &e->context_b);
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
    e->bc = (block_cfg){c->predictor_embed_dim, c->num_heads, (int)floor(c->predictor_embed_dim * c->mlp_ratio), c->layer_norm_eps, T_F32};
    e->p = p;
    if ((rc = add_all(e, prefix, err)) < 0) goto fail;
    *out = e;
    return 0;
fail:
    pred_close(&e);
    return rc;
}

void pred_close(pred **e) {
    if (!e || !*e) return;
    mem_free((*e)->b);
    mem_free((*e)->mask);
    mem_free(*e);
    *e = NULL;
}

const pred_cfg *pred_config(const pred *e) { return &e->c; }

int pred_set_type(pred *e, dtype type, jepa_err *err) {
    if (type != T_F32 && type != T_BF16)
        return err_set(err, JEPA_E_UNSUPPORTED, "predictor: it computes in f32 and bf16, not in %s", dtype_name(type));
    e->bc.type = type;
    return 0;
}

static int init_linear(const pred *e, queue *q, int w, int b, double sd, uint64_t seed, jepa_err *err) {
    int rc = init_normal(q, e->p, w, sd, 1, seed, err);
    return rc ? rc : init_fill(q, e->p, b, 0, err);
}

int pred_init(const pred *e, queue *q, double sd, uint64_t seed, jepa_err *err) {
    const pred_cfg *c = &e->c;
    /* The codes of V-JEPA 1 and I-JEPA draw every Linear again after dividing by √(2i), so that there the division is lost. */
    const int divided = c->positions != POS_SINCOS;
    int rc = init_check(e->p, sd, err);
    if (!rc && pred_levels(c) > 1) rc = init_linear(e, q, e->first_w, e->first_b, sd, seed, err);
    if (!rc) rc = init_linear(e, q, e->embed_w, e->embed_b, sd, seed, err);
    for (int i = 0; i < c->num_mask_tokens && !rc; i++) /* I-JEPA draws its one token, the others begin at zero */
        rc = c->single_mask_token ? init_normal(q, e->p, e->mask[i], sd, 1, seed, err) : init_fill(q, e->p, e->mask[i], 0, err);
    if (!rc && c->modality_embedding) rc = init_normal(q, e->p, e->image_mod, 1e-6, 1, seed, err);
    if (!rc && c->modality_embedding) rc = init_normal(q, e->p, e->video_mod, 1e-6, 1, seed, err);
    for (int i = 0; i < c->depth && !rc; i++) rc = block_init(&e->b[i], q, e->p, divided ? i + 1 : 0, sd, seed, err);
    if (!rc) rc = init_fill(q, e->p, e->norm_w, 1, err);
    if (!rc) rc = init_fill(q, e->p, e->norm_b, 0, err);
    if (!rc) rc = init_linear(e, q, e->proj_w, e->proj_b, sd, seed, err);
    if (!rc && c->context_proj) rc = init_linear(e, q, e->context_w, e->context_b, sd, seed, err);
    return rc ? rc : pred_tables(e, q, err);
}

int pred_tables(const pred *e, queue *q, jepa_err *err) {
    const pred_cfg *c = &e->c;
    if (c->positions != POS_SINCOS) return 0;
    if (!e->p->value.p) return err_set(err, JEPA_E_USE, "predictor: the parameters are not allocated yet (params_alloc)");
    const pos_sincos_cfg t = {.frames = c->frames,
                              .rows = c->rows,
                              .cols = c->cols,
                              .dim = c->predictor_embed_dim,
                              .planar = c->frames == 1,
                              .uniform_power = c->uniform_power,
                              .columns_first = c->columns_first};
    const size_t count = (size_t)e->p->item[e->pos].count;
    float *host = mem_alloc(count, sizeof *host);
    if (!host)
        return err_set(err, JEPA_E_MEMORY, "predictor: no memory for a table of %d x %d x %d positions", c->frames, c->rows, c->cols);
    int rc = pos_sincos(&t, host, err);
    if (!rc) rc = buf_put(q, param_value(e->p, e->pos), host, count * sizeof *host, err);
    if (!rc) rc = queue_wait(q, err);
    mem_free(host);
    return rc;
}

/* ---- forward ---- */

static int check_input(const pred *e, queue *q, const pred_in *in, const pred_acts *a, const float *out, jepa_err *err) {
    const pred_cfg *c = &e->c, *m = &a->c;
    if (!e->p->value.p) return err_set(err, JEPA_E_USE, "predictor: the parameters are not allocated yet (params_alloc)");
    if (a->mem.d != queue_dev(q) || e->p->value.d != queue_dev(q))
        return err_set(err, JEPA_E_USE, "predictor: queue, parameters and working memory belong to different devices");
    if (a->type != e->bc.type) return err_set(err, JEPA_E_USE, "predictor: the working memory was made for another precision");
    if (m->predictor_embed_dim != c->predictor_embed_dim || m->depth != c->depth || m->num_heads != c->num_heads ||
        m->mlp_ratio != c->mlp_ratio || pred_levels(m) != pred_levels(c) || (pred_levels(c) > 1 && m->embed_dim != c->embed_dim) ||
        m->positions != c->positions || !m->modality_embedding != !c->modality_embedding)
        return err_set(err, JEPA_E_USE, "predictor: the working memory was made for a predictor of another size or kind");
    if (!in->z || !in->context || !in->target || !out)
        return err_set(err, JEPA_E_USE, "predictor: tokens, an index list or the place for predictions is missing");
    if (in->batch < 1 || in->n_context < 1 || in->n_target < 1 || in->n_context > INT32_MAX || in->n_target > INT32_MAX)
        return err_set(err, JEPA_E_USE, "predictor: batch %lld of %lld context and %lld target tokens; at least one of each",
                       (long long)in->batch, (long long)in->n_context, (long long)in->n_target);
    if (in->target_blocks < 0 || in->target_blocks > 1 << 20)
        return err_set(err, JEPA_E_USE, "predictor: %d target blocks", in->target_blocks);
    const int64_t blocks = in->target_blocks > 1 ? in->target_blocks : 1;
    if (in->batch > a->rows / (in->n_context + in->n_target) / blocks) {
        char times[32] = "";
        if (blocks > 1) snprintf(times, sizeof times, " x %d target blocks", in->target_blocks);
        return err_set(err, JEPA_E_USE, "predictor: %lld x (%lld + %lld) tokens%s, and the working memory has room for %lld",
                       (long long)in->batch, (long long)in->n_context, (long long)in->n_target, times, (long long)a->rows);
    }
    if (pred_levels(c) > 1 && in->batch > a->context_rows / in->n_context)
        return err_set(err, JEPA_E_USE, "predictor: %lld x %lld context tokens, and the working memory has room for %lld",
                       (long long)in->batch, (long long)in->n_context, (long long)a->context_rows);
    return 0;
}

int pred_failed(jepa_err *err, int rc, queue *q, const char *what) {
    return err_set(err, rc, "predictor: %s failed on %s (code %d)", what, dev_name(queue_dev(q)), rc);
}

static int failed_block(jepa_err *err, int rc, queue *q, const pred *e, int at, int64_t n) {
    return err_set(err, rc, "predictor: block %d of width %d, head dim %d failed on %s for %lld tokens (code %d)", at, e->bc.dim,
                   e->bc.dim / e->bc.num_heads, dev_name(queue_dev(q)), (long long)n, rc);
}

static int forward(const pred *e, queue *q, const pred_in *in, pred_acts *a, int all, float *out, jepa_err *err) {
    int rc = check_input(e, q, in, a, out, err), where = 0;
    if (rc < 0) return rc;
    a->ready = 0;
    const int tokens = e->c.num_mask_tokens;
    a->z = in->z;
    a->n_context = in->n_context;
    a->blocks = in->target_blocks > 1 ? in->target_blocks : 1;
    a->first = all ? 0 : in->n_context;
    a->count = in->n_context + in->n_target - a->first;
    a->mask = e->mask[(in->mask_token % tokens + tokens) % tokens];
    a->modality = in->image ? e->image_mod : e->video_mod;
    if ((rc = pred_sequence(e, q, in, a, err)) < 0) return rc;
    rc = stack_forward(q, &e->bc, e->b, e->p, &a->run, &a->s, 0, e->c.depth, &where);
    if (rc < 0) return failed_block(err, rc, q, e, where, a->run.batch * a->run.tokens);
    if ((rc = pred_project(e, q, a, out, err)) < 0) return rc;
    a->ready = a->s.keep;
    return 0;
}

int pred_forward(const pred *e, queue *q, const pred_in *in, pred_acts *a, float *predicted, jepa_err *err) {
    return forward(e, q, in, a, 0, predicted, err);
}

int pred_forward_all(const pred *e, queue *q, const pred_in *in, pred_acts *a, float *all, jepa_err *err) {
    return forward(e, q, in, a, 1, all, err);
}

int pred_backward(const pred *e, queue *q, pred_acts *a, float *dpredicted, float *dz, jepa_err *err) {
    if (!a->ready)
        return err_set(err, JEPA_E_USE, "predictor: backward follows one forward with keep_for_backward on the same working memory, once");
    if (!e->p->grad.p) return err_set(err, JEPA_E_USE, "predictor: the parameters have no gradients (params_alloc with PARAMS_GRAD)");
    if (a->mem.d != queue_dev(q) || e->p->grad.d != queue_dev(q) || !dpredicted)
        return err_set(err, JEPA_E_USE, "predictor: backward without a gradient, or on another device");
    a->ready = 0;
    int where = 0, rc = pred_project_backward(e, q, a, dpredicted, err);
    if (rc < 0) return rc;
    rc = stack_backward(q, &e->bc, e->b, e->p, &a->run, &a->s, a->dstream, &where);
    if (rc < 0) return failed_block(err, rc, q, e, where, a->run.batch * a->run.tokens);
    return pred_sequence_backward(e, q, a, dz, err);
}
