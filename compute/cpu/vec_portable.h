/* vec_portable.h: vec.h's vocabulary in the vector extension that GCC and Clang share: 4 floats, any machine. */
#ifndef JEPA_VEC_PORTABLE_H
#define JEPA_VEC_PORTABLE_H
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
enum { VW = 4, TILE_ROWS = 6 };

static inline vf vset(float x) { return (vf){x, x, x, x}; }
static inline vi vseti(int32_t x) { return (vi){x, x, x, x}; }
static inline vf vload(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void vstore(float *p, vf v) { memcpy(p, &v, sizeof v); }
static inline vf vpick(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
static inline vf vfma(vf a, vf b, vf c) { return a * b + c; }
static inline vf vmax(vf a, vf b) { return vpick(a > b, a, b); }
static inline vf vmin(vf a, vf b) { return vpick(a < b, a, b); }
static inline vf vsqrt(vf a) { return (vf){sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])}; }
static inline vf vabs(vf a) { return (vf)((vi)a & vseti(0x7fffffff)); }
/* Adding 1.5·2^23 leaves no bits for a fraction; for |a| < 2^22. */
static inline vf vround(vf a) { return (a + vset(12582912.0f)) - vset(12582912.0f); }
/* The low bits of n + 1.5·2^23 are n itself, in two's complement. */
static inline vf vscale2(vf a, vf n) { return a * (vf)((((vi)(n + vset(12582912.0f)) & vseti(0x1ff)) + vseti(127)) << 23); }
static inline vf vzero_below(vf v, vf x, vf low) { return (vf)(~(x < low) & (vi)v); }
static inline vf vpick_below(vf x, vf low, vf a, vf b) { return vpick(x < low, a, b); }

static inline vf vload_part(const float *p, int64_t n) {
    float t[VW] = {0};
    for (int64_t i = 0; i < n && i < VW; i++) t[i] = p[i];
    return vload(t);
}
static inline void vstore_part(float *p, vf v, int64_t n) {
    for (int64_t i = 0; i < n && i < VW; i++) p[i] = v[i];
}
static inline vf vload16(const uint16_t *p) { return (vf)(vi){(int32_t)((uint32_t)p[0] << 16), (int32_t)((uint32_t)p[1] << 16),
                                                              (int32_t)((uint32_t)p[2] << 16), (int32_t)((uint32_t)p[3] << 16)}; }
static inline void vstore16(uint16_t *p, vf v) {
    typedef uint32_t vu __attribute__((vector_size(16)));
    vu x = (vu)v, r = x + 0x7fffu + ((x >> 16) & 1u), nan = (vu)(v != v);
    r = ((r & ~nan) | ((x | 0x400000u) & nan)) >> 16;
    for (int i = 0; i < VW; i++) p[i] = (uint16_t)r[i];
}

static inline vf vpower(vf z) { return (vf)((vi)z << 23); }
static inline void vtranspose(vf x[VW]) {
    for (int i = 0; i < VW; i++)
        for (int j = 0; j < i; j++) {
            float t = x[i][j];
            x[i][j] = x[j][i];
            x[j][i] = t;
        }
}

static inline vf vswap(vf v) { return (vf){v[1], v[0], v[3], v[2]}; }
static inline vf vneg_even(vf v) { return (vf)((vi)v ^ (vi){INT32_MIN, 0, INT32_MIN, 0}); }

static inline float vsum(vf v) { return (v[0] + v[2]) + (v[1] + v[3]); }
static inline float vtop(vf v) {
    float a = v[0] > v[2] ? v[0] : v[2], b = v[1] > v[3] ? v[1] : v[3];
    return a > b ? a : b;
}
#endif
