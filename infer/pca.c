/* pca.c: what the features say, as colours: the first three principal components of patch tokens beside the frames they come from. */
#include "infer/infer.h"

#include <lapacke.h>
#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int pca_rgb(const float *x, int64_t n, int64_t d, uint8_t *rgb, jepa_err *err) {
    if (n < 2 || d < 3 || d > 8192) return err_set(err, JEPA_E_USE, "principal components of %lld tokens of %lld channels", (long long)n, (long long)d);
    double *mean = mem_alloc((size_t)d, sizeof *mean), *g = mem_alloc((size_t)d * (size_t)d, sizeof *g), *w = mem_alloc((size_t)d, sizeof *w);
    float *c = mem_alloc((size_t)n, sizeof *c), *sorted = mem_alloc((size_t)n, sizeof *sorted);
    double *row = mem_alloc((size_t)d, sizeof *row);
    int rc = JEPA_E_MEMORY;
    if (!mean || !g || !w || !c || !sorted || !row) {
        err_set(err, rc, "no memory for principal components over %lld channels", (long long)d);
        goto done;
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < d; k++) mean[k] += x[i * d + k] / (double)n;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < d; k++) row[k] = x[i * d + k] - mean[k];
        for (int64_t k = 0; k < d; k++)
            for (int64_t l = 0; l <= k; l++) g[k * d + l] += row[k] * row[l];
    }
    if (LAPACKE_dsyevd(LAPACK_ROW_MAJOR, 'V', 'L', (lapack_int)d, g, (lapack_int)d, w) != 0) {
        rc = err_set(err, JEPA_E_USE, "the principal components did not converge");
        goto done;
    }
    for (int p = 0; p < 3; p++) {
        int64_t col = d - 1 - p; /* eigenvalues ascend */
        double sign = 0;
        for (int64_t k = 0; k < d; k++) sign += g[k * d + col] * g[k * d + col] * g[k * d + col]; /* a direction has no sign of its own: fix one */
        for (int64_t i = 0; i < n; i++) {
            double s = 0;
            for (int64_t k = 0; k < d; k++) s += (x[i * d + k] - mean[k]) * g[k * d + col];
            sorted[i] = c[i] = (float)(sign < 0 ? -s : s);
        }
        qsort(sorted, (size_t)n, sizeof *sorted, ascending);
        float low = sorted[n / 100], high = sorted[n - 1 - n / 100], scale = high > low ? 255 / (high - low) : 0;
        for (int64_t i = 0; i < n; i++) {
            float v = (c[i] - low) * scale;
            rgb[3 * i + p] = (uint8_t)(v <= 0 ? 0 : v >= 255 ? 255 : v + 0.5f);
        }
    }
    rc = 0;
done:
    mem_free(mean), mem_free(g), mem_free(w), mem_free(c), mem_free(sorted), mem_free(row);
    return rc;
}

int pca_picture(jepa_run *r, const char *video, const clip_plan *given, const char *png, jepa_err *err) {
    clip_plan p = *given;
    p.pool = JEPA_POOL_NONE, p.clips = 1, p.every = 0, p.layers = 0;
    plan_pool(&p, &r->m->ec, p.frames, p.clip.crop, p.clip.crop);
    vid *v = NULL;
    clip_list l = {0};
    double start, end;
    const int64_t t = p.grid[0], h = p.grid[1], w = p.grid[2], n = t * h * w, d = p.dim, crop = p.clip.crop;
    const int tubelet = r->m->ec.tubelet_size, gap = 2;
    /* at most eight columns; small clips are enlarged so that a person sees something */
    const int64_t columns = t < 8 ? t : 8, zoom = crop >= 192 ? 1 : (192 + crop - 1) / crop, side = crop * zoom, width = columns * (side + gap) + gap,
                  height = 2 * (side + gap) + gap;
    uint8_t *clip = mem_alloc((size_t)p.frames * (size_t)crop, (size_t)crop * 3), *rgb = mem_alloc((size_t)n, 3), *out = mem_alloc((size_t)width * (size_t)height, 3);
    float *tokens = mem_alloc((size_t)n, (size_t)d * sizeof *tokens);
    int rc = JEPA_E_MEMORY;
    if (!clip || !rgb || !out || !tokens) {
        err_set(err, rc, "no memory for a picture of %lld tokens", (long long)n);
        goto done;
    }
    const vid_opts o = {.as_stored = p.as_stored};
    if ((rc = vid_open(&v, video, &o, err)) < 0 || (rc = clips_of(v, &p, &l, err)) < 0 || (rc = clip_load(v, &p, &l, 0, clip, &start, &end, err)) < 0 ||
        (rc = run_encode(r, &p, clip, T_U8, 1, p.frames, crop, crop, tokens, err)) < 0 || (rc = pca_rgb(tokens, n, d, rgb, err)) < 0)
        goto done;
    memset(out, 255, (size_t)width * (size_t)height * 3);
    for (int64_t k = 0; k < columns; k++) {
        int64_t step = columns > 1 ? k * (t - 1) / (columns - 1) : 0;
        const uint8_t *frame = clip + (size_t)(step * tubelet) * (size_t)(crop * crop) * 3, *map = rgb + (size_t)(step * h * w) * 3;
        for (int64_t y = 0; y < side; y++)
            for (int64_t x = 0; x < side; x++) {
                uint8_t *top = out + ((gap + y) * width + gap + k * (side + gap) + x) * 3, *below = top + (side + gap) * width * 3;
                memcpy(top, frame + ((y / zoom) * crop + x / zoom) * 3, 3);
                memcpy(below, map + ((y * h / side) * w + x * w / side) * 3, 3);
            }
    }
    rc = image_write_png(png, out, (int)width, (int)height, err);
done:
    mem_free(clip), mem_free(rgb), mem_free(out), mem_free(tokens), mem_free(l.index);
    vid_close(&v);
    return rc;
}
