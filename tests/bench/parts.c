/* parts.c: an embedding job and its two halves, timed apart from the program's start: parts DECODERS BATCH STRIDE MODEL LIST OUT all|decode|model
 * Prints "N clips, S s, R clips/s". See embed.sh. */
#include "infer/infer.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct decoding { const clip_plan *p; const items *in; atomic_int next, done; atomic_int bad; } decoding;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *decode(void *arg) {
    decoding *d = arg;
    uint8_t *clip = malloc((size_t)d->p->frames * (size_t)d->p->clip.crop * (size_t)d->p->clip.crop * 3);
    for (int i; clip && (i = atomic_fetch_add(&d->next, 1)) < d->in->n;) {
        vid *v = NULL;
        clip_list l = {0};
        double start, end;
        if (vid_open(&v, d->in->at[i].path, NULL, NULL) < 0 || clips_of(v, d->p, &l, NULL) < 0 || clip_load(v, d->p, &l, 0, clip, &start, &end, NULL) < 0)
            atomic_fetch_add(&d->bad, 1);
        else atomic_fetch_add(&d->done, 1);
        mem_free(l.index);
        vid_close(&v);
    }
    free(clip);
    return NULL;
}

static int64_t only_decode(const clip_plan *p, const items *in, int threads) {
    decoding d = {.p = p, .in = in};
    pthread_t t[64];
    for (int i = 0; i < threads; i++) pthread_create(&t[i], NULL, decode, &d);
    for (int i = 0; i < threads; i++) pthread_join(t[i], NULL);
    if (d.bad) fprintf(stderr, "%d items failed\n", (int)d.bad);
    return d.done;
}

static int64_t only_model(jepa_run *r, const clip_plan *p, int64_t clips, int batch, jepa_err *err) {
    const size_t one = (size_t)p->frames * (size_t)p->clip.crop * (size_t)p->clip.crop * 3;
    uint8_t *x = malloc(one * (size_t)batch);
    float *rows = malloc((size_t)(p->per_row * p->dim) * (size_t)batch * sizeof *rows);
    int64_t done = 0;
    for (size_t i = 0; x && i < one * (size_t)batch; i++) x[i] = (uint8_t)(i * 2654435761u >> 24);
    for (; x && rows && done + batch <= clips; done += batch)
        if (run_encode(r, p, x, T_U8, batch, p->frames, p->clip.crop, p->clip.crop, rows, err) < 0) break;
    free(x), free(rows);
    return done;
}

int main(int argc, char **argv) {
    if (argc != 8) return fprintf(stderr, "usage: parts DECODERS BATCH STRIDE MODEL LIST OUT all|decode|model\n"), 2;
    const int decoders = atoi(argv[1]), batch = atoi(argv[2]);
    jepa_err err = {0};
    jepa *m = NULL;
    jepa_run *run = NULL;
    clip_plan p;
    items in = {0};
    jepa_embed_options o;
    jepa_embed_options_defaults(&o);
    o.stride = atoi(argv[3]);
    int64_t clips = 0;
    double began = 0;
    if (decoders < 1 || decoders > 64 || batch < 1) return 2;
    video_quiet();
    int rc = items_add(&in, argv[5], &err);
    if (rc == 0 && (rc = jepa_open(&m, argv[4], NULL, &err)) == 0) rc = plan_make(m, &o, &p, &err);
    if (rc < 0) goto done;
    began = now();
    if (!strcmp(argv[7], "decode")) clips = only_decode(&p, &in, decoders);
    else if (!strcmp(argv[7], "model")) {
        if ((rc = jepa_session(m, &run, &err)) == 0) clips = only_model(run, &p, in.n, batch, &err);
    } else {
        embed_job j = {.m = m, .plan = &p, .inputs = &in, .out = argv[6], .store = T_F32, .batch = batch, .threads = decoders, .shards = 1, .command = "bench"};
        rc = embed_run(&j, &err);
        clips = j.rows;
    }
    double s = now() - began;
    if (rc == 0) printf("%lld clips, %.3f s, %.2f clips/s\n", (long long)clips, s, (double)clips / s);
done:
    if (rc < 0) fprintf(stderr, "%s\n", err.text);
    jepa_session_close(&run);
    jepa_close(&m);
    items_free(&in);
    return rc < 0;
}
