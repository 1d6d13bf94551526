/* h5_sets.h: an HDF5 file of several data sets that grow row by row: what `jepa predict` writes. */
#ifndef JEPA_INFER_H5_SETS_H
#define JEPA_INFER_H5_SETS_H
#include "compute/compute.h"

typedef struct h5_sets h5_sets;
int h5_sets_open(h5_sets **out, const char *path, jepa_err *err); /* writes to path.tmp */
/* A data set of rows [dim…] (rank 0: a number a row) of T_F32, T_F64 or T_I64, or of texts (T_NONE). Its number, or a negative code. */
int h5_sets_new(h5_sets *h, const char *name, dtype type, int rank, const int64_t *dim, jepa_err *err);
int h5_sets_add(h5_sets *h, int set, const void *rows, int64_t n, jepa_err *err); /* texts: const char *const[n] */
int h5_sets_text(h5_sets *h, const char *attribute, const char *value, jepa_err *err);
int h5_sets_numbers(h5_sets *h, const char *attribute, const int64_t *value, int n, jepa_err *err);
int h5_sets_finish(h5_sets **h, jepa_err *err); /* complete = 1, synced, renamed */
void h5_sets_abort(h5_sets **h);                /* leaves nothing of it */
#endif
