/* measure.h: repeated timings and the memory of this process, for `jepa bench`. Times are the wall clock's. */
#ifndef JEPA_MEASURE_H
#define JEPA_MEASURE_H
#include "base/base.h"

typedef struct spread { int n; double median, low, high, q1, q3, mean; } spread; /* q1, q3: quartiles */
void spread_of(double *value, int n, spread *out); /* sorts value; n 0: all zero */

typedef struct memory_use {
    int64_t anon, file;         /* bytes now: RssAnon (its own), RssFile (mapped files, the program's code among them) */
    int64_t peak;               /* the most of both at any moment since memory_mark (or the start) */
} memory_use;
int memory_read(memory_use *m); /* JEPA_E_IO where the system does not tell: m is zero */
int memory_mark(void);          /* peak begins anew; JEPA_E_IO: the system does not allow it, peak stays that of the whole process */

typedef struct measured {       /* one thing measured; what its subject does not have stays 0 */
    spread time;                /* seconds a run */
    double cpu;                 /* processor seconds a run, of all threads (waiting ones may spin), on average */
    double flops;               /* of a run */
    int64_t clips, tokens;      /* of a run; tokens an item */
    int64_t context, target;    /* tokens an item, of all mask generators */
    int64_t frames;             /* decoded in a run */
    int64_t weights, working;   /* bytes: parameters as stored (training: and gradients, moments, target); activations and buffers */
    memory_use first, last;     /* of the process: after the first run, after the last */
} measured;
typedef struct measure_cfg {
    int repeat;                 /* runs timed; 0: by seconds */
    double seconds;             /* runs until so much time is spent, at least 3 runs and at most MEASURE_MOST */
    int warm;                   /* runs before, not timed */
    int (*stop)(void *ctx);     /* asked between runs: nonzero ends with JEPA_E_CANCELLED; NULL: never */
    void *ctx;
    void *profile;              /* struct op_profile of compute/profile.h, filled over the runs that are timed, or NULL */
} measure_cfg;
enum { MEASURE_MOST = 10000 };
/* run(what) timed again and again: out's time, cpu and memory. A negative answer of run ends it and is returned. timing(what, 1) is called
 * before the first run that is timed, timing(what, 0) after the last; or NULL. */
int measure(const measure_cfg *c, int (*run)(void *what, jepa_err *err), int (*timing)(void *what, int on, jepa_err *err), void *what, measured *out,
            jepa_err *err);
#endif
