/* linear.c: linear and linear_bwd. */
#include "tests/checkop/checkop.h"

enum { BIAS = 1, GELU = 2, RESIDUAL = 4, IN_PLACE = 8, PRE = 16, PACKED = 32, STRIDES = 64, PACKED_ONLY = 128 };

/* Packs in each call: a packed row of --bench is packing and product together. */
static int call_linear(const ops *o, queue *q, const job *j, void **p) {
    op_linear a = *(const op_linear *)j->arg;
    packed *pw = NULL;
    a.x = at(j, p, "x");
    a.w = at(j, p, "w");
    a.b = at(j, p, "b");
    a.y = at(j, p, "y");
    a.r = j->flag & IN_PLACE ? a.y : at(j, p, "r");
    a.pre = at(j, p, "pre");
    if (j->flag & (PACKED | PACKED_ONLY)) {
        int rc = o->linear_pack(q, &pw, a.w, a.out, a.in);
        if (rc < 0) return rc;
        a.pw = pw;
        if (pw && (j->flag & PACKED_ONLY)) a.w = NULL;
    }
    int rc = o->linear(q, &a);
    o->linear_unpack(q, &pw);
    return pw ? JEPA_E_MODEL : rc; /* unpack has to null it */
}

static job linear_job(ctx *c, op_linear *a, int64_t rows, int64_t in, int64_t out, int flag) {
    int64_t ldx = in, ldy = out, ldr = out;
    if (flag & STRIDES) {
        ldx = 3 * in + 1;
        ldy = out + 5;
        ldr = flag & IN_PLACE ? ldy : out + 3;
    }
    *a = (op_linear){.rows = rows, .in = in, .out = out, .act = flag & GELU ? ACT_GELU : ACT_NONE};
    if (flag & STRIDES) a->ldx = ldx, a->ldy = ldy, a->ldr = ldr;
    job j = job_of(c, "linear", call_linear, a, "%lldx%lld->%lld%s%s%s%s%s%s%s", (long long)rows, (long long)in, (long long)out,
                   flag & BIAS ? " bias" : "", flag & GELU ? " gelu" : "", flag & RESIDUAL ? " residual" : "",
                   flag & IN_PLACE ? " in place" : "", flag & PRE ? " pre" : "", flag & (PACKED | PACKED_ONLY) ? " packed" : "",
                   flag & STRIDES ? " strides" : "");
    j.flag = flag;
    j.flops = 2.0 * (double)rows * (double)in * (double)out;
    job_array(c, &j, IN, "x", T_F32, rows, in, ldx);
    job_array(c, &j, IN, "w", T_F32, out, in, 0);
    if (flag & BIAS) job_array(c, &j, IN, "b", T_F32, 1, out, 0);
    if (flag & RESIDUAL) job_array(c, &j, IN, "r", T_F32, rows, out, ldr);
    array *y = job_array(c, &j, flag & IN_PLACE ? INOUT : OUT, "y", T_F32, rows, out, ldy);
    bound_sum(y, (double)in, 1);
    y->abs += 4 * ULP; /* epilogue: bias and residual are below 4 and rounded once each */
    y->rel += 2 * ULP;
    /* GELU by Abramowitz and Stegun 7.1.26, the usual vector form, is 1.5e-7 off in erf; x/2 of that until erf is flat (|x| < 6),
     * and GELU's slope is at most 1.13. With a residual, that of the sum before it. */
    if (flag & GELU) y->abs = 1.13 * y->abs + 1e-6;
    if (flag & PRE) {
        array *pre = job_array(c, &j, OUT, "pre", T_F32, rows, out, 0);
        bound_sum(pre, (double)in, 1);
        pre->abs += 4 * ULP;
    }
    return j;
}

static void linear_refusals(ctx *c) {
    op_linear good, bad;
    job j = linear_job(c, &good, 5, 7, 9, BIAS | RESIDUAL | PRE);
    job_refuse_null(c, &j, "x");
    job_refuse_null(c, &j, "w");
    job_refuse_null(c, &j, "y");
    const struct {
        size_t field;
        int64_t value;
        const char *why;
    } SIZES[] = {
        {offsetof(op_linear, rows), -1, "rows -1"},
        {offsetof(op_linear, rows), INT64_MAX, "rows 2^63-1"},
        {offsetof(op_linear, in), 0, "in 0"},
        {offsetof(op_linear, in), INT64_MAX / 2, "in 2^62"},
        {offsetof(op_linear, out), -3, "out -3"},
        {offsetof(op_linear, out), INT64_MIN, "out -2^63"},
        {offsetof(op_linear, ldx), 6, "ldx < in"},
        {offsetof(op_linear, ldx), -7, "ldx < 0"},
        {offsetof(op_linear, ldy), 8, "ldy < out"},
        {offsetof(op_linear, ldr), 1, "ldr < out"},
        {offsetof(op_linear, ldy), INT64_MAX, "ldy 2^63-1"},
    };
    for (int i = 0; i < COUNT(SIZES); i++) {
        bad = good;
        memcpy((char *)&bad + SIZES[i].field, &SIZES[i].value, sizeof SIZES[i].value);
        job_refuse(c, &j, &bad, JEPA_E_USE, SIZES[i].why);
    }
    bad = good;
    bad.act = 7;
    job_refuse(c, &j, &bad, JEPA_E_USE, "act 7");
    static const dtype NOT_YET[] = {T_F16, T_F64, T_U8};
    for (int i = 0; i < COUNT(NOT_YET); i++) {
        bad = good;
        bad.type = NOT_YET[i];
        job_refuse(c, &j, &bad, JEPA_E_UNSUPPORTED, dtype_name(NOT_YET[i]));
    }
    job_close(&j);
}

static int call_linear_bwd(const ops *o, queue *q, const job *j, void **p) {
    op_linear_bwd a = *(const op_linear_bwd *)j->arg;
    a.dy = at(j, p, "dy");
    a.x = at(j, p, "x");
    a.w = at(j, p, "w");
    a.dx = at(j, p, "dx");
    a.dw = at(j, p, "dw");
    a.db = at(j, p, "db");
    return o->linear_bwd(q, &a);
}

enum { DX = 1, DW = 2, DB = 4, ADD = 8, LD = 16 };

static job linear_bwd_job(ctx *c, op_linear_bwd *a, int64_t rows, int64_t in, int64_t out, int flag) {
    *a = (op_linear_bwd){.rows = rows, .in = in, .out = out, .add = flag & ADD ? 1 : 0};
    if (flag & LD) a->lddy = out + 2, a->ldx = 2 * in + 3, a->lddx = in + 9;
    job j = job_of(c, "linear_bwd", call_linear_bwd, a, "%lldx%lld->%lld%s%s%s%s%s", (long long)rows, (long long)in, (long long)out,
                   flag & DX ? " dx" : "", flag & DW ? " dw" : "", flag & DB ? " db" : "", flag & ADD ? " add" : "",
                   flag & LD ? " strides" : "");
    j.flops = 2.0 * (double)rows * (double)in * (double)out * ((flag & DX ? 1 : 0) + (flag & DW ? 1 : 0));
    job_array(c, &j, IN, "dy", T_F32, rows, out, a->lddy);
    if (flag & DW) job_array(c, &j, IN, "x", T_F32, rows, in, a->ldx);
    if (flag & DX) job_array(c, &j, IN, "w", T_F32, out, in, 0);
    array *g;
    if (flag & DX) {
        g = job_array(c, &j, flag & ADD ? INOUT : OUT, "dx", T_F32, rows, in, a->lddx);
        bound_sum(g, (double)out, 1);
        g->abs += 4 * ULP; /* add: what it is added to, below 4 */
    }
    if (flag & DW) {
        g = job_array(c, &j, INOUT, "dw", T_F32, out, in, 0);
        bound_sum(g, (double)rows, 1);
        g->abs += 4 * ULP;
    }
    if (flag & DB) {
        g = job_array(c, &j, INOUT, "db", T_F32, 1, out, 0);
        bound_sum(g, (double)rows, 1);
        g->abs += 4 * ULP;
    }
    return j;
}

static void linear_bwd_refusals(ctx *c) {
    op_linear_bwd good, bad;
    job j = linear_bwd_job(c, &good, 5, 7, 9, DX | DW | DB);
    job_refuse_null(c, &j, "dy");
    job_refuse_null(c, &j, "x");
    job_refuse_null(c, &j, "w");
    const struct {
        size_t field;
        int64_t value;
        const char *why;
    } SIZES[] = {
        {offsetof(op_linear_bwd, rows), -1, "rows -1"},   {offsetof(op_linear_bwd, in), 0, "in 0"},
        {offsetof(op_linear_bwd, out), 0, "out 0"},       {offsetof(op_linear_bwd, in), INT64_MAX, "in 2^63-1"},
        {offsetof(op_linear_bwd, lddy), 8, "lddy < out"}, {offsetof(op_linear_bwd, ldx), 2, "ldx < in"},
        {offsetof(op_linear_bwd, lddx), 6, "lddx < in"},  {offsetof(op_linear_bwd, lddx), INT64_MAX, "lddx 2^63-1"},
    };
    for (int i = 0; i < COUNT(SIZES); i++) {
        bad = good;
        memcpy((char *)&bad + SIZES[i].field, &SIZES[i].value, sizeof SIZES[i].value);
        job_refuse(c, &j, &bad, JEPA_E_USE, SIZES[i].why);
    }
    bad = good;
    bad.type = T_F16;
    job_refuse(c, &j, &bad, JEPA_E_UNSUPPORTED, "bf16");
    job_close(&j);
}

void family_linear(ctx *c) {
    static const int64_t SHAPES[][3] = {{1, 1, 1},      {1, 7, 3},      {2, 1, 5},      {3, 5, 1},     {7, 13, 17},
                                        {31, 32, 33},   {33, 31, 32},   {32, 64, 96},   {63, 65, 127}, {197, 96, 288},
                                        {250, 288, 96}, {128, 384, 10}, {17, 1536, 40}, {64, 129, 384}};
    if (op_begin(c, "linear")) {
        static const int EPILOGUES[] = {
            0, BIAS, BIAS | GELU, BIAS | GELU | PRE, BIAS | RESIDUAL, BIAS | IN_PLACE, BIAS | GELU | RESIDUAL | PRE};
        op_linear a;
        for (int s = 0; s < COUNT(SHAPES); s++)
            for (int e = 0; e < COUNT(EPILOGUES); e++) {
                static const int EXTRA[] = {0, PACKED, STRIDES, PACKED_ONLY | STRIDES};
                job j = linear_job(c, &a, SHAPES[s][0], SHAPES[s][1], SHAPES[s][2], EPILOGUES[e] | EXTRA[(s + e) % 4]);
                job_run(c, &j);
                if (s % 3 == 1) job_nan(c, &j);
                job_close(&j);
            }
        static const int64_t SIZE[] = {0, 1568};
        for (int s = 0; s < COUNT(SIZE); s++) { /* nothing to do; and a real one: ViT-S's qkv */
            job j = linear_job(c, &a, SIZE[s], s ? 384 : 6, s ? 1152 : 4, BIAS | PACKED);
            job_run(c, &j);
            job_close(&j);
        }
        job j = linear_job(c, &a, 40, 64, 48, BIAS | GELU | PRE); /* far out on both arms of GELU */
        fill_normal(c, job_find(&j, "x"), 0, 30);
        bound_sum(job_find(&j, "y"), 64, 1.13 * 30);
        bound_sum(job_find(&j, "pre"), 64, 30);
        job_run(c, &j);
        job_close(&j);
        linear_refusals(c);
        op_end(c);
    }
    if (op_begin(c, "linear_bwd")) {
        static const int WANTED[] = {DX | DW | DB, DX, DW, DB, DW | DB, DX | DW | DB | ADD};
        op_linear_bwd a;
        for (int s = 0; s < COUNT(SHAPES); s++)
            for (int w = 0; w < COUNT(WANTED); w++) {
                job j = linear_bwd_job(c, &a, SHAPES[s][0], SHAPES[s][1], SHAPES[s][2], WANTED[w] | ((s + w) % 3 == 0 ? LD : 0));
                job_run(c, &j);
                if (s % 3 == 1) job_nan(c, &j);
                job_close(&j);
            }
        static const int64_t SIZE[] = {0, 1568};
        for (int s = 0; s < COUNT(SIZE); s++) {
            job j = linear_bwd_job(c, &a, SIZE[s], s ? 384 : 6, s ? 384 : 4, DX | DW | DB);
            if (!s) job_find(&j, "dw")->role = job_find(&j, "db")->role = INOUT;
            job_run(c, &j);
            job_close(&j);
        }
        linear_bwd_refusals(c);
        op_end(c);
    }
}
