/* test_encoder_gradients.c: backward through the whole encoder: against finite differences, at every recompute level, adding up. */
#include "test_encoder_common.h"

enum { BATCH = 2, KEEP = 7 };
static const int32_t keep[BATCH * KEEP] = {0, 3, 4, 7, 8, 10, 11, 9, 1, 2, 6, 5, 0, 11}; /* lists that differ, one unsorted */

typedef struct model {
    dev *d;
    queue *q;
    params p;
    enc *e;
    enc_acts *a;
    float *x, *coef, *tokens;
    enc_in in;
} model;

static void open_model(model *m, int some, recompute level) {
    jepa_err err = {0};
    enc_cfg c;
    memset(m, 0, sizeof *m);
    tiny_cfg(&c);
    must(dev_open(&m->d, "ref", 0, &err));
    must(queue_open(&m->q, m->d, &err));
    must(enc_open(&m->e, &c, &m->p, "encoder.", &err));
    must(params_alloc(&m->p, m->d, PARAMS_GRAD, &err));
    random_params(&m->p, 5);
    const enc_shape s = {
        .batch = BATCH, .frames = 4, .height = 8, .width = 12, .tokens = some ? KEEP : 0, .keep_for_backward = 1, .level = level};
    must(enc_acts_open(&m->a, m->e, m->d, &s, &err));
    m->x = numbers(BATCH * PIXELS, 1, -2, 2);
    m->coef = numbers(BATCH * TOKENS * DIM, 2, -1, 1);
    m->tokens = mem_alloc(BATCH * TOKENS * DIM, sizeof(float));
    m->in = (enc_in){.batch = BATCH, .frames = 4, .height = 8, .width = 12, .x = m->x, .type = T_F32};
    if (some) m->in.keep = m->in.keep_host = keep, m->in.n_keep = KEEP;
}

static void close_model(model *m) {
    enc_acts_close(&m->a);
    enc_close(&m->e);
    params_close(&m->p);
    queue_close(&m->q);
    dev_close(&m->d);
    mem_free(m->x);
    mem_free(m->coef);
    mem_free(m->tokens);
}

static double loss(void *ctx) { /* Σ coef·token */
    model *m = ctx;
    jepa_err err = {0};
    must(enc_forward(m->e, m->q, &m->in, m->a, m->tokens, &err));
    const int64_t n = BATCH * (m->in.keep ? KEEP : TOKENS) * DIM;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)m->coef[i] * m->tokens[i];
    return sum;
}

static void backward(model *m) {
    jepa_err err = {0};
    loss(m);
    memcpy(m->tokens, m->coef, BATCH * (m->in.keep ? KEEP : TOKENS) * DIM * sizeof(float));
    must(enc_backward(m->e, m->q, m->a, m->tokens, &err));
}

static void differences(int some) {
    model m;
    open_model(&m, some, RECOMPUTE_NONE);
    backward(&m);
    double most = 0;
    for (int i = 0; i < m.p.n; i++)
        most =
            fmax(most, check_slopes(loss, &m, param_value(&m.p, i), param_grad(&m.p, i), m.p.item[i].count, (uint64_t)i, m.p.item[i].name));
    print_message("largest difference, of the tensor's largest gradient: %.2g\n", most);
    close_model(&m);
}
static void gradients_are_the_slopes_of_all_tokens(void **s) { differences(0); }
static void gradients_are_the_slopes_of_some_tokens(void **s) { differences(1); }

static void recomputing_changes_nothing(void **s) {
    for (int some = 0; some < 2; some++) {
        model none;
        open_model(&none, some, RECOMPUTE_NONE);
        backward(&none);
        for (int level = RECOMPUTE_MLP; level <= RECOMPUTE_BLOCK; level++) {
            model m;
            open_model(&m, some, (recompute)level);
            backward(&m);
            same_bits(m.p.grad.p, none.p.grad.p, none.p.total);
            same_bits(m.tokens, none.tokens, BATCH * (some ? KEEP : TOKENS) * DIM); /* dtokens: here the gradient of the embeddings */
            close_model(&m);
        }
        close_model(&none);
    }
}

static void gradients_add_up(void **s) {
    model m;
    open_model(&m, 1, RECOMPUTE_MLP);
    backward(&m);
    float *once = mem_alloc((size_t)m.p.total, sizeof *once);
    memcpy(once, m.p.grad.p, (size_t)m.p.total * sizeof *once);
    backward(&m);
    const float *twice = m.p.grad.p;
    for (int64_t i = 0; i < m.p.total; i++) /* op by op g + g' is rounded once, from double: at most one unit */
        assert_true(fabs((double)twice[i] - 2.0 * once[i]) <= 2.4e-7 * fabs(once[i]) + 1e-30);
    mem_free(once);
    close_model(&m);
}

static void backward_comes_once_after_a_forward_that_kept(void **s) {
    model m;
    jepa_err err = {0};
    open_model(&m, 0, RECOMPUTE_NONE);
    refused(enc_backward(m.e, m.q, m.a, m.tokens, &err), JEPA_E_USE, &err, "backward follows one forward");
    backward(&m);
    refused(enc_backward(m.e, m.q, m.a, m.tokens, &err), JEPA_E_USE, &err, "once");
    loss(&m);
    m.in.height = 9;
    refused(enc_forward(m.e, m.q, &m.in, m.a, m.tokens, &err), JEPA_E_USE, &err, "9 x 12");
    m.in.height = 8;
    loss(&m);
    buf grad = m.p.grad;
    m.p.grad = (buf){0};
    refused(enc_backward(m.e, m.q, m.a, m.tokens, &err), JEPA_E_USE, &err, "PARAMS_GRAD");
    m.p.grad = grad;
    close_model(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_the_slopes_of_all_tokens),
        cmocka_unit_test(gradients_are_the_slopes_of_some_tokens),
        cmocka_unit_test(recomputing_changes_nothing),
        cmocka_unit_test(gradients_add_up),
        cmocka_unit_test(backward_comes_once_after_a_forward_that_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
