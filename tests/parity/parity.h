/* parity.h: holds this tree to folders of reference vectors, whatever they are called.
 *
 *     parity [--device ref|cpu] [--only GLOB] [--verbose] DIR…
 *
 * Every folder below DIR with a meta.json is a set. Its `checks` are run by `kind` and `run`; nothing follows from a folder's or a
 * file's name. A check passes when abs(a - b) <= abs + rel * abs(b) for every element, b the stored value. A kind, verb or key that
 * is not known fails; what later work brings is skipped, each check by name and with the reason (tables.c). */
#ifndef PARITY_H
#define PARITY_H
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "encoder/encoder.h"
#include "predictor/predictor.h"
#include <stdio.h>

enum { PARITY_SKIP = 1 }; /* what a verb returns when it does not apply yet; the reason stands in err->text */

typedef struct parity_opts {
    const char *device /* NULL: cpu */, *only /* glob on set/name; NULL: all */;
    int verbose;
} parity_opts;
typedef struct parity_counts {
    int passed, failed, skipped;
} parity_counts;

/* Runs all checks below the folders and writes a row for each. 0: at least one was found and none failed; else 1. */
int parity_run(const parity_opts *o, const char *const *dir, int n_dirs, FILE *out, parity_counts *counts);

typedef struct session {
    const parity_opts *o;
    FILE *out;
    dev *d;
    queue *q;
    parity_counts n;
} session;

typedef struct set_file {
    char name[256];
    st_file *st;
    json *j;
} set_file;
typedef struct set {
    char path[1024], label[256];
    json *meta;
    set_file file[48];
    int n_files;
} set;

typedef struct tally { /* what the comparisons of one check add up to */
    double err;        /* largest |a - b| among elements held to the check's own bound */
    double ratio;      /* largest |a - b| / bound anywhere; > 1 fails */
    int64_t compared, skipped /* null, or excluded without a bound */, bad;
    char where[320]; /* the element of that ratio */
    char text[160];  /* what stands in the row instead of error and bound (statistics) */
    int roles;       /* output roles compared */
} tally;

typedef struct check {
    session *s;
    set *set;
    const json *j, *config, *own_config, *params, *inputs, *outputs;
    const char *name, *kind, *family, *run;
    double abs, rel, mean_abs /* < 0: none */;
    tally t;
} check;

/* tables.c: what is known, what is run. 0: run; PARITY_SKIP: later, with the reason; negative: not known or malformed. */
int table_check_meta(const json *meta, jepa_err *err);
int table_check(check *c, int (**verb)(check *, jepa_err *), jepa_err *err);

/* data.c: files of a set and what a check names in them. */
int set_open(set *s, const char *path, const char *label, jepa_err *err);
void set_close(set *s);
int set_safetensors(set *s, const char *name, size_t len, const st_file **out, jepa_err *err);
int set_path(const set *s, const char *name, char *path, size_t size, jepa_err *err);
/* "file:tensor", "file:prefix*" (is_prefix) or "file:/json/pointer" taken apart; the strings point into ref. */
typedef struct ref {
    const char *file;
    size_t file_len;
    const char *rest;
    int is_prefix;
} ref;
int ref_parse(ref *r, const char *text, jepa_err *err);
int ref_tensor(check *c, const char *text, const tensor **out, jepa_err *err);
int ref_json(check *c, const char *text, const json **out, jepa_err *err);
/* A role among the check's inputs; JEPA_E_END (err untouched): not there. */
int input_tensor(check *c, const char *role, const tensor **out, jepa_err *err);
int input_tensor_is(check *c, const char *role, dtype type, int rank, const tensor **out,
                    jepa_err *err); /* must be there, of that type and rank */
/* [B,K] int64 or int32 as int32; freed by mem_free. */
int input_index(check *c, const char *role, int64_t batch, int32_t **out, int64_t *n, jepa_err *err);
const char *output_ref(const check *c, const char *role); /* NULL: not wanted */
const json *config_get(const check *c, const char *key);  /* the check's own config first */
int config_int(const check *c, const char *key, int64_t low, int64_t high, int *out, jepa_err *err);
int config_double(const check *c, const char *key, double low, double high, double *out, jepa_err *err);
int config_true(const check *c, const char *key);
int param_int(const check *c, const char *key, int64_t low, int64_t high, int64_t *out, jepa_err *err);
int param_numbers(const check *c, const char *key, int n, double *out, jepa_err *err);
const char *param_string(const check *c, const char *key, const char *otherwise);
int json_numbers(const json *v, const char *what, int n, double *out, jepa_err *err);
/* 1 when name stands in the space-separated list; an entry ending in '#' takes any number, in '*' anything. */
int word_in(const char *list, const char *name);

/* compare.c */
int compare_tensor(check *c, const char *module, const char *name, const tensor *ours, const tensor *stored, jepa_err *err);
int compare_output(check *c, const char *role, const tensor *ours, jepa_err *err);              /* 0 also where the role is not wanted */
int compare_number(check *c, const char *what, double ours, const json *stored, jepa_err *err); /* null is not compared */
int compare_output_number(check *c, const char *role, double ours, jepa_err *err);
void compare_value(check *c, const char *what, double ours, double stored, double bound, int own_bound);
typedef struct exclusion {
    int applies /* 0: the check's own bound */, compared;
    double abs, rel;
} exclusion;
exclusion exclude_find(const check *c, const char *module, const char *name, int64_t row);
tensor tensor_f32(const float *data, int rank, const int64_t *dim);

/* model.c: a model from the weights that a check names. */
typedef struct model {
    params p;
    enc *e;
    pred *pr;
    enc_cfg ec;
    pred_cfg pc;
    int frames_first;
} model;
enum { WANT_ENCODER = 1, WANT_PREDICTOR = 2 };
int model_open(model *m, check *c, int want, jepa_err *err);
void model_close(model *m);
int model_config(const check *c, enc_cfg *ec, pred_cfg *pc, jepa_err *err); /* from meta.json */
/* Fills the parameters of p that start with prefix from the named module; a fixed table that the file lacks stays as it is. */
int weights_load(check *c, const char *module, params *p, const char *prefix, jepa_err *err);

/* verbs */
int verb_encode(check *c, jepa_err *err);
int verb_encode_select(check *c, jepa_err *err);
int verb_hidden_state(check *c, jepa_err *err);
int verb_predict(check *c, jepa_err *err);
int verb_load(check *c, jepa_err *err);
int verb_train_step(check *c, jepa_err *err);
int verb_schedule(check *c, jepa_err *err);
int verb_lambda_schedule(check *c, jepa_err *err);
int verb_mask_statistics(check *c, jepa_err *err);
int verb_block_size(check *c, jepa_err *err);
int verb_frame_indices(check *c, jepa_err *err);
int verb_preprocess(check *c, jepa_err *err);
int verb_eval_resize(check *c, jepa_err *err);
int verb_eval_transform(check *c, jepa_err *err);
int verb_views_transform(check *c, jepa_err *err);
int verb_train_crop(check *c, jepa_err *err);
int verb_pil_crop(check *c, jepa_err *err);
int verb_crop_box(check *c, jepa_err *err);
int verb_classify(check *c, jepa_err *err);
int verb_probe_gradients(check *c, jepa_err *err);
int verb_level_loss(check *c, jepa_err *err);
int verb_level_gradients(check *c, jepa_err *err);
int verb_mask_distance(check *c, jepa_err *err);
#endif
