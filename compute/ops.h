/* ops.h: the table of operations: what each computes, on which shapes. compute/ref is the definition.
 *
 * Conventions. Row-major. "rows" are tokens. float32 unless the name ends in 16: x and x16 are the same operand stored as float32 or in
 * 16 bits, and exactly one of the two is given. `type` says what the 16-bit pointers hold: T_BF16 (T_NONE counts as that); T_F16 is
 * JEPA_E_UNSUPPORTED on a CPU. Strides count elements. Sums, softmax and statistics are float32 or better everywhere; a product of two
 * 16-bit operands may use the processor's 16-bit multipliers, whose products are exact in float32.
 * Gradients: weight gradients add (dw +=), activation gradients overwrite unless `add` is set (the residual stream).
 * Each function returns 0, JEPA_E_USE (a NULL or a size that makes no sense) or JEPA_E_UNSUPPORTED; on failure outputs are untouched.
 * A size of 0 rows is fine and does nothing. Outputs may not overlap inputs except where said. */
#ifndef JEPA_OPS_H
#define JEPA_OPS_H
#include "compute/compute.h"

enum { ACT_NONE, ACT_GELU /* exact: x/2 (1 + erf(x/√2)) */ };

typedef struct op_linear { /* y[n,o] = act(x[n,i]·w[o,i]ᵀ + b[o]) + r[n,o] */
    int64_t rows, in, out;
    const float *x; const uint16_t *x16; int64_t ldx; /* row stride in elements; 0: in */
    const float *w; const uint16_t *w16;              /* [out,in] */
    const float *b;                /* [out] or NULL */
    const float *r; int64_t ldr;   /* residual or NULL; may be y itself; ldr 0: out */
    float *y; uint16_t *y16; int64_t ldy; /* ldy 0: out */
    float *pre; uint16_t *pre16;   /* [n,o] dense or both NULL: the value before act, kept for backward */
    int act;
    dtype type;
} op_linear;
typedef struct op_linear_bwd { /* dx[n,i] (+)= dy·w, times gelu'(pre) where pre is given; dw[o,i] += dyᵀ·x; db[o] += Σ_n dy.
                               * Beside w16 (x16) a back end may round dy and gelu(x) to bf16 for dx (dw). */
    int64_t rows, in, out;
    const float *dy; const uint16_t *dy16; int64_t lddy;
    const float *x; const uint16_t *x16; int64_t ldx; /* needed for dw; with x_act the product takes gelu(x): x is what fc1 kept as pre */
    int x_act;                     /* ACT_NONE or ACT_GELU */
    const float *w; const uint16_t *w16;              /* needed for dx */
    float *dx; uint16_t *dx16; int64_t lddx;          /* or both NULL */
    const float *pre; const uint16_t *pre16;          /* [n,i] dense or both NULL: dx is the gradient before the GELU that made x; not with add */
    float *dw, *db;                /* or NULL */
    int add;                       /* dx +=; float32 only */
    dtype type;
} op_linear_bwd;
typedef struct op_gelu { int64_t n; const float *x; float *y; } op_gelu;                         /* y may be x */
typedef struct op_gelu_bwd { int64_t n; const float *dy, *x; float *dx; } op_gelu_bwd;           /* dx = dy·gelu'(x); dx may be dy */
typedef struct op_convert { int64_t n; const float *x; const uint16_t *x16; float *y; uint16_t *y16; dtype type; } op_convert; /* x → y16 or x16 → y; to nearest even */

typedef struct op_layernorm { /* y = (x - mean)·rstd·w + b over d; biased variance */
    int64_t rows, d; double eps;
    const float *x; int64_t ldx;
    const float *w, *b;            /* [d]; NULL: 1 and 0 */
    float *y; uint16_t *y16; int64_t ldy; /* y may be x */
    float *mean, *rstd;            /* [rows] or NULL; kept for backward */
    dtype type;
} op_layernorm;
typedef struct op_layernorm_bwd { /* dx (+)= …; dw += Σ dy·xhat; db += Σ dy */
    int64_t rows, d;
    const float *dy; const uint16_t *dy16; /* dense rows of d, as x */
    const float *x, *w, *mean, *rstd;      /* w NULL: 1 */
    float *dx, *dw, *db;           /* dw, db NULL: not wanted; dx may be dy */
    int add;
    dtype type;
} op_layernorm_bwd;

typedef struct op_attention { /* o_i = Σ_j softmax_j(scale·q_i·k_j) v_j, per batch and head; never N×N in memory */
    int64_t batch, heads, nq, nk, head_dim;           /* head_dim 1 … 128 */
    const float *q, *k, *v; float *o;                 /* element (b,i,h,c) at ((b·n + i)·ld + h·head_dim + c) */
    const uint16_t *q16, *k16, *v16; uint16_t *o16;   /* all four instead; a back end may round scaled and turned q, k and probabilities to bf16 */
    int64_t ldq, ldk, ldv, ldo;                       /* row strides; a packed qkv row has ld = 3·D */
    const float *cs; int cs_per_batch;                /* rotary table for q and k, which are turned as they are read (op_rope); nq == nk; or NULL */
    double scale;                                     /* 0: head_dim^-0.5 */
    float *lse;                                       /* [batch,heads,nq] log Σ exp, or NULL; kept for backward */
    int64_t block;                                    /* 0: full; else i sees j when j/block <= i/block (nq == nk) */
    dtype type;
} op_attention;
typedef struct op_attention_bwd { /* dq, dk, dv overwrite; strides as q, k, v have them */
    int64_t batch, heads, nq, nk, head_dim;
    const float *q, *k, *v, *o, *dout, *lse;
    const uint16_t *q16, *k16, *v16, *o16, *dout16;   /* q … dout, all five instead; then dq16, dk16, dv16 too; rounding as forward */
    int64_t ldq, ldk, ldv, ldo, lddo;
    float *dq, *dk, *dv;                              /* strides lddq …; may not overlap q, k, v */
    uint16_t *dq16, *dk16, *dv16;
    int64_t lddq, lddk, lddv;
    const float *cs; int cs_per_batch;                /* as forward had it: q and k are as they were before turning, so are dq and dk */
    double scale; int64_t block; dtype type;
} op_attention_bwd;

/* Rotary positions in two steps, so that every published quirk lives in the table:
 * rope_table: pos[n,3] (frame, row, column; may be fractional) → cs [n, 2, head_dim]: a cosine and a sine for each channel.
 * Each axis owns 2·⌊⌊head_dim/3⌋/2⌋ channels, in the order frame, row, column; the rest get cos 1, sin 0. ω_i = 10000^(-i/(d/2)).
 * ROPE_TILED (V-JEPA 2): channel c of an axis uses θ_(c mod d/2): the two channels of a pair turn by different angles (a quirk that
 * checkpoints need). ROPE_INTERLEAVED (V-JEPA 2.1): θ_⌊c/2⌋, a true rotation. */
enum { ROPE_TILED, ROPE_INTERLEAVED };
typedef struct op_rope_table { int64_t n, head_dim; int kind; const float *pos; float *cs; } op_rope_table;
typedef struct op_rope { /* in place on x, for even c: x'[c] = x[c]·cos[c] - x[c+1]·sin[c]; x'[c+1] = x[c+1]·cos[c+1] + x[c]·sin[c+1] */
    int64_t batch, n, heads, head_dim;
    float *x; int64_t ldx;          /* element (b,i,h,c) at ((b·n + i)·ldx + h·head_dim + c) */
    const float *cs;                /* [n,2,head_dim] shared by the batch, or [batch,n,2,head_dim] when per_batch */
    int per_batch;
    int transpose;                  /* backward: the transposed matrix of each pair applied to the gradient */
} op_rope;

typedef struct op_rows { /* moves between row sets; D channels; index int32, checked against the set's size */
    int64_t batch, n_src, n_dst, d; /* rows per batch item on each side */
    const float *src; int64_t lds; int64_t src_off; /* first row taken in each item (copy_rows) */
    float *dst; int64_t ldd; int64_t dst_off;
    const int32_t *index;           /* gather: [batch,n_dst] rows of src; scatter_add: [batch,n_src] rows of dst */
    int64_t count;                  /* copy_rows, broadcast_row, sum_rows: rows moved per item */
    int add;                        /* copy_rows: dst += */
} op_rows;

typedef struct op_tubelets { /* normalise and cut in one pass: rows [B, n, C·t·p·p] in the patch weight's order (c, dt, dy, dx) */
    int64_t batch, channels, frames, height, width; int64_t tubelet, patch;
    const void *x; dtype type;      /* T_F32 [B,C,T,H,W], used as it is; T_U8 [B,T,H,W,C], (x/255 - mean)/std */
    const float *mean, *std;        /* [channels], host memory; T_U8 only */
    const int32_t *keep; int64_t n_keep; /* [B,n_keep] tokens wanted, or NULL: all of (T/t)·(H/p)·(W/p), frames past a whole tubelet dropped */
    float *y; uint16_t *y16;        /* y16: bf16 */
    int frames_first;               /* T_F32 laid out [B,T,C,H,W] (Hugging Face) */
} op_tubelets;

enum { LOSS_POWER /* |z-h|^p / p */, LOSS_SMOOTH_L1 /* beta 1 */ };
typedef struct op_loss { /* *loss += scale·Σ f(z-h); dz = scale·f'(z-h). f' at 0 is 0. */
    int64_t rows, d; int kind; double p, scale;
    const float *z, *h; float *dz;  /* dz NULL: not wanted; may be z */
    double *loss;                   /* on the device */
} op_loss;

typedef struct op_adamw { /* PyTorch's order: param *= 1 - lr·wd; m, v; param -= lr·(m/bc1)/(√(v/bc2) + eps) */
    int64_t n; float *param; const float *grad; float *m, *v;
    double lr, wd, beta1, beta2, eps, grad_scale; int64_t step; /* step 1 = first */
    uint16_t *param16;              /* or NULL: the new value in bf16 */
    float *target; double momentum; /* or NULL: then also target = momentum·target + (1-momentum)·param, with the new value (op_ema) */
    uint16_t *target16;             /* or NULL: the new target in bf16 */
} op_adamw;
typedef struct op_ema { /* target = m·target + (1-m)·source */
    int64_t n; float *target; const float *source; double momentum;
    uint16_t *target16;             /* or NULL: the new value in bf16 */
} op_ema;
typedef struct op_sqnorm { int64_t n; const float *x; double *out; } op_sqnorm;                   /* *out += Σ x² */
typedef struct op_axpy { int64_t n; double a; const float *x; float *y; } op_axpy;                /* y += a·x */
typedef struct op_scale { int64_t n; double a; float *x; } op_scale;
typedef struct op_colstats { /* sum[d] += Σ x, sumsq[d] += Σ x², gram[d,d] += xᵀx (NULL: not wanted), double, for the collapse monitor */
    int64_t rows, d; const float *x; int64_t ldx; double *sum, *sumsq, *gram;
} op_colstats;

struct ops {
    int (*linear)(queue *, const op_linear *);
    int (*linear_bwd)(queue *, const op_linear_bwd *);
    int (*gelu)(queue *, const op_gelu *);
    int (*gelu_bwd)(queue *, const op_gelu_bwd *);
    int (*convert)(queue *, const op_convert *);
    int (*layernorm)(queue *, const op_layernorm *);
    int (*layernorm_bwd)(queue *, const op_layernorm_bwd *);
    int (*attention)(queue *, const op_attention *);
    int (*attention_bwd)(queue *, const op_attention_bwd *);
    int (*rope_table)(queue *, const op_rope_table *);
    int (*rope)(queue *, const op_rope *);
    int (*gather_rows)(queue *, const op_rows *);       /* dst[b,i] = src[b,index[b,i]] */
    int (*scatter_add_rows)(queue *, const op_rows *);  /* dst[b,index[b,i]] += src[b,i]; dst is not cleared; repeats add up, in order */
    int (*copy_rows)(queue *, const op_rows *);         /* dst[b,dst_off+i] (+)= src[b,src_off+i], i < count */
    int (*broadcast_row)(queue *, const op_rows *);     /* dst[b,dst_off+i] = src[0] */
    int (*sum_rows)(queue *, const op_rows *);          /* dst[0] += Σ_b Σ_i src[b,src_off+i] */
    int (*tubelets)(queue *, const op_tubelets *);
    int (*loss)(queue *, const op_loss *);
    int (*adamw)(queue *, const op_adamw *);
    int (*ema)(queue *, const op_ema *);
    int (*sqnorm)(queue *, const op_sqnorm *);
    int (*axpy)(queue *, const op_axpy *);
    int (*scale)(queue *, const op_scale *);
    int (*colstats)(queue *, const op_colstats *);
    int (*zero)(queue *, void *p, size_t bytes);
};

void ops_init_ref(ops *t);
void ops_init_cpu(ops *t, unsigned cpu_flags); /* over a table already filled by ref */

/* Argument checks shared by every back end (compute/check.c): 0, JEPA_E_USE or JEPA_E_UNSUPPORTED; strides of 0 are allowed there. */
int check_linear(const op_linear *a); int check_linear_bwd(const op_linear_bwd *a);
int check_gelu(const op_gelu *a); int check_gelu_bwd(const op_gelu_bwd *a); int check_convert(const op_convert *a);
int check_layernorm(const op_layernorm *a); int check_layernorm_bwd(const op_layernorm_bwd *a);
int check_attention(const op_attention *a); int check_attention_bwd(const op_attention_bwd *a);
int check_rope_table(const op_rope_table *a); int check_rope(const op_rope *a);
int check_gather_rows(const op_rows *a); int check_scatter_add_rows(const op_rows *a);
int check_copy_rows(const op_rows *a); int check_broadcast_row(const op_rows *a); int check_sum_rows(const op_rows *a);
int check_tubelets(const op_tubelets *a); int check_loss(const op_loss *a);
int check_adamw(const op_adamw *a); int check_ema(const op_ema *a); int check_sqnorm(const op_sqnorm *a);
int check_axpy(const op_axpy *a); int check_scale(const op_scale *a); int check_colstats(const op_colstats *a);
#endif
