/* gelu.c: gelu and gelu_bwd. */
#include "tests/checkop/checkop.h"

static int call_gelu(const ops *o, queue *q, const job *j, void **p) {
    op_gelu a = *(const op_gelu *)j->arg;
    a.x = at(j, p, "x");
    a.y = job_find(j, "y") ? at(j, p, "y") : at(j, p, "x");
    return o->gelu(q, &a);
}

static int call_gelu_bwd(const ops *o, queue *q, const job *j, void **p) {
    op_gelu_bwd a = *(const op_gelu_bwd *)j->arg;
    a.dy = at(j, p, "dy");
    a.x = at(j, p, "x");
    a.dx = job_find(j, "dx") ? at(j, p, "dx") : at(j, p, "dy");
    return o->gelu_bwd(q, &a);
}

static const int64_t SIZES[] = {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 127, 1009, 65536 + 5};

/* All of it: the middle, both tails, zeros, denormals, and far out where exp underflows. */
static void shaped(ctx *c, array *x) {
    static const float POINTS[] = {0,    -0.0f, 1,     -1,     0.5f,   -0.5f,   3,      -3,      5.9f,  -5.9f,
                                   6.1f, -6.1f, 9,     -9,     13.5f,  -13.5f,  88,     -88,     104,   -104,
                                   1e4f, -1e4f, 1e-3f, -1e-3f, 1e-30f, -1e-30f, 1e-40f, -1e-40f, 3e38f, -3e38f};
    fill_normal(c, x, 0, 2);
    for (int i = 0; i < COUNT(POINTS) && x->rows && i < x->width; i++) row_of(x, 0)[i] = POINTS[i];
}

void family_gelu(ctx *c) {
    if (op_begin(c, "gelu")) {
        for (int s = 0; s < COUNT(SIZES); s++)
            for (int in_place = 0; in_place < 2; in_place++) {
                op_gelu a = {.n = SIZES[s]};
                job j = job_of(c, "gelu", call_gelu, &a, "n %lld%s", (long long)a.n, in_place ? " in place" : "");
                j.bytes = 8.0 * (double)a.n;
                array *x = job_array(c, &j, in_place ? INOUT : IN, "x", T_F32, a.n ? 1 : 0, a.n, 0), *y = x;
                shaped(c, x);
                if (!in_place) y = job_array(c, &j, OUT, "y", T_F32, a.n ? 1 : 0, a.n, 0);
                y->abs = 1e-6; /* erf by Abramowitz and Stegun 7.1.26 is 1.5e-7 off, x/2 of that until erf is flat (|x| < 6) */
                y->rel = 4 * ULP;
                job_run(c, &j);
                if (a.n < 2000) job_nan(c, &j);
                job_close(&j);
            }
        op_gelu a = {.n = 5}, bad = {.n = -1};
        job j = job_of(c, "gelu", call_gelu, &a, "n 5");
        job_array(c, &j, IN, "x", T_F32, 1, 5, 0);
        job_array(c, &j, OUT, "y", T_F32, 1, 5, 0);
        job_refuse_null(c, &j, "x");
        job_refuse_null(c, &j, "y");
        job_refuse(c, &j, &bad, JEPA_E_USE, "n -1");
        bad.n = INT64_MAX;
        job_refuse(c, &j, &bad, JEPA_E_USE, "n 2^63-1");
        job_close(&j);
        op_end(c);
    }
    if (op_begin(c, "gelu_bwd")) {
        for (int s = 0; s < COUNT(SIZES); s++)
            for (int in_place = 0; in_place < 2; in_place++) {
                op_gelu_bwd a = {.n = SIZES[s]};
                job j = job_of(c, "gelu_bwd", call_gelu_bwd, &a, "n %lld%s", (long long)a.n, in_place ? " in place" : "");
                j.bytes = 12.0 * (double)a.n;
                array *dy = job_array(c, &j, in_place ? INOUT : IN, "dy", T_F32, a.n ? 1 : 0, a.n, 0), *dx = dy;
                fill_uniform(c, dy, -1, 1);
                shaped(c, job_array(c, &j, IN, "x", T_F32, a.n ? 1 : 0, a.n, 0));
                if (!in_place) dx = job_array(c, &j, OUT, "dx", T_F32, a.n ? 1 : 0, a.n, 0);
                dx->abs = 5e-7; /* half of erf's 1.5e-7, and x·exp(-x²/2), at most 0.6, from an exp with 2 ULP; |dy| < 1 */
                dx->rel = 4 * ULP;
                job_run(c, &j);
                if (a.n < 2000) job_nan(c, &j);
                job_close(&j);
            }
        op_gelu_bwd a = {.n = 5}, bad = {.n = -1};
        job j = job_of(c, "gelu_bwd", call_gelu_bwd, &a, "n 5");
        job_array(c, &j, IN, "dy", T_F32, 1, 5, 0);
        job_array(c, &j, IN, "x", T_F32, 1, 5, 0);
        job_array(c, &j, OUT, "dx", T_F32, 1, 5, 0);
        job_refuse_null(c, &j, "dy");
        job_refuse_null(c, &j, "x");
        job_refuse_null(c, &j, "dx");
        job_refuse(c, &j, &bad, JEPA_E_USE, "n -1");
        job_close(&j);
        op_end(c);
    }
}
