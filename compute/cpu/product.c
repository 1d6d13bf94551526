/* product.c: products by oneDNN, for weights that it has packed. Plain ones are gemm_tmpl.h's.
 *
 * Where oneDNN has a better weight layout (AVX-512), linear_pack reorders into it and the product is an inner product primitive, made once
 * per shape and kept by the queue. */
#include <string.h>
#include <oneapi/dnnl/dnnl.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#include "compute/cpu/cpu.h"

/* ---- threads: oneDNN takes the size of its team from OpenMP's setting for the calling thread ---- */

static int team_set(int threads) {
#ifdef _OPENMP
    int before = omp_get_max_threads();
    if (before != threads) omp_set_num_threads(threads);
    return before;
#else
    return threads;
#endif
}

static void team_restore(int before, int threads) {
#ifdef _OPENMP
    if (before != threads) omp_set_num_threads(before);
#endif
}

static int status_rc(dnnl_status_t s) {
    return s == dnnl_success ? 0 : s == dnnl_out_of_memory ? JEPA_E_MEMORY : s == dnnl_unimplemented ? JEPA_E_UNSUPPORTED : JEPA_E_DEVICE;
}

/* ---- packed weights ---- */

struct packed {
    dnnl_memory_desc_t md;
    int64_t out, in;
    void *data;
};

enum { CACHE = 64, TYPICAL_ROWS = 512 };

typedef struct made { /* a primitive with what it is run on */
    int64_t rows, in, out, ldx, ldy;
    int bias, add;
    dnnl_memory_desc_t weights;
    uint64_t used;      /* 0: an empty place */
    dnnl_primitive_t p; /* NULL: oneDNN has nothing good for this shape */
    dnnl_memory_t src, wei, bia, dst;
} made;

typedef struct state { /* queue->cpu */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    uint64_t clock;
    made cache[CACHE];
} state;

static void made_close(made *m) {
    if (m->p) dnnl_primitive_destroy(m->p);
    if (m->src) dnnl_memory_destroy(m->src);
    if (m->wei) dnnl_memory_destroy(m->wei);
    if (m->bia) dnnl_memory_destroy(m->bia);
    if (m->dst) dnnl_memory_destroy(m->dst);
    memset(m, 0, sizeof *m);
}

static void state_close(void *arg) {
    state *s = arg;
    for (int i = 0; i < CACHE; i++) made_close(&s->cache[i]);
    if (s->stream) dnnl_stream_destroy(s->stream);
    if (s->engine) dnnl_engine_destroy(s->engine);
    mem_free(s);
}

static int state_get(queue *q, state **out) {
    if (!q->cpu) {
        state *s = mem_alloc(1, sizeof *s);
        if (!s) return JEPA_E_MEMORY;
        dnnl_status_t rc = dnnl_engine_create(&s->engine, dnnl_cpu, 0);
        if (rc == dnnl_success) rc = dnnl_stream_create(&s->stream, s->engine, dnnl_stream_default_flags);
        if (rc != dnnl_success) {
            state_close(s);
            return status_rc(rc);
        }
        q->cpu = s;
        q->cpu_close = state_close;
    }
    *out = q->cpu;
    return 0;
}

/* The description of y = x·wᵀ (+ b) (+ y); weights NULL: any layout. */
static dnnl_status_t describe(state *s, const made *m, const dnnl_memory_desc_t *weights, dnnl_primitive_desc_t *pd) {
    dnnl_dims_t xd = {m->rows, m->in}, xs = {m->ldx, 1}, yd = {m->rows, m->out}, ys = {m->ldy, 1}, wd = {m->out, m->in}, bd = {m->out};
    dnnl_memory_desc_t x, y, b, w;
    dnnl_inner_product_desc_t ip;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t post = NULL;
    dnnl_status_t rc = dnnl_memory_desc_init_by_strides(&x, 2, xd, dnnl_f32, xs);
    if (rc == dnnl_success) rc = dnnl_memory_desc_init_by_strides(&y, 2, yd, dnnl_f32, ys);
    if (rc == dnnl_success) rc = dnnl_memory_desc_init_by_tag(&b, 1, bd, dnnl_f32, dnnl_a);
    if (rc == dnnl_success && !weights) rc = dnnl_memory_desc_init_by_tag(&w, 2, wd, dnnl_f32, dnnl_format_tag_any);
    if (rc == dnnl_success)
        rc = dnnl_inner_product_forward_desc_init(&ip, dnnl_forward_inference, &x, weights ? weights : &w, m->bias ? &b : NULL, &y);
    if (rc == dnnl_success) rc = dnnl_primitive_attr_create(&attr);
    if (rc == dnnl_success && m->add) {
        rc = dnnl_post_ops_create(&post);
        if (rc == dnnl_success) rc = dnnl_post_ops_append_sum(post, 1.0f);
        if (rc == dnnl_success) rc = dnnl_primitive_attr_set_post_ops(attr, post);
    }
    if (rc == dnnl_success) rc = dnnl_primitive_desc_create(pd, &ip, attr, s->engine, NULL);
    if (post) dnnl_post_ops_destroy(post);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return rc;
}

static int blocked(const dnnl_memory_desc_t *md) { return md->format_kind != dnnl_blocked || md->format_desc.blocking.inner_nblks > 0; }

static int is_reference(const_dnnl_primitive_desc_t pd) {
    const char *name = NULL;
    return dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name) != dnnl_success || !name || strstr(name, "ref");
}

/* Fills m's primitive and memories. A shape that only oneDNN's slow reference loop knows is left without a primitive. */
static dnnl_status_t made_open(state *s, made *m) {
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t rc = describe(s, m, &m->weights, &pd);
    if (rc == dnnl_unimplemented || rc == dnnl_invalid_arguments || (rc == dnnl_success && is_reference(pd)))
        rc = dnnl_success;
    else if (rc == dnnl_success)
        rc = dnnl_primitive_create(&m->p, pd);
    if (rc == dnnl_success && m->p)
        rc = dnnl_memory_create(&m->src, dnnl_primitive_desc_query_md(pd, dnnl_query_src_md, 0), s->engine, DNNL_MEMORY_NONE);
    if (rc == dnnl_success && m->p) rc = dnnl_memory_create(&m->wei, &m->weights, s->engine, DNNL_MEMORY_NONE);
    if (rc == dnnl_success && m->p && m->bias)
        rc = dnnl_memory_create(&m->bia, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 1), s->engine, DNNL_MEMORY_NONE);
    if (rc == dnnl_success && m->p)
        rc = dnnl_memory_create(&m->dst, dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0), s->engine, DNNL_MEMORY_NONE);
    if (pd) dnnl_primitive_desc_destroy(pd);
    return rc;
}

/* The one for this shape: found, or made in an empty or the least recently used place. */
static dnnl_status_t made_get(state *s, const made *want, made **out) {
    made *place = &s->cache[0];
    for (int i = 0; i < CACHE; i++) {
        made *m = &s->cache[i];
        if (m->used && m->rows == want->rows && m->in == want->in && m->out == want->out && m->ldx == want->ldx && m->ldy == want->ldy &&
            m->bias == want->bias && m->add == want->add && dnnl_memory_desc_equal(&m->weights, &want->weights)) {
            m->used = ++s->clock;
            *out = m;
            return dnnl_success;
        }
        if (m->used < place->used) place = m;
    }
    made_close(place);
    *place = *want;
    dnnl_status_t rc = made_open(s, place);
    if (rc != dnnl_success) {
        made_close(place);
        return rc;
    }
    place->used = ++s->clock;
    *out = place;
    return dnnl_success;
}

int product_packed(queue *q, const op_linear *a, int add, float *y, int64_t ldy) {
    state *s = NULL;
    int rc = state_get(q, &s);
    if (rc < 0) return rc;
    made want = {.rows = a->rows,
                 .in = a->in,
                 .out = a->out,
                 .ldx = stride_or(a->ldx, a->in),
                 .ldy = ldy,
                 .bias = a->b != NULL,
                 .add = add,
                 .weights = a->pw->md};
    made *m = NULL;
    int threads = q->threads, before = team_set(threads);
    dnnl_status_t st = made_get(s, &want, &m);
    if (st == dnnl_success && !m->p) st = dnnl_unimplemented;
    if (st == dnnl_success) st = dnnl_memory_set_data_handle(m->src, (void *)(uintptr_t)a->x);
    if (st == dnnl_success) st = dnnl_memory_set_data_handle(m->wei, a->pw->data);
    if (st == dnnl_success && m->bia) st = dnnl_memory_set_data_handle(m->bia, (void *)(uintptr_t)a->b);
    if (st == dnnl_success) st = dnnl_memory_set_data_handle(m->dst, y);
    if (st == dnnl_success) {
        dnnl_exec_arg_t args[4] = {{DNNL_ARG_SRC, m->src}, {DNNL_ARG_WEIGHTS, m->wei}, {DNNL_ARG_DST, m->dst}, {DNNL_ARG_BIAS, m->bia}};
        st = dnnl_primitive_execute(m->p, s->stream, m->bia ? 4 : 3, args);
    }
    if (st == dnnl_success) st = dnnl_stream_wait(s->stream);
    team_restore(before, threads);
    return status_rc(st);
}

static dnnl_status_t reorder(state *s, const dnnl_memory_desc_t *from, const float *src, const dnnl_memory_desc_t *to, void *dst) {
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t p = NULL;
    dnnl_memory_t in = NULL, out = NULL;
    dnnl_status_t rc = dnnl_reorder_primitive_desc_create(&pd, from, s->engine, to, s->engine, NULL);
    if (rc == dnnl_success) rc = dnnl_primitive_create(&p, pd);
    if (rc == dnnl_success) rc = dnnl_memory_create(&in, from, s->engine, (void *)(uintptr_t)src);
    if (rc == dnnl_success) rc = dnnl_memory_create(&out, to, s->engine, dst);
    if (rc == dnnl_success) {
        dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, in}, {DNNL_ARG_TO, out}};
        rc = dnnl_primitive_execute(p, s->stream, 2, args);
    }
    if (rc == dnnl_success) rc = dnnl_stream_wait(s->stream);
    if (out) dnnl_memory_destroy(out);
    if (in) dnnl_memory_destroy(in);
    if (p) dnnl_primitive_destroy(p);
    if (pd) dnnl_primitive_desc_destroy(pd);
    return rc;
}

int cpu_linear_pack(queue *q, packed **out, const float *w, int64_t out_dim, int64_t in_dim) {
    if (!out) return JEPA_E_USE;
    *out = NULL;
    op_linear shape = {.rows = 0, .in = in_dim, .out = out_dim};
    state *s = NULL;
    int rc = !q || !w ? JEPA_E_USE : check_linear(&shape);
    if (rc == 0) rc = state_get(q, &s);
    if (rc < 0) return rc;
    made typical = {.rows = TYPICAL_ROWS, .in = in_dim, .out = out_dim, .ldx = in_dim, .ldy = out_dim, .bias = 1};
    dnnl_primitive_desc_t pd = NULL;
    packed *p = NULL;
    int threads = q->threads, before = team_set(threads);
    dnnl_status_t st = describe(s, &typical, NULL, &pd);
    if (st == dnnl_unimplemented || (st == dnnl_success && is_reference(pd))) {
        st = dnnl_success; /* nothing to win */
        goto end;
    }
    if (st != dnnl_success) goto end;
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    if (!md || !blocked(md)) goto end; /* a plain matrix: sgemm reads the weight as it is, as fast */
    dnnl_dims_t wd = {out_dim, in_dim};
    dnnl_memory_desc_t plain;
    st = dnnl_memory_desc_init_by_tag(&plain, 2, wd, dnnl_f32, dnnl_ab);
    if (st != dnnl_success) goto end;
    st = dnnl_out_of_memory;
    p = mem_alloc(1, sizeof *p);
    if (!p) goto end;
    p->md = *md;
    p->out = out_dim;
    p->in = in_dim;
    p->data = mem_alloc(dnnl_memory_desc_get_size(md), 1);
    if (p->data) st = reorder(s, &plain, w, &p->md, p->data);
end:
    if (pd) dnnl_primitive_desc_destroy(pd);
    team_restore(before, threads);
    if (st != dnnl_success) cpu_linear_unpack(q, &p);
    *out = p;
    return status_rc(st);
}

void cpu_linear_unpack(queue *q, packed **p) {
    if (!p || !*p) return;
    mem_free((*p)->data);
    mem_free(*p);
    *p = NULL;
}
