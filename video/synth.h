/* synth.h: moving digits: a small data set on which a pretraining can be seen to learn in minutes.
 *
 * A handwritten digit moves over static noise in one of eight directions, wrapping around the frame's edges, so that where it is says
 * nothing about where it goes: direction can only be read from motion, the digit only from its shape. */
#ifndef JEPA_SYNTH_H
#define JEPA_SYNTH_H
#include "base/base.h"

enum { DIGITS = 1797, SYNTH_DIRECTIONS = 8 };
extern const char digits_data[DIGITS][1 + 64 + 1]; /* label, 64 levels 'A' (0) … 'Q' (16) */

typedef enum { SYNTH_TRAIN /* digits i with i mod 4 != 3 */, SYNTH_HELD_OUT /* the others */ } synth_split;
typedef struct synth_cfg {
    int size, frames;     /* pixels a side (default 48; digit and speed scale with it), frames (default 16) */
    synth_split split;
    uint64_t seed;
    double noise;         /* static noise, half its width (default 0.03 of the full range) */
} synth_cfg;
typedef struct synth_label { int index, digit, direction; } synth_label; /* which of the digits, 0–9, 0–7 (angle direction·π/4, y downwards) */
void synth_cfg_defaults(synth_cfg *c);
/* Clip n of the set that the seed names → rgb [frames,size,size,3] (rgb NULL: the label alone). JEPA_E_USE: a size that makes no sense. */
int synth_digits(const synth_cfg *c, uint32_t n, uint8_t *rgb, synth_label *label, jepa_err *err);
#endif
