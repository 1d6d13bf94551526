/* run.h: the parts of one training run, shared by run.c, run_state.c and run_log.c; not for others. */
#ifndef JEPA_TRAIN_RUN_H
#define JEPA_TRAIN_RUN_H
#include "train/train.h"

#include <stdio.h>

typedef struct run {
    const train_cfg *c;
    const train_run_opts *o;
    const train_hooks *h;
    train *t;
    feed *f;
    items list;
    char dir[1024];
    int64_t steps;              /* where the run ends */
    int64_t saved;              /* step of the newest checkpoint; -1: none */
    FILE *csv;
    char *feed_text;            /* feed counters read from a checkpoint, until the feed is open */
    size_t feed_size;
    int flat;                   /* monitor points in a row that looked collapsed */
    int alarmed;
    int lock;                   /* descriptor of the locked folder, or -1 */
    double started, last_line;  /* seconds */
    int64_t first_step;
} run;

typedef struct run_times { double step, device, data; } run_times; /* seconds */

void run_say(const run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* run_state.c */
int run_precision(const run *r, dtype *type, jepa_err *err); /* that of the run which is gone on with; JEPA_E_USE: another one is asked for */
int run_resume(run *r, jepa_err *err);             /* finds, loads or initialises; sets the trainer's step */
int run_save(run *r, jepa_err *err);               /* a checkpoint of the trainer's step */

/* run_log.c */
int run_log_open(run *r, jepa_err *err);           /* log.csv: rows after the resumed step are dropped */
int run_log_step(run *r, const train_numbers *n, const monitor_numbers *target, const monitor_numbers *context, const run_times *t, int replaced, jepa_err *err);
void run_log_close(run *r);
#endif
