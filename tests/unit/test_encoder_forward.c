/* test_encoder_forward.c: forward passes that must agree with each other, working memory, refusals. */
#include "test_encoder_common.h"

static int fail_at; /* which allocation fails next (1 = the first); 0: none */
int fault_point(const char *name) { return fail_at && !strcmp(name, "alloc") && --fail_at == 0 ? 12 /* ENOMEM */ : 0; }

typedef struct model {
    dev *d;
    queue *q;
    params p;
    enc *e;
    enc_cfg c;
} model;

static void open_model(model *m, const char *device) {
    jepa_err err = {0};
    memset(m, 0, sizeof *m);
    tiny_cfg(&m->c);
    must(dev_open(&m->d, device, 2, &err));
    must(queue_open(&m->q, m->d, &err));
    must(enc_open(&m->e, &m->c, &m->p, "encoder.", &err));
    must(params_alloc(&m->p, m->d, 0, &err));
    random_params(&m->p, 5);
}

static void close_model(model *m) {
    enc_close(&m->e);
    params_close(&m->p);
    queue_close(&m->q);
    dev_close(&m->d);
}

/* One forward with working memory made for it. */
static float *run(model *m, const enc_in *in, int keep_for_backward, recompute level) {
    jepa_err err = {0};
    enc_acts *a;
    const enc_shape s = {.batch = in->batch,
                         .frames = in->frames,
                         .height = in->height,
                         .width = in->width,
                         .tokens = in->keep ? in->n_keep : 0,
                         .keep_for_backward = keep_for_backward,
                         .level = level};
    must(enc_acts_open(&a, m->e, m->d, &s, &err));
    const int64_t n = in->keep ? in->n_keep : enc_tokens(&m->c, in->frames, in->height, in->width);
    float *tokens = mem_alloc((size_t)(in->batch * n * DIM), sizeof *tokens);
    must(enc_forward(m->e, m->q, in, a, tokens, &err));
    enc_acts_close(&a);
    return tokens;
}

static enc_in clip(const float *x, int64_t batch) {
    return (enc_in){.batch = batch, .frames = 4, .height = 8, .width = 12, .x = x, .type = T_F32};
}

static void order_of_the_context_is_irrelevant(void **s) {
    const char *device[] = {"ref", "cpu"};
    for (int k = 0; k < 2; k++) {
        model m;
        open_model(&m, device[k]);
        float *x = numbers(2 * PIXELS, 1, -2, 2);
        int32_t keep[2 * TOKENS];
        uint32_t order[TOKENS];
        rng r = rng_key(3, 0, 0, RNG_TEST);
        for (int b = 0; b < 2; b++) {
            rng_permute(&r, order, TOKENS);
            for (int i = 0; i < TOKENS; i++) keep[b * TOKENS + i] = (int32_t)order[i];
        }
        enc_in in = clip(x, 2);
        float *full = run(&m, &in, 0, RECOMPUTE_NONE);
        in.keep = in.keep_host = keep;
        in.n_keep = TOKENS;
        float *mixed = run(&m, &in, 0, RECOMPUTE_NONE);
        for (int i = 0; i < 2 * TOKENS; i++) /* sums in another order: a few float32 roundings of values of order 1; measured 8e-7 */
            assert_true(worst(mixed + i * DIM, full + (i / TOKENS * TOKENS + keep[i]) * DIM, DIM) < 5e-6);
        mem_free(x);
        mem_free(full);
        mem_free(mixed);
        close_model(&m);
    }
}

static void a_batch_is_its_items(void **s) {
    model m;
    open_model(&m, "ref");
    float *x = numbers(3 * PIXELS, 1, -2, 2);
    const int32_t keep[] = {0, 5, 7, 1, 5, 11, 2, 3, 4}; /* lists that differ: a rotary table each */
    enc_in all = clip(x, 3), some = all;
    some.keep = some.keep_host = keep;
    some.n_keep = 3;
    float *a = run(&m, &all, 0, RECOMPUTE_NONE), *b = run(&m, &some, 0, RECOMPUTE_NONE);
    for (int i = 0; i < 3; i++) {
        enc_in one = clip(x + i * PIXELS, 1), part = one;
        part.keep = part.keep_host = keep + 3 * i;
        part.n_keep = 3;
        float *a1 = run(&m, &one, 0, RECOMPUTE_NONE), *b1 = run(&m, &part, 0, RECOMPUTE_NONE);
        same_bits(a + i * TOKENS * DIM, a1, TOKENS * DIM);
        same_bits(b + i * 3 * DIM, b1, 3 * DIM);
        mem_free(a1);
        mem_free(b1);
    }
    mem_free(x);
    mem_free(a);
    mem_free(b);
    close_model(&m);
}

static void keeping_for_backward_changes_nothing(void **s) {
    model m;
    open_model(&m, "ref");
    float *x = numbers(2 * PIXELS, 1, -2, 2);
    const enc_in in = clip(x, 2);
    float *plain = run(&m, &in, 0, RECOMPUTE_NONE);
    for (int level = RECOMPUTE_NONE; level <= RECOMPUTE_BLOCK; level++) {
        float *kept = run(&m, &in, 1, (recompute)level);
        same_bits(plain, kept, 2 * TOKENS * DIM);
        mem_free(kept);
    }
    mem_free(plain);
    mem_free(x);
    close_model(&m);
}

static void hidden_states_are_shallower_encoders(void **s) {
    model m;
    jepa_err err = {0};
    open_model(&m, "ref");
    float *x = numbers(2 * PIXELS, 1, -2, 2), *plain[4], *normed[4];
    for (int i = 0; i < 4; i++) {
        plain[i] = mem_alloc(2 * TOKENS * DIM, sizeof(float));
        normed[i] = mem_alloc(2 * TOKENS * DIM, sizeof(float));
    }
    const int after[] = {0, 1, 2, 3};
    enc_in in = clip(x, 2);
    in.hidden_n = 4, in.hidden_after = after, in.hidden_out = normed, in.hidden_norm = 1;
    float *tokens = run(&m, &in, 0, RECOMPUTE_NONE);
    same_bits(normed[3], tokens, 2 * TOKENS * DIM);
    mem_free(tokens);
    in.hidden_out = plain, in.hidden_norm = 0;
    tokens = run(&m, &in, 1, RECOMPUTE_MLP);
    const ops *o = dev_ops(m.d);
    for (int i = 0; i < 4; i++) { /* an encoder of depth i with the same weights gives the normed state; LayerNorm joins the two kinds */
        float *again = mem_alloc(2 * TOKENS * DIM, sizeof(float));
        const int w = params_find(&m.p, "encoder.norm.weight"), b = params_find(&m.p, "encoder.norm.bias");
        assert_int_equal(o->layernorm(m.q, &(op_layernorm){.rows = 2 * TOKENS,
                                                           .d = DIM,
                                                           .eps = 1e-6,
                                                           .x = plain[i],
                                                           .y = again,
                                                           .w = param_value(&m.p, w),
                                                           .b = param_value(&m.p, b)}),
                         0);
        same_bits(again, normed[i], 2 * TOKENS * DIM);
        mem_free(again);
        if (i) {
            model less;
            memset(&less, 0, sizeof less);
            less.c = m.c, less.d = m.d, less.q = m.q;
            less.c.depth = i;
            must(enc_open(&less.e, &less.c, &less.p, "encoder.", &err));
            must(params_alloc(&less.p, m.d, 0, &err));
            for (int k = 0; k < less.p.n; k++)
                memcpy(param_value(&less.p, k), param_value(&m.p, params_find(&m.p, less.p.item[k].name)),
                       (size_t)less.p.item[k].count * 4);
            const enc_in whole = clip(x, 2);
            float *t = run(&less, &whole, 0, RECOMPUTE_NONE);
            same_bits(t, normed[i], 2 * TOKENS * DIM);
            mem_free(t);
            enc_close(&less.e);
            params_close(&less.p);
        }
    }
    mem_free(tokens);
    /* only a hidden state wanted: the rest is not run, the state is the same */
    enc_acts *a;
    must(enc_acts_open(&a, m.e, m.d, &(enc_shape){.batch = 2, .tokens = TOKENS}, &err));
    float *only = mem_alloc(2 * TOKENS * DIM, sizeof(float));
    in.hidden_n = 1, in.hidden_after = after + 1, in.hidden_out = &only;
    must(enc_forward(m.e, m.q, &in, a, NULL, &err));
    same_bits(only, plain[1], 2 * TOKENS * DIM);
    in.hidden_n = 0;
    refused(enc_forward(m.e, m.q, &in, a, NULL, &err), JEPA_E_USE, &err, "no place for the tokens");
    enc_acts_close(&a);
    mem_free(only);
    for (int i = 0; i < 4; i++) {
        mem_free(plain[i]);
        mem_free(normed[i]);
    }
    mem_free(x);
    close_model(&m);
}

static void smaller_calls_fit_larger_memory(void **s) {
    model m;
    jepa_err err = {0};
    open_model(&m, "ref");
    float *x = numbers(3 * PIXELS, 1, -2, 2), *out = mem_alloc(3 * TOKENS * DIM, sizeof *out);
    const int32_t keep[] = {0, 5, 7, 1, 5, 11, 2, 3, 4};
    for (int kept = 0; kept < 2; kept++) {
        enc_acts *a;
        const enc_shape shape = {.batch = 3, .frames = 4, .height = 8, .width = 12, .keep_for_backward = kept, .level = RECOMPUTE_MLP};
        must(enc_acts_open(&a, m.e, m.d, &shape, &err));
        enc_in in[4] = {clip(x, 3), clip(x, 1), clip(x, 3), clip(x, 1)};
        in[2].keep = in[2].keep_host = keep, in[2].n_keep = 3;
        in[3].frames = 2, in[3].height = 12, in[3].width = 20; /* another grid: 1 x 3 x 5 */
        for (int i = 0; i < 4; i++) {
            const int64_t n = in[i].batch * (in[i].keep ? in[i].n_keep : enc_tokens(&m.c, in[i].frames, in[i].height, in[i].width));
            must(enc_forward(m.e, m.q, &in[i], a, out, &err));
            float *own = run(&m, &in[i], kept, RECOMPUTE_MLP);
            same_bits(out, own, n * DIM);
            mem_free(own);
        }
        enc_acts_close(&a);
    }
    mem_free(x);
    mem_free(out);
    close_model(&m);
}

static void bytes_are_imagenet_s_colours(void **s) {
    static const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};
    model m;
    open_model(&m, "ref");
    uint8_t *u = mem_alloc(PIXELS, 1);
    float *x = mem_alloc(PIXELS, sizeof *x), *hf = mem_alloc(PIXELS, sizeof *hf);
    rng r = rng_key(4, 0, 0, RNG_TEST);
    for (int t = 0; t < 4; t++)
        for (int i = 0; i < 96; i++)
            for (int c = 0; c < 3; c++) {
                const uint8_t v = (uint8_t)rng_below(&r, 256);
                u[(t * 96 + i) * 3 + c] = v;
                x[(c * 4 + t) * 96 + i] = hf[(t * 3 + c) * 96 + i] = (float)((v / 255.0 - mean[c]) / std[c]);
            }
    enc_in in = clip(x, 1), bytes = in, other = in;
    bytes.x = u, bytes.type = T_U8;
    other.x = hf, other.frames_first = 1;
    float *a = run(&m, &in, 0, RECOMPUTE_NONE), *b = run(&m, &bytes, 0, RECOMPUTE_NONE), *c = run(&m, &other, 0, RECOMPUTE_NONE);
    same_bits(a, c, TOKENS * DIM);
    assert_true(worst(a, b, TOKENS * DIM) < 5e-6); /* at most one rounding of each pixel, through three blocks */
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(u);
    mem_free(x);
    mem_free(hf);
    close_model(&m);
}

static void cpu_agrees_with_ref(void **s) {
    model ref, cpu;
    open_model(&ref, "ref");
    open_model(&cpu, "cpu");
    float *x = numbers(2 * PIXELS, 1, -2, 2);
    const enc_in in = clip(x, 2);
    float *truth = run(&ref, &in, 0, RECOMPUTE_NONE), *fast = run(&cpu, &in, 0, RECOMPUTE_NONE);
    assert_true(worst(fast, truth, 2 * TOKENS * DIM) < 1e-5); /* float32 sums of up to 96 terms through three blocks; measured 1.2e-6 */
    mem_free(x);
    mem_free(truth);
    mem_free(fast);
    close_model(&ref);
    close_model(&cpu);
}

static void memory_is_planned(void **s) {
    jepa_err err = {0};
    enc_cfg c;
    enc *e;
    dev *d;
    params p = {0};
    char plan[512];
    enc_cfg_defaults(&c);
    must(dev_open(&d, "ref", 0, &err));
    must(enc_open(&e, &c, &p, "encoder.", &err));
    enc_shape shape = {.batch = 2, .frames = 16, .height = 256, .width = 256, .keep_for_backward = 1};
    size_t bytes[4];
    for (int level = 0; level < 3; level++) {
        shape.level = (recompute)level;
        bytes[level] = enc_acts_bytes(e, &shape);
    }
    /* ViT-L, 4,096 rows of 1,024 floats: what one block keeps is 12, 6 and 1 of them (and statistics), times 24; the output of GELU, 4 of
     * them, exists once */
    const size_t row = (size_t)4096 * 1024 * 4;
    assert_true(bytes[0] > 24 * 12 * row && bytes[0] < 24 * 13 * row);
    assert_true(bytes[1] > 24 * 6 * row && bytes[1] < 24 * 8 * row);
    assert_true(bytes[2] > 24 * row && bytes[2] < 24 * 3 * row);
    shape.keep_for_backward = 0;
    bytes[3] = enc_acts_bytes(e, &shape);
    assert_true(bytes[3] < 7 * row); /* the stream, one of width 1,024, one of 4,096, and the rotary tables */
    enc_acts_plan(e, &shape, plan, sizeof plan);
    assert_non_null(strstr(plan, "token stream 16.0 MiB\n"));
    assert_non_null(strstr(plan, "one block 80.0 MiB\n"));
    shape.keep_for_backward = 1;
    shape.level = RECOMPUTE_NONE;
    enc_acts_plan(e, &shape, plan, sizeof plan);
    assert_non_null(strstr(plan, "blocks kept for backward 4.5 GiB\n"));
    char tiny[8];
    enc_acts_plan(e, &shape, tiny, sizeof tiny);
    assert_true(strlen(tiny) < sizeof tiny);

    enc_acts *a;
    fail_at = 3; /* the list of blocks, and then the one large allocation */
    refused(enc_acts_open(&a, e, d, &shape, &err), JEPA_E_MEMORY, &err, "blocks kept for backward 4.5 GiB");
    assert_int_equal(fail_at, 0);
    assert_null(a);
    assert_non_null(strstr(err.text, "recompute 2 (whole blocks) needs"));
    assert_non_null(strstr(err.text, "a smaller batch"));
    shape.batch = INT32_MAX;
    shape.tokens = INT32_MAX;
    assert_int_equal(enc_acts_bytes(e, &shape), 0);
    refused(enc_acts_open(&a, e, d, &shape, &err), JEPA_E_MEMORY, &err, "any memory");
    shape.tokens = 0, shape.frames = 1;
    refused(enc_acts_open(&a, e, d, &shape, &err), JEPA_E_USE, &err, "1 frames of 256 x 256");
    shape.frames = 16, shape.batch = 0;
    refused(enc_acts_open(&a, e, d, &shape, &err), JEPA_E_USE, &err, "batch 0");
    shape.batch = 1, shape.level = (recompute)7;
    refused(enc_acts_open(&a, e, d, &shape, &err), JEPA_E_USE, &err, "recompute level 7");
    enc_close(&e);
    params_close(&p);
    dev_close(&d);
}

static void any_allocation_may_fail(void **s) {
    jepa_err err = {0};
    model m;
    open_model(&m, "ref");
    const enc_shape shape = {.batch = 2, .frames = 4, .height = 8, .width = 12, .keep_for_backward = 1};
    int rc = -1, k;
    for (k = 1; rc; k++) {
        enc_acts *a;
        fail_at = k;
        rc = enc_acts_open(&a, m.e, m.d, &shape, &err);
        fail_at = 0;
        if (rc) refused(rc, JEPA_E_MEMORY, &err, "blocks kept");
        if (rc) assert_null(a);
        enc_acts_close(&a);
    }
    assert_true(k > 4);
    params p = {0};
    for (rc = -1, k = 1; rc; k++) {
        enc *e;
        fail_at = k;
        rc = enc_open(&e, &m.c, &p, "encoder.", &err);
        fail_at = 0;
        if (rc) assert_int_equal(rc, JEPA_E_MEMORY);
        enc_close(&e);
        params_close(&p);
    }
    assert_true(k > 3);
    close_model(&m);
}

static void wrong_calls_are_refused_with_numbers(void **s) {
    jepa_err err = {0};
    model m, other;
    open_model(&m, "ref");
    open_model(&other, "ref");
    float *x = numbers(2 * PIXELS, 1, -2, 2), out[2 * TOKENS * DIM], *hidden[2] = {out, out};
    for (int i = 0; i < 2 * TOKENS * DIM; i++) out[i] = 7;
    enc_acts *a;
    must(enc_acts_open(&a, m.e, m.d, &(enc_shape){.batch = 1, .tokens = TOKENS}, &err));
    const int32_t keep[] = {0, 12}, good[] = {0, 11};
    const int bad_order[] = {2, 1}, bad_depth[] = {4};
#define REFUSE(change, words)                                                                                                              \
    do {                                                                                                                                   \
        enc_in in = clip(x, 1);                                                                                                            \
        change;                                                                                                                            \
        refused(enc_forward(m.e, m.q, &in, a, out, &err), JEPA_E_USE, &err, words);                                                        \
    } while (0)
    REFUSE(in.frames = 1, "1 frame given, a tubelet is 2");
    REFUSE(in.frames = 0, "0 frames given");
    REFUSE(in.height = 10, "10 x 12 pixels (height x width) is not made of whole 4 x 4 patches; nearest below: 8 x 12");
    REFUSE(in.width = -4, "8 x -4");
    REFUSE(in.width = INT64_MAX / 4 * 4, "too many tokens");
    REFUSE(in.batch = 2, "2 x 12 tokens, and the working memory has room for 12");
    REFUSE(in.batch = 0, "batch of 0");
    REFUSE(in.x = NULL, "no input");
    REFUSE(in.type = T_F16, "f16");
    REFUSE((in.keep = in.keep_host = keep, in.n_keep = 2), "token index 12 (entry 1) lies outside the grid 2 x 2 x 3 of 12 tokens");
    REFUSE((in.keep = good, in.n_keep = 2), "host memory");
    REFUSE((in.keep = in.keep_host = good, in.n_keep = 0), "0 context tokens");
    REFUSE((in.keep = in.keep_host = good, in.n_keep = 13), "13 context tokens of a grid of 12");
    REFUSE((in.hidden_n = 2, in.hidden_after = bad_order, in.hidden_out = hidden), "ascending");
    REFUSE((in.hidden_n = 1, in.hidden_after = bad_depth, in.hidden_out = hidden), "after block 4");
    REFUSE((in.hidden_n = 1, in.hidden_after = bad_order), "place for each");
    REFUSE(in.split_rows = -1, "split by -1");
    enc_in in = clip(x, 1);
    refused(enc_forward(m.e, other.q, &in, a, out, &err), JEPA_E_USE, &err, "different devices");
    enc *deeper;
    params p = {0};
    enc_cfg c = m.c;
    c.depth = 4;
    must(enc_open(&deeper, &c, &p, "", &err));
    refused(enc_forward(deeper, m.q, &in, a, out, &err), JEPA_E_USE, &err, "params_alloc");
    must(params_alloc(&p, m.d, 0, &err));
    refused(enc_forward(deeper, m.q, &in, a, out, &err), JEPA_E_USE, &err, "another size");
    for (int i = 0; i < 2 * TOKENS * DIM; i++) assert_true(out[i] == 7); /* nothing was touched */
    must(enc_forward(m.e, m.q, &in, a, out, &err));
    assert_true(out[0] != 7);
    enc_close(&deeper);
    params_close(&p);
    enc_acts_close(&a);
    enc_acts_close(&a);
    mem_free(x);
    close_model(&m);
    close_model(&other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_of_the_context_is_irrelevant),
        cmocka_unit_test(a_batch_is_its_items),
        cmocka_unit_test(keeping_for_backward_changes_nothing),
        cmocka_unit_test(hidden_states_are_shallower_encoders),
        cmocka_unit_test(smaller_calls_fit_larger_memory),
        cmocka_unit_test(bytes_are_imagenet_s_colours),
        cmocka_unit_test(cpu_agrees_with_ref),
        cmocka_unit_test(memory_is_planned),
        cmocka_unit_test(any_allocation_may_fail),
        cmocka_unit_test(wrong_calls_are_refused_with_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
