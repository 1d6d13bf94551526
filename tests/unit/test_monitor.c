/* test_monitor.c: effective rank on matrices whose rank is known; spread; what the alarm looks at; the closed-form probe. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/train.h"

static double rank_of(const float *x, int64_t n, int64_t d) {
    double r = -1;
    jepa_err e;
    assert_int_equal(rankme(x, n, d, d, &r, &e), 0);
    return r;
}

/* the bounds are those of the published cases: float32 storage moves them by far less */
static void rank_of_known_matrices(void **s) {
    float *x = calloc(256 * 64, sizeof *x);
    assert_non_null(x);
    for (int i = 0; i < 64; i++) x[i * 64 + i] = 1;
    assert_true(fabs(rank_of(x, 64, 64) - 64) < 0.01);
    for (int i = 0; i < 256; i++)
        for (int j = 0; j < 32; j++) x[i * 32 + j] = (float)(sin(i + 1) * cos(j));
    assert_true(fabs(rank_of(x, 256, 32) - 1) < 0.001);
    for (int i = 0; i < 256 * 32; i++) x[i] = 1;
    assert_true(fabs(rank_of(x, 256, 32) - 1) < 0.001);
    assert_true(fabs(rank_of(x, 32, 256) - 1) < 0.001); /* wider than long */
    memset(x, 0, 32 * 32 * sizeof *x);
    for (int i = 0; i < 4; i++) x[i * 32 + i] = 1;
    assert_true(fabs(rank_of(x, 32, 32) - 4) < 0.001);
    for (int i = 0; i < 32; i++) x[i * 32 + i] = (float)ldexp(1, -i);
    assert_true(fabs(rank_of(x, 32, 32) - 4) < 0.001);
    memset(x, 0, 32 * 32 * sizeof *x);
    assert_true(rank_of(x, 32, 32) == 0);
    double r;
    jepa_err e;
    x[5] = NAN;
    assert_int_equal(rankme(x, 32, 32, 32, &r, &e), JEPA_E_USE);
    assert_non_null(strstr(e.text, "not finite"));
    assert_int_equal(rankme(x, 0, 32, 32, &r, &e), JEPA_E_USE);
    free(x);
}

static void equal_clips_are_seen(void **s) {
    enum { CLIPS = 8, TOKENS = 40, D = 16 };
    float *x = malloc(sizeof *x * CLIPS * TOKENS * D);
    assert_non_null(x);
    rng r = rng_key(3, 0, 0, RNG_TEST);
    for (int i = 0; i < TOKENS * D; i++) x[i] = (float)rng_normal(&r);
    for (int b = 1; b < CLIPS; b++) memcpy(x + b * TOKENS * D, x, TOKENS * D * sizeof *x);
    monitor_numbers m;
    jepa_err e;
    assert_int_equal(monitor_features(x, CLIPS, TOKENS, D, &m, &e), 0);
    assert_true(fabs(m.rank_clips - 1) < 0.001 && m.std_clips < 1e-6);
    assert_true(m.rank_tokens > 10 && fabs(m.std_tokens - 1) < 0.15); /* 40 draws a channel: sd of a deviation is 0.11, over 16 channels 0.03 */
    for (int i = 0; i < CLIPS * TOKENS * D; i++) x[i] = (float)rng_normal(&r);
    assert_int_equal(monitor_features(x, CLIPS, TOKENS, D, &m, &e), 0);
    assert_true(m.rank_clips > 5 && m.std_clips > 0.1);
    free(x);
}

static void a_probe_learns_what_is_linear(void **s) {
    enum { N = 400, T = 200, D = 12, K = 4 };
    float *x = malloc(sizeof *x * (N + T) * D);
    int64_t *y = malloc(sizeof *y * (N + T));
    assert_true(x && y);
    rng r = rng_key(4, 0, 0, RNG_TEST);
    for (int i = 0; i < N + T; i++) {
        y[i] = rng_below(&r, K);
        for (int c = 0; c < D; c++) x[i * D + c] = (float)(rng_normal(&r) * 0.5 + (c == y[i] ? 3 : 0));
        x[i * D + D - 1] = 7; /* a constant feature */
    }
    double acc, l;
    jepa_err e;
    assert_int_equal(ridge_probe(x, y, N, x + N * D, y + N, T, D, K, &acc, &l, &e), 0);
    assert_true(acc > 0.97); /* six deviations apart */
    for (int i = 0; i < N + T; i++) y[i] = rng_below(&r, K);
    assert_int_equal(ridge_probe(x, y, N, x + N * D, y + N, T, D, K, &acc, &l, &e), 0);
    assert_true(acc < 0.25 + 5 * sqrt(0.25 * 0.75 / T)); /* labels that mean nothing: chance, five standard errors */
    /* more features than rows: the same probe in its other form must still learn */
    enum { FEW = 60, WIDE = 150, MORE = 100 };
    float *wide = malloc(sizeof *wide * (FEW + MORE) * WIDE);
    assert_non_null(wide);
    for (int i = 0; i < FEW + MORE; i++) {
        y[i] = rng_below(&r, K);
        for (int c = 0; c < WIDE; c++) wide[i * WIDE + c] = (float)(rng_normal(&r) * 0.5 + (c % K == y[i] ? 1 : 0));
    }
    assert_int_equal(ridge_probe(wide, y, FEW, wide + FEW * WIDE, y + FEW, MORE, WIDE, K, &acc, &l, &e), 0);
    assert_true(acc > 0.9); /* some 37 channels, two deviations each */
    free(wide);
    y[3] = 4;
    assert_int_equal(ridge_probe(x, y, N, x + N * D, y + N, T, D, K, &acc, &l, &e), JEPA_E_USE);
    free(x);
    free(y);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rank_of_known_matrices), cmocka_unit_test(equal_clips_are_seen), cmocka_unit_test(a_probe_learns_what_is_linear)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
