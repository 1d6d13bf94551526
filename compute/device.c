/* device.c: devices, queues, scratch and buffers. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "compute/device.h"

enum { MAX_THREADS = 1024 };

unsigned cpu_detect(void) {
    unsigned f = 0;
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) f |= CPU_AVX2;
    if ((f & CPU_AVX2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        f |= CPU_AVX512;
    if ((f & CPU_AVX512) && __builtin_cpu_supports("avx512bf16")) f |= CPU_AVX512_BF16;
#elif defined(__aarch64__)
    f |= CPU_NEON;
#endif
    return f;
}

static const char *isa_text(unsigned flags) {
    if (flags & CPU_NEON) return "neon kernels";
    if (flags & CPU_AVX512_BF16) return "avx512_bf16 kernels";
    if (flags & CPU_AVX512) return "avx512 kernels";
    return flags & CPU_AVX2 ? "avx2+fma kernels" : "portable kernels";
}

static void fill(dev *d) {
    profile_close(d);
    memset(&d->table, 0, sizeof d->table);
    ops_init_ref(&d->table);
    if (d->kind == DEV_REF) {
        snprintf(d->describe, sizeof d->describe, "ref: the definition in plain C, double accumulators, 1 thread");
        return;
    }
    ops_init_cpu(&d->table, d->flags);
    snprintf(d->describe, sizeof d->describe, "cpu: %s, %d thread%s", isa_text(d->flags), d->threads, d->threads == 1 ? "" : "s");
}

int dev_open(dev **out, const char *name, int threads, jepa_err *err) {
    if (!out) return err_set(err, JEPA_E_USE, "dev_open: no place for the result");
    *out = NULL;
    if (!name) return err_set(err, JEPA_E_USE, "dev_open: no device name; devices here: cpu, ref");
    if (threads < 0 || threads > MAX_THREADS)
        return err_set(err, JEPA_E_USE, "device %s: %d threads is outside 0 to %d (0: one per core)", name, threads, MAX_THREADS);
    enum dev_kind kind;
    if (!strcmp(name, "cpu"))
        kind = DEV_CPU;
    else if (!strcmp(name, "ref"))
        kind = DEV_REF;
    else if (!strncmp(name, "cuda", 4) && (!name[4] || name[4] == ':'))
        return err_set(err, JEPA_E_DEVICE, "device %s: this build has no CUDA back end; use device cpu", name);
    else
        return err_set(err, JEPA_E_DEVICE, "device %s: there is none of that name; devices here: cpu, ref", name);
    dev *d = mem_alloc(1, sizeof *d);
    if (!d) return err_set(err, JEPA_E_MEMORY, "device %s: no memory to open it", name);
    d->kind = kind;
    snprintf(d->name, sizeof d->name, "%s", name);
    d->threads = kind == DEV_REF ? 1 : threads ? threads : pool_cores();
    d->found = cpu_detect();
    d->flags = kind == DEV_REF ? 0 : d->found;
    int rc = kind == DEV_REF ? 0 : pool_open(&d->team, d->threads, err);
    if (rc < 0) {
        dev_close(&d);
        return err_prefix(err, rc, "device %s", name);
    }
    fill(d);
    *out = d;
    return 0;
}

void dev_close(dev **d) {
    if (!d) return;
    if (*d) {
        profile_close(*d);
        pool_close(&(*d)->team);
    }
    mem_free(*d);
    *d = NULL;
}

const ops *dev_ops(const dev *d) { return &d->table; }
const char *dev_name(const dev *d) { return d->name; }
const char *dev_describe(const dev *d) { return d->describe; }
int dev_threads(const dev *d) { return d->threads; }

int dev_limit_isa(dev *d, const char *isa, jepa_err *err) {
    unsigned want;
    if (!d || !isa) return err_set(err, JEPA_E_USE, "dev_limit_isa: no device or no instruction set named");
    if (!strcmp(isa, "portable"))
        want = 0;
    else if (!strcmp(isa, "avx2"))
        want = CPU_AVX2;
    else if (!strcmp(isa, "avx512"))
        want = CPU_AVX2 | CPU_AVX512;
    else if (!strcmp(isa, "avx512_bf16"))
        want = CPU_AVX2 | CPU_AVX512 | CPU_AVX512_BF16;
    else if (!strcmp(isa, "neon"))
        want = CPU_NEON;
    else
        return err_set(err, JEPA_E_USE, "instruction set %s: known are portable, avx2, avx512, avx512_bf16, neon", isa);
    if (want && d->kind == DEV_REF) return err_set(err, JEPA_E_UNSUPPORTED, "device ref: it has portable C only, not %s", isa);
    if ((d->found & want) != want) return err_set(err, JEPA_E_UNSUPPORTED, "instruction set %s: this machine does not have it", isa);
    d->flags = want;
    fill(d);
    return 0;
}

/* ---- queues ---- */

int queue_open(queue **out, dev *d, jepa_err *err) {
    if (!out || !d) return err_set(err, JEPA_E_USE, "queue_open: no device or no place for the result");
    *out = mem_alloc(1, sizeof **out);
    if (!*out) return err_set(err, JEPA_E_MEMORY, "device %s: no memory for a queue", d->name);
    (*out)->d = d;
    (*out)->threads = d->threads;
    return 0;
}

void queue_limit(queue *q, int threads) { q->threads = threads < 1 ? 1 : threads < q->d->threads ? threads : q->d->threads; }

int queue_wait(queue *q, jepa_err *err) {
    if (!q) return err_set(err, JEPA_E_USE, "queue_wait: no queue");
    return 0; /* here each operation is finished, and has reported, when it returns */
}

void queue_close(queue **q) {
    if (!q || !*q) return;
    mem_free((*q)->scratch);
    mem_free(*q);
    *q = NULL;
}

dev *queue_dev(const queue *q) { return q->d; }

void *queue_scratch(queue *q, size_t bytes) {
    if (bytes == 0) bytes = 64;
    if (bytes > q->scratch_bytes) {
        /* Half as much again, so that slowly growing requests do not allocate each time. */
        size_t want = bytes < SIZE_MAX / 2 ? bytes + bytes / 2 : bytes;
        mem_free(q->scratch);
        q->scratch_bytes = 0;
        q->scratch = mem_alloc(want, 1);
        if (!q->scratch) {
            want = bytes;
            q->scratch = mem_alloc(want, 1);
        }
        if (!q->scratch) return NULL;
        q->scratch_bytes = want;
    }
    return q->scratch;
}

/* ---- buffers ---- */

int buf_new(buf *b, dev *d, size_t bytes, jepa_err *err) {
    if (!b || !d) return err_set(err, JEPA_E_USE, "buf_new: no device or no place for the result");
    *b = (buf){0};
    b->p = mem_alloc(bytes ? bytes : 1, 1);
    if (!b->p) return err_set(err, JEPA_E_MEMORY, "device %s: no memory for a buffer of %.1f MiB", d->name, (double)bytes / 1048576.0);
    b->bytes = bytes;
    b->d = d;
    return 0;
}

static int copy(const char *what, queue *q, void *dst, const void *src, size_t bytes, jepa_err *err) {
    if (!q || (bytes && (!dst || !src))) return err_set(err, JEPA_E_USE, "%s: a pointer is missing", what);
    if (bytes) memcpy(dst, src, bytes);
    return 0;
}

int buf_put(queue *q, void *dst, const void *host_src, size_t bytes, jepa_err *err) {
    return copy("buf_put", q, dst, host_src, bytes, err);
}

int buf_get(queue *q, void *host_dst, const void *src, size_t bytes, jepa_err *err) {
    return copy("buf_get", q, host_dst, src, bytes, err);
}

void buf_free(buf *b) {
    if (!b) return;
    mem_free(b->p);
    *b = (buf){0};
}

int64_t tensor_count(const tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->rank && i < 8; i++) n *= t->dim[i];
    return n;
}

double attention_scale(double scale, int64_t head_dim) { return scale != 0 ? scale : 1 / sqrt((double)head_dim); }
