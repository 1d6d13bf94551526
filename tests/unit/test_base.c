/* test_base.c: errors, sizes, arena, random numbers, threads, files. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"

static int fail_at;                 /* which fault point fails next (1 = the first); 0: none */
static const char *fail_name;
int fault_point(const char *name) { return fail_at && (!fail_name || !strcmp(name, fail_name)) && --fail_at == 0 ? 28 /* ENOSPC */ : 0; }

static void errors_are_one_line(void **s) {
    jepa_err e = {0};
    assert_int_equal(err_set(&e, JEPA_E_IO, "a\nb\x1b[31m%s", "ü"), JEPA_E_IO);
    assert_string_equal(e.text, "a?b?[31mü");
    err_prefix(&e, JEPA_E_IO, "clip %d", 3);
    assert_string_equal(e.text, "clip 3: a?b?[31mü");
    assert_int_equal(err_set(NULL, JEPA_E_USE, "x"), JEPA_E_USE);
    char big[2000];
    memset(big, 'x', sizeof big);
    for (int i = 0; i + 1 < 2000; i += 2) memcpy(big + i, "ü", 2);
    big[1999] = 0;
    err_set(&e, JEPA_E_USE, "%s", big);
    assert_true(strlen(e.text) < sizeof e.text && strlen(e.text) > 500 && strlen(e.text) % 2 == 0); /* cut between characters */
}

static void sizes_do_not_wrap(void **s) {
    size_t out;
    assert_int_equal(size_mul(SIZE_MAX / 2, 3, &out), JEPA_E_MEMORY);
    assert_int_equal(size_add(SIZE_MAX, 1, &out), JEPA_E_MEMORY);
    assert_int_equal(size_mul(7, 6, &out), 0);
    assert_int_equal(out, 42);
    assert_null(mem_alloc(SIZE_MAX / 4, 8));
    assert_null(mem_alloc(SIZE_MAX - 3, 1));
    char *p = mem_alloc(3, 5);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 64, 0);
    assert_int_equal(p[14], 0);
    mem_free(p);
    size_t there = mem_available();
    assert_true(there > 16 << 20);
    if (there < SIZE_MAX / 4) assert_null(mem_alloc(2, there)); /* more than there is: refused, not granted and killed */
}

static size_t resident(void) { /* bytes */
    size_t all = 0, in = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%zu %zu", &all, &in), 2);
    fclose(f);
    return in * 4096;
}

/* A large block is zero, also where it takes the place of a used one, and becomes memory only where it is written. */
static void large_blocks_are_zero_and_not_resident(void **s) {
    const size_t n = 128 << 20;
    size_t before = resident();
    for (int turn = 0; turn < 2; turn++) {
        unsigned char *p = mem_alloc(n, 1), any = 0;
        assert_non_null(p);
        assert_true(resident() < before + n / 4); /* a sanitizer's own notes are an eighth of it */
        for (size_t i = 0; i < n; i++) any |= p[i];
        assert_int_equal(any, 0);
        memset(p, 255, n);
        mem_free(p);
#ifdef __SANITIZE_ADDRESS__
        before = resident(); /* it holds freed blocks back for a while, with all that was written to them */
#endif
    }
    unsigned char *small[2] = {0}, any = 0; /* below what malloc maps by itself once such a block was freed: cut out of used memory */
    for (int turn = 0; turn < 2; turn++) {
        for (int i = 0; i < 2; i++) {
            assert_non_null(small[i] = mem_alloc(31 << 20, 1));
            for (size_t k = 0; k < 31 << 20; k++) any |= small[i][k];
            memset(small[i], 255, 31 << 20);
        }
        for (int i = 0; i < 2; i++) mem_free(small[i]);
    }
    assert_int_equal(any, 0);
    assert_non_null(small[0] = mem_alloc((33 << 20) + 100, 1)); /* neither its start nor its end is a page's */
    for (size_t k = 0; k < (33 << 20) + 100; k++) any |= small[0][k];
    assert_int_equal(any, 0);
    mem_free(small[0]);
}

static void an_arena_measures_then_gives(void **s) {
    arena a;
    arena_open(&a, 0, NULL);
    assert_null(arena_get(&a, 10, 4));
    assert_null(arena_get(&a, 1, 1));
    assert_int_equal(a.used, 128);
    size_t need = a.used;
    assert_int_equal(arena_open(&a, need, NULL), 0);
    char *p = arena_get(&a, 10, 4), *q = arena_get(&a, 1, 1);
    assert_ptr_equal(q, p + 64);
    assert_null(arena_get(&a, 1, 1));
    assert_true(a.overflow);
    arena_close(&a);
    arena_open(&a, 64, NULL);
    assert_null(arena_get(&a, SIZE_MAX / 2, 4));
    assert_true(a.overflow);
    arena_close(&a);
    arena_close(&a);
}

static void random_numbers_follow_their_key(void **s) {
    /* Known answer of Philox 4x32-10 for counter 0, key 0 (Random123's kat_vectors). */
    rng z;
    memset(&z, 0, sizeof z);
    uint32_t a[4];
    for (int i = 3; i >= 0; i--) a[i] = rng_u32(&z);
    assert_int_equal(a[0], 0x6627e8d5u);
    assert_int_equal(a[1], 0xe169c58du);
    assert_int_equal(a[2], 0xbc57ac4cu);
    assert_int_equal(a[3], 0x9b00dbd8u);

    rng r = rng_key(7, 100, 3, RNG_CROP), again = rng_key(7, 100, 3, RNG_CROP), other = rng_key(7, 100, 4, RNG_CROP);
    int same = 0;
    for (int i = 0; i < 1000; i++) {
        uint32_t x = rng_u32(&r);
        assert_int_equal(x, rng_u32(&again));
        same += x == rng_u32(&other);
    }
    assert_true(same < 2);
    double sum = 0, sq = 0;
    int counts[7] = {0};
    for (int i = 0; i < 70000; i++) {
        double v = rng_normal(&r);
        sum += v;
        sq += v * v;
        counts[rng_below(&r, 7)]++;
    }
    assert_true(fabs(sum / 70000) < 5 / sqrt(70000.0));           /* five standard errors */
    assert_true(fabs(sq / 70000 - 1) < 5 * sqrt(2 / 70000.0));
    for (int i = 0; i < 7; i++) assert_true(abs(counts[i] - 10000) < 5 * 93);
    assert_int_equal(rng_below(&r, 0), 0);
    uint32_t order[100];
    unsigned char seen[100] = {0};
    rng_permute(&r, order, 100);
    for (int i = 0; i < 100; i++) seen[order[i]]++;
    for (int i = 0; i < 100; i++) assert_int_equal(seen[i], 1);
}

static void count_up(void *ctx, int64_t i) { ((int *)ctx)[i]++; }
static void every_index_runs_once(void **s) {
    for (int threads = 1; threads < 6; threads++)
        for (int n = 0; n < 40; n++) {
            int hits[40] = {0};
            pool_once(threads, n, count_up, hits);
            for (int i = 0; i < 40; i++) assert_int_equal(hits[i], i < n);
        }
    assert_true(pool_cores() >= 1);
}

static void files_are_whole_or_not_there(void **s) {
    char dir[] = "/tmp/jepa-base-XXXXXX", path[64], *data;
    size_t size;
    jepa_err e = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/a/b", dir);
    assert_int_equal(dir_make(path, &e), 0);
    assert_int_equal(dir_make(path, &e), 0);
    snprintf(path, sizeof path, "%s/a/b/f", dir);
    assert_int_equal(file_write_atomic(path, "hello", 5, &e), 0);
    int failures = 0;
    for (int k = 1;; k++) { /* the 1st, 2nd, … thing that can fail, until nothing does */
        fail_at = k;
        int rc = file_write_atomic(path, "other", 5, &e);
        int reached = fail_at == 0;
        fail_at = 0;
        assert_int_equal(file_read(path, 100, &data, &size, &e), 0);
        if (rc) assert_string_equal(data, "hello");
        mem_free(data);
        if (rc) {
            failures++;
            assert_non_null(strstr(e.text, "No space left"));
            char aside[80];
            snprintf(aside, sizeof aside, "%s.tmp", path);
            assert_int_not_equal(access(aside, F_OK), 0);
        }
        if (!reached) break;
    }
    assert_true(failures >= 4);
    assert_int_equal(file_read(path, 100, &data, &size, &e), 0);
    assert_string_equal(data, "other");
    assert_int_equal(size, 5);
    mem_free(data);
    assert_int_equal(file_read(path, 4, &data, &size, &e), JEPA_E_IO);
    assert_non_null(strstr(e.text, "larger than 4 bytes"));
    assert_int_equal(file_read(path, 5, &data, &size, &e), 0);
    mem_free(data);
    assert_int_equal(file_read("/nonexistent/x", 4, &data, &size, &e), JEPA_E_IO);
    assert_non_null(strstr(e.text, "not found"));
    assert_int_equal(file_read(dir, 4, &data, &size, &e), JEPA_E_IO);
    unlink(path);
    char under[96];
    assert_int_equal(file_write_atomic(path, "x", 1, &e), 0);
    snprintf(under, sizeof under, "%s/c", path);
    assert_int_equal(dir_make(under, &e), JEPA_E_IO); /* a file stands in the way */
    unlink(path);
    snprintf(path, sizeof path, "rm -r %s", dir);
    assert_int_equal(system(path), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_one_line), cmocka_unit_test(sizes_do_not_wrap), cmocka_unit_test(large_blocks_are_zero_and_not_resident),
        cmocka_unit_test(an_arena_measures_then_gives),
        cmocka_unit_test(random_numbers_follow_their_key), cmocka_unit_test(every_index_runs_once), cmocka_unit_test(files_are_whole_or_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
