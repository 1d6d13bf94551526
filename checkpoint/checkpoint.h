/* checkpoint.h: reading and writing model files. All of them come from outside and are checked before anything is sized by them.
 *
 *     ck *c; ck_open(&c, "HF_FOLDER", &err);
 *     model_cfg m; ck_config(c, &m, &err);                       // sizes, from config.json or from our own model.json
 *     ck_load(c, &params, "encoder.", CK_ENCODER, flags, &report, &err);
 *     ck_close(&c);
 *
 * Opening maps files and checks their headers, no more. */
#ifndef JEPA_CHECKPOINT_H
#define JEPA_CHECKPOINT_H
#include "compute/compute.h"

/* ---- safetensors: one file ---- */
typedef struct st_file st_file;
typedef struct st_tensor { const char *name; tensor t; int64_t offset; } st_tensor; /* offset of the data in the file */
int st_open(st_file **out, const char *path, jepa_err *err);   /* mapped; header ≤ 100 MB, offsets inside, no overlap, sizes agree with shapes */
void st_close(st_file **f);
int st_count(const st_file *f);
const st_tensor *st_at(const st_file *f, int i);               /* in file order */
const st_tensor *st_find(const st_file *f, const char *name);  /* NULL: not there */
const char *st_meta(const st_file *f, const char *key);        /* __metadata__ entry or NULL */
typedef struct st_out { const char *name; tensor t; dtype store; } st_out; /* store: type on disk (float types convert from T_F32), T_NONE: as it is */
int st_write(const char *path, const st_out *item, int n, const char *const *meta /* key, value, …, NULL */, jepa_err *err); /* aside, synced, renamed */

/* ---- a model's files, whichever they are ---- */
typedef struct model_cfg { /* flat, golden's names; 0 or "" where a file does not say */
    char family[16];            /* "vjepa2", … */
    char variant[48];           /* "vit_large" where it is one of the table, else "" */
    int img_height, img_width, patch_size, tubelet_size, num_frames, in_chans;
    int embed_dim, depth, num_heads; double mlp_ratio, layer_norm_eps;
    int use_rope, rope_interleaved, interpolate_rope, uniform_power;
    int predictor_embed_dim, predictor_depth, predictor_num_heads, predictor_out_dim, num_mask_tokens; double predictor_mlp_ratio;
    int mask_token;             /* which one `predict` uses by default: 0 ours and Meta, 1 Hugging Face */
    int published_rows, published_cols; /* the split of `--positions published`; 0: none */
} model_cfg;
typedef enum { CK_ENCODER, CK_TARGET, CK_PREDICTOR } ck_module;
enum { CK_ALLOW_PARTIAL = 1 };
typedef struct ck_report { int loaded, missing, unexpected, ignored; char text[1024]; } ck_report; /* text: names, for the log */

typedef struct ck ck;
typedef struct ck_shape { char name[128]; int rank; int64_t dim[8]; } ck_shape; /* what a module must have, Meta's names without prefix */
int ck_open(ck **out, const char *path, jepa_err *err);        /* a folder (Hugging Face or ours), or a .safetensors beside its config.json; told by content */
void ck_close(ck **c);
int ck_config(const ck *c, model_cfg *out, jepa_err *err);
const char *ck_kind(const ck *c);                              /* "Hugging Face VJEPA2Model folder, 5 shards", "jepa run checkpoint", … */
int ck_has(const ck *c, ck_module m);                          /* 1 when tensors of that module are in it */
const char *ck_path(const ck *c);
/* Fills every parameter of p whose name starts with prefix from module m (names after the prefix are Meta's; maps and q,k,v joining are data tables).
 * A missing or misshapen or unexpected tensor is JEPA_E_MODEL naming it (first one and the count); CK_ALLOW_PARTIAL lists them in report instead. */
int ck_load(const ck *c, params *p, const char *prefix, ck_module m, int flags, ck_report *report, jepa_err *err);
int ck_each(const ck *c, int (*fn)(void *ctx, const char *name, const tensor *t), void *ctx); /* every tensor in the files, as named there */
int ck_sha256(const ck *c, char hex[65], jepa_err *err);       /* of all weight bytes in name order of files; slow for large files */
/* The other files of the folder ("video_preprocessor_config.json"): path, or "" */
void ck_side_file(const ck *c, const char *name, char *path, size_t size);

/* Writing. modules: pairs of (module, params prefix). Hugging Face folder: config.json + model.safetensors; ours: model.json + model.safetensors. */
typedef struct ck_part { ck_module module; const params *p; const char *prefix; } ck_part;
int ck_write_hf(const char *dir, const model_cfg *m, const ck_part *part, int n, dtype store, size_t shard_bytes /* 0: one file */, jepa_err *err);
int ck_write_own(const char *dir, const model_cfg *m, const ck_part *part, int n, dtype store, jepa_err *err);

/* ---- training state: a folder step-XXXXXXXX/ that exists only when whole ---- */
/* Written as step-XXXXXXXX.tmp, every file and the folder synced, renamed, then `latest` (a relative symbolic link) replaced by rename. */
typedef struct ck_state {
    int64_t step;
    params *train;              /* encoder.* and predictor.*: values and moments */
    params *target;             /* target_encoder.* */
    const char *json; size_t json_size;  /* everything else the trainer must remember (state.json): kept as it is */
    const char *config_yaml;    /* resolved configuration, or NULL */
} ck_state;
int ck_save_state(const char *run_dir, const model_cfg *m, const ck_state *s, jepa_err *err);
int ck_load_state(const char *step_dir, params *train, params *target, int64_t *step, char **json, size_t *json_size, jepa_err *err); /* json freed by mem_free */
int ck_find_latest(const char *run_dir, char *path, size_t size, jepa_err *err); /* newest complete step-* folder; JEPA_E_END: none. Removes leftovers *.tmp only with ck_clean. */
int ck_clean(const char *run_dir, int keep_last, jepa_err *err);                 /* removes *.tmp leftovers, and all but the newest keep_last (0: keep all) */
#endif
