/* feed_work.h: what the files of the feed share. */
#ifndef JEPA_FEED_WORK_H
#define JEPA_FEED_WORK_H
#include "video/feed.h"

#include <pthread.h>

enum { FEED_REASONS = 32, FEED_REASON = 64 };
#define FEED_CUT "clip of a file that is cut short"
#define FEED_SLOW "clip of a source slower than asked"

/* One thing met while a sample was prepared: a bad item, or a warning about the item that was used. */
typedef struct feed_note { int32_t item; int warning; char reason[FEED_REASON]; } feed_note;
typedef struct feed_notes { feed_note *at; int n, cap; } feed_notes;

typedef struct feed_order { int64_t epoch; int refs; uint32_t *index; } feed_order; /* one permutation */

typedef struct slot {
    feed_batch b; /* first: a batch that is given out is its slot */
    struct slot *next;
    int taken, left;      /* samples given to workers; samples not finished */
    feed_order *order;
    feed_notes *notes;    /* [batch] */
    int rc; jepa_err err; /* what no replacement can help */
} slot;

/* Counters: touched by the consumer's thread only. */
typedef struct feed_count {
    char reason[FEED_REASONS][FEED_REASON];
    int64_t count[FEED_REASONS];
    int n;
    int64_t replaced;
    uint8_t *bad;         /* [items] 1 + reason, 0: not known to be bad */
    int32_t *item;        /* bad items in the order they were met */
    int64_t n_bad, cap;
} feed_count;

struct feed {
    feed_cfg c;
    items list;
    double *sum;          /* running sum of weights, or NULL */
    int64_t allowed;      /* how many bad items are borne */
    size_t clip_bytes;
    pthread_mutex_t lock;
    pthread_cond_t work, ready;
    int have_lock, have_work, have_ready;
    /* under the lock */
    int stop;
    int64_t next_step;    /* the next to be begun */
    slot *queue, *idle;   /* in step order, at most queue_batches; free ones */
    int queued;
    feed_order *order;    /* the newest */
    char **known;         /* [items] why an item cannot be opened, whatever is drawn from it; saves opening it again, changes no result */
    /* the consumer's */
    slot *held;
    feed_count count;
    int dead; jepa_err why;
    pthread_t *thread;
    int n_threads;
};

typedef struct worker { uint8_t *rgb; size_t rgb_size; int64_t *index; } worker;

/* feed_sample.c: prepares sample i of a slot. What goes wrong beyond replacement goes into s->rc, under the lock. */
void feed_sample_make(feed *f, worker *w, slot *s, int i);
/* "path: reason: detail (3 of 4)" → "reason": alike for the same cause. */
void feed_reason_of(const jepa_err *err, const char *path, char out[FEED_REASON]);
/* feed_count.c */
int feed_note_add(feed_notes *n, int32_t item, int warning, const char *reason);
int feed_count_batch(feed *f, slot *s, jepa_err *err); /* adds a batch's notes, in order; JEPA_E_STOPPED beyond what is allowed */
int feed_count_open(feed_count *c, int n_items);
void feed_count_close(feed_count *c);
#endif
