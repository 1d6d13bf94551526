/* params.c: the flat list of named parameters: names are found by hash, values lie in one allocation per kind. */
#include <string.h>
#include "compute/ops.h"

enum { ALIGN = 16, MAX_PARAMS = 1 << 20 };
static const int64_t MAX_TOTAL = (int64_t)1 << 40; /* elements: 4 TiB of float32 */

static uint32_t hash_of(const char *s) /* FNV-1a */
{
    uint32_t h = 2166136261u;
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 16777619u;
    return h;
}

/* Puts item i into the open-addressing table, whose size is a power of two and at least twice the items. */
static void hash_put(params *p, int i) {
    uint32_t mask = (uint32_t)p->n_slots - 1, k = hash_of(p->item[i].name) & mask;
    while (p->slot[k]) k = (k + 1) & mask;
    p->slot[k] = i + 1;
}

int params_find(const params *p, const char *name) {
    if (!p || !name || !p->n_slots) return -1;
    uint32_t mask = (uint32_t)p->n_slots - 1;
    for (uint32_t k = hash_of(name) & mask; p->slot[k]; k = (k + 1) & mask)
        if (!strcmp(p->item[p->slot[k] - 1].name, name)) return p->slot[k] - 1;
    return -1;
}

static int grow(params *p, jepa_err *err) {
    int cap = p->cap ? 2 * p->cap : 64;
    param *item = mem_alloc((size_t)cap, sizeof *item);
    int32_t *slot = mem_alloc(2 * (size_t)cap, sizeof *slot);
    if (!item || !slot) {
        mem_free(item);
        mem_free(slot);
        return err_set(err, JEPA_E_MEMORY, "parameter list: no memory for %d entries", cap);
    }
    if (p->n) memcpy(item, p->item, (size_t)p->n * sizeof *item);
    mem_free(p->item);
    mem_free(p->slot);
    p->item = item;
    p->slot = slot;
    p->cap = cap;
    p->n_slots = 2 * cap;
    for (int i = 0; i < p->n; i++) hash_put(p, i);
    return 0;
}

static int ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

int params_add(params *p, jepa_err *err, const char *name, int rank, const int64_t *dim) {
    if (!p || !name || !name[0] || (rank > 0 && !dim)) return err_set(err, JEPA_E_USE, "parameter list: a name or a shape is missing");
    if (strlen(name) >= sizeof p->item->name)
        return err_set(err, JEPA_E_USE, "parameter %.60s…: a name of %zu bytes does not fit; at most %zu", name, strlen(name),
                       sizeof p->item->name - 1);
    if (rank < 0 || rank > 8) return err_set(err, JEPA_E_USE, "parameter %s: rank %d is outside 0 to 8", name, rank);
    if (p->value.p) return err_set(err, JEPA_E_USE, "parameter %s: the list is already allocated; add before params_alloc", name);
    if (params_find(p, name) >= 0) return err_set(err, JEPA_E_USE, "parameter %s: there is one of that name already", name);
    int64_t count = 1;
    for (int i = 0; i < rank; i++) {
        if (dim[i] < 1) return err_set(err, JEPA_E_USE, "parameter %s: dimension %d is %lld; at least 1", name, i, (long long)dim[i]);
        if (dim[i] > MAX_TOTAL / count) return err_set(err, JEPA_E_MEMORY, "parameter %s: its shape has more than 2^40 elements", name);
        count *= dim[i];
    }
    int64_t padded = (count + ALIGN - 1) / ALIGN * ALIGN;
    if (padded > MAX_TOTAL - p->total)
        return err_set(err, JEPA_E_MEMORY, "parameter %s: the list would have more than 2^40 elements", name);
    if (p->n >= MAX_PARAMS)
        return err_set(err, JEPA_E_MEMORY, "parameter %s: the list already has %d entries, the most it takes", name, MAX_PARAMS);
    if (p->n == p->cap) {
        int rc = grow(p, err);
        if (rc < 0) return rc;
    }
    param *a = &p->item[p->n];
    memset(a, 0, sizeof *a);
    memcpy(a->name, name, strlen(name));
    a->rank = rank;
    if (rank) memcpy(a->dim, dim, (size_t)rank * sizeof *dim);
    a->count = count;
    a->offset = p->total;
    a->flags = rank <= 1 || ends_with(name, ".bias") ? PARAM_NO_DECAY : 0;
    p->total += padded;
    hash_put(p, p->n);
    return p->n++;
}

/* PARAM_PRODUCT entries go to value16, the others close ranks in value. */
static void place_halves(params *p) {
    p->total = p->total16 = 0;
    for (int i = 0; i < p->n; i++) {
        param *a = &p->item[i];
        int64_t *total = (a->half = (a->flags & PARAM_PRODUCT) != 0) ? &p->total16 : &p->total;
        a->offset = *total;
        *total += (a->count + ALIGN - 1) / ALIGN * ALIGN;
    }
}

int params_alloc(params *p, dev *d, int what, jepa_err *err) {
    if (!p || !d) return err_set(err, JEPA_E_USE, "params_alloc: no list or no device");
    if (p->value.p) return err_set(err, JEPA_E_USE, "params_alloc: the list is already allocated");
    if ((what & PARAMS_HALF_ONLY) && (what & ~PARAMS_HALF_ONLY))
        return err_set(err, JEPA_E_USE, "params_alloc: a list with bf16 weights only cannot be trained");
    size_t bytes = 0, bytes16 = 0;
    if (what & PARAMS_HALF_ONLY) place_halves(p);
    if (what & PARAMS_HALF) p->total16 = p->total;
    int rc = size_mul((size_t)p->total, sizeof(float), &bytes);
    if (rc < 0) err_set(err, rc, "parameter list: its size does not fit in memory");
    if (rc == 0 && (rc = size_mul((size_t)p->total16, sizeof(uint16_t), &bytes16)) < 0)
        err_set(err, rc, "parameter list: its size does not fit in memory");
    if (rc == 0) rc = buf_new(&p->value, d, bytes, err);
    if (rc == 0 && bytes16) rc = buf_new(&p->value16, d, bytes16, err);
    if (rc == 0 && (what & PARAMS_GRAD)) rc = buf_new(&p->grad, d, bytes, err);
    if (rc == 0 && (what & PARAMS_MOMENTS)) rc = buf_new(&p->m, d, bytes, err);
    if (rc == 0 && (what & PARAMS_MOMENTS)) rc = buf_new(&p->v, d, bytes, err);
    if (rc < 0) {
        buf_free(&p->value);
        buf_free(&p->value16);
        buf_free(&p->grad);
        buf_free(&p->m);
        buf_free(&p->v);
        return err_prefix(err, rc, "parameters, gradients and moments (%d entries)", p->n);
    }
    return 0;
}

float *param_value(const params *p, int i) {
    return p && p->value.p && i >= 0 && i < p->n && !p->item[i].half ? (float *)p->value.p + p->item[i].offset : NULL;
}

/* A copy beside the masters is kept for every entry, but read for those that products read only. */
uint16_t *param_value16(const params *p, int i) {
    return p && p->value16.p && i >= 0 && i < p->n && (p->item[i].half || (p->item[i].flags & PARAM_PRODUCT))
               ? (uint16_t *)p->value16.p + p->item[i].offset
               : NULL;
}

param_form param_weight(const params *p, int i, int half) {
    const float *w = param_value(p, i);
    const uint16_t *w16 = half || !w ? param_value16(p, i) : NULL;
    return (param_form){w16 ? NULL : w, w16};
}

int params_halve(params *p, queue *q, jepa_err *err) {
    if (!p || !q || !p->value16.p || p->total16 != p->total) return err_set(err, JEPA_E_USE, "params_halve: the list has no bf16 copy");
    const op_convert a = {.n = p->total, .x = p->value.p, .y16 = p->value16.p};
    int rc = dev_ops(queue_dev(q))->convert(q, &a);
    return rc < 0 ? err_set(err, rc, "parameters could not be converted to bf16") : 0;
}

int param_put(params *p, int i, queue *q, const float *host, int64_t at, int64_t n, jepa_err *err) {
    if (!p || !p->value.p || i < 0 || i >= p->n || at < 0 || n < 0 || at > p->item[i].count || n > p->item[i].count - at)
        return err_set(err, JEPA_E_USE, "param_put: no such elements");
    const param *a = &p->item[i];
    if (!a->half) return buf_put(q, (float *)p->value.p + a->offset + at, host, (size_t)n * sizeof *host, err);
    uint16_t piece[4096], *to = (uint16_t *)p->value16.p + a->offset + at;
    int rc = 0;
    for (int64_t k = 0; k < n && !rc; k += 4096) {
        const int64_t m = n - k < 4096 ? n - k : 4096;
        for (int64_t j = 0; j < m; j++) piece[j] = f32_to_bf16(host[k + j]);
        rc = buf_put(q, to + k, piece, (size_t)m * sizeof *piece, err);
    }
    return rc;
}

float *param_grad(const params *p, int i) { return p && p->grad.p && i >= 0 && i < p->n ? (float *)p->grad.p + p->item[i].offset : NULL; }

void params_close(params *p) {
    if (!p) return;
    buf_free(&p->value);
    buf_free(&p->value16);
    buf_free(&p->grad);
    buf_free(&p->m);
    buf_free(&p->v);
    mem_free(p->item);
    mem_free(p->slot);
    *p = (params){0};
}
