/* attention.c: softmax attention and its gradients, one query row of scores at a time. */
#include <math.h>
#include <string.h>
#include "compute/ref/ref.h"

/* How many keys query i sees: all, or those of its own block and the blocks before it. */
static int64_t seen(int64_t i, int64_t nk, int64_t block) {
    if (block == 0 || i / block >= nk / block) return nk;
    return (i / block + 1) * block;
}

static double dot(const float *x, const float *y, int64_t n) {
    double s = 0;
    for (int64_t c = 0; c < n; c++) s += (double)x[c] * y[c];
    return s;
}

int ref_attention(queue *q, const op_attention *a) {
    int rc = check_attention(a);
    if (rc < 0 || a->batch == 0 || a->nq == 0) return rc;
    int64_t dim = a->head_dim, dense = a->heads * dim;
    int64_t ldq = stride_or(a->ldq, dense), ldk = stride_or(a->ldk, dense);
    int64_t ldv = stride_or(a->ldv, dense), ldo = stride_or(a->ldo, dense);
    double scale = attention_scale(a->scale, dim);
    double *p = queue_scratch(q, (size_t)(a->nk + dim) * sizeof *p), *sum = p + a->nk;
    if (!p) return JEPA_E_MEMORY;
    for (int64_t b = 0; b < a->batch; b++)
        for (int64_t h = 0; h < a->heads; h++)
            for (int64_t i = 0; i < a->nq; i++) {
                const float *qi = a->q + (b * a->nq + i) * ldq + h * dim;
                float *oi = a->o + (b * a->nq + i) * ldo + h * dim;
                int64_t n = seen(i, a->nk, a->block);
                double top = -INFINITY, total = 0;
                for (int64_t j = 0; j < n; j++) {
                    p[j] = scale * dot(qi, a->k + (b * a->nk + j) * ldk + h * dim, dim);
                    if (p[j] > top) top = p[j];
                }
                memset(sum, 0, (size_t)dim * sizeof *sum);
                for (int64_t j = 0; j < n; j++) {
                    const float *vj = a->v + (b * a->nk + j) * ldv + h * dim;
                    p[j] = exp(p[j] - top);
                    total += p[j];
                    for (int64_t c = 0; c < dim; c++) sum[c] += p[j] * vj[c];
                }
                for (int64_t c = 0; c < dim; c++) oi[c] = (float)(sum[c] / total);
                if (a->lse) a->lse[(b * a->heads + h) * a->nq + i] = (float)(top + log(total));
            }
    return 0;
}

/* p_ij = exp(scale·q_i·k_j - lse_i); ds_ij = p_ij (do_i·v_j - do_i·o_i);
 * dv_j = Σ_i p_ij do_i; dq_i = scale Σ_j ds_ij k_j; dk_j = scale Σ_i ds_ij q_i. */
int ref_attention_bwd(queue *q, const op_attention_bwd *a) {
    int rc = check_attention_bwd(a);
    if (rc < 0 || a->batch == 0) return rc;
    int64_t dim = a->head_dim, dense = a->heads * dim;
    int64_t ldq = stride_or(a->ldq, dense), ldk = stride_or(a->ldk, dense), ldv = stride_or(a->ldv, dense);
    int64_t ldo = stride_or(a->ldo, dense), lddo = stride_or(a->lddo, dense);
    int64_t lddq = stride_or(a->lddq, dense), lddk = stride_or(a->lddk, dense), lddv = stride_or(a->lddv, dense);
    double scale = attention_scale(a->scale, dim);
    double *dk = queue_scratch(q, (size_t)(2 * a->nk + 1) * (size_t)dim * sizeof *dk); /* of one head */
    if (!dk) return JEPA_E_MEMORY;
    double *dv = dk + a->nk * dim, *dq = dv + a->nk * dim;
    for (int64_t b = 0; b < a->batch; b++)
        for (int64_t h = 0; h < a->heads; h++) {
            memset(dk, 0, (size_t)(2 * a->nk * dim) * sizeof *dk);
            for (int64_t i = 0; i < a->nq; i++) {
                const float *qi = a->q + (b * a->nq + i) * ldq + h * dim;
                const float *doi = a->dout + (b * a->nq + i) * lddo + h * dim;
                float *dqi = a->dq + (b * a->nq + i) * lddq + h * dim;
                double lse = a->lse[(b * a->heads + h) * a->nq + i];
                double delta = dot(doi, a->o + (b * a->nq + i) * ldo + h * dim, dim);
                int64_t n = seen(i, a->nk, a->block);
                memset(dq, 0, (size_t)dim * sizeof *dq);
                for (int64_t j = 0; j < n; j++) {
                    const float *kj = a->k + (b * a->nk + j) * ldk + h * dim, *vj = a->v + (b * a->nk + j) * ldv + h * dim;
                    double p = exp(scale * dot(qi, kj, dim) - lse);
                    double ds = scale * p * (dot(doi, vj, dim) - delta);
                    for (int64_t c = 0; c < dim; c++) {
                        dq[c] += ds * kj[c];
                        dk[j * dim + c] += ds * qi[c];
                        dv[j * dim + c] += p * doi[c];
                    }
                }
                for (int64_t c = 0; c < dim; c++) dqi[c] = (float)dq[c];
            }
            for (int64_t j = 0; j < a->nk; j++)
                for (int64_t c = 0; c < dim; c++) {
                    a->dk[(b * a->nk + j) * lddk + h * dim + c] = (float)dk[j * dim + c];
                    a->dv[(b * a->nk + j) * lddv + h * dim + c] = (float)dv[j * dim + c];
                }
        }
    return 0;
}
