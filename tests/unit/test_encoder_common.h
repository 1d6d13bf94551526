/* test_encoder_common.h: a tiny encoder with random weights, shared by the encoder's and the predictor's tests. */
#ifndef TEST_ENCODER_COMMON_H
#define TEST_ENCODER_COMMON_H
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "encoder/encoder.h"

#define must(call) must_at(call, &err, __LINE__)
static void must_at(int rc, const jepa_err *err, int line) {
    if (rc) fail_msg("line %d: code %d: %s", line, rc, err->text);
}
/* A refusal: the code, and words that its message must hold. */
static inline void refused(int rc, int code, const jepa_err *err, const char *words) {
    if (rc != code || !strstr(err->text, words)) fail_msg("code %d, \"%s\"; wanted code %d and \"%s\"", rc, err->text, code, words);
}

static inline float *numbers(int64_t n, uint64_t seed, double low, double high) {
    float *x = mem_alloc((size_t)n, sizeof *x);
    rng r = rng_key(seed, 0, 0, RNG_TEST);
    for (int64_t i = 0; i < n; i++) x[i] = (float)rng_uniform(&r, low, high);
    return x;
}

/* Weights far from their initial values, so that no term of a gradient is small by chance. */
static inline void random_params(params *p, uint64_t seed) {
    for (int i = 0; i < p->n; i++) {
        const char *name = p->item[i].name;
        const size_t len = strlen(name);
        const int norm_weight = strstr(name, "norm") && len > 7 && !strcmp(name + len - 7, ".weight");
        rng r = rng_key(seed, (uint64_t)i, 0, RNG_TEST);
        float *v = param_value(p, i);
        for (int64_t k = 0; k < p->item[i].count; k++) v[k] = (float)((norm_weight ? 1 : 0) + rng_uniform(&r, -0.4, 0.4));
    }
}

static inline void tiny_cfg(enc_cfg *c) { /* 2 x 2 x 3 tokens; head dim 14: 4 channels for each axis and 2 that are not turned */
    enc_cfg_defaults(c);
    c->img_height = 8, c->img_width = 12, c->patch_size = 4, c->num_frames = 4;
    c->embed_dim = 28, c->depth = 3, c->num_heads = 2, c->mlp_ratio = 2.3;
}
enum { TOKENS = 12, DIM = 28, PIXELS = 3 * 4 * 8 * 12 };

static inline double worst(const float *a, const float *b, int64_t n) {
    double m = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        if (!(d <= m)) m = d;
    }
    return m;
}

static inline void same_bits(const float *a, const float *b, int64_t n) { assert_memory_equal(a, b, (size_t)n * sizeof *a); }

/* Gradients by central differences of fourth order, on some entries of each tensor; loss(ctx) is a function of the parameters (and of
 * x[n]). Bound, relative to the largest gradient of the tensor, of at least 1: float32 storage of what lies between leaves about 3e-7 in a
 * loss of order 1 to 10, over steps of 0.02 to 0.04, some 5e-5; measured 1e-4 at worst. */
enum { PER_TENSOR = 7 };
static const double fd_step = 0.02, fd_bound = 3e-4;

static inline double slope(double (*loss)(void *), void *ctx, float *x) {
    const float was = *x;
    double f[4], at[4];
    const double step[4] = {-2 * fd_step, -fd_step, fd_step, 2 * fd_step};
    for (int i = 0; i < 4; i++) {
        *x = (float)(was + step[i]);
        at[i] = *x;
        f[i] = loss(ctx);
    }
    *x = was;
    const double near = (f[2] - f[1]) / (at[2] - at[1]), far = (f[3] - f[0]) / (at[3] - at[0]);
    return (4 * near - far) / 3;
}

static inline double check_slopes(double (*loss)(void *), void *ctx, float *x, const float *grad, int64_t n, uint64_t seed,
                                  const char *name) {
    rng r = rng_key(seed, 1, 0, RNG_TEST);
    double scale = 1, most = 0;
    for (int64_t i = 0; i < n; i++) scale = fmax(scale, fabs(grad[i]));
    for (int k = 0; k < PER_TENSOR && k < n; k++) {
        const int64_t i = n <= PER_TENSOR ? k : (int64_t)rng_below(&r, (uint32_t)n);
        const double g = slope(loss, ctx, &x[i]), off = fabs(g - grad[i]) / scale;
        if (!(off <= fd_bound)) fail_msg("%s[%d]: gradient %.7g, by differences %.7g", name, (int)i, grad[i], g);
        most = fmax(most, off);
    }
    return most;
}
#endif
