/* positions.c: token indices → positions in time, rows and columns. */
#include "encoder/positions.h"

int pos_fill(const pos_grid *g, const int32_t *index, int64_t n, float *pos, jepa_err *err) {
    const int64_t rows = g->split_rows ? g->split_rows : g->rows, cols = g->split_cols ? g->split_cols : g->cols;
    if (g->frames < 1 || g->rows < 1 || g->cols < 1 || rows < 1 || cols < 1 || g->frames > INT32_MAX || g->rows > INT32_MAX / g->frames ||
        g->cols > INT32_MAX / (g->frames * g->rows) || rows > INT32_MAX || cols > INT32_MAX)
        return err_set(err, JEPA_E_USE, "a token grid of %lld x %lld x %lld (split by %lld x %lld) cannot be", (long long)g->frames,
                       (long long)g->rows, (long long)g->cols, (long long)rows, (long long)cols);
    const int64_t all = g->frames * g->rows * g->cols;
    for (int64_t i = 0; i < n; i++) {
        const int64_t k = index ? index[i] : i;
        if (k < 0 || k >= all)
            return err_set(err, JEPA_E_USE, "token index %lld (entry %lld) lies outside the grid %lld x %lld x %lld of %lld tokens",
                           (long long)k, (long long)i, (long long)g->frames, (long long)g->rows, (long long)g->cols, (long long)all);
        pos[3 * i] = (float)(k / (rows * cols));
        pos[3 * i + 1] = (float)(k / cols % rows);
        pos[3 * i + 2] = (float)(k % cols);
    }
    return 0;
}
