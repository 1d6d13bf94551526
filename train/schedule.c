/* schedule.c: learning rate, weight decay and EMA momentum by step, as the published training runs set them. */
#include "train/train.h"

#include <math.h>

static const double PI = 3.14159265358979323846;

/* Steps are whole numbers: products of epochs are truncated (published). */
static double whole(double x) { return x > 0 ? floor(x) : 0; }

static double cosine(double from, double to, double progress) {
    if (progress > 1) progress = 1; /* a run past its horizon keeps the last value; the published formula would rise again */
    return to + (from - to) * 0.5 * (1 + cos(PI * progress));
}

static double divisor(double x) { return x < 1 ? 1 : x; }

static double learning_rate(const sched_cfg *c, double step, double horizon, double warmup) {
    if (c->kind == SCHED_LINEAR_DECAY) { /* annealing: from the start down, no warm-up */
        double progress = step / divisor(horizon);
        return c->lr + (progress > 1 ? 1 : progress) * (c->final_lr - c->lr);
    }
    if (step < warmup) return c->start_lr + step / divisor(warmup) * (c->lr - c->start_lr);
    if (c->kind == SCHED_WSD) {
        double anneal = whole(c->anneal_epochs * c->iterations_per_epoch), done = step - (horizon - anneal);
        if (done <= 0) return c->lr;
        if (done > anneal) done = anneal;
        return c->lr + done / divisor(anneal) * (c->final_lr - c->lr);
    }
    double lr = cosine(c->lr, c->final_lr, (step - warmup) / divisor(horizon - warmup));
    return lr < c->final_lr ? c->final_lr : lr;
}

void sched_at(const sched_cfg *c, int64_t step, double *lr, double *wd, double *ema) {
    double total = c->epochs * c->iterations_per_epoch; /* WSD (V-JEPA 2-AC) has no ipe_scale */
    if (c->kind != SCHED_WSD) total *= c->ipe_scale;
    double horizon = whole(total), warmup = whole(c->warmup_epochs * c->iterations_per_epoch);
    if (lr) *lr = learning_rate(c, (double)step, horizon, warmup);
    if (wd) *wd = cosine(c->weight_decay, c->final_weight_decay, (double)step / divisor(horizon));
    if (ema) { /* the count before this step, over the horizon before truncation (published) */
        double progress = total > 0 ? (double)(step - 1) / total : 0;
        *ema = c->ema_start + (progress > 1 ? 1 : progress < 0 ? 0 : progress) * (c->ema_end - c->ema_start);
    }
}

double sched_lambda(int64_t iteration, double lambda, int64_t start, int64_t end) {
    if (iteration < start) return 0;
    if (iteration >= end) return lambda;
    return lambda * (double)(iteration - start) / (double)(end - start);
}
