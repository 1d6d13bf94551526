/* optim.c: what happens to parameters after backward: AdamW, EMA, and the small vector operations around them. */
#include <math.h>
#include <string.h>
#include "compute/ref/ref.h"

/* What the target becomes, when the source holds `now`. */
static void average(float *target, uint16_t *target16, double momentum, float now, int64_t i) {
    target[i] = (float)(momentum * target[i] + (1 - momentum) * now);
    if (target16) target16[i] = f32_to_bf16(target[i]);
}

int ref_adamw(queue *q, const op_adamw *a) {
    int rc = check_adamw(a);
    if (rc < 0) return rc;
    double bc1 = 1 - pow(a->beta1, (double)a->step), bc2 = 1 - pow(a->beta2, (double)a->step);
    for (int64_t i = 0; i < a->n; i++) {
        double g = a->grad[i] * a->grad_scale, w = a->param[i] * (1 - a->lr * a->wd);
        double m = a->beta1 * a->m[i] + (1 - a->beta1) * g;
        double v = a->beta2 * a->v[i] + (1 - a->beta2) * g * g;
        a->m[i] = (float)m;
        a->v[i] = (float)v;
        a->param[i] = (float)(w - a->lr * (m / bc1) / (sqrt(v / bc2) + a->eps));
        if (a->param16) a->param16[i] = f32_to_bf16(a->param[i]);
        if (a->target) average(a->target, a->target16, a->momentum, a->param[i], i);
    }
    return 0;
}

int ref_ema(queue *q, const op_ema *a) {
    int rc = check_ema(a);
    if (rc < 0) return rc;
    for (int64_t i = 0; i < a->n; i++) average(a->target, a->target16, a->momentum, a->source[i], i);
    return 0;
}

int ref_sqnorm(queue *q, const op_sqnorm *a) {
    int rc = check_sqnorm(a);
    if (rc < 0) return rc;
    double s = 0;
    for (int64_t i = 0; i < a->n; i++) s += (double)a->x[i] * a->x[i];
    *a->out += s;
    return 0;
}

int ref_axpy(queue *q, const op_axpy *a) {
    int rc = check_axpy(a);
    if (rc < 0) return rc;
    for (int64_t i = 0; i < a->n; i++) a->y[i] = (float)(a->y[i] + a->a * a->x[i]);
    return 0;
}

int ref_scale(queue *q, const op_scale *a) {
    int rc = check_scale(a);
    if (rc < 0) return rc;
    for (int64_t i = 0; i < a->n; i++) a->x[i] = (float)(a->a * a->x[i]);
    return 0;
}

int ref_zero(queue *q, void *p, size_t bytes) {
    if (!p && bytes) return JEPA_E_USE;
    if (bytes) memset(p, 0, bytes);
    return 0;
}
