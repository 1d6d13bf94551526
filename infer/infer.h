/* infer.h: the parts behind jepa.h that the program uses too: an open model, clip plans, the embedding job. Not installed. */
#ifndef JEPA_INFER_H
#define JEPA_INFER_H
#include "checkpoint/checkpoint.h"
#include "encoder/encoder.h"
#include "infer/jepa.h"
#include "masking/masking.h"
#include "predictor/predictor.h"
#include "video/video.h"

#include <pthread.h>

struct jepa {
    dev *d;
    ck *c;
    model_cfg mc;
    enc_cfg ec;
    params p;                  /* "encoder.*" */
    enc *e;
    pthread_mutex_t lock;      /* held while head is opened */
    int lock_ready;
    jepa_options o;
    dtype type;                /* T_F32 or T_BF16: what it computes in */
    clip_cfg clip;             /* the model's own transform */
    double fps; int stride;    /* the model's own sampling */
    int which_target;          /* 1: weights are the target encoder's */
    params pp, cp;             /* with jepa_options.predictor: "predictor.*", and "encoder.*" of the context encoder where the file has both */
    pred_cfg pc;
    pred *pr;
    enc *ctx;                  /* NULL: e is the context encoder too */
    char device[160], transform[160], kind[96];
    struct jepa_head *head;    /* infer/classify.c: opened when first asked for, under the lock */
};

struct jepa_run {
    jepa *m;
    queue *q;
    enc_acts *a;
    int64_t room;              /* tokens of a call that a has memory for */
    buf x, tokens, hidden[16];
    int n_hidden;
    struct predict_work *work; /* infer/predict.c */
    struct classify_work *classify; /* infer/classify.c */
};

/* As jepa_session, with at most `threads` compute threads of its own (0: all): job.c runs one session a core. */
int session_open(jepa *m, int threads, jepa_run **out, jepa_err *err);
/* The same network as before its training: seed and init_sd 0: those of the run's config.yaml, where it has one. */
int untrained_twin(const jepa *m, jepa **out, int64_t seed, double init_sd, jepa_err *err);

/* ---- which clips of a video, and how each becomes what the model sees ---- */
typedef struct clip_plan {
    int frames, pool, layers, layer[16];
    double fps; int stride;    /* fps > 0, or stride > 0 */
    int clips; double every;
    int by_time;               /* frames by time instead of by rate and index */
    int as_stored, reject_short;
    clip_cfg clip;
    int64_t grid[3], per_row, dim; /* of a row, after pooling */
} clip_plan;
int plan_make(const jepa *m, const jepa_embed_options *o, clip_plan *p, jepa_err *err);
void plan_pool(clip_plan *p, const enc_cfg *c, int frames, int height, int width); /* grid, per_row, dim for another size */

typedef struct clip_list { int64_t *index; int n; int slow; } clip_list; /* [n,frames] */
int clips_of(vid *v, const clip_plan *p, clip_list *out, jepa_err *err); /* mem_free(out->index) */
/* Clip k: decoded, prepared → out uint8 [frames,crop,crop,3]. A cut file that ends early is sampled again from what there is (clips is redone). */
int clip_load(vid *v, const clip_plan *p, clip_list *clips, int k, uint8_t *out, double *start, double *end, jepa_err *err);

/* ---- from clips to rows ---- */
/* x uint8 [n,T,H,W,3], or float32 [n,T,3,H,W] → rows [n, per_row, dim]. */
int run_encode(jepa_run *r, const clip_plan *p, const void *x, dtype type, int64_t n, int64_t frames, int64_t height, int64_t width, float *rows, jepa_err *err);

/* V-JEPA 2.1: 1 when this input is an image that goes through the image patch embedding as one frame, 0 when not; JEPA_E_INPUT when such a
 * row would have another shape than the job's. */
int image_rows(const jepa *m, const clip_plan *p, const vid_info *i, jepa_err *err);
/* n clips of the plan's shape; of those whose still[i] is 1 only the first frame counts. */
int run_encode_mixed(jepa_run *r, const clip_plan *p, const uint8_t *x, const unsigned char *still, int64_t n, float *rows, jepa_err *err);

/* ---- embedding jobs ---- */
typedef struct embed_job {
    jepa *m;
    const clip_plan *plan;
    const items *inputs;
    const char *out;             /* .h5, .npy, .safetensors */
    dtype store;                 /* T_F32 or T_F16 */
    int gzip;                    /* .h5: 0 … 9 */
    int batch, threads;          /* clips a call; decoding threads */
    int64_t memory;              /* bytes that the plan may take, or MEM_AUTO: what is free; 0: batch, threads and encoders as they are given */
    int encoders;                /* sessions that compute beside each other; 0: by cores and memory (infer/job.h) */
    int shard, shards;           /* items i with i % shards == shard */
    const char *command;         /* how the program was called, stored */
    int (*stop)(void *ctx);      /* nonzero: finish the clip in hand, keep OUT.part, return JEPA_E_CANCELLED */
    void (*progress)(void *ctx, int64_t items_done, int64_t items, int64_t clips);
    void (*failed)(void *ctx, const char *path, int line, const char *reason);
    void (*line)(void *ctx, const char *text);
    void *ctx;
    int64_t rows, failures, resumed; /* out: what was done */
    int complete_already;        /* out: the file was there, whole and with these settings: nothing was done */
} embed_job;
int embed_run(embed_job *j, jepa_err *err);

/* ---- OUT.part: rows as they come, so that a killed job goes on ----
 * While a job runs OUT.part is the truth. An .h5 output grows beside it and is flushed every second, with `complete` 0, for those who look in
 * while it runs; it is never read back. A job that goes on makes it anew from OUT.part (aside, renamed), so that it does not matter where
 * in it the killed one was writing. .npy and .safetensors are written from OUT.part at the end. OUT.part goes when OUT is whole. */
typedef struct part part;
typedef struct part_row { int64_t item; int32_t clip, line; double start, end; int64_t label; const char *path, *reason; const float *data; } part_row; /* reason: a failure, no data */
int part_open(part **out, const char *path, const char *settings /* JSON */, int64_t floats, jepa_err *err); /* existing: settings compared, the difference named */
int64_t part_items(const part *p);            /* items that are whole in it */
int64_t part_rows(const part *p); int64_t part_failures(const part *p);
int part_add(part *p, const part_row *r, jepa_err *err);
int part_item_done(part *p, int64_t item, jepa_err *err);
int part_each(part *p, int (*fn)(void *ctx, const part_row *r, jepa_err *err), void *ctx, jepa_err *err); /* all whole items' rows and failures, in order */
void part_close(part **p);                    /* keeps the file */
int part_remove(part **p);                    /* closes and deletes it */

/* ---- outputs ---- */
typedef struct emb_meta { /* what every output says of itself */
    const char *model, *sha256, *precision, *pool, *version, *settings, *transform, *device;
    int frames; int64_t grid[3], per_row, dim; dtype store; int layered /* per_row kept as a dimension */;
    int gzip;              /* .h5: 1 … 9, rows are compressed; 0: not */
} emb_meta;
/* Where rows come from: OUT.part, or the outputs that are merged. each gives rows in their order, and failures in theirs. */
typedef int row_fn(void *ctx, const part_row *r, jepa_err *err);
typedef struct emb_source {
    void *ctx;
    int64_t rows, failures;
    int (*each)(void *src, int only_failures, row_fn *fn, void *ctx, jepa_err *err);
} emb_source;
emb_source part_source(part *p);
int emb_write(const char *path, const emb_meta *m, const emb_source *s, jepa_err *err); /* by ending; aside, synced, renamed; a row at a time */
int emb_ending(const char *path);             /* EMB_H5 …; EMB_NONE: no output's ending */
enum { EMB_NONE, EMB_H5, EMB_NPY, EMB_SAFETENSORS };
/* 1: path holds a complete output with these settings; 0: not there, or unfinished and OUT.part is there to go on from; JEPA_E_USE: another
 * file, or other settings, the difference named. */
int emb_check(const char *path, const char *settings, jepa_err *err);
int settings_differ(const char *a, const char *b, char *what, size_t size); /* JSON objects: first key that differs */

/* An .h5 that grows: made aside and renamed with its attributes and no rows yet; complete is 0 until emb_h5_finish. */
typedef struct emb_h5 emb_h5;
int emb_h5_open(emb_h5 **out, const char *path, const emb_meta *m, const emb_source *first /* its rows are in before it is renamed; or NULL */,
                int64_t rows /* about so many will come: size of chunks; 0: not known */, jepa_err *err);
int emb_h5_add(emb_h5 *h, const part_row *r, jepa_err *err);
int emb_h5_flush(emb_h5 *h, jepa_err *err);
int emb_h5_write(const char *path, const emb_meta *m, const emb_source *s, jepa_err *err); /* at once: aside, complete, synced, renamed */
int emb_h5_finish(emb_h5 **h, jepa_err *err); /* complete = 1, synced, closed */
void emb_h5_close(emb_h5 **h);                /* as it is */

/* Outputs (.h5, .safetensors) of the same settings but for their shard → one, rows in the order of the whole job's items; a row at a time.
 * JEPA_E_USE: other settings (the difference named), an item twice, a shard missing (allow_missing: said through line). */
typedef struct merge_job {
    const char *out;
    const char *const *in; int n;
    int allow_missing, gzip;
    void (*line)(void *ctx, const char *text); void *ctx;
    int64_t rows, failures, per_row, dim, missing; /* out; missing: items of the whole job that no input has */
} merge_job;
int merge_run(merge_job *m, jepa_err *err);
#endif
