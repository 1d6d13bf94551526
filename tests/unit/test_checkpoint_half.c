/* test_checkpoint_half.c: a model's files into lists whose product weights are stored as bf16 and nowhere else. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "encoder/encoder.h"

#define GOLD TEST_DATA "/vectors/vjepa2-hf-tiny/"

static dev *device;

static int group_setup(void **state) { return dev_open(&device, "ref", 1, NULL); }
static int group_teardown(void **state) {
    dev_close(&device);
    return 0;
}

/* The encoder that a model describes, allocated; half: matrices are marked and stored as bf16. */
static void make(params *p, enc **e, const model_cfg *m, int half) {
    jepa_err err = {0};
    enc_cfg c;
    enc_cfg_defaults(&c);
    c.img_height = m->img_height, c.img_width = m->img_width, c.patch_size = m->patch_size, c.tubelet_size = m->tubelet_size;
    c.num_frames = m->num_frames, c.embed_dim = m->embed_dim, c.depth = m->depth, c.num_heads = m->num_heads;
    c.mlp_ratio = m->mlp_ratio, c.layer_norm_eps = m->layer_norm_eps;
    *p = (params){0};
    if (enc_open(e, &c, p, "encoder.", &err)) fail_msg("%s", err.text);
    for (int i = 0; i < p->n; i++) {
        p->item[i].flags &= ~PARAM_PRODUCT;
        if (half && p->item[i].rank > 1) p->item[i].flags |= PARAM_PRODUCT;
    }
    if (params_alloc(p, device, half ? PARAMS_HALF_ONLY : 0, &err)) fail_msg("%s", err.text);
}

static void load(const char *path, params *p, enc **e, int half) {
    jepa_err err = {0};
    model_cfg m;
    ck *c;
    if (ck_open(&c, path, &err) || ck_config(c, &m, &err)) fail_msg("%s", err.text);
    make(p, e, &m, half);
    if (ck_load(c, p, "encoder.", CK_ENCODER, 0, NULL, &err)) fail_msg("%s", err.text);
    ck_close(&c);
}

/* What is stored as bf16 is the float32 value to nearest even, bit for bit; the rest is the float32 value. */
static void compare(const params *half, const params *full) {
    int halves = 0;
    assert_int_equal(half->n, full->n);
    for (int i = 0; i < full->n; i++) {
        const float *want = param_value(full, i), *whole = param_value(half, i);
        const uint16_t *got = param_value16(half, i);
        assert_true(!whole == (full->item[i].rank > 1));
        for (int64_t k = 0; k < full->item[i].count; k++)
            if (whole ? memcmp(&whole[k], &want[k], sizeof *want) : got[k] != f32_to_bf16(want[k]))
                fail_msg("%s: element %lld is not %a", full->item[i].name, (long long)k, (double)want[k]);
        halves += !whole;
    }
    assert_true(halves > 4);
}

static void check(const char *path) {
    params full, half;
    enc *a, *b;
    load(path, &full, &a, 0);
    load(path, &half, &b, 1);
    compare(&half, &full);
    enc_close(&a);
    enc_close(&b);
    params_close(&full);
    params_close(&half);
}

/* Query, key and value of the file go to thirds of one matrix. */
static void a_hugging_face_folder_of_each_type(void **state) {
    check(GOLD "model");
    check(GOLD "model-bf16");
    check(GOLD "model-fp16");
    check(GOLD "model-sharded");
}

/* Matrices larger than the pieces in which they are converted (fc1 of 384 x 96), in our own folder and in a .pt. Written lists keep their
 * float32 values; a bf16 list is not written. */
static void large_tensors_and_what_is_written(void **state) {
    char dir[64] = "/tmp/jepa-half-XXXXXX", path[3][128];
    jepa_err err = {0};
    model_cfg m = {.family = "vjepa2", .img_height = 32, .img_width = 32, .patch_size = 16, .tubelet_size = 2, .num_frames = 4, .in_chans = 3,
                   .embed_dim = 96, .depth = 2, .num_heads = 4, .mlp_ratio = 4, .layer_norm_eps = 1e-6, .use_rope = 1};
    params full, half;
    enc *a, *b;
    queue *q;
    assert_non_null(mkdtemp(dir));
    static const char *const name[] = {"own", "m.pt", "no"};
    for (int i = 0; i < 3; i++) snprintf(path[i], sizeof path[i], "%s/%s", dir, name[i]);
    make(&full, &a, &m, 0);
    assert_int_equal(queue_open(&q, device, NULL), 0);
    assert_int_equal(enc_init(a, q, 0.02, 5, NULL), 0);
    queue_close(&q);
    ck_part part = {CK_ENCODER, &full, "encoder."};
    if (ck_write_own(path[0], &m, &part, 1, T_F32, &err) || ck_write_pt(path[1], &m, &part, 1, T_F32, &err)) fail_msg("%s", err.text);
    for (int i = 0; i < 2; i++) {
        ck *c;
        const ck_hints hints = {.heads = 4};
        if (ck_open_as(&c, path[i], &hints, &err)) fail_msg("%s", err.text);
        make(&half, &b, &m, 1);
        if (ck_load(c, &half, "encoder.", CK_ENCODER, 0, NULL, &err)) fail_msg("%s", err.text);
        ck_close(&c);
        compare(&half, &full);
        part.p = &half;
        assert_int_equal(ck_write_own(path[2], &m, &part, 1, T_F32, &err), JEPA_E_USE);
        assert_non_null(strstr(err.text, "bf16"));
        assert_int_equal(ck_write_pt(path[2], &m, &part, 1, T_F32, &err), JEPA_E_USE);
        assert_int_equal(ck_write_hf(path[2], &m, &part, 1, T_F32, 0, &err), JEPA_E_USE);
        assert_int_not_equal(access(path[2], F_OK), 0);
        enc_close(&b);
        params_close(&half);
    }
    enc_close(&a);
    params_close(&full);
    char rm[160];
    snprintf(rm, sizeof rm, "rm -r %s", dir);
    assert_int_equal(system(rm), 0);
}

int main(void) {
    const struct CMUnitTest t[] = {cmocka_unit_test(a_hugging_face_folder_of_each_type), cmocka_unit_test(large_tensors_and_what_is_written)};
    return cmocka_run_group_tests(t, group_setup, group_teardown);
}
