/* session.c: clips in, pooled rows out; the entry points that embed a video or frames from memory. */
#include "infer/infer.h"
#include "compute/ops.h"

#include <math.h>
#include <string.h>

void jepa_embed_options_defaults(jepa_embed_options *o) {
    memset(o, 0, sizeof *o);
    o->size = sizeof *o;
    o->clips = 1;
}

void plan_pool(clip_plan *p, const enc_cfg *c, int frames, int height, int width) {
    int64_t t = frames == 1 && c->image_patch_embed ? 1 : frames / c->tubelet_size, h = height / c->patch_size, w = width / c->patch_size;
    p->grid[0] = t, p->grid[1] = h, p->grid[2] = w;
    p->per_row = p->pool == JEPA_POOL_NONE ? t * h * w : p->pool == JEPA_POOL_TIME ? h * w : p->pool == JEPA_POOL_SPACE ? t : 1;
    p->dim = (int64_t)c->embed_dim * (p->layers ? p->layers : 1);
}

int plan_make(const jepa *m, const jepa_embed_options *given, clip_plan *p, jepa_err *err) {
    jepa_embed_options o;
    jepa_embed_options_defaults(&o);
    if (given) {
        if (given->size < sizeof given->size || given->size > sizeof *given)
            return err_set(err, JEPA_E_USE, "jepa_embed_options.size is %zu; call jepa_embed_options_defaults first", given->size);
        memcpy(&o, given, given->size);
    }
    memset(p, 0, sizeof *p);
    p->frames = o.frames ? o.frames : m->ec.num_frames;
    p->clip = m->clip;
    if (o.crop) {
        /* the same share of the picture as the model's own crop takes */
        p->clip.short_side = m->clip.short_side == m->clip.crop ? o.crop : 0;
        p->clip.crop = o.crop;
    }
    if (o.stride > 0) p->stride = o.stride;
    else if (o.fps > 0) p->fps = o.fps;
    else p->fps = m->fps, p->stride = m->stride;
    p->clips = o.clips, p->every = o.every, p->pool = o.pool, p->as_stored = o.as_stored, p->reject_short = o.reject_short;
    const int single = p->frames == 1 && m->ec.image_patch_embed; /* V-JEPA 2.1 takes frames as images too */
    if (!single && (p->frames < m->ec.tubelet_size || p->frames > 4096 || p->frames % m->ec.tubelet_size))
        return err_set(err, JEPA_E_USE, "%d frames a clip; a multiple of %d up to 4096 is needed (tubelet size)", p->frames, m->ec.tubelet_size);
    if (p->clip.crop < m->ec.patch_size || p->clip.crop > 8192 || p->clip.crop % m->ec.patch_size)
        return err_set(err, JEPA_E_USE, "a crop of %d pixels; a multiple of the patch size %d is needed", p->clip.crop, m->ec.patch_size);
    if (p->clips < 1 || p->clips > 100000) return err_set(err, JEPA_E_USE, "%d clips a video; 1 to 100000 are possible", p->clips);
    if (!(p->every >= 0) || p->every > 1e9 || !(o.fps >= 0) || o.fps > 1e6 || o.stride < 0 || o.stride > 1000000)
        return err_set(err, JEPA_E_USE, "frame rate, stride and seconds between clips must be positive");
    if (p->pool < JEPA_POOL_MEAN || p->pool > JEPA_POOL_SPACE) return err_set(err, JEPA_E_USE, "unknown pooling %d", p->pool);
    if (o.layers < 0 || o.layers > 16 || (o.layers && !o.layer)) return err_set(err, JEPA_E_USE, "%d layers; up to 16 are possible", o.layers);
    for (int i = 0; i < o.layers; i++) {
        if (o.layer[i] < 0 || o.layer[i] >= m->ec.depth || (i && o.layer[i] <= o.layer[i - 1]))
            return err_set(err, JEPA_E_USE, "layers must ascend within 0 … %d", m->ec.depth - 1);
        p->layer[i] = o.layer[i];
    }
    p->layers = o.layers;
    plan_pool(p, &m->ec, p->frames, p->clip.crop, p->clip.crop);
    return 0;
}

static int too_short(vid *v, const clip_plan *p, double span, jepa_err *err) {
    const vid_info *i = vid_get_info(v);
    if (!p->reject_short || i->duration + 1e-9 >= span) return 0;
    return err_set(err, JEPA_E_INPUT, "shorter than %d frames (%.3f s; a clip needs %.3f s)", p->frames, i->duration, span);
}

/* A window every `every` seconds while a whole one fits; the first always. */
static int windows(vid *v, const clip_plan *p, clip_list *out, jepa_err *err) {
    const vid_info *i = vid_get_info(v);
    double rate = p->fps > 0 ? p->fps : i->fps > 0 ? i->fps / p->stride : 1, span = (p->frames - 1) / rate;
    double last = vid_time_of(v, i->frames - 1), count = last > span ? floor((last - span) / p->every + 1e-9) + 1 : 1;
    if (too_short(v, p, span, err)) return JEPA_E_INPUT;
    if (count > 10000000) return err_set(err, JEPA_E_INPUT, "%.0f windows in one video; a larger --every is needed", count);
    size_t cells;
    out->n = (int)count;
    if (size_mul((size_t)out->n, (size_t)p->frames, &cells) || !(out->index = mem_alloc(cells, sizeof *out->index)))
        return err_set(err, JEPA_E_MEMORY, "no memory for %d windows", out->n);
    for (int k = 0; k < out->n; k++) {
        int rc = sample_times(v, k * p->every, rate, p->frames, out->index + (size_t)k * (size_t)p->frames, err);
        if (rc < 0) return rc;
    }
    return 0;
}

int clips_of(vid *v, const clip_plan *p, clip_list *out, jepa_err *err) {
    memset(out, 0, sizeof *out);
    const vid_info *i = vid_get_info(v);
    if (p->every > 0 && !i->is_image) return windows(v, p, out, err);
    sample_cfg s;
    sample_cfg_defaults(&s);
    s.frames = p->frames;
    s.fps = p->fps;
    s.frame_step = p->stride;
    s.num_clips = i->is_image ? 1 : p->clips;
    s.reject_short = p->reject_short && !i->is_image;
    if (i->is_image) s.fps = 0, s.frame_step = 1;
    size_t cells;
    if (size_mul((size_t)s.num_clips, (size_t)p->frames, &cells) || !(out->index = mem_alloc(cells, sizeof *out->index)))
        return err_set(err, JEPA_E_MEMORY, "no memory for %d clips", s.num_clips);
    out->n = s.num_clips;
    if (p->by_time && !i->is_image) {
        double rate = p->fps > 0 ? p->fps : i->fps > 0 ? i->fps / p->stride : 1;
        int rc = too_short(v, p, (p->frames - 1) / rate, err);
        for (int k = 0; k < out->n && rc == 0; k++)
            rc = sample_times(v, k * i->duration / out->n, rate, p->frames, out->index + (size_t)k * (size_t)p->frames, err);
        return rc;
    }
    return sample_frames(&s, i->frames, i->fps, NULL, NULL, out->index, &out->slow, err);
}

int clip_load(vid *v, const clip_plan *p, clip_list *clips, int k, uint8_t *out, double *start, double *end, jepa_err *err) {
    const vid_info *i = vid_get_info(v);
    size_t bytes;
    uint8_t *rgb = NULL;
    double *at = mem_alloc((size_t)p->frames, sizeof *at);
    if (!at || size_mul((size_t)i->width * 3, (size_t)i->height, &bytes) || size_mul(bytes, (size_t)p->frames, &bytes) || !(rgb = mem_alloc(bytes, 1))) {
        mem_free(at);
        return err_set(err, JEPA_E_MEMORY, "no memory for %d frames of %dx%d", p->frames, i->width, i->height);
    }
    int rc = 0;
    for (int tries = 0;; tries++) {
        rc = vid_read(v, clips->index + (size_t)k * (size_t)p->frames, p->frames, rgb, at, err);
        if (rc != JEPA_E_END || tries == 3) break;
        clip_list again; /* the file ends before it promises: sample from what is there */
        if ((rc = clips_of(v, p, &again, err)) < 0) {
            mem_free(again.index);
            break;
        }
        mem_free(clips->index);
        *clips = again;
        if (k >= clips->n) {
            rc = JEPA_E_END;
            break;
        }
    }
    if (rc == 0) {
        *start = at[0], *end = at[0];
        for (int f = 1; f < p->frames; f++) {
            if (at[f] < *start) *start = at[f];
            if (at[f] > *end) *end = at[f];
        }
        rc = clip_prepare(&p->clip, rgb, p->frames, i->height, i->width, out, err);
    }
    mem_free(rgb);
    mem_free(at);
    return rc;
}

/* Working memory for calls of this shape, or the one there is when it is large enough (a mixed list alternates between clips and images). */
static int make_room(jepa_run *r, const clip_plan *p, int64_t n, int64_t frames, int64_t height, int64_t width, jepa_err *err) {
    const enc_cfg *c = &r->m->ec;
    const int hidden = p->layers;
    const int64_t tokens = enc_tokens(c, frames, height, width);
    size_t x, t;
    if (size_mul((size_t)n * 3, (size_t)frames, &x) || size_mul(x, (size_t)height, &x) || size_mul(x, (size_t)width * sizeof(float), &x) ||
        size_mul((size_t)n, (size_t)tokens, &t) || size_mul(t, (size_t)c->embed_dim * sizeof(float), &t))
        return err_set(err, JEPA_E_MEMORY, "%lld clips of %lldx%lldx%lld overflow", (long long)n, (long long)frames, (long long)height, (long long)width);
    if (r->a && n * tokens <= r->room && x <= r->x.bytes && t <= r->tokens.bytes && hidden <= r->n_hidden && (!hidden || t <= r->hidden[0].bytes)) return 0;
    enc_acts_close(&r->a);
    buf_free(&r->x);
    buf_free(&r->tokens);
    for (int i = 0; i < r->n_hidden; i++) buf_free(&r->hidden[i]);
    r->n_hidden = 0;
    const enc_shape shape = {.batch = n, .frames = frames, .height = height, .width = width};
    int rc;
    if ((rc = enc_acts_open(&r->a, r->m->e, r->m->d, &shape, err)) < 0 || (rc = buf_new(&r->x, r->m->d, x, err)) < 0 ||
        (rc = buf_new(&r->tokens, r->m->d, t, err)) < 0)
        goto fail;
    for (; r->n_hidden < hidden; r->n_hidden++)
        if ((rc = buf_new(&r->hidden[r->n_hidden], r->m->d, t, err)) < 0) goto fail;
    r->room = n * tokens;
    return 0;
fail:
    enc_acts_close(&r->a); /* what is half there must not look whole to the next call */
    return rc;
}

/* rows [n,per_row,dim] from tokens [n,T·H·W,D], channels at `at` of dim */
static void pool(const clip_plan *p, const float *tokens, int64_t n, int64_t d, int64_t at, float *rows) {
    int64_t t = p->grid[0], s = p->grid[1] * p->grid[2];
    for (int64_t b = 0; b < n; b++)
        for (int64_t i = 0; i < p->per_row; i++) {
            float *to = rows + (b * p->per_row + i) * p->dim + at;
            const float *from = tokens + b * t * s * d;
            if (p->pool == JEPA_POOL_NONE) {
                memcpy(to, from + i * d, (size_t)d * sizeof *to);
                continue;
            }
            int64_t first = p->pool == JEPA_POOL_MEAN ? 0 : p->pool == JEPA_POOL_TIME ? i : i * s;
            int64_t step = p->pool == JEPA_POOL_TIME ? s : 1, count = p->pool == JEPA_POOL_MEAN ? t * s : p->pool == JEPA_POOL_TIME ? t : s;
            for (int64_t c = 0; c < d; c++) {
                double sum = 0;
                for (int64_t k = 0; k < count; k++) sum += from[(first + k * step) * d + c];
                to[c] = (float)(sum / (double)count);
            }
        }
}

int run_encode(jepa_run *r, const clip_plan *p, const void *x, dtype type, int64_t n, int64_t frames, int64_t height, int64_t width, float *rows, jepa_err *err) {
    const enc_cfg *c = &r->m->ec;
    int rc = make_room(r, p, n, frames, height, width, err);
    if (rc < 0) return rc;
    size_t bytes = (size_t)(n * frames * height * width * 3) * dtype_size(type), out = (size_t)(n * enc_tokens(c, frames, height, width) * c->embed_dim);
    float *hidden[16], *host = NULL;
    int after[16];
    for (int i = 0; i < p->layers; i++) hidden[i] = r->hidden[i].p, after[i] = p->layer[i] + 1;
    const enc_in in = {.batch = n, .frames = frames, .height = height, .width = width, .x = r->x.p, .type = type, .frames_first = type != T_U8, .mean = p->clip.mean, .std = p->clip.std,
                       .hidden_n = p->layers, .hidden_after = after, .hidden_out = hidden, .hidden_norm = 1,
                       .split_rows = r->m->o.published_positions ? r->m->mc.published_rows : 0,
                       .split_cols = r->m->o.published_positions ? r->m->mc.published_cols : 0};
    if ((rc = buf_put(r->q, r->x.p, x, bytes, err)) < 0 || (rc = enc_forward(r->m->e, r->q, &in, r->a, r->tokens.p, err)) < 0) return rc;
    if (!(host = mem_alloc(out, sizeof *host))) return err_set(err, JEPA_E_MEMORY, "no memory for %zu features", out);
    for (int i = 0; rc == 0 && i < (p->layers ? p->layers : 1); i++) {
        rc = buf_get(r->q, host, p->layers ? hidden[i] : r->tokens.p, out * sizeof *host, err);
        if (rc == 0) pool(p, host, n, c->embed_dim, (int64_t)i * c->embed_dim, rows);
    }
    mem_free(host);
    return rc;
}

int image_rows(const jepa *m, const clip_plan *p, const vid_info *i, jepa_err *err) {
    if (!i->is_image || !m->ec.image_patch_embed || p->frames == 1) return 0;
    if (p->pool == JEPA_POOL_MEAN || p->pool == JEPA_POOL_TIME) return 1;
    return err_set(err, JEPA_E_INPUT, "an image is one frame to this model, and rows of this pooling are made for clips of %d: give images apart, with 1 frame", p->frames);
}

int run_encode_mixed(jepa_run *r, const clip_plan *p, const uint8_t *x, const unsigned char *still, int64_t n, float *rows, jepa_err *err) {
    const int side = p->clip.crop;
    const size_t frame = (size_t)side * (size_t)side * 3, clip = frame * (size_t)p->frames, row = (size_t)(p->per_row * p->dim);
    clip_plan one = *p;
    int rc = 0;
    plan_pool(&one, &r->m->ec, 1, side, side);
    for (int64_t i = 0, k; i < n && !rc; i = k) {
        for (k = i + 1; k < n && still[k] == still[i]; k++) {}
        if (!still[i]) {
            rc = run_encode(r, p, x + (size_t)i * clip, T_U8, k - i, p->frames, side, side, rows + (size_t)i * row, err);
            continue;
        }
        uint8_t *first = mem_alloc((size_t)(k - i), frame);
        if (!first) return err_set(err, JEPA_E_MEMORY, "no memory for %lld images", (long long)(k - i));
        for (int64_t j = i; j < k; j++) memcpy(first + (size_t)(j - i) * frame, x + (size_t)j * clip, frame);
        rc = run_encode(r, &one, first, T_U8, k - i, 1, side, side, rows + (size_t)i * row, err);
        mem_free(first);
    }
    return rc;
}

static int embedding_new(jepa_embedding *out, const clip_plan *p, int64_t rows, jepa_err *err) {
    memset(out, 0, sizeof *out);
    size_t cells;
    if (size_mul((size_t)rows, (size_t)p->per_row, &cells) || size_mul(cells, (size_t)p->dim, &cells) || !(out->data = mem_alloc(cells, sizeof(float))) ||
        !(out->start_seconds = mem_alloc((size_t)rows, sizeof(double))) || !(out->end_seconds = mem_alloc((size_t)rows, sizeof(double)))) {
        jepa_embedding_free(out);
        return err_set(err, JEPA_E_MEMORY, "no memory for %lld embeddings of %lld values", (long long)rows, (long long)(p->per_row * p->dim));
    }
    out->rows = rows, out->per_row = p->per_row, out->dim = p->dim;
    memcpy(out->grid, p->grid, sizeof out->grid);
    return 0;
}

void jepa_embedding_free(jepa_embedding *e) {
    if (!e) return;
    mem_free(e->data);
    mem_free(e->start_seconds);
    mem_free(e->end_seconds);
    memset(e, 0, sizeof *e);
}

int jepa_embed_video(jepa_run *r, const char *path, const jepa_embed_options *o, jepa_embedding *out, jepa_err *err) {
    memset(out, 0, sizeof *out);
    clip_plan p;
    clip_list l = {0};
    vid *v = NULL;
    uint8_t *clip = NULL;
    if (!r || !path) return err_set(err, JEPA_E_USE, "a session and a file are needed");
    int rc = plan_make(r->m, o, &p, err);
    if (rc < 0) return rc;
    const vid_opts vo = {.as_stored = p.as_stored};
    if ((rc = vid_open(&v, path, &vo, err)) < 0 || (rc = clips_of(v, &p, &l, err)) < 0) goto done;
    if (!(clip = mem_alloc((size_t)p.frames * (size_t)p.clip.crop * (size_t)p.clip.crop * 3, 1))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for a clip");
        goto done;
    }
    if ((rc = embedding_new(out, &p, l.n, err)) < 0) goto done;
    const int as_image = image_rows(r->m, &p, vid_get_info(v), err);
    if ((rc = as_image) < 0) goto done;
    const unsigned char flag = (unsigned char)as_image;
    for (int k = 0; k < l.n && k < out->rows; k++) {
        if (r->m->o.cancel && r->m->o.cancel(r->m->o.ctx)) {
            rc = err_set(err, JEPA_E_CANCELLED, "%s: cancelled", path);
            goto done;
        }
        if ((rc = clip_load(v, &p, &l, k, clip, &out->start_seconds[k], &out->end_seconds[k], err)) < 0 ||
            (rc = run_encode_mixed(r, &p, clip, &flag, 1, out->data + k * p.per_row * p.dim, err)) < 0)
            goto done;
    }
    if (l.n < out->rows) out->rows = l.n; /* a cut file had fewer clips in it */
done:
    if (rc < 0) jepa_embedding_free(out);
    mem_free(clip);
    mem_free(l.index);
    vid_close(&v);
    return rc;
}

static uint8_t byte(double v) { return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)(v + 0.5); }

/* BT.709, limited range; chroma of a 2×2 block for its four pixels */
static void nv12_row(const uint8_t *y, const uint8_t *uv, int width, uint8_t *rgb) {
    for (int x = 0; x < width; x++) {
        double l = 1.164383 * (y[x] - 16), u = uv[x / 2 * 2] - 128.0, v = uv[x / 2 * 2 + 1] - 128.0;
        rgb[3 * x] = byte(l + 1.792741 * v);
        rgb[3 * x + 1] = byte(l - 0.213249 * u - 0.532909 * v);
        rgb[3 * x + 2] = byte(l + 2.112402 * u);
    }
}

int jepa_embed_frames(jepa_run *r, const jepa_frames *f, const jepa_embed_options *o, jepa_embedding *out, jepa_err *err) {
    memset(out, 0, sizeof *out);
    if (!r || !f || f->size < sizeof f->size || f->size > sizeof *f) return err_set(err, JEPA_E_USE, "a session and frames with their size are needed");
    if (f->width < 1 || f->height < 1 || f->width > 16384 || f->height > 16384 || f->count < 1 || f->count > 4096 || !f->plane0)
        return err_set(err, JEPA_E_USE, "%d frames of %dx%d: 1 to 4096 frames of up to 16384x16384 are possible", f->count, f->width, f->height);
    int nv12 = f->format == JEPA_FRAMES_NV12;
    if ((!nv12 && f->format != JEPA_FRAMES_RGB8) || (nv12 && (!f->plane1 || f->width % 2 || f->height % 2)))
        return err_set(err, JEPA_E_USE, "frames are RGB8, or NV12 with two planes and even sizes");
    int64_t tight0 = nv12 ? f->width : (int64_t)f->width * 3, s0 = f->stride0 ? f->stride0 : tight0, s1 = f->stride1 ? f->stride1 : f->width;
    if (s0 < tight0 || (nv12 && s1 < f->width)) return err_set(err, JEPA_E_USE, "a stride of %lld bytes is shorter than a row", (long long)(s0 < tight0 ? s0 : s1));
    clip_plan p;
    jepa_embed_options with;
    jepa_embed_options_defaults(&with);
    if (o && (o->size < sizeof o->size || o->size > sizeof with))
        return err_set(err, JEPA_E_USE, "jepa_embed_options.size is %zu; call jepa_embed_options_defaults first", o->size);
    if (o) memcpy(&with, o, o->size);
    int t = r->m->ec.tubelet_size;
    with.frames = (f->count + t - 1) / t * t;
    with.size = sizeof with;
    int rc = plan_make(r->m, &with, &p, err);
    if (rc < 0) return rc;
    size_t frame = (size_t)f->width * (size_t)f->height * 3;
    uint8_t *rgb = mem_alloc((size_t)p.frames, frame), *clip = mem_alloc((size_t)p.frames * (size_t)p.clip.crop, (size_t)p.clip.crop * 3);
    if (!rgb || !clip) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for %d frames of %dx%d", p.frames, f->width, f->height);
        goto done;
    }
    for (int i = 0; i < p.frames; i++) {
        int from = i < f->count ? i : f->count - 1; /* the last frame fills the tubelet */
        if (!f->plane0[from] || (nv12 && !f->plane1[from])) {
            rc = err_set(err, JEPA_E_USE, "frame %d has no data", from);
            goto done;
        }
        for (int y = 0; y < f->height; y++) {
            uint8_t *to = rgb + (size_t)i * frame + (size_t)y * (size_t)f->width * 3;
            if (nv12) nv12_row(f->plane0[from] + y * s0, f->plane1[from] + y / 2 * s1, f->width, to);
            else memcpy(to, f->plane0[from] + y * s0, (size_t)tight0);
        }
    }
    if ((rc = clip_prepare(&p.clip, rgb, p.frames, f->height, f->width, clip, err)) < 0 || (rc = embedding_new(out, &p, 1, err)) < 0) goto done;
    rc = run_encode(r, &p, clip, T_U8, 1, p.frames, p.clip.crop, p.clip.crop, out->data, err);
    if (rc < 0) jepa_embedding_free(out);
done:
    mem_free(rgb);
    mem_free(clip);
    return rc;
}
