/* encoder.c: the V-JEPA ViT over tubelets: parameters, initialisation, forward and backward. */
#include "encoder/init.h"
#include "encoder/parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

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

/* Patch embeddings and what is added to them. */
static int add_embedding(enc *e, const char *prefix, jepa_err *err) {
    const enc_cfg *c = &e->c;
    /* With a tubelet of one frame the published weight is that of a 2-D convolution; 2.1's for images is a 3-D one all the same. */
    const int64_t d = c->embed_dim, p = c->patch_size, flat = c->tubelet_size == 1, one[] = {1, 1, d};
    const int64_t cube[] = {d, c->in_chans, c->tubelet_size, p, p}, plane[] = {d, c->in_chans, p, p}, image[] = {d, c->in_chans, 1, p, p};
    int rc = add(e, err, prefix, "patch_embed.proj.weight", flat ? 4 : 5, flat ? plane : cube, &e->patch_w);
    if (!rc) e->p->item[e->patch_w].flags |= PARAM_PRODUCT;
    if (!rc) rc = add(e, err, prefix, "patch_embed.proj.bias", 1, &d, &e->patch_b);
    if (!rc && c->image_patch_embed) rc = add(e, err, prefix, "patch_embed_img.proj.weight", 5, image, &e->image_w);
    if (!rc && c->image_patch_embed) e->p->item[e->image_w].flags |= PARAM_PRODUCT;
    if (!rc && c->image_patch_embed) rc = add(e, err, prefix, "patch_embed_img.proj.bias", 1, &d, &e->image_b);
    if (!rc && c->modality_embedding) rc = add(e, err, prefix, "img_mod_embed", 3, one, &e->image_mod);
    if (!rc && c->modality_embedding) rc = add(e, err, prefix, "video_mod_embed", 3, one, &e->video_mod);
    if (!rc && c->positions == POS_SINCOS) {
        const int64_t table[] = {1, enc_tokens(c, c->num_frames, c->img_height, c->img_width), d};
        rc = add(e, err, prefix, "pos_embed", 3, table, &e->pos);
        if (!rc) e->p->item[e->pos].flags |= PARAM_FIXED;
    }
    return rc;
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
    e->bc = (block_cfg){c->embed_dim, c->num_heads, (int)floor(c->embed_dim * c->mlp_ratio), c->layer_norm_eps, T_F32};
    e->p = p;
    const int64_t d = c->embed_dim;
    if ((rc = add_embedding(e, prefix, err)) < 0) goto fail;
    for (int i = 0; i < c->depth; i++) {
        char name[128];
        int k = snprintf(name, sizeof name, "%sblocks.%d.", prefix, i);
        if (k < 0 || (size_t)k >= sizeof name) {
            rc = err_set(err, JEPA_E_USE, "parameter name too long: %sblocks.%d.", prefix, i);
            goto fail;
        }
        if ((rc = block_params(&e->b[i], &e->bc, p, name, err)) < 0) goto fail;
    }
    for (int i = 0; i < enc_norms(c); i++) {
        char w[32] = "norm.weight", b[32] = "norm.bias";
        if (c->level_norms) {
            snprintf(w, sizeof w, "norms_block.%d.weight", i);
            snprintf(b, sizeof b, "norms_block.%d.bias", i);
        }
        if ((rc = add(e, err, prefix, w, 1, &d, &e->norm_w[i])) < 0 || (rc = add(e, err, prefix, b, 1, &d, &e->norm_b[i])) < 0) goto fail;
    }
    *out = e;
    return 0;
fail:
    enc_close(&e);
    return rc;
}

void enc_close(enc **e) {
    if (!e || !*e) return;
    mem_free((*e)->b);
    mem_free(*e);
    *e = NULL;
}

const enc_cfg *enc_config(const enc *e) { return &e->c; }

int enc_set_type(enc *e, dtype type, jepa_err *err) {
    if (type != T_F32 && type != T_BF16)
        return err_set(err, JEPA_E_UNSUPPORTED, "encoder: it computes in f32 and bf16, not in %s", dtype_name(type));
    e->bc.type = type;
    return 0;
}
dtype enc_type(const enc *e) { return e->bc.type; }

int enc_init(const enc *e, queue *q, double sd, uint64_t seed, jepa_err *err) {
    const enc_cfg *c = &e->c;
    params *p = e->p;
    /* The codes of V-JEPA 1 and I-JEPA draw every Linear again after dividing, so that there the division is lost. */
    const int divided = c->positions != POS_SINCOS;
    int rc = init_check(p, sd, err);
    if (!rc) rc = init_normal(q, p, e->patch_w, sd, 1, seed, err);
    if (!rc) rc = init_fill(q, p, e->patch_b, 0, err);
    if (!rc && c->image_patch_embed) rc = init_normal(q, p, e->image_w, sd, 1, seed, err);
    if (!rc && c->image_patch_embed) rc = init_fill(q, p, e->image_b, 0, err);
    if (!rc && c->modality_embedding) rc = init_normal(q, p, e->image_mod, 1e-6, 1, seed, err);
    if (!rc && c->modality_embedding) rc = init_normal(q, p, e->video_mod, 1e-6, 1, seed, err);
    for (int i = 0; i < c->depth && !rc; i++) rc = block_init(&e->b[i], q, p, divided ? i + 1 : 0, sd, seed, err);
    for (int i = 0; i < enc_norms(c) && !rc; i++) {
        rc = init_fill(q, p, e->norm_w[i], 1, err);
        if (!rc) rc = init_fill(q, p, e->norm_b[i], 0, err);
    }
    return rc ? rc : enc_tables(e, q, err);
}

/* ---- forward ---- */

static int check_input(const enc *e, queue *q, const enc_in *in, const enc_acts *a, const float *tokens, int64_t *per_item, jepa_err *err) {
    const enc_cfg *c = &e->c;
    if (!e->p->value.p) return err_set(err, JEPA_E_USE, "encoder: the parameters are not allocated yet (params_alloc)");
    if (a->mem.d != queue_dev(q) || e->p->value.d != queue_dev(q))
        return err_set(err, JEPA_E_USE, "encoder: queue, parameters and working memory belong to different devices");
    if (a->type != e->bc.type) return err_set(err, JEPA_E_USE, "encoder: the working memory was made for another precision");
    if (a->c.embed_dim != c->embed_dim || a->c.depth != c->depth || a->c.num_heads != c->num_heads || a->c.mlp_ratio != c->mlp_ratio ||
        enc_row_width(&a->c, 0) != enc_row_width(c, 0) || enc_levels(&a->c) != enc_levels(c) || a->c.positions != c->positions ||
        !a->c.modality_embedding != !c->modality_embedding)
        return err_set(err, JEPA_E_USE, "encoder: the working memory was made for an encoder of another size or kind");
    if (!in->x || (!tokens && (a->s.keep || !in->hidden_n)))
        return err_set(err, JEPA_E_USE, "encoder: no input or no place for the tokens");
    if (in->type != T_F32 && in->type != T_U8)
        return err_set(err, JEPA_E_USE, "encoder: input of type %s; f32 or u8 are taken", dtype_name(in->type));
    if (in->type == T_U8 && c->in_chans != 3)
        return err_set(err, JEPA_E_USE, "encoder: u8 input means 3 colours, this model has %d channels", c->in_chans);
    for (int i = 0; in->type == T_U8 && i < 3; i++)
        if ((in->mean && !isfinite(in->mean[i])) || (in->std && !(in->std[i] > 0 && isfinite(in->std[i]))))
            return err_set(err, JEPA_E_USE, "encoder: colour %d is to be scaled by mean %g and std %g; a number and one above 0 are wanted",
                           i, in->mean ? (double)in->mean[i] : 0, in->std ? (double)in->std[i] : 1);
    if (in->batch < 1 || in->batch > INT32_MAX) return err_set(err, JEPA_E_USE, "encoder: a batch of %lld", (long long)in->batch);
    if (in->frames < c->tubelet_size && !enc_is_image(c, in->frames))
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

int enc_failed(jepa_err *err, int rc, queue *q, const char *what) {
    return err_set(err, rc, "encoder: %s failed on %s (code %d)", what, dev_name(queue_dev(q)), rc);
}

int enc_forward(const enc *e, queue *q, const enc_in *in, enc_acts *a, float *tokens, jepa_err *err) {
    const enc_cfg *c = &e->c;
    int64_t n;
    int rc = check_input(e, q, in, a, tokens, &n, err), wanted = 0;
    if (rc < 0) return rc;
    a->ready = 0;
    a->image = enc_is_image(c, in->frames);
    a->first = enc_norms(c) - (in->all_levels ? enc_levels(c) : 1);
    if ((rc = enc_embed(e, q, in, a, n, err)) < 0) return rc;
    const int last = tokens ? c->depth : in->hidden_after[in->hidden_n - 1];
    for (int at = 0, next;; at = next) {
        if ((rc = enc_hand_out(e, q, in, a, at, &wanted, tokens, err)) < 0) return rc;
        if (at == last) break;
        next = wanted < in->hidden_n ? in->hidden_after[wanted] : last;
        for (int i = a->first; tokens && i < enc_norms(c); i++)
            if (enc_norm_after(c, i) > at && enc_norm_after(c, i) < next) next = enc_norm_after(c, i);
        int where = at;
        rc = stack_forward(q, &e->bc, e->b, e->p, &a->run, &a->s, at, next, &where);
        if (rc < 0)
            return err_set(err, rc, "encoder: block %d of width %d, head dim %d failed on %s for %lld tokens (code %d)", where,
                           c->embed_dim, c->embed_dim / c->num_heads, dev_name(queue_dev(q)), (long long)(in->batch * n), rc);
    }
    a->ready = tokens && a->s.keep;
    return 0;
}

int enc_backward(const enc *e, queue *q, enc_acts *a, float *dtokens, jepa_err *err) {
    const params *p = e->p;
    if (!a->ready)
        return err_set(err, JEPA_E_USE, "encoder: backward follows one forward with keep_for_backward on the same working memory, once");
    if (!p->grad.p) return err_set(err, JEPA_E_USE, "encoder: the parameters have no gradients (params_alloc with PARAMS_GRAD)");
    if (a->mem.d != queue_dev(q) || p->grad.d != queue_dev(q) || !dtokens)
        return err_set(err, JEPA_E_USE, "encoder: backward without a gradient, or on another device");
    a->ready = 0;
    float *dx;
    int rc = enc_levels_backward(e, q, a, dtokens, &dx, err);
    return rc < 0 ? rc : enc_embed_backward(e, q, a, dx, err);
}
