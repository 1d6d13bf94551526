/* feed.h: clips for training, prepared by worker threads, the same for any number of them.
 *
 *     feed *f; feed_open(&f, &cfg, &items, &err);
 *     feed_batch *b; feed_next(f, &b, &err);   // blocks until step `b->step` is whole
 *     … b->clips uint8 [batch,T,crop,crop,3] …
 *     feed_release(f, &b);
 *
 * Sample i of step s is item order(epoch)[…]; its frames, crop and flip are keyed by (seed, step, sample). An item that cannot be
 * read is counted by reason and replaced by the next of the permuted order (deterministic); beyond max_bad the feed stops with
 * JEPA_E_STOPPED.
 * An epoch is the whole batches of one permutation: with 10 items and batches of 4, two steps. Fewer items than a batch: they repeat in it.
 * One thread calls feed_next, feed_release, feed_state, feed_restore and feed_report; several batches may be held at a time. */
#ifndef JEPA_FEED_H
#define JEPA_FEED_H
#include "video/video.h"

typedef struct feed_cfg {
    int batch, threads, queue_batches;           /* queue_batches: how many prepared batches may wait; default 2 */
    sample_cfg sample; int crop;                 /* one clip a sample: sample.num_clips is 1 */
    double scale[2], ratio[2]; int flip;         /* random resized crop; flip: probability one half when 1 */
    int eval;                                    /* 1: evaluation transform, no randomness */
    uint64_t seed; int64_t first_step;
    double max_bad;                              /* share of the items that may be bad, default 0.01; at least one always may, never all */
    const double *weight;                        /* [n items] sampling weights (copied), or NULL: permuted epochs */
    void *(*get)(void *ctx, size_t bytes); void (*put)(void *ctx, void *p, size_t bytes); /* memory for clips, asked for on the */
    void *mem_ctx;                               /* caller's thread; NULL: mem_alloc */
} feed_cfg;
void feed_cfg_defaults(feed_cfg *c);
/* count: items that cannot be used for this reason; or, for the two reasons that begin with "clip", clips used all the same:
 * cut short (only frames that decode were taken), or slower than the frame rate that was asked. */
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
/* Counters of bad and replaced items as JSON text (mem_free), to be stored with training state; and put back on resume. They hold what
 * the batches given out so far have met, however many were prepared ahead. A list of another length is refused on restore. */
int feed_state(const feed *f, char **text, size_t *size, jepa_err *err);
int feed_restore(feed *f, const char *text, size_t size, jepa_err *err); /* before the first feed_next */
int feed_report(const feed *f, feed_bad *out, int max, int64_t *replaced); /* number of reasons */
/* The k-th item found bad (0, 1, … in the order they were met) and why; 0, or JEPA_E_END past the last. */
int feed_bad_item(const feed *f, int64_t k, int32_t *item_index, const char **reason);
void feed_close(feed **f); /* at any moment: joins the workers; batches still held are freed with it */
#endif
