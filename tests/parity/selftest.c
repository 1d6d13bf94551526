/* selftest.c: the driver itself. Forged folders must pass or fail as they deserve: a wrong value, an unknown kind, family, verb, key, role
 * or parameter, a missing file, an empty folder fail; exclusions and null do what the rules say; NaN never passes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "parity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct place {
    char root[64], out[65536];
    parity_counts n;
} place;

static void write_file(const place *p, const char *name, const void *data, size_t size) {
    char path[512];
    jepa_err err = {0};
    snprintf(path, sizeof path, "%s/%s", p->root, name);
    if (file_write_atomic(path, data, size, &err) < 0) fail_msg("%s", err.text);
}
static void write_text(const place *p, const char *name, const char *text) { write_file(p, name, text, strlen(text)); }

static int setup(void **state) {
    place *p = calloc(1, sizeof *p);
    assert_non_null(p);
    strcpy(p->root, "parity-self-XXXXXX");
    assert_non_null(mkdtemp(p->root));
    *state = p;
    return 0;
}
static int teardown(void **state) {
    place *p = *state;
    static const char *const names[] = {"meta.json", "v.json", "t.safetensors", "w.pt", "step1.safetensors", "init.safetensors"};
    char path[512];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", p->root, names[i]);
        unlink(path);
    }
    int rc = rmdir(p->root);
    free(p);
    return rc;
}

/* Runs the folder; what was printed lies in p->out. */
static int run_only(place *p, const char *only) {
    const parity_opts o = {.device = "ref", .only = only, .verbose = 1};
    const char *dir[] = {p->root};
    FILE *f = fmemopen(p->out, sizeof p->out, "w");
    assert_non_null(f);
    int rc = parity_run(&o, dir, 1, f, &p->n);
    fclose(f);
    return rc;
}
static int run(place *p) { return run_only(p, NULL); }

static void expect(place *p, int rc, int passed, int failed, int skipped, const char *text) {
    int got = run(p);
    if (got != rc || p->n.passed != passed || p->n.failed != failed || p->n.skipped != skipped || !strstr(p->out, text))
        fail_msg("wanted exit %d, %d/%d/%d and \"%s\"; got exit %d and\n%s", rc, passed, failed, skipped, text, got, p->out);
}

/* A set with one schedule whose values are easily known: weight decay constant, no warm-up, lr constant. */
#define PARAMS                                                                                                                             \
    "\"params\":{\"schedule\":\"warmup_cosine\",\"iterations_per_epoch\":10,\"epochs\":1,\"warmup_epochs\":0,\"start_lr\":0.5,\"lr\":0.5," \
    "\"final_lr\":0.5,\"weight_decay\":0.25,\"final_weight_decay\":0.25,\"ipe_scale\":1,\"ema_start\":0.5,\"ema_end\":0.5}"
#define HEAD "{\"kind\":\"schedules\",\"config\":{},\"files\":{\"v.json\":\"records\"},\"checks\":["
#define CHECK "{\"name\":\"a\",\"run\":\"schedule\",\"inputs\":{}," PARAMS ",\"outputs\":{\"values\":\"v.json:/v\"},\"abs\":1e-6,\"rel\":0}"
#define TAIL "]}"

static void test_right_and_wrong_value(void **state) {
    place *p = *state;
    write_text(p, "meta.json", HEAD CHECK TAIL);
    write_text(p, "v.json", "{\"v\":[[1,0.5,0.25,0.5],[2,0.5,0.25,0.5]]}");
    expect(p, 0, 1, 0, 0, "1 passed, 0 failed, 0 skipped");
    write_text(p, "v.json", "{\"v\":[[1,0.5,0.25,0.5],[2,0.5,0.250002,0.5]]}");
    expect(p, 1, 0, 1, 0, "weight_decay of step 2");
    write_text(p, "v.json", "{\"v\":[[1,0.5,0.25,0.5],[2,0.5,0.2500009,0.5]]}"); /* inside 1e-6 */
    expect(p, 0, 1, 0, 0, "pass  ");
}

static void test_null_is_not_compared(void **state) {
    place *p = *state;
    write_text(p, "meta.json", HEAD CHECK TAIL);
    write_text(p, "v.json", "{\"v\":[[1,0.5,0.25,null]]}");
    expect(p, 0, 1, 0, 0, "some not compared");
    write_text(p, "v.json", "{\"v\":[[1,null,null,null]]}"); /* a check that compares nothing is no pass */
    expect(p, 0, 0, 0, 1, "nothing to compare");
    write_text(p, "v.json", "{\"v\":[]}");
    expect(p, 1, 0, 1, 0, "nothing was compared");
    write_text(p, "v.json", "{\"v\":[[1,0.5,0.25,\"0.5\"]]}");
    expect(p, 1, 0, 1, 0, "no number");
}

static void test_unknown_things_fail(void **state) {
    static const struct {
        const char *meta, *text;
    } bad[] = {
        {"{\"kind\":\"no-such\",\"checks\":[" CHECK "]}", "unknown kind \"no-such\""},
        {"{\"checks\":[" CHECK "]}", "no kind"},
        {"{\"kind\":\"schedules\",\"family\":\"vjepa9\",\"checks\":[" CHECK "]}", "unknown family"},
        {"{\"kind\":\"schedules\",\"colour\":1,\"checks\":[" CHECK "]}", "unknown key \"colour\""},
        {"{\"kind\":\"schedules\",\"config\":{\"embed_dimm\":3},\"checks\":[" CHECK "]}", "unknown key \"embed_dimm\""},
        {"{\"kind\":\"schedules\",\"files\":{\"v.json\":\"toy\"},\"checks\":[" CHECK "]}", "unknown role \"toy\""},
        {"{\"kind\":\"schedules\"}", "no list of checks"},
        {"{\"kind\":\"schedules\",\"checks\":[" CHECK "," CHECK "]}", "two checks are named"},
        {HEAD "{\"name\":\"a\",\"run\":\"no_such\",\"outputs\":{\"values\":\"v.json:/v\"},\"abs\":0,\"rel\":0}" TAIL,
         "unknown verb \"no_such\""},
        {HEAD "{\"name\":\"a\",\"run\":\"encode\",\"outputs\":{\"values\":\"v.json:/v\"},\"abs\":0,\"rel\":0}" TAIL,
         "has no verb \"encode\""},
        {HEAD "{\"name\":\"a\",\"kind\":\"other\",\"run\":\"schedule\",\"outputs\":{\"values\":\"v.json:/v\"},\"abs\":0,\"rel\":0}" TAIL,
         "unknown kind"},
        {HEAD "{\"name\":\"a\",\"run\":\"schedule\",\"extra\":1,\"outputs\":{\"values\":\"v.json:/v\"},\"abs\":0,\"rel\":0}" TAIL,
         "unknown key \"extra\""},
        {HEAD
         "{\"name\":\"a\",\"run\":\"schedule\",\"params\":{\"speed\":1},\"outputs\":{\"values\":\"v.json:/v\"},\"abs\":0,\"rel\":0}" TAIL,
         "unknown key \"speed\""},
        {HEAD "{\"name\":\"a\",\"run\":\"schedule\",\"inputs\":{\"x\":\"v.json:/v\"},\"outputs\":{\"values\":\"v.json:/"
              "v\"},\"abs\":0,\"rel\":0}" TAIL,
         "unknown key \"x\""},
        {HEAD "{\"name\":\"a\",\"run\":\"schedule\"," PARAMS ",\"outputs\":{\"valuez\":\"v.json:/v\"},\"abs\":0,\"rel\":0}" TAIL,
         "unknown key \"valuez\""},
        {HEAD "{\"name\":\"a\",\"run\":\"schedule\"," PARAMS ",\"outputs\":{\"values\":\"v.json:/v\"},\"abs\":0}" TAIL, "no \"rel\""},
        {HEAD "{\"name\":\"a\",\"run\":\"schedule\"," PARAMS ",\"outputs\":{\"values\":\"v.json:/v\"},\"abs\":-1,\"rel\":0}" TAIL,
         "\"abs\" is -1"},
        {HEAD "{\"name\":\"a\",\"run\":\"schedule\"," PARAMS
              ",\"outputs\":{\"values\":\"v.json:/v\"},\"abs\":0,\"rel\":0,\"sigmas\":4}" TAIL,
         "sigmas"},
        {HEAD "{\"name\":\"a\",\"run\":\"schedule\"," PARAMS ",\"outputs\":{\"values\":\"gone.json:/v\"},\"abs\":0,\"rel\":0}" TAIL,
         "gone.json"},
        {HEAD "{\"name\":\"a\",\"run\":\"schedule\"," PARAMS ",\"outputs\":{\"values\":\"v.json:/w\"},\"abs\":0,\"rel\":0}" TAIL,
         "nothing at \"/w\""},
        {HEAD "{\"name\":\"a\",\"run\":\"schedule\"," PARAMS
              ",\"weights\":{\"heart\":{\"file\":\"v.json\"}},\"outputs\":{\"values\":\"v.json:/v\"},"
              "\"abs\":0,\"rel\":0}" TAIL,
         "unknown module \"heart\""},
        {HEAD "{\"name\":\"a\",\"run\":\"schedule\"," PARAMS
              ",\"exclude\":[{\"tensors\":\"*\",\"colums\":1}],\"outputs\":{\"values\":\"v.json:/v\"},"
              "\"abs\":0,\"rel\":0}" TAIL,
         "unknown key \"colums\""},
        {"{\"kind\":", "meta.json"},
    };
    place *p = *state;
    write_text(p, "v.json", "{\"v\":[[1,0.5,0.25,0.5]]}");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(p, "meta.json", bad[i].meta);
        expect(p, 1, 0, 1, 0, bad[i].text);
    }
}

static void test_empty_and_missing(void **state) {
    place *p = *state;
    expect(p, 1, 0, 0, 0, "no check was found");
    write_text(p, "meta.json", HEAD TAIL);
    expect(p, 1, 0, 0, 0, "no check was found");
    write_text(p, "meta.json", HEAD CHECK TAIL);
    write_text(p, "v.json", "{\"v\":[[1,0.5,0.25,0.5]]}");
    assert_int_equal(run_only(p, "*/other"), 1); /* --only that names nothing */
    assert_int_equal(run_only(p, "*/a"), 0);
    const parity_opts o = {.device = "ref"};
    const char *dir[] = {"parity-no-such-folder"};
    FILE *f = fmemopen(p->out, sizeof p->out, "w");
    assert_int_equal(parity_run(&o, dir, 1, f, &p->n), 1);
    fclose(f);
    assert_int_equal(p->n.failed, 1);
}

static void test_later_work_is_skipped_by_name(void **state) {
    place *p = *state;
    write_text(p, "meta.json",
               "{\"kind\":\"meta-encoder-predictor\",\"family\":\"vjepa2ac\",\"checks\":["
               "{\"name\":\"one\",\"run\":\"encode\",\"outputs\":{\"tokens\":\"t:x\"},\"abs\":0,\"rel\":0},"
               "{\"name\":\"two\",\"kind\":\"ac-planner\",\"run\":\"plan\",\"outputs\":{\"action\":\"t:x\"},\"abs\":0,\"rel\":0}]}");
    expect(p, 0, 0, 0, 2, "one: family vjepa2ac");
    assert_non_null(strstr(p->out, "two: the planner"));
}

/* A PyTorch archive is told by what it holds; the key belongs to it. What cannot be read fails. */
static void test_archives_that_are_none_fail(void **state) {
    static const struct {
        const char *key, *file;
        size_t size;
        const char *words;
    } forged[] = {{",\"key\":\"encoder\"", "PK\3\4 and more", 13, "w.pt"},
                  {"", "PK\3\4 and more", 13, "does not say under which key encoder lies"},
                  {",\"key\":\"encoder\"", "something else", 14, "no PyTorch archive"},
                  {"", "something else", 14, "w.pt"}};
    place *p = *state;
    for (size_t i = 0; i < sizeof forged / sizeof *forged; i++) {
        char text[1024];
        snprintf(
            text, sizeof text,
            "{\"kind\":\"meta-encoder-predictor\",\"family\":\"vjepa2\",\"config\":{\"use_rope\":true,\"img_height\":8,\"img_width\":8,"
            "\"patch_size\":4,\"tubelet_size\":2,\"num_frames\":2,\"embed_dim\":12,\"depth\":1,\"num_heads\":1,\"mlp_ratio\":1,"
            "\"layer_norm_eps\":1e-6,\"predictor_embed_dim\":12,\"predictor_depth\":1,\"predictor_num_heads\":1,"
            "\"predictor_mlp_ratio\":1,\"predictor_out_dim\":12,\"num_mask_tokens\":1},\"checks\":["
            "{\"name\":\"one\",\"run\":\"encode\",\"weights\":{\"encoder\":{\"file\":\"w.pt\"%s}},\"outputs\":{\"tokens\":\"t:x\"},"
            "\"abs\":0,\"rel\":0}]}",
            forged[i].key);
        write_text(p, "meta.json", text);
        write_file(p, "w.pt", forged[i].file, forged[i].size);
        expect(p, 1, 0, 1, 0, forged[i].words);
    }
}

/* ---- the comparison itself ---- */

static check forged(const char *text, json **root) {
    jepa_err err = {0};
    if (json_parse(root, text, strlen(text), "forged", &err) < 0) fail_msg("%s", err.text);
    check c = {.j = *root,
               .outputs = NULL,
               .abs = json_number(json_get(*root, "abs"), 0),
               .rel = json_number(json_get(*root, "rel"), 0),
               .mean_abs = -1};
    return c;
}

static int64_t bad_values(check *c, const char *module, const char *name, const float *a, const float *b, int rows, int columns) {
    jepa_err err = {0};
    const tensor x = tensor_f32(a, 2, (int64_t[]){rows, columns}), y = tensor_f32(b, 2, (int64_t[]){rows, columns});
    c->t = (tally){0};
    if (compare_tensor(c, module, name, &x, &y, &err) < 0) fail_msg("%s", err.text);
    return c->t.bad;
}

static void test_rule(void **state) {
    json *j;
    check c = forged("{\"abs\":0.1,\"rel\":0.01}", &j);
    const float b[4] = {10, -10, 0, 1};
    float a[4] = {10.19f, -10.19f, 0.09f, 1.1f};
    assert_int_equal(bad_values(&c, "m", "w", a, b, 2, 2), 0);
    a[1] = -10.21f; /* 0.1 + 0.01·10 is the bound, by the stored value */
    assert_int_equal(bad_values(&c, "m", "w", a, b, 2, 2), 1);
    assert_true(c.t.ratio > 1 && c.t.err > 0.2);
    c.mean_abs = 0.01;
    a[1] = -10.19f;
    assert_int_equal(bad_values(&c, "m", "w", a, b, 2, 2), 1);
    c.mean_abs = 0.2;
    assert_int_equal(bad_values(&c, "m", "w", a, b, 2, 2), 0);
    jepa_err err = {0};
    const tensor x = tensor_f32(a, 2, (int64_t[]){4, 1}), y = tensor_f32(b, 2, (int64_t[]){2, 2}),
                 z = tensor_f32(b, 3, (int64_t[]){1, 4, 1});
    assert_true(compare_tensor(&c, "m", "w", &x, &y, &err) < 0); /* another shape */
    assert_int_equal(compare_tensor(&c, "m", "w", &x, &z, &err), 0);
    json_close(&j);
}

static void test_nan_never_passes(void **state) {
    json *j;
    check c = forged("{\"abs\":1e300,\"rel\":1}", &j);
    const float good[2] = {1, 2}, bad[][2] = {{NAN, 2}, {INFINITY, 2}, {1, -INFINITY}};
    assert_int_equal(bad_values(&c, "m", "w", good, good, 1, 2), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(bad_values(&c, "m", "w", bad[i], good, 1, 2), 1);
        assert_int_equal(bad_values(&c, "m", "w", good, bad[i], 1, 2), 1);
        assert_int_equal(bad_values(&c, "m", "w", bad[i], bad[i], 1, 2), 1);
        c.t = (tally){0};
        compare_value(&c, "x", bad[i][0] + bad[i][1], 1, 1, 0);
        assert_int_equal(c.t.bad, 1);
    }
    c.t = (tally){0};
    compare_value(&c, "x", 1, 1, NAN, 0);
    assert_int_equal(c.t.bad, 1);
    json_close(&j);
}

static void test_exclusions(void **state) {
    json *j;
    check c = forged(
        "{\"abs\":0.1,\"rel\":0,\"exclude\":[{\"tensors\":\"blocks.*.bias\",\"module\":\"encoder\",\"rows\":[[1,2],[3,4]],\"abs\":5},"
        "{\"tensors\":\"flat\"}]}",
        &j);
    const float b[4] = {0, 0, 0, 0}, in[4] = {0, 4, 0, 4}, out[4] = {0, 4, 4, 4}, far[4] = {0, 6, 0, 0};
    assert_int_equal(bad_values(&c, "encoder", "blocks.0.attn.bias", in, b, 4, 1), 0);
    assert_true(c.t.err < 0.1); /* the row's error is of what the check's own bound holds */
    assert_int_equal(bad_values(&c, "encoder", "blocks.0.attn.bias", out, b, 4, 1), 1);
    assert_int_equal(bad_values(&c, "encoder", "blocks.0.attn.bias", far, b, 4, 1), 1);
    assert_int_equal(bad_values(&c, "predictor", "blocks.0.attn.bias", in, b, 4, 1), 2);
    assert_int_equal(bad_values(&c, "encoder", "norm.bias", in, b, 4, 1), 2);
    assert_int_equal(bad_values(&c, "encoder", "flat", out, b, 4, 1), 0);
    assert_int_equal(c.t.compared, 0);
    assert_int_equal(c.t.skipped, 4);
    json_close(&j);
}

static void test_word_in(void **state) {
    assert_true(word_in("a b_# c*", "a") && word_in("a b_# c*", "b_12") && word_in("a b_# c*", "c_long"));
    assert_false(word_in("a b_# c*", "b_") || word_in("a b_# c*", "b_x") || word_in("a b_# c*", "aa") || word_in("a b_# c*", "") ||
                 word_in("", "a"));
}

/* ---- files of tensors, and a whole training step with one value changed ---- */

static void test_tensor_files(void **state) {
    place *p = *state;
    uint8_t in[2 * 4 * 6 * 3], out[2 * 4 * 6 * 3];
    memset(in, 77, sizeof in);
    memset(out, 77, sizeof out);
    st_out item[] = {{"in", {T_U8, 4, {2, 4, 6, 3}, in}, T_NONE}, {"out", {T_U8, 4, {2, 4, 6, 3}, out}, T_NONE}};
    char path[512];
    jepa_err err = {0};
    snprintf(path, sizeof path, "%s/t.safetensors", p->root);
    write_text(p, "meta.json",
               "{\"kind\":\"transform\",\"checks\":[{\"name\":\"r\",\"run\":\"eval_resize\",\"inputs\":{\"frames\":\"t.safetensors:in\"},"
               "\"params\":{\"short_side\":4},\"outputs\":{\"resized\":\"t.safetensors:out\"},\"abs\":1,\"rel\":0}]}");
    assert_int_equal(st_write(path, item, 2, NULL, &err), 0);
    expect(p, 0, 1, 0, 0, "pass  ");
    out[17] = 79;
    assert_int_equal(st_write(path, item, 2, NULL, &err), 0);
    expect(p, 1, 0, 1, 0, "output.resized[17]: ours 77, stored 79");
    assert_int_equal(st_write(path, item, 1, NULL, &err), 0);
    expect(p, 1, 0, 1, 0, "no tensor \"out\"");
    write_file(p, "t.safetensors", "no safetensors at all", 21);
    run(p);
    assert_int_equal(p->n.failed, 1);
}

/* Copies a file of tensors, adding `by` to one element of one of them (NULL: none) or leaving a tensor out. */
static void copy_tensors(const place *p, const char *from, const char *to, const char *change, int64_t at, float by, const char *without) {
    jepa_err err = {0};
    st_file *f = NULL;
    char path[512];
    if (st_open(&f, from, &err) < 0) fail_msg("%s", err.text);
    int n = 0, seen = 0;
    st_out *item = calloc((size_t)st_count(f), sizeof *item);
    float *own = NULL;
    assert_non_null(item);
    for (int i = 0; i < st_count(f); i++) {
        const st_tensor *t = st_at(f, i);
        if (without && !strcmp(t->name, without)) continue;
        item[n] = (st_out){t->name, t->t, T_NONE};
        if (change && !strcmp(t->name, change)) {
            size_t count = (size_t)tensor_count(&t->t);
            own = malloc(count * sizeof *own);
            assert_non_null(own);
            memcpy(own, t->t.data, count * sizeof *own);
            own[at] += by;
            item[n].t.data = own;
            seen = 1;
        }
        n++;
    }
    assert_true(seen || !change);
    snprintf(path, sizeof path, "%s/%s", p->root, to);
    if (st_write(path, item, n, NULL, &err) < 0) fail_msg("%s", err.text);
    free(item);
    free(own);
    st_close(&f);
}

static void step_meta(const place *p, const char *exclude) {
    char *text = NULL;
    size_t size;
    jepa_err err = {0};
    json *j = NULL;
    assert_int_equal(file_read(TEST_DATA "/vectors/train-step-vjepa2/meta.json", 1 << 20, &text, &size, &err), 0);
    assert_int_equal(json_parse(&j, text, size, "meta.json", &err), 0);
    json_writer w = {0};
    jw_open(&w, NULL, '{');
    jw_string(&w, "kind", "train-step");
    jw_string(&w, "family", "vjepa2");
    jw_open(&w, "config", '{');
    for (const json *v = json_first(json_get(j, "config")); v; v = json_next(v)) {
        if (json_is_number(v))
            jw_double(&w, json_key(v), json_number(v, 0));
        else if (json_is_bool(v))
            jw_bool(&w, json_key(v), json_bool(v, 0));
        else if (json_is_string(v))
            jw_string(&w, json_key(v), json_string(v, ""));
    }
    jw_close(&w, '}');
    jw_close(&w, '}');
    assert_false(w.failed);
    char whole[16384];
    size_t front = strrchr(w.text, '}') - w.text;
    snprintf(whole, sizeof whole,
             "%.*s,\"checks\":[{\"name\":\"g\",\"run\":\"train_step\",\"weights\":{\"encoder\":{\"file\":\"init.safetensors\",\"prefix\":"
             "\"encoder.\"},"
             "\"predictor\":{\"file\":\"init.safetensors\",\"prefix\":\"predictor.\"},\"target_encoder\":{\"file\":\"init.safetensors\","
             "\"prefix\":"
             "\"target_encoder.\"}},\"inputs\":{\"x\":\"init.safetensors:x\",\"context_0\":\"init.safetensors:context_0\",\"context_1\":"
             "\"init.safetensors:context_1\",\"target_0\":\"init.safetensors:target_0\",\"target_1\":\"init.safetensors:target_1\"},"
             "\"params\":{\"step\":1,"
             "\"quantity\":\"grad\",\"grid\":[3,5,5],\"no_gradient\":[\"predictor.mask_tokens.1\"]},\"outputs\":{\"encoder\":"
             "\"step1.safetensors:grad.encoder.*\",\"predictor\":\"step1.safetensors:grad.predictor.*\"},\"abs\":2e-6,\"rel\":1e-3%s}]}",
             (int)front, w.text, exclude);
    write_text(p, "meta.json", whole);
    jw_free(&w);
    json_close(&j);
    mem_free(text);
}

static void test_training_step(void **state) {
    place *p = *state;
    const char *init = TEST_DATA "/vectors/train-step-vjepa2/init.safetensors",
               *step = TEST_DATA "/vectors/train-step-vjepa2/step1.safetensors";
    copy_tensors(p, init, "init.safetensors", NULL, 0, 0, NULL);
    copy_tensors(p, step, "step1.safetensors", NULL, 0, 0, NULL);
    step_meta(p, "");
    expect(p, 0, 1, 0, 0, "pass  ");
    /* one gradient of one parameter is off */
    copy_tensors(p, step, "step1.safetensors", "grad.encoder.blocks.1.norm2.bias", 5, 0.01f, NULL);
    expect(p, 1, 0, 1, 0, "encoder.blocks.1.norm2.bias[5]");
    step_meta(p, ",\"exclude\":[{\"tensors\":\"blocks.*.norm2.bias\",\"module\":\"encoder\",\"rows\":[[5,6]],\"abs\":0.02}]");
    expect(p, 0, 1, 0, 0, "pass  ");
    step_meta(p, ",\"exclude\":[{\"tensors\":\"blocks.*.norm2.bias\",\"module\":\"encoder\",\"rows\":[[4,5],[6,7]],\"abs\":0.02}]");
    expect(p, 1, 0, 1, 0, "encoder.blocks.1.norm2.bias[5]");
    step_meta(p, ",\"exclude\":[{\"tensors\":\"blocks.1.norm2.bias\"}]");
    expect(p, 0, 1, 0, 0, "some not compared");
    /* a gradient that the stored step does not have must be zero here */
    step_meta(p, "");
    copy_tensors(p, step, "step1.safetensors", NULL, 0, 0, "grad.encoder.norm.bias");
    expect(p, 1, 0, 1, 0, "encoder.norm.bias gets no gradient there");
    /* a parameter that the weights do not have */
    copy_tensors(p, step, "step1.safetensors", NULL, 0, 0, NULL);
    copy_tensors(p, init, "init.safetensors", NULL, 0, 0, "predictor.predictor_norm.bias");
    expect(p, 1, 0, 1, 0, "no tensor \"predictor.predictor_norm.bias\"");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_right_and_wrong_value, setup, teardown),
        cmocka_unit_test_setup_teardown(test_null_is_not_compared, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unknown_things_fail, setup, teardown),
        cmocka_unit_test_setup_teardown(test_empty_and_missing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_later_work_is_skipped_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(test_archives_that_are_none_fail, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tensor_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_training_step, setup, teardown),
        cmocka_unit_test(test_rule),
        cmocka_unit_test(test_nan_never_passes),
        cmocka_unit_test(test_exclusions),
        cmocka_unit_test(test_word_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
