/* parts.h: what the encoder's files share: the parameters, the working memory, and each file's piece of a pass. */
#ifndef JEPA_ENCODER_PARTS_H
#define JEPA_ENCODER_PARTS_H
#include "encoder/encoder.h"
#include "encoder/stack.h"

enum { LEVELS = 4 };

struct enc {
    enc_cfg c;
    block_cfg bc;
    params *p;
    block *b;                                /* [depth] */
    int patch_w, patch_b, image_w, image_b;  /* clips; single images (image_patch_embed) */
    int video_mod, image_mod;                /* modality_embedding */
    int pos;                                 /* POS_SINCOS: the table */
    int norm_w[LEVELS], norm_b[LEVELS];      /* enc_norms of them; the last is the final norm */
};

struct enc_acts {
    buf mem;
    enc_cfg c;    /* of the encoder it was made for */
    dtype type;
    int64_t rows; /* batch·tokens it has room for */
    stack_acts s;
    act_rows patches;   /* [n, C·t·p·p] tubelet rows; without keep they share memory with one block */
    float *pos, *cs;    /* rotary: [n,3], [n,2,head_dim] */
    float *bias;        /* [D] of the patch embedding and the modality together; in backward its gradient */
    float *mean, *rstd; /* [levels,rows] of the norms on the output */
    float *stream;      /* [n,D] gradient of the stream, with more than one level */
    float *pos_host;
    struct { /* a sin-cos table brought to the grid of the last call that had another than the model's; host memory */
        float *p;       /* [tokens of grid, D], then [n,D] rows to hand over */
        size_t room;    /* floats */
        int64_t grid[3];
        const float *of; /* the stored table */
    } table;
    block_run run; /* of the last forward */
    int first;     /* the first level that the last forward gave */
    int image;     /* it was one image */
    int ready;     /* a backward may follow */
};

static inline int enc_is_image(const enc_cfg *c, int64_t frames) { return c->image_patch_embed && frames == 1; }
static inline int enc_norms(const enc_cfg *c) { return c->level_norms ? c->level_norms : 1; }
static inline int enc_levels(const enc_cfg *c) { return c->level_norms && c->levels ? c->levels : 1; }
static inline int enc_norm_after(const enc_cfg *c, int i) { return c->level_norms ? c->level_block[i] + 1 : c->depth; } /* blocks */
/* Width of a tubelet row, which the patch embedding takes. */
static inline int64_t enc_row_width(const enc_cfg *c, int image) {
    return (int64_t)c->in_chans * (image ? 1 : c->tubelet_size) * c->patch_size * c->patch_size;
}

/* JEPA_E_* with the operation and the device in words. */
int enc_failed(jepa_err *err, int rc, queue *q, const char *what);
/* embed.c: the input's tokens with all that is added to them, into stack_in; and their positions into a->run. */
int enc_embed(const enc *e, queue *q, const enc_in *in, enc_acts *a, int64_t n, jepa_err *err);
int enc_embed_backward(const enc *e, queue *q, enc_acts *a, const float *dx, jepa_err *err);
/* levels.c: the norms on the stream x after so many blocks that this call hands out: hidden states, levels, the output. */
int enc_hand_out(const enc *e, queue *q, const enc_in *in, enc_acts *a, int after, int *wanted, float *tokens, jepa_err *err);
/* dtokens through norms and blocks; *dx: where the gradient of the embeddings then lies. */
int enc_levels_backward(const enc *e, queue *q, enc_acts *a, float *dtokens, float **dx, jepa_err *err);
#endif
