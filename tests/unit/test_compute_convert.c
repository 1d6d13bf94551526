/* Conversions: every bf16 and f16 value, rounding to nearest even, other types, unaligned sources. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "compute/compute.h"

static float of_bits(uint32_t b) {
    float f;
    memcpy(&f, &b, sizeof f);
    return f;
}

static uint32_t bits(float f) {
    uint32_t b;
    memcpy(&b, &f, sizeof b);
    return b;
}

static void test_round_trip(void **state) {
    for (uint32_t v = 0; v < 65536; v++) { /* NaN payloads included */
        assert_int_equal(f32_to_bf16(bf16_to_f32((uint16_t)v)), v);
        assert_int_equal(f32_to_f16(f16_to_f32((uint16_t)v)), v);
    }
}

/* What a half is, from its definition alone. */
static double half_value(uint32_t v) {
    int exp = v >> 10 & 31, man = v & 0x3ff;
    double m = exp == 31 ? (man ? NAN : INFINITY) : exp ? ldexp(1024 + man, exp - 25) : ldexp(man, -24);
    return v & 0x8000 ? -m : m;
}

static void test_half_values(void **state) {
    for (uint32_t v = 0; v < 65536; v++) {
        double want = half_value(v);
        float have = f16_to_f32((uint16_t)v);
        if (isnan(want))
            assert_true(isnan(have));
        else
            assert_true(have == want && !signbit(have) == !signbit(want));
        assert_int_equal(bits(bf16_to_f32((uint16_t)v)), v << 16);
    }
}

/* Between each pair of neighbours: below the middle down, above it up, at the middle to the even one. */
static void test_rounding(void **state) {
    for (uint32_t v = 0; v < 0x7c00; v++) {
        double low = half_value(v), high = v == 0x7bff ? 65536 : half_value(v + 1), middle = (low + high) / 2;
        float m = (float)middle; /* exact: one bit more than a half has */
        assert_true(m == middle);
        assert_int_equal(f32_to_f16(m), v & 1 ? v + 1 : v);
        assert_int_equal(f32_to_f16(nextafterf(m, 0)), v);
        assert_int_equal(f32_to_f16(nextafterf(m, INFINITY)), v + 1); /* 0x7c00, infinity, after the last */
        assert_int_equal(f32_to_f16(-m), (v & 1 ? v + 1 : v) | 0x8000);
    }
    for (uint32_t v = 0; v < 0x7f80; v++) {
        uint32_t middle = v << 16 | 0x8000;
        assert_int_equal(f32_to_bf16(of_bits(middle)), v & 1 ? v + 1 : v);
        assert_int_equal(f32_to_bf16(of_bits(middle - 1)), v);
        assert_int_equal(f32_to_bf16(of_bits(middle + 1)), v + 1);
        assert_int_equal(f32_to_bf16(of_bits(middle | 0x80000000u)), (v & 1 ? v + 1 : v) | 0x8000);
    }
    assert_int_equal(f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(f32_to_f16(-1e30f), 0xfc00);
    assert_int_equal(f32_to_f16(1e-30f), 0);
    assert_int_equal(f32_to_f16(-1e-30f), 0x8000);
    /* NaNs whose payload lies below what is kept stay NaN */
    assert_true(isnan(bf16_to_f32(f32_to_bf16(of_bits(0x7f800001)))));
    assert_true(isnan(f16_to_f32(f32_to_f16(of_bits(0xff800001)))));
}

static void test_types(void **state) {
    float out[4];
    unsigned char raw[40];
    const struct {
        dtype t;
        const void *in;
        size_t bytes;
        float want[3];
    } CASES[] = {
        {T_F32, (float[]){1.5f, -2, 3e38f}, 12, {1.5f, -2, 3e38f}},
        {T_F64, (double[]){1.0 / 3, -1e300, 1e-300}, 24, {1.0f / 3, -INFINITY, 0}},
        {T_BF16, (uint16_t[]){0x3f80, 0xc000, 0x7f80}, 6, {1, -2, INFINITY}},
        {T_F16, (uint16_t[]){0x3c00, 0xc000, 0x0001}, 6, {1, -2, 0x1p-24f}},
        {T_I64, (int64_t[]){1, -(1LL << 40), INT64_MAX}, 24, {1, -0x1p40f, 0x1p63f}},
        {T_I32, (int32_t[]){1, -7, INT32_MIN}, 12, {1, -7, -0x1p31f}},
        {T_I16, (int16_t[]){1, -7, -32768}, 6, {1, -7, -32768}},
        {T_I8, (int8_t[]){1, -7, -128}, 3, {1, -7, -128}},
        {T_U8, (uint8_t[]){1, 200, 255}, 3, {1, 200, 255}},
        {T_BOOL, (uint8_t[]){0, 1, 255}, 3, {0, 1, 1}},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        for (size_t shift = 0; shift < 2; shift++) { /* unaligned too */
            memcpy(raw + shift, CASES[i].in, CASES[i].bytes);
            out[3] = 42;
            assert_int_equal(convert_to_f32(out, raw + shift, CASES[i].t, 3), 0);
            for (int k = 0; k < 3; k++) assert_true(out[k] == CASES[i].want[k]);
            assert_true(out[3] == 42);
        }
    assert_int_equal(convert_to_f32(out, raw, T_NONE, 3), JEPA_E_UNSUPPORTED);
    assert_int_equal(convert_to_f32(out, raw, (dtype)77, 3), JEPA_E_UNSUPPORTED);
    assert_int_equal(convert_to_f32(NULL, NULL, T_F32, 0), 0);
    assert_int_equal(convert_to_f32(out, NULL, T_F32, 1), JEPA_E_USE);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_half_values),
                                       cmocka_unit_test(test_rounding), cmocka_unit_test(test_types)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
