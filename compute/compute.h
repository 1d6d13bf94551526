/* compute.h: device, queue, buffer, tensor, parameter list.
 *
 *     dev *d; dev_open(&d, "cpu", threads, &err);
 *     queue *q; queue_open(&q, d, &err);
 *     const ops *o = dev_ops(d);
 *     rc = o->linear(q, &(op_linear){ .rows = n, .in = 96, .out = 288, .x = x, .w = w, .b = b, .y = y });
 *
 * Pointers inside op structs lie on the queue's device. On a CPU every operation has finished when it returns. */
#ifndef JEPA_COMPUTE_H
#define JEPA_COMPUTE_H
#include "base/base.h"

typedef enum { T_NONE, T_F32, T_BF16, T_F16, T_F64, T_I64, T_I32, T_I16, T_I8, T_U8, T_BOOL } dtype;
size_t dtype_size(dtype t);          /* bytes of one element; 0 for T_NONE */
const char *dtype_name(dtype t);     /* "f32", "bf16", … */
float bf16_to_f32(uint16_t v); uint16_t f32_to_bf16(float v); /* to nearest even */
float f16_to_f32(uint16_t v); uint16_t f32_to_f16(float v);
/* n elements of any type at src (unaligned is fine) as float32; JEPA_E_UNSUPPORTED for T_NONE. */
int convert_to_f32(float *dst, const void *src, dtype t, size_t n);

typedef struct dev dev;     /* a device and its operations; immutable after opening, shared by threads */
typedef struct queue queue; /* order of execution and scratch memory; belongs to one thread */
typedef struct ops ops;     /* compute/ops.h */

/* name: "ref", "cpu", "cuda[:i]". threads: size of the compute team (0: pool_cores()). JEPA_E_DEVICE where there is none such. */
int dev_open(dev **out, const char *name, int threads, jepa_err *err);
void dev_close(dev **d);
const ops *dev_ops(const dev *d);
const char *dev_name(const dev *d);     /* "cpu" */
const char *dev_describe(const dev *d); /* "cpu: avx2+fma kernels, 2 threads" */
int dev_threads(const dev *d);
/* Limits the instruction set ("portable", "avx2", "avx512"); for tests. JEPA_E_UNSUPPORTED where the machine lacks it. */
int dev_limit_isa(dev *d, const char *isa, jepa_err *err);

int queue_open(queue **out, dev *d, jepa_err *err);
/* At most that many threads for this queue's operations: several queues with a thread each serve many small jobs better than one with all
 * of them. Results do not depend on how many there are. */
void queue_limit(queue *q, int threads);
int queue_wait(queue *q, jepa_err *err); /* until all is done; reports what failed on the way */
void queue_close(queue **q);
dev *queue_dev(const queue *q);
/* Scratch that stays valid until the next call that asks for scratch; grows, never shrinks. NULL: no memory. */
void *queue_scratch(queue *q, size_t bytes);

typedef struct buf { void *p; size_t bytes; dev *d; } buf; /* one allocation on a device, 64-byte aligned, zeroed */
int buf_new(buf *b, dev *d, size_t bytes, jepa_err *err);
int buf_put(queue *q, void *dst, const void *host_src, size_t bytes, jepa_err *err);
int buf_get(queue *q, void *host_dst, const void *src, size_t bytes, jepa_err *err);
void buf_free(buf *b);

typedef struct tensor { /* a view of host memory: contiguous, row major; owns nothing */
    dtype type;
    int rank;
    int64_t dim[8];
    const void *data;
} tensor;
int64_t tensor_count(const tensor *t);   /* product of dims; 1 for rank 0 */

/* ---- the one list in which model, optimizer, EMA and checkpoint meet ---- */
enum {
    PARAM_NO_DECAY = 1, /* biases and 1-D parameters */
    PARAM_FIXED = 2,    /* a table: never trained, decayed or averaged */
    PARAM_PRODUCT = 4   /* read by products only, through param_weight: may be stored as bf16 */
};
typedef struct param {
    char name[128];        /* Meta's names, with module before: "encoder.blocks.0.attn.qkv.weight" */
    int rank; int64_t dim[8];
    int64_t count, offset; /* elements; offset into the list's arrays, a multiple of 16 */
    int half;              /* it lies in value16 only, at offset (PARAMS_HALF_ONLY) */
    int flags;
} param;
typedef struct params {
    param *item; int n, cap;
    int64_t total;         /* elements, padding included (padding stays 0) */
    buf value, grad, m, v; /* float32 [total]; grad, m, v only where asked for */
    int64_t total16;
    buf value16;           /* bf16: with PARAMS_HALF [total], a copy at the same offsets; with PARAMS_HALF_ONLY [total16] */
    int32_t *slot; int n_slots; /* params_find's hash table */
} params;
enum {
    PARAMS_GRAD = 1,
    PARAMS_MOMENTS = 2,
    PARAMS_HALF = 4,     /* training in bf16: a bf16 copy beside the float32 masters; whoever changes a value renews it (params_halve, op_adamw) */
    PARAMS_HALF_ONLY = 8 /* inference in bf16: PARAM_PRODUCT entries are stored as bf16 and not as float32 */
};
/* Adds one before params_alloc; returns its index or a negative code. rank <= 1 or a name ending in ".bias" sets PARAM_NO_DECAY. */
int params_add(params *p, jepa_err *err, const char *name, int rank, const int64_t *dim);
int params_alloc(params *p, dev *d, int what, jepa_err *err); /* one allocation per kind */
int params_find(const params *p, const char *name);           /* index or -1; sublinear */
float *param_value(const params *p, int i);                   /* NULL for an entry that is stored as bf16 only */
uint16_t *param_value16(const params *p, int i);              /* its bf16 form, or NULL: there is none */
/* The form of an entry that products read: bf16 where `half` asks for it and there is one, or where there is no other. */
typedef struct param_form { const float *w; const uint16_t *w16; } param_form;
param_form param_weight(const params *p, int i, int half);
int params_halve(params *p, queue *q, jepa_err *err);         /* PARAMS_HALF: value16 from value */
int param_put(params *p, int i, queue *q, const float *host, int64_t at, int64_t n, jepa_err *err); /* n elements from element `at` on, into whatever it is stored as */
float *param_grad(const params *p, int i);                    /* NULL without PARAMS_GRAD */
void params_close(params *p);

#endif
