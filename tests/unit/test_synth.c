/* test_synth.c: moving digits: the same clip for the same name, labels that are true, a digit that goes where its label says. */
#include "video/synth.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { S = 48, T = 16, CLIP = S * S * T * 3 };
static const double PI = 3.14159265358979323846;

static void make(const synth_cfg *c, uint32_t n, uint8_t *rgb, synth_label *l) {
    jepa_err err = {0};
    if (synth_digits(c, n, rgb, l, &err) < 0) fail_msg("%s", err.text);
}

static void a_name_is_a_clip(void **state) {
    (void)state;
    synth_cfg c;
    synth_cfg_defaults(&c);
    assert_true(c.size == S && c.frames == T && c.noise == 0.03 && c.split == SYNTH_TRAIN);
    uint8_t *a = malloc(CLIP), *b = malloc(CLIP);
    assert_true(a && b);
    synth_label l, m;
    make(&c, 5, a, &l);
    memset(b, 7, CLIP);
    make(&c, 5, b, &m);
    assert_memory_equal(a, b, CLIP);
    assert_memory_equal(&l, &m, sizeof l);
    make(&c, 5, NULL, &m); /* the label alone */
    assert_memory_equal(&l, &m, sizeof l);
    make(&c, 6, b, NULL);
    assert_memory_not_equal(a, b, CLIP);
    c.seed = 1;
    make(&c, 5, b, NULL);
    assert_memory_not_equal(a, b, CLIP);
    c.seed = 0, c.split = SYNTH_HELD_OUT;
    make(&c, 5, b, NULL);
    assert_memory_not_equal(a, b, CLIP);
    for (size_t i = 0; i < CLIP; i += 3) assert_true(a[i] == a[i + 1] && a[i] == a[i + 2]); /* grey, copied to three channels */
    free(a), free(b);
}

static void labels_are_in_range_and_splits_apart(void **state) {
    (void)state;
    enum { N = 4000 };
    synth_cfg c;
    synth_cfg_defaults(&c);
    int direction[2][SYNTH_DIRECTIONS] = {{0}}, digit[2][10] = {{0}};
    for (int split = 0; split < 2; split++) {
        c.split = split ? SYNTH_HELD_OUT : SYNTH_TRAIN;
        for (uint32_t n = 0; n < N; n++) {
            synth_label l;
            make(&c, n, NULL, &l);
            assert_in_range(l.index, 0, DIGITS - 1);
            assert_in_range(l.digit, 0, 9);
            assert_in_range(l.direction, 0, SYNTH_DIRECTIONS - 1);
            assert_int_equal(l.index % 4 == 3, split); /* no digit is in both */
            assert_int_equal(l.digit, digits_data[l.index][0] - '0');
            direction[split][l.direction]++, digit[split][l.digit]++;
        }
        /* 8 directions: 500 ± 21 each; 10 digits, nearly as frequent: 400 ± 19. Seven deviations is no accident. */
        for (int k = 0; k < SYNTH_DIRECTIONS; k++) assert_in_range(direction[split][k], 350, 650);
        for (int k = 0; k < 10; k++) assert_in_range(digit[split][k], 265, 535);
    }
    for (int i = 0; i < DIGITS; i++) {
        assert_int_equal(strlen(digits_data[i]), 65);
        for (int k = 1; k < 65; k++) assert_in_range(digits_data[i][k], 'A', 'Q');
    }
}

/* Position of what is brighter than the background, on the torus: the phase of the first harmonic, which moves by 2π/size a pixel. */
static double phase(const uint8_t *frame, int size, int along_y) {
    double re = 0, im = 0;
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            double v = frame[(y * size + x) * 3] - 255 * 0.35, a = 2 * PI * ((along_y ? y : x) + 0.5) / size;
            re += v * cos(a), im += v * sin(a);
        }
    return atan2(im, re);
}
static double wrapped(double d) { return d - 2 * PI * floor(d / (2 * PI) + 0.5); }

static void the_digit_goes_where_its_label_says(void **state) {
    (void)state;
    synth_cfg c;
    synth_cfg_defaults(&c);
    c.noise = 0;
    int seen[SYNTH_DIRECTIONS] = {0}, wraps = 0;
    for (int size = S; size <= 2 * S; size += S) {
        c.size = size;
        uint8_t *rgb = malloc((size_t)size * (size_t)size * 3 * T);
        assert_non_null(rgb);
        for (uint32_t n = 0; n < 60; n++) {
            synth_label l;
            make(&c, n, rgb, &l);
            double at[2] = {0}, first_ink = 0;
            size_t frame = (size_t)size * (size_t)size * 3;
            for (int t = 0; t < T; t++) {
                double ink = 0;
                for (size_t i = 0; i < frame; i += 3) ink += rgb[(size_t)t * frame + i] - 255 * 0.35;
                if (!t) first_ink = ink;
                /* nothing is lost at the edges: sub-pixel positions and rounding move it by a few per cent */
                assert_true(ink > 0 && fabs(ink / first_ink - 1) < 0.06);
                if (!t) continue;
                for (int k = 0; k < 2; k++)
                    at[k] += wrapped(phase(rgb + (size_t)t * frame, size, k) - phase(rgb + (size_t)(t - 1) * frame, size, k)) * size / (2 * PI);
            }
            double speed = hypot(at[0], at[1]) / (T - 1) * S / size, angle = atan2(at[1], at[0]); /* y downwards, as stored */
            assert_true(speed > 1.45 && speed < 3.05); /* 1.5 … 3; rounding to bytes moves the phase a little */
            assert_true(fabs(wrapped(angle - l.direction * PI / 4)) < 0.05); /* 3 degrees; neighbours are 45 apart */
            seen[l.direction]++;
            wraps += fabs(at[0]) > size / 2.0 || fabs(at[1]) > size / 2.0;
        }
        free(rgb);
    }
    for (int k = 0; k < SYNTH_DIRECTIONS; k++) assert_true(seen[k] > 0);
    assert_true(wraps > 0);
}

static void the_background_stands_still(void **state) {
    (void)state;
    synth_cfg c;
    synth_cfg_defaults(&c);
    uint8_t *rgb = malloc(CLIP);
    assert_non_null(rgb);
    make(&c, 3, rgb, NULL);
    int low = 255, high = 0;
    for (int i = 0; i < S * S; i++) {
        int same = 0, v[T];
        for (int t = 0; t < T; t++) v[t] = rgb[(t * S * S + i) * 3];
        for (int t = 1; t < T; t++) same += v[t] == v[t - 1];
        if (same < T - 1) continue; /* the digit passed over it */
        if (v[0] < low) low = v[0];
        if (v[0] > high) high = v[0];
    }
    assert_true(low >= 81 && low < 84 && high <= 97 && high > 94); /* 255 · (0.35 ± 0.03), rounded; the extremes of some hundred draws */
    free(rgb);
}

static void sizes_that_make_no_sense_are_refused(void **state) {
    (void)state;
    static const synth_cfg bad[] = {{.size = 15, .frames = 16}, {.size = 1025, .frames = 16}, {.size = 48, .frames = 0}, {.size = 48, .frames = 4097},
                                    {.size = 48, .frames = 16, .noise = -0.1}, {.size = 48, .frames = 16, .noise = 0.31}, {.size = 48, .frames = 16, .noise = NAN}};
    uint8_t one;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        jepa_err err = {0};
        assert_int_equal(synth_digits(&bad[i], 0, &one, NULL, &err), JEPA_E_USE);
        assert_non_null(strstr(err.text, "moving digits"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_a_clip),
        cmocka_unit_test(labels_are_in_range_and_splits_apart),
        cmocka_unit_test(the_digit_goes_where_its_label_says),
        cmocka_unit_test(the_background_stands_still),
        cmocka_unit_test(sizes_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
