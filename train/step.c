/* step.c: one training step: targets, context, prediction, loss, backward, AdamW, EMA.
 *
 * A step adds up the gradients of its mask groups; within a group each mask generator runs forward and backward by itself, so that one
 * set of activations serves all of them. Follows V-JEPA 2 (2506.09985), and as published V-JEPA (2404.08471: a mask token for each
 * generator, gradients clipped) and I-JEPA (2301.08243: smooth L1, several target blocks from one context); the three sets
 * golden/train-step-* are the truth it is held to. */
#include "train/step.h"
#include "compute/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whoever asks may change the values. */
params *train_params(train *t) {
    t->halved = 0;
    return &t->p;
}
params *train_target(train *t) {
    t->halved = 0;
    return &t->tp;
}
int64_t train_step_count(const train *t) { return t->step; }
void train_set_step(train *t, int64_t step) { t->step = step; }
enc *train_encoder(train *t, int target) { return target ? t->target : t->encoder; }
pred *train_predictor(train *t) { return t->predictor; }
queue *train_queue(train *t) { return t->q; }

int train_features(const train *t, int which, const float **tokens, int64_t *clips, int64_t *per_clip, int64_t *d) {
    *clips = t->batch;
    *d = t->cfg.enc.embed_dim;
    *per_clip = which ? t->tokens : t->seen_context;
    *tokens = which ? t->all.p : t->z.p;
    return *per_clip > 0 ? 0 : JEPA_E_END;
}

static void close_workspace(train *t) {
    enc_acts_close(&t->enc_a);
    enc_acts_close(&t->tgt_a);
    pred_acts_close(&t->pred_a);
    buf *const b[] = {&t->x, &t->keep, &t->all, &t->h, &t->z, &t->dz, &t->out, &t->loss};
    for (size_t i = 0; i < sizeof b / sizeof *b; i++) buf_free(b[i]);
    mem_free(t->spread);
    mem_free(t->part);
    t->spread = NULL;
    t->part = NULL;
    t->batch = t->micro = t->frames = t->height = t->width = t->tokens = t->blocks = t->seen_context = 0;
}

static int open_workspace(train *t, int64_t batch, int64_t frames, int64_t height, int64_t width, int64_t blocks, jepa_err *err) {
    if (t->tokens && batch <= t->batch && blocks <= t->blocks && frames == t->frames && height == t->height && width == t->width) return 0;
    close_workspace(t);
    const int64_t n = enc_tokens(&t->cfg.enc, frames, height, width), d = t->cfg.enc.embed_dim;
    const int64_t micro = t->cfg.micro_batch > 0 && t->cfg.micro_batch < batch ? t->cfg.micro_batch : batch;
    if (n < 2)
        return err_set(err, JEPA_E_MODEL, "clips of %lld frames of %lldx%lld give %lld tokens; masks need at least 2", (long long)frames,
                       (long long)height, (long long)width, (long long)(n < 0 ? 0 : n));
    const enc_shape s = plan_context(t, micro, frames, height, width), full = plan_target(t, micro, frames, height, width);
    const pred_shape ps = plan_predictor(t, micro, n, blocks);
    size_t row, group, part, parts, index;
    int rc = JEPA_E_MEMORY;
    if (size_mul((size_t)n, (size_t)d * sizeof(float), &row) || size_mul(row, (size_t)batch, &group) ||
        size_mul(row, (size_t)micro, &part) || size_mul(part, (size_t)blocks, &parts) ||
        size_mul((size_t)(micro * n), (size_t)(blocks + 1) * sizeof(int32_t), &index)) {
        err_set(err, rc, "the batch of %lld clips of %lld tokens overflows", (long long)batch, (long long)n);
        goto fail;
    }
    if ((rc = enc_acts_open(&t->enc_a, t->encoder, t->d, &s, err)) < 0 ||
        (rc = enc_acts_open(&t->tgt_a, t->target, t->d, &full, err)) < 0 ||
        (rc = pred_acts_open(&t->pred_a, t->predictor, t->d, &ps, err)) < 0 || (rc = buf_new(&t->keep, t->d, index, err)) < 0 ||
        (rc = buf_new(&t->all, t->d, group, err)) < 0 || (rc = buf_new(&t->h, t->d, parts, err)) < 0 ||
        (rc = buf_new(&t->z, t->d, group, err)) < 0 || (rc = buf_new(&t->dz, t->d, part, err)) < 0 ||
        (rc = buf_new(&t->out, t->d, parts, err)) < 0 || (rc = buf_new(&t->loss, t->d, 4 * sizeof(double), err)) < 0)
        goto fail;
    if (!(t->part = mem_alloc(index, 1)) || (t->cfg.report_variance && !(t->spread = mem_alloc((size_t)(batch * d), sizeof *t->spread)))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for the indices or the variance of %lld clips", (long long)batch);
        goto fail;
    }
    t->batch = batch, t->micro = micro, t->frames = frames, t->height = height, t->width = width, t->tokens = n, t->blocks = blocks;
    return 0;
fail:
    close_workspace(t);
    return rc;
}

/* Room for the pixels of one part, in the type they come in. */
static int open_pixels(train *t, size_t bytes, jepa_err *err) {
    if (t->x.bytes >= bytes) return 0;
    buf_free(&t->x);
    return buf_new(&t->x, t->d, bytes, err);
}

static int open_train(train **out, const train_cfg *c, dev *d, int allocate, jepa_err *err) {
    *out = NULL;
    train *t = mem_alloc(1, sizeof *t);
    if (!t) return err_set(err, JEPA_E_MEMORY, "no memory for the trainer");
    t->cfg = *c;
    t->d = d;
    int rc;
    if ((rc = enc_cfg_check(&c->enc, err)) < 0 || (rc = pred_cfg_check(&c->pred, err)) < 0) goto fail;
    if (c->pred.embed_dim != c->enc.embed_dim || c->pred.out_dim != c->enc.embed_dim) {
        rc = err_set(err, JEPA_E_MODEL, "the predictor reads %d and writes %d channels, the encoder has %d", c->pred.embed_dim,
                     c->pred.out_dim, c->enc.embed_dim);
        goto fail;
    }
    if ((rc = queue_open(&t->q, d, err)) < 0 || (rc = enc_open(&t->encoder, &c->enc, &t->p, "encoder.", err)) < 0) goto fail;
    int n_enc = t->p.n;
    if ((rc = pred_open(&t->predictor, &c->pred, &t->p, "predictor.", err)) < 0 ||
        (rc = enc_open(&t->target, &c->enc, &t->tp, "target_encoder.", err)) < 0)
        goto fail;
    t->enc_elements = t->p.item[n_enc].offset;
    if ((rc = plan_choose(t, err)) < 0) goto fail;
    if (allocate && ((rc = train_fits(t, err)) < 0)) goto fail;
    if ((rc = enc_set_type(t->encoder, c->type == T_BF16 ? T_BF16 : T_F32, err)) < 0 ||
        (rc = enc_set_type(t->target, enc_type(t->encoder), err)) < 0 || (rc = pred_set_type(t->predictor, enc_type(t->encoder), err)) < 0)
        goto fail;
    const int half = c->type == T_BF16 ? PARAMS_HALF : 0;
    if (allocate &&
        ((rc = params_alloc(&t->p, d, PARAMS_GRAD | PARAMS_MOMENTS | half, err)) < 0 || (rc = params_alloc(&t->tp, d, half, err)) < 0))
        goto fail;
    /* EMA runs over both flat arrays at once: the encoder comes first in p, laid out as the target's list is. */
    int same = t->tp.n == n_enc && t->tp.total == t->enc_elements;
    for (int i = 0; same && i < n_enc; i++) same = t->p.item[i].offset == t->tp.item[i].offset && t->p.item[i].count == t->tp.item[i].count;
    if (!same) {
        rc = err_set(err, JEPA_E_MODEL, "encoder and target encoder are laid out differently");
        goto fail;
    }
    if (!(t->touched = mem_alloc((size_t)t->p.n, 1))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for the trainer");
        goto fail;
    }
    if (allocate &&
        (rc = open_workspace(t, c->feed.batch, c->enc.num_frames, c->enc.img_height, c->enc.img_width, plan_blocks(c), err)) < 0)
        goto fail;
    *out = t;
    return 0;
fail:
    train_close(&t);
    return rc;
}

int train_open(train **out, const train_cfg *c, dev *d, jepa_err *err) { return open_train(out, c, d, 1, err); }
int train_open_plan(train **out, const train_cfg *c, dev *d, jepa_err *err) { return open_train(out, c, d, 0, err); }

void train_close(train **tp) {
    train *t = *tp;
    if (!t) return;
    close_workspace(t);
    enc_close(&t->encoder);
    enc_close(&t->target);
    pred_close(&t->predictor);
    params_close(&t->p);
    params_close(&t->tp);
    queue_close(&t->q);
    mem_free(t->touched);
    mem_free(t);
    *tp = NULL;
}

/* Of the target, what the update does not reach: fixed tables, which are copied, not averaged (m·x + (1-m)·x need not round to x). */
static int follow_fixed(train *t) {
    int rc = 0;
    for (int i = 0; i < t->tp.n && !rc; i++) {
        if (!(t->tp.item[i].flags & PARAM_FIXED)) continue;
        rc = dev_ops(t->d)->ema(t->q, &(op_ema){.n = t->tp.item[i].count, .target = param_value(&t->tp, i), .source = param_value(&t->p, i)});
    }
    return rc;
}

int train_copy_target(train *t, jepa_err *err) {
    int rc = dev_ops(t->d)->ema(t->q, &(op_ema){.n = t->tp.total, .target = t->tp.value.p, .source = t->p.value.p});
    t->halved = 0;
    return rc < 0 ? err_set(err, rc, "the target encoder could not be copied") : queue_wait(t->q, err);
}

int train_init(train *t, jepa_err *err) {
    int rc;
    if ((rc = enc_init(t->encoder, t->q, t->cfg.init_sd, t->cfg.seed, err)) < 0 ||
        (rc = pred_init(t->predictor, t->q, t->cfg.init_sd, t->cfg.seed + 1, err)) < 0)
        return rc;
    return train_copy_target(t, err);
}

static int check_batch(const train *t, const train_batch *b, jepa_err *err) {
    if (b->batch < 1 || b->n_gen < 1 || b->n_gen > MAX_GENERATORS || !b->x || !b->masks)
        return err_set(err, JEPA_E_USE, "a batch needs clips and between 1 and %d mask generators (%d clips, %d generators)",
                       MAX_GENERATORS, b->batch, b->n_gen);
    int64_t n = enc_tokens(&t->cfg.enc, b->frames, b->height, b->width);
    for (int g = 0; g < b->n_gen; g++) {
        const mask_set *m = b->masks[g];
        if (m->batch != b->batch || m->n_context < 1 || m->n_target < 1 || m->num_targets < 1 || m->num_targets > 64 ||
            (int64_t)m->n_context + m->n_target > n)
            return err_set(
                err, JEPA_E_USE,
                "mask generator %d: %d context and %d x %d target tokens for %d clips do not fit a batch of %d clips of %lld tokens", g,
                m->n_context, m->num_targets, m->n_target, m->batch, b->batch, (long long)n);
        int64_t nc = (int64_t)m->batch * m->n_context, nt = (int64_t)m->batch * m->n_target * m->num_targets;
        for (int64_t i = 0; i < nc + nt; i++) {
            int32_t v = i < nc ? m->context[i] : m->target[i - nc];
            if (v < 0 || v >= n)
                return err_set(err, JEPA_E_USE, "mask generator %d: token %d lies outside 0 … %lld", g, v, (long long)n - 1);
        }
    }
    return 0;
}

/* Samples first … first+n of a group, which run together, and their place in what is kept of the whole group. */
typedef struct span { int64_t first, n; } span;

static const void *pixels(const train_batch *b, int64_t clip, size_t *bytes) {
    *bytes = (size_t)3 * (size_t)b->frames * (size_t)b->height * (size_t)b->width * dtype_size(b->type);
    return (const char *)b->x + (size_t)clip * *bytes;
}

/* Targets: the EMA encoder on all tokens, each normalised by itself (eps 1e-5, PyTorch's default). Left in t->all. */
static int targets(train *t, const train_batch *b, span s, jepa_err *err) {
    const int64_t d = t->cfg.enc.embed_dim;
    float *all = (float *)t->all.p + s.first * t->tokens * d;
    const enc_in in = {.batch = s.n, .frames = b->frames, .height = b->height, .width = b->width, .x = t->x.p, .type = b->type};
    int rc = enc_forward(t->target, t->q, &in, t->tgt_a, all, err);
    if (rc < 0) return rc;
    const op_layernorm ln = {.rows = s.n * t->tokens, .d = d, .eps = 1e-5, .x = all, .y = all};
    if ((rc = dev_ops(t->d)->layernorm(t->q, &ln)) < 0) return err_set(err, rc, "targets could not be normalised");
    return 0;
}

/* Adds this generator's √(unbiased variance over the target tokens + 1e-4) of each clip and channel to t->spread. */
static int add_spread(train *t, span s, int64_t n_target, int64_t blocks, jepa_err *err) {
    const int64_t d = t->cfg.enc.embed_dim, n = n_target * blocks, batch = s.n;
    float *out = mem_alloc((size_t)(batch * n * d), sizeof *out);
    if (!out) return err_set(err, JEPA_E_MEMORY, "no memory for the variance of %lld predictions", (long long)(batch * n));
    int rc = buf_get(t->q, out, t->out.p, (size_t)(batch * n * d) * sizeof *out, err);
    if (!rc) rc = queue_wait(t->q, err);
    for (int64_t b = 0; b < batch && !rc; b++)
        for (int64_t c = 0; c < d; c++) {
            double sum = 0, square = 0;
            for (int pass = 0; pass < 2; pass++) /* the mean first */
                for (int64_t k = 0; k < n; k++) {
                    const double v = out[((k / n_target * batch + b) * n_target + k % n_target) * d + c];
                    if (pass)
                        square += (v - sum / (double)n) * (v - sum / (double)n);
                    else
                        sum += v;
                }
            t->spread[(s.first + b) * d + c] += sqrt(square / (double)(n - 1) + 1e-4); /* one token: no number, as in PyTorch */
        }
    mem_free(out);
    return rc;
}

/* V-JEPA's regulariser (published with coefficient 0): mean over clips and channels of relu(1 - mean spread). */
static double variance_term(const train *t, int64_t batch, int n_gen) {
    const int64_t n = batch * t->cfg.enc.embed_dim;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const double s = 1 - t->spread[i] / n_gen;
        sum += s < 0 ? 0 : s;
    }
    return sum / (double)n;
}

/* Which mask token stands for generator g's targets. */
static int mask_token(const train *t, int g) { return t->cfg.mask_token_rule == TOKEN_BY_GENERATOR ? g % t->cfg.pred.num_mask_tokens : 0; }

/* The part's lists out of the group's: context as it lies there, the targets of each block put together in t->part. */
static void part_lists(train *t, const mask_set *m, span s, const int32_t **context, const int32_t **target) {
    const int64_t list = s.n * m->n_target, of_group = (int64_t)m->batch * m->n_target;
    *context = m->context + s.first * m->n_context;
    *target = t->part;
    for (int64_t i = 0; i < m->num_targets; i++)
        memcpy(t->part + i * list, m->target + i * of_group + s.first * m->n_target, (size_t)list * sizeof *t->part);
}

/* Generator g on a part: context forward, prediction, loss and its gradient, both backward. scale: its weight in the step's loss, of which
 * the part gives its share: the mean is over the whole group. */
static int generator(train *t, const train_batch *b, int g, span s, double scale, double *loss, jepa_err *err) {
    const ops *o = dev_ops(t->d);
    const mask_set *m = b->masks[g];
    const int64_t d = t->cfg.enc.embed_dim, p = t->cfg.enc.patch_size, blocks = m->num_targets;
    const int64_t list = s.n * m->n_target, nt = list * blocks, kept = s.n * m->n_context;
    const int32_t *context, *target;
    /* the last generator's context tokens of all parts end up side by side; the others' lie where no earlier part's last ones are */
    float *z = (float *)t->z.p + s.first * (g == b->n_gen - 1 ? m->n_context : t->tokens) * d;
    int rc;
    part_lists(t, m, s, &context, &target);
    if ((rc = buf_put(t->q, t->keep.p, context, (size_t)kept * sizeof(int32_t), err)) < 0) return rc;
    const enc_in in = {.batch = s.n,
                       .frames = b->frames,
                       .height = b->height,
                       .width = b->width,
                       .x = t->x.p,
                       .type = b->type,
                       .keep = t->keep.p,
                       .keep_host = context,
                       .n_keep = m->n_context};
    if ((rc = enc_forward(t->encoder, t->q, &in, t->enc_a, z, err)) < 0) return rc;
    t->seen_context = m->n_context;
    const pred_in pi = {.batch = s.n,
                        .n_context = m->n_context,
                        .n_target = m->n_target,
                        .z = z,
                        .context = context,
                        .target = target,
                        .grid = {.frames = b->frames / t->cfg.enc.tubelet_size, .rows = b->height / p, .cols = b->width / p},
                        .mask_token = mask_token(t, g),
                        .target_blocks = (int)blocks};
    if ((rc = pred_forward(t->predictor, t->q, &pi, t->pred_a, t->out.p, err)) < 0) return rc;
    if (t->spread && (rc = add_spread(t, s, m->n_target, blocks, err)) < 0) return rc;

    /* keep holds the context indices, which backward still reads: target indices go behind them */
    int32_t *ti = (int32_t *)t->keep.p + kept;
    if ((rc = buf_put(t->q, ti, target, (size_t)nt * sizeof(int32_t), err)) < 0) return rc;
    const double values = (double)b->batch * (double)m->n_target * (double)blocks * (double)d; /* of the whole group */
    const op_loss l = {.rows = nt,
                       .d = d,
                       .kind = t->cfg.smooth_l1 ? LOSS_SMOOTH_L1 : LOSS_POWER,
                       .p = t->cfg.loss_exp,
                       .scale = scale / values,
                       .z = t->out.p,
                       .h = t->h.p,
                       .dz = t->out.p,
                       .loss = t->loss.p};
    rc = o->zero(t->q, t->loss.p, sizeof(double));
    for (int64_t i = 0; i < blocks && !rc; i++) {
        const op_rows gather = {.batch = s.n,
                                .n_src = t->tokens,
                                .n_dst = m->n_target,
                                .d = d,
                                .src = (float *)t->all.p + s.first * t->tokens * d,
                                .dst = (float *)t->h.p + i * list * d,
                                .index = ti + i * list};
        rc = o->gather_rows(t->q, &gather);
    }
    if (rc < 0 || (rc = o->loss(t->q, &l)) < 0) return err_set(err, rc, "the loss could not be computed");
    if ((rc = buf_get(t->q, loss, t->loss.p, sizeof *loss, err)) < 0) return rc;
    if ((rc = pred_backward(t->predictor, t->q, t->pred_a, t->out.p, t->dz.p, err)) < 0) return rc;
    return enc_backward(t->encoder, t->q, t->enc_a, t->dz.p, err);
}

/* One mask group, `micro` samples at a time; weight: of each generator in the step's loss. */
static int run_group(train *t, const train_batch *b, double weight, train_numbers *num, jepa_err *err) {
    int rc;
    for (span s = {0, 0}; s.first < b->batch; s.first += s.n) {
        size_t clip;
        const void *x = pixels(b, s.first, &clip);
        s.n = b->batch - s.first < t->micro ? b->batch - s.first : t->micro;
        if ((rc = open_pixels(t, (size_t)s.n * clip, err)) < 0 || (rc = buf_put(t->q, t->x.p, x, (size_t)s.n * clip, err)) < 0 ||
            (rc = targets(t, b, s, err)) < 0)
            return rc;
        for (int g = 0; g < b->n_gen; g++) {
            double loss;
            if ((rc = generator(t, b, g, s, weight, &loss, err)) < 0) return rc;
            num->loss += loss;
            num->gen_loss[g] += loss * b->n_gen;
        }
    }
    return 0;
}

/* Everything but fixed tables and the mask tokens that no generator used. */
static void mark_touched(train *t, const train_batch *group, int n) {
    for (int i = 0; i < t->p.n; i++)
        t->touched[i] = !(t->p.item[i].flags & PARAM_FIXED) && strncmp(t->p.item[i].name, "predictor.mask_tokens.", 22) != 0;
    for (int i = 0; i < n; i++)
        for (int g = 0; g < group[i].n_gen; g++) {
            char token[64];
            snprintf(token, sizeof token, "predictor.mask_tokens.%d", mask_token(t, g));
            const int k = params_find(&t->p, token);
            if (k >= 0) t->touched[k] = 1;
        }
}

static int64_t most_blocks(const train_batch *b) {
    int64_t most = 1;
    for (int g = 0; g < b->n_gen; g++)
        if (b->masks[g]->num_targets > most) most = b->masks[g]->num_targets;
    return most;
}

int train_gradients(train *t, const train_batch *group, int n, train_numbers *num, jepa_err *err) {
    const ops *o = dev_ops(t->d);
    memset(num, 0, sizeof *num);
    num->step = t->step + 1;
    num->finite = 1;
    if (n < 1) return err_set(err, JEPA_E_USE, "a step needs at least one mask group");
    int rc;
    for (int i = 0; i < n; i++)
        if ((rc = check_batch(t, &group[i], err)) < 0 ||
            (rc = open_workspace(t, group[i].batch, group[i].frames, group[i].height, group[i].width, most_blocks(&group[i]), err)) < 0)
            return rc;
    if (t->cfg.type == T_BF16 && !t->halved &&
        ((rc = params_halve(&t->p, t->q, err)) < 0 || (rc = params_halve(&t->tp, t->q, err)) < 0))
        return rc;
    t->halved = 1;
    if ((rc = o->zero(t->q, t->p.grad.p, t->p.grad.bytes)) < 0) return err_set(err, rc, "gradients could not be cleared");
    mark_touched(t, group, n);
    for (int i = 0; i < n; i++) {
        const train_batch *b = &group[i];
        if ((rc = open_workspace(t, b->batch, b->frames, b->height, b->width, most_blocks(b), err)) < 0) return rc;
        if (t->spread) memset(t->spread, 0, (size_t)(t->batch * t->cfg.enc.embed_dim) * sizeof *t->spread);
        if ((rc = run_group(t, b, 1.0 / ((double)n * b->n_gen), num, err)) < 0) return rc;
        if (t->spread) num->variance_term += variance_term(t, b->batch, b->n_gen) / n;
    }
    double sq[2] = {0, 0};
    const float *grad = t->p.grad.p;
    double *on = (double *)t->loss.p;
    if ((rc = o->zero(t->q, on, 4 * sizeof(double))) < 0 ||
        (rc = o->sqnorm(t->q, &(op_sqnorm){.n = t->enc_elements, .x = grad, .out = on + 1})) < 0 ||
        (rc = o->sqnorm(t->q, &(op_sqnorm){.n = t->p.total - t->enc_elements, .x = grad + t->enc_elements, .out = on + 2})) < 0)
        return err_set(err, rc, "the gradient norm could not be computed");
    if ((rc = buf_get(t->q, sq, on + 1, sizeof sq, err)) < 0) return rc;
    num->grad_norm_enc = sqrt(sq[0]);
    num->grad_norm_pred = sqrt(sq[1]);
    num->grad_norm = sqrt(sq[0] + sq[1]);
    if (!isfinite(num->loss))
        num->finite = 0, num->bad_term = "the loss";
    else if (!isfinite(sq[0]))
        num->finite = 0, num->bad_term = "the encoder's gradient";
    else if (!isfinite(sq[1]))
        num->finite = 0, num->bad_term = "the predictor's gradient";
    return 0;
}

/* Published for V-JEPA 1: encoder and predictor are clipped apart, once the 0-based epoch exceeds the warm-up. */
static double clip_scale(const train *t, double norm) {
    const train_cfg *c = &t->cfg;
    double ipe = c->sched.iterations_per_epoch;
    if (!(c->clip_grad > 0) || !(ipe >= 1) || floor((double)t->step / ipe) <= c->sched.warmup_epochs) return 1;
    double s = c->clip_grad / (norm + 1e-6);
    return s < 1 ? s : 1;
}

int train_update(train *t, train_numbers *num, jepa_err *err) {
    const ops *o = dev_ops(t->d);
    const train_cfg *c = &t->cfg;
    sched_at(&c->sched, t->step + 1, &num->lr, &num->wd, &num->ema);
    const double scale[2] = {clip_scale(t, num->grad_norm_enc), clip_scale(t, num->grad_norm_pred)};
    int rc;
    uint16_t *copy = t->p.value16.p, *target_copy = t->tp.value16.p;
    for (int i = 0; i < t->p.n; i++) {
        const param *p = &t->p.item[i];
        const int followed = p->offset < t->enc_elements; /* the target lies at the same offset */
        if (!t->touched[i]) continue; /* a token without a gradient is neither updated nor decayed, as in PyTorch; nor is a fixed table */
        const op_adamw a = {.n = p->count,
                            .param = param_value(&t->p, i),
                            .grad = param_grad(&t->p, i),
                            .m = (float *)t->p.m.p + p->offset,
                            .v = (float *)t->p.v.p + p->offset,
                            .lr = num->lr,
                            .wd = p->flags & PARAM_NO_DECAY ? 0 : num->wd,
                            .beta1 = c->beta1,
                            .beta2 = c->beta2,
                            .eps = c->adam_eps,
                            .grad_scale = scale[!followed],
                            .step = t->step + 1,
                            .param16 = copy ? copy + p->offset : NULL,
                            .target = followed ? (float *)t->tp.value.p + p->offset : NULL,
                            .momentum = num->ema,
                            .target16 = followed && target_copy ? target_copy + p->offset : NULL};
        if ((rc = o->adamw(t->q, &a)) < 0) return err_set(err, rc, "%s could not be updated", p->name);
    }
    if ((rc = follow_fixed(t)) < 0) return err_set(err, rc, "the target encoder could not be updated");
    if ((rc = queue_wait(t->q, err)) < 0) return rc;
    num->step = ++t->step;
    return 0;
}

int train_step(train *t, const train_batch *group, int n, train_numbers *num, jepa_err *err) {
    int rc = train_gradients(t, group, n, num, err);
    if (rc < 0 || !num->finite) {
        if (rc == 0) sched_at(&t->cfg.sched, t->step + 1, &num->lr, &num->wd, &num->ema);
        return rc;
    }
    return train_update(t, num, err);
}
