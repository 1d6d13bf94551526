/* classify.h: the parts behind jepa_classify that the program uses too. Not installed. */
#ifndef JEPA_CLASSIFY_H
#define JEPA_CLASSIFY_H
#include "encoder/attentive.h"
#include "infer/infer.h"

/* The attentive pooler and classifier of a model's file; one a model, immutable once open, shared by its sessions. */
typedef struct jepa_head {
    params p; /* encoder/attentive.h's names */
    att_cfg c;
    att *e;
    char **name; /* [num_classes]; NULL: the file has no name for it */
} jepa_head;
/* The head of a session's model, opened by the first who asks. JEPA_E_MODEL: the file has none. */
int head_of(jepa_run *r, const jepa_head **out, jepa_err *err);
void head_close(jepa_head **h);
void classify_session_close(jepa_run *r);
/* Its name, or its number as text. */
void class_name(const jepa_head *h, int64_t at, char *text, size_t size);

typedef struct class_plan {
    clip_plan clip; /* of one segment: all its tokens */
    int segments;   /* clips of a video; their tokens are pooled together, as published */
    int views;      /* crops along the long side; their probabilities are averaged */
} class_plan;
int class_plan_make(const jepa *m, const jepa_embed_options *sampling, int segments, int views, class_plan *p, jepa_err *err);
/* probabilities [num_classes] */
int classify_video(jepa_run *r, const class_plan *p, const char *path, double *probabilities, jepa_err *err);
/* The same of a file that is open already; path: for messages. */
int classify_vid(jepa_run *r, const class_plan *p, vid *v, const char *path, double *probabilities, jepa_err *err);
/* One prepared clip x [T,3,H,W]; fewer frames than a tubelet: the last is repeated, as published. */
int classify_tensor(jepa_run *r, const class_plan *p, const float *x, int64_t frames, int64_t height, int64_t width, double *probabilities,
                    jepa_err *err);
/* The n most likely, best first; of equal ones the lower number. */
int class_top(const double *probabilities, int64_t classes, int64_t n, int64_t *index, jepa_err *err);
#endif
