/* block.h: one pre-norm transformer block, forward and backward; used by encoder and predictor.
 *
 *     x += proj(attn(LN1(x)));  x += fc2(gelu(fc1(LN2(x))))
 *
 * Weights live in a params list under "<prefix>norm1.weight" … "<prefix>mlp.fc2.bias" (Meta's names), qkv rows = q, k, v. */
#ifndef JEPA_BLOCK_H
#define JEPA_BLOCK_H
#include "compute/ops.h"

typedef struct block_cfg {
    int dim, num_heads, hidden; /* hidden = floor(dim·mlp_ratio) */
    double eps;
    dtype type;                 /* T_BF16: weights of products, and what lies between the norms and the stream, in bf16; else float32. The stream,
                                 * norms and biases, statistics and weight gradients are float32 in both. */
} block_cfg;

typedef struct block { /* indices into the params list */
    int norm1_w, norm1_b, qkv_w, qkv_b, proj_w, proj_b, norm2_w, norm2_b, fc1_w, fc1_b, fc2_w, fc2_b;
} block;

/* What backward needs of one block, and what it may compute again instead (the output of GELU it always does, from pre). */
typedef enum { RECOMPUTE_NONE, RECOMPUTE_MLP /* norm outputs, fc1 */, RECOMPUTE_BLOCK /* all but the block's input */ } recompute;

typedef struct act_rows { float *f; uint16_t *h; } act_rows; /* rows in float32 or in bf16: one of the two, as block_cfg.type says; or neither */
act_rows act_rows_get(arena *mem, dtype type, int64_t rows, int64_t width); /* a size that does not fit marks the arena as overflown */

/* [n] rows of all batch items, n = batch·tokens. Three sets exist, and a run takes one or two of them:
 * kept (one a block; NULL where backward computes again), work (one for all blocks: what kept lacks) and the smallest set of inference. */
typedef struct block_acts {
    float *x;                            /* [n,D] the residual stream as it enters; NULL: nothing is kept */
    act_rows ln1, qkv /* [n,3D], not rotated */, att;
    float *mean1, *rstd1, *lse;
    float *mid;                          /* [n,D] the stream between the halves */
    act_rows ln2, pre, act;              /* pre, act [n,hidden]; act serves one block after the other */
    float *mean2, *rstd2;
    recompute level;
} block_acts;

typedef struct block_run { /* the shape of one call */
    int64_t batch, tokens;
    const float *cs; int cs_per_batch;   /* rotary table (op_rope), NULL: none */
    int64_t causal_block;                /* op_attention.block */
} block_run;

int block_params(block *b, const block_cfg *c, params *p, const char *prefix, jepa_err *err);
/* Published initialisation of block `number` (1-based): see init.h. 0: nothing is divided (V-JEPA 1, I-JEPA). */
int block_init(const block *b, queue *q, params *p, int number, double sd, uint64_t seed, jepa_err *err);

/* x [n,D] → y [n,D]. Keeping: x is a->x, y another array. Inference: y may be x. */
int block_forward(queue *q, const block_cfg *c, const block *b, const params *p, const block_run *run, const block_acts *a, const float *x,
                  float *y);
/* dx [n,D]: gradient of y on entry, of x on return. Weight gradients add into p->grad. scratch: block_scratch floats.
 * Consumes a: act is overwritten, so one backward follows one forward. */
int block_backward(queue *q, const block_cfg *c, const block *b, params *p, const block_run *run, const block_acts *a, float *dx,
                   float *scratch);

/* Cuts the activations of one block out of an arena (which may be measuring; mem->overflow tells).
 * kept: what stays until backward at this level; else the smallest working set, shared by all blocks (level is not read). */
void block_acts_get(block_acts *a, const block_cfg *c, int64_t batch, int64_t tokens, int kept, recompute level, arena *mem);
/* What training at this level computes into but does not keep: one for all blocks. */
void block_work_get(block_acts *work, const block_cfg *c, int64_t batch, int64_t tokens, recompute level, arena *mem);
/* kept with its NULLs filled from work. */
block_acts block_acts_join(const block_acts *kept, const block_acts *work);
size_t block_scratch(const block_cfg *c, int64_t batch, int64_t tokens); /* floats that block_backward needs; 0: overflow */
#endif
