/* plan.c: what a step needs in memory, part by part, and the choice of recomputation and micro-batch that makes it fit.
 *
 * Two things make a step smaller and leave its result as it is: samples of a mask group run one after the other instead of together
 * (masks are those of the whole group, gradients add up), and backward computes again what forward then need not keep. The first costs
 * little, the second up to another forward pass: so the group is divided before anything is computed twice. */
#include "train/step.h"

#include <stdarg.h>
#include <stdio.h>

/* The program, its libraries, the decoders and the products' own room. */
static const double PROGRAM = 96.0 * 1048576;

enc_shape plan_context(const train *t, int64_t batch, int64_t frames, int64_t height, int64_t width) {
    return (enc_shape){
        .batch = batch, .frames = frames, .height = height, .width = width, .keep_for_backward = 1, .level = t->cfg.recompute_level};
}

enc_shape plan_target(const train *t, int64_t batch, int64_t frames, int64_t height, int64_t width) {
    enc_shape s = plan_context(t, batch, frames, height, width);
    s.keep_for_backward = 0;
    return s;
}

/* Context and target rows are disjoint, so together they are at most all tokens; with several target blocks in a sequence for each. */
pred_shape plan_predictor(const train *t, int64_t batch, int64_t tokens, int64_t blocks) {
    return (pred_shape){.batch = batch * blocks,
                        .context = tokens,
                        .target = tokens,
                        .rows = tokens,
                        .keep_for_backward = 1,
                        .level = t->cfg.recompute_level};
}

int64_t plan_blocks(const train_cfg *c) {
    int64_t most = 1;
    for (int i = 0; i < c->n_masks; i++)
        if (c->mask[i].kind == MASK_MULTIBLOCK2D && c->mask[i].num_pred_masks > most) most = c->mask[i].num_pred_masks;
    return most;
}

/* ---- the parts ---- */

enum { PLAN_PARAMS, PLAN_TARGET, PLAN_CONTEXT, PLAN_TARGET_ACTS, PLAN_PREDICTOR, PLAN_BATCH, PLAN_CLIPS, PLAN_PROGRAM, PLAN_ALL, PLAN_PARTS };
static const char *const part_name[PLAN_PARTS] = {
    "parameters, gradients, moments", "target encoder", "context activations", "target encoder's working set", "predictor activations",
    "tokens, gradients",              "clips",          "program, libraries",  "together"};

static int64_t micro_of(const train_cfg *c) { return c->micro_batch > 0 && c->micro_batch < c->feed.batch ? c->micro_batch : c->feed.batch; }

/* Bytes; the last is the sum. Activations are planned for all tokens: masks may leave nearly all of them. */
static void plan_parts(const train *t, double part[PLAN_PARTS]) {
    const train_cfg *c = &t->cfg;
    const int64_t f = c->enc.num_frames, h = c->enc.img_height, w = c->enc.img_width, m = micro_of(c), blocks = plan_blocks(c);
    const int64_t n = enc_tokens(&c->enc, f, h, w);
    const enc_shape context = plan_context(t, m, f, h, w), full = plan_target(t, m, f, h, w);
    const pred_shape ps = plan_predictor(t, m, n, blocks);
    const double rows = (double)n * c->enc.embed_dim * sizeof(float), clip = 3.0 * (double)f * (double)h * (double)w;
    const double half = t->cfg.type == T_BF16 ? 2 : 0;
    part[PLAN_PARAMS] = (16.0 + half) * (double)t->p.total; /* values, gradients, two moments, in bf16 a copy */
    part[PLAN_TARGET] = 4.0 * (double)t->tp.total;
    part[PLAN_CONTEXT] = (double)enc_acts_bytes(t->encoder, &context);
    part[PLAN_TARGET_ACTS] = (double)enc_acts_bytes(t->target, &full);
    part[PLAN_PREDICTOR] = (double)pred_acts_bytes(t->predictor, &ps);
    /* of the whole group: targets, context features and the monitor's copy of one of them; of a part: h, out, dz */
    part[PLAN_BATCH] = 3 * (double)c->feed.batch * rows + (double)m * rows * (1 + 2 * (double)blocks);
    /* those that wait, those of the step in hand, those that run */
    part[PLAN_CLIPS] = clip * ((double)c->feed.batch * (c->feed.queue_batches + (double)c->accumulate) + (double)m);
    part[PLAN_PROGRAM] = PROGRAM;
    part[PLAN_ALL] = 0;
    for (int i = 0; i < PLAN_ALL; i++) part[PLAN_ALL] += part[i];
}

static const char *level_name(recompute r) { return r == RECOMPUTE_NONE ? "none" : r == RECOMPUTE_MLP ? "mlp" : "block"; }

static size_t put(char *text, size_t size, size_t at, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static size_t put(char *text, size_t size, size_t at, const char *fmt, ...) {
    if (at >= size) return at;
    va_list ap;
    va_start(ap, fmt);
    const int k = vsnprintf(text + at, size - at, fmt, ap);
    va_end(ap);
    return at + (k > 0 ? (size_t)k : 0);
}

void train_plan(const train *t, char *text, size_t size) {
    double part[PLAN_PARTS];
    size_t at = 0;
    plan_parts(t, part);
    for (int i = 0; i < PLAN_PARTS; i++) at = put(text, size, at, "%-30s %10.1f MiB\n", part_name[i], part[i] / 1048576);
    at = put(text, size, at, "%-30s %10s\n", "recomputation", level_name(t->cfg.recompute_level));
    put(text, size, at, "%-30s %10lld of %d\n", "samples that run together", (long long)micro_of(&t->cfg), t->cfg.feed.batch);
}

/* ---- the choice ---- */

/* Micro-batches worth a look: the group in 1, 2, 3 … equal parts. m: the last one; 0: begin. Returns 0 after 1. */
static int64_t next_micro(const train_cfg *c, int64_t m) {
    const int64_t b = c->feed.batch;
    if (c->micro_batch > 0) return m ? 0 : micro_of(c);
    for (int64_t parts = m ? (b + m - 1) / m + 1 : 1; parts <= b; parts++)
        if (!m || (b + parts - 1) / parts < m) return (b + parts - 1) / parts;
    return 0;
}

static double with(const train *t, recompute level, int64_t micro, double part[PLAN_PARTS]) {
    train u = *t;
    u.cfg.recompute_level = level;
    u.cfg.micro_batch = (int)micro;
    plan_parts(&u, part);
    return part[PLAN_ALL];
}

void train_plan_choices(const train *t, char *text, size_t size) {
    double part[PLAN_PARTS];
    size_t at = put(text, size, 0, "%-14s %8s %12s\n", "recomputation", "together", "MiB");
    for (int level = RECOMPUTE_NONE; level <= RECOMPUTE_BLOCK; level++) {
        train_cfg all = t->cfg;
        all.micro_batch = 0;
        for (int64_t m = 0; (m = next_micro(&all, m)) > 0;)
            at = put(text, size, at, "%-14s %8lld %12.1f\n", level_name((recompute)level), (long long)m, with(t, (recompute)level, m, part) / 1048576);
    }
}

int plan_choose(train *t, jepa_err *err) {
    train_cfg *c = &t->cfg;
    const double gib = 1073741824;
    if (!c->memory_limit) return 0;
    if (c->memory_limit == TRAIN_MEMORY_AUTO) {
        const size_t left = mem_available();
        c->memory_limit = left >= (size_t)INT64_MAX ? INT64_MAX : (int64_t)(left - left / 16); /* others need some, too */
    }
    const double limit = (double)c->memory_limit;
    double part[PLAN_PARTS], smallest = 0;
    for (int level = c->recompute_level; level <= RECOMPUTE_BLOCK; level++)
        for (int64_t m = 0; (m = next_micro(c, m)) > 0;) {
            smallest = with(t, (recompute)level, m, part);
            if (smallest > limit) continue;
            c->recompute_level = (recompute)level;
            c->micro_batch = (int)m;
            return 0;
        }
    return err_set(err, JEPA_E_MEMORY,
                   "%.2f GiB are allowed, and the smallest step needs %.2f (parameters with gradients and moments %.2f, target encoder %.2f, "
                   "activations of %s with whole blocks computed again %.2f, tokens and clips %.2f): %sfewer frames, smaller pictures or a smaller model would help",
                   limit / gib, smallest / gib, part[PLAN_PARAMS] / gib, part[PLAN_TARGET] / gib,
                   c->micro_batch > 1 ? "a micro-batch" : "one sample",
                   (part[PLAN_CONTEXT] + part[PLAN_TARGET_ACTS] + part[PLAN_PREDICTOR]) / gib, (part[PLAN_BATCH] + part[PLAN_CLIPS]) / gib,
                   c->micro_batch > 1 ? "a smaller data.micro_batch, " : c->feed.batch > 1 ? "a smaller data.batch_size, " : "");
}

/* Refuses before the first step what would be killed in it. */
int train_fits(const train *t, jepa_err *err) {
    double part[PLAN_PARTS], gib = 1073741824;
    plan_parts(t, part);
    const double need = part[PLAN_ALL], free_now = (double)mem_available();
    if (need <= free_now) return 0;
    return err_set(err, JEPA_E_MEMORY,
                   "a step needs %.1f GiB (context activations %.1f, predictor %.1f, target's working set %.1f, tokens and clips %.1f), %.1f "
                   "are free: --memory auto (which runs fewer samples at a time and computes again what it does not keep), or a smaller "
                   "data.batch_size (with nodes: for the same global batch) would help",
                   need / gib, part[PLAN_CONTEXT] / gib, part[PLAN_PREDICTOR] / gib, part[PLAN_TARGET_ACTS] / gib,
                   (part[PLAN_BATCH] + part[PLAN_CLIPS]) / gib, free_now / gib);
}

void train_chosen(const train *t, recompute *level, int *micro, int64_t *limit) {
    *level = t->cfg.recompute_level;
    *micro = (int)micro_of(&t->cfg);
    *limit = t->cfg.memory_limit;
}
