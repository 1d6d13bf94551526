/* test_classify_api.c: jepa_classify: the published values, segments and views against what they are made of, names, refusals, threads,
 * failures at every point. */
#include "infer/classify.h"

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
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define VECTORS TEST_DATA "/vectors/vjepa2-hf-tiny"
#define MODEL VECTORS "/classifier" /* 64 pixels, patches of 16, 4 frames: 32 tokens of 56 channels; 7 classes */
enum { D = 56, N = 32, CLASSES = 7, W = 160, H = 80, T = 24 };

static atomic_int fail_at, points;
int fault_point(const char *name) {
    (void)name;
    int n = atomic_fetch_add(&points, 1) + 1;
    return n == atomic_load(&fail_at) ? ENOMEM : 0;
}

static char dir[64], clip[96], copy[96];

#define must(call)                                                                                                                         \
    do {                                                                                                                                   \
        int code_ = (call);                                                                                                                \
        if (code_ < 0) fail_msg("line %d: code %d: %s", __LINE__, code_, err.text);                                                        \
    } while (0)

static jepa *model(const char *path) {
    jepa_err err = {0};
    jepa_options o;
    jepa *m;
    jepa_options_defaults(&o);
    o.device = "cpu", o.threads = 1;
    must(jepa_open(&m, path, &o, &err));
    return m;
}
static jepa_run *session(jepa *m) {
    jepa_err err = {0};
    jepa_run *r;
    must(jepa_session(m, &r, &err));
    return r;
}

/* softmax of the stored scores */
static void stored_values_are_met(void **state) {
    jepa_err err = {0};
    st_file *in = NULL, *out = NULL;
    must(st_open(&in, VECTORS "/io.safetensors", &err));
    must(st_open(&out, VECTORS "/classifier-io.safetensors", &err));
    const st_tensor *x = st_find(in, "pixel_values_videos"), *logits = st_find(out, "logits");
    assert_true(x && logits && logits->t.dim[1] == CLASSES);
    jepa *m = model(MODEL);
    jepa_run *r = session(m);
    class_plan p;
    must(class_plan_make(m, NULL, 1, 1, &p, &err));
    const size_t clip_size = (size_t)(tensor_count(&x->t) / x->t.dim[0]);
    float *one = mem_alloc(clip_size, sizeof *one), scores[CLASSES];
    for (int64_t b = 0; b < x->t.dim[0]; b++) {
        double got[CLASSES], want[CLASSES];
        memcpy(one, (const char *)x->t.data + (size_t)b * clip_size * sizeof *one, clip_size * sizeof *one);
        memcpy(scores, (const char *)logits->t.data + (size_t)b * sizeof scores, sizeof scores);
        softmax_rows(scores, 1, CLASSES, want);
        must(classify_tensor(r, &p, one, x->t.dim[1], x->t.dim[3], x->t.dim[4], got, &err));
        for (int i = 0; i < CLASSES; i++) assert_true(fabs(got[i] - want[i]) < 1e-5); /* scores are within 2e-6 */
    }
    /* a single frame fills the tubelet, as published */
    double a[CLASSES], b[CLASSES];
    float *two = mem_alloc(clip_size, sizeof *two);
    memcpy(two, one, clip_size / 4 * sizeof *two), memcpy(two + clip_size / 4, one, clip_size / 4 * sizeof *two);
    must(classify_tensor(r, &p, one, 1, 64, 64, a, &err));
    must(classify_tensor(r, &p, two, 2, 64, 64, b, &err));
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(classify_tensor(r, &p, one, 3, 64, 64, a, &err), JEPA_E_INPUT);
    assert_int_equal(classify_tensor(r, &p, one, 4, 60, 64, a, &err), JEPA_E_INPUT);
    assert_int_equal(classify_tensor(r, &p, one, 0, 64, 64, a, &err), JEPA_E_INPUT);
    mem_free(one), mem_free(two);
    jepa_session_close(&r);
    jepa_close(&m);
    st_close(&in), st_close(&out);
}

/* The tokens of all segments are one set that the query looks at: made here from embeddings and the pooler alone. */
static void segments_are_pooled_together(void **state) {
    enum { SEGMENTS = 3 };
    jepa_err err = {0};
    jepa *m = model(MODEL);
    jepa_run *r = session(m);
    jepa_embed_options eo;
    jepa_embedding e = {0};
    jepa_classify_options o;
    jepa_classes got = {0};
    jepa_embed_options_defaults(&eo);
    eo.pool = JEPA_POOL_NONE, eo.clips = SEGMENTS, eo.fps = 8;
    must(jepa_embed_video(r, clip, &eo, &e, &err));
    assert_true(e.rows == SEGMENTS && e.per_row == N && e.dim == D);
    jepa_classify_options_defaults(&o);
    o.segments = SEGMENTS, o.top = 100, o.sampling = &eo;
    must(jepa_classify(r, clip, &o, &got, &err));
    assert_true(got.n == CLASSES && got.classes == CLASSES);

    params p = {0};
    att *a = NULL;
    att_acts *acts = NULL;
    ck_report report;
    float logits[CLASSES];
    double want[CLASSES], single[CLASSES] = {0}, sum = 0;
    const att_cfg c = {.embed_dim = D, .num_heads = 2, .depth = 2, .num_classes = CLASSES, .mlp_ratio = 4, .layer_norm_eps = 1e-6};
    const att_shape shape = {.batch = 1, .tokens = SEGMENTS * N};
    must(att_open(&a, &c, &p, "", &err));
    must(params_alloc(&p, m->d, 0, &err));
    must(ck_load(m->c, &p, "", CK_POOLER, 0, &report, &err));
    must(att_acts_open(&acts, a, m->d, &shape, &err));
    must(att_forward(a, r->q, &(att_in){.batch = 1, .tokens = SEGMENTS * N, .x = e.data}, acts, NULL, logits, &err));
    softmax_rows(logits, 1, CLASSES, want);
    for (int k = 0; k < SEGMENTS; k++) { /* which is not the mean over clips */
        double one[CLASSES];
        must(att_forward(a, r->q, &(att_in){.batch = 1, .tokens = N, .x = e.data + k * N * D}, acts, NULL, logits, &err));
        softmax_rows(logits, 1, CLASSES, one);
        for (int i = 0; i < CLASSES; i++) single[i] += one[i] / SEGMENTS;
    }
    double off = 0;
    for (int i = 0; i < CLASSES; i++) {
        assert_true(got.probability[i] == want[got.index[i]]);
        assert_true(i == 0 || got.probability[i] <= got.probability[i - 1]);
        sum += got.probability[i];
        off = fmax(off, fabs(single[i] - want[i]));
    }
    assert_true(fabs(sum - 1) < 1e-12);
    assert_true(off > 1e-4);
    assert_true(!strncmp(got.name[0], "LABEL_", 6) && got.name[0][6] == '0' + got.index[0] && !got.name[0][7]);
    att_acts_close(&acts), att_close(&a), params_close(&p);
    jepa_classes_free(&got);
    jepa_embedding_free(&e);
    jepa_session_close(&r);
    jepa_close(&m);
}

/* Views: crops at even distances along the long side, probabilities averaged: each view made here by the transform alone. */
static void views_are_averaged(void **state) {
    enum { VIEWS = 3 };
    jepa_err err = {0};
    jepa *m = model(MODEL);
    jepa_run *r = session(m);
    class_plan p, plain;
    vid *v = NULL;
    clip_list l = {0};
    double got[CLASSES], want[CLASSES] = {0}, first[CLASSES], middle[CLASSES];
    must(class_plan_make(m, NULL, 1, VIEWS, &p, &err));
    must(class_plan_make(m, NULL, 1, 1, &plain, &err));
    must(classify_video(r, &p, clip, got, &err));
    must(vid_open(&v, clip, NULL, &err));
    must(clips_of(v, &p.clip, &l, &err));
    assert_int_equal(l.n, 1);
    uint8_t *rgb = mem_alloc(4, W * H * 3);
    float *x = mem_alloc(4 * 3, 64 * 64 * sizeof *x);
    must(vid_read(v, l.index, 4, rgb, NULL, &err));
    for (int k = 0; k < VIEWS; k++) {
        clip_cfg c = m->clip;
        double one[CLASSES];
        c.num_views = VIEWS, c.view = k;
        must(clip_prepare_f32(&c, rgb, 4, H, W, 1, x, &err));
        must(classify_tensor(r, &plain, x, 4, 64, 64, one, &err));
        for (int i = 0; i < CLASSES; i++) want[i] += one[i] / VIEWS;
        if (!k) memcpy(first, one, sizeof one);
        if (k == 1) memcpy(middle, one, sizeof one);
    }
    double off = 0;
    for (int i = 0; i < CLASSES; i++) {
        assert_true(fabs(got[i] - want[i]) < 1e-6); /* uint8 normalised on the device against float32 made here */
        off = fmax(off, fabs(first[i] - middle[i]));
    }
    assert_true(off > 1e-3); /* the views do see different things */
    mem_free(rgb), mem_free(x), mem_free(l.index);
    vid_close(&v);
    jepa_session_close(&r);
    jepa_close(&m);
}

static void put_text(const char *name, const char *text) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", copy, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void names_come_from_the_file(void **state) {
    char *config, path[200], *at;
    size_t size;
    jepa_err err = {0};
    jepa_classes c = {0};
    must(file_read(MODEL "/config.json", 1 << 20, &config, &size, &err));
    at = strstr(config, "\"0\": \"LABEL_0\"");
    assert_non_null(at);
    char *changed = malloc(size + 200);
    sprintf(changed, "%.*s\"0\": \"Pushing [something] \\\"left\\\"\"%s", (int)(at - config), config, at + strlen("\"0\": \"LABEL_0\""));
    snprintf(path, sizeof path, "%s/model.safetensors", copy);
    assert_int_equal(symlink(MODEL "/model.safetensors", path), 0);
    put_text("config.json", changed);
    jepa *m = model(copy);
    jepa_run *r = session(m);
    jepa_classify_options o;
    jepa_classify_options_defaults(&o);
    o.top = CLASSES;
    must(jepa_classify(r, clip, &o, &c, &err));
    for (int i = 0; i < CLASSES; i++)
        if (c.index[i] == 0) assert_string_equal(c.name[i], "Pushing [something] \"left\"");
        else assert_int_equal(strncmp(c.name[i], "LABEL_", 6), 0);
    jepa_classes_free(&c);
    jepa_session_close(&r);
    jepa_close(&m);
    /* another number of classes than the weights have: refused by the tensor's name, for classifying only */
    at = strstr(config, "\"6\": \"LABEL_6\"");
    sprintf(changed, "%.*s\"6\": \"LABEL_6\", \"7\": \"one more\"%s", (int)(at - config), config, at + strlen("\"6\": \"LABEL_6\""));
    put_text("config.json", changed);
    m = model(copy);
    r = session(m);
    assert_int_equal(jepa_classify(r, clip, NULL, &c, &err), JEPA_E_MODEL);
    assert_non_null(strstr(err.text, "linear.weight has shape [7, 56] in the file, [8, 56] in the model"));
    jepa_session_close(&r);
    jepa_close(&m);
    /* another number of blocks: what is left over, or missing, is named; joined tensors count once */
    for (int blocks = 0; blocks < 4; blocks += 2) {
        at = strstr(config, "\"num_pooler_layers\": 1");
        assert_non_null(at);
        sprintf(changed, "%.*s\"num_pooler_layers\": %d%s", (int)(at - config), config, blocks, at + strlen("\"num_pooler_layers\": 1"));
        put_text("config.json", changed);
        m = model(copy);
        r = session(m);
        assert_int_equal(jepa_classify(r, clip, NULL, &c, &err), JEPA_E_MODEL);
        if (!strstr(err.text, blocks ? "pooler: 12 tensors missing, first pooler.blocks.1.norm1.weight (pooler.self_attention_layers.1"
                                     : "pooler: 12 tensors unexpected, first pooler.self_attention_layers.0."))
            fail_msg("%s", err.text);
        jepa_session_close(&r);
        jepa_close(&m);
    }
    unlink(path);
    snprintf(path, sizeof path, "%s/config.json", copy);
    unlink(path);
    free(changed);
    mem_free(config);
}

static void what_cannot_be_is_refused(void **state) {
    jepa_err err = {0};
    jepa_classes c = {0};
    jepa_classify_options o;
    jepa *m = model(VECTORS "/model");
    jepa_run *r = session(m);
    assert_int_equal(jepa_classify(r, clip, NULL, &c, &err), JEPA_E_MODEL);
    assert_non_null(strstr(err.text, "no classifier in it"));
    jepa_session_close(&r);
    jepa_close(&m);
    m = model(MODEL);
    r = session(m);
    assert_int_equal(jepa_classify(NULL, clip, NULL, &c, &err), JEPA_E_USE);
    assert_int_equal(jepa_classify(r, NULL, NULL, &c, &err), JEPA_E_USE);
    jepa_classify_options_defaults(&o);
    o.size++;
    assert_int_equal(jepa_classify(r, clip, &o, &c, &err), JEPA_E_USE);
    o.size = 0;
    assert_int_equal(jepa_classify(r, clip, &o, &c, &err), JEPA_E_USE);
#define BAD(field, v)                                                                                                                      \
    jepa_classify_options_defaults(&o), o.field = v;                                                                                       \
    assert_int_equal(jepa_classify(r, clip, &o, &c, &err), JEPA_E_USE)
    BAD(segments, 0);
    BAD(segments, 1001);
    BAD(views, 0);
    BAD(views, 1001);
    BAD(top, 0);
    assert_int_equal(jepa_classify(r, TEST_DATA "/nothing.mp4", NULL, &c, &err), JEPA_E_INPUT);
    assert_non_null(strstr(err.text, "not found"));
    assert_true(!c.index && !c.name && !c.n);
    must(jepa_classify(r, clip, NULL, &c, &err)); /* the session is as good as before */
    assert_int_equal(c.n, 5);
    jepa_classes_free(&c);
    jepa_classes_free(&c);
    jepa_classes_free(NULL);
    jepa_session_close(&r);
    jepa_close(&m);
}

typedef struct worker { jepa *m; jepa_classes c; int rc; } worker;
static void *work(void *arg) {
    worker *w = arg;
    jepa_run *r = NULL;
    if ((w->rc = jepa_session(w->m, &r, NULL)) == 0) w->rc = jepa_classify(r, clip, NULL, &w->c, NULL);
    jepa_session_close(&r);
    return NULL;
}

static void threads_share_a_head(void **state) {
    worker w[3] = {{0}, {0}, {0}};
    pthread_t t[3];
    w[0].m = w[1].m = w[2].m = model(MODEL);
    for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&t[i], NULL, work, &w[i]), 0);
    for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(w[i].rc, 0);
        assert_memory_equal(w[i].c.probability, w[0].c.probability, 5 * sizeof(double));
    }
    for (int i = 0; i < 3; i++) jepa_classes_free(&w[i].c);
    jepa_close(&w[0].m);
}

static void failures_at_every_point(void **state) {
    jepa_err err = {0};
    jepa_classes want = {0}, c = {0};
    jepa_classify_options o;
    jepa_classify_options_defaults(&o);
    o.segments = 2, o.views = 2;
    jepa *m = model(MODEL);
    jepa_run *r = session(m);
    must(jepa_classify(r, clip, &o, &want, &err));
    jepa_session_close(&r);
    jepa_close(&m);
    int failed = 0;
    for (int at = 1; at < 5000; at += at < 120 ? 1 : 1 + at % 7) {
        m = model(MODEL); /* so that the head is opened under the fault, too */
        r = session(m);
        memset(&err, 0, sizeof err);
        atomic_store(&points, 0), atomic_store(&fail_at, at);
        const int rc = jepa_classify(r, clip, &o, &c, &err), hit = atomic_load(&points) >= at;
        atomic_store(&fail_at, 0);
        if (rc < 0) {
            failed++;
            if (!err.text[0] || strchr(err.text, '\n') || c.index) fail_msg("point %d: code %d, '%s'", at, rc, err.text);
            must(jepa_classify(r, clip, &o, &c, &err)); /* and again without one */
        }
        assert_memory_equal(c.index, want.index, 5 * sizeof *c.index);
        jepa_classes_free(&c);
        jepa_session_close(&r);
        jepa_close(&m);
        if (!hit) break;
    }
    assert_true(failed > 20);
    jepa_classes_free(&want);
}

/* ---- a clip that is wider than high, and another at each end ---- */
static int begin(void **state) {
    const vid_write_cfg c = {.width = W, .height = H, .fps = 8, .crf = 10, .gop = 8};
    vid_writer *w = NULL;
    jepa_err err = {0};
    uint8_t *rgb = malloc(W * H * 3);
    video_quiet();
    strcpy(dir, "/tmp/jepa-class-XXXXXX");
    if (!rgb || !mkdtemp(dir)) return -1;
    snprintf(clip, sizeof clip, "%s/clip.mp4", dir);
    snprintf(copy, sizeof copy, "%s/copy", dir);
    int rc = mkdir(copy, 0700) ? -1 : vid_writer_open(&w, clip, &c, &err);
    for (int t = 0; t < T && rc == 0; t++) {
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++) {
                uint8_t *p = rgb + (y * W + x) * 3;
                p[0] = (uint8_t)(x * 255 / W), p[1] = (uint8_t)((x / 10 + y / 10 + t) % 2 ? 220 : 30), p[2] = (uint8_t)(t * 10);
            }
        rc = vid_writer_add(w, rgb, &err);
    }
    if (rc == 0) rc = vid_writer_finish(&w, &err);
    free(rgb);
    return rc;
}
static int end(void **state) {
    unlink(clip);
    rmdir(copy);
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stored_values_are_met),
        cmocka_unit_test(segments_are_pooled_together),
        cmocka_unit_test(views_are_averaged),
        cmocka_unit_test(names_come_from_the_file),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(threads_share_a_head),
        cmocka_unit_test(failures_at_every_point),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
