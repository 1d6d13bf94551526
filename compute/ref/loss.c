/* loss.c: the distance between predictions and targets, with its gradient in the same pass. */
#include <math.h>
#include "compute/ref/ref.h"

static double sign(double e) /* NaN stays NaN */
{
    return e > 0 ? 1 : e < 0 ? -1 : e;
}

int ref_loss(queue *q, const op_loss *a) {
    int rc = check_loss(a);
    if (rc < 0) return rc;
    double sum = 0;
    for (int64_t i = 0; i < a->rows * a->d; i++) {
        double e = (double)a->z[i] - a->h[i], size = fabs(e), slope;
        if (a->kind == LOSS_SMOOTH_L1) {
            sum += size < 1 ? 0.5 * e * e : size - 0.5;
            slope = size < 1 ? e : sign(e);
        } else {
            sum += pow(size, a->p) / a->p;
            slope = e == 0 ? 0 : sign(e) * pow(size, a->p - 1);
        }
        if (a->dz) a->dz[i] = (float)(a->scale * slope);
    }
    *a->loss += a->scale * sum;
    return 0;
}
