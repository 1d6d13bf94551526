/* draw.h: inside masking: checks and draws of each kind. A draw marks who is what in one sample; masking.c cuts the lists. */
#ifndef JEPA_MASKING_DRAW_H
#define JEPA_MASKING_DRAW_H
#include "masking/masking.h"

enum {
    CONTEXT_BIT = 1, /* bit 0: context; bit 1+k: target list k */
    TARGET_BIT = 2,
    MAX_TARGETS = 31,
    MAX_SIDE = 1 << 16,
    MAX_TOKENS = 1 << 22,
    MAX_BATCH = 1 << 20
};

static inline int mask_tokens(mask_grid g) { return g.frames * g.rows * g.cols; }            /* after mask_cfg_check */
int mask_range(const char *name, const double r[2], double low, double high, jepa_err *err); /* low < r[0] <= r[1] <= high */

int mask_check_3d(const mask_cfg *c, mask_grid g, jepa_err *err);
int mask_check_2d(const mask_cfg *c, mask_grid g, jepa_err *err);
int mask_check_tube(const mask_cfg *c, mask_grid g, jepa_err *err);
int mask_check_causal(const mask_cfg *c, mask_grid g, jepa_err *err);

/* who[tokens] comes zeroed. size, target, context: the block sizes of this step. */
int mask_draw_3d(const mask_cfg *c, mask_grid g, const int size[3], rng *r, uint32_t *who, jepa_err *err);
int mask_draw_2d(const mask_cfg *c, mask_grid g, const int target[2], const int context[2], rng *r, uint32_t *who, jepa_err *err);
void mask_draw_tube(const mask_cfg *c, mask_grid g, rng *r, uint32_t *scratch /* [rows·cols] */, uint32_t *who);
void mask_draw_causal(const mask_cfg *c, mask_grid g, uint32_t *who);
#endif
