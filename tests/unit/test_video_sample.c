/* test_video_sample.c: frame indices equal to the published code's records, and the tables for short and slow videos. */
#include "base/json.h"
#include "video/video.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct given {
    const json *next;
    int draws, wrong;
} given;
static int64_t recorded(void *ctx, int64_t low, int64_t high) {
    given *g = ctx;
    if (!g->next) {
        g->wrong++;
        return low;
    }
    const json *l = json_first(g->next), *h = json_next(l), *value = json_next(h);
    if ((int64_t)json_number(l, -1) != low || (int64_t)json_number(h, -1) != high) g->wrong++;
    g->next = json_next(g->next);
    g->draws++;
    return (int64_t)json_number(value, -1);
}

static void equals_the_records(void **state) {
    json *j = NULL;
    jepa_err err = {0};
    assert_int_equal(json_read(&j, TEST_DATA "/vectors/frames/frames.json", &err), 0);
    int compared = 0, errors = 0, drawn = 0, overlapping = 0;
    for (const json *r = json_first(j); r; r = json_next(r)) {
        sample_cfg c;
        sample_cfg_defaults(&c);
        c.frames = (int)json_number(json_get(r, "frames_per_clip"), 0);
        c.fps = json_number(json_get(r, "fps"), 0);
        c.duration = json_number(json_get(r, "duration"), 0);
        c.frame_step = (int)json_number(json_get(r, "frame_step"), 0);
        c.num_clips = (int)json_number(json_get(r, "num_clips"), 0);
        c.random = json_bool(json_get(r, "random"), 0);
        c.allow_clip_overlap = json_bool(json_get(r, "allow_overlap"), 0);
        int64_t n = (int64_t)json_number(json_get(r, "frames_in_video"), 0),
                *index = calloc((size_t)c.frames * (size_t)c.num_clips, sizeof *index);
        given g = {json_first(json_get(r, "draws_low_high_value")), 0, 0};
        int slow = 0;
        assert_int_equal(sample_frames(&c, n, json_number(json_get(r, "video_fps"), 0), recorded, &g, index, &slow, &err), 0);
        if (json_get(r, "error")) { /* a step of 0 there, of 1 here */
            assert_int_equal(slow, 1);
            errors++;
            free(index);
            continue;
        }
        assert_int_equal(g.wrong, 0);
        assert_null(g.next);
        int64_t *p = index;
        for (const json *clip = json_first(json_get(r, "indices")); clip; clip = json_next(clip))
            for (const json *k = json_first(clip); k; k = json_next(k)) assert_int_equal(*p++, (int64_t)json_number(k, -1));
        assert_int_equal(p - index, (int64_t)c.frames * c.num_clips);
        free(index);
        compared++;
        drawn += g.draws;
        overlapping += c.allow_clip_overlap;
    }
    json_close(&j);
    assert_int_equal(compared, 122);
    assert_int_equal(errors, 2);
    assert_true(drawn > 30 && overlapping > 40);
}

static void expect(const sample_cfg *c, int64_t n, double fps, int is_slow, const int *want, int given_there) {
    int64_t index[256];
    int slow = -1;
    jepa_err err = {0};
    assert_int_equal(sample_frames(c, n, fps, NULL, NULL, index, &slow, &err), 0);
    assert_int_equal(slow, is_slow);
    for (int i = 0; i < c->frames * c->num_clips; i++) /* the last number goes on */
        if (index[i] != want[i < given_there ? i : given_there - 1])
            fail_msg("%lld frames, place %d: %lld", (long long)n, i, (long long)index[i]);
}
#define EXPECT(c, n, fps, slow, ...)                                                                                                       \
    expect(c, n, fps, slow, (const int[]){__VA_ARGS__}, (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int)))

static sample_cfg steps(int step) {
    sample_cfg c;
    sample_cfg_defaults(&c);
    c.fps = 0;
    c.frame_step = step;
    return c;
}

static void short_videos(void **state) {
    sample_cfg c = steps(4);
    EXPECT(&c, 1, 30, 0, 0);
    EXPECT(&c, 2, 30, 0, 1);
    EXPECT(&c, 3, 30, 0, 2);
    EXPECT(&c, 4, 30, 0, 0, 3);
    EXPECT(&c, 5, 30, 0, 0, 4);
    EXPECT(&c, 8, 30, 0, 0, 7);
    EXPECT(&c, 16, 30, 0, 0, 5, 10, 15);
    EXPECT(&c, 17, 30, 0, 0, 5, 11, 16);
    EXPECT(&c, 40, 30, 0, 0, 4, 8, 13, 17, 22, 26, 31, 35, 39);
    EXPECT(&c, 63, 30, 0, 0, 4, 9, 13, 18, 22, 27, 31, 36, 40, 45, 49, 54, 58, 62);
    EXPECT(&c, 64, 30, 0, 0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63);
    EXPECT(&c, 65, 30, 0, 0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63);
    EXPECT(&c, 100, 30, 0, 0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63);
    c = steps(1);
    EXPECT(&c, 7, 30, 0, 0, 1, 2, 3, 4, 5, 6);
    EXPECT(&c, 16, 30, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    EXPECT(&c, 17, 30, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    EXPECT(&c, 20, 30, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    c = steps(4);
    c.num_clips = 2;
    EXPECT(&c, 40, 30, 0, 0, 5, 10, 15, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 20, 25, 30, 35, 39);
    EXPECT(&c, 1, 30, 0, 0); /* both clips: the one frame, not -1 */
    c.allow_clip_overlap = 1;
    EXPECT(&c, 1, 30, 0, 0);
    EXPECT(&c, 2, 30, 0, 0);
}

static void slow_videos(void **state) {
    sample_cfg c;
    sample_cfg_defaults(&c);
    EXPECT(&c, 4, 2, 1, 0, 1, 2, 3);                        /* 2 frames a second for 4: a step of 1, and said */
    EXPECT(&c, 36, 135.0 / 7, 0, 0, 6, 12, 18, 24, 30, 35); /* variable rate: the average, rounded up, 20: a step of 5 */
    c.fps = 0, c.duration = 0.2;
    EXPECT(&c, 20, 30, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    c.duration = 1.1; /* 16 frames in 1.1 s of 29.1: ceil 33/16 = 2, raw 32.01/16 = 2; in 1.07 s: 32.1/16 = 2 against 31.1/16 = 1 */
    EXPECT(&c, 32, 29.1, 0, 0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31);
    c.duration = 1.07, c.raw_fps = 1;
    EXPECT(&c, 32, 29.1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

static int64_t low_end(void *ctx, int64_t low, int64_t high) { return low; }
static int64_t outside(void *ctx, int64_t low, int64_t high) { return high; }

static void refusals(void **state) {
    int64_t index[64];
    jepa_err err = {0};
    sample_cfg c = steps(4);
    c.reject_short = 1;
    assert_int_equal(sample_frames(&c, 63, 30, NULL, NULL, index, NULL, &err), JEPA_E_INPUT);
    assert_memory_equal(err.text, "shorter than 64 frames", 22);
    assert_non_null(strstr(err.text, "63"));
    assert_int_equal(sample_frames(&c, 64, 30, NULL, NULL, index, NULL, &err), 0);
    c = steps(0);
    assert_int_equal(sample_frames(&c, 64, 30, NULL, NULL, index, NULL, &err), JEPA_E_USE);
    c = steps(1);
    assert_int_equal(sample_frames(&c, 0, 30, NULL, NULL, index, NULL, &err), JEPA_E_INPUT);
    c.frames = 0;
    assert_int_equal(sample_frames(&c, 10, 30, NULL, NULL, index, NULL, &err), JEPA_E_USE);
    c = steps(1), c.num_clips = 0;
    assert_int_equal(sample_frames(&c, 10, 30, NULL, NULL, index, NULL, &err), JEPA_E_USE);
    c = steps(1), c.random = 1;
    assert_int_equal(sample_frames(&c, 100, 30, NULL, NULL, index, NULL, &err), JEPA_E_USE);
    assert_int_equal(sample_frames(&c, 100, 30, low_end, NULL, index, NULL, &err), 0);
    assert_int_equal(sample_frames(&c, 100, 30, outside, NULL, index, NULL, &err), JEPA_E_USE);
    c = steps(1), c.fps = 4;
    assert_int_equal(sample_frames(&c, 10, 0, NULL, NULL, index, NULL, &err), JEPA_E_INPUT);
    assert_int_equal(sample_frames(&c, 10, NAN, NULL, NULL, index, NULL, &err), JEPA_E_INPUT);
    assert_int_equal(sample_frames(&c, 1, 0, NULL, NULL, index, NULL, &err), 0); /* an image */
    for (int i = 0; i < 16; i++) assert_int_equal(index[i], 0);
    c.fps = 1e-300;
    assert_int_equal(sample_frames(&c, 10, 30, NULL, NULL, index, NULL, &err), JEPA_E_USE);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(equals_the_records), cmocka_unit_test(short_videos), cmocka_unit_test(slow_videos),
                                       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
