/* job.c: an embedding job: decoding threads keep clips ready while the model computes; rows come out in the order of the inputs.
 *
 * Item i belongs to decoder i mod threads, which works through its items in order and waits when its few slots are full; the consumer asks
 * the decoders in turn. So nothing can block in a circle, memory is bounded, and the order never depends on who was faster. */
#include "infer/infer.h"
#include "base/json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SLOTS = 3, MAX_DECODERS = 64 };
typedef enum { S_FREE, S_CLIP, S_TENSOR, S_FAILED, S_END } slot_kind;

typedef struct slot { /* one clip on its way */
    slot_kind kind;
    uint8_t *clip;
    double start, end;
    int number;
    char reason[600];
} slot;

typedef struct decoder {
    struct pipe *pipe;
    int id;
    pthread_t thread;
    int started;
    slot ring[SLOTS];
    int head, count;
    pthread_cond_t filled, freed;
} decoder;

typedef struct pipe {
    const embed_job *j;
    const int *item;              /* indices into inputs of this shard's items not done yet */
    int64_t n;
    decoder d[MAX_DECODERS];
    int n_decoders, quit;
    pthread_mutex_t lock;
} pipe_;

/* A slot to fill; NULL when the job is ending. */
static slot *claim(decoder *d) {
    pipe_ *p = d->pipe;
    pthread_mutex_lock(&p->lock);
    while (d->count == SLOTS && !p->quit) pthread_cond_wait(&d->freed, &p->lock);
    slot *s = p->quit ? NULL : &d->ring[(d->head + d->count) % SLOTS];
    pthread_mutex_unlock(&p->lock);
    return s;
}
static void hand_on(decoder *d) {
    pthread_mutex_lock(&d->pipe->lock);
    d->count++;
    pthread_cond_signal(&d->filled);
    pthread_mutex_unlock(&d->pipe->lock);
}

/* "clip.mp4: no video stream" → "no video stream": the row names the path already */
static const char *without_path(const char *text, const char *path) {
    size_t n = strlen(path);
    return !strncmp(text, path, n) && text[n] == ':' && text[n + 1] == ' ' ? text + n + 2 : text;
}

static int end_item(decoder *d, slot_kind kind, const char *reason) {
    slot *s = claim(d);
    if (!s) return -1;
    s->kind = kind;
    snprintf(s->reason, sizeof s->reason, "%s", reason);
    hand_on(d);
    return 0;
}

static int decode_item(decoder *d, const item *it) {
    const clip_plan *p = d->pipe->j->plan;
    jepa_err e = {0};
    vid *v = NULL;
    clip_list l = {0};
    const vid_opts o = {.as_stored = p->as_stored};
    int rc, quit = 0, sent = 0;
    if ((rc = vid_open(&v, it->path, &o, &e)) < 0 || (rc = clips_of(v, p, &l, &e)) < 0) goto done;
    for (int k = 0; k < l.n; k++) {
        slot *s = claim(d);
        if (!s) {
            quit = 1;
            break;
        }
        if ((rc = clip_load(v, p, &l, k, s->clip, &s->start, &s->end, &e)) < 0) break;
        s->kind = S_CLIP;
        s->number = k;
        hand_on(d);
        sent++;
    }
    if (rc == JEPA_E_END && sent) rc = 0; /* the file ended before its last clip; what was there is in */
done:;
    char note[700] = "";
    const vid_info *i = v ? vid_get_info(v) : NULL;
    if (i && rc == 0 && i->promised > i->frames)
        snprintf(note, sizeof note, "cut short: %lld of %lld frames can be decoded", (long long)i->frames, (long long)i->promised);
    else if (l.slow) snprintf(note, sizeof note, "slower than the asked %g frames per second (%.3g): every frame is used", p->fps, i ? i->fps : 0);
    mem_free(l.index);
    vid_close(&v);
    if (quit) return -1;
    return rc < 0 ? end_item(d, S_FAILED, without_path(e.text[0] ? e.text : "cannot be read", it->path)) : end_item(d, S_END, note);
}

static void *decode(void *arg) {
    decoder *d = arg;
    for (int64_t i = d->id; i < d->pipe->n; i += d->pipe->n_decoders)
        if (decode_item(d, &d->pipe->j->inputs->at[d->pipe->item[i]])) break;
    return NULL;
}

static void pipe_close(pipe_ *p) {
    pthread_mutex_lock(&p->lock);
    p->quit = 1;
    for (int i = 0; i < p->n_decoders; i++) pthread_cond_broadcast(&p->d[i].freed);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_decoders; i++) {
        decoder *d = &p->d[i];
        if (d->started) pthread_join(d->thread, NULL);
        for (int k = 0; k < SLOTS; k++) mem_free(d->ring[k].clip);
        pthread_cond_destroy(&d->filled);
        pthread_cond_destroy(&d->freed);
    }
    pthread_mutex_destroy(&p->lock);
}

static int pipe_open(pipe_ *p, const embed_job *j, const int *index, int64_t n, jepa_err *err) {
    memset(p, 0, sizeof *p);
    p->j = j, p->item = index, p->n = n;
    pthread_mutex_init(&p->lock, NULL);
    int want = j->threads < 1 ? 1 : j->threads > MAX_DECODERS ? MAX_DECODERS : j->threads;
    if (want > n) want = n > 0 ? (int)n : 1;
    size_t bytes = (size_t)j->plan->frames * (size_t)j->plan->clip.crop * (size_t)j->plan->clip.crop * 3;
    for (int i = 0; i < want; i++) {
        decoder *d = &p->d[i];
        d->pipe = p, d->id = i;
        pthread_cond_init(&d->filled, NULL);
        pthread_cond_init(&d->freed, NULL);
        p->n_decoders++;
        for (int k = 0; k < SLOTS; k++)
            if (!(d->ring[k].clip = mem_alloc(bytes, 1))) {
                pipe_close(p);
                return err_set(err, JEPA_E_MEMORY, "no memory for %d clips of %zu bytes", want * SLOTS, bytes);
            }
    }
    for (int i = 0; i < want; i++)
        if (!(p->d[i].started = !pthread_create(&p->d[i].thread, NULL, decode, &p->d[i]))) {
            pipe_close(p);
            return err_set(err, JEPA_E_MEMORY, "a decoding thread could not be started");
        }
    return 0;
}

/* ---- the consumer ---- */

typedef struct batch { /* clips gathered for one call, with where each belongs */
    uint8_t *x;
    float *rows;
    part_row *row;
    int n, most;
} batch;

static int flush(embed_job *j, jepa_run *run, part *pt, batch *b, jepa_err *err) {
    const clip_plan *p = j->plan;
    int rc;
    if (!b->n) return 0;
    if ((rc = run_encode(run, p, b->x, T_U8, b->n, p->frames, p->clip.crop, p->clip.crop, b->rows, err)) < 0) return rc;
    for (int i = 0; i < b->n; i++) {
        b->row[i].data = b->rows + (size_t)i * (size_t)(p->per_row * p->dim);
        if ((rc = part_add(pt, &b->row[i], err)) < 0) return rc;
    }
    b->n = 0;
    return 0;
}

static int one_item(embed_job *j, jepa_run *run, part *pt, pipe_ *pipe, batch *b, int64_t at, int64_t *clips, jepa_err *err) {
    const clip_plan *p = j->plan;
    decoder *d = &pipe->d[at % pipe->n_decoders];
    const item *it = &j->inputs->at[pipe->item[at]];
    size_t bytes = (size_t)p->frames * (size_t)p->clip.crop * (size_t)p->clip.crop * 3;
    for (int k = 0;; k++) {
        if (k && j->stop && j->stop(j->ctx)) /* a long video: its rows are done again, those of the items before it are kept */
            return err_set(err, JEPA_E_CANCELLED, "stopped in %s; the same command goes on after the item before it", it->path);
        pthread_mutex_lock(&pipe->lock);
        while (!d->count) pthread_cond_wait(&d->filled, &pipe->lock);
        slot *s = &d->ring[d->head];
        pthread_mutex_unlock(&pipe->lock);
        part_row r = {.item = pipe->item[at], .clip = s->number, .line = it->line, .start = s->start, .end = s->end, .label = it->label, .path = it->path};
        slot_kind kind = s->kind;
        char reason[sizeof s->reason];
        if (kind == S_CLIP) memcpy(b->x + (size_t)b->n * bytes, s->clip, bytes);
        else snprintf(reason, sizeof reason, "%s", s->reason);
        pthread_mutex_lock(&pipe->lock);
        d->head = (d->head + 1) % SLOTS;
        d->count--;
        pthread_cond_signal(&d->freed);
        pthread_mutex_unlock(&pipe->lock);
        int rc;
        if (kind == S_CLIP) {
            b->row[b->n++] = r;
            ++*clips;
            if (b->n == b->most && (rc = flush(j, run, pt, b, err)) < 0) return rc;
            continue;
        }
        /* rows of a batch may belong to several items; an item ends in the file only after its rows */
        if ((rc = flush(j, run, pt, b, err)) < 0) return rc;
        if (kind == S_FAILED) {
            r.reason = reason;
            if ((rc = part_add(pt, &r, err)) < 0) return rc;
            if (j->failed) j->failed(j->ctx, it->path, it->line, reason);
        } else if (reason[0] && j->line) {
            char text[1400];
            snprintf(text, sizeof text, "%s: %s", it->path, reason);
            j->line(j->ctx, text);
        }
        return part_item_done(pt, pipe->item[at], err);
    }
}

static char *settings_text(const embed_job *j, const char *sha, uint64_t inputs) {
    static const char *const pools[] = {"mean", "none", "time", "space"};
    const clip_plan *p = j->plan;
    char text[256] = "";
    json_writer w = {0};
    jw_open(&w, NULL, '{');
    jw_string(&w, "model_sha256", sha);
    jw_string(&w, "precision", "f32");
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
    jepa_run *run = NULL;
    pipe_ *pipe = NULL;
    batch b = {.most = j->batch < 1 ? 1 : j->batch};
    int *todo = NULL, rc;
    int64_t n = 0, clips = 0, bytes = p->per_row * p->dim;
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
    if ((rc = emb_check(j->out, settings, err)) != 0) {
        j->complete_already = rc == 1;
        rc = rc == 1 ? 0 : rc;
        goto done;
    }
    if (snprintf(part_path, sizeof part_path, "%s.part", j->out) >= (int)sizeof part_path) {
        rc = err_set(err, JEPA_E_USE, "output name too long");
        goto done;
    }
    if ((rc = part_open(&pt, part_path, settings, bytes, err)) < 0) goto done;
    int64_t skip = part_items(pt), total = 0;
    for (int i = 0; i < j->inputs->n; i++)
        if (i % j->shards == j->shard && total++ >= skip) todo[n++] = i;
    j->resumed = skip;
    if (skip && j->line) {
        char text[200];
        snprintf(text, sizeof text, "going on after %lld of %lld items (%s)", (long long)skip, (long long)total, part_path);
        j->line(j->ctx, text);
    }
    if (n > 0) {
        size_t clip = (size_t)p->frames * (size_t)p->clip.crop * (size_t)p->clip.crop * 3;
        if (!(b.x = mem_alloc((size_t)b.most, clip)) || !(b.rows = mem_alloc((size_t)b.most * (size_t)bytes, sizeof(float))) ||
            !(b.row = mem_alloc((size_t)b.most, sizeof *b.row)) || !(pipe = mem_alloc(1, sizeof *pipe))) {
            rc = err_set(err, JEPA_E_MEMORY, "no memory for a batch of %d clips", b.most);
            goto done;
        }
        if ((rc = jepa_session(j->m, &run, err)) < 0) goto done;
        if ((rc = pipe_open(pipe, j, todo, n, err)) < 0) {
            mem_free(pipe);
            pipe = NULL;
            goto done;
        }
        for (int64_t i = 0; i < n; i++) {
            if ((rc = one_item(j, run, pt, pipe, &b, i, &clips, err)) < 0) goto done;
            if (j->progress) j->progress(j->ctx, skip + i + 1, total, clips);
            if (i + 1 < n && j->stop && j->stop(j->ctx)) {
                rc = err_set(err, JEPA_E_CANCELLED, "stopped after %lld of %lld items; the same command goes on from there", (long long)(skip + i + 1), (long long)total);
                goto done;
            }
        }
    }
    j->rows = part_rows(pt), j->failures = part_failures(pt);
    if (!j->rows) {
        rc = err_set(err, JEPA_E_IO, "none of %lld inputs could be embedded; nothing was written", (long long)total);
        part_remove(&pt);
        goto done;
    }
    static const char *const pools[] = {"mean", "none", "time", "space"};
    const emb_meta m = {.model = ck_path(j->m->c), .sha256 = sha, .precision = "f32", .pool = pools[p->pool], .version = JEPA_VERSION, .settings = settings,
                        .transform = j->m->transform, .device = j->m->device, .frames = p->frames, .grid = {p->grid[0], p->grid[1], p->grid[2]},
                        .per_row = p->per_row, .dim = p->dim, .store = j->store, .layered = p->pool != JEPA_POOL_MEAN};
    if ((rc = emb_write(j->out, &m, pt, err)) == 0) part_remove(&pt);
done:
    if (pipe) pipe_close(pipe);
    jepa_session_close(&run);
    part_close(&pt);
    mem_free(pipe), mem_free(b.x), mem_free(b.rows), mem_free(b.row), mem_free(todo), mem_free(settings);
    return rc;
}
