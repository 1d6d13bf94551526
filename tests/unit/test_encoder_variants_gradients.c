/* test_encoder_variants_gradients.c: backward through every kind of encoder, against finite differences; what gets no gradient. */
#include "test_encoder_variants.h"

enum { BATCH = 2, KEEP = 3, MOST = BATCH * TOKENS * 28 * 4, MOST_PIXELS = BATCH * PIXELS };
static const int32_t keep[BATCH * KEEP] = {4, 0, 3, 5, 2, 1}; /* lists that differ, unsorted, inside the smallest grid */

typedef struct model {
    made m;
    enc_acts *a;
    float *x, *coef, *tokens;
    enc_in in;
    int64_t n; /* numbers that come out */
} model;

static void open_model(model *k, const variant *v, int some, recompute level) {
    jepa_err err = {0};
    enc_cfg c;
    memset(k, 0, sizeof *k);
    variant_cfg(v, &c);
    make(&k->m, &c, "ref", PARAMS_GRAD);
    k->x = numbers(MOST_PIXELS, 1, -2, 2);
    k->coef = numbers(MOST, 2, -1, 1);
    k->tokens = mem_alloc(MOST, sizeof(float));
    k->in = variant_in(v, k->x, BATCH);
    if (some) k->in.keep = k->in.keep_host = keep, k->in.n_keep = KEEP;
    k->n = BATCH * tokens_of(&k->m, &k->in) * enc_out_dim(&c, v->all_levels);
    assert_true(k->n <= MOST);
    const enc_shape s = {.batch = BATCH,
                         .frames = v->frames,
                         .height = v->height,
                         .width = v->width,
                         .tokens = some ? KEEP : 0,
                         .keep_for_backward = 1,
                         .level = level};
    must(enc_acts_open(&k->a, k->m.e, k->m.d, &s, &err));
}

static void close_model(model *k) {
    enc_acts_close(&k->a);
    unmake(&k->m);
    mem_free(k->x);
    mem_free(k->coef);
    mem_free(k->tokens);
}

static double loss(void *ctx) { /* Σ coef·token */
    model *k = ctx;
    jepa_err err = {0};
    must(enc_forward(k->m.e, k->m.q, &k->in, k->a, k->tokens, &err));
    double sum = 0;
    for (int64_t i = 0; i < k->n; i++) sum += (double)k->coef[i] * k->tokens[i];
    return sum;
}

static void backward(model *k) {
    jepa_err err = {0};
    loss(k);
    memcpy(k->tokens, k->coef, (size_t)k->n * sizeof(float));
    must(enc_backward(k->m.e, k->m.q, k->a, k->tokens, &err));
}

static int used(const variant *v, const char *name) { /* does the output depend on it? */
    int level;
    if (strstr(name, "pos_embed")) return 0; /* it does, and is fixed */
    if (strstr(name, "patch_embed_img") || strstr(name, "img_mod")) return v->frames == 1;
    if (strstr(name, "patch_embed.") || strstr(name, "video_mod")) return v->frames != 1 || !v->image;
    if (sscanf(name, "encoder.norms_block.%d", &level) == 1) return level >= v->norms - (v->all_levels ? v->levels : 1);
    return 1;
}

static void gradients_are_the_slopes(void **s) {
    for (int k = 0; k < VARIANTS; k++)
        for (int some = k % 2; some < 2; some++) { /* all tokens too for every other kind: half the time */
            const variant *v = &variants[k];
            model m;
            open_model(&m, v, some, RECOMPUTE_NONE);
            backward(&m);
            double most = 0;
            for (int i = 0; i < m.m.p.n; i++) {
                const param *item = &m.m.p.item[i];
                const float *g = param_grad(&m.m.p, i);
                double size = 0;
                for (int64_t j = 0; j < item->count; j++) size = fmax(size, fabs(g[j]));
                /* the key's bias has none where nothing is rotated, but its rows lie in qkv.bias with others that have */
                if ((size > 0) != used(v, item->name)) fail_msg("%s: %s has gradients up to %g", v->name, item->name, size);
                if (strstr(item->name, "pos_embed")) assert_true(item->flags & PARAM_FIXED);
                if (!used(v, item->name)) continue;
                most = fmax(most, check_slopes(loss, &m, param_value(&m.m.p, i), g, item->count, (uint64_t)i, item->name));
            }
            print_message("%s, %s tokens: largest difference, of the tensor's largest gradient: %.2g\n", v->name, some ? "some" : "all",
                          most);
            close_model(&m);
        }
}

static void recomputing_changes_nothing(void **s) {
    for (int k = 0; k < VARIANTS; k++) {
        model none;
        open_model(&none, &variants[k], 1, RECOMPUTE_NONE);
        backward(&none);
        for (int level = RECOMPUTE_MLP; level <= RECOMPUTE_BLOCK; level++) {
            model m;
            open_model(&m, &variants[k], 1, (recompute)level);
            backward(&m);
            same_bits(m.m.p.grad.p, none.m.p.grad.p, none.m.p.total);
            close_model(&m);
        }
        close_model(&none);
    }
}

static void clips_and_images_add_up(void **s) { /* one working memory for both; each adds to what is there */
    jepa_err err = {0};
    const variant *clip = &variants[5], *image = &variants[6];
    model both, one;
    open_model(&both, clip, 0, RECOMPUTE_MLP);
    open_model(&one, image, 0, RECOMPUTE_MLP);
    backward(&both);
    float *first = mem_alloc((size_t)both.m.p.total, sizeof *first);
    memcpy(first, both.m.p.grad.p, (size_t)both.m.p.total * sizeof *first);
    backward(&one);
    both.in = one.in, both.n = one.n;
    backward(&both);
    const float *sum = both.m.p.grad.p, *second = one.m.p.grad.p;
    for (int64_t i = 0; i < both.m.p.total; i++) /* one rounding an operation, of sums held in double: two units of the larger part */
        assert_true(fabs((double)sum[i] - first[i] - second[i]) <= 2.4e-7 * (fabs(first[i]) + fabs(second[i])) + 1e-30);
    refused(enc_backward(both.m.e, both.m.q, both.a, both.tokens, &err), JEPA_E_USE, &err, "once");
    mem_free(first);
    close_model(&both);
    close_model(&one);
}

static void cpu_agrees_with_ref(void **s) {
    jepa_err err = {0};
    for (int k = 0; k < VARIANTS; k++) {
        const variant *v = &variants[k];
        model ref;
        made cpu;
        open_model(&ref, v, 1, RECOMPUTE_MLP);
        backward(&ref);
        make(&cpu, &ref.m.c, "cpu", PARAMS_GRAD);
        enc_acts *a;
        must(enc_acts_open(&a, cpu.e, cpu.d, &(enc_shape){.batch = BATCH, .tokens = KEEP, .keep_for_backward = 1, .level = RECOMPUTE_MLP},
                           &err));
        must(enc_forward(cpu.e, cpu.q, &ref.in, a, ref.tokens, &err));
        memcpy(ref.tokens, ref.coef, (size_t)ref.n * sizeof(float));
        must(enc_backward(cpu.e, cpu.q, a, ref.tokens, &err));
        double scale = 0;
        const float *g = ref.m.p.grad.p;
        for (int64_t i = 0; i < ref.m.p.total; i++) scale = fmax(scale, fabs(g[i]));
        /* float32 sums of up to 96 terms through up to five blocks and back: about a hundred roundings of 6e-8; measured 7.2e-7 */
        const double off = worst(g, cpu.p.grad.p, cpu.p.total) / scale;
        if (!(off < 1e-5)) fail_msg("%s: %g", v->name, off);
        enc_acts_close(&a);
        unmake(&cpu);
        close_model(&ref);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_the_slopes),
        cmocka_unit_test(recomputing_changes_nothing),
        cmocka_unit_test(clips_and_images_add_up),
        cmocka_unit_test(cpu_agrees_with_ref),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
