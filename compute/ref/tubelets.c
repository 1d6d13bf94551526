/* tubelets.c: a clip cut into the rows that the patch weight multiplies. */
#include "compute/ref/ref.h"

/* One value of the clip, normalised. */
static double pixel(const op_tubelets *a, int64_t b, int64_t c, int64_t t, int64_t y, int64_t x) {
    if (a->type == T_U8) {
        const uint8_t *u8 = a->x;
        double v = u8[(((b * a->frames + t) * a->height + y) * a->width + x) * a->channels + c] / 255.0;
        return (v - a->mean[c]) / a->std[c];
    }
    const float *f32 = a->x;
    int64_t plane = a->frames_first ? (b * a->frames + t) * a->channels + c : (b * a->channels + c) * a->frames + t;
    return f32[(plane * a->height + y) * a->width + x];
}

int ref_tubelets(queue *q, const op_tubelets *a) {
    int rc = check_tubelets(a);
    if (rc < 0) return rc;
    int64_t rows = a->height / a->patch, cols = a->width / a->patch, all = a->frames / a->tubelet * rows * cols;
    int64_t n = a->keep ? a->n_keep : all;
    int64_t at = 0;
    for (int64_t b = 0; b < a->batch; b++)
        for (int64_t i = 0; i < n; i++) {
            int64_t token = a->keep ? a->keep[b * n + i] : i;
            int64_t t0 = token / (rows * cols) * a->tubelet;
            int64_t y0 = token / cols % rows * a->patch, x0 = token % cols * a->patch;
            for (int64_t c = 0; c < a->channels; c++)
                for (int64_t t = 0; t < a->tubelet; t++)
                    for (int64_t y = 0; y < a->patch; y++)
                        for (int64_t x = 0; x < a->patch; x++, at++) {
                            float v = (float)pixel(a, b, c, t0 + t, y0 + y, x0 + x);
                            if (a->y16)
                                a->y16[at] = f32_to_bf16(v);
                            else
                                a->y[at] = v;
                        }
        }
    return 0;
}
