/* merge.h: outputs read again: to see whose they are (out.c) and to merge them (merge.c). */
#ifndef JEPA_INFER_MERGE_H
#define JEPA_INFER_MERGE_H
#include "infer/infer.h"

typedef struct emb_in emb_in;
/* .h5 or .safetensors. JEPA_E_IO: cannot be opened as that (damaged, or torn by a kill); JEPA_E_USE: not an output of this program, or one
 * that does not hold what merging needs. Of an unfinished .h5 only settings can be asked. */
int emb_in_open(emb_in **out, const char *path, jepa_err *err);
void emb_in_close(emb_in **in);
int emb_in_complete(const emb_in *in);
int emb_in_has_paths(const emb_in *in);
const char *emb_in_settings(const emb_in *in);
const emb_meta *emb_in_meta(const emb_in *in); /* store: as it is in the file */
int64_t emb_in_rows(const emb_in *in);
int64_t emb_in_failures(const emb_in *in);
/* Row or failure k; valid until the next call. data 0: r->data is NULL and nothing large is read. Ascending k is fast. */
int emb_in_row(emb_in *in, int64_t k, int data, part_row *r, jepa_err *err);
int emb_in_failure(emb_in *in, int64_t k, part_row *r, jepa_err *err);

/* ---- the .h5 half (merge_h5.c) ---- */
typedef struct h5_in h5_in;
typedef struct h5_in_info {
    int64_t rows, failures;
    int complete;
    emb_meta m;
    char *text; /* holds m's texts: mem_free */
} h5_in_info;
int h5_in_open(h5_in **out, const char *path, h5_in_info *info, jepa_err *err);
void h5_in_close(h5_in **h);
int h5_in_row(h5_in *h, int64_t k, float *data /* or NULL */, part_row *r, jepa_err *err);
int h5_in_failure(h5_in *h, int64_t k, part_row *r, jepa_err *err);
#endif
