/* optim.c: adamw, ema, sqnorm, axpy, scale, colstats, zero. */
#include <stdlib.h>
#include "tests/checkop/checkop.h"

static const int64_t N[] = {1, 3, 7, 8, 9, 15, 17, 33, 1009, 65536 + 5, 0};

static int call_adamw(const ops *o, queue *q, const job *j, void **p) {
    op_adamw a = *(const op_adamw *)j->arg;
    a.param = at(j, p, "param");
    a.grad = at(j, p, "grad");
    a.m = at(j, p, "m");
    a.v = at(j, p, "v");
    a.param16 = at(j, p, "param16");
    if (job_find(j, "target")) a.target = at(j, p, "target");
    if (job_find(j, "target16")) a.target16 = at(j, p, "target16");
    return o->adamw(q, &a);
}

/* All in one pass must give what adamw, convert and ema give one after the other, to the bit. */
static int call_adamw_twice(const ops *o, queue *q, const job *j, void **p) {
    const op_adamw *arg = j->arg;
    size_t n = (size_t)arg->n;
    float *own = malloc((4 * n + 1) * sizeof *own);
    uint16_t *own16 = malloc((2 * n + 1) * sizeof *own16);
    static const char *const STATE[] = {"param", "m", "v", "target"};
    int rc = own && own16 ? 0 : JEPA_E_MEMORY;
    for (int i = 0; i < 4 && rc == 0 && n; i++) memcpy(own + (size_t)i * n, at(j, p, STATE[i]), n * sizeof *own);
    if (rc == 0) rc = call_adamw(o, q, j, p);
    op_adamw a = *arg;
    a.param = own, a.grad = at(j, p, "grad"), a.m = own + n, a.v = own + 2 * n;
    if (rc == 0) rc = o->adamw(q, &a);
    if (rc == 0) rc = o->convert(q, &(op_convert){.n = arg->n, .x = own, .y16 = own16});
    if (rc == 0)
        rc = o->ema(q, &(op_ema){.n = arg->n, .target = own + 3 * n, .source = own, .momentum = arg->momentum, .target16 = own16 + n});
    for (int i = 0; i < 4 && rc == 0 && n; i++)
        if (memcmp(own + (size_t)i * n, at(j, p, STATE[i]), n * sizeof *own)) rc = JEPA_E_INPUT;
    if (rc == 0 && n && (memcmp(own16, at(j, p, "param16"), n * sizeof *own16) || memcmp(own16 + n, at(j, p, "target16"), n * sizeof *own16)))
        rc = JEPA_E_INPUT;
    free(own);
    free(own16);
    return rc;
}

enum { HALF = 1, TARGET = 2, TARGET_HALF = 4 };

static job adamw_job(ctx *c, op_adamw *a, int64_t n, int64_t step, double wd, double grad_scale, int flag) {
    *a = (op_adamw){.n = n, .lr = 1e-3, .wd = wd, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .grad_scale = grad_scale, .step = step};
    job j = job_of(c, "adamw", call_adamw, a, "n %lld step %lld wd %g grad_scale %g%s%s%s", (long long)n, (long long)step, wd, grad_scale,
                   flag & HALF ? " param16" : "", flag & TARGET ? " target" : "", flag & TARGET_HALF ? " target16" : "");
    j.bytes = (28.0 + (flag & HALF ? 2 : 0) + (flag & TARGET ? 8 : 0) + (flag & TARGET_HALF ? 2 : 0)) * (double)n;
    int64_t rows = n ? 1 : 0;
    array *w = job_array(c, &j, INOUT, "param", T_F32, rows, n, 0), *grad = job_array(c, &j, IN, "grad", T_F32, rows, n, 0);
    array *m = job_array(c, &j, INOUT, "m", T_F32, rows, n, 0), *v = job_array(c, &j, INOUT, "v", T_F32, rows, n, 0);
    fill_normal(c, grad, 0, 1 / grad_scale);
    fill_uniform(c, v, 0.5, 2);
    if (step == 1) {
        fill_uniform(c, m, 0, 0);
        fill_uniform(c, v, 0, 0);
    }
    for (int64_t i = 3; i < n; i += 5) row_of(grad, 0)[i] = 0; /* with step 1: 0/(0 + eps) */
    double bc1 = 1 - pow(a->beta1, (double)step), bc2 = 1 - pow(a->beta2, (double)step);
    /* Step 1: m/√v is ±1 after corrections. Else |m| < 6, v > 0.49. Rounded about 8 times.
     * The parameter itself: 1 - lr·wd, its product, the difference, and ref's own rounding. */
    double ratio = step == 1 ? 1 : 6 / bc1 / sqrt(0.49 / bc2);
    w->abs = 8 * ULP * a->lr * ratio;
    w->rel = 4 * ULP;
    m->abs = 3 * ULP * 6; /* two products and a sum of opposite signs */
    v->rel = 6 * ULP;     /* all positive; g² and 1 - beta2, itself rounded */
    if (flag & HALF) job_array(c, &j, OUT, "param16", T_BF16, rows, n, 0)->rounds = "param";
    if (flag & TARGET) {
        a->momentum = 0.996;
        job_array(c, &j, INOUT, "target", T_F32, rows, n, 0)->abs = 3 * ULP * 6 + w->abs + w->rel * 6; /* as ema, of the parameter above */
    }
    if (flag & TARGET_HALF) job_array(c, &j, OUT, "target16", T_BF16, rows, n, 0)->rounds = "target";
    return j;
}

static int call_ema(const ops *o, queue *q, const job *j, void **p) {
    op_ema a = *(const op_ema *)j->arg;
    a.target = at(j, p, "target");
    a.source = at(j, p, "source");
    a.target16 = at(j, p, "target16");
    return o->ema(q, &a);
}

static int call_sqnorm(const ops *o, queue *q, const job *j, void **p) {
    op_sqnorm a = *(const op_sqnorm *)j->arg;
    a.x = at(j, p, "x");
    a.out = at(j, p, "out");
    return o->sqnorm(q, &a);
}

static int call_axpy(const ops *o, queue *q, const job *j, void **p) {
    op_axpy a = *(const op_axpy *)j->arg;
    a.x = at(j, p, "x");
    a.y = at(j, p, "y");
    return o->axpy(q, &a);
}

static int call_scale(const ops *o, queue *q, const job *j, void **p) {
    op_scale a = *(const op_scale *)j->arg;
    a.x = at(j, p, "x");
    return o->scale(q, &a);
}

static int call_colstats(const ops *o, queue *q, const job *j, void **p) {
    op_colstats a = *(const op_colstats *)j->arg;
    a.x = at(j, p, "x");
    a.sum = at(j, p, "sum");
    a.sumsq = at(j, p, "sumsq");
    a.gram = at(j, p, "gram");
    return o->colstats(q, &a);
}

static int call_zero(const ops *o, queue *q, const job *j, void **p) { return o->zero(q, at(j, p, "p"), (size_t)j->flag); }

static void adamw(ctx *c) {
    if (!op_begin(c, "adamw")) return;
    op_adamw a, bad;
    for (int i = 0; i < COUNT(N); i++)
        for (int s = 0; s < 3; s++) {
            static const int FLAGS[] = {0, HALF | TARGET | TARGET_HALF, HALF, TARGET};
            int64_t step = s == 0 ? 1 : s == 1 ? 2 : 100000;
            double wd = s == 2 ? 0 : 0.04, grad_scale = s == 1 ? 0.01 : 1;
            job j = adamw_job(c, &a, N[i], step, wd, grad_scale, FLAGS[(i + s) % 4]);
            job_run(c, &j);
            if (N[i] < 2000) job_nan(c, &j);
            job_close(&j);
            j = adamw_job(c, &a, N[i], step, wd, grad_scale, HALF | TARGET | TARGET_HALF);
            j.call = call_adamw_twice;
            if (!c->bench) job_run(c, &j);
            job_close(&j);
        }
    for (int i = 0; c->bench && i < 8; i++) { /* in the second cache, and from memory */
        static const int FLAGS[] = {0, HALF, TARGET, HALF | TARGET | TARGET_HALF};
        job j = adamw_job(c, &a, i < 4 ? 12288 : 12582912, 10, 0.04, 1, FLAGS[i % 4]);
        job_run(c, &j);
        job_close(&j);
    }
    job j = adamw_job(c, &a, 6, 3, 0.04, 1, TARGET);
    job_refuse_null(c, &j, "param");
    static const double MOMENTA[] = {-0.1, 1.1, NAN};
    for (int i = 0; i < COUNT(MOMENTA); i++) {
        bad = a, bad.momentum = MOMENTA[i];
        job_refuse(c, &j, &bad, JEPA_E_USE, "momentum outside 0 to 1");
    }
    job_close(&j);
    j = adamw_job(c, &a, 6, 3, 0.04, 1, HALF);
    bad = a, bad.target16 = (uint16_t *)&a; /* refused before anything is touched */
    job_refuse(c, &j, &bad, JEPA_E_USE, "target16 without target");
    job_close(&j);
    j = adamw_job(c, &a, 6, 3, 0.04, 1, 0);
    static const char *const NEEDED[] = {"param", "grad", "m", "v"};
    for (int i = 0; i < COUNT(NEEDED); i++) job_refuse_null(c, &j, NEEDED[i]);
    bad = a, bad.n = -1;
    job_refuse(c, &j, &bad, JEPA_E_USE, "n -1");
    bad = a, bad.step = 0;
    job_refuse(c, &j, &bad, JEPA_E_USE, "step 0");
    bad = a, bad.beta1 = 1;
    job_refuse(c, &j, &bad, JEPA_E_USE, "beta1 1");
    bad = a, bad.beta2 = -0.1;
    job_refuse(c, &j, &bad, JEPA_E_USE, "beta2 < 0");
    bad = a, bad.lr = NAN;
    job_refuse(c, &j, &bad, JEPA_E_USE, "lr NaN");
    bad = a, bad.eps = -1;
    job_refuse(c, &j, &bad, JEPA_E_USE, "eps < 0");
    bad = a, bad.grad_scale = 0;
    job_refuse(c, &j, &bad, JEPA_E_USE, "grad_scale 0");
    bad = a, bad.grad_scale = INFINITY;
    job_refuse(c, &j, &bad, JEPA_E_USE, "grad_scale infinite");
    job_close(&j);
    op_end(c);
}

static void ema(ctx *c) {
    if (!op_begin(c, "ema")) return;
    static const double M[] = {0, 0.99925, 1, 0.5};
    for (int i = 0; i <= COUNT(N) + (c->bench ? 2 : 0); i++) {
        int refusals = i == COUNT(N);
        int64_t n = refusals ? 5 : i > COUNT(N) ? 12582912 : N[i];
        op_ema a = {.n = n, .momentum = M[i % 4]}, bad = a;
        job j = job_of(c, "ema", call_ema, &a, "n %lld momentum %g%s", (long long)n, a.momentum, i & 1 ? " target16" : "");
        j.bytes = (i & 1 ? 14.0 : 12.0) * (double)n;
        array *t = job_array(c, &j, INOUT, "target", T_F32, n ? 1 : 0, n, 0);
        job_array(c, &j, IN, "source", T_F32, n ? 1 : 0, n, 0);
        t->abs = 3 * ULP * 6; /* two products, whose factors are rounded, and a sum; numbers below 6 */
        if (i & 1) job_array(c, &j, OUT, "target16", T_BF16, n ? 1 : 0, n, 0)->rounds = "target";
        if (refusals) {
            job_refuse_null(c, &j, "target");
            job_refuse_null(c, &j, "source");
            bad.n = -1;
            job_refuse(c, &j, &bad, JEPA_E_USE, "n -1");
            bad = a, bad.momentum = 1.1;
            job_refuse(c, &j, &bad, JEPA_E_USE, "momentum 1.1");
            bad.momentum = NAN;
            job_refuse(c, &j, &bad, JEPA_E_USE, "momentum NaN");
        } else {
            job_run(c, &j);
            if (n < 2000) job_nan(c, &j);
        }
        job_close(&j);
    }
    op_end(c);
}

static void sqnorm(ctx *c) {
    if (!op_begin(c, "sqnorm")) return;
    for (int i = 0; i <= 2 * COUNT(N); i++) {
        int refusals = i == 2 * COUNT(N), large = i & 1;
        int64_t n = refusals ? 5 : N[i / 2];
        op_sqnorm a = {.n = n}, bad = {.n = -1};
        job j = job_of(c, "sqnorm", call_sqnorm, &a, "n %lld%s", (long long)n, large ? " large" : "");
        j.bytes = 4.0 * (double)n;
        array *x = job_array(c, &j, IN, "x", T_F32, n ? 1 : 0, n, 0);
        if (large) fill_normal(c, x, 0, 1e18); /* squares near float32's end: the sum must not overflow */
        array *out = job_array(c, &j, INOUT, "out", T_F64, 1, 1, 0);
        *(double *)out->init = 3;
        out->rel = 4 * ULP; /* squares may be rounded to float32; the sum is double */
        if (refusals) {
            job_refuse_null(c, &j, "x");
            job_refuse_null(c, &j, "out");
            job_refuse(c, &j, &bad, JEPA_E_USE, "n -1");
        } else {
            job_run(c, &j);
            if (n < 2000) job_nan(c, &j);
        }
        job_close(&j);
    }
    op_end(c);
}

static void axpy_scale(ctx *c) {
    static const double A[] = {1, -0.37, 1e-8, 0, 3e4};
    if (op_begin(c, "axpy")) {
        for (int i = 0; i <= COUNT(N); i++) {
            int refusals = i == COUNT(N);
            int64_t n = refusals ? 5 : N[i];
            op_axpy a = {.n = n, .a = A[i % 5]}, bad = {.n = -1};
            job j = job_of(c, "axpy", call_axpy, &a, "n %lld a %g", (long long)n, a.a);
            j.bytes = 12.0 * (double)n;
            job_array(c, &j, IN, "x", T_F32, n ? 1 : 0, n, 0);
            array *y = job_array(c, &j, INOUT, "y", T_F32, n ? 1 : 0, n, 0);
            y->abs = 2 * ULP * fabs(a.a) * 6; /* a and the product rounded, |x| < 6 */
            y->rel = 2 * ULP;
            if (refusals) {
                job_refuse_null(c, &j, "x");
                job_refuse_null(c, &j, "y");
                job_refuse(c, &j, &bad, JEPA_E_USE, "n -1");
            } else {
                job_run(c, &j);
                if (n < 2000) job_nan(c, &j);
            }
            job_close(&j);
        }
        op_end(c);
    }
    if (op_begin(c, "scale")) {
        for (int i = 0; i <= COUNT(N); i++) {
            int refusals = i == COUNT(N);
            int64_t n = refusals ? 5 : N[i];
            op_scale a = {.n = n, .a = A[i % 5]}, bad = {.n = -1};
            job j = job_of(c, "scale", call_scale, &a, "n %lld a %g", (long long)n, a.a);
            j.bytes = 8.0 * (double)n;
            job_array(c, &j, INOUT, "x", T_F32, n ? 1 : 0, n, 0)->rel = 3 * ULP; /* a rounded, the product rounded */
            if (refusals) {
                job_refuse_null(c, &j, "x");
                job_refuse(c, &j, &bad, JEPA_E_USE, "n -1");
            } else {
                job_run(c, &j);
                if (n < 2000) job_nan(c, &j);
            }
            job_close(&j);
        }
        op_end(c);
    }
}

static void colstats(ctx *c) {
    if (!op_begin(c, "colstats")) return;
    static const int64_t SHAPES[][3] = {{1, 1, 0}, {5, 3, 2}, {33, 17, 0}, {64, 96, 5}, {250, 65, 0}, {0, 4, 0}, {3, 5, 1}};
    for (int s = 0; s < COUNT(SHAPES); s++)
        for (int gram = 0; gram < 2; gram++) {
            int64_t rows = SHAPES[s][0], d = SHAPES[s][1], gap = SHAPES[s][2];
            op_colstats a = {.rows = rows, .d = d, .ldx = gap ? d + gap : 0}, bad = a;
            job j = job_of(c, "colstats", call_colstats, &a, "%lldx%lld gap %lld%s", (long long)rows, (long long)d, (long long)gap,
                           gram ? " gram" : "");
            j.flops = (double)(rows * d) * (gram ? 2.0 * (double)d : 3);
            array *x = job_array(c, &j, IN, "x", T_F32, rows, d, d + gap);
            fill_normal(c, x, 3, 1); /* off centre, as features are: the monitor subtracts means from these sums */
            static const char *const OUTS[] = {"sum", "sumsq", "gram"};
            for (int o = 0; o < 2 + gram; o++) {
                array *y = job_array(c, &j, INOUT, OUTS[o], T_F64, o == 2 ? d : 1, d, 0);
                for (int64_t i = 0; i < array_span(y); i++) ((double *)y->init)[i] = rng_unit(&c->r);
                y->abs = 0x1p-52 * (double)rows * 64; /* sums in double of numbers below 8², in any order */
                y->rel = 0x1p-52;
            }
            if (s == COUNT(SHAPES) - 1) {
                job_refuse_null(c, &j, "x");
                job_refuse_null(c, &j, "sum");
                job_refuse_null(c, &j, "sumsq");
                bad.rows = -1;
                job_refuse(c, &j, &bad, JEPA_E_USE, "rows -1");
                bad = a, bad.d = 0;
                job_refuse(c, &j, &bad, JEPA_E_USE, "d 0");
                bad = a, bad.ldx = 4;
                job_refuse(c, &j, &bad, JEPA_E_USE, "ldx < d");
            } else {
                job_run(c, &j);
                job_nan(c, &j);
            }
            job_close(&j);
        }
    op_end(c);
}

static void zero(ctx *c) {
    if (!op_begin(c, "zero")) return;
    for (int i = 0; i < COUNT(N); i++) {
        job j = job_of(c, "zero", call_zero, NULL, "%lld bytes", (long long)N[i]);
        j.flag = (int)N[i];
        j.bytes = (double)N[i];
        job_array(c, &j, INOUT, "p", T_U8, 1, N[i], 0);
        memset(j.a[0].init, 0xa5, (size_t)N[i]);
        job_run(c, &j);
        if (N[i] == 9) job_refuse_null(c, &j, "p");
        job_close(&j);
    }
    op_end(c);
}

void family_optim(ctx *c) {
    adamw(c);
    ema(c);
    sqnorm(c);
    axpy_scale(c);
    colstats(c);
    zero(c);
}
