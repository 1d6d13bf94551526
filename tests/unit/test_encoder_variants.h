/* test_encoder_variants.h: tiny encoders of every kind of the family, with inputs, for the tests of forward and backward. */
#ifndef TEST_ENCODER_VARIANTS_H
#define TEST_ENCODER_VARIANTS_H
#include "test_encoder_common.h"

typedef struct variant {
    const char *name;
    pos_kind positions;
    int dim, planar, uniform, columns, rescaled, norms, levels, image, modality, depth, heads;
    int frames, height, width, all_levels; /* of the input */
} variant;

/* 28 channels on 2 heads: head dim 14, of which rotary positions turn 12. Inputs of 4 x 8 x 12 are 2 x 2 x 3 tokens. */
static const variant variants[] = {
    {"I-JEPA", POS_SINCOS, 28, 1, 0, 1, 0, 0, 0, 0, 0, 2, 2, 1, 8, 12, 0},
    {"V-JEPA 1, equal shares", POS_SINCOS, 28, 0, 1, 0, 0, 0, 0, 0, 0, 2, 2, 4, 8, 12, 0},
    {"V-JEPA 1, unequal shares", POS_SINCOS, 24, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 4, 8, 12, 0},
    {"V-JEPA 1 at another size", POS_SINCOS, 24, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 12, 16, 0},
    {"interleaved", POS_ROPE_INTERLEAVED, 28, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 4, 8, 12, 0},
    {"2.1, four levels of a clip", POS_ROPE_INTERLEAVED, 28, 0, 0, 0, 1, 4, 4, 1, 1, 5, 2, 4, 8, 12, 1},
    {"2.1, four levels of an image", POS_ROPE_INTERLEAVED, 28, 0, 0, 0, 1, 4, 4, 1, 1, 5, 2, 1, 12, 16, 1},
    {"2.1, last level of a clip", POS_ROPE_INTERLEAVED, 28, 0, 0, 0, 1, 4, 4, 1, 1, 5, 2, 4, 8, 12, 0},
    {"2.1, last level of an image", POS_ROPE_INTERLEAVED, 28, 0, 0, 0, 1, 4, 4, 1, 1, 5, 2, 1, 12, 16, 0},
    {"2.1 distilled", POS_ROPE_INTERLEAVED, 28, 0, 0, 0, 1, 4, 1, 1, 1, 5, 2, 4, 8, 12, 1},
    {"two of three levels", POS_ROPE_TILED, 28, 0, 0, 0, 0, 3, 2, 0, 0, 5, 2, 4, 8, 12, 1},
};
enum { VARIANTS = sizeof variants / sizeof *variants };

static inline void variant_cfg(const variant *v, enc_cfg *c) {
    static const int four[4] = {0, 1, 3, 4}, three[4] = {1, 2, 4, 0};
    tiny_cfg(c);
    c->positions = v->positions, c->embed_dim = v->dim, c->depth = v->depth, c->num_heads = v->heads;
    c->uniform_power = v->uniform, c->columns_first = v->columns, c->interpolate_rope = v->rescaled;
    if (v->planar) c->num_frames = c->tubelet_size = 1;
    c->level_norms = v->norms, c->levels = v->levels, c->image_patch_embed = v->image, c->modality_embedding = v->modality;
    memcpy(c->level_block, v->norms == 3 ? three : four, sizeof four);
}

typedef struct made {
    dev *d;
    queue *q;
    params p;
    enc *e;
    enc_cfg c;
} made;

static inline void make(made *m, const enc_cfg *c, const char *device, int what) {
    jepa_err err = {0};
    memset(m, 0, sizeof *m);
    m->c = *c;
    must(dev_open(&m->d, device, 2, &err));
    must(queue_open(&m->q, m->d, &err));
    must(enc_open(&m->e, c, &m->p, "encoder.", &err));
    must(params_alloc(&m->p, m->d, what, &err));
    random_params(&m->p, 5);
}

static inline void unmake(made *m) {
    enc_close(&m->e);
    params_close(&m->p);
    queue_close(&m->q);
    dev_close(&m->d);
}

static inline enc_in variant_in(const variant *v, const float *x, int64_t batch) {
    return (enc_in){.batch = batch, .frames = v->frames, .height = v->height, .width = v->width, .x = x, .type = T_F32,
                    .all_levels = v->all_levels};
}

static inline int64_t tokens_of(const made *m, const enc_in *in) {
    return in->keep ? in->n_keep : enc_tokens(&m->c, in->frames, in->height, in->width);
}

static inline float *param_named(params *p, const char *name) {
    const int i = params_find(p, name);
    if (i < 0) fail_msg("no %s", name);
    return param_value(p, i);
}
#endif
