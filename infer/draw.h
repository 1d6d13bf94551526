/* draw.h: what pictures are made of: a canvas of RGB bytes, a colour scale for errors, lines, small text. */
#ifndef JEPA_INFER_DRAW_H
#define JEPA_INFER_DRAW_H
#include "base/base.h"

typedef struct canvas { int width, height; uint8_t *rgb; } canvas;
int canvas_open(canvas *c, int64_t width, int64_t height, jepa_err *err); /* white; JEPA_E_USE above 16384 a side */
void canvas_close(canvas *c);
void canvas_fill(canvas *c, int x, int y, int w, int h, const uint8_t rgb[3]); /* what lies outside is left out, here and below */
void canvas_line(canvas *c, double x0, double y0, double x1, double y1, const uint8_t rgb[3]);
/* Digits, letters a to z (capitals as small ones), . - + / : % and space; 5 x 7 dots of `dot` pixels each, 6 apart. Others leave a gap. */
void canvas_text(canvas *c, int x, int y, int dot, const char *text, const uint8_t rgb[3]);
int text_width(const char *text, int dot);

/* v in [0, 1] → black, violet, red, orange, pale yellow: darker is smaller, on paper too. Values outside are taken to the ends. */
void heat_colour(double v, uint8_t rgb[3]);
/* A frame [side,side,3] enlarged by zoom at (x, y), an error map [rows,cols] laid over it: alpha 0 (frame only) to 1. Cells that are NaN stay
 * the frame's. Errors from low to high span the colour scale. */
void canvas_frame(canvas *c, int x, int y, int zoom, const uint8_t *frame, int side, const float *map, int64_t rows, int64_t cols, double low,
                  double high, double alpha);
void canvas_bar(canvas *c, int x, int y, int w, int h, double low, double high); /* colour scale with its ends written beside: w is the colours' */
/* Values 1 % from either end of those that are not NaN; 0 and 1 where there are none. */
void robust_range(const float *v, int64_t n, double *low, double *high);

typedef struct curve { const char *name; const double *x, *y; int64_t n; } curve;
/* A picture of curves over seconds, axes labelled. */
int draw_curves(const char *png, const curve *c, int n, const char *y_label, jepa_err *err);
#endif
