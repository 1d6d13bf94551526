/* project.c: from the last stream to predictions: norm and projection, forward and backward. V-JEPA 2.1 has a second projection, for
 * the context rows that come with the predictions. */
#include "predictor/parts.h"

typedef struct part { /* rows from … to-1 of what is projected of each sequence, through one Linear */
    int64_t from, to;
    int w, b;
} part;

/* One part, or with a projection of their own for context rows two. */
static int parts_of(const pred *e, const pred_acts *a, part p[2]) {
    const int two = e->c.context_proj && a->first == 0;
    const int64_t context = two ? a->n_context : 0;
    p[0] = (part){context, a->count, e->proj_w, e->proj_b};
    if (two) p[1] = (part){0, context, e->context_w, e->context_b};
    return 1 + two;
}

int pred_project(const pred *e, queue *q, pred_acts *a, float *out, jepa_err *err) {
    const ops *o = dev_ops(queue_dev(q));
    const int64_t w = e->bc.dim, d = e->c.out_dim, sequences = a->run.batch;
    int rc = o->copy_rows(q, &(op_rows){.batch = sequences,
                                        .n_src = a->run.tokens,
                                        .n_dst = a->count,
                                        .d = w,
                                        .src = a->s.last,
                                        .src_off = a->first,
                                        .dst = a->out,
                                        .count = a->count});
    if (rc < 0) return pred_failed(err, rc, q, "taking the target rows");
    rc = o->layernorm(q, &(op_layernorm){.rows = sequences * a->count,
                                         .d = w,
                                         .eps = e->c.layer_norm_eps,
                                         .x = a->out,
                                         .w = param_value(e->p, e->norm_w),
                                         .b = param_value(e->p, e->norm_b),
                                         .y = a->normed,
                                         .mean = a->mean,
                                         .rstd = a->rstd});
    if (rc < 0) return pred_failed(err, rc, q, "the final norm");
    part p[2];
    const int n = parts_of(e, a, p);
    const int64_t together = n == 1 ? sequences : 1; /* sequences that one product takes */
    for (int64_t i = 0; i < sequences; i += together)
        for (int k = 0; k < n && !rc; k++) {
            const int64_t row = i * a->count + p[k].from;
            rc = o->linear(q, &(op_linear){.rows = together * (p[k].to - p[k].from),
                                           .in = w,
                                           .out = d,
                                           .x = a->normed + row * w,
                                           .w = pred_weight(e, p[k].w).w,
                                           .w16 = pred_weight(e, p[k].w).w16,
                                           .b = param_value(e->p, p[k].b),
                                           .y = out + row * d});
        }
    return rc < 0 ? pred_failed(err, rc, q, "the projection") : 0;
}

int pred_project_backward(const pred *e, queue *q, pred_acts *a, const float *dout, jepa_err *err) {
    const ops *o = dev_ops(queue_dev(q));
    const int64_t w = e->bc.dim, d = e->c.out_dim, sequences = a->run.batch;
    float *dx = a->s.tmp;
    part p[2];
    const int n = parts_of(e, a, p);
    const int64_t together = n == 1 ? sequences : 1;
    int rc = 0;
    for (int64_t i = 0; i < sequences; i += together)
        for (int k = 0; k < n && !rc; k++) {
            const int64_t row = i * a->count + p[k].from;
            rc = o->linear_bwd(q, &(op_linear_bwd){.rows = together * (p[k].to - p[k].from),
                                                   .in = w,
                                                   .out = d,
                                                   .dy = dout + row * d,
                                                   .x = a->normed + row * w,
                                                   .w = pred_weight(e, p[k].w).w,
                                                   .w16 = pred_weight(e, p[k].w).w16,
                                                   .dx = dx + row * w,
                                                   .dw = param_grad(e->p, p[k].w),
                                                   .db = param_grad(e->p, p[k].b)});
        }
    if (rc < 0) return pred_failed(err, rc, q, "backward of the projection");
    rc = o->layernorm_bwd(q, &(op_layernorm_bwd){.rows = sequences * a->count,
                                                 .d = w,
                                                 .dy = dx,
                                                 .x = a->out,
                                                 .w = param_value(e->p, e->norm_w),
                                                 .mean = a->mean,
                                                 .rstd = a->rstd,
                                                 .dx = dx,
                                                 .dw = param_grad(e->p, e->norm_w),
                                                 .db = param_grad(e->p, e->norm_b)});
    if (rc < 0) return pred_failed(err, rc, q, "backward of the final norm");
    rc = o->zero(q, a->dstream, (size_t)(sequences * a->run.tokens * w) * sizeof(float));
    if (!rc)
        rc = o->copy_rows(q, &(op_rows){.batch = sequences,
                                        .n_src = a->count,
                                        .n_dst = a->run.tokens,
                                        .d = w,
                                        .src = dx,
                                        .dst = a->dstream,
                                        .dst_off = a->first,
                                        .count = a->count});
    return rc < 0 ? pred_failed(err, rc, q, "placing the gradient of the predicted rows") : 0;
}
