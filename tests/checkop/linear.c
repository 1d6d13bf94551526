/* linear.c: linear and linear_bwd. */
#include "tests/checkop/checkop.h"

enum { BIAS = 1, GELU = 2, RESIDUAL = 4, IN_PLACE = 8, PRE = 16, STRIDES = 64 };
enum { X16 = 256, W16 = 512, Y16 = 1024, PRE16 = 2048 };
enum { ALL16 = X16 | W16 | Y16 | PRE16 }; /* as the models run in bf16 */

static int call_linear(const ops *o, queue *q, const job *j, void **p) {
    op_linear a = *(const op_linear *)j->arg;
    a.x = at(j, p, "x");
    a.x16 = at(j, p, "x16");
    a.w = at(j, p, "w");
    a.w16 = at(j, p, "w16");
    a.b = at(j, p, "b");
    a.y = at(j, p, "y");
    a.y16 = at(j, p, "y16");
    a.r = j->flag & IN_PLACE ? a.y : at(j, p, "r");
    a.pre = at(j, p, "pre");
    a.pre16 = at(j, p, "pre16");
    return o->linear(q, &a);
}

/* An operand in one of its two forms. Products of bf16 numbers are exact in float32, so the bound of a sum stays what it is. */
static array *either(ctx *c, job *j, role r, const char *name, const char *name16, int half, int64_t rows, int64_t width, int64_t ld) {
    return job_array(c, j, r, half ? name16 : name, half ? T_BF16 : T_F32, rows, width, ld);
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
    job j = job_of(c, "linear", call_linear, a, "%lldx%lld->%lld%s%s%s%s%s%s%s%s%s%s", (long long)rows, (long long)in, (long long)out,
                   flag & BIAS ? " bias" : "", flag & GELU ? " gelu" : "", flag & RESIDUAL ? " residual" : "",
                   flag & IN_PLACE ? " in place" : "", flag & PRE ? " pre" : "",
                   flag & STRIDES ? " strides" : "", flag & X16 ? " x16" : "", flag & W16 ? " w16" : "", flag & Y16 ? " y16" : "",
                   flag & PRE && flag & PRE16 ? " pre16" : "");
    j.flag = flag;
    j.flops = 2.0 * (double)rows * (double)in * (double)out;
    either(c, &j, IN, "x", "x16", flag & X16, rows, in, ldx);
    either(c, &j, IN, "w", "w16", flag & W16, out, in, 0);
    if (flag & BIAS) job_array(c, &j, IN, "b", T_F32, 1, out, 0);
    if (flag & RESIDUAL) job_array(c, &j, IN, "r", T_F32, rows, out, ldr);
    array *y = either(c, &j, flag & IN_PLACE ? INOUT : OUT, "y", "y16", flag & Y16, rows, out, ldy);
    bound_sum(y, (double)in, 1);
    y->abs += 4 * ULP; /* epilogue: bias and residual are below 4 and rounded once each */
    y->rel += 2 * ULP;
    /* GELU by Abramowitz and Stegun 7.1.26, the usual vector form, is 1.5e-7 off in erf; x/2 of that until erf is flat (|x| < 6),
     * and GELU's slope is at most 1.13. With a residual, that of the sum before it. */
    if (flag & GELU) y->abs = 1.13 * y->abs + 1e-6;
    if (y->type == T_BF16) bound_bf16(y);
    if (flag & PRE) {
        array *pre = either(c, &j, OUT, "pre", "pre16", flag & PRE16, rows, out, 0);
        bound_sum(pre, (double)in, 1);
        pre->abs += 4 * ULP;
        if (pre->type == T_BF16) bound_bf16(pre);
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
    j = linear_job(c, &good, 5, 7, 9, BIAS | RESIDUAL | PRE | ALL16);
    job_refuse_null(c, &j, "x16");
    job_refuse_null(c, &j, "w16");
    job_refuse_null(c, &j, "y16");
    job_close(&j);
    static const int TWICE[] = {0, X16, W16, Y16, PRE16}; /* an operand in both forms; the first: in one */
    for (int i = 0; i < COUNT(TWICE); i++) {
        j = linear_job(c, &good, 5, 7, 9, BIAS | PRE | (ALL16 & ~TWICE[i]));
        if (TWICE[i] & X16) either(c, &j, IN, "", "x16", 1, 5, 7, 0);
        if (TWICE[i] & W16) either(c, &j, IN, "", "w16", 1, 9, 7, 0);
        if (TWICE[i] & Y16) either(c, &j, OUT, "", "y16", 1, 5, 9, 0);
        if (TWICE[i] & PRE16) either(c, &j, OUT, "", "pre16", 1, 5, 9, 0);
        if (TWICE[i])
            job_refuse(c, &j, NULL, JEPA_E_USE, "an operand in both forms");
        else
            job_run(c, &j);
        job_close(&j);
    }
}

static int call_linear_bwd(const ops *o, queue *q, const job *j, void **p) {
    op_linear_bwd a = *(const op_linear_bwd *)j->arg;
    a.dy = at(j, p, "dy");
    a.dy16 = at(j, p, "dy16");
    a.x = at(j, p, "x");
    a.x16 = at(j, p, "x16");
    a.w = at(j, p, "w");
    a.w16 = at(j, p, "w16");
    a.dx = at(j, p, "dx");
    a.dx16 = at(j, p, "dx16");
    a.pre = at(j, p, "pre");
    a.pre16 = at(j, p, "pre16");
    a.dw = at(j, p, "dw");
    a.db = at(j, p, "db");
    return o->linear_bwd(q, &a);
}

enum { DX = 1, DW = 2, DB = 4, ADD = 8, LD = 16, BEFORE = 32 /* pre */, X_ACT = 64, DY16 = 1024, DX16 = 4096 };
enum { BWD16 = X16 | W16 | PRE16 | DY16 | DX16 };

/* Adds the rounding to bf16 of one or both factors of k products of spread sigma: by ULP16/√3 of each at random, ten spreads of the sum; of a
 * single product all of it. */
static void rounded(array *a, double k, int factors, double sigma) {
    a->abs += 10 * sqrt(k * factors / 3) * ULP16 * sigma;
    a->rel += factors * ULP16;
}

static job linear_bwd_job(ctx *c, op_linear_bwd *a, int64_t rows, int64_t in, int64_t out, int flag) {
    *a = (op_linear_bwd){.rows = rows, .in = in, .out = out, .add = flag & ADD ? 1 : 0, .x_act = flag & X_ACT ? ACT_GELU : ACT_NONE};
    if (flag & LD) a->lddy = out + 2, a->ldx = 2 * in + 3, a->lddx = in + 9;
    job j = job_of(c, "linear_bwd", call_linear_bwd, a, "%lldx%lld->%lld%s%s%s%s%s%s%s%s%s%s%s", (long long)rows, (long long)in, (long long)out,
                   flag & DX ? " dx" : "", flag & DW ? " dw" : "", flag & DB ? " db" : "", flag & ADD ? " add" : "",
                   flag & LD ? " strides" : "", flag & BEFORE ? flag & PRE16 ? " pre16" : " pre" : "", flag & X_ACT ? " gelu(x)" : "",
                   flag & DY16 ? " dy16" : "", flag & X16 ? " x16" : "", flag & W16 ? " w16" : "", flag & DX16 ? " dx16" : "");
    j.flops = 2.0 * (double)rows * (double)in * (double)out * ((flag & DX ? 1 : 0) + (flag & DW ? 1 : 0));
    either(c, &j, IN, "dy", "dy16", flag & DY16, rows, out, a->lddy);
    if (flag & DW) either(c, &j, IN, "x", "x16", flag & X16, rows, in, a->ldx);
    if (flag & DX) either(c, &j, IN, "w", "w16", flag & W16, out, in, 0);
    if (flag & DX && flag & BEFORE) either(c, &j, IN, "pre", "pre16", flag & PRE16, rows, in, 0);
    array *g;
    if (flag & DX) {
        g = either(c, &j, flag & ADD ? INOUT : OUT, "dx", "dx16", flag & DX16, rows, in, a->lddx);
        /* pre: times GELU's slope, which is at most 1.13 and is 1e-6 off (gelu.c) where the sum is below 6·√out; where the slope is near 0
         * the sum's error and the slope's both count against a product that may be small, so against none of it */
        if (flag & BEFORE) g->abs += 1e-6 * 6 * sqrt((double)out) + 1.13 * (2 + 3.3 * sqrt((double)out)) * ULP * 6 * sqrt((double)out);
        bound_sum(g, (double)out, flag & BEFORE ? 1.13 : 1);
        g->abs += 4 * ULP; /* add: what it is added to, below 4 */
        if (c->pairs && flag & W16) rounded(g, (double)out, !(flag & DY16), flag & BEFORE ? 1.13 : 1);
        if (flag & DX16) bound_bf16(g);
    }
    if (flag & DW) {
        g = job_array(c, &j, INOUT, "dw", T_F32, out, in, 0);
        bound_sum(g, (double)rows, 1);
        g->abs += 4 * ULP;
        /* gelu(x): each is 1e-6 off at most (gelu.c), by chance up or down, times a dy of spread 1: a walk of so many steps, times six */
        if (flag & X_ACT) g->abs += 6e-6 * sqrt((double)rows);
        if (c->pairs && flag & X16) rounded(g, (double)rows, !(flag & DY16) + !!(flag & X_ACT), 1);
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
    job_refuse(c, &j, &bad, JEPA_E_UNSUPPORTED, "f16");
    bad = good;
    bad.x_act = 3;
    job_refuse(c, &j, &bad, JEPA_E_USE, "x_act 3");
    job_close(&j);
    static const int ADDS[] = {BEFORE, BEFORE | PRE16, DX16}; /* none of these with add */
    for (int i = 0; i < COUNT(ADDS); i++) {
        j = linear_bwd_job(c, &good, 5, 7, 9, DX | DW | DB | ADD | ADDS[i]);
        job_refuse(c, &j, NULL, JEPA_E_USE, "add with pre or dx16");
        job_close(&j);
    }
    j = linear_bwd_job(c, &good, 5, 7, 9, DX | DW | DB | BEFORE | BWD16);
    job_refuse_null(c, &j, "dy16");
    job_refuse_null(c, &j, "x16");
    job_refuse_null(c, &j, "w16");
    job_close(&j);
    static const int TWICE[] = {DY16, X16, W16, PRE16, DX16};
    for (int i = 0; i < COUNT(TWICE); i++) {
        j = linear_bwd_job(c, &good, 5, 7, 9, DX | DW | DB | BEFORE | (BWD16 & ~TWICE[i]));
        if (TWICE[i] == DY16) either(c, &j, IN, "", "dy16", 1, 5, 9, 0);
        if (TWICE[i] == X16) either(c, &j, IN, "", "x16", 1, 5, 7, 0);
        if (TWICE[i] == W16) either(c, &j, IN, "", "w16", 1, 9, 7, 0);
        if (TWICE[i] == PRE16) either(c, &j, IN, "", "pre16", 1, 5, 7, 0);
        if (TWICE[i] == DX16) either(c, &j, OUT, "", "dx16", 1, 5, 7, 0);
        job_refuse(c, &j, NULL, JEPA_E_USE, "an operand in both forms");
        job_close(&j);
    }
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
                job j = linear_job(c, &a, SHAPES[s][0], SHAPES[s][1], SHAPES[s][2], EPILOGUES[e] | ((s + e) % 2 ? STRIDES : 0));
                job_run(c, &j);
                if (s % 3 == 1) job_nan(c, &j);
                job_close(&j);
            }
        /* bf16: as the models have it, and each operand alone; 504, 256, 384 are what a product is cut at */
        static const int64_t BIG[][3] = {{2, 1, 5},      {5, 1030, 1100},  {7, 13, 17},    {33, 31, 32},
                                         {197, 96, 288}, {505, 385, 257}, {523, 777, 40}, {4, 700, 1536}};
        static const int HALVES[] = {ALL16 | BIAS,       ALL16 | BIAS | GELU | PRE, X16 | W16 | BIAS | RESIDUAL, X16 | W16 | BIAS | IN_PLACE,
                                     ALL16 | GELU | PRE, X16 | BIAS | PRE,          W16 | BIAS | GELU,           Y16 | BIAS | GELU | RESIDUAL,
                                     PRE16 | BIAS | PRE, 0,                         BIAS | GELU | PRE};
        for (int s = 0; s < COUNT(BIG); s++)
            for (int h = 0; h < COUNT(HALVES); h++) {
                job j = linear_job(c, &a, BIG[s][0], BIG[s][1], BIG[s][2], HALVES[h] | ((s + h) % 3 == 0 ? STRIDES : 0));
                job_run(c, &j);
                if (s < 4 && h < 4) job_nan(c, &j);
                job_close(&j);
            }
        static const int64_t SIZE[] = {0, 1568};
        for (int s = 0; s < COUNT(SIZE); s++) { /* nothing to do; and a real one: ViT-S's qkv */
            job j = linear_job(c, &a, SIZE[s], s ? 384 : 6, s ? 1152 : 4, BIAS);
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
        static const int64_t BIG[][3] = {{2, 1, 5}, {5, 13, 17}, {33, 31, 32}, {197, 288, 96}, {390, 257, 505}, {772, 40, 523}, {9, 300, 2100}};
        static const int HALVES[] = {DX | DW | DB | BWD16, DX | DW | DB | BEFORE | X_ACT | BWD16, DX | BEFORE, DW | X_ACT,
                                     DX | DW | DB | DY16,  DW | X16, DX | W16 | ADD, DX | BEFORE | PRE16 | DX16,
                                     DX | DX16,            DB | DY16, DX | DW | DB};
        for (int s = 0; s < COUNT(BIG); s++)
            for (int h = 0; h < COUNT(HALVES); h++) {
                job j = linear_bwd_job(c, &a, BIG[s][0], BIG[s][1], BIG[s][2], HALVES[h] | ((s + h) % 3 == 0 ? LD : 0));
                job_run(c, &j);
                if (s < 4 && h < 4) job_nan(c, &j);
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
