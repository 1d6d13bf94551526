/* layernorm.c: normalisation of each row, and its gradients. */
#include <math.h>
#include <string.h>
#include "compute/ref/ref.h"

int ref_layernorm(queue *q, const op_layernorm *a) {
    int rc = check_layernorm(a);
    if (rc < 0) return rc;
    int64_t d = a->d, ldx = stride_or(a->ldx, d), ldy = stride_or(a->ldy, d);
    for (int64_t n = 0; n < a->rows; n++) {
        const float *x = a->x + n * ldx;
        double mean = 0, var = 0;
        for (int64_t i = 0; i < d; i++) mean += x[i];
        mean /= (double)d;
        for (int64_t i = 0; i < d; i++) var += (x[i] - mean) * (x[i] - mean);
        double rstd = 1 / sqrt(var / (double)d + a->eps);
        for (int64_t i = 0; i < d; i++) {
            float y = (float)((x[i] - mean) * rstd * (a->w ? a->w[i] : 1) + (a->b ? a->b[i] : 0));
            if (a->y16)
                a->y16[n * ldy + i] = f32_to_bf16(y);
            else
                a->y[n * ldy + i] = y;
        }
        if (a->mean) a->mean[n] = (float)mean;
        if (a->rstd) a->rstd[n] = (float)rstd;
    }
    return 0;
}

static double gradient(const op_layernorm_bwd *a, int64_t i) { return a->dy16 ? bf16_to_f32(a->dy16[i]) : a->dy[i]; }

/* With g = dy·w and xhat = (x - mean)·rstd: dx = rstd·(g - mean(g) - xhat·mean(g·xhat)). */
int ref_layernorm_bwd(queue *q, const op_layernorm_bwd *a) {
    int rc = check_layernorm_bwd(a);
    if (rc < 0 || a->rows == 0) return rc;
    int64_t d = a->d;
    double *dw = queue_scratch(q, 2 * (size_t)d * sizeof *dw);
    if (!dw) return JEPA_E_MEMORY;
    double *db = dw + d;
    memset(dw, 0, 2 * (size_t)d * sizeof *dw);
    for (int64_t n = 0; n < a->rows; n++) {
        const float *x = a->x + n * d;
        float *dx = a->dx + n * d;
        double mean = a->mean[n], rstd = a->rstd[n], sum_g = 0, sum_gx = 0;
        for (int64_t i = 0; i < d; i++) {
            double xhat = (x[i] - mean) * rstd, dy = gradient(a, n * d + i), g = dy * (a->w ? a->w[i] : 1);
            sum_g += g;
            sum_gx += g * xhat;
            dw[i] += dy * xhat;
            db[i] += dy;
        }
        sum_g /= (double)d;
        sum_gx /= (double)d;
        for (int64_t i = 0; i < d; i++) {
            double xhat = (x[i] - mean) * rstd, g = gradient(a, n * d + i) * (a->w ? a->w[i] : 1);
            double v = rstd * (g - sum_g - xhat * sum_gx);
            dx[i] = (float)(a->add ? dx[i] + v : v);
        }
    }
    for (int64_t i = 0; i < d; i++) {
        if (a->dw) a->dw[i] = (float)(a->dw[i] + dw[i]);
        if (a->db) a->db[i] = (float)(a->db[i] + db[i]);
    }
    return 0;
}
