/* attentive.h: the attentive probe: tokens of a frozen (or tuned) encoder in, one pooled vector and class scores out.
 *
 *     att *e; att_open(&e, &cfg, &params, "probe.", &err);           // names its parameters
 *     params_alloc(&params, dev, PARAMS_GRAD, &err);
 *     att_acts *a; att_acts_open(&a, e, dev, &shape, &err);
 *     att_forward(e, q, &(att_in){.batch = b, .tokens = n, .x = tokens}, a, pooled, logits, &err);
 *     cross_entropy(host_logits, labels, b, classes, &loss, NULL, dlogits, &err);
 *     att_backward(e, q, a, dlogits, NULL, &err);
 *
 * Follows V-JEPA 2 (2506.09985): depth - 1 self-attention blocks over all tokens, without positions, then one learned query in a
 * cross-attention block, then a Linear to the classes:
 *
 *     y = query + attention(q(query), kv(LN1(x)));  pooled = y + fc2(gelu(fc1(LN2(y))));  logits = linear(pooled)
 *
 * Quirks that weights depend on: LN1 acts on the tokens only, the query is not normalised; there is no projection after the attention.
 * V-JEPA 1 (2404.08471) has the cross-attention first; its blocks then act on the one pooled row (cross_first). */
#ifndef JEPA_ATTENTIVE_H
#define JEPA_ATTENTIVE_H
#include "encoder/block.h"

typedef struct att_cfg {
    int embed_dim, num_heads;
    int depth;                   /* blocks, the cross-attention one among them; published evaluations: 4 */
    int num_classes;
    double mlp_ratio;            /* hidden width = floor(embed_dim·mlp_ratio) */
    double layer_norm_eps;       /* Meta's evaluations 1e-5, Hugging Face 1e-6 */
    int cross_first;             /* V-JEPA 1's order */
} att_cfg;
void att_cfg_defaults(att_cfg *c, int embed_dim, int num_classes); /* 16 heads, depth 4, ratio 4, eps 1e-5 */
int att_cfg_check(const att_cfg *c, jepa_err *err);

typedef struct att att;
/* Parameters "<prefix>pooler.query_tokens" [1,1,D], "<prefix>pooler.blocks.N.*" (block.h), "<prefix>pooler.cross_attention_block.*"
 * (norm1, xattn.q, xattn.kv [2D,D]: keys, then values, norm2, mlp.fc1, mlp.fc2), "<prefix>linear.*". p outlives the object. */
int att_open(att **out, const att_cfg *c, params *p, const char *prefix, jepa_err *err);
void att_close(att **e);
const att_cfg *att_config(const att *e);
/* As published: truncated normal sd, zero biases, block i divided as an encoder's, the cross-attention's fc2 by the last block's √(2i);
 * the classifier as PyTorch's Linear, uniform in ±1/√D. */
int att_init(const att *e, queue *q, double sd, uint64_t seed, jepa_err *err);

typedef struct att_shape { /* what working memory is for: the largest of each */
    int64_t batch, tokens;
    int keep_for_backward; recompute level; /* a call may have any shape as long as batch and batch·tokens fit */
} att_shape;
typedef struct att_acts att_acts;
size_t att_acts_bytes(const att *e, const att_shape *s); /* 0: overflow, or no such shape */
int att_acts_open(att_acts **out, const att *e, dev *d, const att_shape *s, jepa_err *err); /* JEPA_E_MEMORY names the parts */
void att_acts_close(att_acts **a);
void att_acts_plan(const att *e, const att_shape *s, char *text, size_t size); /* one line a part */

typedef struct att_in {
    int64_t batch, tokens;
    const float *x; /* [B,N,D] on the device; stays unchanged until att_backward */
} att_in;
/* pooled [B,D], logits [B,classes]; either may be NULL. */
int att_forward(const att *e, queue *q, const att_in *in, att_acts *a, float *pooled, float *logits, jepa_err *err);
/* After a forward with keep_for_backward on the same working memory, once: dlogits [B,classes] is read; dtokens [B,N,D] (NULL: not wanted;
 * may be in->x itself) is overwritten; weight gradients add. */
int att_backward(const att *e, queue *q, att_acts *a, const float *dlogits, float *dtokens, jepa_err *err);

/* ---- scores to probabilities and loss: a few numbers, in host memory, sums in double (attentive_loss.c) ---- */
void softmax_rows(const float *logits, int64_t rows, int64_t classes, double *probabilities);
/* Mean over rows of -log softmax(logits)[label]. probabilities [rows,classes] and dlogits (gradient of that mean; may be logits itself)
 * may be NULL. JEPA_E_USE: a label outside 0 … classes-1. */
int cross_entropy(const float *logits, const int64_t *labels, int64_t rows, int64_t classes, double *loss, double *probabilities,
                  float *dlogits, jepa_err *err);
#endif
