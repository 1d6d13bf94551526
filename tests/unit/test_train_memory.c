/* test_train_memory.c: samples of a mask group run together or one after the other, and the choice that a memory limit makes. */
#include "test_encoder_common.h"
#include "train/train.h"

enum { CLIPS = 3, BLOCKS = 2 };
static int32_t context[CLIPS * 3] = {0, 3, 4, 7, 8, 11, 1, 5, 6}, more[CLIPS * 5] = {0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 7, 8, 9, 10, 11},
               target[BLOCKS * CLIPS * 2] = {1, 2, 0, 5, 2, 3, 5, 6, 1, 9, 7, 8};
static const mask_set few = {.batch = CLIPS, .n_context = 3, .n_target = 2, .num_targets = 1, .context = context, .target = target};
static const mask_set several = {
    .batch = CLIPS, .n_context = 3, .n_target = 2, .num_targets = BLOCKS, .context = context, .target = target};
static const mask_set wide = {.batch = CLIPS, .n_context = 5, .n_target = 2, .num_targets = 1, .context = more, .target = target + 6};

static void configure(train_cfg *c, int images) {
    train_cfg_defaults(c);
    tiny_cfg(&c->enc);
    c->enc.positions = images ? POS_SINCOS : POS_ROPE_TILED;
    if (images) c->enc.num_frames = c->enc.tubelet_size = 1, c->enc.columns_first = 1;
    c->enc.img_height = 12, c->enc.img_width = images ? 16 : 12;
    pred_cfg_defaults(&c->pred, &c->enc);
    c->pred.predictor_embed_dim = 24, c->pred.depth = 1, c->pred.num_heads = 2, c->pred.num_mask_tokens = 2;
    c->pred.single_mask_token = c->pred.columns_first = images;
    if (images) c->pred.num_mask_tokens = 1;
    c->pred.frames = c->enc.num_frames / c->enc.tubelet_size, c->pred.rows = 3, c->pred.cols = images ? 4 : 3;
    c->smooth_l1 = images;
    c->sched = (sched_cfg){.kind = SCHED_WARMUP_COSINE, .iterations_per_epoch = 4, .epochs = 4, .start_lr = 0.01, .lr = 0.01, .final_lr = 0.01,
                           .ipe_scale = 1, .ema_start = 0.9, .ema_end = 0.9};
    c->feed.batch = CLIPS;
    c->report_variance = 1;
    c->init_sd = 0.3; /* far from zero, so that every gradient is of a size that rounding does not hide */
}

typedef struct result {
    train_numbers num;
    double *grad, *z, *all;
    int64_t n, nz, nall;
} result;

static double *doubles(const float *x, int64_t n) {
    double *out = mem_alloc((size_t)n, sizeof *out);
    assert_non_null(out);
    for (int64_t i = 0; i < n; i++) out[i] = x[i];
    return out;
}

static void gradients_of(int images, int micro, recompute level, const float *x, result *r) {
    jepa_err err = {0};
    train_cfg c;
    train *t;
    dev *d;
    const float *tokens;
    int64_t clips, per, width;
    configure(&c, images);
    c.micro_batch = micro;
    c.recompute_level = level;
    const mask_set *masks[3] = {images ? &several : &wide, &few, images ? &several : &wide}; /* the last one's context is the shorter once, once the longer */
    must(dev_open(&d, "ref", 1, &err));
    must(train_open(&t, &c, d, &err));
    must(train_init(t, &err));
    const train_batch b = {.batch = CLIPS, .frames = c.enc.num_frames, .height = c.enc.img_height, .width = c.enc.img_width, .x = x, .type = T_F32,
                           .n_gen = images ? 2 : 3, .masks = masks};
    const train_batch two[2] = {b, b};
    must(train_gradients(t, two, 2, &r->num, &err));
    r->n = train_params(t)->total;
    r->grad = doubles(train_params(t)->grad.p, r->n);
    must(train_features(t, 0, &tokens, &clips, &per, &width));
    assert_int_equal(clips, CLIPS);
    r->z = doubles(tokens, r->nz = clips * per * width);
    must(train_features(t, 1, &tokens, &clips, &per, &width));
    r->all = doubles(tokens, r->nall = clips * per * width);
    train_close(&t);
    dev_close(&d);
    train_cfg_free(&c);
}

static void free_result(result *r) { mem_free(r->grad), mem_free(r->z), mem_free(r->all); }

static void close_to(const double *a, const double *b, int64_t n, double bound, const char *what) {
    double most = 0, off = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs(a[i])), off = fmax(off, fabs(a[i] - b[i]));
    if (!(most > 0) || !(off <= bound * most)) fail_msg("%s: off by %g of %g", what, off, most);
}

/* One sample at a time, two and one, all three: the mean over the group is the same sum in another order, so loss and gradients agree to the
 * rounding of float32 sums (2^-24 relative each; a gradient adds up some hundred of them), features and what each sample does by itself to the
 * bit, or nearly so where a product's order depends on its rows. */
static void parts_add_up_to_the_group(void **s) {
    for (int images = 0; images < 2; images++) {
        float *x = numbers(CLIPS * 3 * 4 * 12 * 16, 9, -2, 2);
        result whole;
        gradients_of(images, 0, RECOMPUTE_NONE, x, &whole);
        assert_true(whole.num.finite && whole.num.loss > 0);
        static const int micro[] = {1, 2, 3, 7};
        for (int i = 0; i < 4; i++)
            for (int level = RECOMPUTE_NONE; level <= RECOMPUTE_BLOCK; level++) {
                result r;
                gradients_of(images, micro[i], (recompute)level, x, &r);
                assert_true(fabs(r.num.loss - whole.num.loss) <= 1e-6 * whole.num.loss);
                for (int g = 0; g < 3; g++) assert_true(fabs(r.num.gen_loss[g] - whole.num.gen_loss[g]) <= 1e-6 * (whole.num.gen_loss[0] + whole.num.gen_loss[1]));
                assert_true(fabs(r.num.variance_term - whole.num.variance_term) <= 1e-6);
                assert_true(fabs(r.num.grad_norm - whole.num.grad_norm) <= 1e-5 * whole.num.grad_norm);
                assert_int_equal(r.n, whole.n);
                assert_int_equal(r.nz, whole.nz);
                close_to(whole.grad, r.grad, whole.n, 3e-6, "gradients");
                close_to(whole.z, r.z, whole.nz, 1e-6, "context features");
                close_to(whole.all, r.all, whole.nall, 1e-6, "targets");
                free_result(&r);
            }
        free_result(&whole);
        mem_free(x);
    }
}

/* ---- the choice ---- */

static void plan_of(int64_t limit, recompute level, int micro, int batch, recompute *got_level, int *got_micro, char *text, size_t size) {
    jepa_err err = {0};
    train_cfg c;
    train *t = NULL;
    dev *d;
    int64_t back;
    configure(&c, 0);
    c.enc.img_height = c.enc.img_width = 96; /* large enough that activations outweigh the program */
    c.enc.depth = 12;
    c.feed.batch = batch;
    c.memory_limit = limit, c.recompute_level = level, c.micro_batch = micro;
    must(dev_open(&d, "ref", 1, &err));
    const int rc = train_open_plan(&t, &c, d, &err);
    *got_micro = 0;
    if (rc == 0) {
        train_chosen(t, got_level, got_micro, &back);
        if (limit > 0) assert_int_equal(back, limit);
        train_plan(t, text, size);
    } else {
        assert_int_equal(rc, JEPA_E_MEMORY);
        snprintf(text, size, "%s", err.text);
    }
    train_close(&t);
    dev_close(&d);
    train_cfg_free(&c);
}

static double together(const char *plan) {
    const char *at = strstr(plan, "together  ");
    assert_non_null(at);
    return strtod(at + 8, NULL);
}

/* With less and less memory: never more than the limit, the group is divided before anything is computed twice, at the end a refusal. */
static void less_memory_is_taken_step_by_step(void **s) {
    char text[4096];
    recompute level = RECOMPUTE_NONE, level_before = RECOMPUTE_NONE;
    int micro, before = 4, choices = 0;
    plan_of(0, RECOMPUTE_NONE, 0, 4, &level, &micro, text, sizeof text);
    assert_int_equal(micro, 4);
    assert_int_equal(level, RECOMPUTE_NONE);
    const double whole = together(text);
    plan_of((int64_t)(whole * 1048576) + 100000, RECOMPUTE_NONE, 0, 4, &level, &micro, text, sizeof text);
    assert_int_equal(micro, 4);
    assert_int_equal(level, RECOMPUTE_NONE);
    for (double mib = whole; mib > 1; mib *= 0.98) {
        plan_of((int64_t)(mib * 1048576), RECOMPUTE_NONE, 0, 4, &level, &micro, text, sizeof text);
        if (!micro) break;
        assert_true(together(text) <= mib + 0.1);
        assert_true(level > level_before || (level == level_before && micro <= before));
        choices += level != level_before || micro != before;
        level_before = level, before = micro;
    }
    assert_int_equal(micro, 0);
    assert_int_equal(level_before, RECOMPUTE_BLOCK);
    assert_int_equal(before, 1);
    assert_true(choices >= 4); /* 4, 2, 1 samples, then one with more computed again, then with all */
    assert_non_null(strstr(text, "the smallest step needs"));
    assert_non_null(strstr(text, "would help"));
    /* what the configuration says is where the choice begins */
    plan_of((int64_t)(whole * 1048576) + 100000, RECOMPUTE_BLOCK, 2, 4, &level, &micro, text, sizeof text);
    assert_int_equal(level, RECOMPUTE_BLOCK);
    assert_int_equal(micro, 2);
    plan_of(MEM_AUTO, RECOMPUTE_NONE, 0, 4, &level, &micro, text, sizeof text); /* this machine has more than that */
    assert_int_equal(level, RECOMPUTE_NONE);
    assert_int_equal(micro, 4);
}

static void amounts_are_read(void **s) {
    static const struct { const char *text; int64_t bytes; } k[] = {
        {"20G", (int64_t)20 << 30}, {"512M", 512 << 20}, {"1.5GiB", (int64_t)3 << 29}, {"1073741824", 1 << 30}, {"2g", (int64_t)2 << 30},
        {"1T", (int64_t)1 << 40}, {"4096K", 4 << 20}, {"auto", MEM_AUTO}, {"8GB", (int64_t)8 << 30}};
    static const char *const bad[] = {"", "G", "20X", "20GX", "-1G", "nan", "inf", "1", "1e30", "20 G", "autos", "1e18T"};
    int64_t v;
    for (size_t i = 0; i < sizeof k / sizeof *k; i++) {
        assert_int_equal(mem_size(k[i].text, &v), 0);
        assert_true(v == k[i].bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (mem_size(bad[i], &v) != JEPA_E_USE) fail_msg("\"%s\" was taken", bad[i]);
}

int main(void) {
    const struct CMUnitTest t[] = {cmocka_unit_test(parts_add_up_to_the_group), cmocka_unit_test(less_memory_is_taken_step_by_step),
                                   cmocka_unit_test(amounts_are_read)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
