/* YAML: trees with lines, limits, what is refused and by which words, scalars, --set, writing that reads back the same. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/yaml.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static yaml *good(const char *text) {
    yaml *y;
    jepa_err err = {0};
    if (yaml_parse(&y, text, strlen(text), "t.yaml", &err)) fail_msg("%s\n%s", err.text, text);
    return y;
}

static void refused(const char *text, size_t n, const char *words) {
    yaml *y = (yaml *)&n; /* must be nulled */
    jepa_err err = {0};
    assert_int_equal(yaml_parse(&y, text, n, "t.yaml", &err), JEPA_E_MODEL);
    assert_null(y);
    if (!strstr(err.text, words)) fail_msg("\"%s\" does not say \"%s\"", err.text, words);
    assert_string_equal(err.file, "t.yaml");
}

static void tree(void **state) {
    yaml *y = good("app: vjepa   # a comment\n\ndata:\n  datasets: [a.txt, \"b c.txt\"]\n  fps: 4\nmask:\n- num_blocks: 8\n- num_blocks:\n "
                   "   2\nfolder: ~\n");
    assert_int_equal(y->kind, YAML_MAP);
    assert_int_equal(y->count, 4);
    assert_string_equal(yaml_get(y, "app")->text, "vjepa");
    assert_int_equal(yaml_get(y, "app")->line, 1);
    assert_int_equal(yaml_get(y, "data")->line, 3);
    const yaml *d = yaml_at(y, "data.datasets");
    assert_int_equal(d->kind, YAML_LIST);
    assert_int_equal(d->line, 4);
    assert_string_equal(d->item[1]->text, "b c.txt");
    assert_int_equal(d->item[1]->quoted, 1);
    assert_int_equal(d->item[0]->quoted, 0);
    assert_string_equal(yaml_at(y, "mask.1.num_blocks")->text, "2");
    assert_int_equal(yaml_at(y, "mask.1.num_blocks")->line, 8); /* the key's line */
    assert_null(yaml_at(y, "mask.2.num_blocks"));
    assert_null(yaml_at(y, "mask.x"));
    assert_null(yaml_at(y, "data.fps.x"));
    assert_null(yaml_get(y, "dat"));
    assert_null(yaml_get(y, "data_aug"));
    assert_int_equal(yaml_is_null(yaml_get(y, "folder")), 1);
    yaml_close(&y);
    assert_null(y);
    yaml_close(&y);
    y = good("# nothing\n");
    assert_true(y->kind == YAML_MAP && y->count == 0);
    yaml_close(&y);
    y = good("---\n");
    assert_true(y->kind == YAML_MAP && y->count == 0);
    yaml_close(&y);
    y = good("");
    yaml_close(&y);
    y = good("\xEF\xBB\xBF"
             "a: \xC3\xBC\r\nb: 2\r\n"); /* byte order mark, Windows line ends */
    assert_string_equal(yaml_get(y, "a")->text, "\xC3\xBC");
    yaml_close(&y);
}

static void refusals(void **state) {
    static const char *const bad[][2] = {
        {"a: &x 1\nb: *x\n", "t.yaml:1: anchors and aliases are not read (x)"},
        {"b: *x\n", "t.yaml:1: anchors"},
        {"a: 1\nm: &y {b: 1}\n", "t.yaml:2: anchors"},
        {"a: 1\nm: &y [1]\n", "t.yaml:2: anchors"},
        {"a: 1\n&k b: 1\n", "t.yaml:2: anchors"},
        {"a: 1\nb: 2\na: 3\n", "t.yaml:3: key \"a\" is here twice (first on line 1)"},
        {"m: {x: 1, y: 2,\n x: 3}\n", "t.yaml:2: key \"x\" is here twice (first on line 1)"},
        {"a:\n\tb: 1\n", "t.yaml:2: a tab"},
        {"a:\n  \tb: 1\n", "t.yaml:2: a tab"},
        {"a: !!int 3\n", "t.yaml:1: tags"},
        {"? [1, 2]\n: 3\n", "t.yaml:1: a key that is itself a map or list"},
        {"a: 1\n---\nb: 2\n", "t.yaml:2: a second document"},
        {"a: \"x\\0y\"\n", "t.yaml:1: a zero byte"},
        {"a: [1, 2\nb: 3\n", "t.yaml:2: not valid YAML"},
        {"a: 1\n b: 2\n", "t.yaml:2: not valid YAML"},
        {"a: \"x\n", "t.yaml:2: not valid YAML"},
        {"a: \xff\xfe\n", "not valid YAML text"},
        {"a: \x01\n", "not valid YAML text"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) refused(bad[i][0], strlen(bad[i][0]), bad[i][1]);
    refused("a: \0b\n", 7, "not valid YAML text");
}

static void limits(void **state) {
    char deep[128] = "", *big = malloc(1100000);
    for (int i = 0; i < 31; i++) strcat(deep, "[");
    strcat(deep, "1");
    for (int i = 0; i < 31; i++) strcat(deep, "]");
    yaml *y = good(deep); /* 31 lists and a value: 32 levels */
    yaml_close(&y);
    memmove(deep + 1, deep, strlen(deep) + 1);
    deep[0] = '[';
    strcat(deep, "]");
    refused(deep, strlen(deep), "32 levels");
    memset(big, '[', 500000);
    refused(big, 500000, "32 levels");
    memset(big, '#', 1 << 20);
    assert_int_equal(yaml_parse(&y, big, 1 << 20, "t", NULL), 0);
    yaml_close(&y);
    memset(big, '#', (1 << 20) + 1);
    refused(big, (1 << 20) + 1, "at most 1048576");
    size_t n = 0;
    for (int i = 0; i < 100001; i++) n += (size_t)sprintf(big + n, "- 1\n");
    refused(big, n, "t.yaml:100000: more than 100,000 values");
    n = 0;
    for (int i = 0; i < 99999; i++) n += (size_t)sprintf(big + n, "k%d: \n", i * 7919 % 99999); /* one wide map: not quadratic */
    assert_int_equal(yaml_parse(&y, big, n, "t", NULL), 0);
    assert_int_equal(y->count, 99999);
    yaml_close(&y);
    free(big);
}

static void scalars(void **state) {
    static const struct {
        const char *text;
        int is_int;
        int64_t i;
        int is_double;
        double d;
        int is_bool, b, null;
    } t[] = {
        {"3", 1, 3, 1, 3, 0, 0, 0},
        {"-12", 1, -12, 1, -12, 0, 0, 0},
        {"+5", 1, 5, 1, 5, 0, 0, 0},
        {"3.0", 1, 3, 1, 3, 0, 0, 0},
        {"1e3", 1, 1000, 1, 1000, 0, 0, 0},
        {"1e-4", 0, 0, 1, 1e-4, 0, 0, 0},
        {"1.e-4", 0, 0, 1, 1e-4, 0, 0, 0},
        {".5", 0, 0, 1, 0.5, 0, 0, 0},
        {"0.000525", 0, 0, 1, 0.000525, 0, 0, 0},
        {"1.5e+2", 1, 150, 1, 150, 0, 0, 0},
        {"0", 1, 0, 1, 0, 0, 0, 0},
        {"9223372036854775807", 1, INT64_MAX, 1, 9223372036854775807.0, 0, 0, 0},
        {"9223372036854775808", 0, 0, 1, 9223372036854775808.0, 0, 0, 0},
        {"1e30", 0, 0, 1, 1e30, 0, 0, 0},
        {"1e999", 0, 0, 0, 0, 0, 0, 0},
        {"nan", 0, 0, 0, 0, 0, 0, 0},
        {".inf", 0, 0, 0, 0, 0, 0, 0},
        {"inf", 0, 0, 0, 0, 0, 0, 0},
        {"0x10", 0, 0, 0, 0, 0, 0, 0},
        {"010", 0, 0, 0, 0, 0, 0, 0},
        {"1_000", 0, 0, 0, 0, 0, 0, 0},
        {"1,5", 0, 0, 0, 0, 0, 0, 0},
        {"12:30", 0, 0, 0, 0, 0, 0, 0},
        {"e5", 0, 0, 0, 0, 0, 0, 0},
        {".", 0, 0, 0, 0, 0, 0, 0},
        {"1e", 0, 0, 0, 0, 0, 0, 0},
        {"3x", 0, 0, 0, 0, 0, 0, 0},
        {"true", 0, 0, 0, 0, 1, 1, 0},
        {"False", 0, 0, 0, 0, 1, 0, 0},
        {"YES", 0, 0, 0, 0, 1, 1, 0},
        {"off", 0, 0, 0, 0, 1, 0, 0},
        {"\"true\"", 0, 0, 0, 0, 0, 0, 0},
        {"'3'", 0, 0, 0, 0, 0, 0, 0},
        {"null", 0, 0, 0, 0, 0, 0, 1},
        {"~", 0, 0, 0, 0, 0, 0, 1},
        {"''", 0, 0, 0, 0, 0, 0, 0},
        {"", 0, 0, 0, 0, 0, 0, 1},
        {"y", 0, 0, 0, 0, 0, 0, 0},
    };
    int comma = setlocale(LC_NUMERIC, "de_DE.UTF-8") != NULL; /* where there is such a locale, the point stays a point */
    for (size_t k = 0; k < sizeof t / sizeof *t; k++) {
        char doc[64];
        int64_t i = -99;
        double d = -99;
        int b = -99;
        snprintf(doc, sizeof doc, "a: %s\n", t[k].text);
        yaml *y = good(doc);
        const yaml *v = yaml_get(y, "a");
        int a1 = yaml_int(v, &i), a2 = yaml_double(v, &d), a3 = yaml_bool(v, &b), a4 = yaml_is_null(v);
        if (a1 != t[k].is_int || a2 != t[k].is_double || a3 != t[k].is_bool || a4 != t[k].null || (a1 && i != t[k].i) ||
            (a2 && d != t[k].d) || (a3 && b != t[k].b))
            fail_msg("%s: int %d %lld, double %d %g, bool %d %d, null %d", t[k].text, a1, (long long)i, a2, d, a3, b, a4);
        yaml_close(&y);
    }
    if (comma) setlocale(LC_NUMERIC, "C");
    int64_t i;
    double d;
    int b;
    yaml *y = good("a: [1]\n");
    assert_int_equal(yaml_int(yaml_get(y, "a"), &i) + yaml_double(yaml_get(y, "a"), &d) + yaml_bool(yaml_get(y, "a"), &b), 0);
    assert_int_equal(yaml_int(NULL, &i) + yaml_double(NULL, &d) + yaml_bool(NULL, &b) + yaml_is_null(NULL), 0);
    yaml_close(&y);
}

static int same(const yaml *a, const yaml *b) {
    if (a->kind != b->kind || a->count != b->count || (a->key == NULL) != (b->key == NULL) || (a->key && strcmp(a->key, b->key))) return 0;
    if (a->kind == YAML_SCALAR && (strcmp(a->text, b->text) || a->quoted != b->quoted)) return 0;
    for (int i = 0; i < a->count; i++)
        if (!same(a->item[i], b->item[i])) return 0;
    return 1;
}

static void writing(void **state) {
    static const char *const docs[] = {
        "a: 1\nb: [x, 'y', \"1\", true, ~, ]\nc: {d: {e: []}, f: {}}\n",
        "a: ''\nb:\nc: '~'\nd: \"a\\nb\\tc\"\ne: |\n  two\n  lines\nf: 'it''s'\n'a b': \"# no comment\"\n? \"k\\nl\"\n: ':'\n\"\": x\n",
        "- - 1\n  - 2\n- {a: \xC3\xBC, b: \"\\u263a\"}\n- '- x'\n- \"%d\"\n- '@a'\n- a#b\n- 'a: b'\n- 'true'\n- ' lead'\n- 'trail '\n",
        "x",
        "'x'",
        "{}",
        "[]",
        "a: 1e-4\n",
        "a: C:\\dir\nb: '::'\nc: a::3\n",
    };
    for (size_t i = 0; i < sizeof docs / sizeof *docs; i++) {
        yaml *y, *z;
        char *text;
        size_t n;
        jepa_err err = {0};
        y = good(docs[i]);
        assert_int_equal(yaml_write(y, &text, &n, &err), 0);
        assert_int_equal(strlen(text), n);
        if (yaml_parse(&z, text, n, "back", &err)) fail_msg("%s\n%s", err.text, text);
        if (!same(y, z)) fail_msg("not the same:\n%s", text);
        mem_free(text);
        yaml_close(&y), yaml_close(&z);
    }
}

static void set(void **state) {
    yaml *y = good("data:\n  fps: 4\n  datasets: [a]\nmask:\n- num_blocks: 8\nmodel:\n");
    jepa_err err = {0};
    int64_t v;
    assert_int_equal(yaml_set(y, "data.fps", "8", &err), 0);
    assert_true(yaml_int(yaml_at(y, "data.fps"), &v) && v == 8);
    assert_int_equal(yaml_at(y, "data.fps")->line, 0);
    assert_int_equal(yaml_set(y, "data.datasets", "[a.txt, b.txt]", &err), 0);
    assert_int_equal(yaml_at(y, "data.datasets")->count, 2);
    assert_int_equal(yaml_set(y, "optimization.ema", "[0.9, 1]", &err), 0); /* makes the section */
    assert_int_equal(yaml_at(y, "optimization.ema")->count, 2);
    assert_int_equal(yaml_set(y, "model.depth", "4", &err), 0); /* null becomes a section */
    assert_string_equal(yaml_at(y, "model.depth")->text, "4");
    assert_int_equal(yaml_set(y, "mask.0.num_blocks", "3", &err), 0);
    assert_string_equal(yaml_at(y, "mask.0.num_blocks")->text, "3");
    assert_int_equal(yaml_set(y, "folder", "a b/c", &err), 0);
    assert_string_equal(yaml_at(y, "folder")->text, "a b/c");
    assert_int_equal(yaml_set(y, "folder", "", &err), 0);
    assert_true(yaml_is_null(yaml_at(y, "folder")));
    assert_int_equal(yaml_set(y, "folder", "# nothing", &err), 0);
    assert_true(yaml_is_null(yaml_at(y, "folder")));
    assert_int_equal(yaml_set(y, "data", "{fps: 2}", &err), 0); /* replaces */
    assert_null(yaml_at(y, "data.datasets"));
    int before = y->count;
    static const char *const bad[][3] = {{"data.fps.x", "1", "\"fps\" is a value"},
                                         {"mask.1.num_blocks", "1", "is a list of 1"},
                                         {"mask.x", "1", "is a list of 1"},
                                         {"", "1", "section.key"},
                                         {".a", "1", "section.key"},
                                         {"a.", "1", "section.key"},
                                         {"a..b", "1", "section.key"},
                                         {"q.r", "[1", "not a value in YAML"},
                                         {"q.r", "*x", "not a value in YAML"},
                                         {"a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a", "1", "32 levels"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(yaml_set(y, bad[i][0], bad[i][1], &err), JEPA_E_USE);
        if (!strstr(err.text, bad[i][2])) fail_msg("%s", err.text);
        assert_int_equal(y->count, before); /* left as it was */
    }
    yaml_close(&y);
    y = good("x");
    assert_int_equal(yaml_set(y, "a", "1", &err), JEPA_E_USE);
    yaml_close(&y);
}

static void files(void **state) {
    yaml *y;
    jepa_err err = {0};
    assert_int_equal(yaml_read(&y, "/nowhere/a.yaml", &err), JEPA_E_IO);
    assert_null(y);
    assert_non_null(strstr(err.text, "/nowhere/a.yaml"));
    assert_int_equal(yaml_read(&y, TEST_DATA "/fuzz/yaml/pretrain.yaml", &err), 0);
    assert_non_null(yaml_at(y, "optimization.lr"));
    yaml_close(&y);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tree),    cmocka_unit_test(refusals), cmocka_unit_test(limits),
                                       cmocka_unit_test(scalars), cmocka_unit_test(writing),  cmocka_unit_test(set),
                                       cmocka_unit_test(files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
