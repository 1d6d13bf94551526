/* rows.c: gather_rows, scatter_add_rows, copy_rows, broadcast_row, sum_rows. */
#include "tests/checkop/checkop.h"

typedef int (*rows_fn)(queue *, const op_rows *);

static int call_rows(const ops *o, queue *q, const job *j, void **p) {
    op_rows a = *(const op_rows *)j->arg;
    a.src = at(j, p, "src");
    a.dst = at(j, p, "dst");
    a.index = at(j, p, "index");
    const struct {
        const char *op;
        rows_fn fn;
    } FNS[] = {{"gather_rows", o->gather_rows},
               {"scatter_add_rows", o->scatter_add_rows},
               {"copy_rows", o->copy_rows},
               {"broadcast_row", o->broadcast_row},
               {"sum_rows", o->sum_rows}};
    for (int i = 0; i < COUNT(FNS); i++)
        if (!strcmp(FNS[i].op, j->op)) return FNS[i].fn(q, &a);
    return JEPA_E_MODEL;
}

static int32_t *index_array(ctx *c, job *j, int64_t batch, int64_t n, int64_t below, int repeats) {
    array *a = job_array(c, j, IN, "index", T_I32, batch, n, 0);
    int32_t *index = (int32_t *)a->init;
    uint32_t order[4096];
    for (int64_t b = 0; b < batch; b++) {
        if (!repeats) rng_permute(&c->r, order, (uint32_t)below);
        for (int64_t i = 0; i < n; i++) index[b * n + i] = repeats ? (int32_t)rng_below(&c->r, (uint32_t)below) : (int32_t)order[i];
    }
    return index;
}

static job gather_job(ctx *c, op_rows *a, const char *op, int64_t batch, int64_t n_src, int64_t n_dst, int64_t d, int64_t gap,
                      int repeats) {
    int scatter = op[0] == 's';
    *a = (op_rows){.batch = batch, .n_src = n_src, .n_dst = n_dst, .d = d};
    if (gap) a->lds = d + gap, a->ldd = d + 2 * gap;
    job j = job_of(c, op, call_rows, a, "b%lld %lld->%lld d %lld gap %lld%s", (long long)batch, (long long)n_src, (long long)n_dst,
                   (long long)d, (long long)gap, repeats ? " repeats" : "");
    j.bytes = (scatter ? 12.0 * (double)n_src : 8.0 * (double)n_dst) * (double)(batch * d);
    job_array(c, &j, IN, "src", T_F32, batch * n_src, d, d + gap);
    job_array(c, &j, scatter ? INOUT : OUT, "dst", T_F32, batch * n_dst, d, d + 2 * gap); /* bounds 0: moved, or added in the given order */
    index_array(c, &j, batch, scatter ? n_src : n_dst, scatter ? n_dst : n_src, repeats);
    return j;
}

static void gather_refusals(ctx *c, const char *op) {
    op_rows good;
    job j = gather_job(c, &good, op, 2, 6, 6, 5, 1, 0);
    static const char *const NEEDED[] = {"src", "dst", "index"};
    for (int i = 0; i < COUNT(NEEDED); i++) job_refuse_null(c, &j, NEEDED[i]);
    const struct {
        size_t field;
        int64_t value;
        const char *why;
    } SIZES[] = {
        {offsetof(op_rows, batch), -1, "batch -1"},
        {offsetof(op_rows, n_src), -1, "n_src -1"},
        {offsetof(op_rows, n_dst), INT64_MAX, "n_dst 2^63-1"},
        {offsetof(op_rows, d), 0, "d 0"},
        {offsetof(op_rows, lds), 4, "lds < d"},
        {offsetof(op_rows, ldd), -6, "ldd < 0"},
    };
    for (int i = 0; i < COUNT(SIZES); i++) {
        op_rows bad = good;
        memcpy((char *)&bad + SIZES[i].field, &SIZES[i].value, sizeof SIZES[i].value);
        job_refuse(c, &j, &bad, JEPA_E_USE, SIZES[i].why);
    }
    static const int32_t WRONG[] = {-1, 6, INT32_MAX, INT32_MIN};
    int32_t *index = (int32_t *)job_find(&j, "index")->init;
    for (int i = 0; i < COUNT(WRONG); i++) {
        int32_t kept = index[11 - i];
        index[11 - i] = WRONG[i];
        job_refuse(c, &j, NULL, JEPA_E_USE, "index outside the set");
        index[11 - i] = kept;
    }
    job_close(&j);
}

static job part_job(ctx *c, op_rows *a, const char *op, int64_t batch, int64_t n_src, int64_t src_off, int64_t n_dst, int64_t dst_off,
                    int64_t count, int64_t d, int64_t gap, int add) {
    int sum = op[0] == 's', broadcast = op[0] == 'b';
    *a = (op_rows){
        .batch = batch, .n_src = n_src, .n_dst = n_dst, .d = d, .src_off = src_off, .dst_off = dst_off, .count = count, .add = add};
    if (gap) a->lds = d + gap, a->ldd = d + 2 * gap;
    job j =
        job_of(c, op, call_rows, a, "b%lld %lld of %lld+%lld->%lld+%lld d %lld gap %lld%s", (long long)batch, (long long)count,
               (long long)n_src, (long long)src_off, (long long)n_dst, (long long)dst_off, (long long)d, (long long)gap, add ? " add" : "");
    j.bytes = (add ? 12.0 : sum ? 4.0 : 8.0) * (double)(batch * count * d);
    job_array(c, &j, IN, "src", T_F32, broadcast ? 1 : batch * n_src, d, d + gap);
    array *dst = job_array(c, &j, add || sum ? INOUT : OUT, "dst", T_F32, sum ? 1 : batch * n_dst, d, d + 2 * gap);
    if (sum) {
        bound_sum(dst, (double)(batch * count), 1);
        dst->abs += 4 * ULP;
    } /* else 0: moved, or one addition */
    return j;
}

static void part_refusals(ctx *c, const char *op) {
    op_rows good;
    job j = part_job(c, &good, op, 2, 6, 1, 7, 2, 4, 5, 1, 0);
    job_refuse_null(c, &j, "src");
    job_refuse_null(c, &j, "dst");
    int src = op[0] != 'b', dst = op[0] != 's';
    const struct {
        int on;
        size_t field;
        int64_t value;
        const char *why;
    } SIZES[] = {
        {1, offsetof(op_rows, batch), -1, "batch -1"},
        {1, offsetof(op_rows, d), 0, "d 0"},
        {1, offsetof(op_rows, count), -1, "count -1"},
        {1, offsetof(op_rows, count), 7, "count past the end"},
        {1, offsetof(op_rows, count), INT64_MAX, "count 2^63-1"},
        {src, offsetof(op_rows, src_off), 3, "src_off past the end"},
        {src, offsetof(op_rows, src_off), -1, "src_off -1"},
        {src, offsetof(op_rows, lds), 4, "lds < d"},
        {dst, offsetof(op_rows, dst_off), 4, "dst_off past the end"},
        {dst, offsetof(op_rows, dst_off), INT64_MAX, "dst_off 2^63-1"},
        {dst, offsetof(op_rows, ldd), 4, "ldd < d"},
    };
    for (int i = 0; i < COUNT(SIZES); i++) {
        if (!SIZES[i].on) continue;
        op_rows bad = good;
        memcpy((char *)&bad + SIZES[i].field, &SIZES[i].value, sizeof SIZES[i].value);
        job_refuse(c, &j, &bad, JEPA_E_USE, SIZES[i].why);
    }
    job_close(&j);
}

void family_rows(ctx *c) {
    static const char *const INDEXED[] = {"gather_rows", "scatter_add_rows"}, *const PARTS[] = {"copy_rows", "broadcast_row", "sum_rows"};
    static const int64_t WIDTHS[] = {1, 3, 8, 17, 96, 384};
    op_rows a;
    for (int o = 0; o < 2; o++) {
        if (!op_begin(c, INDEXED[o])) continue;
        for (int w = 0; w < COUNT(WIDTHS); w++)
            for (int repeats = 0; repeats < 2; repeats++) {
                int64_t many = repeats ? 31 : 197, few = repeats ? 197 : 31; /* repeats: more rows than the set has */
                job j = o ? gather_job(c, &a, INDEXED[o], 2, few, many, WIDTHS[w], w % 3, repeats)
                          : gather_job(c, &a, INDEXED[o], 2, many, few, WIDTHS[w], w % 3, repeats);
                job_run(c, &j);
                job_nan(c, &j);
                job_close(&j);
            }
        static const int64_t EDGES[][3] = {{1, 1, 1}, {0, 5, 5}, {3, 1, 1}, {4, 1568, 1568}};
        for (int e = 0; e < COUNT(EDGES); e++) {
            job j = gather_job(c, &a, INDEXED[o], EDGES[e][0], EDGES[e][1], EDGES[e][2], 33, 0, 0);
            job_run(c, &j);
            job_close(&j);
        }
        job j = o ? gather_job(c, &a, INDEXED[o], 2, 0, 4, 5, 0, 0) : gather_job(c, &a, INDEXED[o], 2, 4, 0, 5, 0, 0); /* nothing to move */
        job_run(c, &j);
        job_close(&j);
        gather_refusals(c, INDEXED[o]);
        op_end(c);
    }
    for (int o = 0; o < COUNT(PARTS); o++) {
        if (!op_begin(c, PARTS[o])) continue;
        for (int w = 0; w < COUNT(WIDTHS); w++)
            for (int add = 0; add < (o == 0 ? 2 : 1); add++) {
                static const int64_t PLACES[][5] = {{33, 0, 33, 0, 33}, {40, 7, 50, 11, 31}, {5, 4, 9, 8, 1}, {8, 3, 9, 2, 0}};
                for (int p = 0; p < COUNT(PLACES); p++) {
                    const int64_t *v = PLACES[p];
                    job j = part_job(c, &a, PARTS[o], 1 + p, v[0], v[1], v[2], v[3], v[4], WIDTHS[w], (w + p) % 3, add);
                    job_run(c, &j);
                    job_nan(c, &j);
                    job_close(&j);
                }
            }
        job j = part_job(c, &a, PARTS[o], 4, 1568, 100, 1700, 200, 1009, 384, 0, 0);
        job_run(c, &j);
        job_close(&j);
        part_refusals(c, PARTS[o]);
        op_end(c);
    }
}
