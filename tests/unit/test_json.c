/* test_json.c: what is refused, what is read exactly, what is written. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"

static int parse(json **j, const char *text, jepa_err *e) {
    size_t n = strlen(text);
    char *exact = malloc(n ? n : 1); /* no NUL behind it: an over-read is seen by the address sanitizer */
    memcpy(exact, text, n);
    int rc = json_parse(j, exact, n, "x.json", e);
    free(exact);
    return rc;
}

static void bad_text_is_refused_with_its_byte(void **state) {
    static const struct {
        const char *text;
        int64_t at;
    } bad[] = {
        {"", 0},
        {"   ", 3},
        {"{", 1},
        {"[1,2", 5 - 1},
        {"{\"a\":1,", 7},
        {"[1,]", 3},
        {"{\"a\":1,}", 7},
        {"{,}", -2},
        {"[1 2]", 3},
        {"]", 0},
        {"[}", 1},
        {"{\"a\" 1}", 5},
        {"[1] x", 4},
        {"[1] [2]", 4},
        {"01", 0},
        {"1.", 0},
        {".5", 0},
        {"+1", 0},
        {"-", 0},
        {"1e", 0},
        {"NaN", 0},
        {"Infinity", 0},
        {"[tru]", 1},
        {"\"abc", 4},
        {"\"a\x01\"", 2},
        {"\"\\u0000\"", 1},
        {"\"\xff\"", 1},
        {"\"\xed\xa0\x80\"", 1},
        {"\"\xc0\x80\"", 1},
        {"'a'", 0},
        {"[1]\x01", 3},
        {"\"\\x\"", -2},
        {"\"\\ud800\"", -2},
        {"1e999", -1},
        {"[-1e999]", -1},
        {"{\"a\":1,\"b\":2,\"a\":3}", -1},
        {"{\"a\":1,\"\\u0061\":3}", -1},
        {"[{\"k\":{\"a\":1,\"a\":1}}]", -1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        jepa_err e = {0};
        json *j;
        if (parse(&j, bad[i].text, &e) != JEPA_E_IO) fail_msg("accepted: %s", bad[i].text);
        assert_null(j);
        assert_non_null(strstr(e.text, "x.json"));
        assert_string_equal(e.file, "x.json");
        if (bad[i].at != -2 && /* -2: cJSON found it, and points within a token of it */
            e.offset != bad[i].at)
            fail_msg("%s: byte %ld, not %ld", bad[i].text, (long)e.offset, (long)bad[i].at);
    }
    jepa_err e = {0};
    json *j;
    assert_int_equal(json_parse(&j, "[1]\0", 4, "x.json", &e), JEPA_E_IO); /* a NUL is not white space */
    assert_int_equal(json_parse(&j, "\"a\0b\"", 5, "x.json", &e), JEPA_E_IO);
}

static void good_text_is_read(void **state) {
    static const char *good[] = {"0",
                                 "-0",
                                 "-1.5e-3",
                                 "1E+2",
                                 "null",
                                 "[]",
                                 "{}",
                                 " [ ] ",
                                 "\"\"",
                                 "\"\\ud83d\\ude00 ü\"",
                                 "[[],{},[{}]]",
                                 "\xef\xbb\xbf{\"a\":1}",
                                 "{\"a\":1,\"A\":2}",
                                 "true",
                                 "{\"\":1}",
                                 "\"\\\\u0000\""};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        jepa_err e = {0};
        json *j;
        if (parse(&j, good[i], &e)) fail_msg("%s: %s", good[i], e.text);
        json_close(&j);
        assert_null(j);
    }
    json_close(NULL);
}

static void depth_ends_at_64(void **state) {
    for (int depth = 64; depth <= 65; depth++) {
        char t[200];
        memset(t, '[', (size_t)depth);
        memset(t + depth, ']', (size_t)depth);
        t[2 * depth] = 0;
        json *j;
        assert_int_equal(parse(&j, t, NULL), depth == 64 ? 0 : JEPA_E_IO);
        json_close(&j);
    }
    size_t n = 1 << 20;
    char *many = malloc(n);
    memset(many, '[', n);
    json *j;
    assert_int_equal(json_parse(&j, many, n, "x", NULL), JEPA_E_IO);
    free(many);
    n = 12u << 20; /* 6 million numbers in 12 MiB: the tree would be a hundred times the text */
    many = malloc(n);
    for (size_t i = 0; i < n; i += 2) memcpy(many + i, "1,", 2);
    many[0] = '[';
    many[n - 1] = ']';
    jepa_err e = {0};
    assert_int_equal(json_parse(&j, many, n, "x", &e), JEPA_E_IO);
    assert_non_null(strstr(e.text, "4 million"));
    free(many);
}

static void values_are_found(void **state) {
    json *j;
    assert_int_equal(parse(&j, "{\"a\":{\"b\":[10,{\"c/d\":1,\"e~f\":2,\"\":3}]},\"s\":\"x\",\"t\":true,\"n\":null,\"A\":7}", NULL), 0);
    assert_ptr_equal(json_pointer(j, ""), j);
    assert_true(json_number(json_pointer(j, "/a/b/0"), 0) == 10);
    assert_true(json_number(json_pointer(j, "/a/b/1/c~1d"), 0) == 1);
    assert_true(json_number(json_pointer(j, "/a/b/1/e~0f"), 0) == 2);
    assert_true(json_number(json_pointer(j, "/a/b/1/"), 0) == 3);
    static const char *no[] = {"a", "/a/b/2", "/a/b/00", "/a/b/-", "/a/b/x", "/a/b/0/0", "/b", "/a/", "/aa", "/", "/a/b/99999999999"};
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) assert_null(json_pointer(j, no[i]));
    assert_true(json_number(json_get(j, "A"), 0) == 7); /* case counts */
    assert_null(json_get(j, "S"));
    assert_null(json_get(json_get(j, "s"), "x"));
    assert_string_equal(json_string(json_get(j, "s"), ""), "x");
    assert_string_equal(json_string(json_get(j, "t"), "no"), "no");
    assert_int_equal(json_bool(json_get(j, "t"), 0), 1);
    assert_true(json_is_null(json_get(j, "n")) && !json_is_null(NULL));
    assert_int_equal(json_size(j), 5);
    assert_string_equal(json_key(json_first(j)), "a");
    assert_string_equal(json_key(json_next(json_first(j))), "s");
    json_close(&j);
}

static void integers_are_exact_and_ranged(void **state) {
    json *j;
    jepa_err e = {0};
    assert_int_equal(
        parse(&j,
              "{\"small\":3,\"float\":3.0,\"half\":3.5,\"text\":\"3\",\"skip\":[1,\"9999999999999999\",-2],\"odd\":9007199254740993,"
              "\"max\":9223372036854775807,\"min\":-9223372036854775808,\"over\":9223372036854775808,\"huge\":1e30,\"zeros\":"
              "9007199254740992.0}",
              &e),
        0);
    int64_t v = 0;
    assert_int_equal(json_int(j, "small", 0, 10, &v, &e), 0);
    assert_int_equal(v, 3);
    assert_int_equal(json_int(j, "float", 0, 10, &v, &e), 0);
    assert_int_equal(json_int(j, "half", 0, 10, &v, &e), JEPA_E_MODEL);
    assert_int_equal(json_int(j, "text", 0, 10, &v, &e), JEPA_E_MODEL);
    assert_int_equal(json_int(j, "odd", 0, INT64_MAX, &v, &e), 0);
    assert_true(v == 9007199254740993);
    assert_int_equal(json_int(j, "max", 0, INT64_MAX, &v, &e), 0);
    assert_true(v == INT64_MAX);
    assert_int_equal(json_int(j, "min", INT64_MIN, 0, &v, &e), 0);
    assert_true(v == INT64_MIN);
    assert_int_equal(json_int(j, "over", 0, INT64_MAX, &v, &e), JEPA_E_MODEL);
    assert_int_equal(json_int(j, "huge", 0, INT64_MAX, &v, &e), JEPA_E_MODEL);
    assert_int_equal(json_int(j, "zeros", 0, INT64_MAX, &v, &e), JEPA_E_MODEL);
    assert_int_equal(json_int(j, "small", 4, 10, &v, &e), JEPA_E_MODEL);
    assert_string_equal(e.text, "small is 3; from 4 to 10 is allowed");
    e = (jepa_err){0};
    assert_int_equal(json_int(j, "none", 4, 10, &v, &e), JEPA_E_END);
    assert_int_equal(e.code, 0);
    double d;
    assert_int_equal(json_double(j, "half", 0, 10, &d, &e), 0);
    assert_true(d == 3.5);
    assert_int_equal(json_double(j, "half", 0, 1, &d, &e), JEPA_E_MODEL);
    assert_int_equal(json_double(j, "none", 0, 1, &d, &e), JEPA_E_END);
    json_close(&j);
}

static void a_file_is_named(void **state) {
    jepa_err e = {0};
    json *j;
    assert_int_equal(json_read(&j, "/nonexistent/x.json", &e), JEPA_E_IO);
    assert_string_equal(e.file, "/nonexistent/x.json");
    char path[] = "/tmp/jsonXXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "{\"a\": nope}", 11), 11);
    close(fd);
    assert_int_equal(json_read(&j, path, &e), JEPA_E_IO);
    assert_int_equal(e.offset, 6);
    assert_non_null(strstr(e.text, path));
    unlink(path);
}

static void writing_reads_back(void **state) {
    static const double values[] = {0,       1,       -1,     0.1,     1e-6,          4.0,  48.0 / 11,
                                    DBL_MAX, DBL_MIN, 5e-324, 1.0 / 3, 123456789.123, 1e22, 9007199254740992.0};
    for (int indent = 0; indent <= 2; indent += 2) {
        json_writer w = {.indent = indent};
        jw_open(&w, NULL, '{');
        jw_string(&w, "te\"xt", "a\\b\n\t\x01ü");
        jw_int(&w, "big", INT64_MAX);
        jw_open(&w, "doubles", '[');
        for (size_t i = 0; i < sizeof values / sizeof *values; i++) jw_double(&w, NULL, values[i]);
        jw_double(&w, NULL, NAN);
        jw_close(&w, ']');
        jw_open(&w, "empty", '{');
        jw_close(&w, '}');
        jw_open(&w, "list", '[');
        jw_open(&w, NULL, '{');
        jw_bool(&w, "yes", 1);
        jw_close(&w, '}');
        jw_open(&w, NULL, '[');
        jw_close(&w, ']');
        jw_close(&w, ']');
        jw_null(&w, "nothing");
        jw_close(&w, '}');
        assert_int_equal(w.failed, 0);
        assert_int_equal(w.size, strlen(w.text));
        json *j;
        jepa_err e = {0};
        if (json_parse(&j, w.text, w.size, "written", &e)) fail_msg("%s in %s", e.text, w.text);
        assert_string_equal(json_string(json_get(j, "te\"xt"), ""), "a\\b\n\t\x01ü");
        int64_t big = 0;
        assert_int_equal(json_int(j, "big", 0, INT64_MAX, &big, NULL), 0);
        assert_true(big == INT64_MAX);
        const json *d = json_first(json_get(j, "doubles"));
        for (size_t i = 0; i < sizeof values / sizeof *values; i++, d = json_next(d)) assert_true(json_number(d, -7) == values[i]);
        assert_true(json_is_null(d));
        assert_int_equal(json_size(json_get(j, "list")), 2);
        assert_int_equal(json_bool(json_pointer(j, "/list/0/yes"), 0), 1);
        json_close(&j);
        jw_free(&w);
        assert_null(w.text);
    }
    json_writer w = {.indent = 1};
    jw_open(&w, NULL, '{');
    jw_int(&w, "a", 1);
    jw_open(&w, "b", '[');
    jw_int(&w, NULL, 1);
    jw_int(&w, NULL, 2);
    jw_close(&w, ']');
    jw_double(&w, "c", 4);
    jw_open(&w, "d", '{');
    jw_close(&w, '}');
    jw_close(&w, '}');
    assert_string_equal(w.text, "{\n \"a\": 1,\n \"b\": [1, 2],\n \"c\": 4.0,\n \"d\": {}\n}\n");
    jw_free(&w);
}

int main(void) {
    const struct CMUnitTest t[] = {
        cmocka_unit_test(bad_text_is_refused_with_its_byte),
        cmocka_unit_test(good_text_is_read),
        cmocka_unit_test(depth_ends_at_64),
        cmocka_unit_test(values_are_found),
        cmocka_unit_test(integers_are_exact_and_ranged),
        cmocka_unit_test(a_file_is_named),
        cmocka_unit_test(writing_reads_back),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
