/* memory.c: sizes that are checked before they size anything, aligned blocks, and the arena. */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGN = 64 };        /* one cache line, and the widest vector load */
enum { LAZY = 32 << 20 };   /* from here on malloc maps a block by itself */
enum { LARGE = 64 << 20 };  /* from here on a block is compared with what there is: the kernel would grant it and kill later */

int size_mul(size_t a, size_t b, size_t *out) { return __builtin_mul_overflow(a, b, out) ? JEPA_E_MEMORY : 0; }
int size_add(size_t a, size_t b, size_t *out) { return __builtin_add_overflow(a, b, out) ? JEPA_E_MEMORY : 0; }

/* A plan is made for the most tokens that a mask may keep, and most steps keep far fewer: a page that nobody writes to must not become
 * memory. The kernel gives zero pages for those that are let go, and a large block's are fresh anyway. */
static void clear(unsigned char *p, size_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), front = (page - (uintptr_t)p % page) % page;
    const size_t middle = bytes >= LAZY ? (bytes - front) / page * page : 0;
    if (!middle || madvise(p + front, middle, MADV_DONTNEED)) {
        memset(p, 0, bytes);
        return;
    }
    memset(p, 0, front);
    memset(p + front + middle, 0, bytes - front - middle);
}

void *mem_alloc(size_t n, size_t size) {
    size_t bytes, padded;
    if (size_mul(n, size, &bytes) || size_add(bytes, ALIGN - 1, &padded) || padded > PTRDIFF_MAX) return NULL;
    padded = padded / ALIGN * ALIGN;
    if (!padded) padded = ALIGN;
    if (fault_point("alloc") || (padded >= LARGE && padded > mem_available())) return NULL;
    unsigned char *p = aligned_alloc(ALIGN, padded);
    if (p) clear(p, padded);
    return p;
}

void mem_free(void *p) { free(p); }

/* One number out of a file of the kernel's; 0: not there (or "max"). */
static unsigned long long number_in(const char *path, const char *after) {
    char line[256];
    unsigned long long v = 0;
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, after, strlen(after)) && sscanf(line + strlen(after), " %llu", &v) == 1) break;
    fclose(f);
    return v;
}

size_t mem_available(void) {
    unsigned long long kib = number_in("/proc/meminfo", "MemAvailable:"), most = number_in("/sys/fs/cgroup/memory.max", ""),
                       used = number_in("/sys/fs/cgroup/memory.current", ""), cache = number_in("/sys/fs/cgroup/memory.stat", "inactive_file ");
    size_t left = kib ? (size_t)kib * 1024 : SIZE_MAX;
    if (most) {
        if (used > cache) used -= cache; /* given back when needed */
        size_t of_group = most > used ? (size_t)(most - used) : 0;
        if (of_group < left) left = of_group;
    }
    return left;
}

int mem_size(const char *text, int64_t *bytes) {
    static const char unit[] = "KMGT";
    if (!strcmp(text, "auto")) {
        *bytes = MEM_AUTO;
        return 0;
    }
    char *end;
    double v = strtod(text, &end);
    const char *at = end == text || !*end ? NULL : strchr(unit, *end >= 'a' && *end <= 'z' ? *end - 'a' + 'A' : *end);
    if (end == text || (*end && !at)) return JEPA_E_USE;
    if (at) {
        for (const char *u = unit; u <= at; u++) v *= 1024;
        end++;
        if (*end == 'i') end++;
        if (*end == 'B') end++;
    }
    if (*end || !(v >= 1048576) || v > 1e18) return JEPA_E_USE;
    *bytes = (int64_t)v;
    return 0;
}

int arena_open(arena *a, size_t bytes, jepa_err *err) {
    memset(a, 0, sizeof *a);
    if (!bytes) return 0;
    if (bytes > PTRDIFF_MAX - ALIGN) return err_set(err, JEPA_E_MEMORY, "an arena of %zu bytes cannot exist", bytes);
    a->size = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    a->base = fault_point("alloc") || (a->size >= LARGE && a->size > mem_available()) ? NULL : aligned_alloc(ALIGN, a->size);
    if (!a->base) {
        a->size = 0;
        return err_set(err, JEPA_E_MEMORY, "no memory for %.1f MiB of working space", (double)bytes / 1048576);
    }
    return 0;
}

void *arena_get(arena *a, size_t n, size_t size) {
    size_t bytes, end;
    if (a->overflow || size_mul(n, size, &bytes) || size_add(bytes, ALIGN - 1, &bytes) ||
        size_add(a->used, bytes / ALIGN * ALIGN, &end) || (a->base && end > a->size)) {
        a->overflow = 1;
        return NULL;
    }
    void *p = a->base ? a->base + a->used : NULL;
    a->used = end;
    if (end > a->peak) a->peak = end;
    return p;
}

size_t arena_mark(const arena *a) { return a->used; }
void arena_reset(arena *a, size_t mark) { if (mark <= a->used) a->used = mark; }

void arena_close(arena *a) {
    free(a->base);
    memset(a, 0, sizeof *a);
}
