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
extern const name_row ck_names_encoder[], ck_names_predictor[], ck_names_pooler[]; /* ended by a row of NULL */
const name_row *names_of(ck_module m);
/* Which part of the rows of Meta's tensor such a row is, and of how many: 0 of 1, 0 … 2 of 3, 0 or 1 of 2. */
int name_part(name_how how, int *of);
int name_match(const char *pattern, const char *name, int *number, const char **rest);
int name_make(const char *pattern, int number, const char *rest, char *out, size_t size); /* 0, or JEPA_E_USE: too long */
const char *module_name(ck_module m);                                /* "encoder", "target_encoder", "predictor", "pooler": as in our own files */
const char *ck_variant(int dim, int depth, int heads, double ratio); /* "vit_large" … or "" */

/* ---- an open model ---- */
typedef enum { LAYOUT_HF, LAYOUT_OWN } ck_layout;
enum { MAX_SHARDS = 1000 };
struct ck {
    char path[PATH_MAX]; /* the folder */
    char config_path[PATH_MAX];
    char kind[96];
    ck_layout layout;
    json *config;
    st_file **file;
    int files, classifier;
    const char *hf_prefix; /* "" or "vjepa2." */
};
const st_tensor *ck_find(const ck *c, const char *name);
int config_from_hf(const ck *c, model_cfg *m, jepa_err *err);
int config_from_own(const ck *c, model_cfg *m, jepa_err *err);
int config_pooler(const ck *c, model_cfg *m, jepa_err *err); /* names_pooler.c */
int config_to_hf(json_writer *w, const model_cfg *m, dtype store, const char *where, jepa_err *err);
void config_to_own(json_writer *w, const model_cfg *m, const ck_part *part, int n, int64_t step);
int write_own(const char *dir, const model_cfg *m, const ck_part *part, int n, dtype store, int64_t step, jepa_err *err);

/* step folder names: "step-00000120"; -1: another name. */
int64_t step_of_name(const char *name);

#endif
