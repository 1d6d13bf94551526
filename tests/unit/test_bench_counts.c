/* test_bench_counts.c: the arithmetic that is reported is the arithmetic that is done; spreads; memory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "predictor/flops.h"
#include "compute/profile.h"
#include "infer/bench.h"
#include "train/bench.h"

#include "compute/ops.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>

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

static double counted(const op_profile *p) {
    double sum = 0;
    for (int i = 0; i < p->n; i++) sum += p->row[i].flops;
    return sum;
}
static int64_t calls(const op_profile *p, const char *name) {
    int64_t n = 0;
    for (int i = 0; i < p->n; i++)
        if (!strncmp(p->row[i].name, name, strlen(name))) n += p->row[i].calls;
    return n;
}

/* What the formulas say is what the operations are asked to do: a training step of a small model, forward and backward, counted call by call. */
static void test_step_counted(void **state) {
    train_cfg c;
    dev *d = NULL;
    op_profile p = {.n = 0};
    measured m;
    jepa_err err = {0};
    enc_cfg e;
    enc_cfg_defaults(&e);
    e.embed_dim = 24, e.depth = 3, e.num_heads = 2, e.num_frames = 4, e.img_height = 64, e.img_width = 48;
    assert_int_equal(bench_train_cfg(&c, &e, 2, &err), 0);
    c.pred.predictor_embed_dim = 16, c.pred.depth = 2, c.pred.num_heads = 2;
    assert_int_equal(dev_open(&d, "cpu", 1, &err), 0);
    const measure_cfg t = {.repeat = 2, .warm = 1, .profile = &p};
    assert_int_equal(bench_step(d, &c, &t, &m, &err), 0);
    assert_int_equal(m.tokens, 24);
    assert_true(m.context > 0 && m.target > 0 && m.weights > 0);
    assert_true(m.flops > 0 && counted(&p) == 2 * m.flops); /* whole numbers below 2^53: exact */
    assert_int_equal(calls(&p, "attention"), 2 * (3 + 2 * 2 * (3 + 2))); /* target; two generators, forward and backward */
    assert_true(calls(&p, "adamw") > 0);
    /* off again: nothing is added */
    const int64_t before = p.row[0].calls;
    assert_int_equal(bench_step(d, &c, &(measure_cfg){.repeat = 1}, &m, &err), 0);
    assert_true(p.row[0].calls == before && counted(&p) == 2 * m.flops);
    dev_close(&d);
    train_cfg_free(&c);
}

/* The same of encoder and predictor in inference. */
static void test_inference_counted(void **state) {
    bench_cfg c;
    bench *b = NULL;
    measured m;
    jepa_err err = {0};
    bench_cfg_defaults(&c);
    c.arch = "vit_tiny", c.frames = 2, c.height = 64, c.width = 48, c.batch = 2, c.threads = 1;
    c.time = (measure_cfg){.repeat = 1};
    int64_t weights[2] = {0};
    for (int k = 0; k < 4; k++) {
        const int predictor = k % 2;
        c.precision = k < 2 ? "f32" : "bf16";
        op_profile p = {.n = 0};
        c.time.profile = &p;
        assert_int_equal(bench_open(&b, &c, predictor, &err), 0);
        assert_int_equal(predictor ? bench_predictor(b, &m, &err) : bench_encoder(b, &m, &err), 0);
        assert_true(m.flops > 0 && counted(&p) == m.flops);
        assert_int_equal(m.time.n, 1);
        assert_true(m.working > 0);
        if (k < 2) weights[k] = m.weights;
        else assert_true(m.weights > weights[k - 2] / 2 && m.weights < weights[k - 2] * 0.52); /* biases, norms and tokens stay float32: 1 % */
        bench_close(&b);
    }
    c.height = 33;
    assert_int_equal(bench_open(&b, &c, 0, &err), JEPA_E_USE);
    assert_null(b);
    c.height = 64, c.batch = 0;
    assert_int_equal(bench_open(&b, &c, 0, &err), JEPA_E_USE);
}

static void test_profile_rows(void **state) {
    dev *d = NULL;
    queue *q = NULL;
    op_profile p = {.n = 0};
    float x[64] = {0}, w[64] = {0}, y[64];
    assert_int_equal(dev_open(&d, "ref", 1, NULL), 0);
    assert_int_equal(queue_open(&q, d, NULL), 0);
    assert_int_equal(dev_profile(d, &p, NULL), 0);
    for (int out = 1; out <= 8; out++)
        assert_int_equal(dev_ops(d)->linear(q, &(op_linear){.rows = 2, .in = 4, .out = out, .x = x, .w = w, .y = y}), 0);
    assert_int_equal(dev_ops(d)->linear(q, &(op_linear){.rows = 2, .in = 4, .out = 3, .x = x, .w = w, .y = y}), 0);
    assert_int_equal(p.n, 8);
    assert_string_equal(p.row[2].name, "linear 4 > 3");
    assert_int_equal(p.row[2].calls, 2);
    assert_true(p.row[2].flops == 2 * 48 && p.row[2].bytes == 2 * 4 * (8 + 12 + 6));
    assert_int_equal(dev_ops(d)->linear(q, &(op_linear){.rows = 2, .in = 4, .out = 3, .x = x, .y = y}), JEPA_E_USE); /* refused: not counted */
    assert_int_equal(p.row[2].calls, 2);
    for (int in = 1; in <= PROFILE_ROWS; in++)
        assert_int_equal(dev_ops(d)->linear(q, &(op_linear){.rows = 1, .in = in, .out = 1, .x = x, .w = w, .y = y}), 0);
    assert_int_equal(p.n, PROFILE_ROWS); /* the last takes what has no room */
    assert_string_equal(p.row[PROFILE_ROWS - 1].name, "others");
    assert_int_equal(calls(&p, ""), 9 + PROFILE_ROWS);
    profile_sort(&p);
    for (int i = 1; i < p.n; i++) assert_true(p.row[i - 1].seconds >= p.row[i].seconds);
    queue_close(&q);
    dev_close(&d); /* with the profile on: nothing is left */
}

static void test_cosines(void **state) {
    /* two clips of two tokens of two channels: equal, turned by 90 and by 180 degrees, and scaled */
    const float x[] = {1, 0, 0, 2, 1, 0, 3, 4}, y[] = {2, 0, 2, 0, -1, 0, 3, 4};
    bench_cosines s;
    assert_int_equal(bench_cosine(x, y, 2, 2, 2, &s, NULL), 0);
    assert_true(fabs(s.token_mean - (1 + 0 - 1 + 1) / 4.0) < 1e-15 && s.token_worst == -1);
    const double first = (1 * 4 + 2 * 0) / (sqrt(5) * 4), second = (4 * 2 + 4 * 4) / (sqrt(32) * sqrt(20)); /* sums (1,2)·(4,0) and (4,4)·(2,4) */
    assert_true(fabs(s.pooled_mean - (first + second) / 2) < 1e-15 && fabs(s.pooled_worst - first) < 1e-15);
    const float bad[] = {1, 0, 0, 2, NAN, 0, 3, 4};
    assert_int_equal(bench_cosine(x, bad, 2, 2, 2, &s, NULL), 0);
    assert_true(isnan(s.token_worst) && isnan(s.pooled_worst)); /* seen, whatever comes after it */
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
    /* asked of the system itself: a sanitizer's allocator gives nothing back */
    volatile char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    for (size_t i = 0; i < bytes; i += 4096) p[i] = 1;
    assert_int_equal(memory_read(&more), 0);
    /* the kernel counts in batches of pages per thread: within 4 MiB */
    assert_true(more.anon - m.anon > (int64_t)(bytes - (4 << 20)));
    assert_true(more.peak >= more.anon);
    munmap((void *)p, bytes);
    if (memory_mark() < 0) return;
    assert_int_equal(memory_read(&m), 0);
    assert_true(m.peak < more.peak - (int64_t)(bytes / 2));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encoder_by_hand), cmocka_unit_test(test_predictor_by_hand), cmocka_unit_test(test_step_counted),
        cmocka_unit_test(test_inference_counted), cmocka_unit_test(test_profile_rows),    cmocka_unit_test(test_cosines),
        cmocka_unit_test(test_spread),          cmocka_unit_test(test_measure),           cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
