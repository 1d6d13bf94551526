/* linear_tmpl.h: linear and GELU: products by gemm_tmpl.h, whose pieces end in bias, GELU and residual. */
#ifndef JEPA_LINEAR_TMPL_H
#define JEPA_LINEAR_TMPL_H
#include "compute/cpu/colsum_tmpl.h"
#include "compute/cpu/fine_tmpl.h"
#include "compute/cpu/gemm_tmpl.h"

enum { FLAT_PIECE = 8192 };

static inline void gelu_piece(void *ctx, int64_t i) {
    const op_gelu *a = ctx;
    for (int64_t j = i * FLAT_PIECE, end = least(j + FLAT_PIECE, a->n); j < end; j += VW)
        vstore_some(a->y + j, vgelu(vload_some(a->x + j, end - j)), end - j);
}

static inline int t_gelu(queue *q, const op_gelu *a) {
    int rc = check_gelu(a);
    if (rc == 0) cpu_for(q, pieces(a->n, FLAT_PIECE), 8.0 * (double)a->n, gelu_piece, (void *)(uintptr_t)a);
    return rc;
}

static inline void gelu_bwd_piece(void *ctx, int64_t i) {
    const op_gelu_bwd *a = ctx;
    for (int64_t j = i * FLAT_PIECE, end = least(j + FLAT_PIECE, a->n); j < end; j += VW)
        vstore_some(a->dx + j, vload_some(a->dy + j, end - j) * vgelu_slope(vload_some(a->x + j, end - j)), end - j);
}

static inline int t_gelu_bwd(queue *q, const op_gelu_bwd *a) {
    int rc = check_gelu_bwd(a);
    if (rc == 0) cpu_for(q, pieces(a->n, FLAT_PIECE), 8.0 * (double)a->n, gelu_bwd_piece, (void *)(uintptr_t)a);
    return rc;
}

/* ---- linear ---- */

/* y[0,n) = act(s + b) + r of one row; pre on the way. */
static inline __attribute__((always_inline)) void linear_vectors(const float *s, const float *b, float *pre, uint16_t *pre16, const int gelu,
                                                                 const float *r, float *y, uint16_t *y16, int64_t n) {
    for (int64_t o = 0; o < n; o += VW) {
        int64_t left = n - o;
        vf x = vload_some(s + o, left);
        if (b) x = x + vload_some(b + o, left);
        if (pre) vstore_some(pre + o, x, left);
        if (pre16) vstore16_some(pre16 + o, x, left);
        if (gelu) x = vgelu(x);
        if (r) x = x + vload_some(r + o, left);
        if (y16)
            vstore16_some(y16 + o, x, left);
        else
            vstore_some(y + o, x, left);
    }
}

/* Rows i …, columns j … of the product lie in c. */
static inline void linear_end(const void *ctx, const float *c, int64_t ldc, int64_t i, int64_t rows, int64_t j, int64_t n) {
    const op_linear *a = ctx;
    int64_t ldy = stride_or(a->ldy, a->out), ldr = stride_or(a->ldr, a->out);
    const float *b = a->b ? a->b + j : NULL;
    for (int64_t e = i + rows; i < e; i++, c += ldc) {
        float *pre = a->pre ? a->pre + i * a->out + j : NULL, *y = a->y ? a->y + i * ldy + j : NULL;
        uint16_t *pre16 = a->pre16 ? a->pre16 + i * a->out + j : NULL, *y16 = a->y16 ? a->y16 + i * ldy + j : NULL;
        const float *r = a->r ? a->r + i * ldr + j : NULL;
        if (pre || pre16) /* the usual ones without a question inside the loop */
            linear_vectors(c, b, pre, pre16, a->act == ACT_GELU, r, y, y16, n);
        else if (y16 && a->act == ACT_GELU)
            linear_vectors(c, b, NULL, NULL, 1, r, NULL, y16, n);
        else if (y16)
            linear_vectors(c, b, NULL, NULL, 0, r, NULL, y16, n);
        else if (a->act == ACT_GELU)
            linear_vectors(c, b, NULL, NULL, 1, r, y, NULL, n);
        else
            linear_vectors(c, b, NULL, NULL, 0, r, y, NULL, n);
    }
}

static inline int t_linear(queue *q, const op_linear *a) {
    int rc = check_linear(a);
    if (rc < 0 || a->rows == 0) return rc;
    mat x = {.f = a->x, .h = a->x16, .ld = stride_or(a->ldx, a->in)};
    mat w = {.f = a->w, .h = a->w16, .ld = a->in, .turned = 1};
    if (fine_wanted(a->rows, a->out, a->in)) return fine_run(q, &x, &w, a->rows, a->out, a->in, linear_end, a);
    gemm g = {.a = x, .b = w, .m = a->rows, .n = a->out, .k = a->in, .end = linear_end, .ctx = a};
    return gemm_run(q, &g);
}
#endif
