/* bench_print.h: what `jepa bench` prints of each thing measured: a line of a table, or a JSON object. */
#ifndef JEPA_CLI_BENCH_PRINT_H
#define JEPA_CLI_BENCH_PRINT_H
#include "base/measure.h"
#include "cli/cli.h"
#include "compute/profile.h"

typedef struct bench_line {
    const char *what, *device, *precision, *model; /* model, device NULL: no part in it */
    int threads, frames, height, width;            /* 0: not said */
    const measured *m;
    double peak, peak_cpu;                         /* operations a second of the large product, by the clock and by processor time; 0: not measured */
    op_profile *profile;                           /* over all runs; sorted here; NULL: none */
} bench_line;
void bench_print(cli *c, const bench_line *l, int *lines); /* lines: printed so far; the table's head comes before the first */
void bench_print_cosines(cli *c, const char *model, const char *precision, double token_mean, double token_worst, double pooled_mean, double pooled_worst,
                         int64_t tokens, int64_t clips);
#endif
