/* encoder.h: a clip or an image in, tokens out: the ViT of I-JEPA, V-JEPA 1, 2 and 2.1 over tubelets.
 *
 *     enc *e; enc_open(&e, &cfg, &params, "encoder.", &err);        // names its parameters
 *     params_alloc(&params, dev, PARAMS_GRAD, &err);
 *     enc_acts *a; enc_acts_open(&a, e, dev, &shape, &err);         // plans and allocates working memory
 *     enc_forward(e, q, &in, a, tokens);
 *     enc_backward(e, q, a, dtokens);
 *
 * Pre-norm ViT, exact GELU, LayerNorm eps 1e-6, norm on the output. What differs inside the family is data in enc_cfg: positions
 * (rotary tiled or interleaved, sin-cos added), image patch embedding, modality vectors, levels. */
#ifndef JEPA_ENCODER_H
#define JEPA_ENCODER_H
#include "encoder/block.h"
#include "encoder/positions.h"

typedef struct enc_cfg { /* golden's config names */
    int img_height, img_width;   /* pixels the model was made for; other sizes run by their own grid */
    int patch_size, tubelet_size, num_frames, in_chans;
    int embed_dim, depth, num_heads;
    double mlp_ratio;            /* hidden width = floor(embed_dim·mlp_ratio) */
    double layer_norm_eps;
    pos_kind positions;
    int uniform_power;           /* POS_SINCOS in 3-D: equal shares of the channels */
    int columns_first;           /* POS_SINCOS in 2-D: the first half of the channels is the column (I-JEPA), not the row */
    int interpolate_rope;        /* POS_ROPE_INTERLEAVED: rows and columns rescaled to the side of training (pos_rope_factor) */
    int level_norms;             /* V-JEPA 2.1: that many norms "norms_block.i" instead of "norm"; 0: the one final norm */
    int level_block[4];          /* the 0-based block after which each of them applies; the last is the last block */
    int levels;                  /* how many of the last levels all_levels joins: 4, distilled students 1; 0 counts as 1 */
    int image_patch_embed;       /* V-JEPA 2.1: inputs of one frame go through "patch_embed_img", kernel (1,p,p) */
    int modality_embedding;      /* V-JEPA 2.1: "img_mod_embed" or "video_mod_embed" [1,1,D] added to every token */
} enc_cfg;
void enc_cfg_defaults(enc_cfg *c);                                  /* V-JEPA 2 ViT-L, 16 frames of 256² (fpc64 files set 64) */
int enc_cfg_size(enc_cfg *c, const char *name, jepa_err *err);      /* "vit_tiny" … "vit_gigantic_xformers": dim, depth, heads, ratio */
int enc_cfg_check(const enc_cfg *c, jepa_err *err);                 /* every number in range, heads divide dim, head dim 1–128 */

typedef struct enc enc;
int enc_open(enc **out, const enc_cfg *c, params *p, const char *prefix, jepa_err *err); /* p outlives the encoder */
void enc_close(enc **e);
const enc_cfg *enc_config(const enc *e);
/* T_F32 (as opened) or T_BF16 (block_cfg.type); before working memory is opened. T_BF16 reads weights through param_value16 where the list
 * has them (PARAMS_HALF, PARAMS_HALF_ONLY); tokens come out in float32 either way. */
int enc_set_type(enc *e, dtype type, jepa_err *err);
dtype enc_type(const enc *e);

typedef struct enc_shape { /* what working memory is for: the largest of each */
    int64_t batch, frames, height, width;
    int64_t tokens;              /* rows per item that enter the encoder; 0: all of frames x height x width */
    int keep_for_backward; recompute level;   /* a call may have any shape as long as its batch·tokens fit */
} enc_shape;
typedef struct enc_acts enc_acts;
size_t enc_acts_bytes(const enc *e, const enc_shape *s);            /* 0: overflow, or no such shape */
int enc_acts_open(enc_acts **out, const enc *e, dev *d, const enc_shape *s, jepa_err *err); /* JEPA_E_MEMORY names the parts */
void enc_acts_close(enc_acts **a);
/* One line a part ("blocks kept 1.2 GiB") into text. */
void enc_acts_plan(const enc *e, const enc_shape *s, char *text, size_t size);

typedef struct enc_in {
    int64_t batch, frames, height, width;
    const void *x; dtype type; int frames_first;  /* op_tubelets: T_F32 [B,C,T,H,W] or [B,T,C,H,W] (frames_first); T_U8 [B,T,H,W,C] */
    const int32_t *keep; int64_t n_keep;          /* [B,n_keep] context indices on the device, sorted or not; NULL: all tokens */
    const int32_t *keep_host;                     /* the same in host memory (positions are computed there); may equal keep on a CPU */
    int64_t split_rows, split_cols;               /* pos_grid; 0: the real grid */
    int hidden_n; const int *hidden_after;        /* also wanted: the stream after this many blocks (0: embeddings), ascending */
    float *const *hidden_out; int hidden_norm;    /* [n,D] each; hidden_norm: through the final norm (a level's: its own) */
    const float *mean, *std;                      /* T_U8: 3 each, host memory; NULL: ImageNet's */
    int all_levels;                               /* tokens [B,n,levels·D]: each level through its norm, joined along the channels */
} enc_in;
int64_t enc_out_dim(const enc_cfg *c, int all_levels);              /* channels of tokens */
/* (T/t)·(H/p)·(W/p); one frame with image_patch_embed: 1·(H/p)·(W/p) */
int64_t enc_tokens(const enc_cfg *c, int64_t frames, int64_t height, int64_t width);
/* tokens [B, n, enc_out_dim], n = n_keep or all; NULL (inference only): run no further than the last hidden state wanted. Frames past a
 * whole tubelet are dropped; fewer than a tubelet, or pixels that are not whole patches, are refused. Nothing of `in` is needed afterwards.
 * POS_SINCOS at another grid: the stored table is resampled on the host and kept in the working memory until the grid changes (a table
 * loaded into the same parameters later is seen by new working memory). */
int enc_forward(const enc *e, queue *q, const enc_in *in, enc_acts *a, float *tokens, jepa_err *err);
/* dtokens (as tokens) is overwritten; weight gradients add; parameters that the forward did not use get none. Needs an enc_forward with
 * keep_for_backward on the same acts, which it uses up. */
int enc_backward(const enc *e, queue *q, enc_acts *a, float *dtokens, jepa_err *err);
/* Initialisation as published: truncated normal sd, zero biases, attn.proj and mlp.fc2 of block i divided by √(2i) (init.h; not for
 * POS_SINCOS, where the published code loses it), modality vectors N(0, 1e-6). */
int enc_init(const enc *e, queue *q, double sd, uint64_t seed, jepa_err *err);
/* POS_SINCOS: fills "pos_embed" (PARAM_FIXED) with the sin-cos table, for files that do not store it; enc_init does so too. */
int enc_tables(const enc *e, queue *q, jepa_err *err);
#endif
