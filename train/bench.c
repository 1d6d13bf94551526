/* bench.c: see bench.h. */
#include "train/bench.h"
#include "compute/profile.h"
#include "predictor/flops.h"

#include <stdio.h>
#include <string.h>

int bench_train_cfg(train_cfg *c, const enc_cfg *e, int batch, jepa_err *err) {
    train_cfg_defaults(c);
    c->enc = *e;
    pred_cfg_defaults(&c->pred, &c->enc);
    c->feed.batch = batch;
    c->n_masks = 2;
    for (int i = 0; i < 2; i++) mask_cfg_defaults(&c->mask[i], MASK_MULTIBLOCK3D);
    c->mask[1].num_blocks = 2;
    c->mask[1].spatial_scale[0] = c->mask[1].spatial_scale[1] = 0.7;
    c->sched = (sched_cfg){.iterations_per_epoch = 300, .epochs = 100, .warmup_epochs = 1, .start_lr = 1e-6, .lr = 1e-5, .final_lr = 1e-6,
                           .weight_decay = 0.04, .final_weight_decay = 0.04, .ipe_scale = 1, .ema_start = 0.998, .ema_end = 0.998};
    snprintf(c->model_name, sizeof c->model_name, "custom");
    return enc_cfg_check(e, err);
}

/* ---- a step ---- */

typedef struct stepping { dev *d; const measure_cfg *c; train *t; train_batch b; } stepping;
static int step(void *ctx, jepa_err *err) {
    stepping *r = ctx;
    train_numbers num;
    const int rc = train_step(r->t, &r->b, 1, &num, err);
    if (rc < 0) return rc;
    return num.finite ? 0 : err_set(err, JEPA_E_STOPPED, "step %lld: %s is not finite", (long long)num.step, num.bad_term);
}
static int profiled(void *ctx, int on, jepa_err *err) {
    const stepping *r = ctx;
    return dev_profile(r->d, on ? r->c->profile : NULL, err);
}

static double step_flops(const train_cfg *c, const train_batch *b) {
    const int64_t n = enc_tokens(&c->enc, b->frames, b->height, b->width);
    double sum = flops_forward(enc_flops(&c->enc, b->batch, n, 0));
    for (int g = 0; g < b->n_gen; g++) {
        const mask_set *m = b->masks[g];
        const flops e = enc_flops(&c->enc, b->batch, m->n_context, 0), p = pred_flops(&c->pred, b->batch, m->n_context, m->n_target, m->num_targets, 0);
        sum += flops_forward(e) + flops_backward(e) + flops_forward(p) + flops_backward(p);
    }
    return sum;
}

static int64_t stored(const params *p) { return (int64_t)(p->value.bytes + p->grad.bytes + p->m.bytes + p->v.bytes + p->value16.bytes); }

int bench_step(dev *d, const train_cfg *c, const measure_cfg *time, measured *out, jepa_err *err) {
    const enc_cfg *e = &c->enc;
    const mask_grid grid = {e->num_frames / e->tubelet_size, e->img_height / e->patch_size, e->img_width / e->patch_size};
    mask_set *m[MAX_GENERATORS] = {NULL};
    stepping r = {.d = d, .c = time};
    uint8_t *x = NULL;
    size_t pixels;
    int rc = 0;
    memory_mark();
    *out = (measured){.clips = c->feed.batch, .tokens = enc_tokens(e, e->num_frames, e->img_height, e->img_width)};
    for (int i = 0; i < c->n_masks && rc == 0; i++)
        if ((rc = mask_cfg_check(&c->mask[i], grid, err)) == 0) rc = mask_group(&m[i], &c->mask[i], grid, c->feed.batch, c->seed, 0, 0, i, err);
    if (rc < 0) goto done;
    if (size_mul((size_t)c->feed.batch * (size_t)e->num_frames * 3, (size_t)e->img_height * (size_t)e->img_width, &pixels) || !(x = mem_alloc(pixels, 1))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for %d clips of %dx%dx%d", c->feed.batch, e->num_frames, e->img_height, e->img_width);
        goto done;
    }
    rng n = rng_key(c->seed, 0, 0, RNG_TEST);
    for (size_t i = 0; i + 4 <= pixels; i += 4) {
        const uint32_t v = rng_u32(&n);
        memcpy(x + i, &v, 4);
    }
    if ((rc = train_open(&r.t, c, d, err)) < 0 || (rc = train_init(r.t, err)) < 0) goto done;
    r.b = (train_batch){.batch = c->feed.batch, .frames = e->num_frames, .height = e->img_height, .width = e->img_width, .x = x, .type = T_U8,
                        .n_gen = c->n_masks, .masks = (const mask_set *const *)m};
    for (int i = 0; i < c->n_masks; i++) out->context += m[i]->n_context, out->target += (int64_t)m[i]->n_target * m[i]->num_targets;
    out->flops = step_flops(c, &r.b);
    out->weights = stored(train_params(r.t)) + stored(train_target(r.t));
    rc = measure(time, step, profiled, &r, out, err);
done:
    train_close(&r.t);
    for (int i = 0; i < MAX_GENERATORS; i++) mask_free(&m[i]);
    mem_free(x);
    return rc;
}

/* ---- the feed ---- */

static int next(void *ctx, jepa_err *err) {
    feed_batch *b = NULL;
    const int rc = feed_next(ctx, &b, err);
    if (rc == 0) feed_release(ctx, &b);
    return rc;
}

int bench_feed(const feed_cfg *c, const items *in, const measure_cfg *time, measured *out, jepa_err *err) {
    feed *f = NULL;
    measure_cfg t = *time;
    *out = (measured){.clips = c->batch};
    int rc = feed_open(&f, c, in, err);
    if (rc < 0) return rc;
    t.warm = c->queue_batches + 1; /* what was prepared ahead is no measure of the pace */
    rc = measure(&t, next, NULL, f, out, err);
    feed_close(&f);
    return rc;
}
