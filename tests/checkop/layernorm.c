/* layernorm.c: layernorm and layernorm_bwd. */
#include "tests/checkop/checkop.h"

static int call_layernorm(const ops *o, queue *q, const job *j, void **p) {
    op_layernorm a = *(const op_layernorm *)j->arg;
    a.x = at(j, p, "x");
    a.w = at(j, p, "w");
    a.b = at(j, p, "b");
    a.y = job_find(j, "y") ? at(j, p, "y") : job_find(j, "y16") ? NULL : at(j, p, "x");
    a.mean = at(j, p, "mean");
    a.rstd = at(j, p, "rstd");
    if (j->flag) a.y16 = at(j, p, "y16"); /* both at once */
    int half = job_find(j, "y16") != NULL, rc = a.y || !half ? o->layernorm(q, &a) : 0;
    if (rc < 0 || !half) return rc;
    a.y = NULL; /* and once more into the other form */
    a.y16 = at(j, p, "y16");
    return o->layernorm(q, &a);
}

static int call_layernorm_bwd(const ops *o, queue *q, const job *j, void **p) {
    op_layernorm_bwd a = *(const op_layernorm_bwd *)j->arg;
    a.dy = at(j, p, "dy");
    if (job_find(j, "dy16")) a.dy16 = at(j, p, "dy16");
    a.x = at(j, p, "x");
    a.w = at(j, p, "w");
    a.mean = at(j, p, "mean");
    a.rstd = at(j, p, "rstd");
    a.dx = job_find(j, "dx") ? at(j, p, "dx") : at(j, p, "dy");
    a.dw = at(j, p, "dw");
    a.db = at(j, p, "db");
    return o->layernorm_bwd(q, &a);
}

/* Relative error of a float32 sum over d, in 8 lanes of which each adds d/8 numbers in order: ULP·√(d/8)-ish; a few roundings besides. */
static double stat_ulps(int64_t d) { return (4 + 0.5 * sqrt((double)d)) * ULP; }

enum { AFFINE = 1, IN_PLACE = 2, STATS = 4, STRIDES = 8, HALF_TOO = 16, HALF_ONLY = 32 };

/* offset: mean of the data in units of its spread; spread 0: constant rows, where 1/√eps blows up any error of the mean. */
static job norm_job(ctx *c, op_layernorm *a, int64_t rows, int64_t d, double eps, double offset, double spread, int flag) {
    *a = (op_layernorm){.rows = rows, .d = d, .eps = eps};
    if (flag & STRIDES) a->ldx = d + 3, a->ldy = flag & IN_PLACE ? d + 3 : d + 11;
    job j = job_of(c, "layernorm", call_layernorm, a, "%lldx%lld eps %g mean %g sd %g%s%s%s%s%s", (long long)rows, (long long)d, eps,
                   offset, spread, flag & AFFINE ? " affine" : "", flag & IN_PLACE ? " in place" : "", flag & STATS ? " stats" : "",
                   flag & STRIDES ? " strides" : "", flag & HALF_TOO ? " f32, bf16" : flag & HALF_ONLY ? " bf16" : "");
    j.bytes = (flag & HALF_ONLY ? 6.0 : 8.0) * (double)(rows * d);
    array *x = job_array(c, &j, flag & IN_PLACE ? INOUT : IN, "x", T_F32, rows, d, a->ldx), *y = x;
    fill_normal(c, x, offset, spread);
    if (flag & AFFINE) {
        job_array(c, &j, IN, "w", T_F32, 1, d, 0);
        job_array(c, &j, IN, "b", T_F32, 1, d, 0);
    }
    if (!(flag & (IN_PLACE | HALF_ONLY))) y = job_array(c, &j, OUT, "y", T_F32, rows, d, a->ldy);
    if (flag & HALF_TOO) job_array(c, &j, OUT, "y16", T_BF16, rows, d, a->ldy)->rounds = "y";
    if (flag & HALF_ONLY) y = job_array(c, &j, OUT, "y16", T_BF16, rows, d, a->ldy);
    /* y's error: that of x - mean (mean's own, of size |x|) by rstd, and rstd's, of size |xhat| < 6. d = 1 has no spread at all. */
    double big = largest(x), sd = sqrt((d > 2 ? 0.1 * spread * spread : 0) + eps), w = flag & AFFINE ? largest(job_find(&j, "w")) : 1;
    y->abs = stat_ulps(d) * w * (6 + big / sd);
    y->rel = 4 * ULP;
    if (flag & HALF_ONLY) bound_bf16(y);
    if (flag & STATS) {
        job_array(c, &j, OUT, "mean", T_F32, 1, rows, 0)->abs = stat_ulps(d) * big;
        array *rstd = job_array(c, &j, OUT, "rstd", T_F32, 1, rows, 0);
        /* var = Σ(x-mean)²/d; a mean that is off by δ adds δ² */
        double delta = stat_ulps(d) * big;
        rstd->rel = 2 * stat_ulps(d) + delta * delta / (sd * sd);
    }
    if (!rows) j.a[j.n - 1].rows = j.a[j.n - 2].rows = 0;
    return j;
}

static void norm_refusals(ctx *c) {
    op_layernorm good, bad;
    job j = norm_job(c, &good, 3, 10, 1e-6, 0, 1, AFFINE | STATS);
    job_refuse_null(c, &j, "x");
    job_refuse_null(c, &j, "y");
    const struct {
        size_t field;
        int64_t value;
        const char *why;
    } SIZES[] = {
        {offsetof(op_layernorm, rows), -1, "rows -1"}, {offsetof(op_layernorm, rows), INT64_MAX, "rows 2^63-1"},
        {offsetof(op_layernorm, d), 0, "d 0"},         {offsetof(op_layernorm, d), INT64_MIN, "d -2^63"},
        {offsetof(op_layernorm, ldx), 9, "ldx < d"},   {offsetof(op_layernorm, ldy), 1, "ldy < d"},
    };
    for (int i = 0; i < COUNT(SIZES); i++) {
        bad = good;
        memcpy((char *)&bad + SIZES[i].field, &SIZES[i].value, sizeof SIZES[i].value);
        job_refuse(c, &j, &bad, JEPA_E_USE, SIZES[i].why);
    }
    bad = good;
    bad.type = T_F16;
    job_refuse(c, &j, &bad, JEPA_E_UNSUPPORTED, "f16");
    const double EPS[] = {-1e-6, NAN, INFINITY};
    for (int i = 0; i < COUNT(EPS); i++) {
        bad = good;
        bad.eps = EPS[i];
        job_refuse(c, &j, &bad, JEPA_E_USE, "eps < 0, NaN or infinite");
    }
    job_close(&j);
    j = norm_job(c, &good, 3, 10, 1e-6, 0, 1, AFFINE | HALF_ONLY);
    job_refuse_null(c, &j, "y16");
    job_close(&j);
}

static void norm_both(ctx *c) {
    op_layernorm a;
    job j = norm_job(c, &a, 3, 10, 1e-6, 0, 1, HALF_TOO);
    j.flag = 1;
    job_refuse(c, &j, NULL, JEPA_E_USE, "y and y16");
    job_close(&j);
}

enum { W = 1, DWB = 2, ADD = 4, OVER_DY = 8, HALF_DY = 16 };

static job bwd_job(ctx *c, op_layernorm_bwd *a, int64_t rows, int64_t d, int flag) {
    *a = (op_layernorm_bwd){.rows = rows, .d = d, .add = flag & ADD ? 1 : 0};
    job j = job_of(c, "layernorm_bwd", call_layernorm_bwd, a, "%lldx%lld%s%s%s%s%s", (long long)rows, (long long)d,
                   flag & W ? " w" : "", flag & DWB ? " dw db" : "", flag & ADD ? " add" : "", flag & OVER_DY ? " over dy" : "",
                   flag & HALF_DY ? " bf16" : "");
    j.bytes = (flag & ADD ? 16.0 : 12.0) * (double)(rows * d) - (flag & HALF_DY ? 2.0 : 0) * (double)(rows * d);
    array *dy = flag & HALF_DY ? job_array(c, &j, IN, "dy16", T_BF16, rows, d, 0)
                               : job_array(c, &j, flag & OVER_DY ? INOUT : IN, "dy", T_F32, rows, d, 0);
    array *x = job_array(c, &j, IN, "x", T_F32, rows, d, 0);
    if (flag & W) job_array(c, &j, IN, "w", T_F32, 1, d, 0);
    array *mean = job_array(c, &j, IN, "mean", T_F32, rows, 1, 0), *rstd = job_array(c, &j, IN, "rstd", T_F32, rows, 1, 0);
    double top = 0, hat = 0;
    for (int64_t n = 0; n < rows; n++) { /* the true statistics; where there is no spread, rstd = 1/√eps as in forward */
        double m = 0, v = 0;
        for (int64_t i = 0; i < d; i++) m += row_of(x, n)[i] / (double)d;
        for (int64_t i = 0; i < d; i++) v += (row_of(x, n)[i] - m) * (row_of(x, n)[i] - m) / (double)d;
        row_of(mean, n)[0] = (float)m;
        row_of(rstd, n)[0] = (float)(1 / sqrt(v + 1e-5));
        top = fmax(top, row_of(rstd, n)[0]);
        for (int64_t i = 0; i < d; i++) hat = fmax(hat, fabs(row_of(x, n)[i] - m) * row_of(rstd, n)[0]);
    }
    double g = largest(dy) * (flag & W ? largest(job_find(&j, "w")) : 1);
    array *dx = dy;
    if (!(flag & OVER_DY)) dx = job_array(c, &j, flag & ADD ? INOUT : OUT, "dx", T_F32, rows, d, 0);
    /* rstd·(g - mean(g) - xhat·mean(g·xhat)): two sums over d, each as good as stat_ulps of its largest term; xhat's own error is that of
     * x - mean, a few ULP of |x| < 6, by rstd. */
    dx->abs = top * g * (stat_ulps(d) * (1 + hat * hat) + 8 * ULP * top * hat);
    dx->rel = 4 * ULP;
    if (flag & DWB) {
        array *dw = job_array(c, &j, INOUT, "dw", T_F32, 1, d, 0), *db = job_array(c, &j, INOUT, "db", T_F32, 1, d, 0);
        bound_sum(dw, (double)rows, 1);
        bound_sum(db, (double)rows, 1);
        /* what they are added to, below 4; xhat's own error as above, in each of dw's terms, whose signs are random */
        dw->abs += 4 * ULP + 12 * ULP * top * sqrt((double)rows);
        db->abs += 4 * ULP;
    }
    return j;
}

void family_layernorm(ctx *c) {
    static const int64_t SHAPES[][2] = {{1, 1},  {3, 1},  {1, 2},   {5, 3},   {2, 7},     {3, 8},    {4, 15},
                                        {5, 16}, {7, 17}, {31, 33}, {32, 96}, {197, 384}, {3, 1408}, {2, 4099}};
    if (op_begin(c, "layernorm")) {
        static const int FLAGS[] = {
            AFFINE | STATS,    0,
            AFFINE | IN_PLACE, STATS | STRIDES,
            AFFINE | HALF_TOO, AFFINE | IN_PLACE | STRIDES | STATS,
            HALF_ONLY | STATS, AFFINE | HALF_TOO | STRIDES | STATS};
        op_layernorm a;
        for (int s = 0; s < COUNT(SHAPES); s++)
            for (int f = 0; f < COUNT(FLAGS); f++) {
                job j = norm_job(c, &a, SHAPES[s][0], SHAPES[s][1], f & 1 ? 1e-5 : 1e-6, f == 3 ? 100 : f == 1 ? -3 : 0, 1, FLAGS[f]);
                job_run(c, &j);
                if (s < 12) job_nan(c, &j);
                job_close(&j);
            }
        static const double CONSTANTS[] = {0, 1, -2.5, 3.7, 1000.1, 1e-20};
        for (int i = 0; i < COUNT(CONSTANTS); i++) { /* no spread at all */
            job j = norm_job(c, &a, 4, 96 + i, 1e-6, CONSTANTS[i], 0, AFFINE | STATS);
            job_run(c, &j);
            job_close(&j);
        }
        static const double SPREADS[] = {1e-12, 1e-3, 1e4, 1e15};
        for (int i = 0; i < COUNT(SPREADS); i++) {
            job j = norm_job(c, &a, 4, 97, 1e-6, 0, SPREADS[i], AFFINE | STATS);
            job_run(c, &j);
            job_close(&j);
        }
        job j = norm_job(c, &a, 0, 5, 1e-6, 0, 1, AFFINE | STATS);
        job_run(c, &j);
        job_close(&j);
        for (int i = 0; c->bench && i < 4; i++) { /* in the second cache, and from memory */
            j = norm_job(c, &a, i < 2 ? 512 : 16384, i < 2 ? 384 : 1024, 1e-6, 0, 1, AFFINE | (i & 1 ? HALF_ONLY : 0));
            job_run(c, &j);
            job_close(&j);
        }
        norm_refusals(c);
        norm_both(c);
        op_end(c);
    }
    if (op_begin(c, "layernorm_bwd")) {
        static const int FLAGS[] = {W | DWB, 0, W, W | DWB | ADD, DWB | OVER_DY, W | DWB | OVER_DY, W | DWB | HALF_DY, HALF_DY | ADD};
        op_layernorm_bwd a;
        for (int s = 0; s < COUNT(SHAPES); s++)
            for (int f = 0; f < COUNT(FLAGS); f++) {
                job j = bwd_job(c, &a, SHAPES[s][0], SHAPES[s][1], FLAGS[f]);
                job_run(c, &j);
                if (s < 12) job_nan(c, &j);
                job_close(&j);
            }
        job j = bwd_job(c, &a, 1009, 40, W | DWB); /* many rows into one dw */
        job_run(c, &j);
        job_close(&j);
        for (int i = 0; c->bench && i < 6; i++) { /* in the second cache, and from memory */
            j = bwd_job(c, &a, i < 3 ? 256 : 8192, i < 3 ? 384 : 1024, W | DWB | (i % 3 == 1 ? ADD : i % 3 == 2 ? ADD | HALF_DY : 0));
            job_run(c, &j);
            job_close(&j);
        }
        j = bwd_job(c, &a, 3, 10, W | DWB | HALF_DY);
        job_refuse_null(c, &j, "dy16");
        job_close(&j);
        j = bwd_job(c, &a, 3, 10, W | DWB);
        op_layernorm_bwd bad = a;
        bad.type = T_F16;
        job_refuse(c, &j, &bad, JEPA_E_UNSUPPORTED, "f16");
        bad = a;
        bad.dy16 = (const uint16_t *)&a; /* refused before anything is read */
        job_refuse(c, &j, &bad, JEPA_E_USE, "dy and dy16");
        bad = a;
        static const char *const NEEDED[] = {"dy", "x", "mean", "rstd", "dx"};
        for (int i = 0; i < COUNT(NEEDED); i++) job_refuse_null(c, &j, NEEDED[i]);
        bad.rows = -1;
        job_refuse(c, &j, &bad, JEPA_E_USE, "rows -1");
        bad = a;
        bad.d = 0;
        job_refuse(c, &j, &bad, JEPA_E_USE, "d 0");
        bad.d = INT64_MAX;
        job_refuse(c, &j, &bad, JEPA_E_USE, "d 2^63-1");
        job_close(&j);
        op_end(c);
    }
}
