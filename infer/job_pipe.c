/* job_pipe.c: decoding threads keep clips ready, in the order of the inputs.
 *
 * Item i belongs to decoder i mod threads, which works through its items in order and waits when its few slots are full; the consumer asks
 * the decoders in turn. So nothing can block in a circle, memory is bounded, and the order never depends on who was faster. */
#include "infer/job.h"

#include <stdio.h>
#include <string.h>

enum { SLOTS = 3, MAX_DECODERS = 64 };

typedef struct decoder {
    clip_pipe *pipe;
    int id;
    pthread_t thread;
    int started;
    slot ring[SLOTS];
    int head, count;
    pthread_cond_t filled, freed;
} decoder;

struct clip_pipe {
    const embed_job *j;
    const int *item; /* indices into inputs of this shard's items not done yet */
    int64_t n;
    decoder d[MAX_DECODERS];
    int n_decoders, quit;
    pthread_mutex_t lock;
};

/* A slot to fill; NULL when the job is ending. */
static slot *claim(decoder *d) {
    clip_pipe *p = d->pipe;
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
    int still = 0;
    if ((rc = vid_open_item(&v, it, &o, &e)) < 0 || (rc = clips_of(v, p, &l, &e)) < 0 ||
        (rc = still = image_rows(d->pipe->j->m, p, vid_get_info(v), &e)) < 0)
        goto done;
    rc = 0;
    for (int k = 0; k < l.n; k++) {
        slot *s = claim(d);
        if (!s) {
            quit = 1;
            break;
        }
        if ((rc = clip_load(v, p, &l, k, s->clip, &s->start, &s->end, &e)) < 0) break;
        s->kind = S_CLIP;
        s->number = k;
        s->still = still;
        hand_on(d);
        sent++;
    }
    if (rc == JEPA_E_END && sent) rc = 0; /* the file ended before its last clip; what was there is in */
done:;
    char note[700] = "";
    const vid_info *i = v ? vid_get_info(v) : NULL;
    if (i && rc == 0 && i->promised > i->frames)
        snprintf(note, sizeof note, "cut short: %lld of %lld frames can be decoded", (long long)i->frames, (long long)i->promised);
    else if (l.slow)
        snprintf(note, sizeof note, "slower than the asked %g frames per second (%.3g): every frame is used", p->fps, i ? i->fps : 0);
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

void clip_pipe_close(clip_pipe **pp) {
    clip_pipe *p = *pp;
    if (!p) return;
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
    mem_free(p);
    *pp = NULL;
}

int clip_pipe_open(clip_pipe **out, const embed_job *j, const int *todo, int64_t n, jepa_err *err) {
    clip_pipe *p = *out = mem_alloc(1, sizeof *p);
    if (!p) return err_set(err, JEPA_E_MEMORY, "no memory for decoders");
    p->j = j, p->item = todo, p->n = n;
    pthread_mutex_init(&p->lock, NULL);
    int want = j->threads < 1 ? 1 : j->threads > MAX_DECODERS ? MAX_DECODERS : j->threads, rc = 0;
    if (want > n) want = n > 0 ? (int)n : 1;
    size_t bytes = (size_t)j->plan->frames * (size_t)j->plan->clip.crop * (size_t)j->plan->clip.crop * 3;
    for (int i = 0; i < want && !rc; i++) {
        decoder *d = &p->d[i];
        d->pipe = p, d->id = i;
        pthread_cond_init(&d->filled, NULL);
        pthread_cond_init(&d->freed, NULL);
        p->n_decoders++;
        for (int k = 0; k < SLOTS && !rc; k++)
            if (!(d->ring[k].clip = mem_alloc(bytes, 1)))
                rc = err_set(err, JEPA_E_MEMORY, "no memory for %d clips of %zu bytes", want * SLOTS, bytes);
    }
    for (int i = 0; i < want && !rc; i++)
        if (!(p->d[i].started = !pthread_create(&p->d[i].thread, NULL, decode, &p->d[i])))
            rc = err_set(err, JEPA_E_MEMORY, "a decoding thread could not be started");
    if (rc < 0) clip_pipe_close(out);
    return rc;
}

slot *clip_pipe_next(clip_pipe *p, int64_t at) {
    decoder *d = &p->d[at % p->n_decoders];
    pthread_mutex_lock(&p->lock);
    while (!d->count) pthread_cond_wait(&d->filled, &p->lock);
    slot *s = &d->ring[d->head];
    pthread_mutex_unlock(&p->lock);
    return s;
}

void clip_pipe_done(clip_pipe *p, int64_t at) {
    decoder *d = &p->d[at % p->n_decoders];
    pthread_mutex_lock(&p->lock);
    d->head = (d->head + 1) % SLOTS;
    d->count--;
    pthread_cond_signal(&d->freed);
    pthread_mutex_unlock(&p->lock);
}
