/* measure.h: repeated timings and the memory of this process, for `jepa bench`. Times are the wall clock's. */
#ifndef JEPA_MEASURE_H
#define JEPA_MEASURE_H
#include "base/base.h"

double clock_seconds(void); /* monotonic */

typedef struct spread { int n; double median, low, high, q1, q3; } spread; /* q1, q3: quartiles */
void spread_of(double *value, int n, spread *out); /* sorts value; n 0: all zero */

typedef struct measure_cfg {
    int repeat;                 /* runs timed; 0: by seconds */
    double seconds;             /* runs until so much time is spent, at least 3 runs and at most MEASURE_MOST */
    int warm;                   /* runs before, not timed */
    int (*stop)(void *ctx);     /* asked between runs: nonzero ends with JEPA_E_CANCELLED; NULL: never */
    void *ctx;
} measure_cfg;
enum { MEASURE_MOST = 10000 };
/* run(what) timed again and again; a negative answer of it ends the measuring and is returned. */
int measure(const measure_cfg *c, int (*run)(void *what, jepa_err *err), void *what, spread *out, jepa_err *err);

typedef struct memory_use {
    int64_t anon, file;         /* bytes now: RssAnon (its own), RssFile (mapped files, the program's code among them) */
    int64_t peak;               /* the most of both at any moment since memory_mark (or the start) */
} memory_use;
int memory_read(memory_use *m); /* JEPA_E_IO where the system does not tell: m is zero */
int memory_mark(void);          /* peak begins anew; JEPA_E_IO: the system does not allow it, peak stays that of the whole process */
#endif
