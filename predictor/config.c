/* config.c: the range of every number of a predictor's configuration. */
#include "predictor/predictor.h"

#include <math.h>

void pred_cfg_defaults(pred_cfg *c, const enc_cfg *e) {
    *c = (pred_cfg){.embed_dim = e->embed_dim,
                    .predictor_embed_dim = 384,
                    .depth = 12,
                    .num_heads = 12,
                    .out_dim = e->embed_dim,
                    .num_mask_tokens = 2,
                    .mlp_ratio = 4,
                    .layer_norm_eps = 1e-6,
                    .positions = e->positions};
}

/* What only some of the family have. */
static int check_variant(const pred_cfg *c, jepa_err *err) {
    if (c->positions != POS_ROPE_TILED && c->positions != POS_ROPE_INTERLEAVED && c->positions != POS_SINCOS)
        return err_set(err, JEPA_E_MODEL, "predictor: positions are of kind %d, which there is not", (int)c->positions);
    if (c->levels < 0 || c->levels > 4) return err_set(err, JEPA_E_MODEL, "predictor: it reads %d levels; 1 to 4 there are", c->levels);
    if (c->single_mask_token && c->num_mask_tokens != 1)
        return err_set(err, JEPA_E_MODEL, "predictor: num_mask_tokens is %d with a single mask_token (I-JEPA)", c->num_mask_tokens);
    if (c->interpolate_rope && (c->positions != POS_ROPE_INTERLEAVED || c->patch_size < 1 || c->patch_size > 256))
        return err_set(err, JEPA_E_MODEL,
                       "predictor: interpolate_rope goes with interleaved rotary positions and a patch_size within 1 to 256 (it is %d)",
                       c->patch_size);
    if (c->positions != POS_SINCOS) return 0;
    const int64_t side = 1 << 14;
    if (c->frames < 1 || c->frames > side || c->rows < 1 || c->rows > side || c->cols < 1 || c->cols > side ||
        (int64_t)c->frames * c->rows > INT32_MAX / c->cols)
        return err_set(err, JEPA_E_MODEL, "predictor: sin-cos positions for a grid of %d x %d x %d tokens cannot be", c->frames, c->rows,
                       c->cols);
    const int even = c->frames == 1 ? 4 : c->uniform_power ? 1 : 8;
    if (c->predictor_embed_dim % even)
        return err_set(err, JEPA_E_MODEL, "predictor: sin-cos positions %s need a predictor_embed_dim that is a multiple of %d, not %d",
                       c->frames == 1 ? "of pictures" : "without uniform_power", even, c->predictor_embed_dim);
    return 0;
}

int pred_cfg_check(const pred_cfg *c, jepa_err *err) {
    const struct {
        const char *name;
        int value, high;
    } range[] = {
        {"embed_dim", c->embed_dim, 1 << 16},
        {"predictor_embed_dim", c->predictor_embed_dim, 1 << 14},
        {"depth", c->depth, 512},
        {"num_heads", c->num_heads, 1 << 10},
        {"out_dim", c->out_dim, 1 << 16},
        {"num_mask_tokens", c->num_mask_tokens, 1 << 10},
    };
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (range[i].value < 1 || range[i].value > range[i].high)
            return err_set(err, JEPA_E_MODEL, "predictor: %s is %d, not within 1 to %d", range[i].name, range[i].value, range[i].high);
    if (c->predictor_embed_dim % c->num_heads)
        return err_set(err, JEPA_E_MODEL, "predictor: num_heads %d does not divide predictor_embed_dim %d", c->num_heads,
                       c->predictor_embed_dim);
    if (c->predictor_embed_dim / c->num_heads > 128)
        return err_set(err, JEPA_E_MODEL, "predictor: head dim %d (predictor_embed_dim %d / num_heads %d) is above 128",
                       c->predictor_embed_dim / c->num_heads, c->predictor_embed_dim, c->num_heads);
    if (!(c->mlp_ratio > 0 && c->mlp_ratio <= 64) || floor(c->predictor_embed_dim * c->mlp_ratio) < 1)
        return err_set(err, JEPA_E_MODEL, "predictor: mlp_ratio %g with predictor_embed_dim %d is no hidden width (above 0, at most 64)",
                       c->mlp_ratio, c->predictor_embed_dim);
    if (!(c->layer_norm_eps > 0 && c->layer_norm_eps < 1))
        return err_set(err, JEPA_E_MODEL, "predictor: layer_norm_eps %g is not between 0 and 1", c->layer_norm_eps);
    return check_variant(c, err);
}
