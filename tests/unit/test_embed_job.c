/* test_embed_job.c: the embedding pipeline: rows in the order of the inputs whatever the number of decoders and the size of a batch;
 * stopped anywhere and gone on with; failures of allocation and writing anywhere. */
#include "infer/merge.h"
#include "video/synth.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MODEL TEST_DATA "/vectors/vjepa2-hf-tiny/model"
enum { D = 56, CLIPS = 5, T = 16, S = 48, ITEMS = 9 };

static atomic_int fail_at, points;
int fault_point(const char *name) {
    (void)name;
    int n = atomic_fetch_add(&points, 1) + 1;
    return n == atomic_load(&fail_at) ? ENOSPC : 0;
}

static char dir[64], out[96], part_path[104], clip[CLIPS][96];
static jepa *model;
static items inputs;
static int stop_after, asked, n_failed;

static int stop(void *ctx) { return ++asked > stop_after; }
static void on_failure(void *ctx, const char *path, int line, const char *reason) {
    n_failed++;
    assert_true(path[0] && reason[0]);
}

static int job(int decoders, int batch, int clips, int most_asks, jepa_err *err, embed_job *j) {
    clip_plan p;
    jepa_embed_options o;
    jepa_embed_options_defaults(&o);
    o.clips = clips;
    int rc = plan_make(model, &o, &p, err);
    if (rc < 0) return rc;
    *j = (embed_job){.m = model,
                     .plan = &p,
                     .inputs = &inputs,
                     .out = out,
                     .store = T_F32,
                     .batch = batch,
                     .threads = decoders,
                     .shards = 1,
                     .stop = stop,
                     .encoders = 1 + decoders % 4,
                     .failed = on_failure};
    stop_after = most_asks, asked = 0, n_failed = 0;
    return embed_run(j, err);
}

static char *bytes(size_t *n) {
    char *b;
    jepa_err err = {0};
    if (file_read(out, 1 << 24, &b, n, &err) < 0) fail_msg("%s", err.text);
    return b;
}

static void any_number_of_decoders_and_clips_a_call(void **state) {
    (void)state;
    jepa_err err = {0};
    embed_job j;
    char *first = NULL;
    size_t size = 0, n;
    for (int decoders = 1; decoders <= 12; decoders += decoders < 2 ? 1 : 5) {
        unlink(out);
        if (job(decoders, 1, 2, 1 << 30, &err, &j) < 0) fail_msg("%s", err.text);
        assert_true(j.rows == 2 * (ITEMS - 2) && j.failures == 2 && n_failed == 2 && !j.resumed && !j.complete_already);
        char *b = bytes(&n);
        if (!first)
            first = b, size = n;
        else {
            assert_int_equal(n, size);
            assert_memory_equal(b, first, n);
            mem_free(b);
        }
        assert_int_equal(access(part_path, F_OK), -1);
    }
    if (job(3, 1, 2, 1 << 30, &err, &j) < 0) fail_msg("%s", err.text);
    assert_int_equal(j.complete_already, 1);
    mem_free(first);
    /* several clips a call: the same rows within rounding (another shape, another order of sums) */
    st_file *a, *b;
    char one[96];
    snprintf(one, sizeof one, "%s/one.safetensors", dir);
    assert_int_equal(rename(out, one), 0);
    for (int batch = 2; batch <= 8; batch += 3) {
        if (job(2, batch, 2, 1 << 30, &err, &j) < 0) fail_msg("%s", err.text);
        assert_int_equal(st_open(&a, one, &err), 0);
        assert_int_equal(st_open(&b, out, &err), 0);
        const float *x = st_find(a, "embeddings")->t.data, *y = st_find(b, "embeddings")->t.data;
        for (int i = 0; i < 2 * (ITEMS - 2) * D; i++) assert_true(fabs(x[i] - y[i]) < 1e-5);
        const st_tensor *of = st_find(b, "item"), *label = st_find(b, "label");
        for (int i = 0; i < 2 * (ITEMS - 2); i++) {
            int32_t k;
            int64_t l;
            memcpy(&k, (const char *)of->t.data + 4 * i, sizeof k);
            memcpy(&l, (const char *)label->t.data + 8 * i, sizeof l);
            assert_int_equal(l, inputs.at[k].label);
        }
        st_close(&a), st_close(&b);
        unlink(out);
    }
    unlink(one);
}

static void stopped_anywhere_and_gone_on_with(void **state) {
    (void)state;
    jepa_err err = {0};
    embed_job j;
    size_t size, n;
    unlink(out);
    if (job(2, 1, 2, 1 << 30, &err, &j) < 0) fail_msg("%s", err.text);
    char *whole = bytes(&size);
    for (int at = 0; at < 100; at += 1 + at / 4) {
        unlink(out);
        int rc = job(1 + at % 3, 1, 2, at, &err, &j), stops = 0;
        if (rc == 0) break; /* asked less often than that */
        for (; rc < 0; rc = job(2, 1, 2, at + 1 + stops, &err, &j)) {
            if (rc != JEPA_E_CANCELLED) fail_msg("%s", err.text);
            assert_int_equal(access(part_path, F_OK), 0);
            assert_int_equal(access(out, F_OK), -1);
            assert_in_range(stops++, 0, 200);
        }
        assert_true(j.rows == 2 * (ITEMS - 2) && j.failures == 2);
        char *b = bytes(&n);
        assert_int_equal(n, size);
        assert_memory_equal(b, whole, n);
        mem_free(b);
        assert_int_equal(access(part_path, F_OK), -1);
    }
    mem_free(whole);
}

/* The n-th allocation or write fails: an error with a reason; the same command afterwards gives the whole file. An item whose decoding met
 * the failure may be listed as failed instead: then the job is done, with one row set less, and says so. */
static void failures_anywhere(void **state) {
    (void)state;
    jepa_err err = {0};
    embed_job j;
    size_t size, n;
    unlink(out);
    atomic_store(&points, 0);
    if (job(1, 1, 1, 1 << 30, &err, &j) < 0) fail_msg("%s", err.text);
    int most = atomic_load(&points), errors = 0;
    char *whole = bytes(&size);
    for (int at = 1; at <= most + 1; at += 1 + at % 17) {
        unlink(out);
        memset(&err, 0, sizeof err);
        atomic_store(&points, 0), atomic_store(&fail_at, at);
        int rc = job(1 + at % 2, 1, 1, 1 << 30, &err, &j);
        atomic_store(&fail_at, 0);
        if (rc == 0 && j.failures > 2) {
            assert_int_equal(j.rows + j.failures, ITEMS);
            continue;
        }
        if (rc < 0) {
            errors++;
            if (!err.text[0]) fail_msg("point %d: code %d without a reason", at, rc);
            if (access(out, F_OK) == 0) assert_non_null(strstr(err.text, "synced")); /* the file is whole; only its folder was not synced */
            rc = job(2, 1, 1, 1 << 30, &err, &j);
            if (rc < 0) fail_msg("after a failure at point %d: %s", at, err.text);
            if (j.failures > 2) continue; /* a clip failed before the job did, and is on record */
        }
        char *b =
            bytes(&n); /* the header lists failures, and the broken picture's reason may have been lack of memory: the rows are compared */
        const size_t rows = size - 8 - (size_t) * (uint64_t *)(void *)whole;
        assert_true(n > rows && n - 8 - (size_t) * (uint64_t *)(void *)b == rows);
        assert_memory_equal(b + n - rows, whole + size - rows, rows);
        mem_free(b);
    }
    assert_true(errors > 3);
    mem_free(whole);
}

/* The same with an .h5, which grows beside OUT.part: stopped or failed anywhere, what comes out in the end holds the same rows. */
static void assert_same_rows(const char *a, const char *b) {
    jepa_err err = {0};
    emb_in *x, *y;
    part_row r, q;
    if (emb_in_open(&x, a, &err) < 0 || emb_in_open(&y, b, &err) < 0) fail_msg("%s", err.text);
    assert_true(emb_in_complete(y) && emb_in_rows(x) == emb_in_rows(y) && emb_in_failures(x) == emb_in_failures(y));
    for (int64_t k = 0; k < emb_in_rows(x); k++) {
        if (emb_in_row(x, k, 1, &r, &err) < 0 || emb_in_row(y, k, 1, &q, &err) < 0) fail_msg("%s", err.text);
        assert_memory_equal(r.data, q.data, D * sizeof(float));
        assert_true(r.item == q.item && r.clip == q.clip && r.label == q.label && r.start == q.start && r.end == q.end);
        assert_string_equal(r.path, q.path);
    }
    for (int64_t k = 0; k < emb_in_failures(x); k++) {
        if (emb_in_failure(x, k, &r, &err) < 0 || emb_in_failure(y, k, &q, &err) < 0) fail_msg("%s", err.text);
        assert_true(r.item == q.item && r.line == q.line);
        assert_string_equal(r.path, q.path);
    }
    emb_in_close(&x), emb_in_close(&y);
}

static void an_h5_stopped_or_failed_anywhere(void **state) {
    (void)state;
    jepa_err err = {0};
    embed_job j;
    char whole[96];
    unlink(out), unlink(part_path);
    snprintf(out, sizeof out, "%s/out.h5", dir);
    snprintf(part_path, sizeof part_path, "%s.part", out);
    snprintf(whole, sizeof whole, "%s/whole.h5", dir);
    atomic_store(&points, 0);
    if (job(1, 1, 2, 1 << 30, &err, &j) < 0) fail_msg("%s", err.text);
    const int most = atomic_load(&points);
    assert_int_equal(rename(out, whole), 0);
    for (int at = 0; at < 100; at += 1 + at / 4) {
        int rc = job(1 + at % 3, 1, 2, at, &err, &j), stops = 0;
        for (; rc < 0; rc = job(2, 1, 2, at + 1 + stops, &err, &j)) {
            if (rc != JEPA_E_CANCELLED) fail_msg("%s", err.text);
            emb_in *seen;
            if (emb_in_open(&seen, out, &err) < 0) fail_msg("%s", err.text);
            assert_int_equal(emb_in_complete(seen), 0);
            emb_in_close(&seen);
            assert_int_equal(access(part_path, F_OK), 0);
            assert_in_range(stops++, 0, 200);
        }
        assert_same_rows(whole, out);
        unlink(out);
        if (!stops) break; /* asked less often than that */
    }
    int errors = 0;
    for (int at = 1; at <= most + 1; at += 1 + at % 17) {
        memset(&err, 0, sizeof err);
        atomic_store(&points, 0), atomic_store(&fail_at, at);
        int rc = job(1 + at % 2, 1, 2, 1 << 30, &err, &j);
        atomic_store(&fail_at, 0);
        if (rc < 0) {
            errors++;
            assert_true(err.text[0]);
            if ((rc = job(2, 1, 2, 1 << 30, &err, &j)) < 0) fail_msg("after a failure at point %d: %s", at, err.text);
        }
        if (j.failures == 2) assert_same_rows(whole, out); /* else a clip met the failure, and is on record */
        unlink(out);
    }
    assert_true(errors > 3);
    unlink(whole);
}

static int make_clip(const char *path, uint32_t n) {
    synth_cfg s;
    synth_cfg_defaults(&s);
    const vid_write_cfg c = {.width = S, .height = S, .fps = 8, .crf = 10, .gop = 8};
    vid_writer *w = NULL;
    jepa_err err = {0};
    size_t frame = S * S * 3;
    uint8_t *rgb = malloc(frame * T);
    int rc = rgb ? synth_digits(&s, n, rgb, NULL, &err) : -1;
    if (rc == 0) rc = vid_writer_open(&w, path, &c, &err);
    for (int t = 0; t < T && rc == 0; t++) rc = vid_writer_add(w, rgb + (size_t)t * frame, &err);
    if (rc == 0) rc = vid_writer_finish(&w, &err);
    free(rgb);
    return rc;
}

static int begin(void **state) {
    jepa_options o;
    jepa_err err = {0};
    char text[2000];
    int n = 0;
    video_quiet();
    strcpy(dir, "/tmp/jepa-job-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(out, sizeof out, "%s/out.safetensors", dir);
    snprintf(part_path, sizeof part_path, "%s.part", out);
    for (int i = 0; i < CLIPS; i++) {
        snprintf(clip[i], sizeof clip[i], "%s/%d.mp4", dir, i);
        if (make_clip(clip[i], (uint32_t)i)) return -1;
    }
    for (int i = 0; i < ITEMS; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s %d\n",
                      i == 2   ? "/nowhere.mp4"
                      : i == 6 ? TEST_DATA "/images/cut.jpg"
                               : clip[i % CLIPS],
                      i);
    if (items_parse(&inputs, text, (size_t)n, "list", &err) < 0) return -1;
    jepa_options_defaults(&o);
    o.threads = 1;
    o.device = "cpu";
    return jepa_open(&model, MODEL, &o, &err) < 0 ? -1 : 0;
}
static int end(void **state) {
    items_free(&inputs);
    jepa_close(&model);
    for (int i = 0; i < CLIPS; i++) unlink(clip[i]);
    unlink(out), unlink(part_path);
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_decoders_and_clips_a_call),
        cmocka_unit_test(stopped_anywhere_and_gone_on_with),
        cmocka_unit_test(failures_anywhere),
        cmocka_unit_test(an_h5_stopped_or_failed_anywhere),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
