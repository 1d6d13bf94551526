/* cmd_probe.c: jepa probe linear: how much a linear classifier reads out of frozen, mean-pooled features, beside the same on the untrained
 * network and on raw pixels. */
#include "cli/model_args.h"
#include "base/json.h"
#include "train/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "  jepa probe linear -m run/latest --train digits/direction.txt --test held-out/direction.txt\n\n"
    "Fits ridge regression on the mean-pooled features of the labelled clips of --train and prints its accuracy on those of --test: for the\n"
    "model, for the same network before training, and for raw pixels (4x down-sampled, all frames joined).\n";

typedef struct set { const items *list; float *x, *pixels; int64_t *y, n, d, n_pixels; } set;

static void set_free(set *s) {
    mem_free(s->x), mem_free(s->pixels), mem_free(s->y);
    memset(s, 0, sizeof *s);
}

/* Grey, averaged over 4x4 pixels, all frames joined. */
static void shrink(const uint8_t *clip, int frames, int crop, float *out) {
    int k = crop / 4;
    for (int f = 0; f < frames; f++)
        for (int y = 0; y < k; y++)
            for (int x = 0; x < k; x++) {
                float sum = 0;
                for (int b = 0; b < 4; b++)
                    for (int a = 0; a < 4; a++) {
                        const uint8_t *p = clip + (((size_t)f * (size_t)crop + (size_t)(4 * y + b)) * (size_t)crop + (size_t)(4 * x + a)) * 3;
                        sum += (float)(p[0] + p[1] + p[2]);
                    }
                out[(f * k + y) * k + x] = sum / 48;
            }
}

typedef struct clip_cache { uint8_t *clip; int64_t n; } clip_cache; /* prepared clips, so that a second model does not decode again */

enum { TOGETHER = 32 };
typedef struct decoding { const clip_plan *p; const item *from; uint8_t *clip; size_t bytes; int rc[TOGETHER]; jepa_err err[TOGETHER]; } decoding;

static void decode_one(void *ctx, int64_t i) {
    decoding *d = ctx;
    vid *v = NULL;
    clip_list l = {0};
    double start, end;
    int rc = vid_open_item(&v, &d->from[i], NULL, &d->err[i]);
    if (rc == 0 && (rc = clips_of(v, d->p, &l, &d->err[i])) == 0) rc = clip_load(v, d->p, &l, 0, d->clip + (size_t)i * d->bytes, &start, &end, &d->err[i]);
    mem_free(l.index);
    vid_close(&v);
    d->rc[i] = rc;
}

/* Features of every clip of the list (and, the first time, its pixels and label). */
static int fill(cli *c, jepa_run *run, const clip_plan *p, set *s, clip_cache *cache, jepa_err *err) {
    size_t bytes = (size_t)p->frames * (size_t)p->clip.crop * (size_t)p->clip.crop * 3;
    int k = p->clip.crop / 4, rc = 0;
    s->n = s->list->n, s->d = p->dim, s->n_pixels = (int64_t)p->frames * k * k;
    mem_free(s->x);
    if (!(s->x = mem_alloc((size_t)s->n, (size_t)s->d * sizeof *s->x)) || (!s->y && !(s->y = mem_alloc((size_t)s->n, sizeof *s->y))) ||
        (!s->pixels && s->n_pixels <= 8192 && !(s->pixels = mem_alloc((size_t)s->n, (size_t)s->n_pixels * sizeof *s->pixels))) ||
        (!cache->clip && !(cache->clip = mem_alloc((size_t)s->n, bytes))))
        return err_set(err, JEPA_E_MEMORY, "no memory for %lld clips", (long long)s->n);
    for (int64_t i = 0; i < s->n; i += TOGETHER) {
        int64_t n = s->n - i < TOGETHER ? s->n - i : TOGETHER;
        uint8_t *clip = cache->clip + (size_t)i * bytes;
        if (i >= cache->n) {
            decoding d = {.p = p, .from = &s->list->at[i], .clip = clip, .bytes = bytes};
            pool_once(c->threads ? c->threads : pool_cores(), n, decode_one, &d);
            for (int64_t j = 0; j < n; j++) {
                const item *it = &s->list->at[i + j];
                if (it->label < 0) return err_set(err, JEPA_E_MODEL, "%s (line %d): no label; a probe needs one for each clip", it->path, it->line);
                if (d.rc[j] < 0) {
                    if (err) *err = d.err[j];
                    return d.rc[j];
                }
                s->y[i + j] = it->label;
                if (s->pixels) shrink(clip + (size_t)j * bytes, p->frames, p->clip.crop, s->pixels + (i + j) * s->n_pixels);
            }
            cache->n = i + n;
        }
        if ((rc = run_encode(run, p, clip, T_U8, n, p->frames, p->clip.crop, p->clip.crop, s->x + i * s->d, err)) < 0) return rc;
        char text[80];
        snprintf(text, sizeof text, "%lld/%lld clips", (long long)(i + n), (long long)s->n);
        cli_progress(c, text);
        if (cli_stopped(NULL)) return err_set(err, JEPA_E_CANCELLED, "stopped");
    }
    return 0;
}

static int classes_of(const set *s) {
    int64_t k = 0;
    for (int64_t i = 0; i < s->n; i++)
        if (s->y[i] + 1 > k) k = s->y[i] + 1;
    return k > 100000 ? 100000 : (int)k;
}

static int score(const set *tr, const set *te, const float *a, const float *b, int64_t d, int classes, double *acc, jepa_err *err) {
    double lambda;
    return ridge_probe(a, tr->y, tr->n, b, te->y, te->n, d, classes, acc, &lambda, err);
}

int cmd_probe(cli *c, int argc, char **argv) {
    jepa_err err = {0};
    model_args a;
    text_list rest = {0}, trains = {0}, tests = {0};
    int64_t seed = 0;
    double sd = 0;
    int no_baselines = 0;
    model_args_defaults(&a);
    opt table[N_SAMPLING + N_MODEL + 5] = {
        {"--train", "LIST", "labelled clips to fit on; may be repeated: one probe for each pair", O_LIST, &trains, 0, 0, NULL},
        {"--test", "LIST", "labelled clips to test on, as often as --train", O_LIST, &tests, 0, 0, NULL},
        {"--no-baselines", NULL, "the model only: not the untrained network, not pixels", O_FLAG, &no_baselines, 0, 0, NULL},
        {"--seed", "S", "of the untrained network; default: the run's", O_LONG, &seed, 0, 9e15, NULL},
        {"--init-sd", "X", "of the untrained network; default: the run's, else 0.02", O_DOUBLE, &sd, 1e-6, 10, NULL},
    };
    sampling_options(table + 5, &a);
    model_options(table + 5 + N_SAMPLING, &a);
    jepa *m[2] = {NULL, NULL};
    jepa_run *run = NULL;
    clip_plan p;
    items list[2] = {{0}, {0}};
    set s[2] = {{0}, {0}};
    clip_cache cache[2] = {{0}, {0}};
    int rc = options_read(c, table, sizeof table / sizeof *table, argc, argv, usage, &rest, &err);
    if (rc) {
        rc = rc == 1 ? 0 : rc;
        goto done;
    }
    if (rest.n != 1 || strcmp(rest.at[0], "linear") || trains.n < 1 || trains.n != tests.n) {
        rc = err_set(&err, JEPA_E_USE, "jepa probe linear -m MODEL --train LIST --test LIST");
        goto done;
    }
    if ((rc = model_args_open(c, &a, 0, &m[0], &p, &err)) < 0) goto done;
    model_args_say(c, m[0], &p);
    if (p.per_row != 1) {
        rc = err_set(&err, JEPA_E_USE, "a linear probe reads mean-pooled features: --pool mean");
        goto done;
    }
    for (int t = 0; t < trains.n; t++) {
        double acc[3] = {0};
        items_free(&list[0]), items_free(&list[1]);
        for (int k = 0; k < 2; k++) set_free(&s[k]), mem_free(cache[k].clip), memset(&cache[k], 0, sizeof cache[k]);
        if ((rc = items_add(&list[0], trains.at[t], &err)) < 0 || (rc = items_add(&list[1], tests.at[t], &err)) < 0) goto done;
        s[0].list = &list[0], s[1].list = &list[1];
        if ((rc = jepa_session(m[0], &run, &err)) < 0) goto done;
        for (int k = 0; k < 2; k++)
            if ((rc = fill(c, run, &p, &s[k], &cache[k], &err)) < 0) goto done;
        jepa_session_close(&run);
        int classes = classes_of(&s[0]) > classes_of(&s[1]) ? classes_of(&s[0]) : classes_of(&s[1]);
        if ((rc = score(&s[0], &s[1], s[0].x, s[1].x, s[0].d, classes, &acc[0], &err)) < 0) goto done;
        if (!no_baselines) {
            if (!m[1] && (rc = untrained_twin(m[0], &m[1], seed, sd, &err)) < 0) goto done;
            if ((rc = jepa_session(m[1], &run, &err)) < 0) goto done;
            for (int k = 0; k < 2; k++)
                if ((rc = fill(c, run, &p, &s[k], &cache[k], &err)) < 0) goto done;
            jepa_session_close(&run);
            if ((rc = score(&s[0], &s[1], s[0].x, s[1].x, s[0].d, classes, &acc[1], &err)) < 0) goto done;
            if (s[0].pixels && (rc = score(&s[0], &s[1], s[0].pixels, s[1].pixels, s[0].n_pixels, classes, &acc[2], &err)) < 0) goto done;
        }
        cli_progress_end(c);
        const char *name = strrchr(tests.at[t], '/');
        name = name ? name + 1 : tests.at[t];
        if (c->json) {
            json_writer w = {0};
            jw_open(&w, NULL, '{');
            jw_string(&w, "test", name), jw_int(&w, "classes", classes), jw_int(&w, "train_clips", s[0].n), jw_int(&w, "test_clips", s[1].n);
            jw_double(&w, "pretrained", acc[0]);
            if (!no_baselines) jw_double(&w, "untrained", acc[1]), jw_double(&w, "pixels", acc[2]);
            jw_close(&w, '}');
            if (!w.failed) printf("%s\n", w.text);
            jw_free(&w);
        } else if (no_baselines)
            printf("%-16s %lld held-out clips, %d classes: accuracy %.3f (chance %.3f)\n", name, (long long)s[1].n, classes, acc[0], 1.0 / classes);
        else
            printf("%-16s %lld held-out clips, %d classes: pretrained %.3f, untrained %.3f, raw pixels %.3f (chance %.3f)\n", name, (long long)s[1].n, classes, acc[0],
                   acc[1], acc[2], 1.0 / classes);
        fflush(stdout);
    }
done:
    jepa_session_close(&run);
    for (int k = 0; k < 2; k++) set_free(&s[k]), mem_free(cache[k].clip), items_free(&list[k]), jepa_close(&m[k]);
    text_list_free(&rest), text_list_free(&trains), text_list_free(&tests);
    return cli_exit(c, rc, &err);
}
