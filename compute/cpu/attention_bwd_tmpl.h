/* attention_bwd_tmpl.h: attention backward. The probabilities are computed again from lse, tile by tile:
 *     p = 2^(scale·log2(e)·q·k - lse·log2(e)); ds = p·(do·v - do·o); dv += pᵀ·do; dk += dsᵀ·q; dq += ds·k
 * With enough heads a worker takes a head whole (five products a tile). Otherwise keys are cut for dk, dv and queries for dq, which
 * computes p twice (seven products) but needs no two workers to add to one place. The order of additions is the same either way.
 *
 * In pairs of bf16 (see attention_tmpl.h) p and ds are rounded to bf16 too; dv and dk sum pairs of queries, dq pairs of keys. */
#ifndef JEPA_ATTENTION_BWD_TMPL_H
#define JEPA_ATTENTION_BWD_TMPL_H
#include "compute/cpu/attention_tmpl.h"

enum { BWD_QUERIES = 48, BWD_KEYS = 64, BWD_LD = BWD_KEYS + 16 };
enum { BWD_SPAN_FLOATS = 80 * 1024 };
enum { WANT_DQ = 1, WANT_DKV = 2 };

typedef struct att_bwd {
    const op_attention_bwd *a;
    int pairs;
    int64_t ldq, ldk, ldv, ldo, lddo, lddq, lddk, lddv, width;
    int64_t q_chunk, q_chunks, k_chunk, k_chunks, items;
    int64_t span;             /* keys laid out at a time: what most of the second cache holds */
    atomic_int_fast64_t next; /* the first item that nobody has taken */
    int workers, want;
    double scale;
    float *scratch;
    size_t each;
} att_bwd;

typedef struct att_bwd_mem {
    float *q, *dout, *dq, *delta, *lse, *kt, *vt, *k, *dk, *dv, *p, *ds;
    float *q2, *dout2, *ds16; /* pairs only: q, dout in pairs of rows; ds in pairs of keys. k, p and ds are pairs of rows then (a row of 0
                                 past an odd last) */
} att_bwd_mem;

/* Floats of a key as it is laid out, its gradients with it. */
static inline int64_t att_bwd_key(int pairs, int64_t width, int64_t hd) {
    return 2 * tile_terms(pairs, hd) + 2 * width + (pairs ? width / 2 : width); /* width is even */
}

/* Cuts a worker's scratch; returns the floats used. */
static inline size_t att_bwd_cut(att_bwd_mem *m, float *base, int pairs, int64_t queries, int64_t span, int64_t width, int64_t hd) {
    size_t rows = (size_t)(queries * width), list = (size_t)(queries + 15) / 16 * 16, at = 0;
    size_t cols = (size_t)(span * tile_terms(pairs, hd)), keys = (size_t)(span * width), score = (size_t)(BWD_QUERIES * BWD_LD);
    size_t half = pairs ? (size_t)(tile_terms(1, queries) * width) : 0, keyed = (size_t)(tile_terms(pairs, span) * width);
    float **to[] = {&m->q,  &m->dout, &m->dq, &m->delta, &m->lse, &m->kt,    &m->vt,  &m->k,
                    &m->dk, &m->dv,   &m->p,  &m->ds,    &m->q2,  &m->dout2, &m->ds16};
    size_t size[] = {rows, rows, rows, list, list, cols, cols, keyed, keys, keys, score, score, half, half, pairs ? score / 2 : 0};
    for (size_t i = 0; i < sizeof to / sizeof *to; i++) {
        *to[i] = base ? base + at : NULL;
        at += (size[i] + 15) / 16 * 16;
    }
    return at;
}

/* Scores → p, and do·v → ds, in place, for n keys. */
static inline void att_bwd_row(float *p, float *ds, int64_t n, float lse, float delta) {
    vf base = vset(lse), mean = vset(delta), turn = vset(EXP2_MAGIC), low = vset(-125), high = vset(128), x[EXP2_BATCH];
    int64_t j = 0;
    for (; j + EXP2_BATCH * VW <= n; j += EXP2_BATCH * VW) {
        UNROLL
        for (int u = 0; u < EXP2_BATCH; u++) x[u] = vmin(high, vload(p + j + u * VW) - base);
        vexp2_from(x, turn, low);
        UNROLL
        for (int u = 0; u < EXP2_BATCH; u++) {
            vstore(p + j + u * VW, x[u]);
            vstore(ds + j + u * VW, x[u] * (vload(ds + j + u * VW) - mean));
        }
    }
    for (; j < n; j += VW) { /* in whole vectors: what lies past n is read by nobody */
        UNROLL
        for (int u = 0; u < EXP2_BATCH; u++) x[u] = vmin(high, vload(p + j) - base);
        vexp2_from(x, turn, low);
        vstore(p + j, x[0]);
        vstore(ds + j, x[0] * (vload(ds + j) - mean));
    }
}

#ifdef VEC_DOT16
/* The same of two rows, the second of which may lack (count 1): p and ds become pairs of both, ds16[2][BWD_LD / 2] each row's ds. */
static inline void att_bwd_two(float *p, float *ds, float *ds16, int64_t n, int64_t count, const float *lse, const float *delta) {
    enum { EACH = EXP2_BATCH / 2 };
    vf turn = vset(EXP2_MAGIC), low = vset(-125), high = vset(128), x[EXP2_BATCH], g[2][EACH];
    float *p1 = p + (count > 1 ? BWD_LD : 0), *ds1 = ds + (count > 1 ? BWD_LD : 0);
    vf base[2] = {vset(lse[0]), vset(lse[count - 1])}, mean[2] = {vset(delta[0]), vset(delta[count - 1])};
    for (int64_t j = 0; j < n; j += EACH * VW) { /* what lies past n is read by nobody but for the partner of an odd last key */
        UNROLL
        for (int u = 0; u < EACH; u++) {
            x[u] = vmin(high, vload(p + j + u * VW) - base[0]);
            x[EACH + u] = vmin(high, vload(p1 + j + u * VW) - base[1]);
        }
        vexp2_from(x, turn, low);
        UNROLL
        for (int u = 0; u < EACH; u++) {
            g[0][u] = x[u] * (vload(ds + j + u * VW) - mean[0]);
            g[1][u] = x[EACH + u] * (vload(ds1 + j + u * VW) - mean[1]);
            if (count == 1) x[EACH + u] = g[1][u] = vset(0);
            vcut16((uint16_t *)ds16 + j + u * VW, g[0][u]);
            vcut16((uint16_t *)(ds16 + BWD_LD / 2) + j + u * VW, g[1][u]);
            vstore(p + j + u * VW, vpairs(x[u], x[EACH + u]));
            vstore(ds + j + u * VW, vpairs(g[0][u], g[1][u]));
        }
    }
    if (n % 2) ((uint16_t *)ds16)[n] = ((uint16_t *)(ds16 + BWD_LD / 2))[n] = 0;
}
#endif

/* A group of n <= BWD_QUERIES rows from query i on, the r-th of the part, with the keys [j, j + keys) of one tile, the t-th one of the
 * span. */
static inline void att_bwd_tile(const att_bwd *f, const att_bwd_mem *m, int64_t i, int64_t r, int64_t n, int64_t j, int64_t t,
                                int64_t keys) {
    const op_attention_bwd *a = f->a;
    const int pairs = f->pairs;
    int64_t hd = a->head_dim, w = f->width, nv = (hd + VW - 1) / VW, see = att_mine(i + n - 1, j, keys, a->nk, a->block),
            terms = tile_terms(pairs, hd);
    if (see == 0) return;
    float *k = m->k + t * tile_terms(pairs, BWD_KEYS) * w, *dk = m->dk + t * BWD_KEYS * w, *dv = m->dv + t * BWD_KEYS * w;
    const float *q = m->q + r * w, *g = m->dout + r * w, *kt = m->kt + t * BWD_KEYS * terms, *vt = m->vt + t * BWD_KEYS * terms;
    tile qk = {.a = q, .am = w, .ak = 1, .b = kt, .bk = PANEL, .panel = terms * PANEL, .c = m->p, .ldc = BWD_LD, .pairs = pairs};
    tile gv = {.a = g, .am = w, .ak = 1, .b = vt, .bk = PANEL, .panel = terms * PANEL, .c = m->ds, .ldc = BWD_LD, .pairs = pairs};
    tile_product(&qk, n, (see + VW - 1) / VW, terms);
    tile_product(&gv, n, (see + VW - 1) / VW, terms);
    for (int64_t from = 0, end = 0; from < n; from = end) { /* rows that see equally many keys: see attention_tmpl.h */
        int64_t mine = att_mine(i + from, j, keys, a->nk, a->block);
        while (end < n && att_mine(i + end, j, keys, a->nk, a->block) == mine) end++;
        if (mine == 0) continue;
        float *p = m->p + from * BWD_LD, *ds = m->ds + from * BWD_LD;
        /* what sums over queries, and over keys */
        const float *q_rows = pairs ? m->q2 + (r + from) / 2 * w : q + from * w, *g_rows = pairs ? m->dout2 + (r + from) / 2 * w : g + from * w;
        const float *by_key = pairs ? m->ds16 + from * BWD_LD / 2 : ds;
        int64_t key_ld = pairs ? BWD_LD / 2 : BWD_LD, query_ld = pairs ? 2 * BWD_LD : BWD_LD;
#ifdef VEC_DOT16
        for (int64_t u = from; pairs && u < end; u += 2) /* from is even: see att_paired */
            att_bwd_two(m->p + u * BWD_LD, m->ds + u * BWD_LD, m->ds16 + u * BWD_LD / 2, mine, least(2, end - u), m->lse + r + u,
                        m->delta + r + u);
#endif
        for (int64_t u = from; !pairs && u < end; u++)
            att_bwd_row(m->p + u * BWD_LD, m->ds + u * BWD_LD, mine, m->lse[r + u], m->delta[r + u]);
        if (f->want & WANT_DKV) {
            tile to_dv = {
                .a = p, .am = 1, .ak = query_ld, .b = g_rows, .bk = w, .panel = PANEL, .c = dv, .ldc = w, .add = 1, .pairs = pairs};
            tile to_dk = {
                .a = ds, .am = 1, .ak = query_ld, .b = q_rows, .bk = w, .panel = PANEL, .c = dk, .ldc = w, .add = 1, .pairs = pairs};
            tile_product(&to_dv, mine, nv, tile_terms(pairs, end - from));
            tile_product(&to_dk, mine, nv, tile_terms(pairs, end - from));
        }
        if (f->want & WANT_DQ) {
            tile to_dq = {.a = by_key,
                          .am = key_ld,
                          .ak = 1,
                          .b = k,
                          .bk = w,
                          .panel = PANEL,
                          .c = m->dq + (r + from) * w,
                          .ldc = w,
                          .add = 1,
                          .pairs = pairs};
            tile_product(&to_dq, end - from, nv, tile_terms(pairs, mine));
        }
    }
}

/* The gradients of one head that queries [i0,i1) and keys [j0,j1) have to do with; `want` says which of them are complete here. */
static inline void att_bwd_part(const att_bwd *f, int64_t b, int64_t h, int64_t i0, int64_t i1, int64_t j0, int64_t j1, att_bwd_mem *m) {
    const op_attention_bwd *a = f->a;
    int64_t hd = a->head_dim, w = f->width, rows = i1 - i0, terms = tile_terms(f->pairs, hd);
    att_src qs = att_src_of(a->q, a->q16, f->ldq, b, a->nq, h, hd, a->cs, a->cs_per_batch);
    att_src ks = att_src_of(a->k, a->k16, f->ldk, b, a->nk, h, hd, a->cs, a->cs_per_batch);
    att_src vs = att_src_of(a->v, a->v16, f->ldv, b, a->nk, h, hd, NULL, 0);
    att_src os = att_src_of(a->o, a->o16, f->ldo, b, a->nq, h, hd, NULL, 0);
    att_src gs = att_src_of(a->dout, a->dout16, f->lddo, b, a->nq, h, hd, NULL, 0);
    att_dst dqs = att_dst_of(a->dq, a->dq16, f->lddq, b, a->nq, h, hd, a->cs, a->cs_per_batch);
    att_dst dks = att_dst_of(a->dk, a->dk16, f->lddk, b, a->nk, h, hd, a->cs, a->cs_per_batch);
    att_dst dvs = att_dst_of(a->dv, a->dv16, f->lddv, b, a->nk, h, hd, NULL, 0);
    const int pairs = f->pairs;
    att_rows_both(pairs, m->q, m->q2, w, &qs, i0, rows, (float)(f->scale * LOG2E));
    att_rows_both(pairs, m->dout, m->dout2, w, &gs, i0, rows, 1);
    if (f->want & WANT_DQ) memset(m->dq, 0, (size_t)(rows * w) * sizeof(float));
    for (int64_t i = 0; i < rows; i++) {
        vf s = vset(0);
        att_ahead(&os, i0 + i);
        for (int64_t c = 0; c < hd; c += VW)
            s = vfma(pairs ? att_get(&gs, i0 + i, c) : vload(m->dout + i * w + c), att_get(&os, i0 + i, c), s);
        m->delta[i] = vsum(s);
        m->lse[i] = (float)(a->lse[(b * a->heads + h) * a->nq + i0 + i] * LOG2E);
    }
    int64_t last = least(j1, att_seen(i1 - 1, a->nk, a->block));
    for (int64_t first = j0; first < j1; first += f->span) {
        int64_t end = least(j1, first + f->span), used = least(last, end);
        if (f->want & WANT_DKV) {
            memset(m->dk, 0, (size_t)((end - first) * w) * sizeof(float));
            memset(m->dv, 0, (size_t)((end - first) * w) * sizeof(float));
        }
        for (int64_t j = first, t = 0; j < used; j += BWD_KEYS, t++) {
            att_transpose(pairs, m->kt + t * BWD_KEYS * terms, &ks, j, least(BWD_KEYS, end - j));
            att_transpose(pairs, m->vt + t * BWD_KEYS * terms, &vs, j, least(BWD_KEYS, end - j));
        }
        if (f->want & WANT_DQ && first < used) att_rows_both(pairs, pairs ? NULL : m->k, m->k, w, &ks, first, used - first, 1);
        for (int64_t r = 0; r < rows; r += BWD_QUERIES)
            for (int64_t j = first, t = 0; j < used; j += BWD_KEYS, t++)
                att_bwd_tile(f, m, i0 + r, r, least(BWD_QUERIES, rows - r), j, t, least(BWD_KEYS, end - j));
        for (int64_t i = 0; f->want & WANT_DKV && i < end - first; i++) {
            att_ahead_of_put(&dks, first + i);
            att_ahead_of_put(&dvs, first + i);
            att_put(&dks, first + i, m->dk + i * w, (float)LN2); /* q carries scale·log2(e) */
            att_put(&dvs, first + i, m->dv + i * w, 1);
        }
    }
    if (f->want & WANT_DQ)
        for (int64_t i = 0; i < rows; i++) {
            att_ahead_of_put(&dqs, i0 + i);
            att_put(&dqs, i0 + i, m->dq + i * w, (float)f->scale);
        }
}

static inline void att_bwd_worker(void *ctx, int64_t worker) {
    att_bwd *f = ctx;
    const op_attention_bwd *a = f->a;
    att_bwd_mem m;
    att_bwd_cut(&m, f->scratch + (size_t)worker * f->each, f->pairs, f->q_chunk, f->span, f->width, a->head_dim);
    int64_t item;
    while ((item = atomic_fetch_add(&f->next, 1)) < f->items) {
        int64_t qc = item % f->q_chunks, kc = item / f->q_chunks % f->k_chunks, head = item / f->q_chunks / f->k_chunks;
        int64_t i0 = qc * f->q_chunk, j0 = kc * f->k_chunk;
        att_bwd_part(f, head / a->heads, head % a->heads, i0, least(i0 + f->q_chunk, a->nq), j0, least(j0 + f->k_chunk, a->nk), &m);
    }
}

static inline int t_attention_bwd(queue *q, const op_attention_bwd *a) {
    int rc = check_attention_bwd(a);
    if (rc < 0 || a->batch == 0) return rc;
    int64_t dense = a->heads * a->head_dim, heads = a->batch * a->heads;
    att_bwd f = {.a = a,
                 .pairs = att_paired(a->q16, a->block),
                 .ldq = stride_or(a->ldq, dense),
                 .ldk = stride_or(a->ldk, dense),
                 .ldv = stride_or(a->ldv, dense),
                 .ldo = stride_or(a->ldo, dense),
                 .lddo = stride_or(a->lddo, dense),
                 .lddq = stride_or(a->lddq, dense),
                 .lddk = stride_or(a->lddk, dense),
                 .lddv = stride_or(a->lddv, dense),
                 .width = att_width(a->head_dim),
                 .scale = attention_scale(a->scale, a->head_dim)};
    if (a->nq == 0) { /* nobody asked: the keys have no gradient */
        float none[128 + VW] = {0};
        for (int64_t i = 0; i < a->batch * a->nk; i++)
            for (int64_t h = 0; h < a->heads; h++) {
                att_dst dk = att_dst_of(a->dk, a->dk16, f.lddk, 0, 0, h, a->head_dim, NULL, 0);
                att_dst dv = att_dst_of(a->dv, a->dv16, f.lddv, 0, 0, h, a->head_dim, NULL, 0);
                att_put(&dk, i, none, 0);
                att_put(&dv, i, none, 0);
            }
        return 0;
    }
    double work = (double)heads * (double)a->nq * (double)a->nk * (double)a->head_dim / 2;
    int threads = work < SERIAL_WORK ? 1 : q->threads;
    int whole = threads == 1 || heads % threads == 0 || heads >= 4 * threads;
    int64_t cuts = whole ? 1 : pieces(4 * threads, heads);
    att_bwd keys = f, queries = f;
    keys.want = whole ? WANT_DKV | WANT_DQ : WANT_DKV;
    keys.q_chunk = a->nq;
    keys.k_chunk = whole ? a->nk : pieces(pieces(a->nk, cuts), BWD_KEYS) * BWD_KEYS;
    queries.want = WANT_DQ;
    queries.q_chunk = pieces(pieces(a->nq, cuts), BWD_QUERIES) * BWD_QUERIES;
    queries.k_chunk = a->nk;
    att_bwd *run[2] = {&keys, whole ? NULL : &queries};
    size_t need = 0;
    for (int i = 0; i < 2 && run[i]; i++) {
        att_bwd *r = run[i];
        att_bwd_mem m;
        r->q_chunks = pieces(a->nq, r->q_chunk);
        r->k_chunks = pieces(a->nk, r->k_chunk);
        r->items = heads * r->q_chunks * r->k_chunks;
        r->workers = (int)least(threads, r->items);
        r->span = BWD_SPAN_FLOATS / att_bwd_key(f.pairs, f.width, a->head_dim) / BWD_KEYS * BWD_KEYS;
        r->span = least(r->span, pieces(r->k_chunk, BWD_KEYS) * BWD_KEYS);
        r->each = att_bwd_cut(&m, NULL, f.pairs, r->q_chunk, r->span, f.width, a->head_dim);
        if (r->each * (size_t)r->workers > need) need = r->each * (size_t)r->workers;
    }
    float *scratch = queue_scratch(q, need * sizeof *scratch);
    if (!scratch) return JEPA_E_MEMORY;
    for (int i = 0; i < 2 && run[i]; i++) {
        run[i]->scratch = scratch;
        pool_for(q->d->team, run[i]->workers, run[i]->workers, att_bwd_worker, run[i]);
    }
    return 0;
}
#endif
