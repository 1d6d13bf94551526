/* flops.h: how much arithmetic the passes of encoder and predictor are: what a measured time is divided by.
 *
 * A multiplication and an addition are 2. Counted are products and attention, as the published model defines them; norms, GELU, softmax,
 * rotary positions and the optimizer are not (about a hundredth), nor is what an implementation computes twice to save memory.
 *
 *     product             2·rows·in·out
 *     attention           4·n²·dim an item (q·kᵀ and p·v, all heads together; n tokens, dim = heads·head_dim)
 *     block               2·rows·dim·(4·dim + 2·hidden) + attention       (qkv 3·dim, proj dim, fc1 and fc2 hidden)
 *     backward            2 × its products (gradients of input and weight) + 2.5 × its attention (5 products of n²·dim instead of 2)
 *     patch embedding     2·rows·(3·tubelet·patch²)·dim; its backward 1 ×: pixels get no gradient
 *     step                target forward on all tokens, and for each mask generator the context's forward and backward on the context's
 *                         tokens, the predictor's on context and target tokens */
#ifndef JEPA_FLOPS_H
#define JEPA_FLOPS_H
#include "predictor/predictor.h"

typedef struct flops { double product, attention, pixels /* of product: the patch embedding's */; } flops;
flops enc_flops(const enc_cfg *c, int64_t batch, int64_t tokens, int image); /* tokens an item that enter; image: one frame, image_patch_embed */
/* blocks: target lists an item (0 counts as 1); all: context outputs too (pred_forward_all). */
flops pred_flops(const pred_cfg *c, int64_t batch, int64_t context, int64_t target, int64_t blocks, int all);
double flops_forward(flops f);
double flops_backward(flops f);
#endif
