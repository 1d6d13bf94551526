/* test_encoder_config.c: sizes of the family, ranges of the configuration, names and shapes of parameters, positions, initialisation. */
#include "test_encoder_common.h"

static void the_family_has_its_sizes(void **s) {
    static const struct {
        const char *name;
        int dim, depth, heads, hidden;
    } table[] = {
        {"vit_tiny", 192, 12, 3, 768},
        {"vit_small", 384, 12, 6, 1536},
        {"vit_base", 768, 12, 12, 3072},
        {"vit_large", 1024, 24, 16, 4096},
        {"vit_huge", 1280, 32, 16, 5120},
        {"vit_giant", 1408, 40, 16, 6144},
        {"vit_giant_xformers", 1408, 40, 22, 6144},
        {"vit_gigantic_xformers", 1664, 48, 26, 8192},
    };
    jepa_err err = {0};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        enc_cfg c;
        enc *e;
        params p = {0};
        enc_cfg_defaults(&c);
        must(enc_cfg_size(&c, table[i].name, &err));
        assert_int_equal(c.embed_dim, table[i].dim);
        assert_int_equal(c.depth, table[i].depth);
        assert_int_equal(c.num_heads, table[i].heads);
        must(enc_open(&e, &c, &p, "encoder.", &err));
        char name[128];
        snprintf(name, sizeof name, "encoder.blocks.%d.mlp.fc1.weight", table[i].depth - 1);
        int k = params_find(&p, name);
        assert_true(k >= 0);
        assert_int_equal(p.item[k].dim[0], table[i].hidden); /* 48/11 and 64/13 of the width come out whole */
        assert_int_equal(p.n, 4 + 12 * table[i].depth);
        /* working memory of a clip of 16 frames of 256² is planned without being had */
        const enc_shape shape = {.batch = 1, .frames = 16, .height = 256, .width = 256};
        assert_true(enc_acts_bytes(e, &shape) > (size_t)2048 * table[i].dim * 4 * 5);
        enc_close(&e);
        params_close(&p);
    }
    enc_cfg c;
    enc_cfg_defaults(&c);
    refused(enc_cfg_size(&c, "vit_grand", &err), JEPA_E_MODEL, &err, "vit_grand");
    refused(enc_cfg_size(&c, NULL, &err), JEPA_E_MODEL, &err, "vit_large");
}

static void names_and_shapes_are_meta_s(void **s) {
    jepa_err err = {0};
    enc_cfg c;
    enc *e;
    params p = {0};
    tiny_cfg(&c);
    must(enc_open(&e, &c, &p, "target_encoder.", &err));
    static const struct {
        const char *name;
        int rank;
        int64_t dim[5];
    } want[] = {
        {"target_encoder.patch_embed.proj.weight", 5, {28, 3, 2, 4, 4}},
        {"target_encoder.patch_embed.proj.bias", 1, {28}},
        {"target_encoder.blocks.0.norm1.weight", 1, {28}},
        {"target_encoder.blocks.2.attn.qkv.weight", 2, {84, 28}},
        {"target_encoder.blocks.2.attn.qkv.bias", 1, {84}},
        {"target_encoder.blocks.1.attn.proj.weight", 2, {28, 28}},
        {"target_encoder.blocks.1.mlp.fc1.weight", 2, {64, 28}},
        {"target_encoder.blocks.1.mlp.fc2.weight", 2, {28, 64}},
        {"target_encoder.norm.bias", 1, {28}},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        int k = params_find(&p, want[i].name);
        if (k < 0) fail_msg("no %s", want[i].name);
        assert_int_equal(p.item[k].rank, want[i].rank);
        for (int d = 0; d < want[i].rank; d++) assert_int_equal(p.item[k].dim[d], want[i].dim[d]);
    }
    enc *again;
    refused(enc_open(&again, &c, &p, "target_encoder.", &err), JEPA_E_USE, &err,
            "target_encoder.patch_embed.proj.weight"); /* names twice */
    assert_null(again);
    enc_close(&e);
    enc_close(&e);
    enc_close(NULL);
    params_close(&p);
    /* a tubelet of one frame: the weight of a 2-D convolution */
    c.tubelet_size = 1;
    must(enc_open(&e, &c, &p, "", &err));
    assert_int_equal(p.item[params_find(&p, "patch_embed.proj.weight")].rank, 4);
    enc_close(&e);
    params_close(&p);
    char far[130];
    memset(far, 'a', sizeof far);
    far[129] = 0;
    refused(enc_open(&e, &c, &p, far, &err), JEPA_E_USE, &err, "too long");
    params_close(&p);
}

static void wrong_numbers_are_refused(void **s) {
    jepa_err err = {0};
    enc_cfg c;
    enc_cfg_defaults(&c);
    must(enc_cfg_check(&c, &err));
#define REFUSE(change, words)                                                                                                              \
    do {                                                                                                                                   \
        enc_cfg_defaults(&c);                                                                                                              \
        change;                                                                                                                            \
        refused(enc_cfg_check(&c, &err), JEPA_E_MODEL, &err, words);                                                                       \
    } while (0)
    REFUSE(c.patch_size = 0, "patch_size is 0");
    REFUSE(c.patch_size = 257, "patch_size is 257");
    REFUSE(c.img_height = 15, "img_height is 15, not within 16");
    REFUSE(c.img_width = 1 << 20, "img_width");
    REFUSE(c.tubelet_size = -2, "tubelet_size is -2");
    REFUSE(c.num_frames = 1, "num_frames is 1, not within 2");
    REFUSE(c.in_chans = 0, "in_chans");
    REFUSE(c.embed_dim = 0, "embed_dim");
    REFUSE(c.depth = 513, "depth is 513");
    REFUSE(c.num_heads = 0, "num_heads is 0");
    REFUSE(c.num_heads = 15, "num_heads 15 does not divide embed_dim 1024");
    REFUSE(c.num_heads = 4, "head dim 256");
    REFUSE(c.mlp_ratio = 0, "mlp_ratio 0");
    REFUSE(c.mlp_ratio = NAN, "mlp_ratio");
    REFUSE(c.mlp_ratio = 1e-4, "hidden width");
    REFUSE(c.layer_norm_eps = 0, "layer_norm_eps 0");
    REFUSE(c.layer_norm_eps = INFINITY, "layer_norm_eps");
    REFUSE(c.positions = (pos_kind)3, "positions of kind 3");
    REFUSE(c.interpolate_rope = 1, "interpolate_rope");
    REFUSE((c.positions = POS_SINCOS, c.interpolate_rope = 1), "interpolate_rope");
    REFUSE((c.positions = POS_SINCOS, c.embed_dim = 36, c.num_heads = 2),
           "without uniform_power need an embed_dim that is a multiple of 8");
    REFUSE((c.positions = POS_SINCOS, c.tubelet_size = c.num_frames = 1, c.embed_dim = 42, c.num_heads = 2), "of pictures");
    REFUSE((c.positions = POS_SINCOS, c.image_patch_embed = 1), "image_patch_embed");
    REFUSE((c.positions = POS_SINCOS, c.modality_embedding = 1), "modality_embedding");
    REFUSE((c.positions = POS_SINCOS, c.patch_size = 1, c.tubelet_size = 1, c.num_frames = c.img_height = c.img_width = 1 << 14),
           "too large");
    REFUSE(c.level_norms = 5, "of 5 norms");
    REFUSE(c.level_norms = -1, "of -1 norms");
    REFUSE(c.levels = 2, "2 levels of 0 norms");
    REFUSE((c.level_norms = 2, c.levels = 3), "3 levels of 2 norms");
    REFUSE((c.level_norms = 1, c.level_block[0] = 22), "the last is block 23");
    REFUSE((c.level_norms = 2, c.level_block[0] = 23, c.level_block[1] = 23), "level 1 applies after block 23");
    REFUSE((c.level_norms = 2, c.level_block[0] = -1, c.level_block[1] = 23), "level 0 applies after block -1");
    REFUSE((c.level_norms = 2, c.level_block[0] = 24, c.level_block[1] = 25), "level 0 applies after block 24");
    enc_cfg_defaults(&c);
    assert_int_equal(enc_tokens(&c, 16, 256, 256), 2048);
    assert_int_equal(enc_tokens(&c, 17, 256, 256), 2048); /* frames past a whole tubelet are dropped */
    assert_int_equal(enc_tokens(&c, 1, 256, 256), 0);
    c.image_patch_embed = 1; /* one frame is an image then, and not half a tubelet */
    assert_int_equal(enc_tokens(&c, 1, 256, 256), 256);
    assert_int_equal(enc_tokens(&c, 2, 256, 256), 256);
    c.image_patch_embed = 0;
    assert_int_equal(enc_tokens(&c, INT64_MAX, INT64_MAX, INT64_MAX), 0);
    assert_int_equal(enc_tokens(&c, 1 << 20, 1 << 12, 1 << 12), 0); /* more than an int32 counts */
}

static void positions_split_an_index(void **s) {
    jepa_err err = {0};
    float pos[3 * 24];
    const pos_grid g = {.frames = 2, .rows = 3, .cols = 4};
    must(pos_fill(&g, NULL, 24, pos, &err));
    for (int i = 0; i < 24; i++) {
        assert_true(pos[3 * i] == (float)(i / 12));
        assert_true(pos[3 * i + 1] == (float)(i / 4 % 3));
        assert_true(pos[3 * i + 2] == (float)(i % 4));
    }
    const int32_t some[] = {23, 0, 13, 13};
    must(pos_fill(&g, some, 4, pos, &err));
    const float want[12] = {1, 2, 3, 0, 0, 0, 1, 0, 1, 1, 0, 1};
    same_bits(pos, want, 12);
    /* Meta's predictor on 4 x 4 x 6 tokens: index 95 as if the grid were 4 x 4 */
    const pos_grid square = {.frames = 4, .rows = 4, .cols = 6, .split_rows = 4, .split_cols = 4};
    const int32_t last[] = {95};
    must(pos_fill(&square, last, 1, pos, &err));
    const float quirk[3] = {5, 3, 3};
    same_bits(pos, quirk, 3);
    const int32_t out[] = {3, 24}, below[] = {-1};
    refused(pos_fill(&g, out, 2, pos, &err), JEPA_E_USE, &err, "token index 24 (entry 1) lies outside the grid 2 x 3 x 4 of 24 tokens");
    refused(pos_fill(&g, below, 1, pos, &err), JEPA_E_USE, &err, "token index -1");
    refused(pos_fill(&(pos_grid){.rows = 3, .cols = 4}, NULL, 0, pos, &err), JEPA_E_USE, &err, "0 x 3 x 4");
    refused(pos_fill(&(pos_grid){.frames = INT64_MAX, .rows = INT64_MAX, .cols = 4}, NULL, 0, pos, &err), JEPA_E_USE, &err, "cannot be");
    refused(pos_fill(&(pos_grid){.frames = 2, .rows = 3, .cols = 4, .split_rows = -1}, NULL, 0, pos, &err), JEPA_E_USE, &err,
            "split by -1");
}

static double spread(const params *p, const char *name, double *mean) {
    const int i = params_find(p, name);
    const float *v = param_value(p, i);
    double s = 0, ss = 0;
    for (int64_t k = 0; k < p->item[i].count; k++) s += v[k], ss += (double)v[k] * v[k];
    *mean = s / (double)p->item[i].count;
    return sqrt(ss / (double)p->item[i].count - *mean * *mean);
}

static void initial_weights_are_the_published_ones(void **s) {
    jepa_err err = {0};
    enc_cfg c;
    enc *e;
    dev *d;
    queue *q;
    params p = {0}, p2 = {0};
    enc_cfg_defaults(&c);
    must(enc_cfg_size(&c, "vit_tiny", &err));
    must(dev_open(&d, "ref", 0, &err));
    must(queue_open(&q, d, &err));
    must(enc_open(&e, &c, &p, "encoder.", &err));
    refused(enc_init(e, q, 0.02, 1, &err), JEPA_E_USE, &err, "params_alloc");
    must(params_alloc(&p, d, 0, &err));
    refused(enc_init(e, q, 2.5, 1, &err), JEPA_E_USE, &err, "2.5");
    refused(enc_init(e, q, NAN, 1, &err), JEPA_E_USE, &err, "standard deviation");
    must(enc_init(e, q, 0.02, 1, &err));
    const struct {
        const char *name;
        double sd;
    } want[] = {
        {"encoder.patch_embed.proj.weight", 0.02},
        {"encoder.blocks.0.attn.qkv.weight", 0.02},
        {"encoder.blocks.0.attn.proj.weight", 0.02 / sqrt(2)},
        {"encoder.blocks.4.mlp.fc1.weight", 0.02},
        {"encoder.blocks.4.mlp.fc2.weight", 0.02 / sqrt(10)},
        {"encoder.blocks.11.attn.proj.weight", 0.02 / sqrt(24)},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const double n = (double)p.item[params_find(&p, want[i].name)].count;
        double mean, sd = spread(&p, want[i].name, &mean);
        assert_true(fabs(mean) < 5 * want[i].sd / sqrt(n)); /* five standard errors each */
        assert_true(fabs(sd / want[i].sd - 1) < 5 / sqrt(2 * n));
    }
    double mean;
    assert_true(spread(&p, "encoder.blocks.3.norm2.weight", &mean) == 0 && mean == 1);
    assert_true(spread(&p, "encoder.norm.weight", &mean) == 0 && mean == 1);
    const char *zero[] = {"encoder.blocks.3.norm2.bias", "encoder.blocks.3.attn.qkv.bias", "encoder.blocks.3.mlp.fc2.bias",
                          "encoder.patch_embed.proj.bias", "encoder.norm.bias"};
    for (int i = 0; i < 5; i++) assert_true(spread(&p, zero[i], &mean) == 0 && mean == 0);

    enc *e2; /* the same seed gives the same weights, another one others */
    must(enc_open(&e2, &c, &p2, "target_encoder.", &err));
    must(params_alloc(&p2, d, 0, &err));
    must(enc_init(e2, q, 0.02, 1, &err));
    same_bits(p.value.p, p2.value.p, p.total);
    must(enc_init(e2, q, 0.02, 2, &err));
    assert_true(memcmp(p.value.p, p2.value.p, (size_t)p.total * sizeof(float)));
    const float *qkv0 = param_value(&p, params_find(&p, "encoder.blocks.0.attn.qkv.weight")),
                *qkv1 = param_value(&p, params_find(&p, "encoder.blocks.1.attn.qkv.weight"));
    assert_true(memcmp(qkv0, qkv1, 64));

    must(enc_init(e2, q, 1.5, 3, &err)); /* the cut at ±2 is absolute */
    const float *v = param_value(&p2, params_find(&p2, "target_encoder.blocks.0.mlp.fc1.weight"));
    double most = 0;
    for (int i = 0; i < 768 * 192; i++) most = fmax(most, fabs(v[i]));
    assert_true(most <= 2 && most > 1.99);
    enc_close(&e);
    enc_close(&e2);
    params_close(&p);
    params_close(&p2);
    queue_close(&q);
    dev_close(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_family_has_its_sizes),
        cmocka_unit_test(names_and_shapes_are_meta_s),
        cmocka_unit_test(wrong_numbers_are_refused),
        cmocka_unit_test(positions_split_an_index),
        cmocka_unit_test(initial_weights_are_the_published_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
