/* parts.h: what the predictor's files share: the parameters, the working memory, and each file's piece of a pass. */
#ifndef JEPA_PREDICTOR_PARTS_H
#define JEPA_PREDICTOR_PARTS_H
#include "encoder/stack.h"
#include "predictor/predictor.h"

struct pred {
    pred_cfg c;
    block_cfg bc;
    params *p;
    block *b;                    /* [depth] */
    int *mask;                   /* [num_mask_tokens] */
    int first_w, first_b;        /* levels: predictor_embed.0, levels·D → D */
    int embed_w, embed_b;        /* predictor_embed, or its .2 */
    int video_mod, image_mod;    /* modality_embedding */
    int pos;                     /* POS_SINCOS: the table */
    int norm_w, norm_b, proj_w, proj_b, context_w, context_b; /* context: context_proj */
};

struct pred_acts {
    buf mem;
    pred_cfg c;                  /* of the predictor it was made for */
    dtype type;
    int64_t rows, context_rows;  /* sequence rows of all items it has room for; context rows among them (levels) */
    stack_acts s;
    float *pos, *cs;             /* rotary: [n,3], [n,2,head_dim] */
    int32_t *index;              /* sin-cos: [n] table rows */
    float *shifted;              /* [2,P] with a modality: the embedding's bias and the mask token, the modality's vector added to each */
    float *pre, *act;            /* levels: [context rows, D] before and after GELU; without keep act lies at s.tmp */
    float *out, *normed;         /* [m,P] rows that are projected, before and after the norm; without keep both in s.tmp */
    float *mean, *rstd;          /* of that norm */
    float *dstream;              /* [n,P] */
    float *pos_host;             /* [n,3]; sin-cos: also the place of the int32 table rows */
    struct {                     /* a sin-cos table brought to the grid of the last call that had another than the model's; host memory */
        float *p;                /* [tokens of grid, P], then [n,P] rows to hand over */
        size_t room;             /* floats */
        int64_t grid[3];
        const float *of;         /* the stored table */
    } table;
    block_run run;               /* of the last forward: batch counts every target block of every item */
    const float *z;
    int64_t n_context, blocks;   /* of the last forward */
    int64_t first, count;        /* rows first … first+count-1 of each sequence were projected */
    int mask, modality;          /* parameter index of the mask token and of the modality vector in use */
    int ready;                   /* a backward may follow */
};

static inline int pred_levels(const pred_cfg *c) { return c->levels > 1 ? c->levels : 1; }

static inline param_form pred_weight(const pred *e, int i) { return param_weight(e->p, i, e->bc.type == T_BF16); }

/* JEPA_E_* with the operation and the device in words. */
int pred_failed(jepa_err *err, int rc, queue *q, const char *what);
/* sequence.c: the sequences of context rows and mask tokens, with their positions, into stack_in and a->run. */
int pred_sequence(const pred *e, queue *q, const pred_in *in, pred_acts *a, jepa_err *err);
/* a->dstream, now the gradient of the sequences → mask token, modality vector, embedding, dz. */
int pred_sequence_backward(const pred *e, queue *q, pred_acts *a, float *dz, jepa_err *err);
/* project.c: rows first … first+count-1 of the last stream → norm → projection. */
int pred_project(const pred *e, queue *q, pred_acts *a, float *out, jepa_err *err);
/* Gradient of the projected rows → a->dstream, zero elsewhere. */
int pred_project_backward(const pred *e, queue *q, pred_acts *a, const float *dout, jepa_err *err);
#endif
