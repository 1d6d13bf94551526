/* test_checkpoint_safetensors.c: one safetensors file: what is read, what is refused by which words, what is written; SHA-256. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/sha256.h"

static int fail_at, points; /* which fault point fails (1 = the first; 0: none), and how many were passed */
int fault_point(const char *name) { return ++points == fail_at && strcmp(name, "file.open") ? ENOSPC : 0; }

static char dir[64], path[128];

static int setup(void **state) {
    snprintf(dir, sizeof dir, "/tmp/jepa-st-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/x.safetensors", dir);
    return 0;
}

static int teardown(void **state) {
    unlink(path);
    return rmdir(dir); /* fails when anything was left beside it */
}

static void put(const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

/* header and data bytes (their number; they count up) as a file; length < 0: the true one */
static void put_st(const char *header, size_t data, int64_t length) {
    size_t n = strlen(header);
    unsigned char *b = calloc(1, 8 + n + data);
    uint64_t said = length < 0 ? n : (uint64_t)length;
    for (int i = 0; i < 8; i++) b[i] = (unsigned char)(said >> (8 * i));
    memcpy(b + 8, header, n);
    for (size_t i = 0; i < data; i++) b[8 + n + i] = (unsigned char)i;
    put(b, 8 + n + data);
    free(b);
}

static void refused(const char *header, size_t data, int64_t length, const char *words) {
    jepa_err e = {0};
    st_file *f = (st_file *)8;
    put_st(header, data, length);
    int rc = st_open(&f, path, &e);
    if (rc != JEPA_E_MODEL || f || !strstr(e.text, words) || strcmp(e.file, path) || !strstr(e.text, path))
        fail_msg("%.300s: %d, \"%s\", wanted \"%s\"", header, rc, e.text, words);
}

static void hostile_headers_are_refused(void **state) {
#define T(dtype, shape, from, to) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]}"
    refused("{\"a\":" T("F32", "[2]", "0", "8") "}", 8, 1000, "cut short");
    refused("{\"a\":" T("F32", "[2]", "0", "8") "}", 8, 100000001, "at most 100 MB");
    refused("{\"a\":" T("F32", "[2]", "0", "8") "}", 8, INT64_MAX, "at most 100 MB");
    refused("{\"a\":" T("F32", "[2]", "0", "8") "}", 7, -1, "cut short");
    refused("{\"a\":" T("F32", "[2]", "0", "8") "}", 9, -1, "1 bytes follow the last tensor");
    refused("{\"a\":" T("F32", "[2]", "0", "8") ",\"b\":" T("F32", "[2]", "4", "12") "}", 12, -1, "overlap");
    refused("{\"a\":" T("F32", "[2]", "0", "8") ",\"b\":" T("F32", "[2]", "0", "8") "}", 8, -1, "overlap");
    refused("{\"a\":" T("F32", "[2]", "0", "8") ",\"b\":" T("F32", "[2]", "12", "20") "}", 20, -1, "a hole before");
    refused("{\"a\":" T("F32", "[2]", "4", "12") "}", 12, -1, "a hole before");
    refused("{\"a\":" T("F32", "[2]", "8", "0") "}", 8, -1, "in order");
    refused("{\"a\":" T("F32", "[2]", "-8", "0") "}", 8, -1, "in order");
    refused("{\"a\":" T("F32", "[2]", "0.5", "8.5") "}", 9, -1, "in order");
    refused("{\"a\":" T("F32", "[3]", "0", "8") "}", 8, -1, "needs 12 bytes");
    refused("{\"a\":" T("F32", "[]", "0", "8") "}", 8, -1, "needs 4 bytes");
    refused("{\"a\":" T("F32", "[-2]", "0", "8") "}", 8, -1, "whole number");
    refused("{\"a\":" T("F32", "[2.5]", "0", "8") "}", 8, -1, "whole number");
    refused("{\"a\":" T("F32", "[\"2\"]", "0", "8") "}", 8, -1, "whole number");
    refused("{\"a\":" T("F32", "[4611686018427387906]", "0", "8") "}", 8, -1, "whole number"); /* times 4 wraps to 8 */
    refused("{\"a\":" T("F32", "[4294967296,4294967296]", "0", "0") "}", 0, -1, "overflows");
    refused("{\"a\":" T("F32", "[3037000500,3037000500,2]", "0", "8") "}", 8, -1, "overflows");
    refused("{\"a\":" T("F32", "[2]", "0", "9007199254740993") "}", 8, -1, "in order");
    refused("{\"a\":" T("F32", "[2]", "9223372036854775800", "9223372036854775808") "}", 8, -1, "in order");
    refused("{\"a\":" T("U8", "[1,1,1,1,1,1,1,1,1]", "0", "1") "}", 1, -1, "more than 8 dimensions");
    refused("{\"a\":" T("F8_E4M3", "[8]", "0", "8") "}", 8, -1, "\"F8_E4M3\" is not one");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, -1, "lacks one of");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,16]}}", 8, -1, "lacks one of");
    refused("{\"a\":{\"dtype\":32,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, -1, "lacks one of");
    refused("{\"a\":[]}", 0, -1, "not an object");
    refused("{\"\":" T("F32", "[2]", "0", "8") "}", 8, -1, "name is empty");
    refused("{\"a\":" T("F32", "[1]", "0", "4") ",\"a\":" T("F32", "[1]", "4", "8") "}", 8, -1, "stands twice");
    refused("{\"__metadata__\":{\"k\":1},\"a\":" T("F32", "[2]", "0", "8") "}", 8, -1, "not text");
    refused("{\"__metadata__\":[],\"a\":" T("F32", "[2]", "0", "8") "}", 8, -1, "not text");
    refused("{\"a\":" T("F32", "[2]", "0", "8") "} x", 8, -1, "not valid JSON");
    refused("[1]", 8, -1, "does not begin with '{'");
    refused(" {}", 0, -1, "does not begin with '{'");
    char deep[400], name[700];
    memset(deep, 0, sizeof deep);
    strcpy(deep, "{\"a\":");
    memset(deep + 5, '[', 200);
    refused(deep, 8, -1, "64 levels");
    memset(name, 'n', 600);
    memcpy(name, "{\"", 2);
    strcpy(name + 600, "\":" T("F32", "[2]", "0", "8") "}");
    refused(name, 8, -1, "longer than 512");

    jepa_err e = {0};
    st_file *f;
#define B(text) text, sizeof text - 1
    static const struct {
        const char *bytes;
        size_t n;
        const char *words;
    } other[] = {
        {B("PK\x03\x04 and more bytes of a zip"), "PyTorch checkpoint"},
        {B("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9 \x6a\xa8\x50"), "old format"},
        {B("version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"},
        {B("{\"weight_map\": {}}"), "JSON text"},
        {B(""), "0 bytes"},
        {B("1234567"), "7 bytes"},
        {B("\0\0\0\0\0\0\0\0"), "does not begin"},
    };
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        put(other[i].bytes, other[i].n);
        assert_int_equal(st_open(&f, path, &e), JEPA_E_MODEL);
        if (!strstr(e.text, other[i].words)) fail_msg("%s, wanted %s", e.text, other[i].words);
    }
    assert_int_equal(st_open(&f, dir, &e), JEPA_E_IO);
    assert_int_equal(st_open(&f, "/nonexistent", &e), JEPA_E_IO);
    st_close(&f);
    st_close(NULL);
}

static void good_files_are_read(void **state) {
    jepa_err e = {0};
    st_file *f;
    /* listed out of order, empty tensors at the start, within and at the end, a scalar, odd alignment, padding, metadata */
    put_st("{\"c\":" T("I16", "[2,1]", "5", "9") ",\"__metadata__\":{\"format\":\"pt\",\"x\":\"ü\"},\"a\":" T(
               "F32", "[]", "0", "4") ",\"b\":" T("U8", "[1]", "4", "5") ",\"e0\":" T("F32", "[0]", "0",
                                                                                      "0") ",\"e1\":" T("F64", "[3,0,99999999999]", "4",
                                                                                                        "4") ",\"e2\":" T("BOOL", "[0]",
                                                                                                                          "9", "9") "}   ",
           9, -1);
    if (st_open(&f, path, &e)) fail_msg("%s", e.text);
    assert_int_equal(st_count(f), 6);
    const char *order[] = {"e0", "a", "e1", "b", "c", "e2"};
    for (int i = 0; i < 6; i++) {
        assert_string_equal(st_at(f, i)->name, order[i]);
        assert_ptr_equal(st_find(f, order[i]), st_at(f, i));
    }
    assert_null(st_at(f, 6));
    assert_null(st_at(f, -1));
    assert_null(st_find(f, "d"));
    assert_null(st_find(f, "__metadata__"));
    const st_tensor *c = st_find(f, "c");
    assert_int_equal(c->t.type, T_I16);
    assert_int_equal(c->t.rank, 2);
    assert_int_equal(c->t.dim[0], 2);
    assert_int_equal(((const unsigned char *)c->t.data)[3], 8);
    assert_string_equal(st_meta(f, "x"), "ü");
    assert_null(st_meta(f, "y"));
    st_close(&f);
    assert_null(f);
    put_st("{}", 0, -1);
    assert_int_equal(st_open(&f, path, &e), 0);
    assert_int_equal(st_count(f), 0);
    st_close(&f);
    char h[200] = "{\"a\":" T("F32", "[2]", "0", "8") "}"; /* lengths that look like another format's first bytes */
    static const size_t lengths[] = {0x7b, 0x80};
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(h);
        memset(h + n, ' ', lengths[i] - n);
        h[lengths[i]] = 0;
        put_st(h, 8, -1);
        assert_int_equal(st_open(&f, path, &e), 0);
        st_close(&f);
    }
}

static void a_golden_file_is_read(void **state) {
    jepa_err e = {0};
    st_file *f;
    if (st_open(&f, TEST_DATA "/vectors/vjepa2-hf-tiny/model/model.safetensors", &e)) fail_msg("%s", e.text);
    assert_int_equal(st_count(f), 75);
    const st_tensor *t = st_find(f, "encoder.embeddings.patch_embeddings.proj.weight");
    assert_int_equal(t->t.rank, 5);
    assert_int_equal(tensor_count(&t->t), 56 * 3 * 2 * 16 * 16);
    assert_int_equal(t->offset, 8 + 7320 + 224);
    assert_string_equal(st_meta(f, "format"), "pt");
    st_close(&f);
}

static void written_files_read_back(void **state) {
    jepa_err e = {0};
    st_file *f;
    enum { N = 100000 };
    float *x = malloc(N * sizeof *x);
    for (int i = 0; i < N; i++) x[i] = (float)sin(i * 0.37) * (float)(i % 97);
    int64_t ids[3] = {-1, 0, INT64_MAX};
    uint8_t bytes[5] = {1, 2, 3, 4, 5};
    st_out o[] = {
        {"u8", {T_U8, 1, {5}, bytes}, T_NONE},      {"f32", {T_F32, 2, {100, 1000}, x}, T_NONE},
        {"bf16", {T_F32, 1, {N}, x}, T_BF16},       {"f16", {T_F32, 2, {10, 10000}, x}, T_F16},
        {"f64", {T_F32, 1, {N}, x}, T_F64},         {"ids \"quoted\"\n", {T_I64, 1, {3}, ids}, T_I64},
        {"none", {T_F32, 2, {0, 4}, NULL}, T_NONE},
    };
    const char *meta[] = {"format", "pt", "note", "a \"b\"", NULL};
    if (st_write(path, o, 7, meta, &e) || st_open(&f, path, &e)) fail_msg("%s", e.text);
    static const char *order[] = {"f64", "ids \"quoted\"\n", "f32", "none", "bf16", "f16", "u8"};
    for (int i = 0; i < 7; i++) {
        assert_string_equal(st_at(f, i)->name, order[i]);
        assert_int_equal(st_at(f, i)->offset % (int64_t)dtype_size(st_at(f, i)->t.type), 0);
    }
    assert_string_equal(st_meta(f, "note"), "a \"b\"");
    assert_memory_equal(st_find(f, "f32")->t.data, x, N * sizeof *x);
    assert_memory_equal(st_find(f, "ids \"quoted\"\n")->t.data, ids, sizeof ids);
    assert_memory_equal(st_find(f, "u8")->t.data, bytes, sizeof bytes);
    const uint16_t *b = st_find(f, "bf16")->t.data, *h = st_find(f, "f16")->t.data;
    const double *d = st_find(f, "f64")->t.data;
    for (int i = 0; i < N; i++)
        if (b[i] != f32_to_bf16(x[i]) || h[i] != f32_to_f16(x[i]) || d[i] != (double)x[i]) fail_msg("value %d", i);
    st_close(&f);

    st_out twice[] = {{"a", {T_U8, 1, {5}, bytes}, T_NONE}, {"a", {T_I64, 1, {3}, ids}, T_NONE}};
    assert_int_equal(st_write(path, twice, 2, NULL, &e), JEPA_E_USE);
    st_out bad = {"a", {T_I64, 1, {3}, ids}, T_F32};
    assert_int_equal(st_write(path, &bad, 1, NULL, &e), JEPA_E_USE);
    st_out wide = {"a", {T_U8, 2, {INT64_MAX, 16}, bytes}, T_NONE};
    assert_int_equal(st_write(path, &wide, 1, NULL, &e), JEPA_E_USE);
    assert_int_equal(st_open(&f, path, &e), 0); /* refusals left the file as it was */
    assert_int_equal(st_count(f), 7);
    st_close(&f);
    assert_int_equal(st_write(path, NULL, 0, NULL, &e), 0);
    assert_int_equal(st_open(&f, path, &e), 0);
    assert_int_equal(st_count(f), 0);
    st_close(&f);
    free(x);
}

static void a_failed_write_leaves_the_old_file(void **state) {
    jepa_err e = {0};
    st_file *f;
    float old[4] = {1, 2, 3, 4}, fresh[4] = {5, 6, 7, 8};
    st_out o = {"a", {T_F32, 1, {4}, old}, T_NONE};
    assert_int_equal(st_write(path, &o, 1, NULL, &e), 0);
    int n = 0;
    for (fail_at = 1;; fail_at++, n++) {
        points = 0;
        o.t.data = fresh;
        int rc = st_write(path, &o, 1, NULL, &e);
        if (!rc && points < fail_at) break;
        int at = fail_at;
        fail_at = 0;
        char aside[160];
        snprintf(aside, sizeof aside, "%s.tmp", path);
        if (!access(aside, F_OK)) fail_msg("point %d: %s is left", at, aside);
        if (st_open(&f, path, &e)) fail_msg("point %d: %s", at, e.text);
        float first;
        memcpy(&first, st_at(f, 0)->t.data, sizeof first);
        if (rc && first != 1 && !strstr(e.text, "synced")) fail_msg("point %d: new data, yet %s", at, e.text);
        st_close(&f);
        o.t.data = old;
        assert_int_equal(st_write(path, &o, 1, NULL, &e), 0);
        fail_at = at;
    }
    fail_at = 0;
    assert_true(n >= 8); /* allocations, open, writes, sync, rename */
    char aside[160];
    snprintf(aside, sizeof aside, "%s.tmp", path);
    assert_int_equal(symlink("elsewhere", aside), 0);
    assert_int_equal(st_write(path, &o, 1, NULL, &e), JEPA_E_IO); /* nothing is written through a link that someone laid there */
    unlink(aside);
    struct rlimit was, small; /* a write that the system itself cuts off half way */
    getrlimit(RLIMIT_FSIZE, &was);
    small = was;
    small.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    float *big = calloc(10000, sizeof *big);
    st_out much = {"big", {T_F32, 1, {10000}, big}, T_NONE};
    int rc = st_write(path, &much, 1, NULL, &e);
    setrlimit(RLIMIT_FSIZE, &was);
    free(big);
    assert_int_equal(rc, JEPA_E_IO);
    assert_non_null(strstr(e.text, "cannot be written"));
    assert_int_equal(access(aside, F_OK), -1);
    assert_int_equal(st_open(&f, path, &e), 0);
    assert_non_null(st_find(f, "a"));
    st_close(&f);
}

static void sha256_is_sha256(void **state) {
    static const struct {
        const char *text, *hex;
    } known[] = {
        /* FIPS 180-4 examples, and the empty text */
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    char hex[65];
    sha256 s;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        for (size_t piece = 1; piece < 70; piece += 11) { /* in pieces of any size */
            size_t n = strlen(known[i].text);
            sha256_open(&s);
            for (size_t at = 0; at < n; at += piece) sha256_add(&s, known[i].text + at, n - at < piece ? n - at : piece);
            sha256_hex(&s, hex);
            assert_string_equal(hex, known[i].hex);
        }
    char *a = malloc(1000000);
    memset(a, 'a', 1000000);
    sha256_open(&s);
    sha256_add(&s, a, 1000000);
    sha256_hex(&s, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(a);
}

int main(void) {
    const struct CMUnitTest t[] = {
        cmocka_unit_test_setup_teardown(hostile_headers_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(good_files_are_read, setup, teardown),
        cmocka_unit_test(a_golden_file_is_read),
        cmocka_unit_test_setup_teardown(written_files_read_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_write_leaves_the_old_file, setup, teardown),
        cmocka_unit_test(sha256_is_sha256),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
