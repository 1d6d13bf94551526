/* measure.c: see measure.h. */
#include "base/measure.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Between order statistics, linearly: share 0 is the least, 1 the greatest. */
static double quantile(const double *sorted, int n, double share) {
    const double at = share * (n - 1);
    const int i = (int)at;
    return i + 1 < n ? sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

void spread_of(double *value, int n, spread *out) {
    *out = (spread){.n = n};
    if (n < 1) return;
    qsort(value, (size_t)n, sizeof *value, ascending);
    out->low = value[0], out->high = value[n - 1];
    for (int i = 0; i < n; i++) out->mean += value[i] / n;
    out->q1 = quantile(value, n, 0.25), out->median = quantile(value, n, 0.5), out->q3 = quantile(value, n, 0.75);
}

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int measure(const measure_cfg *c, int (*run)(void *, jepa_err *), int (*timing)(void *, int, jepa_err *), void *what, measured *out, jepa_err *err) {
    enum { LEAST = 3 };
    const int most = c->repeat > 0 && c->repeat < MEASURE_MOST ? c->repeat : MEASURE_MOST;
    double *t = mem_alloc((size_t)most, sizeof *t), spent = 0, cpu = 0;
    int rc = t ? 0 : err_set(err, JEPA_E_MEMORY, "no memory for %d timings", most), n = 0, on = 0;
    for (int i = -c->warm; !rc && n < most; i++) {
        if (c->stop && c->stop(c->ctx)) {
            rc = err_set(err, JEPA_E_CANCELLED, "interrupted");
            break;
        }
        if (i == 0 && timing) {
            if ((rc = timing(what, 1, err)) < 0) break;
            on = 1;
        }
        const double began = clock_seconds(), cpu_began = cpu_seconds();
        if ((rc = run(what, err)) < 0) break;
        const double took = clock_seconds() - began;
        if (i == -c->warm) memory_read(&out->first);
        if (i < 0) continue;
        cpu += cpu_seconds() - cpu_began;
        t[n++] = took, spent += took;
        if (c->repeat <= 0 && n >= LEAST && spent >= c->seconds) break;
    }
    if (on) timing(what, 0, NULL);
    memory_read(&out->last);
    if (!rc) {
        spread_of(t, n, &out->time);
        out->cpu = n ? cpu / n : 0;
    }
    mem_free(t);
    return rc;
}

int memory_read(memory_use *m) {
    char text[8192];
    const struct { const char *key; int64_t *to; } want[] = {{"\nVmHWM:", &m->peak}, {"\nRssAnon:", &m->anon}, {"\nRssFile:", &m->file}};
    memset(m, 0, sizeof *m);
    const int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    if (n <= 0) return JEPA_E_IO;
    text[n] = 0;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const char *at = strstr(text, want[i].key);
        if (!at) return JEPA_E_IO;
        *want[i].to = strtoll(at + strlen(want[i].key), NULL, 10) * 1024; /* "kB" are kibibytes there */
    }
    return 0;
}

int memory_mark(void) {
    const int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return JEPA_E_IO;
    const ssize_t n = write(fd, "5", 1); /* proc(5): the peak resident set becomes the present one */
    close(fd);
    return n == 1 ? 0 : JEPA_E_IO;
}
