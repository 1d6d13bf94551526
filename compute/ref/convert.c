/* convert.c: float32 to bf16 and back. */
#include "compute/ref/ref.h"

int ref_convert(queue *q, const op_convert *a) {
    (void)q;
    int rc = check_convert(a);
    if (rc < 0) return rc;
    for (int64_t i = 0; i < a->n; i++) {
        if (a->y16)
            a->y16[i] = f32_to_bf16(a->x[i]);
        else
            a->y[i] = bf16_to_f32(a->x16[i]);
    }
    return 0;
}
