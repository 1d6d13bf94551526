/* linear_bwd_tmpl.h: the gradients of linear: dx = dy·w, dw += dyᵀ·x, db += Σ dy. Where pairs of bf16 are multiplied, a float32 dy beside w or x of
 * bf16 is rounded to it for dx and dw, and so is gelu(x), as published training under autocast does; db is not. */
#ifndef JEPA_LINEAR_BWD_TMPL_H
#define JEPA_LINEAR_BWD_TMPL_H
#include "compute/cpu/colsum_tmpl.h"
#include "compute/cpu/gemm_tmpl.h"

/* ---- dx ---- */

static inline __attribute__((always_inline)) void linear_dx_row(const float *c, const mat *pre, int64_t at, const int add, float *dx,
                                                                uint16_t *dx16, int64_t n) {
    for (int64_t o = 0; o < n; o += VW) {
        int64_t left = n - o;
        vf x = vload_some(c + o, left);
        if (pre) x = x * vgelu_slope(mat_load(pre, at + o, left));
        if (add) x = x + vload_some(dx + o, left);
        if (dx16)
            vstore16_some(dx16 + o, x, left);
        else
            vstore_some(dx + o, x, left);
    }
}

static inline void linear_dx_end(const void *ctx, const float *c, int64_t ldc, int64_t i, int64_t rows, int64_t j, int64_t n) {
    const op_linear_bwd *a = ctx;
    int64_t ld = stride_or(a->lddx, a->in);
    const mat pre = {.f = a->pre, .h = a->pre16};
    for (int64_t e = i + rows; i < e; i++, c += ldc) {
        float *dx = a->dx ? a->dx + i * ld + j : NULL;
        uint16_t *dx16 = a->dx16 ? a->dx16 + i * ld + j : NULL;
        int64_t at = i * a->in + j;
        if (pre.f || pre.h)
            linear_dx_row(c, &pre, at, 0, dx, dx16, n);
        else if (dx16)
            linear_dx_row(c, NULL, at, 0, NULL, dx16, n);
        else if (a->add)
            linear_dx_row(c, NULL, at, 1, dx, NULL, n);
        else
            linear_dx_row(c, NULL, at, 0, dx, NULL, n);
    }
}

/* ---- dw ---- */

static inline void linear_dw_end(const void *ctx, const float *c, int64_t ldc, int64_t i, int64_t rows, int64_t j, int64_t n) {
    const op_linear_bwd *a = ctx;
    for (int64_t e = i + rows; i < e; i++, c += ldc) {
        float *dw = a->dw + i * a->in + j;
        for (int64_t o = 0; o < n; o += VW) vstore_some(dw + o, vload_some(dw + o, n - o) + vload_some(c + o, n - o), n - o);
    }
}

static inline int t_linear_bwd(queue *q, const op_linear_bwd *a) {
    int rc = check_linear_bwd(a);
    if (rc < 0 || a->rows == 0) return rc;
    mat dy = {.f = a->dy, .h = a->dy16, .ld = stride_or(a->lddy, a->out)};
    if (a->dx || a->dx16) {
        mat w = {.f = a->w, .h = a->w16, .ld = a->in};
        gemm g = {.a = dy, .b = w, .m = a->rows, .n = a->in, .k = a->out, .end = linear_dx_end, .ctx = a, .cuts = 1};
        rc = gemm_run(q, &g);
    }
    if (rc == 0 && a->dw) {
        mat x = {.f = a->x, .h = a->x16, .ld = stride_or(a->ldx, a->in), .gelu = a->x_act == ACT_GELU}, t = dy;
        t.turned = 1;
        gemm g = {.a = t, .b = x, .m = a->out, .n = a->in, .k = a->rows, .end = linear_dw_end, .ctx = a, .adds = 1, .cuts = 1};
        rc = gemm_run(q, &g);
    }
    if (rc == 0 && a->db) rc = col_sums(q, a->dy, a->dy16, dy.ld, a->rows, a->out, a->db);
    return rc;
}
#endif
