/* transform_resize.c: bilinear resizing as the published code's libraries do it, from tables made once a clip.
 *
 *   CLIP_EVAL_META  OpenCV INTER_LINEAR on uint8: no antialiasing, weights of 11 bits, rows first along x then along y
 *   CLIP_EVAL_HF    torchvision's antialiased resize on uint8: 16-bit weights, rounded to uint8 between the two passes
 *   CLIP_PIL        Pillow's: the same with 22-bit weights, always along x first as Pillow did up to version 10 (measured equal; later
 *                   ones choose the order by cost, at most one level away)
 *   CLIP_TRAIN      torch's interpolate on floats: no antialiasing, align_corners false
 *
 * The four differ by up to a few grey levels on the same picture; encoders were trained on one each. */
#include "video/transform.h"

#include <math.h>
#include <string.h>

enum { CV_BITS = 11, CV_ONE = 1 << CV_BITS, PIL_BITS = 22, MOST_SIDE = 1 << 24 };

void resize_close(resize_plan *p) {
    mem_free(p->xfrom);
    mem_free(p->yfrom);
    mem_free(p->xcount);
    mem_free(p->ycount);
    mem_free(p->xweight);
    mem_free(p->yweight);
    mem_free(p->xfrac);
    mem_free(p->yfrac);
    mem_free(p->work);
    memset(p, 0, sizeof *p);
}

/* from[i] and the weight of from[i]+1, for target positions at+i; half-pixel centres. */
static void linear_axis(int n, int on, int at, int count, int *from, float *frac, int clamp) {
    double scale = (double)n / on;
    float scale32 = (float)n / (float)on;
    for (int i = 0; i < count; i++) {
        if (clamp) { /* torch: float arithmetic, negative positions become 0 */
            float s = scale32 * ((float)(at + i) + 0.5f) - 0.5f;
            if (s < 0) s = 0;
            int k = (int)s;
            if (k > n - 1) k = n - 1;
            from[i] = k;
            frac[i] = k < n - 1 ? s - (float)k : 0;
        } else { /* OpenCV: position in double, kept as float */
            float s = (float)((at + i + 0.5) * scale - 0.5);
            int k = (int)floorf(s);
            from[i] = k;
            frac[i] = s - (float)k;
        }
    }
}

/* Weights of target position i: a triangle as wide as the reduction, normalised in double. Returns the number of taps. */
static int triangle(int n, double scale, int i, int *from, double *row) {
    double wide = scale > 1 ? scale : 1, narrow = 1 / wide, centre = (i + 0.5) * scale, sum = 0;
    int a = (int)(centre - wide + 0.5), b = (int)(centre + wide + 0.5);
    if (a < 0) a = 0;
    if (b > n) b = n;
    for (int k = a; k < b; k++) {
        double x = fabs((k - centre + 0.5) * narrow);
        sum += row[k - a] = x < 1 ? 1 - x : 0;
    }
    if (sum != 0)
        for (int k = 0; k < b - a; k++) row[k] /= sum;
    *from = a;
    return b - a;
}

/* The tables of one axis in fixed point. bits 0: as many as keep the largest weight of the whole axis below 2^15 (torchvision's rule). */
static int triangle_axis(int n, int on, int at, int count, int *bits, int **from, int **taps, int32_t **weight, int *width, jepa_err *err) {
    double scale = (double)n / on, most = 0;
    int ksize = (int)ceil(scale > 1 ? scale : 1) * 2 + 2;
    double *row = mem_alloc((size_t)ksize, sizeof(double));
    *from = mem_alloc((size_t)count, sizeof(int));
    *taps = mem_alloc((size_t)count, sizeof(int));
    *weight = mem_alloc((size_t)count, (size_t)ksize * sizeof(int32_t));
    *width = ksize;
    if (!row || !*from || !*taps || !*weight) {
        mem_free(row);
        return err_set(err, JEPA_E_MEMORY, "no memory for resize tables (%d to %d pixels)", n, on);
    }
    if (!*bits) {
        for (int i = 0; i < on; i++) {
            int a, c = triangle(n, scale, i, &a, row);
            for (int k = 0; k < c; k++) most = row[k] > most ? row[k] : most;
        }
        while (*bits < PIL_BITS && (int)(0.5 + most * (1 << (*bits + 1))) < 1 << 15) ++*bits;
    }
    for (int i = 0; i < count; i++) {
        (*taps)[i] = triangle(n, scale, at + i, &(*from)[i], row);
        for (int k = 0; k < (*taps)[i]; k++) (*weight)[(size_t)i * (size_t)ksize + (size_t)k] = (int32_t)(0.5 + row[k] * (1 << *bits));
    }
    mem_free(row);
    return 0;
}

int resize_open(resize_plan *p, clip_mode how, int h, int w, int oh, int ow, int top, int left, int rows, int cols, jepa_err *err) {
    memset(p, 0, sizeof *p);
    if (h < 1 || w < 1 || oh < 1 || ow < 1 || h > MOST_SIDE || w > MOST_SIDE || oh > MOST_SIDE || ow > MOST_SIDE)
        return err_set(err, JEPA_E_USE, "resize from %dx%d to %dx%d: each side must lie in 1 to %d", w, h, ow, oh, MOST_SIDE);
    if (rows < 1 || cols < 1 || top < 0 || left < 0 || top > oh - rows || left > ow - cols || cols > MOST_SIDE / 4)
        return err_set(err, JEPA_E_USE, "window %dx%d at %d,%d does not lie inside %dx%d", cols, rows, left, top, ow, oh);
    p->how = how, p->h = h, p->w = w, p->oh = oh, p->ow = ow, p->top = top, p->left = left, p->rows = rows, p->cols = cols;
    p->first = 0, p->last = h;
    if (how == CLIP_RAW || (oh == h && ow == w)) {
        p->how = how == CLIP_TRAIN ? CLIP_TRAIN : CLIP_RAW; /* nothing to resample: all four ways copy */
        if (p->how == CLIP_RAW && (oh != h || ow != w))
            return err_set(err, JEPA_E_USE, "raw frames are %dx%d, %dx%d was asked", w, h, ow, oh);
        if (p->how == CLIP_RAW) return 0;
    }
    int rc = 0;
    size_t n = (size_t)cols * 3;
    if (how == CLIP_EVAL_HF || how == CLIP_PIL) {
        /* the passes' precisions are apart: torchvision chooses each from its own axis */
        int xbits = how == CLIP_PIL ? PIL_BITS : 0, ybits = xbits;
        rc = triangle_axis(w, ow, left, cols, &xbits, &p->xfrom, &p->xcount, &p->xweight, &p->xtaps, err);
        if (!rc) rc = triangle_axis(h, oh, top, rows, &ybits, &p->yfrom, &p->ycount, &p->yweight, &p->ytaps, err);
        if (rc) goto fail;
        p->bits = xbits | ybits << 8;
        p->first = p->yfrom[0];
        p->last = p->yfrom[rows - 1] + p->ycount[rows - 1];
        size_t bytes;
        if (size_mul((size_t)(p->last - p->first), n, &bytes) == 0) p->work = mem_alloc(bytes, 1);
    } else {
        p->xfrom = mem_alloc((size_t)cols, sizeof(int));
        p->yfrom = mem_alloc((size_t)rows, sizeof(int));
        p->xfrac = mem_alloc((size_t)cols, sizeof(float));
        p->yfrac = mem_alloc((size_t)rows, sizeof(float));
        p->work = mem_alloc(n * 2, 4);
        if (how == CLIP_EVAL_META) {
            p->half = h == 2 * oh && w == 2 * ow;
            p->xweight = mem_alloc((size_t)cols * 2, sizeof(int32_t));
            p->yweight = mem_alloc((size_t)rows * 2, sizeof(int32_t));
        }
        if (!p->xfrom || !p->yfrom || !p->xfrac || !p->yfrac || (how == CLIP_EVAL_META && (!p->xweight || !p->yweight))) {
            rc = err_set(err, JEPA_E_MEMORY, "no memory for resize tables (%dx%d)", cols, rows);
            goto fail;
        }
        linear_axis(w, ow, left, cols, p->xfrom, p->xfrac, how == CLIP_TRAIN);
        linear_axis(h, oh, top, rows, p->yfrom, p->yfrac, how == CLIP_TRAIN);
        for (int i = 0; p->xweight && i < cols; i++) { /* OpenCV: beyond the border columns the edge pixel alone counts */
            int k = p->xfrom[i];
            float f = p->xfrac[i];
            if (k < 0) k = 0, f = 0;
            if (k >= w - 1) k = w - 1, f = 0;
            p->xfrom[i] = k;
            p->xweight[2 * i] = (int32_t)lrintf((1 - f) * CV_ONE);
            p->xweight[2 * i + 1] = (int32_t)lrintf(f * CV_ONE);
        }
        for (int i = 0; p->yweight && i < rows; i++) {
            p->yweight[2 * i] = (int32_t)lrintf((1 - p->yfrac[i]) * CV_ONE);
            p->yweight[2 * i + 1] = (int32_t)lrintf(p->yfrac[i] * CV_ONE);
        }
    }
    if (!p->work) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory to resize to %dx%d", cols, rows);
        goto fail;
    }
    return 0;
fail:
    resize_close(p);
    return rc;
}

/* ---- OpenCV ---- */

static void cv_row(const resize_plan *p, const uint8_t *s, int32_t *out) {
    for (int i = 0; i < p->cols; i++) {
        const uint8_t *a = s + (size_t)p->xfrom[i] * 3;
        int32_t w0 = p->xweight[2 * i], w1 = p->xweight[2 * i + 1];
        const uint8_t *b = w1 ? a + 3 : a; /* the edge pixel has no neighbour */
        out[0] = a[0] * w0 + b[0] * w1;
        out[1] = a[1] * w0 + b[1] * w1;
        out[2] = a[2] * w0 + b[2] * w1;
        out += 3;
    }
}

static void cv_frame(resize_plan *p, const uint8_t *src, size_t stride, uint8_t *out) {
    int n = p->cols * 3, have[2] = {-1, -1};
    int32_t *row[2] = {p->work, (int32_t *)p->work + n};
    for (int y = 0; y < p->rows; y++) {
        int k[2] = {p->yfrom[y], p->yfrom[y] + 1};
        for (int j = 0; j < 2; j++) {
            if (k[j] < 0) k[j] = 0;
            if (k[j] > p->h - 1) k[j] = p->h - 1;
        }
        if (have[1] == k[0] && have[0] != k[0]) { /* the lower row of before is the upper one now */
            int32_t *t = row[0];
            row[0] = row[1], row[1] = t;
            have[0] = have[1], have[1] = -1;
        }
        for (int j = 0; j < 2; j++)
            if (have[j] != k[j]) {
                cv_row(p, src + (size_t)k[j] * stride, row[j]);
                have[j] = k[j];
            }
        int32_t w0 = p->yweight[2 * y], w1 = p->yweight[2 * y + 1];
        uint8_t *o = out + (size_t)y * (size_t)n;
        for (int i = 0; i < n; i++) { /* OpenCV's own rounding: each product is cut to 16 bits first */
            int32_t v = ((w0 * (row[0][i] >> 4)) >> 16) + ((w1 * (row[1][i] >> 4)) >> 16);
            o[i] = (uint8_t)((v + 2) >> 2);
        }
    }
}

static void half_frame(const resize_plan *p, const uint8_t *src, size_t stride, uint8_t *out) {
    for (int y = 0; y < p->rows; y++) {
        const uint8_t *a = src + (size_t)(p->top + y) * 2 * stride + (size_t)p->left * 6, *b = a + stride;
        uint8_t *o = out + (size_t)y * (size_t)p->cols * 3;
        for (int x = 0; x < p->cols; x++, a += 6, b += 6, o += 3)
            for (int c = 0; c < 3; c++) o[c] = (uint8_t)((a[c] + a[c + 3] + b[c] + b[c + 3] + 2) >> 2);
    }
}

/* ---- antialiased ---- */

static inline uint8_t clip8(int32_t v) { return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v); }

static void triangle_frame(resize_plan *p, const uint8_t *src, size_t stride, uint8_t *out) {
    int xbits = p->bits & 255, ybits = p->bits >> 8, n = p->cols * 3;
    int32_t xhalf = 1 << (xbits - 1), yhalf = 1 << (ybits - 1);
    uint8_t *mid = p->work;
    for (int y = p->first; y < p->last; y++) {
        const uint8_t *s = src + (size_t)y * stride;
        uint8_t *o = mid + (size_t)(y - p->first) * (size_t)n;
        if (p->w == p->ow) { /* a pass that changes nothing */
            memcpy(o, s + (size_t)p->left * 3, (size_t)n);
            continue;
        }
        for (int x = 0; x < p->cols; x++, o += 3) {
            const uint8_t *a = s + (size_t)p->xfrom[x] * 3;
            const int32_t *w = p->xweight + (size_t)x * (size_t)p->xtaps;
            int32_t r = xhalf, g = xhalf, b = xhalf;
            for (int k = 0; k < p->xcount[x]; k++, a += 3) {
                r += a[0] * w[k];
                g += a[1] * w[k];
                b += a[2] * w[k];
            }
            o[0] = clip8(r >> xbits);
            o[1] = clip8(g >> xbits);
            o[2] = clip8(b >> xbits);
        }
    }
    for (int y = 0; y < p->rows; y++) {
        const int32_t *w = p->yweight + (size_t)y * (size_t)p->ytaps;
        const uint8_t *a = mid + (size_t)(p->yfrom[y] - p->first) * (size_t)n;
        uint8_t *o = out + (size_t)y * (size_t)n;
        if (p->h == p->oh) {
            memcpy(o, a, (size_t)n);
            continue;
        }
        enum { BLOCK = 192 };
        int32_t acc[BLOCK];
        for (int i = 0; i < n; i += BLOCK) {
            int m = n - i < BLOCK ? n - i : BLOCK;
            for (int j = 0; j < m; j++) acc[j] = yhalf;
            for (int k = 0; k < p->ycount[y]; k++) {
                const uint8_t *s = a + (size_t)k * (size_t)n + i;
                int32_t wk = w[k];
                for (int j = 0; j < m; j++) acc[j] += s[j] * wk;
            }
            for (int j = 0; j < m; j++) o[i + j] = clip8(acc[j] >> ybits);
        }
    }
}

void resize_frame(resize_plan *p, const uint8_t *src, size_t stride, uint8_t *out) {
    if (p->how == CLIP_RAW)
        for (int y = 0; y < p->rows; y++)
            memcpy(out + (size_t)y * (size_t)p->cols * 3, src + (size_t)(p->top + y) * stride + (size_t)p->left * 3, (size_t)p->cols * 3);
    else if (p->half) half_frame(p, src, stride, out);
    else if (p->how == CLIP_EVAL_META) cv_frame(p, src, stride, out);
    else triangle_frame(p, src, stride, out);
}

/* ---- torch, floats ---- */

void resize_next_frame(resize_plan *p) { p->cached[0] = p->cached[1] = -1; }

static const float *float_row(resize_plan *p, const uint8_t *src, size_t stride, int k, int keep) {
    size_t n = (size_t)p->cols * 3;
    for (int j = 0; j < 2; j++)
        if (p->cached[j] == k) return (float *)p->work + (size_t)j * n;
    int j = p->cached[0] == keep ? 1 : 0; /* the other row stays */
    float *o = (float *)p->work + (size_t)j * n, *row = o;
    const uint8_t *s = src + (size_t)k * stride;
    p->cached[j] = k;
    for (int i = 0; i < p->cols; i++, o += 3) {
        const uint8_t *a = s + (size_t)p->xfrom[i] * 3, *b = p->xfrom[i] < p->w - 1 ? a + 3 : a;
        float f = p->xfrac[i], e = 1 - f;
        o[0] = e * a[0] + f * b[0];
        o[1] = e * a[1] + f * b[1];
        o[2] = e * a[2] + f * b[2];
    }
    return row;
}

void resize_row_f32(resize_plan *p, const uint8_t *src, size_t stride, int y, float *out) {
    int k = p->yfrom[y], m = k < p->h - 1 ? k + 1 : k, n = p->cols * 3;
    const float *a = float_row(p, src, stride, k, m), *b = float_row(p, src, stride, m, k);
    float f = p->yfrac[y], e = 1 - f;
    for (int i = 0; i < n; i++) out[i] = e * a[i] + f * b[i];
}
