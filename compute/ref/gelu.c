/* gelu.c: the exact GELU and its gradient. */
#include <math.h>
#include "compute/ref/ref.h"

static const double SQRT_HALF = 0.70710678118654752440;   /* 1/√2 */
static const double NORMAL_PEAK = 0.39894228040143267794; /* 1/√(2π) */

/* 1 + erf(t) written as erfc(-t): the same number without cancellation far below zero. */
double gelu_exact(double x) { return 0.5 * x * erfc(-x * SQRT_HALF); }

double gelu_derivative(double x) { return 0.5 * erfc(-x * SQRT_HALF) + x * NORMAL_PEAK * exp(-0.5 * x * x); }

int ref_gelu(queue *q, const op_gelu *a) {
    int rc = check_gelu(a);
    if (rc < 0) return rc;
    for (int64_t i = 0; i < a->n; i++) a->y[i] = (float)gelu_exact(a->x[i]);
    return 0;
}

int ref_gelu_bwd(queue *q, const op_gelu_bwd *a) {
    int rc = check_gelu_bwd(a);
    if (rc < 0) return rc;
    for (int64_t i = 0; i < a->n; i++) a->dx[i] = (float)(a->dy[i] * gelu_derivative(a->x[i]));
    return 0;
}
