/* test_items.c: lists with awkward lines, folders with awkward links. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "video/video.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char home[64]; /* a scratch folder, also the working folder of these tests */

static int setup(void **state) {
    (void)state;
    snprintf(home, sizeof home, "/tmp/items-XXXXXX");
    return mkdtemp(home) && chdir(home) == 0 ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", home);
    return chdir("/") || system(command);
}

static void touch(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void expect(const items *l, int i, const char *path, int64_t label, int line) {
    assert_true(i < l->n);
    assert_string_equal(l->at[i].path, path);
    assert_int_equal(l->at[i].label, label);
    assert_int_equal(l->at[i].line, line);
}

/* The list of the cases: labels after white space or "::", spaces and other letters in names, carriage returns, comments, missing files. */
static void awkward_list(void **state) {
    (void)state;
    mkdir("set", 0777);
    mkdir("set/my clips", 0777);
    touch("set/numbered.mp4", "x");
    touch("set/my clips/tea cup.mp4", "x");
    touch("set/ü_名.mp4", "x");
    touch("set/list.txt", "numbered.mp4 3\r\n\n# a comment\nmy clips/tea cup.mp4 4\n"
                          "ü_名.mp4 5\nmissing.mp4 0\nnumbered.mp4\nmy clips/tea cup.mp4::7\n");
    items l = {0};
    jepa_err err = {0};
    assert_int_equal(items_add(&l, "set/list.txt", &err), 0);
    assert_int_equal(l.n, 6);
    expect(&l, 0, "set/numbered.mp4", 3, 1);
    expect(&l, 1, "set/my clips/tea cup.mp4", 4, 4);
    expect(&l, 2, "set/ü_名.mp4", 5, 5);
    expect(&l, 3, "set/missing.mp4", 0, 6);
    expect(&l, 4, "set/numbered.mp4", -1, 7);
    expect(&l, 5, "set/my clips/tea cup.mp4", 7, 8);
    assert_int_equal(l.n_lists, 1);
    assert_string_equal(l.list_paths[l.at[0].list], "set/list.txt");
    items_free(&l);
}

static void one(const char *line, const char *path, int64_t label) {
    items l = {0};
    jepa_err err = {0};
    assert_int_equal(items_parse(&l, line, strlen(line), "beside/list.txt", &err), 0);
    if (l.n != 1 || strcmp(l.at[0].path, path) || l.at[0].label != label)
        fail_msg("\"%s\": %d items, \"%s\" %lld", line, l.n, l.n ? l.at[0].path : "", l.n ? (long long)l.at[0].label : 0);
    items_free(&l);
}

static void single_lines(void **state) {
    (void)state;
    mkdir("beside", 0777);
    touch("beside/a.mp4", "x");
    touch("beside/take 2", "x"); /* its name ends like a label */
    touch("beside/take", "x");
    touch("beside/run 12", "x");
    touch("beside/a,b.mp4", "x");
    touch("here.mp4", "x");
    touch("a.mp4", "x");
    one("a.mp4", "beside/a.mp4", -1);         /* beside the list before the working folder */
    one("here.mp4 8", "here.mp4", 8);         /* in the working folder */
    one("/abs/x.mp4\t9", "/abs/x.mp4", 9);
    one("a.mp4,3", "beside/a.mp4", 3);
    one("a.mp4, 3", "beside/a.mp4", 3);
    one("a,b.mp4,3", "beside/a,b.mp4", 3);
    one("\"a,b.mp4\",3", "beside/a,b.mp4", 3);
    one("\"a.mp4\"", "beside/a.mp4", -1);
    one("a,b.mp4", "beside/a,b.mp4", -1);
    one("a.mp4 -1", "beside/a.mp4", -1);
    one("a.mp4 +4", "beside/a.mp4", 4);
    one("  a.mp4   5  ", "beside/a.mp4", 5);
    one("a.mp4::6", "beside/a.mp4", 6);
    one("a.mp4 :: 6", "beside/a.mp4", 6);
    one("x::y::6", "beside/x::y", 6);
    one("x::y", "beside/x::y", -1);
    one("run 12", "beside/run 12", -1);       /* "run" does not exist, the whole line does */
    one("take 2", "beside/take", 2);          /* both exist: the label wins, "::" is there to say otherwise */
    one("take 2::5", "beside/take 2", 5);
    one("gone 7", "beside/gone", 7);
    one("gone 7.5", "beside/gone 7.5", -1);
    one("gone 99999999999999999999", "beside/gone 99999999999999999999", -1);
    one("gone 999999999999999999", "beside/gone", 999999999999999999);
    one("7", "beside/7", -1);
    one(" 7", "beside/7", -1);
    one(",7", "beside/,7", -1);
    one("\xef\xbb\xbf" "a.mp4 1", "beside/a.mp4", 1);
    one("a.mp4 1\r", "beside/a.mp4", 1);
    one("# no\n \t \r\n\na.mp4 1", "beside/a.mp4", 1);
}

static void refused_texts(void **state) {
    (void)state;
    items l = {0};
    jepa_err err = {0};
    assert_int_equal(items_parse(&l, "a.mp4\nb\0c\n", 10, "l.txt", &err), JEPA_E_INPUT);
    assert_non_null(strstr(err.text, "line 2"));
    items_free(&l);
    assert_int_equal(items_parse(&l, "\xff\xfe" "a\0", 4, "l.txt", &err), JEPA_E_INPUT);
    assert_non_null(strstr(err.text, "UTF-16"));
    items_free(&l);
    enum { LONG = 70000 };
    char *text = malloc(LONG);
    assert_non_null(text);
    memset(text, 'a', LONG);
    assert_int_equal(items_parse(&l, text, LONG, "l.txt", &err), JEPA_E_INPUT);
    assert_non_null(strstr(err.text, "line 1"));
    items_free(&l);
    assert_int_equal(items_parse(&l, text, 60000, "l.txt", &err), 0); /* an item that fails by itself when it is opened */
    assert_int_equal(l.n, 1);
    items_free(&l);
    free(text);
}

static void inputs(void **state) {
    (void)state;
    items l = {0};
    jepa_err err = {0};
    touch("only.csv", "/x/a.mp4 2\n/x/b.mp4,1\n");
    touch("none.txt", "# nothing\n\n");
    assert_int_equal(items_add(&l, "gone.mp4", &err), 0); /* fails later, with its reason */
    assert_int_equal(items_add(&l, "only.csv", &err), 0);
    assert_int_equal(l.n, 3);
    expect(&l, 0, "gone.mp4", -1, 0);
    assert_int_equal(l.at[0].list, -1);
    expect(&l, 2, "/x/b.mp4", 1, 2);
    assert_int_equal(items_add(&l, "none.txt", &err), JEPA_E_INPUT);
    assert_int_equal(items_add(&l, "missing.txt", &err), JEPA_E_IO);
    assert_non_null(strstr(err.text, "missing.txt: not found"));
    assert_int_equal(items_add(&l, "data.npy", &err), JEPA_E_INPUT);
    assert_non_null(strstr(err.text, "NumPy"));
    assert_int_equal(items_add(&l, "", &err), JEPA_E_USE);
    items_free(&l);
    items_free(&l); /* and again: nothing left */

    int keep = dup(0), ends[2];
    assert_true(keep >= 0);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "a.mp4 1\nb.mp4", 13), 13);
    close(ends[1]);
    dup2(ends[0], 0);
    close(ends[0]);
    assert_int_equal(items_add(&l, "-", &err), 0);
    dup2(keep, 0);
    close(keep);
    assert_int_equal(l.n, 2);
    expect(&l, 1, "b.mp4", -1, 2);
    items_free(&l);
}

static void folders(void **state) {
    (void)state;
    mkdir("tree", 0777);
    mkdir("tree/b", 0777);
    mkdir("tree/b/deep", 0777);
    mkdir("tree/.hidden", 0777);
    mkdir("tree/folder.mp4", 0777);
    touch("tree/z.MP4", "x");
    touch("tree/a.jpg", "x");
    touch("tree/notes.md", "x");
    touch("tree/.x.mp4", "x");
    touch("tree/.hidden/y.mp4", "x");
    touch("tree/b/c.webm", "x");
    touch("tree/b/deep/d.png", "x");
    touch("tree/b-1.mov", "x");
    assert_int_equal(symlink("..", "tree/b/up"), 0);       /* round and round */
    assert_int_equal(symlink("gone", "tree/w.mp4"), 0);    /* to nowhere: listed, fails later */
    assert_int_equal(symlink("b", "tree/zz"), 0);          /* a second name of a folder */
    items l = {0};
    jepa_err err = {0};
    assert_int_equal(items_add(&l, "tree", &err), 0);
    static const char *const want[] = {"tree/a.jpg", "tree/b-1.mov", "tree/b/c.webm", "tree/b/deep/d.png", "tree/w.mp4", "tree/z.MP4"};
    assert_int_equal(l.n, 6);
    for (int i = 0; i < 6; i++) expect(&l, i, want[i], -1, 0);
    items_free(&l);
    assert_int_equal(items_add(&l, "tree/b/", &err), 0);
    expect(&l, 0, "tree/b/c.webm", -1, 0);
    items_free(&l);
    mkdir("empty", 0777);
    assert_int_equal(items_add(&l, "empty", &err), JEPA_E_INPUT);
    assert_non_null(strstr(err.text, "empty: no file"));
    items_free(&l);
    char path[600] = "far"; /* a chain of folders that is too deep */
    mkdir(path, 0777);
    for (int i = 0; i < 66; i++) {
        strcat(path, "/d");
        mkdir(path, 0777);
    }
    assert_int_equal(items_add(&l, "far", &err), JEPA_E_INPUT);
    items_free(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(awkward_list), cmocka_unit_test(single_lines), cmocka_unit_test(refused_texts), cmocka_unit_test(inputs),
        cmocka_unit_test(folders),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
