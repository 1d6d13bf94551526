/* rope.c: rotary positions over frame, row and column: the table of cosines and sines, and its use. */
#include <math.h>
#include "compute/ref/ref.h"

int ref_rope_table(queue *q, const op_rope_table *a) {
    int rc = check_rope_table(a);
    if (rc < 0) return rc;
    int64_t half = a->head_dim / 3 / 2, d = 2 * half; /* channels that each axis owns; what is left stays as it is */
    for (int64_t n = 0; n < a->n; n++) {
        float *cos_row = a->cs + n * 2 * a->head_dim, *sin_row = cos_row + a->head_dim;
        for (int64_t c = 0; c < a->head_dim; c++) {
            cos_row[c] = 1;
            sin_row[c] = 0;
        }
        for (int64_t axis = 0; axis < 3; axis++)
            for (int64_t c = 0; c < d; c++) {
                /* Quirk of V-JEPA 2, kept for its checkpoints: the published table repeats θ_0 … θ_(half-1) twice, while the rotation
                 * pairs neighbours (c, c+1), so the two channels of a pair turn by different angles. 2.1 repeats each θ in place. */
                int64_t i = a->kind == ROPE_TILED ? c % half : c / 2;
                double angle = a->pos[n * 3 + axis] * pow(10000, -(double)i / (double)half);
                cos_row[axis * d + c] = (float)cos(angle);
                sin_row[axis * d + c] = (float)sin(angle);
            }
    }
    return 0;
}

/* Each pair of channels is multiplied by [cos c, -sin c; sin c+1, cos c+1], or by its transpose. Where the two angles differ
 * (ROPE_TILED) that is not a rotation, so the transpose is not a turn by the negative angles. */
int ref_rope(queue *q, const op_rope *a) {
    int rc = check_rope(a);
    if (rc < 0) return rc;
    int64_t dim = a->head_dim, ldx = stride_or(a->ldx, a->heads * dim);
    for (int64_t b = 0; b < a->batch; b++)
        for (int64_t i = 0; i < a->n; i++) {
            const float *co = a->cs + ((a->per_batch ? b * a->n : 0) + i) * 2 * dim, *si = co + dim;
            for (int64_t h = 0; h < a->heads; h++) {
                float *x = a->x + (b * a->n + i) * ldx + h * dim;
                for (int64_t c = 0; c + 1 < dim; c += 2) {
                    double x0 = x[c], x1 = x[c + 1];
                    if (a->transpose) {
                        x[c] = (float)(x0 * co[c] + x1 * si[c + 1]);
                        x[c + 1] = (float)(x1 * co[c + 1] - x0 * si[c]);
                    } else {
                        x[c] = (float)(x0 * co[c] - x1 * si[c]);
                        x[c + 1] = (float)(x1 * co[c + 1] + x0 * si[c + 1]);
                    }
                }
            }
        }
    return 0;
}
