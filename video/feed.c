/* feed.c: the queue between worker threads and the trainer.
 *
 * Steps are begun in order; each sample of a step is a piece of work for whichever thread is free. A batch waits in the queue until it is
 * whole and its turn has come. Batches come from and go back to a list of idle ones, so the workers never allocate clip memory. */
#include "video/feed_work.h"

#include <math.h>
#include <signal.h>
#include <string.h>

void feed_cfg_defaults(feed_cfg *c) {
    memset(c, 0, sizeof *c);
    c->batch = 1;
    c->threads = 2;
    c->queue_batches = 2;
    sample_cfg_defaults(&c->sample);
    c->sample.random = 1;
    c->crop = 224;
    c->scale[0] = 0.3, c->scale[1] = 1;
    c->ratio[0] = 0.75, c->ratio[1] = 1.35;
    c->flip = 1;
    c->max_bad = 0.01;
}

int64_t feed_steps_per_epoch(const feed *f) { return f->list.n < f->c.batch ? 1 : f->list.n / f->c.batch; }

/* ---- batches ---- */

static void slot_close(feed *f, slot *s) {
    if (!s) return;
    size_t bytes = f->clip_bytes * (size_t)f->c.batch;
    if (s->b.clips && f->c.put) f->c.put(f->c.mem_ctx, s->b.clips, bytes);
    else mem_free(s->b.clips);
    for (int i = 0; s->notes && i < f->c.batch; i++) mem_free(s->notes[i].at);
    mem_free(s->notes);
    mem_free(s->b.labels);
    mem_free(s->b.item_index);
    mem_free(s);
}

static slot *slot_open(feed *f) {
    size_t n = (size_t)f->c.batch, bytes = f->clip_bytes * n; /* checked by feed_open */
    slot *s = mem_alloc(1, sizeof *s);
    if (!s) return NULL;
    s->b.batch = f->c.batch, s->b.frames = f->c.sample.frames, s->b.height = s->b.width = f->c.crop;
    s->b.clips = f->c.get ? f->c.get(f->c.mem_ctx, bytes) : mem_alloc(bytes, 1);
    s->b.labels = mem_alloc(n, sizeof *s->b.labels);
    s->b.item_index = mem_alloc(n, sizeof *s->b.item_index);
    s->notes = mem_alloc(n, sizeof *s->notes);
    if (s->b.clips && s->b.labels && s->b.item_index && s->notes) return s;
    slot_close(f, s);
    return NULL;
}

/* ---- workers; all of it under the lock ---- */

static void order_drop(feed_order *o) {
    if (!o || --o->refs) return;
    mem_free(o->index);
    mem_free(o);
}

static feed_order *order_of(feed *f, int64_t epoch) {
    if (!f->order || f->order->epoch != epoch) {
        feed_order *o = mem_alloc(1, sizeof *o);
        if (o) o->index = mem_alloc((size_t)f->list.n, sizeof *o->index);
        if (!o || !o->index) {
            mem_free(o);
            return NULL;
        }
        rng r = rng_key(f->c.seed, (uint64_t)epoch, 0, RNG_ORDER);
        rng_permute(&r, o->index, (uint32_t)f->list.n);
        o->epoch = epoch;
        o->refs = 1;
        order_drop(f->order);
        f->order = o;
    }
    f->order->refs++;
    return f->order;
}

static void begin_step(feed *f) {
    slot *s = f->idle, **end = &f->queue;
    f->idle = s->next;
    f->queued++;
    while (*end) end = &(*end)->next;
    *end = s;
    s->next = NULL;
    s->taken = 0;
    s->left = f->c.batch;
    s->rc = 0;
    s->b.step = f->next_step++;
    s->b.replaced = 0;
    for (int i = 0; i < f->c.batch; i++) s->notes[i].n = 0;
    s->order = f->sum ? NULL : order_of(f, s->b.step / feed_steps_per_epoch(f));
    if (!f->sum && !s->order) {
        s->rc = err_set(&s->err, JEPA_E_MEMORY, "no memory for an order of %d items", f->list.n);
        s->taken = f->c.batch;
        s->left = 0;
        pthread_cond_signal(&f->ready);
    }
}

static slot *find_work(feed *f) {
    for (slot *s = f->queue; s; s = s->next)
        if (s->taken < f->c.batch) return s;
    if (!f->idle || f->queued >= f->c.queue_batches) return NULL;
    begin_step(f);
    return find_work(f); /* the step begun, or where that failed the next idle batch */
}

static void *work(void *arg) {
    feed *f = arg;
    worker w = {.index = mem_alloc((size_t)f->c.sample.frames, sizeof(int64_t))};
    pthread_mutex_lock(&f->lock);
    while (!f->stop) {
        slot *s = find_work(f);
        if (!s) {
            pthread_cond_wait(&f->work, &f->lock);
            continue;
        }
        int i = s->taken++;
        if (!w.index) {
            if (!s->rc) s->rc = err_set(&s->err, JEPA_E_MEMORY, "no memory for a feed thread");
        } else {
            pthread_mutex_unlock(&f->lock);
            feed_sample_make(f, &w, s, i);
            pthread_mutex_lock(&f->lock);
        }
        if (--s->left) continue;
        order_drop(s->order);
        s->order = NULL;
        pthread_cond_signal(&f->ready);
    }
    pthread_mutex_unlock(&f->lock);
    mem_free(w.rgb);
    mem_free(w.index);
    return NULL;
}

/* ---- the consumer ---- */

int feed_next(feed *f, feed_batch **out, jepa_err *err) {
    *out = NULL;
    if (f->dead) {
        if (err) *err = f->why;
        return f->dead;
    }
    double start = clock_seconds();
    slot *more = NULL;
    pthread_mutex_lock(&f->lock);
    int spare = f->queued;
    for (slot *k = f->idle; k; k = k->next) spare++;
    pthread_mutex_unlock(&f->lock);
    /* while this one is held the workers go on with as many as before */
    if (spare <= f->c.queue_batches && !(more = slot_open(f)))
        return err_set(err, JEPA_E_MEMORY, "no memory for another batch of clips (%.1f MiB)", (double)f->clip_bytes * f->c.batch / 1048576);
    pthread_mutex_lock(&f->lock);
    while (!f->queue || f->queue->left) pthread_cond_wait(&f->ready, &f->lock);
    slot *s = f->queue;
    f->queue = s->next;
    f->queued--;
    if (more) {
        more->next = f->idle;
        f->idle = more;
    }
    pthread_cond_broadcast(&f->work);
    pthread_mutex_unlock(&f->lock);
    s->next = f->held;
    f->held = s;
    s->b.seconds_waited = clock_seconds() - start;
    int rc = s->rc;
    if (rc) {
        f->why = s->err;
        f->why.offset = -1;
    } else {
        f->why = (jepa_err){0};
        rc = feed_count_batch(f, s, &f->why);
    }
    if (rc) {
        f->dead = rc;
        if (err) *err = f->why;
        return rc;
    }
    *out = &s->b;
    return 0;
}

void feed_release(feed *f, feed_batch **b) {
    if (!b || !*b) return;
    slot **at = &f->held, *s;
    while (*at && &(*at)->b != *b) at = &(*at)->next;
    *b = NULL;
    if (!(s = *at)) return;
    *at = s->next;
    pthread_mutex_lock(&f->lock);
    s->next = f->idle;
    f->idle = s;
    pthread_cond_broadcast(&f->work);
    pthread_mutex_unlock(&f->lock);
}

/* ---- open and close ---- */

static int check(const feed_cfg *c, const items *l, jepa_err *err) {
    if (!l || l->n < 1) return err_set(err, JEPA_E_INPUT, "the list holds no items");
    if (c->batch < 1 || c->batch > 65536) return err_set(err, JEPA_E_USE, "batch %d must lie in 1 to 65536", c->batch);
    if (c->threads < 1 || c->threads > 256) return err_set(err, JEPA_E_USE, "%d feed threads: 1 to 256", c->threads);
    if (c->queue_batches < 1 || c->queue_batches > 64) return err_set(err, JEPA_E_USE, "%d waiting batches: 1 to 64", c->queue_batches);
    if (c->crop < 1 || c->crop > 8192) return err_set(err, JEPA_E_USE, "crop %d must lie in 1 to 8192", c->crop);
    if (c->sample.frames < 1 || c->sample.frames > 65536) return err_set(err, JEPA_E_USE, "%d frames a clip: 1 to 65536", c->sample.frames);
    if (c->sample.num_clips != 1) return err_set(err, JEPA_E_USE, "%d clips a sample: the feed gives one", c->sample.num_clips);
    if (c->first_step < 0) return err_set(err, JEPA_E_USE, "first step %lld is negative", (long long)c->first_step);
    if (!(c->max_bad >= 0 && c->max_bad <= 1)) return err_set(err, JEPA_E_USE, "share of bad items %g must lie in 0 to 1", c->max_bad);
    if (!c->get != !c->put) return err_set(err, JEPA_E_USE, "memory callbacks come in pairs");
    if (!c->eval && (!(c->scale[0] > 0 && c->scale[1] >= c->scale[0] && c->scale[1] < 1e6) ||
                     !(c->ratio[0] > 0 && c->ratio[1] >= c->ratio[0] && c->ratio[1] < 1e6)))
        return err_set(err, JEPA_E_USE, "crop scale %g to %g or aspect ratio %g to %g is no range of positive numbers", c->scale[0],
                       c->scale[1], c->ratio[0], c->ratio[1]);
    return 0;
}

static int copy_list(feed *f, const items *l, jepa_err *err) {
    f->list.at = mem_alloc((size_t)l->n, sizeof *f->list.at);
    f->known = mem_alloc((size_t)l->n, sizeof *f->known);
    if (!f->list.at || !f->known || feed_count_open(&f->count, l->n))
        return err_set(err, JEPA_E_MEMORY, "no memory for a list of %d items", l->n);
    f->list.cap = l->n;
    for (; f->list.n < l->n; f->list.n++) {
        item *to = &f->list.at[f->list.n];
        int rc = item_copy(to, &l->at[f->list.n], err);
        if (rc < 0) return rc;
        to->list = -1;
    }
    return 0;
}

static int copy_weights(feed *f, const double *weight, jepa_err *err) {
    double sum = 0;
    f->c.weight = NULL;
    if (!weight) return 0;
    f->sum = mem_alloc((size_t)f->list.n, sizeof *f->sum);
    if (!f->sum) return err_set(err, JEPA_E_MEMORY, "no memory for %d weights", f->list.n);
    for (int i = 0; i < f->list.n; i++) {
        if (!(weight[i] >= 0) || !isfinite(weight[i]))
            return err_set(err, JEPA_E_USE, "weight %g of item %d: not negative and finite", weight[i], i);
        f->sum[i] = sum += weight[i];
    }
    return sum > 0 && isfinite(sum) ? 0 : err_set(err, JEPA_E_USE, "the weights add up to %g", sum);
}

static int start(feed *f, jepa_err *err) {
    sigset_t all, before;
    f->thread = mem_alloc((size_t)f->c.threads, sizeof *f->thread);
    if (!f->thread) return err_set(err, JEPA_E_MEMORY, "no memory for %d feed threads", f->c.threads);
    sigfillset(&all); /* signals go to the caller's threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (f->n_threads < f->c.threads && !pthread_create(&f->thread[f->n_threads], NULL, work, f)) f->n_threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return f->n_threads ? 0 : err_set(err, JEPA_E_MEMORY, "no feed thread could be started"); /* fewer than asked: slower, the same clips */
}

int feed_open(feed **out, const feed_cfg *c, const items *list, jepa_err *err) {
    *out = NULL;
    int rc = check(c, list, err);
    if (rc) return rc;
    feed *f = mem_alloc(1, sizeof *f);
    if (!f) return err_set(err, JEPA_E_MEMORY, "no memory for the feed");
    f->c = *c;
    if (c->eval) f->c.sample.random = 0;
    size_t bytes = (size_t)c->crop * (size_t)c->crop * 3; /* at most 2^28 */
    if (size_mul(bytes, (size_t)c->sample.frames, &f->clip_bytes) || size_mul(f->clip_bytes, (size_t)c->batch, &bytes) ||
        bytes > PTRDIFF_MAX) {
        rc = err_set(err, JEPA_E_MEMORY, "a batch of %d clips of %d frames cannot exist", c->batch, c->sample.frames);
        goto fail;
    }
    f->have_lock = !pthread_mutex_init(&f->lock, NULL);
    f->have_work = !pthread_cond_init(&f->work, NULL);
    f->have_ready = !pthread_cond_init(&f->ready, NULL);
    if (!f->have_lock || !f->have_work || !f->have_ready) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for the feed's locks");
        goto fail;
    }
    if ((rc = copy_list(f, list, err)) != 0 || (rc = copy_weights(f, c->weight, err)) != 0) goto fail;
    f->allowed = (int64_t)(c->max_bad * list->n);
    if (f->allowed < 1) f->allowed = 1;
    if (f->allowed > list->n - 1) f->allowed = list->n - 1;
    f->next_step = c->first_step;
    for (int i = 0; i < c->queue_batches; i++) {
        slot *s = slot_open(f);
        if (!s) {
            rc = err_set(err, JEPA_E_MEMORY, "no memory for %d batches of clips (%.1f MiB each)", c->queue_batches,
                         (double)bytes / 1048576);
            goto fail;
        }
        s->next = f->idle;
        f->idle = s;
    }
    if ((rc = start(f, err)) != 0) goto fail;
    *out = f;
    return 0;
fail:
    feed_close(&f);
    return rc;
}

void feed_close(feed **pf) {
    feed *f = pf ? *pf : NULL;
    if (!f) return;
    if (f->n_threads) {
        pthread_mutex_lock(&f->lock);
        f->stop = 1;
        pthread_cond_broadcast(&f->work);
        pthread_mutex_unlock(&f->lock);
        for (int i = 0; i < f->n_threads; i++) pthread_join(f->thread[i], NULL);
    }
    slot *lists[3] = {f->queue, f->idle, f->held};
    for (int k = 0; k < 3; k++)
        for (slot *s = lists[k], *next; s; s = next) {
            next = s->next;
            order_drop(s->order);
            slot_close(f, s);
        }
    order_drop(f->order);
    for (int i = 0; f->known && i < f->list.n; i++) mem_free(f->known[i]);
    mem_free(f->known);
    feed_count_close(&f->count);
    items_free(&f->list);
    mem_free(f->sum);
    mem_free(f->thread);
    if (f->have_lock) pthread_mutex_destroy(&f->lock);
    if (f->have_work) pthread_cond_destroy(&f->work);
    if (f->have_ready) pthread_cond_destroy(&f->ready);
    mem_free(f);
    *pf = NULL;
}
