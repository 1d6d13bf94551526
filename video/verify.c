/* verify.c: see verify.h. */
#include "video/verify.h"

#include <pthread.h>
#include <stdatomic.h>

#include "video/feed_work.h"

enum { ROOM = 64 << 20, PIECE = 64 }; /* frames decoded at a time */

typedef struct run {
    const items *l;
    const verify_cfg *c;
    atomic_int halt;
    pthread_mutex_t lock;
    int rc; /* under the lock, as are c->item's calls */
    jepa_err err;
} run;

static int stopped(run *r) {
    if (!atomic_load(&r->halt) && !(r->c->stop && r->c->stop(r->c->ctx))) return 0;
    atomic_store(&r->halt, 1);
    return 1;
}

/* The first frame is made into a picture, the others of a video are decoded only; frame sets are read. */
static int decode(run *r, const item *it, vid *v, jepa_err *err) {
    const vid_info *info = vid_get_info(v);
    size_t picture = 0;
    int64_t index[PIECE];
    const int set = it->kind == ITEM_H5;
    if (size_mul((size_t)info->width * 3, (size_t)info->height, &picture) || picture == 0)
        return err_set(err, JEPA_E_INPUT, "a picture of %d x %d", info->width, info->height);
    int most = set && picture > ROOM / PIECE ? (int)(ROOM / picture) : PIECE, rc = 0, shorter = 0;
    if (most < 1) most = 1;
    uint8_t *rgb = mem_alloc(set ? (size_t)most : 1, picture);
    if (!rgb) return err_set(err, JEPA_E_MEMORY, "no memory for frames of %d x %d", info->width, info->height);
    for (int64_t at = 0; rc == 0 && at < info->frames;) {
        if (stopped(r)) {
            rc = JEPA_E_CANCELLED;
            break;
        }
        int n = info->frames - at < most ? (int)(info->frames - at) : most;
        if (at == 0) n = 1;
        for (int k = 0; k < n; k++) index[k] = at + k;
        rc = vid_read(v, index, n, at == 0 || set ? rgb : NULL, NULL, err);
        if (rc == JEPA_E_END && !shorter) { /* it found out that there are fewer: what is left is read, this once */
            shorter = 1;
            rc = 0;
        } else if (rc == 0) {
            at += n;
        }
    }
    if (rc == JEPA_E_END) rc = JEPA_E_INPUT;
    mem_free(rgb);
    return rc;
}

static void one(void *ctx, int64_t i) {
    run *r = ctx;
    const item *it = &r->l->at[i];
    vid *v = NULL;
    jepa_err err = {0};
    char reason[FEED_REASON];
    verify_result got = {.state = VERIFY_GOOD};
    if (stopped(r)) return;
    int rc = vid_open_item(&v, it, NULL, &err);
    if (rc == 0) rc = decode(r, it, v, &err);
    if (rc == JEPA_E_CANCELLED) goto done;
    if (v) {
        const vid_info *info = vid_get_info(v);
        got.width = info->width, got.height = info->height, got.frames = info->frames, got.promised = info->promised;
        got.seconds = info->is_image ? 0 : info->duration;
        if (!info->is_image && info->promised > info->frames) got.state = VERIFY_CUT;
    }
    if (rc < 0) {
        got.state = VERIFY_BAD;
        got.text = err.text;
        feed_reason_of(&err, it->path, reason);
        got.reason = reason;
    }
    pthread_mutex_lock(&r->lock);
    if (rc == JEPA_E_MEMORY && r->rc == 0) {
        r->rc = rc;
        r->err = err;
        atomic_store(&r->halt, 1);
    } else if (rc != JEPA_E_MEMORY) {
        r->c->item(r->c->ctx, (int32_t)i, &got);
    }
    pthread_mutex_unlock(&r->lock);
done:
    vid_close(&v);
}

int verify_items(const items *l, const verify_cfg *c, jepa_err *err) {
    run r = {.l = l, .c = c};
    if (!l || !c || !c->item) return err_set(err, JEPA_E_USE, "verify: a list and a place for the results are needed");
    if (pthread_mutex_init(&r.lock, NULL)) return err_set(err, JEPA_E_MEMORY, "no memory for a lock");
    pool_once(c->workers > 0 ? c->workers : pool_cores(), l->n, one, &r);
    pthread_mutex_destroy(&r.lock);
    if (r.rc == 0 && atomic_load(&r.halt)) return err_set(err, JEPA_E_CANCELLED, "stopped");
    if (r.rc < 0 && err) *err = r.err;
    return r.rc;
}
