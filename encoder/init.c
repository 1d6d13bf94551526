/* init.c: the published initialisation. */
#include "encoder/init.h"
#include "encoder/block.h"

#include <math.h>

int init_check(const params *p, double sd, jepa_err *err) {
    if (!p->value.p) return err_set(err, JEPA_E_USE, "initialisation: the parameters are not allocated yet (params_alloc)");
    if (!(sd >= 0 && sd <= 2)) return err_set(err, JEPA_E_USE, "initialisation: standard deviation %g is outside 0 to 2", sd);
    return 0;
}

enum { PIECE = 1 << 16 }; /* floats drawn on the host at a time */

int init_normal(queue *q, params *p, int index, double sd, double divide, uint64_t seed, jepa_err *err) {
    const int64_t n = p->item[index].count;
    float *host = mem_alloc(n < PIECE ? (size_t)n : PIECE, sizeof *host), *to = param_value(p, index);
    if (!host) return err_set(err, JEPA_E_MEMORY, "initialisation: no memory for a piece of %s", p->item[index].name);
    rng r = rng_key(seed, (uint64_t)index, 0, RNG_INIT);
    int rc = 0;
    for (int64_t i = 0; i < n && !rc; i += PIECE) {
        const int64_t m = n - i < PIECE ? n - i : PIECE;
        for (int64_t k = 0; k < m; k++) {
            double v;
            do v = sd * rng_normal(&r);
            while (fabs(v) > 2); /* at sd 2 one in three is drawn again, below that fewer */
            host[k] = (float)(v / divide);
        }
        rc = buf_put(q, to + i, host, (size_t)m * sizeof *host, err);
    }
    if (!rc) rc = queue_wait(q, err);
    mem_free(host);
    return rc;
}

int init_fill(queue *q, params *p, int index, float value, jepa_err *err) {
    const int64_t n = p->item[index].count;
    float *host = mem_alloc((size_t)n, sizeof *host);
    if (!host) return err_set(err, JEPA_E_MEMORY, "initialisation: no memory for %s", p->item[index].name);
    for (int64_t k = 0; k < n; k++) host[k] = value;
    int rc = buf_put(q, param_value(p, index), host, (size_t)n * sizeof *host, err);
    if (!rc) rc = queue_wait(q, err);
    mem_free(host);
    return rc;
}

int block_init(const block *b, queue *q, params *p, int number, double sd, uint64_t seed, jepa_err *err) {
    const double deep = number ? sqrt(2.0 * number) : 1;
    const struct {
        int index;
        double divide;
    } weight[] = {{b->qkv_w, 1}, {b->proj_w, deep}, {b->fc1_w, 1}, {b->fc2_w, deep}};
    const int one[] = {b->norm1_w, b->norm2_w};
    const int zero[] = {b->norm1_b, b->norm2_b, b->qkv_b, b->proj_b, b->fc1_b, b->fc2_b};
    int rc = 0;
    for (int i = 0; i < 4 && !rc; i++) rc = init_normal(q, p, weight[i].index, sd, weight[i].divide, seed, err);
    for (int i = 0; i < 2 && !rc; i++) rc = init_fill(q, p, one[i], 1, err);
    for (int i = 0; i < 6 && !rc; i++) rc = init_fill(q, p, zero[i], 0, err);
    return rc;
}
