/* internal.h: what the files of this folder share and nobody else includes. */
#ifndef JEPA_CHECKPOINT_INTERNAL_H
#define JEPA_CHECKPOINT_INTERNAL_H
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/sha256.h"

#include <limits.h>

/* ---- files that appear whole or not at all (out.c) ---- */
typedef struct out_file {
    int fd; /* -1: closed */
    char path[PATH_MAX], aside[PATH_MAX];
} out_file;
int ck_fault(const char *name); /* sets errno and answers nonzero when a test says that the call behind it fails */
int out_open(out_file *f, const char *path, jepa_err *err); /* path.tmp, emptied */
int out_write(out_file *f, const void *data, size_t size, jepa_err *err);
int out_commit(out_file *f, jepa_err *err); /* synced, renamed over path, folder synced */
void out_abort(out_file *f);                /* leaves nothing of it; harmless after out_commit */
int out_file_whole(const char *path, const void *data, size_t size, jepa_err *err);
int path_join(char *out, size_t size, const char *dir, const char *name, jepa_err *err);
int path_is_dir(const char *path);
int path_is_file(const char *path);
int dir_remove(const char *path, jepa_err *err);    /* a folder of plain files; 0 when it is not there */
int dir_sync_self(const char *path, jepa_err *err); /* the folder's own entries */

/* ---- safetensors, beside what checkpoint.h shows (safetensors.c) ---- */
const char *st_path(const st_file *f);
const void *st_bytes(const st_file *f, size_t *size); /* the whole mapped file */
void st_release(const st_file *f);                    /* gives mapped pages back; they come again when touched */
int st_type(const char *name, dtype *out);            /* "F32" … */
const char *st_type_name(dtype t);                    /* NULL: not one of the format's */
/* What the first bytes of a file that is not what was expected say it is, as words for a message; NULL: nothing known. */
int content_is_safetensors(const unsigned char *head, size_t n);
int content_is_pytorch(const unsigned char *head, size_t n); /* zip or pickle */
const char *content_name(const unsigned char *head, size_t n);
void shape_text(char *out, size_t size, int rank, const int64_t *dim); /* "[3, 2]" */

/* ---- names as data (names.c) ---- */
/* query, key, value: a third of the rows each, in this order; kv_key, kv_value: a half each; stack: one of the first dimension */
typedef enum { NAME_SAME, NAME_QUERY, NAME_KEY, NAME_VALUE, NAME_KV_KEY, NAME_KV_VALUE, NAME_STACK } name_how;
typedef struct name_row {
    const char *meta; /* inside its module; '#' is a number, a '*' at the end "weight" or "bias" */
    const char *hf;
    name_how how;
} name_row;
extern const name_row ck_names_encoder[], ck_names_predictor[], ck_names_pooler[], ck_names_ijepa[]; /* ended by a row of NULL */
const name_row *names_of(ck_module m);
/* Which part of the rows of Meta's tensor such a row is, and of how many: 0 of 1, 0 … 2 of 3, 0 or 1 of 2. */
int name_part(name_how how, int *of);
int name_match(const char *pattern, const char *name, int *number, const char **rest);
int name_make(const char *pattern, int number, const char *rest, char *out, size_t size); /* 0, or JEPA_E_USE: too long */
const char *module_name(ck_module m); /* "encoder", "target_encoder", "predictor", "pooler": as in our own files */
const char *ck_variant(int dim, int depth, int heads, double ratio); /* "vit_large" … or "" */

/* ---- an open model ---- */
/* one file of weights, in either form, told by content (tensors.c) */
typedef struct weight_file {
    st_file *st;
    pt_file *pt;
} weight_file;
int weights_open(weight_file *w, const char *path, jepa_err *err);
void weights_close(weight_file *w);
int weights_count(const weight_file *w);
const char *weights_name(const weight_file *w, int i);
int weights_has(const weight_file *w, const char *name);
const void *pt_bytes(const pt_file *f, size_t *size); /* the whole mapped file */
void pt_release(const pt_file *f);
int pt_copy_part(const pt_tensor *t, int64_t first, int64_t n, float *dst); /* of pt_copy_f32's order: n elements from element `first` on */
int pt_is_legacy(const pt_file *f);
int pt_has_optimizer(const pt_file *f); /* a dict under one of the names that trainers give it, with something in it */

typedef struct ck_tensor { /* of any of the files */
    const char *name; /* what it is looked up by: as in the file; of a LAYOUT_META, "encoder." and so on and the name without prefixes */
    const char *top, *stored; /* as the file has it; top "" where it has none */
    dtype type;
    int rank;
    int64_t dim[8], stride[8]; /* strides in elements */
    const void *data;
} ck_tensor;
typedef enum { LAYOUT_HF, LAYOUT_OWN, LAYOUT_META /* .pt, or safetensors with Meta's names: sizes come from the tensors */ } ck_layout;
enum { MAX_SHARDS = 1000 };
struct ck {
    char path[PATH_MAX]; /* the folder; of a LAYOUT_META the file */
    char config_path[PATH_MAX];
    char kind[96];
    ck_layout layout;
    json *config;
    weight_file *file;
    int files, classifier, is_ijepa; /* is_ijepa: a Hugging Face folder of IJepaModel */
    const char *hf_prefix;           /* "", "vjepa2." or "ijepa." */
    ck_tensor *tensor;               /* all of them, file by file */
    int n, *by_name;
    char **text; /* names that no file has as such */
    int texts;
    model_cfg meta; /* LAYOUT_META: made when it was opened */
    char notes[4096];
    size_t noted;
};
int ck_collect(ck *c, jepa_err *err); /* tensor and by_name, of the files */
const ck_tensor *ck_find(const ck *c, const char *name);
/* n elements from element `first` on, in row-major order; slice >= 0: of that one of the first dimension */
int ck_copy_part(const ck_tensor *t, int64_t slice, int64_t first, int64_t n, float *dst);
void ck_release(const ck *c);                             /* gives all mapped pages back */
void ck_release_tensor(const ck *c, const ck_tensor *t); /* those of one tensor */
void ck_note(ck *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* LAYOUT_META (meta_names.c, meta_config.c, meta_hints.c) */
int meta_names(ck *c, jepa_err *err); /* tensor and by_name, of the state dicts that are a model's */
int meta_config(ck *c, const ck_hints *h, jepa_err *err);
typedef struct meta_hints { /* from the command line and a configuration file; 0, "" or -1 (flags): not given */
    char arch[48], family[16];
    int crop, frames, patch, tubelet, heads, dim, depth, pred_heads, pred_dim, pred_depth, mask_tokens, use_rope, uniform_power;
    double mlp_ratio, pred_mlp_ratio, eps;
    const char *file; /* the configuration, or NULL */
} meta_hints;
int meta_hints_read(meta_hints *out, const ck_hints *h, jepa_err *err);
const char *ck_family(const char *name); /* "vjepa2" for "vjepa2", "V-JEPA 2", …; NULL: none */
int ck_variant_size(const char *name, int *dim, int *depth, int *heads, double *ratio); /* 0: not one of the table */
double ck_ratio(int64_t hidden, int64_t dim);                                           /* such that floor(dim·ratio) is hidden */
int ck_variant_heads(int dim, int depth, const char *family);                           /* 0: not one of the table */

int config_from_hf(const ck *c, model_cfg *m, jepa_err *err);
int config_from_own(const ck *c, model_cfg *m, jepa_err *err);
int config_pooler(const ck *c, model_cfg *m, jepa_err *err); /* names_pooler.c */
int config_to_hf(json_writer *w, const model_cfg *m, dtype store, const char *where, jepa_err *err);
void config_to_own(json_writer *w, const model_cfg *m, const ck_part *part, int n, int64_t step);
int write_own(const char *dir, const model_cfg *m, const ck_part *part, int n, dtype store, int64_t step, jepa_err *err);
int part_is_half(const ck_part *part, const char *where, jepa_err *err); /* refused: it has no float32 values (PARAMS_HALF_ONLY) */

/* step folder names: "step-00000120"; -1: another name. */
int64_t step_of_name(const char *name);

#endif
