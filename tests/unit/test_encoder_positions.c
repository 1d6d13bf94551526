/* test_encoder_positions.c: sin-cos tables in closed form, tables at another size by hand-computed values, rescaled rotary positions. */
#include "test_encoder_common.h"

/* Stored as float32 of a double: half a unit at 1 is 6e-8; pow, sin and cos add less than 1e-14. */
static const double one_rounding = 6e-8;

static void close_to(double got, double want, int line) {
    if (!(fabs(got - want) <= one_rounding)) fail_msg("line %d: %.9g, wanted %.9g", line, got, want);
}
#define near(got, want) close_to(got, want, __LINE__)

static void three_axes_by_halves_and_quarters(void **s) {
    jepa_err err = {0};
    float t[2 * 3 * 4 * 16];
    must(pos_sincos(&(pos_sincos_cfg){.frames = 2, .rows = 3, .cols = 4, .dim = 16}, t, &err));
    for (int k = 0; k < 24; k++) {
        const double d = k / 12, h = k / 4 % 3, w = k % 4;
        const float *row = t + 16 * k;
        const double omega[4] = {1, 0.1, 0.01, 0.001}; /* 10000^(-i/4) */
        for (int i = 0; i < 4; i++) {
            near(row[i], sin(d * omega[i]));
            near(row[4 + i], cos(d * omega[i]));
        }
        for (int i = 0; i < 2; i++) { /* 10000^(-i/2): 1 and 0.01 */
            near(row[8 + i], sin(h * omega[2 * i]));
            near(row[10 + i], cos(h * omega[2 * i]));
            near(row[12 + i], sin(w * omega[2 * i]));
            near(row[14 + i], cos(w * omega[2 * i]));
        }
    }
}

static void three_equal_axes_cut_to_the_width(void **s) {
    jepa_err err = {0};
    float t[24 * 10];
    must(pos_sincos(&(pos_sincos_cfg){.frames = 2, .rows = 3, .cols = 4, .dim = 10, .uniform_power = 1}, t, &err));
    for (int k = 0; k < 24; k++) { /* ceil(10/6)·2 = 4 channels an axis; of the column's only the sines are left */
        const double at[3] = {k / 12, k / 4 % 3, k % 4};
        for (int a = 0; a < 3; a++)
            for (int i = 0; i < 2; i++) {
                near(t[10 * k + 4 * a + i], sin(at[a] * (i ? 0.01 : 1)));
                if (a < 2) near(t[10 * k + 4 * a + 2 + i], cos(at[a] * (i ? 0.01 : 1)));
            }
    }
    float odd[24 * 5]; /* 2 channels an axis, the column has one */
    must(pos_sincos(&(pos_sincos_cfg){.frames = 2, .rows = 3, .cols = 4, .dim = 5, .uniform_power = 1}, odd, &err));
    near(odd[5 * 23 + 0], sin(1));
    near(odd[5 * 23 + 3], cos(2));
    near(odd[5 * 23 + 4], sin(3));
}

static void pictures_have_two_halves(void **s) {
    jepa_err err = {0};
    float rows[12 * 8], cols[12 * 8];
    pos_sincos_cfg c = {.frames = 1, .rows = 3, .cols = 4, .dim = 8, .planar = 1};
    must(pos_sincos(&c, rows, &err));
    c.columns_first = 1;
    must(pos_sincos(&c, cols, &err));
    for (int k = 0; k < 12; k++) {
        const double h = k / 4, w = k % 4;
        const double want[8] = {sin(h), sin(h / 100), cos(h), cos(h / 100), sin(w), sin(w / 100), cos(w), cos(w / 100)};
        for (int i = 0; i < 8; i++) {
            near(rows[8 * k + i], want[i]);
            near(cols[8 * k + i], want[(i + 4) % 8]);
        }
    }
    c.uniform_power = 1; /* a matter of three axes */
    float same[12 * 8];
    must(pos_sincos(&c, same, &err));
    same_bits(same, cols, 12 * 8);
}

static void tables_that_cannot_be_are_refused(void **s) {
    jepa_err err = {0};
    float t[64];
    refused(pos_sincos(&(pos_sincos_cfg){.frames = 1, .rows = 2, .cols = 2, .dim = 12}, t, &err), JEPA_E_MODEL, &err, "multiple of 8");
    refused(pos_sincos(&(pos_sincos_cfg){.frames = 1, .rows = 2, .cols = 2, .dim = 6, .planar = 1}, t, &err), JEPA_E_MODEL, &err, "of 4");
    refused(pos_sincos(&(pos_sincos_cfg){.frames = 1, .rows = 2, .cols = 2, .uniform_power = 1}, t, &err), JEPA_E_MODEL, &err,
            "width of 0");
    refused(pos_sincos(&(pos_sincos_cfg){.frames = 2, .rows = 2, .cols = 2, .dim = 8, .planar = 1}, t, &err), JEPA_E_USE, &err, "1 frame");
    refused(pos_sincos(&(pos_sincos_cfg){.frames = 0, .rows = 2, .cols = 2, .dim = 8}, t, &err), JEPA_E_USE, &err, "0 x 2 x 2");
    refused(pos_sincos(&(pos_sincos_cfg){.frames = 1 << 20, .rows = 1 << 20, .cols = 2, .dim = 8}, t, &err), JEPA_E_USE, &err, "cannot");
    const int64_t good[3] = {1, 2, 2}, two[3] = {2, 2, 2}, none[3] = {1, 0, 2};
    refused(pos_resample(t, none, 8, 0, good, t, &err), JEPA_E_USE, &err, "1 x 0 x 2");
    refused(pos_resample(t, good, 8, 0, none, t, &err), JEPA_E_USE, &err, "1 x 0 x 2");
    refused(pos_resample(t, good, 0, 0, good, t, &err), JEPA_E_USE, &err, "width of 0");
    refused(pos_resample(t, good, 8, 1, two, t, &err), JEPA_E_USE, &err, "1 frame");
}

static void video_tables_are_resampled_linearly(void **s) {
    jepa_err err = {0};
    /* one axis at a time: 2 → 4 gives x, ¾x + ¼y, ¼x + ¾y, y; 4 → 2 the means of the outer pairs; 2 → 3 x, (x + y)/2, y */
    const float pair[4] = {1, 10, 5, 30}, four[4] = {1, 3, 10, 20};
    const float up[8] = {1, 10, 2, 15, 4, 25, 5, 30}, down[2] = {2, 15}, three[6] = {1, 10, 3, 20, 5, 30};
    for (int axis = 0; axis < 3; axis++) {
        int64_t a[3] = {1, 1, 1}, b[3] = {1, 1, 1};
        float out[8];
        a[axis] = 2, b[axis] = 4;
        must(pos_resample(pair, a, 2, 0, b, out, &err));
        assert_true(worst(out, up, 8) == 0);
        b[axis] = 3;
        must(pos_resample(pair, a, 2, 0, b, out, &err));
        assert_true(worst(out, three, 6) < 1e-5); /* 2/3·1.5 - 1/2 is not 1/2 to the last bit */
        a[axis] = 4, b[axis] = 2;
        must(pos_resample(four, a, 1, 0, b, out, &err));
        assert_true(worst(out, down, 2) == 0);
    }
    /* three at once: a product of the axes' weights */
    const float cube[8] = {0, 1, 2, 3, 4, 5, 6, 7}; /* 4d + 2h + w */
    float out[64];
    must(pos_resample(cube, (int64_t[]){2, 2, 2}, 1, 0, (int64_t[]){4, 4, 4}, out, &err));
    static const double at[4] = {0, 0.25, 0.75, 1};
    for (int k = 0; k < 64; k++) assert_true(out[k] == (float)(4 * at[k / 16] + 2 * at[k / 4 % 4] + at[k % 4]));
    must(pos_resample(cube, (int64_t[]){2, 2, 2}, 1, 0, (int64_t[]){2, 2, 2}, out, &err));
    same_bits(out, cube, 8);
}

static void picture_tables_are_resampled_cubically(void **s) {
    jepa_err err = {0};
    /* 2 → 4 along a row: positions -1/4, 1/4, 3/4, 5/4 with the border repeated. Weights of PyTorch's cubic (a = -0.75) a quarter behind an
     * entry: w(5/4) = -27/256, w(1/4) = 225/256, w(3/4) = 67/256, w(7/4) = -9/256; at 3/4 the same four the other way round.
     * Hence -1/4: x gets -9 + 67 + 225, y -27; 1/4: x gets -27 + 225, y 67 - 9. */
    const float pair[2] = {256, 512};
    const float want[4] = {256 - 27, 256 + 58, 512 - 58, 512 + 27};
    float out[4];
    must(pos_resample(pair, (int64_t[]){1, 1, 2}, 1, 1, (int64_t[]){1, 1, 4}, out, &err));
    assert_true(worst(out, want, 4) == 0);
    must(pos_resample(pair, (int64_t[]){1, 2, 1}, 1, 1, (int64_t[]){1, 4, 1}, out, &err));
    assert_true(worst(out, want, 4) == 0);
    /* half the size: halfway between two entries -3/32, 19/32, 19/32, -3/32, not smoothed */
    const float four[4] = {32, 64, 0, 96};
    const float half[2] = {(-3 * 32 + 19 * 32 + 19 * 64 - 3 * 0) / 32.0f, (-3 * 64 + 19 * 0 + 19 * 96 - 3 * 96) / 32.0f};
    must(pos_resample(four, (int64_t[]){1, 1, 4}, 1, 1, (int64_t[]){1, 1, 2}, out, &err));
    assert_true(worst(out, half, 2) == 0);
    must(pos_resample(four, (int64_t[]){1, 2, 2}, 1, 1, (int64_t[]){1, 2, 2}, out, &err));
    same_bits(out, four, 4);
}

static void rotary_positions_are_rescaled(void **s) {
    jepa_err err = {0};
    assert_true(pos_rope_factor(16, 16) == 1);
    assert_true(pos_rope_factor(16, 24) == 15.0 / 23);
    assert_true(pos_rope_factor(14, 27) == 17.0 / 26);
    assert_true(pos_rope_factor(8, 3) == 31.0 / 2);
    assert_true(pos_rope_factor(16, 1) == 1 && pos_rope_factor(14, 1) == 1 && pos_rope_factor(16, 0) == 1);
    float pos[3 * 30];
    const pos_grid g = {.frames = 2, .rows = 3, .cols = 5, .row_factor = pos_rope_factor(16, 3), .col_factor = pos_rope_factor(16, 5)};
    must(pos_fill(&g, NULL, 30, pos, &err));
    for (int k = 0; k < 30; k++) {
        assert_true(pos[3 * k] == (float)(k / 15));
        assert_true(pos[3 * k + 1] == (float)(k / 5 % 3 * 7.5));
        assert_true(pos[3 * k + 2] == (float)(k % 5 * 3.75));
    }
    const pos_grid square = {.frames = 2, .rows = 3, .cols = 5, .split_rows = 3, .split_cols = 3, .row_factor = 2, .col_factor = 0};
    must(pos_fill(&square, (int32_t[]){29}, 1, pos, &err)); /* split 3 x 3: 29 = 3·9 + 0·3 + 2 */
    assert_true(pos[0] == 3 && pos[1] == 0 && pos[2] == 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_axes_by_halves_and_quarters),
        cmocka_unit_test(three_equal_axes_cut_to_the_width),
        cmocka_unit_test(pictures_have_two_halves),
        cmocka_unit_test(tables_that_cannot_be_are_refused),
        cmocka_unit_test(video_tables_are_resampled_linearly),
        cmocka_unit_test(picture_tables_are_resampled_cubically),
        cmocka_unit_test(rotary_positions_are_rescaled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
