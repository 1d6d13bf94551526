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
    if (c->positions != POS_ROPE_TILED)
        return err_set(err, JEPA_E_MODEL, "predictor: only the rotary positions of V-JEPA 2 are built yet, not %s",
                       c->positions == POS_ROPE_INTERLEAVED ? "the interleaved ones of V-JEPA 2.1" : "sin-cos (V-JEPA 1, I-JEPA)");
    return 0;
}
