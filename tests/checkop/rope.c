/* rope.c: rope_table and rope. */
#include "tests/checkop/checkop.h"

static int call_table(const ops *o, queue *q, const job *j, void **p) {
    op_rope_table a = *(const op_rope_table *)j->arg;
    a.pos = at(j, p, "pos");
    a.cs = at(j, p, "cs");
    return o->rope_table(q, &a);
}

static int call_rope(const ops *o, queue *q, const job *j, void **p) {
    op_rope a = *(const op_rope *)j->arg;
    a.x = at(j, p, "x");
    a.cs = at(j, p, "cs");
    return o->rope(q, &a);
}

static const int64_t DIMS[] = {1, 2, 5, 6, 7, 10, 12, 14, 24, 28, 32, 63, 64, 80, 88, 128};

static job table_job(ctx *c, op_rope_table *a, int64_t n, int64_t dim, int kind, int fractional) {
    *a = (op_rope_table){.n = n, .head_dim = dim, .kind = kind};
    job j = job_of(c, "rope_table", call_table, a, "n %lld dim %lld %s%s", (long long)n, (long long)dim,
                   kind == ROPE_TILED ? "tiled" : "interleaved", fractional ? " fractional" : "");
    array *pos = job_array(c, &j, IN, "pos", T_F32, n, 3, 0);
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < 3; k++)
            row_of(pos, i)[k] = fractional ? (float)rng_uniform(&c->r, 0, 24) : (float)rng_below(&c->r, k ? 24 : 64);
    /* An angle made in float32, as the published code does, rounds the frequency and the product: 2 ULP of up to the position. */
    job_array(c, &j, OUT, "cs", T_F32, n, 2 * dim, 0)->abs = ULP * (2 + 3 * largest(pos));
    return j;
}

static job rope_job(ctx *c, op_rope *a, int64_t batch, int64_t n, int64_t heads, int64_t dim, int64_t gap, int per_batch, int transpose) {
    *a = (op_rope){.batch = batch, .n = n, .heads = heads, .head_dim = dim, .per_batch = per_batch, .transpose = transpose};
    int64_t ld = heads * dim + gap;
    if (gap) a->ldx = ld;
    job j = job_of(c, "rope", call_rope, a, "b%lld n %lld h%lld dim %lld gap %lld%s%s", (long long)batch, (long long)n, (long long)heads,
                   (long long)dim, (long long)gap, per_batch ? " per batch" : "", transpose ? " transposed" : "");
    j.bytes = 8.0 * (double)(batch * n * heads * dim);
    array *x = job_array(c, &j, INOUT, "x", T_F32, batch * n, heads * dim, ld);
    array *cs = job_array(c, &j, IN, "cs", T_F32, per_batch ? batch * n : n, 2 * dim, 0);
    fill_uniform(c, cs, -1, 1);    /* any numbers: it is a table, and the two channels of a pair need not agree */
    x->abs = 3 * ULP * largest(x); /* two products and a sum */
    return j;
}

void family_rope(ctx *c) {
    if (op_begin(c, "rope_table")) {
        op_rope_table a;
        static const int64_t N[] = {1, 7, 197, 0};
        for (int d = 0; d < COUNT(DIMS); d++)
            for (int kind = 0; kind < 2; kind++) {
                job j = table_job(c, &a, N[d % 3], DIMS[d], kind, d & 1);
                job_run(c, &j);
                job_nan(c, &j);
                job_close(&j);
            }
        job j = table_job(c, &a, 0, 32, ROPE_TILED, 0);
        job_run(c, &j);
        job_close(&j);
        j = table_job(c, &a, 3, 32, ROPE_TILED, 0);
        op_rope_table bad = a;
        job_refuse_null(c, &j, "pos");
        job_refuse_null(c, &j, "cs");
        bad.kind = 2;
        job_refuse(c, &j, &bad, JEPA_E_USE, "kind 2");
        bad = a, bad.n = -1;
        job_refuse(c, &j, &bad, JEPA_E_USE, "n -1");
        bad = a, bad.head_dim = 0;
        job_refuse(c, &j, &bad, JEPA_E_USE, "head_dim 0");
        bad = a, bad.head_dim = INT64_MAX;
        job_refuse(c, &j, &bad, JEPA_E_USE, "head_dim 2^63-1");
        job_close(&j);
        op_end(c);
    }
    if (op_begin(c, "rope")) {
        op_rope a;
        static const int64_t N[] = {1, 33, 7};
        for (int d = 0; d < COUNT(DIMS); d++)
            for (int k = 0; k < 4; k++) {
                int64_t heads = 1 + (d + k) % 3;
                job j =
                    rope_job(c, &a, 1 + k % 2, N[(d + k) % 3], heads, DIMS[d], k & 1 ? 2 * heads * DIMS[d] : 0, k >> 1, k == 1 || k == 2);
                job_run(c, &j);
                job_nan(c, &j);
                job_close(&j);
            }
        job j = rope_job(c, &a, 2, 784, 6, 64, 2 * 384, 0, 0);
        job_run(c, &j);
        job_close(&j);
        j = rope_job(c, &a, 2, 0, 6, 64, 0, 0, 0);
        job_run(c, &j);
        job_close(&j);
        j = rope_job(c, &a, 2, 3, 2, 6, 4, 1, 0);
        job_refuse_null(c, &j, "x");
        job_refuse_null(c, &j, "cs");
        const struct {
            size_t field;
            int64_t value;
            const char *why;
        } SIZES[] = {
            {offsetof(op_rope, batch), -1, "batch -1"},      {offsetof(op_rope, n), INT64_MAX, "n 2^63-1"},
            {offsetof(op_rope, heads), 0, "heads 0"},        {offsetof(op_rope, head_dim), 0, "dim 0"},
            {offsetof(op_rope, ldx), 11, "ldx < heads·dim"}, {offsetof(op_rope, ldx), -12, "ldx < 0"},
        };
        for (int i = 0; i < COUNT(SIZES); i++) {
            op_rope bad = a;
            memcpy((char *)&bad + SIZES[i].field, &SIZES[i].value, sizeof SIZES[i].value);
            job_refuse(c, &j, &bad, JEPA_E_USE, SIZES[i].why);
        }
        job_close(&j);
        op_end(c);
    }
}
