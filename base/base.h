/* base.h: what every other folder stands on: errors, memory, randomness, threads, fault points.
 *
 *     jepa_err err = {0};
 *     if (vid_open(&v, path, NULL, &err) < 0)
 *         fprintf(stderr, "%s\n", err.text);
 *
 * A function returns 0 (or a count) or a negative JEPA_E_*; results come through pointers; the
 * reason goes into the caller's jepa_err, which may be NULL. Nothing here ends the process and
 * nothing keeps writable state at file scope. */
#ifndef JEPA_BASE_H
#define JEPA_BASE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#ifndef JEPA_ERR_DEFINED /* the same lines stand in infer/jepa.h, which is installed alone; a test compares them */
#define JEPA_ERR_DEFINED
/* -2 … -7 are the program's exit codes with their sign turned (see cli/). */
enum {
    JEPA_OK = 0,
    JEPA_E_USE = -2,         /* wrong arguments, by a caller or on the command line */
    JEPA_E_MODEL = -3,       /* a model or configuration that cannot be used */
    JEPA_E_IO = -4,          /* a file that cannot be opened, read or written */
    JEPA_E_MEMORY = -5,      /* does not fit in memory */
    JEPA_E_STOPPED = -6,     /* training stopped itself */
    JEPA_E_DEVICE = -7,      /* a device failed, or is not there */
    JEPA_E_UNSUPPORTED = -8, /* an operation that cannot run this shape; outputs are untouched */
    JEPA_E_INPUT = -9,       /* one input item (video, image, list line) that cannot be used */
    JEPA_E_CANCELLED = -10,  /* the caller's cancel callback said so */
    JEPA_E_END = -11         /* nothing more to read: not an error by itself */
};

typedef struct jepa_err {
    int code;        /* JEPA_E_*; 0: nothing happened */
    int64_t offset;  /* byte offset in file, or -1 */
    char text[512];  /* one line: what, where, why, what would help; no newline, no program name */
    char file[512];  /* the file it is about, or "" */
} jepa_err;
#endif

/* Fills err (if not NULL) and returns code. The text is cut to one line; control bytes become '?'. */
int err_set(jepa_err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The same, with the file and byte offset it concerns (offset -1: none). The text should name the file too. */
int err_set_at(jepa_err *err, int code, const char *file, int64_t offset, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* Puts "prefix: " before the text already there; returns err->code (or code where err is NULL). */
int err_prefix(jepa_err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- memory ---- */

/* a*b and a+b on sizes that come from outside; 0, or JEPA_E_MEMORY when they overflow. */
int size_mul(size_t a, size_t b, size_t *out);
int size_add(size_t a, size_t b, size_t *out);

/* Zeroed array of n items, 64-byte aligned, or NULL (also when n*size overflows). Freed by mem_free. */
void *mem_alloc(size_t n, size_t size);
void mem_free(void *p); /* accepts NULL */
/* Bytes that this process can still have: free and reclaimable memory, and what its control group leaves. SIZE_MAX: not known.
 * Linux promises more than it has and kills later; a plan that is compared with this refuses before. */
size_t mem_available(void);
enum { MEM_AUTO = -1 };
int mem_size(const char *text, int64_t *bytes); /* "20G", "512M", "1.5GiB" (binary, at least 1 MiB); "auto": MEM_AUTO. JEPA_E_USE: neither */

/* arena: one block, cut from the front, never grown. Opened with bytes 0 it only measures:
 * arena_get returns NULL and arena_used says what a real one needs. */
typedef struct arena {
    unsigned char *base; /* NULL: measuring */
    size_t size, used, peak;
    int overflow; /* set when a request did not fit (or overflowed): results are then NULL */
} arena;
int arena_open(arena *a, size_t bytes, jepa_err *err);
void *arena_get(arena *a, size_t n, size_t size); /* 64-byte aligned, not zeroed */
size_t arena_mark(const arena *a);
void arena_reset(arena *a, size_t mark); /* gives back everything got after mark */
void arena_close(arena *a);

/* ---- randomness ---- */

/* Counter-based stream (Philox 4x32, 10 rounds; Salmon et al., SC 2011): the numbers depend on the key
 * only, so masks, crops and frames are the same for any number of workers, ranks or resumes. */
typedef struct rng {
    uint32_t key[2], ctr[4], out[4];
    int left; /* words of out not yet used */
} rng;
enum { /* streams: which purpose the numbers serve */
    RNG_INIT = 1, RNG_ORDER, RNG_FRAMES, RNG_CROP, RNG_MASK_SIZE, RNG_MASK_POS, RNG_SYNTH, RNG_PROBE, RNG_TEST
};
rng rng_key(uint64_t seed, uint64_t step, uint32_t sample, uint32_t stream);
uint32_t rng_u32(rng *r);
double rng_unit(rng *r);                            /* [0,1), 32 bits */
double rng_uniform(rng *r, double low, double high); /* [low,high) */
uint32_t rng_below(rng *r, uint32_t n);             /* 0 … n-1, unbiased; n = 0 gives 0 */
double rng_normal(rng *r);                          /* mean 0, sd 1 */
void rng_permute(rng *r, uint32_t *index, uint32_t n); /* index[0..n) = a random order of 0..n-1 */

/* ---- threads ---- */

/* A team of threads. pool_for: fn(ctx, i) runs once for each i in [0,n), on up to `threads` of the team with the caller as one of them, and
 * returns after the last. Each starts on its share of [0,n) and then helps with what others have not begun, so nothing may depend on which
 * thread runs which i. The team serves one caller at a time: another one who comes meanwhile (from inside fn, too) runs all of its items itself.
 * Threads are started by the first job that wants them; they wait by a short spin and then sleep. p NULL: the caller alone. */
typedef struct team team;
int pool_open(team **out, int threads, jepa_err *err); /* threads: the caller's included */
void pool_for(team *p, int threads, int64_t n, void (*fn)(void *ctx, int64_t i), void *ctx);
void pool_close(team **p); /* not while a job runs */
void pool_once(int threads, int64_t n, void (*fn)(void *ctx, int64_t i), void *ctx); /* a team for one job, of long items */
int pool_cores(void); /* cores this process may use (affinity mask and cgroup quota), at least 1 */

/* ---- time ---- */
double clock_seconds(void); /* monotonic, for differences */

/* ---- files ---- */

/* A whole file into memory (NUL added after the end, not counted). At most max bytes. Freed by mem_free. */
int file_read(const char *path, size_t max, char **data, size_t *size, jepa_err *err);
/* Writes aside (path.tmp), syncs, renames into place: the old file stays until the new one is whole. */
int file_write_atomic(const char *path, const void *data, size_t size, jepa_err *err);
int dir_sync(const char *path); /* fsync of the folder that holds path's entry */
int dir_make(const char *path, jepa_err *err); /* like mkdir -p */

/* ---- fault points ---- */

/* Called where something outside can fail (allocation, read, write, rename). The library's own version answers 0;
 * a test program links its own and answers an errno value to make the n-th such point fail. */
int fault_point(const char *name);

#endif
