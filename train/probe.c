/* probe.c: a linear probe on frozen features, in closed form: features standardised with the training rows' mean and deviation, ridge
 * regression to one-hot labels W = (XᵀX + λnI)⁻¹Xᵀ(Y - mean Y), λ from 1e-4 … 10 by decades, chosen on the first fifth of the training
 * rows, then refitted on all of them. */
#include "train/train.h"

#include <lapacke.h>
#include <math.h>
#include <string.h>

typedef struct fit { int64_t d; int classes; double *w, *y0, *gram, *copy, *rhs; } fit; /* w [d,classes], y0 [classes]; gram, copy [k,k], rhs [k,classes], k = min(d, rows) */

/* XᵀX [d,d] of rows [from,to), or XXᵀ where there are fewer rows than features: both give the same W. Lower halves. */
static void make_gram(fit *f, const double *x, int64_t from, int64_t to) {
    int64_t d = f->d, n = to - from;
    x += from * d;
    if (n < d) {
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j <= i; j++) {
                double s = 0;
                for (int64_t c = 0; c < d; c++) s += x[i * d + c] * x[j * d + c];
                f->gram[i * n + j] = s;
            }
        return;
    }
    memset(f->gram, 0, (size_t)(d * d) * sizeof *f->gram);
    for (int64_t r = 0; r < n; r++) {
        const double *row = x + r * d;
        for (int64_t i = 0; i < d; i++) {
            double a = row[i];
            for (int64_t j = 0; j <= i; j++) f->gram[i * d + j] += a * row[j];
        }
    }
}

/* w = (XᵀX + λnI)⁻¹ Xᵀ(Y - mean Y) = Xᵀ (XXᵀ + λnI)⁻¹ (Y - mean Y) over rows [from,to), whose Gram matrix is there */
static int solve(fit *f, const double *x, const int64_t *y, int64_t from, int64_t to, double lambda) {
    int64_t d = f->d, k = f->classes, n = to - from, m = n < d ? n : d;
    x += from * d;
    y += from;
    memset(f->w, 0, (size_t)(d * k) * sizeof *f->w);
    memset(f->y0, 0, (size_t)k * sizeof *f->y0);
    memcpy(f->copy, f->gram, (size_t)(m * m) * sizeof *f->copy);
    for (int64_t i = 0; i < m; i++) f->copy[i * m + i] += lambda * (double)n;
    for (int64_t r = 0; r < n; r++) f->y0[y[r]] += 1.0 / (double)n;
    double *rhs = n < d ? f->rhs : f->w;
    for (int64_t r = 0; r < n; r++)
        for (int64_t c = 0; c < k; c++) {
            double v = (y[r] == c) - f->y0[c];
            if (n < d) rhs[r * k + c] = v;
            else for (int64_t i = 0; i < d; i++) rhs[i * k + c] += x[r * d + i] * v;
        }
    if (LAPACKE_dposv(LAPACK_ROW_MAJOR, 'L', (lapack_int)m, (lapack_int)k, f->copy, (lapack_int)m, rhs, (lapack_int)k) != 0) return JEPA_E_USE;
    for (int64_t r = 0; n < d && r < n; r++)
        for (int64_t i = 0; i < d; i++)
            for (int64_t c = 0; c < k; c++) f->w[i * k + c] += x[r * d + i] * rhs[r * k + c];
    return 0;
}

static double score(const fit *f, const double *x, const int64_t *y, int64_t from, int64_t to) {
    int64_t right = 0;
    for (int64_t r = from; r < to; r++) {
        double best = -INFINITY;
        int64_t at = -1;
        for (int c = 0; c < f->classes; c++) {
            double s = f->y0[c];
            for (int64_t i = 0; i < f->d; i++) s += x[r * f->d + i] * f->w[i * f->classes + c];
            if (s > best) best = s, at = c;
        }
        right += at == y[r];
    }
    return to > from ? (double)right / (double)(to - from) : 0;
}

int ridge_probe(const float *train_x, const int64_t *train_y, int64_t n_train, const float *test_x, const int64_t *test_y, int64_t n_test, int64_t d,
                int classes, double *accuracy, double *lambda, jepa_err *err) {
    *accuracy = *lambda = 0;
    if (n_train < 10 || n_test < 1 || d < 1 || d > 16384 || classes < 2 || classes > 100000)
        return err_set(err, JEPA_E_USE, "a probe needs 10 training rows, 1 test row and 2 classes (%lld, %lld, %d; %lld features)", (long long)n_train,
                       (long long)n_test, classes, (long long)d);
    for (int64_t i = 0; i < n_train + n_test; i++) {
        int64_t v = i < n_train ? train_y[i] : test_y[i - n_train];
        if (v < 0 || v >= classes) return err_set(err, JEPA_E_USE, "label %lld in row %lld is not one of 0 … %d", (long long)v, (long long)i, classes - 1);
    }
    fit f = {.d = d, .classes = classes};
    size_t rows = (size_t)(n_train + n_test);
    double *x = mem_alloc(rows * (size_t)d, sizeof *x);
    f.w = mem_alloc((size_t)d * (size_t)classes, sizeof(double));
    f.y0 = mem_alloc((size_t)classes, sizeof(double));
    int64_t most = n_train < d ? n_train : d;
    f.gram = mem_alloc((size_t)most * (size_t)most, sizeof(double));
    f.copy = mem_alloc((size_t)most * (size_t)most, sizeof(double));
    f.rhs = mem_alloc((size_t)most * (size_t)classes, sizeof(double));
    int rc = JEPA_E_MEMORY;
    if (!x || !f.w || !f.y0 || !f.gram || !f.copy || !f.rhs) {
        err_set(err, rc, "no memory for a probe over %lld features", (long long)d);
        goto done;
    }
    for (int64_t c = 0; c < d; c++) {
        double mean = 0, sq = 0;
        for (int64_t r = 0; r < n_train; r++) mean += train_x[r * d + c];
        mean /= (double)n_train;
        for (int64_t r = 0; r < n_train; r++) sq += (train_x[r * d + c] - mean) * (train_x[r * d + c] - mean);
        double scale = sq > 0 ? 1 / sqrt(sq / (double)n_train) : 0; /* a constant feature says nothing */
        if (!isfinite(mean) || !isfinite(scale)) {
            rc = err_set(err, JEPA_E_USE, "feature %lld is not finite", (long long)c);
            goto done;
        }
        for (int64_t r = 0; r < n_train; r++) x[r * d + c] = (train_x[r * d + c] - mean) * scale;
        for (int64_t r = 0; r < n_test; r++) x[(n_train + r) * d + c] = (test_x[r * d + c] - mean) * scale;
    }
    int64_t fifth = n_train / 5;
    double best = -1;
    make_gram(&f, x, fifth, n_train);
    for (int e = -4; e <= 1; e++) {
        double l = pow(10, e);
        if (solve(&f, x, train_y, fifth, n_train, l)) continue;
        double s = score(&f, x, train_y, 0, fifth);
        if (s > best) best = s, *lambda = l;
    }
    make_gram(&f, x, 0, n_train);
    if (best < 0 || solve(&f, x, train_y, 0, n_train, *lambda)) {
        rc = err_set(err, JEPA_E_USE, "the probe's equations could not be solved");
        goto done;
    }
    *accuracy = score(&f, x + n_train * d, test_y, 0, n_test);
    rc = 0;
done:
    mem_free(x);
    mem_free(f.w);
    mem_free(f.y0);
    mem_free(f.gram);
    mem_free(f.copy);
    mem_free(f.rhs);
    return rc;
}
