/* linear.c: y = act(x·wᵀ + b) + r and its gradients. */
#include <string.h>
#include "compute/ref/ref.h"

/* Four partial sums: one double sum would wait for itself at each step. */
static double dot(const float *x, const float *w, int64_t n) {
    double s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        s0 += (double)x[i] * w[i];
        s1 += (double)x[i + 1] * w[i + 1];
        s2 += (double)x[i + 2] * w[i + 2];
        s3 += (double)x[i + 3] * w[i + 3];
    }
    for (; i < n; i++) s0 += (double)x[i] * w[i];
    return (s0 + s1) + (s2 + s3);
}

int ref_linear(queue *q, const op_linear *a) {
    int rc = check_linear(a);
    if (rc < 0 || a->rows == 0) return rc;
    if (!a->w) /* there is no packed form here */
        return JEPA_E_USE;
    int64_t ldx = stride_or(a->ldx, a->in), ldy = stride_or(a->ldy, a->out), ldr = stride_or(a->ldr, a->out);
    for (int64_t n = 0; n < a->rows; n++)
        for (int64_t o = 0; o < a->out; o++) {
            double s = dot(a->x + n * ldx, a->w + o * a->in, a->in) + (a->b ? a->b[o] : 0);
            if (a->pre) a->pre[n * a->out + o] = (float)s;
            if (a->act == ACT_GELU) s = gelu_exact(s);
            if (a->r) s += a->r[n * ldr + o];
            a->y[n * ldy + o] = (float)s;
        }
    return 0;
}

int ref_linear_bwd(queue *q, const op_linear_bwd *a) {
    int rc = check_linear_bwd(a);
    if (rc < 0 || a->rows == 0) return rc;
    int64_t lddy = stride_or(a->lddy, a->out), ldx = stride_or(a->ldx, a->in), lddx = stride_or(a->lddx, a->in);
    double *sum = queue_scratch(q, (size_t)a->in * sizeof *sum); /* one row of dx or dw */
    if (!sum) return JEPA_E_MEMORY;
    if (a->dx)
        for (int64_t n = 0; n < a->rows; n++) {
            const float *dy = a->dy + n * lddy;
            float *dx = a->dx + n * lddx;
            memset(sum, 0, (size_t)a->in * sizeof *sum);
            for (int64_t o = 0; o < a->out; o++)
                for (int64_t i = 0; i < a->in; i++) sum[i] += (double)dy[o] * a->w[o * a->in + i];
            for (int64_t i = 0; i < a->in; i++) dx[i] = (float)(a->add ? dx[i] + sum[i] : sum[i]);
        }
    if (a->dw)
        for (int64_t o = 0; o < a->out; o++) {
            memset(sum, 0, (size_t)a->in * sizeof *sum);
            for (int64_t n = 0; n < a->rows; n++)
                for (int64_t i = 0; i < a->in; i++) sum[i] += (double)a->dy[n * lddy + o] * a->x[n * ldx + i];
            for (int64_t i = 0; i < a->in; i++) a->dw[o * a->in + i] = (float)(a->dw[o * a->in + i] + sum[i]);
        }
    if (a->db)
        for (int64_t o = 0; o < a->out; o++) {
            double s = 0;
            for (int64_t n = 0; n < a->rows; n++) s += a->dy[n * lddy + o];
            a->db[o] = (float)(a->db[o] + s);
        }
    return 0;
}

int ref_linear_pack(queue *q, packed **out, const float *w, int64_t out_dim, int64_t in_dim) {
    if (!out) return JEPA_E_USE;
    *out = NULL;
    return !w || out_dim < 1 || in_dim < 1 ? JEPA_E_USE : 0;
}

void ref_linear_unpack(queue *q, packed **p) {
    if (p) *p = NULL;
}
