/* Devices and queues: names, refusals and their messages, instruction set limits, scratch, buffers, allocation failures. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>
#include "compute/ops.h"

static int fail_in; /* the fail_in-th fault point from now on fails; 0: none; -1: all do */

int fault_point(const char *name) { return fail_in < 0 || (fail_in > 0 && --fail_in == 0) ? 12 : 0; }

static void test_open(void **state) {
    static const char *const NAMES[] = {"ref", "cpu"};
    for (int i = 0; i < 2; i++) {
        dev *d = NULL;
        queue *q = NULL;
        jepa_err err = {0};
        assert_int_equal(dev_open(&d, NAMES[i], 2, &err), 0);
        assert_string_equal(dev_name(d), NAMES[i]);
        assert_int_equal(strncmp(dev_describe(d), NAMES[i], strlen(NAMES[i])), 0);
        assert_int_equal(dev_threads(d), i == 0 ? 1 : 2); /* ref is single-threaded whatever is asked */
        /* every slot of the table is filled */
        void *slot[sizeof(ops) / sizeof(void *)];
        memcpy(slot, dev_ops(d), sizeof slot);
        for (size_t s = 0; s < sizeof slot / sizeof *slot; s++) assert_non_null(slot[s]);
        assert_int_equal(queue_open(&q, d, &err), 0);
        assert_ptr_equal(queue_dev(q), d);
        assert_int_equal(queue_wait(q, &err), 0);
        queue_close(&q);
        assert_null(q);
        queue_close(&q);
        dev_close(&d);
        assert_null(d);
        dev_close(&d);
    }
    dev_close(NULL);
    queue_close(NULL);
    dev *d = NULL;
    assert_int_equal(dev_open(&d, "cpu", 0, NULL), 0);
    assert_int_equal(dev_threads(d), pool_cores());
    dev_close(&d);
}

static void test_refused(void **state) {
    static const struct {
        const char *name;
        int threads, code;
        const char *says;
    } CASES[] = {
        {"cuda", 0, JEPA_E_DEVICE, "CUDA"},    {"cuda:1", 0, JEPA_E_DEVICE, "CUDA"}, {"cudart", 0, JEPA_E_DEVICE, "cudart"},
        {"", 0, JEPA_E_DEVICE, "cpu, ref"},    {"CPU", 0, JEPA_E_DEVICE, "CPU"},     {"cpu ", 0, JEPA_E_DEVICE, "cpu, ref"},
        {"tpu", 0, JEPA_E_DEVICE, "tpu"},      {NULL, 0, JEPA_E_USE, "cpu, ref"},    {"cpu", -1, JEPA_E_USE, "-1 threads"},
        {"cpu", 100000, JEPA_E_USE, "100000"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        dev *d = (dev *)&fail_in; /* anything: it is to become NULL */
        jepa_err err = {0};
        assert_int_equal(dev_open(&d, CASES[i].name, CASES[i].threads, &err), CASES[i].code);
        assert_null(d);
        assert_int_equal(err.code, CASES[i].code);
        assert_non_null(strstr(err.text, CASES[i].says));
        assert_null(strchr(err.text, '\n'));
        assert_int_equal(dev_open(&d, CASES[i].name, CASES[i].threads, NULL), CASES[i].code);
    }
    queue *q = NULL;
    assert_int_equal(queue_open(&q, NULL, NULL), JEPA_E_USE);
    assert_int_equal(queue_wait(NULL, NULL), JEPA_E_USE);
}

static void test_isa(void **state) {
    dev *d = NULL;
    jepa_err err = {0};
    assert_int_equal(dev_open(&d, "cpu", 1, &err), 0);
    assert_int_equal(dev_limit_isa(d, "portable", &err), 0);
    assert_non_null(strstr(dev_describe(d), "portable"));
    static const char *const ISA[] = {"avx2", "avx512", "avx512_bf16"};
    for (size_t i = 0; i < sizeof ISA / sizeof *ISA; i++) {
        int rc = dev_limit_isa(d, ISA[i], &err);
        assert_true(rc == 0 || rc == JEPA_E_UNSUPPORTED);
        if (rc == 0) assert_non_null(strstr(dev_describe(d), ISA[i]));
        if (rc < 0) assert_non_null(strstr(err.text, ISA[i]));
        void *slot[sizeof(ops) / sizeof(void *)];
        memcpy(slot, dev_ops(d), sizeof slot);
        for (size_t s = 0; s < sizeof slot / sizeof *slot; s++) assert_non_null(slot[s]);
    }
    assert_int_equal(dev_limit_isa(d, "sse9", &err), JEPA_E_USE);
    assert_non_null(strstr(err.text, "sse9"));
    assert_int_equal(dev_limit_isa(d, NULL, &err), JEPA_E_USE);
    assert_int_equal(dev_limit_isa(NULL, "avx2", &err), JEPA_E_USE);
    dev_close(&d);
    assert_int_equal(dev_open(&d, "ref", 1, &err), 0);
    assert_int_equal(dev_limit_isa(d, "portable", &err), 0);
    assert_int_equal(dev_limit_isa(d, "avx2", &err), JEPA_E_UNSUPPORTED);
    dev_close(&d);
}

static void test_scratch(void **state) {
    dev *d = NULL;
    queue *q = NULL;
    assert_int_equal(dev_open(&d, "ref", 1, NULL), 0);
    assert_int_equal(queue_open(&q, d, NULL), 0);
    unsigned char *a = queue_scratch(q, 1000);
    assert_non_null(a);
    assert_int_equal((uintptr_t)a % 64, 0);
    memset(a, 1, 1000);
    assert_ptr_equal(queue_scratch(q, 10), a); /* never shrinks */
    unsigned char *b = queue_scratch(q, 100000);
    assert_non_null(b);
    memset(b, 2, 100000);
    assert_non_null(queue_scratch(q, 0));
    assert_null(queue_scratch(q, SIZE_MAX));
    assert_null(queue_scratch(q, SIZE_MAX / 2));
    a = queue_scratch(q, 64); /* still usable after a refusal */
    assert_non_null(a);
    memset(a, 3, 64);
    queue_close(&q);
    dev_close(&d);
}

static void test_buffers(void **state) {
    dev *d = NULL;
    queue *q = NULL;
    buf b = {0};
    jepa_err err = {0};
    assert_int_equal(dev_open(&d, "cpu", 1, NULL), 0);
    assert_int_equal(queue_open(&q, d, NULL), 0);
    assert_int_equal(buf_new(&b, d, 40, &err), 0);
    assert_int_equal((uintptr_t)b.p % 64, 0);
    assert_int_equal(b.bytes, 40);
    assert_ptr_equal(b.d, d);
    float in[10], out[10];
    for (int i = 0; i < 10; i++) {
        assert_true(((float *)b.p)[i] == 0);
        in[i] = (float)i;
    }
    assert_int_equal(buf_put(q, b.p, in, sizeof in, &err), 0);
    assert_int_equal(buf_get(q, out, b.p, sizeof out, &err), 0);
    assert_memory_equal(in, out, sizeof in);
    assert_int_equal(buf_put(q, NULL, in, 4, &err), JEPA_E_USE);
    assert_int_equal(buf_get(q, NULL, b.p, 4, &err), JEPA_E_USE);
    assert_int_equal(buf_get(NULL, out, b.p, 4, &err), JEPA_E_USE);
    assert_int_equal(buf_put(q, NULL, NULL, 0, &err), 0);
    buf_free(&b);
    assert_null(b.p);
    buf_free(&b);
    buf_free(NULL);
    assert_int_equal(buf_new(&b, d, 0, &err), 0);
    buf_free(&b);
    assert_int_equal(buf_new(&b, d, SIZE_MAX - 3, &err), JEPA_E_MEMORY);
    assert_null(b.p);
    assert_int_equal(buf_new(&b, NULL, 8, &err), JEPA_E_USE);
    queue_close(&q);
    dev_close(&d);
}

static void test_no_memory(void **state) {
    dev *d = NULL;
    queue *q = NULL;
    buf b = {0};
    jepa_err err = {0};
    fail_in = 1;
    assert_int_equal(dev_open(&d, "cpu", 1, &err), JEPA_E_MEMORY);
    assert_null(d);
    assert_int_equal(dev_open(&d, "ref", 1, &err), 0);
    fail_in = 1;
    assert_int_equal(queue_open(&q, d, &err), JEPA_E_MEMORY);
    assert_null(q);
    assert_int_equal(queue_open(&q, d, &err), 0);
    fail_in = 1;
    assert_int_equal(buf_new(&b, d, 8, &err), JEPA_E_MEMORY);
    assert_null(b.p);
    /* scratch first asks for more than it needs, then for just that */
    fail_in = 1;
    assert_non_null(queue_scratch(q, 500));
    /* operations that get no scratch leave their outputs alone */
    queue_close(&q);
    assert_int_equal(queue_open(&q, d, &err), 0);
    float x[4] = {1, 2, 3, 4}, w[4] = {1, 0, 0, 1}, y[4] = {5, 6, 7, 8}, y2[2] = {9, 9}, was[4] = {5, 6, 7, 8}, one[2] = {1, 1};
    const ops *o = dev_ops(d);
    op_rows sum = {.batch = 1, .n_src = 2, .count = 2, .d = 2, .src = x, .dst = y};
    op_linear_bwd lin = {.rows = 2, .in = 2, .out = 2, .dy = x, .x = x, .w = w, .dx = y, .dw = y, .db = y2};
    op_layernorm_bwd norm = {.rows = 2, .d = 2, .dy = x, .x = x, .mean = one, .rstd = one, .dx = y};
    op_attention att = {.batch = 1, .heads = 1, .nq = 2, .nk = 2, .head_dim = 2, .q = x, .k = x, .v = x, .o = y};
    op_attention_bwd back = {.batch = 1,
                             .heads = 1,
                             .nq = 2,
                             .nk = 2,
                             .head_dim = 2,
                             .q = x,
                             .k = x,
                             .v = x,
                             .o = x,
                             .dout = x,
                             .lse = one,
                             .dq = y,
                             .dk = y,
                             .dv = y};
    fail_in = -1;
    assert_int_equal(o->sum_rows(q, &sum), JEPA_E_MEMORY);
    assert_int_equal(o->linear_bwd(q, &lin), JEPA_E_MEMORY);
    assert_int_equal(o->layernorm_bwd(q, &norm), JEPA_E_MEMORY);
    assert_int_equal(o->attention(q, &att), JEPA_E_MEMORY);
    assert_int_equal(o->attention_bwd(q, &back), JEPA_E_MEMORY);
    fail_in = 0;
    assert_memory_equal(y, was, sizeof y);
    assert_true(y2[0] == 9 && y2[1] == 9);
    assert_int_equal(o->sum_rows(q, &sum), 0); /* and work once there is memory */
    assert_true(y[0] == 5 + 4 && y[1] == 6 + 6);
    queue_close(&q);
    dev_close(&d);
}

static void test_types(void **state) {
    static const struct {
        dtype t;
        size_t size;
        const char *name;
    } T[] = {
        {T_NONE, 0, "none"}, {T_F32, 4, "f32"}, {T_BF16, 2, "bf16"}, {T_F16, 2, "f16"}, {T_F64, 8, "f64"},   {T_I64, 8, "i64"},
        {T_I32, 4, "i32"},   {T_I16, 2, "i16"}, {T_I8, 1, "i8"},     {T_U8, 1, "u8"},   {T_BOOL, 1, "bool"},
    };
    for (size_t i = 0; i < sizeof T / sizeof *T; i++) {
        assert_int_equal(dtype_size(T[i].t), T[i].size);
        assert_string_equal(dtype_name(T[i].t), T[i].name);
    }
    assert_int_equal(dtype_size((dtype)99), 0);
    assert_int_equal(dtype_size((dtype)-1), 0);
    assert_non_null(dtype_name((dtype)99));
    tensor t = {.type = T_F32, .rank = 3, .dim = {2, 3, 4}};
    assert_int_equal(tensor_count(&t), 24);
    t.rank = 0;
    assert_int_equal(tensor_count(&t), 1);
    t.rank = 2, t.dim[1] = 0;
    assert_int_equal(tensor_count(&t), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_open),    cmocka_unit_test(test_refused), cmocka_unit_test(test_isa),
                                       cmocka_unit_test(test_scratch), cmocka_unit_test(test_buffers), cmocka_unit_test(test_no_memory),
                                       cmocka_unit_test(test_types)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
