/* monitor.c: figures that show a collapse: effective rank and spread of features, over tokens and over clips. */
#include "train/train.h"

#include <lapacke.h>
#include <math.h>
#include <string.h>

/* Singular values as roots of the eigenvalues of the smaller Gram matrix, in double: RankMe adds 1e-7 to each share, above what the
 * squaring loses (2^-26 of the largest). */
int rankme(const float *x, int64_t n, int64_t d, int64_t ld, double *rank, jepa_err *err) {
    *rank = 0;
    if (n < 1 || d < 1 || ld < d) return err_set(err, JEPA_E_USE, "effective rank of a %lldx%lld matrix", (long long)n, (long long)d);
    int wide = n < d;
    int64_t k = wide ? n : d, other = wide ? d : n;
    if (k > 8192) return err_set(err, JEPA_E_UNSUPPORTED, "effective rank over %lld dimensions; at most 8192", (long long)k);
    size_t cells;
    double *g = size_mul((size_t)k, (size_t)k, &cells) ? NULL : mem_alloc(cells, sizeof *g), *w = mem_alloc((size_t)k, sizeof *w);
    int rc = JEPA_E_MEMORY;
    if (!g || !w) {
        err_set(err, rc, "no memory for the effective rank over %lld dimensions", (long long)k);
        goto done;
    }
    for (int64_t r = 0; r < n; r++)
        for (int64_t c = 0; c < d; c++)
            if (!isfinite(x[r * ld + c])) {
                rc = err_set(err, JEPA_E_USE, "features are not finite (row %lld, channel %lld)", (long long)r, (long long)c);
                goto done;
            }
    if (wide) {
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; j <= i; j++) {
                double s = 0;
                for (int64_t c = 0; c < other; c++) s += (double)x[i * ld + c] * x[j * ld + c];
                g[i * k + j] = s;
            }
    } else {
        for (int64_t r = 0; r < other; r++) {
            const float *row = x + r * ld;
            for (int64_t i = 0; i < k; i++) {
                double a = row[i];
                for (int64_t j = 0; j <= i; j++) g[i * k + j] += a * row[j];
            }
        }
    }
    if (LAPACKE_dsyevd(LAPACK_ROW_MAJOR, 'N', 'L', (lapack_int)k, g, (lapack_int)k, w) != 0) {
        rc = err_set(err, JEPA_E_USE, "the features' spectrum did not converge");
        goto done;
    }
    double sum = 0, h = 0;
    for (int64_t i = 0; i < k; i++) sum += w[i] = w[i] > 0 ? sqrt(w[i]) : 0;
    if (sum > 0) {
        for (int64_t i = 0; i < k; i++) {
            double p = w[i] / sum + 1e-7;
            h -= p * log(p);
        }
        *rank = exp(h);
    }
    rc = 0; /* all zero: rank 0 */
done:
    mem_free(g);
    mem_free(w);
    return rc;
}

/* mean over channels of the standard deviation over rows */
static double spread(const float *x, int64_t n, int64_t d) {
    double total = 0;
    for (int64_t c = 0; c < d; c++) {
        double mean = 0, sq = 0;
        for (int64_t r = 0; r < n; r++) mean += x[r * d + c];
        mean /= (double)n;
        for (int64_t r = 0; r < n; r++) {
            double v = x[r * d + c] - mean;
            sq += v * v;
        }
        total += sqrt(sq / (double)n);
    }
    return total / (double)d;
}

int monitor_features(const float *tokens, int64_t clips, int64_t per_clip, int64_t d, monitor_numbers *out, jepa_err *err) {
    memset(out, 0, sizeof *out);
    if (clips < 1 || per_clip < 1 || d < 1) return err_set(err, JEPA_E_USE, "no features to watch");
    int64_t n = clips * per_clip;
    float *mean = mem_alloc((size_t)clips * (size_t)d, sizeof *mean);
    int rc = JEPA_E_MEMORY;
    if (!mean) {
        err_set(err, rc, "no memory for the monitor");
        goto done;
    }
    for (int64_t b = 0; b < clips; b++)
        for (int64_t c = 0; c < d; c++) {
            double s = 0;
            for (int64_t i = 0; i < per_clip; i++) s += tokens[(b * per_clip + i) * d + c];
            mean[b * d + c] = (float)(s / (double)per_clip);
        }
    /* A rank over tokens needs a few times more rows than channels, not all of them. */
    int64_t step = n / (8 * d) > 1 ? n / (8 * d) : 1;
    if ((rc = rankme(tokens, (n + step - 1) / step, d, d * step, &out->rank_tokens, err)) < 0 ||
        (rc = rankme(mean, clips, d, d, &out->rank_clips, err)) < 0)
        goto done;
    out->std_tokens = spread(tokens, n, d);
    out->std_clips = spread(mean, clips, d);
done:
    mem_free(mean);
    return rc;
}
