/* verify.h: every item of a list decoded once, whole, by several threads: what a training run would meet, before it starts. */
#ifndef JEPA_VERIFY_H
#define JEPA_VERIFY_H
#include "video/video.h"

typedef enum {
    VERIFY_GOOD,
    VERIFY_CUT, /* usable, but fewer frames come out than its file promises */
    VERIFY_BAD
} verify_state;

typedef struct verify_result {
    verify_state state;
    int width, height;
    int64_t frames, promised; /* decoded; what the file says */
    double seconds;           /* what it lasts; 0 for a picture */
    const char *text;         /* BAD: the whole message */
    const char *reason;       /* BAD: its reason, alike for the same cause: "empty file" */
} verify_result;

typedef struct verify_cfg {
    int workers;                                                      /* threads; 0: one a core */
    int (*stop)(void *ctx);                                           /* asked between frames; NULL: never */
    void (*item)(void *ctx, int32_t which, const verify_result *r);   /* each item once, one at a time, in the order they end */
    void *ctx;
} verify_cfg;

/* 0; JEPA_E_CANCELLED after stop; JEPA_E_MEMORY where the frames of one picture have no room. Memory: one picture a worker, of frame sets at
 * most 64 MiB where more than one fits. */
int verify_items(const items *l, const verify_cfg *c, jepa_err *err);
#endif
