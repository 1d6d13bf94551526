/* pool.c: the one compute team. With OpenMP it is the team that oneDNN uses too, so the two never compete; without (thread sanitizer
 * does not know libgomp's barriers) plain threads are started for each call. */
#include "base/base.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#ifndef _OPENMP
typedef struct part { void (*fn)(void *, int64_t); void *ctx; int64_t from, to; } part;
static void *run_part(void *arg) {
    part *p = arg;
    for (int64_t i = p->from; i < p->to; i++) p->fn(p->ctx, i);
    return NULL;
}
#endif

void pool_for(int threads, int64_t n, void (*fn)(void *ctx, int64_t i), void *ctx) {
    if (threads > n) threads = (int)n;
    if (threads < 2) {
        for (int64_t i = 0; i < n; i++) fn(ctx, i);
        return;
    }
#ifdef _OPENMP
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < n; i++) fn(ctx, i);
#else
    enum { MOST = 256 };
    if (threads > MOST) threads = MOST;
    pthread_t id[MOST];
    part p[MOST];
    int started = 1; /* part 0 runs here */
    for (int t = 0; t < threads; t++) p[t] = (part){fn, ctx, n * t / threads, n * (t + 1) / threads};
    while (started < threads && !pthread_create(&id[started], NULL, run_part, &p[started])) started++;
    run_part(&p[0]);
    for (int t = 1; t < started; t++) pthread_join(id[t], NULL);
    for (int t = started; t < threads; t++) run_part(&p[t]); /* no thread was to be had: same work, later */
#endif
}

int pool_cores(void) {
    cpu_set_t set;
    int n = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re"); /* a container's share, rounded up */
    if (f) {
        long long quota, period;
        if (fscanf(f, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0 && (quota + period - 1) / period < n)
            n = (int)((quota + period - 1) / period);
        fclose(f);
    }
    return n < 1 ? 1 : n;
}
