/* test_checkpoint_state.c: training state: saved whole or not at all, whatever fails; found again; cleaned up. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"

/* fail_at: this fault point fails (1 = the first); with fail_on, every one from there on does, as on a disk that stays full */
static int fail_at, fail_on, points, no_exchange;
int fault_point(const char *name) {
    if (no_exchange && !strcmp(name, "ck.exchange")) return ENOSYS; /* as a file system without it answers */
    points++;
    return fail_at && (fail_on ? points >= fail_at : points == fail_at) ? ENOSPC : 0;
}

static dev *device;
static char run[64], latest[96];
static params train, target;
static const model_cfg CFG = {.family = "vjepa2",
                              .img_height = 32,
                              .img_width = 32,
                              .patch_size = 16,
                              .tubelet_size = 2,
                              .num_frames = 4,
                              .in_chans = 3,
                              .embed_dim = 8,
                              .depth = 1,
                              .num_heads = 2,
                              .mlp_ratio = 4,
                              .layer_norm_eps = 1e-6,
                              .use_rope = 1,
                              .predictor_embed_dim = 6,
                              .predictor_depth = 1,
                              .predictor_num_heads = 2,
                              .predictor_out_dim = 8,
                              .num_mask_tokens = 2,
                              .predictor_mlp_ratio = 4};

static void add(params *p, const char *name, int rank, int64_t a, int64_t b, int64_t c) {
    int64_t dim[3] = {a, b, c};
    assert_true(params_add(p, NULL, name, rank, dim) >= 0);
}

static void shape(params *tr, params *ta) { /* the state does not care which parameters these are */
    *tr = *ta = (params){0};
    add(tr, "encoder.blocks.0.attn.qkv.weight", 2, 24, 8, 0);
    add(tr, "encoder.norm.bias", 1, 8, 0, 0);
    add(tr, "predictor.mask_tokens.0", 3, 1, 1, 6);
    add(tr, "predictor.predictor_proj.weight", 2, 8, 6, 0);
    add(ta, "target_encoder.blocks.0.attn.qkv.weight", 2, 24, 8, 0);
    add(ta, "target_encoder.norm.bias", 1, 8, 0, 0);
    assert_int_equal(params_alloc(tr, device, PARAMS_MOMENTS, NULL), 0);
    assert_int_equal(params_alloc(ta, device, 0, NULL), 0);
}

static float value(int64_t step, int kind, int i, int64_t k) {
    return (float)step + 0.25f * (float)kind + 0.001f * (float)i + 1e-6f * (float)k;
}

static void fill(params *tr, params *ta, int64_t step) {
    for (int i = 0; i < tr->n; i++)
        for (int64_t k = 0; k < tr->item[i].count; k++) {
            int64_t at = tr->item[i].offset + k;
            ((float *)tr->value.p)[at] = value(step, 0, i, k);
            ((float *)tr->m.p)[at] = value(step, 1, i, k);
            ((float *)tr->v.p)[at] = value(step, 2, i, k);
        }
    for (int i = 0; i < ta->n; i++)
        for (int64_t k = 0; k < ta->item[i].count; k++) ((float *)ta->value.p)[ta->item[i].offset + k] = value(step, 3, i, k);
}

static int save(int64_t step, jepa_err *e) {
    char text[64];
    fill(&train, &target, step);
    snprintf(text, sizeof text, "{\"seed\": 18446744073709551615, \"at\": %lld}", (long long)step);
    ck_state s = {.step = step, .train = &train, .target = &target, .json = text, .json_size = strlen(text), .config_yaml = "data: {}\n"};
    return ck_save_state(run, &CFG, &s, e);
}

static int same(const buf *a, const buf *b) { return a->bytes == b->bytes && !memcmp(a->p, b->p, a->bytes); }

/* dir holds exactly what save(step) wrote, bit for bit, and is a model too */
static void holds(const char *dir, int64_t step) {
    params tr, ta, wr, wa;
    char *text, want[64];
    size_t n;
    int64_t at;
    jepa_err e = {0};
    shape(&tr, &ta);
    shape(&wr, &wa);
    fill(&wr, &wa, step);
    if (ck_load_state(dir, &tr, &ta, &at, &text, &n, &e)) fail_msg("%s", e.text);
    assert_int_equal(at, step);
    snprintf(want, sizeof want, "{\"seed\": 18446744073709551615, \"at\": %lld}", (long long)step);
    assert_int_equal(n, strlen(want));
    assert_memory_equal(text, want, n);
    assert_true(same(&tr.value, &wr.value) && same(&tr.m, &wr.m) && same(&tr.v, &wr.v) && same(&ta.value, &wa.value));
    mem_free(text);
    ck *c;
    model_cfg m;
    if (ck_open(&c, dir, &e) || ck_config(c, &m, &e)) fail_msg("%s", e.text);
    assert_string_equal(ck_kind(c), "jepa run checkpoint");
    assert_true(ck_has(c, CK_TARGET) && ck_has(c, CK_ENCODER) && ck_has(c, CK_PREDICTOR));
    if (ck_load(c, &ta, "target_encoder.", CK_TARGET, 0, NULL, &e) || ck_load(c, &tr, "encoder.", CK_ENCODER, 0, NULL, &e))
        fail_msg("%s", e.text);
    ck_close(&c);
    params_close(&tr);
    params_close(&ta);
    params_close(&wr);
    params_close(&wa);
}

static int leftovers(void) {
    int n = 0;
    DIR *d = opendir(run);
    for (struct dirent *e; d && (e = readdir(d));) n += strstr(e->d_name, ".tmp") != NULL;
    if (d) closedir(d);
    return n;
}

static int open_files(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}

static void empty(const char *path) {
    DIR *d = opendir(path);
    char sub[512];
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(sub, sizeof sub, "%s/%s", path, e->d_name);
        if (unlink(sub)) empty(sub);
    }
    if (d) closedir(d);
    rmdir(path);
}

static int setup(void **state) {
    /* in memory where the system has such a place: these tests sync ten thousand times */
    snprintf(run, sizeof run, "%s/jepa-run-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(run)) return -1;
    snprintf(latest, sizeof latest, "%s/latest", run);
    shape(&train, &target);
    fail_at = fail_on = no_exchange = 0;
    return 0;
}

static int teardown(void **state) {
    fail_at = 0;
    params_close(&train);
    params_close(&target);
    empty(run);
    return 0;
}

static int group_setup(void **state) { return dev_open(&device, "ref", 1, NULL); }
static int group_teardown(void **state) {
    dev_close(&device);
    return 0;
}

static void link_is(const char *want) {
    char to[64];
    ssize_t n = readlink(latest, to, sizeof to - 1);
    if (n < 0) fail_msg("no latest");
    to[n] = 0;
    assert_string_equal(to, want);
}

static void found(int64_t step) {
    char path[256], want[256];
    jepa_err e = {0};
    if (ck_find_latest(run, path, sizeof path, &e)) fail_msg("not found: %s", e.text);
    snprintf(want, sizeof want, "%s/step-%08lld", run, (long long)step);
    assert_string_equal(path, want);
}

static void a_state_comes_back(void **state) {
    jepa_err e = {0};
    char path[256];
    assert_int_equal(ck_find_latest(run, path, sizeof path, &e), JEPA_E_END);
    assert_int_equal(ck_find_latest("/nonexistent", path, sizeof path, &e), JEPA_E_END);
    if (save(10, &e) || save(20, &e)) fail_msg("%s", e.text);
    link_is("step-00000020");
    holds(latest, 20);
    holds(run, 20);
    found(20);
    snprintf(path, sizeof path, "%s/step-00000010", run);
    holds(path, 10);
    assert_int_equal(leftovers(), 0);
    if (save(10, &e)) fail_msg("%s", e.text); /* going on from an older step: latest follows what was saved last */
    link_is("step-00000010");
    found(10);
    holds(latest, 10);
    assert_int_equal(leftovers(), 0);
    ck *c;
    if (ck_open(&c, run, &e)) fail_msg("%s", e.text);
    assert_non_null(strstr(ck_path(c), "step-00000010"));
    ck_close(&c);
}

/* Every place where the system can say no, once alone and once for good: what was there stays, and is found. */
static void nothing_is_lost_wherever_it_fails(void **state) {
    int tried = 0;
    for (int again = 0; again < 3;
         again++) /* again: the step folder that is saved exists already; 2: and two folders cannot change places */
        for (int on = 0; on < 2; on++)
            for (int n = 1;; n++, tried++) {
                jepa_err e = {0};
                fail_at = 0;
                no_exchange = again == 2;
                empty(run);
                assert_int_equal(mkdir(run, 0777), 0);
                if (save(1, &e) || (again && save(2, &e))) fail_msg("%s", e.text);
                int files = open_files();
                fill(&train, &target, 2);
                points = 0;
                fail_at = n;
                fail_on = on;
                int rc = save(2, &e);
                int passed = points;
                fail_at = 0;
                assert_int_equal(open_files(), files);
                if (rc && rc != JEPA_E_IO && rc != JEPA_E_MEMORY) fail_msg("point %d: %d %s", n, rc, e.text);
                if (rc && !strstr(e.text, "step 2")) fail_msg("point %d: %s", n, e.text);
                char path[256], to[64] = "";
                snprintf(path, sizeof path, "%s/step-00000001", run);
                holds(path, 1);
                ssize_t k = readlink(latest, to, sizeof to - 1);
                if (k < 0) fail_msg("point %d: latest is gone", n);
                int64_t step = !strcmp(to, "step-00000002") ? 2 : 1;
                holds(latest, step);
                found(step);
                snprintf(path, sizeof path, "%s/step-00000002", run);
                if (!access(path, F_OK))
                    holds(path, 2);
                else if (again || step == 2)
                    fail_msg("point %d: step 2 is gone", n);
                if (!rc && step != 2) fail_msg("point %d: success without a checkpoint", n);
                assert_int_equal(ck_clean(run, 0, &e), 0);
                assert_int_equal(leftovers(), 0);
                holds(latest, step);
                if (save(3, &e)) fail_msg("point %d, afterwards: %s", n, e.text); /* and the run goes on */
                holds(latest, 3);
                if (passed < n) break;
            }
    assert_true(tried > 200); /* 60 or so points, six rounds */
    print_message("%d failures injected\n", tried);
}

static void a_failed_load_gives_everything_back(void **state) {
    jepa_err e = {0};
    assert_int_equal(save(3, &e), 0);
    params tr, ta;
    shape(&tr, &ta);
    int n = 1, files = open_files();
    for (;; n++) {
        char *text = NULL;
        size_t size;
        int64_t step;
        points = 0;
        fail_at = n;
        int rc = ck_load_state(run, &tr, &ta, &step, &text, &size, &e);
        int passed = points;
        fail_at = 0;
        assert_int_equal(open_files(), files);
        if (rc && (text || !e.text[0])) fail_msg("point %d: %d", n, rc);
        mem_free(text);
        if (passed < n) {
            assert_int_equal(rc, 0);
            break;
        }
        if (!rc) fail_msg("point %d: not noticed", n);
    }
    assert_true(n > 10);
    params_close(&tr);
    params_close(&ta);
}

static void a_cut_off_save_is_no_checkpoint(void **state) {
    jepa_err e = {0};
    char path[256], sub[300];
    assert_int_equal(save(5, &e), 0);
    snprintf(path, sizeof path, "%s/step-00000009.tmp", run); /* as a kill leaves it */
    assert_int_equal(mkdir(path, 0777), 0);
    snprintf(sub, sizeof sub, "%s/model.safetensors.tmp", path);
    close(open(sub, O_CREAT | O_WRONLY, 0666));
    snprintf(sub, sizeof sub, "%s/latest.tmp", run);
    assert_int_equal(symlink("step-00000009", sub), 0);
    found(5);
    holds(run, 5);
    assert_int_equal(save(9, &e), 0); /* the leftovers are in nobody's way */
    holds(latest, 9);
    assert_int_equal(leftovers(), 0);
    assert_int_equal(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/step-00000011", run); /* a folder that is not whole is passed over */
    assert_int_equal(mkdir(path, 0777), 0);
    assert_int_equal(unlink(latest), 0);
    found(9);
    assert_int_equal(symlink("step-00000011", latest), 0);
    found(9);
    assert_int_equal(unlink(latest), 0);
    assert_int_equal(symlink("../elsewhere", latest), 0);
    found(9);
    assert_int_equal(ck_clean(run, 0, &e), 0);
    assert_int_equal(leftovers(), 0);
    found(9);
}

static void cleaning_keeps_the_newest(void **state) {
    jepa_err e = {0};
    char path[256];
    for (int i = 1; i <= 5; i++) assert_int_equal(save(i, &e), 0);
    assert_int_equal(save(2, &e), 0); /* latest points at 2 */
    assert_int_equal(ck_clean(run, 0, &e), 0);
    snprintf(path, sizeof path, "%s/step-00000001", run);
    assert_int_equal(access(path, F_OK), 0);
    if (ck_clean(run, 2, &e)) fail_msg("%s", e.text);
    for (int i = 1; i <= 5; i++) {
        snprintf(path, sizeof path, "%s/step-%08d", run, i);
        assert_int_equal(access(path, F_OK), i >= 4 || i == 2 ? 0 : -1);
    }
    holds(latest, 2);
    assert_int_equal(ck_clean("/nonexistent", 1, &e), 0);
}

static void a_state_that_does_not_fit_is_refused(void **state) {
    jepa_err e = {0};
    char path[256], *text;
    size_t n;
    int64_t step;
    assert_int_equal(save(7, &e), 0);
    params tr, ta, big = {0};
    shape(&tr, &ta);
    add(&big, "encoder.blocks.0.attn.qkv.weight", 2, 24, 9, 0);
    assert_int_equal(params_alloc(&big, device, PARAMS_MOMENTS, NULL), 0);
    assert_int_equal(ck_load_state(run, &big, NULL, &step, &text, &n, &e), JEPA_E_MODEL);
    assert_non_null(strstr(e.text, "exp_avg.encoder.blocks.0.attn.qkv.weight is of another shape"));
    assert_null(text);
    params_close(&big);
    add(&big, "encoder.norm.bias", 1, 8, 0, 0);
    assert_int_equal(params_alloc(&big, device, PARAMS_MOMENTS, NULL), 0);
    assert_int_equal(ck_load_state(run, &big, NULL, &step, &text, &n, &e), JEPA_E_MODEL);
    assert_non_null(strstr(e.text, "holds 8 tensors, the model's moments are 2"));
    params_close(&big);
    assert_int_equal(ck_load_state(run, &ta, NULL, &step, &text, &n, &e), JEPA_E_USE); /* no moments to fill */
    snprintf(path, sizeof path, "%s/step-00000007/optimizer.safetensors", run);
    assert_int_equal(truncate(path, 400), 0);
    assert_int_equal(ck_load_state(run, &tr, &ta, &step, &text, &n, &e), JEPA_E_MODEL);
    assert_non_null(strstr(e.text, "cut short"));
    snprintf(path, sizeof path, "%s/step-00000007/state.json", run);
    unlink(path);
    assert_int_equal(ck_load_state(run, &tr, &ta, &step, &text, &n, &e), JEPA_E_MODEL); /* the folder is not whole: no checkpoint here */
    assert_int_equal(ck_load_state(TEST_DATA "/vectors/vjepa2-hf-tiny/model", &tr, &ta, &step, &text, &n, &e), JEPA_E_MODEL);
    assert_non_null(strstr(e.text, "is a Hugging Face VJEPA2Model folder, not a checkpoint"));
    ck_state s = {.step = 1, .train = &ta, .target = &ta};
    assert_int_equal(ck_save_state(run, &CFG, &s, &e), JEPA_E_USE);
    s = (ck_state){.step = -1, .train = &tr, .target = &ta};
    assert_int_equal(ck_save_state(run, &CFG, &s, &e), JEPA_E_USE);
    s.step = 123456789012;
    assert_int_equal(ck_save_state(run, &CFG, &s, &e), 0); /* more digits than eight, and no text of the trainer's */
    assert_int_equal(ck_load_state(run, &tr, &ta, &step, &text, &n, &e), 0);
    assert_int_equal(step, 123456789012);
    assert_string_equal(text, "{}");
    mem_free(text);
    params_close(&tr);
    params_close(&ta);
}

static void a_run_folder_that_cannot_be_written_is_named(void **state) {
    jepa_err e = {0};
    char file[128], was[64];
    snprintf(file, sizeof file, "%s/file", run);
    close(open(file, O_CREAT | O_WRONLY, 0666));
    memcpy(was, run, sizeof was);
    snprintf(run, sizeof run, "%.50s/file", was);
    assert_int_equal(save(1, &e), JEPA_E_IO);
    assert_non_null(strstr(e.text, "/file"));
    memcpy(run, was, sizeof was);
}

int main(void) {
#define RUN(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest t[] = {
        RUN(a_state_comes_back),
        RUN(nothing_is_lost_wherever_it_fails),
        RUN(a_failed_load_gives_everything_back),
        RUN(a_cut_off_save_is_no_checkpoint),
        RUN(cleaning_keeps_the_newest),
        RUN(a_state_that_does_not_fit_is_refused),
        RUN(a_run_folder_that_cannot_be_written_is_named),
    };
    return cmocka_run_group_tests(t, group_setup, group_teardown);
}
