/* predict_job.c: the job behind `jepa predict`: clips of many inputs through the predictor; rows, pictures, videos and error curves as they
 * come. Outputs are written aside and appear when the job is done. */
#include "infer/draw.h"
#include "infer/h5_sets.h"
#include "infer/predict.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { GAP = 2, BAR = 12, BAR_ROOM = 70, COLUMNS = 8 };

typedef struct point { double start, seen, end, error; int item, clip; } point; /* of the curve */

typedef struct sink { /* where results go */
    h5_sets *h5;
    int predicted, target, error, context, index, path, clip, start, end;
    vid_writer *video;
    FILE *csv;
    char csv_aside[1112];
    point *at;
    int64_t n, cap;
    double low, high; /* of the colour scale: those of the first clip, kept for all of a video */
    int scaled;
    canvas page;
} sink;

static int64_t zoom_of(int64_t crop) { return crop >= 192 ? 1 : (192 + crop - 1) / crop; }

static int open_h5(const predict_job *j, sink *s, int64_t dim, int has_target, jepa_err *err) {
    const clip_plan *c = j->plan->clip;
    const pred_masks *k = j->plan->masks;
    const int64_t wide[] = {k->n_target, dim}, grid[] = {c->grid[0], c->grid[1], c->grid[2]}, frames = c->frames, token = j->plan->mask_token, blocks = k->blocks;
    char sha[65];
    int rc = h5_sets_open(&s->h5, j->out, err);
    if (rc < 0 || (rc = s->predicted = h5_sets_new(s->h5, "predicted", T_F32, 2, wide, err)) < 0 ||
        (has_target && ((rc = s->target = h5_sets_new(s->h5, "target", T_F32, 2, wide, err)) < 0 ||
                        (rc = s->error = h5_sets_new(s->h5, "error", T_F32, 1, wide, err)) < 0)) ||
        (rc = s->context = h5_sets_new(s->h5, "context_index", T_I64, 1, &k->n_context, err)) < 0 ||
        (rc = s->index = h5_sets_new(s->h5, "target_index", T_I64, 1, wide, err)) < 0 || (rc = s->path = h5_sets_new(s->h5, "path", T_NONE, 0, NULL, err)) < 0 ||
        (rc = s->clip = h5_sets_new(s->h5, "clip", T_I64, 0, NULL, err)) < 0 || (rc = s->start = h5_sets_new(s->h5, "start_seconds", T_F64, 0, NULL, err)) < 0 ||
        (rc = s->end = h5_sets_new(s->h5, "end_seconds", T_F64, 0, NULL, err)) < 0)
        return rc;
    if ((rc = ck_sha256(j->m->c, sha, err)) < 0 || (rc = h5_sets_text(s->h5, "model", ck_path(j->m->c), err)) < 0 ||
        (rc = h5_sets_text(s->h5, "model_sha256", sha, err)) < 0 || (rc = h5_sets_text(s->h5, "precision", dtype_name(j->m->type), err)) < 0 ||
        (rc = h5_sets_text(s->h5, "mask", j->mask_text, err)) < 0 || (rc = h5_sets_text(s->h5, "transform", j->m->transform, err)) < 0 ||
        (rc = h5_sets_text(s->h5, "context_encoding", j->plan->encode_all ? "all tokens, then the context's picked" : "the context's tokens alone", err)) < 0 ||
        (rc = h5_sets_text(s->h5, "command", j->command, err)) < 0 || (rc = h5_sets_text(s->h5, "version", JEPA_VERSION, err)) < 0 ||
        (rc = h5_sets_numbers(s->h5, "grid", grid, 3, err)) < 0 || (rc = h5_sets_numbers(s->h5, "frames", &frames, 1, err)) < 0 ||
        (rc = h5_sets_numbers(s->h5, "mask_token", &token, 1, err)) < 0 || (rc = h5_sets_numbers(s->h5, "target_blocks", &blocks, 1, err)) < 0)
        return rc;
    return 0;
}

static int put_list(h5_sets *h, int set, const int32_t *list, int64_t n, jepa_err *err) {
    int64_t *wide = mem_alloc((size_t)n, sizeof *wide);
    if (!wide) return err_set(err, JEPA_E_MEMORY, "no memory for index lists");
    for (int64_t i = 0; i < n; i++) wide[i] = list[i];
    int rc = h5_sets_add(h, set, wide, 1, err);
    mem_free(wide);
    return rc;
}

/* Error of each token of the grid; NaN where nothing was predicted, the mean where blocks overlap. */
static void spread(const pred_masks *k, int64_t clip, const float *error, float *map, float *count) {
    const int64_t tokens = (int64_t)k->grid.frames * k->grid.rows * k->grid.cols, set = k->sets == 1 ? 0 : clip;
    for (int64_t i = 0; i < tokens; i++) map[i] = 0, count[i] = 0;
    for (int64_t i = 0; i < k->n_target; i++) {
        int32_t t = k->target[set * k->n_target + i];
        map[t] += error[i], count[t]++;
    }
    for (int64_t i = 0; i < tokens; i++) map[i] = count[i] > 0 ? map[i] / count[i] : NAN;
}

/* Frames of a clip above, with the error laid over below, a colour bar beside. */
static int picture(const predict_job *j, const uint8_t *clip, const float *map, double low, double high, jepa_err *err) {
    const clip_plan *c = j->plan->clip;
    const int64_t t = c->grid[0], cells = c->grid[1] * c->grid[2], columns = t < COLUMNS ? t : COLUMNS, zoom = zoom_of(c->clip.crop), side = c->clip.crop * zoom;
    canvas p;
    int rc = canvas_open(&p, columns * (side + GAP) + GAP + BAR_ROOM, 2 * (side + GAP) + GAP, err);
    if (rc < 0) return rc;
    for (int64_t i = 0; i < columns; i++) {
        int64_t step = columns > 1 ? i * (t - 1) / (columns - 1) : 0, x = GAP + i * (side + GAP);
        const uint8_t *frame = clip + (size_t)(step * j->m->ec.tubelet_size) * (size_t)c->clip.crop * (size_t)c->clip.crop * 3;
        canvas_frame(&p, (int)x, GAP, (int)zoom, frame, c->clip.crop, NULL, 0, 0, 0, 1, 0);
        canvas_frame(&p, (int)x, (int)(GAP + side + GAP), (int)zoom, frame, c->clip.crop, map + step * cells, c->grid[1], c->grid[2], low, high, 0.6);
    }
    canvas_bar(&p, p.width - BAR_ROOM + 6, (int)(GAP + side + GAP), BAR, (int)side, low, high);
    rc = image_write_png(j->png, p.rgb, p.width, p.height, err);
    canvas_close(&p);
    return rc;
}

/* One frame of the video: the frame, beside it the same with the error laid over, and the bar. */
static int film(const predict_job *j, sink *s, const uint8_t *clip, const float *map, jepa_err *err) {
    const clip_plan *c = j->plan->clip;
    const int64_t cells = c->grid[1] * c->grid[2], zoom = zoom_of(c->clip.crop), side = c->clip.crop * zoom;
    int rc = 0;
    if (!s->page.rgb) {
        if ((rc = canvas_open(&s->page, (2 * side + 3 * GAP + BAR_ROOM + 1) / 2 * 2, (side + 2 * GAP + 1) / 2 * 2, err)) < 0) return rc;
        const vid_write_cfg w = {.width = s->page.width, .height = s->page.height, .fps = c->fps > 0 ? c->fps : 10, .crf = 18};
        if ((rc = vid_writer_open(&s->video, j->video, &w, err)) < 0) return rc;
        canvas_bar(&s->page, s->page.width - BAR_ROOM + 6, GAP, BAR, (int)side, s->low, s->high);
    }
    for (int f = 0; f < c->frames && !rc; f++) {
        const uint8_t *frame = clip + (size_t)f * (size_t)c->clip.crop * (size_t)c->clip.crop * 3;
        int64_t step = f / j->m->ec.tubelet_size;
        canvas_frame(&s->page, GAP, GAP, (int)zoom, frame, c->clip.crop, NULL, 0, 0, 0, 1, 0);
        canvas_frame(&s->page, (int)(2 * GAP + side), GAP, (int)zoom, frame, c->clip.crop, map + step * cells, c->grid[1], c->grid[2], s->low, s->high, 0.6);
        rc = vid_writer_add(s->video, s->page.rgb, err);
    }
    return rc;
}

/* A path as a CSV field. */
static void csv_text(FILE *f, const char *text) {
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '"') fputc('"', f);
        fputc(*text, f);
    }
    fputc('"', f);
}

static int remember(sink *s, const point *p, jepa_err *err) {
    if (s->n == s->cap) {
        int64_t cap = s->cap ? s->cap * 2 : 256;
        point *more = mem_alloc((size_t)cap, sizeof *more);
        if (!more) return err_set(err, JEPA_E_MEMORY, "no memory for a curve of %lld points", (long long)cap);
        if (s->n) memcpy(more, s->at, (size_t)s->n * sizeof *more);
        mem_free(s->at);
        s->at = more, s->cap = cap;
    }
    s->at[s->n++] = *p;
    return 0;
}

typedef struct result { const float *predicted, *target, *error; } result;

static int deliver(predict_job *j, sink *s, const item *it, int item_at, int number, const uint8_t *clip, double start, double end, const result *r, float *map,
                   float *count, double *sum, jepa_err *err) {
    const pred_masks *k = j->plan->masks;
    const clip_plan *c = j->plan->clip;
    const int64_t set = k->sets == 1 ? 0 : j->rows;
    int rc;
    if (s->h5) {
        const int64_t clip_number = number;
        if ((rc = h5_sets_add(s->h5, s->predicted, r->predicted, 1, err)) < 0 || (r->target && (rc = h5_sets_add(s->h5, s->target, r->target, 1, err)) < 0) ||
            (r->error && (rc = h5_sets_add(s->h5, s->error, r->error, 1, err)) < 0) ||
            (rc = put_list(s->h5, s->context, k->context + set * k->n_context, k->n_context, err)) < 0 ||
            (rc = put_list(s->h5, s->index, k->target + set * k->n_target, k->n_target, err)) < 0 || (rc = h5_sets_add(s->h5, s->path, &it->path, 1, err)) < 0 ||
            (rc = h5_sets_add(s->h5, s->clip, &clip_number, 1, err)) < 0 || (rc = h5_sets_add(s->h5, s->start, &start, 1, err)) < 0 ||
            (rc = h5_sets_add(s->h5, s->end, &end, 1, err)) < 0)
            return rc;
    }
    j->rows++;
    if (!r->error) return 0;
    double mean = 0, first = c->grid[0];
    for (int64_t i = 0; i < k->n_target; i++) {
        mean += r->error[i] / (double)k->n_target;
        first = fmin(first, k->target[set * k->n_target + i] / (c->grid[1] * c->grid[2]));
    }
    *sum += mean;
    const double frame = first * j->m->ec.tubelet_size; /* the first one that is predicted */
    const point p = {start, c->frames > 1 ? start + (end - start) * frame / (c->frames - 1) : start, end, mean, item_at, number};
    if (s->csv) {
        csv_text(s->csv, it->path);
        if (fprintf(s->csv, ",%d,%.6f,%.6f,%.6f,%.9g\n", number, p.start, p.seen, p.end, p.error) < 0)
            return err_set_at(err, JEPA_E_IO, j->csv, -1, "%s: cannot be written: %s", j->csv, strerror(errno));
    }
    if (j->curve && (rc = remember(s, &p, err)) < 0) return rc;
    if (!j->png && !j->video) return 0;
    spread(k, k->sets == 1 ? 0 : j->rows - 1, r->error, map, count);
    if (!s->scaled) robust_range(map, (int64_t)k->grid.frames * k->grid.rows * k->grid.cols, &s->low, &s->high), s->scaled = 1;
    if (j->png && j->rows == 1 && (rc = picture(j, clip, map, s->low, s->high, err)) < 0) return rc;
    return j->video ? film(j, s, clip, map, err) : 0;
}

/* One curve an input: error over the time at which its predicted part begins. */
static int curves(const predict_job *j, const sink *s, jepa_err *err) {
    int n = 0, rc;
    for (int64_t i = 0; i < s->n; i++) n += !i || s->at[i].item != s->at[i - 1].item;
    curve *c = mem_alloc((size_t)n, sizeof *c);
    double *x = mem_alloc((size_t)s->n, 2 * sizeof *x), *y = x ? x + s->n : NULL;
    if (!c || !x) rc = err_set(err, JEPA_E_MEMORY, "no memory for the curve");
    else {
        int k = -1;
        for (int64_t i = 0; i < s->n; i++) {
            if (!i || s->at[i].item != s->at[i - 1].item) {
                const char *path = j->inputs->at[s->at[i].item].path, *slash = strrchr(path, '/');
                c[++k] = (curve){.name = slash ? slash + 1 : path, .x = x + i, .y = y + i};
            }
            x[i] = s->at[i].seen, y[i] = s->at[i].error, c[k].n++;
        }
        rc = draw_curves(j->curve, c, n, "prediction error", err);
    }
    mem_free(c), mem_free(x);
    return rc;
}

typedef struct work { /* clips on their way and their results */
    uint8_t *clip;
    float *predicted, *target, *error, *map, *count;
    double *start, *end;
} work;

static int flush(predict_job *j, jepa_run *run, sink *s, work *w, const item *it, int item_at, int first, int n, double *sum, jepa_err *err) {
    const clip_plan *c = j->plan->clip;
    int has_target, rc;
    const int64_t dim = predict_dim(j->m, &has_target), nt = j->plan->masks->n_target;
    const size_t bytes = (size_t)c->frames * (size_t)c->clip.crop * (size_t)c->clip.crop * 3;
    if (!n) return 0;
    if ((rc = run_predict(run, j->plan, j->rows, w->clip, T_U8, n, c->frames, c->clip.crop, c->clip.crop, w->predicted, w->target, w->error, err)) < 0) return rc;
    for (int i = 0; i < n && !rc; i++) {
        const result r = {w->predicted + i * nt * dim, w->target ? w->target + i * nt * dim : NULL, w->error ? w->error + i * nt : NULL};
        rc = deliver(j, s, it, item_at, first + i, w->clip + (size_t)i * bytes, w->start[i], w->end[i], &r, w->map, w->count, sum, err);
    }
    return rc;
}

/* Clips of one input. JEPA_E_INPUT: the input cannot be used; anything else ends the job. */
static int one_item(predict_job *j, jepa_run *run, sink *s, work *w, int at, int64_t *clips, double *sum, jepa_err *err) {
    const clip_plan *c = j->plan->clip;
    const item *it = &j->inputs->at[at];
    const vid_opts vo = {.as_stored = c->as_stored};
    const size_t bytes = (size_t)c->frames * (size_t)c->clip.crop * (size_t)c->clip.crop * 3;
    vid *v = NULL;
    clip_list l = {0};
    int n = 0, first = 0, rc = vid_open_item(&v, it, &vo, err), input = 0;
    if (rc == 0) rc = clips_of(v, c, &l, err);
    if (rc < 0) input = 1;
    for (int i = 0; i < l.n && rc == 0; i++) {
        if ((rc = clip_load(v, c, &l, i, w->clip + (size_t)n * bytes, &w->start[n], &w->end[n], err)) < 0) {
            if (rc == JEPA_E_END && i) rc = 0, l.n = i; /* the file ended before its last clip */
            else input = 1;
            break;
        }
        n++, ++*clips;
        if (n == j->batch) {
            rc = flush(j, run, s, w, it, at, first, n, sum, err);
            first += n, n = 0;
        }
        if (rc == 0 && j->stop && j->stop(j->ctx)) rc = err_set(err, JEPA_E_CANCELLED, "stopped; nothing was written");
    }
    if (rc == 0) rc = flush(j, run, s, w, it, at, first, n, sum, err);
    mem_free(l.index);
    vid_close(&v);
    return input && rc != JEPA_E_MEMORY ? JEPA_E_INPUT : rc;
}

static int finish(predict_job *j, sink *s, jepa_err *err) {
    int rc = 0;
    if (s->h5) rc = h5_sets_finish(&s->h5, err);
    if (!rc && s->video) rc = vid_writer_finish(&s->video, err);
    if (!rc && s->csv) {
        int bad = fflush(s->csv) || ferror(s->csv);
        bad |= fclose(s->csv) != 0;
        s->csv = NULL;
        if (bad || rename(s->csv_aside, j->csv)) rc = err_set_at(err, JEPA_E_IO, j->csv, -1, "%s: cannot be written: %s", j->csv, strerror(errno));
    }
    if (!rc && j->curve && s->n) rc = curves(j, s, err);
    return rc;
}

int predict_run(predict_job *j, jepa_err *err) {
    const clip_plan *c = j->plan->clip;
    const pred_masks *k = j->plan->masks;
    sink s = {.high = 1};
    work w = {0};
    jepa_run *run = NULL;
    int has_target, rc;
    const int64_t dim = predict_dim(j->m, &has_target), tokens = (int64_t)k->grid.frames * k->grid.rows * k->grid.cols;
    if ((rc = predict_plan_check(j->m, j->plan, err)) < 0 || (rc = predict_fit(j, err)) < 0) return rc;
    const size_t n = (size_t)(j->batch = j->batch < 1 ? 1 : j->batch), row = (size_t)k->n_target * (size_t)dim;
    int64_t clips = 0;
    double sum = 0;
    j->rows = j->failures = 0, j->mean_error = NAN;
    if (!has_target && (j->png || j->video || j->csv || j->curve))
        return err_set(err, JEPA_E_USE, "this predictor writes its teacher's %lld channels, which the file cannot compute: there is no error to show; -o alone works", (long long)dim);
    if (!(w.clip = mem_alloc(n * (size_t)c->frames, (size_t)c->clip.crop * (size_t)c->clip.crop * 3)) || !(w.predicted = mem_alloc(n * row, sizeof(float))) ||
        (has_target && (!(w.target = mem_alloc(n * row, sizeof(float))) || !(w.error = mem_alloc(n * (size_t)k->n_target, sizeof(float))))) ||
        !(w.map = mem_alloc((size_t)tokens, sizeof(float))) || !(w.count = mem_alloc((size_t)tokens, sizeof(float))) ||
        !(w.start = mem_alloc(n, sizeof(double))) || !(w.end = mem_alloc(n, sizeof(double)))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for %zu clips and their predictions: a smaller --batch needs less", n);
        goto done;
    }
    if (j->out && (rc = open_h5(j, &s, dim, has_target, err)) < 0) goto done;
    if (j->csv) {
        snprintf(s.csv_aside, sizeof s.csv_aside, "%s.tmp", j->csv);
        if (!(s.csv = fopen(s.csv_aside, "we")) || fputs("path,clip,start_seconds,predicted_from_seconds,end_seconds,error\n", s.csv) < 0) {
            rc = err_set_at(err, JEPA_E_IO, j->csv, -1, "%s: cannot be written: %s", j->csv, strerror(errno));
            goto done;
        }
    }
    if ((rc = jepa_session(j->m, &run, err)) < 0) goto done;
    for (int i = 0; i < j->inputs->n; i++) {
        jepa_err e = {0};
        rc = one_item(j, run, &s, &w, i, &clips, &sum, &e);
        if (rc == JEPA_E_INPUT) {
            const char *path = j->inputs->at[i].path, *text = e.text;
            size_t front = strlen(path);
            if (!strncmp(text, path, front) && text[front] == ':' && text[front + 1] == ' ') text += front + 2;
            j->failures++;
            if (j->failed) j->failed(j->ctx, path, j->inputs->at[i].line, text[0] ? text : "cannot be read");
            rc = 0;
        }
        if (rc < 0) {
            if (err) *err = e;
            goto done;
        }
        if (j->progress) j->progress(j->ctx, i + 1, j->inputs->n, clips);
        if (i + 1 < j->inputs->n && j->stop && j->stop(j->ctx)) {
            rc = err_set(err, JEPA_E_CANCELLED, "stopped after %d of %d inputs; nothing was written", i + 1, j->inputs->n);
            goto done;
        }
    }
    if (!j->rows) {
        rc = err_set(err, JEPA_E_IO, "none of %d inputs could be used; nothing was written", j->inputs->n);
        goto done;
    }
    if (has_target) j->mean_error = sum / (double)j->rows;
    rc = finish(j, &s, err);
done:
    h5_sets_abort(&s.h5);
    vid_writer_abort(&s.video);
    if (s.csv) fclose(s.csv), s.csv = NULL, unlink(s.csv_aside);
    canvas_close(&s.page);
    jepa_session_close(&run);
    mem_free(s.at);
    mem_free(w.clip), mem_free(w.predicted), mem_free(w.target), mem_free(w.error), mem_free(w.map), mem_free(w.count), mem_free(w.start), mem_free(w.end);
    return rc;
}
