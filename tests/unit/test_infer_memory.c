/* test_infer_memory.c: what --memory makes of an embedding job and of a predicting one. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "infer/job.h"
#include "infer/predict.h"

#define MODEL TEST_DATA "/vectors/vjepa2-hf-tiny/model"

static char said[256];
static void line(void *ctx, const char *text) { snprintf(said, sizeof said, "%s", text); }

static void open_model(jepa **m, clip_plan *p, int predictor) {
    jepa_err err = {0};
    jepa_options o;
    jepa_embed_options e;
    jepa_options_defaults(&o);
    o.threads = 4, o.predictor = predictor;
    jepa_embed_options_defaults(&e);
    e.frames = 32, e.crop = 512, e.clips = 16; /* 16,384 tokens: activations outweigh the program */
    if (jepa_open(m, MODEL, &o, &err) || plan_make(*m, &e, p, &err)) fail_msg("%s", err.text);
}

/* Less and less: clips a call go first, then sessions, then decoders; in the end a refusal that says what would help. */
static void an_embedding_job_is_cut_down(void **s) {
    jepa *m;
    clip_plan p;
    items in = {0};
    jepa_err err = {0};
    open_model(&m, &p, 0);
    in.n = 0;
    embed_job first = {.m = m, .plan = &p, .inputs = &in, .batch = 8, .threads = 3, .encoders = 4, .shards = 1, .line = line};
    embed_job j = first;
    assert_int_equal(embed_fit(&j, &err), 0); /* nothing is asked */
    assert_int_equal(j.batch, 8);
    assert_int_equal(said[0], 0);
    j.memory = (int64_t)1 << 40;
    assert_int_equal(embed_fit(&j, &err), 0);
    assert_int_equal(j.batch, 8), assert_int_equal(j.encoders, 4), assert_int_equal(j.threads, 3);
    assert_non_null(strstr(said, "4 sessions, 8 clips a call, 3 decoders"));
    int batch = 8, sessions = 4, threads = 3, changes = 0, rc = 0;
    for (double mib = 8192; rc == 0; mib *= 0.97) {
        j = first;
        j.memory = (int64_t)(mib * 1048576);
        if ((rc = embed_fit(&j, &err)) < 0) break;
        assert_true(j.batch <= batch && j.encoders <= sessions && j.threads <= threads);
        assert_true(j.encoders == 4 || j.batch == 1);
        assert_true(j.threads == 3 || j.encoders == 1);
        changes += j.batch != batch || j.encoders != sessions || j.threads != threads;
        batch = j.batch, sessions = j.encoders, threads = j.threads;
    }
    assert_int_equal(rc, JEPA_E_MEMORY);
    assert_int_equal(batch, 1), assert_int_equal(sessions, 1), assert_int_equal(threads, 1);
    assert_true(changes >= 6); /* 4, 2, 1 clips; 3, 2, 1 sessions; and decoders, where steps of 3 % tell them apart */
    assert_non_null(strstr(err.text, "one clip at a time needs"));
    assert_non_null(strstr(err.text, "--precision bf16 would help"));
    jepa_close(&m);
}

static void a_predicting_job_is_cut_down(void **s) {
    jepa *m;
    clip_plan p;
    items in = {0};
    pred_masks k = {0};
    jepa_err err = {0};
    open_model(&m, &p, 1);
    const mask_grid g = {(int)p.grid[0], (int)p.grid[1], (int)p.grid[2]};
    if (pred_masks_make(&k, "future:from=4", g, 0, &err)) fail_msg("%s", err.text);
    const pred_plan plan = {.clip = &p, .masks = &k};
    int batch = 8, rc = 0;
    for (double mib = 16384; rc == 0; mib *= 0.97) {
        predict_job j = {.m = m, .plan = &plan, .inputs = &in, .batch = 8, .memory = (int64_t)(mib * 1048576)};
        if ((rc = predict_fit(&j, &err)) == 0) {
            assert_true(j.batch <= batch && (mib < 16384 || j.batch == 8));
            batch = j.batch;
        }
    }
    assert_int_equal(rc, JEPA_E_MEMORY);
    assert_int_equal(batch, 1);
    pred_masks_free(&k);
    jepa_close(&m);
}

int main(void) {
    const struct CMUnitTest t[] = {cmocka_unit_test(an_embedding_job_is_cut_down), cmocka_unit_test(a_predicting_job_is_cut_down)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
