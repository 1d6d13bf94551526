/* Each backward of compute/ref against finite differences of its forward.
 *
 * L = Σ weight·output, in double; dL/dx by the five-point rule (8(f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h with h = 2^-5.
 * Inputs are multiples of 2^-8, so x ± h is exact. Two errors remain: truncation, h⁴/30 times a fifth derivative, below 1e-7 times what
 * is of the order of the gradient here; and the float32 rounding of the outputs, 6e-8·|y| each, random: over the at most 300 outputs of
 * size 1 that one input reaches, 6e-8·√300·1.5/(2h) = 2.5e-5. The bound is 2e-4 of the largest gradient, at least of 1. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "compute/ops.h"

enum { MOST = 4096 };
static const double H = 0x1p-5;

typedef struct world {
    dev *d;
    queue *q;
    const ops *o;
    rng r;
} world;

static int setup(void **state) {
    static world w;
    assert_int_equal(dev_open(&w.d, "ref", 1, NULL), 0);
    assert_int_equal(queue_open(&w.q, w.d, NULL), 0);
    w.o = dev_ops(w.d);
    w.r = rng_key(7, 0, 0, RNG_TEST);
    *state = &w;
    return 0;
}

static int teardown(void **state) {
    world *w = *state;
    queue_close(&w->q);
    dev_close(&w->d);
    return 0;
}

static void grid(world *w, float *x, int64_t n) { /* about normal, on multiples of 2^-8 */
    for (int64_t i = 0; i < n; i++) x[i] = (float)(round(rng_normal(&w->r) * 256) / 256);
}

static double inner(const float *a, const float *b, int64_t n) {
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += (double)a[i] * b[i];
    return s;
}

typedef double (*objective)(world *w, void *arg);

/* grad against differences of f along each of x's n elements (stepping so that at most 400 are tried). */
static void differences(world *w, const char *what, float *x, const float *grad, int64_t n, objective f, void *arg) {
    double scale = 1;
    int bad = 0;
    for (int64_t i = 0; i < n; i++) scale = fmax(scale, fabs(grad[i]));
    for (int64_t i = 0; i < n; i += 1 + n / 400) {
        static const double STEP[4] = {1, -1, 2, -2};
        float kept = x[i];
        double v[4];
        for (int k = 0; k < 4; k++) {
            x[i] = (float)(kept + STEP[k] * H);
            v[k] = f(w, arg);
        }
        x[i] = kept;
        double slope = (8 * (v[0] - v[1]) - (v[2] - v[3])) / (12 * H);
        if (!(fabs(slope - grad[i]) <= 2e-4 * scale) && bad++ < 5)
            print_error("%s[%lld]: gradient %.7g, differences %.7g (largest gradient %.3g)\n", what, (long long)i, grad[i], slope, scale);
    }
    assert_int_equal(bad, 0);
}

/* ---- linear, with GELU and a residual on the way ---- */

typedef struct lin {
    op_linear a;
    float x[MOST], w[MOST], b[64], r[MOST], y[MOST], pre[MOST], g[MOST];
} lin;

static double linear_value(world *w, void *arg) {
    lin *l = arg;
    assert_int_equal(w->o->linear(w->q, &l->a), 0);
    return inner(l->y, l->g, l->a.rows * l->a.out);
}

static void linear_case(world *w, int64_t rows, int64_t in, int64_t out, int act) {
    static lin l;
    static float dx[MOST], dw[MOST], db[64], dpre[MOST], before[MOST];
    l.a = (op_linear){.rows = rows, .in = in, .out = out, .x = l.x, .w = l.w, .b = l.b, .r = l.r, .y = l.y, .pre = l.pre, .act = act};
    grid(w, l.x, rows * in);
    grid(w, l.w, out * in);
    grid(w, l.b, out);
    grid(w, l.r, rows * out);
    grid(w, l.g, rows * out);
    for (int64_t i = 0; i < out * in; i++) l.w[i] /= 4; /* keeps |y| near 1 */
    linear_value(w, &l);
    memcpy(dpre, l.g, sizeof dpre);
    if (act == ACT_GELU) assert_int_equal(w->o->gelu_bwd(w->q, &(op_gelu_bwd){.n = rows * out, .dy = l.g, .x = l.pre, .dx = dpre}), 0);
    memset(dw, 0, sizeof dw);
    memset(db, 0, sizeof db);
    op_linear_bwd bwd = {.rows = rows, .in = in, .out = out, .dy = dpre, .x = l.x, .w = l.w, .dx = dx, .dw = dw, .db = db};
    assert_int_equal(w->o->linear_bwd(w->q, &bwd), 0);
    differences(w, "linear dx", l.x, dx, rows * in, linear_value, &l);
    differences(w, "linear dw", l.w, dw, out * in, linear_value, &l);
    differences(w, "linear db", l.b, db, out, linear_value, &l);
    differences(w, "linear dr", l.r, l.g, rows * out, linear_value, &l);
    /* once more: weight gradients add up, dx with `add` too */
    memcpy(before, dx, sizeof before);
    bwd.add = 1;
    assert_int_equal(w->o->linear_bwd(w->q, &bwd), 0);
    for (int64_t i = 0; i < rows * in; i++) assert_true(fabsf(dx[i] - 2 * before[i]) <= 1e-6f * fabsf(dx[i]));
    for (int64_t i = 0; i < out; i++) {
        double once = 0;
        for (int64_t n = 0; n < rows; n++) once += dpre[n * out + i];
        assert_true(fabs(db[i] - 2 * once) <= 1e-5 * (1 + fabs(once)));
    }
}

static void test_linear(void **state) {
    linear_case(*state, 5, 7, 9, ACT_NONE);
    linear_case(*state, 1, 1, 1, ACT_NONE);
    linear_case(*state, 11, 16, 6, ACT_GELU);
}

typedef struct act {
    int64_t n;
    float x[512], y[512], g[512];
} act;

static double gelu_value(world *w, void *arg) {
    act *a = arg;
    assert_int_equal(w->o->gelu(w->q, &(op_gelu){.n = a->n, .x = a->x, .y = a->y}), 0);
    return inner(a->y, a->g, a->n);
}

static void test_gelu(void **state) {
    world *w = *state;
    static act a;
    static float dx[512];
    a.n = 301;
    grid(w, a.g, a.n);
    for (int64_t i = 0; i < a.n; i++) a.x[i] = (float)(i - 150) / 32; /* -4.7 … 4.7 */
    assert_int_equal(w->o->gelu_bwd(w->q, &(op_gelu_bwd){.n = a.n, .dy = a.g, .x = a.x, .dx = dx}), 0);
    differences(w, "gelu dx", a.x, dx, a.n, gelu_value, &a);
}

/* ---- layernorm ---- */

typedef struct norm {
    op_layernorm a;
    float x[MOST], w[256], b[256], y[MOST], mean[64], rstd[64], g[MOST];
} norm;

static double norm_value(world *w, void *arg) {
    norm *l = arg;
    assert_int_equal(w->o->layernorm(w->q, &l->a), 0);
    return inner(l->y, l->g, l->a.rows * l->a.d);
}

static void norm_case(world *w, int64_t rows, int64_t d, int affine) {
    static norm l;
    static float dx[MOST], dw[256], db[256], once[MOST];
    l.a = (op_layernorm){.rows = rows,
                         .d = d,
                         .eps = 1e-5,
                         .x = l.x,
                         .w = affine ? l.w : NULL,
                         .b = affine ? l.b : NULL,
                         .y = l.y,
                         .mean = l.mean,
                         .rstd = l.rstd};
    grid(w, l.x, rows * d);
    grid(w, l.w, d);
    grid(w, l.b, d);
    grid(w, l.g, rows * d);
    norm_value(w, &l);
    memset(dw, 0, sizeof dw);
    memset(db, 0, sizeof db);
    op_layernorm_bwd bwd = {
        .rows = rows, .d = d, .dy = l.g, .x = l.x, .w = l.a.w, .mean = l.mean, .rstd = l.rstd, .dx = dx, .dw = dw, .db = db};
    assert_int_equal(w->o->layernorm_bwd(w->q, &bwd), 0);
    memcpy(once, dx, sizeof once);
    differences(w, "layernorm dx", l.x, dx, rows * d, norm_value, &l);
    if (affine) {
        differences(w, "layernorm dw", l.w, dw, d, norm_value, &l);
        differences(w, "layernorm db", l.b, db, d, norm_value, &l);
    }
    bwd.add = 1;
    norm_value(w, &l); /* differences left mean and rstd of a moved x behind */
    assert_int_equal(w->o->layernorm_bwd(w->q, &bwd), 0);
    for (int64_t i = 0; i < rows * d; i++) assert_true(fabsf(dx[i] - 2 * once[i]) <= 1e-5f * (1 + fabsf(once[i])));
}

static void test_layernorm(void **state) {
    norm_case(*state, 5, 24, 1); /* rows of 24 have a spread near 1: the fifth derivative stays of the gradient's order */
    norm_case(*state, 3, 97, 0);
}

/* ---- attention ---- */

typedef struct att {
    op_attention a;
    float q[MOST], k[MOST], v[MOST], o[MOST], lse[256], g[MOST];
} att;

static double attention_value(world *w, void *arg) {
    att *t = arg;
    assert_int_equal(w->o->attention(w->q, &t->a), 0);
    double s = 0;
    int64_t d = t->a.heads * t->a.head_dim, ld = t->a.ldo ? t->a.ldo : d;
    for (int64_t i = 0; i < t->a.batch * t->a.nq; i++) s += inner(t->o + i * ld, t->g + i * ld, d);
    return s;
}

static void attention_case(world *w, int64_t batch, int64_t heads, int64_t nq, int64_t nk, int64_t dim, int64_t block, int fused,
                           double scale) {
    static att t;
    static float dq[MOST], dk[MOST], dv[MOST], dout[MOST];
    int64_t d = heads * dim;
    t.a = (op_attention){.batch = batch,
                         .heads = heads,
                         .nq = nq,
                         .nk = nk,
                         .head_dim = dim,
                         .q = t.q,
                         .k = t.k,
                         .v = t.v,
                         .o = t.o,
                         .lse = t.lse,
                         .block = block,
                         .scale = scale};
    grid(w, t.q, fused ? batch * nq * 3 * d : batch * nq * d);
    grid(w, t.k, batch * nk * d);
    grid(w, t.v, batch * nk * d);
    grid(w, t.g, batch * nq * d);
    op_attention_bwd bwd = {.batch = batch,
                            .heads = heads,
                            .nq = nq,
                            .nk = nk,
                            .head_dim = dim,
                            .q = t.q,
                            .k = t.k,
                            .v = t.v,
                            .o = t.o,
                            .dout = dout,
                            .lse = t.lse,
                            .dq = dq,
                            .dk = dk,
                            .dv = dv,
                            .block = block,
                            .scale = scale};
    memcpy(dout, t.g, sizeof dout);
    if (fused) {
        t.a.k = t.q + d, t.a.v = t.q + 2 * d, t.a.ldq = t.a.ldk = t.a.ldv = 3 * d;
        bwd.k = t.a.k, bwd.v = t.a.v, bwd.ldq = bwd.ldk = bwd.ldv = bwd.lddq = bwd.lddk = bwd.lddv = 3 * d;
        bwd.dk = dq + d, bwd.dv = dq + 2 * d;
    }
    attention_value(w, &t);
    assert_int_equal(w->o->attention_bwd(w->q, &bwd), 0);
    differences(w, fused ? "attention dqkv" : "attention dq", t.q, dq, batch * nq * d * (fused ? 3 : 1), attention_value, &t);
    if (fused) return;
    differences(w, "attention dk", t.k, dk, batch * nk * d, attention_value, &t);
    differences(w, "attention dv", t.v, dv, batch * nk * d, attention_value, &t);
}

static void test_attention(void **state) {
    attention_case(*state, 2, 2, 6, 6, 8, 0, 0, 0);
    attention_case(*state, 1, 3, 5, 9, 7, 0, 0, 0); /* odd head, cross */
    attention_case(*state, 1, 2, 9, 4, 5, 0, 0, 0.3);
    attention_case(*state, 1, 2, 7, 7, 14, 0, 1, 0); /* packed qkv */
    attention_case(*state, 1, 1, 3, 3, 1, 0, 0, 0);
}

static void test_attention_block(void **state) {
    attention_case(*state, 2, 2, 8, 8, 6, 2, 0, 0);
    attention_case(*state, 1, 2, 10, 10, 7, 4, 0, 0); /* the last block is short */
    attention_case(*state, 1, 2, 9, 9, 10, 3, 1, 0);
    attention_case(*state, 1, 1, 5, 5, 4, 1, 0, 0);
}

/* ---- rotary ---- */

typedef struct rot {
    op_rope a;
    float x[MOST], moved[MOST], cs[MOST], g[MOST];
    int64_t n;
} rot;

static double rope_value(world *w, void *arg) {
    rot *t = arg;
    memcpy(t->moved, t->x, sizeof t->moved);
    t->a.x = t->moved;
    t->a.transpose = 0;
    assert_int_equal(w->o->rope(w->q, &t->a), 0);
    return inner(t->moved, t->g, t->n);
}

static void rope_case(world *w, int64_t batch, int64_t n, int64_t heads, int64_t dim, int kind, int per_batch) {
    static rot t;
    static float pos[512], dx[MOST];
    t.n = batch * n * heads * dim;
    t.a = (op_rope){.batch = batch, .n = n, .heads = heads, .head_dim = dim, .cs = t.cs, .per_batch = per_batch};
    int64_t tables = per_batch ? batch * n : n;
    for (int64_t i = 0; i < tables * 3; i++) pos[i] = (float)rng_below(&w->r, 16);
    assert_int_equal(w->o->rope_table(w->q, &(op_rope_table){.n = tables, .head_dim = dim, .kind = kind, .pos = pos, .cs = t.cs}), 0);
    grid(w, t.x, t.n);
    grid(w, t.g, t.n);
    memcpy(dx, t.g, sizeof dx);
    op_rope back = t.a;
    back.x = dx;
    back.transpose = 1;
    assert_int_equal(w->o->rope(w->q, &back), 0);
    differences(w, "rope dx", t.x, dx, t.n, rope_value, &t);
}

static void test_rope(void **state) {
    for (int kind = 0; kind < 2; kind++) {
        rope_case(*state, 2, 3, 2, 24, kind, 0);
        rope_case(*state, 2, 3, 2, 14, kind, 1);
        rope_case(*state, 1, 4, 1, 7, kind, 0); /* a channel without a partner */
        rope_case(*state, 1, 2, 1, 64, kind, 0);
    }
}

/* ---- rows ---- */

typedef struct moved {
    op_rows a;
    int (*fn)(queue *, const op_rows *);
    float src[MOST], dst[MOST], g[MOST];
    int64_t n_out;
} moved;

static double rows_value(world *w, void *arg) {
    moved *m = arg;
    memset(m->dst, 0, sizeof m->dst);
    assert_int_equal(m->fn(w->q, &m->a), 0);
    return inner(m->dst, m->g, m->n_out);
}

static void test_gather_scatter(void **state) {
    world *w = *state;
    static const int32_t INDEX[] = {4, 0, 4, 2, 1, 3}; /* row 4 twice: its gradients add up */
    static moved m;
    static float dsrc[MOST];
    for (int scatter = 0; scatter < 2; scatter++) {
        int64_t few = 3, many = 5, d = 7, n_src = scatter ? few : many, n_dst = scatter ? many : few;
        m.a = (op_rows){.batch = 2, .n_src = n_src, .n_dst = n_dst, .d = d, .src = m.src, .dst = m.dst, .index = INDEX};
        m.fn = scatter ? w->o->scatter_add_rows : w->o->gather_rows;
        m.n_out = 2 * n_dst * d;
        grid(w, m.src, 2 * n_src * d);
        grid(w, m.g, m.n_out);
        memset(dsrc, 0, sizeof dsrc);
        op_rows back = {.batch = 2, .n_src = n_dst, .n_dst = n_src, .d = d, .src = m.g, .dst = dsrc, .index = INDEX};
        assert_int_equal((scatter ? w->o->gather_rows : w->o->scatter_add_rows)(w->q, &back), 0);
        differences(w, scatter ? "scatter_add_rows" : "gather_rows", m.src, dsrc, 2 * n_src * d, rows_value, &m);
    }
}

static void test_copy_broadcast_sum(void **state) {
    world *w = *state;
    static moved m;
    static float dsrc[MOST];
    int64_t batch = 3, d = 6;
    /* rows 2 … 5 of 7 to rows 1 … 4 of 6, and the gradient back the same way, added */
    m.a = (op_rows){.batch = batch, .n_src = 7, .src_off = 2, .n_dst = 6, .dst_off = 1, .count = 4, .d = d, .src = m.src, .dst = m.dst};
    m.fn = w->o->copy_rows;
    m.n_out = batch * 6 * d;
    grid(w, m.src, batch * 7 * d);
    grid(w, m.g, m.n_out);
    memset(dsrc, 0, sizeof dsrc);
    op_rows back = {
        .batch = batch, .n_src = 6, .src_off = 1, .n_dst = 7, .dst_off = 2, .count = 4, .d = d, .src = m.g, .dst = dsrc, .add = 1};
    assert_int_equal(w->o->copy_rows(w->q, &back), 0);
    differences(w, "copy_rows", m.src, dsrc, batch * 7 * d, rows_value, &m);
    /* one row to many; the gradient is the sum over them */
    m.a = (op_rows){.batch = batch, .n_dst = 6, .dst_off = 1, .count = 4, .d = d, .src = m.src, .dst = m.dst};
    m.fn = w->o->broadcast_row;
    memset(dsrc, 0, sizeof dsrc);
    back = (op_rows){.batch = batch, .n_src = 6, .src_off = 1, .count = 4, .d = d, .src = m.g, .dst = dsrc};
    assert_int_equal(w->o->sum_rows(w->q, &back), 0);
    differences(w, "broadcast_row", m.src, dsrc, d, rows_value, &m);
    /* and the sum's gradient is the broadcast */
    m.a = (op_rows){.batch = batch, .n_src = 6, .src_off = 1, .count = 4, .d = d, .src = m.src, .dst = m.dst};
    m.fn = w->o->sum_rows;
    m.n_out = d;
    grid(w, m.src, batch * 6 * d);
    memset(dsrc, 0, sizeof dsrc);
    back = (op_rows){.batch = batch, .n_dst = 6, .dst_off = 1, .count = 4, .d = d, .src = m.g, .dst = dsrc};
    assert_int_equal(w->o->broadcast_row(w->q, &back), 0);
    differences(w, "sum_rows", m.src, dsrc, batch * 6 * d, rows_value, &m);
}

/* ---- loss ---- */

typedef struct dist {
    op_loss a;
    float z[512], h[512];
} dist;

static double loss_value(world *w, void *arg) {
    dist *t = arg;
    double loss = 0;
    t->a.loss = &loss;
    t->a.dz = NULL;
    assert_int_equal(w->o->loss(w->q, &t->a), 0);
    return loss;
}

static void test_loss(void **state) {
    world *w = *state;
    static const struct {
        int kind;
        double p;
    } KINDS[] = {{LOSS_POWER, 1}, {LOSS_POWER, 2}, {LOSS_POWER, 1.5}, {LOSS_POWER, 3}, {LOSS_SMOOTH_L1, 0}};
    static dist t;
    static float dz[512];
    for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++) {
        t.a = (op_loss){.rows = 9, .d = 17, .kind = KINDS[k].kind, .p = KINDS[k].p, .scale = 0.7, .z = t.z, .h = t.h};
        for (int i = 0; i < 9 * 17; i++) { /* the five points stay on one side of 0 (p = 1.5: well away) and of smooth L1's seam at 1 */
            double e = i % 2 ? rng_uniform(&w->r, 0.3, 0.9) : rng_uniform(&w->r, 1.1, 3);
            t.h[i] = (float)(round(rng_normal(&w->r) * 256) / 256);
            t.z[i] = t.h[i] + (float)((i % 3 ? 1 : -1) * round(e * 256) / 256);
        }
        t.z[0] = t.h[0]; /* at equality every f is even: slope 0 by differences and by definition */
        double loss = 0;
        op_loss a = t.a;
        a.dz = dz;
        a.loss = &loss;
        assert_int_equal(w->o->loss(w->q, &a), 0);
        assert_true(dz[0] == 0);
        assert_true(fabs(loss - loss_value(w, &t)) < 1e-12);
        differences(w, "loss dz", t.z, dz, 9 * 17, loss_value, &t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_gelu),
        cmocka_unit_test(test_layernorm),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_attention_block),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_gather_scatter),
        cmocka_unit_test(test_copy_broadcast_sum),
        cmocka_unit_test(test_loss),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
