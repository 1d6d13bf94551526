/* positions.h: where tokens are. One interface for every published scheme; V-JEPA 2's rotary first.
 *
 * Token index = (d·rows + h)·cols + w on a grid (frames, rows, cols) of tokens. */
#ifndef JEPA_POSITIONS_H
#define JEPA_POSITIONS_H
#include "base/base.h"

typedef enum {
    POS_ROPE_TILED,       /* V-JEPA 2: rotary, table tiled (quirk) */
    POS_ROPE_INTERLEAVED, /* V-JEPA 2.1 */
    POS_SINCOS            /* V-JEPA 1, I-JEPA: added to the embeddings */
} pos_kind;

typedef struct pos_grid {
    int64_t frames, rows, cols;             /* the real token grid of the input */
    int64_t split_rows, split_cols;         /* by which an index is split; 0: rows, cols (the default, "grid").
                                               "published" quirks: Hugging Face crop_size // patch for both;
                                               Meta's predictor grid_height for both */
    double row_factor, col_factor;          /* rows and columns are multiplied by it; 0 counts as 1 (V-JEPA 2.1's interpolate_rope) */
} pos_grid;
/* (256/p - 1)/(side - 1), for patch 14 (252/14 - 1)/(side - 1): what V-JEPA 2.1 multiplies rows (or columns) by. A side of 1: 1. */
double pos_rope_factor(int patch_size, int64_t side);

/* ---- additive sin-cos tables (POS_SINCOS) ---- */
typedef struct pos_sincos_cfg {
    int64_t frames, rows, cols;  /* frames 1 and planar: 2-D (images) */
    int dim, planar;             /* planar: the 2-D form, half of the channels an axis */
    int uniform_power, columns_first;
} pos_sincos_cfg;
int pos_sincos(const pos_sincos_cfg *c, float *table /* [frames·rows·cols, dim] */, jepa_err *err);
/* A stored table at another size, as published: trilinear for video; planar: bicubic (PyTorch's, a = -0.75, no antialiasing).
 * from, to: frames, rows, cols. Host memory. */
int pos_resample(const float *table, const int64_t from[3], int64_t dim, int planar, const int64_t to[3], float *out, jepa_err *err);

/* pos[n,3] = (frame, row, column) of index[i] (NULL: 0 … n-1). JEPA_E_USE when an index lies outside the grid. Host memory. */
int pos_fill(const pos_grid *g, const int32_t *index, int64_t n, float *pos, jepa_err *err);
#endif
