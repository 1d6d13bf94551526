/* attention_rows_tmpl.h: how attention reads and writes the rows of a head: float32 or bf16, turned by the rotary table on the way.
 * pairs (VEC_DOT16 only): what is read is rounded to bf16 once more, two numbers in the place of a float; an odd last one is paired with 0.
 */
#ifndef JEPA_ATTENTION_ROWS_TMPL_H
#define JEPA_ATTENTION_ROWS_TMPL_H
#include <math.h>
#include <string.h>
#include "compute/cpu/cpu.h"
#include "compute/cpu/tile_tmpl.h"
#include "compute/cpu/vec.h"

typedef struct att_src { /* rows of one head of one batch item */
    const float *p;
    const uint16_t *p16;
    const float *cs; /* of row 0, or NULL */
    int64_t ld, dim;
} att_src;
typedef struct att_dst {
    float *p;
    uint16_t *p16;
    const float *cs;
    int64_t ld, dim;
} att_dst;

static inline att_src att_src_of(const float *p, const uint16_t *p16, int64_t ld, int64_t b, int64_t n, int64_t h, int64_t dim,
                                 const float *cs, int per_batch) {
    int64_t at = b * n * ld + h * dim;
    return (att_src){p ? p + at : NULL, p16 ? p16 + at : NULL, cs && per_batch ? cs + b * n * 2 * dim : cs, ld, dim};
}
static inline att_dst att_dst_of(float *p, uint16_t *p16, int64_t ld, int64_t b, int64_t n, int64_t h, int64_t dim, const float *cs,
                                 int per_batch) {
    int64_t at = b * n * ld + h * dim;
    return (att_dst){p ? p + at : NULL, p16 ? p16 + at : NULL, cs && per_batch ? cs + b * n * 2 * dim : cs, ld, dim};
}

/* A head's rows lie far apart: no hardware prefetcher follows them. Past the end this asks for lines nobody reads, which is harmless. */
static inline void att_ahead(const att_src *s, int64_t row) {
    size_t size = s->p ? sizeof *s->p : sizeof *s->p16;
    uintptr_t p = (s->p ? (uintptr_t)s->p : (uintptr_t)s->p16) + (size_t)((row + 12) * s->ld) * size;
    for (size_t c = 0; c < (size_t)s->dim * size; c += 64) __builtin_prefetch((const void *)(p + c));
}

/* Channels c … c + VW of a row as they are stored; 0 past the last. */
static inline vf att_get(const att_src *s, int64_t row, int64_t c) {
    return s->p ? vload_some(s->p + row * s->ld + c, s->dim - c) : vload16_some(s->p16 + row * s->ld + c, s->dim - c);
}

/* dst[whole vectors] = f·row, turned; 0 past the last channel. */
static inline void att_row(float *dst, const att_src *s, int64_t row, vf f) {
    int64_t dim = s->dim;
    if (!s->cs) {
        for (int64_t c = 0; c < dim; c += VW) vstore(dst + c, f * att_get(s, row, c));
        return;
    }
    const float *co = s->cs + row * 2 * dim, *si = co + dim;
    for (int64_t c = 0; c < dim; c += VW) {
        vf x = att_get(s, row, c), y = vswap(x) * vneg_even(vload_some(si + c, dim - c));
        vstore(dst + c, f * vfma(x, vload_some(co + c, dim - c), y));
    }
    if (dim % 2 == 1) { /* the last channel has no partner: it stays */
        int64_t at = (dim - 1) / VW * VW;
        float last[VW];
        vstore(last, f * att_get(s, row, at));
        dst[dim - 1] = last[dim - 1 - at];
        if (dim % VW) dst[dim] = 0; /* its partner would be NaN beside NaN */
    }
}

/* The row of the output = f·src, multiplied by the transposed matrix of each pair. src is whole vectors; it may change. */
static inline void att_put(const att_dst *s, int64_t row, float *src, float f) {
    int64_t dim = s->dim;
    if (s->cs) {
        const float *co = s->cs + row * 2 * dim, *si = co + dim;
        float last = src[dim - 1];
        for (int64_t c = 0; c < dim; c += VW) {
            vf x = vload(src + c);
            vstore(src + c, vfma(x, vload_some(co + c, dim - c), vswap(x * vneg_even(vload_some(si + c, dim - c)))));
        }
        if (dim % 2 == 1) src[dim - 1] = last;
    }
    if (s->p) {
        float *to = s->p + row * s->ld;
        for (int64_t c = 0; c < dim; c += VW) vstore_some(to + c, vload(src + c) * vset(f), dim - c);
    } else {
        uint16_t *to = s->p16 + row * s->ld;
        for (int64_t c = 0; c < dim; c += VW) vstore16_some(to + c, vload(src + c) * vset(f), dim - c);
    }
}

/* As att_ahead, for rows that will be written. */
static inline void att_ahead_of_put(const att_dst *s, int64_t row) {
    size_t size = s->p ? sizeof *s->p : sizeof *s->p16;
    uintptr_t p = (s->p ? (uintptr_t)s->p : (uintptr_t)s->p16) + (size_t)((row + 12) * s->ld) * size;
    for (size_t c = 0; c < (size_t)s->dim * size; c += 64) __builtin_prefetch((const void *)(p + c), 1);
}

/* n floats, in whole vectors → pairs in their first half. */
static inline void att_cut(float *x, int64_t n) {
#ifdef VEC_DOT16
    for (int64_t c = 0; c < n; c += VW) vcut16((uint16_t *)x + c, vload(x + c));
#endif
}

/* dst[rows][width] = f·src; norm, or NULL: the rows' lengths, in whole vectors. */
static inline void att_rows(int pairs, float *dst, int64_t width, const att_src *s, int64_t row, int64_t rows, float f, float *norm) {
    int64_t terms = tile_terms(pairs, s->dim);
    for (int64_t i = 0; i < rows; i++) {
        att_ahead(s, row + i);
        att_row(dst + i * width, s, row + i, vset(f));
        if (pairs) att_cut(dst + i * width, s->dim);
    }
    for (int64_t i = 0; norm && i < rows; i += VW) {
        vf sum[VW];
        UNROLL
        for (int j = 0; j < VW; j++) sum[j] = vset(0);
        for (int64_t j = 0; j < VW && i + j < rows; j++) {
            const float *x = dst + (i + j) * width;
            vf one = vset(0);
            for (int64_t c = 0; c < terms; c += VW) {
                vf some = vload_some(x + c, terms - c);
                one = pairs ? tile_term(1, some, some, one) : vfma(some, some, one);
            }
            sum[j] = one;
        }
        vtranspose(sum);
        UNROLL
        for (int j = 1; j < VW; j++) sum[0] = sum[0] + sum[j];
        vstore(norm + i, vsqrt(sum[0]));
    }
}

/* For backward: to[rows][width] as att_rows has it; in pairs, where it may be NULL, two rows at a time too, for products over rows:
 * two_rows[terms of rows][width]. */
static inline void att_rows_both(int pairs, float *to, float *two_rows, int64_t width, const att_src *s, int64_t row, int64_t rows, float f) {
    if (!pairs) {
        att_rows(0, to, width, s, row, rows, f, NULL);
        return;
    }
#ifdef VEC_DOT16
    enum { LD = 128 + 16 };
    float two[2][LD];
    for (int64_t i = 0; i < rows; i += 2, two_rows += width) {
        for (int64_t e = 0; e < 2; e++) {
            att_ahead(s, row + i + e);
            if (i + e < rows)
                att_row(two[e], s, row + i + e, vset(f));
            else
                memset(two[e], 0, sizeof two[e]);
            for (int64_t c = 0; to && i + e < rows && c < s->dim; c += VW) vcut16((uint16_t *)(to + (i + e) * width) + c, vload(two[e] + c));
        }
        for (int64_t c = 0; c < s->dim; c += VW) vstore(two_rows + c, vpairs(vload(two[0] + c), vload(two[1] + c)));
    }
#endif
}

/* dst: panels of 2·VW rows, each [dim][2·VW]: rows become columns; zero past the last row. Returns the largest length of a row; infinite
 * where a row holds a NaN. */
static inline float att_transpose(int pairs, float *dst, const att_src *s, int64_t row, int64_t rows) {
    enum { PANEL_ROWS = 2 * VW, LD = 128 + 16 };
    float block[VW * LD];
    int64_t terms = tile_terms(pairs, s->dim);
    vf top = vset(0), all = vset(0);
    for (int64_t r = 0; r < rows || r % PANEL_ROWS; r += VW) {
        float *to = dst + r / PANEL_ROWS * (terms * PANEL_ROWS) + r % PANEL_ROWS;
        for (int64_t j = 0; j < VW; j++) {
            if (r + j >= rows) {
                memset(block + j * LD, 0, (size_t)(s->dim + VW) * sizeof *block);
                continue;
            }
            att_ahead(s, row + r + j);
            att_row(block + j * LD, s, row + r + j, vset(1));
            if (pairs) att_cut(block + j * LD, s->dim);
        }
        vf square = vset(0);
        for (int64_t c = 0; c < terms; c += VW) {
            vf x[VW];
            if (pairs) { /* what lies behind a row's pairs is not 0 */
                for (int j = 0; j < VW; j++) x[j] = vload_some(block + j * LD + c, terms - c);
            } else {
                UNROLL
                for (int j = 0; j < VW; j++) x[j] = vload(block + j * LD + c);
            }
            vtranspose(x);
            if (pairs) {
                for (int j = 0; j < VW; j++) square = tile_term(1, x[j], x[j], square);
            } else {
                UNROLL
                for (int j = 0; j < VW; j++) square = vfma(x[j], x[j], square);
            }
            if (terms - c >= VW) {
                UNROLL
                for (int j = 0; j < VW; j++) vstore(to + (c + j) * PANEL_ROWS, x[j]);
            } else {
                for (int64_t j = 0; j < terms - c; j++) vstore(to + (c + j) * PANEL_ROWS, x[j]);
            }
        }
        top = vmax(square, top);
        all = all + square;
    }
    float total = vsum(all);
    return total == total ? sqrtf(vtop(top)) : INFINITY;
}

/* dst: panels of 2·VW columns, each [room][2·VW]; zero past the last channel. Returns the largest magnitude, without regard to NaN. */
static inline float att_panels(int pairs, float *dst, const att_src *s, int64_t row, int64_t rows, int64_t room) {
    enum { PANEL_COLS = 2 * VW };
    vf top = vset(0);
#ifdef VEC_DOT16
    for (int64_t j = 0; pairs && j < rows; j += 2) {
        att_ahead(s, row + j);
        att_ahead(s, row + j + 1);
        for (int64_t c = 0; c < s->dim; c += VW) {
            vf x = att_get(s, row + j, c), y = j + 1 < rows ? att_get(s, row + j + 1, c) : vset(0);
            top = vmax(vabs(x), vmax(vabs(y), top));
            vstore(dst + c / PANEL_COLS * (room / 2 * PANEL_COLS) + j / 2 * PANEL_COLS + c % PANEL_COLS, vpairs(x, y));
        }
    }
    if (pairs) return vtop(top);
#endif
    for (int64_t j = 0; j < rows; j++) {
        att_ahead(s, row + j);
        for (int64_t c = 0; c < s->dim; c += VW) {
            vf x = att_get(s, row + j, c);
            top = vmax(vabs(x), top);
            vstore(dst + c / PANEL_COLS * (room * PANEL_COLS) + j * PANEL_COLS + c % PANEL_COLS, x);
        }
    }
    return vtop(top);
}
#endif
