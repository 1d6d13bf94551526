/* step.h: the trainer's inside, shared by step.c and plan.c; not for others. */
#ifndef JEPA_TRAIN_STEP_H
#define JEPA_TRAIN_STEP_H
#include "train/train.h"

struct train {
    train_cfg cfg;
    dev *d;
    queue *q;
    params p, tp; /* trained: encoder.*, predictor.*; followed: target_encoder.* */
    enc *encoder, *target;
    pred *predictor;
    int64_t enc_elements;   /* where predictor.* begins in p's arrays */
    unsigned char *touched; /* per parameter: got a gradient in this step (mask tokens may not) */
    int64_t step;           /* steps taken */
    int halved;             /* in bf16: the copies beside the masters are theirs */

    /* working memory, planned for one shape: of a group of `batch` samples, `micro` run at a time */
    int64_t batch, micro, frames, height, width, tokens, blocks;
    enc_acts *enc_a, *tgt_a;
    pred_acts *pred_a;
    buf x, keep, all, h, z, dz, out, loss;
    int64_t seen_context; /* rows of z that the last group left behind, for the monitor */
    int32_t *part;        /* host memory: the index lists of the samples that run together */
    double *spread;       /* report_variance: [batch,D] of one group, sums over its generators; host memory */
};

/* Working memory's shapes, for `batch` samples run together (plan.c). */
enc_shape plan_context(const train *t, int64_t batch, int64_t frames, int64_t height, int64_t width);
enc_shape plan_target(const train *t, int64_t batch, int64_t frames, int64_t height, int64_t width);
pred_shape plan_predictor(const train *t, int64_t batch, int64_t tokens, int64_t blocks);
int64_t plan_blocks(const train_cfg *c); /* target blocks of the generator that has the most */
/* Recomputation and micro-batch into t->cfg, where cfg.memory_limit says to choose them. */
int plan_choose(train *t, jepa_err *err);

#endif
