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
} pos_grid;

/* pos[n,3] = (frame, row, column) of index[i] (NULL: 0 … n-1). JEPA_E_USE when an index lies outside the grid. Host memory. */
int pos_fill(const pos_grid *g, const int32_t *index, int64_t n, float *pos, jepa_err *err);
#endif
