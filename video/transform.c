/* transform.c: what the model sees: resize, crop, flip, normalise, one geometry for all frames of a clip. */
#include "video/transform.h"

#include <math.h>
#include <string.h>

void clip_cfg_defaults(clip_cfg *c, int crop) {
    static const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f}; /* ImageNet's, as all published models use */
    memset(c, 0, sizeof *c);
    c->mode = CLIP_EVAL_META;
    c->crop = crop;
    memcpy(c->mean, mean, sizeof mean);
    memcpy(c->std, std, sizeof std);
}

int clip_short_side(int height, int width, int side, int *out_height, int *out_width) {
    if (height < 1 || width < 1 || side < 1) return JEPA_E_USE;
    int64_t h = side, w = side; /* the other side is truncated, as published */
    if (width < height) h = (int64_t)side * height / width;
    else w = (int64_t)side * width / height;
    if (h > 1 << 24 || w > 1 << 24) return JEPA_E_INPUT;
    *out_height = (int)h;
    *out_width = (int)w;
    return 0;
}

/* n/2, halves to the even neighbour: Python's round */
static int half_to_even(int n) { return n / 2 + (n % 2 && n / 2 % 2); }

/* Where cfg's picture comes from: box of the frame, target size, window of the target. */
static int plan(resize_plan *p, const clip_cfg *c, int height, int width, int box[4], jepa_err *err) {
    box[0] = box[1] = 0, box[2] = height, box[3] = width;
    if (c->crop < 1 || c->crop > 8192) return err_set(err, JEPA_E_USE, "crop %d must lie in 1 to 8192", c->crop);
    if (height < 1 || width < 1 || height > 1 << 20 || width > 1 << 20)
        return err_set(err, JEPA_E_INPUT, "frames of %dx%d pixels cannot be used", width, height);
    int n = c->crop, oh = n, ow = n, top = 0, left = 0;
    switch (c->mode) {
    case CLIP_TRAIN:
    case CLIP_PIL:
        if (c->mode == CLIP_TRAIN || c->box[0] || c->box[1] || c->box[2] || c->box[3]) memcpy(box, c->box, sizeof c->box);
        if (box[0] < 0 || box[1] < 0 || box[2] < 1 || box[3] < 1 || box[0] > height - box[2] || box[1] > width - box[3])
            return err_set(err, JEPA_E_USE, "crop box %d,%d %dx%d does not lie inside a frame of %dx%d", box[1], box[0], box[3], box[2],
                           width, height);
        break;
    case CLIP_EVAL_META:
    case CLIP_EVAL_HF: {
        int views = c->num_views > 1, side = views ? n : c->short_side ? c->short_side : (int)((int64_t)n * 256 / 224);
        if (side < n) return err_set(err, JEPA_E_USE, "short side %d is smaller than crop %d: frames would need padding", side, n);
        if (views && (c->view < 0 || c->view >= c->num_views))
            return err_set(err, JEPA_E_USE, "view %d of %d does not exist", c->view, c->num_views);
        if (clip_short_side(height, width, side, &oh, &ow))
            return err_set(err, JEPA_E_INPUT, "frames of %dx%d pixels are too long and thin to resize to a short side of %d", width, height,
                           side);
        if (views) {
            int at = c->view * (((oh > ow ? oh : ow) - n) / (c->num_views - 1));
            *(oh > ow ? &top : &left) = at;
        } else if (c->mode == CLIP_EVAL_META) {
            top = half_to_even(oh - n), left = half_to_even(ow - n);
        } else { /* Hugging Face truncates: one pixel off Meta's for some odd sizes */
            top = (oh - n) / 2, left = (ow - n) / 2;
        }
        break;
    }
    case CLIP_RAW:
        oh = height, ow = width;
        if (height != n || width != n)
            return err_set(err, JEPA_E_USE, "raw frames are %dx%d, the model takes %dx%d: ask for a transform", width, height, n, n);
        break;
    default: return err_set(err, JEPA_E_USE, "transform mode %d does not exist", (int)c->mode);
    }
    return resize_open(p, c->mode, box[2], box[3], oh, ow, top, left, n, n, err);
}

static void mirror(uint8_t *rows, int n_rows, int cols) {
    for (int y = 0; y < n_rows; y++, rows += (size_t)cols * 3)
        for (int a = 0, b = cols - 1; a < b; a++, b--)
            for (int c = 0; c < 3; c++) {
                uint8_t t = rows[3 * a + c];
                rows[3 * a + c] = rows[3 * b + c];
                rows[3 * b + c] = t;
            }
}

/* floats of one row → uint8, or normalised into three planes */
static void put_u8(const float *row, int n, int flip, uint8_t *out) {
    for (int x = 0; x < n; x++, row += 3) {
        uint8_t *o = out + (size_t)(flip ? n - 1 - x : x) * 3;
        for (int c = 0; c < 3; c++) o[c] = (uint8_t)(row[c] + 0.5f);
    }
}

static void put_planes(const float *row, int n, int flip, const float *shift, const float *scale, float *out, size_t plane) {
    for (int c = 0; c < 3; c++)
        for (int x = 0; x < n; x++) out[(size_t)c * plane + (size_t)(flip ? n - 1 - x : x)] = (row[3 * x + c] - shift[c]) * scale[c];
}

static int prepare(const clip_cfg *c, const uint8_t *rgb, int frames, int height, int width, int frames_first, uint8_t *u8, float *f32,
                   jepa_err *err) {
    if (!rgb || frames < 1) return err_set(err, JEPA_E_USE, "no frames to prepare");
    resize_plan p;
    int box[4], n = c->crop, rc = plan(&p, c, height, width, box, err);
    if (rc) return rc;
    size_t stride = (size_t)width * 3, area = (size_t)n * (size_t)n;
    int flip = c->flip && (c->mode == CLIP_TRAIN || c->mode == CLIP_PIL);
    float table[3][256], shift[3], scale[3];
    for (int k = 0; k < 3; k++) {
        double std = c->std[k] != 0 ? c->std[k] : 1;
        shift[k] = (float)(255.0 * c->mean[k]);
        scale[k] = (float)(1 / (255.0 * std));
        for (int v = 0; v < 256; v++) table[k][v] = (float)((v / 255.0 - c->mean[k]) / std);
    }
    float *row = NULL;
    uint8_t *frame = NULL;
    if (c->mode == CLIP_TRAIN) row = mem_alloc((size_t)n * 3, sizeof(float));
    else if (f32) frame = mem_alloc(area * 3, 1);
    if (!row && !frame && (c->mode == CLIP_TRAIN || f32)) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for a %dx%d frame", n, n);
        goto done;
    }
    for (int t = 0; t < frames; t++) {
        const uint8_t *src = rgb + (size_t)t * (size_t)height * stride + (size_t)box[0] * stride + (size_t)box[1] * 3;
        size_t plane = frames_first ? area : area * (size_t)frames;
        float *planes = f32 ? f32 + (frames_first ? (size_t)t * 3 * area : (size_t)t * area) : NULL;
        if (c->mode == CLIP_TRAIN) {
            resize_next_frame(&p);
            for (int y = 0; y < n; y++) {
                resize_row_f32(&p, src, stride, y, row);
                if (f32) put_planes(row, n, flip, shift, scale, planes + (size_t)y * (size_t)n, plane);
                else put_u8(row, n, flip, u8 + ((size_t)t * area + (size_t)y * (size_t)n) * 3);
            }
            continue;
        }
        uint8_t *o = f32 ? frame : u8 + (size_t)t * area * 3;
        resize_frame(&p, src, stride, o);
        if (flip) mirror(o, n, n);
        for (int k = 0; f32 && k < 3; k++)
            for (size_t i = 0; i < area; i++) planes[(size_t)k * plane + i] = table[k][o[3 * i + (size_t)k]];
    }
done:
    mem_free(row);
    mem_free(frame);
    resize_close(&p);
    return rc;
}

int clip_prepare(const clip_cfg *c, const uint8_t *rgb, int frames, int height, int width, uint8_t *out, jepa_err *err) {
    return prepare(c, rgb, frames, height, width, 0, out, NULL, err);
}

int clip_prepare_f32(const clip_cfg *c, const uint8_t *rgb, int frames, int height, int width, int frames_first, float *out,
                     jepa_err *err) {
    return prepare(c, rgb, frames, height, width, frames_first, NULL, out, err);
}

int clip_resize_u8(const uint8_t *rgb, int frames, int h, int w, int oh, int ow, clip_mode how, uint8_t *out, jepa_err *err) {
    if (!rgb || frames < 1) return err_set(err, JEPA_E_USE, "no frames to resize");
    resize_plan p;
    int rc = resize_open(&p, how, h, w, oh, ow, 0, 0, oh, ow, err);
    if (rc) return rc;
    size_t stride = (size_t)w * 3, n = (size_t)ow * 3;
    float *row = NULL;
    if (how == CLIP_TRAIN && !(row = mem_alloc(n, sizeof(float)))) rc = err_set(err, JEPA_E_MEMORY, "no memory for a row of %d pixels", ow);
    for (int t = 0; !rc && t < frames; t++, rgb += (size_t)h * stride, out += (size_t)oh * n) {
        if (how != CLIP_TRAIN) {
            resize_frame(&p, rgb, stride, out);
            continue;
        }
        resize_next_frame(&p);
        for (int y = 0; y < oh; y++) {
            resize_row_f32(&p, rgb, stride, y, row);
            put_u8(row, ow, 0, out + (size_t)y * n);
        }
    }
    mem_free(row);
    resize_close(&p);
    return rc;
}

int crop_box(int height, int width, const double scale[2], const double ratio[2], const crop_draw *d, int box[4]) {
    if (height < 1 || width < 1 || !(scale[0] > 0) || !(scale[1] >= scale[0]) || !(ratio[0] > 0) || !(ratio[1] >= ratio[0]) ||
        !(scale[1] < 1e6) || !(ratio[1] < 1e6))
        return JEPA_E_USE;
    double low = log(ratio[0]), high = log(ratio[1]), area = (double)height * width;
    for (int i = 0; i < 10; i++) {
        double target = area * d->uniform(d->ctx, scale[0], scale[1]), aspect = exp(d->uniform(d->ctx, low, high));
        double w = rint(sqrt(target * aspect)), h = rint(sqrt(target / aspect));
        if (w < 1 || h < 1 || w > width || h > height) continue;
        box[2] = (int)h, box[3] = (int)w;
        box[0] = (int)d->integer(d->ctx, 0, height - box[2]);
        box[1] = (int)d->integer(d->ctx, 0, width - box[3]);
        return 0;
    }
    double shape = (double)width / height; /* ten misses: the largest box of an allowed shape, centred */
    box[2] = height, box[3] = width;
    if (shape < ratio[0]) box[2] = (int)rint(width / ratio[0]);
    else if (shape > ratio[1]) box[3] = (int)rint(height * ratio[1]);
    for (int k = 2; k < 4; k++) {
        int most = k == 2 ? height : width;
        if (box[k] < 1) box[k] = 1;
        if (box[k] > most) box[k] = most;
    }
    box[0] = (height - box[2]) / 2;
    box[1] = (width - box[3]) / 2;
    return 0;
}
