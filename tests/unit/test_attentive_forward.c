/* test_attentive_forward.c: the attentive probe forward: by its definition, items apart, working memory, initialisation,
 * refusals. */
#include "test_attentive_common.h"

static const float *value(const probe *m, const char *name) {
    char full[160];
    snprintf(full, sizeof full, "probe.%s", name);
    const int i = params_find(&m->p, full);
    if (i < 0) fail_msg("no parameter %s", full);
    return param_value(&m->p, i);
}

static void linear(const float *w, const float *b, const double *x, int in, int out, double *y) {
    for (int o = 0; o < out; o++) {
        y[o] = b[o];
        for (int i = 0; i < in; i++) y[o] += (double)w[o * in + i] * x[i];
    }
}
static void norm(const float *w, const float *b, const double *x, double *y) {
    double mean = 0, var = 0;
    for (int i = 0; i < CHANNELS; i++) mean += x[i] / CHANNELS;
    for (int i = 0; i < CHANNELS; i++) var += (x[i] - mean) * (x[i] - mean) / CHANNELS;
    for (int i = 0; i < CHANNELS; i++) y[i] = (x[i] - mean) / sqrt(var + 1e-5) * w[i] + b[i];
}

/* The cross-attention block in plain double arithmetic, straight from the definition. */
static void the_cross_block_is_its_definition(void **s) {
    enum { D = CHANNELS, HEADS = 4, HD = D / HEADS, HIDDEN = 34 };
    probe m;
    open_probe(&m, "ref", 1, 0, RECOMPUTE_NONE, 0);
    probe_forward(&m);
    assert_int_equal(m.p.n, 15);
#define BLOCK "pooler.cross_attention_block."
    for (int b = 0; b < ITEMS; b++) {
        double query[D], q[D], kv[SEEN][2 * D], y[D], t[D], h[HIDDEN], pooled[D], logits[CLASSES];
        for (int i = 0; i < D; i++) query[i] = value(&m, "pooler.query_tokens")[i];
        linear(value(&m, BLOCK "xattn.q.weight"), value(&m, BLOCK "xattn.q.bias"), query, D, D, q);
        for (int n = 0; n < SEEN; n++) {
            double x[D];
            for (int i = 0; i < D; i++) x[i] = m.x[(b * SEEN + n) * D + i];
            norm(value(&m, BLOCK "norm1.weight"), value(&m, BLOCK "norm1.bias"), x, t);
            linear(value(&m, BLOCK "xattn.kv.weight"), value(&m, BLOCK "xattn.kv.bias"), t, D, 2 * D, kv[n]);
        }
        for (int k = 0; k < HEADS; k++) {
            double p[SEEN], sum = 0;
            for (int n = 0; n < SEEN; n++) {
                p[n] = 0;
                for (int c = 0; c < HD; c++) p[n] += q[k * HD + c] * kv[n][k * HD + c];
                sum += p[n] = exp(p[n] / sqrt(HD));
            }
            for (int c = 0; c < HD; c++) {
                y[k * HD + c] = query[k * HD + c];
                for (int n = 0; n < SEEN; n++) y[k * HD + c] += p[n] / sum * kv[n][D + k * HD + c];
            }
        }
        norm(value(&m, BLOCK "norm2.weight"), value(&m, BLOCK "norm2.bias"), y, t);
        linear(value(&m, BLOCK "mlp.fc1.weight"), value(&m, BLOCK "mlp.fc1.bias"), t, D, HIDDEN, h);
        for (int i = 0; i < HIDDEN; i++) h[i] = h[i] / 2 * (1 + erf(h[i] / sqrt(2)));
        linear(value(&m, BLOCK "mlp.fc2.weight"), value(&m, BLOCK "mlp.fc2.bias"), h, HIDDEN, D, pooled);
        for (int i = 0; i < D; i++) pooled[i] += y[i];
        linear(value(&m, "linear.weight"), value(&m, "linear.bias"), pooled, D, CLASSES, logits);
        for (int i = 0; i < D; i++) assert_true(fabs(pooled[i] - m.pooled[b * D + i]) < 5e-6); /* float32 between the steps, order 10 */
        for (int i = 0; i < CLASSES; i++) assert_true(fabs(logits[i] - m.logits[b * CLASSES + i]) < 5e-6);
    }
    close_probe(&m);
}

static void orders_differ_and_items_stand_alone(void **s) {
    for (int order = 0; order < 2; order++)
        for (int keep = 0; keep < 2; keep++) {
            probe m;
            jepa_err err = {0};
            float one[CLASSES], pooled[CHANNELS];
            open_probe(&m, "ref", 3, order, RECOMPUTE_NONE, keep);
            probe_forward(&m);
            for (int b = 0; b < ITEMS; b++) {
                const att_in in = {.batch = 1, .tokens = SEEN, .x = m.x + b * SEEN * CHANNELS};
                must(att_forward(m.e, m.q, &in, m.a, pooled, NULL, &err));
                must(att_forward(m.e, m.q, &in, m.a, NULL, one, &err));
                same_bits(one, m.logits + b * CLASSES, CLASSES);
                same_bits(pooled, m.pooled + b * CHANNELS, CHANNELS);
            }
            /* more tokens of fewer items fit too; the order of tokens does not matter */
            float *turned = mem_alloc(2 * SEEN * CHANNELS, sizeof *turned), far[CLASSES];
            const att_in in = {.batch = 1, .tokens = 2 * SEEN, .x = m.x}, back = {.batch = 1, .tokens = 2 * SEEN, .x = turned};
            for (int n = 0; n < 2 * SEEN; n++)
                memcpy(turned + n * CHANNELS, m.x + (2 * SEEN - 1 - n) * CHANNELS, CHANNELS * sizeof *turned);
            must(att_forward(m.e, m.q, &in, m.a, NULL, one, &err));
            must(att_forward(m.e, m.q, &back, m.a, NULL, far, &err));
            assert_true(worst(one, far, CLASSES) < 1e-5); /* sums in another order */
            mem_free(turned);
            close_probe(&m);
        }
    probe a, b;
    open_probe(&a, "ref", 3, 0, RECOMPUTE_NONE, 0);
    open_probe(&b, "ref", 3, 1, RECOMPUTE_NONE, 0);
    probe_forward(&a), probe_forward(&b);
    assert_true(worst(a.logits, b.logits, ITEMS * CLASSES) > 0.01);
    close_probe(&a), close_probe(&b);
}

static void working_memory_grows_with_the_tokens_only(void **s) {
    jepa_err err = {0};
    params p = {0};
    att *e = NULL;
    att_cfg c;
    att_cfg_defaults(&c, 1024, 174);
    must(att_open(&e, &c, &p, "", &err));
    att_shape one = {.batch = 1, .tokens = 8192}, two = {.batch = 1, .tokens = 16384}, none = {.batch = 1};
    const double mib = 1048576, small = (double)att_acts_bytes(e, &one), large = (double)att_acts_bytes(e, &two);
    print_message("16 heads, width 1024: %.0f MiB for 8192 tokens, %.0f for 16384\n", small / mib, large / mib);
    /* a stream of D, a block's D + 4D: 6·8192·1024·4 bytes; a map of tokens by tokens would be 256 MiB a head */
    assert_true(small > 191 * mib && small < 194 * mib);
    assert_true(large < 2 * small);
    assert_int_equal(att_acts_bytes(e, &none), 0);
    char text[400];
    att_acts_plan(e, &one, text, sizeof text);
    assert_non_null(strstr(text, "one block 160.0 MiB\n"));
    one.keep_for_backward = 1;
    for (int level = RECOMPUTE_NONE; level < RECOMPUTE_BLOCK; level++) {
        att_shape less = one;
        one.level = (recompute)level, less.level = (recompute)(level + 1);
        assert_true(att_acts_bytes(e, &less) < att_acts_bytes(e, &one));
    }
    att_shape huge = {.batch = INT64_MAX / 4, .tokens = 8};
    assert_int_equal(att_acts_bytes(e, &huge), 0);
    att_acts *a = NULL;
    dev *d = NULL;
    must(dev_open(&d, "ref", 1, &err));
    refused(att_acts_open(&a, e, d, &huge, &err), JEPA_E_MEMORY, &err, "more than can be counted");
    two.batch = 1 << 24;
    refused(att_acts_open(&a, e, d, &two, &err), JEPA_E_MEMORY, &err, "token stream");
    refused(att_acts_open(&a, e, d, &none, &err), JEPA_E_USE, &err, "1 x 0 tokens");
    assert_null(a);
    dev_close(&d);
    att_close(&e);
    params_close(&p);
}

/* Tokens of 64 frames of 256², all alike: the query's softmax over them is the mean of equal values, so the scores are those of one. */
static void eight_thousand_tokens(void **s) {
    enum { MANY = 8192, WIDE = 1024, OF = 174 };
    jepa_err err = {0};
    params p = {0};
    att *e = NULL;
    att_acts *a = NULL;
    att_cfg c;
    dev *d = NULL;
    queue *q = NULL;
    float *x = mem_alloc(MANY, WIDE * sizeof *x), *row = numbers(WIDE, 3, -2, 2), one[OF], all[OF];
    att_cfg_defaults(&c, WIDE, OF);
    c.depth = 1;
    must(dev_open(&d, "cpu", 2, &err));
    must(queue_open(&q, d, &err));
    must(att_open(&e, &c, &p, "", &err));
    must(params_alloc(&p, d, 0, &err));
    must(att_init(e, q, 0.02, 4, &err));
    const att_shape shape = {.batch = 1, .tokens = MANY};
    must(att_acts_open(&a, e, d, &shape, &err));
    for (int n = 0; n < MANY; n++) memcpy(x + n * WIDE, row, WIDE * sizeof *x);
    must(att_forward(e, q, &(att_in){.batch = 1, .tokens = 1, .x = x}, a, NULL, one, &err));
    must(att_forward(e, q, &(att_in){.batch = 1, .tokens = MANY, .x = x}, a, NULL, all, &err));
    assert_true(worst(one, all, OF) < 1e-4); /* float32 sums of 8192 terms, order 1 */
    const int other = 5000;
    for (int i = 0; i < WIDE; i++) x[other * WIDE + i] = -10 * row[i];
    must(att_forward(e, q, &(att_in){.batch = 1, .tokens = MANY, .x = x}, a, NULL, all, &err));
    assert_true(worst(one, all, OF) > 0); /* one other among them is seen */
    mem_free(x), mem_free(row);
    att_acts_close(&a);
    att_close(&e);
    params_close(&p);
    queue_close(&q);
    dev_close(&d);
}

static void initialisation_is_as_published(void **s) {
    jepa_err err = {0};
    probe m;
    open_probe(&m, "ref", 3, 0, RECOMPUTE_NONE, 0);
    must(att_init(m.e, m.q, 0.02, 5, &err));
    float *first = mem_alloc((size_t)m.p.total, sizeof *first);
    memcpy(first, m.p.value.p, (size_t)m.p.total * sizeof *first);
    const struct {
        const char *name;
        int n;
        double sd;
    } drawn[] = {{"pooler.cross_attention_block.xattn.kv.weight", 2 * CHANNELS * CHANNELS, 0.02},
                 {"pooler.cross_attention_block.mlp.fc2.weight", 34 * CHANNELS, 0.02 / 2}, /* as the last of two blocks: √(2·2) */
                 {"pooler.blocks.0.mlp.fc2.weight", 34 * CHANNELS, 0.02 / sqrt(2)},
                 {"pooler.blocks.1.attn.proj.weight", CHANNELS * CHANNELS, 0.02 / 2},
                 {"linear.weight", CLASSES * CHANNELS, 1 / sqrt(3.0 * CHANNELS)}};
    for (size_t i = 0; i < sizeof drawn / sizeof *drawn; i++) {
        double sum = 0;
        const float *v = value(&m, drawn[i].name);
        for (int k = 0; k < drawn[i].n; k++) sum += (double)v[k] * v[k];
        const double sd = sqrt(sum / drawn[i].n);
        assert_true(fabs(sd / drawn[i].sd - 1) < 4 / sqrt(2.0 * drawn[i].n)); /* four standard errors */
    }
    for (int k = 0; k < CLASSES * CHANNELS; k++) assert_true(fabs(value(&m, "linear.weight")[k]) <= 1 / sqrt(CHANNELS));
    assert_true(value(&m, "pooler.cross_attention_block.norm1.weight")[3] == 1);
    assert_true(value(&m, "pooler.cross_attention_block.xattn.q.bias")[3] == 0);
    assert_true(value(&m, "pooler.query_tokens")[0] != 0);
    must(att_init(m.e, m.q, 0.02, 5, &err));
    same_bits(m.p.value.p, first, m.p.total);
    must(att_init(m.e, m.q, 0.02, 6, &err));
    assert_true(worst(m.p.value.p, first, m.p.total) > 0.01);
    refused(att_init(m.e, m.q, -1, 6, &err), JEPA_E_USE, &err, "standard deviation -1");
    mem_free(first);
    close_probe(&m);
}

static void what_cannot_be_is_refused(void **s) {
    jepa_err err = {0};
    att_cfg good, c;
    att *e = NULL;
    params p = {0};
    att_cfg_defaults(&good, 48, 7);
    assert_int_equal(att_cfg_check(&good, NULL), 0);
#define BAD(field, v, words)                                                                                                               \
    c = good, c.field = v;                                                                                                                 \
    refused(att_open(&e, &c, &p, "", &err), JEPA_E_MODEL, &err, words)
    BAD(embed_dim, 0, "embed_dim is 0");
    BAD(num_heads, 7, "7 heads do not divide embed_dim 48");
    BAD(num_heads, 0, "num_heads is 0");
    BAD(depth, 0, "depth is 0");
    BAD(depth, 65, "not within 1 to 64");
    BAD(num_classes, 0, "num_classes is 0");
    BAD(mlp_ratio, 0, "mlp_ratio 0");
    BAD(mlp_ratio, NAN, "mlp_ratio");
    BAD(layer_norm_eps, 0, "layer_norm_eps 0");
    c = good, c.embed_dim = 1024, c.num_heads = 4;
    refused(att_open(&e, &c, &p, "", &err), JEPA_E_MODEL, &err, "at most 128");
    char prefix[128];
    memset(prefix, 'x', sizeof prefix - 1);
    prefix[sizeof prefix - 1] = 0;
    refused(att_open(&e, &good, &p, prefix, &err), JEPA_E_USE, &err, "too long");
    assert_null(e);
    params_close(&p);

    probe m, other;
    open_probe(&m, "ref", 2, 0, RECOMPUTE_NONE, 0);
    open_probe(&other, "ref", 3, 0, RECOMPUTE_NONE, 0);
    float out[4 * CLASSES];
    att_in in = m.in;
    att_acts *deep = NULL;
    const att_shape shape = {.batch = ITEMS, .tokens = SEEN};
    must(att_acts_open(&deep, other.e, m.d, &shape, &err));
    refused(att_forward(m.e, m.q, &in, deep, NULL, out, &err), JEPA_E_USE, &err, "a pooler of another size");
    att_acts_close(&deep);
    refused(att_forward(m.e, other.q, &in, m.a, NULL, out, &err), JEPA_E_USE, &err, "different devices");
    in.batch = ITEMS + 1;
    refused(att_forward(m.e, m.q, &in, m.a, NULL, out, &err), JEPA_E_USE, &err, "has room for 21 of 3 items");
    in = m.in, in.tokens = SEEN + 1;
    refused(att_forward(m.e, m.q, &in, m.a, NULL, out, &err), JEPA_E_USE, &err, "3 x 8 tokens");
    in = m.in, in.x = NULL;
    refused(att_forward(m.e, m.q, &in, m.a, NULL, out, &err), JEPA_E_USE, &err, "at least one of each");
    probe_forward(&m);
    refused(att_backward(m.e, m.q, m.a, out, NULL, &err), JEPA_E_USE, &err, "keep_for_backward"); /* nothing was kept */
    close_probe(&other);
    close_probe(&m);

    must(att_open(&e, &good, &p, "", &err));
    dev *d = NULL;
    queue *q = NULL;
    must(dev_open(&d, "ref", 1, &err));
    must(queue_open(&q, d, &err));
    refused(att_init(e, q, 0.02, 1, &err), JEPA_E_USE, &err, "not allocated yet");
    queue_close(&q);
    dev_close(&d);
    att_close(&e);
    att_close(&e);
    params_close(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cross_block_is_its_definition),
        cmocka_unit_test(orders_differ_and_items_stand_alone),
        cmocka_unit_test(working_memory_grows_with_the_tokens_only),
        cmocka_unit_test(eight_thousand_tokens),
        cmocka_unit_test(initialisation_is_as_published),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
