/* config.c: the family's sizes and the range of every number of an encoder's configuration. */
#include "encoder/encoder.h"

#include <math.h>
#include <string.h>

void enc_cfg_defaults(enc_cfg *c) {
    *c = (enc_cfg){.img_height = 256,
                   .img_width = 256,
                   .patch_size = 16,
                   .tubelet_size = 2,
                   .num_frames = 16,
                   .in_chans = 3,
                   .embed_dim = 1024,
                   .depth = 24,
                   .num_heads = 16,
                   .mlp_ratio = 4,
                   .layer_norm_eps = 1e-6,
                   .positions = POS_ROPE_TILED};
}

static const struct {
    const char *name;
    int dim, depth, heads;
    double ratio;
} sizes[] = {
    {"vit_tiny", 192, 12, 3, 4},
    {"vit_small", 384, 12, 6, 4},
    {"vit_base", 768, 12, 12, 4},
    {"vit_large", 1024, 24, 16, 4},
    {"vit_huge", 1280, 32, 16, 4},
    {"vit_giant", 1408, 40, 16, 48.0 / 11}, /* I-JEPA's */
    {"vit_giant_xformers", 1408, 40, 22, 48.0 / 11},
    {"vit_gigantic_xformers", 1664, 48, 26, 64.0 / 13},
};

int enc_cfg_size(enc_cfg *c, const char *name, jepa_err *err) {
    for (size_t i = 0; name && i < sizeof sizes / sizeof *sizes; i++)
        if (!strcmp(name, sizes[i].name)) {
            c->embed_dim = sizes[i].dim;
            c->depth = sizes[i].depth;
            c->num_heads = sizes[i].heads;
            c->mlp_ratio = sizes[i].ratio;
            return 0;
        }
    return err_set(err, JEPA_E_MODEL,
                   "encoder size %s is not known; known: vit_tiny, vit_small, vit_base, vit_large, vit_huge, vit_giant, "
                   "vit_giant_xformers, vit_gigantic_xformers",
                   name ? name : "(none)");
}

/* What only some of the family have. */
static int check_variant(const enc_cfg *c, jepa_err *err) {
    if (c->positions != POS_ROPE_TILED && c->positions != POS_ROPE_INTERLEAVED && c->positions != POS_SINCOS)
        return err_set(err, JEPA_E_MODEL, "encoder: positions of kind %d are not known", (int)c->positions);
    if (c->interpolate_rope && c->positions != POS_ROPE_INTERLEAVED)
        return err_set(err, JEPA_E_MODEL,
                       "encoder: interpolate_rope rescales the interleaved rotary positions of V-JEPA 2.1, and this model "
                       "has others");
    if (c->positions == POS_SINCOS) {
        const int even = c->num_frames == 1 ? 4 : c->uniform_power ? 1 : 8;
        if (c->embed_dim % even)
            return err_set(err, JEPA_E_MODEL, "encoder: sin-cos positions %s need an embed_dim that is a multiple of %d, not %d",
                           c->num_frames == 1 ? "of pictures" : "without uniform_power", even, c->embed_dim);
        if (c->image_patch_embed || c->modality_embedding)
            return err_set(err, JEPA_E_MODEL,
                           "encoder: image_patch_embed and modality_embedding go with rotary positions, not with sin-cos "
                           "ones");
        if (!enc_tokens(c, c->num_frames, c->img_height, c->img_width))
            return err_set(err, JEPA_E_MODEL, "encoder: a table of positions for %d frames of %d x %d is too large", c->num_frames,
                           c->img_height, c->img_width);
    }
    if (c->level_norms < 0 || c->level_norms > 4 || c->levels < 0 || c->levels > (c->level_norms ? c->level_norms : 1))
        return err_set(err, JEPA_E_MODEL, "encoder: %d levels of %d norms; at most 4 norms (level_norms), and no more levels than norms",
                       c->levels, c->level_norms);
    for (int i = 0; i < c->level_norms; i++) {
        const int least = i ? c->level_block[i - 1] + 1 : 0, last = i == c->level_norms - 1;
        if (c->level_block[i] < least || c->level_block[i] >= c->depth || (last && c->level_block[i] != c->depth - 1))
            return err_set(err, JEPA_E_MODEL, "encoder: level %d applies after block %d; they ascend from 0, and the last is block %d", i,
                           c->level_block[i], c->depth - 1);
    }
    return 0;
}

int enc_cfg_check(const enc_cfg *c, jepa_err *err) {
    const struct {
        const char *name;
        int value, low, high;
    } range[] = {
        {"img_height", c->img_height, c->patch_size, 1 << 14},
        {"img_width", c->img_width, c->patch_size, 1 << 14},
        {"tubelet_size", c->tubelet_size, 1, 64},
        {"num_frames", c->num_frames, c->tubelet_size, 1 << 14},
        {"in_chans", c->in_chans, 1, 64},
        {"embed_dim", c->embed_dim, 1, 1 << 14},
        {"depth", c->depth, 1, 512},
        {"num_heads", c->num_heads, 1, 1 << 10},
    };
    if (c->patch_size < 1 || c->patch_size > 256)
        return err_set(err, JEPA_E_MODEL, "encoder: patch_size is %d, not within 1 to 256", c->patch_size);
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (range[i].value < range[i].low || range[i].value > range[i].high)
            return err_set(err, JEPA_E_MODEL, "encoder: %s is %d, not within %d to %d", range[i].name, range[i].value, range[i].low,
                           range[i].high);
    if (c->embed_dim % c->num_heads)
        return err_set(err, JEPA_E_MODEL, "encoder: num_heads %d does not divide embed_dim %d", c->num_heads, c->embed_dim);
    if (c->embed_dim / c->num_heads > 128)
        return err_set(err, JEPA_E_MODEL, "encoder: head dim %d (embed_dim %d / num_heads %d) is above 128", c->embed_dim / c->num_heads,
                       c->embed_dim, c->num_heads);
    if (!(c->mlp_ratio > 0 && c->mlp_ratio <= 64) || floor(c->embed_dim * c->mlp_ratio) < 1)
        return err_set(err, JEPA_E_MODEL, "encoder: mlp_ratio %g with embed_dim %d is no hidden width (above 0, at most 64)", c->mlp_ratio,
                       c->embed_dim);
    if (!(c->layer_norm_eps > 0 && c->layer_norm_eps < 1))
        return err_set(err, JEPA_E_MODEL, "encoder: layer_norm_eps %g is not between 0 and 1", c->layer_norm_eps);
    return check_variant(c, err);
}

int64_t enc_tokens(const enc_cfg *c, int64_t frames, int64_t height, int64_t width) {
    const int64_t tubelet = c->image_patch_embed && frames == 1 ? 1 : c->tubelet_size;
    if (frames < tubelet || height < c->patch_size || width < c->patch_size) return 0;
    const int64_t d = frames / tubelet, h = height / c->patch_size, w = width / c->patch_size;
    if (d > INT32_MAX || h > INT32_MAX / d || w > INT32_MAX / (d * h)) return 0; /* token indices are int32 */
    return d * h * w;
}
