/* convert_tmpl.h: float32 to bf16 and back. */
#ifndef JEPA_CONVERT_TMPL_H
#define JEPA_CONVERT_TMPL_H
#include "compute/cpu/linear_tmpl.h"

static inline void convert_piece(void *ctx, int64_t p) {
    const op_convert *a = ctx;
    int64_t i = p * FLAT_PIECE, end = least(i + FLAT_PIECE, a->n);
    if (a->y16)
        for (; i < end; i += VW) vstore16_some(a->y16 + i, vload_some(a->x + i, end - i), end - i);
    else
        for (; i < end; i += VW) vstore_some(a->y + i, vload16_some(a->x16 + i, end - i), end - i);
}

static inline int t_convert(queue *q, const op_convert *a) {
    int rc = check_convert(a);
    if (rc == 0) cpu_for(q, pieces(a->n, FLAT_PIECE), (double)a->n, convert_piece, (void *)(uintptr_t)a);
    return rc;
}
#endif
