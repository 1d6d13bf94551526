/* pca.h: what the features say, as colours: the first three principal components of patch tokens as red, green and blue. One basis for all
 * frames and inputs, which can be kept and used again, so that pictures made apart can be compared. Not installed. */
#ifndef JEPA_INFER_PCA_H
#define JEPA_INFER_PCA_H
#include "infer/infer.h"

typedef struct pca_basis {
    int64_t dim;
    float *mean, *axis;          /* [dim], [3,dim] */
    double low[3], high[3];      /* stretched to 0 … 255: 1st and 99th percentile of what it was made from */
    int foreground;              /* 1: tokens whose place on `split` lies below `edge` are background, drawn black */
    float *split_mean, *split;   /* [dim] each: the first component over all tokens (foreground only) */
    double edge;
} pca_basis;
void pca_basis_free(pca_basis *b);
int pca_basis_read(pca_basis *b, const char *path, jepa_err *err);        /* a .safetensors written by pca_basis_write */
int pca_basis_write(const pca_basis *b, const char *path, jepa_err *err);
/* From tokens [n,dim] in host memory (q: for the sums over them). foreground: 0: none; in (0,1): tokens above that share of the first component's range (1st to 99th percentile) are
 * the foreground, from which the basis is made; negative: below, counted from the other end. */
int pca_basis_make(pca_basis *b, queue *q, const float *tokens, int64_t n, int64_t dim, double foreground, jepa_err *err);
void pca_colours(const pca_basis *b, const float *tokens, int64_t n, uint8_t *rgb);

typedef struct pca_job {
    const clip_plan *plan;
    const items *inputs;
    const char *out;             /* .png (one input: frames above, components below; several: a pair of rows each), .mp4, .mkv, .mov */
    const char *basis_in, *basis_out; /* or NULL */
    double foreground;
    int (*stop)(void *ctx);
    void (*progress)(void *ctx, int pass, int64_t done, int64_t all);
    void (*failed)(void *ctx, const char *path, int line, const char *reason);
    void *ctx;
    int64_t clips, failures;     /* out */
} pca_job;
int pca_run(jepa_run *r, pca_job *j, jepa_err *err);
#endif
