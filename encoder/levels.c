/* levels.c: the norms on the stream: hidden states, the output, V-JEPA 2.1's levels joined along the channels; forward and backward.
 *
 * Norm i applies after block level_block[i]; the last is the final norm. A call gives the last one, or the last `levels` of them. */
#include "encoder/parts.h"

int64_t enc_out_dim(const enc_cfg *c, int all_levels) { return (int64_t)c->embed_dim * (all_levels ? enc_levels(c) : 1); }

static int norm(const enc *e, queue *q, int i, int64_t rows, const float *x, float *y, int64_t ldy, float *mean, float *rstd) {
    return dev_ops(queue_dev(q))
        ->layernorm(q, &(op_layernorm){.rows = rows,
                                       .d = e->c.embed_dim,
                                       .eps = e->c.layer_norm_eps,
                                       .x = x,
                                       .y = y,
                                       .ldy = ldy,
                                       .w = param_value(e->p, e->norm_w[i]),
                                       .b = param_value(e->p, e->norm_b[i]),
                                       .mean = mean,
                                       .rstd = rstd});
}

static int level_at(const enc_cfg *c, int after) { /* the norm whose place is after so many blocks, or -1 */
    for (int i = 0; i < enc_norms(c); i++)
        if (enc_norm_after(c, i) == after) return i;
    return -1;
}

int enc_hand_out(const enc *e, queue *q, const enc_in *in, enc_acts *a, int after, int *wanted, float *tokens, jepa_err *err) {
    const int64_t rows = a->run.batch * a->run.tokens, d = e->c.embed_dim;
    const float *x = stack_out(&a->s, after);
    const int level = level_at(&e->c, after), place = level - a->first;
    int rc = 0;
    if (*wanted < in->hidden_n && in->hidden_after[*wanted] == after) {
        float *to = in->hidden_out[(*wanted)++];
        if (in->hidden_norm)
            rc = norm(e, q, level < 0 ? enc_norms(&e->c) - 1 : level, rows, x, to, 0, NULL, NULL);
        else
            rc = dev_ops(queue_dev(q))
                     ->copy_rows(q, &(op_rows){.batch = 1, .n_src = rows, .n_dst = rows, .d = d, .src = x, .dst = to, .count = rows});
        if (rc < 0) return enc_failed(err, rc, q, "a hidden state");
    }
    if (!tokens || level < 0 || place < 0) return 0;
    rc = norm(e, q, level, rows, x, tokens + place * d, enc_out_dim(&e->c, in->all_levels), a->s.keep ? a->mean + place * a->rows : NULL,
              a->s.keep ? a->rstd + place * a->rows : NULL);
    return rc < 0 ? enc_failed(err, rc, q, "the final norm") : 0;
}

int enc_levels_backward(const enc *e, queue *q, enc_acts *a, float *dtokens, float **dx, jepa_err *err) {
    const enc_cfg *c = &e->c;
    const ops *o = dev_ops(queue_dev(q));
    const int64_t rows = a->run.batch * a->run.tokens, d = c->embed_dim;
    const int last = enc_norms(c) - 1, several = last > a->first;
    float *stream = several ? a->stream : dtokens;
    for (int i = last, at = c->depth; i >= a->first; i--) {
        const int after = enc_norm_after(c, i), place = i - a->first;
        int where = 0;
        int rc = stack_backward_part(q, &e->bc, e->b, e->p, &a->run, &a->s, after, at, stream, &where);
        if (rc < 0) return err_set(err, rc, "encoder: backward of block %d failed on %s (code %d)", where, dev_name(queue_dev(q)), rc);
        at = after;
        const float *dy = dtokens;
        if (several) { /* this level's channels; backward's scratch is free between blocks */
            dy = a->s.scratch;
            rc = o->copy_rows(q, &(op_rows){.batch = 1,
                                            .n_src = rows,
                                            .n_dst = rows,
                                            .d = d,
                                            .src = dtokens + place * d,
                                            .lds = d * (last - a->first + 1),
                                            .dst = a->s.scratch,
                                            .count = rows});
        }
        if (!rc)
            rc = o->layernorm_bwd(q, &(op_layernorm_bwd){.rows = rows,
                                                         .d = d,
                                                         .dy = dy,
                                                         .x = stack_out(&a->s, after),
                                                         .w = param_value(e->p, e->norm_w[i]),
                                                         .mean = a->mean + place * a->rows,
                                                         .rstd = a->rstd + place * a->rows,
                                                         .dx = stream,
                                                         .dw = param_grad(e->p, e->norm_w[i]),
                                                         .db = param_grad(e->p, e->norm_b[i]),
                                                         .add = i < last});
        if (rc < 0) return enc_failed(err, rc, q, "backward of the final norm");
    }
    int where = 0;
    int rc = stack_backward_part(q, &e->bc, e->b, e->p, &a->run, &a->s, 0, enc_norm_after(c, a->first), stream, &where);
    if (rc < 0) return err_set(err, rc, "encoder: backward of block %d failed on %s (code %d)", where, dev_name(queue_dev(q)), rc);
    *dx = stream;
    return 0;
}
