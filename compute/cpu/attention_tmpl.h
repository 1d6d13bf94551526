/* attention_tmpl.h: softmax attention over tiles of keys, forward.
 *
 * For one head and a chunk of queries: as many tiles of KEYS keys as stay in the second cache are laid out (keys transposed, values in
 * panels), then each group of QUERIES rows goes through them: it takes its scores s, in units of log 2, p = 2^(s - m), and adds Σ p to its
 * sum l and Σ p·v to its output.
 *
 * m keeps p in range; it need not be the maximum. A row's and a tile's lengths bound a score: |s| <= |q|·|k|. While that is below
 * m + ROOM, m stays as it is (0 at first), nothing has to be looked up or scaled again, and the exponential is taken while the scores
 * are still in registers. Otherwise m grows to the tile's largest score, rounded up to a whole number, and output and sum are scaled by
 * 2^(m_old - m). A row's numbers depend on its keys and on the QUERIES rows of its group only, not on how queries are cut into chunks.
 *
 * Where the processor multiplies pairs of bf16 and the rows are bf16, so are all products: q (scaled, turned), k (turned) and p are rounded
 * to bf16, scores, sums and statistics are float32. Not with blocks of an odd size: a pair would reach over what a row may see. */
#ifndef JEPA_ATTENTION_TMPL_H
#define JEPA_ATTENTION_TMPL_H
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include "compute/cpu/attention_rows_tmpl.h"

enum {
    QUERIES = 24,        /* a multiple of TILE_ROWS */
    KEYS = 128,          /* a multiple of PANEL */
    SCORE_LD = KEYS + 16 /* not a power of two: rows would fall onto the same cache sets */
};
#define ROOM 60.0f /* log 2 of the largest p: 2^24 keys of it, times V_MOST, are finite */
#define M_MOST 0x1p20f
#define V_MOST 0x1p40f
#define LOG2E 1.44269504088896340736
#define LN2 0.69314718055994530942

/* Keys that query i sees. */
static inline int64_t att_seen(int64_t i, int64_t nk, int64_t block) {
    return block == 0 || i / block >= nk / block ? nk : (i / block + 1) * block;
}

/* Of the tile of `keys` keys from j0 on. */
static inline int64_t att_mine(int64_t i, int64_t j0, int64_t keys, int64_t nk, int64_t block) {
    int64_t n = least(keys, att_seen(i, nk, block) - j0);
    return n > 0 ? n : 0;
}

static inline int64_t att_width(int64_t head_dim) /* row length inside: whole vectors, and odd in cache lines */
{
    int64_t w = (head_dim + VW - 1) / VW * VW;
    return w % 32 == 0 ? w + 16 : w;
}

static inline int att_paired(const uint16_t *q16, int64_t block) {
#ifdef VEC_DOT16
    return q16 != NULL && block % 2 == 0;
#else
    return 0;
#endif
}

typedef struct att_fwd {
    const op_attention *a;
    int pairs;
    int64_t ldq, ldk, ldv, ldo, width;
    int64_t span; /* keys laid out at a time: what half of the second cache holds */
    int64_t chunk, chunks, items;
    atomic_int_fast64_t next; /* the first item that nobody has taken */
    int workers;
    double scale;
    float *scratch;
    size_t each; /* floats per worker */
} att_fwd;

enum { SPAN_FLOATS = 64 * 1024 };

/* Floats of a key and its value as they are laid out. */
static inline int64_t att_fwd_key(int pairs, int64_t head_dim) {
    int64_t vectors = pieces(head_dim, PANEL) * PANEL; /* a multiple of 2 */
    return tile_terms(pairs, head_dim) + (pairs ? vectors / 2 : vectors);
}

static inline size_t att_fwd_floats(const att_fwd *f) {
    int64_t row = 2 * f->width + VW + 2, key = att_fwd_key(f->pairs, f->a->head_dim);
    return (size_t)(f->chunk * row + f->span * key + QUERIES * SCORE_LD + f->span / KEYS + 64);
}

static inline __attribute__((always_inline)) void att_keep(const int pairs, float *s, int64_t j, vf p) {
#ifdef VEC_DOT16
    if (pairs) {
        vcut16((uint16_t *)s + j, p); /* in place: behind what is still to be read */
        return;
    }
#endif
    vstore(s + j, p);
}

/* n scores → p, in whole vectors; returns their sum over the first n. m: a whole number below M_MOST. */
static inline __attribute__((always_inline)) vf att_powers_as(const int pairs, float *s, int64_t n, float m) {
    vf turn = vset(EXP2_MAGIC - m), low = vset(m - 125), sum[EXP2_BATCH];
    UNROLL
    for (int u = 0; u < EXP2_BATCH; u++) sum[u] = vset(0);
    int64_t j = 0;
    for (; j + EXP2_BATCH * VW <= n; j += EXP2_BATCH * VW) {
        vf x[EXP2_BATCH];
        UNROLL
        for (int u = 0; u < EXP2_BATCH; u++) x[u] = vload(s + j + u * VW);
        vexp2_from(x, turn, low);
        UNROLL
        for (int u = 0; u < EXP2_BATCH; u++) {
            att_keep(pairs, s, j + u * VW, x[u]);
            sum[u] = sum[u] + x[u];
        }
    }
    for (; j < n; j += VW) {
        vf x[EXP2_BATCH];
        UNROLL
        for (int u = 0; u < EXP2_BATCH; u++) x[u] = vload(s + j);
        vexp2_from(x, turn, low);
        if (n - j < VW) { /* nothing past n: a pair may reach there */
            float t[VW];
            vstore(t, x[0]);
            x[0] = vload_part(t, n - j);
        }
        att_keep(pairs, s, j, x[0]);
        sum[0] = sum[0] + x[0];
    }
    UNROLL
    for (int u = 1; u < EXP2_BATCH; u++) sum[0] = sum[0] + sum[u];
    return sum[0];
}

static inline vf att_powers(int pairs, float *s, int64_t n, float m) {
    return pairs ? att_powers_as(1, s, n, m) : att_powers_as(0, s, n, m);
}

/* Scores of n keys → probabilities against the row's new m. Returns 2^(m_old - m_new). */
static inline float att_softmax(int pairs, float *s, int64_t n, float *m, float *l) {
    int64_t whole = n / VW * VW;
    if (whole < n) {
        vstore(s + whole, vload_part(s + whole, n - whole));
        for (int64_t j = n; j < whole + VW; j++) s[j] = -INFINITY;
    }
    vf top = vset(-INFINITY), sum = vset(0);
    for (int64_t j = 0; j < n; j += VW) top = vmax(vload(s + j), top);
    float before = *m, now = ceilf(vtop(top));
    now = before > now ? before : now;
    vf base = vset(now == -INFINITY ? 0 : now);
    for (int64_t j = 0; j < n; j += VW) {
        vf p = vexp2_softmax(vload(s + j) - base);
        sum = sum + p;
        att_keep(pairs, s, j, p);
    }
    *m = now;
    if (before == now || before == -INFINITY) { /* nothing there yet: l and the output are 0 */
        vstore(l, vload(l) + sum);
        return 1;
    }
    float turn[VW];
    vstore(turn, vexp2(vset(before - now)));
    vstore(l, vfma(vload(l), vset(turn[0]), sum));
    return turn[0];
}

/* Whether n rows may keep their m for a tile whose keys are no longer than `length`; sets an m that is not there yet. */
static inline int att_keeps(int64_t n, float length, const float *norm, float *m) {
    for (int64_t i = 0; i < n; i++) {
        float most = norm[i] * length * 1.0001f, base = m[i] == -INFINITY ? 0 : m[i];
        if (!(most <= base + ROOM && fabsf(base) <= M_MOST)) return 0;
    }
    for (int64_t i = 0; i < n; i++)
        if (m[i] == -INFINITY) m[i] = 0;
    return 1;
}

/* One group of n <= QUERIES rows from query i on, over the keys [j0, j0 + keys) of one tile. q, o, l, m, norm: the group's. */
static inline void att_fwd_tile(const att_fwd *f, int64_t i, int64_t n, int64_t j0, int64_t keys, const float *kt, const float *vp,
                                float length, const float *q, float *o, float *l, float *m, const float *norm, float *s) {
    const int pairs = f->pairs;
    int64_t hd = f->a->head_dim, w = f->width, nv = (hd + VW - 1) / VW, nk = f->a->nk, block = f->a->block;
    int64_t see = att_mine(i + n - 1, j0, keys, nk, block);
    if (see == 0) return;
    tile qk = {
        .a = q, .am = w, .ak = 1, .b = kt, .bk = PANEL, .panel = tile_terms(pairs, hd) * PANEL, .c = s, .ldc = SCORE_LD, .pairs = pairs};
    tile pv = {.a = s,
               .am = SCORE_LD,
               .ak = 1,
               .b = vp,
               .bk = PANEL,
               .panel = tile_terms(pairs, KEYS) * PANEL,
               .c = o,
               .ldc = w,
               .add = 1,
               .pairs = pairs};
    tile_product(&qk, n, (see + VW - 1) / VW, tile_terms(pairs, hd));
    if (att_mine(i, j0, keys, nk, block) == see && att_keeps(n, length, norm, m)) {
        for (int64_t u = 0; u < n; u++) vstore(l + u * VW, vload(l + u * VW) + att_powers(pairs, s + u * SCORE_LD, see, m[u]));
        tile_product(&pv, n, nv, tile_terms(pairs, see));
        return;
    }
    /* Rows that see equally many keys go on together: a probability of 0 would still bring in a NaN from what a row may not see. */
    for (int64_t from = 0, end = 0; from < n; from = end) {
        int64_t mine = att_mine(i + from, j0, keys, nk, block);
        while (end < n && att_mine(i + end, j0, keys, nk, block) == mine) end++;
        if (mine == 0) continue;
        for (int64_t u = from; u < end; u++) {
            float turn = att_softmax(pairs, s + u * SCORE_LD, mine, &m[u], l + u * VW);
            if (turn == 1) continue;
            for (int64_t c = 0; c < nv * VW; c += VW) vstore(o + u * w + c, vload(o + u * w + c) * vset(turn));
        }
        pv.a = s + from * SCORE_LD;
        pv.c = o + from * w;
        tile_product(&pv, end - from, nv, tile_terms(pairs, mine));
    }
}

static inline void att_fwd_item(const att_fwd *f, int64_t item, float *mem) {
    const op_attention *a = f->a;
    int64_t hd = a->head_dim, w = f->width, kt_tile = KEYS * tile_terms(f->pairs, hd), vp_tile = KEYS * att_fwd_key(f->pairs, hd) - kt_tile;
    int64_t i0 = item % f->chunks * f->chunk, rows = least(f->chunk, a->nq - i0);
    int64_t h = item / f->chunks % a->heads, b = item / f->chunks / a->heads;
    att_src qs = att_src_of(a->q, a->q16, f->ldq, b, a->nq, h, hd, a->cs, a->cs_per_batch);
    att_src ks = att_src_of(a->k, a->k16, f->ldk, b, a->nk, h, hd, a->cs, a->cs_per_batch);
    att_src vs = att_src_of(a->v, a->v16, f->ldv, b, a->nk, h, hd, NULL, 0);
    att_dst os = att_dst_of(a->o, a->o16, f->ldo, b, a->nq, h, hd, NULL, 0);
    int64_t list = (f->chunk + 15) / 16 * 16;
    float *q = mem, *o = q + f->chunk * w, *l = o + f->chunk * w, *m = l + f->chunk * VW, *norm = m + list;
    float *kt = norm + list, *vp = kt + f->span / KEYS * kt_tile, *s = vp + f->span / KEYS * vp_tile, *length = s + QUERIES * SCORE_LD;
    att_rows(f->pairs, q, w, &qs, i0, rows, (float)(f->scale * LOG2E), norm);
    memset(o, 0, (size_t)(rows * w) * sizeof *o);
    memset(l, 0, (size_t)(rows * VW) * sizeof *l);
    for (int64_t i = 0; i < rows; i++) m[i] = -INFINITY;
    int64_t last = att_seen(i0 + rows - 1, a->nk, a->block);
    for (int64_t first = 0; first < last; first += f->span) {
        int64_t end = least(last, first + f->span);
        for (int64_t j = first, t = 0; j < end; j += KEYS, t++) {
            length[t] = att_transpose(f->pairs, kt + t * kt_tile, &ks, j, least(KEYS, end - j));
            if (!(att_panels(f->pairs, vp + t * vp_tile, &vs, j, least(KEYS, end - j), KEYS) <= V_MOST)) length[t] = INFINITY;
        }
        for (int64_t r = 0; r < rows; r += QUERIES)
            for (int64_t j = first, t = 0; j < end; j += KEYS, t++)
                att_fwd_tile(f, i0 + r, least(QUERIES, rows - r), j, least(KEYS, end - j), kt + t * kt_tile, vp + t * vp_tile, length[t],
                             q + r * w, o + r * w, l + r * VW, m + r, norm + r, s);
    }
    for (int64_t i = 0; i < rows; i++) {
        float total = vsum(vload(l + i * VW));
        att_ahead_of_put(&os, i0 + i);
        att_put(&os, i0 + i, o + i * w, 1.0f / total);
        if (a->lse) a->lse[(b * a->heads + h) * a->nq + i0 + i] = (float)(m[i] * LN2 + logf(total));
    }
}

static inline void att_fwd_worker(void *ctx, int64_t worker) {
    att_fwd *f = ctx;
    int64_t item;
    while ((item = atomic_fetch_add(&f->next, 1)) < f->items) att_fwd_item(f, item, f->scratch + (size_t)worker * f->each);
}

static inline int t_attention(queue *q, const op_attention *a) {
    int rc = check_attention(a);
    if (rc < 0 || a->batch == 0 || a->nq == 0) return rc;
    int64_t dense = a->heads * a->head_dim;
    att_fwd f = {.a = a,
                 .pairs = att_paired(a->q16, a->block),
                 .ldq = stride_or(a->ldq, dense),
                 .ldk = stride_or(a->ldk, dense),
                 .ldv = stride_or(a->ldv, dense),
                 .ldo = stride_or(a->ldo, dense),
                 .width = att_width(a->head_dim),
                 .scale = attention_scale(a->scale, a->head_dim)};
    int64_t heads = a->batch * a->heads;
    double work = (double)heads * (double)a->nq * (double)a->nk * (double)a->head_dim / 4;
    f.workers = work < SERIAL_WORK ? 1 : q->threads;
    /* Enough chunks to go round; long ones, because each lays out the keys again. */
    int64_t want = heads >= 4 * f.workers || heads % f.workers == 0 ? 1 : pieces(4 * f.workers, heads);
    f.chunk = pieces(pieces(a->nq, want), 4 * QUERIES) * (4 * QUERIES);
    f.chunk = least(f.chunk, 84 * QUERIES); /* queries and output are read in order: they need not stay in the second cache */
    f.chunks = pieces(a->nq, f.chunk);
    f.items = heads * f.chunks;
    if (f.workers > f.items) f.workers = (int)f.items;
    f.span = SPAN_FLOATS / att_fwd_key(f.pairs, a->head_dim) / KEYS * KEYS;
    f.span = least(f.span, pieces(a->nk, KEYS) * KEYS);
    f.each = (att_fwd_floats(&f) + 15) / 16 * 16;
    f.scratch = queue_scratch(q, (size_t)f.workers * f.each * sizeof(float));
    if (!f.scratch) return JEPA_E_MEMORY;
    pool_for(q->d->team, f.workers, f.workers, att_fwd_worker, &f);
    return 0;
}
#endif
