/* block2d.c: 2-D multi-block masks of I-JEPA (2301.08243), with the published sampler's habits. */
#include "masking/draw.h"

#include <math.h>

/* Quirk: scale and aspect ratio share one draw, so wide blocks are small and tall ones large. Quirk: a block stays below the grid's
 * height and width and begins at 0 … H-h-1, so that the last row and column are never in any block. full_grid ends the second. */
void mask_block_size2d(const double scale[2], const double aspect[2], mask_grid g, int full_grid, double u, int size[2]) {
    double area = floor((double)(g.rows * g.cols) * (scale[0] + u * (scale[1] - scale[0]))),
           ratio = aspect[0] + u * (aspect[1] - aspect[0]);
    double h = rint(sqrt(area * ratio)), w = rint(sqrt(area / ratio)); /* half to even */
    int most_h = full_grid ? g.rows : g.rows - 1, most_w = full_grid ? g.cols : g.cols - 1;
    size[0] = h < most_h ? (int)h : most_h;
    size[1] = w < most_w ? (int)w : most_w;
}

static int too_small(const char *what, const char *name, const double s[2], const mask_cfg *c, mask_grid g, const int size[2],
                     jepa_err *err) {
    return err_set(err, JEPA_E_MODEL,
                   "masks: on a grid of %dx%d tokens %s [%g, %g] can give a %s block of %dx%d = %d tokens, and more than "
                   "min_keep %d must remain; lower min_keep, raise the scale, or use a larger crop or a smaller patch",
                   g.rows, g.cols, name, s[0], s[1], what, size[0], size[1], size[0] * size[1], c->min_keep);
}

int mask_check_2d(const mask_cfg *c, mask_grid g, jepa_err *err) {
    enum { STEPS = 1024 };
    static const double square[2] = {1, 1};
    int rc;
    if (g.frames != 1)
        return err_set(err, JEPA_E_MODEL,
                       "masks: 2-D multi-block on %d frames of tokens; it needs 1 (one image, or as many frames as a tubelet)", g.frames);
    if (c->num_enc_masks != 1)
        return err_set(err, JEPA_E_MODEL, "masks: num_enc_masks is %d; one context block is supported", c->num_enc_masks);
    if (c->num_pred_masks < 1 || c->num_pred_masks > MAX_TARGETS)
        return err_set(err, JEPA_E_MODEL, "masks: num_pred_masks is %d (1 to %d)", c->num_pred_masks, MAX_TARGETS);
    if (c->min_keep < 0) return err_set(err, JEPA_E_MODEL, "masks: min_keep is %d; it must be at least 0", c->min_keep);
    if ((rc = mask_range("enc_mask_scale", c->enc_mask_scale, 0, 1, err))) return rc;
    if ((rc = mask_range("pred_mask_scale", c->pred_mask_scale, 0, 1, err))) return rc;
    if ((rc = mask_range("aspect_ratio", c->aspect_ratio, 1e-6, 1e6, err))) return rc;
    /* The published sampler loops for ever on a block that is too small; every size that can be drawn is looked at here. */
    for (int i = 0; i <= STEPS; i++) {
        int size[2];
        mask_block_size2d(c->pred_mask_scale, c->aspect_ratio, g, c->full_grid, (double)i / STEPS, size);
        if (size[0] * size[1] <= c->min_keep) return too_small("target", "pred_mask_scale", c->pred_mask_scale, c, g, size, err);
        mask_block_size2d(c->enc_mask_scale, square, g, c->full_grid, (double)i / STEPS, size);
        if (size[0] * size[1] <= c->min_keep) return too_small("context", "enc_mask_scale", c->enc_mask_scale, c, g, size, err);
    }
    return 0;
}

typedef struct corner {
    int h, w;
} corner;
static corner place(mask_grid g, int full_grid, const int size[2], rng *r) {
    int more = full_grid ? 1 : 0; /* published: 0 … H-h-1 */
    corner at;
    at.h = (int)rng_below(r, (uint32_t)(g.rows - size[0] + more));
    at.w = (int)rng_below(r, (uint32_t)(g.cols - size[1] + more));
    return at;
}

static void paint(mask_grid g, corner at, const int size[2], uint32_t bit, uint32_t *who) {
    for (int h = at.h; h < at.h + size[0]; h++)
        for (int w = at.w; w < at.w + size[1]; w++) who[h * g.cols + w] |= bit;
}

int mask_draw_2d(const mask_cfg *c, mask_grid g, const int target[2], const int context[2], rng *r, uint32_t *who, jepa_err *err) {
    if (target[0] * target[1] <= c->min_keep) return too_small("target", "pred_mask_scale", c->pred_mask_scale, c, g, target, err);
    if (context[0] * context[1] <= c->min_keep) return too_small("context", "enc_mask_scale", c->enc_mask_scale, c, g, context, err);
    for (int k = 0; k < c->num_pred_masks; k++) paint(g, place(g, c->full_grid, target, r), target, (uint32_t)TARGET_BIT << k, who);
    /* Quirk: after each 20 failures one more target is no longer kept out of the context, the last first; with none kept out the
     * block itself is large enough, so this ends. */
    for (int kept_out = c->allow_overlap ? 0 : c->num_pred_masks;; kept_out--) {
        uint32_t out = 0;
        for (int k = 0; k < kept_out; k++) out |= (uint32_t)TARGET_BIT << k;
        for (int tries = 0; tries < 20; tries++) {
            corner at = place(g, c->full_grid, context, r);
            int n = 0;
            for (int h = at.h; h < at.h + context[0]; h++)
                for (int w = at.w; w < at.w + context[1]; w++) n += !(who[h * g.cols + w] & out);
            if (n <= c->min_keep) continue; /* strictly more */
            for (int h = at.h; h < at.h + context[0]; h++)
                for (int w = at.w; w < at.w + context[1]; w++)
                    if (!(who[h * g.cols + w] & out)) who[h * g.cols + w] |= CONTEXT_BIT;
            return 0;
        }
    }
}
