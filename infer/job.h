/* job.h: the parts of an embedding job that run beside each other: decoders that keep clips ready (job_pipe.c), encoders that compute
 * (job_encode.c), and the one consumer that asks both in the order of the inputs and writes (job.c). */
#ifndef JEPA_INFER_JOB_H
#define JEPA_INFER_JOB_H
#include "infer/infer.h"

/* ---- decoders ---- */
typedef enum { S_FREE, S_CLIP, S_FAILED, S_END } slot_kind;
typedef struct slot { /* one clip on its way, or how its item ended */
    slot_kind kind;
    uint8_t *clip;
    double start, end;
    int number, still; /* still: an image that goes in as one frame (image_rows) */
    char reason[600];  /* S_FAILED: why; S_END: a remark, or "" */
} slot;
typedef struct clip_pipe clip_pipe;
/* todo: indices into j->inputs; must stay. Clips of items are given in their order. */
int clip_pipe_open(clip_pipe **out, const embed_job *j, const int *todo, int64_t n, jepa_err *err);
void clip_pipe_close(clip_pipe **p);
slot *clip_pipe_next(clip_pipe *p, int64_t at); /* of item[at]; waits; the slot is the caller's until clip_pipe_done */
void clip_pipe_done(clip_pipe *p, int64_t at);

/* ---- encoders ---- */
typedef struct work { /* clips of one item, and what follows them */
    uint8_t *x;
    unsigned char *still;
    float *rows;
    part_row *row;
    int n, most;
    slot_kind end; /* S_FREE: the item goes on; else it ends after these clips */
    char reason[600];
    int64_t at;    /* its place in the list of what is to do */
    int state, rc; /* inside job_encode.c */
    jepa_err err;
} work;
typedef struct encoders encoders;
void encoders_shape(const embed_job *j, int *sessions, int *threads); /* how many sessions, and threads for each (job_encode.c) */
int embed_fit(embed_job *j, jepa_err *err); /* batch, encoders and threads such that j->memory is enough (room.c) */
/* One session of one thread for each compute thread where the job has enough clips and memory allows; else fewer with more threads each, in
 * the limit one with all of them. It depends on the job and the machine, not on what is left to do, so that a job that goes on computes the
 * same. A session with one thread gives the same rows on any machine of the same instruction set. */
int encoders_open(encoders **out, const embed_job *j, jepa_err *err);
void encoders_close(encoders **e);
int encoders_count(const encoders *e);
work *encoders_new(encoders *e); /* an empty one; NULL: the oldest must be taken first */
void encoders_give(encoders *e); /* the one that encoders_new gave goes to work */
int encoders_pending(const encoders *e);
work *encoders_oldest(encoders *e, int wait); /* done, in the order they were given; NULL: none is (wait: none was given) */
void encoders_taken(encoders *e);             /* the oldest is free again */
#endif
