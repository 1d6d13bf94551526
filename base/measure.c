/* measure.c: see measure.h. */
#include "base/measure.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double clock_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

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
    out->q1 = quantile(value, n, 0.25), out->median = quantile(value, n, 0.5), out->q3 = quantile(value, n, 0.75);
}

int measure(const measure_cfg *c, int (*run)(void *, jepa_err *), void *what, spread *out, jepa_err *err) {
    enum { LEAST = 3 };
    const int most = c->repeat > 0 && c->repeat < MEASURE_MOST ? c->repeat : MEASURE_MOST;
    double *t = mem_alloc((size_t)most, sizeof *t), spent = 0;
    int rc = t ? 0 : err_set(err, JEPA_E_MEMORY, "no memory for %d timings", most), n = 0;
    for (int i = -c->warm; !rc && n < most; i++) {
        if (c->stop && c->stop(c->ctx)) {
            rc = err_set(err, JEPA_E_CANCELLED, "interrupted");
            break;
        }
        const double began = clock_seconds();
        if ((rc = run(what, err)) < 0) break;
        if (i < 0) continue;
        t[n] = clock_seconds() - began;
        spent += t[n++];
        if (c->repeat <= 0 && n >= LEAST && spent >= c->seconds) break;
    }
    if (!rc) spread_of(t, n, out);
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
