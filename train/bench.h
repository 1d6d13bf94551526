/* bench.h: what `jepa bench` measures of training: a step on clips in memory, and the feed that brings clips. */
#ifndef JEPA_TRAIN_BENCH_H
#define JEPA_TRAIN_BENCH_H
#include "base/measure.h"
#include "train/train.h"

/* A step as published for V-JEPA 2: this encoder, predictor 384 wide, 12 deep, 12 heads, mask generators of 8 blocks of 0.15 and 2 of 0.7. */
int bench_train_cfg(train_cfg *c, const enc_cfg *e, int batch, jepa_err *err);
/* One mask group's gradients, AdamW and EMA; the same masks in every run (step 0 of c->seed). A configuration's c->accumulate is not followed. */
int bench_step(dev *d, const train_cfg *c, const measure_cfg *time, measured *out, jepa_err *err);
/* A run is one batch waited for and given back. */
int bench_feed(const feed_cfg *c, const items *in, const measure_cfg *time, measured *out, jepa_err *err);
#endif
