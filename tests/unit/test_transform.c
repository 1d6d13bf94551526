/* test_transform.c: resizing, cropping and normalising; the published numbers are checked by the parity program. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "video/video.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint8_t *noise(int t, int h, int w, uint32_t seed) {
    size_t n = (size_t)t * (size_t)h * (size_t)w * 3;
    uint8_t *b = malloc(n);
    assert_non_null(b);
    rng r = rng_key(1, seed, 0, RNG_TEST);
    for (size_t i = 0; i < n; i++) b[i] = (uint8_t)rng_u32(&r);
    return b;
}

/* Plain bilinear in double, antialiased or not: the definition that all modes round. */
static double reference(const uint8_t *a, int h, int w, int oh, int ow, int y, int x, int c, int smooth) {
    double sum = 0, weight = 0, sy = (double)h / oh, sx = (double)w / ow, wy = smooth && sy > 1 ? sy : 1, wx = smooth && sx > 1 ? sx : 1;
    double cy = (y + 0.5) * sy, cx = (x + 0.5) * sx;
    if (!smooth) { /* positions beyond the outer pixel centres take the edge */
        cy = fmin(fmax(cy, 0.5), h - 0.5);
        cx = fmin(fmax(cx, 0.5), w - 0.5);
    }
    for (int i = 0; i < h; i++) {
        double u = 1 - fabs(i + 0.5 - cy) / wy;
        for (int j = 0; u > 0 && j < w; j++) {
            double v = 1 - fabs(j + 0.5 - cx) / wx;
            if (v <= 0) continue;
            sum += u * v * a[((size_t)i * (size_t)w + (size_t)j) * 3 + (size_t)c];
            weight += u * v;
        }
    }
    return sum / weight;
}

static void near_the_definition(void **state) {
    (void)state;
    static const int size[][4] = {{37, 53, 36, 51}, {1, 1, 9, 7},    {90, 60, 11, 60}, {20, 31, 64, 33},
                                  {64, 64, 32, 32}, {7, 200, 7, 13}, {2, 3, 1, 1}};
    static const clip_mode modes[] = {CLIP_EVAL_META, CLIP_EVAL_HF, CLIP_PIL, CLIP_TRAIN};
    for (size_t s = 0; s < sizeof size / sizeof *size; s++) {
        int h = size[s][0], w = size[s][1], oh = size[s][2], ow = size[s][3];
        uint8_t *a = noise(2, h, w, (uint32_t)s), *o = malloc((size_t)(2 * oh * ow * 3));
        assert_non_null(o);
        for (int m = 0; m < 4; m++) {
            jepa_err err = {0};
            assert_int_equal(clip_resize_u8(a, 2, h, w, oh, ow, modes[m], o, &err), 0);
            int smooth = modes[m] == CLIP_EVAL_HF || modes[m] == CLIP_PIL;
            /* one rounding is 0.5; the two-pass ones round between the passes too, OpenCV cuts products to 16 bits */
            double bound = modes[m] == CLIP_TRAIN ? 0.501 : 1.1;
            for (int t = 0; t < 2; t++)
                for (int y = 0; y < oh; y++)
                    for (int x = 0; x < ow; x++)
                        for (int c = 0; c < 3; c++) {
                            double want = reference(a + (size_t)t * (size_t)(h * w * 3), h, w, oh, ow, y, x, c, smooth);
                            double got = o[(((size_t)t * (size_t)oh + (size_t)y) * (size_t)ow + (size_t)x) * 3 + (size_t)c];
                            if (fabs(got - want) > bound) fail_msg("mode %d size %zu at %d,%d: %g, expected %g", m, s, y, x, got, want);
                        }
        }
        free(a);
        free(o);
    }
}

static void flat_stays_flat(void **state) {
    (void)state;
    static const int size[][2] = {{1, 1}, {2, 3000}, {3000, 2}, {240, 320}, {33, 31}};
    for (size_t s = 0; s < sizeof size / sizeof *size; s++) {
        int h = size[s][0], w = size[s][1];
        uint8_t *a = malloc((size_t)(h * w * 3)), o[32 * 32 * 3];
        assert_non_null(a);
        for (int i = 0; i < h * w; i++) a[3 * i] = 200, a[3 * i + 1] = 60, a[3 * i + 2] = 255;
        for (int m = CLIP_EVAL_META; m <= CLIP_PIL; m++) {
            clip_cfg c;
            clip_cfg_defaults(&c, 32);
            c.mode = (clip_mode)m;
            c.box[2] = h, c.box[3] = w;
            memset(o, 7, sizeof o);
            assert_int_equal(clip_prepare(&c, a, 1, h, w, o, NULL), 0);
            for (int i = 0; i < 32 * 32; i++)
                if (o[3 * i] != 200 || o[3 * i + 1] != 60 || o[3 * i + 2] != 255)
                    fail_msg("mode %d size %zu: %d %d %d", m, s, o[3 * i], o[3 * i + 1], o[3 * i + 2]);
        }
        free(a);
    }
}

/* A frame whose red is its column and green its row shows where a crop lies. */
static uint8_t *map(int h, int w) {
    uint8_t *a = malloc((size_t)(h * w * 3));
    assert_non_null(a);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            uint8_t *p = a + (y * w + x) * 3;
            p[0] = (uint8_t)x, p[1] = (uint8_t)y, p[2] = 9;
        }
    return a;
}

static void crop_positions(void **state) {
    (void)state;
    uint8_t o[64 * 64 * 3];
    /* short side 36 is there already: only the offset acts. (51-32)/2 = 9.5 goes to the even 10 in Meta's, to 9 in Hugging Face's. */
    uint8_t *a = map(36, 51);
    clip_cfg c;
    clip_cfg_defaults(&c, 32);
    assert_int_equal(clip_prepare(&c, a, 1, 36, 51, o, NULL), 0);
    assert_int_equal(o[0], 10);
    assert_int_equal(o[1], 2);
    c.mode = CLIP_EVAL_HF;
    assert_int_equal(clip_prepare(&c, a, 1, 36, 51, o, NULL), 0);
    assert_int_equal(o[0], 9);
    free(a);
    a = map(36, 53); /* 10.5: to 10 in both */
    for (int m = CLIP_EVAL_META; m <= CLIP_EVAL_HF; m++) {
        c.mode = (clip_mode)m;
        assert_int_equal(clip_prepare(&c, a, 1, 36, 53, o, NULL), 0);
        assert_int_equal(o[0], 10);
    }
    free(a);
    a = map(75, 24); /* views along the long side: 0, 25, 50 */
    clip_cfg_defaults(&c, 24);
    c.num_views = 3;
    for (c.view = 0; c.view < 3; c.view++) {
        assert_int_equal(clip_prepare(&c, a, 1, 75, 24, o, NULL), 0);
        assert_int_equal(o[1], 25 * c.view);
        assert_int_equal(o[0], 0);
    }
    c.view = 3;
    assert_int_equal(clip_prepare(&c, a, 1, 75, 24, o, NULL), JEPA_E_USE);
    free(a);
}

static void boxes_and_flips(void **state) {
    (void)state;
    int h = 40, w = 50, n = 16;
    uint8_t *a = map(h, w), o[16 * 16 * 3], f[16 * 16 * 3];
    for (int m = CLIP_TRAIN; m <= CLIP_PIL; m++) {
        clip_cfg c;
        clip_cfg_defaults(&c, n);
        c.mode = (clip_mode)m;
        memcpy(c.box, (int[]){5, 7, 16, 16}, sizeof c.box); /* as large as the crop: a plain copy */
        assert_int_equal(clip_prepare(&c, a, 1, h, w, o, NULL), 0);
        for (int y = 0; y < n; y++)
            for (int x = 0; x < n; x++) {
                assert_int_equal(o[(y * n + x) * 3], 7 + x);
                assert_int_equal(o[(y * n + x) * 3 + 1], 5 + y);
            }
        memcpy(c.box, (int[]){3, 2, 33, 41}, sizeof c.box);
        assert_int_equal(clip_prepare(&c, a, 1, h, w, o, NULL), 0);
        c.flip = 1;
        assert_int_equal(clip_prepare(&c, a, 1, h, w, f, NULL), 0);
        for (int y = 0; y < n; y++)
            for (int x = 0; x < n; x++) assert_memory_equal(o + (y * n + x) * 3, f + (y * n + n - 1 - x) * 3, 3);
        static const int wrong[][4] = {{-1, 0, 4, 4},  {0, 0, 0, 4},  {0, 0, 41, 4},
                                       {30, 0, 11, 4}, {0, 47, 4, 4}, {0, 0, INT32_MAX, INT32_MAX}};
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            memcpy(c.box, wrong[i], sizeof c.box);
            jepa_err err = {0};
            assert_int_equal(clip_prepare(&c, a, 1, h, w, o, &err), JEPA_E_USE);
            assert_non_null(strstr(err.text, "40"));
        }
    }
    free(a);
}

static void floats(void **state) {
    (void)state;
    enum { T = 3, H = 30, W = 44, N = 20, A = N * N };
    uint8_t *a = noise(T, H, W, 5), u[T * A * 3];
    static float p[3 * T * A], q[3 * T * A];
    for (int m = CLIP_EVAL_META; m <= CLIP_PIL; m++) {
        clip_cfg c;
        clip_cfg_defaults(&c, N);
        c.mode = (clip_mode)m;
        c.flip = 1;
        memcpy(c.box, (int[]){2, 3, 25, 37}, sizeof c.box);
        assert_int_equal(clip_prepare(&c, a, T, H, W, u, NULL), 0);
        assert_int_equal(clip_prepare_f32(&c, a, T, H, W, 0, p, NULL), 0);
        assert_int_equal(clip_prepare_f32(&c, a, T, H, W, 1, q, NULL), 0);
        for (int t = 0; t < T; t++)
            for (int k = 0; k < 3; k++)
                for (int i = 0; i < A; i++) {
                    float v = p[(k * T + t) * A + i];
                    assert_true(v == q[(t * 3 + k) * A + i]);
                    double grey = 255 * ((double)v * c.std[k] + c.mean[k]), d = fabs(grey - u[(t * A + i) * 3 + k]);
                    /* CLIP_TRAIN's floats are not rounded; else only float32 rounding of the normalisation */
                    assert_true(d < (m == CLIP_TRAIN ? 0.5001 : 1e-4));
                }
    }
    free(a);
}

static void refusals(void **state) {
    (void)state;
    uint8_t a[4 * 4 * 3] = {0}, o[4 * 4 * 3];
    clip_cfg c;
    jepa_err err = {0};
    clip_cfg_defaults(&c, 0);
    assert_int_equal(clip_prepare(&c, a, 1, 4, 4, o, &err), JEPA_E_USE);
    clip_cfg_defaults(&c, 4);
    assert_int_equal(clip_prepare(&c, a, 0, 4, 4, o, &err), JEPA_E_USE);
    assert_int_equal(clip_prepare(&c, a, 1, 0, 4, o, &err), JEPA_E_INPUT);
    c.short_side = 3;
    assert_int_equal(clip_prepare(&c, a, 1, 4, 4, o, &err), JEPA_E_USE);
    assert_non_null(strstr(err.text, "short side 3"));
    clip_cfg_defaults(&c, 4);
    c.mode = CLIP_RAW;
    assert_int_equal(clip_prepare(&c, a, 1, 4, 4, o, &err), 0);
    assert_int_equal(clip_prepare(&c, a, 1, 2, 4, o, &err), JEPA_E_USE);
    clip_cfg_defaults(&c, 8192); /* a short side of 9362 makes 9362·(2^20) of the long one */
    uint8_t *line = calloc(1 << 20, 3);
    assert_non_null(line);
    assert_int_equal(clip_prepare(&c, line, 1, 1, 1 << 20, o, &err), JEPA_E_INPUT);
    free(line);
    assert_int_equal(clip_resize_u8(a, 1, 4, 4, 0, 4, CLIP_PIL, o, &err), JEPA_E_USE);
}

/* ---- random resized crop ---- */

typedef struct draws { rng r; int uniform, integer; } draws;
static double uniform(void *ctx, double low, double high) {
    draws *d = ctx;
    d->uniform++;
    return rng_uniform(&d->r, low, high);
}
static int64_t integer(void *ctx, int64_t low, int64_t high) {
    draws *d = ctx;
    d->integer++;
    return low + (int64_t)rng_below(&d->r, (uint32_t)(high - low + 1));
}

static void crop_boxes(void **state) {
    (void)state;
    draws d = {.r = rng_key(3, 0, 0, RNG_CROP)};
    crop_draw how = {uniform, integer, &d};
    static const int size[][2] = {{240, 320}, {1, 1}, {1, 500}, {500, 1}, {64, 64}, {37, 53}};
    const double scale[2] = {0.3, 1}, ratio[2] = {0.75, 1.35};
    for (int i = 0; i < 6000; i++) {
        int h = size[i % 6][0], w = size[i % 6][1], b[4];
        assert_int_equal(crop_box(h, w, scale, ratio, &how, b), 0);
        assert_true(b[0] >= 0 && b[1] >= 0 && b[2] >= 1 && b[3] >= 1 && b[0] + b[2] <= h && b[1] + b[3] <= w);
        if (i % 6 == 0) { /* area within scale, but for rounding of two sides */
            double area = (double)b[2] * b[3] / (240 * 320), shape = (double)b[3] / b[2];
            assert_true(area > 0.29 && area < 1.01 && shape > 0.74 && shape < 1.37);
        }
    }
    int b[4];
    d.uniform = d.integer = 0; /* never fits: ten tries, then the centre */
    assert_int_equal(crop_box(100, 300, (double[]){2, 2}, ratio, &how, b), 0);
    assert_int_equal(d.uniform, 20);
    assert_int_equal(d.integer, 0);
    assert_memory_equal(b, ((int[]){0, 82, 100, 135}), sizeof b);
    static const double bad[][4] = {{0, 1, 0.75, 1.3}, {-1, 1, 0.75, 1.3}, {1, 0.5, 0.75, 1.3},  {0.3, 1, 0, 1},
                                    {0.3, 1, 2, 1},    {NAN, 1, 1, 1},     {0.3, INFINITY, 1, 1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_int_equal(crop_box(10, 10, bad[i], bad[i] + 2, &how, b), JEPA_E_USE);
    assert_int_equal(crop_box(0, 10, scale, ratio, &how, b), JEPA_E_USE);
}

/* ---- processor files ---- */

static int processor(const char *text, clip_cfg *c, jepa_err *err) {
    char name[] = "/tmp/processor-XXXXXX";
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    int rc = clip_processor_read(c, name, err);
    unlink(name);
    return rc;
}

static void processors(void **state) {
    (void)state;
    clip_cfg c;
    jepa_err err = {0};
    assert_int_equal(processor("{\"crop_size\":{\"height\":64,\"width\":64},\"size\":{\"shortest_edge\":73},\"image_mean\":[0.1,0.2,0.3],"
                               "\"image_std\":[0.5,0.5,0.25],\"resample\":2,\"rescale_factor\":0.00392156862745098,\"do_pad\":null}",
                               &c, &err),
                     0);
    assert_int_equal(c.mode, CLIP_EVAL_HF);
    assert_int_equal(c.crop, 64);
    assert_int_equal(c.short_side, 73);
    assert_true(c.mean[2] == 0.3f && c.std[2] == 0.25f);
    assert_int_equal(processor("{\"crop_size\":256,\"size\":{\"shortest_edge\":292},\"do_normalize\":false}", &c, &err), 0);
    assert_true(c.crop == 256 && c.short_side == 292 && c.mean[0] == 0 && c.std[0] == 1);
    /* an image processor (I-JEPA's): the whole picture, squeezed */
    assert_int_equal(processor("{\"image_processor_type\":\"ViTImageProcessor\",\"size\":{\"height\":28,\"width\":28},\"resample\":2,\"do_normalize\":true}", &c, &err), 0);
    assert_true(c.mode == CLIP_PIL && c.crop == 28);
    uint8_t wide[28 * 56 * 3], out[28 * 28 * 3], want[28 * 28 * 3];
    for (int i = 0; i < 28 * 56 * 3; i++) wide[i] = (uint8_t)(i * 37 % 251);
    assert_int_equal(clip_prepare(&c, wide, 1, 28, 56, out, &err), 0);
    assert_int_equal(clip_resize_u8(wide, 1, 28, 56, 28, 28, CLIP_PIL, want, &err), 0);
    assert_memory_equal(out, want, sizeof out);
    static const char *const wrong[][2] = {
        {"{\"crop_size\":256,\"size\":{\"shortest_edge\":292},\"do_resize\":false}", "do_resize"},
        {"{\"crop_size\":256,\"size\":{\"shortest_edge\":292},\"do_center_crop\":false}", "do_center_crop"},
        {"{\"crop_size\":256,\"size\":{\"shortest_edge\":292},\"rescale_factor\":1}", "rescale_factor"},
        {"{\"crop_size\":256,\"size\":{\"shortest_edge\":292},\"resample\":3}", "resample"},
        {"{\"crop_size\":256,\"size\":{\"shortest_edge\":200}}", "smaller"},
        {"{\"crop_size\":256,\"size\":{\"height\":256,\"width\":256}}", "shortest_edge"},
        {"{\"crop_size\":{\"height\":256,\"width\":128},\"size\":{\"shortest_edge\":292}}", "square"},
        {"{\"crop_size\":1e9,\"size\":{\"shortest_edge\":292}}", "crop_size"},
        {"{\"crop_size\":2.5,\"size\":{\"shortest_edge\":292}}", "crop_size"},
        {"{\"size\":{\"shortest_edge\":292}}", "crop_size"},
        {"{\"crop_size\":256,\"size\":{\"shortest_edge\":292},\"image_std\":[0.5,0,0.5]}", "image_std"},
        {"{\"crop_size\":256,\"size\":{\"shortest_edge\":292},\"image_mean\":[0.5,0.5]}", "image_mean"},
        {"[1]", "object"},
        {"{\"crop_size\":", "processor-"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        err = (jepa_err){0};
        assert_true(processor(wrong[i][0], &c, &err) < 0);
        if (!strstr(err.text, wrong[i][1])) fail_msg("\"%s\" does not name %s", err.text, wrong[i][1]);
    }
    assert_int_equal(clip_processor_read(&c, "/tmp/no such processor.json", &err), JEPA_E_IO);
    assert_int_equal(clip_processor_read(&c, TEST_DATA "/fuzz", &err), JEPA_E_END);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_the_definition), cmocka_unit_test(flat_stays_flat), cmocka_unit_test(crop_positions),
        cmocka_unit_test(boxes_and_flips), cmocka_unit_test(floats), cmocka_unit_test(refusals), cmocka_unit_test(crop_boxes),
        cmocka_unit_test(processors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
