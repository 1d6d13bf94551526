/* optim_tmpl.h: the loss, and what happens to parameters after backward. Sums are double, per piece, added in order. */
#ifndef JEPA_OPTIM_TMPL_H
#define JEPA_OPTIM_TMPL_H
#include <math.h>
#include <string.h>
#include "compute/cpu/linear_tmpl.h"

enum { SUM_LANES = 8 };

static inline double lanes_total(const double *s) { return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])); }

static inline double parts_total(const double *part, int64_t n) {
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += part[i];
    return s;
}

/* ---- loss ---- */

typedef struct loss_run {
    const op_loss *a;
    int64_t n;
    double *part;
} loss_run;

static inline double loss_size(const op_loss *a, float e) /* f(e) */
{
    double size = fabs((double)e);
    if (a->kind == LOSS_SMOOTH_L1) return size < 1 ? 0.5 * size * size : size - 0.5;
    return a->p == 1 ? size : a->p == 2 ? 0.5 * size * size : pow(size, a->p) / a->p;
}

static inline float loss_slope(const op_loss *a, float e) /* scale·f'(e); NaN stays NaN */
{
    float scale = (float)a->scale, sign = e > 0 ? scale : e < 0 ? -scale : e;
    if (a->kind == LOSS_SMOOTH_L1) return fabsf(e) < 1 ? scale * e : sign;
    if (a->p == 1) return sign;
    if (a->p == 2) return scale * e;
    return e == 0 ? 0 : (float)(sign * pow(fabs((double)e), a->p - 1));
}

static inline void loss_piece(void *ctx, int64_t p) {
    const loss_run *r = ctx;
    const op_loss *a = r->a;
    double s[SUM_LANES] = {0};
    int64_t i = p * FLAT_PIECE, end = least(i + FLAT_PIECE, r->n);
    int abs1 = a->kind == LOSS_POWER && a->p == 1;
    if (abs1) { /* the usual one */
        vf up = vset((float)a->scale), down = vset(0) - up, zero = vset(0);
        for (; i + 8 * VW <= end; i += 8 * VW) {
            vf sum = zero;
            for (int64_t l = 0; l < 8 * VW; l += VW) {
                vf e = vload(a->z + i + l) - vload(a->h + i + l);
                sum = sum + vabs(e);
                if (a->dz) vstore(a->dz + i + l, vpick_below(e, zero, down, vpick_below(zero, e, up, e))); /* 0 and NaN stay */
            }
            s[0] += vsum(sum);
        }
    }
    for (; i < end; i++) {
        float e = a->z[i] - a->h[i];
        s[i % SUM_LANES] += loss_size(a, e);
        if (a->dz) a->dz[i] = loss_slope(a, e);
    }
    r->part[p] = lanes_total(s);
}

static inline int t_loss(queue *q, const op_loss *a) {
    int rc = check_loss(a);
    if (rc < 0 || a->rows == 0) return rc;
    loss_run r = {.a = a, .n = a->rows * a->d};
    int64_t n = pieces(r.n, FLAT_PIECE);
    r.part = queue_scratch(q, (size_t)n * sizeof(double));
    if (!r.part) return JEPA_E_MEMORY;
    int cheap = a->kind == LOSS_SMOOTH_L1 || a->p == 1 || a->p == 2;
    cpu_for(q, n, (cheap ? 2.0 : 50.0) * (double)r.n, loss_piece, &r);
    *a->loss += a->scale * parts_total(r.part, n);
    return 0;
}

/* ---- AdamW ---- */

typedef struct adam_run {
    const op_adamw *a;
    float scale, keep, b1, c1, b2, c2, step, root, eps, stay, take;
} adam_run;

/* EMA of n numbers from i on, when the source holds `now`. One multiplication and one fused addition, spelt out: the same bits wherever it
 * is compiled into. */
static inline void average(float *target, uint16_t *target16, int64_t i, int64_t n, float stay, float take, vf now) {
    vf t = vfma(vset(stay), vload_some(target + i, n), vset(take) * now);
    vstore_some(target + i, t, n);
    if (target16) vstore16_some(target16 + i, t, n);
}

static inline void adam_piece(void *ctx, int64_t p) {
    const adam_run *r = ctx;
    const op_adamw *a = r->a;
    for (int64_t i = p * FLAT_PIECE, end = least(i + FLAT_PIECE, a->n); i < end; i += VW) {
        int64_t n = end - i;
        vf g = vload_some(a->grad + i, n) * vset(r->scale), w = vload_some(a->param + i, n) * vset(r->keep);
        vf m = vload_some(a->m + i, n) * vset(r->b1) + g * vset(r->c1);
        vf v = vload_some(a->v + i, n) * vset(r->b2) + g * g * vset(r->c2);
        vf down = vsqrt(v) * vset(r->root) + vset(r->eps);
        vstore_some(a->m + i, m, n);
        vstore_some(a->v + i, v, n);
        w = w - vset(r->step) * m / down;
        vstore_some(a->param + i, w, n);
        if (a->param16) vstore16_some(a->param16 + i, w, n);
        if (a->target) average(a->target, a->target16, i, n, r->stay, r->take, w);
    }
}

static inline int t_adamw(queue *q, const op_adamw *a) {
    int rc = check_adamw(a);
    if (rc < 0) return rc;
    double bc1 = 1 - pow(a->beta1, (double)a->step), bc2 = 1 - pow(a->beta2, (double)a->step);
    adam_run r = {.a = a,
                  .scale = (float)a->grad_scale,
                  .keep = (float)(1 - a->lr * a->wd),
                  .b1 = (float)a->beta1,
                  .c1 = (float)(1 - a->beta1),
                  .b2 = (float)a->beta2,
                  .c2 = (float)(1 - a->beta2),
                  .step = (float)(a->lr / bc1),
                  .root = (float)(1 / sqrt(bc2)),
                  .eps = (float)a->eps,
                  .stay = (float)a->momentum,
                  .take = (float)(1 - a->momentum)};
    cpu_for(q, pieces(a->n, FLAT_PIECE), 4.0 * (double)a->n, adam_piece, &r);
    return 0;
}

/* ---- EMA, square norm, y += a·x, x *= a, zero ---- */

static inline void ema_piece(void *ctx, int64_t p) {
    const op_ema *a = ctx;
    float stay = (float)a->momentum, take = (float)(1 - a->momentum);
    for (int64_t i = p * FLAT_PIECE, end = least(i + FLAT_PIECE, a->n); i < end; i += VW)
        average(a->target, a->target16, i, end - i, stay, take, vload_some(a->source + i, end - i));
}

static inline int t_ema(queue *q, const op_ema *a) {
    int rc = check_ema(a);
    if (rc == 0) cpu_for(q, pieces(a->n, FLAT_PIECE), 2.0 * (double)a->n, ema_piece, (void *)(uintptr_t)a);
    return rc;
}

typedef struct norm2_run {
    const op_sqnorm *a;
    double *part;
} norm2_run;

static inline void norm2_piece(void *ctx, int64_t p) {
    const norm2_run *r = ctx;
    const float *x = r->a->x;
    double s[SUM_LANES] = {0};
    int64_t i = p * FLAT_PIECE, end = least(i + FLAT_PIECE, r->a->n);
    for (; i + SUM_LANES <= end; i += SUM_LANES)
        for (int l = 0; l < SUM_LANES; l++) s[l] += (double)x[i + l] * (double)x[i + l];
    for (; i < end; i++) s[i % SUM_LANES] += (double)x[i] * (double)x[i];
    r->part[p] = lanes_total(s);
}

static inline int t_sqnorm(queue *q, const op_sqnorm *a) {
    int rc = check_sqnorm(a);
    if (rc < 0 || a->n == 0) return rc;
    int64_t n = pieces(a->n, FLAT_PIECE);
    norm2_run r = {a, queue_scratch(q, (size_t)n * sizeof(double))};
    if (!r.part) return JEPA_E_MEMORY;
    cpu_for(q, n, (double)a->n, norm2_piece, &r);
    *a->out += parts_total(r.part, n);
    return 0;
}

static inline void axpy_piece(void *ctx, int64_t p) {
    const op_axpy *a = ctx;
    vf f = vset((float)a->a);
    for (int64_t i = p * FLAT_PIECE, end = least(i + FLAT_PIECE, a->n); i < end; i += VW) {
        int64_t n = end - i;
        vstore_some(a->y + i, vfma(f, vload_some(a->x + i, n), vload_some(a->y + i, n)), n);
    }
}

static inline int t_axpy(queue *q, const op_axpy *a) {
    int rc = check_axpy(a);
    if (rc == 0) cpu_for(q, pieces(a->n, FLAT_PIECE), (double)a->n, axpy_piece, (void *)(uintptr_t)a);
    return rc;
}

static inline void scale_piece(void *ctx, int64_t p) {
    const op_scale *a = ctx;
    vf f = vset((float)a->a);
    for (int64_t i = p * FLAT_PIECE, end = least(i + FLAT_PIECE, a->n); i < end; i += VW)
        vstore_some(a->x + i, f * vload_some(a->x + i, end - i), end - i);
}

static inline int t_scale(queue *q, const op_scale *a) {
    int rc = check_scale(a);
    if (rc == 0) cpu_for(q, pieces(a->n, FLAT_PIECE), (double)a->n, scale_piece, (void *)(uintptr_t)a);
    return rc;
}

typedef struct wipe {
    unsigned char *p;
    int64_t bytes;
} wipe;
enum { WIPE_PIECE = 256 * 1024 };

static inline void wipe_piece(void *ctx, int64_t p) {
    const wipe *w = ctx;
    memset(w->p + p * WIPE_PIECE, 0, (size_t)least(WIPE_PIECE, w->bytes - p * WIPE_PIECE));
}

static inline int t_zero(queue *q, void *p, size_t bytes) {
    if (!p && bytes) return JEPA_E_USE;
    wipe w = {p, (int64_t)bytes};
    cpu_for(q, pieces(w.bytes, WIPE_PIECE), (double)bytes / 32, wipe_piece, &w);
    return 0;
}
#endif
