/* rows.c: moves between sets of rows. Item b of a set with n rows starts at row b·n. */
#include <string.h>
#include "compute/ref/ref.h"

static const float *src_row(const op_rows *a, int64_t b, int64_t i) { return a->src + (b * a->n_src + i) * stride_or(a->lds, a->d); }

static float *dst_row(const op_rows *a, int64_t b, int64_t i) { return a->dst + (b * a->n_dst + i) * stride_or(a->ldd, a->d); }

int ref_gather_rows(queue *q, const op_rows *a) {
    int rc = check_gather_rows(a);
    if (rc < 0) return rc;
    for (int64_t b = 0; b < a->batch; b++)
        for (int64_t i = 0; i < a->n_dst; i++)
            memcpy(dst_row(a, b, i), src_row(a, b, a->index[b * a->n_dst + i]), (size_t)a->d * sizeof(float));
    return 0;
}

int ref_scatter_add_rows(queue *q, const op_rows *a) {
    int rc = check_scatter_add_rows(a);
    if (rc < 0) return rc;
    for (int64_t b = 0; b < a->batch; b++)
        for (int64_t i = 0; i < a->n_src; i++) {
            const float *s = src_row(a, b, i);
            float *d = dst_row(a, b, a->index[b * a->n_src + i]);
            for (int64_t c = 0; c < a->d; c++) d[c] += s[c];
        }
    return 0;
}

int ref_copy_rows(queue *q, const op_rows *a) {
    int rc = check_copy_rows(a);
    if (rc < 0) return rc;
    for (int64_t b = 0; b < a->batch; b++)
        for (int64_t i = 0; i < a->count; i++) {
            const float *s = src_row(a, b, a->src_off + i);
            float *d = dst_row(a, b, a->dst_off + i);
            for (int64_t c = 0; c < a->d; c++) d[c] = a->add ? d[c] + s[c] : s[c];
        }
    return 0;
}

int ref_broadcast_row(queue *q, const op_rows *a) {
    int rc = check_broadcast_row(a);
    if (rc < 0) return rc;
    for (int64_t b = 0; b < a->batch; b++)
        for (int64_t i = 0; i < a->count; i++) memcpy(dst_row(a, b, a->dst_off + i), a->src, (size_t)a->d * sizeof(float));
    return 0;
}

int ref_sum_rows(queue *q, const op_rows *a) {
    int rc = check_sum_rows(a);
    if (rc < 0 || a->batch == 0 || a->count == 0) return rc;
    double *sum = queue_scratch(q, (size_t)a->d * sizeof *sum);
    if (!sum) return JEPA_E_MEMORY;
    memset(sum, 0, (size_t)a->d * sizeof *sum);
    for (int64_t b = 0; b < a->batch; b++)
        for (int64_t i = 0; i < a->count; i++) {
            const float *s = src_row(a, b, a->src_off + i);
            for (int64_t c = 0; c < a->d; c++) sum[c] += s[c];
        }
    for (int64_t c = 0; c < a->d; c++) a->dst[c] = (float)(a->dst[c] + sum[c]);
    return 0;
}
