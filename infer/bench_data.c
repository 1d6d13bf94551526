/* bench_data.c: the clips that benchmarks see, decoding timed, and outputs of two precisions compared. */
#include "infer/bench.h"
#include "video/synth.h"

#include <math.h>
#include <string.h>

int bench_clips(uint8_t *x, int64_t batch, int frames, int height, int width, uint64_t seed, jepa_err *err) {
    synth_cfg s;
    synth_cfg_defaults(&s);
    const int side = height > width ? height : width;
    s.size = side < 16 ? 16 : side > 1024 ? 1024 : side, s.frames = frames, s.seed = seed;
    size_t bytes = (size_t)s.size * (size_t)s.size * 3;
    uint8_t *rgb = size_mul(bytes, (size_t)frames, &bytes) ? NULL : mem_alloc(bytes, 1);
    int rc = rgb ? 0 : err_set(err, JEPA_E_MEMORY, "no memory for %d frames of %dx%d", frames, side, side);
    for (int64_t b = 0; b < batch && !rc; b++) {
        if ((rc = synth_digits(&s, (uint32_t)b, rgb, NULL, err)) < 0) break;
        for (int64_t i = 0; i < (int64_t)frames * height; i++) { /* the upper left of each frame; repeated where it is larger than a digit's picture can be */
            const int64_t f = i / height, y = i % height % s.size;
            for (int64_t at = 0; at < width; at += s.size) {
                const int64_t n = width - at < s.size ? width - at : s.size;
                memcpy(x + ((b * frames * height + i) * width + at) * 3, rgb + (f * s.size + y) * s.size * 3, (size_t)n * 3);
            }
        }
    }
    mem_free(rgb);
    return rc;
}

int bench_video(const char *path, int side, int frames, jepa_err *err) {
    const vid_write_cfg wc = {.width = side, .height = side, .fps = 30, .crf = 23, .gop = 30};
    const size_t frame = (size_t)side * (size_t)side * 3;
    vid_writer *w = NULL;
    uint8_t *rgb = mem_alloc((size_t)frames, frame);
    int rc = rgb ? bench_clips(rgb, 1, frames, side, side, 1, err) : err_set(err, JEPA_E_MEMORY, "no memory for a video of %d frames", frames);
    if (rc == 0) rc = vid_writer_open(&w, path, &wc, err);
    for (int i = 0; i < frames && rc == 0; i++) rc = vid_writer_add(w, rgb + (size_t)i * frame, err);
    if (rc == 0) rc = vid_writer_finish(&w, err);
    vid_writer_abort(&w);
    mem_free(rgb);
    return rc;
}

/* ---- decoding ---- */

/* A clip of an item → out [frames, crop, crop, 3]: 4 frames a second, the evaluation transform. */
static int load(const item *it, int frames, int crop, uint8_t *out, int64_t *decoded, jepa_err *err) {
    vid *v = NULL;
    uint8_t *rgb = NULL;
    int64_t *index = mem_alloc((size_t)frames, sizeof *index);
    sample_cfg s;
    clip_cfg c;
    size_t bytes;
    int slow, rc = index ? vid_open_item(&v, it, NULL, err) : err_set(err, JEPA_E_MEMORY, "no memory for %d frames", frames);
    if (rc < 0) goto done;
    const vid_info *i = vid_get_info(v);
    sample_cfg_defaults(&s);
    s.frames = frames;
    if (i->is_image) s.fps = 0, s.frame_step = 1;
    if (size_mul((size_t)i->width * 3, (size_t)i->height, &bytes) || size_mul(bytes, (size_t)frames, &bytes) || !(rgb = mem_alloc(bytes, 1))) {
        rc = err_set(err, JEPA_E_MEMORY, "%s: no memory for %d frames of %dx%d", it->path, frames, i->width, i->height);
        goto done;
    }
    clip_cfg_defaults(&c, crop);
    if ((rc = sample_frames(&s, i->frames, i->fps, NULL, NULL, index, &slow, err)) == 0 && (rc = vid_read(v, index, frames, rgb, NULL, err)) == 0)
        rc = clip_prepare(&c, rgb, frames, i->height, i->width, out, err);
    if (decoded) *decoded += vid_decoded(v);
done:
    if (rc < 0 && err && !strstr(err->text, it->path)) err_prefix(err, rc, "%s", it->path);
    mem_free(rgb);
    mem_free(index);
    vid_close(&v);
    return rc;
}

typedef struct decoding { const items *in; int frames, crop; uint8_t *out; int64_t decoded; } decoding;
static int decode(void *ctx, jepa_err *err) {
    decoding *r = ctx;
    int rc = 0;
    r->decoded = 0;
    for (int i = 0; i < r->in->n && rc == 0; i++) rc = load(&r->in->at[i], r->frames, r->crop, r->out, &r->decoded, err);
    return rc;
}

int bench_decode(const bench_cfg *c, const items *in, int frames, int crop, measured *out, jepa_err *err) {
    decoding r = {.in = in, .frames = frames, .crop = crop};
    size_t bytes;
    *out = (measured){.clips = in->n};
    if (size_mul((size_t)frames * 3, (size_t)crop * (size_t)crop, &bytes) || !(r.out = mem_alloc(bytes, 1)))
        return err_set(err, JEPA_E_MEMORY, "no memory for a clip of %dx%dx%d", frames, crop, crop);
    const int rc = measure(&c->time, decode, NULL, &r, out, err);
    out->frames = r.decoded;
    mem_free(r.out);
    return rc;
}

/* ---- accuracy ---- */

/* NaN where one of them is zero or not finite: counts as the worst below. */
static double cosine(const double *a, const double *b, int64_t d) {
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < d; i++) ab += a[i] * b[i], aa += a[i] * a[i], bb += b[i] * b[i];
    return ab / sqrt(aa * bb);
}

int bench_cosine(const float *x, const float *y, int64_t clips, int64_t tokens, int64_t d, bench_cosines *out, jepa_err *err) {
    double *v = mem_alloc(4 * (size_t)d, sizeof *v), *pool = v + 2 * d;
    *out = (bench_cosines){.token_worst = 2, .pooled_worst = 2, .tokens = clips * tokens, .clips = clips};
    if (!v) return err_set(err, JEPA_E_MEMORY, "no memory to compare tokens of %lld channels", (long long)d);
    for (int64_t b = 0; b < clips; b++) {
        memset(pool, 0, 2 * (size_t)d * sizeof *pool);
        for (int64_t i = b * tokens; i < (b + 1) * tokens; i++) {
            for (int64_t c = 0; c < d; c++) {
                pool[c] += v[c] = x[i * d + c];
                pool[d + c] += v[d + c] = y[i * d + c];
            }
            const double s = cosine(v, v + d, d);
            out->token_mean += s / (double)(clips * tokens);
            if (!isnan(out->token_worst) && !(s >= out->token_worst)) out->token_worst = s;
        }
        const double s = cosine(pool, pool + d, d);
        out->pooled_mean += s / (double)clips;
        if (!isnan(out->pooled_worst) && !(s >= out->pooled_worst)) out->pooled_worst = s;
    }
    mem_free(v);
    return 0;
}

int bench_accuracy(const bench_cfg *c, const items *in, bench_cosines *out, jepa_err *err) {
    bench *b = NULL;
    bench_cfg one = *c;
    uint8_t *clips = NULL;
    float *tokens[2] = {NULL, NULL};
    int64_t n = 0, d = 0;
    int rc = 0;
    for (int k = 0; k < 2 && rc == 0; k++) { /* one after the other: there is memory for one model at least */
        one.precision = k ? c->precision : "f32";
        if ((rc = bench_open(&b, &one, 0, err)) < 0) break;
        const enc_cfg *ec = enc_config(b->e);
        n = enc_tokens(ec, b->frames, b->height, b->width), d = ec->embed_dim;
        const size_t clip = (size_t)b->frames * (size_t)b->height * (size_t)b->width * 3;
        if (in && in->n && k == 0) {
            if (b->height != b->width) rc = err_set(err, JEPA_E_USE, "clips of videos are square here; not %dx%d", b->height, b->width);
            else if (!(clips = mem_alloc((size_t)c->batch, clip))) rc = err_set(err, JEPA_E_MEMORY, "no memory for %lld clips", (long long)c->batch);
            for (int64_t i = 0; i < c->batch && rc == 0; i++) rc = load(&in->at[i % in->n], b->frames, b->width, clips + (size_t)i * clip, NULL, err);
        }
        if (rc == 0 && !(tokens[k] = mem_alloc((size_t)(c->batch * n * d), sizeof(float)))) rc = err_set(err, JEPA_E_MEMORY, "no memory for %lld tokens", (long long)(c->batch * n));
        if (rc == 0) rc = bench_tokens(b, clips, tokens[k], err);
        bench_close(&b);
    }
    if (rc == 0) rc = bench_cosine(tokens[0], tokens[1], c->batch, n, d, out, err);
    bench_close(&b);
    mem_free(clips);
    mem_free(tokens[0]);
    mem_free(tokens[1]);
    return rc;
}
