/* convert.c: element types and their conversion to float32. */
#include <string.h>
#include "compute/compute.h"

static const struct { size_t size; const char *name; } TYPES[] = {
    [T_NONE] = {0, "none"}, [T_F32] = {4, "f32"}, [T_BF16] = {2, "bf16"}, [T_F16] = {2, "f16"}, [T_F64] = {8, "f64"}, [T_I64] = {8, "i64"},
    [T_I32] = {4, "i32"},   [T_I16] = {2, "i16"}, [T_I8] = {1, "i8"},     [T_U8] = {1, "u8"},   [T_BOOL] = {1, "bool"},
};

static int known(dtype t) { return (unsigned)t <= (unsigned)T_BOOL; }

size_t dtype_size(dtype t) { return known(t) ? TYPES[t].size : 0; }
const char *dtype_name(dtype t) { return known(t) ? TYPES[t].name : "unknown"; }

static float float_of(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

float bf16_to_f32(uint16_t v) { return float_of((uint32_t)v << 16); }

uint16_t f32_to_bf16(float v) {
    uint32_t x = bits_of(v);
    if ((x & 0x7fffffffu) > 0x7f800000u) { /* NaN: keep what fits of it, and keep it a NaN */
        uint16_t top = (uint16_t)(x >> 16);
        return top & 0x7f ? top : (uint16_t)(top | 0x40);
    }
    return (uint16_t)((x + 0x7fffu + ((x >> 16) & 1)) >> 16); /* ties to even; the carry may reach infinity, rightly */
}

float f16_to_f32(uint16_t v) {
    uint32_t sign = (uint32_t)(v & 0x8000) << 16, exp = (v >> 10) & 31, man = v & 0x3ff;
    if (exp == 31) /* infinity, NaN */
        return float_of(sign | 0x7f800000u | man << 13);
    if (exp == 0) { /* zero and subnormals: man * 2^-24, exact in float32 */
        float f = (float)man * 0x1p-24f;
        return sign ? -f : f;
    }
    return float_of(sign | (exp + 112) << 23 | man << 13);
}

uint16_t f32_to_f16(float v) {
    uint32_t x = bits_of(v), sign = x >> 16 & 0x8000u, abs = x & 0x7fffffffu;
    if (abs > 0x7f800000u) { /* NaN */
        uint32_t man = abs >> 13 & 0x3ff;
        return (uint16_t)(sign | 0x7c00u | (man ? man : 0x200u));
    }
    if (abs >= 0x477ff000u) /* 65520 and more round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (abs < 0x38800000u) {   /* below 2^-14: a subnormal counts steps of 2^-24 */
        if (abs < 0x33000000u) /* below half a step */
            return (uint16_t)sign;
        uint32_t shift = 126 - (abs >> 23), man = (abs & 0x7fffffu) | 0x800000u;
        uint32_t kept = man >> shift, rest = man & ((1u << shift) - 1), half = 1u << (shift - 1);
        kept += rest > half || (rest == half && (kept & 1));
        return (uint16_t)(sign | kept); /* a carry to 0x400 is the smallest normal number */
    }
    uint32_t kept = (abs - 0x38000000u) >> 13, rest = abs & 0x1fffu;
    kept += rest > 0x1000u || (rest == 0x1000u && (kept & 1));
    return (uint16_t)(sign | kept);
}

/* One loop a type: memcpy reads each element because src may be unaligned. */
#define EACH(ctype, expression)                                                                                                            \
    for (size_t i = 0; i < n; i++) {                                                                                                       \
        ctype e;                                                                                                                           \
        memcpy(&e, s + i * sizeof e, sizeof e);                                                                                            \
        dst[i] = (expression);                                                                                                             \
    }                                                                                                                                      \
    return 0

int convert_to_f32(float *dst, const void *src, dtype t, size_t n) {
    const unsigned char *s = src;
    if (dtype_size(t) == 0) return JEPA_E_UNSUPPORTED;
    if (n == 0) return 0;
    if (!dst || !src) return JEPA_E_USE;
    switch (t) {
    case T_F32: memcpy(dst, src, n * sizeof *dst); return 0;
    case T_BF16: EACH(uint16_t, bf16_to_f32(e));
    case T_F16: EACH(uint16_t, f16_to_f32(e));
    case T_F64: EACH(double, (float)e);
    case T_I64: EACH(int64_t, (float)e);
    case T_I32: EACH(int32_t, (float)e);
    case T_I16: EACH(int16_t, (float)e);
    case T_I8: EACH(int8_t, (float)e);
    case T_U8: EACH(uint8_t, (float)e);
    case T_BOOL: EACH(uint8_t, e ? 1.0f : 0.0f);
    case T_NONE: break;
    }
    return JEPA_E_UNSUPPORTED;
}
