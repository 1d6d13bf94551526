/* bench.h: what `jepa bench` measures of inference: products, encoder, predictor. Not installed.
 *
 *     bench_cfg c; bench_cfg_defaults(&c); c.arch = "vit_base";
 *     bench *b; bench_open(&b, &c, 0, &err);
 *     measured row; bench_encoder(b, &row, &err);      // row.flops / row.time.median
 *     bench_close(&b); */
#ifndef JEPA_INFER_BENCH_H
#define JEPA_INFER_BENCH_H
#include "base/measure.h"
#include "infer/infer.h"

typedef struct bench_cfg {
    const char *arch;            /* "vit_small", …: random weights, V-JEPA 2's configuration */
    const char *model;           /* a file instead (jepa_open), with open's options; NULL: arch */
    const jepa_options *open;
    const char *device, *precision; /* "cpu", "ref"; "f32" or "bf16" */
    const char *isa;             /* dev_limit_isa: no more than these instructions; NULL: what the machine has */
    int threads;                 /* 0: all cores */
    int frames, height, width;   /* 0: the model's; arch: 16 of 224 x 224 */
    int64_t batch;
    uint64_t seed;               /* of weights, clips and masks */
    measure_cfg time;
} bench_cfg;
void bench_cfg_defaults(bench_cfg *c);

typedef struct bench { /* a device with a model on it */
    bench_cfg c;
    dev *d; queue *q; dtype type;
    jepa *m; jepa_run *run;      /* c.model */
    params p, pp;                /* c.arch */
    enc *e; pred *pr;            /* m's, or its own */
    const params *ep, *prp;      /* where their values lie */
    int frames, height, width;
    char name[64];               /* of the model, as printed */
} bench;
/* predictor: that too. memory_mark is called first: the memory peaks of what is measured count from here. */
int bench_open(bench **out, const bench_cfg *c, int predictor, jepa_err *err);
void bench_close(bench **b);
/* Pixels in, tokens out, as `jepa embed` runs it, working memory allocated before. */
int bench_encoder(bench *b, measured *out, jepa_err *err);
/* tokens [batch, n, D] of clips [batch, frames, height, width, 3] (NULL: moving digits), once. */
int bench_tokens(bench *b, const uint8_t *clips, float *tokens, jepa_err *err);
/* Context tokens in, predictions at target tokens out, with the masks of V-JEPA 2's first generator (8 blocks of 0.15). */
int bench_predictor(bench *b, measured *out, jepa_err *err);
/* y = x·wᵀ through the device's own `linear`, with what follows it: the rate that all others are a share of. */
int bench_product(dev *d, const bench_cfg *c, int64_t rows, int64_t in, int64_t out_dim, int act, measured *out, jepa_err *err);
/* Open, sample, decode, crop: one clip of each item as `jepa embed` prepares it (4 frames a second, the evaluation transform), one decoder thread. */
int bench_decode(const bench_cfg *c, const items *in, int frames, int crop, measured *out, jepa_err *err);
int bench_video(const char *path, int side, int frames, jepa_err *err); /* writes moving digits in H.264, 30 frames a second */
typedef struct bench_cosines { double token_mean, token_worst, pooled_mean, pooled_worst; int64_t tokens, clips; } bench_cosines;
int bench_cosine(const float *x, const float *y, int64_t clips, int64_t tokens, int64_t d, bench_cosines *out, jepa_err *err); /* of x and y [clips,tokens,d] */
/* Outputs of c->precision beside those of float32, for the same weights and clips; in: clips of these videos, NULL: moving digits. */
int bench_accuracy(const bench_cfg *c, const items *in, bench_cosines *out, jepa_err *err);
/* Moving digits [batch, frames, height, width, 3]: a picture that is the same on every machine. */
int bench_clips(uint8_t *x, int64_t batch, int frames, int height, int width, uint64_t seed, jepa_err *err);
#endif
