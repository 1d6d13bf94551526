/* predict.h: what the predictor thinks is behind the mask: masks from a text, predictions beside targets, the job behind `jepa predict`.
 * Not installed; jepa.h has jepa_predict. */
#ifndef JEPA_INFER_PREDICT_H
#define JEPA_INFER_PREDICT_H
#include "infer/infer.h"

/* Which tokens are seen and which are predicted, for one grid. */
typedef struct pred_masks {
    mask_grid grid;
    int64_t sets;                 /* 1: the same for every clip; else one a clip (mask file) */
    int64_t n_context, n_target;  /* target: of all blocks together */
    int blocks;                   /* I-JEPA: target blocks, each predicted by itself from the same context */
    int32_t *context, *target;    /* [sets,n_context]; [sets,n_target], block after block */
} pred_masks;
/* spec: "future:from=4" (tubelets after the 4th), "multiblock[:generator=0,seed=0]" (the published generators; 2-D for image models),
 * "tube:ratio=0.9[,seed=0]", "file:masks.safetensors" (context, target int64 [n] or [clips,n]). image_model: I-JEPA's 2-D blocks.
 * JEPA_E_USE names what is wrong: an unknown word, an index outside the grid, a token in both lists, an empty list. */
int pred_masks_make(pred_masks *out, const char *spec, mask_grid g, int image_model, jepa_err *err);
void pred_masks_free(pred_masks *m);

typedef struct pred_plan {
    const clip_plan *clip;
    const pred_masks *masks;
    int mask_token;               /* index into mask_tokens */
    int encode_all;               /* context tokens are picked after encoding all of them (Hugging Face's code), not before */
} pred_plan;
/* Channels of a predicted token, and whether targets can be computed for it: a distilled student predicts its teacher's features, which no
 * weights in its file can give. */
int64_t predict_dim(const jepa *m, int *has_target);
int predict_plan_check(const jepa *m, const pred_plan *p, jepa_err *err);
/* x: n clips, uint8 [n,T,H,W,3] or float32 [n,T,3,H,W]; clip k of the job is the first. predicted, target [n,n_target,dim], error
 * [n,n_target]: mean over channels of |predicted - target|; targets are normalised per token (and level) as in training. NULL: not wanted. */
int run_predict(jepa_run *r, const pred_plan *p, int64_t k, const void *x, dtype type, int64_t n, int64_t frames, int64_t height, int64_t width,
                float *predicted, float *target, float *error, jepa_err *err);
void predict_session_close(jepa_run *r); /* called by jepa_session_close */

typedef struct predict_job {
    jepa *m;
    const pred_plan *plan;
    const items *inputs;
    const char *out, *png, *video, *csv, *curve; /* NULL: not wanted */
    const char *mask_text, *command;
    int batch;
    int64_t memory;              /* as of an embed_job */
    int (*stop)(void *ctx);
    void (*progress)(void *ctx, int64_t items_done, int64_t items, int64_t clips);
    void (*failed)(void *ctx, const char *path, int line, const char *reason);
    void *ctx;
    int64_t rows, failures;      /* out */
    double mean_error;           /* out: over all clips and tokens; NaN without targets */
} predict_job;
int predict_run(predict_job *j, jepa_err *err);
int predict_fit(predict_job *j, jepa_err *err); /* batch such that j->memory is enough (room.c) */
#endif
