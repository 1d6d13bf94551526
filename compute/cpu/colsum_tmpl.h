/* colsum_tmpl.h: sums over rows: pieces of rows, each to its own partial sums, which are added in order. */
#ifndef JEPA_COLSUM_TMPL_H
#define JEPA_COLSUM_TMPL_H
#include "compute/cpu/cpu.h"
#include "compute/cpu/vec.h"

enum { SUM_PIECE = 256 };

typedef struct col_sum {
    const float *x;
    const uint16_t *x16; /* one of the two */
    int64_t ld, rows, d;
    float *part;
} col_sum;

static inline __attribute__((always_inline)) void col_sum_rows(const float *x, const uint16_t *x16, int64_t ld, int64_t rows,
                                                               int64_t d, float *out) {
#define AT(offset, n) (x16 ? vload16_some(x16 + r * ld + (offset), n) : vload_some(x + r * ld + (offset), n))
    int64_t j = 0;
    for (; j + 4 * VW <= d; j += 4 * VW) {
        vf s0 = vset(0), s1 = s0, s2 = s0, s3 = s0;
        for (int64_t r = 0; r < rows; r++) {
            s0 = s0 + AT(j, VW);
            s1 = s1 + AT(j + VW, VW);
            s2 = s2 + AT(j + 2 * VW, VW);
            s3 = s3 + AT(j + 3 * VW, VW);
        }
        vstore(out + j, s0);
        vstore(out + j + VW, s1);
        vstore(out + j + 2 * VW, s2);
        vstore(out + j + 3 * VW, s3);
    }
    for (; j < d; j += VW) {
        vf s = vset(0);
        for (int64_t r = 0; r < rows; r++) s = s + AT(j, d - j);
        vstore_some(out + j, s, d - j);
    }
#undef AT
}

static inline void col_sum_piece(void *ctx, int64_t i) {
    const col_sum *c = ctx;
    int64_t at = i * SUM_PIECE * c->ld, rows = least(SUM_PIECE, c->rows - i * SUM_PIECE);
    if (c->x16)
        col_sum_rows(NULL, c->x16 + at, c->ld, rows, c->d, c->part + i * c->d);
    else
        col_sum_rows(c->x + at, NULL, c->ld, rows, c->d, c->part + i * c->d);
}

/* to[d] += Σ_i part[i,d] */
static inline void col_sum_end(const float *part, int64_t n, int64_t d, float *to) {
    for (int64_t j = 0; j < d; j++) {
        double s = 0;
        for (int64_t i = 0; i < n; i++) s += part[i * d + j];
        to[j] = (float)(to[j] + s);
    }
}

/* to[d] += Σ over rows of x, or x16 */
static inline int col_sums(queue *q, const float *x, const uint16_t *x16, int64_t ld, int64_t rows, int64_t d, float *to) {
    int64_t n = pieces(rows, SUM_PIECE);
    float *part = queue_scratch(q, (size_t)(n * d) * sizeof *part);
    if (!part) return JEPA_E_MEMORY;
    col_sum c = {x, x16, ld, rows, d, part};
    cpu_for(q, n, (double)rows * (double)d, col_sum_piece, &c);
    col_sum_end(part, n, d, to);
    return 0;
}
#endif
