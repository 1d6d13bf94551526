/* profile.h: where a device's time goes, operation by operation: for `jepa bench --profile` and for tests of its arithmetic.
 *
 *     op_profile p = {0}; dev_profile(d, &p, &err);
 *     … passes through one queue of d …
 *     dev_profile(d, NULL, &err);                  // as it was
 *     p.row[0].name "linear 384 > 1536 gelu", .calls, .seconds, .flops, .bytes
 *
 * Each operation of the table is timed and forwarded; what it calls itself belongs to it. One queue at a time while it is on. */
#ifndef JEPA_PROFILE_H
#define JEPA_PROFILE_H
#include "compute/compute.h"

enum { PROFILE_ROWS = 64 };
typedef struct op_profile_row { /* operations of one kind; products apart by their shape */
    char name[48];
    int64_t calls;
    double seconds;
    double flops;  /* products: 2·rows·in·out for each of output and gradients; attention: 4·nq·nk·head_dim a head, backward 10 (causal blocks: what is seen) */
    double bytes;  /* operands read and written once */
} op_profile_row;
typedef struct op_profile {
    op_profile_row row[PROFILE_ROWS]; int n;
    int cpu;       /* 1: seconds are processor time: a device of one thread, whose times other programs should not disturb */
} op_profile; /* more kinds than rows: the last row takes them */

/* into: adds up there from now on (it outlives that), until dev_profile with NULL, or dev_close. dev_limit_isa ends it too. */
int dev_profile(dev *d, op_profile *into, jepa_err *err);
void profile_sort(op_profile *p); /* by time, most first */
#endif
