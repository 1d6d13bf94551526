/* test_attentive_gradients.c: backward through the attentive probe: every weight, the query, the tokens; both orders of its blocks; and the
 * cross entropy. */
#include "test_attentive_common.h"

enum { N = ITEMS * SEEN * CHANNELS };

static double loss(void *ctx) { /* Σ coef·logits */
    probe *m = ctx;
    probe_forward(m);
    double sum = 0;
    for (int i = 0; i < ITEMS * CLASSES; i++) sum += (double)m->coef[i] * m->logits[i];
    return sum;
}

static void backward(probe *m, float *dx) {
    jepa_err err = {0};
    loss(m);
    must(att_backward(m->e, m->q, m->a, m->coef, dx, &err));
}

static void differences(int depth, int order) {
    probe m;
    float dx[N];
    open_probe(&m, "ref", depth, order, RECOMPUTE_NONE, 1);
    backward(&m, dx);
    double most = check_slopes(loss, &m, m.x, dx, N, 77, "tokens");
    for (int i = 0; i < m.p.n; i++) {
        const param *a = &m.p.item[i];
        most = fmax(most, check_slopes(loss, &m, param_value(&m.p, i), param_grad(&m.p, i), a->count, (uint64_t)i, a->name));
        double size = 0;
        for (int64_t k = 0; k < a->count; k++) size = fmax(size, fabs(param_grad(&m.p, i)[k]));
        assert_true(size > 0.01); /* no weight is left out */
    }
    print_message("depth %d, order %d: largest difference, of the tensor's largest gradient: %.2g\n", depth, order, most);
    close_probe(&m);
}
static void the_cross_block_alone(void **s) { differences(1, 0); }
static void blocks_over_tokens_first(void **s) { differences(3, 0); }
static void the_cross_block_first(void **s) { differences(1, 1); }
static void blocks_over_the_pooled_row(void **s) { differences(3, 1); }

static void keys_have_no_bias_gradient(void **s) { /* a number added to all keys changes no softmax */
    probe m;
    open_probe(&m, "ref", 2, 0, RECOMPUTE_NONE, 1);
    backward(&m, NULL);
    const int i = params_find(&m.p, "probe.pooler.cross_attention_block.xattn.kv.bias");
    assert_true(i >= 0);
    for (int k = 0; k < CHANNELS; k++) assert_true(fabs(param_grad(&m.p, i)[k]) < 1e-5); /* sums of SEEN float32 terms of order 1 */
    for (int k = CHANNELS; k < 2 * CHANNELS; k++) assert_true(fabs(param_grad(&m.p, i)[k]) > 1e-4);
    close_probe(&m);
}

static void recomputing_changes_nothing(void **s) {
    for (int order = 0; order < 2; order++) {
        float dx[3][N];
        probe m[3];
        for (int level = RECOMPUTE_NONE; level <= RECOMPUTE_BLOCK; level++) {
            open_probe(&m[level], "ref", 3, order, (recompute)level, 1);
            backward(&m[level], dx[level]);
            same_bits(m[level].p.grad.p, m[0].p.grad.p, m[0].p.total);
            same_bits(dx[level], dx[0], N);
        }
        for (int level = 0; level < 3; level++) close_probe(&m[level]);
    }
}

static void gradients_add_up(void **s) {
    for (int depth = 1; depth < 4; depth += 2) {
        probe m;
        jepa_err err = {0};
        float dx[N], again[N];
        open_probe(&m, "ref", depth, 0, RECOMPUTE_NONE, 1);
        refused(att_backward(m.e, m.q, m.a, m.coef, dx, &err), JEPA_E_USE, &err, "backward follows one forward");
        backward(&m, dx);
        refused(att_backward(m.e, m.q, m.a, m.coef, dx, &err), JEPA_E_USE, &err, "once");
        float *once = mem_alloc((size_t)m.p.total, sizeof *once);
        memcpy(once, m.p.grad.p, (size_t)m.p.total * sizeof *once);
        backward(&m, again);
        same_bits(dx, again, N);
        const float *twice = m.p.grad.p;
        for (int64_t i = 0; i < m.p.total; i++) /* a sum of products in double, added to what is there and rounded once */
            assert_true(fabs((double)twice[i] - 2.0 * once[i]) <= 4e-7 * fabs(once[i]) + 1e-6);
        for (int way = 0; way < 2; way++) { /* dx where x lay, and dx not wanted: the same weight gradients */
            float *x = mem_alloc(N, sizeof *x);
            memcpy(x, m.x, N * sizeof *x);
            memset(m.p.grad.p, 0, m.p.grad.bytes);
            m.in.x = x;
            backward(&m, way ? NULL : x);
            same_bits(m.p.grad.p, once, m.p.total);
            if (!way) same_bits(x, dx, N);
            mem_free(x);
        }
        mem_free(once);
        close_probe(&m);
    }
}

static void ref_and_cpu_agree(void **s) {
    for (int order = 0; order < 2; order++) {
        probe a, b;
        float da[N], db[N];
        open_probe(&a, "ref", 3, order, RECOMPUTE_NONE, 1);
        open_probe(&b, "cpu", 3, order, RECOMPUTE_NONE, 1);
        backward(&a, da);
        backward(&b, db);
        /* float32 sums of up to 40 terms through four blocks; values of order 1 to 30 */
        double scale = 1;
        for (int i = 0; i < a.p.total; i++) scale = fmax(scale, fabs(((const float *)a.p.grad.p)[i]));
        const double off = worst(a.p.grad.p, b.p.grad.p, a.p.total) / scale;
        print_message("order %d: logits %.2g, gradients %.2g of %.3g\n", order, worst(a.logits, b.logits, ITEMS * CLASSES), off, scale);
        assert_true(worst(a.logits, b.logits, ITEMS * CLASSES) < 2e-5);
        assert_true(off < 1e-5);
        assert_true(worst(da, db, N) < 1e-4);
        close_probe(&a), close_probe(&b);
    }
}

/* ---- the cross entropy ---- */

static void cross_entropy_by_hand(void **s) {
    jepa_err err = {0};
    const float flat[3] = {2, 2, 2}, huge[3] = {3e38f, 0, -3e38f}, x[6] = {0.5f, -1, 2, 1e4f, 1e4f, 0};
    const int64_t zero = 0, two[2] = {2, 1}, high = 3, low = -1;
    double l, p[6];
    float g[6];
    must(cross_entropy(flat, &zero, 1, 3, &l, p, g, &err));
    assert_true(fabs(l - log(3)) < 1e-15);
    for (int i = 0; i < 3; i++) assert_true(fabs(p[i] - 1.0 / 3) < 1e-15 && fabs(g[i] - (1.0 / 3 - !i)) < 1e-7);
    must(cross_entropy(huge, &zero, 1, 3, &l, p, g, &err)); /* nothing overflows */
    assert_true(l == 0 && p[0] == 1 && p[2] == 0);
    must(cross_entropy(x, two, 2, 3, &l, p, g, &err));
    const double first = log(exp(0.5) + exp(-1) + exp(2)) - 2;
    assert_true(fabs(l - (first + log(2)) / 2) < 1e-12);
    assert_true(fabs(g[2] - (exp(-first) - 1) / 2) < 1e-7 && fabs(g[4] + 0.25) < 1e-7 && fabs(g[3] - 0.25) < 1e-7);
    double q[6];
    softmax_rows(x, 2, 3, q);
    for (int i = 0; i < 6; i++) assert_true(fabs(p[i] - q[i]) < 1e-15);
    refused(cross_entropy(flat, &high, 1, 3, &l, NULL, NULL, &err), JEPA_E_USE, &err, "label 3; there are 3 classes");
    refused(cross_entropy(flat, &low, 1, 3, &l, NULL, NULL, &err), JEPA_E_USE, &err, "label -1");
    refused(cross_entropy(flat, &zero, 0, 3, &l, NULL, NULL, &err), JEPA_E_USE, &err, "0 rows");
    float own[6];
    memcpy(own, x, sizeof own);
    must(cross_entropy(own, two, 2, 3, &l, NULL, own, &err)); /* the gradient where the scores lay */
    same_bits(own, g, 6);
}

static void cross_entropy_gradient_is_the_slope(void **s) {
    enum { ROWS = 4, N_CLASSES = 6, ALL = ROWS * N_CLASSES };
    jepa_err err = {0};
    float *x = numbers(ALL, 5, -2, 2), g[ALL];
    const int64_t labels[ROWS] = {5, 0, 3, 3};
    double l;
    must(cross_entropy(x, labels, ROWS, N_CLASSES, &l, NULL, g, &err));
    for (int i = 0; i < ALL; i++) { /* steps of 2^-7: exact in float32; the third derivative is below 1/4 of 1/ROWS */
        const float was = x[i], step = 1.0f / 128;
        double up, down;
        x[i] = was + step;
        const double high = x[i];
        must(cross_entropy(x, labels, ROWS, N_CLASSES, &up, NULL, NULL, &err));
        x[i] = was - step;
        must(cross_entropy(x, labels, ROWS, N_CLASSES, &down, NULL, NULL, &err));
        assert_true(fabs((up - down) / (high - x[i]) - g[i]) < 1e-6);
        x[i] = was;
    }
    mem_free(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cross_block_alone),
        cmocka_unit_test(blocks_over_tokens_first),
        cmocka_unit_test(the_cross_block_first),
        cmocka_unit_test(blocks_over_the_pooled_row),
        cmocka_unit_test(keys_have_no_bias_gradient),
        cmocka_unit_test(recomputing_changes_nothing),
        cmocka_unit_test(gradients_add_up),
        cmocka_unit_test(ref_and_cpu_agree),
        cmocka_unit_test(cross_entropy_by_hand),
        cmocka_unit_test(cross_entropy_gradient_is_the_slope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
