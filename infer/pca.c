/* pca.c: principal components of features: the basis, kept or read again, and features as colours. */
#include "infer/pca.h"
#include "compute/ops.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static int basis_room(pca_basis *b, int64_t dim, jepa_err *err) {
    *b = (pca_basis){.dim = dim};
    b->mean = mem_alloc((size_t)dim, sizeof(float)), b->axis = mem_alloc((size_t)dim, 3 * sizeof(float));
    b->split_mean = mem_alloc((size_t)dim, sizeof(float)), b->split = mem_alloc((size_t)dim, sizeof(float));
    if (b->mean && b->axis && b->split_mean && b->split) return 0;
    pca_basis_free(b);
    return err_set(err, JEPA_E_MEMORY, "no memory for principal components over %lld channels", (long long)dim);
}

void pca_basis_free(pca_basis *b) {
    mem_free(b->mean), mem_free(b->axis), mem_free(b->split_mean), mem_free(b->split);
    *b = (pca_basis){0};
}

static double along(const float *x, const float *mean, const float *axis, int64_t d) {
    double s = 0;
    for (int64_t k = 0; k < d; k++) s += ((double)x[k] - mean[k]) * axis[k];
    return s;
}

/* The first three axes of the tokens that are marked (keep NULL: all). */
static int axes(queue *q, const float *x, const unsigned char *keep, int64_t n, int64_t d, float *mean, float *axis, jepa_err *err) {
    enum { BLOCK = 512 };
    const ops *o = dev_ops(queue_dev(q));
    dev *dv = queue_dev(q);
    const size_t dd = (size_t)d;
    buf rows = {0}, sums = {0};
    double *sum = mem_alloc(2 * dd + dd * dd, sizeof *sum), *gram = sum ? sum + 2 * dd : NULL, *w = mem_alloc(dd, sizeof *w);
    float *some = mem_alloc(BLOCK * dd, sizeof *some);
    int64_t used = 0;
    int rc = JEPA_E_MEMORY;
    if (!sum || !w || !some) {
        err_set(err, rc, "no memory for principal components over %lld channels", (long long)d);
        goto done;
    }
    if ((rc = buf_new(&rows, dv, BLOCK * dd * sizeof(float), err)) < 0 || (rc = buf_new(&sums, dv, (2 * dd + dd * dd) * sizeof(double), err)) < 0) goto done;
    double *on = sums.p;
    for (int64_t i = 0; i < n;) {
        int64_t k = 0;
        for (; i < n && k < BLOCK; i++)
            if (!keep || keep[i]) memcpy(some + k++ * d, x + i * d, dd * sizeof *some);
        if (!k) break;
        if ((rc = buf_put(q, rows.p, some, (size_t)k * dd * sizeof *some, err)) < 0) goto done;
        if ((rc = o->colstats(q, &(op_colstats){.rows = k, .d = d, .x = rows.p, .sum = on, .sumsq = on + d, .gram = on + 2 * d})) < 0) {
            err_set(err, rc, "the features' moments could not be computed");
            goto done;
        }
        used += k;
    }
    if (used < 3) {
        rc = err_set(err, JEPA_E_USE, "principal components of %lld tokens: there are too few", (long long)used);
        goto done;
    }
    if ((rc = buf_get(q, sum, sums.p, (2 * dd + dd * dd) * sizeof(double), err)) < 0) goto done;
    for (int64_t a = 0; a < d; a++)
        for (int64_t b = 0; b <= a; b++) gram[a * d + b] -= sum[a] * sum[b] / (double)used;
    for (size_t i = 0; i < dd * dd; i++)
        if (!isfinite(gram[i])) {
            rc = err_set(err, JEPA_E_USE, "the features are not finite: there are no principal components");
            goto done;
        }
    if (LAPACKE_dsyevd(LAPACK_ROW_MAJOR, 'V', 'L', (lapack_int)d, gram, (lapack_int)d, w) != 0) {
        rc = err_set(err, JEPA_E_USE, "the principal components did not converge");
        goto done;
    }
    for (int64_t k = 0; k < d; k++) mean[k] = (float)(sum[k] / (double)used);
    for (int p = 0; p < 3; p++) {
        int64_t col = d - 1 - p; /* eigenvalues ascend */
        double sign = 0;
        for (int64_t k = 0; k < d; k++) sign += gram[k * d + col] * gram[k * d + col] * gram[k * d + col]; /* a direction has no sign of its own: fix one */
        for (int64_t k = 0; k < d; k++) axis[p * d + k] = (float)(sign < 0 ? -gram[k * d + col] : gram[k * d + col]);
    }
    rc = 0;
done:
    buf_free(&rows);
    buf_free(&sums);
    mem_free(sum), mem_free(w), mem_free(some);
    return rc;
}

/* 1st and 99th percentile of the marked tokens along an axis. */
static int range(const float *x, const unsigned char *keep, int64_t n, int64_t d, const float *mean, const float *axis, double *low, double *high, jepa_err *err) {
    float *s = mem_alloc((size_t)n, sizeof *s);
    int64_t k = 0;
    if (!s) return err_set(err, JEPA_E_MEMORY, "no memory for %lld tokens", (long long)n);
    for (int64_t i = 0; i < n; i++)
        if (!keep || keep[i]) s[k++] = (float)along(x + i * d, mean, axis, d);
    qsort(s, (size_t)k, sizeof *s, ascending);
    *low = s[k / 100], *high = s[k - 1 - k / 100];
    mem_free(s);
    return 0;
}

int pca_basis_make(pca_basis *b, queue *q, const float *x, int64_t n, int64_t d, double foreground, jepa_err *err) {
    *b = (pca_basis){0};
    if (n < 3 || d < 3 || d > 8192) return err_set(err, JEPA_E_USE, "principal components of %lld tokens of %lld channels", (long long)n, (long long)d);
    if (!(foreground > -1 && foreground < 1)) return err_set(err, JEPA_E_USE, "a foreground threshold of %g; it lies between -1 and 1, 0: none", foreground);
    unsigned char *keep = NULL;
    int rc = basis_room(b, d, err);
    if (rc < 0 || (rc = axes(q, x, NULL, n, d, b->mean, b->axis, err)) < 0) goto done;
    if (foreground != 0) {
        double low, high, side = foreground < 0 ? -1 : 1;
        if (!(keep = mem_alloc((size_t)n, 1))) {
            rc = err_set(err, JEPA_E_MEMORY, "no memory for %lld tokens", (long long)n);
            goto done;
        }
        b->foreground = 1;
        memcpy(b->split_mean, b->mean, (size_t)d * sizeof(float));
        for (int64_t k = 0; k < d; k++) b->split[k] = (float)(side * b->axis[k]);
        if ((rc = range(x, NULL, n, d, b->split_mean, b->split, &low, &high, err)) < 0) goto done;
        b->edge = low + fabs(foreground) * (high - low);
        for (int64_t i = 0; i < n; i++) keep[i] = along(x + i * d, b->split_mean, b->split, d) > b->edge;
        if ((rc = axes(q, x, keep, n, d, b->mean, b->axis, err)) < 0) goto done;
    }
    for (int p = 0; p < 3 && rc == 0; p++) rc = range(x, keep, n, d, b->mean, b->axis + p * d, &b->low[p], &b->high[p], err);
done:
    mem_free(keep);
    if (rc < 0) pca_basis_free(b);
    return rc;
}

void pca_colours(const pca_basis *b, const float *x, int64_t n, uint8_t *rgb) {
    for (int64_t i = 0; i < n; i++) {
        const float *row = x + i * b->dim;
        int back = b->foreground && along(row, b->split_mean, b->split, b->dim) <= b->edge;
        for (int p = 0; p < 3; p++) {
            double span = b->high[p] - b->low[p], v = back || span <= 0 ? 0 : (along(row, b->mean, b->axis + p * b->dim, b->dim) - b->low[p]) / span * 255;
            rgb[3 * i + p] = (uint8_t)(v <= 0 ? 0 : v >= 255 ? 255 : v + 0.5);
        }
    }
}

/* ---- the basis as a file ---- */

int pca_basis_write(const pca_basis *b, const char *path, jepa_err *err) {
    const int64_t d = b->dim;
    const double range6[7] = {b->low[0], b->low[1], b->low[2], b->high[0], b->high[1], b->high[2], b->edge};
    const st_out part_of[] = {
        {"mean", {.type = T_F32, .rank = 1, .dim = {d}, .data = b->mean}, T_NONE},
        {"axes", {.type = T_F32, .rank = 2, .dim = {3, d}, .data = b->axis}, T_NONE},
        {"ranges", {.type = T_F64, .rank = 1, .dim = {7}, .data = range6}, T_NONE},
        {"split_mean", {.type = T_F32, .rank = 1, .dim = {d}, .data = b->split_mean}, T_NONE},
        {"split", {.type = T_F32, .rank = 1, .dim = {d}, .data = b->split}, T_NONE},
    };
    const char *const meta[] = {"format", "jepa pca basis", "ranges", "low of 3 axes, high of 3 axes, edge between background and foreground", NULL};
    return st_write(path, part_of, b->foreground ? 5 : 3, meta, err);
}

static int vector(const st_file *f, const char *path, const char *name, int rank, int64_t rows, int64_t d, float *out, jepa_err *err) {
    const st_tensor *t = st_find(f, name);
    if (!t || t->t.type != T_F32 || t->t.rank != rank || t->t.dim[rank - 1] != d || (rank == 2 && t->t.dim[0] != rows))
        return err_set_at(err, JEPA_E_MODEL, path, -1, "%s: is no basis of principal components: \"%s\" is %s", path, name, t ? "of another shape" : "missing");
    return convert_to_f32(out, t->t.data, T_F32, (size_t)(rows * d));
}

int pca_basis_read(pca_basis *b, const char *path, jepa_err *err) {
    st_file *f = NULL;
    *b = (pca_basis){0};
    int rc = st_open(&f, path, err);
    if (rc < 0) return rc;
    const st_tensor *m = st_find(f, "mean"), *r = st_find(f, "ranges");
    double v[7];
    if (!m || m->t.rank != 1 || m->t.dim[0] < 3 || m->t.dim[0] > 8192 || !r || r->t.type != T_F64 || r->t.rank != 1 || r->t.dim[0] != 7) {
        rc = err_set_at(err, JEPA_E_MODEL, path, -1, "%s: is no basis of principal components (jepa pca --save-basis writes one)", path);
        goto done;
    }
    if ((rc = basis_room(b, m->t.dim[0], err)) < 0) goto done;
    memcpy(v, r->t.data, sizeof v);
    for (int p = 0; p < 3; p++) b->low[p] = v[p], b->high[p] = v[3 + p];
    b->edge = v[6];
    b->foreground = st_find(f, "split") != NULL;
    if ((rc = vector(f, path, "mean", 1, 1, b->dim, b->mean, err)) == 0) rc = vector(f, path, "axes", 2, 3, b->dim, b->axis, err);
    if (rc == 0 && b->foreground && (rc = vector(f, path, "split", 1, 1, b->dim, b->split, err)) == 0)
        rc = vector(f, path, "split_mean", 1, 1, b->dim, b->split_mean, err);
done:
    if (rc < 0) pca_basis_free(b);
    st_close(&f);
    return rc;
}
