/* attentive_config.c: the attentive probe's sizes: defaults and checks. */
#include "encoder/attentive.h"

#include <math.h>

void att_cfg_defaults(att_cfg *c, int embed_dim, int num_classes) {
    *c = (att_cfg){.embed_dim = embed_dim, .num_heads = 16, .depth = 4, .num_classes = num_classes, .mlp_ratio = 4, .layer_norm_eps = 1e-5};
}

int att_cfg_check(const att_cfg *c, jepa_err *err) {
    const struct {
        const char *name;
        int value, high;
    } range[] = {{"embed_dim", c->embed_dim, 1 << 14},
                 {"num_heads", c->num_heads, 1 << 10},
                 {"depth", c->depth, 64},
                 {"num_classes", c->num_classes, 1 << 20}};
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (range[i].value < 1 || range[i].value > range[i].high)
            return err_set(err, JEPA_E_MODEL, "attentive pooler: %s is %d, not within 1 to %d", range[i].name, range[i].value,
                           range[i].high);
    if (c->embed_dim % c->num_heads || c->embed_dim / c->num_heads > 128)
        return err_set(err, JEPA_E_MODEL, "attentive pooler: %d heads do not divide embed_dim %d into parts of at most 128", c->num_heads,
                       c->embed_dim);
    if (!(c->mlp_ratio > 0 && c->mlp_ratio <= 64) || floor(c->embed_dim * c->mlp_ratio) < 1)
        return err_set(err, JEPA_E_MODEL, "attentive pooler: mlp_ratio %g with embed_dim %d is no hidden width (above 0, at most 64)",
                       c->mlp_ratio, c->embed_dim);
    if (!(c->layer_norm_eps > 0 && c->layer_norm_eps < 1))
        return err_set(err, JEPA_E_MODEL, "attentive pooler: layer_norm_eps %g is not between 0 and 1", c->layer_norm_eps);
    return 0;
}
