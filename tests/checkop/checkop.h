/* checkop.h: jobs: one operation on one shape, run by compute/ref and by the back end under test, and compared.
 *
 *     job j = job_of(c, "gelu", call_gelu, &(op_gelu){.n = n}, "n %lld", n);
 *     job_array(c, &j, IN, "x", T_F32, 1, n, n);
 *     job_array(c, &j, OUT, "y", T_F32, 1, n, n)->abs = 1e-6;
 *     job_run(c, &j); job_nan(c, &j); job_refuse(c, &j, &bad, JEPA_E_USE, "n -1"); job_close(&j);
 *
 * Every array lies between guard bands, and the gaps of its rows are guards too (bytes 0xff: a float read there is NaN,
 * an index -1). job_run: return code; each output element within its bound; inputs, guards, gaps and whatever ref left
 * alone are unchanged to the bit; no NaN where ref has none; the same bits on every run with as many threads. */
#ifndef CHECKOP_H
#define CHECKOP_H
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "compute/ops.h"

#define ULP 0x1p-24  /* the relative error of one float32 rounding */
#define ULP16 0x1p-8 /* of one bf16 rounding */

typedef enum { IN, OUT, INOUT } role; /* INOUT: starts with numbers (+=, in place); OUT: starts with NaN */

typedef struct array {
    const char *name;
    role role;
    dtype type;
    int64_t rows, width, ld; /* row i: width elements from i·ld on; the last row has no gap behind it */
    double abs, rel, rms;    /* bound of an element: abs + rel·|ref| + rms·(root mean square of ref's finite values around it) */
    const char *rounds;      /* or: no bound; it holds the values of that float32 array of the job as bf16, to the bit */
    int parts, heads;        /* around it: its part of the array (q, k and v of a packed row), or if larger its head's piece of its row */
    unsigned char *init; /* what it holds before a run */
} array;

typedef struct job job;
typedef int (*job_call)(const ops *o, queue *q, const job *j, void **place);
struct job {
    const char *op;
    char shape[160];
    const void *arg; /* the op's struct, pointers not set: call sets them by at() */
    job_call call;
    array a[16];
    int n;
    const char *null;    /* this array's pointer is handed over as NULL */
    int flag;            /* a family's own */
    int shift;           /* elements by which every array is off its 64-byte line */
    double flops, bytes; /* of one run, for --bench and --most */
};

typedef struct ctx {
    dev *ref, *dev[2];      /* dev[t]: back end under test with t+1 threads */
    queue *ref_q, *dev_q[2];
    int pairs;              /* it multiplies bf16 in pairs (VEC_DOT16) */
    int teams;              /* 2; 1 where the back end has no threads */
    uint64_t seed;
    const char *glob;
    int bench, verbose;
    double most;            /* arithmetic of the largest job that is run; 0: any */
    int left_out;
    rng r; /* of the job at hand: keyed by seed, op and shape, so that --op replays it */
    double *normal;         /* fill_normal's list */
    const char *op;         /* the row being printed */
    int cases, failed_here; /* of this op */
    double worst;           /* largest error seen, in bounds */
    double array_worst[16]; /* of the job at hand, for --verbose */
    char worst_shape[160];
    int failures, ops_seen;
} ctx;

int op_begin(ctx *c, const char *op); /* 0: not asked for */
void op_end(ctx *c);

job job_of(ctx *c, const char *op, job_call call, const void *arg, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* Filled with normal numbers (float types) or zeros; OUT with NaN. ld 0: width. */
array *job_array(ctx *c, job *j, role r, const char *name, dtype type, int64_t rows, int64_t width, int64_t ld);
array *job_find(const job *j, const char *name); /* or NULL */
float *row_of(array *a, int64_t i);                       /* of a float32 array */
double get(const array *a, int64_t row, int64_t k);       /* of any float array */
void put(array *a, int64_t row, int64_t k, double v);
int64_t array_span(const array *a);
void *at(const job *j, void **place, const char *name);       /* its pointer in this run; NULL: no such array, or job.null */
void fill_normal(ctx *c, array *a, double mean, double sd);
void fill_uniform(ctx *c, array *a, double low, double high);
double largest(const array *a); /* max |value| of a float array's rows */

/* Adds the bound of a sum of k terms of spread sigma, taken in float32 one after the other (the worst order), to an output's.
 * The partial sum after i terms is about (i/k)·y, where y is the result, with a spread of σ√(k·i/k·(1-i/k)) around that. Each is
 * rounded once, by at most ULP/√3 rms; so the error's spread is ULP·√(k·y²/9 + σ²k²/18) on average over paths, twice that for one
 * path in a million, and σ itself is 1.3 times as large for some pair of rows. Ten of these for the largest of millions of outputs:
 * 3.3·√k·ULP of |y| and 2.4·k·ULP of σ. Storing, and ref's own rounding of y: 2 ULP more. */
void bound_sum(array *a, double k, double sigma);

/* Adds what storing as bf16 does to a bound: ref and the kernel round once each, and may land on neighbours. (A kernel that cut instead of
 * rounding would pass; `rounds` is the check of that.) */
void bound_bf16(array *a);

void job_run(ctx *c, job *j);
/* A NaN in one element of each float input in turn: NaN where ref has NaN, numbers where ref has numbers. */
void job_nan(ctx *c, job *j);
void job_refuse(ctx *c, job *j, const void *bad, int rc, const char *why);
void job_refuse_null(ctx *c, job *j, const char *name); /* JEPA_E_USE when this pointer is missing */
void job_close(job *j);
void say(ctx *c, const job *j, const char *fmt, ...) __attribute__((format(printf, 3, 4))); /* a failure */

void ops_init_wide(ops *t);         /* kernels_wide.c */
void ops_init_avx512_simde(ops *t); /* kernels_avx512_simde.c, where CHECKOP_SIMDE */

void family_linear(ctx *c);
void family_gelu(ctx *c);
void family_convert(ctx *c);
void family_layernorm(ctx *c);
void family_attention(ctx *c);
void family_rope(ctx *c);
void family_rows(ctx *c);
void family_tubelets(ctx *c);
void family_loss(ctx *c);
void family_optim(ctx *c);

#define COUNT(x) ((int)(sizeof(x) / sizeof *(x)))

#endif
