/* attention.c: softmax attention and its gradients, one query row of scores at a time. */
#include <math.h>
#include <string.h>
#include "compute/ref/ref.h"

/* How many keys query i sees: all, or those of its own block and the blocks before it. */
static int64_t seen(int64_t i, int64_t nk, int64_t block) {
    if (block == 0 || i / block >= nk / block) return nk;
    return (i / block + 1) * block;
}

static double dot(const double *x, const double *y, int64_t n) {
    double s = 0;
    for (int64_t c = 0; c < n; c++) s += x[c] * y[c];
    return s;
}

/* One head's n rows of an operand, from `at` on, each turned by its row of the table (see ops.h, op_rope). */
static void load(double *to, const float *x, const uint16_t *x16, int64_t at, int64_t ld, int64_t n, int64_t dim, const float *cs) {
    for (int64_t i = 0; i < n; i++, to += dim) {
        for (int64_t c = 0; c < dim; c++) to[c] = x ? x[at + i * ld + c] : bf16_to_f32(x16[at + i * ld + c]);
        const float *co = cs ? cs + i * 2 * dim : NULL, *si = co ? co + dim : NULL;
        for (int64_t c = 0; co && c + 1 < dim; c += 2) {
            double x0 = to[c], x1 = to[c + 1];
            to[c] = x0 * co[c] - x1 * si[c];
            to[c + 1] = x1 * co[c + 1] + x0 * si[c + 1];
        }
    }
}

/* n rows back into an output, each multiplied by the transposed matrix. Changes `from`. */
static void store(double *from, float *y, uint16_t *y16, int64_t at, int64_t ld, int64_t n, int64_t dim, const float *cs) {
    for (int64_t i = 0; i < n; i++, from += dim) {
        const float *co = cs ? cs + i * 2 * dim : NULL, *si = co ? co + dim : NULL;
        for (int64_t c = 0; co && c + 1 < dim; c += 2) {
            double x0 = from[c], x1 = from[c + 1];
            from[c] = x0 * co[c] + x1 * si[c + 1];
            from[c + 1] = x1 * co[c + 1] - x0 * si[c];
        }
        for (int64_t c = 0; c < dim; c++) {
            if (y)
                y[at + i * ld + c] = (float)from[c];
            else
                y16[at + i * ld + c] = f32_to_bf16((float)from[c]);
        }
    }
}

int ref_attention(queue *q, const op_attention *a) {
    int rc = check_attention(a);
    if (rc < 0 || a->batch == 0 || a->nq == 0) return rc;
    int64_t dim = a->head_dim, dense = a->heads * dim;
    int64_t ldq = stride_or(a->ldq, dense), ldk = stride_or(a->ldk, dense);
    int64_t ldv = stride_or(a->ldv, dense), ldo = stride_or(a->ldo, dense);
    double scale = attention_scale(a->scale, dim);
    double *p = queue_scratch(q, (size_t)(a->nk + 2 * (a->nq + a->nk) * dim) * sizeof *p);
    if (!p) return JEPA_E_MEMORY;
    double *qs = p + a->nk, *os = qs + a->nq * dim, *ks = os + a->nq * dim, *vs = ks + a->nk * dim;
    for (int64_t b = 0; b < a->batch; b++)
        for (int64_t h = 0; h < a->heads; h++) {
            const float *cs = a->cs && a->cs_per_batch ? a->cs + b * a->nq * 2 * dim : a->cs;
            load(qs, a->q, a->q16, b * a->nq * ldq + h * dim, ldq, a->nq, dim, cs);
            load(ks, a->k, a->k16, b * a->nk * ldk + h * dim, ldk, a->nk, dim, cs);
            load(vs, a->v, a->v16, b * a->nk * ldv + h * dim, ldv, a->nk, dim, NULL);
            for (int64_t i = 0; i < a->nq; i++) {
                double *qi = qs + i * dim, *oi = os + i * dim;
                int64_t n = seen(i, a->nk, a->block);
                double top = -INFINITY, total = 0;
                for (int64_t j = 0; j < n; j++) {
                    p[j] = scale * dot(qi, ks + j * dim, dim);
                    if (p[j] > top) top = p[j];
                }
                memset(oi, 0, (size_t)dim * sizeof *oi);
                for (int64_t j = 0; j < n; j++) {
                    p[j] = exp(p[j] - top);
                    total += p[j];
                    for (int64_t c = 0; c < dim; c++) oi[c] += p[j] * vs[j * dim + c];
                }
                for (int64_t c = 0; c < dim; c++) oi[c] /= total;
                if (a->lse) a->lse[(b * a->heads + h) * a->nq + i] = (float)(top + log(total));
            }
            store(os, a->o, a->o16, b * a->nq * ldo + h * dim, ldo, a->nq, dim, NULL);
        }
    return 0;
}

/* p_ij = exp(scale·q_i·k_j - lse_i); ds_ij = p_ij (do_i·v_j - do_i·o_i);
 * dv_j = Σ_i p_ij do_i; dq_i = scale Σ_j ds_ij k_j; dk_j = scale Σ_i ds_ij q_i. With a rotary table these q and k are the turned ones,
 * and so are dq and dk, until they are stored. */
int ref_attention_bwd(queue *q, const op_attention_bwd *a) {
    int rc = check_attention_bwd(a);
    if (rc < 0 || a->batch == 0) return rc;
    int64_t dim = a->head_dim, dense = a->heads * dim;
    int64_t ldq = stride_or(a->ldq, dense), ldk = stride_or(a->ldk, dense), ldv = stride_or(a->ldv, dense);
    int64_t ldo = stride_or(a->ldo, dense), lddo = stride_or(a->lddo, dense);
    int64_t lddq = stride_or(a->lddq, dense), lddk = stride_or(a->lddk, dense), lddv = stride_or(a->lddv, dense);
    double scale = attention_scale(a->scale, dim);
    int64_t rows = a->nq * dim, keys = a->nk * dim; /* of one head */
    double *ks = queue_scratch(q, (size_t)(4 * keys + 4 * rows + 1) * sizeof *ks);
    if (!ks) return JEPA_E_MEMORY;
    double *vs = ks + keys, *dk = vs + keys, *dv = dk + keys, *qs = dv + keys, *os = qs + rows, *dout = os + rows, *dq = dout + rows;
    for (int64_t b = 0; b < a->batch; b++)
        for (int64_t h = 0; h < a->heads; h++) {
            const float *cs = a->cs && a->cs_per_batch ? a->cs + b * a->nq * 2 * dim : a->cs;
            load(qs, a->q, a->q16, b * a->nq * ldq + h * dim, ldq, a->nq, dim, cs);
            load(os, a->o, a->o16, b * a->nq * ldo + h * dim, ldo, a->nq, dim, NULL);
            load(dout, a->dout, a->dout16, b * a->nq * lddo + h * dim, lddo, a->nq, dim, NULL);
            if (a->nq > 0) {
                load(ks, a->k, a->k16, b * a->nk * ldk + h * dim, ldk, a->nk, dim, cs);
                load(vs, a->v, a->v16, b * a->nk * ldv + h * dim, ldv, a->nk, dim, NULL);
            }
            memset(dk, 0, (size_t)(2 * keys) * sizeof *dk);
            memset(dq, 0, (size_t)rows * sizeof *dq);
            for (int64_t i = 0; i < a->nq; i++) {
                const double *qi = qs + i * dim, *doi = dout + i * dim;
                double lse = a->lse[(b * a->heads + h) * a->nq + i], delta = dot(doi, os + i * dim, dim);
                int64_t n = seen(i, a->nk, a->block);
                for (int64_t j = 0; j < n; j++) {
                    double p = exp(scale * dot(qi, ks + j * dim, dim) - lse);
                    double ds = scale * p * (dot(doi, vs + j * dim, dim) - delta);
                    for (int64_t c = 0; c < dim; c++) {
                        dq[i * dim + c] += ds * ks[j * dim + c];
                        dk[j * dim + c] += ds * qi[c];
                        dv[j * dim + c] += p * doi[c];
                    }
                }
            }
            store(dq, a->dq, a->dq16, b * a->nq * lddq + h * dim, lddq, a->nq, dim, cs);
            store(dk, a->dk, a->dk16, b * a->nk * lddk + h * dim, lddk, a->nk, dim, a->nq > 0 ? cs : NULL);
            store(dv, a->dv, a->dv16, b * a->nk * lddv + h * dim, lddv, a->nk, dim, NULL);
        }
    return 0;
}
