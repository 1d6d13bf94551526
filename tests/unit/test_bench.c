/* test_bench.c: the arithmetic that is reported is the arithmetic that is done; spreads; memory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/measure.h"
#include "predictor/flops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ViT-S, 16 x 224 x 224: 1,568 tokens of 384 channels, by hand. */
static void test_encoder_by_hand(void **state) {
    enc_cfg c;
    enc_cfg_defaults(&c);
    assert_int_equal(enc_cfg_size(&c, "vit_small", NULL), 0);
    const double n = 8 * 14 * 14, d = 384;
    const flops f = enc_flops(&c, 1, (int64_t)n, 0);
    assert_true(f.pixels == 2 * n * 1536 * d); /* 3·2·16·16 values a tubelet */
    assert_true(f.product == f.pixels + 12 * 24 * n * d * d); /* 4 + 8 squares of d a block, twice each */
    assert_true(f.attention == 12 * 4 * n * n * d);
    assert_true(flops_forward(f) == f.product + f.attention);
    assert_true(flops_backward(f) == 2 * (f.product - f.pixels) + f.pixels + 2.5 * f.attention);
    assert_true(fabs(flops_forward(f) - 113.8e9) < 0.1e9); /* products 68.4, attention 45.3 */
    const flops two = enc_flops(&c, 2, (int64_t)n, 0);
    assert_true(flops_forward(two) == 2 * flops_forward(f)); /* attention stays within an item */
}

static void test_predictor_by_hand(void **state) {
    enc_cfg e;
    pred_cfg c;
    enc_cfg_defaults(&e);
    pred_cfg_defaults(&c, &e); /* 1024 → 384, 12 blocks */
    const double b = 3, k = 100, m = 60, w = 384, d = 1024;
    const flops f = pred_flops(&c, 3, 100, 60, 1, 0), all = pred_flops(&c, 3, 100, 60, 1, 1), two = pred_flops(&c, 3, 100, 60, 2, 0);
    assert_true(f.product == 2 * b * k * d * w + 12 * 24 * b * (k + m) * w * w + 2 * b * m * w * d);
    assert_true(f.attention == 12 * 4 * b * (k + m) * (k + m) * w);
    assert_true(all.product - f.product == 2 * b * k * w * d); /* the context's rows are projected too */
    assert_true(two.attention == 2 * f.attention && two.product == 2 * f.product - 2 * b * k * d * w); /* the context is embedded once */
    c.levels = 4;
    assert_true(pred_flops(&c, 3, 100, 60, 1, 0).product - f.product == 2 * b * k * 4 * d * d);
}

static void test_spread(void **state) {
    double v[] = {5, 1, 4, 2, 3};
    spread s;
    spread_of(v, 5, &s);
    assert_true(s.n == 5 && s.mean == 3 && s.low == 1 && s.q1 == 2 && s.median == 3 && s.q3 == 4 && s.high == 5);
    double w[] = {4, 1};
    spread_of(w, 2, &s);
    assert_true(s.median == 2.5 && s.q1 == 1.75 && s.q3 == 3.25);
    spread_of(w, 0, &s);
    assert_true(s.n == 0 && s.median == 0);
}

static int count_runs(void *what, jepa_err *err) { return ++*(int *)what == 7 ? err_set(err, JEPA_E_DEVICE, "the seventh") : 0; }
static int stop_at_once(void *ctx) { return 1; }
static int switched(void *what, int on, jepa_err *err) {
    *(int *)what += on ? 1000 : 100000;
    return 0;
}
static void test_measure(void **state) {
    measured m = {0};
    jepa_err err = {0};
    int runs = 0;
    assert_int_equal(measure(&(measure_cfg){.repeat = 4, .warm = 2}, count_runs, NULL, &runs, &m, &err), 0);
    assert_int_equal(runs, 6);
    assert_int_equal(m.time.n, 4);
    assert_true(m.time.low >= 0 && m.time.low <= m.time.median && m.time.median <= m.time.high);
    assert_int_equal(measure(&(measure_cfg){.repeat = 4}, count_runs, NULL, &runs, &m, &err), JEPA_E_DEVICE);
    runs = 100;
    assert_int_equal(measure(&(measure_cfg){.seconds = 0}, count_runs, switched, &runs, &m, &err), 0);
    assert_int_equal(m.time.n, 3); /* the least */
    assert_int_equal(runs, 101103);
    runs = 6 - 1000; /* the run after the warm one fails: what was switched on is switched off */
    assert_int_equal(measure(&(measure_cfg){.repeat = 9, .warm = 0}, count_runs, switched, &runs, &m, &err), JEPA_E_DEVICE);
    assert_int_equal(measure(&(measure_cfg){.repeat = 1, .stop = stop_at_once}, count_runs, NULL, &runs, &m, &err), JEPA_E_CANCELLED);
    assert_int_equal(runs, 100007);
}

static void test_memory(void **state) {
    memory_use m, more;
    if (memory_read(&m) < 0) skip(); /* no /proc */
    assert_true(m.anon > 0 && m.file > 0 && m.peak >= m.anon);
    const size_t bytes = (size_t)64 << 20;
    volatile char *p = malloc(bytes);
    assert_non_null(p);
    for (size_t i = 0; i < bytes; i += 4096) p[i] = 1;
    assert_int_equal(memory_read(&more), 0);
    /* the kernel counts in batches of pages per thread: within 4 MiB */
    assert_true(more.anon - m.anon > (int64_t)(bytes - (4 << 20)));
    assert_true(more.peak >= more.anon);
    free((void *)p);
    if (memory_mark() < 0) return;
    assert_int_equal(memory_read(&m), 0);
    assert_true(m.peak < more.peak - (int64_t)(bytes / 2));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encoder_by_hand), cmocka_unit_test(test_predictor_by_hand), cmocka_unit_test(test_spread),
        cmocka_unit_test(test_measure),         cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
