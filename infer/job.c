/* job.c: an embedding job: the consumer, which takes clips in the order of the inputs, hands them to the encoders, and writes their rows in
 * that same order; what is asked for again goes on after the last whole item. */
#include "infer/job.h"
#include "base/json.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { FLUSH_SECONDS = 1 };

typedef struct run_of { /* a job under way */
    embed_job *j;
    part *pt;
    emb_h5 *h5;     /* .h5: grows in step; else NULL */
    double flushed; /* when others could last see new rows */
    clip_pipe *pipe;
    encoders *e;
    const int *item;
    int64_t n, skip, total, clips; /* to do; done before; of this shard; clips so far */
    int64_t written;               /* items of n that are whole in the file */
} run_of;

static int write_row(run_of *r, const part_row *row, jepa_err *err) {
    int rc = part_add(r->pt, row, err);
    return rc < 0 || !r->h5 ? rc : emb_h5_add(r->h5, row, err);
}

static int write_one(run_of *r, work *w, jepa_err *err) {
    embed_job *j = r->j;
    const item *it = &j->inputs->at[r->item[w->at]];
    const size_t row = (size_t)(j->plan->per_row * j->plan->dim);
    int rc;
    if (w->rc < 0) {
        if (err) *err = w->err;
        return w->rc;
    }
    for (int i = 0; i < w->n; i++) {
        w->row[i].data = w->rows + (size_t)i * row;
        if ((rc = write_row(r, &w->row[i], err)) < 0) return rc;
    }
    r->clips += w->n;
    if (w->end == S_FREE) return 0;
    if (w->end == S_FAILED) {
        const part_row bad = {.item = r->item[w->at], .line = it->line, .label = it->label, .path = it->path, .reason = w->reason};
        if ((rc = write_row(r, &bad, err)) < 0) return rc;
        if (j->failed) j->failed(j->ctx, it->path, it->line, w->reason);
    } else if (w->reason[0] && j->line) {
        char text[1400];
        snprintf(text, sizeof text, "%s: %s", it->path, w->reason);
        j->line(j->ctx, text);
    }
    if ((rc = part_item_done(r->pt, r->item[w->at], err)) < 0) return rc;
    r->written++;
    if (r->h5 && clock_seconds() - r->flushed >= FLUSH_SECONDS) {
        if ((rc = emb_h5_flush(r->h5, err)) < 0) return rc;
        r->flushed = clock_seconds();
    }
    if (j->progress) j->progress(j->ctx, r->skip + r->written, r->total, r->clips);
    return 0;
}

/* Writes what is computed; room: until another one can be filled; all: until nothing is left. */
static int drain(run_of *r, int room, int all, jepa_err *err) {
    for (;;) {
        const int must = all || (room && !encoders_new(r->e));
        work *w = encoders_oldest(r->e, must);
        if (!w) return 0;
        int rc = write_one(r, w, err);
        encoders_taken(r->e);
        if (rc < 0) return rc;
    }
}

/* Clips of one item: a batch never holds those of two, so that a job that goes on computes the same batches. */
static int one_item(run_of *r, int64_t at, jepa_err *err) {
    embed_job *j = r->j;
    const clip_plan *p = j->plan;
    const item *it = &j->inputs->at[r->item[at]];
    const size_t bytes = (size_t)p->frames * (size_t)p->clip.crop * (size_t)p->clip.crop * 3;
    work *w = NULL;
    int rc;
    for (int k = 0;; k++) {
        if (k && j->stop && j->stop(j->ctx)) { /* a long video: its rows are done again, those of the items before it are kept */
            if ((rc = drain(r, 0, 1, err)) < 0) return rc;
            return err_set(err, JEPA_E_CANCELLED, "stopped in %s; the same command goes on after the item before it", it->path);
        }
        slot *s = clip_pipe_next(r->pipe, at);
        if (!w) {
            if ((rc = drain(r, 1, 0, err)) < 0) return rc;
            w = encoders_new(r->e);
            w->at = at;
        }
        if (s->kind == S_CLIP) {
            w->row[w->n] = (part_row){.item = r->item[at],
                                      .clip = s->number,
                                      .line = it->line,
                                      .start = s->start,
                                      .end = s->end,
                                      .label = it->label,
                                      .path = it->path};
            w->still[w->n] = (unsigned char)s->still;
            memcpy(w->x + (size_t)w->n++ * bytes, s->clip, bytes);
        } else {
            w->end = s->kind;
            snprintf(w->reason, sizeof w->reason, "%s", s->reason);
        }
        const int ended = w->end != S_FREE;
        clip_pipe_done(r->pipe, at);
        if (w->n < w->most && !ended) continue;
        encoders_give(r->e);
        w = NULL;
        if (ended) return 0;
    }
}

static char *settings_text(const embed_job *j, const char *sha, uint64_t inputs) {
    static const char *const pools[] = {"mean", "none", "time", "space"};
    const clip_plan *p = j->plan;
    char text[256] = "";
    json_writer w = {0};
    jw_open(&w, NULL, '{');
    jw_string(&w, "model_sha256", sha);
    jw_string(&w, "precision", dtype_name(j->m->type));
    jw_string(&w, "encoder", j->m->which_target ? "target" : "context");
    jw_int(&w, "frames", p->frames);
    jw_double(&w, "fps", p->fps);
    jw_int(&w, "stride", p->stride);
    jw_int(&w, "clips", p->clips);
    jw_double(&w, "every", p->every);
    jw_int(&w, "crop", p->clip.crop);
    jw_int(&w, "short_side", p->clip.short_side);
    jw_string(&w, "transform", j->m->transform);
    jw_string(&w, "pool", pools[p->pool]);
    for (int i = 0, k = 0; i < p->layers; i++) k += snprintf(text + k, sizeof text - (size_t)k, "%s%d", i ? "," : "", p->layer[i]);
    jw_string(&w, "layers", text);
    jw_string(&w, "positions", j->m->o.published_positions ? "published" : "grid");
    jw_string(&w, "out_type", j->store == T_F16 ? "f16" : "f32");
    jw_bool(&w, "by_time", p->by_time);
    jw_bool(&w, "as_stored", p->as_stored);
    jw_bool(&w, "reject_short", p->reject_short);
    snprintf(text, sizeof text, "%d/%d", j->shard, j->shards);
    jw_string(&w, "shard", text);
    snprintf(text, sizeof text, "%d items, %016llx", j->inputs->n, (unsigned long long)inputs);
    jw_string(&w, "inputs", text);
    jw_close(&w, '}');
    if (w.failed) jw_free(&w);
    return w.text;
}

int embed_run(embed_job *j, jepa_err *err) {
    const clip_plan *p = j->plan;
    char sha[65], part_path[1100], *settings = NULL;
    part *pt = NULL;
    run_of r = {.j = j};
    int *todo = NULL, rc;
    int64_t n = 0, floats = p->per_row * p->dim;
    uint64_t hash = 1469598103934665603u; /* FNV-1a over paths and labels: which list this is */
    j->rows = j->failures = j->resumed = 0;
    j->complete_already = 0;
    if (j->shards < 1 || j->shard < 0 || j->shard >= j->shards) return err_set(err, JEPA_E_USE, "shard %d of %d", j->shard, j->shards);
    for (int i = 0; i < j->inputs->n; i++) {
        for (const char *s = j->inputs->at[i].path;; s++) {
            hash = (hash ^ (unsigned char)*s) * 1099511628211u;
            if (!*s) break;
        }
        for (int k = 0; k < 64; k += 8) hash = (hash ^ ((uint64_t)j->inputs->at[i].label >> k & 255)) * 1099511628211u;
    }
    if ((rc = ck_sha256(j->m->c, sha, err)) < 0) return rc;
    if (!(settings = settings_text(j, sha, hash)) || !(todo = mem_alloc((size_t)j->inputs->n, sizeof *todo))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for %d inputs", j->inputs->n);
        goto done;
    }
    if (snprintf(part_path, sizeof part_path, "%s.part", j->out) >= (int)sizeof part_path) {
        rc = err_set(err, JEPA_E_USE, "output name too long");
        goto done;
    }
    if ((rc = emb_check(j->out, settings, err)) != 0) {
        j->complete_already = rc == 1;
        rc = rc == 1 ? 0 : rc;
        if (j->complete_already && access(part_path, F_OK) == 0 && part_open(&pt, part_path, settings, floats, NULL) == 0)
            part_remove(&pt); /* killed just before it went */
        goto done;
    }
    if ((rc = part_open(&pt, part_path, settings, floats, err)) < 0) goto done;
    int64_t skip = part_items(pt), total = 0;
    for (int i = 0; i < j->inputs->n; i++)
        if (i % j->shards == j->shard && total++ >= skip) todo[n++] = i;
    j->resumed = skip;
    if (skip && j->line) {
        char text[200];
        snprintf(text, sizeof text, "going on after %lld of %lld items (%s)", (long long)skip, (long long)total, part_path);
        j->line(j->ctx, text);
    }
    static const char *const pools[] = {"mean", "none", "time", "space"};
    const emb_meta m = {.model = ck_path(j->m->c),
                        .sha256 = sha,
                        .precision = dtype_name(j->m->type),
                        .pool = pools[p->pool],
                        .version = JEPA_VERSION,
                        .settings = settings,
                        .transform = j->m->transform,
                        .device = j->m->device,
                        .frames = p->frames,
                        .grid = {p->grid[0], p->grid[1], p->grid[2]},
                        .per_row = p->per_row,
                        .dim = p->dim,
                        .store = j->store,
                        .layered = p->pool != JEPA_POOL_MEAN,
                        .gzip = j->gzip};
    emb_source before = part_source(pt);
    if (emb_ending(j->out) == EMB_H5 && (rc = emb_h5_open(&r.h5, j->out, &m, &before, p->every > 0 ? 0 : total * p->clips, err)) < 0)
        goto done;
    r.pt = pt, r.item = todo, r.n = n, r.skip = skip, r.total = total, r.flushed = clock_seconds();
    if (n > 0) {
        if ((rc = embed_fit(j, err)) < 0 || (rc = encoders_open(&r.e, j, err)) < 0 || (rc = clip_pipe_open(&r.pipe, j, todo, n, err)) < 0) goto done;
        for (int64_t i = 0; i < n; i++) {
            if ((rc = one_item(&r, i, err)) < 0) goto done;
            if (i + 1 == n || !j->stop || !j->stop(j->ctx)) continue;
            if ((rc = drain(&r, 0, 1, err)) == 0)
                rc = err_set(err, JEPA_E_CANCELLED, "stopped after %lld of %lld items; the same command goes on from there",
                             (long long)(skip + r.written), (long long)total);
            goto done;
        }
        if ((rc = drain(&r, 0, 1, err)) < 0) goto done;
    }
    j->rows = part_rows(pt), j->failures = part_failures(pt);
    if (!j->rows && j->shards == 1) { /* a shard's failures are for the merge to list */
        rc = err_set(err, JEPA_E_IO, "none of %lld inputs could be embedded; nothing was written", (long long)total);
        if (r.h5) emb_h5_close(&r.h5), unlink(j->out);
        part_remove(&pt);
        goto done;
    }
    const emb_source all = part_source(pt);
    rc = r.h5 ? emb_h5_finish(&r.h5, err) : emb_write(j->out, &m, &all, err);
    if (rc == 0) part_remove(&pt);
done:
    clip_pipe_close(&r.pipe);
    encoders_close(&r.e);
    emb_h5_close(&r.h5); /* as far as it came, with complete 0 */
    part_close(&pt);
    mem_free(todo), mem_free(settings);
    return rc;
}
