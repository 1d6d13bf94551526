/* feed_sample.c: one sample of a batch: which item, which frames, which crop; and the next item where one cannot be read.
 *
 * Everything here is a function of (seed, step, sample) and the files: no result depends on which thread works, or on what it did
 * before. */
#include "video/feed_work.h"

#include <ctype.h>
#include <string.h>

enum { CHUNK = 1 << 28 }; /* decoded frames that a worker holds at once, bytes; a longer or larger clip is read in pieces */

/* ---- draws ---- */

static int64_t draw_window(void *ctx, int64_t low, int64_t high) { /* high excluded */
    uint64_t n = (uint64_t)(high - low);
    rng *r = ctx;
    if (n <= UINT32_MAX) return low + (int64_t)rng_below(r, (uint32_t)n);
    uint64_t v = (uint64_t)rng_u32(r) << 32;
    return low + (int64_t)((v | rng_u32(r)) % n);
}
static double draw_uniform(void *ctx, double low, double high) { return rng_uniform(ctx, low, high); }
static int64_t draw_integer(void *ctx, int64_t low, int64_t high) { return draw_window(ctx, low, high + 1); }

/* ---- which item ---- */

static int tried(const feed_notes *n, int32_t which) {
    for (int i = 0; i < n->n; i++)
        if (n->at[i].item == which) return 1;
    return 0;
}

/* Weighted: the item where the running sum passes u. Items of weight 0 are never met. */
static int32_t at_weight(const feed *f, double u) {
    int32_t low = 0, high = f->list.n - 1;
    double x = u * f->sum[high];
    while (low < high) {
        int32_t mid = low + (high - low) / 2;
        if (f->sum[mid] > x) high = mid;
        else low = mid + 1;
    }
    return low;
}

/* The t-th item that sample i of the slot would take; r goes on from one t to the next. -1: no other is left. */
static int32_t pick(const feed *f, const slot *s, int i, int64_t t, rng *r, const feed_notes *bad) {
    int64_t n = f->list.n;
    if (!f->sum) {
        int64_t per = feed_steps_per_epoch(f), at = s->b.step % per * f->c.batch + i;
        return t < n ? (int32_t)s->order->index[(at + t) % n] : -1;
    }
    for (int k = 0; k < 100; k++) {
        uint32_t a = rng_u32(r) >> 5, b = rng_u32(r) >> 6;
        int32_t which = at_weight(f, (a * 67108864.0 + b) / 9007199254740992.0);
        if (!tried(bad, which)) return which;
    }
    for (int32_t k = 0; k < n; k++) /* nearly all the weight lies on bad items */
        if (f->sum[k] > (k ? f->sum[k - 1] : 0) && !tried(bad, k)) return k;
    return -1;
}

/* ---- one item ---- */

void feed_reason_of(const jepa_err *err, const char *path, char out[FEED_REASON]) {
    const char *s = err->text;
    size_t n = strlen(path), k = 0;
    if (strlen(s) > n && s[n] == ':') s += n + 1; /* by length: control bytes of a path are replaced in the text */
    else if (n >= sizeof err->text - 64) s += strlen(s);
    while (*s == ' ') s++;
    for (; s[k] && k < FEED_REASON - 1; k++) {
        if (s[k] == ':' && s[k + 1] == ' ') break;
        if (s[k] == ' ' && s[k + 1] == '(') { /* a remark with numbers differs from file to file */
            size_t m = k + 2;
            while (s[m] && s[m] != ')' && !isdigit((unsigned char)s[m])) m++;
            if (isdigit((unsigned char)s[m])) break;
        }
    }
    while (k && ((unsigned char)s[k] & 0xc0) == 0x80) k--; /* not inside a letter */
    memcpy(out, s, k);
    out[k] = 0;
    if (!k) strcpy(out, "cannot be read");
}

static int room(worker *w, size_t bytes, jepa_err *err) {
    if (bytes <= w->rgb_size) return 0;
    mem_free(w->rgb);
    w->rgb_size = 0;
    w->rgb = mem_alloc(bytes, 1);
    if (!w->rgb) return err_set(err, JEPA_E_MEMORY, "no memory for %.1f MiB of decoded frames", (double)bytes / 1048576);
    w->rgb_size = bytes;
    return 0;
}

static int transform(const feed *f, int64_t step, int i, int height, int width, clip_cfg *t, jepa_err *err) {
    clip_cfg_defaults(t, f->c.crop);
    if (f->c.eval) return 0;
    rng r = rng_key(f->c.seed, (uint64_t)step, (uint32_t)i, RNG_CROP);
    crop_draw d = {draw_uniform, draw_integer, &r};
    t->mode = CLIP_TRAIN;
    if (crop_box(height, width, f->c.scale, f->c.ratio, &d, t->box))
        return err_set(err, JEPA_E_USE, "crop scale or aspect ratio out of range");
    t->flip = f->c.flip && rng_unit(&r) < 0.5;
    return 0;
}

static int frames_of(const feed *f, worker *w, vid *v, const clip_cfg *t, int64_t step, int i, uint8_t *out, int *slow, jepa_err *err) {
    const vid_info *info = vid_get_info(v);
    int frames = f->c.sample.frames, rc;
    size_t picture = (size_t)info->width * (size_t)info->height * 3, made = (size_t)f->c.crop * (size_t)f->c.crop * 3;
    if (info->is_image) { /* one frame, repeated */
        w->index[0] = 0;
        if ((rc = room(w, picture, err)) < 0 || (rc = vid_read(v, w->index, 1, w->rgb, NULL, err)) < 0 ||
            (rc = clip_prepare(t, w->rgb, 1, info->height, info->width, out, err)) < 0)
            return rc;
        for (int k = 1; k < frames; k++) memcpy(out + (size_t)k * made, out, made);
        return 0;
    }
    rng r = rng_key(f->c.seed, (uint64_t)step, (uint32_t)i, RNG_FRAMES);
    if ((rc = sample_frames(&f->c.sample, info->frames, info->fps, draw_window, &r, w->index, slow, err)) < 0) return rc;
    int piece = picture > CHUNK / (size_t)frames ? (int)(CHUNK / picture) : frames;
    if (piece < 1) piece = 1;
    if ((rc = room(w, picture * (size_t)piece, err)) < 0) return rc;
    for (int k = 0; k < frames; k += piece) {
        int n = frames - k < piece ? frames - k : piece;
        if ((rc = vid_read(v, w->index + k, n, w->rgb, NULL, err)) < 0 ||
            (rc = clip_prepare(t, w->rgb, n, info->height, info->width, out + (size_t)k * made, err)) < 0)
            return rc;
    }
    return 0;
}

/* An item → out. *always: it would fail with any draw. */
static int load(const feed *f, worker *w, int32_t which, int64_t step, int i, uint8_t *out, feed_notes *warnings, int *always,
                jepa_err *err) {
    vid *v = NULL;
    clip_cfg t;
    int rc, slow = 0, cut;
    *always = 1;
    if ((rc = vid_open_item(&v, &f->list.at[which], NULL, err)) < 0) return rc;
    const vid_info *info = vid_get_info(v);
    cut = info->promised > info->frames;
    if ((rc = transform(f, step, i, info->height, info->width, &t, err)) < 0) goto done;
    if ((uint64_t)info->width * (uint64_t)info->height > (uint64_t)CHUNK) {
        rc = err_set(err, JEPA_E_INPUT, "frames larger than 2^28 pixels");
        goto done;
    }
    if (!info->is_image && info->frames < 1) {
        rc = err_set(err, JEPA_E_INPUT, "no frame can be decoded");
        goto done;
    }
    *always = 0;
    for (;;) {
        int64_t before = info->frames;
        if ((rc = frames_of(f, w, v, &t, step, i, out, &slow, err)) != JEPA_E_END) break;
        cut = 1; /* the file is shorter than it says: drawn again, from the frames that there are */
        if (info->frames < 1 || info->frames >= before) {
            rc = err_set(err, JEPA_E_INPUT, "no frame can be decoded");
            break;
        }
    }
    if (rc == 0 && cut) rc = feed_note_add(warnings, which, 1, FEED_CUT);
    if (rc == 0 && slow) rc = feed_note_add(warnings, which, 1, FEED_SLOW);
    if (rc == JEPA_E_MEMORY && !err->text[0]) err_set(err, rc, "no memory to prepare clips");
done:
    vid_close(&v);
    return rc;
}

static int another_may_do(int rc) { return rc == JEPA_E_INPUT || rc == JEPA_E_IO || rc == JEPA_E_UNSUPPORTED || rc == JEPA_E_END; }

void feed_sample_make(feed *f, worker *w, slot *s, int i) {
    feed_notes *notes = &s->notes[i];
    rng r = rng_key(f->c.seed, (uint64_t)s->b.step, (uint32_t)i, RNG_ORDER);
    jepa_err err = {0};
    int rc = JEPA_E_INPUT;
    s->b.item_index[i] = -1;
    for (int64_t t = 0; t <= f->allowed; t++) { /* one more than allowed: the consumer then stops */
        char reason[FEED_REASON] = "";
        int always = 0;
        int32_t which = pick(f, s, i, t, &r, notes);
        if (which < 0) break;
        pthread_mutex_lock(&f->lock);
        int stop = f->stop;
        if (f->known[which]) strcpy(reason, f->known[which]);
        pthread_mutex_unlock(&f->lock);
        if (stop) return;
        if (!*reason) {
            err = (jepa_err){0};
            rc = load(f, w, which, s->b.step, i, s->b.clips + (size_t)i * f->clip_bytes, notes, &always, &err);
            if (rc == 0) {
                s->b.item_index[i] = which;
                s->b.labels[i] = f->list.at[which].label;
                return;
            }
            if (!another_may_do(rc)) goto fail;
            feed_reason_of(&err, f->list.at[which].path, reason);
        }
        if ((rc = feed_note_add(notes, which, 0, reason)) < 0) {
            err_set(&err, rc, "no memory to count bad items");
            goto fail;
        }
        if (always) {
            char *keep = mem_alloc(FEED_REASON, 1);
            pthread_mutex_lock(&f->lock);
            if (keep && !f->known[which]) {
                strcpy(keep, reason);
                f->known[which] = keep;
                keep = NULL;
            }
            pthread_mutex_unlock(&f->lock);
            mem_free(keep);
        }
    }
    return; /* without an item: feed_count_batch says why */
fail:
    pthread_mutex_lock(&f->lock);
    if (!s->rc || i < s->err.offset) { /* of several, the first sample's, on any number of threads */
        s->rc = rc;
        s->err = err;
        s->err.offset = i;
    }
    pthread_mutex_unlock(&f->lock);
}
