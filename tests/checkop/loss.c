/* loss.c: loss with its gradient: powers, smooth L1, ties. */
#include "tests/checkop/checkop.h"

static int call_loss(const ops *o, queue *q, const job *j, void **p) {
    op_loss a = *(const op_loss *)j->arg;
    a.z = at(j, p, "z");
    a.h = at(j, p, "h");
    a.dz = j->flag ? at(j, p, "z") : at(j, p, "dz");
    a.loss = at(j, p, "loss");
    return o->loss(q, &a);
}

enum { WITH_DZ, OVER_Z, WITHOUT };

static job loss_job(ctx *c, op_loss *a, int64_t rows, int64_t d, int kind, double p, double scale, int dz) {
    *a = (op_loss){.rows = rows, .d = d, .kind = kind, .p = p, .scale = scale};
    job j = job_of(c, "loss", call_loss, a, "%lldx%lld %s%g scale %g%s", (long long)rows, (long long)d,
                   kind == LOSS_POWER ? "p " : "smooth l1, p ", p, scale,
                   dz == OVER_Z    ? " over z"
                   : dz == WITHOUT ? " no dz"
                                   : "");
    j.flag = dz == OVER_Z;
    j.bytes = (double)(rows * d) * (dz == WITHOUT ? 8 : 12);
    array *z = job_array(c, &j, j.flag ? INOUT : IN, "z", T_F32, rows, d, 0), *h = job_array(c, &j, IN, "h", T_F32, rows, d, 0), *g = z;
    for (int64_t i = 0; i < rows; i++) /* ties, one ulp beside a tie, smooth L1's seam at 1 from both sides, a large distance */
        for (int64_t k = 0; k < d; k++) {
            float *f = row_of(z, i) + k, t = row_of(h, i)[k];
            int what = (int)rng_below(&c->r, 24);
            if (what < 2) *f = t;
            if (what == 2) *f = nextafterf(t, 10);
            if (what == 3) row_of(h, i)[k] = 0, *f = k & 1 ? 1.0f : -1.0f;
            if (what == 4) *f = 1e4f;
        }
    if (dz == WITH_DZ) g = job_array(c, &j, OUT, "dz", T_F32, rows, d, 0);
    if (dz != WITHOUT) g->rel = 12 * ULP; /* z - h, a power of it, scale: each rounded; pow in float32 may take 8 ULP */
    array *loss = job_array(c, &j, INOUT, "loss", T_F64, 1, 1, 0);
    *(double *)loss->init = 0.25;
    loss->rel = 16 * ULP; /* as above for each term, all of one sign; the sum is double */
    return j;
}

void family_loss(ctx *c) {
    if (!op_begin(c, "loss")) return;
    static const int64_t SHAPES[][2] = {{1, 1}, {1, 7}, {3, 8}, {5, 17}, {31, 33}, {250, 96}, {251, 384}, {0, 5}};
    static const struct {
        int kind;
        double p;
    } KINDS[] = {{LOSS_POWER, 1}, {LOSS_POWER, 2}, {LOSS_POWER, 1.5}, {LOSS_POWER, 3}, {LOSS_SMOOTH_L1, 0}};
    op_loss a;
    for (int s = 0; s < COUNT(SHAPES); s++)
        for (int k = 0; k < COUNT(KINDS); k++)
            for (int dz = 0; dz < 3; dz++) {
                double n = (double)(SHAPES[s][0] * SHAPES[s][1]);
                job j = loss_job(c, &a, SHAPES[s][0], SHAPES[s][1], KINDS[k].kind, KINDS[k].p, dz == 1 ? -0.5 : n > 0 ? 1 / n : 1, dz);
                if (a.scale < 0) *(double *)job_find(&j, "loss")->init = -0.25; /* keeps all terms of one sign */
                job_run(c, &j);
                if (s < 6) job_nan(c, &j);
                job_close(&j);
            }
    for (int dz = 0; dz < 3; dz++) { /* squares that float32 does not hold; the loss and the gradient it does */
        job big = loss_job(c, &a, 5, 67, LOSS_POWER, 2, 1e-6, dz);
        for (int64_t i = 3; i < 5 * 67; i += 29) row_of(job_find(&big, "z"), i / 67)[i % 67] = i & 1 ? 3e19f : -3e19f;
        job_run(c, &big);
        job_close(&big);
    }
    job j = loss_job(c, &a, 3, 5, LOSS_POWER, 1, 1, WITH_DZ);
    op_loss bad;
    static const char *const NEEDED[] = {"z", "h", "loss"};
    for (int i = 0; i < COUNT(NEEDED); i++) job_refuse_null(c, &j, NEEDED[i]);
    bad = a, bad.rows = -1;
    job_refuse(c, &j, &bad, JEPA_E_USE, "rows -1");
    bad = a, bad.rows = INT64_MAX;
    job_refuse(c, &j, &bad, JEPA_E_USE, "rows 2^63-1");
    bad = a, bad.d = 0;
    job_refuse(c, &j, &bad, JEPA_E_USE, "d 0");
    bad = a, bad.kind = 9;
    job_refuse(c, &j, &bad, JEPA_E_USE, "kind 9");
    const double P[] = {0, -1, NAN, INFINITY};
    for (int i = 0; i < COUNT(P); i++) {
        bad = a, bad.p = P[i];
        job_refuse(c, &j, &bad, JEPA_E_USE, "p not a number above 0");
    }
    bad = a, bad.scale = NAN;
    job_refuse(c, &j, &bad, JEPA_E_USE, "scale NaN");
    job_close(&j);
    op_end(c);
}
