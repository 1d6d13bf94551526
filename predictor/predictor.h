/* predictor.h: the masked predictor: context tokens and positions in, predictions for target positions out.
 *
 * z [B,K,D] → predictor_embed → [B,K,P]; mask token at M target positions; attention over the union (K+M); predictor_norm;
 * predictor_proj of the target rows → [B,M,D_out]. Same block and positions as the encoder. What differs inside the family is data in
 * pred_cfg: positions, levels, the context's own projection, modality vectors, one mask token or several. */
#ifndef JEPA_PREDICTOR_H
#define JEPA_PREDICTOR_H
#include "encoder/encoder.h"

typedef struct pred_cfg {
    int embed_dim;                 /* of the encoder whose tokens it reads */
    int predictor_embed_dim, depth, num_heads, out_dim, num_mask_tokens;
    double mlp_ratio, layer_norm_eps;
    pos_kind positions;
    int levels;                    /* V-JEPA 2.1: z is [B,K,levels·embed_dim]; above 1 predictor_embed is .0, GELU, .2; 0 counts as 1 */
    int context_proj;              /* V-JEPA 2.1: "predictor_proj_context" for context tokens (pred_forward_all) */
    int modality_embedding;        /* V-JEPA 2.1: its own "img_mod_embed", "video_mod_embed" [1,1,P] added to all its tokens */
    int interpolate_rope, patch_size; /* V-JEPA 2.1 as built for training: see enc_cfg */
    int single_mask_token;         /* I-JEPA: one token named "mask_token" */
    int frames, rows, cols;        /* POS_SINCOS: grid of the table "predictor_pos_embed" [1,N,P] (PARAM_FIXED); frames 1: its 2-D form */
    int uniform_power, columns_first;
} pred_cfg;
void pred_cfg_defaults(pred_cfg *c, const enc_cfg *e); /* 384 × 12, 12 heads, out = embed_dim, 2 mask tokens */
int pred_cfg_check(const pred_cfg *c, jepa_err *err);

typedef struct pred pred;
/* Parameters "<prefix>predictor_embed.*", "<prefix>mask_tokens.i" [1,1,P], "<prefix>predictor_blocks.N.*", "<prefix>predictor_norm.*",
 * "<prefix>predictor_proj.*". */
int pred_open(pred **out, const pred_cfg *c, params *p, const char *prefix, jepa_err *err);
void pred_close(pred **e);
const pred_cfg *pred_config(const pred *e);
/* T_F32 (as opened) or T_BF16; before working memory is opened (enc_set_type). Rows go in and come out in float32 either way. */
int pred_set_type(pred *e, dtype type, jepa_err *err);
/* As published: truncated normal sd, zero biases, attn.proj and mlp.fc2 of block i divided by √(2i) (not for POS_SINCOS), mask tokens
 * zero (I-JEPA's drawn), modality vectors N(0, 1e-6). */
int pred_init(const pred *e, queue *q, double sd, uint64_t seed, jepa_err *err);

typedef struct pred_shape {
    int64_t batch, context, target;  /* the largest of each; batch: items times target blocks */
    int64_t rows;                    /* the largest context + target; 0: their sum */
    int keep_for_backward; recompute level;
} pred_shape;
typedef struct pred_acts pred_acts;
size_t pred_acts_bytes(const pred *e, const pred_shape *s);
int pred_acts_open(pred_acts **out, const pred *e, dev *d, const pred_shape *s, jepa_err *err);
void pred_acts_close(pred_acts **a);
void pred_acts_plan(const pred *e, const pred_shape *s, char *text, size_t size); /* one line a part */

typedef struct pred_in {
    int64_t batch, n_context, n_target;
    const float *z;                                   /* [B,n_context,D]; stays unchanged until pred_backward */
    const int32_t *context, *target;                  /* [B,n] token indices in host memory */
    pos_grid grid;
    int mask_token;                                   /* which token stands at targets: taken mod num_mask_tokens */
    int image;                                        /* modality_embedding: the image's vector instead of the video's */
    int target_blocks;                                /* I-JEPA: that many target lists an item, each predicted by itself from the same
                                                         context; target [target_blocks·B,n_target], block-major, and so are
                                                         predictions; dz is the sum over blocks; 0 counts as 1 */
} pred_in;
int pred_forward(const pred *e, queue *q, const pred_in *in, pred_acts *a, float *predicted /* [B,n_target,out_dim] */, jepa_err *err);
/* The same with context outputs too: all [B,n_context+n_target,out_dim], context first. */
int pred_forward_all(const pred *e, queue *q, const pred_in *in, pred_acts *a, float *all, jepa_err *err);
/* After either forward, once: dpredicted has the shape of its output and is overwritten; dz [B,n_context,D] (NULL: not wanted; may be z
 * itself) is overwritten; weight gradients add, also to the mask token in use. */
int pred_backward(const pred *e, queue *q, pred_acts *a, float *dpredicted, float *dz, jepa_err *err);
int pred_tables(const pred *e, queue *q, jepa_err *err); /* as enc_tables, for "predictor_pos_embed" */
#endif
