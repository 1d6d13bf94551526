/* checkpoint.h: reading and writing model files. All of them come from outside and are checked before anything is sized by them.
 *
 *     ck *c; ck_open(&c, "HF_FOLDER", &err);
 *     model_cfg m; ck_config(c, &m, &err);                       // sizes, from config.json or from our own model.json
 *     ck_load(c, &params, "encoder.", CK_ENCODER, flags, &report, &err);
 *     ck_close(&c);
 *
 * Opening maps files and checks their headers, no more. Parameters are filled and read in host memory. */
#ifndef JEPA_CHECKPOINT_H
#define JEPA_CHECKPOINT_H
#include "compute/compute.h"

/* ---- safetensors: one file ---- */
typedef struct st_file st_file;
typedef struct st_tensor {
    const char *name;
    tensor t;       /* data may be unaligned (older writers): convert_to_f32 and memcpy take that */
    int64_t offset; /* of the data in the file */
} st_tensor;
/* Mapped. Header ≤ 100 MB and inside the file, names ≤ 512 bytes and unlike, ≤ 8 dimensions, sizes as shapes say, no overlap or hole. */
int st_open(st_file **out, const char *path, jepa_err *err);
void st_close(st_file **f);
int st_count(const st_file *f);
const st_tensor *st_at(const st_file *f, int i);              /* in file order */
const st_tensor *st_find(const st_file *f, const char *name); /* NULL: not there */
const char *st_meta(const st_file *f, const char *key);       /* __metadata__ entry or NULL */

typedef struct st_out {
    const char *name;
    tensor t;
    dtype store; /* type on disk (float types convert from T_F32), T_NONE: as it is */
} st_out;
/* meta: key, value, …, NULL. Written to path.tmp, synced, renamed; values go out from where they lie, without a second copy. */
int st_write(const char *path, const st_out *item, int n, const char *const *meta, jepa_err *err);

/* ---- PyTorch archives (.pt, .pth.tar), zip and the old form; the pickle is parsed as data by a strict subset, never run ---- */
typedef struct pt_file pt_file;
typedef struct pt_tensor {
    const char *top, *name; /* state dict of the file ("encoder", "" for a bare one) and the name in it, prefixes as stored */
    dtype type;
    int rank;
    int64_t dim[8], stride[8]; /* strides in elements */
    const void *data;          /* first element, in the mapped file; may be unaligned */
} pt_tensor;
/* Mapped and checked: every view lies inside its storage, every storage inside the file; the values' checksums are not compared. Optimizer
 * states and other values are skipped. Opcodes and class names outside what torch.save writes are refused by name. */
int pt_open(pt_file **out, const char *path, jepa_err *err);
void pt_close(pt_file **f);
int pt_count(const pt_file *f);
const pt_tensor *pt_at(const pt_file *f, int i); /* in file order */
const pt_tensor *pt_find(const pt_file *f, const char *top, const char *name);
int pt_copy_f32(const pt_tensor *t, float *dst); /* all elements in row-major order, whatever the strides */

/* ---- a model's files, whichever they are ---- */
typedef struct model_cfg { /* flat, golden's names; 0 or "" where a file does not say */
    char family[16];       /* "vjepa2", … */
    char variant[48];      /* "vit_large" where it is one of the table, else "" */
    int img_height, img_width, patch_size, tubelet_size, num_frames, in_chans;
    int embed_dim, depth, num_heads;
    double mlp_ratio, layer_norm_eps;
    int use_rope, rope_interleaved, interpolate_rope, uniform_power;
    int levels, level_norms, level_block[4];                   /* V-JEPA 2.1 (enc_cfg); 0: one final norm */
    int image_patch_embed, modality_embedding;
    int predictor_levels, predictor_context_proj, predictor_interpolate_rope; /* V-JEPA 2.1 (pred_cfg) */
    int pooler_depth, pooler_heads, num_classes; /* an attentive pooler and its classifier, where the file has them; 0: none */
    double pooler_mlp_ratio, pooler_eps;
    int predictor_embed_dim, predictor_depth, predictor_num_heads, predictor_out_dim, num_mask_tokens;
    double predictor_mlp_ratio;
    int mask_token;                     /* which one `predict` uses by default: 0 ours and Meta, 1 Hugging Face */
    int published_rows, published_cols; /* the split of `--positions published`; 0: none */
} model_cfg;
typedef enum { CK_ENCODER, CK_TARGET, CK_PREDICTOR, CK_POOLER /* attentive pooler and classifier: encoder/attentive.h */ } ck_module;
enum { CK_ALLOW_PARTIAL = 1 };
typedef struct ck_report {
    int loaded, missing, unexpected, ignored; /* missing: also those of another shape */
    char text[16384];                         /* a line for each, for the log (room for 350 names; then "...") */
} ck_report;

typedef struct ck ck;
typedef struct ck_shape { /* what a module must have, Meta's names without prefix */
    char name[128];
    int rank;
    int64_t dim[8];
} ck_shape;
/* A folder: Hugging Face's (VJEPA2Model, VJEPA2ForVideoClassification, IJepaModel; safetensors or pytorch_model.bin, in shards or not),
 * ours, a run (its latest step), a step of a run; a .safetensors beside its config.json; a .pt or .pth.tar by itself. Told by content. */
int ck_open(ck **out, const char *path, jepa_err *err);
/* What the user says of a file that does not say it (a .pt, or safetensors with Meta's names): NULL or 0 where nothing is said. */
typedef struct ck_hints {
    const char *arch;   /* "vit_large", "vit_giant_xformers", … */
    const char *family; /* "ijepa", "vjepa1", "vjepa2", "vjepa21", "vjepa2ac" */
    const char *config; /* a published training YAML, or a Hugging Face config.json */
    int crop, frames, heads, pred_heads;
} ck_hints;
int ck_open_as(ck **out, const char *path, const ck_hints *h, jepa_err *err);
/* What was chosen, and why, where a file left something open: lines for the user; "" when nothing was. num_heads of ck_config is 0 where
 * the file is of no published size and no hint says it: such a model can be looked at, not run. */
const char *ck_notes(const ck *c);
void ck_close(ck **c);
/* Every number in range, and the shapes of the tensors that are there agree with them. */
int ck_config(const ck *c, model_cfg *out, jepa_err *err);
const char *ck_kind(const ck *c); /* "Hugging Face VJEPA2Model folder, 5 shards", "jepa run checkpoint", … */
/* 1 when tensors of that module are in it. A Hugging Face folder's encoder is CK_ENCODER, and ck_load takes it for CK_TARGET too; it takes
 * the only encoder of a .pt for either. */
int ck_has(const ck *c, ck_module m);
int ck_has_optimizer(const ck *c); /* the state of one lies in it, or beside it */
const char *ck_path(const ck *c); /* the folder, or the .pt; ck_open takes it again */
/* Fills every parameter of p whose name starts with prefix from module m (names after the prefix are Meta's; maps and q,k,v joining are
 * data tables). A PARAM_FIXED one that is not in the file keeps the table it has. A missing or misshapen or unexpected tensor is
 * JEPA_E_MODEL naming it (first one and the count), and nothing is filled;
 * CK_ALLOW_PARTIAL fills what fits and lists the rest in report. */
int ck_load(const ck *c, params *p, const char *prefix, ck_module m, int flags, ck_report *report, jepa_err *err);
/* Every tensor in the files, as named there (in a .pt "encoder.module…"; those of the model only; data NULL where strides are not the
 * usual ones); ends at the first nonzero answer and gives it. */
int ck_each(const ck *c, int (*fn)(void *ctx, const char *name, const tensor *t), void *ctx);
/* Of the weight files, end to end in name order (one file: what sha256sum prints); slow for large files. */
int ck_sha256(const ck *c, char hex[65], jepa_err *err);
/* The other files of the folder ("video_preprocessor_config.json"): path, or ""; a .pt has none */
void ck_side_file(const ck *c, const char *name, char *path, size_t size);

/* Writing. Hugging Face folder: config.json + model.safetensors (or shards of at most shard_bytes and their index; 0: one file);
 * ours: model.json + model.safetensors. store: T_F32, T_BF16 or T_F16. Weights first, the configuration
 * last, each file whole or not at all. */
typedef struct ck_part {
    ck_module module;
    const params *p;
    const char *prefix; /* the parameters of p that are this module's */
} ck_part;
/* Hugging Face has classes for V-JEPA 2 (VJEPA2Model) and for the encoder of I-JEPA (IJepaModel); V-JEPA 1 and 2.1 are refused by name. */
int ck_write_hf(const char *dir, const model_cfg *m, const ck_part *part, int n, dtype store, size_t shard_bytes, jepa_err *err);
/* A PyTorch archive as Meta's are: state dicts encoder, target_encoder, predictor, whose names begin with "module.backbone." (I-JEPA and
 * AC: "module."); torch.load(weights_only=True) opens it. Parts of the same parameters (one encoder as both) share their bytes. */
int ck_write_pt(const char *path, const model_cfg *m, const ck_part *part, int n, dtype store, jepa_err *err);
int ck_write_own(const char *dir, const model_cfg *m, const ck_part *part, int n, dtype store, jepa_err *err);

/* ---- training state: a folder step-XXXXXXXX/ that exists only when whole ---- */
/* Written as step-XXXXXXXX.tmp, every file and the folder synced, renamed, then `latest` (a relative symbolic link) replaced by rename.
 * A folder of that name changes places with the new one in one rename and is then removed. It is also a model that ck_open reads. */
typedef struct ck_state {
    int64_t step;
    params *train;  /* encoder.* and predictor.*: values and moments */
    params *target; /* target_encoder.*, or NULL */
    const char *json;
    size_t json_size;        /* everything else the trainer must remember (state.json): kept as it is */
    const char *config_yaml; /* resolved configuration, or NULL */
} ck_state;
int ck_save_state(const char *run_dir, const model_cfg *m, const ck_state *s, jepa_err *err);
/* step_dir: a step folder, or a run (its latest). json is freed by mem_free. After an error the parameters are of no use. */
int ck_load_state(const char *step_dir, params *train, params *target, int64_t *step, char **json, size_t *json_size, jepa_err *err);
/* The step folder that `latest` names, where it is whole; else the whole one with the highest number. JEPA_E_END: none. Removes nothing. */
int ck_find_latest(const char *run_dir, char *path, size_t size, jepa_err *err);
/* Removes *.tmp leftovers, and all steps but the newest keep_last (0: keep all) and the one that `latest` names. */
int ck_clean(const char *run_dir, int keep_last, jepa_err *err);
#endif
