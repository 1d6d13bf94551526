/* flops.c: see flops.h. */
#include "predictor/flops.h"

#include <math.h>

static flops blocks_flops(double sequences, double tokens, double dim, double ratio, double depth) {
    const double hidden = floor(dim * ratio);
    return (flops){.product = depth * 2 * sequences * tokens * dim * (4 * dim + 2 * hidden), .attention = depth * 4 * sequences * tokens * tokens * dim};
}

flops enc_flops(const enc_cfg *c, int64_t batch, int64_t tokens, int image) {
    flops f = blocks_flops((double)batch, (double)tokens, c->embed_dim, c->mlp_ratio, c->depth);
    const double frames = image && c->image_patch_embed ? 1 : c->tubelet_size, in = c->in_chans * frames * c->patch_size * c->patch_size;
    f.pixels = 2 * (double)batch * (double)tokens * in * c->embed_dim;
    f.product += f.pixels;
    return f;
}

flops pred_flops(const pred_cfg *c, int64_t batch, int64_t context, int64_t target, int64_t blocks, int all) {
    const double sequences = (double)batch * (double)(blocks > 1 ? blocks : 1), w = c->predictor_embed_dim, d = c->embed_dim;
    const double levels = c->levels > 1 ? c->levels : 1, rows = (double)batch * (double)context;
    flops f = blocks_flops(sequences, (double)(context + target), w, c->mlp_ratio, c->depth);
    if (levels > 1) f.product += 2 * rows * levels * d * d;
    f.product += 2 * rows * d * w + 2 * sequences * (double)(target + (all ? context : 0)) * w * c->out_dim;
    return f;
}

double flops_forward(flops f) { return f.product + f.attention; }
double flops_backward(flops f) { return 2 * f.product - f.pixels + 2.5 * f.attention; }
