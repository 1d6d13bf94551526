/* compute/ref against numbers worked out by hand: it is the definition, so something outside has to hold it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "compute/ops.h"

typedef struct world {
    dev *d;
    queue *q;
    const ops *o;
} world;

static int setup(void **state) {
    static world w;
    assert_int_equal(dev_open(&w.d, "ref", 1, NULL), 0);
    assert_int_equal(queue_open(&w.q, w.d, NULL), 0);
    w.o = dev_ops(w.d);
    *state = &w;
    return 0;
}

static int teardown(void **state) {
    world *w = *state;
    queue_close(&w->q);
    dev_close(&w->d);
    return 0;
}

/* Double arithmetic, one rounding to float32: 6e-8 of the value; the numbers below have eight digits. */
static void near(const char *what, const float *have, const double *want, int n) {
    int bad = 0;
    for (int i = 0; i < n; i++)
        if (!(fabs(have[i] - want[i]) <= 1e-7 * (1 + fabs(want[i])))) {
            print_error("%s[%d] = %.9g, not %.9g\n", what, i, have[i], want[i]);
            bad++;
        }
    assert_int_equal(bad, 0);
}

static void test_linear(void **state) {
    world *w = *state;
    const float x[] = {1, 2, -1, 0.5f}, wt[] = {1, 0, 2, 1, -1, 3}, b[] = {0.5f, 0, -2}, r[] = {10, 20, 30, 40, 50, 60};
    float y[6], pre[6];
    op_linear a = {.rows = 2, .in = 2, .out = 3, .x = x, .w = wt, .b = b, .y = y};
    assert_int_equal(w->o->linear(w->q, &a), 0);
    near("x·wᵀ + b", y, (double[]){1.5, 4, 3, -0.5, -1.5, 0.5}, 6);
    a.act = ACT_GELU, a.pre = pre, a.r = r;
    assert_int_equal(w->o->linear(w->q, &a), 0);
    near("before GELU", pre, (double[]){1.5, 4, 3, -0.5, -1.5, 0.5}, 6);
    near("GELU, then the residual", y, (double[]){11.399789198, 23.999873315, 32.995950306, 39.845731231, 49.899789198, 60.345731231}, 6);
}

static void test_gelu(void **state) {
    world *w = *state;
    const float x[] = {0, 1, -1, 3, -3, 40, -40}, one[] = {1, 1, 1, 1, 1, 1, 1};
    float y[7];
    assert_int_equal(w->o->gelu(w->q, &(op_gelu){.n = 7, .x = x, .y = y}), 0);
    near("gelu", y, (double[]){0, 0.84134475, -0.15865525, 2.99595031, -0.00404969, 40, 0}, 7);
    assert_int_equal(w->o->gelu_bwd(w->q, &(op_gelu_bwd){.n = 7, .dy = one, .x = x, .dx = y}), 0);
    near("gelu'", y, (double[]){0.5, 1.08331547, -0.08331547, 1.01194565, -0.01194565, 1, 0}, 7);
}

static void test_layernorm(void **state) {
    world *w = *state;
    const float x[] = {1, 2, 3, 4, 5, 5, 5, 5}, wt[] = {1, 2, 1, 1}, b[] = {0, 0, 10, 0};
    float y[8], mean[2], rstd[2];
    /* deviations -1.5 … 1.5, biased variance 1.25: rstd 0.89442719 with eps 0 */
    op_layernorm a = {.rows = 2, .d = 4, .eps = 1e-6, .x = x, .w = wt, .b = b, .y = y, .mean = mean, .rstd = rstd};
    assert_int_equal(w->o->layernorm(w->q, &a), 0);
    near("mean", mean, (double[]){2.5, 5}, 2);
    near("rstd", rstd, (double[]){1 / sqrt(1.250001), 1000}, 2);
    double s = 1 / sqrt(1.250001);
    near("layernorm", y, (double[]){-1.5 * s, -1.0 * s, 0.5 * s + 10, 1.5 * s, 0, 0, 10, 0}, 8);
}

static void test_attention(void **state) {
    world *w = *state;
    /* one head of 2: scores 2/√2 and 0 for query 0, 0 and 0 for query 1 */
    const float q[] = {1, 0, 0, 1}, k[] = {2, 0, 0, 0}, v[] = {1, 10, 3, 20};
    float o[4], lse[2];
    double p = 1 / (1 + exp(-sqrt(2)));
    op_attention a = {.batch = 1, .heads = 1, .nq = 2, .nk = 2, .head_dim = 2, .q = q, .k = k, .v = v, .o = o, .lse = lse};
    assert_int_equal(w->o->attention(w->q, &a), 0);
    near("attention", o, (double[]){p + 3 * (1 - p), 10 * p + 20 * (1 - p), 2, 15}, 4);
    near("lse", lse, (double[]){log(exp(sqrt(2)) + 1), log(2)}, 2);
    a.block = 1; /* the first sees itself only */
    assert_int_equal(w->o->attention(w->q, &a), 0);
    near("block-causal", o, (double[]){1, 10, 2, 15}, 4);
    near("block-causal lse", lse, (double[]){sqrt(2), log(2)}, 2);
    a.block = 0, a.scale = 0.5;
    assert_int_equal(w->o->attention(w->q, &a), 0);
    p = 1 / (1 + exp(-1));
    near("scale 0.5", o, (double[]){p + 3 * (1 - p), 10 * p + 20 * (1 - p), 2, 15}, 4);
}

/* Blocks of 4 over 10: rows 0-3 see 4, rows 4-7 see 8, rows 8-9 see all. With all scores equal the output is the mean of what is seen. */
static void test_blocks(void **state) {
    world *w = *state;
    float q[10] = {0}, v[10], o[10];
    for (int i = 0; i < 10; i++) v[i] = (float)i;
    op_attention a = {.batch = 1, .heads = 1, .nq = 10, .nk = 10, .head_dim = 1, .q = q, .k = q, .v = v, .o = o, .block = 4};
    assert_int_equal(w->o->attention(w->q, &a), 0);
    near("means", o, (double[]){1.5, 1.5, 1.5, 1.5, 3.5, 3.5, 3.5, 3.5, 4.5, 4.5}, 10);
}

static void test_rope_table(void **state) {
    world *w = *state;
    /* head 14: 14/3 = 4 (cut), 2·(4/2) = 4 channels an axis, 2 left over; ω = 1, 0.01 */
    const float pos[] = {3, 5, 7};
    float cs[28];
    op_rope_table a = {.n = 1, .head_dim = 14, .kind = ROPE_TILED, .pos = pos, .cs = cs};
    assert_int_equal(w->o->rope_table(w->q, &a), 0);
    const double tiled[] = {3, 0.03, 3, 0.03, 5, 0.05, 5, 0.05, 7, 0.07, 7, 0.07, 0, 0};
    const double paired[] = {3, 3, 0.03, 0.03, 5, 5, 0.05, 0.05, 7, 7, 0.07, 0.07, 0, 0};
    double want[28];
    for (int kind = 0; kind < 2; kind++) {
        a.kind = kind ? ROPE_INTERLEAVED : ROPE_TILED;
        assert_int_equal(w->o->rope_table(w->q, &a), 0);
        for (int c = 0; c < 14; c++) {
            want[c] = cos((kind ? paired : tiled)[c]);
            want[14 + c] = sin((kind ? paired : tiled)[c]);
        }
        near(kind ? "interleaved" : "tiled", cs, want, 28);
    }
    /* channels that turn, by head size: 2·⌊⌊dim/3⌋/2⌋ for each of three axes */
    static const int TURN[][2] = {{1, 0},   {5, 0},   {6, 6},   {7, 6},   {10, 6},  {12, 12},  {24, 24},
                                  {28, 24}, {32, 30}, {64, 60}, {80, 78}, {88, 84}, {128, 126}};
    float big[256];
    for (size_t i = 0; i < sizeof TURN / sizeof *TURN; i++) {
        op_rope_table t = {.n = 1, .head_dim = TURN[i][0], .kind = ROPE_TILED, .pos = pos, .cs = big};
        assert_int_equal(w->o->rope_table(w->q, &t), 0);
        for (int c = 0; c < TURN[i][0]; c++) {
            int still = big[c] == 1 && big[TURN[i][0] + c] == 0;
            assert_int_equal(still, c >= TURN[i][1]);
        }
    }
}

static void test_rope(void **state) {
    world *w = *state;
    const float pos[] = {3, 5, 7};
    float cs[28], x[14];
    for (int kind = 0; kind < 2; kind++) {
        op_rope_table t = {.n = 1, .head_dim = 14, .kind = kind ? ROPE_INTERLEAVED : ROPE_TILED, .pos = pos, .cs = cs};
        assert_int_equal(w->o->rope_table(w->q, &t), 0);
        for (int c = 0; c < 14; c++) x[c] = (float)(c + 1);
        assert_int_equal(w->o->rope(w->q, &(op_rope){.batch = 1, .n = 1, .heads = 1, .head_dim = 14, .x = x, .cs = cs}), 0);
        /* x = 1, 2, 3, 4, …: the first pair turns by 3 and 0.03 in the tiled table, by 3 and 3 in the other */
        const double tiled[] = {1 * cos(3) - 2 * sin(3), 2 * cos(0.03) + 1 * sin(0.03), 3 * cos(3) - 4 * sin(3),
                                4 * cos(0.03) + 3 * sin(0.03)};
        const double paired[] = {1 * cos(3) - 2 * sin(3), 2 * cos(3) + 1 * sin(3), 3 * cos(0.03) - 4 * sin(0.03),
                                 4 * cos(0.03) + 3 * sin(0.03)};
        for (int c = 0; c < 4; c++) assert_true(fabs(x[c] - (kind ? paired : tiled)[c]) < 1e-6); /* the table is rounded: 4 × 6e-8 */
        assert_true(x[12] == 13 && x[13] == 14);
    }
}

static void test_tubelets(void **state) {
    world *w = *state;
    /* value = 1000 channel + 100 frame + 10 row + column, so that a place can be read off it: 2 channels, 5 frames (the last dropped), 4×6
     */
    float x[2 * 5 * 4 * 6], y[2 * 2 * 3 * 2 * 16];
    unsigned char u[5 * 4 * 6 * 2];
    static const float FIRST[] = {0, 1, 10, 11, 100, 101, 110, 111, 1000, 1001, 1010, 1011, 1100, 1101, 1110, 1111};
    static const int START[12] = {0, 2, 4, 20, 22, 24, 200, 202, 204, 220, 222, 224};
    for (int frames_first = 0; frames_first < 2; frames_first++) {
        for (int c = 0; c < 2; c++)
            for (int t = 0; t < 5; t++)
                for (int i = 0; i < 24; i++)
                    x[(frames_first ? t * 2 + c : c * 5 + t) * 24 + i] = (float)(1000 * c + 100 * t + 10 * (i / 6) + i % 6);
        op_tubelets a = {.batch = 1,
                         .channels = 2,
                         .frames = 5,
                         .height = 4,
                         .width = 6,
                         .tubelet = 2,
                         .patch = 2,
                         .x = x,
                         .type = T_F32,
                         .y = y,
                         .frames_first = frames_first};
        assert_int_equal(w->o->tubelets(w->q, &a), 0);
        for (int token = 0; token < 12; token++)
            for (int i = 0; i < 16; i++) assert_true(y[token * 16 + i] == FIRST[i] + (float)START[token]);
        a.keep = (const int32_t[]){7, 0};
        a.n_keep = 2;
        assert_int_equal(w->o->tubelets(w->q, &a), 0);
        for (int i = 0; i < 16; i++) assert_true(y[i] == FIRST[i] + 202 && y[16 + i] == FIRST[i]);
    }
    for (int i = 0; i < (int)sizeof u; i++) u[i] = (unsigned char)i; /* [t][y][x][c] */
    const float mean[] = {0.5f, 0}, std[] = {0.25f, 1};
    op_tubelets a = {.batch = 1,
                     .channels = 2,
                     .frames = 5,
                     .height = 4,
                     .width = 6,
                     .tubelet = 2,
                     .patch = 2,
                     .x = u,
                     .type = T_U8,
                     .mean = mean,
                     .std = std,
                     .y = y,
                     .keep = (const int32_t[]){1},
                     .n_keep = 1};
    assert_int_equal(w->o->tubelets(w->q, &a), 0);
    near("u8, channel 0", y,
         (double[]){4 * (4 / 255.0 - 0.5), 4 * (6 / 255.0 - 0.5), 4 * (16 / 255.0 - 0.5), 4 * (18 / 255.0 - 0.5), 4 * (52 / 255.0 - 0.5)},
         5);
    near("u8, channel 1", y + 8, (double[]){5 / 255.0, 7 / 255.0, 17 / 255.0, 19 / 255.0, 53 / 255.0}, 5);
}

static void test_loss(void **state) {
    world *w = *state;
    const float z[] = {1.5f, -2, 3, 1}, h[] = {1, 0, 3, 2};
    float dz[4];
    const struct {
        int kind;
        double p, loss, dz[4];
    } CASES[] = {
        {LOSS_POWER, 1, 3.5, {1, -1, 0, -1}},
        {LOSS_POWER, 2, 0.125 + 2 + 0.5, {0.5, -2, 0, -1}},
        {LOSS_POWER, 1.5, (0.35355339059 + 2.82842712475 + 1) / 1.5, {0.70710678, -1.41421356, 0, -1}},
        {LOSS_SMOOTH_L1, 0, 0.125 + 1.5 + 0.5, {0.5, -1, 0, -1}},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        double loss = 100, want[4];
        op_loss a = {.rows = 2, .d = 2, .kind = CASES[i].kind, .p = CASES[i].p, .scale = 0.25, .z = z, .h = h, .dz = dz, .loss = &loss};
        assert_int_equal(w->o->loss(w->q, &a), 0);
        assert_true(fabs(loss - 100 - 0.25 * CASES[i].loss) < 1e-9);
        for (int k = 0; k < 4; k++) want[k] = 0.25 * CASES[i].dz[k];
        near("dz", dz, want, 4);
    }
}

static void test_optimiser(void **state) {
    world *w = *state;
    float param_[] = {1}, grad[] = {0.5f}, m[] = {0}, v[] = {0};
    op_adamw a = {.n = 1,
                  .param = param_,
                  .grad = grad,
                  .m = m,
                  .v = v,
                  .lr = 0.1,
                  .wd = 0.1,
                  .beta1 = 0.9,
                  .beta2 = 0.999,
                  .eps = 1e-8,
                  .grad_scale = 1,
                  .step = 1};
    assert_int_equal(w->o->adamw(w->q, &a), 0);
    near("m", m, (double[]){0.05}, 1);
    near("v", v, (double[]){0.00025}, 1);
    near("step 1: decayed to 0.99, then one lr", param_, (double[]){0.89}, 1);
    grad[0] = -2;
    a.grad_scale = 0.5;
    a.step = 2;
    assert_int_equal(w->o->adamw(w->q, &a), 0);
    near("m", m, (double[]){-0.055}, 1);
    near("v", v, (double[]){0.00124975}, 1);
    double root = sqrt(0.00124975 / 0.001999);
    near("step 2", param_, (double[]){0.89 * 0.99 + 0.1 * 0.055 / 0.19 / (root + 1e-8)}, 1);
    float target[] = {1, 2}, source[] = {3, -2};
    assert_int_equal(w->o->ema(w->q, &(op_ema){.n = 2, .target = target, .source = source, .momentum = 0.75}), 0);
    near("ema", target, (double[]){1.5, 1}, 2);
}

static void test_sums(void **state) {
    world *w = *state;
    const float x[] = {1, 2, 3, 4, 5, 6};
    float y[] = {1, 1, 1, 1, 1, 1};
    double n = 10, sum[2] = {1, 0}, sq[2] = {0, 0}, gram[4] = {0, 0, 0, 1};
    assert_int_equal(w->o->sqnorm(w->q, &(op_sqnorm){.n = 6, .x = x, .out = &n}), 0);
    assert_true(n == 101);
    assert_int_equal(w->o->axpy(w->q, &(op_axpy){.n = 6, .a = -0.5, .x = x, .y = y}), 0);
    near("axpy", y, (double[]){0.5, 0, -0.5, -1, -1.5, -2}, 6);
    assert_int_equal(w->o->scale(w->q, &(op_scale){.n = 6, .a = 2, .x = y}), 0);
    near("scale", y, (double[]){1, 0, -1, -2, -3, -4}, 6);
    assert_int_equal(w->o->colstats(w->q, &(op_colstats){.rows = 3, .d = 2, .x = x, .sum = sum, .sumsq = sq, .gram = gram}), 0);
    assert_true(sum[0] == 10 && sum[1] == 12 && sq[0] == 35 && sq[1] == 56);
    assert_true(gram[0] == 35 && gram[1] == 44 && gram[2] == 44 && gram[3] == 57);
    assert_int_equal(w->o->zero(w->q, y, 8), 0);
    assert_true(y[0] == 0 && y[1] == 0 && y[2] == -1);
}

static void test_rows(void **state) {
    world *w = *state;
    /* two items of three rows of two */
    const float src[] = {0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121};
    const int32_t index[] = {2, 0, 1, 1};
    float dst[12] = {0};
    op_rows a = {.batch = 2, .n_src = 3, .n_dst = 2, .d = 2, .src = src, .dst = dst, .index = index};
    assert_int_equal(w->o->gather_rows(w->q, &a), 0);
    near("gather", dst, (double[]){20, 21, 0, 1, 110, 111, 110, 111}, 8);
    memset(dst, 0, sizeof dst);
    a = (op_rows){.batch = 2, .n_src = 2, .n_dst = 3, .d = 2, .src = src, .dst = dst, .index = index};
    assert_int_equal(w->o->scatter_add_rows(w->q, &a), 0);
    near("scatter", dst, (double[]){10, 11, 0, 0, 0, 1, 0, 0, 120, 122, 0, 0}, 12);
    a = (op_rows){.batch = 2, .n_src = 3, .src_off = 1, .n_dst = 3, .dst_off = 2, .count = 1, .d = 2, .src = src, .dst = dst};
    assert_int_equal(w->o->copy_rows(w->q, &a), 0);
    near("copy", dst, (double[]){10, 11, 0, 0, 10, 11, 0, 0, 120, 122, 110, 111}, 12);
    a.add = 1;
    assert_int_equal(w->o->copy_rows(w->q, &a), 0);
    near("copy, added", dst, (double[]){10, 11, 0, 0, 20, 22, 0, 0, 120, 122, 220, 222}, 12);
    assert_int_equal(w->o->broadcast_row(w->q, &a), 0);
    near("broadcast", dst, (double[]){10, 11, 0, 0, 0, 1, 0, 0, 120, 122, 0, 1}, 12);
    assert_int_equal(w->o->sum_rows(w->q, &(op_rows){.batch = 2, .n_src = 3, .src_off = 1, .count = 2, .d = 2, .src = src, .dst = dst}), 0);
    near("sum", dst, (double[]){10 + 10 + 20 + 110 + 120, 11 + 11 + 21 + 111 + 121}, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),    cmocka_unit_test(test_gelu),     cmocka_unit_test(test_layernorm),
        cmocka_unit_test(test_attention), cmocka_unit_test(test_blocks),   cmocka_unit_test(test_rope_table),
        cmocka_unit_test(test_rope),      cmocka_unit_test(test_tubelets), cmocka_unit_test(test_loss),
        cmocka_unit_test(test_optimiser), cmocka_unit_test(test_sums),     cmocka_unit_test(test_rows),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
