/* cmd_frames.c: jepa frames INPUT… -o DIR|OUT.safetensors: what the model would see. */
#include "cli/model_args.h"
#include "base/json.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "  jepa frames clip.mp4 --index 59,0,31 --raw -o frames/\n"
    "  jepa frames -m run/latest --clips 2 clip.mp4 -o seen.safetensors\n\n"
    "What the model would see: the clips that embed would take, cropped and resized, or chosen frames (--index, --time); --raw: decoded and\n"
    "upright, otherwise untouched. A folder gets PNGs named by clip and frame; a .safetensors gets frames uint8 [M,T,H,W,3] (raw) or\n"
    "pixel_values float32 [M,T,3,H,W], with index and seconds [M,T].\n";

typedef struct store { /* what goes into the tensor form; all clips have one size */
    void *data;
    int64_t *index;
    double *seconds;
    size_t row, n, cap;
    int h, w;
} store;

static int parse_numbers(const char *text, double **out, int *n, jepa_err *err) {
    int cap = 1;
    for (const char *s = text; *s; s++) cap += *s == ',';
    if (!(*out = mem_alloc((size_t)cap, sizeof **out))) return err_set(err, JEPA_E_MEMORY, "no memory");
    *n = 0;
    for (const char *s = text; *s;) {
        char *end;
        double v = strtod(s, &end);
        if (end == s || !isfinite(v) || v < 0 || v > 1e12 || (*end && *end != ',')) return err_set(err, JEPA_E_USE, "%s: numbers with commas between are needed", text);
        (*out)[(*n)++] = v;
        s = *end ? end + 1 : end;
    }
    return *n ? 0 : err_set(err, JEPA_E_USE, "no frames were named");
}

static void stem(const item *it, char *out, size_t size) {
    const char *b = it->path;
    if (it->kind == ITEM_H5) { /* "demo.hdf5:/data/demo_0/obs/agentview": all of it, or every episode would have the same names */
        for (const char *s = b; s < it->path + it->inner; s++)
            if (*s == '/' && s + 1 < it->path + it->inner) b = s + 1;
    } else if (strrchr(b, '/')) b = strrchr(b, '/') + 1;
    snprintf(out, size, "%s", b);
    char *dot = it->kind == ITEM_H5 ? NULL : strrchr(out, '.');
    if (dot && dot != out) *dot = 0;
    for (char *s = out; *s; s++)
        if (iscntrl((unsigned char)*s) || *s == '/' || *s == ':') *s = '_';
}

static int keep(store *s, const void *clip, size_t bytes, const int64_t *index, const double *seconds, int frames, int h, int w, jepa_err *err) {
    if (s->n && (h != s->h || w != s->w || bytes != s->row))
        return err_set(err, JEPA_E_USE, "clips of %dx%d and of %dx%d do not fit one tensor; leave --raw out, or write to a folder", s->w, s->h, w, h);
    s->row = bytes, s->h = h, s->w = w;
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 4;
        void *d = realloc(s->data, cap * bytes);
        if (d) s->data = d;
        int64_t *i = realloc(s->index, cap * (size_t)frames * sizeof *i);
        if (i) s->index = i;
        double *t = realloc(s->seconds, cap * (size_t)frames * sizeof *t);
        if (t) s->seconds = t;
        if (!d || !i || !t) return err_set(err, JEPA_E_MEMORY, "no memory for %zu clips", cap);
        s->cap = cap;
    }
    memcpy((char *)s->data + s->n * bytes, clip, bytes);
    memcpy(s->index + s->n * (size_t)frames, index, (size_t)frames * sizeof *index);
    memcpy(s->seconds + s->n * (size_t)frames, seconds, (size_t)frames * sizeof *seconds);
    s->n++;
    return 0;
}

typedef struct request { cli *c; const clip_plan *p; double *at; int n_at, by_time, raw; const char *out; int tensor; store *s; int *written; } request;

static int one_clip(const request *q, vid *v, const item *it, int k, const int64_t *index, int n, jepa_err *err) {
    const char *path = it->path;
    const vid_info *i = vid_get_info(v);
    int w = i->width, h = i->height, crop = q->p->clip.crop, rc;
    size_t raw = (size_t)w * (size_t)h * 3;
    uint8_t *rgb = mem_alloc((size_t)n, raw), *small = NULL;
    float *x = NULL;
    double *seconds = mem_alloc((size_t)n, sizeof *seconds);
    rc = JEPA_E_MEMORY;
    if (!rgb || !seconds) {
        err_set(err, rc, "no memory for %d frames of %dx%d", n, w, h);
        goto done;
    }
    rc = vid_read(v, index, n, rgb, seconds, err);
    if (rc == JEPA_E_END) rc = err_set(err, JEPA_E_INPUT, "%s: only %lld of %lld frames can be decoded", path, (long long)vid_get_info(v)->frames, (long long)i->promised);
    if (rc < 0) goto done;
    const uint8_t *show = rgb;
    if (!q->raw) {
        rc = JEPA_E_MEMORY;
        if (!(small = mem_alloc((size_t)n * (size_t)crop, (size_t)crop * 3)) || !(x = mem_alloc((size_t)n * 3, (size_t)crop * (size_t)crop * sizeof *x))) {
            err_set(err, rc, "no memory for %d frames of %dx%d", n, crop, crop);
            goto done;
        }
        rc = q->tensor ? clip_prepare_f32(&q->p->clip, rgb, n, h, w, 1, x, err) : clip_prepare(&q->p->clip, rgb, n, h, w, small, err);
        if (rc < 0) goto done;
        show = small, w = h = crop;
    }
    if (q->tensor) {
        rc = q->raw ? keep(q->s, rgb, raw * (size_t)n, index, seconds, n, h, w, err)
                    : keep(q->s, x, (size_t)n * 3 * (size_t)crop * (size_t)crop * sizeof *x, index, seconds, n, h, w, err);
        goto done;
    }
    for (int f = 0; f < n && rc == 0; f++) {
        char name[300], file[1400];
        stem(it, name, sizeof name);
        snprintf(file, sizeof file, "%s/%s-clip%02d-%04d-frame%06lld.png", q->out, name, k, f, (long long)index[f]);
        rc = image_write_png(file, show + (size_t)f * (size_t)w * (size_t)h * 3, w, h, err);
        if (rc == 0) ++*q->written;
    }
done:
    mem_free(rgb), mem_free(small), mem_free(x), mem_free(seconds);
    return rc;
}

static int one_input(const request *q, const item *it, jepa_err *err) {
    const char *path = it->path;
    vid *v = NULL;
    clip_list l = {0};
    int64_t *index = NULL;
    const vid_opts o = {.as_stored = q->p->as_stored};
    int rc = vid_open_item(&v, it, &o, err);
    if (rc < 0) goto done;
    if (q->n_at) {
        const vid_info *i = vid_get_info(v);
        if (!(index = mem_alloc((size_t)q->n_at, sizeof *index))) {
            rc = err_set(err, JEPA_E_MEMORY, "no memory");
            goto done;
        }
        for (int k = 0; k < q->n_at; k++) {
            index[k] = q->by_time ? vid_frame_at(v, q->at[k]) : (int64_t)q->at[k];
            if (index[k] >= i->frames) {
                rc = err_set(err, JEPA_E_INPUT, "%s: frame %lld was asked, it has %lld (0 … %lld)", path, (long long)index[k], (long long)i->frames, (long long)i->frames - 1);
                goto done;
            }
        }
        rc = one_clip(q, v, it, 0, index, q->n_at, err);
        goto done;
    }
    if ((rc = clips_of(v, q->p, &l, err)) < 0) goto done;
    const vid_info *info = vid_get_info(v);
    if (l.slow) cli_line(q->c, "%s: slower than the asked %g frames per second (%.3g): every frame is used", path, q->p->fps, info->fps);
    if (info->promised > info->frames)
        cli_line(q->c, "%s: cut short: %lld of %lld frames can be decoded", path, (long long)info->frames, (long long)info->promised);
    for (int k = 0; k < l.n && rc == 0; k++) rc = one_clip(q, v, it, k, l.index + (size_t)k * (size_t)q->p->frames, q->p->frames, err);
done:
    mem_free(index);
    mem_free(l.index);
    vid_close(&v);
    return rc;
}

int cmd_frames(cli *c, int argc, char **argv) {
    jepa_err err = {0};
    model_args a;
    text_list rest = {0};
    const char *out = NULL, *index = NULL, *time = NULL;
    int raw = 0, written = 0, failed = 0;
    model_args_defaults(&a);
    opt table[N_SAMPLING + 5] = {
        {"--out", "OUT", "a folder, or a .safetensors", O_TEXT, &out, 0, 0, "-o"},
        {"--index", "0,59,31", "these frames, by number, in this order", O_TEXT, &index, 0, 0, NULL},
        {"--time", "0,0.25,1", "the frames on display at these seconds", O_TEXT, &time, 0, 0, NULL},
        {"--raw", NULL, "decoded and upright, not cropped or resized", O_FLAG, &raw, 0, 0, NULL},
        {"--model", "MODEL", "sample and crop as for this model (default: 16 frames, 4 fps, 256 pixels)", O_TEXT, &a.model, 0, 0, "-m"},
    };
    sampling_options(table + 5, &a);
    jepa *m = NULL;
    clip_plan p = {0};
    items in = {0};
    store s = {0};
    request q = {.c = c, .p = &p, .s = &s, .written = &written};
    int rc = options_read(c, table, sizeof table / sizeof *table, argc, argv, usage, &rest, &err);
    if (rc) {
        rc = rc == 1 ? 0 : rc;
        goto done;
    }
    if (!rest.n || !out || (index && time)) {
        rc = err_set(&err, JEPA_E_USE, "inputs and -o are needed, and at most one of --index and --time: jepa frames clip.mp4 --index 0,5 -o frames/");
        goto done;
    }
    if (a.model) {
        if ((rc = model_args_open(c, &a, 0, &m, &p, &err)) < 0) goto done;
        model_args_say(c, m, &p);
    } else {
        p.frames = a.o.frames ? a.o.frames : 16;
        p.stride = a.o.stride, p.fps = a.o.stride ? 0 : a.o.fps > 0 ? a.o.fps : 4;
        p.clips = a.o.clips, p.every = a.o.every, p.by_time = a.by_time, p.as_stored = a.as_stored, p.reject_short = a.reject_short;
        clip_cfg_defaults(&p.clip, a.o.crop ? a.o.crop : 256);
    }
    if ((index || time) && (rc = parse_numbers(index ? index : time, &q.at, &q.n_at, &err)) < 0) goto done;
    for (int k = 0; index && k < q.n_at; k++)
        if (q.at[k] != floor(q.at[k])) {
            rc = err_set(&err, JEPA_E_USE, "--index %s: frame numbers are whole; --time takes seconds", index);
            goto done;
        }
    q.by_time = time != NULL, q.raw = raw, q.out = out;
    size_t len = strlen(out);
    q.tensor = len > 12 && !strcmp(out + len - 12, ".safetensors");
    for (int i = 0; i < rest.n; i++)
        if ((rc = items_add(&in, rest.at[i], &err)) < 0) goto done;
    if (!q.tensor && (rc = dir_make(out, &err)) < 0) goto done;
    for (int i = 0; i < in.n; i++) {
        if (cli_stopped(NULL)) {
            rc = err_set(&err, JEPA_E_CANCELLED, "stopped after %d of %d inputs", i, in.n);
            goto done;
        }
        rc = one_input(&q, &in.at[i], &err);
        if (rc == JEPA_E_INPUT) cli_warn(c, "%s", err.text), failed++;
        else if (rc < 0) goto done;
    }
    int n_frames = q.n_at ? q.n_at : p.frames;
    if (q.tensor && s.n) {
        int64_t n = (int64_t)s.n, t = n_frames;
        st_out o[3] = {raw ? (st_out){"frames", {T_U8, 5, {n, t, s.h, s.w, 3}, s.data}, T_NONE} : (st_out){"pixel_values", {T_F32, 5, {n, t, 3, s.h, s.w}, s.data}, T_NONE},
                       {"index", {T_I64, 2, {n, t}, s.index}, T_NONE}, {"seconds", {T_F64, 2, {n, t}, s.seconds}, T_NONE}};
        if ((rc = st_write(out, o, 3, NULL, &err)) < 0) goto done;
    }
    rc = failed && failed == in.n ? err_set(&err, JEPA_E_IO, "none of the inputs could be read") : failed ? 1 : 0;
    if (rc >= 0 && c->json) {
        json_writer w = {0};
        jw_open(&w, NULL, '{');
        jw_string(&w, "out", out), jw_int(&w, "clips", (int64_t)s.n), jw_int(&w, "files", written), jw_int(&w, "failed", failed);
        jw_close(&w, '}');
        if (!w.failed) printf("%s\n", w.text);
        jw_free(&w);
    } else if (rc >= 0 && q.tensor) printf("%s: %zu clips of %d frames, %dx%d\n", out, s.n, n_frames, s.w, s.h);
    else if (rc >= 0) printf("%s: %d pictures\n", out, written);
done:
    free(s.data), free(s.index), free(s.seconds);
    mem_free(q.at);
    items_free(&in);
    jepa_close(&m);
    text_list_free(&rest);
    return cli_exit(c, rc, &err);
}
