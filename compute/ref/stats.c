/* stats.c: column sums, squares and the Gram matrix that the collapse monitor reads. */
#include "compute/ref/ref.h"

int ref_colstats(queue *q, const op_colstats *a) {
    int rc = check_colstats(a);
    if (rc < 0) return rc;
    int64_t ldx = stride_or(a->ldx, a->d);
    for (int64_t n = 0; n < a->rows; n++) {
        const float *x = a->x + n * ldx;
        for (int64_t i = 0; i < a->d; i++) {
            a->sum[i] += x[i];
            a->sumsq[i] += (double)x[i] * x[i];
            if (a->gram)
                for (int64_t j = 0; j < a->d; j++) a->gram[i * a->d + j] += (double)x[i] * x[j];
        }
    }
    return 0;
}
