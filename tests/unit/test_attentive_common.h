/* test_attentive_common.h: a tiny attentive probe with random weights. */
#ifndef TEST_ATTENTIVE_COMMON_H
#define TEST_ATTENTIVE_COMMON_H
#include "test_encoder_common.h"
#include "encoder/attentive.h"

enum { ITEMS = 3, SEEN = 7, CHANNELS = 20, CLASSES = 5 };

typedef struct probe {
    dev *d;
    queue *q;
    params p;
    att_cfg c;
    att *e;
    att_acts *a;
    float *x, *coef, logits[ITEMS * CLASSES], pooled[ITEMS * CHANNELS];
    att_in in;
} probe;

/* order: 0 V-JEPA 2's, 1 V-JEPA 1's */
static inline void open_probe(probe *m, const char *device, int depth, int order, recompute level, int keep) {
    jepa_err err = {0};
    memset(m, 0, sizeof *m);
    att_cfg_defaults(&m->c, CHANNELS, CLASSES);
    m->c.num_heads = 4, m->c.depth = depth, m->c.mlp_ratio = 1.7, m->c.cross_first = order;
    must(dev_open(&m->d, device, 2, &err));
    must(queue_open(&m->q, m->d, &err));
    must(att_open(&m->e, &m->c, &m->p, "probe.", &err));
    must(params_alloc(&m->p, m->d, PARAMS_GRAD, &err));
    random_params(&m->p, 8);
    const att_shape s = {.batch = ITEMS, .tokens = SEEN, .keep_for_backward = keep, .level = level};
    must(att_acts_open(&m->a, m->e, m->d, &s, &err));
    m->x = numbers(ITEMS * SEEN * CHANNELS, 1, -2, 2);
    m->coef = numbers(ITEMS * CLASSES, 2, -1, 1);
    m->in = (att_in){.batch = ITEMS, .tokens = SEEN, .x = m->x};
}

static inline void close_probe(probe *m) {
    att_acts_close(&m->a);
    att_close(&m->e);
    params_close(&m->p);
    queue_close(&m->q);
    dev_close(&m->d);
    mem_free(m->x);
    mem_free(m->coef);
}

static inline void probe_forward(probe *m) {
    jepa_err err = {0};
    must(att_forward(m->e, m->q, &m->in, m->a, m->pooled, m->logits, &err));
}
#endif
