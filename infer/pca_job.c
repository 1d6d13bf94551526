/* pca_job.c: the pictures and videos of `jepa pca`: first every clip is encoded and the basis made, then all are drawn with that one basis. */
#include "infer/draw.h"
#include "infer/pca.h"

#include <stdio.h>
#include <string.h>

enum { GAP = 2, COLUMNS = 8 };
static const size_t most_kept = (size_t)1 << 30; /* bytes of features held between the passes; what is beyond is encoded again */

typedef struct pass {
    jepa_run *r;
    pca_job *j;
    clip_plan p;
    uint8_t *clip, *rgb;
    float *tokens, *kept;      /* of one clip; of the first kept_clips ones */
    int64_t n, kept_clips, room, at; /* tokens a clip; clips kept and what there is room for; the clip in hand */
    pca_basis basis;
    vid_writer *video;
    canvas page;
    int64_t row;               /* of the picture */
} pass;

static const float *features(pass *s, int *rc, jepa_err *err) {
    const clip_plan *p = &s->p;
    if (s->at < s->kept_clips) return s->kept + s->at * s->n * p->dim;
    *rc = run_encode(s->r, p, s->clip, T_U8, 1, p->frames, p->clip.crop, p->clip.crop, s->tokens, err);
    return s->tokens;
}

/* First pass: features, kept while there is room. */
static int gather(pass *s, jepa_err *err) {
    const clip_plan *p = &s->p;
    const size_t one = (size_t)s->n * (size_t)p->dim;
    if (s->kept_clips == s->room) {
        int64_t room = s->room ? s->room * 2 : 4;
        if ((size_t)room * one * sizeof(float) > most_kept) return 0; /* the basis is that of what there was room for */
        float *more = mem_alloc((size_t)room * one, sizeof *more);
        if (!more) return err_set(err, JEPA_E_MEMORY, "no memory for the features of %lld clips", (long long)room);
        if (s->kept_clips) memcpy(more, s->kept, (size_t)s->kept_clips * one * sizeof *more);
        mem_free(s->kept);
        s->kept = more, s->room = room;
    }
    int rc = run_encode(s->r, p, s->clip, T_U8, 1, p->frames, p->clip.crop, p->clip.crop, s->kept + (size_t)s->kept_clips * one, err);
    s->kept_clips += rc == 0;
    return rc;
}

static int64_t zoom_of(int64_t crop) { return crop >= 192 ? 1 : (192 + crop - 1) / crop; }

static void colour_map(canvas *c, int x, int y, int64_t side, const uint8_t *rgb, int64_t rows, int64_t cols) {
    for (int64_t j = 0; j < side && y + j < c->height; j++)
        for (int64_t i = 0; i < side && x + i < c->width; i++)
            memcpy(c->rgb + ((y + j) * c->width + x + i) * 3, rgb + ((j * rows / side) * cols + i * cols / side) * 3, 3);
}

static int still(pass *s, jepa_err *err) {
    const clip_plan *p = &s->p;
    const int64_t t = p->grid[0], cells = p->grid[1] * p->grid[2], columns = t < COLUMNS ? t : COLUMNS, zoom = zoom_of(p->clip.crop), side = p->clip.crop * zoom;
    int rc = 0;
    if (!s->page.rgb && (rc = canvas_open(&s->page, columns * (side + GAP) + GAP, s->j->clips * 2 * (side + GAP) + GAP, err)) < 0)
        return err_prefix(err, rc, "%s (%lld clips; fewer, or a video, would do)", s->j->out, (long long)s->j->clips);
    const int64_t y = GAP + s->row * 2 * (side + GAP);
    for (int64_t k = 0; k < columns; k++) {
        int64_t step = columns > 1 ? k * (t - 1) / (columns - 1) : 0, x = GAP + k * (side + GAP);
        const uint8_t *frame = s->clip + (size_t)(step * s->r->m->ec.tubelet_size) * (size_t)p->clip.crop * (size_t)p->clip.crop * 3;
        canvas_frame(&s->page, (int)x, (int)y, (int)zoom, frame, p->clip.crop, NULL, 0, 0, 0, 1, 0);
        colour_map(&s->page, (int)x, (int)(y + side + GAP), side, s->rgb + step * cells * 3, p->grid[1], p->grid[2]);
    }
    s->row++;
    return 0;
}

static int film(pass *s, jepa_err *err) {
    const clip_plan *p = &s->p;
    const int64_t cells = p->grid[1] * p->grid[2], zoom = zoom_of(p->clip.crop), side = p->clip.crop * zoom;
    int rc = 0;
    if (!s->page.rgb) {
        if ((rc = canvas_open(&s->page, (2 * side + 3 * GAP + 1) / 2 * 2, (side + 2 * GAP + 1) / 2 * 2, err)) < 0) return rc;
        const vid_write_cfg w = {.width = s->page.width, .height = s->page.height, .fps = p->fps > 0 ? p->fps : 10, .crf = 18};
        if ((rc = vid_writer_open(&s->video, s->j->out, &w, err)) < 0) return rc;
    }
    for (int f = 0; f < p->frames && !rc; f++) {
        int64_t step = f / s->r->m->ec.tubelet_size;
        canvas_frame(&s->page, GAP, GAP, (int)zoom, s->clip + (size_t)f * (size_t)p->clip.crop * (size_t)p->clip.crop * 3, p->clip.crop, NULL, 0, 0, 0, 1, 0);
        colour_map(&s->page, (int)(2 * GAP + side), GAP, side, s->rgb + step * cells * 3, p->grid[1], p->grid[2]);
        rc = vid_writer_add(s->video, s->page.rgb, err);
    }
    return rc;
}

static int is_video(const char *path) {
    const char *dot = strrchr(path, '.');
    return dot && (!strcmp(dot, ".mp4") || !strcmp(dot, ".mkv") || !strcmp(dot, ".mov"));
}

static int draw(pass *s, jepa_err *err) {
    int rc = 0;
    const float *x = features(s, &rc, err);
    if (rc < 0) return rc;
    pca_colours(&s->basis, x, s->n, s->rgb);
    return is_video(s->j->out) ? film(s, err) : still(s, err);
}

/* Every clip of every input through fn. Inputs that fail in the first pass are reported once. */
static int each(pass *s, int number, int (*fn)(pass *, jepa_err *), jepa_err *err) {
    pca_job *j = s->j;
    const vid_opts o = {.as_stored = s->p.as_stored};
    int64_t clips = 0;
    s->at = 0;
    for (int i = 0; i < j->inputs->n; i++) {
        jepa_err e = {0};
        vid *v = NULL;
        clip_list l = {0};
        double start, end;
        int input = 0, rc = vid_open_item(&v, &j->inputs->at[i], &o, &e);
        if (rc == 0) rc = clips_of(v, &s->p, &l, &e);
        input = rc < 0;
        for (int k = 0; k < l.n && rc == 0; k++) {
            if ((rc = clip_load(v, &s->p, &l, k, s->clip, &start, &end, &e)) < 0) {
                if (rc == JEPA_E_END && k) rc = 0;
                else input = 1;
                break;
            }
            rc = fn(s, &e);
            s->at++, clips++;
            if (rc == 0 && j->stop && j->stop(j->ctx)) rc = err_set(&e, JEPA_E_CANCELLED, "stopped; nothing was written");
        }
        mem_free(l.index);
        vid_close(&v);
        if (rc < 0 && (!input || rc == JEPA_E_MEMORY || j->inputs->n == 1)) { /* the only input: its reason is the job's */
            if (err) *err = e;
            return rc;
        }
        if (rc < 0 && number == 1) {
            j->failures++;
            if (j->failed) j->failed(j->ctx, j->inputs->at[i].path, j->inputs->at[i].line, e.text);
        }
        if (j->progress) j->progress(j->ctx, number, i + 1, j->inputs->n);
    }
    j->clips = clips;
    return clips ? 0 : err_set(err, JEPA_E_IO, "none of %d inputs could be used; nothing was written", j->inputs->n);
}
static int counted(pass *s, jepa_err *err) { return 0; }

int pca_run(jepa_run *r, pca_job *j, jepa_err *err) {
    pass s = {.r = r, .j = j, .p = *j->plan};
    clip_plan *p = &s.p;
    int rc = 0;
    p->pool = JEPA_POOL_NONE;
    plan_pool(p, &r->m->ec, p->frames, p->clip.crop, p->clip.crop);
    s.n = p->per_row;
    j->clips = j->failures = 0;
    if (!(s.clip = mem_alloc((size_t)p->frames * (size_t)p->clip.crop, (size_t)p->clip.crop * 3)) || !(s.rgb = mem_alloc((size_t)s.n, 3)) ||
        !(s.tokens = mem_alloc((size_t)s.n, (size_t)p->dim * sizeof(float)))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for a clip and its %lld tokens", (long long)s.n);
        goto done;
    }
    if (j->basis_in) {
        if ((rc = pca_basis_read(&s.basis, j->basis_in, err)) < 0) goto done;
        if (s.basis.dim != p->dim) {
            rc = err_set_at(err, JEPA_E_USE, j->basis_in, -1, "%s: was made from features of %lld channels, these have %lld", j->basis_in, (long long)s.basis.dim, (long long)p->dim);
            goto done;
        }
        if ((rc = each(&s, 1, counted, err)) < 0) goto done; /* the picture's size */
    } else if ((rc = each(&s, 1, gather, err)) < 0 ||
               (rc = pca_basis_make(&s.basis, r->q, s.kept, s.kept_clips * s.n, p->dim, j->foreground, err)) < 0)
        goto done;
    if ((rc = each(&s, 2, draw, err)) < 0) goto done;
    rc = s.video ? vid_writer_finish(&s.video, err) : image_write_png(j->out, s.page.rgb, s.page.width, s.page.height, err);
    if (rc == 0 && j->basis_out) rc = pca_basis_write(&s.basis, j->basis_out, err);
done:
    vid_writer_abort(&s.video);
    canvas_close(&s.page);
    pca_basis_free(&s.basis);
    mem_free(s.clip), mem_free(s.rgb), mem_free(s.tokens), mem_free(s.kept);
    return rc;
}
