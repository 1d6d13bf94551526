/* test_encoder_bf16.c: the encoder computing in bf16, beside itself in float32. */
#include "test_encoder_common.h"

typedef struct model {
    dev *d;
    queue *q;
    params p;
    enc_cfg c;
    enc *e;
    enc_acts *a;
    float *x, *tokens, *coef;
} model;

enum { CLIPS = 2, OUT = CLIPS * TOKENS * DIM };

static void close_model(model *m) {
    enc_acts_close(&m->a);
    enc_close(&m->e);
    params_close(&m->p);
    queue_close(&m->q);
    dev_close(&m->d);
    mem_free(m->x);
    mem_free(m->tokens);
    mem_free(m->coef);
}

static void open_model(model *m, const char *device, dtype type, int what, recompute level, int keep) {
    jepa_err err = {0};
    memset(m, 0, sizeof *m);
    tiny_cfg(&m->c);
    must(dev_open(&m->d, device, 2, &err));
    must(queue_open(&m->q, m->d, &err));
    must(enc_open(&m->e, &m->c, &m->p, "encoder.", &err));
    must(enc_set_type(m->e, type, &err));
    must(params_alloc(&m->p, m->d, what, &err));
    if (what & PARAMS_HALF_ONLY) { /* what random_params would put, through a list that stores all of it */
        model full;
        open_model(&full, "ref", T_F32, 0, level, 0);
        for (int i = 0; i < m->p.n; i++) must(param_put(&m->p, i, m->q, param_value(&full.p, i), 0, m->p.item[i].count, &err));
        close_model(&full);
    } else
        random_params(&m->p, 8);
    if (what & PARAMS_HALF) must(params_halve(&m->p, m->q, &err));
    const enc_shape s = {.batch = CLIPS, .frames = 4, .height = 8, .width = 12, .keep_for_backward = keep, .level = level};
    must(enc_acts_open(&m->a, m->e, m->d, &s, &err));
    m->x = numbers(CLIPS * PIXELS, 3, -2, 2);
    m->coef = numbers(OUT, 4, -1, 1);
    m->tokens = mem_alloc(OUT, sizeof(float));
}

static void run(model *m, int backward) {
    jepa_err err = {0};
    const enc_in in = {.batch = CLIPS, .frames = 4, .height = 8, .width = 12, .x = m->x, .type = T_F32};
    must(enc_forward(m->e, m->q, &in, m->a, m->tokens, &err));
    if (backward) must(enc_backward(m->e, m->q, m->a, m->coef, &err));
}

/* Root of the mean square of a-b over that of b. */
static double apart(const float *a, const float *b, int64_t n) {
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) {
        d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        s += (double)b[i] * b[i];
    }
    return sqrt(d / s);
}

/* A rounding to bf16 is at most 2^-9 of a value, 2^-9/√3 = 1.13e-3 in the mean. On the way to the tokens lie 29 of them: rows and weight of
 * the patch embedding, and in each of three blocks four weights, the outputs of two norms, qkv, attention and GELU. Each as large as the
 * stream itself at most, and independent: √29·1.13e-3 = 6.1e-3. A gradient meets 12 more on its way back (four in a block), √41·1.13e-3 =
 * 7.2e-3, twice that where it passes the softmax, whose backward takes the difference of two like numbers. */
static const double forward_bound = 6.1e-3, backward_bound = 1.44e-2;

static void near_float32(void **s) {
    const char *const device[] = {"ref", "cpu"};
    for (int i = 0; i < 2; i++) {
        model full, half;
        open_model(&full, device[i], T_F32, PARAMS_GRAD, RECOMPUTE_NONE, 1);
        open_model(&half, device[i], T_BF16, PARAMS_GRAD | PARAMS_HALF, RECOMPUTE_NONE, 1);
        run(&full, 1);
        run(&half, 1);
        const double tokens = apart(half.tokens, full.tokens, OUT);
        assert_true(tokens > 1e-5); /* it is another computation */
        if (!(tokens <= forward_bound)) fail_msg("%s: tokens differ by %.3g", device[i], tokens);
        for (int k = 0; k < full.p.n; k++) {
            const double g = apart(param_grad(&half.p, k), param_grad(&full.p, k), full.p.item[k].count);
            if (!(g <= backward_bound)) fail_msg("%s: gradient of %s differs by %.3g", device[i], full.p.item[k].name, g);
        }
        close_model(&full);
        close_model(&half);
    }
}

/* The processor's kernels round where the definition rounds. A sum in another order tips some roundings over: a last place of bf16 here and
 * there (4e-3 of that value), so a fraction of the distance to float32. */
static void near_the_definition(void **s) {
    model ref, cpu;
    open_model(&ref, "ref", T_BF16, PARAMS_GRAD | PARAMS_HALF, RECOMPUTE_NONE, 1);
    open_model(&cpu, "cpu", T_BF16, PARAMS_GRAD | PARAMS_HALF, RECOMPUTE_NONE, 1);
    run(&ref, 1);
    run(&cpu, 1);
    const double tokens = apart(cpu.tokens, ref.tokens, OUT);
    if (!(tokens <= forward_bound / 4)) fail_msg("tokens differ by %.3g", tokens);
    for (int k = 0; k < ref.p.n; k++) {
        const double g = apart(param_grad(&cpu.p, k), param_grad(&ref.p, k), ref.p.item[k].count);
        if (!(g <= backward_bound / 4)) fail_msg("gradient of %s differs by %.3g", ref.p.item[k].name, g);
    }
    close_model(&ref);
    close_model(&cpu);
}

static void recomputing_changes_nothing(void **s) {
    model plain, again;
    open_model(&plain, "cpu", T_BF16, PARAMS_GRAD | PARAMS_HALF, RECOMPUTE_NONE, 1);
    run(&plain, 1);
    for (int level = RECOMPUTE_MLP; level <= RECOMPUTE_BLOCK; level++) {
        open_model(&again, "cpu", T_BF16, PARAMS_GRAD | PARAMS_HALF, (recompute)level, 1);
        run(&again, 1);
        same_bits(again.tokens, plain.tokens, OUT);
        same_bits(again.p.grad.p, plain.p.grad.p, plain.p.total);
        close_model(&again);
    }
    close_model(&plain);
}

static void stored_in_half_the_memory(void **s) {
    model beside, only;
    open_model(&beside, "cpu", T_BF16, PARAMS_HALF, RECOMPUTE_NONE, 0);
    open_model(&only, "cpu", T_BF16, PARAMS_HALF_ONLY, RECOMPUTE_NONE, 0);
    assert_true(only.p.value.bytes + only.p.value16.bytes < beside.p.value.bytes * 6 / 10);
    run(&beside, 0);
    run(&only, 0);
    same_bits(only.tokens, beside.tokens, OUT);
    close_model(&beside);
    close_model(&only);
}

static void refusals(void **s) {
    model m;
    jepa_err err = {0};
    open_model(&m, "ref", T_F32, 0, RECOMPUTE_NONE, 0);
    refused(enc_set_type(m.e, T_F16, &err), JEPA_E_UNSUPPORTED, &err, "f16");
    must(enc_set_type(m.e, T_BF16, &err));
    const enc_in in = {.batch = CLIPS, .frames = 4, .height = 8, .width = 12, .x = m.x, .type = T_F32};
    refused(enc_forward(m.e, m.q, &in, m.a, m.tokens, &err), JEPA_E_USE, &err, "another precision");
    params p = {0};
    const int64_t two[] = {2, 2};
    assert_int_equal(params_add(&p, &err, "w", 2, two), 0);
    refused(params_alloc(&p, m.d, PARAMS_HALF_ONLY | PARAMS_GRAD, &err), JEPA_E_USE, &err, "cannot be trained");
    params_close(&p);
    close_model(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_float32),
        cmocka_unit_test(near_the_definition),
        cmocka_unit_test(recomputing_changes_nothing),
        cmocka_unit_test(stored_in_half_the_memory),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
