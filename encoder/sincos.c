/* sincos.c: the additive sin-cos tables of V-JEPA 1 and I-JEPA, and a stored table brought to another grid.
 *
 * One axis of d channels at position m: ω_i = 10000^(-i/(d/2)), [sin(m·ω) ‖ cos(m·ω)]. In 3-D the axes follow each other as frame, row,
 * column; in 2-D V-JEPA puts the row first, I-JEPA the column. */
#include "encoder/positions.h"

#include <math.h>
#include <string.h>

static void axis(double position, int d, int n, float *to) { /* the first n of d channels */
    const int half = d / 2;
    for (int i = 0; i < n; i++) {
        const double angle = position * pow(10000, -(double)(i % half) / half);
        to[i] = (float)(i < half ? sin(angle) : cos(angle));
    }
}

/* The number of tokens, or a negative code. */
static int64_t grid_size(const int64_t g[3], const char *what, jepa_err *err) {
    if (g[0] < 1 || g[1] < 1 || g[2] < 1 || g[0] > INT32_MAX || g[1] > INT32_MAX / g[0] || g[2] > INT32_MAX / (g[0] * g[1]))
        return err_set(err, JEPA_E_USE, "%s: a grid of %lld x %lld x %lld cannot be", what, (long long)g[0], (long long)g[1],
                       (long long)g[2]);
    return g[0] * g[1] * g[2];
}

int pos_sincos(const pos_sincos_cfg *c, float *table, jepa_err *err) {
    const int64_t g[3] = {c->frames, c->rows, c->cols}, n = grid_size(g, "sin-cos positions", err);
    if (n < 0) return (int)n;
    const int even = c->planar ? 4 : c->uniform_power ? 1 : 8; /* each axis has sines and as many cosines */
    if (c->dim < even || c->dim % even)
        return err_set(err, JEPA_E_MODEL, "sin-cos positions: a width of %d is not a multiple of %d, which %s need", c->dim, even,
                       c->planar ? "two axes of sines and cosines" : "the shares 1/2, 1/4, 1/4 of frame, row and column");
    if (c->planar && c->frames != 1)
        return err_set(err, JEPA_E_USE, "sin-cos positions: a table for pictures has 1 frame, not %lld", (long long)c->frames);
    int share[3];
    if (c->planar)
        share[0] = 0, share[1] = share[2] = c->dim / 2;
    else if (c->uniform_power)
        share[0] = share[1] = share[2] = (c->dim + 5) / 6 * 2; /* together more than dim where 6 does not divide it: the last are cut */
    else
        share[0] = c->dim / 2, share[1] = share[2] = c->dim / 4;
    const int swap = c->planar && c->columns_first;
    for (int64_t k = 0; k < n; k++) {
        const double at[3] = {(double)(k / (g[1] * g[2])), (double)(k / g[2] % g[1]), (double)(k % g[2])};
        /* the first token at that frame, row and column: computed there, copied from there afterwards */
        const int64_t first[3] = {k / (g[1] * g[2]) * (g[1] * g[2]), k / g[2] % g[1] * g[2], k % g[2]};
        float *row = table + k * c->dim;
        for (int a = 0, done = 0; a < 3; done += share[a++]) {
            const int from = swap && a ? 3 - a : a, left = c->dim - done, n_a = share[a] < left ? share[a] : left;
            if (n_a <= 0) continue;
            if (first[from] == k)
                axis(at[from], share[a], n_a, row + done);
            else
                memcpy(row + done, table + first[from] * c->dim + done, (size_t)n_a * sizeof *row);
        }
    }
    return 0;
}

/* ---- another size ---- */

typedef struct tap { /* the entries of one axis that a new position is made of */
    int64_t at[4];
    double w[4];
} tap;

static double cubic_near(double x) { /* |x| <= 1, a = -0.75 */
    return ((-0.75 + 2) * x - (-0.75 + 3)) * x * x + 1;
}
static double cubic_far(double x) { /* 1 < |x| < 2 */
    return ((-0.75 * x + 5 * 0.75) * x - 8 * 0.75) * x + 4 * 0.75;
}

/* PyTorch's align_corners=False: pixel centres. Past the border the linear form holds the border, the cubic repeats it. */
static tap place(int64_t from, int64_t to, int64_t i, int cubic) {
    tap t = {{0}, {0}};
    double x = (double)from / (double)to * ((double)i + 0.5) - 0.5;
    if (!cubic && x < 0) x = 0;
    const double f = floor(x), r = x - f;
    if (cubic) {
        const double w[4] = {cubic_far(1 + r), cubic_near(r), cubic_near(1 - r), cubic_far(2 - r)};
        memcpy(t.w, w, sizeof w);
    } else
        t.w[0] = 1 - r, t.w[1] = r;
    for (int k = 0; k < (cubic ? 4 : 2); k++) {
        const int64_t at = (int64_t)f + k - cubic;
        t.at[k] = at < 0 ? 0 : at > from - 1 ? from - 1 : at;
    }
    return t;
}

int pos_resample(const float *table, const int64_t from[3], int64_t dim, int planar, const int64_t to[3], float *out, jepa_err *err) {
    int64_t n = grid_size(from, "positions of another size", err);
    if (n >= 0) n = grid_size(to, "positions of another size", err);
    if (n < 0) return (int)n;
    if (dim < 1 || dim > 1 << 20) return err_set(err, JEPA_E_USE, "positions of another size: a width of %lld", (long long)dim);
    if (planar && (from[0] != 1 || to[0] != 1))
        return err_set(err, JEPA_E_USE, "positions of another size: a table for pictures has 1 frame, not %lld or %lld", (long long)from[0],
                       (long long)to[0]);
    double *sum = mem_alloc((size_t)dim, sizeof *sum);
    if (!sum) return err_set(err, JEPA_E_MEMORY, "positions of another size: no memory for %lld numbers", (long long)dim);
    const int taps = planar ? 4 : 2, frame_taps = planar ? 1 : 2;
    for (int64_t k = 0; k < n; k++) {
        const tap d = planar ? (tap){{0}, {1}} : place(from[0], to[0], k / (to[1] * to[2]), 0),
                  h = place(from[1], to[1], k / to[2] % to[1], planar), w = place(from[2], to[2], k % to[2], planar);
        memset(sum, 0, (size_t)dim * sizeof *sum);
        for (int a = 0; a < frame_taps; a++)
            for (int b = 0; b < taps; b++)
                for (int c = 0; c < taps; c++) {
                    const double weight = d.w[a] * h.w[b] * w.w[c];
                    const float *row = table + ((d.at[a] * from[1] + h.at[b]) * from[2] + w.at[c]) * dim;
                    if (weight != 0)
                        for (int64_t i = 0; i < dim; i++) sum[i] += weight * row[i];
                }
        for (int64_t i = 0; i < dim; i++) out[k * dim + i] = (float)sum[i];
    }
    mem_free(sum);
    return 0;
}
