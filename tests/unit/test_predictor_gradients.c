/* test_predictor_gradients.c: backward through the predictor: weights, the mask token in use, dz; recomputing; adding up. */
#include "test_predictor_common.h"

static double loss(void *ctx) { /* Σ coef·prediction */
    model *m = ctx;
    forward(m);
    double sum = 0;
    for (int64_t i = 0; i < BATCH * m->rows_out * OUT; i++) sum += (double)m->coef[i] * m->out[i];
    return sum;
}

static void backward(model *m, float *dz) {
    jepa_err err = {0};
    loss(m);
    memcpy(m->out, m->coef, (size_t)(BATCH * m->rows_out * OUT) * sizeof(float));
    must(pred_backward(m->e, m->q, m->a, m->out, dz, &err));
}

static void differences(int all) {
    model m;
    float dz[BATCH * CONTEXT * IN];
    open_model(&m, "ref", RECOMPUTE_NONE, 1);
    if (all) m.all = 1, m.rows_out = CONTEXT + TARGET;
    backward(&m, dz);
    double most = check_slopes(loss, &m, m.z, dz, BATCH * CONTEXT * IN, 77, "z");
    for (int i = 0; i < m.p.n; i++)
        most =
            fmax(most, check_slopes(loss, &m, param_value(&m.p, i), param_grad(&m.p, i), m.p.item[i].count, (uint64_t)i, m.p.item[i].name));
    print_message("largest difference, of the tensor's largest gradient: %.2g\n", most);
    const float *in_use = param_grad(&m.p, params_find(&m.p, "predictor.mask_tokens.1"));
    double size = 0;
    for (int k = 0; k < WIDTH; k++) size = fmax(size, fabs(in_use[k]));
    assert_true(size > 0.1);
    for (int t = 0; t < 3; t += 2) { /* the other tokens have none at all */
        char name[64];
        snprintf(name, sizeof name, "predictor.mask_tokens.%d", t);
        const float *g = param_grad(&m.p, params_find(&m.p, name));
        for (int k = 0; k < WIDTH; k++) assert_true(g[k] == 0);
    }
    close_model(&m);
}
static void gradients_are_the_slopes(void **s) { differences(0); }
static void gradients_of_all_outputs_are_the_slopes(void **s) { differences(1); }

static void recomputing_changes_nothing(void **s) {
    float dz[3][BATCH * CONTEXT * IN];
    model m[3];
    for (int level = RECOMPUTE_NONE; level <= RECOMPUTE_BLOCK; level++) {
        open_model(&m[level], "ref", (recompute)level, 1);
        backward(&m[level], dz[level]);
        same_bits(m[level].p.grad.p, m[0].p.grad.p, m[0].p.total);
        same_bits(dz[level], dz[0], BATCH * CONTEXT * IN);
    }
    for (int level = 0; level < 3; level++) close_model(&m[level]);
}

static void gradients_add_up_and_dz_is_overwritten(void **s) {
    model m;
    jepa_err err = {0};
    float dz[BATCH * CONTEXT * IN], again[BATCH * CONTEXT * IN];
    open_model(&m, "ref", RECOMPUTE_MLP, 1);
    refused(pred_backward(m.e, m.q, m.a, m.out, dz, &err), JEPA_E_USE, &err, "backward follows one forward");
    backward(&m, dz);
    refused(pred_backward(m.e, m.q, m.a, m.out, dz, &err), JEPA_E_USE, &err, "once");
    float *once = mem_alloc((size_t)m.p.total, sizeof *once);
    memcpy(once, m.p.grad.p, (size_t)m.p.total * sizeof *once);
    backward(&m, again);
    same_bits(dz, again, BATCH * CONTEXT * IN);
    const float *twice = m.p.grad.p;
    for (int64_t i = 0; i < m.p.total; i++) /* op by op g + g' is rounded once, from double: at most one unit */
        assert_true(fabs((double)twice[i] - 2.0 * once[i]) <= 2.4e-7 * fabs(once[i]) + 1e-30);
    /* dz where z lay, and dz not wanted: the same weight gradients */
    for (int way = 0; way < 2; way++) {
        float *z = mem_alloc(BATCH * CONTEXT * IN, sizeof *z);
        memcpy(z, m.z, BATCH * CONTEXT * IN * sizeof *z);
        memset(m.p.grad.p, 0, m.p.grad.bytes);
        m.in.z = z;
        backward(&m, way ? NULL : z);
        same_bits(m.p.grad.p, once, m.p.total);
        if (!way) same_bits(z, dz, BATCH * CONTEXT * IN);
        mem_free(z);
    }
    mem_free(once);
    close_model(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_the_slopes),
        cmocka_unit_test(gradients_of_all_outputs_are_the_slopes),
        cmocka_unit_test(recomputing_changes_nothing),
        cmocka_unit_test(gradients_add_up_and_dz_is_overwritten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
