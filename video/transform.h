/* transform.h: the three published ways of resizing, over a window of the target, rows at a time. Inside video/ only. */
#ifndef JEPA_TRANSFORM_H
#define JEPA_TRANSFORM_H
#include "video/video.h"

/* One plan serves all frames of a clip: source h×w (rows `stride` bytes apart), whole target oh×ow, of which rows [top, top+rows)
 * and columns [left, left+cols) are wanted. */
typedef struct resize_plan {
    int h, w, oh, ow, top, left, rows, cols;
    clip_mode how;
    int half;              /* OpenCV: exactly half of both sides is the mean of four */
    int bits;              /* antialiased: fixed-point precision of the weights */
    int *xfrom, *yfrom;    /* first source column, row */
    int *xcount, *ycount;  /* antialiased: number of taps */
    int32_t *xweight, *yweight; int xtaps, ytaps; /* taps a target pixel, at most */
    float *xfrac, *yfrac;  /* CLIP_TRAIN: weight of the second tap */
    int first, last;       /* source rows in use: [first, last) */
    void *work;            /* rows in between */
    int cached[2];         /* CLIP_TRAIN: source rows that lie in work */
} resize_plan;
int resize_open(resize_plan *p, clip_mode how, int h, int w, int oh, int ow, int top, int left, int rows, int cols, jepa_err *err);
void resize_close(resize_plan *p);
/* One frame → uint8 [rows,cols,3] (all but CLIP_TRAIN). */
void resize_frame(resize_plan *p, const uint8_t *src, size_t stride, uint8_t *out);
/* CLIP_TRAIN: target row y of a frame as floats in 0…255 [cols·3]; call resize_next_frame before each frame. */
void resize_next_frame(resize_plan *p);
void resize_row_f32(resize_plan *p, const uint8_t *src, size_t stride, int y, float *out);
#endif
