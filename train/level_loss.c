/* level_loss.c: the loss of V-JEPA 2.1 (2603.14482): every token is predicted, hidden ones and seen ones.
 *
 * Targets and predictions are several levels joined along the channels; each level of a target is normalised by a LayerNorm without
 * weights. loss = mean over target tokens + lambda · mean over context tokens of |z - h|^p / p, each context token's part divided by the
 * root of its distance to the nearest target token where that is wanted. */
#include "train/train.h"
#include "compute/ops.h"

#include <math.h>
#include <string.h>

int level_targets(queue *q, float *x, int64_t rows, int levels, int64_t d, double eps, jepa_err *err) {
    for (int i = 0; i < levels; i++) {
        const op_layernorm ln = {.rows = rows, .d = d, .eps = eps, .x = x + i * d, .ldx = levels * d, .y = x + i * d, .ldy = levels * d};
        const int rc = dev_ops(queue_dev(q))->layernorm(q, &ln);
        if (rc < 0) return err_set(err, rc, "level %d of the targets could not be normalised", i);
    }
    return 0;
}

int level_distance(const int32_t *context, int64_t n_context, const int32_t *target, int64_t n_target, int64_t batch, int grid_size,
                   int offset, float *distance, jepa_err *err) {
    if (grid_size < 1 || grid_size > 1 << 14 || batch < 1 || n_context < 1 || n_target < 1)
        return err_set(err, JEPA_E_USE, "distances of %lld x %lld context and %lld target tokens on frames of %d x %d cannot be",
                       (long long)batch, (long long)n_context, (long long)n_target, grid_size, grid_size);
    const int64_t side = grid_size, frame = side * side;
    const double unit = offset ? (double)(side / 16) : 1; /* published as an integer division */
    if (unit < 1)
        return err_set(err, JEPA_E_USE, "the context loss can be offset from a grid of 16 x 16 on; this one is %d x %d", grid_size,
                       grid_size);
    for (int64_t b = 0; b < batch; b++)
        for (int64_t i = 0; i < n_context; i++) {
            const int64_t c = context[b * n_context + i];
            int64_t least = INT64_MAX;
            for (int64_t k = 0; k < n_target; k++) {
                const int64_t t = target[b * n_target + k];
                if (c < 0 || t < 0)
                    return err_set(err, JEPA_E_USE, "item %lld: token %lld is none", (long long)b, (long long)(c < 0 ? c : t));
                const int64_t time = c / frame - t / frame, row = c / side % side - t / side % side, col = c % side - t % side;
                const int64_t square = time * time + row * row + col * col;
                if (square < least) least = square;
            }
            if (!least)
                return err_set(
                    err, JEPA_E_USE,
                    "item %lld: token %lld is context and target at once, at distance 0; its part of the loss would be divided by that",
                    (long long)b, (long long)c);
            distance[b * n_context + i] = (float)sqrt(sqrt((double)least) / unit);
        }
    return 0;
}

/* Targets of context and target rows in their order → in->h. */
static int pick(queue *q, const level_loss_in *in, jepa_err *err) {
    const int64_t k = in->n_context, n = k + in->n_target;
    int32_t *index = mem_alloc((size_t)(in->batch * n), sizeof *index);
    if (!index) return err_set(err, JEPA_E_MEMORY, "no memory for %lld token indices", (long long)(in->batch * n));
    for (int64_t b = 0; b < in->batch; b++) {
        memcpy(index + b * n, in->context + b * k, (size_t)k * sizeof *index);
        memcpy(index + b * n + k, in->target + b * in->n_target, (size_t)in->n_target * sizeof *index);
    }
    int rc = buf_put(q, in->index, index, (size_t)(in->batch * n) * sizeof *index, err);
    if (!rc) rc = queue_wait(q, err);
    mem_free(index);
    if (rc < 0) return rc;
    const op_rows gather = {
        .batch = in->batch, .n_src = in->tokens, .n_dst = n, .d = in->d, .src = in->targets, .dst = in->h, .index = in->index};
    rc = dev_ops(queue_dev(q))->gather_rows(q, &gather);
    return rc < 0 ? err_set(err, rc, "the targets of %lld tokens could not be taken", (long long)(in->batch * n)) : 0;
}

int level_loss(queue *q, const level_loss_in *in, double *target_term, double *context_term, jepa_err *err) {
    const ops *o = dev_ops(queue_dev(q));
    const int64_t k = in->n_context, m = in->n_target, n = k + m, d = in->d;
    if (in->batch < 1 || k < 1 || m < 1 || d < 1 || !(in->lambda >= 0) || !(in->p >= 1))
        return err_set(err, JEPA_E_USE, "a loss over %lld x (%lld + %lld) tokens of %lld channels with lambda %g and exponent %g cannot be",
                       (long long)in->batch, (long long)k, (long long)m, (long long)d, in->lambda, in->p);
    int rc = pick(q, in, err);
    if (rc < 0) return rc;
    const double each[2] = {in->scale / ((double)in->batch * (double)m * (double)d),
                            in->scale / ((double)in->batch * (double)k * (double)d)};
    const double weight = in->lambda > 0 ? in->lambda : 1; /* without a weight the term is told all the same, and has no gradient */
    rc = o->zero(q, in->sums, 2 * sizeof(double));
    for (int64_t b = 0; b < in->batch && !rc; b++) {
        float *z = in->all + b * n * d;
        const float *h = in->h + b * n * d, *far = in->distance ? in->distance + b * k : NULL;
        for (int64_t i = 0, end; i < k && !rc; i = end) { /* neighbours of one distance at once */
            for (end = i + 1; end < k && (!far || far[end] == far[i]);) end++;
            rc = o->loss(q, &(op_loss){.rows = end - i,
                                       .d = d,
                                       .kind = LOSS_POWER,
                                       .p = in->p,
                                       .scale = weight * each[1] / (far ? (double)far[i] : 1),
                                       .z = z + i * d,
                                       .h = h + i * d,
                                       .dz = in->lambda > 0 ? z + i * d : NULL,
                                       .loss = in->sums + 1});
        }
        if (!rc && !(in->lambda > 0)) rc = o->zero(q, z, (size_t)(k * d) * sizeof *z);
        if (!rc)
            rc = o->loss(q, &(op_loss){.rows = m,
                                       .d = d,
                                       .kind = LOSS_POWER,
                                       .p = in->p,
                                       .scale = each[0],
                                       .z = z + k * d,
                                       .h = h + k * d,
                                       .dz = z + k * d,
                                       .loss = in->sums});
    }
    if (rc < 0) return err_set(err, rc, "the loss could not be computed");
    double sums[2];
    if ((rc = buf_get(q, sums, in->sums, sizeof sums, err)) < 0 || (rc = queue_wait(q, err)) < 0) return rc;
    *target_term = sums[0];
    *context_term = sums[1] / weight;
    return 0;
}
