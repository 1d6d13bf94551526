/* stats_tmpl.h: column sums, squares and the Gram matrix in double. Each worker owns columns, so nothing is added from two sides; the
 * rows come in order. */
#ifndef JEPA_STATS_TMPL_H
#define JEPA_STATS_TMPL_H
#include "compute/cpu/cpu.h"

enum { STAT_COLS = 4, STAT_STEP = 8 };

typedef struct stats {
    const op_colstats *a;
    int64_t ldx;
    const double *x;
    int64_t rows;
} stats; /* x: [rows,d] of this turn */

static inline void stats_columns(void *ctx, int64_t piece) {
    const stats *s = ctx;
    const op_colstats *a = s->a;
    int64_t d = a->d, i0 = piece * STAT_COLS, n = least(STAT_COLS, d - i0);
    for (int64_t i = i0; i < i0 + n; i++) {
        double sum = a->sum[i], square = a->sumsq[i];
        for (int64_t r = 0; r < s->rows; r++) {
            double v = s->x[r * d + i];
            sum += v;
            square += v * v;
        }
        a->sum[i] = sum;
        a->sumsq[i] = square;
    }
    if (!a->gram) return;
    int64_t j = 0;
    if (n == STAT_COLS)
        for (; j + STAT_STEP <= d; j += STAT_STEP) {
            double g[STAT_COLS][STAT_STEP];
            for (int64_t i = 0; i < STAT_COLS; i++)
                for (int64_t l = 0; l < STAT_STEP; l++) g[i][l] = a->gram[(i0 + i) * d + j + l];
            for (int64_t r = 0; r < s->rows; r++) {
                const double *u = s->x + r * d + i0, *v = s->x + r * d + j;
                for (int64_t i = 0; i < STAT_COLS; i++)
                    for (int64_t l = 0; l < STAT_STEP; l++) g[i][l] += u[i] * v[l];
            }
            for (int64_t i = 0; i < STAT_COLS; i++)
                for (int64_t l = 0; l < STAT_STEP; l++) a->gram[(i0 + i) * d + j + l] = g[i][l];
        }
    for (int64_t i = i0; i < i0 + n; i++)
        for (int64_t k = j; k < d; k++) {
            double g = a->gram[i * d + k];
            for (int64_t r = 0; r < s->rows; r++) g += s->x[r * d + i] * s->x[r * d + k];
            a->gram[i * d + k] = g;
        }
}

static inline int t_colstats(queue *q, const op_colstats *a) {
    int rc = check_colstats(a);
    if (rc < 0 || a->rows == 0) return rc;
    int64_t d = a->d, turn = 32 * 1024 / d; /* 256 KiB of doubles */
    turn = least(turn < 8 ? 8 : turn, a->rows);
    double *x = queue_scratch(q, (size_t)(turn * d) * sizeof *x);
    if (!x) return JEPA_E_MEMORY;
    stats s = {.a = a, .ldx = stride_or(a->ldx, d), .x = x};
    for (int64_t from = 0; from < a->rows; from += turn) {
        s.rows = least(turn, a->rows - from);
        for (int64_t r = 0; r < s.rows; r++)
            for (int64_t c = 0; c < d; c++) x[r * d + c] = a->x[(from + r) * s.ldx + c];
        cpu_for(q, pieces(d, STAT_COLS), (double)s.rows * (double)d * (a->gram ? (double)d / 4 : 2), stats_columns, &s);
    }
    return 0;
}
#endif
