/* masking.h: which tokens are context and which are target. Index lists, never tensors.
 *
 *     mask_set *m; mask_group(&m, &cfg, grid, batch, seed, step, generator, &err);   m->context[b*m->n_context + i] …
 *     mask_free(&m);
 *
 * Counter-based: the same (seed, step, sample) gives the same masks for any number of threads or ranks. */
#ifndef JEPA_MASKING_H
#define JEPA_MASKING_H
#include "base/base.h"

typedef struct mask_grid { int frames, rows, cols; } mask_grid; /* tokens; index = (d·rows + h)·cols + w */
typedef enum { MASK_MULTIBLOCK3D, MASK_MULTIBLOCK2D, MASK_TUBE, MASK_CAUSAL } mask_kind;

typedef struct mask_cfg {
    mask_kind kind;
    /* 3-D multi-block (V-JEPA, V-JEPA 2): names of the published YAML */
    int num_blocks;                       /* 1 … 1024 */
    double spatial_scale[2], temporal_scale[2], aspect_ratio[2]; /* [low, high]; aspect_ratio also of 2-D target blocks */
    double max_temporal_keep;             /* (0,1]; < 1: everything after the cut becomes target */
    int max_keep;                         /* cuts the context only; 0: no limit */
    int full_complement;                  /* target = all that is not in the (cut) context */
    int pred_full_complement;             /* context = all that is not in the (cut) target; max_keep has no say then (published) */
    int inv_block;                        /* context and target change places: the blocks are seen */
    /* 2-D multi-block (I-JEPA) */
    double enc_mask_scale[2], pred_mask_scale[2];
    int num_enc_masks, num_pred_masks;    /* 1; 1 … 31 */
    int min_keep, allow_overlap;          /* strictly more than min_keep tokens remain in each block */
    int full_grid;                        /* I-JEPA targets may reach the last row and column (published: never) */
    /* tube, causal */
    double ratio;                         /* tube: share of the columns of time that is target */
    int from;                             /* causal: context = first `from` tubelets, target = the rest */
} mask_cfg;
void mask_cfg_defaults(mask_cfg *c, mask_kind kind); /* the published first generator: 8 blocks of 0.15 */
/* JEPA_E_MODEL with grid, scales and numbers when some block size that can be drawn cannot work: nothing to predict, nothing to see, or
 * fewer tokens than min_keep. (The published samplers give an empty target, or loop for ever, at the step that happens to draw it.) */
int mask_cfg_check(const mask_cfg *c, mask_grid g, jepa_err *err);

typedef struct mask_set {
    int batch, n_context, n_target;       /* lists cut to the shortest of the group, in index order */
    int num_targets;                      /* 1; 2-D multi-block: num_pred_masks lists of n_target each */
    int32_t *context;                     /* [batch,n_context] ascending */
    int32_t *target;                      /* [num_targets,batch,n_target] ascending */
} mask_set;
/* One mask group: `batch` consecutive samples, the first with global number `sample0`. Never empty on success. The block size is keyed by
 * (seed, step) alone: the same for all samples, groups and generators of a step (published: the iteration counter). */
int mask_group(mask_set **out, const mask_cfg *c, mask_grid g, int batch, uint64_t seed, uint64_t step, uint32_t sample0, int generator,
               jepa_err *err);
/* Block size (t,h,w) from given uniforms, as published: round half to even, clamped to the grid. 2-D: one uniform for scale and aspect. */
void mask_block_size3d(const mask_cfg *c, mask_grid g, double u_time, double u_space, double u_aspect, int size[3]);
void mask_block_size2d(const double scale[2], const double aspect[2], mask_grid g, int full_grid, double u, int size[2]);
int mask_causal(mask_set **out, mask_grid g, int batch, int from, jepa_err *err);
void mask_free(mask_set **m);
#endif
