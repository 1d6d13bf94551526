/* layernorm_tmpl.h: normalisation of rows, forward and backward. */
#ifndef JEPA_LAYERNORM_TMPL_H
#define JEPA_LAYERNORM_TMPL_H
#include <math.h>
#include <string.h>
#include "compute/cpu/linear_tmpl.h"

enum { NORM_PIECE = 64 };

typedef struct norm_run {
    const op_layernorm *a;
    int64_t ldx, ldy;
} norm_run;

static inline void norm_row(const op_layernorm *a, const float *x, float *y, float *mean_out, float *rstd_out) {
    int64_t d = a->d, whole = d / (2 * VW) * (2 * VW);
    vf s0 = vset(0), s1 = s0;
    for (int64_t i = 0; i < whole; i += 2 * VW) {
        s0 = s0 + vload(x + i);
        s1 = s1 + vload(x + i + VW);
    }
    for (int64_t i = whole; i < d; i += VW) s0 = s0 + vload_some(x + i, d - i);
    double mean_exact = (double)vsum(s0 + s1) / (double)d;
    vf mean = vset((float)mean_exact);
    s0 = s1 = vset(0);
    for (int64_t i = 0; i < whole; i += 2 * VW) {
        vf e0 = vload(x + i) - mean, e1 = vload(x + i + VW) - mean;
        s0 = vfma(e0, e0, s0);
        s1 = vfma(e1, e1, s1);
    }
    for (int64_t i = whole; i < d; i += VW) {
        float e[VW];
        vstore(e, vload_some(x + i, d - i) - mean);
        vf v = vload_some(e, d - i); /* the padding is no deviation */
        s0 = vfma(v, v, s0);
    }
    double rstd_exact = 1 / sqrt((double)vsum(s0 + s1) / (double)d + a->eps);
    vf rstd = vset((float)rstd_exact);
    for (int64_t i = 0; i < d; i += VW) {
        int64_t n = d - i;
        vf v = (vload_some(x + i, n) - mean) * rstd;
        if (a->w) v = v * vload_some(a->w + i, n);
        if (a->b) v = v + vload_some(a->b + i, n);
        vstore_some(y + i, v, n);
    }
    if (mean_out) *mean_out = (float)mean_exact;
    if (rstd_out) *rstd_out = (float)rstd_exact;
}

static inline void norm_piece(void *ctx, int64_t i) {
    const norm_run *r = ctx;
    const op_layernorm *a = r->a;
    for (int64_t n = i * NORM_PIECE, end = least(n + NORM_PIECE, a->rows); n < end; n++)
        norm_row(a, a->x + n * r->ldx, a->y + n * r->ldy, a->mean ? a->mean + n : NULL, a->rstd ? a->rstd + n : NULL);
}

static inline int t_layernorm(queue *q, const op_layernorm *a) {
    int rc = check_layernorm(a);
    if (rc < 0) return rc;
    norm_run r = {a, stride_or(a->ldx, a->d), stride_or(a->ldy, a->d)};
    cpu_for(q, pieces(a->rows, NORM_PIECE), 2.0 * (double)a->rows * (double)a->d, norm_piece, &r);
    return 0;
}

/* ---- backward: dw and db gather in a piece's own sums ---- */

typedef struct norm_bwd {
    const op_layernorm_bwd *a;
    float *dw, *db;
} norm_bwd; /* [pieces,d] or NULL */

static inline void norm_bwd_piece(void *ctx, int64_t p) {
    const norm_bwd *r = ctx;
    const op_layernorm_bwd *a = r->a;
    int64_t d = a->d;
    float *dw = r->dw ? r->dw + p * d : NULL, *db = r->db ? r->db + p * d : NULL;
    if (dw) memset(dw, 0, (size_t)d * sizeof *dw);
    if (db) memset(db, 0, (size_t)d * sizeof *db);
    for (int64_t n = p * NORM_PIECE, end = least(n + NORM_PIECE, a->rows); n < end; n++) {
        const float *dy = a->dy + n * d, *x = a->x + n * d;
        float *dx = a->dx + n * d;
        vf rstd = vset(a->rstd[n]), shift = vset(a->mean[n]), sum_g = vset(0), sum_gx = vset(0);
        for (int64_t i = 0; i < d; i += VW) {
            int64_t left = d - i;
            vf g = vload_some(dy + i, left), xhat = (vload_some(x + i, left) - shift) * rstd, gx = g * xhat; /* padding: g = 0 */
            if (dw) vstore_some(dw + i, vload_some(dw + i, left) + gx, left);
            if (db) vstore_some(db + i, vload_some(db + i, left) + g, left);
            if (a->w) {
                vf w = vload_some(a->w + i, left);
                g = g * w;
                gx = gx * w;
            }
            if (left < VW) { /* an infinite xhat times a padding 0 would be NaN */
                float t[VW];
                vstore(t, gx);
                gx = vload_part(t, left);
            }
            sum_g = sum_g + g;
            sum_gx = sum_gx + gx;
        }
        vf mean_g = vset((float)((double)vsum(sum_g) / (double)d)), mean_gx = vset((float)((double)vsum(sum_gx) / (double)d));
        for (int64_t i = 0; i < d; i += VW) {
            int64_t left = d - i;
            vf g = vload_some(dy + i, left), xhat = (vload_some(x + i, left) - shift) * rstd;
            if (a->w) g = g * vload_some(a->w + i, left);
            vf v = rstd * (g - mean_g - xhat * mean_gx);
            if (a->add) v = v + vload_some(dx + i, left);
            vstore_some(dx + i, v, left);
        }
    }
}

static inline int t_layernorm_bwd(queue *q, const op_layernorm_bwd *a) {
    int rc = check_layernorm_bwd(a);
    if (rc < 0 || a->rows == 0) return rc;
    int64_t n = pieces(a->rows, NORM_PIECE);
    norm_bwd r = {.a = a};
    if (a->dw || a->db) {
        r.dw = queue_scratch(q, 2 * (size_t)(n * a->d) * sizeof(float));
        if (!r.dw) return JEPA_E_MEMORY;
        r.db = a->db ? r.dw + n * a->d : NULL;
        if (!a->dw) r.dw = NULL;
    }
    cpu_for(q, n, 4.0 * (double)a->rows * (double)a->d, norm_bwd_piece, &r);
    if (a->dw) col_sum_end(r.dw, n, a->d, a->dw);
    if (a->db) col_sum_end(r.db, n, a->d, a->db);
    return 0;
}
#endif
