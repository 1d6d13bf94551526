/* linear_tmpl.h: linear and GELU. The product is oneDNN's; bias, GELU and residual are one pass of ours behind it, while the rows are
 * still in the cache where the weight is small enough to be laid out again for each piece of rows. */
#ifndef JEPA_LINEAR_TMPL_H
#define JEPA_LINEAR_TMPL_H
#include "compute/cpu/cpu.h"
#include "compute/cpu/vec.h"

enum { FLAT_PIECE = 8192, ROW_PIECE = 128, SMALL_WEIGHT = 256 * 1024, SUM_PIECE = 256, FINE_PRODUCT = 4 * 1024 * 1024 };

static inline void gelu_piece(void *ctx, int64_t i) {
    const op_gelu *a = ctx;
    for (int64_t j = i * FLAT_PIECE, end = least(j + FLAT_PIECE, a->n); j < end; j += VW)
        vstore_some(a->y + j, vgelu(vload_some(a->x + j, end - j)), end - j);
}

static inline int t_gelu(queue *q, const op_gelu *a) {
    int rc = check_gelu(a);
    if (rc == 0) cpu_for(q, pieces(a->n, FLAT_PIECE), 8.0 * (double)a->n, gelu_piece, (void *)(uintptr_t)a);
    return rc;
}

static inline void gelu_bwd_piece(void *ctx, int64_t i) {
    const op_gelu_bwd *a = ctx;
    for (int64_t j = i * FLAT_PIECE, end = least(j + FLAT_PIECE, a->n); j < end; j += VW)
        vstore_some(a->dx + j, vload_some(a->dy + j, end - j) * vgelu_slope(vload_some(a->x + j, end - j)), end - j);
}

static inline int t_gelu_bwd(queue *q, const op_gelu_bwd *a) {
    int rc = check_gelu_bwd(a);
    if (rc == 0) cpu_for(q, pieces(a->n, FLAT_PIECE), 8.0 * (double)a->n, gelu_bwd_piece, (void *)(uintptr_t)a);
    return rc;
}

/* ---- column sums, for db: pieces of rows, each to its own partial sums, which are added in order ---- */

typedef struct col_sum {
    const float *x;
    int64_t ld, rows, d;
    float *part;
} col_sum;

static inline void col_sum_piece(void *ctx, int64_t i) {
    const col_sum *c = ctx;
    const float *x = c->x + i * SUM_PIECE * c->ld;
    int64_t rows = least(SUM_PIECE, c->rows - i * SUM_PIECE), j = 0;
    float *out = c->part + i * c->d;
    for (; j + 4 * VW <= c->d; j += 4 * VW) {
        vf s0 = vset(0), s1 = s0, s2 = s0, s3 = s0;
        for (int64_t r = 0; r < rows; r++) {
            const float *p = x + r * c->ld + j;
            s0 = s0 + vload(p);
            s1 = s1 + vload(p + VW);
            s2 = s2 + vload(p + 2 * VW);
            s3 = s3 + vload(p + 3 * VW);
        }
        vstore(out + j, s0);
        vstore(out + j + VW, s1);
        vstore(out + j + 2 * VW, s2);
        vstore(out + j + 3 * VW, s3);
    }
    for (; j < c->d; j += VW) {
        vf s = vset(0);
        for (int64_t r = 0; r < rows; r++) s = s + vload_some(x + r * c->ld + j, c->d - j);
        vstore_some(out + j, s, c->d - j);
    }
}

/* to[d] += Σ_i part[i,d] */
static inline void col_sum_end(const float *part, int64_t n, int64_t d, float *to) {
    for (int64_t j = 0; j < d; j++) {
        double s = 0;
        for (int64_t i = 0; i < n; i++) s += part[i * d + j];
        to[j] = (float)(to[j] + s);
    }
}

static inline int col_sums(queue *q, const float *x, int64_t ld, int64_t rows, int64_t d, float *to) {
    int64_t n = pieces(rows, SUM_PIECE);
    float *part = queue_scratch(q, (size_t)(n * d) * sizeof *part);
    if (!part) return JEPA_E_MEMORY;
    col_sum c = {x, ld, rows, d, part};
    cpu_for(q, n, (double)rows * (double)d, col_sum_piece, &c);
    col_sum_end(part, n, d, to);
    return 0;
}

/* ---- linear ---- */

typedef struct linear_run {
    const op_linear *a;
    int64_t ldx, ldy, ldr;
    float *s;
    int64_t lds; /* where the product goes: y, pre, or scratch of a piece's rows per worker */
    int add;     /* the product adds to y, which holds the residual */
    int alone;   /* the product is made piece by piece here; else it is there already */
    int fine;    /* … and in double */
    int64_t piece;
    int *rc; /* [pieces] */
} linear_run;

/* Small products are summed in double: it costs well under a millisecond, and in training AdamW turns the rounding of a gradient
 * near zero into a step of visible size, which then depends on the order of the sum (threads, instruction set). */
static inline void fine_product(const float *x, int64_t ldx, const float *w, int64_t rows, int64_t in, int64_t out, int add, float *y,
                                int64_t ldy) {
    for (int64_t n = 0; n < rows; n++, x += ldx, y += ldy)
        for (int64_t o = 0; o < out; o++) {
            const float *v = w + o * in;
            double s[8] = {0};
            int64_t k = 0;
            for (; k + 8 <= in; k += 8)
                for (int i = 0; i < 8; i++) s[i] += (double)x[k + i] * (double)v[k + i];
            for (int i = 0; k + i < in; i++) s[i] += (double)x[k + i] * (double)v[k + i];
            double sum = ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
            y[o] = (float)(add ? y[o] + sum : sum);
        }
}

static inline __attribute__((always_inline)) void linear_vectors(const float *s, const float *b, float *pre, const int gelu, const float *r,
                                                                 float *y, int64_t n) {
    int64_t o = 0;
    for (; o + VW <= n; o += VW) {
        vf x = vload(s + o);
        if (b) x = x + vload(b + o);
        if (pre) vstore(pre + o, x);
        if (gelu) x = vgelu(x);
        if (r) x = x + vload(r + o);
        vstore(y + o, x);
    }
    if (o == n) return;
    vf x = vload_part(s + o, n - o);
    if (b) x = x + vload_part(b + o, n - o);
    if (pre) vstore_part(pre + o, x, n - o);
    if (gelu) x = vgelu(x);
    if (r) x = x + vload_part(r + o, n - o);
    vstore_part(y + o, x, n - o);
}

static inline void linear_row(const op_linear *a, const float *s, float *pre, const float *r, float *y) {
    if (a->act == ACT_GELU)
        linear_vectors(s, a->b, pre, 1, r, y, a->out);
    else if (a->b && !pre && !r) /* the usual ones, without a question inside the loop */
        linear_vectors(s, a->b, NULL, 0, NULL, y, a->out);
    else if (a->b && !pre)
        linear_vectors(s, a->b, NULL, 0, r, y, a->out);
    else
        linear_vectors(s, a->b, pre, 0, r, y, a->out);
}

static inline void linear_piece(void *ctx, int64_t i) {
    const linear_run *l = ctx;
    const op_linear *a = l->a;
    int64_t from = i * l->piece, to = least(from + l->piece, a->rows);
    float *s = l->s + from * l->lds;
    if (l->fine) {
        fine_product(a->x + from * l->ldx, l->ldx, a->w, to - from, a->in, a->out, l->add, s, l->lds);
    } else if (l->alone) {
        l->rc[i] = product_alone(0, 1, to - from, a->out, a->in, a->x + from * l->ldx, l->ldx, a->w, a->in, l->add, s, l->lds);
        if (l->rc[i] < 0) return;
    }
    int residual = a->r && !l->add;
    if (!a->b && !a->pre && !a->act && !residual && s == a->y + from * l->ldy) return;
    for (int64_t n = from; n < to; n++, s += l->lds)
        linear_row(a, s, a->pre ? a->pre + n * a->out : NULL, residual ? a->r + n * l->ldr : NULL, a->y + n * l->ldy);
}

static inline int t_linear(queue *q, const op_linear *a) {
    int rc = check_linear(a);
    if (rc < 0 || a->rows == 0) return rc;
    linear_run l = {.a = a, .ldx = stride_or(a->ldx, a->in), .ldy = stride_or(a->ldy, a->out), .ldr = stride_or(a->ldr, a->out)};
    int in_place = a->r && a->r == a->y; /* y may not be written before the residual is read */
    l.add = in_place && !a->act && !a->pre;
    l.s = a->pre ? a->pre : a->y;
    l.lds = a->pre ? a->out : l.ldy;
    op_linear left = *a; /* what the pass after the product still has to do */
    l.a = &left;
    size_t temp = in_place && a->act && !a->pre ? (size_t)a->rows * (size_t)a->out : 0;
    l.fine = !a->pw && (double)a->rows * (double)a->in * (double)a->out <= FINE_PRODUCT;
    l.alone = l.fine || (!a->pw && cpu_can_nest() && a->in * a->out <= SMALL_WEIGHT);
    l.piece = ROW_PIECE;
    int64_t n = pieces(a->rows, l.piece);
    size_t codes = l.alone && !l.fine ? (size_t)n : 0;
    if (temp + codes) {
        float *mem = queue_scratch(q, temp * sizeof(float) + codes * sizeof(int));
        if (!mem) return JEPA_E_MEMORY;
        if (temp) {
            l.s = mem;
            l.lds = a->out;
        }
        l.rc = (int *)(mem + temp);
    }
    if (a->pw) {
        rc = product_packed(q, a, l.add, l.s, l.lds);
        if (rc == 0) left.b = NULL; /* the primitive has added it */
        if (rc == JEPA_E_UNSUPPORTED && !a->w) return rc;
    }
    if (!l.alone && (!a->pw || rc == JEPA_E_UNSUPPORTED))
        rc = product(q, 0, 1, a->rows, a->out, a->in, a->x, l.ldx, a->w, a->in, l.add, l.s, l.lds);
    if (rc < 0) return rc;
    double work = (double)a->rows * (double)a->out * (a->act ? 8 : 1);
    if (l.alone) work += (double)a->rows * (double)a->out * (double)a->in / 16;
    int before = l.alone ? cpu_alone() : 0;
    cpu_for(q, n, work, linear_piece, &l);
    if (l.alone) cpu_together(before);
    for (size_t i = 0; i < codes; i++)
        if (l.rc[i] < 0) return l.rc[i];
    return 0;
}

typedef struct linear_dx {
    const op_linear_bwd *a;
    int64_t lddy, lddx;
    int *rc;
} linear_dx;

static inline void linear_dx_piece(void *ctx, int64_t i) {
    const linear_dx *l = ctx;
    const op_linear_bwd *a = l->a;
    int64_t from = i * ROW_PIECE, n = least(ROW_PIECE, a->rows - from);
    l->rc[i] = product_alone(0, 0, n, a->in, a->out, a->dy + from * l->lddy, l->lddy, a->w, a->in, a->add, a->dx + from * l->lddx, l->lddx);
}

static inline int t_linear_bwd(queue *q, const op_linear_bwd *a) {
    int rc = check_linear_bwd(a);
    if (rc < 0 || a->rows == 0) return rc;
    int64_t lddy = stride_or(a->lddy, a->out), ldx = stride_or(a->ldx, a->in), lddx = stride_or(a->lddx, a->in);
    if (a->dx && cpu_can_nest() && a->in * a->out <= SMALL_WEIGHT) {
        int64_t n = pieces(a->rows, ROW_PIECE);
        linear_dx l = {a, lddy, lddx, queue_scratch(q, (size_t)n * sizeof(int))};
        if (!l.rc) return JEPA_E_MEMORY;
        int before = cpu_alone();
        cpu_for(q, n, (double)a->rows * (double)a->out * (double)a->in / 16, linear_dx_piece, &l);
        cpu_together(before);
        for (int64_t i = 0; i < n; i++) rc = l.rc[i] < 0 ? l.rc[i] : rc;
    } else if (a->dx) {
        rc = product(q, 0, 0, a->rows, a->in, a->out, a->dy, lddy, a->w, a->in, a->add, a->dx, lddx);
    }
    if (rc == 0 && a->dw) rc = product(q, 1, 0, a->out, a->in, a->rows, a->dy, lddy, a->x, ldx, 1, a->dw, a->in);
    if (rc == 0 && a->db) rc = col_sums(q, a->dy, lddy, a->rows, a->out, a->db);
    return rc;
}
#endif
