/* test_image.c: still images: the formats and the traps that users bring (files made by tests/data/images/make.py). */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "video/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *at(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/images/%s", TEST_DATA, name);
    return path;
}

static void load(const char *name, char **data, size_t *size) { assert_int_equal(file_read(at(name), 1 << 20, data, size, NULL), 0); }

static void pixel(const image *im, int x, int y, int r, int g, int b, int within, const char *name) {
    const uint8_t *p = im->rgb + ((size_t)y * (size_t)im->width + (size_t)x) * 3;
    if (abs(p[0] - r) > within || abs(p[1] - g) > within || abs(p[2] - b) > within)
        fail_msg("%s at %d,%d: %d %d %d, expected %d %d %d", name, x, y, p[0], p[1], p[2], r, g, b);
}

static void flat_pictures(void **state) {
    (void)state;
    static const struct { const char *name; int w, h, r, g, b, within; } want[] = {
        {"rgb.png", 48, 32, 200, 60, 20, 0},  {"x.bmp", 48, 32, 200, 60, 20, 0},    {"pal.png", 48, 32, 200, 60, 20, 0},
        {"rgba.png", 48, 32, 200, 60, 20, 0}, /* alpha 0: dropped, not blended */
        {"la.png", 48, 32, 90, 90, 90, 0},    {"gray.png", 48, 32, 90, 90, 90, 0},  {"gray.jpg", 48, 32, 90, 90, 90, 2},
        {"gray16.png", 48, 32, 192, 192, 192, 1}, /* 0xC000: its high byte, not saturated */
        {"q95.jpg", 48, 32, 200, 60, 20, 2},  {"prog.jpg", 48, 32, 200, 60, 20, 2}, {"cmyk.jpg", 48, 32, 200, 60, 20, 2},
        {"y.png", 48, 32, 200, 60, 20, 2}, /* a JPEG: told by content */
        {"one.png", 1, 1, 200, 60, 20, 0},    {"thin.png", 3000, 2, 200, 60, 20, 0},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        image im;
        jepa_err err = {0};
        if (image_read(&im, at(want[i].name), 0, &err)) fail_msg("%s", err.text);
        assert_int_equal(im.width, want[i].w);
        assert_int_equal(im.height, want[i].h);
        for (int y = 0; y < im.height; y++)
            for (int x = 0; x < im.width; x++) pixel(&im, x, y, want[i].r, want[i].g, want[i].b, want[i].within, want[i].name);
        uint8_t out[32 * 32 * 3]; /* resize and crop give the colour again, also from one pixel or from two rows */
        clip_cfg c;
        clip_cfg_defaults(&c, 32);
        assert_int_equal(clip_prepare(&c, im.rgb, 1, im.height, im.width, out, &err), 0);
        for (int k = 0; k < 32 * 32; k++) assert_true(abs(out[3 * k] - want[i].r) <= want[i].within);
        mem_free(im.rgb);
    }
}

/* red 4x, green 7y, blue 2(x+y): rows, columns, passes and planes in their places */
static void ramps(void **state) {
    (void)state;
    static const struct { const char *name; int within; } want[] = {
        {"ramp.png", 0}, {"ramp.bmp", 0}, {"ramp-interlaced.png", 0}, {"ramp-top-down32.bmp", 0},
        {"ramp-restart.jpg", 6}, {"ramp-420.jpg", 12}, {"ramp-422-prog.jpg", 12}, /* halved colour planes lose more */
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        image im;
        jepa_err err = {0};
        if (image_read(&im, at(want[i].name), 0, &err)) fail_msg("%s", err.text);
        assert_true(im.width == 48 && im.height == 32);
        for (int y = 0; y < 32; y++)
            for (int x = 0; x < 48; x++) pixel(&im, x, y, 4 * x, 7 * y, 2 * (x + y), want[i].within, want[i].name);
        mem_free(im.rgb);
    }
    static const struct { const char *name; int w; } bits[] = {{"bits.png", 48}, {"bits8.bmp", 47}};
    for (int i = 0; i < 2; i++) {
        image im;
        assert_int_equal(image_read(&im, at(bits[i].name), 0, NULL), 0);
        assert_int_equal(im.width, bits[i].w);
        for (int y = 0; y < 32; y++) {
            pixel(&im, 23, y, 200, 60, 20, 0, bits[i].name);
            pixel(&im, 24, y, 1, 2, 3, 0, bits[i].name);
        }
        mem_free(im.rgb);
    }
}

static void orientation(void **state) {
    (void)state;
    image im;
    assert_int_equal(image_read(&im, at("exif6.jpg"), 0, NULL), 0);
    assert_true(im.width == 32 && im.height == 48);
    pixel(&im, 28, 40, 255, 0, 0, 6, "upright, right");
    pixel(&im, 4, 4, 0, 0, 255, 6, "upright, left");
    mem_free(im.rgb);
    assert_int_equal(image_read(&im, at("exif6.jpg"), 1, NULL), 0);
    assert_true(im.width == 48 && im.height == 32);
    pixel(&im, 40, 4, 255, 0, 0, 6, "as stored, top");
    pixel(&im, 4, 28, 0, 0, 255, 6, "as stored, bottom");
    mem_free(im.rgb);
    assert_int_equal(image_read(&im, at("exif6.png"), 0, NULL), 0);
    assert_true(im.width == 32 && im.height == 48);
    pixel(&im, 28, 40, 255, 0, 0, 0, "upright PNG");
    mem_free(im.rgb);
}

/* All eight ways: where the stored picture's first pixel and its right neighbour go. */
static void eight_orientations(void **state) {
    (void)state;
    static const int first[9][2] = {{0, 0}, {0, 0}, {47, 0}, {47, 31}, {0, 31}, {0, 0}, {31, 0}, {31, 47}, {0, 47}};
    static const int right[9][2] = {{0, 0}, {1, 0}, {46, 0}, {46, 31}, {1, 31}, {0, 1}, {31, 1}, {31, 46}, {0, 46}};
    char *data;
    size_t size;
    load("ramp.png", &data, &size);
    uint8_t tiff[26] = {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0}, crc[4], *with = malloc(size + 38);
    assert_non_null(with);
    for (int o = 0; o <= 9; o++) { /* 0 and 9 do not exist: as 1 */
        tiff[19] = (uint8_t)o;
        uint8_t chunk[34] = {0, 0, 0, 26, 'e', 'X', 'I', 'f'};
        memcpy(chunk + 8, tiff, 26);
        uint32_t c = png_crc(chunk + 4, 30);
        for (int i = 0; i < 4; i++) crc[i] = (uint8_t)(c >> (24 - 8 * i));
        memcpy(with, data, 33);
        memcpy(with + 33, chunk, 34);
        memcpy(with + 67, crc, 4);
        memcpy(with + 71, data + 33, size - 33);
        image im;
        jepa_err err = {0};
        if (image_parse(&im, with, size + 38, "turned.png", 0, &err)) fail_msg("%s", err.text);
        int k = o > 8 ? 1 : o;
        assert_int_equal(im.width, k > 4 ? 32 : 48);
        pixel(&im, first[k][0], first[k][1], 0, 0, 0, 0, "first");
        pixel(&im, k ? right[k][0] : 1, k ? right[k][1] : 0, 4, 0, 2, 0, "its neighbour");
        mem_free(im.rgb);
    }
    free(with);
    mem_free(data);
}

static void refused(const char *name, const char *word) {
    image im;
    jepa_err err = {0};
    assert_int_equal(image_read(&im, at(name), 0, &err), JEPA_E_INPUT);
    assert_null(im.rgb);
    if (!strstr(err.text, word) || !strstr(err.text, name)) fail_msg("\"%s\" does not name %s and %s", err.text, name, word);
}

static void refusals(void **state) {
    (void)state;
    refused("x.webp", "WebP");
    refused("x.gif", "GIF");
    refused("x.tif", "TIFF");
    refused("x.avif", "AVIF");
    refused("cut.jpg", "damaged JPEG");
    refused("make.py", "not an image");
    image im;
    jepa_err err = {0};
    assert_int_equal(image_read(&im, at("none.png"), 0, &err), JEPA_E_IO);
    assert_non_null(strstr(err.text, "none.png: not found"));
    assert_int_equal(image_parse(&im, (const uint8_t *)"", 0, "nothing.png", 0, &err), JEPA_E_INPUT);
    assert_non_null(strstr(err.text, "empty"));
}

/* Every file cut at every length is an error with the file's name, never a picture and never a read behind the end. */
static void cut_anywhere(void **state) {
    (void)state;
    static const char *const names[] = {"q95.jpg", "prog.jpg", "ramp-restart.jpg", "ramp-420.jpg", "ramp-422-prog.jpg", "cmyk.jpg",
                                        "rgb.png", "pal.png",  "bits.png",         "exif6.png",    "bits8.bmp"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *data;
        size_t size;
        load(names[i], &data, &size);
        size_t whole = !strcmp(names[i], "bits8.bmp") ? size - 1 : size; /* that row's padding may be missing */
        for (size_t n = 0; n < whole; n++) {
            uint8_t *b = malloc(n ? n : 1);
            assert_non_null(b);
            memcpy(b, data, n);
            image im;
            jepa_err err = {0};
            if (image_parse(&im, b, n, "cut", 0, &err) != JEPA_E_INPUT) fail_msg("%s cut to %zu of %zu bytes was read", names[i], n, size);
            assert_null(im.rgb);
            assert_non_null(strstr(err.text, "cut"));
            free(b);
        }
        mem_free(data);
    }
}

static void expect_bad(const uint8_t *data, size_t size, const char *word) {
    image im;
    jepa_err err = {0};
    assert_int_equal(image_parse(&im, data, size, "bad", 0, &err), JEPA_E_INPUT);
    if (!strstr(err.text, word)) fail_msg("\"%s\" does not say %s", err.text, word);
}

/* What stb_image would have taken: one thing broken at a time. */
static void broken_jpegs(void **state) {
    (void)state;
    char *text;
    size_t size;
    load("q95.jpg", &text, &size);
    uint8_t *d = (uint8_t *)text, *b = malloc(size * 2);
    assert_non_null(b);
    size_t frame = 0, quant = 0, huffman = 0, scan = 0;
    for (size_t i = 2; i + 4 <= size && !scan; i += 2 + (size_t)(d[i + 2] << 8 | d[i + 3])) {
        if (d[i + 1] == 0xc0) frame = i;
        if (d[i + 1] == 0xdb && !quant) quant = i;
        if (d[i + 1] == 0xc4 && !huffman) huffman = i;
        if (d[i + 1] == 0xda) scan = i;
    }
    assert_true(frame && quant && huffman && scan);
#define BREAK(offset, value, word) do { memcpy(b, d, size); b[offset] = (value); expect_bad(b, size, word); } while (0)
    BREAK(frame + 1, 0xc3, "lossless");
    BREAK(frame + 1, 0xc9, "arithmetic");
    BREAK(frame + 1, 0xc5, "hierarchical");
    BREAK(frame + 4, 12, "8 bits");
    BREAK(frame + 9, 2, "components");
    BREAK(frame + 11, 0x51, "sampling");
    BREAK(frame + 11, 0x01, "sampling");
    BREAK(frame + 12, 4, "table number");
    BREAK(frame + 12, 3, "quantisation table missing");
    BREAK(frame + 5, 0xff, "ends early");       /* 65,280 rows and data for 32 */
    BREAK(quant + 4, 0x04, "table number");
    BREAK(quant + 4, 0x10, "cut short");        /* 16-bit entries in a segment of 8-bit ones */
    BREAK(huffman + 4, 0x24, "table number");
    BREAK(huffman + 5, 255, "too many codes");
    BREAK(huffman + 5, 3, "Huffman");           /* three codes of one bit */
    BREAK(scan + 4, 0, "scan header");
    BREAK(scan + 5, 77, "unknown component");
    BREAK(scan + 6, 0x33, "Huffman table missing");
    BREAK(scan + 11, 1, "scan header");
    memcpy(b, d, size); /* a frame header twice */
    size_t n = 2 + (size_t)(d[frame + 2] << 8 | d[frame + 3]);
    memcpy(b + frame + n, d + frame, size - frame);
    expect_bad(b, size + n, "second frame header");
    memcpy(b, d, size); /* pixels without end: more than the cap */
    memset(b + frame + 5, 0xff, 4);
    expect_bad(b, size, "million");
    image im; /* bytes after the end (a phone's second picture) do not matter */
    memcpy(b, d, size);
    memcpy(b + size, d, size);
    assert_int_equal(image_parse(&im, b, size * 2, "tail", 0, NULL), 0);
    mem_free(im.rgb);
    free(b);
    mem_free(text);
}

static void broken_pngs_and_bmps(void **state) {
    (void)state;
    char *text;
    size_t size;
    load("rgb.png", &text, &size);
    uint8_t *b = malloc(size);
    assert_non_null(b);
    memcpy(b, text, size);
    b[45] ^= 1;
    expect_bad(b, size, "checksum");
    static const struct { int at; uint8_t v; const char *word; } head[] = {
        {16, 0x80, "width"}, {17, 0xff, "million"}, {24, 3, "colour type"}, {25, 5, "colour type"},  {26, 1, "method"},
        {27, 1, "method"},   {28, 2, "method"},     {25, 3, "no palette"},  {22, 0x7f, "too short"}, /* 32,544 rows from a hundred bytes */
    };
    for (size_t i = 0; i < sizeof head / sizeof *head; i++) {
        memcpy(b, text, size);
        b[head[i].at] = head[i].v;
        uint32_t c = png_crc(b + 12, 17);
        for (int k = 0; k < 4; k++) b[29 + k] = (uint8_t)(c >> (24 - 8 * k));
        expect_bad(b, size, head[i].word);
    }
    free(b);
    mem_free(text);
    load("bits8.bmp", &text, &size);
    b = (uint8_t *)text;
    static const struct { int at; uint8_t v; const char *word; } bmp[] = {
        {14, 41, "unknown length"},    {28, 7, "bits a pixel"},
        {30, 1, "run-length"},         {30, 3, "packing"},
        {10, 20, "inside the header"}, {21, 0x40, "million"},
        {25, 0x80, "million"},         {22, 0, "width or height"},
        {23, 1, "cut short"},          {10, 58, "colour beyond the palette"},
    };
    for (size_t i = 0; i < sizeof bmp / sizeof *bmp; i++) {
        uint8_t was = b[bmp[i].at], second = b[bmp[i].at + 1];
        b[bmp[i].at] = bmp[i].v;
        if (bmp[i].at == 10) b[11] = 0; /* the picture starts inside the palette */
        expect_bad(b, size, bmp[i].word);
        b[bmp[i].at] = was;
        b[bmp[i].at + 1] = second;
    }
    mem_free(text);
}

static void written_and_read(void **state) {
    (void)state;
    enum { W = 37, H = 21 };
    uint8_t rgb[W * H * 3];
    rng r = rng_key(1, 2, 3, RNG_TEST);
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = (uint8_t)rng_u32(&r);
    char folder[] = "/tmp/image-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.png", folder);
    jepa_err err = {0};
    if (image_write_png(path, rgb, W, H, &err)) fail_msg("%s", err.text);
    assert_int_equal(err.code, 0);
    image im;
    if (image_read(&im, path, 0, &err)) fail_msg("%s", err.text);
    assert_true(im.width == W && im.height == H);
    assert_memory_equal(im.rgb, rgb, sizeof rgb);
    mem_free(im.rgb);
    unlink(path);
    assert_int_equal(rmdir(folder), 0); /* nothing else was left */
    assert_int_equal(image_write_png(path, rgb, W, H, &err), JEPA_E_IO);
    assert_int_equal(image_write_png(path, rgb, 0, H, &err), JEPA_E_USE);
    assert_int_equal(image_write_png(path, rgb, 60000, 60000, &err), JEPA_E_USE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flat_pictures), cmocka_unit_test(ramps), cmocka_unit_test(orientation), cmocka_unit_test(eight_orientations),
        cmocka_unit_test(refusals), cmocka_unit_test(cut_anywhere), cmocka_unit_test(broken_jpegs), cmocka_unit_test(broken_pngs_and_bmps),
        cmocka_unit_test(written_and_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
