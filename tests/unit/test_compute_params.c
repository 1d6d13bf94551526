/* The parameter list: layout, flags, finding by name, refusals, and every allocation failing in turn. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "compute/compute.h"

static int fail_in; /* the fail_in-th fault point from now on fails; 0: none */

int fault_point(const char *name) { return fail_in > 0 && --fail_in == 0 ? 12 : 0; }

static void test_layout(void **state) {
    dev *d = NULL;
    params p = {0};
    jepa_err err = {0};
    const int64_t w[] = {5, 7}, b[] = {5}, table[] = {1, 1, 9}, cube[] = {2, 3, 2, 4, 4};
    assert_int_equal(dev_open(&d, "ref", 1, &err), 0);
    assert_int_equal(params_add(&p, &err, "encoder.blocks.0.attn.qkv.weight", 2, w), 0);
    assert_int_equal(params_add(&p, &err, "encoder.blocks.0.attn.qkv.bias", 1, b), 1);
    assert_int_equal(params_add(&p, &err, "predictor.mask_tokens.0", 3, table), 2);
    assert_int_equal(params_add(&p, &err, "odd.bias", 2, w), 3);
    assert_int_equal(params_add(&p, &err, "scalar", 0, NULL), 4);
    assert_int_equal(params_add(&p, &err, "patch", 5, cube), 5);
    assert_int_equal(p.n, 6);
    assert_int_equal(p.item[0].count, 35);
    assert_int_equal(p.item[4].count, 1);
    assert_int_equal(p.item[5].count, 192);
    assert_int_equal(p.item[5].dim[4], 4);
    static const int DECAY[] = {1, 0, 1, 0, 0, 1};
    int64_t end = 0;
    for (int i = 0; i < p.n; i++) {
        assert_int_equal(p.item[i].offset % 16, 0);
        assert_true(p.item[i].offset >= end); /* no two overlap */
        end = p.item[i].offset + p.item[i].count;
        assert_int_equal(!(p.item[i].flags & PARAM_NO_DECAY), DECAY[i]);
    }
    assert_int_equal(p.total, 48 + 16 + 16 + 48 + 16 + 192);
    assert_null(param_value(&p, 0)); /* before params_alloc */
    assert_int_equal(params_alloc(&p, d, PARAMS_GRAD | PARAMS_MOMENTS, &err), 0);
    assert_int_equal(p.value.bytes, (size_t)p.total * 4);
    assert_int_equal(p.m.bytes, p.v.bytes);
    for (int i = 0; i < p.n; i++) {
        assert_ptr_equal(param_value(&p, i), (float *)p.value.p + p.item[i].offset);
        assert_ptr_equal(param_grad(&p, i), (float *)p.grad.p + p.item[i].offset);
        assert_int_equal((uintptr_t)param_value(&p, i) % 64, 0);
    }
    for (int64_t i = 0; i < p.total; i++)
        assert_true(((float *)p.value.p)[i] == 0 && ((float *)p.grad.p)[i] == 0 && ((float *)p.m.p)[i] == 0 && ((float *)p.v.p)[i] == 0);
    assert_null(param_value(&p, -1));
    assert_null(param_value(&p, 6));
    assert_null(param_grad(&p, 6));
    assert_int_equal(params_add(&p, &err, "late", 1, b), JEPA_E_USE);
    assert_int_equal(params_alloc(&p, d, 0, &err), JEPA_E_USE);
    params_close(&p);
    assert_int_equal(p.n, 0);
    params_close(&p);
    params_close(NULL);
    /* without gradients */
    assert_int_equal(params_add(&p, &err, "x", 1, b), 0);
    assert_int_equal(params_alloc(&p, d, 0, &err), 0);
    assert_non_null(param_value(&p, 0));
    assert_null(param_grad(&p, 0));
    assert_null(p.m.p);
    params_close(&p);
    dev_close(&d);
}

static void test_find(void **state) {
    params p = {0};
    char name[128];
    const int64_t dim[] = {3};
    enum { N = 3000 };
    assert_int_equal(params_find(&p, "x"), -1);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "encoder.blocks.%d.%s", i / 4,
                 i % 4 == 0   ? "norm1.weight"
                 : i % 4 == 1 ? "norm1.bias"
                 : i % 4 == 2 ? "w"
                              : "");
        assert_int_equal(params_add(&p, NULL, name, 1, dim), i);
    }
    for (int i = 0; i < N; i++) assert_int_equal(params_find(&p, p.item[i].name), i);
    assert_int_equal(params_find(&p, "encoder.blocks.750.w"), -1);
    assert_int_equal(params_find(&p, ""), -1);
    assert_int_equal(params_find(&p, NULL), -1);
    assert_int_equal(params_find(NULL, "x"), -1);
    params_close(&p);
}

static void test_refusals(void **state) {
    params p = {0};
    jepa_err err = {0};
    const int64_t ok[] = {2, 3}, zero[] = {2, 0}, negative[] = {-1, 3}, huge[] = {INT64_MAX, 2}, large[] = {1 << 20, 1 << 20},
                  nine[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    char name[200];
    assert_int_equal(params_add(&p, &err, "a", 2, ok), 0);
    assert_int_equal(params_add(&p, &err, "a", 2, ok), JEPA_E_USE); /* twice */
    assert_non_null(strstr(err.text, "parameter a"));
    assert_int_equal(params_add(&p, &err, "b", 2, zero), JEPA_E_USE);
    assert_int_equal(params_add(&p, &err, "b", 2, negative), JEPA_E_USE);
    assert_int_equal(params_add(&p, &err, "b", 2, huge), JEPA_E_MEMORY);
    assert_int_equal(params_add(&p, &err, "b", 2, large), JEPA_E_MEMORY); /* fits a list alone, not beside another */
    assert_int_equal(params_add(&p, &err, "b", 9, nine), JEPA_E_USE);
    assert_int_equal(params_add(&p, &err, "b", -1, ok), JEPA_E_USE);
    assert_int_equal(params_add(&p, &err, "b", 2, NULL), JEPA_E_USE);
    assert_int_equal(params_add(&p, &err, "", 2, ok), JEPA_E_USE);
    assert_int_equal(params_add(&p, &err, NULL, 2, ok), JEPA_E_USE);
    assert_int_equal(params_add(NULL, &err, "b", 2, ok), JEPA_E_USE);
    memset(name, 'n', sizeof name);
    name[128] = 0;
    assert_int_equal(params_add(&p, &err, name, 2, ok), JEPA_E_USE);
    name[127] = 0;
    assert_int_equal(params_add(&p, &err, name, 2, ok), 1); /* the longest */
    assert_int_equal(params_find(&p, name), 1);
    assert_int_equal(p.n, 2); /* what was refused left nothing behind */
    assert_int_equal(p.total, 32);
    params_close(&p);
}

static void test_no_memory(void **state) {
    dev *d = NULL;
    jepa_err err = {0};
    assert_int_equal(dev_open(&d, "ref", 1, &err), 0);
    int finished = 0, failures = 0;
    for (int n = 1; !finished; n++) {
        params p = {0};
        const int64_t dim[] = {4};
        char name[16];
        int rc = 0;
        fail_in = n;
        for (int i = 0; i < 70 && rc >= 0; i++) {
            snprintf(name, sizeof name, "p%d", i);
            rc = params_add(&p, &err, name, 1, dim);
            if (rc >= 0) assert_int_equal(rc, i);
        }
        if (rc >= 0) rc = params_alloc(&p, d, PARAMS_GRAD | PARAMS_MOMENTS, &err);
        finished = fail_in > 0; /* this time nothing failed */
        fail_in = 0;
        if (finished) {
            assert_int_equal(rc, 0);
        } else {
            assert_int_equal(rc, JEPA_E_MEMORY);
            assert_true(p.value.p == NULL && p.grad.p == NULL && p.m.p == NULL && p.v.p == NULL);
            failures++;
        }
        params_close(&p);
    }
    assert_true(failures >= 8); /* two growths of two blocks, four buffers */
    dev_close(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layout), cmocka_unit_test(test_find), cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
