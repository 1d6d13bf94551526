/* test_outputs.c: outputs of embedding jobs written and read again: an .h5 that grows, is torn, is made anew; merging in every form; every
 * failure of a write leaves a reason and no file that says it is complete. */
#include "infer/merge.h"

#include <errno.h>
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
int fault_point(const char *name) {
    (void)name;
    return ++points == fail_at ? ENOSPC : 0;
}

enum { ITEMS = 700, PER = 3, DIM = 5, FLOATS = PER * DIM };
static char dir[64];

static char texts[512][200]; /* names and settings live here for the next 511 */
static int used;
static char *text(void) { return texts[used++ % 512]; }

static const char *in_dir(const char *name) {
    char *p = text();
    snprintf(p, 200, "%s/%s", dir, name);
    return p;
}

static const char *settings(const char *shard) {
    char *p = text();
    snprintf(p, 200, "{\"frames\": 16, \"pool\": \"time\", \"shard\": \"%s\", \"inputs\": \"%d items, 0123\"}", shard, ITEMS);
    return p;
}

static emb_meta meta(const char *set, dtype store, int gzip) {
    return (emb_meta){.model = "m",
                      .sha256 = "abc",
                      .precision = "f32",
                      .pool = "time",
                      .version = "1",
                      .settings = set,
                      .transform = "t",
                      .device = "cpu",
                      .frames = 16,
                      .grid = {2, 3, 4},
                      .per_row = PER,
                      .dim = DIM,
                      .store = store,
                      .layered = 1,
                      .gzip = gzip};
}

/* Item i has i % 4 rows; those with none failed, and so did 6, after its rows. */
static int rows_of(int i) { return i % 4; }
static int fails(int i) { return i % 4 == 0 || i == 6; }

static int source_items(int shard, int shards, int only_failures, row_fn *fn, void *ctx, jepa_err *err) {
    char path[64];
    float x[FLOATS];
    int rc = 0;
    for (int i = shard; i < ITEMS && !rc; i += shards) {
        snprintf(path, sizeof path, "folder/ü %d.mp4", i);
        part_row r = {.item = i, .line = i + 1, .label = i - 50, .path = path, .data = x};
        for (r.clip = 0; !only_failures && r.clip < rows_of(i) && !rc; r.clip++) {
            for (int k = 0; k < FLOATS; k++) x[k] = (float)((i * 4 + r.clip) % 64) + (float)k / 16; /* ten bits: exact in f16 */
            r.start = i + 0.25 * r.clip, r.end = r.start + 0.125;
            rc = fn(ctx, &r, err);
        }
        r.data = NULL, r.reason = "damaged \"somewhere\"";
        if (fails(i) && !rc) rc = fn(ctx, &r, err);
    }
    return rc;
}
typedef struct shard_of {
    int shard, shards;
} shard_of;
static int each(void *src, int only_failures, row_fn *fn, void *ctx, jepa_err *err) {
    const shard_of *s = src;
    return source_items(s->shard, s->shards, only_failures, fn, ctx, err);
}
static int count(void *ctx, const part_row *r, jepa_err *err) {
    ++((int64_t *)ctx)[r->reason != NULL];
    return 0;
}
static emb_source source(shard_of *s) {
    int64_t n[2] = {0};
    assert_int_equal(source_items(s->shard, s->shards, 0, count, n, NULL), 0);
    return (emb_source){.ctx = s, .rows = n[0], .failures = n[1], .each = each};
}

static void write_shard(const char *path, int shard, int shards, dtype store, int gzip) {
    char name[32];
    jepa_err err = {0};
    shard_of s = {shard, shards};
    snprintf(name, sizeof name, "%d/%d", shard, shards);
    const emb_meta m = meta(settings(name), store, gzip);
    const emb_source src = source(&s);
    if (emb_write(path, &m, &src, &err) < 0) fail_msg("%s", err.text);
}

static char *bytes(const char *path, size_t *n) {
    char *b;
    jepa_err err = {0};
    if (file_read(path, 1 << 26, &b, n, &err) < 0) fail_msg("%s", err.text);
    return b;
}
static void assert_same_bytes(const char *a, const char *b) {
    size_t n, k;
    char *x = bytes(a, &n), *y = bytes(b, &k);
    assert_int_equal(n, k);
    assert_memory_equal(x, y, n);
    mem_free(x), mem_free(y);
}

/* The rows and failures of an output are those of the source. */
typedef struct check {
    emb_in *in;
    int64_t row, bad;
} check;
static int compare(void *ctx, const part_row *want, jepa_err *err) {
    check *c = ctx;
    part_row r;
    if (want->reason) {
        if (emb_in_failure(c->in, c->bad++, &r, err) < 0) fail_msg("%s", err->text);
        assert_string_equal(r.reason, want->reason);
        assert_string_equal(r.path, want->path);
        assert_int_equal(r.line, want->line);
    } else {
        if (emb_in_row(c->in, c->row++, 1, &r, err) < 0) fail_msg("%s", err->text);
        assert_memory_equal(r.data, want->data, FLOATS * sizeof(float));
        assert_true(r.clip == want->clip && r.label == want->label && r.start == want->start && r.end == want->end);
        if (emb_in_has_paths(c->in)) assert_string_equal(r.path, want->path);
    }
    assert_int_equal(r.item, want->item);
    return 0;
}
static void assert_holds(const char *path, int shard, int shards) {
    jepa_err err = {0};
    check c = {0};
    int64_t n[2] = {0};
    if (emb_in_open(&c.in, path, &err) < 0) fail_msg("%s", err.text);
    assert_int_equal(emb_in_complete(c.in), 1);
    assert_int_equal(source_items(shard, shards, 0, count, n, NULL), 0);
    assert_true(emb_in_rows(c.in) == n[0] && emb_in_failures(c.in) == n[1]);
    assert_int_equal(source_items(shard, shards, 0, compare, &c, &err), 0);
    emb_in_close(&c.in);
}

static void every_form_holds_what_was_written(void **state) {
    (void)state;
    static const char *const name[] = {"a.h5", "z.hdf5", "h.h5", "a.safetensors", "h.safetensors"};
    for (int i = 0; i < 5; i++) {
        const char *path = in_dir(name[i]);
        write_shard(path, 1, 3, i == 2 || i == 4 ? T_F16 : T_F32, i == 1 ? 9 : 0);
        assert_holds(path, 1, 3);
        jepa_err err = {0};
        assert_int_equal(emb_check(path, settings("1/3"), &err), 1);
        assert_int_equal(emb_check(path, settings("2/3"), &err), JEPA_E_USE);
        assert_non_null(strstr(err.text, "shard: 1/3 there, 2/3 now"));
        unlink(path);
    }
}

static void an_h5_in_step(void **state) {
    (void)state;
    const char *path = in_dir("step.h5"), *part_path = in_dir("step.h5.part");
    const emb_meta m = meta(settings("0/1"), T_F32, 2);
    jepa_err err = {0};
    emb_h5 *h;
    emb_in *in;
    shard_of all = {0, 1};
    const emb_source whole = source(&all);
    if (emb_h5_open(&h, path, &m, NULL, 0, &err) < 0) fail_msg("%s", err.text);
    for (int i = 0; i < 40; i++) {
        float x[FLOATS] = {0};
        const part_row r = {.item = i, .path = "p", .data = x};
        assert_int_equal(emb_h5_add(h, &r, &err), 0);
    }
    assert_int_equal(emb_h5_flush(h, &err), 0);
    size_t n;
    char *seen = bytes(path, &n); /* as one who looks in now, or a kill now, finds it */
    emb_h5_close(&h);
    assert_null(h);
    emb_h5_close(&h);
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(seen, 1, n, f) == n);
    fclose(f);
    assert_int_equal(emb_in_open(&in, path, &err), 0);
    assert_int_equal(emb_in_complete(in), 0);
    assert_string_equal(emb_in_settings(in), settings("0/1"));
    emb_in_close(&in);
    /* without OUT.part it is nobody's; with it, it is made anew, torn or not */
    assert_int_equal(emb_check(path, settings("0/1"), &err), JEPA_E_USE);
    assert_non_null(strstr(err.text, "unfinished"));
    f = fopen(part_path, "wb");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(emb_check(path, settings("0/1"), &err), 0);
    assert_int_equal(emb_check(path, settings("1/2"), &err), JEPA_E_USE);
    for (size_t cut = 0; cut < n; cut += 97) {
        assert_int_equal(truncate(path, (off_t)(n - cut)), 0);
        if (emb_check(path, m.settings, &err) != 0) fail_msg("cut %zu of %zu: %s", cut, n, err.text);
    }
    unlink(part_path);
    assert_int_equal(emb_check(path, settings("0/1"), &err), JEPA_E_USE); /* some bytes that are not ours to overwrite */
    if (emb_h5_open(&h, path, &m, &whole, whole.rows, &err) < 0) fail_msg("%s", err.text);
    if (emb_h5_finish(&h, &err) < 0) fail_msg("%s", err.text);
    assert_holds(path, 0, 1);
    mem_free(seen);
    unlink(path);
}

static int merge(const char *out, const char *const *in, int n, int allow, jepa_err *err, merge_job *m) {
    *m = (merge_job){.out = out, .in = in, .n = n, .allow_missing = allow};
    return merge_run(m, err);
}

static void merged_is_what_one_job_writes(void **state) {
    (void)state;
    const char *h5[3] = {in_dir("s0.h5"), in_dir("s1.h5"), in_dir("s2.h5")},
               *st[3] = {in_dir("s0.safetensors"), in_dir("s1.safetensors"), in_dir("s2.safetensors")};
    const char *whole[3] = {in_dir("w.h5"), in_dir("w.safetensors"), in_dir("w.npy")};
    merge_job m;
    jepa_err err = {0};
    for (int half = 0; half < 2; half++) {
        const dtype type = half ? T_F16 : T_F32;
        for (int i = 0; i < 3; i++)
            write_shard(h5[i], i, 3, type, i), write_shard(st[i], i, 3, type, 0), write_shard(whole[i], 0, 1, type, 0);
        const char *order[3] = {h5[2], h5[0], h5[1]}, *mixed[3] = {st[1], h5[0], st[2]}, *two[2] = {h5[0], st[2]};
        const char *out[3] = {in_dir("o.h5"), in_dir("o.safetensors"), in_dir("o.npy")};
        for (int form = 0; form < 3; form++) {
            if (merge(out[form], form ? mixed : order, 3, 0, &err, &m) < 0) fail_msg("%s", err.text);
            if (form)
                assert_same_bytes(whole[form], out[form]);
            else
                assert_holds(out[0], 0, 1);
            assert_true(m.per_row == PER && m.dim == DIM && m.missing == 0 && m.failures == 176);
            unlink(out[form]);
        }
        assert_int_equal(merge(out[1], two, 2, 0, &err, &m), JEPA_E_USE);
        assert_non_null(strstr(err.text, "1 of 3 shards missing: 1 (233 of 700 items)"));
        assert_int_equal(merge(out[1], two, 2, 1, &err, &m), 0);
        assert_int_equal(m.missing, 233);
        const char *rest[2] = {out[1], st[1]};
        assert_int_equal(merge(out[2], rest, 2, 0, &err, &m), 0);
        assert_same_bytes(whole[2], out[2]);
        unlink(out[1]), unlink(out[2]);
        const char *twice[4] = {h5[0], h5[1], st[1], h5[2]}, *other[2] = {h5[0], whole[0]};
        assert_int_equal(merge(out[2], twice, 4, 0, &err, &m), JEPA_E_USE);
        assert_non_null(strstr(err.text, "shard 1 of 3 is in "));
        assert_int_equal(merge(out[2], other, 2, 0, &err, &m), JEPA_E_USE);
        assert_non_null(strstr(err.text, "of one of 3"));
        assert_int_equal(merge(out[0], st, 3, 0, &err, &m), JEPA_E_USE);
        assert_non_null(strstr(err.text, "does not hold the paths"));
        assert_int_equal(access(out[0], F_OK), -1);
        for (int i = 0; i < 3; i++) unlink(h5[i]), unlink(st[i]), unlink(whole[i]);
    }
    assert_int_equal(merge(in_dir("o.h5"), whole, 0, 0, &err, &m), JEPA_E_USE);
}

/* Items in a wrong shard, out of order: an input whose numbers lie. */
typedef struct liar {
    int64_t item[3];
} liar;
static int lie(void *src, int only_failures, row_fn *fn, void *ctx, jepa_err *err) {
    const liar *l = src;
    float x[FLOATS] = {0};
    int rc = 0;
    for (int i = 0; i < 3 && !only_failures && !rc; i++) rc = fn(ctx, &(part_row){.item = l->item[i], .path = "p", .data = x}, err);
    return rc;
}
static void inputs_that_lie(void **state) {
    (void)state;
    static const struct {
        liar l;
        const char *words;
    } bad[] = {{{{0, 2, 3}}, "item 3 is not of its shard"},
               {{{4, 2, 6}}, "not in order"},
               {{{-2, 0, 2}}, "not in order"},
               {{{0, 2, 1 << 20}}, "of a job of 700"},
               {{{0, 2, INT64_MAX - 1}}, ""}};
    const char *path = in_dir("liar.h5"), *in[1] = {path};
    merge_job m;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        jepa_err err = {0};
        liar l = bad[i].l;
        const emb_meta how = meta(settings("0/2"), T_F32, 0);
        const emb_source s = {.ctx = &l, .rows = 3, .each = lie};
        assert_int_equal(emb_write(path, &how, &s, &err), 0);
        assert_true(merge(in_dir("o.npy"), in, 1, 1, &err, &m) < 0);
        if (!strstr(err.text, bad[i].words)) fail_msg("'%s' lacks '%s'", err.text, bad[i].words);
        unlink(path);
    }
    static const char *const shard[] = {"", "/", "0", "0/0", "2/2", "-1/2", "0,0/2", "0;1/2", "x/2", "0/99999999", "0,/2"};
    for (size_t i = 0; i < sizeof shard / sizeof *shard; i++) {
        jepa_err err = {0};
        shard_of s = {0, 2};
        const emb_meta how = meta(settings(shard[i]), T_F32, 0);
        const emb_source src = source(&s);
        assert_int_equal(emb_write(path, &how, &src, &err), 0);
        if (merge(in_dir("o.npy"), in, 1, 1, &err, &m) != JEPA_E_USE || !err.text[0]) fail_msg("shard '%s' is taken", shard[i]);
        unlink(path);
    }
}

static void every_write_fails_once(void **state) {
    (void)state;
    static const char *const name[] = {"f.h5", "f.npy", "f.safetensors"};
    shard_of s = {1, 40};
    const emb_meta m = meta(settings("1/40"), T_F16, 0);
    const emb_source src = source(&s);
    for (int form = 0; form < 3; form++) {
        const char *path = in_dir(name[form]);
        int errors = 0;
        for (int at = 1;; at++) {
            jepa_err err = {0};
            fail_at = at, points = 0;
            int rc = emb_write(path, &m, &src, &err), hit = points >= at;
            fail_at = 0;
            if (rc < 0) {
                errors++;
                assert_true(err.text[0]);
                assert_int_equal(access(path, F_OK), -1);
            }
            unlink(path);
            if (!hit) break;
            assert_in_range(at, 1, 10000);
        }
        assert_true(errors > 2);
        char aside[220];
        snprintf(aside, sizeof aside, "%s.tmp", path);
        assert_int_equal(access(aside, F_OK), -1);
    }
}

static int begin(void **state) {
    strcpy(dir, "/tmp/jepa-out-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}
static int end(void **state) { return rmdir(dir); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_holds_what_was_written),
        cmocka_unit_test(an_h5_in_step),
        cmocka_unit_test(merged_is_what_one_job_writes),
        cmocka_unit_test(inputs_that_lie),
        cmocka_unit_test(every_write_fails_once),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
