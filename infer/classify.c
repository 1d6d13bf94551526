/* classify.c: videos in, class probabilities out: encoder, attentive pooler and classifier of a released head. */
#include "infer/classify.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct classify_work { /* working memory of a session */
    att_acts *a;
    int64_t tokens; /* that a has room for */
    buf x, logits;
    float *rows; /* [tokens,D], host */
    float *host; /* [classes] */
};

void classify_session_close(jepa_run *r) {
    struct classify_work *w = r->classify;
    if (!w) return;
    att_acts_close(&w->a);
    buf_free(&w->x), buf_free(&w->logits);
    mem_free(w->rows), mem_free(w->host);
    mem_free(w);
    r->classify = NULL;
}

/* ---- the head ---- */

void head_close(jepa_head **hp) {
    jepa_head *h = *hp;
    if (!h) return;
    for (int i = 0; h->name && i < h->c.num_classes; i++) mem_free(h->name[i]);
    mem_free(h->name);
    att_close(&h->e);
    params_close(&h->p);
    mem_free(h);
    *hp = NULL;
}

/* id2label of config.json: {"0": "name", …}. What it does not name stays a number. */
static int read_names(const jepa *m, jepa_head *h, jepa_err *err) {
    char path[2048];
    json *j = NULL;
    if (!(h->name = mem_alloc((size_t)h->c.num_classes, sizeof *h->name))) return err_set(err, JEPA_E_MEMORY, "no memory for class names");
    ck_side_file(m->c, "config.json", path, sizeof path);
    if (!path[0]) return 0;
    int rc = json_read(&j, path, err);
    for (const json *v = rc ? NULL : json_first(json_get(j, "id2label")); v && !rc; v = json_next(v)) {
        char *end;
        const char *key = json_key(v), *name = json_string(v, NULL);
        const long at = strtol(key, &end, 10);
        if (end == key || *end || at < 0 || at >= h->c.num_classes || !name || h->name[at]) continue;
        const size_t n = strlen(name) + 1;
        if (!(h->name[at] = mem_alloc(n, 1)))
            rc = err_set(err, JEPA_E_MEMORY, "no memory for class names");
        else
            memcpy(h->name[at], name, n);
    }
    json_close(&j);
    return rc;
}

static int head_open(jepa_head **out, jepa *m, jepa_err *err) {
    *out = NULL;
    const model_cfg *mc = &m->mc;
    if (!mc->pooler_depth || !ck_has(m->c, CK_POOLER))
        return err_set(err, JEPA_E_MODEL, "%s: there is no classifier in it (a Hugging Face VJEPA2ForVideoClassification folder has one)",
                       ck_path(m->c));
    jepa_head *h = mem_alloc(1, sizeof *h);
    if (!h) return err_set(err, JEPA_E_MEMORY, "no memory for a classifier");
    h->c = (att_cfg){.embed_dim = mc->embed_dim,
                     .num_heads = mc->pooler_heads,
                     .depth = mc->pooler_depth,
                     .num_classes = mc->num_classes,
                     .mlp_ratio = mc->pooler_mlp_ratio,
                     .layer_norm_eps = mc->pooler_eps};
    ck_report rep = {0};
    int rc;
    if ((rc = att_open(&h->e, &h->c, &h->p, "", err)) < 0 || (rc = params_alloc(&h->p, m->d, 0, err)) < 0 ||
        (rc = ck_load(m->c, &h->p, "", CK_POOLER, m->o.allow_partial ? CK_ALLOW_PARTIAL : 0, &rep, err)) < 0 ||
        (rc = read_names(m, h, err)) < 0) {
        head_close(&h);
        return rc;
    }
    if (m->o.log && rep.text[0]) m->o.log(m->o.ctx, rep.text);
    *out = h;
    return 0;
}

int head_of(jepa_run *r, const jepa_head **out, jepa_err *err) {
    jepa *m = r->m;
    pthread_mutex_lock(&m->lock);
    int rc = m->head ? 0 : head_open(&m->head, m, err);
    *out = m->head;
    pthread_mutex_unlock(&m->lock);
    return rc;
}

void class_name(const jepa_head *h, int64_t at, char *text, size_t size) {
    if (at >= 0 && at < h->c.num_classes && h->name[at])
        snprintf(text, size, "%s", h->name[at]);
    else
        snprintf(text, size, "%lld", (long long)at);
}

/* ---- clips to probabilities ---- */

int class_plan_make(const jepa *m, const jepa_embed_options *sampling, int segments, int views, class_plan *p, jepa_err *err) {
    jepa_embed_options o;
    jepa_embed_options_defaults(&o);
    if (sampling && (sampling->size < sizeof sampling->size || sampling->size > sizeof o))
        return err_set(err, JEPA_E_USE, "jepa_embed_options.size is %zu; call jepa_embed_options_defaults first", sampling->size);
    if (sampling) memcpy(&o, sampling, sampling->size);
    o.size = sizeof o;
    o.clips = segments, o.every = 0, o.layers = 0, o.pool = JEPA_POOL_NONE;
    if (segments < 1 || segments > 1000) return err_set(err, JEPA_E_USE, "%d segments; 1 to 1000 are possible", segments);
    if (views < 1 || views > 1000) return err_set(err, JEPA_E_USE, "%d views; 1 to 1000 are possible", views);
    int rc = plan_make(m, &o, &p->clip, err);
    p->segments = segments, p->views = views;
    p->clip.clip.num_views = views > 1 ? views : 0;
    return rc;
}

static int room(jepa_run *r, const jepa_head *h, int64_t tokens, jepa_err *err) {
    struct classify_work *w = r->classify;
    const att_shape shape = {.batch = 1, .tokens = tokens};
    size_t bytes;
    int rc;
    if (w && tokens <= w->tokens) return 0;
    classify_session_close(r);
    if (tokens < 1 || size_mul((size_t)tokens, (size_t)h->c.embed_dim * sizeof(float), &bytes) ||
        !(w = r->classify = mem_alloc(1, sizeof *w)))
        return err_set(err, JEPA_E_MEMORY, "no memory for %lld tokens", (long long)tokens);
    if ((rc = att_acts_open(&w->a, h->e, r->m->d, &shape, err)) < 0 || (rc = buf_new(&w->x, r->m->d, bytes, err)) < 0 ||
        (rc = buf_new(&w->logits, r->m->d, (size_t)h->c.num_classes * sizeof(float), err)) < 0)
        goto fail;
    if (!(w->rows = mem_alloc(bytes, 1)) || !(w->host = mem_alloc((size_t)h->c.num_classes, sizeof *w->host))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for the features of %lld tokens", (long long)tokens);
        goto fail;
    }
    w->tokens = tokens;
    return 0;
fail:
    classify_session_close(r);
    return rc;
}

/* The first `tokens` rows of w->rows as one item: its share of the mean is added. */
static int score(jepa_run *r, const jepa_head *h, int64_t tokens, int views, double *probabilities, jepa_err *err) {
    struct classify_work *w = r->classify;
    const int64_t n = h->c.num_classes;
    const att_in in = {.batch = 1, .tokens = tokens, .x = w->x.p};
    int rc;
    if ((rc = buf_put(r->q, w->x.p, w->rows, (size_t)(tokens * h->c.embed_dim) * sizeof(float), err)) < 0 ||
        (rc = att_forward(h->e, r->q, &in, w->a, NULL, w->logits.p, err)) < 0 ||
        (rc = buf_get(r->q, w->host, w->logits.p, (size_t)n * sizeof(float), err)) < 0)
        return rc;
    double *one = mem_alloc((size_t)n, sizeof *one);
    if (!one) return err_set(err, JEPA_E_MEMORY, "no memory for %lld probabilities", (long long)n);
    softmax_rows(w->host, 1, n, one);
    for (int64_t i = 0; i < n; i++) probabilities[i] += one[i] / views;
    mem_free(one);
    return 0;
}

int classify_video(jepa_run *r, const class_plan *p, const char *path, double *probabilities, jepa_err *err) {
    vid *v = NULL;
    const jepa_head *h;
    const vid_opts o = {.as_stored = p->clip.as_stored};
    int rc = head_of(r, &h, err); /* a model without one is told before a file is opened */
    if (rc == 0) rc = vid_open(&v, path, &o, err);
    if (rc == 0) rc = classify_vid(r, p, v, path, probabilities, err);
    vid_close(&v);
    return rc;
}

int classify_vid(jepa_run *r, const class_plan *p, vid *v, const char *path, double *probabilities, jepa_err *err) {
    const jepa *m = r->m;
    const jepa_head *h;
    clip_plan c = p->clip;
    clip_list l = {0};
    uint8_t *clip = NULL;
    double start, end;
    const int64_t d = c.dim;
    int rc = head_of(r, &h, err);
    if (rc < 0 || (rc = clips_of(v, &c, &l, err)) < 0 || (rc = room(r, h, c.per_row * (l.n > 0 ? l.n : 1), err)) < 0) goto done;
    if (!(clip = mem_alloc((size_t)c.frames * (size_t)c.clip.crop, (size_t)c.clip.crop * 3))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for a clip");
        goto done;
    }
    memset(probabilities, 0, (size_t)h->c.num_classes * sizeof *probabilities);
    for (int view = 0; view < p->views; view++) {
        int k = 0;
        for (c.clip.view = view; k < l.n; k++) {
            if (m->o.cancel && m->o.cancel(m->o.ctx)) {
                rc = err_set(err, JEPA_E_CANCELLED, "%s: cancelled", path);
                goto done;
            }
            if ((rc = clip_load(v, &c, &l, k, clip, &start, &end, err)) == JEPA_E_END && k) { /* a cut file: what was there is classified */
                rc = 0;
                break;
            }
            if (rc == JEPA_E_END) rc = err_set(err, JEPA_E_INPUT, "%s: ends before its first clip", path);
            if (rc < 0 ||
                (rc = run_encode(r, &c, clip, T_U8, 1, c.frames, c.clip.crop, c.clip.crop, r->classify->rows + k * c.per_row * d, err)) < 0)
                goto done;
        }
        if ((rc = score(r, h, k * c.per_row, p->views, probabilities, err)) < 0) goto done;
    }
done:
    mem_free(clip), mem_free(l.index);
    return rc;
}

int classify_tensor(jepa_run *r, const class_plan *p, const float *x, int64_t frames, int64_t height, int64_t width, double *probabilities,
                    jepa_err *err) {
    const enc_cfg *e = &r->m->ec;
    const jepa_head *h;
    clip_plan c = p->clip;
    float *filled = NULL;
    if (frames < 1 || frames > 4096 || height < 1 || width < 1 || height > 8192 || width > 8192)
        return err_set(err, JEPA_E_INPUT, "[%lld,3,%lld,%lld] is no clip", (long long)frames, (long long)height, (long long)width);
    const int64_t given = frames;
    if (frames < e->tubelet_size) frames = e->tubelet_size;
    if (frames % e->tubelet_size || height % e->patch_size || width % e->patch_size)
        return err_set(err, JEPA_E_INPUT,
                       "%lld frames of %lldx%lld; the model needs frames in multiples of %d and sizes in multiples of %d", (long long)given,
                       (long long)width, (long long)height, e->tubelet_size, e->patch_size);
    c.frames = (int)frames;
    plan_pool(&c, e, (int)frames, (int)height, (int)width);
    int rc = head_of(r, &h, err);
    if (rc < 0 || (rc = room(r, h, c.per_row, err)) < 0) return rc;
    if (given < frames) {
        const size_t frame = (size_t)(3 * height * width);
        if (!(filled = mem_alloc((size_t)frames * frame, sizeof *filled))) return err_set(err, JEPA_E_MEMORY, "no memory for a clip");
        for (int64_t f = 0; f < frames; f++)
            memcpy(filled + (size_t)f * frame, x + (size_t)(f < given ? f : given - 1) * frame, frame * sizeof *filled);
    }
    memset(probabilities, 0, (size_t)h->c.num_classes * sizeof *probabilities);
    if ((rc = run_encode(r, &c, filled ? filled : x, T_F32, 1, frames, height, width, r->classify->rows, err)) == 0)
        rc = score(r, h, c.per_row, 1, probabilities, err);
    mem_free(filled);
    return rc;
}

typedef struct ranked {
    double p;
    int64_t at;
} ranked;
static int better(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    return x->p != y->p ? (x->p > y->p ? -1 : 1) : (x->at < y->at ? -1 : 1);
}

int class_top(const double *probabilities, int64_t classes, int64_t n, int64_t *index, jepa_err *err) {
    ranked *all = mem_alloc((size_t)classes, sizeof *all);
    if (!all) return err_set(err, JEPA_E_MEMORY, "no memory to rank %lld classes", (long long)classes);
    for (int64_t i = 0; i < classes; i++) all[i] = (ranked){probabilities[i], i};
    qsort(all, (size_t)classes, sizeof *all, better);
    for (int64_t i = 0; i < n && i < classes; i++) index[i] = all[i].at;
    mem_free(all);
    return 0;
}

/* ---- one video, through the public interface ---- */

void jepa_classify_options_defaults(jepa_classify_options *o) {
    memset(o, 0, sizeof *o);
    o->size = sizeof *o;
    o->segments = o->views = 1;
    o->top = 5;
}

void jepa_classes_free(jepa_classes *c) {
    if (!c) return;
    for (int64_t i = 0; c->name && i < c->n; i++) mem_free(c->name[i]);
    mem_free(c->name), mem_free(c->index), mem_free(c->probability);
    memset(c, 0, sizeof *c);
}

static int fill(jepa_classes *out, const jepa_head *h, const double *p, jepa_err *err) {
    char text[2048];
    if (!(out->index = mem_alloc((size_t)out->n, sizeof *out->index)) ||
        !(out->probability = mem_alloc((size_t)out->n, sizeof *out->probability)) ||
        !(out->name = mem_alloc((size_t)out->n, sizeof *out->name)))
        return err_set(err, JEPA_E_MEMORY, "no memory for %lld classes", (long long)out->n);
    int rc = class_top(p, out->classes, out->n, out->index, err);
    for (int64_t i = 0; i < out->n && !rc; i++) {
        out->probability[i] = p[out->index[i]];
        class_name(h, out->index[i], text, sizeof text);
        if (!(out->name[i] = mem_alloc(strlen(text) + 1, 1)))
            rc = err_set(err, JEPA_E_MEMORY, "no memory for class names");
        else
            memcpy(out->name[i], text, strlen(text) + 1);
    }
    return rc;
}

int jepa_classify(jepa_run *r, const char *path, const jepa_classify_options *given, jepa_classes *out, jepa_err *err) {
    memset(out, 0, sizeof *out);
    jepa_classify_options o;
    jepa_classify_options_defaults(&o);
    if (!r || !path || (given && (given->size < sizeof given->size || given->size > sizeof *given)))
        return err_set(err, JEPA_E_USE, "a session, a file and options with their size are needed");
    if (given) memcpy(&o, given, given->size);
    class_plan p;
    const jepa_head *h;
    double *probabilities = NULL;
    int rc;
    if (o.top < 1) return err_set(err, JEPA_E_USE, "the %d best classes; at least 1", o.top);
    if ((rc = class_plan_make(r->m, o.sampling, o.segments, o.views, &p, err)) < 0 || (rc = head_of(r, &h, err)) < 0) return rc;
    out->classes = h->c.num_classes;
    out->n = o.top < out->classes ? o.top : out->classes;
    if (!(probabilities = mem_alloc((size_t)out->classes, sizeof *probabilities)))
        rc = err_set(err, JEPA_E_MEMORY, "no memory for probabilities");
    if (rc == 0) rc = classify_video(r, &p, path, probabilities, err);
    if (rc == 0) rc = fill(out, h, probabilities, err);
    mem_free(probabilities);
    if (rc < 0) jepa_classes_free(out);
    return rc;
}
