/* jepa.h: the public C interface of libjepa: frames in, embeddings out.
 *
 *     jepa *m = NULL; jepa_run *run = NULL; jepa_embedding e = {0}; jepa_err err = {0};
 *     if (jepa_open(&m, "run/latest", NULL, &err) < 0 || jepa_session(m, &run, &err) < 0 ||
 *         jepa_embed_video(run, "clip.mp4", NULL, &e, &err) < 0)
 *         fprintf(stderr, "%s\n", err.text);
 *     else
 *         printf("%lld rows of %lld\n", (long long)e.rows, (long long)e.dim);    // e.data[row·dim + channel]
 *     jepa_embedding_free(&e); jepa_session_close(&run); jepa_close(&m);
 *
 * A model is immutable once open and may be shared by threads; a session (its working memory) belongs to one thread.
 * Functions return 0 or a negative JEPA_E_*; the reason goes into the caller's jepa_err (which may be NULL). Nothing here prints,
 * ends the process, or keeps state of its own. Option structs begin with their size: fill them with the _defaults function first. */
#ifndef JEPA_JEPA_H
#define JEPA_JEPA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef JEPA_API
#define JEPA_API __attribute__((visibility("default")))
#endif

#ifndef JEPA_ERR_DEFINED /* the same lines stand in infer/jepa.h, which is installed alone; a test compares them */
#define JEPA_ERR_DEFINED
/* -2 … -7 are the program's exit codes with their sign turned (see cli/). */
enum {
    JEPA_OK = 0,
    JEPA_E_USE = -2,         /* wrong arguments, by a caller or on the command line */
    JEPA_E_MODEL = -3,       /* a model or configuration that cannot be used */
    JEPA_E_IO = -4,          /* a file that cannot be opened, read or written */
    JEPA_E_MEMORY = -5,      /* does not fit in memory */
    JEPA_E_STOPPED = -6,     /* training stopped itself */
    JEPA_E_DEVICE = -7,      /* a device failed, or is not there */
    JEPA_E_UNSUPPORTED = -8, /* an operation that cannot run this shape; outputs are untouched */
    JEPA_E_INPUT = -9,       /* one input item (video, image, list line) that cannot be used */
    JEPA_E_CANCELLED = -10,  /* the caller's cancel callback said so */
    JEPA_E_END = -11         /* nothing more to read: not an error by itself */
};

typedef struct jepa_err {
    int code;        /* JEPA_E_*; 0: nothing happened */
    int64_t offset;  /* byte offset in file, or -1 */
    char text[512];  /* one line: what, where, why, what would help; no newline, no program name */
    char file[512];  /* the file it is about, or "" */
} jepa_err;
#endif

JEPA_API const char *jepa_version(void);

/* ---- a model ---- */
typedef struct jepa jepa;

typedef struct jepa_options {
    size_t size;                /* set by jepa_options_defaults */
    const char *device;         /* "auto", "cpu", "ref", "cuda[:i]"; default auto: the first device that can run the model */
    int threads;                /* compute threads; default 0: the cores this process may use */
    int context_encoder;        /* 1: the context encoder of a training checkpoint; default 0: its target (EMA) encoder */
    int published_positions;    /* 1: the published code's positions where they differ from the input's grid; default 0 */
    int allow_partial;          /* 1: missing and unknown tensors are logged, not refused; default 0 */
    int untrained;              /* 1: the model's sizes with freshly drawn weights, as before its training; default 0 */
    uint64_t seed; double init_sd; /* for untrained; defaults 0 and 0.02 */
    void (*log)(void *ctx, const char *line);  /* messages a person may want, one line each; NULL: none */
    int (*cancel)(void *ctx);   /* asked between clips; nonzero ends the call with JEPA_E_CANCELLED; NULL: never */
    void *ctx;                  /* handed to both; they are called on the caller's thread */
    int predictor;              /* 1: the predictor too (and the context encoder where the file has both), for jepa_predict; default 0 */
    /* what a file does not say (a PyTorch archive has no configuration); NULL or 0: told by content, and the choice is logged */
    const char *arch;           /* "vit_large", "vit_giant_xformers", … */
    const char *family;         /* "ijepa", "vjepa1", "vjepa2", "vjepa21" */
    const char *config;         /* a published training YAML, or a Hugging Face config.json */
    int heads, predictor_heads; /* attention heads */
    const char *precision;      /* "f32", or "bf16": weights and most activations in bf16 (half the memory), sums and statistics in float32; NULL: f32 */
} jepa_options;
JEPA_API void jepa_options_defaults(jepa_options *o);

/* path: a Hugging Face folder (VJEPA2Model, VJEPA2ForVideoClassification, IJepaModel; safetensors or pytorch_model.bin), Meta's .pt or .pth.tar,
 * a jepa run or checkpoint folder, or a .safetensors beside its config.json; told by content. o NULL: defaults. JEPA_E_MODEL names the tensor
 * or key that does not fit. */
JEPA_API int jepa_open(jepa **out, const char *path, const jepa_options *o, jepa_err *err);
JEPA_API void jepa_close(jepa **m); /* after its sessions; accepts NULL, nulls the pointer */

typedef struct jepa_info {
    size_t size;                /* sizeof(jepa_info), set by the caller */
    char family[16], variant[48], kind[96], device[128];
    int img_height, img_width, patch_size, tubelet_size, num_frames, embed_dim, depth, num_heads;
    int64_t parameters;         /* of the encoder */
    int has_predictor, has_context_encoder, has_target_encoder;
} jepa_info;
JEPA_API int jepa_get_info(const jepa *m, jepa_info *out);

/* ---- a session ---- */
typedef struct jepa_run jepa_run;
JEPA_API int jepa_session(jepa *m, jepa_run **out, jepa_err *err);
JEPA_API void jepa_session_close(jepa_run **run);

/* ---- embeddings ---- */
enum { JEPA_POOL_MEAN /* [D] a clip */, JEPA_POOL_NONE /* [N,D] */, JEPA_POOL_TIME /* mean over time: [rows·cols,D] */, JEPA_POOL_SPACE /* mean over space: [frames/t,D] */ };
typedef struct jepa_embed_options {
    size_t size;
    int frames;                 /* a clip; default 0: the model's */
    double fps;                 /* sampling rate; default 0: the model's (Hugging Face and Meta: 4) unless stride is given */
    int stride;                 /* every stride-th frame; default 0: by fps */
    int clips;                  /* clips spread over the video; default 1 */
    double every;               /* > 0: a clip each so many seconds instead, over all of the video */
    int crop;                   /* pixels; default 0: the model's */
    int pool;                   /* default JEPA_POOL_MEAN */
    int layers;                 /* number of entries in layer; default 0: the final output */
    const int *layer;           /* blocks (0-based) whose outputs are wanted too, through the final norm, in ascending order; joined along channels */
    int as_stored;              /* 1: ignore rotation tags; default 0: upright */
    int reject_short;           /* 1: a video shorter than a clip is an error; default 0: its last frame is repeated */
} jepa_embed_options;
JEPA_API void jepa_embed_options_defaults(jepa_embed_options *o);

typedef struct jepa_embedding { /* owned by the caller once filled; free with jepa_embedding_free */
    float *data;                /* [rows, per_row, dim] */
    int64_t rows, per_row, dim; /* rows: clips; per_row: 1, or tokens left after pooling */
    int64_t grid[3];            /* frames, rows, columns of tokens */
    double *start_seconds, *end_seconds; /* [rows]: time of the first and last frame used */
} jepa_embedding;
JEPA_API void jepa_embedding_free(jepa_embedding *e);

/* o NULL: defaults. JEPA_E_INPUT when the file cannot be used (the text says why). */
JEPA_API int jepa_embed_video(jepa_run *run, const char *path, const jepa_embed_options *o, jepa_embedding *out, jepa_err *err);

/* ---- predictions ---- */
typedef struct jepa_predict_options {
    size_t size;
    const char *mask;           /* "future:from=4" (tubelets after the 4th), "multiblock[:generator=0,seed=0]", "tube:ratio=0.9[,seed=0]",
                                   "file:masks.safetensors" (context, target int64 [n] or [clips,n]) */
    int mask_token;             /* which of the file's mask tokens stands at targets; default -1: 0 for Meta's and our files, 1 for Hugging Face's */
    int encode_all;             /* 1: all tokens are encoded and the context's picked, as Hugging Face's code does; default 0: only the context is seen */
    const jepa_embed_options *sampling; /* frames, rate, clips, crop; NULL: defaults */
} jepa_predict_options;
JEPA_API void jepa_predict_options_defaults(jepa_predict_options *o);
typedef struct jepa_prediction { /* owned by the caller once filled; free with jepa_prediction_free */
    float *predicted, *target;  /* [clips,n,dim]; targets are normalised per token (and level) as in training. target and error are NULL for a
                                   distilled student: it predicts its teacher's features, which its file cannot compute */
    float *error;               /* [clips,n]: mean over channels of |predicted - target| */
    int64_t clips, n, dim, n_context;
    int32_t *context, *index;   /* [clips,n_context], [clips,n]: token = (frame·rows + row)·columns + column */
    int64_t grid[3];            /* frames, rows, columns of tokens */
    double *start_seconds, *end_seconds; /* [clips] */
} jepa_prediction;
JEPA_API void jepa_prediction_free(jepa_prediction *p);
/* The model must have been opened with jepa_options.predictor. */
JEPA_API int jepa_predict(jepa_run *run, const char *path, const jepa_predict_options *o, jepa_prediction *out, jepa_err *err);

/* ---- classes, of a model whose file has an attentive pooler and classifier (VJEPA2ForVideoClassification) ---- */
typedef struct jepa_classify_options {
    size_t size;
    int segments;               /* clips spread over the video; their tokens are pooled together; default 1 (published evaluations: 2 or more) */
    int views;                  /* crops along the long side of the frame; their probabilities are averaged; default 1: the model's own crop */
    int top;                    /* classes wanted; default 5 */
    const jepa_embed_options *sampling; /* frames, rate, crop (clips, every, pool and layers are not read); NULL: defaults */
} jepa_classify_options;
JEPA_API void jepa_classify_options_defaults(jepa_classify_options *o);
typedef struct jepa_classes { /* owned by the caller once filled; free with jepa_classes_free */
    int64_t n, classes;         /* entries below; classes that the model knows */
    int64_t *index;             /* [n] best first */
    double *probability;        /* [n] */
    char **name;                /* [n] as the file's id2label has it, else the number */
} jepa_classes;
JEPA_API void jepa_classes_free(jepa_classes *c);
JEPA_API int jepa_classify(jepa_run *run, const char *path, const jepa_classify_options *o, jepa_classes *out, jepa_err *err);

enum { JEPA_FRAMES_RGB8, JEPA_FRAMES_NV12 };
typedef struct jepa_frames {    /* one clip in host memory, frames in order */
    size_t size;
    int format, width, height, count;
    const uint8_t *const *plane0; /* [count] RGB8: packed rows; NV12: luma */
    const uint8_t *const *plane1; /* [count] NV12: interleaved chroma (BT.709, limited range); RGB8: NULL */
    int64_t stride0, stride1;   /* bytes a row; 0: tight */
} jepa_frames;
/* The frames are the clip (no sampling; the last is repeated to fill whole tubelets), cropped and resized as for evaluation. */
JEPA_API int jepa_embed_frames(jepa_run *run, const jepa_frames *frames, const jepa_embed_options *o, jepa_embedding *out, jepa_err *err);

#ifdef __cplusplus
}
#endif
#endif
