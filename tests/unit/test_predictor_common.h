/* test_predictor_common.h: a tiny predictor with random weights. */
#ifndef TEST_PREDICTOR_COMMON_H
#define TEST_PREDICTOR_COMMON_H
#include "test_encoder_common.h"
#include "predictor/predictor.h"

enum { BATCH = 2, CONTEXT = 5, TARGET = 4, IN = 28, OUT = 20, WIDTH = 24 };
static const int32_t context_list[BATCH * CONTEXT] = {0, 3, 4, 7, 8, 11, 9, 1, 2, 6},
                                          target_list[BATCH * TARGET] = {1, 2, 9, 10, 0, 3, 5, 10};

typedef struct model {
    dev *d;
    queue *q;
    params p;
    pred_cfg c;
    pred *e;
    pred_acts *a;
    float *z, *coef, *out;
    int64_t rows_out; /* rows a sequence predicts */
    int64_t z_dim, sequences;
    int all; /* pred_forward_all */
    pred_in in;
} model;

static inline void tiny_pred_cfg(pred_cfg *c) {
    enc_cfg ec;
    tiny_cfg(&ec);
    pred_cfg_defaults(c, &ec);
    c->predictor_embed_dim = WIDTH, c->depth = 2, c->num_heads = 2, c->out_dim = OUT, c->num_mask_tokens = 3, c->mlp_ratio = 1.5;
}

/* blocks: target lists an item; the caller gives in.target when there are several. */
static inline void open_cfg(model *m, const char *device, const pred_cfg *c, int blocks, recompute level, int keep) {
    jepa_err err = {0};
    memset(m, 0, sizeof *m);
    m->c = *c;
    m->z_dim = IN * (c->levels ? c->levels : 1);
    m->sequences = BATCH * blocks;
    must(dev_open(&m->d, device, 2, &err));
    must(queue_open(&m->q, m->d, &err));
    must(pred_open(&m->e, &m->c, &m->p, "predictor.", &err));
    must(params_alloc(&m->p, m->d, PARAMS_GRAD, &err));
    random_params(&m->p, 8);
    const pred_shape s = {.batch = m->sequences, .context = CONTEXT, .target = TARGET, .keep_for_backward = keep, .level = level};
    must(pred_acts_open(&m->a, m->e, m->d, &s, &err));
    m->z = numbers(BATCH * CONTEXT * m->z_dim, 1, -2, 2);
    m->coef = numbers(m->sequences * (CONTEXT + TARGET) * OUT, 2, -1, 1);
    m->out = mem_alloc((size_t)(m->sequences * (CONTEXT + TARGET) * OUT), sizeof(float));
    m->rows_out = TARGET;
    m->in = (pred_in){.batch = BATCH,
                      .n_context = CONTEXT,
                      .n_target = TARGET,
                      .z = m->z,
                      .context = context_list,
                      .target = target_list,
                      .grid = {.frames = 2, .rows = 2, .cols = 3},
                      .mask_token = 1,
                      .target_blocks = blocks};
}

static inline void open_model(model *m, const char *device, recompute level, int keep) {
    pred_cfg c;
    tiny_pred_cfg(&c);
    open_cfg(m, device, &c, 1, level, keep);
}

static inline void close_model(model *m) {
    pred_acts_close(&m->a);
    pred_close(&m->e);
    params_close(&m->p);
    queue_close(&m->q);
    dev_close(&m->d);
    mem_free(m->z);
    mem_free(m->coef);
    mem_free(m->out);
}

static inline void forward(model *m) {
    jepa_err err = {0};
    must((m->all ? pred_forward_all : pred_forward)(m->e, m->q, &m->in, m->a, m->out, &err));
}
#endif
