/* profile.c: see profile.h. The device's table is exchanged for one whose functions time the old one's. */
#include "compute/profile.h"
#include "compute/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct profile { ops real; op_profile *out; int inside; };

typedef struct cost { double flops, bytes; } cost;

static double now(const struct profile *p) {
    struct timespec t;
    clock_gettime(p->out->cpu ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void add(struct profile *p, const char *name, cost c, double seconds) {
    op_profile *o = p->out;
    int i = 0;
    while (i < o->n && strcmp(o->row[i].name, name)) i++;
    if (i == o->n) {
        if (o->n == PROFILE_ROWS) snprintf(o->row[--i].name, sizeof o->row[i].name, "others");
        else snprintf(o->row[o->n++].name, sizeof o->row[i].name, "%s", name);
    }
    op_profile_row *r = &o->row[i];
    r->calls++, r->seconds += seconds, r->flops += c.flops, r->bytes += c.bytes;
}

/* ---- what each operation costs: bytes are 4 for a float32 element, 2 for a 16-bit one ---- */

static double of(double n, const void *x, const void *x16) { return x16 ? 2 * n : x ? 4 * n : 0; }

static cost cost_linear(const op_linear *a, char *name, size_t size) {
    const double n = (double)a->rows, i = (double)a->in, o = (double)a->out;
    snprintf(name, size, "linear %lld > %lld%s%s%s", (long long)a->in, (long long)a->out, a->act == ACT_GELU ? " gelu" : "", a->r ? " + residual" : "", a->x16 ? " bf16" : "");
    return (cost){2 * n * i * o, of(n * i, a->x, a->x16) + of(i * o, a->w, a->w16) + of(n * o, a->y, a->y16) + of(n * o, a->r, NULL) + of(n * o, a->pre, a->pre16)};
}
static cost cost_linear_bwd(const op_linear_bwd *a, char *name, size_t size) {
    const double n = (double)a->rows, i = (double)a->in, o = (double)a->out;
    const int dx = a->dx || a->dx16, dw = a->dw != NULL;
    snprintf(name, size, "linear_bwd %lld > %lld%s%s%s%s", (long long)a->in, (long long)a->out, dx ? " dx" : "", dw ? " dw" : "", a->pre || a->pre16 ? " gelu" : "",
             a->dy16 ? " bf16" : "");
    return (cost){2 * n * i * o * (dx + dw), of(n * o, a->dy, a->dy16) + dw * (of(n * i, a->x, a->x16) + 8 * i * o) + dx * of(i * o, a->w, a->w16) + of(n * i, a->dx, a->dx16) +
                                                 of(n * i, a->pre, a->pre16)};
}
/* Pairs (i,j) that are seen. */
static double pairs(int64_t nq, int64_t nk, int64_t block) {
    if (block <= 0) return (double)nq * (double)nk;
    double sum = 0;
    for (int64_t i = 0; i < nq; i += block) {
        const int64_t end = i + block < nk ? i + block : nk, rows = i + block < nq ? block : nq - i;
        sum += (double)rows * (double)end;
    }
    return sum;
}
static cost cost_attention(const op_attention *a, char *name, size_t size) {
    const double h = (double)a->batch * (double)a->heads, c = (double)a->head_dim;
    snprintf(name, size, "attention%s%s", a->cs ? " rotary" : "", a->q16 ? " bf16" : "");
    return (cost){4 * h * pairs(a->nq, a->nk, a->block) * c, h * c * (of(2 * (double)a->nq, a->q, a->q16) + of(2 * (double)a->nk, a->k, a->k16))};
}
static cost cost_attention_bwd(const op_attention_bwd *a, char *name, size_t size) {
    const double h = (double)a->batch * (double)a->heads, c = (double)a->head_dim;
    snprintf(name, size, "attention_bwd%s%s", a->cs ? " rotary" : "", a->q16 ? " bf16" : "");
    return (cost){10 * h * pairs(a->nq, a->nk, a->block) * c, h * c * (of(4 * (double)a->nq, a->q, a->q16) + of(4 * (double)a->nk, a->k, a->k16))};
}
static cost cost_gelu(const op_gelu *a) { return (cost){0, 8.0 * (double)a->n}; }
static cost cost_gelu_bwd(const op_gelu_bwd *a) { return (cost){0, 12.0 * (double)a->n}; }
static cost cost_convert(const op_convert *a) { return (cost){0, 6.0 * (double)a->n}; }
static cost cost_layernorm(const op_layernorm *a) {
    const double n = (double)a->rows * (double)a->d;
    return (cost){0, 4 * n + of(n, a->y, a->y16)};
}
static cost cost_layernorm_bwd(const op_layernorm_bwd *a) {
    const double n = (double)a->rows * (double)a->d;
    return (cost){0, of(n, a->dy, a->dy16) + (a->add ? 12 : 8) * n};
}
static cost cost_rope_table(const op_rope_table *a) { return (cost){0, (double)a->n * (8.0 * (double)a->head_dim + 12)}; }
static cost cost_rope(const op_rope *a) { return (cost){0, 8.0 * (double)a->batch * (double)a->n * (double)a->heads * (double)a->head_dim}; }
static cost cost_moved(const op_rows *a, double rows) { return (cost){0, (a->add ? 12 : 8) * (double)a->batch * rows * (double)a->d}; }
static cost cost_gather_rows(const op_rows *a) { return cost_moved(a, (double)a->n_dst); }
static cost cost_scatter_add_rows(const op_rows *a) { return cost_moved(a, 1.5 * (double)a->n_src); }
static cost cost_copy_rows(const op_rows *a) { return cost_moved(a, (double)a->count); }
static cost cost_broadcast_row(const op_rows *a) { return cost_moved(a, 0.5 * (double)a->count); }
static cost cost_sum_rows(const op_rows *a) { return cost_moved(a, 0.5 * (double)a->count); }
static cost cost_tubelets(const op_tubelets *a) {
    const double all = (double)(a->frames / (a->tubelet > 0 ? a->tubelet : 1)) * (double)(a->height / (a->patch > 0 ? a->patch : 1)) * (double)(a->width / (a->patch > 0 ? a->patch : 1));
    const double n = (double)a->batch * (a->keep ? (double)a->n_keep : all) * (double)a->channels * (double)a->tubelet * (double)a->patch * (double)a->patch;
    return (cost){0, n * (double)dtype_size(a->type) + of(n, a->y, a->y16)};
}
static cost cost_loss(const op_loss *a) { return (cost){0, (a->dz ? 12.0 : 8.0) * (double)a->rows * (double)a->d}; }
static cost cost_adamw(const op_adamw *a) { return (cost){0, (double)a->n * (28 + (a->param16 ? 2 : 0) + (a->target ? 8 : 0) + (a->target16 ? 2 : 0))}; }
static cost cost_ema(const op_ema *a) { return (cost){0, (double)a->n * (12 + (a->target16 ? 2 : 0))}; }
static cost cost_sqnorm(const op_sqnorm *a) { return (cost){0, 4.0 * (double)a->n}; }
static cost cost_axpy(const op_axpy *a) { return (cost){0, 12.0 * (double)a->n}; }
static cost cost_scale(const op_scale *a) { return (cost){0, 8.0 * (double)a->n}; }
static cost cost_colstats(const op_colstats *a) { return (cost){0, 4.0 * (double)a->rows * (double)a->d}; }

/* ---- the table ---- */

#define TIMED(OP, TYPE, COST)                                    \
    static int timed_##OP(queue *q, const TYPE *a) {             \
        struct profile *p = q->d->profile;                       \
        if (p->inside) return p->real.OP(q, a);                  \
        char name[48] = #OP;                                     \
        p->inside = 1;                                           \
        const double began = now(p);                             \
        const int rc = p->real.OP(q, a);                         \
        const double took = now(p) - began;                      \
        p->inside = 0;                                           \
        if (rc == 0) {                                           \
            const cost c = COST;                                 \
            add(p, name, c, took);                               \
        }                                                        \
        return rc;                                               \
    }
#define NAMED(OP) TIMED(OP, op_##OP, cost_##OP(a, name, sizeof name))
#define PLAIN(OP) TIMED(OP, op_##OP, cost_##OP(a))
#define ROWS(OP) TIMED(OP, op_rows, cost_##OP(a))
NAMED(linear) NAMED(linear_bwd) NAMED(attention) NAMED(attention_bwd)
PLAIN(gelu) PLAIN(gelu_bwd) PLAIN(convert) PLAIN(layernorm) PLAIN(layernorm_bwd) PLAIN(rope_table) PLAIN(rope)
ROWS(gather_rows) ROWS(scatter_add_rows) ROWS(copy_rows) ROWS(broadcast_row) ROWS(sum_rows)
PLAIN(tubelets) PLAIN(loss) PLAIN(adamw) PLAIN(ema) PLAIN(sqnorm) PLAIN(axpy) PLAIN(scale) PLAIN(colstats)

static int timed_zero(queue *q, void *x, size_t bytes) {
    struct profile *p = q->d->profile;
    const double began = now(p);
    const int rc = p->real.zero(q, x, bytes);
    if (rc == 0 && !p->inside) add(p, "zero", (cost){0, (double)bytes}, now(p) - began);
    return rc;
}

void profile_close(dev *d) {
    mem_free(d->profile);
    d->profile = NULL;
}

int dev_profile(dev *d, op_profile *into, jepa_err *err) {
    if (!d) return err_set(err, JEPA_E_USE, "dev_profile: no device");
    if (d->profile) d->table = d->profile->real;
    profile_close(d);
    if (!into) return 0;
    if (!(d->profile = mem_alloc(1, sizeof *d->profile))) return err_set(err, JEPA_E_MEMORY, "device %s: no memory to time its operations", d->name);
    d->profile->real = d->table;
    d->profile->out = into;
    into->cpu = d->threads == 1;
    ops *t = &d->table;
#define SET(OP) t->OP = timed_##OP
    SET(linear), SET(linear_bwd), SET(attention), SET(attention_bwd);
    SET(gelu), SET(gelu_bwd), SET(convert), SET(layernorm), SET(layernorm_bwd), SET(rope_table), SET(rope);
    SET(gather_rows), SET(scatter_add_rows), SET(copy_rows), SET(broadcast_row), SET(sum_rows);
    SET(tubelets), SET(loss), SET(adamw), SET(ema), SET(sqnorm), SET(axpy), SET(scale), SET(colstats), SET(zero);
    return 0;
}

static int slower_first(const void *a, const void *b) {
    const double x = ((const op_profile_row *)a)->seconds, y = ((const op_profile_row *)b)->seconds;
    return (x < y) - (x > y);
}
void profile_sort(op_profile *p) { qsort(p->row, (size_t)p->n, sizeof *p->row, slower_first); }
