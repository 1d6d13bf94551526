/* layernorm_tmpl.h: normalisation of rows, forward and backward. */
#ifndef JEPA_LAYERNORM_TMPL_H
#define JEPA_LAYERNORM_TMPL_H
#include <math.h>
#include <string.h>
#include "compute/cpu/linear_tmpl.h"

enum { NORM_PIECE = 64, NORM_STEP = 4 * VW }; /* four vectors at a time: as many sums, so that no addition waits for the one before */

typedef struct norm_run {
    const op_layernorm *a;
    int64_t ldx, ldy;
} norm_run;

static inline double norm_mean(const float *x, int64_t d) {
    vf s[4] = {vset(0), vset(0), vset(0), vset(0)};
    int64_t i = 0;
    for (; i + NORM_STEP <= d; i += NORM_STEP) {
        UNROLL
        for (int l = 0; l < 4; l++) s[l] = s[l] + vload(x + i + l * VW);
    }
    for (; i < d; i += VW) s[0] = s[0] + vload_some(x + i, d - i);
    return (double)vsum((s[0] + s[1]) + (s[2] + s[3])) / (double)d;
}

static inline double norm_variance(const float *x, int64_t d, vf mean) {
    vf s[4] = {vset(0), vset(0), vset(0), vset(0)};
    int64_t i = 0;
    for (; i + NORM_STEP <= d; i += NORM_STEP) {
        UNROLL
        for (int l = 0; l < 4; l++) {
            vf e = vload(x + i + l * VW) - mean;
            s[l] = vfma(e, e, s[l]);
        }
    }
    for (; i < d; i += VW) {
        float e[VW];
        vstore(e, vload_some(x + i, d - i) - mean);
        vf v = vload_some(e, d - i); /* the padding is no deviation */
        s[0] = vfma(v, v, s[0]);
    }
    return (double)vsum((s[0] + s[1]) + (s[2] + s[3])) / (double)d;
}

/* `half` is a constant where this is called: y holds bf16. next: what is read after this row, asked for while nothing else is read. */
static inline void norm_write(const op_layernorm *a, int64_t d, const float *x, vf mean, vf rstd, void *y, const int half, const float *next) {
    const float *w = a->w, *b = a->b;
    int64_t i = 0;
    if (w && b)
        for (; i + NORM_STEP <= d; i += NORM_STEP) {
            __builtin_prefetch(next + i);
            __builtin_prefetch(next + i + 2 * VW);
            vf v[4];
            UNROLL
            for (int l = 0; l < 4; l++)
                v[l] = vfma((vload(x + i + l * VW) - mean) * rstd, vload(w + i + l * VW), vload(b + i + l * VW));
            UNROLL
            for (int l = 0; l < 4; l++) {
                if (half)
                    vstore16((uint16_t *)y + i + l * VW, v[l]);
                else
                    vstore((float *)y + i + l * VW, v[l]);
            }
        }
    for (; i < d; i += VW) {
        int64_t n = d - i;
        vf v = (vload_some(x + i, n) - mean) * rstd;
        if (w) v = v * vload_some(w + i, n);
        if (b) v = v + vload_some(b + i, n);
        if (half)
            vstore16_some((uint16_t *)y + i, v, n);
        else
            vstore_some((float *)y + i, v, n);
    }
}

static inline void norm_piece(void *ctx, int64_t p) {
    const norm_run *r = ctx;
    const op_layernorm *a = r->a;
    for (int64_t n = p * NORM_PIECE, end = least(n + NORM_PIECE, a->rows); n < end; n++) {
        const float *x = a->x + n * r->ldx, *next = n + 1 < end ? x + r->ldx : x;
        double mean = norm_mean(x, a->d), rstd = 1 / sqrt(norm_variance(x, a->d, vset((float)mean)) + a->eps);
        if (a->y16)
            norm_write(a, a->d, x, vset((float)mean), vset((float)rstd), a->y16 + n * r->ldy, 1, next);
        else
            norm_write(a, a->d, x, vset((float)mean), vset((float)rstd), a->y + n * r->ldy, 0, next);
        if (a->mean) a->mean[n] = (float)mean;
        if (a->rstd) a->rstd[n] = (float)rstd;
    }
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

enum { NORM_ROWS = 2 }; /* rows at a time: dw and db are loaded and stored once for these */

static inline vf norm_gradient(const op_layernorm_bwd *a, int64_t i, int64_t left, const int half) {
    return half ? vload16_some(a->dy16 + i, left) : vload_some(a->dy + i, left);
}

/* xhat = x·rstd + shift. `count` and `half` are constants where this is called. */
static inline void norm_bwd_rows(const op_layernorm_bwd *a, int64_t n, float *dw, float *db, const int count, const int half) {
    int64_t d = a->d;
    const float *x = a->x + n * d;
    vf rstd[NORM_ROWS], shift[NORM_ROWS], sum_g[NORM_ROWS], sum_gx[NORM_ROWS];
    UNROLL
    for (int r = 0; r < count; r++) {
        rstd[r] = vset(a->rstd[n + r]);
        shift[r] = vset(-a->mean[n + r] * a->rstd[n + r]);
        sum_g[r] = sum_gx[r] = vset(0);
    }
    for (int64_t i = 0; i < d; i += VW) {
        int64_t left = d - i;
        vf w = a->w ? vload_some(a->w + i, left) : vset(1), to_w = dw ? vload_some(dw + i, left) : vset(0),
           to_b = db ? vload_some(db + i, left) : vset(0);
        UNROLL
        for (int r = 0; r < count; r++) {
            vf g = norm_gradient(a, (n + r) * d + i, left, half), xhat = vfma(vload_some(x + r * d + i, left), rstd[r], shift[r]);
            to_w = vfma(g, xhat, to_w);
            to_b = to_b + g;
            g = g * w;
            vf gx = g * xhat;
            if (left < VW) { /* an infinite xhat times a padding 0 would be NaN */
                float t[VW];
                vstore(t, gx);
                gx = vload_part(t, left);
            }
            sum_g[r] = sum_g[r] + g;
            sum_gx[r] = sum_gx[r] + gx;
        }
        if (dw) vstore_some(dw + i, to_w, left);
        if (db) vstore_some(db + i, to_b, left);
    }
    UNROLL
    for (int r = 0; r < count; r++) { /* from here: what g·rstd is lessened by, and what xhat is multiplied by */
        float s = a->rstd[n + r];
        sum_g[r] = vset(-s * (float)((double)vsum(sum_g[r]) / (double)d));
        sum_gx[r] = vset(-s * (float)((double)vsum(sum_gx[r]) / (double)d));
    }
    for (int64_t i = 0; i < d; i += VW) {
        int64_t left = d - i;
        vf w = a->w ? vload_some(a->w + i, left) : vset(1);
        UNROLL
        for (int r = 0; r < count; r++) {
            float *dx = a->dx + (n + r) * d + i;
            vf g = norm_gradient(a, (n + r) * d + i, left, half) * w, xhat = vfma(vload_some(x + r * d + i, left), rstd[r], shift[r]);
            vf v = vfma(xhat, sum_gx[r], vfma(g, rstd[r], sum_g[r]));
            if (a->add) v = v + vload_some(dx, left);
            vstore_some(dx, v, left);
        }
    }
}

static inline void norm_bwd_piece(void *ctx, int64_t p) {
    const norm_bwd *r = ctx;
    const op_layernorm_bwd *a = r->a;
    int64_t d = a->d, n = p * NORM_PIECE, end = least(n + NORM_PIECE, a->rows);
    float *dw = r->dw ? r->dw + p * d : NULL, *db = r->db ? r->db + p * d : NULL;
    if (dw) memset(dw, 0, (size_t)d * sizeof *dw);
    if (db) memset(db, 0, (size_t)d * sizeof *db);
    for (; n + NORM_ROWS <= end; n += NORM_ROWS) {
        if (a->dy16)
            norm_bwd_rows(a, n, dw, db, NORM_ROWS, 1);
        else
            norm_bwd_rows(a, n, dw, db, NORM_ROWS, 0);
    }
    for (; n < end; n++) {
        if (a->dy16)
            norm_bwd_rows(a, n, dw, db, 1, 1);
        else
            norm_bwd_rows(a, n, dw, db, 1, 0);
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
