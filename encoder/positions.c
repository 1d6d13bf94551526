/* positions.c: token indices → positions in time, rows and columns. */
#include "encoder/positions.h"

double pos_rope_factor(int patch_size, int64_t side) {
    if (patch_size < 1 || side < 2) return 1; /* the published code divides by zero at a side of 1 */
    return ((patch_size == 14 ? 252.0 : 256.0) / patch_size - 1) / (double)(side - 1);
}

int pos_fill(const pos_grid *g, const int32_t *index, int64_t n, float *pos, jepa_err *err) {
    const int64_t rows = g->split_rows ? g->split_rows : g->rows, cols = g->split_cols ? g->split_cols : g->cols;
    if (g->frames < 1 || g->rows < 1 || g->cols < 1 || rows < 1 || cols < 1 || g->frames > INT32_MAX || g->rows > INT32_MAX / g->frames ||
        g->cols > INT32_MAX / (g->frames * g->rows) || rows > INT32_MAX || cols > INT32_MAX)
        return err_set(err, JEPA_E_USE, "a token grid of %lld x %lld x %lld (split by %lld x %lld) cannot be", (long long)g->frames,
                       (long long)g->rows, (long long)g->cols, (long long)rows, (long long)cols);
    const int64_t all = g->frames * g->rows * g->cols;
    const double row_factor = g->row_factor != 0 ? g->row_factor : 1, col_factor = g->col_factor != 0 ? g->col_factor : 1;
    for (int64_t i = 0; i < n; i++) {
        const int64_t k = index ? index[i] : i;
        if (k < 0 || k >= all)
            return err_set(err, JEPA_E_USE, "token index %lld (entry %lld) lies outside the grid %lld x %lld x %lld of %lld tokens",
                           (long long)k, (long long)i, (long long)g->frames, (long long)g->rows, (long long)g->cols, (long long)all);
        pos[3 * i] = (float)(k / (rows * cols));
        pos[3 * i + 1] = (float)((double)(k / cols % rows) * row_factor);
        pos[3 * i + 2] = (float)((double)(k % cols) * col_factor);
    }
    return 0;
}
