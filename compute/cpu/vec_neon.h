/* vec_neon.h: vec.h's vocabulary in NEON of 64-bit ARM, which every such processor has: 4 floats, 32 registers.
 * NEON's own maximum and minimum hand on a NaN of either side; vec.h wants the second argument then, so these are compared and picked. */
#ifndef JEPA_VEC_NEON_H
#define JEPA_VEC_NEON_H
#include <arm_neon.h>
#include <stdint.h>

typedef float32x4_t vf;
enum { VW = 4, TILE_ROWS = 12 };

static inline vf vset(float x) { return vdupq_n_f32(x); }
static inline vf vload(const float *p) { return vld1q_f32(p); }
static inline void vstore(float *p, vf v) { vst1q_f32(p, v); }
static inline vf vfma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf vmax(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
static inline vf vmin(vf a, vf b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
static inline vf vsqrt(vf a) { return vsqrtq_f32(a); }
static inline vf vabs(vf a) { return vabsq_f32(a); }
static inline vf vround(vf a) { return vrndnq_f32(a); }
static inline vf vscale2(vf a, vf n) {
    int32x4_t e = vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23);
    return vmulq_f32(a, vreinterpretq_f32_s32(e));
}
static inline vf vzero_below(vf v, vf x, vf low) {
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v), vcltq_f32(x, low)));
}
static inline vf vpick_below(vf x, vf low, vf a, vf b) { return vbslq_f32(vcltq_f32(x, low), a, b); }

static inline vf vload_part(const float *p, int64_t n) {
    float t[VW] = {0};
    for (int64_t i = 0; i < n && i < VW; i++) t[i] = p[i];
    return vload(t);
}
static inline void vstore_part(float *p, vf v, int64_t n) {
    float t[VW];
    vstore(t, v);
    for (int64_t i = 0; i < n && i < VW; i++) p[i] = t[i];
}

static inline vf vload16(const uint16_t *p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
static inline void vstore16(uint16_t *p, vf v) {
    uint32x4_t x = vreinterpretq_u32_f32(v), odd = vandq_u32(vshrq_n_u32(x, 16), vdupq_n_u32(1));
    uint32x4_t r = vaddq_u32(vaddq_u32(x, vdupq_n_u32(0x7fff)), odd);
    r = vbslq_u32(vceqq_f32(v, v), r, vorrq_u32(x, vdupq_n_u32(0x400000)));
    vst1_u16(p, vshrn_n_u32(r, 16));
}

static inline vf vpower(vf z) { return vreinterpretq_f32_s32(vshlq_n_s32(vreinterpretq_s32_f32(z), 23)); }
static inline void vtranspose(vf x[VW]) {
    float32x4x2_t a = vtrnq_f32(x[0], x[1]), b = vtrnq_f32(x[2], x[3]);
    x[0] = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
    x[1] = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
    x[2] = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
    x[3] = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}

static inline vf vswap(vf v) { return vrev64q_f32(v); }
static inline vf vneg_even(vf v) {
    return vreinterpretq_f32_u64(veorq_u64(vreinterpretq_u64_f32(v), vdupq_n_u64(0x80000000u))); /* the even lane is the lower half */
}

static inline float vsum(vf v) { return vaddv_f32(vadd_f32(vget_low_f32(v), vget_high_f32(v))); }
static inline float vtop(vf v) {
    float32x2_t a = vget_low_f32(v), b = vget_high_f32(v), m = vbsl_f32(vcgt_f32(a, b), a, b);
    float x = vget_lane_f32(m, 0), y = vget_lane_f32(m, 1);
    return x > y ? x : y;
}
#endif
