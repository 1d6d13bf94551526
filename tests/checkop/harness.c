/* harness.c: arrays between guard bands, comparison, NaN and refusal checks, timing. */
#include <fnmatch.h>
#include <stdlib.h>
#include <time.h>
#include "tests/checkop/checkop.h"

enum { GUARD = 256 };

static uint32_t hash_of(const char *s) {
    uint32_t h = 2166136261u;
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 16777619u;
    return h;
}

int op_begin(ctx *c, const char *op) {
    if (fnmatch(c->glob, op, 0)) return 0;
    c->op = op;
    c->cases = c->failed_here = 0;
    c->worst = 0;
    c->worst_shape[0] = 0;
    c->ops_seen++;
    return 1;
}

void op_end(ctx *c) {
    printf("%-4s %-17s %4d runs, worst %.2f of its bound%s%s%s\n", c->failed_here ? "FAIL" : "ok", c->op, c->cases, c->worst,
           c->worst_shape[0] ? " (" : "", c->worst_shape, c->worst_shape[0] ? ")" : "");
    fflush(stdout);
}

void say(ctx *c, const job *j, const char *fmt, ...) {
    va_list ap;
    c->failures++;
    if (++c->failed_here > 20) return; /* one broken op need not bury the others */
    printf("     %s [%s]: ", j->op, j->shape);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("  (--seed %llu)\n", (unsigned long long)c->seed);
}

static void *need(void *p) {
    if (p) return p;
    fprintf(stderr, "checkop: out of memory\n");
    exit(2);
}

/* ---- jobs and arrays ---- */

job job_of(ctx *c, const char *op, job_call call, const void *arg, const char *fmt, ...) {
    job j = {.op = op, .call = call, .arg = arg};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(j.shape, sizeof j.shape, fmt, ap);
    va_end(ap);
    c->r = rng_key(c->seed, hash_of(op), hash_of(j.shape), RNG_TEST);
    j.shift = rng_u32(&c->r) & 1 ? (int)rng_below(&c->r, 16) : 0; /* half of the jobs lie on a cache line, half anywhere */
    return j;
}

int64_t array_span(const array *a) { return a->rows ? (a->rows - 1) * a->ld + a->width : 0; }

static size_t array_bytes(const array *a) { return (size_t)array_span(a) * dtype_size(a->type); }

array *job_array(ctx *c, job *j, role r, const char *name, dtype type, int64_t rows, int64_t width, int64_t ld) {
    array *a = &j->a[j->n++];
    *a = (array){.name = name, .role = r, .type = type, .rows = rows, .width = width, .ld = ld ? ld : width, .parts = 1, .heads = 1};
    size_t bytes = array_bytes(a);
    a->init = need(malloc(bytes + 1));
    memset(a->init, 0xff, bytes);
    if (r != OUT) {
        if (type == T_F32 || type == T_BF16)
            fill_normal(c, a, 0, 1);
        else
            for (int64_t i = 0; i < rows; i++)
                memset(a->init + (size_t)(i * a->ld) * dtype_size(type), 0, (size_t)width * dtype_size(type));
    }
    return a;
}

array *job_find(const job *j, const char *name) {
    for (int i = 0; i < j->n; i++)
        if (!strcmp(j->a[i].name, name)) return (array *)&j->a[i];
    return NULL;
}

float *row_of(array *a, int64_t i) { return (float *)a->init + i * a->ld; }

static double value(const void *p, dtype t, size_t i) {
    return t == T_F64 ? ((const double *)p)[i] : t == T_BF16 ? (double)bf16_to_f32(((const uint16_t *)p)[i]) : (double)((const float *)p)[i];
}

double get(const array *a, int64_t row, int64_t k) { return value(a->init, a->type, (size_t)(row * a->ld + k)); }

void put(array *a, int64_t row, int64_t k, double v) {
    if (a->type == T_BF16)
        ((uint16_t *)a->init)[row * a->ld + k] = f32_to_bf16((float)v);
    else
        row_of(a, row)[k] = (float)v;
}

void *at(const job *j, void **place, const char *name) {
    if (j->null && !strcmp(j->null, name)) return NULL;
    const array *a = job_find(j, name);
    return a ? place[a - j->a] : NULL;
}

/* Logarithms and cosines would take most of checkop's time (in an emulator nearly all): each row is a piece of one list of normal
 * numbers, from a place of its own on. */
void fill_normal(ctx *c, array *a, double mean, double sd) {
    enum { LIST = 65521 };
    if (!c->normal) {
        rng r = rng_key(c->seed, 0, 0, RNG_TEST);
        c->normal = need(malloc(LIST * sizeof *c->normal));
        for (int i = 0; i < LIST; i++) c->normal[i] = rng_normal(&r);
    }
    for (int64_t i = 0; i < a->rows; i++) {
        uint32_t from = rng_below(&c->r, LIST);
        for (int64_t k = 0; k < a->width; k++) put(a, i, k, mean + sd * c->normal[(from + (uint64_t)k) % LIST]);
    }
}

void fill_uniform(ctx *c, array *a, double low, double high) {
    for (int64_t i = 0; i < a->rows; i++)
        for (int64_t k = 0; k < a->width; k++) put(a, i, k, rng_uniform(&c->r, low, high));
}

double largest(const array *a) {
    double m = 0;
    for (int64_t i = 0; i < a->rows; i++)
        for (int64_t k = 0; k < a->width; k++) m = fmax(m, fabs(get(a, i, k)));
    return m;
}

void bound_bf16(array *a) {
    a->rel += 2 * ULP16;
    a->abs += 0x1p-133;
}

void bound_sum(array *a, double k, double sigma) {
    a->abs += 2.4 * k * ULP * sigma;
    a->rel += (2 + 3.3 * sqrt(k)) * ULP;
}

void job_close(job *j) {
    for (int i = 0; i < j->n; i++) free(j->a[i].init);
    j->n = 0;
}

/* ---- one run in fresh memory ---- */

typedef struct run {
    unsigned char *block[16];
    void *p[16];
    int rc;
} run;

static void place(const job *j, run *r) {
    for (int i = 0; i < j->n; i++) {
        const array *a = &j->a[i];
        size_t bytes = array_bytes(a), size = dtype_size(a->type), all = (2 * GUARD + 64 + bytes + 63 + 16 * size) / 64 * 64;
        r->block[i] = need(aligned_alloc(64, all));
        memset(r->block[i], 0xff, all);
        r->p[i] = r->block[i] + GUARD + (size_t)j->shift * size;
        memcpy(r->p[i], a->init, bytes);
    }
}

static void unplace(const job *j, run *r) {
    for (int i = 0; i < j->n; i++) free(r->block[i]);
}

static run go(const job *j, dev *d, queue *q) {
    run r;
    place(j, &r);
    r.rc = j->call(dev_ops(d), q, j, r.p);
    return r;
}

static int all_ff(const unsigned char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0xff) return 0;
    return 1;
}

/* Guards, row gaps and inputs. */
static int whole(ctx *c, const job *j, const run *r, const char *who) {
    for (int i = 0; i < j->n; i++) {
        const array *a = &j->a[i];
        size_t size = dtype_size(a->type), bytes = array_bytes(a);
        const unsigned char *p = r->p[i];
        if (!all_ff(r->block[i], (size_t)(p - r->block[i]))) {
            say(c, j, "%s wrote before the start of %s", who, a->name);
            return 0;
        }
        if (!all_ff(p + bytes, GUARD)) {
            say(c, j, "%s wrote past the end of %s", who, a->name);
            return 0;
        }
        for (int64_t k = 0; k + 1 < a->rows && a->ld > a->width; k++)
            if (!all_ff(p + (size_t)(k * a->ld + a->width) * size, (size_t)(a->ld - a->width) * size)) {
                say(c, j, "%s wrote between rows %lld and %lld of %s", who, (long long)k, (long long)k + 1, a->name);
                return 0;
            }
        if (a->role == IN && memcmp(p, a->init, bytes)) {
            say(c, j, "%s changed its input %s", who, a->name);
            return 0;
        }
    }
    return 1;
}

/* Sum of squares of the finite values among elements from … to of a row, and how many there are. */
static double squares(const array *a, const void *p, int64_t row, int64_t from, int64_t to, int64_t *n) {
    double sum = 0;
    for (int64_t k = from; k < to; k++) {
        double x = value(p, a->type, (size_t)(row * a->ld + k));
        if (!isfinite(x)) continue;
        sum += x * x;
        ++*n;
    }
    return sum;
}

/* Mean square of each part of the array. */
static void part_squares(const array *a, const void *p, double mean[3]) {
    int64_t part = a->width / a->parts;
    for (int i = 0; i < a->parts; i++) {
        int64_t n = 0;
        mean[i] = 0;
        for (int64_t row = 0; row < a->rows; row++) mean[i] += squares(a, p, row, i * part, (i + 1) * part, &n);
        if (n) mean[i] /= (double)n;
    }
}

/* The same of the piece of one head that element k of a row lies in, or its part's where that is larger; the root of it. */
static double rms_around(const array *a, const void *p, const double mean[3], int64_t row, int64_t k) {
    int64_t part = a->width / a->parts, piece = part / a->heads, n = 0, from = k / piece * piece;
    double here = squares(a, p, row, from, from + piece, &n);
    return sqrt(fmax(mean[k / part], n ? here / (double)n : 0));
}

static int compare(ctx *c, const job *j, const run *want, const run *have, const char *who) {
    for (int i = 0; i < j->n; i++) {
        const array *a = &j->a[i];
        size_t size = dtype_size(a->type);
        if (a->role == IN) continue;
        if (a->rounds) continue; /* rounded() */
        if (a->type != T_F32 && a->type != T_F64 && a->type != T_BF16) { /* bytes: zero's */
            if (!memcmp(want->p[i], have->p[i], array_bytes(a))) continue;
            say(c, j, "%s: %s differs", who, a->name);
            return 0;
        }
        double mean[3], rms = 0;
        if (a->rms > 0) part_squares(a, want->p[i], mean);
        for (int64_t row = 0; row < a->rows; row++)
            for (int64_t k = 0; k < a->width; k++) {
                if (a->rms > 0 && k % (a->width / a->parts / a->heads) == 0) rms = rms_around(a, want->p[i], mean, row, k);
                size_t e = (size_t)(row * a->ld + k);
                const unsigned char *w = (const unsigned char *)want->p[i] + e * size, *h = (const unsigned char *)have->p[i] + e * size;
                double x = value(want->p[i], a->type, e), y = value(have->p[i], a->type, e);
                if (!memcmp(w, h, size)) continue;
                if (a->role == OUT && !memcmp(w, a->init + e * size, size)) {
                    say(c, j, "%s wrote %s[%lld,%lld] = %g, which is to stay as it was", who, a->name, (long long)row, (long long)k, y);
                    return 0;
                }
                if (isnan(x) && isnan(y)) continue;
                double bound = a->abs + a->rel * fabs(x) + a->rms * rms, error = fabs(x - y);
                if (bound > 0 && error / bound > c->array_worst[i]) c->array_worst[i] = error / bound;
                if (bound > 0 && error / bound > c->worst) {
                    c->worst = error / bound;
                    snprintf(c->worst_shape, sizeof c->worst_shape, "%s: %.120s", a->name, j->shape);
                }
                if (!(error <= bound)) { /* also: a NaN or an infinity on one side only */
                    say(c, j, "%s: %s[%lld,%lld] = %.9g, ref %.9g: error %.3g, bound %.3g", who, a->name, (long long)row, (long long)k, y,
                        x, error, bound);
                    return 0;
                }
            }
    }
    return 1;
}

/* The arrays that are another one's values as bf16, to the bit; NaN as NaN. */
static int rounded(ctx *c, const job *j, const run *r, const char *who) {
    for (int i = 0; i < j->n; i++) {
        const array *a = &j->a[i], *of = a->rounds ? job_find(j, a->rounds) : NULL;
        if (!of || (j->null && (!strcmp(j->null, a->name) || !strcmp(j->null, a->rounds)))) continue;
        const float *full = r->p[of - j->a];
        const uint16_t *half = r->p[i];
        for (int64_t row = 0; row < a->rows; row++)
            for (int64_t k = 0; k < a->width; k++) {
                float x = full[row * of->ld + k];
                uint16_t y = half[row * a->ld + k];
                if (y == f32_to_bf16(x) || (isnan(x) && isnan(bf16_to_f32(y)))) continue;
                say(c, j, "%s: %s[%lld,%lld] = %.9g, but %s there is %.9g", who, a->name, (long long)row, (long long)k, bf16_to_f32(y),
                    a->rounds, x);
                return 0;
            }
    }
    return 1;
}

static int same_bits(ctx *c, const job *j, const run *one, const run *two, const char *who) {
    for (int i = 0; i < j->n; i++)
        if (memcmp(one->p[i], two->p[i], array_bytes(&j->a[i]))) {
            say(c, j, "%s: %s differs between two runs", who, j->a[i].name);
            return 0;
        }
    return 1;
}

static const char *const WHO[2] = {"1 thread", "2 threads"};

static void against_ref(ctx *c, job *j, const run *want, int t, int repeat) {
    run have = go(j, c->dev[t], c->dev_q[t]);
    int ok = have.rc == want->rc;
    if (!ok) say(c, j, "%s: returned %d, ref %d", WHO[t], have.rc, want->rc);
    ok = whole(c, j, &have, WHO[t]) && ok;
    ok = ok && compare(c, j, want, &have, WHO[t]);
    ok = ok && rounded(c, j, &have, WHO[t]);
    if (ok && repeat) {
        run again = go(j, c->dev[t], c->dev_q[t]);
        same_bits(c, j, &have, &again, WHO[t]);
        unplace(j, &again);
    }
    unplace(j, &have);
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The fastest of many runs in the same memory (the inputs of += ops drift; their cost does not). */
static void bench(ctx *c, job *j, int t) {
    run r;
    double best = INFINITY, start = seconds();
    int n = 0;
    place(j, &r);
    while (n < 3 || (seconds() - start < 0.2 && n < 100000)) {
        double s = seconds();
        j->call(dev_ops(c->dev[t]), c->dev_q[t], j, r.p);
        best = fmin(best, seconds() - s);
        n++;
    }
    unplace(j, &r);
    printf("     %-17s %-64s %9s %10.4f ms", j->op, j->shape, WHO[t], best * 1e3);
    if (j->flops > 0) printf(" %8.2f GFLOP/s", j->flops / best * 1e-9);
    if (j->bytes > 0) printf(" %8.2f GB/s", j->bytes / best * 1e-9);
    printf("\n");
}

static int too_large(ctx *c, const job *j) { return c->most > 0 && j->flops > c->most; }

void job_run(ctx *c, job *j) {
    if (too_large(c, j)) {
        c->left_out++;
        return;
    }
    double before = seconds();
    memset(c->array_worst, 0, sizeof c->array_worst);
    if (c->bench) {
        for (int t = 0; t < c->teams; t++) bench(c, j, t);
        c->cases++;
        return;
    }
    run want = go(j, c->ref, c->ref_q);
    c->cases++;
    if (want.rc < 0) say(c, j, "ref returned %d", want.rc);
    if (want.rc >= 0 && whole(c, j, &want, "ref") && rounded(c, j, &want, "ref")) {
        for (int i = 0; i < j->n; i++)
            for (int64_t e = 0; j->a[i].role == INOUT && (j->a[i].type == T_F32 || j->a[i].type == T_BF16) &&
                                e < j->a[i].rows * j->a[i].width; e++)
                if (!isfinite(value(want.p[i], j->a[i].type, (size_t)(e / j->a[i].width * j->a[i].ld + e % j->a[i].width)))) {
                    say(c, j, "ref: %s is not finite", j->a[i].name);
                    e = INT64_MAX - 1;
                }
        for (int t = 0; t < c->teams; t++) against_ref(c, j, &want, t, 1);
    }
    unplace(j, &want);
    if (!c->verbose) return;
    printf("     %s [%s] %.3f s;", j->op, j->shape, seconds() - before);
    for (int i = 0; i < j->n; i++)
        if (j->a[i].role != IN) printf(" %s %.3f", j->a[i].name, c->array_worst[i]);
    printf(" of the bound\n");
}

void job_nan(ctx *c, job *j) {
    if (c->bench || too_large(c, j)) return;
    for (int i = 0; i < j->n; i++) {
        array *a = &j->a[i];
        if (a->role == OUT || (a->type != T_F32 && a->type != T_BF16) || !a->rows) continue;
        for (int n = 0; n < 4; n++) { /* first, last, and two anywhere */
            int64_t row = n == 0 ? 0 : n == 1 ? a->rows - 1 : rng_below(&c->r, (uint32_t)a->rows);
            int64_t k = n == 0 ? 0 : n == 1 ? a->width - 1 : rng_below(&c->r, (uint32_t)a->width);
            double kept = get(a, row, k);
            size_t length = strlen(j->shape);
            snprintf(j->shape + length, sizeof j->shape - length, ", NaN in %s[%lld,%lld]", a->name, (long long)row, (long long)k);
            put(a, row, k, NAN);
            run want = go(j, c->ref, c->ref_q);
            c->cases++;
            for (int t = 0; t < c->teams; t++) against_ref(c, j, &want, t, 0);
            unplace(j, &want);
            put(a, row, k, kept);
            j->shape[length] = 0;
        }
    }
}

void job_refuse(ctx *c, job *j, const void *bad, int rc, const char *why) {
    if (c->bench) return;
    const void *good = j->arg;
    if (bad) j->arg = bad;
    c->cases++;
    for (int t = -1; t < c->teams; t++) {
        const char *who = t < 0 ? "ref" : WHO[t];
        run r = go(j, t < 0 ? c->ref : c->dev[t], t < 0 ? c->ref_q : c->dev_q[t]);
        if (r.rc != rc) say(c, j, "%s: %s: returned %d, not %d", who, why, r.rc, rc);
        whole(c, j, &r, who);
        for (int i = 0; i < j->n; i++)
            if (memcmp(r.p[i], j->a[i].init, array_bytes(&j->a[i])))
                say(c, j, "%s: %s: refused, but %s has changed", who, why, j->a[i].name);
        unplace(j, &r);
    }
    j->arg = good;
}

void job_refuse_null(ctx *c, job *j, const char *name) {
    char why[64];
    snprintf(why, sizeof why, "%s is NULL", name);
    j->null = name;
    job_refuse(c, j, NULL, JEPA_E_USE, why);
    j->null = NULL;
}
