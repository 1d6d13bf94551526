/* feed.h: clips for training, prepared by worker threads, the same for any number of them.
 *
 *     feed *f; feed_open(&f, &cfg, &items, &err);
 *     feed_batch *b; feed_next(f, &b, &err);   // blocks until step `b->step` is whole
 *     … b->clips uint8 [batch,T,crop,crop,3] …
 *     feed_release(f, &b);
 *
 * Sample i of step s is item order(epoch)[…]; its frames, crop and flip are keyed by (seed, step, sample). An item that cannot be
 * read is counted by reason and replaced by the next of the permuted order (deterministic); beyond max_bad the feed stops with JEPA_E_STOPPED. */
#ifndef JEPA_FEED_H
#define JEPA_FEED_H
#include "video/video.h"

typedef struct feed_cfg {
    int batch, threads, queue_batches;           /* queue_batches: how many prepared batches may wait; default 2 */
    sample_cfg sample; int crop;
    double scale[2], ratio[2]; int flip;         /* random resized crop; flip: probability one half when 1 */
    int eval;                                    /* 1: evaluation transform, no randomness */
    uint64_t seed; int64_t first_step;
    double max_bad;                              /* share of the items that may be bad, default 0.01; at least one item may always be bad, never all */
    const double *weight;                        /* [n items] sampling weights, or NULL: permuted epochs */
    void *(*get)(void *ctx, size_t bytes); void (*put)(void *ctx, void *p, size_t bytes); void *mem_ctx; /* memory for clips; NULL: mem_alloc */
} feed_cfg;
void feed_cfg_defaults(feed_cfg *c);
typedef struct feed_bad { char reason[64]; int64_t count; } feed_bad;
typedef struct feed_batch {
    int64_t step; int batch, frames, height, width;
    uint8_t *clips; int64_t *labels; int32_t *item_index; /* labels and items as used, after replacement */
    double seconds_waited;                        /* how long feed_next waited for it */
    int replaced;
} feed_batch;
typedef struct feed feed;
int feed_open(feed **out, const feed_cfg *c, const items *list, jepa_err *err); /* the list is copied */
int feed_next(feed *f, feed_batch **out, jepa_err *err);
void feed_release(feed *f, feed_batch **b);
int64_t feed_steps_per_epoch(const feed *f);
/* Counters of bad and replaced items as JSON text, to be stored with training state; and put back on resume. */
int feed_state(const feed *f, char **text, size_t *size, jepa_err *err);
int feed_restore(feed *f, const char *text, size_t size, jepa_err *err); /* before the first feed_next */
int feed_report(const feed *f, feed_bad *out, int max, int64_t *replaced); /* number of reasons */
void feed_close(feed **f); /* joins the workers */
#endif
