/* test_part.c: OUT.part: a job killed at any byte goes on to the same file; damage is seen; other jobs' files are left alone. */
#include "infer/infer.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int fail_at, points;
int fault_point(const char *name) { return ++points == fail_at ? ENOSPC : 0; }

enum { ITEMS = 4, FLOATS = 3 };
static const char settings[] = "{\"model_sha256\":\"abc\",\"frames\":16,\"fps\":4.5,\"pool\":\"mean\",\"by_time\":false}";
static char dir[64], path[96];

/* Items 0 and 2: two and one row; item 1 failed; item 3: a row of NaN, an empty path. */
static int add_item(part *p, int i, jepa_err *err) {
    float x[FLOATS] = {(float)i, 0.5f, -1e30f};
    part_row r = {.item = i, .line = 10 + i, .start = 0.25 * i, .end = 1e9, .label = i == 2 ? INT64_MIN : -1, .path = "a \"path\".mp4", .data = x};
    int rc;
    if (i == 1) {
        r.reason = "not found", r.data = NULL;
        if ((rc = part_add(p, &r, err)) < 0) return rc;
    } else {
        if (i == 3) memset(x, 255, sizeof x), r.path = "";
        for (r.clip = 0; r.clip < (i == 0 ? 2 : 1); r.clip++)
            if ((rc = part_add(p, &r, err)) < 0) return rc;
    }
    return part_item_done(p, i, err);
}

static int open_part(part **p, jepa_err *err) { return part_open(p, path, settings, FLOATS, err); }

static unsigned char *whole_file(size_t *size, size_t end[ITEMS + 1]) {
    part *p;
    jepa_err err = {0};
    struct stat st;
    unlink(path);
    if (open_part(&p, &err) < 0) fail_msg("%s", err.text);
    for (int i = 0; i <= ITEMS; i++) {
        assert_int_equal(stat(path, &st), 0);
        if (end) end[i] = (size_t)st.st_size;
        if (i < ITEMS && add_item(p, i, &err) < 0) fail_msg("%s", err.text);
    }
    part_close(&p);
    assert_null(p);
    char *b;
    assert_int_equal(file_read(path, 1 << 20, &b, size, &err), 0);
    return (unsigned char *)b;
}

static void put(const unsigned char *b, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(b, 1, n, f) == n);
    fclose(f);
}

typedef struct seen { int n, rows, failures; int64_t last; } seen;
static int see(void *ctx, const part_row *r, jepa_err *err) {
    seen *s = ctx;
    s->n++;
    assert_true(r->item >= s->last && r->item < ITEMS);
    s->last = r->item;
    assert_int_equal(r->line, 10 + r->item);
    assert_string_equal(r->path, r->item == 3 ? "" : "a \"path\".mp4");
    if (r->reason) {
        s->failures++;
        assert_int_equal(r->item, 1);
        assert_string_equal(r->reason, "not found");
    } else {
        float x[FLOATS];
        memcpy(x, r->data, sizeof x);
        s->rows++;
        assert_true(r->item == 3 ? x[0] != x[0] : x[0] == (float)r->item && x[1] == 0.5f);
    }
    return 0;
}

static void torn_at_every_byte(void **state) {
    (void)state;
    size_t size, n, end[ITEMS + 1];
    unsigned char *whole = whole_file(&size, end);
    for (size_t cut = 0; cut <= size; cut++) {
        part *p;
        jepa_err err = {0};
        put(whole, cut);
        if (open_part(&p, &err) < 0) fail_msg("cut at %zu: %s", cut, err.text);
        int done = 0;
        while (done < ITEMS && end[done + 1] <= cut) done++;
        assert_int_equal(part_items(p), done);
        assert_int_equal(part_rows(p), done == 0 ? 0 : done == 1 || done == 2 ? 2 : done);
        assert_int_equal(part_failures(p), done > 1);
        seen s = {0};
        assert_int_equal(part_each(p, see, &s, &err), 0);
        assert_int_equal(s.rows, part_rows(p));
        for (int i = done; i < ITEMS; i++)
            if (add_item(p, i, &err) < 0) fail_msg("cut at %zu: %s", cut, err.text);
        part_close(&p);
        char *b;
        assert_int_equal(file_read(path, 1 << 20, &b, &n, &err), 0);
        assert_int_equal(n, size);
        assert_memory_equal(b, whole, size);
        mem_free(b);
    }
    mem_free(whole);
}

static void a_changed_byte_never_gives_a_wrong_row(void **state) {
    (void)state;
    size_t size;
    unsigned char *whole = whole_file(&size, NULL);
    for (size_t at = 0; at < size; at++) {
        part *p;
        jepa_err err = {0};
        whole[at] ^= 0x41;
        put(whole, size);
        whole[at] ^= 0x41;
        int rc = open_part(&p, &err);
        if (rc < 0) {
            assert_null(p);
            assert_true((rc == JEPA_E_IO || rc == JEPA_E_USE) && err.text[0]);
            continue;
        }
        assert_true(part_items(p) < ITEMS); /* the damaged record and what follows are not taken */
        seen s = {0};
        assert_int_equal(part_each(p, see, &s, &err), 0);
        part_close(&p);
    }
    mem_free(whole);
}

static void a_full_disk_loses_nothing(void **state) {
    (void)state;
    size_t size, n;
    unsigned char *whole = whole_file(&size, NULL);
    for (int at = 1;; at++) {
        part *p;
        jepa_err err = {0};
        unlink(path);
        fail_at = at, points = 0;
        int rc = open_part(&p, &err), hit = 0;
        for (int i = rc < 0 ? ITEMS : (int)part_items(p); i < ITEMS; i++)
            if ((rc = add_item(p, i, &err)) < 0) break;
        hit = points >= at;
        fail_at = 0;
        if (rc < 0) {
            assert_true(hit && err.text[0]);
            part_close(&p);
            if (open_part(&p, &err) < 0) fail_msg("%s", err.text);
            for (int i = (int)part_items(p); i < ITEMS; i++) assert_int_equal(add_item(p, i, &err), 0);
        }
        part_close(&p);
        char *b;
        assert_int_equal(file_read(path, 1 << 20, &b, &n, &err), 0);
        assert_int_equal(n, size);
        assert_memory_equal(b, whole, size);
        mem_free(b);
        if (!hit) break;
        assert_in_range(at, 1, 1000);
    }
    mem_free(whole);
}

static void other_jobs_are_refused(void **state) {
    (void)state;
    size_t size;
    part *p, *q;
    jepa_err err = {0};
    mem_free(whole_file(&size, NULL));
    static const struct { const char *settings, *words; } other[] = {
        {"{\"model_sha256\":\"abd\",\"frames\":16,\"fps\":4.5,\"pool\":\"mean\",\"by_time\":false}", "model_sha256: abc there, abd now"},
        {"{\"model_sha256\":\"abc\",\"frames\":8,\"fps\":4.5,\"pool\":\"mean\",\"by_time\":false}", "frames: 16 there, 8 now"},
        {"{\"model_sha256\":\"abc\",\"frames\":16,\"fps\":4,\"pool\":\"mean\",\"by_time\":false}", "fps: 4.5 there, 4 now"},
        {"{\"model_sha256\":\"abc\",\"frames\":16,\"fps\":4.5,\"pool\":\"none\",\"by_time\":false}", "pool: mean there, none now"},
        {"{\"model_sha256\":\"abc\",\"frames\":16,\"fps\":4.5,\"pool\":\"mean\",\"by_time\":true}", "by_time"},
        {"{\"model_sha256\":\"abc\",\"frames\":16,\"fps\":4.5,\"pool\":\"mean\"}", "number of settings"},
    };
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        assert_int_equal(part_open(&p, path, other[i].settings, FLOATS, &err), JEPA_E_USE);
        assert_null(p);
        if (!strstr(err.text, other[i].words)) fail_msg("'%s' lacks '%s'", err.text, other[i].words);
    }
    assert_int_equal(part_open(&p, path, settings, FLOATS + 1, &err), JEPA_E_USE);
    assert_non_null(strstr(err.text, "size of a row"));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, size); /* refused, not touched */
    assert_int_equal(open_part(&p, &err), 0);
    assert_int_equal(open_part(&q, &err), JEPA_E_IO);
    assert_non_null(strstr(err.text, "another job is writing it"));
    assert_null(q);
    assert_int_equal(part_remove(&p), 0);
    assert_int_equal(stat(path, &st), -1);
    static const char *const alien[] = {"J", "JEPAPRT2", "JEPAPRT1", "JEPAPRT1xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "some text that somebody keeps under this name"};
    for (size_t i = 0; i < sizeof alien / sizeof *alien; i++) {
        put((const unsigned char *)alien[i], strlen(alien[i]));
        int rc = open_part(&p, &err), ours = !strncmp("JEPAPRT1", alien[i], strlen(alien[i])); /* a beginning of our own */
        assert_int_equal(rc, ours ? 0 : JEPA_E_IO);
        part_close(&p);
        assert_int_equal(stat(path, &st), 0);
        if (!ours) assert_int_equal(st.st_size, strlen(alien[i]));
    }
    assert_int_equal(part_open(&p, "/nowhere/at/all", settings, FLOATS, &err), JEPA_E_IO);
    assert_int_equal(part_open(&p, path, settings, 0, &err), JEPA_E_USE);
    part_close(&p); /* NULL */
}

static int begin(void **state) {
    strcpy(dir, "/tmp/jepa-part-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/out.part", dir);
    return 0;
}
static int end(void **state) {
    unlink(path);
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torn_at_every_byte),
        cmocka_unit_test(a_changed_byte_never_gives_a_wrong_row),
        cmocka_unit_test(a_full_disk_loses_nothing),
        cmocka_unit_test(other_jobs_are_refused),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
