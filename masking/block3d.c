/* block3d.c: 3-D multi-block masks of V-JEPA (2404.08471) and V-JEPA 2 (2506.09985). */
#include "masking/draw.h"

#include <math.h>

static double between(const double r[2], double u) { return r[0] + u * (r[1] - r[0]); }

void mask_block_size3d(const mask_cfg *c, mask_grid g, double u_time, double u_space, double u_aspect, int size[3]) {
    int t = (int)(g.frames * between(c->temporal_scale, u_time));
    double area = floor((double)(g.rows * g.cols) * between(c->spatial_scale, u_space)), aspect = between(c->aspect_ratio, u_aspect);
    double h = rint(sqrt(area * aspect)), w = rint(sqrt(area / aspect)); /* half to even */
    size[0] = t < 1 ? 1 : t < g.frames ? t : g.frames;
    size[1] = h < g.rows ? (int)h : g.rows;
    size[2] = w < g.cols ? (int)w : g.cols;
}

static int covers(const int size[3], mask_grid g) { return size[0] >= g.frames && size[1] >= g.rows && size[2] >= g.cols; }

static int bad_size(const mask_cfg *c, mask_grid g, const int size[3], jepa_err *err) {
    const double *s = c->spatial_scale, *a = c->aspect_ratio;
    if (size[1] < 1 || size[2] < 1)
        return err_set(
            err, JEPA_E_MODEL,
            "masks: on a grid of %dx%dx%d tokens spatial_scale [%g, %g] with aspect_ratio [%g, %g] can give a block of %dx%dx%d: no "
            "target at all; use a larger scale, a larger crop or a smaller patch",
            g.frames, g.rows, g.cols, s[0], s[1], a[0], a[1], size[0], size[1], size[2]);
    return err_set(
        err, JEPA_E_MODEL,
        "masks: on a grid of %dx%dx%d tokens spatial_scale [%g, %g] with temporal_scale [%g, %g] can give a block that covers all of "
        "it: no context at all; use a smaller scale or a larger grid",
        g.frames, g.rows, g.cols, s[0], s[1], c->temporal_scale[0], c->temporal_scale[1]);
}

int mask_check_3d(const mask_cfg *c, mask_grid g, jepa_err *err) {
    enum { STEPS = 512 };
    int rc;
    if (c->num_blocks < 1 || c->num_blocks > 1024) return err_set(err, JEPA_E_MODEL, "masks: num_blocks is %d (1 to 1024)", c->num_blocks);
    if ((rc = mask_range("spatial_scale", c->spatial_scale, 0, 1, err))) return rc;
    if ((rc = mask_range("temporal_scale", c->temporal_scale, 0, 1, err))) return rc;
    if ((rc = mask_range("aspect_ratio", c->aspect_ratio, 1e-6, 1e6, err))) return rc;
    if (!(c->max_temporal_keep > 0 && c->max_temporal_keep <= 1))
        return err_set(err, JEPA_E_MODEL, "masks: max_temporal_keep is %g; it must lie above 0 and be at most 1", c->max_temporal_keep);
    if (c->max_keep < 0) return err_set(err, JEPA_E_MODEL, "masks: max_keep is %d; it must be null or at least 1", c->max_keep);
    /* A size that cannot work is refused here, not at the step that happens to draw it. Sizes rise with both scales, so the ends
     * of the scales and all aspect ratios say it. */
    for (int i = 0; i <= STEPS; i++) {
        int size[3];
        mask_block_size3d(c, g, 0, 0, (double)i / STEPS, size);
        if (size[1] < 1 || size[2] < 1) return bad_size(c, g, size, err);
        mask_block_size3d(c, g, 1, 1, (double)i / STEPS, size);
        if (covers(size, g)) return bad_size(c, g, size, err);
    }
    return 0;
}

int mask_draw_3d(const mask_cfg *c, mask_grid g, const int size[3], rng *r, uint32_t *who, jepa_err *err) {
    enum { TRIES = 10000 };
    const int64_t most_work = 1 << 28; /* marks painted: well under a second, however large grid and num_blocks are */
    int tokens = mask_tokens(g), keep = (int)(g.frames * c->max_temporal_keep);
    int64_t work = 0;
    if (size[1] < 1 || size[2] < 1 || covers(size, g)) return bad_size(c, g, size, err);
    if (keep < 1) keep = 1;
    keep *= g.rows * g.cols; /* with max_temporal_keep < 1 all after the first frames is target, whatever the blocks say */
    for (int tries = 0; tries < TRIES && work < most_work; tries++) {
        int left = 0;
        for (int i = 0; i < tokens; i++) who[i] = CONTEXT_BIT;
        for (int n = 0; n < c->num_blocks; n++) {
            int d0 = (int)rng_below(r, (uint32_t)(g.frames - size[0] + 1)), h0 = (int)rng_below(r, (uint32_t)(g.rows - size[1] + 1)),
                w0 = (int)rng_below(r, (uint32_t)(g.cols - size[2] + 1));
            for (int d = d0; d < d0 + size[0]; d++)
                for (int h = h0; h < h0 + size[1]; h++) {
                    uint32_t *row = who + ((size_t)d * g.rows + h) * g.cols + w0;
                    for (int w = 0; w < size[2]; w++) row[w] = TARGET_BIT;
                }
        }
        for (int i = keep; i < tokens; i++) who[i] = TARGET_BIT;
        for (int i = 0; i < keep; i++) left += who[i] == CONTEXT_BIT;
        if (left) return 0;
        work += tokens + (int64_t)c->num_blocks * size[0] * size[1] * size[2];
    }
    return err_set(err, JEPA_E_MODEL,
                   "masks: on a grid of %dx%dx%d tokens %d blocks of %dx%dx%d (spatial_scale [%g, %g]) leave no context in "
                   "any of many draws; use fewer or smaller blocks",
                   g.frames, g.rows, g.cols, c->num_blocks, size[0], size[1], size[2], c->spatial_scale[0], c->spatial_scale[1]);
}
