/* test_predictor_forward.c: predictions that must agree with each other, working memory, names, initial weights, refusals. */
#include "test_predictor_common.h"

static int fail_at; /* which allocation fails next (1 = the first); 0: none */
int fault_point(const char *name) { return fail_at && !strcmp(name, "alloc") && --fail_at == 0 ? 12 /* ENOMEM */ : 0; }

static void order_is_irrelevant(void **s) {
    const char *device[] = {"ref", "cpu"};
    for (int k = 0; k < 2; k++) {
        model m;
        open_model(&m, device[k], RECOMPUTE_NONE, 0);
        forward(&m);
        float *plain = numbers(BATCH * TARGET * OUT, 1, 0, 0), z[BATCH * CONTEXT * IN];
        memcpy(plain, m.out, BATCH * TARGET * OUT * sizeof(float));
        int32_t context[BATCH * CONTEXT], target[BATCH * TARGET];
        for (int b = 0; b < BATCH; b++) { /* both lists backwards */
            for (int i = 0; i < CONTEXT; i++) {
                context[b * CONTEXT + i] = context_list[b * CONTEXT + CONTEXT - 1 - i];
                memcpy(z + (b * CONTEXT + i) * IN, m.z + (b * CONTEXT + CONTEXT - 1 - i) * IN, IN * sizeof *z);
            }
            for (int i = 0; i < TARGET; i++) target[b * TARGET + i] = target_list[b * TARGET + TARGET - 1 - i];
        }
        m.in.context = context, m.in.target = target, m.in.z = z;
        forward(&m);
        for (int b = 0; b < BATCH; b++)
            for (int i = 0; i < TARGET; i++) /* sums in another order: a few roundings of values of order 1; measured 2e-6 */
                assert_true(worst(m.out + (b * TARGET + i) * OUT, plain + (b * TARGET + TARGET - 1 - i) * OUT, OUT) < 5e-6);
        mem_free(plain);
        close_model(&m);
    }
}

static void a_batch_is_its_items(void **s) {
    model m;
    open_model(&m, "ref", RECOMPUTE_NONE, 0);
    float whole[BATCH * TARGET * OUT];
    forward(&m);
    memcpy(whole, m.out, sizeof whole);
    m.in.batch = 1;
    for (int b = 0; b < BATCH; b++) {
        m.in.z = m.z + b * CONTEXT * IN, m.in.context = context_list + b * CONTEXT, m.in.target = target_list + b * TARGET;
        forward(&m);
        same_bits(m.out, whole + b * TARGET * OUT, TARGET * OUT);
    }
    close_model(&m);
}

static void all_outputs_hold_the_targets(void **s) {
    for (int keep = 0; keep < 2; keep++) {
        model m;
        open_model(&m, "ref", RECOMPUTE_BLOCK, keep);
        float some[BATCH * TARGET * OUT];
        forward(&m);
        memcpy(some, m.out, sizeof some);
        m.all = 1;
        forward(&m);
        for (int b = 0; b < BATCH; b++) same_bits(m.out + (b * (CONTEXT + TARGET) + CONTEXT) * OUT, some + b * TARGET * OUT, TARGET * OUT);
        close_model(&m);
    }
}

static void mask_tokens_count_round(void **s) {
    model m;
    open_model(&m, "ref", RECOMPUTE_NONE, 0);
    float out[3][BATCH * TARGET * OUT];
    for (int t = 0; t < 3; t++) {
        m.in.mask_token = t;
        forward(&m);
        memcpy(out[t], m.out, sizeof out[t]);
        m.in.mask_token = t + 3;
        forward(&m);
        same_bits(m.out, out[t], BATCH * TARGET * OUT);
        m.in.mask_token = t - 3;
        forward(&m);
        same_bits(m.out, out[t], BATCH * TARGET * OUT);
    }
    assert_true(worst(out[0], out[1], BATCH * TARGET * OUT) > 0.01 && worst(out[1], out[2], BATCH * TARGET * OUT) > 0.01);
    close_model(&m);
}

static void one_token_of_context_is_enough(void **s) {
    model m;
    jepa_err err = {0};
    open_model(&m, "ref", RECOMPUTE_NONE, 1);
    const int32_t context[] = {4, 11}, target[] = {0, 7};
    float out[2 * OUT], dz[2 * IN];
    m.in.n_context = m.in.n_target = 1, m.in.context = context, m.in.target = target;
    must(pred_forward(m.e, m.q, &m.in, m.a, out, &err));
    for (int i = 0; i < 2 * OUT; i++) assert_true(isfinite(out[i]));
    must(pred_backward(m.e, m.q, m.a, out, dz, &err));
    double most = 0;
    for (int i = 0; i < 2 * IN; i++) most = fmax(most, fabs(dz[i]));
    assert_true(isfinite(most) && most > 0);
    /* context and target may be the same tokens (Hugging Face predicts all from all) */
    m.in.target = context;
    must(pred_forward(m.e, m.q, &m.in, m.a, out, &err));
    close_model(&m);
}

static void cpu_agrees_with_ref(void **s) {
    model ref, cpu;
    open_model(&ref, "ref", RECOMPUTE_NONE, 0);
    open_model(&cpu, "cpu", RECOMPUTE_NONE, 0);
    forward(&ref);
    forward(&cpu);
    assert_true(worst(cpu.out, ref.out, BATCH * TARGET * OUT) < 1e-5); /* float32 sums of up to 36 terms, two blocks; measured 1.4e-6 */
    close_model(&ref);
    close_model(&cpu);
}

static void names_and_first_weights_are_the_published_ones(void **s) {
    jepa_err err = {0};
    model m;
    open_model(&m, "ref", RECOMPUTE_NONE, 0);
    static const struct {
        const char *name;
        int rank;
        int64_t dim[3];
    } want[] = {
        {"predictor.predictor_embed.weight", 2, {WIDTH, IN}},   {"predictor.mask_tokens.0", 3, {1, 1, WIDTH}},
        {"predictor.mask_tokens.2", 3, {1, 1, WIDTH}},          {"predictor.predictor_blocks.1.attn.qkv.weight", 2, {3 * WIDTH, WIDTH}},
        {"predictor.predictor_blocks.1.mlp.fc1.bias", 1, {36}}, {"predictor.predictor_norm.bias", 1, {WIDTH}},
        {"predictor.predictor_proj.weight", 2, {OUT, WIDTH}},   {"predictor.predictor_proj.bias", 1, {OUT}},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        int k = params_find(&m.p, want[i].name);
        if (k < 0) fail_msg("no %s", want[i].name);
        assert_int_equal(m.p.item[k].rank, want[i].rank);
        for (int d = 0; d < want[i].rank; d++) assert_int_equal(m.p.item[k].dim[d], want[i].dim[d]);
        assert_int_equal(m.p.item[k].flags, want[i].rank == 1   ? PARAM_NO_DECAY
                                                 : want[i].rank == 2 ? PARAM_PRODUCT
                                                                     : 0); /* mask tokens are decayed */
    }
    must(pred_init(m.e, m.q, 0.02, 1, &err));
    for (int t = 0; t < 3; t++) {
        char name[64];
        snprintf(name, sizeof name, "predictor.mask_tokens.%d", t);
        const float *v = param_value(&m.p, params_find(&m.p, name));
        for (int k = 0; k < WIDTH; k++) assert_true(v[k] == 0);
    }
    double sum[2] = {0, 0};
    const char *name[] = {"predictor.predictor_blocks.1.attn.proj.weight", "predictor.predictor_proj.weight"};
    for (int i = 0; i < 2; i++) {
        const int k = params_find(&m.p, name[i]);
        const float *v = param_value(&m.p, k);
        for (int64_t j = 0; j < m.p.item[k].count; j++) sum[i] += (double)v[j] * v[j];
        const double n = (double)m.p.item[k].count, sd = i ? 0.02 : 0.02 / 2; /* block 2: divided by √4 */
        assert_true(fabs(sqrt(sum[i] / n) / sd - 1) < 5 / sqrt(2 * n));       /* five standard errors */
    }
    close_model(&m);
}

static void memory_is_planned(void **s) {
    jepa_err err = {0};
    model m;
    open_model(&m, "ref", RECOMPUTE_NONE, 0);
    pred_shape shape = {.batch = 3, .context = 400, .target = 700, .keep_for_backward = 1};
    size_t all = pred_acts_bytes(m.e, &shape);
    shape.rows = 800;
    const size_t fewer = pred_acts_bytes(m.e, &shape);
    assert_true(fewer < all && fewer > all / 1100 * 790); /* parts begin at multiples of 64 bytes */
    shape.level = RECOMPUTE_BLOCK;
    assert_true(pred_acts_bytes(m.e, &shape) < fewer);
    char plan[400];
    pred_acts_plan(m.e, &shape, plan, sizeof plan);
    assert_non_null(strstr(plan, "blocks kept for backward 450.0 KiB\n")); /* 2 blocks · 2,400 rows · 24 floats */
    shape.level = RECOMPUTE_NONE;
    int rc = -1, k;
    for (k = 1; rc; k++) {
        pred_acts *a;
        fail_at = k;
        rc = pred_acts_open(&a, m.e, m.d, &shape, &err);
        fail_at = 0;
        if (rc) refused(rc, JEPA_E_MEMORY, &err, "recompute 2 (whole blocks) needs");
        pred_acts_close(&a);
    }
    assert_true(k > 4);
    params p = {0};
    for (rc = -1, k = 1; rc; k++) {
        pred *e;
        fail_at = k;
        rc = pred_open(&e, &m.c, &p, "predictor.", &err);
        fail_at = 0;
        if (rc) assert_int_equal(rc, JEPA_E_MEMORY);
        pred_close(&e);
        params_close(&p);
    }
    assert_true(k > 4);
    shape.context = 0;
    pred_acts *a;
    refused(pred_acts_open(&a, m.e, m.d, &shape, &err), JEPA_E_USE, &err, "0 context");
    assert_int_equal(pred_acts_bytes(m.e, &shape), 0);
    shape.context = shape.target = shape.batch = INT32_MAX;
    shape.rows = 0;
    refused(pred_acts_open(&a, m.e, m.d, &shape, &err), JEPA_E_MEMORY, &err, "any memory");
    close_model(&m);
}

static void wrong_calls_are_refused_with_numbers(void **s) {
    jepa_err err = {0};
    model m, other;
    open_model(&m, "ref", RECOMPUTE_NONE, 0);
    open_model(&other, "ref", RECOMPUTE_NONE, 1);
    const pred_in good = m.in;
    const int32_t out_of_grid[BATCH * TARGET] = {1, 2, 3, 4, 5, 6, 7, 12};
    for (int i = 0; i < BATCH * TARGET * OUT; i++) m.out[i] = 7;
#define REFUSE(change, words)                                                                                                              \
    do {                                                                                                                                   \
        m.in = good;                                                                                                                       \
        change;                                                                                                                            \
        refused(pred_forward(m.e, m.q, &m.in, m.a, m.out, &err), JEPA_E_USE, &err, words);                                                 \
    } while (0)
    REFUSE(m.in.z = NULL, "missing");
    REFUSE(m.in.context = NULL, "missing");
    REFUSE(m.in.n_context = 0, "0 context");
    REFUSE(m.in.n_target = 0, "0 target");
    REFUSE(m.in.n_target = INT64_MAX, "target tokens");
    REFUSE(m.in.batch = 0, "batch 0");
    REFUSE(m.in.batch = 3, "3 x (5 + 4) tokens, and the working memory has room for 18");
    REFUSE(m.in.target = out_of_grid, "target of item 1: token index 12 (entry 3) lies outside the grid 2 x 2 x 3");
    REFUSE(m.in.grid.cols = 2, "context of item 0");
    REFUSE(m.in.grid.split_rows = -4, "split by -4");
    m.in = good;
    refused(pred_forward(m.e, other.q, &m.in, m.a, m.out, &err), JEPA_E_USE, &err, "different devices");
    refused(pred_backward(m.e, m.q, m.a, m.out, NULL, &err), JEPA_E_USE, &err, "keep_for_backward");
    for (int i = 0; i < BATCH * TARGET * OUT; i++) assert_true(m.out[i] == 7);
    forward(&m);
    refused(pred_backward(m.e, m.q, m.a, m.out, NULL, &err), JEPA_E_USE, &err, "keep_for_backward");
    forward(&other);
    buf grad = other.p.grad;
    other.p.grad = (buf){0};
    refused(pred_backward(other.e, other.q, other.a, other.out, NULL, &err), JEPA_E_USE, &err, "PARAMS_GRAD");
    other.p.grad = grad;

#define REFUSE_CFG(change, words)                                                                                                          \
    do {                                                                                                                                   \
        pred_cfg c = m.c;                                                                                                                  \
        change;                                                                                                                            \
        refused(pred_cfg_check(&c, &err), JEPA_E_MODEL, &err, words);                                                                      \
    } while (0)
    REFUSE_CFG(c.embed_dim = 0, "embed_dim is 0");
    REFUSE_CFG(c.predictor_embed_dim = -1, "predictor_embed_dim is -1");
    REFUSE_CFG(c.depth = 600, "depth is 600");
    REFUSE_CFG(c.num_heads = 5, "num_heads 5 does not divide predictor_embed_dim 24");
    REFUSE_CFG((c.predictor_embed_dim = 258, c.num_heads = 2), "head dim 129");
    REFUSE_CFG(c.out_dim = 0, "out_dim is 0");
    REFUSE_CFG(c.num_mask_tokens = 0, "num_mask_tokens is 0");
    REFUSE_CFG(c.mlp_ratio = INFINITY, "mlp_ratio");
    REFUSE_CFG(c.layer_norm_eps = NAN, "layer_norm_eps");
    REFUSE_CFG(c.positions = (pos_kind)7, "kind 7");
    REFUSE_CFG(c.positions = POS_SINCOS, "a grid of 0 x 0 x 0");
    REFUSE_CFG((c.positions = POS_SINCOS, c.frames = c.rows = c.cols = 1 << 14), "16384 x 16384 x 16384");
    REFUSE_CFG((c.positions = POS_SINCOS, c.frames = c.rows = c.cols = 2, c.predictor_embed_dim = 20), "multiple of 8, not 20");
    REFUSE_CFG((c.positions = POS_SINCOS, c.frames = 1, c.rows = c.cols = 2, c.predictor_embed_dim = 22), "multiple of 4, not 22");
    REFUSE_CFG(c.interpolate_rope = 1, "interleaved");
    REFUSE_CFG((c.interpolate_rope = 1, c.positions = POS_ROPE_INTERLEAVED), "patch_size within 1 to 256 (it is 0)");
    REFUSE_CFG(c.levels = 5, "5 levels");
    REFUSE_CFG(c.single_mask_token = 1, "num_mask_tokens is 3");
    close_model(&m);
    close_model(&other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_irrelevant),
        cmocka_unit_test(a_batch_is_its_items),
        cmocka_unit_test(all_outputs_hold_the_targets),
        cmocka_unit_test(mask_tokens_count_round),
        cmocka_unit_test(one_token_of_context_is_enough),
        cmocka_unit_test(cpu_agrees_with_ref),
        cmocka_unit_test(names_and_first_weights_are_the_published_ones),
        cmocka_unit_test(memory_is_planned),
        cmocka_unit_test(wrong_calls_are_refused_with_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
