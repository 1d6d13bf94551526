/* tube.c: random tubes (whole columns of time) and causal masks (the first tubelets are context, the rest is target). */
#include "masking/draw.h"

#include <math.h>

/* Published: context columns = floor(H·W·(1-ratio)); the small term keeps 10·(1-0.9) at 1, which is 0.999… in doubles. */
static int context_columns(const mask_cfg *c, mask_grid g) { return (int)floor(g.rows * g.cols * (1 - c->ratio) + 1e-9); }

int mask_check_tube(const mask_cfg *c, mask_grid g, jepa_err *err) {
    int n = g.rows * g.cols;
    if (!(c->ratio > 0 && c->ratio < 1))
        return err_set(err, JEPA_E_MODEL, "masks: tube ratio is %g; it must lie between 0 and 1", c->ratio);
    if (context_columns(c, g) < 1 || context_columns(c, g) >= n)
        return err_set(err, JEPA_E_MODEL,
                       "masks: on a grid of %dx%dx%d tokens a tube ratio of %g leaves %d of %d columns as context; use another "
                       "ratio or a larger grid",
                       g.frames, g.rows, g.cols, c->ratio, context_columns(c, g), n);
    return 0;
}

void mask_draw_tube(const mask_cfg *c, mask_grid g, rng *r, uint32_t *scratch, uint32_t *who) {
    int n = g.rows * g.cols, keep = context_columns(c, g);
    rng_permute(r, scratch, (uint32_t)n);
    for (int i = 0; i < n; i++)
        for (int d = 0; d < g.frames; d++) who[(size_t)d * n + scratch[i]] = i < keep ? CONTEXT_BIT : TARGET_BIT;
}

int mask_check_causal(const mask_cfg *c, mask_grid g, jepa_err *err) {
    if (c->from < 1 || c->from >= g.frames)
        return err_set(err, JEPA_E_MODEL, "masks: causal from %d on a grid of %d tubelets; it must be 1 to %d", c->from, g.frames,
                       g.frames - 1);
    return 0;
}

void mask_draw_causal(const mask_cfg *c, mask_grid g, uint32_t *who) {
    int tokens = mask_tokens(g), seen = c->from * g.rows * g.cols;
    for (int i = 0; i < tokens; i++) who[i] = i < seen ? CONTEXT_BIT : TARGET_BIT;
}
