/* draw.c: see draw.h. */
#include "infer/draw.h"
#include "video/video.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int canvas_open(canvas *c, int64_t width, int64_t height, jepa_err *err) {
    *c = (canvas){0};
    if (width < 1 || height < 1 || width > 16384 || height > 16384)
        return err_set(err, JEPA_E_USE, "a picture of %lld x %lld pixels cannot be drawn", (long long)width, (long long)height);
    if (!(c->rgb = mem_alloc((size_t)width * (size_t)height, 3)))
        return err_set(err, JEPA_E_MEMORY, "no memory for a picture of %lld x %lld", (long long)width, (long long)height);
    memset(c->rgb, 255, (size_t)width * (size_t)height * 3);
    c->width = (int)width, c->height = (int)height;
    return 0;
}

void canvas_close(canvas *c) {
    mem_free(c->rgb);
    *c = (canvas){0};
}

void canvas_fill(canvas *c, int x, int y, int w, int h, const uint8_t rgb[3]) {
    for (int j = y < 0 ? 0 : y; j < y + h && j < c->height; j++)
        for (int i = x < 0 ? 0 : x; i < x + w && i < c->width; i++) memcpy(c->rgb + ((size_t)j * (size_t)c->width + (size_t)i) * 3, rgb, 3);
}

void canvas_line(canvas *c, double x0, double y0, double x1, double y1, const uint8_t rgb[3]) {
    double steps = ceil(fmax(fabs(x1 - x0), fabs(y1 - y0)));
    if (!(steps >= 0 && steps < 1e6)) return;
    for (int i = 0; i <= (int)steps; i++) {
        double f = steps > 0 ? i / steps : 0;
        canvas_fill(c, (int)lround(x0 + f * (x1 - x0)), (int)lround(y0 + f * (y1 - y0)), 2, 2, rgb);
    }
}

/* Columns of dots, lowest bit on top. */
static const struct {
    char c;
    uint8_t col[5];
} font[] = {
    {'0', {0x3e, 0x51, 0x49, 0x45, 0x3e}}, {'1', {0x00, 0x42, 0x7f, 0x40, 0x00}}, {'2', {0x42, 0x61, 0x51, 0x49, 0x46}},
    {'3', {0x21, 0x41, 0x45, 0x4b, 0x31}}, {'4', {0x18, 0x14, 0x12, 0x7f, 0x10}}, {'5', {0x27, 0x45, 0x45, 0x45, 0x39}},
    {'6', {0x3c, 0x4a, 0x49, 0x49, 0x30}}, {'7', {0x01, 0x71, 0x09, 0x05, 0x03}}, {'8', {0x36, 0x49, 0x49, 0x49, 0x36}},
    {'9', {0x06, 0x49, 0x49, 0x29, 0x1e}}, {'.', {0x00, 0x60, 0x60, 0x00, 0x00}}, {'-', {0x08, 0x08, 0x08, 0x08, 0x08}},
    {'+', {0x08, 0x08, 0x3e, 0x08, 0x08}}, {'/', {0x20, 0x10, 0x08, 0x04, 0x02}}, {':', {0x00, 0x36, 0x36, 0x00, 0x00}},
    {'%', {0x23, 0x13, 0x08, 0x64, 0x62}}, {'_', {0x40, 0x40, 0x40, 0x40, 0x40}}, {'a', {0x20, 0x54, 0x54, 0x54, 0x78}},
    {'b', {0x7f, 0x48, 0x44, 0x44, 0x38}}, {'c', {0x38, 0x44, 0x44, 0x44, 0x20}}, {'d', {0x38, 0x44, 0x44, 0x48, 0x7f}},
    {'e', {0x38, 0x54, 0x54, 0x54, 0x18}}, {'f', {0x08, 0x7e, 0x09, 0x01, 0x02}}, {'g', {0x0c, 0x52, 0x52, 0x52, 0x3e}},
    {'h', {0x7f, 0x08, 0x04, 0x04, 0x78}}, {'i', {0x00, 0x44, 0x7d, 0x40, 0x00}}, {'j', {0x20, 0x40, 0x44, 0x3d, 0x00}},
    {'k', {0x7f, 0x10, 0x28, 0x44, 0x00}}, {'l', {0x00, 0x41, 0x7f, 0x40, 0x00}}, {'m', {0x7c, 0x04, 0x18, 0x04, 0x78}},
    {'n', {0x7c, 0x08, 0x04, 0x04, 0x78}}, {'o', {0x38, 0x44, 0x44, 0x44, 0x38}}, {'p', {0x7c, 0x14, 0x14, 0x14, 0x08}},
    {'q', {0x08, 0x14, 0x14, 0x18, 0x7c}}, {'r', {0x7c, 0x08, 0x04, 0x04, 0x08}}, {'s', {0x48, 0x54, 0x54, 0x54, 0x20}},
    {'t', {0x04, 0x3f, 0x44, 0x40, 0x20}}, {'u', {0x3c, 0x40, 0x40, 0x20, 0x7c}}, {'v', {0x1c, 0x20, 0x40, 0x20, 0x1c}},
    {'w', {0x3c, 0x40, 0x30, 0x40, 0x3c}}, {'x', {0x44, 0x28, 0x10, 0x28, 0x44}}, {'y', {0x0c, 0x50, 0x50, 0x50, 0x3c}},
    {'z', {0x44, 0x64, 0x54, 0x4c, 0x44}},
};

void canvas_text(canvas *c, int x, int y, int dot, const char *text, const uint8_t rgb[3]) {
    for (; *text; text++, x += 6 * dot) {
        char want = *text >= 'A' && *text <= 'Z' ? (char)(*text + 32) : *text;
        for (size_t k = 0; k < sizeof font / sizeof *font; k++)
            for (int i = 0; font[k].c == want && i < 5; i++)
                for (int j = 0; j < 7; j++)
                    if (font[k].col[i] >> j & 1) canvas_fill(c, x + i * dot, y + j * dot, dot, dot, rgb);
    }
}

int text_width(const char *text, int dot) { return (int)strlen(text) * 6 * dot; }

void heat_colour(double v, uint8_t rgb[3]) {
    static const uint8_t at[5][3] = {{8, 5, 30}, {90, 20, 110}, {190, 50, 85}, {245, 130, 30}, {252, 250, 170}};
    double p = v > 0 ? (v < 1 ? v : 1) * 4 : 0;
    int i = p >= 4 ? 3 : (int)p;
    for (int k = 0; k < 3; k++) rgb[k] = (uint8_t)(at[i][k] + (p - i) * (at[i + 1][k] - at[i][k]) + 0.5);
}

void canvas_frame(canvas *c, int x, int y, int zoom, const uint8_t *frame, int side, const float *map, int64_t rows, int64_t cols, double low,
                  double high, double alpha) {
    const int n = side * zoom;
    for (int j = 0; j < n && y + j < c->height; j++)
        for (int i = 0; i < n && x + i < c->width; i++) {
            uint8_t *to = c->rgb + ((size_t)(y + j) * (size_t)c->width + (size_t)(x + i)) * 3, hot[3];
            memcpy(to, frame + ((size_t)(j / zoom) * (size_t)side + (size_t)(i / zoom)) * 3, 3);
            const float e = map ? map[(int64_t)j * rows / n * cols + (int64_t)i * cols / n] : NAN;
            if (isnan(e)) continue;
            heat_colour(high > low ? (e - low) / (high - low) : 0, hot);
            for (int k = 0; k < 3; k++) to[k] = (uint8_t)(to[k] * (1 - alpha) + hot[k] * alpha + 0.5);
        }
}

void canvas_bar(canvas *c, int x, int y, int w, int h, double low, double high) {
    static const uint8_t ink[3] = {40, 40, 40};
    char text[32];
    for (int j = 0; j < h; j++) {
        uint8_t rgb[3];
        heat_colour(h > 1 ? 1 - (double)j / (h - 1) : 0, rgb);
        canvas_fill(c, x, y + j, w, 1, rgb);
    }
    snprintf(text, sizeof text, "%.3g", high);
    canvas_text(c, x + w + 3, y, 1, text, ink);
    snprintf(text, sizeof text, "%.3g", low);
    canvas_text(c, x + w + 3, y + h - 7, 1, text, ink);
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void robust_range(const float *v, int64_t n, double *low, double *high) {
    float *s = n > 0 ? mem_alloc((size_t)n, sizeof *s) : NULL;
    int64_t k = 0;
    *low = 0, *high = 1;
    for (int64_t i = 0; s && i < n; i++)
        if (isfinite(v[i])) s[k++] = v[i];
    if (k) {
        qsort(s, (size_t)k, sizeof *s, ascending);
        *low = s[k / 100], *high = s[k - 1 - k / 100];
    }
    mem_free(s);
}

/* 1, 2 or 5 times a power of ten: about `want` steps over span */
static double tick(double span, int want) {
    double raw = span / want, p = pow(10, floor(log10(raw))), f = raw / p;
    return p * (f < 1.5 ? 1 : f < 3.5 ? 2 : f < 7.5 ? 5 : 10);
}

int draw_curves(const char *png, const curve *c, int n, const char *y_label, jepa_err *err) {
    enum { W = 900, H = 360, LEFT = 70, TOP = 30, RIGHT = 20, BOTTOM = 50 };
    static const uint8_t ink[3] = {40, 40, 40}, pale[3] = {225, 225, 225};
    static const uint8_t colour[6][3] = {{31, 90, 160}, {200, 80, 30}, {40, 130, 60}, {140, 60, 150}, {160, 120, 20}, {90, 90, 90}};
    double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY;
    char text[64];
    for (int k = 0; k < n; k++)
        for (int64_t i = 0; i < c[k].n; i++) {
            if (!isfinite(c[k].x[i]) || !isfinite(c[k].y[i])) continue;
            x0 = fmin(x0, c[k].x[i]), x1 = fmax(x1, c[k].x[i]), y0 = fmin(y0, c[k].y[i]), y1 = fmax(y1, c[k].y[i]);
        }
    if (!(x1 >= x0)) return err_set(err, JEPA_E_USE, "%s: there is nothing to draw", png);
    if (x1 - x0 < 1e-9) x0 -= 0.5, x1 += 0.5;
    double room = y1 - y0 > 1e-12 ? (y1 - y0) * 0.08 : fabs(y1) * 0.1 + 1e-6, xs, ys;
    y0 -= room, y1 += room;
    canvas p;
    int rc = canvas_open(&p, W, H, err);
    if (rc < 0) return rc;
    xs = (W - LEFT - RIGHT) / (x1 - x0), ys = (H - TOP - BOTTOM) / (y1 - y0);
    for (double t = tick(x1 - x0, 8), v = ceil(x0 / t) * t; v <= x1 + 1e-9; v += t) {
        int x = LEFT + (int)((v - x0) * xs);
        canvas_fill(&p, x, TOP, 1, H - TOP - BOTTOM, pale);
        snprintf(text, sizeof text, "%.4g", fabs(v) < t * 1e-6 ? 0 : v);
        canvas_text(&p, x - text_width(text, 1) / 2, H - BOTTOM + 8, 1, text, ink);
    }
    for (double t = tick(y1 - y0, 5), v = ceil(y0 / t) * t; v <= y1 + 1e-12; v += t) {
        int y = H - BOTTOM - (int)((v - y0) * ys);
        canvas_fill(&p, LEFT, y, W - LEFT - RIGHT, 1, pale);
        snprintf(text, sizeof text, "%.4g", fabs(v) < t * 1e-6 ? 0 : v);
        canvas_text(&p, LEFT - 6 - text_width(text, 1), y - 3, 1, text, ink);
    }
    canvas_fill(&p, LEFT, TOP, 1, H - TOP - BOTTOM, ink);
    canvas_fill(&p, LEFT, H - BOTTOM, W - LEFT - RIGHT, 1, ink);
    canvas_text(&p, LEFT, 10, 2, y_label, ink);
    canvas_text(&p, W - RIGHT - text_width("seconds", 2), H - 24, 2, "seconds", ink);
    for (int k = 0, at = LEFT; k < n; k++) {
        const uint8_t *rgb = colour[k % 6];
        for (int64_t i = 0; i < c[k].n; i++) {
            double x = LEFT + (c[k].x[i] - x0) * xs, y = H - BOTTOM - (c[k].y[i] - y0) * ys;
            if (!isfinite(x) || !isfinite(y)) continue;
            canvas_fill(&p, (int)x - 1, (int)y - 1, 4, 4, rgb);
            if (i && isfinite(c[k].x[i - 1]) && isfinite(c[k].y[i - 1]))
                canvas_line(&p, LEFT + (c[k].x[i - 1] - x0) * xs, H - BOTTOM - (c[k].y[i - 1] - y0) * ys, x, y, rgb);
        }
        if (n > 1 && at + text_width(c[k].name, 1) < W - RIGHT - 100) { /* as many names as there is room for */
            canvas_fill(&p, at, H - 18, 8, 8, rgb);
            canvas_text(&p, at + 12, H - 18, 1, c[k].name, ink);
            at += 24 + text_width(c[k].name, 1);
        }
    }
    rc = image_write_png(png, p.rgb, p.width, p.height, err);
    canvas_close(&p);
    return rc;
}
