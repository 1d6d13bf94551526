/* test_predictor_variants.c: the predictors of V-JEPA 1, I-JEPA and V-JEPA 2.1: slopes, both back ends, and what each adds, by itself. */
#include "test_predictor_common.h"

static int fail_at; /* which allocation fails next (1 = the first); 0: none */
int fault_point(const char *name) { return fail_at && !strcmp(name, "alloc") && --fail_at == 0 ? 12 /* ENOMEM */ : 0; }

enum { BLOCKS = 3 };
static const int32_t block_list[BLOCKS * BATCH * TARGET] = {1, 2, 9, 10, 0, 3, 5, 10, 5, 6, 1, 2, 4, 5, 7, 8, 10, 1, 6, 5, 3, 4, 5, 0};

typedef enum { VJEPA1, VJEPA1_RESAMPLED, IJEPA, IJEPA_RESAMPLED, VJEPA21_VIDEO, VJEPA21_IMAGE, VJEPA21_TARGETS, VARIANTS } variant;
static const char *const variant_name[VARIANTS] = {
    "V-JEPA 1",          "V-JEPA 1, another grid",    "I-JEPA", "I-JEPA, another grid", "V-JEPA 2.1, video, all tokens",
    "V-JEPA 2.1, image", "V-JEPA 2.1 as from the hub"};

static int is21(variant v) { return v >= VJEPA21_VIDEO; }

static void variant_cfg(variant v, pred_cfg *c) {
    tiny_pred_cfg(c);
    c->positions = is21(v) ? POS_ROPE_INTERLEAVED : POS_SINCOS;
    c->frames = v == VJEPA1_RESAMPLED ? 3 : v < IJEPA ? 2 : 1;
    c->rows = 2, c->cols = 3, c->uniform_power = 1;
    if (v == IJEPA || v == IJEPA_RESAMPLED) {
        c->rows = v == IJEPA ? 3 : 4, c->cols = 4;
        c->single_mask_token = c->num_mask_tokens = 1;
        c->columns_first = 1;
    }
    if (is21(v)) c->levels = 4, c->context_proj = c->modality_embedding = 1;
    if (is21(v) && v != VJEPA21_TARGETS) c->interpolate_rope = 1, c->patch_size = 16;
}

static void open_variant(model *m, const char *device, variant v, recompute level, int keep) {
    pred_cfg c;
    const int planar = v == IJEPA || v == IJEPA_RESAMPLED;
    variant_cfg(v, &c);
    open_cfg(m, device, &c, planar ? BLOCKS : 1, level, keep);
    if (planar) m->in.target = block_list, m->in.grid = (pos_grid){.frames = 1, .rows = 3, .cols = 4};
    if (v == VJEPA21_IMAGE) m->in.image = 1;
    if (v == VJEPA21_VIDEO || v == VJEPA21_IMAGE) m->all = 1, m->rows_out = CONTEXT + TARGET;
}

static int64_t out_count(const model *m) { return m->sequences * m->rows_out * OUT; }

static double loss(void *ctx) { /* Σ coef·prediction */
    model *m = ctx;
    forward(m);
    double sum = 0;
    for (int64_t i = 0; i < out_count(m); i++) sum += (double)m->coef[i] * m->out[i];
    return sum;
}

static float *backward(model *m) { /* dz */
    jepa_err err = {0};
    float *dz = mem_alloc((size_t)(BATCH * CONTEXT * m->z_dim), sizeof *dz);
    loss(m);
    memcpy(m->out, m->coef, (size_t)out_count(m) * sizeof(float));
    must(pred_backward(m->e, m->q, m->a, m->out, dz, &err));
    return dz;
}

static double size_of(const float *x, int64_t n) {
    double most = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs(x[i]));
    return most;
}

static void gradients_are_the_slopes(void **s) {
    for (variant v = 0; v < VARIANTS; v++) {
        model m;
        open_variant(&m, "ref", v, RECOMPUTE_NONE, 1);
        float *dz = backward(&m);
        double most = check_slopes(loss, &m, m.z, dz, BATCH * CONTEXT * m.z_dim, 77, "z");
        assert_true(size_of(dz, BATCH * CONTEXT * m.z_dim) > 0.1);
        for (int i = 0; i < m.p.n; i++) {
            const param *p = &m.p.item[i];
            if (p->flags & PARAM_FIXED) /* it has slopes, and no gradient on purpose */
                assert_true(size_of(param_grad(&m.p, i), p->count) == 0);
            else
                most = fmax(most, check_slopes(loss, &m, param_value(&m.p, i), param_grad(&m.p, i), p->count, (uint64_t)i, p->name));
        }
        print_message("%s: largest difference, of the tensor's largest gradient: %.2g\n", variant_name[v], most);
        mem_free(dz);
        close_model(&m);
    }
}

static void each_has_gradients_where_it_should(void **s) {
    model m;
    static const struct {
        variant v;
        const char *some, *none;
    } want[] = {
        {VJEPA1, "predictor.mask_tokens.1", "predictor.mask_tokens.0"},
        {IJEPA, "predictor.mask_token", NULL},
        {VJEPA21_VIDEO, "predictor.video_mod_embed", "predictor.img_mod_embed"},
        {VJEPA21_IMAGE, "predictor.img_mod_embed", "predictor.video_mod_embed"},
        {VJEPA21_VIDEO, "predictor.predictor_proj_context.weight", "predictor.mask_tokens.2"},
        {VJEPA21_TARGETS, "predictor.predictor_embed.0.weight", "predictor.predictor_proj_context.weight"},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        open_variant(&m, "ref", want[i].v, RECOMPUTE_NONE, 1);
        mem_free(backward(&m));
        int k = params_find(&m.p, want[i].some);
        assert_true(k >= 0 && size_of(param_grad(&m.p, k), m.p.item[k].count) > 0.05);
        if (want[i].none) {
            k = params_find(&m.p, want[i].none);
            assert_true(k >= 0 && size_of(param_grad(&m.p, k), m.p.item[k].count) == 0);
        }
        close_model(&m);
    }
}

static void both_back_ends_agree(void **s) {
    for (variant v = 0; v < VARIANTS; v++) {
        model ref, cpu;
        open_variant(&ref, "ref", v, RECOMPUTE_NONE, 1);
        open_variant(&cpu, "cpu", v, RECOMPUTE_NONE, 1);
        forward(&ref);
        forward(&cpu);
        const double out = worst(cpu.out, ref.out, out_count(&ref)) / size_of(ref.out, out_count(&ref));
        float *dr = backward(&ref), *dc = backward(&cpu);
        double grad = worst(dc, dr, BATCH * CONTEXT * ref.z_dim) / size_of(dr, BATCH * CONTEXT * ref.z_dim);
        for (int i = 0; i < ref.p.n; i++) {
            const int64_t n = ref.p.item[i].count;
            grad = fmax(grad, worst(param_grad(&cpu.p, i), param_grad(&ref.p, i), n) / fmax(size_of(param_grad(&ref.p, i), n), 0.05));
        }
        print_message("%s: outputs %.2g, gradients %.2g of the largest\n", variant_name[v], out, grad);
        assert_true(out < 3e-6 && grad < 5e-6); /* float32 sums of up to 112 terms in another order; measured 5e-7 and 9e-7 */
        mem_free(dr);
        mem_free(dc);
        close_model(&ref);
        close_model(&cpu);
    }
}

static void recomputing_and_keeping_nothing_give_the_same(void **s) {
    for (variant v = 0; v < VARIANTS; v++) {
        model plain, m;
        open_variant(&plain, "ref", v, RECOMPUTE_NONE, 0);
        forward(&plain);
        float *dz[3], *grad = NULL;
        for (int level = RECOMPUTE_NONE; level <= RECOMPUTE_BLOCK; level++) {
            open_variant(&m, "ref", v, (recompute)level, 1);
            forward(&m);
            same_bits(m.out, plain.out, out_count(&m));
            dz[level] = backward(&m);
            same_bits(dz[level], dz[0], BATCH * CONTEXT * m.z_dim);
            if (!grad) {
                grad = mem_alloc((size_t)m.p.total, sizeof *grad);
                memcpy(grad, m.p.grad.p, (size_t)m.p.total * sizeof *grad);
            }
            same_bits(m.p.grad.p, grad, m.p.total);
            /* dz where z lies, and dz not wanted */
            for (int way = 0; way < 2; way++) {
                jepa_err err = {0};
                const size_t bytes = (size_t)(BATCH * CONTEXT * m.z_dim) * sizeof(float);
                float *z = mem_alloc(bytes, 1);
                memcpy(z, m.z, bytes);
                m.in.z = z;
                memset(m.p.grad.p, 0, m.p.grad.bytes);
                forward(&m);
                memcpy(m.out, m.coef, (size_t)out_count(&m) * sizeof(float));
                must(pred_backward(m.e, m.q, m.a, m.out, way ? NULL : z, &err));
                same_bits(m.p.grad.p, grad, m.p.total);
                if (!way) same_bits(z, dz[0], BATCH * CONTEXT * m.z_dim);
                mem_free(z);
            }
            close_model(&m);
        }
        for (int level = 0; level < 3; level++) mem_free(dz[level]);
        mem_free(grad);
        close_model(&plain);
    }
}

static void a_block_is_predicted_by_itself(void **s) {
    jepa_err err = {0};
    model m;
    open_variant(&m, "ref", IJEPA, RECOMPUTE_NONE, 1);
    float *dz = backward(&m), *whole = mem_alloc((size_t)m.p.total, sizeof *whole), one[BATCH * CONTEXT * IN];
    double sum[BATCH * CONTEXT * IN] = {0};
    memcpy(whole, m.p.grad.p, (size_t)m.p.total * sizeof *whole);
    forward(&m);
    float out[BLOCKS * BATCH * TARGET * OUT];
    memcpy(out, m.out, sizeof out);
    memset(m.p.grad.p, 0, m.p.grad.bytes);
    const int64_t n = BATCH * TARGET * OUT;
    m.in.target_blocks = 1;
    for (int k = 0; k < BLOCKS; k++) {
        m.in.target = block_list + k * BATCH * TARGET;
        forward(&m);
        same_bits(m.out, out + k * n, n);
        memcpy(m.out, m.coef + k * n, (size_t)n * sizeof *out);
        must(pred_backward(m.e, m.q, m.a, m.out, one, &err));
        for (int i = 0; i < BATCH * CONTEXT * IN; i++) sum[i] += one[i];
    }
    const double size = size_of(dz, BATCH * CONTEXT * IN);
    for (int i = 0; i < BATCH * CONTEXT * IN; i++) assert_true(fabs(sum[i] - dz[i]) < 2e-6 * size); /* three sums in another order */
    const float *parts = m.p.grad.p;
    const double grad = size_of(whole, m.p.total);
    for (int64_t i = 0; i < m.p.total; i++) assert_true(fabs((double)parts[i] - whole[i]) < 2e-6 * grad);
    mem_free(dz);
    mem_free(whole);
    close_model(&m);
}

static void a_table_at_another_grid_is_the_resampled_one(void **s) {
    jepa_err err = {0};
    for (int planar = 0; planar < 2; planar++) {
        model far, near;
        open_variant(&far, "ref", planar ? IJEPA_RESAMPLED : VJEPA1_RESAMPLED, RECOMPUTE_NONE, 0);
        open_variant(&near, "ref", planar ? IJEPA : VJEPA1, RECOMPUTE_NONE, 0);
        const char *name = "predictor.predictor_pos_embed";
        const int k = params_find(&far.p, name), l = params_find(&near.p, name);
        assert_int_equal(far.p.item[k].flags & PARAM_FIXED, PARAM_FIXED);
        for (int i = 0; i < far.p.n; i++) /* the same weights; only the table differs in size */
            if (i != k) memcpy(param_value(&near.p, i), param_value(&far.p, i), (size_t)far.p.item[i].count * sizeof(float));
        const int64_t from[3] = {far.c.frames, far.c.rows, far.c.cols}, to[3] = {near.c.frames, near.c.rows, near.c.cols};
        must(pos_resample(param_value(&far.p, k), from, WIDTH, planar, to, param_value(&near.p, l), &err));
        forward(&far);
        forward(&near);
        same_bits(far.out, near.out, out_count(&far));
        forward(&far); /* the kept one */
        same_bits(far.out, near.out, out_count(&far));
        far.in.grid = (pos_grid){.frames = far.c.frames, .rows = far.c.rows, .cols = far.c.cols};
        forward(&far);
        assert_true(worst(far.out, near.out, out_count(&far)) > 1e-3);
        far.in.grid = near.in.grid;
        forward(&far);
        same_bits(far.out, near.out, out_count(&far));
        close_model(&far);
        close_model(&near);
    }
    int rc = -1, k;
    for (k = 1; rc; k++) {
        model m;
        open_variant(&m, "ref", VJEPA1_RESAMPLED, RECOMPUTE_NONE, 0);
        fail_at = k;
        rc = pred_forward(m.e, m.q, &m.in, m.a, m.out, &err);
        fail_at = 0;
        if (rc) assert_int_equal(rc, JEPA_E_MEMORY);
        must(pred_forward(m.e, m.q, &m.in, m.a, m.out, &err));
        close_model(&m);
    }
    assert_true(k > 3);
}

static void rows_and_columns_are_rescaled(void **s) {
    model on, off;
    open_variant(&on, "ref", VJEPA21_VIDEO, RECOMPUTE_NONE, 0);
    open_variant(&off, "ref", VJEPA21_TARGETS, RECOMPUTE_NONE, 0);
    off.all = 1, off.rows_out = CONTEXT + TARGET;
    forward(&on);
    forward(&off);
    const int64_t n = out_count(&on);
    assert_true(worst(on.out, off.out, n) > 1e-3);
    off.in.grid.row_factor = 15, off.in.grid.col_factor = 7.5; /* (256/16 - 1) over sides of 2 and 3, less 1 */
    forward(&off);
    same_bits(on.out, off.out, n);
    on.in.grid.split_rows = on.in.grid.split_cols = 3; /* as the published predictor: by the square that it was built with */
    forward(&on);
    assert_true(worst(on.out, off.out, n) > 1e-3);
    off.in.grid = (pos_grid){2, 2, 3, 3, 3, 7.5, 7.5};
    forward(&off);
    same_bits(on.out, off.out, n);
    close_model(&on);
    close_model(&off);
}

static void the_modality_vector_is_added_to_every_row(void **s) {
    model video, image;
    open_variant(&video, "ref", VJEPA21_VIDEO, RECOMPUTE_NONE, 0);
    open_variant(&image, "ref", VJEPA21_IMAGE, RECOMPUTE_NONE, 0);
    forward(&video);
    forward(&image);
    const int64_t n = out_count(&video);
    assert_true(worst(video.out, image.out, n) > 1e-2);
    /* without a vector, and the vector in embedding and mask token instead */
    float *v = param_value(&video.p, params_find(&video.p, "predictor.video_mod_embed"));
    float *bias = param_value(&image.p, params_find(&image.p, "predictor.predictor_embed.2.bias"));
    float *mask = param_value(&image.p, params_find(&image.p, "predictor.mask_tokens.1"));
    memset(param_value(&image.p, params_find(&image.p, "predictor.img_mod_embed")), 0, WIDTH * sizeof *v);
    for (int i = 0; i < WIDTH; i++) bias[i] += v[i], mask[i] += v[i];
    forward(&image);
    same_bits(video.out, image.out, n);
    close_model(&video);
    close_model(&image);
}

static void context_rows_have_a_projection_of_their_own(void **s) {
    model m;
    open_variant(&m, "ref", VJEPA21_VIDEO, RECOMPUTE_NONE, 0);
    forward(&m);
    const int64_t n = out_count(&m), row = (CONTEXT + TARGET) * OUT;
    float *before = mem_alloc((size_t)n, sizeof *before), some[BATCH * TARGET * OUT];
    memcpy(before, m.out, (size_t)n * sizeof *before);
    m.all = 0; /* targets alone: the same rows */
    forward(&m);
    memcpy(some, m.out, sizeof some);
    for (int b = 0; b < BATCH; b++) same_bits(some + b * TARGET * OUT, before + b * row + CONTEXT * OUT, TARGET * OUT);
    m.all = 1;
    const int k = params_find(&m.p, "predictor.predictor_proj_context.bias");
    for (int i = 0; i < OUT; i++) param_value(&m.p, k)[i] += 1;
    forward(&m);
    for (int b = 0; b < BATCH; b++) {
        same_bits(m.out + b * row + CONTEXT * OUT, before + b * row + CONTEXT * OUT, TARGET * OUT);
        for (int i = 0; i < CONTEXT * OUT; i++)
            assert_true(fabs(m.out[b * row + i] - before[b * row + i] - 1) < 1e-5); /* rounding near 10 */
    }
    mem_free(before);
    close_model(&m);
}

static double deviation(const params *p, const char *name) {
    const int k = params_find(p, name);
    if (k < 0) fail_msg("no %s", name);
    double sum = 0;
    for (int64_t i = 0; i < p->item[k].count; i++) sum += (double)param_value(p, k)[i] * param_value(p, k)[i];
    return sqrt(sum / (double)p->item[k].count);
}

static void names_and_first_weights_are_the_published_ones(void **s) {
    jepa_err err = {0};
    static const struct {
        variant v;
        const char *name;
        int64_t dim[3];
        double sd; /* after pred_init at 0.02; -1: not looked at */
    } want[] = {
        {VJEPA1, "predictor.predictor_pos_embed", {1, 12, WIDTH}, -1},
        {VJEPA1, "predictor.mask_tokens.2", {1, 1, WIDTH}, 0},
        {VJEPA1, "predictor.predictor_blocks.1.attn.proj.weight", {WIDTH, WIDTH}, 0.02}, /* not divided by 2 */
        {VJEPA1, "predictor.predictor_blocks.1.mlp.fc2.weight", {WIDTH, 36}, 0.02},
        {IJEPA, "predictor.mask_token", {1, 1, WIDTH}, 0.02},
        {IJEPA, "predictor.predictor_pos_embed", {1, 12, WIDTH}, -1},
        {VJEPA21_VIDEO, "predictor.predictor_embed.0.weight", {IN, 4 * IN}, 0.02},
        {VJEPA21_VIDEO, "predictor.predictor_embed.0.bias", {IN}, 0},
        {VJEPA21_VIDEO, "predictor.predictor_embed.2.weight", {WIDTH, IN}, 0.02},
        {VJEPA21_VIDEO, "predictor.img_mod_embed", {1, 1, WIDTH}, 1e-6},
        {VJEPA21_VIDEO, "predictor.video_mod_embed", {1, 1, WIDTH}, 1e-6},
        {VJEPA21_VIDEO, "predictor.mask_tokens.0", {1, 1, WIDTH}, 0},
        {VJEPA21_VIDEO, "predictor.predictor_proj_context.weight", {OUT, WIDTH}, 0.02},
        {VJEPA21_VIDEO, "predictor.predictor_proj_context.bias", {OUT}, 0},
        {VJEPA21_VIDEO, "predictor.predictor_blocks.1.attn.proj.weight", {WIDTH, WIDTH}, 0.01},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        model m;
        open_variant(&m, "ref", want[i].v, RECOMPUTE_NONE, 0);
        const int k = params_find(&m.p, want[i].name);
        if (k < 0) fail_msg("no %s", want[i].name);
        for (int d = 0; d < m.p.item[k].rank; d++) assert_int_equal(m.p.item[k].dim[d], want[i].dim[d]);
        must(pred_init(m.e, m.q, 0.02, 1, &err));
        const double sd = deviation(&m.p, want[i].name), n = (double)m.p.item[k].count;
        if (want[i].sd > 0 && fabs(sd / want[i].sd - 1) > 5 / sqrt(2 * n)) fail_msg("%s: %g", want[i].name, sd); /* five standard errors */
        if (want[i].sd == 0) assert_true(sd == 0);
        close_model(&m);
    }
    for (int planar = 0; planar < 2; planar++) { /* the table is filled in, also by pred_tables alone */
        model m;
        float table[12 * WIDTH];
        open_variant(&m, "ref", planar ? IJEPA : VJEPA1, RECOMPUTE_NONE, 0);
        float *t = param_value(&m.p, params_find(&m.p, "predictor.predictor_pos_embed"));
        must(pos_sincos(&(pos_sincos_cfg){.frames = m.c.frames,
                                          .rows = m.c.rows,
                                          .cols = m.c.cols,
                                          .dim = WIDTH,
                                          .planar = planar,
                                          .uniform_power = 1,
                                          .columns_first = planar},
                        table, &err));
        must(pred_tables(m.e, m.q, &err));
        same_bits(t, table, 12 * WIDTH);
        memset(t, 0, sizeof table);
        must(pred_init(m.e, m.q, 0.02, 1, &err));
        same_bits(t, table, 12 * WIDTH);
        for (int k = 1; k < 3; k++) {
            fail_at = k;
            const int rc = pred_tables(m.e, m.q, &err);
            fail_at = 0;
            if (rc) refused(rc, JEPA_E_MEMORY, &err, "no memory");
            if (k == 1) assert_int_equal(rc, JEPA_E_MEMORY);
        }
        close_model(&m);
    }
    model none;
    open_variant(&none, "ref", VJEPA21_VIDEO, RECOMPUTE_NONE, 0);
    must(pred_tables(none.e, none.q, &err)); /* nothing to fill */
    close_model(&none);
}

static void wrong_calls_are_refused_with_numbers(void **s) {
    jepa_err err = {0};
    model m, other;
    open_variant(&m, "ref", IJEPA, RECOMPUTE_NONE, 0);
    m.in.target_blocks = 4;
    refused(pred_forward(m.e, m.q, &m.in, m.a, m.out, &err), JEPA_E_USE, &err,
            "2 x (5 + 4) tokens x 4 target blocks, and the working memory has room for 54");
    m.in.target_blocks = -1;
    refused(pred_forward(m.e, m.q, &m.in, m.a, m.out, &err), JEPA_E_USE, &err, "-1 target blocks");
    m.in.target_blocks = INT32_MAX;
    refused(pred_forward(m.e, m.q, &m.in, m.a, m.out, &err), JEPA_E_USE, &err, "target blocks");
    m.in.target_blocks = BLOCKS;
    int32_t far[BLOCKS * BATCH * TARGET];
    memcpy(far, block_list, sizeof far);
    far[BLOCKS * BATCH * TARGET - 1] = 12;
    m.in.target = far;
    refused(pred_forward(m.e, m.q, &m.in, m.a, m.out, &err), JEPA_E_USE, &err, "token index 12 (entry 3) lies outside the grid 1 x 3 x 4");
    m.in.target = block_list;
    m.in.grid.frames = 2; /* a table for pictures */
    refused(pred_forward(m.e, m.q, &m.in, m.a, m.out, &err), JEPA_E_USE, &err, "1 frame, not 1 or 2");
    m.in.grid.frames = 1;
    open_variant(&other, "ref", VJEPA21_VIDEO, RECOMPUTE_NONE, 1);
    other.in.n_context = 7, other.in.n_target = 2; /* as many rows, more of them context */
    refused(pred_forward(other.e, other.q, &other.in, other.a, other.out, &err), JEPA_E_USE, &err,
            "2 x 7 context tokens, and the working memory has room for 10");
    close_model(&other);
    /* working memory of another kind on the same device */
    for (variant v = 0; v < VARIANTS; v++) {
        pred *e;
        params p = {0};
        pred_cfg c;
        pred_acts *a;
        variant_cfg(v, &c);
        must(pred_open(&e, &c, &p, "predictor.", &err));
        const pred_shape shape = {.batch = 6, .context = CONTEXT, .target = TARGET};
        must(pred_acts_open(&a, e, m.d, &shape, &err));
        if (is21(v)) refused(pred_forward(m.e, m.q, &m.in, a, m.out, &err), JEPA_E_USE, &err, "another size or kind");
        pred_acts_close(&a);
        /* every allocation, once without */
        int rc = -1, k;
        for (k = 1; rc; k++) {
            fail_at = k;
            rc = pred_acts_open(&a, e, m.d, &shape, &err);
            fail_at = 0;
            if (rc) assert_int_equal(rc, JEPA_E_MEMORY);
            pred_acts_close(&a);
        }
        assert_true(k > 3);
        pred_close(&e);
        params_close(&p);
    }
    pred_tables(m.e, m.q, &err);
    params none = {0};
    pred *e;
    must(pred_open(&e, &m.c, &none, "predictor.", &err));
    refused(pred_tables(e, m.q, &err), JEPA_E_USE, &err, "params_alloc");
    pred_close(&e);
    params_close(&none);
    close_model(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_the_slopes),
        cmocka_unit_test(each_has_gradients_where_it_should),
        cmocka_unit_test(both_back_ends_agree),
        cmocka_unit_test(recomputing_and_keeping_nothing_give_the_same),
        cmocka_unit_test(a_block_is_predicted_by_itself),
        cmocka_unit_test(a_table_at_another_grid_is_the_resampled_one),
        cmocka_unit_test(rows_and_columns_are_rescaled),
        cmocka_unit_test(the_modality_vector_is_added_to_every_row),
        cmocka_unit_test(context_rows_have_a_projection_of_their_own),
        cmocka_unit_test(names_and_first_weights_are_the_published_ones),
        cmocka_unit_test(wrong_calls_are_refused_with_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
