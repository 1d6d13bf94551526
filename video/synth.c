/* synth.c: see synth.h. */
#include "video/synth.h"

#include <math.h>
#include <string.h>

void synth_cfg_defaults(synth_cfg *c) { *c = (synth_cfg){.size = 48, .frames = 16, .noise = 0.03}; }

/* Weights of the digit's 8 columns at each of the frame's pixels: bilinear at the sub-pixel position, the nearer way round the torus. */
static void weights(double centre, double digit, int size, double (*w)[8]) {
    for (int j = 0; j < size; j++) {
        double d = fmod(j + 0.5 - centre + 0.5 * size, size);
        if (d < 0) d += size;
        double u = (d - 0.5 * size) * 8 / digit + 3.5;
        for (int k = 0; k < 8; k++) {
            double v = 1 - fabs(u - k);
            w[j][k] = v > 0 ? v : 0;
        }
    }
}

int synth_digits(const synth_cfg *c, uint32_t n, uint8_t *rgb, synth_label *label, jepa_err *err) {
    if (c->size < 16 || c->size > 1024 || c->frames < 1 || c->frames > 4096 || !(c->noise >= 0) || c->noise > 0.3)
        return err_set(err, JEPA_E_USE, "moving digits of %d pixels, %d frames, noise %g: 16 to 1024 pixels, 1 to 4096 frames, noise up to 0.3", c->size,
                       c->frames, c->noise);
    rng r = rng_key(c->seed, c->split, n, RNG_SYNTH);
    int i;
    do i = (int)rng_below(&r, DIGITS);
    while ((i % 4 == 3) != (c->split == SYNTH_HELD_OUT));
    int k = (int)rng_below(&r, SYNTH_DIRECTIONS);
    if (label) *label = (synth_label){i, digits_data[i][0] - '0', k};
    if (!rgb) return 0;
    const double pi = 3.14159265358979323846, unit = c->size / 48.0;
    double speed = rng_uniform(&r, 1.5, 3) * unit, digit = rng_uniform(&r, 18, 22) * unit;
    double x0 = rng_uniform(&r, 0, c->size), y0 = rng_uniform(&r, 0, c->size), ink = rng_uniform(&r, 0.8, 1);
    int s = c->size;
    double *back = mem_alloc((size_t)s * (size_t)s, sizeof *back), (*wx)[8] = mem_alloc((size_t)s, sizeof *wx), (*wy)[8] = mem_alloc((size_t)s, sizeof *wy);
    if (!back || !wx || !wy) {
        mem_free(back), mem_free(wx), mem_free(wy);
        return err_set(err, JEPA_E_MEMORY, "no memory for a frame of %d pixels", s);
    }
    for (int p = 0; p < s * s; p++) back[p] = 0.35 + rng_uniform(&r, -c->noise, c->noise);
    for (int t = 0; t < c->frames; t++) {
        weights(x0 + speed * cos(k * pi / 4) * t, digit, s, wx);
        weights(y0 + speed * sin(k * pi / 4) * t, digit, s, wy);
        for (int y = 0; y < s; y++) {
            double row[8] = {0};
            for (int a = 0; a < 8; a++)
                for (int b = 0; b < 8; b++) row[b] += wy[y][a] * (digits_data[i][1 + 8 * a + b] - 'A') / 16.0;
            for (int x = 0; x < s; x++) {
                double m = 0;
                for (int b = 0; b < 8; b++) m += row[b] * wx[x][b];
                double v = 255 * (back[y * s + x] * (1 - m) + ink * m);
                memset(rgb + (((size_t)t * (size_t)s + (size_t)y) * (size_t)s + (size_t)x) * 3, (int)(v < 0 ? 0 : v > 255 ? 255 : v + 0.5), 3);
            }
        }
    }
    mem_free(back), mem_free(wx), mem_free(wy);
    return 0;
}
