/* verbs_video.c: which frames, which box, and what becomes of the pixels. */
#include "parity.h"
#include "video/video.h"

#include <math.h>
#include <string.h>

typedef struct frames {
    int n, h, w;
    const uint8_t *rgb;
} frames;

static int frames_input(check *c, frames *f, jepa_err *err) {
    const tensor *t = NULL;
    int rc = input_tensor_is(c, "frames", T_U8, 4, &t, err);
    if (rc < 0) return rc;
    for (int i = 0; i < 4; i++)
        if (t->dim[i] < 1 || t->dim[i] > 1 << 16) return err_set(err, JEPA_E_MODEL, "frames have a side of %lld", (long long)t->dim[i]);
    if (t->dim[3] != 3) return err_set(err, JEPA_E_MODEL, "frames have %lld channels, not 3", (long long)t->dim[3]);
    *f = (frames){(int)t->dim[0], (int)t->dim[1], (int)t->dim[2], t->data};
    return 0;
}

static int transform_cfg(check *c, clip_cfg *k, clip_mode mode, int normalised, jepa_err *err) {
    int64_t crop, side;
    double mean[3], std[3];
    int rc = param_int(c, "crop", 1, 16384, &crop, err);
    if (rc < 0) return rc;
    clip_cfg_defaults(k, (int)crop);
    k->mode = mode;
    if (json_get(c->params, "short_side")) {
        if ((rc = param_int(c, "short_side", 1, 65536, &side, err)) < 0) return rc;
        k->short_side = (int)side;
    }
    if (mode == CLIP_TRAIN || mode == CLIP_PIL) {
        double box[4];
        if ((rc = param_numbers(c, "box", 4, box, err)) < 0) return rc;
        for (int i = 0; i < 4; i++) k->box[i] = (int)box[i];
        k->flip = json_bool(json_get(c->params, "flip"), 0);
    }
    if (normalised) {
        if ((rc = param_numbers(c, "mean", 3, mean, err)) < 0 || (rc = param_numbers(c, "std", 3, std, err)) < 0) return rc;
        for (int i = 0; i < 3; i++) k->mean[i] = (float)mean[i], k->std[i] = (float)std[i];
    }
    return 0;
}

/* The frames through clip_prepare_f32, against one role. */
static int prepared(check *c, const clip_cfg *k, const frames *f, const char *role, int frames_first, jepa_err *err) {
    float *out = mem_alloc((size_t)3 * (size_t)f->n * (size_t)k->crop * (size_t)k->crop, sizeof *out);
    if (!out) return err_set(err, JEPA_E_MEMORY, "no memory for the transformed clip");
    int rc = clip_prepare_f32(k, f->rgb, f->n, f->h, f->w, frames_first, out, err);
    const tensor t = tensor_f32(out, 4, frames_first ? (int64_t[]){f->n, 3, k->crop, k->crop} : (int64_t[]){3, f->n, k->crop, k->crop});
    if (rc == 0) rc = compare_output(c, role, &t, err);
    mem_free(out);
    return rc;
}

int verb_eval_transform(check *c, jepa_err *err) {
    frames f = {0};
    clip_cfg k;
    int rc;
    if ((rc = frames_input(c, &f, err)) < 0 || (rc = transform_cfg(c, &k, CLIP_EVAL_META, 1, err)) < 0) return rc;
    return prepared(c, &k, &f, "out", 0, err);
}

int verb_views_transform(check *c, jepa_err *err) {
    frames f = {0};
    clip_cfg k;
    int64_t views;
    int rc;
    if ((rc = frames_input(c, &f, err)) < 0 || (rc = transform_cfg(c, &k, CLIP_EVAL_META, 1, err)) < 0 ||
        (rc = param_int(c, "views", 1, 64, &views, err)) < 0)
        return rc;
    k.num_views = (int)views;
    for (k.view = 0; k.view < k.num_views; k.view++) {
        char role[32];
        snprintf(role, sizeof role, "view_%d", k.view);
        if ((rc = prepared(c, &k, &f, role, 0, err)) < 0) return rc;
    }
    return 0;
}

int verb_train_crop(check *c, jepa_err *err) {
    frames f = {0};
    clip_cfg k;
    int rc;
    if ((rc = frames_input(c, &f, err)) < 0 || (rc = transform_cfg(c, &k, CLIP_TRAIN, 1, err)) < 0) return rc;
    return prepared(c, &k, &f, "out", 0, err);
}

int verb_pil_crop(check *c, jepa_err *err) { /* the stored one is the first frame only */
    frames f = {0};
    clip_cfg k;
    int rc;
    if ((rc = frames_input(c, &f, err)) < 0 || (rc = transform_cfg(c, &k, CLIP_PIL, 0, err)) < 0) return rc;
    uint8_t *out = mem_alloc((size_t)3 * (size_t)k.crop * (size_t)k.crop, 1);
    if (!out) return err_set(err, JEPA_E_MEMORY, "no memory for the crop");
    rc = clip_prepare(&k, f.rgb, 1, f.h, f.w, out, err);
    const tensor t = {.type = T_U8, .rank = 3, .dim = {k.crop, k.crop, 3}, .data = out};
    if (rc == 0) rc = compare_output(c, "out", &t, err);
    mem_free(out);
    return rc;
}

int verb_eval_resize(check *c, jepa_err *err) {
    frames f = {0};
    int64_t side;
    int h, w, rc;
    if ((rc = frames_input(c, &f, err)) < 0 || (rc = param_int(c, "short_side", 1, 16384, &side, err)) < 0) return rc;
    if ((rc = clip_short_side(f.h, f.w, (int)side, &h, &w)) < 0) return err_set(err, rc, "%dx%d cannot be resized", f.w, f.h);
    uint8_t *out = mem_alloc((size_t)f.n * (size_t)h * (size_t)w, 3);
    if (!out) return err_set(err, JEPA_E_MEMORY, "no memory for the resized frames");
    rc = clip_resize_u8(f.rgb, f.n, f.h, f.w, h, w, CLIP_EVAL_META, out, err);
    const tensor t = {.type = T_U8, .rank = 4, .dim = {f.n, h, w, 3}, .data = out};
    if (rc == 0) rc = compare_output(c, "resized", &t, err);
    mem_free(out);
    return rc;
}

int verb_preprocess(check *c, jepa_err *err) {
    frames f = {0};
    clip_cfg k;
    char path[1400];
    const char *file = json_string(json_get(json_get(json_get(c->j, "weights"), "processor"), "file"), NULL);
    if (!file) return err_set(err, JEPA_E_MODEL, "the check names no processor");
    int rc = frames_input(c, &f, err);
    if (rc < 0 || (rc = set_path(c->set, file, path, sizeof path, err)) < 0) return rc;
    clip_cfg_defaults(&k, 1);
    if ((rc = clip_processor_read(&k, path, err)) < 0)
        return rc == JEPA_E_END ? err_set(err, JEPA_E_MODEL, "%s holds no processor", file) : rc;
    return prepared(c, &k, &f, "pixel_values", 1, err);
}

/* ---- records: a list of cases with inputs and the expected result ---- */

static int records(check *c, const char *known, const json **first, jepa_err *err) {
    const json *v = NULL;
    int rc = ref_json(c, output_ref(c, "records"), &v, err);
    if (rc < 0) return rc;
    c->t.roles++;
    if (!json_is_array(v)) return err_set(err, JEPA_E_MODEL, "records are no list");
    for (const json *r = json_first(v); r; r = json_next(r))
        for (const json *e = json_first(r); e; e = json_next(e))
            if (!json_key(e) || !word_in(known, json_key(e)))
                return err_set(err, JEPA_E_MODEL, "unknown key \"%s\" in a record", json_key(e) ? json_key(e) : "");
    *first = json_first(v);
    return 0;
}

/* The recorded draws, given back in order. A draw of another kind or range, or one too many, spoils the record. */
typedef struct replay {
    const json *next;
    int spoiled;
} replay;

static double replay_next(replay *r, const char *function, double low, double high) {
    const json *d = r->next;
    double v[3];
    if (!d) return r->spoiled = 1, low;
    const json *e = json_first(d);
    if (function) {
        if (strcmp(json_string(e, ""), function)) r->spoiled = 1;
        e = e ? json_next(e) : NULL;
    }
    int n = 0;
    for (; e && n < 3; e = json_next(e)) v[n++] = json_number(e, NAN);
    r->next = json_next(d);
    /* limits that went through a logarithm differ in the last place; integers are exact */
    if (n < 3 || !(fabs(v[0] - low) <= 1e-12 * fabs(low)) || !(fabs(v[1] - high) <= 1e-12 * fabs(high))) return r->spoiled = 1, low;
    return v[2];
}

static int64_t draw_frames(void *ctx, int64_t low, int64_t high) { return (int64_t)replay_next(ctx, NULL, (double)low, (double)high); }
static double draw_uniform(void *ctx, double low, double high) { return replay_next(ctx, "uniform", low, high); }
static int64_t draw_integer(void *ctx, int64_t low, int64_t high) {
    return (int64_t)replay_next(ctx, "randint", (double)low, (double)high);
}

static int number_of(const json *r, const char *key, double otherwise, double *out, jepa_err *err) {
    const json *v = json_get(r, key);
    if (!v || json_is_null(v)) {
        if (isnan(otherwise)) return err_set(err, JEPA_E_MODEL, "a record has no %s", key);
        return *out = otherwise, 0;
    }
    return json_numbers(v, key, 1, out, err);
}

static int frame_record(check *c, const json *r, int nth, jepa_err *err) {
    double n, fps, clip, want, step, duration, clips;
    int rc;
    if ((rc = number_of(r, "frames_in_video", NAN, &n, err)) < 0 || (rc = number_of(r, "video_fps", NAN, &fps, err)) < 0 ||
        (rc = number_of(r, "frames_per_clip", NAN, &clip, err)) < 0 || (rc = number_of(r, "fps", 0, &want, err)) < 0 ||
        (rc = number_of(r, "frame_step", 0, &step, err)) < 0 || (rc = number_of(r, "duration", 0, &duration, err)) < 0 ||
        (rc = number_of(r, "num_clips", 1, &clips, err)) < 0)
        return rc;
    if (!(clip >= 1 && clip <= 4096 && clips >= 1 && clips <= 4096))
        return err_set(err, JEPA_E_MODEL, "record %d asks for %g clips of %g frames", nth, clips, clip);
    sample_cfg s;
    sample_cfg_defaults(&s);
    s.frames = (int)clip, s.fps = want, s.frame_step = (int)step, s.duration = duration, s.num_clips = (int)clips;
    s.random = json_bool(json_get(r, "random"), 0);
    s.allow_clip_overlap = json_bool(json_get(r, "allow_overlap"), 0);
    int64_t total = (int64_t)s.frames * s.num_clips, k = 0;
    int64_t *index = mem_alloc((size_t)total, sizeof *index);
    if (!index) return err_set(err, JEPA_E_MEMORY, "no memory for %lld indices", (long long)total);
    replay draws = {json_first(json_get(r, "draws_low_high_value")), 0};
    int slow;
    if ((rc = sample_frames(&s, (int64_t)n, fps, draw_frames, &draws, index, &slow, err)) < 0)
        err_prefix(err, rc, "record %d", nth);
    else if (draws.spoiled || draws.next)
        rc = err_set(err, JEPA_E_MODEL, "record %d: other draws than the recorded ones", nth);
    const json *lists = json_get(r, "indices");
    if (rc == 0 && json_size(lists) != s.num_clips)
        rc = err_set(err, JEPA_E_MODEL, "record %d has not %d lists of indices", nth, s.num_clips);
    for (const json *l = rc == 0 ? json_first(lists) : NULL; l && rc == 0; l = json_next(l)) {
        if (json_size(l) != s.frames) rc = err_set(err, JEPA_E_MODEL, "record %d has not %d indices a clip", nth, s.frames);
        for (const json *v = json_first(l); v && rc == 0; v = json_next(v), k++) {
            char what[64];
            snprintf(what, sizeof what, "record %d, index %lld", nth, (long long)k);
            rc = compare_number(c, what, (double)index[k], v, err);
        }
    }
    mem_free(index);
    return rc;
}

int verb_frame_indices(check *c, jepa_err *err) {
    const json *r = NULL;
    int nth = 0,
        rc =
            records(c,
                    "frames_in_video video_fps frames_per_clip fps frame_step duration num_clips random allow_overlap draws_low_high_value "
                    "seed indices error",
                    &r, err);
    for (; rc == 0 && r; r = json_next(r), nth++) {
        if (json_get(r, "error"))
            c->t.skipped++; /* the published code raises there */
        else
            rc = frame_record(c, r, nth, err);
    }
    return rc;
}

int verb_crop_box(check *c, jepa_err *err) {
    const json *r = NULL;
    int nth = 0, rc = records(c, "in_hw scale ratio draws box_i_j_h_w", &r, err);
    for (; rc == 0 && r; r = json_next(r), nth++) {
        double in[2], scale[2], ratio[2], want[4];
        int box[4];
        if ((rc = json_numbers(json_get(r, "in_hw"), "in_hw", 2, in, err)) < 0 ||
            (rc = json_numbers(json_get(r, "scale"), "scale", 2, scale, err)) < 0 ||
            (rc = json_numbers(json_get(r, "ratio"), "ratio", 2, ratio, err)) < 0 ||
            (rc = json_numbers(json_get(r, "box_i_j_h_w"), "box_i_j_h_w", 4, want, err)) < 0)
            return rc;
        replay draws = {json_first(json_get(r, "draws")), 0};
        const crop_draw d = {draw_uniform, draw_integer, &draws};
        if ((rc = crop_box((int)in[0], (int)in[1], scale, ratio, &d, box)) < 0) return err_set(err, rc, "record %d: no box", nth);
        if (draws.spoiled || draws.next) return err_set(err, JEPA_E_MODEL, "record %d: other draws than the recorded ones", nth);
        for (int i = 0; i < 4; i++) {
            char what[64];
            snprintf(what, sizeof what, "record %d, box[%d]", nth, i);
            compare_value(c, what, box[i], want[i], c->abs + c->rel * fabs(want[i]), 0);
        }
    }
    return rc;
}
