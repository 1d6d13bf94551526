/* loop.c: a mutation loop with a fixed seed, so that fuzz targets run in ordinary builds too.
 *
 *     fuzz_yaml [--seconds S] [--runs N] [--seed S] SEED_FOLDER_OR_FILE…
 *
 * Every seed input runs once as it is; then bytes are flipped, cut, repeated, spliced and replaced by numbers that hurt. Each input lies in
 * a heap block of exactly its size, so that an over-read is seen by the address sanitizer. */
#include "base/base.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct seed { char *data; size_t size; } seed;
enum { MAX_SEEDS = 256, MAX_SIZE = 1 << 20 };

static void add(seed *s, int *n, const char *path) {
    struct stat st;
    if (*n >= MAX_SEEDS || stat(path, &st)) return;
    if (S_ISDIR(st.st_mode)) {
        struct dirent **names;
        int k = scandir(path, &names, NULL, alphasort);
        for (int i = 0; i < k; i++) {
            char sub[4096];
            if (names[i]->d_name[0] != '.' && snprintf(sub, sizeof sub, "%s/%s", path, names[i]->d_name) < (int)sizeof sub) add(s, n, sub);
            free(names[i]);
        }
        if (k >= 0) free(names);
    } else if (file_read(path, MAX_SIZE, &s[*n].data, &s[*n].size, NULL) == 0) {
        (*n)++;
    }
}

static size_t mutate(rng *r, uint8_t *b, size_t n, const seed *other) {
    static const uint64_t hurt[] = {0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000u, 0xffffffffu, INT64_MAX, UINT64_MAX};
    int times = 1 + (int)rng_below(r, 6);
    for (int t = 0; t < times; t++) {
        uint32_t at = rng_below(r, (uint32_t)n + 1), len = 1 + rng_below(r, 16);
        switch (rng_below(r, 7)) {
        case 0: if (at < n) b[at] ^= (uint8_t)(1u << rng_below(r, 8)); break;
        case 1: if (at < n) b[at] = (uint8_t)rng_u32(r); break;
        case 2: if (rng_below(r, 4) == 0) n = at; break; /* cut */
        case 3: /* a number that hurts */
            if (at + 8 <= n) memcpy(b + at, &hurt[rng_below(r, sizeof hurt / sizeof *hurt)], (size_t)1 << rng_below(r, 4));
            break;
        case 4: /* repeat a piece */
            if (at + len <= n && n + len <= MAX_SIZE) { memmove(b + at + len, b + at, n - at); n += len; }
            break;
        case 5: if (at + len <= n) { memmove(b + at, b + at + len, n - at - len); n -= len; } break; /* remove a piece */
        default: /* splice from another seed */
            if (other->size) {
                size_t from = rng_below(r, (uint32_t)other->size), k = other->size - from;
                if (k > 64) k = 1 + rng_below(r, 64);
                if (at + k <= n) memcpy(b + at, other->data + from, k);
            }
        }
    }
    return n;
}

static void run(const uint8_t *b, size_t n) {
    uint8_t *exact = malloc(n ? n : 1);
    if (!exact) return;
    memcpy(exact, b, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
}

int main(int argc, char **argv) {
    static seed s[MAX_SEEDS];
    int n = 0;
    double seconds = 5;
    long runs = -1;
    uint64_t key = 1;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--seconds") && i + 1 < argc) seconds = atof(argv[++i]);
        else if (!strcmp(argv[i], "--runs") && i + 1 < argc) runs = atol(argv[++i]);
        else if (!strcmp(argv[i], "--seed") && i + 1 < argc) key = strtoull(argv[++i], NULL, 10);
        else add(s, &n, argv[i]);
    }
    if (!n) { fprintf(stderr, "no seed inputs found\n"); return 1; }
    for (int i = 0; i < n; i++) run((uint8_t *)s[i].data, s[i].size);
    uint8_t *b = malloc(MAX_SIZE + 64);
    if (!b) return 1;
    long done = 0;
    struct timespec a, now;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (;; done++) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (runs >= 0 ? done >= runs : (double)(now.tv_sec - a.tv_sec) + 1e-9 * (double)(now.tv_nsec - a.tv_nsec) > seconds) break;
        rng r = rng_key(key, (uint64_t)done, 0, RNG_TEST);
        const seed *from = &s[rng_below(&r, (uint32_t)n)];
        memcpy(b, from->data, from->size);
        run(b, mutate(&r, b, from->size, &s[rng_below(&r, (uint32_t)n)]));
    }
    printf("%d seeds, %ld mutations\n", n, done);
    for (int i = 0; i < n; i++) mem_free(s[i].data);
    free(b);
    return 0;
}
