/* train.h: pretraining: configuration, schedules, one step, the run loop.
 *
 *     train_cfg c; train_cfg_read(&c, "configs/tiny.yaml", sets, nsets, &err);
 *     train *t; train_open(&t, &c, dev, &err);
 *     train_run(t, "run", &hooks, &err);
 *     train_close(&t);
 *
 * Follows V-JEPA 2 (2506.09985): EMA target encoder, several mask generators, |z-h|^p/p on layer-normed targets; a step also knows what
 * V-JEPA (2404.08471) and I-JEPA (2301.08243) do otherwise. */
#ifndef JEPA_TRAIN_H
#define JEPA_TRAIN_H
#include "checkpoint/checkpoint.h"
#include "encoder/encoder.h"
#include "masking/masking.h"
#include "predictor/predictor.h"
#include "video/feed.h"

/* ---- schedules (train/schedule.c; golden/schedules) ---- */
typedef enum { SCHED_WARMUP_COSINE, SCHED_LINEAR_DECAY, SCHED_WSD } sched_kind;
typedef struct sched_cfg {
    sched_kind kind; double iterations_per_epoch, epochs, warmup_epochs, anneal_epochs;
    double start_lr, lr, final_lr, weight_decay, final_weight_decay, ipe_scale, ema_start, ema_end;
} sched_cfg;
/* step: 1 = first. lr and weight decay use the incremented counter, the momentum the count before (published). */
void sched_at(const sched_cfg *c, int64_t step, double *lr, double *wd, double *ema);
/* V-JEPA 2.1, weight of the context term: 0 before `start`, rises linearly, `lambda` from `end` on. iteration: 0 = first. */
double sched_lambda(int64_t iteration, double lambda, int64_t start, int64_t end);

/* ---- configuration (train/config.c): the published YAML ---- */
enum { MAX_GENERATORS = 8, MAX_DATASETS = 64, TRAIN_MEMORY_AUTO = MEM_AUTO };
/* V-JEPA 2: the published index counts clip-length groups, not generators: one clip length, and all use token 0. V-JEPA 1: generator i
 * uses token i mod num_mask_tokens. */
typedef enum { TOKEN_BY_CLIP_LENGTH, TOKEN_BY_GENERATOR } token_rule;
typedef struct train_cfg {
    enc_cfg enc; pred_cfg pred; char model_name[64];
    mask_cfg mask[MAX_GENERATORS]; int n_masks;
    sched_cfg sched; double loss_exp, beta1, beta2, adam_eps, init_sd, clip_grad;
    int smooth_l1;                 /* I-JEPA: smooth L1 (beta 1) instead of |z-h|^loss_exp / loss_exp */
    token_rule mask_token_rule;
    dtype type;                    /* T_F32 or T_BF16: products and most activations in bf16 beside float32 masters */
    int type_asked;                /* by a --set: a resumed run that has another one is refused; else it keeps its own */
    int report_variance;           /* train_numbers.variance_term is computed */
    char *datasets[MAX_DATASETS]; double dataset_weight[MAX_DATASETS]; int n_datasets, has_weights;
    feed_cfg feed;                 /* batch = mask group; accumulate = global batch / batch */
    int accumulate;                /* mask groups per step: nodes·tasks_per_node of the YAML */
    int64_t steps;                 /* iterations of the run: ipe·epochs, ipe 0 in the file: from the data */
    int save_every;                /* steps between checkpoints, at least 1 (the last step is saved too) */
    int save_every_epochs;         /* > 0: that many epochs was meant; save_every is this times the steps of an epoch once those are known */
    int log_every, monitor_every, keep_last;
    uint64_t seed;
    char folder[512]; char config_path[512];
    recompute recompute_level;
    int micro_batch;               /* samples of a mask group that run together, the others after them; 0: all. Same gradients within rounding */
    int64_t memory_limit;          /* > 0 bytes, or TRAIN_MEMORY_AUTO: what is free. The fastest recompute_level (from the one given on) and
                                    * micro_batch (where 0) whose plan fits are chosen. 0: as they are given */
    struct yaml *resolved;         /* what is written as config.yaml */
    char notes[2048];              /* "mem_per_gpu: read, not used" lines */
} train_cfg;
void train_cfg_defaults(train_cfg *c);
/* sets: "section.key=value". Unknown keys are JEPA_E_MODEL with their line; known keys with values we do not support are refused. */
int train_cfg_read(train_cfg *c, const char *path, const char *const *sets, int n_sets, jepa_err *err);
void train_cfg_free(train_cfg *c);
int train_type(const char *text, dtype *type);                 /* of meta.dtype; 0: not one that training runs in */

/* ---- one step (train/step.c) ---- */
typedef struct train_batch { /* one mask group, host memory */
    int batch, frames, height, width;
    const void *x; dtype type;                 /* T_U8 [B,T,H,W,3] or T_F32 [B,3,T,H,W] */
    int n_gen; const mask_set *const *masks;   /* one per generator; index lists */
} train_batch;
typedef struct train_numbers { double loss, gen_loss[MAX_GENERATORS], grad_norm, grad_norm_enc, grad_norm_pred, lr, wd, ema; int64_t step; int finite; const char *bad_term;
    double variance_term; /* V-JEPA 1's: mean over clips and channels of relu(1 - s), s the predictions' spread over target tokens */
} train_numbers;
typedef struct train train;
int train_open(train **out, const train_cfg *c, dev *d, jepa_err *err);
int train_open_plan(train **out, const train_cfg *c, dev *d, jepa_err *err); /* without its memory: for train_plan, train_fits and the lists' totals alone */
int train_fits(const train *t, jepa_err *err);                  /* JEPA_E_MEMORY: the plan is larger than the memory that is free */
void train_close(train **t);
int train_init(train *t, jepa_err *err);                       /* published initialisation; target = copy of encoder */
/* Gradients of n mask groups added up (mean over groups and generators), then AdamW and EMA. Not finite: nothing is updated, numbers->finite = 0. */
int train_step(train *t, const train_batch *group, int n, train_numbers *numbers, jepa_err *err);
int train_gradients(train *t, const train_batch *group, int n, train_numbers *numbers, jepa_err *err); /* the first half */
int train_update(train *t, train_numbers *numbers, jepa_err *err);                                     /* the second */
params *train_params(train *t);         /* encoder.*, predictor.* with grad, m, v */
params *train_target(train *t);         /* target_encoder.* */
int64_t train_step_count(const train *t);
enc *train_encoder(train *t, int target); pred *train_predictor(train *t); queue *train_queue(train *t);
int train_copy_target(train *t, jepa_err *err);                /* target = copy of encoder */
void train_set_step(train *t, int64_t step);                   /* on resume */
/* What the last group left behind: layer-normed target tokens (which 1) or context tokens of the last generator (which 0), on the device. JEPA_E_END: none yet. */
int train_features(const train *t, int which, const float **tokens, int64_t *clips, int64_t *per_clip, int64_t *d);
void train_plan(const train *t, char *text, size_t size);      /* memory by part, recomputation and micro-batch, a line each */
void train_plan_choices(const train *t, char *text, size_t size); /* what each recomputation and micro-batch would need */
/* What memory_limit led to; given to another trainer's configuration it gives the same plan. limit: as cfg, auto replaced by bytes. */
void train_chosen(const train *t, recompute *level, int *micro, int64_t *limit);

void train_model_cfg(const train_cfg *c, model_cfg *m);         /* what a checkpoint of this run says of itself */

/* ---- the loss of V-JEPA 2.1 (train/level_loss.c) ---- */
/* Joined levels [rows, levels·d] of an encoder, on the device: each normalised by itself, without weights, in place. */
int level_targets(queue *q, float *x, int64_t rows, int levels, int64_t d, double eps, jepa_err *err);
/* distance[B,n_context] = root of the distance, time included, to the item's nearest target token; frames of grid_size² tokens. offset
 * (published as offset_context_loss): the distance is divided by grid_size // 16 before the root. Host memory. */
int level_distance(const int32_t *context, int64_t n_context, const int32_t *target, int64_t n_target, int64_t batch, int grid_size,
                   int offset, float *distance, jepa_err *err);
typedef struct level_loss_in {
    int64_t batch, n_context, n_target, tokens, d; /* tokens of an item; d: all levels' channels */
    const int32_t *context, *target;               /* [B,n] in host memory */
    const float *targets;                          /* [B,tokens,d] on the device, of level_targets */
    const float *distance;                         /* [B,n_context] of level_distance, or NULL: the context term is not weighted */
    double p, lambda, scale;                       /* exponent; weight of the context term; of all (1) */
    float *all;                                    /* [B,n_context+n_target,d] of pred_forward_all; on return scale·d loss / d all */
    float *h; int32_t *index; double *sums;        /* room on the device: as all; [B,n_context+n_target]; [2] */
} level_loss_in;
/* Each term without lambda; the loss is target_term + lambda·context_term. */
int level_loss(queue *q, const level_loss_in *in, double *target_term, double *context_term, jepa_err *err);

/* ---- collapse figures (train/monitor.c) ---- */
/* RankMe (2210.02885): exp of the entropy of the singular values of x [n,d], not centred. JEPA_E_USE when empty or not finite. */
int rankme(const float *x, int64_t n, int64_t d, int64_t ld, double *rank, jepa_err *err);
typedef struct monitor_numbers { double rank_tokens, rank_clips, std_tokens, std_clips; } monitor_numbers;
int monitor_features(const float *tokens, int64_t clips, int64_t tokens_per_clip, int64_t d, monitor_numbers *out, jepa_err *err);

/* ---- the run (train/run.c) ---- */
typedef struct train_hooks {
    int (*stop)(void *ctx);                                /* asked after each step; nonzero: finish, save, return JEPA_E_CANCELLED */
    void (*line)(void *ctx, const char *text, int is_progress);   /* messages and the progress line */
    void *ctx;
} train_hooks;
typedef struct train_run_opts { const char *out_dir; const char *resume /* "auto", "never", path */; const char *init /* model to start from, or NULL */;
    int64_t max_steps /* 0: config */; int dry_run; int on_collapse /* 0 warn, 1 stop */; } train_run_opts;
int train_run(const train_cfg *c, dev *d, const train_run_opts *o, const train_hooks *h, jepa_err *err);

/* Linear (ridge) probe on features, as spec'd in docs/training.md: returns accuracy on the test rows. */
int ridge_probe(const float *train_x, const int64_t *train_y, int64_t n_train, const float *test_x, const int64_t *test_y, int64_t n_test,
                int64_t d, int classes, double *accuracy, double *lambda, jepa_err *err);
#endif
