/* product_own.c: matrix products for builds without oneDNN (-DJEPA_ONEDNN=OFF): the functions of product.c, over the register tile of
 * attention. Slower than oneDNN by the packing of b that each piece repeats, and by the width of the flags of the whole build.
 *
 * Work is cut by its size only and every sum runs over k in one order, so the results are the same for any number of threads. */
#include <string.h>
#include "compute/cpu/cpu.h"
#include "compute/cpu/tile_tmpl.h"

enum { OWN_ROWS = 96, OWN_COLS = 16 * PANEL, OWN_DEPTH = 256 };

/* Nothing to hold back: product_alone never starts threads. */
int cpu_alone(void) { return 1; }

void cpu_together(int before) { (void)before; }

int cpu_can_nest(void) { return 1; }

typedef struct own {
    int ta, tb;
    int64_t m, n, k;
    const float *a;
    int64_t lda;
    const float *b;
    int64_t ldb;
    int add;
    float *c;
    int64_t ldc;
    int64_t across; /* pieces in a row of pieces */
} own;

/* Rows p … p+depth of the panel of columns from j on, the columns past n as zeros. */
static void own_pack(const own *o, int64_t j, int64_t p, int64_t depth, float *to) {
    int64_t width = least(PANEL, o->n - j);
    if (o->tb) {
        const float *b = o->b + j * o->ldb + p;
        if (width < PANEL) memset(to, 0, (size_t)(depth * PANEL) * sizeof *to);
        for (int64_t x = 0; x < width; x++, b += o->ldb)
            for (int64_t i = 0; i < depth; i++) to[i * PANEL + x] = b[i];
        return;
    }
    const float *b = o->b + p * o->ldb + j;
    for (int64_t i = 0; i < depth; i++, b += o->ldb, to += PANEL) {
        memcpy(to, b, (size_t)width * sizeof *to);
        if (width < PANEL) memset(to + width, 0, (size_t)(PANEL - width) * sizeof *to);
    }
}

/* One panel of c. Where it is narrower than a panel, the sums go through edge. */
static void own_panel(const own *o, int64_t i, int64_t rows, int64_t j, float *panel, float *edge) {
    int64_t am = o->ta ? 1 : o->lda, ak = o->ta ? o->lda : 1, width = least(PANEL, o->n - j), ldc = width < PANEL ? PANEL : o->ldc;
    float *to = o->c + i * o->ldc + j, *c = width < PANEL ? edge : to;
    for (int64_t p = 0; p < o->k; p += OWN_DEPTH) {
        int64_t depth = least(OWN_DEPTH, o->k - p);
        own_pack(o, j, p, depth, panel);
        int add = p > 0 || (o->add && c == to);
        tile t = {.a = o->a + i * am + p * ak, .am = am, .ak = ak, .b = panel, .bk = PANEL, .c = c, .ldc = ldc, .add = add};
        tile_product(&t, rows, 2, depth);
    }
    if (c == to) return;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t x = 0; x < width; x++) to[r * o->ldc + x] = o->add ? to[r * o->ldc + x] + edge[r * PANEL + x] : edge[r * PANEL + x];
}

static void own_piece(void *ctx, int64_t piece) {
    const own *o = ctx;
    float panel[OWN_DEPTH * PANEL], edge[OWN_ROWS * PANEL];
    int64_t i = piece / o->across * OWN_ROWS, from = piece % o->across * OWN_COLS, rows = least(OWN_ROWS, o->m - i);
    for (int64_t j = from, end = least(from + OWN_COLS, o->n); j < end; j += PANEL) own_panel(o, i, rows, j, panel, edge);
}

static int64_t own_count(own *o) {
    o->across = pieces(o->n, OWN_COLS);
    return pieces(o->m, OWN_ROWS) * o->across;
}

/* A sum of no terms. */
static void own_nothing(const own *o) {
    for (int64_t i = 0; i < o->m && !o->add; i++) memset(o->c + i * o->ldc, 0, (size_t)o->n * sizeof *o->c);
}

int product_alone(int ta, int tb, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb, int add,
                  float *c, int64_t ldc) {
    own o = {ta, tb, m, n, k, a, lda, b, ldb, add, c, ldc, 0};
    if (k == 0) own_nothing(&o);
    for (int64_t i = 0, count = k == 0 ? 0 : own_count(&o); i < count; i++) own_piece(&o, i);
    return 0;
}

int product(queue *q, int ta, int tb, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb, int add,
            float *c, int64_t ldc) {
    own o = {ta, tb, m, n, k, a, lda, b, ldb, add, c, ldc, 0};
    if (k == 0)
        own_nothing(&o);
    else
        cpu_for(q, own_count(&o), (double)m * (double)n * (double)k / 16, own_piece, &o);
    return 0;
}

/* ---- packed weights: none; the plain ones are as good ---- */

int product_packed(queue *q, const op_linear *a, int add, float *y, int64_t ldy) {
    (void)q, (void)a, (void)add, (void)y, (void)ldy;
    return JEPA_E_UNSUPPORTED;
}

int cpu_linear_pack(queue *q, packed **out, const float *w, int64_t out_dim, int64_t in_dim) {
    if (!out) return JEPA_E_USE;
    *out = NULL;
    op_linear shape = {.rows = 0, .in = in_dim, .out = out_dim};
    return !q || !w ? JEPA_E_USE : check_linear(&shape);
}

void cpu_linear_unpack(queue *q, packed **p) {
    (void)q;
    if (p) *p = NULL;
}
