/* linear.c: y = act(x·wᵀ + b) + r and its gradients. */
#include <string.h>
#include "compute/ref/ref.h"

static double get(const float *f, const uint16_t *h, int64_t i) { return f ? f[i] : bf16_to_f32(h[i]); }

static void put(float *f, uint16_t *h, int64_t i, double v) {
    if (f)
        f[i] = (float)v;
    else
        h[i] = f32_to_bf16((float)v);
}

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

/* n numbers from element i on as float32: where they lie, or in to. */
static const float *row(const float *f, const uint16_t *h, int64_t i, int64_t n, float *to) {
    if (f) return f + i;
    for (int64_t k = 0; k < n; k++) to[k] = bf16_to_f32(h[i + k]);
    return to;
}

int ref_linear(queue *q, const op_linear *a) {
    int rc = check_linear(a);
    if (rc < 0 || a->rows == 0) return rc;
    int64_t ldx = stride_or(a->ldx, a->in), ldy = stride_or(a->ldy, a->out), ldr = stride_or(a->ldr, a->out);
    /* A bf16 operand is widened: one row of x, all of w. */
    size_t wide_x = a->x16 ? (size_t)a->in : 0, wide_w = a->w16 ? (size_t)a->in * (size_t)a->out : 0;
    float *wide = wide_x + wide_w ? queue_scratch(q, (wide_x + wide_w) * sizeof *wide) : NULL;
    if (!wide && wide_x + wide_w) return JEPA_E_MEMORY;
    const float *w = row(a->w, a->w16, 0, a->in * a->out, wide ? wide + wide_x : NULL);
    for (int64_t n = 0; n < a->rows; n++) {
        const float *x = row(a->x, a->x16, n * ldx, a->in, wide);
        for (int64_t o = 0; o < a->out; o++) {
            double s = dot(x, w + o * a->in, a->in) + (a->b ? a->b[o] : 0);
            if (a->pre || a->pre16) put(a->pre, a->pre16, n * a->out + o, s);
            if (a->act == ACT_GELU) s = gelu_exact(s);
            if (a->r) s += a->r[n * ldr + o];
            put(a->y, a->y16, n * ldy + o, s);
        }
    }
    return 0;
}

int ref_linear_bwd(queue *q, const op_linear_bwd *a) {
    int rc = check_linear_bwd(a);
    if (rc < 0 || a->rows == 0) return rc;
    int64_t lddy = stride_or(a->lddy, a->out), ldx = stride_or(a->ldx, a->in), lddx = stride_or(a->lddx, a->in);
    size_t in = (size_t)a->in, kept = a->dw && (a->x16 || a->x_act) ? in * (size_t)a->rows : 0;
    double *sum = queue_scratch(q, (in + kept) * sizeof *sum), *wide = NULL; /* one row of dx or dw; the x that dw takes */
    if (!sum) return JEPA_E_MEMORY;
    if (kept) wide = sum + in;
    for (int64_t n = 0; wide && n < a->rows; n++)
        for (int64_t i = 0; i < a->in; i++) {
            double x = get(a->x, a->x16, n * ldx + i);
            wide[n * a->in + i] = a->x_act == ACT_GELU ? gelu_exact(x) : x;
        }
    if (a->dx || a->dx16)
        for (int64_t n = 0; n < a->rows; n++) {
            memset(sum, 0, (size_t)a->in * sizeof *sum);
            for (int64_t o = 0; o < a->out; o++) {
                double dy = get(a->dy, a->dy16, n * lddy + o);
                for (int64_t i = 0; i < a->in; i++) sum[i] += dy * get(a->w, a->w16, o * a->in + i);
            }
            for (int64_t i = 0; i < a->in; i++) {
                if (a->pre || a->pre16) sum[i] *= gelu_derivative(get(a->pre, a->pre16, n * a->in + i));
                put(a->dx, a->dx16, n * lddx + i, a->add ? a->dx[n * lddx + i] + sum[i] : sum[i]);
            }
        }
    if (a->dw)
        for (int64_t o = 0; o < a->out; o++) {
            memset(sum, 0, (size_t)a->in * sizeof *sum);
            for (int64_t n = 0; n < a->rows; n++) {
                double dy = get(a->dy, a->dy16, n * lddy + o);
                for (int64_t i = 0; i < a->in; i++) sum[i] += dy * (wide ? wide[n * a->in + i] : a->x[n * ldx + i]);
            }
            for (int64_t i = 0; i < a->in; i++) a->dw[o * a->in + i] = (float)(a->dw[o * a->in + i] + sum[i]);
        }
    if (a->db)
        for (int64_t o = 0; o < a->out; o++) {
            double s = 0;
            for (int64_t n = 0; n < a->rows; n++) s += get(a->dy, a->dy16, n * lddy + o);
            a->db[o] = (float)(a->db[o] + s);
        }
    return 0;
}
