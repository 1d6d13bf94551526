/* attention.c: attention and attention_bwd: head sizes, lengths, blocks, strides, large scores, ties, rotary tables, bf16. */
#include <stdlib.h>
#include "tests/checkop/checkop.h"

enum { PACKED = 1, LSE = 2, STRIDES = 4, LARGE = 8, TIES = 16, ROPE = 32, ROPE_EACH = 64, HALF = 128 };

typedef struct shape {
    int64_t batch, heads, nq, nk, dim, block;
    int flag;
    double scale;
} shape;

/* An operand goes to the one pointer or to the other. */
#define OPERAND(a, x, to)                                                                                                                  \
    do {                                                                                                                                   \
        if (j->flag & HALF)                                                                                                                \
            (a).x##16 = to;                                                                                                                \
        else                                                                                                                               \
            (a).x = to;                                                                                                                    \
    } while (0)

static void *part(const job *j, void **p, const char *name, int64_t elements) { /* of a packed row */
    char *all = at(j, p, name);
    return all ? all + elements * (j->flag & HALF ? 2 : 4) : NULL;
}

static int call_attention(const ops *o, queue *q, const job *j, void **p) {
    op_attention a = *(const op_attention *)j->arg;
    const int one_row = j->flag & PACKED; /* one row: q, k, v of all heads */
    const int64_t d = one_row ? a.heads * a.head_dim : 0; /* what is to be refused may not be multiplied */
    OPERAND(a, q, one_row ? at(j, p, "qkv") : at(j, p, "q"));
    OPERAND(a, k, one_row ? part(j, p, "qkv", d) : at(j, p, "k"));
    OPERAND(a, v, one_row ? part(j, p, "qkv", 2 * d) : at(j, p, "v"));
    OPERAND(a, o, at(j, p, "o"));
    a.lse = at(j, p, "lse");
    a.cs = at(j, p, "cs");
    return o->attention(q, &a);
}

static int call_attention_bwd(const ops *o, queue *q, const job *j, void **p) {
    op_attention_bwd a = *(const op_attention_bwd *)j->arg;
    const int one_row = j->flag & PACKED;
    const int64_t d = one_row ? a.heads * a.head_dim : 0;
    OPERAND(a, q, one_row ? at(j, p, "qkv") : at(j, p, "q"));
    OPERAND(a, k, one_row ? part(j, p, "qkv", d) : at(j, p, "k"));
    OPERAND(a, v, one_row ? part(j, p, "qkv", 2 * d) : at(j, p, "v"));
    OPERAND(a, o, at(j, p, "o"));
    OPERAND(a, dout, at(j, p, "dout"));
    OPERAND(a, dq, one_row ? at(j, p, "dqkv") : at(j, p, "dq"));
    OPERAND(a, dk, one_row ? part(j, p, "dqkv", d) : at(j, p, "dk"));
    OPERAND(a, dv, one_row ? part(j, p, "dqkv", 2 * d) : at(j, p, "dv"));
    a.lse = at(j, p, "lse");
    a.cs = at(j, p, "cs");
    return o->attention_bwd(q, &a);
}

static void label(char *text, size_t size, const shape *s) {
    snprintf(text, size, "b%lld h%lld %lldx%lld dim %lld%s%.0lld%s%s%s%s%s%s%s", (long long)s->batch, (long long)s->heads, (long long)s->nq,
             (long long)s->nk, (long long)s->dim, s->block ? " block " : "", (long long)s->block, s->flag & PACKED ? " packed" : "",
             s->flag & LSE ? " lse" : "", s->flag & STRIDES ? " strides" : "", s->flag & LARGE ? " large" : "",
             s->flag & TIES ? " ties" : "", s->flag & ROPE_EACH ? " rope each" : s->flag & ROPE ? " rope" : "", s->flag & HALF ? " bf16" : "");
}

static int rope(const shape *s) { return (s->flag & (ROPE | ROPE_EACH)) != 0; }
static dtype stored(const shape *s) { return s->flag & HALF ? T_BF16 : T_F32; }

/* Whether the back end rounds what it multiplies to bf16 (VEC_DOT16). */
static int pairs(const ctx *c, const shape *s) { /* a pair may not reach over the end of a block */
    return c->pairs && s->flag & HALF && s->block % 2 == 0;
}
/* Where scores are of rounded numbers, those of several hundred are off by 1 and more: then only as large as one exponential cannot take. */
static double spread_of(const ctx *c, const shape *s) { return !(s->flag & LARGE) ? 1 : pairs(c, s) ? 5 : 20; }

/* q, k and v in `array`s of their own or as one packed row. Spread of the scores: 1, or far beyond where exp alone overflows.
 * The table: any angle, and another one for each channel of a pair, as published models have it. */
static void inputs(ctx *c, job *j, const shape *s) {
    int64_t d = s->heads * s->dim, pad = s->flag & STRIDES ? 5 : 0;
    double spread = spread_of(c, s);
    if (rope(s)) {
        array *cs = job_array(c, j, IN, "cs", T_F32, s->nq * (s->flag & ROPE_EACH ? s->batch : 1), 2 * s->dim, 0);
        for (int64_t i = 0; i < cs->rows; i++)
            for (int64_t k = 0; k < s->dim; k++) {
                double angle = rng_uniform(&c->r, -4, 4);
                put(cs, i, k, cos(angle));
                put(cs, i, s->dim + k, sin(angle));
            }
    }
    if (s->flag & PACKED) {
        fill_normal(c, job_array(c, j, IN, "qkv", stored(s), s->batch * s->nq, 3 * d, 0), 0, spread);
        return;
    }
    array *q = job_array(c, j, IN, "q", stored(s), s->batch * s->nq, d, d + pad);
    array *k = job_array(c, j, IN, "k", stored(s), s->batch * s->nk, d, d + 2 * pad);
    job_array(c, j, IN, "v", stored(s), s->batch * s->nk, d, d + 3 * pad);
    fill_normal(c, q, 0, spread);
    fill_normal(c, k, 0, spread);
    if (s->flag & TIES) /* all keys alike: every score of a row is its maximum */
        for (int64_t i = 1; i < k->rows; i++)
            for (int64_t e = 0; e < d; e++) put(k, i, e, get(k, 0, e));
}

/* Errors as spreads, in ULP: signs are random, so sums of them grow like those of the terms. TAIL of them for the largest. */
static const double TAIL = 6;

typedef struct bounds {
    double p;  /* relative error of a probability before normalising */
    double in; /* spread of q, k, v */
    double scale;
} bounds;

/* A score sums dim products of spread σ² (0.4·dim·σ², see bound_sum) and is rounded when scaled and when the maximum is taken off (half an
 * ULP of the largest each); its error is exp's relative one. exp itself 2 ULP, storing 1. Turning q and k: two channels times a cosine and
 * a sine, three roundings of them, so below 2 ULP·σ each, √(2·dim) of them in a score. bf16 inputs are exact in float32.
 * Where they are multiplied in pairs, q is rounded to bf16 once it is scaled, k if it is turned, each by ULP16/√3 of its size at random, so
 * √dim of them in a score; p is rounded once, and so is ds or what it meets (two ULP16 for the largest). */
static bounds bounds_of(const ctx *c, const shape *s) {
    bounds b;
    b.in = spread_of(c, s);
    b.scale = s->scale != 0 ? fabs(s->scale) : 1 / sqrt((double)s->dim);
    double sum = 0.4 * (double)s->dim * b.scale * b.in * b.in, top = 6 * b.scale * b.in * b.in * sqrt((double)s->dim);
    double turn = rope(s) ? 2 * sqrt(2 * (double)s->dim) * b.scale * b.in * b.in : 0;
    b.p = sum + 0.5 * top + 3 + turn;
    if (pairs(c, s)) b.p += ULP16 / ULP * (sqrt((rope(s) ? 2 : 1) * (double)s->dim / 3) * b.scale * b.in * b.in + 2);
    return b;
}

static job forward_job(ctx *c, op_attention *a, const shape *s) {
    char text[160];
    int64_t d = s->heads * s->dim, pad = s->flag & STRIDES ? 5 : 0;
    label(text, sizeof text, s);
    *a = (op_attention){
        .batch = s->batch, .heads = s->heads, .nq = s->nq, .nk = s->nk, .head_dim = s->dim, .scale = s->scale, .block = s->block};
    a->cs_per_batch = (s->flag & ROPE_EACH) != 0;
    if (s->flag & PACKED) a->ldq = a->ldk = a->ldv = 3 * d;
    if (s->flag & STRIDES) a->ldq = d + pad, a->ldk = d + 2 * pad, a->ldv = d + 3 * pad, a->ldo = d + 4 * pad;
    job j = job_of(c, "attention", call_attention, a, "%s", text);
    j.flag = s->flag;
    j.flops = 4.0 * (double)(s->batch * s->heads * s->nq * s->nk * s->dim) * (s->block ? 0.5 : 1);
    inputs(c, &j, s);
    bounds b = bounds_of(c, s);
    array *o = job_array(c, &j, OUT, "o", stored(s), s->batch * s->nq, d, d + 4 * pad);
    /* Σ p v: each term is off by p's relative error, and the sum by 0.4·√nk more; the spread of the sum is o's own.
     * An output that one term dominates is off by that term's relative error, four spreads of it. Normalised, stored: 3. */
    o->rms = TAIL * (b.p + 0.4 * sqrt((double)s->nk)) * ULP;
    o->heads = (int)s->heads;
    o->rel = (4 * b.p + 3) * ULP;
    if (s->flag & HALF) bound_bf16(o);
    if (s->flag & LSE) {
        array *lse = job_array(c, &j, OUT, "lse", T_F32, s->nq ? s->batch * s->heads : 0, s->nq, 0);
        lse->abs = (TAIL * b.p + 0.4 * sqrt((double)s->nk)) * ULP; /* relative error of Σ p, at most that of its largest term */
        lse->rel = 2 * ULP;
    }
    return j;
}

static job backward_job(ctx *c, op_attention_bwd *a, const shape *s) {
    char text[160];
    int64_t d = s->heads * s->dim, pad = s->flag & STRIDES ? 5 : 0;
    label(text, sizeof text, s);
    *a = (op_attention_bwd){
        .batch = s->batch, .heads = s->heads, .nq = s->nq, .nk = s->nk, .head_dim = s->dim, .scale = s->scale, .block = s->block};
    a->cs_per_batch = (s->flag & ROPE_EACH) != 0;
    if (s->flag & PACKED) a->ldq = a->ldk = a->ldv = a->lddq = a->lddk = a->lddv = 3 * d;
    if (s->flag & STRIDES) {
        a->ldq = d + pad, a->ldk = d + 2 * pad, a->ldv = d + 3 * pad, a->ldo = d + 4 * pad, a->lddo = d + 1;
        a->lddq = d + 2, a->lddk = d + 3, a->lddv = d + 4;
    }
    job j = job_of(c, "attention_bwd", call_attention_bwd, a, "%s", text);
    j.flag = s->flag;
    j.flops = 10.0 * (double)(s->batch * s->heads * s->nq * s->nk * s->dim) * (s->block ? 0.5 : 1);
    inputs(c, &j, s);
    job_array(c, &j, IN, "o", stored(s), s->batch * s->nq, d, a->ldo);
    array *lse = job_array(c, &j, IN, "lse", T_F32, s->nq ? s->batch * s->heads : 0, s->nq, 0);
    job_array(c, &j, IN, "dout", stored(s), s->batch * s->nq, d, a->lddo);
    /* o and lse: what forward left */
    op_attention f = {.batch = s->batch,
                      .heads = s->heads,
                      .nq = s->nq,
                      .nk = s->nk,
                      .head_dim = s->dim,
                      .scale = s->scale,
                      .block = s->block,
                      .ldq = a->ldq,
                      .ldk = a->ldk,
                      .ldv = a->ldv,
                      .ldo = a->ldo,
                      .cs_per_batch = a->cs_per_batch};
    job g = j;
    void *p[16];
    for (int i = 0; i < g.n; i++) p[i] = g.a[i].init;
    g.arg = &f;
    if (call_attention(dev_ops(c->ref), c->ref_q, &g, p) < 0) say(c, &j, "ref forward failed");
    bounds b = bounds_of(c, s);
    /* Terms of dq: p·scale·(do·v - do·o)·k. p is off as in forward and by the rounding of the stored lse; the bracket by two sums over dim,
     * whatever its own size (it cancels where one key has all the weight); ten spreads: three of the error times three of a lone key. √Σp²
     * over a row: 1 if sharp, else below 2/√keys; over a column √nq if all rows share a key, else 2·√nq/nk, 3/√block with blocks.
     * Rounding ds to bf16 is as the bracket's error: it does not cancel where the sum does. */
    double nq = (double)s->nq, nk = (double)s->nk, dim = (double)s->dim, keys = s->block ? fmin(nk, (double)s->block) : nk;
    int sharp = s->flag & LARGE || b.scale * sqrt(dim) > 1.01;
    double row = sharp ? 1 : fmin(1, 2 / sqrt(keys)), col = sharp ? sqrt(nq) : s->block ? 3 / sqrt(keys) : 2 * sqrt(nq) / nk;
    double bracket = 10 * b.scale * (0.4 * dim + 2 * sqrt(dim)) * b.in * b.in * ULP;
    if (pairs(c, s)) bracket += 10 * b.scale * sqrt(dim / 3) * b.in * b.in * ULP16;
    double prob = b.p + 0.6 * largest(lse) + 3;
    array grad[3] = {{.abs = bracket * row, .rms = TAIL * (prob + 0.4 * sqrt(nk)) * ULP},
                     {.abs = bracket * col, .rms = TAIL * (prob + 0.4 * sqrt(nq)) * ULP},
                     {.abs = 0, .rms = TAIL * (prob + 0.4 * sqrt(nq)) * ULP}};
    static const char *const NAMES[] = {"dq", "dk", "dv"};
    const int64_t lds[] = {a->lddq, a->lddk, a->lddv};
    for (int i = 0; i < (s->flag & PACKED ? 1 : 3); i++) {
        array *g_i = s->flag & PACKED ? job_array(c, &j, OUT, "dqkv", stored(s), s->batch * s->nq, 3 * d, 0)
                                      : job_array(c, &j, OUT, NAMES[i], stored(s), s->batch * (i ? s->nk : s->nq), d, lds[i]);
        g_i->parts = s->flag & PACKED ? 3 : 1;
        g_i->heads = (int)s->heads;
        g_i->abs = s->flag & PACKED ? fmax(grad[0].abs, grad[1].abs) : grad[i].abs;
        g_i->rms = s->flag & PACKED ? fmax(grad[0].rms, grad[1].rms) : grad[i].rms;
        g_i->rel = (4 * prob + 3) * ULP; /* where one term dominates */
        if (rope(s)) { /* turning q, k, and dq, dk back: 2 ULP of a pair's size each, of which dq, dk may be the smaller one */
            g_i->rel += 2 * ULP;
            g_i->rms += TAIL * 4 * ULP;
        }
        if (s->flag & HALF) bound_bf16(g_i);
    }
    return j;
}

static const shape SHAPES[] = {
    /* one of everything */
    {1, 1, 1, 1, 1, 0, LSE, 0},
    {1, 1, 1, 1, 64, 0, 0, 0},
    {1, 2, 1, 33, 32, 0, LSE, 0},
    {2, 1, 33, 1, 7, 0, LSE, 0},
    /* head sizes, tuned and not */
    {1, 2, 31, 31, 1, 0, LSE, 0},
    {1, 2, 32, 32, 2, 0, LSE, 0},
    {2, 3, 33, 33, 7, 0, LSE | PACKED, 0},
    {1, 2, 37, 37, 10, 0, LSE | PACKED, 0},
    {1, 3, 31, 31, 14, 0, LSE | PACKED, 0},
    {1, 2, 33, 33, 16, 0, LSE | STRIDES, 0},
    {2, 2, 32, 32, 24, 0, LSE | PACKED, 0},
    {1, 3, 31, 31, 28, 0, LSE | PACKED, 0},
    {2, 3, 33, 33, 32, 0, LSE | PACKED, 0},
    {1, 2, 61, 61, 63, 0, LSE, 0},
    {1, 3, 65, 65, 64, 0, LSE | PACKED, 0},
    {1, 2, 31, 31, 65, 0, LSE, 0},
    {1, 2, 33, 33, 80, 0, LSE | PACKED, 0},
    {1, 2, 32, 32, 88, 0, LSE | PACKED, 0},
    {1, 1, 47, 47, 127, 0, LSE, 0},
    {1, 2, 33, 33, 128, 0, LSE | PACKED, 0},
    /* lengths */
    {1, 2, 63, 63, 32, 0, LSE | PACKED, 0},
    {1, 2, 64, 64, 64, 0, LSE | PACKED, 0},
    {1, 2, 127, 127, 32, 0, LSE, 0},
    {1, 2, 129, 129, 64, 0, 0, 0},
    {1, 2, 197, 197, 64, 0, LSE | PACKED, 0},
    {1, 3, 250, 250, 32, 0, LSE | PACKED, 0},
    /* cross */
    {2, 2, 1, 197, 64, 0, LSE | STRIDES, 0},
    {1, 2, 31, 65, 32, 0, LSE, 0},
    {1, 2, 131, 17, 24, 0, LSE | STRIDES, 0},
    {0, 2, 5, 5, 8, 0, LSE, 0},
    /* block-causal: blocks of 1, within tiles, across tiles, a last short one, one that holds all */
    {1, 2, 33, 33, 32, 1, LSE | PACKED, 0},
    {2, 2, 40, 40, 24, 10, LSE | PACKED, 0},
    {1, 2, 67, 67, 64, 32, LSE | STRIDES, 0},
    {1, 2, 135, 135, 32, 45, LSE | PACKED, 0},
    {1, 1, 250, 250, 64, 66, LSE, 0},
    {1, 2, 31, 31, 7, 1000, LSE, 0},
    {1, 1, 1, 1, 16, 1, LSE, 0},
    /* scores of several hundred; equal ones; other scales */
    {1, 2, 65, 65, 64, 0, LSE | LARGE, 0},
    {1, 2, 33, 33, 80, 0, LARGE | PACKED, 0},
    {1, 2, 48, 48, 32, 16, LSE | LARGE, 0},
    {1, 2, 40, 77, 32, 0, LSE | TIES, 0},
    {1, 2, 33, 33, 24, 0, LSE | PACKED, 0.25},
    {1, 2, 33, 33, 24, 0, LSE, -0.1},
    /* turned as they are read: a table for all, one for each; pairs, an odd channel, blocks, strides, large scores */
    {2, 3, 33, 33, 32, 0, LSE | PACKED | ROPE, 0},
    {2, 2, 65, 65, 64, 0, LSE | PACKED | ROPE_EACH, 0},
    {1, 2, 130, 130, 80, 0, LSE | PACKED | ROPE, 0},
    {2, 2, 31, 31, 24, 10, LSE | STRIDES | ROPE_EACH, 0},
    {2, 2, 19, 19, 7, 0, LSE | ROPE_EACH, 0},
    {1, 2, 18, 18, 1, 0, LSE | ROPE, 0},
    {1, 2, 35, 35, 9, 0, LSE | STRIDES | ROPE, 0},
    {1, 2, 33, 33, 127, 0, LSE | PACKED | ROPE, 0},
    {1, 2, 33, 33, 64, 0, LSE | LARGE | ROPE, 0},
    {1, 1, 1, 1, 2, 0, LSE | ROPE, 0},
    {1, 2, 28, 28, 32, 0, PACKED | ROPE, 0.3},
    {0, 2, 5, 5, 8, 0, LSE | ROPE_EACH, 0},
    /* bf16 */
    {1, 1, 1, 1, 1, 0, LSE | HALF, 0},
    {2, 3, 33, 33, 32, 0, LSE | PACKED | HALF, 0},
    {1, 2, 131, 131, 64, 0, LSE | PACKED | HALF, 0},
    {1, 2, 37, 37, 80, 0, PACKED | HALF, 0},
    {1, 2, 31, 31, 65, 0, LSE | STRIDES | HALF, 0},
    {2, 1, 33, 17, 7, 0, LSE | STRIDES | HALF, 0},
    {1, 2, 67, 67, 64, 32, LSE | STRIDES | HALF, 0},
    {1, 2, 48, 48, 32, 0, LSE | LARGE | HALF, 0},
    {1, 2, 40, 77, 32, 0, LSE | TIES | HALF, 0},
    {0, 2, 5, 5, 8, 0, LSE | HALF, 0},
    {1, 1, 63, 63, 127, 0, LSE | HALF, 0},
    {1, 1, 50, 50, 128, 0, LSE | HALF, 0},
    {1, 2, 49, 49, 32, 7, LSE | PACKED | HALF, 0}, /* blocks that cut pairs */
    {2, 1, 51, 51, 64, 2, LSE | PACKED | HALF, 0},
    /* both */
    {2, 3, 33, 33, 32, 0, LSE | PACKED | ROPE | HALF, 0},
    {2, 2, 66, 66, 64, 0, LSE | PACKED | ROPE_EACH | HALF, 0},
    {1, 2, 40, 40, 80, 10, LSE | PACKED | ROPE | HALF, 0},
    {2, 2, 19, 19, 7, 0, LSE | STRIDES | ROPE_EACH | HALF, 0},
    {1, 2, 33, 33, 64, 0, LSE | LARGE | ROPE | HALF, 0},
};
/* ViT-S/L at 16 frames of 224; a predictor's union (head size 32) */
static const shape BIG[] = {{1, 1, 1568, 1568, 64, 0, LSE | PACKED, 0}, {1, 1, 1568, 1568, 32, 0, LSE | PACKED, 0},
                            {1, 2, 700, 700, 64, 0, LSE | PACKED | ROPE | HALF, 0}};

typedef struct refusal {
    size_t field;
    int64_t value;
    int rc;
    const char *why;
} refusal;
#define SHARED_REFUSALS(type)                                                                                                              \
    {offsetof(type, batch), -1, JEPA_E_USE, "batch -1"}, {offsetof(type, batch), INT64_MAX, JEPA_E_USE, "batch 2^63-1"},                   \
        {offsetof(type, heads), 0, JEPA_E_USE, "heads 0"}, {offsetof(type, heads), INT64_MAX, JEPA_E_USE, "heads 2^63-1"},                 \
        {offsetof(type, nq), -1, JEPA_E_USE, "nq -1"}, {offsetof(type, nk), 0, JEPA_E_USE, "nk 0"},                                        \
        {offsetof(type, head_dim), 0, JEPA_E_USE, "head_dim 0"}, {offsetof(type, head_dim), -8, JEPA_E_USE, "head_dim -8"},                \
        {offsetof(type, head_dim), 129, JEPA_E_UNSUPPORTED, "head_dim 129"}, {offsetof(type, block), -1, JEPA_E_USE, "block -1"},          \
        {offsetof(type, ldq), 15, JEPA_E_USE, "ldq < heads·head_dim"}, {offsetof(type, ldk), -16, JEPA_E_USE, "ldk < 0"},                  \
        {offsetof(type, ldv), 1, JEPA_E_USE, "ldv < heads·head_dim"}, {                                                                    \
        offsetof(type, ldo), INT64_MAX, JEPA_E_USE, "ldo 2^63-1"                                                                           \
    }

/* A call whose pointers are not all of one form, and a table where queries are not the keys. The arrays are read by nobody. */
typedef struct form {
    op_attention f;
    op_attention_bwd b;
    int backward;
} form;

static int call_form(const ops *o, queue *q, const job *j, void **p) {
    const form *f = j->arg;
    return f->backward ? o->attention_bwd(q, &f->b) : o->attention(q, &f->f);
}

static void refuse_form(ctx *c, const form *f, int rc, const char *why) {
    job j = job_of(c, f->backward ? "attention_bwd" : "attention", call_form, f, "forms");
    job_refuse(c, &j, NULL, rc, why);
    job_close(&j);
}

static void refuse_forms(ctx *c, int backward) {
    float x[64] = {0};
    uint16_t h[64] = {0};
    const form full = {.f = {.batch = 1, .heads = 1, .nq = 4, .nk = 4, .head_dim = 2, .q = x, .k = x, .v = x, .o = x},
                       .b = {.batch = 1, .heads = 1, .nq = 4, .nk = 4, .head_dim = 2, .q = x, .k = x, .v = x, .o = x, .dout = x, .lse = x,
                             .dq = x, .dk = x, .dv = x},
                       .backward = backward};
    const form half = {.f = {.batch = 1, .heads = 1, .nq = 4, .nk = 4, .head_dim = 2, .q16 = h, .k16 = h, .v16 = h, .o16 = h},
                       .b = {.batch = 1, .heads = 1, .nq = 4, .nk = 4, .head_dim = 2, .q16 = h, .k16 = h, .v16 = h, .o16 = h, .dout16 = h,
                             .lse = x, .dq16 = h, .dk16 = h, .dv16 = h},
                       .backward = backward};
#define REFUSE(from, change, rc, why)                                                                                                      \
    do {                                                                                                                                   \
        form bad = from;                                                                                                                   \
        change;                                                                                                                            \
        refuse_form(c, &bad, rc, why);                                                                                                     \
    } while (0)
#define SWAP(x_, from, to, to_value) bad.f.x_##from = NULL, bad.b.x_##from = NULL, bad.f.x_##to = to_value, bad.b.x_##to = to_value
    REFUSE(full, (SWAP(q, , 16, h)), JEPA_E_USE, "q in bf16, the rest in float32");
    REFUSE(full, (SWAP(o, , 16, h)), JEPA_E_USE, "o in bf16, the rest in float32");
    REFUSE(half, (SWAP(k, 16, , x)), JEPA_E_USE, "k in float32, the rest in bf16");
    REFUSE(half, (SWAP(v, 16, , x)), JEPA_E_USE, "v in float32, the rest in bf16");
    REFUSE(full, (bad.f.k16 = bad.b.k16 = h), JEPA_E_USE, "k in both forms");
    REFUSE(half, (bad.f.v16 = NULL, bad.b.v16 = NULL), JEPA_E_USE, "v16 is NULL");
    REFUSE(half, (bad.f.type = bad.b.type = T_F16), JEPA_E_UNSUPPORTED, "f16");
    REFUSE(half, (bad.f.type = bad.b.type = T_F32), JEPA_E_UNSUPPORTED, "16-bit pointers that hold float32");
    REFUSE(full, (bad.f.cs = bad.b.cs = x, bad.f.nq = bad.b.nq = 3), JEPA_E_USE, "a table with nq != nk");
    REFUSE(half, (bad.f.cs = bad.b.cs = x, bad.f.nk = bad.b.nk = 5), JEPA_E_USE, "a table with nk != nq, bf16");
    if (!backward) return;
    REFUSE(full, (bad.b.dout = NULL, bad.b.dout16 = h), JEPA_E_USE, "dout in bf16, the rest in float32");
    REFUSE(full, (bad.b.dq = NULL, bad.b.dq16 = h), JEPA_E_USE, "dq in bf16, the rest in float32");
    REFUSE(full, (bad.b.dk = NULL, bad.b.dk16 = h), JEPA_E_USE, "dk in bf16, the rest in float32");
    REFUSE(half, (bad.b.dv16 = NULL, bad.b.dv = x), JEPA_E_USE, "dv in float32, the rest in bf16");
    REFUSE(half, (bad.b.dout16 = NULL), JEPA_E_USE, "dout16 is NULL");
    REFUSE(half, (bad.b.dk16 = NULL), JEPA_E_USE, "dk16 is NULL");
    REFUSE(half, (bad.b.lse = NULL), JEPA_E_USE, "lse is NULL, bf16");
#undef SWAP
#undef REFUSE
}

static void forward_refusals(ctx *c) {
    static const refusal R[] = {SHARED_REFUSALS(op_attention)};
    op_attention good, bad;
    const shape s = {2, 2, 5, 5, 8, 0, LSE, 0}, cross = {1, 2, 4, 6, 8, 0, LSE, 0};
    job j = forward_job(c, &good, &s);
    static const char *const NEEDED[] = {"q", "k", "v", "o"};
    for (int i = 0; i < COUNT(NEEDED); i++) job_refuse_null(c, &j, NEEDED[i]);
    for (int i = 0; i < COUNT(R); i++) {
        bad = good;
        memcpy((char *)&bad + R[i].field, &R[i].value, sizeof R[i].value);
        job_refuse(c, &j, &bad, R[i].rc, R[i].why);
    }
    bad = good;
    bad.scale = NAN;
    job_refuse(c, &j, &bad, JEPA_E_USE, "scale NaN");
    bad = good;
    bad.type = T_F16;
    job_refuse(c, &j, &bad, JEPA_E_UNSUPPORTED, "f16");
    job_close(&j);
    j = forward_job(c, &good, &cross);
    bad = good;
    bad.block = 2;
    job_refuse(c, &j, &bad, JEPA_E_USE, "block-causal with nq != nk");
    job_close(&j);
    refuse_forms(c, 0);
}

static void backward_refusals(ctx *c) {
    static const refusal R[] = {SHARED_REFUSALS(op_attention_bwd),
                                {offsetof(op_attention_bwd, lddo), 3, JEPA_E_USE, "lddo < heads·head_dim"},
                                {offsetof(op_attention_bwd, lddq), 3, JEPA_E_USE, "lddq < heads·head_dim"},
                                {offsetof(op_attention_bwd, lddk), -3, JEPA_E_USE, "lddk < 0"},
                                {offsetof(op_attention_bwd, lddv), 15, JEPA_E_USE, "lddv < heads·head_dim"}};
    op_attention_bwd good, bad;
    const shape s = {2, 2, 5, 5, 8, 0, LSE, 0};
    job j = backward_job(c, &good, &s);
    static const char *const NEEDED[] = {"q", "k", "v", "o", "dout", "lse", "dq", "dk", "dv"};
    for (int i = 0; i < COUNT(NEEDED); i++) job_refuse_null(c, &j, NEEDED[i]);
    for (int i = 0; i < COUNT(R); i++) {
        bad = good;
        memcpy((char *)&bad + R[i].field, &R[i].value, sizeof R[i].value);
        job_refuse(c, &j, &bad, R[i].rc, R[i].why);
    }
    bad = good;
    bad.scale = INFINITY;
    job_refuse(c, &j, &bad, JEPA_E_USE, "scale infinite");
    bad = good;
    bad.type = T_F16;
    job_refuse(c, &j, &bad, JEPA_E_UNSUPPORTED, "f16");
    job_close(&j);
    refuse_forms(c, 1);
}

void family_attention(ctx *c) {
    if (op_begin(c, "attention")) {
        op_attention a;
        for (int i = 0; i < COUNT(SHAPES); i++) {
            job j = forward_job(c, &a, &SHAPES[i]);
            job_run(c, &j);
            if (SHAPES[i].batch && SHAPES[i].nk < 140) job_nan(c, &j);
            job_close(&j);
        }
        for (int i = 0; i < COUNT(BIG); i++) {
            job j = forward_job(c, &a, &BIG[i]);
            job_run(c, &j);
            job_close(&j);
        }
        for (int half = 0; half < 2; half++) {
            const shape none = {2, 2, 0, 9, 8, 0, LSE | (half ? HALF : 0), 0};
            job j = forward_job(c, &a, &none);
            job_run(c, &j);
            job_close(&j);
        }
        forward_refusals(c);
        op_end(c);
    }
    if (op_begin(c, "attention_bwd")) {
        op_attention_bwd a;
        for (int i = 0; i < COUNT(SHAPES); i++) {
            job j = backward_job(c, &a, &SHAPES[i]);
            job_run(c, &j);
            if (SHAPES[i].batch && SHAPES[i].nk < 70) job_nan(c, &j);
            job_close(&j);
        }
        for (int i = 0; i < COUNT(BIG); i++) {
            job j = backward_job(c, &a, &BIG[i]);
            job_run(c, &j);
            job_close(&j);
        }
        backward_refusals(c);
        op_end(c);
    }
}
