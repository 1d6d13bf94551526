/* test_jepa_api.c: the public C interface: clips and frames in, embeddings out; wrong use, cancelling, threads, failures at every point. */
#include "infer/jepa.h"
#include "video/synth.h"
#include "video/video.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
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

#define MODEL TEST_DATA "/vectors/vjepa2-hf-tiny/model" /* 64 pixels, patches of 16, 4 frames, 56 channels */
enum { D = 56, N = 2 * 4 * 4, T = 16, S = 48 };

static atomic_int fail_at, points;
int fault_point(const char *name) {
    (void)name;
    int n = atomic_fetch_add(&points, 1) + 1;
    return n == atomic_load(&fail_at) ? ENOMEM : 0;
}

static char dir[64], clip[96], other[96];

static void options(jepa_options *o) {
    jepa_options_defaults(o);
    o->device = "cpu";
    o->threads = 1;
}

static void open_model(jepa **m) {
    jepa_err err = {0};
    jepa_options o;
    options(&o);
    if (jepa_open(m, MODEL, &o, &err) < 0) fail_msg("%s", err.text);
}

static jepa_run *session(jepa *m) {
    jepa_err err = {0};
    jepa_run *r;
    if (jepa_session(m, &r, &err) < 0) fail_msg("%s", err.text);
    return r;
}

static void what_it_says_of_itself(void **state) {
    (void)state;
    jepa *m;
    jepa_info i = {.size = sizeof i};
    assert_true(strlen(jepa_version()) >= 5);
    open_model(&m);
    assert_int_equal(jepa_get_info(m, &i), 0);
    assert_string_equal(i.family, "vjepa2");
    assert_true(i.img_height == 64 && i.img_width == 64 && i.patch_size == 16 && i.tubelet_size == 2 && i.num_frames == 4);
    assert_true(i.embed_dim == D && i.depth == 2 && i.num_heads == 2 && i.parameters > 1000);
    assert_true(i.has_predictor && i.has_context_encoder);
    i = (jepa_info){.size = offsetof(jepa_info, img_height)}; /* an older caller: the tail is left alone */
    i.depth = -5;
    assert_int_equal(jepa_get_info(m, &i), 0);
    assert_int_equal(i.depth, -5);
    i.size = sizeof i + 1;
    assert_int_equal(jepa_get_info(m, &i), JEPA_E_USE);
    assert_int_equal(jepa_get_info(NULL, &i), JEPA_E_USE);
    jepa_close(&m);
    assert_null(m);
    jepa_close(&m);
    jepa_close(NULL);
    jepa_session_close(NULL);
    jepa_embedding_free(NULL);
}

static void shapes_of_rows(void **state) {
    (void)state;
    jepa *m;
    jepa_err err = {0};
    jepa_embed_options o;
    jepa_embedding mean = {0}, e = {0};
    open_model(&m);
    jepa_run *r = session(m);
    if (jepa_embed_video(r, clip, NULL, &mean, &err) < 0) fail_msg("%s", err.text);
    assert_true(mean.rows == 1 && mean.per_row == 1 && mean.dim == D && mean.grid[0] == 2 && mean.grid[1] == 4 && mean.grid[2] == 4);
    assert_true(mean.start_seconds[0] == 0 && mean.end_seconds[0] > 0);
    static const int per_row[] = {1, N, 16, 2};
    for (int pool = JEPA_POOL_MEAN; pool <= JEPA_POOL_SPACE; pool++) {
        jepa_embed_options_defaults(&o);
        o.pool = pool;
        assert_int_equal(jepa_embed_video(r, clip, &o, &e, &err), 0);
        assert_true(e.rows == 1 && e.per_row == per_row[pool] && e.dim == D);
        for (int c = 0; c < D; c++) { /* every pooling has the same mean over its rows (equal groups) */
            double s = 0;
            for (int i = 0; i < e.per_row; i++) s += e.data[i * D + c];
            assert_true(fabs(s / (double)e.per_row - mean.data[c]) < 1e-5); /* values of size 1, float32 sums of 32 */
        }
        jepa_embedding_free(&e);
        assert_null(e.data);
    }
    const int layer[] = {0, 1};
    jepa_embed_options_defaults(&o);
    o.layers = 2, o.layer = layer, o.clips = 3, o.stride = 1;
    assert_int_equal(jepa_embed_video(r, clip, &o, &e, &err), 0);
    assert_true(e.rows == 3 && e.dim == 2 * D);
    assert_true(e.start_seconds[0] < e.start_seconds[1] && e.start_seconds[1] < e.start_seconds[2]);
    jepa_embedding_free(&e);
    jepa_embed_options_defaults(&o);
    o.crop = 32, o.frames = 6, o.pool = JEPA_POOL_NONE;
    assert_int_equal(jepa_embed_video(r, clip, &o, &e, &err), 0);
    assert_true(e.per_row == 3 * 2 * 2);
    jepa_embedding_free(&e);
    jepa_embed_options_defaults(&o);
    o.every = 0.25, o.fps = 8; /* 2 s; a clip of 4 frames spans 3/8 s */
    assert_int_equal(jepa_embed_video(r, clip, &o, &e, &err), 0);
    assert_int_equal(e.rows, 7);
    jepa_embedding_free(&e);
    jepa_embedding_free(&mean);
    jepa_session_close(&r);
    jepa_close(&m);
}

/* Frames handed over give what the file gives: tight rows, padded rows. NV12 of the same picture within its rounding. */
static void frames_from_memory(void **state) {
    (void)state;
    jepa *m;
    jepa_err err = {0};
    vid *v;
    uint8_t rgb[4][S * S * 3], padded[4][S * (S * 3 + 13)], y[4][S * (S + 16)], uv[4][S / 2 * (S + 32)], back[4][S * S * 3];
    const uint8_t *p0[4], *p1[4];
    const int64_t index[4] = {0, 1, 2, 3};
    assert_int_equal(vid_open(&v, clip, NULL, &err), 0);
    assert_int_equal(vid_read(v, index, 4, rgb[0], NULL, &err), 0);
    vid_close(&v);
    open_model(&m);
    jepa_run *r = session(m);
    jepa_embed_options o;
    jepa_embed_options_defaults(&o);
    o.stride = 1, o.pool = JEPA_POOL_NONE;
    jepa_embedding want = {0}, e = {0};
    assert_int_equal(jepa_embed_video(r, clip, &o, &want, &err), 0);
    jepa_frames f = {.size = sizeof f, .format = JEPA_FRAMES_RGB8, .width = S, .height = S, .count = 4, .plane0 = p0};
    for (int i = 0; i < 4; i++) p0[i] = rgb[i];
    if (jepa_embed_frames(r, &f, &o, &e, &err) < 0) fail_msg("%s", err.text);
    assert_true(e.rows == 1 && e.per_row == N && e.dim == D);
    assert_memory_equal(e.data, want.data, N * D * sizeof(float));
    jepa_embedding_free(&e);

    for (int i = 0; i < 4; i++) {
        memset(padded[i], 255, sizeof padded[i]);
        for (int k = 0; k < S; k++) memcpy(padded[i] + k * (S * 3 + 13), rgb[i] + k * S * 3, S * 3);
        p0[i] = padded[i];
    }
    f.stride0 = S * 3 + 13;
    assert_int_equal(jepa_embed_frames(r, &f, &o, &e, &err), 0);
    assert_memory_equal(e.data, want.data, N * D * sizeof(float));
    jepa_embedding_free(&e);

    f.count = 3; /* the last frame fills the tubelet */
    assert_int_equal(jepa_embed_frames(r, &f, &o, &e, &err), 0);
    assert_true(e.grid[0] == 2 && e.per_row == N);
    jepa_embedding_free(&e);
    f.count = 1;
    assert_int_equal(jepa_embed_frames(r, &f, &o, &e, &err), 0);
    assert_true(e.grid[0] == 1 && e.per_row == N / 2);
    jepa_embedding_free(&e);

    /* NV12, coloured; what its conversion gives, computed here by the standard's own coefficients (BT.709, limited range), goes in as RGB */
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < S * (S + 16); k++) y[i][k] = (uint8_t)(30 + (k * 7 + i * 31) % 190);
        for (int k = 0; k < S / 2 * (S + 32); k++) uv[i][k] = (uint8_t)(88 + (k * 5 + i * 11) % 80);
        for (int row = 0; row < S; row++)
            for (int x = 0; x < S; x++) {
                const double kr = 0.2126, kb = 0.0722, kg = 1 - kr - kb;
                double l = (y[i][row * (S + 16) + x] - 16) / 219.0, cb = (uv[i][row / 2 * (S + 32) + x / 2 * 2] - 128) / 224.0,
                       cr = (uv[i][row / 2 * (S + 32) + x / 2 * 2 + 1] - 128) / 224.0, red = l + 2 * (1 - kr) * cr, blue = l + 2 * (1 - kb) * cb,
                       c[3] = {red, (l - kr * red - kb * blue) / kg, blue};
                for (int k = 0; k < 3; k++) back[i][(row * S + x) * 3 + k] = (uint8_t)(fmin(fmax(c[k], 0), 1) * 255 + 0.5);
            }
        p0[i] = back[i];
    }
    f = (jepa_frames){.size = sizeof f, .format = JEPA_FRAMES_RGB8, .width = S, .height = S, .count = 4, .plane0 = p0};
    jepa_embedding_free(&want);
    assert_int_equal(jepa_embed_frames(r, &f, &o, &want, &err), 0);
    for (int i = 0; i < 4; i++) p0[i] = y[i], p1[i] = uv[i];
    f.format = JEPA_FRAMES_NV12, f.plane1 = p1, f.stride0 = S + 16, f.stride1 = S + 32;
    assert_int_equal(jepa_embed_frames(r, &f, &o, &e, &err), 0);
    double most = 0;
    for (int i = 0; i < N * D; i++) most = fmax(most, fabs((double)e.data[i] - want.data[i]));
    assert_true(most < 0.02); /* coefficients of six digits against exact ones: a few bytes round the other way, by one level of 255 */
    jepa_embedding_free(&e);

    /* what is wrong with frames */
    const jepa_frames good = f;
#define REFUSED(change)                                                     \
    do {                                                                    \
        f = good;                                                           \
        change;                                                             \
        err.text[0] = 0;                                                    \
        assert_int_equal(jepa_embed_frames(r, &f, &o, &e, &err), JEPA_E_USE); \
        assert_true(err.text[0] && !e.data);                                \
    } while (0)
    REFUSED(f.size = 0);
    REFUSED(f.size = sizeof f + 1);
    REFUSED(f.format = 7);
    REFUSED(f.width = 0);
    REFUSED(f.width = -4);
    REFUSED(f.height = 1 << 20);
    REFUSED(f.count = 0);
    REFUSED(f.count = 5000);
    REFUSED(f.plane0 = NULL);
    REFUSED(f.plane1 = NULL);
    REFUSED(f.width = S - 1); /* odd, with NV12 */
    REFUSED(f.stride0 = S - 2);
    REFUSED(f.stride1 = S - 2);
    REFUSED(f.stride0 = -S);
    p0[2] = NULL;
    REFUSED(f.count = 4);
    p0[2] = y[2], p1[3] = NULL;
    REFUSED(f.count = 4);
    assert_int_equal(jepa_embed_frames(NULL, &good, &o, &e, &err), JEPA_E_USE);
    assert_int_equal(jepa_embed_frames(r, NULL, &o, &e, &err), JEPA_E_USE);
    o.size = 3;
    p1[3] = uv[3];
    assert_int_equal(jepa_embed_frames(r, &good, &o, &e, &err), JEPA_E_USE);
    jepa_embedding_free(&want);
    jepa_session_close(&r);
    jepa_close(&m);
}

static void wrong_use_is_refused(void **state) {
    (void)state;
    jepa *m = (jepa *)1;
    jepa_run *r = (jepa_run *)1;
    jepa_err err = {0};
    jepa_options o;
    jepa_embedding e = {0};
    static const struct { const char *path; int code; } models[] = {{NULL, JEPA_E_USE}, {"", JEPA_E_USE}, {"/nowhere", JEPA_E_IO}, {TEST_DATA, JEPA_E_MODEL},
                                                                    {TEST_DATA "/images/rgb.png", JEPA_E_MODEL}};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        m = (jepa *)1;
        assert_int_equal(jepa_open(&m, models[i].path, NULL, &err), models[i].code);
        assert_null(m);
        assert_true(err.text[0]);
        assert_int_equal(jepa_open(&m, models[i].path, NULL, NULL), models[i].code); /* nobody wants the reason */
    }
    options(&o);
    o.size = 4;
    assert_int_equal(jepa_open(&m, MODEL, &o, &err), JEPA_E_USE);
    assert_non_null(strstr(err.text, "jepa_options_defaults"));
    o.size = sizeof o + 8;
    assert_int_equal(jepa_open(&m, MODEL, &o, &err), JEPA_E_USE);
    options(&o);
    o.device = "cuda:3";
    assert_int_equal(jepa_open(&m, MODEL, &o, &err), JEPA_E_DEVICE);
    o.device = "abacus";
    assert_true(jepa_open(&m, MODEL, &o, &err) < 0);
    assert_null(m);
    assert_int_equal(jepa_session(NULL, &r, &err), JEPA_E_USE);
    assert_null(r);
    open_model(&m);
    r = session(m);
    assert_int_equal(jepa_embed_video(NULL, clip, NULL, &e, &err), JEPA_E_USE);
    assert_int_equal(jepa_embed_video(r, NULL, NULL, &e, &err), JEPA_E_USE);
    assert_int_equal(jepa_embed_video(r, "/nowhere.mp4", NULL, &e, &err), JEPA_E_INPUT);
    assert_non_null(strstr(err.text, "/nowhere.mp4: not found"));
    assert_int_equal(jepa_embed_video(r, TEST_DATA "/images/cut.jpg", NULL, &e, &err), JEPA_E_INPUT);
    static const int one[] = {1, 1}, back[] = {1, 0}, far[] = {2}, below[] = {-1};
    const jepa_embed_options bad[] = {
        {.frames = 3, .clips = 1}, {.frames = -2, .clips = 1}, {.frames = 5000, .clips = 1}, {.crop = 40, .clips = 1}, {.crop = -16, .clips = 1},
        {.crop = 1 << 20, .clips = 1}, {.clips = 0}, {.clips = -1}, {.clips = 1 << 30}, {.every = -1, .clips = 1}, {.every = NAN, .clips = 1},
        {.fps = -4, .clips = 1}, {.fps = NAN, .clips = 1}, {.fps = 1e300, .clips = 1}, {.stride = -1, .clips = 1}, {.pool = 4, .clips = 1},
        {.pool = -1, .clips = 1}, {.layers = 1, .clips = 1}, {.layers = 17, .layer = one, .clips = 1}, {.layers = 2, .layer = one, .clips = 1},
        {.layers = 2, .layer = back, .clips = 1}, {.layers = 1, .layer = far, .clips = 1}, {.layers = 1, .layer = below, .clips = 1}, {.layers = -1, .clips = 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        jepa_embed_options with = bad[i];
        with.size = sizeof with;
        err.text[0] = 0;
        if (jepa_embed_video(r, clip, &with, &e, &err) != JEPA_E_USE) fail_msg("options %zu: %s", i, err.text);
        assert_true(err.text[0] && !e.data);
    }
    jepa_embed_options with;
    jepa_embed_options_defaults(&with);
    with.size = 1;
    assert_int_equal(jepa_embed_video(r, clip, &with, &e, &err), JEPA_E_USE);
    jepa_embed_options_defaults(&with);
    with.size = offsetof(jepa_embed_options, pool), with.pool = 99; /* an older caller's struct ends before it */
    assert_int_equal(jepa_embed_video(r, clip, &with, &e, &err), 0);
    jepa_embedding_free(&e);
    jepa_embed_options_defaults(&with);
    with.stride = 8, with.reject_short = 1;
    assert_int_equal(jepa_embed_video(r, clip, &with, &e, &err), JEPA_E_INPUT);
    jepa_session_close(&r);
    jepa_close(&m);
}

typedef struct asked { int n, most, lines; } asked;
static int cancel(void *ctx) {
    asked *a = ctx;
    return ++a->n > a->most;
}
static void line(void *ctx, const char *text) {
    ((asked *)ctx)->lines++;
    assert_null(strchr(text, 7)); /* no control bytes */
}

static void a_caller_may_cancel(void **state) {
    (void)state;
    asked a = {.most = 2};
    jepa *m;
    jepa_err err = {0};
    jepa_options o;
    jepa_embed_options with;
    jepa_embedding e = {0};
    options(&o);
    o.cancel = cancel, o.log = line, o.ctx = &a;
    assert_int_equal(jepa_open(&m, MODEL, &o, &err), 0);
    jepa_run *r = session(m);
    jepa_embed_options_defaults(&with);
    with.clips = 5;
    assert_int_equal(jepa_embed_video(r, clip, &with, &e, &err), JEPA_E_CANCELLED);
    assert_int_equal(a.n, 3);
    assert_null(e.data);
    a = (asked){.most = 5};
    assert_int_equal(jepa_embed_video(r, clip, &with, &e, &err), 0); /* the session is as good as before */
    assert_int_equal(e.rows, 5);
    jepa_embedding_free(&e);
    jepa_session_close(&r);
    jepa_close(&m);
}

typedef struct worker { jepa *m; jepa_embedding e[6]; int rc; jepa_err err; } worker;
static void *work(void *arg) {
    worker *w = arg;
    jepa_run *r = NULL;
    jepa_embed_options o;
    jepa_embed_options_defaults(&o);
    o.pool = JEPA_POOL_NONE, o.clips = 2;
    if ((w->rc = jepa_session(w->m, &r, &w->err)) < 0) return NULL;
    for (int i = 0; i < 6 && w->rc == 0; i++) w->rc = jepa_embed_video(r, i % 2 ? other : clip, &o, &w->e[i], &w->err);
    jepa_session_close(&r);
    return NULL;
}

static void threads_share_a_model(void **state) {
    (void)state;
    worker alone = {0}, two[2] = {{0}, {0}};
    pthread_t t[2];
    open_model(&alone.m);
    work(&alone);
    assert_int_equal(alone.rc, 0);
    open_model(&two[0].m);
    two[1].m = two[0].m;
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&t[i], NULL, work, &two[i]), 0);
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < 2; i++) {
        if (two[i].rc < 0) fail_msg("%s", two[i].err.text);
        for (int k = 0; k < 6; k++) {
            assert_int_equal(two[i].e[k].rows, 2);
            assert_memory_equal(two[i].e[k].data, alone.e[k].data, 2 * N * D * sizeof(float));
        }
    }
    assert_memory_not_equal(alone.e[0].data, alone.e[1].data, N * D * sizeof(float));
    for (int k = 0; k < 6; k++) jepa_embedding_free(&alone.e[k]), jepa_embedding_free(&two[0].e[k]), jepa_embedding_free(&two[1].e[k]);
    jepa_close(&alone.m);
    jepa_close(&two[0].m);
}

static int all_of_it(jepa_embedding *e, jepa_err *err) {
    jepa *m = NULL;
    jepa_run *r = NULL;
    jepa_options o;
    options(&o);
    int rc = jepa_open(&m, MODEL, &o, err);
    if (rc == 0) rc = jepa_session(m, &r, err);
    if (rc == 0) rc = jepa_embed_video(r, clip, NULL, e, err);
    jepa_session_close(&r);
    jepa_close(&m);
    return rc;
}

/* The n-th point fails, for every n until none is left: an error with a reason, or the right result; nothing leaks (the sanitizers look). */
static void failures_at_every_point(void **state) {
    (void)state;
    jepa_embedding want = {0}, e = {0};
    jepa_err err = {0};
    atomic_store(&points, 0);
    assert_int_equal(all_of_it(&want, &err), 0);
    int n = atomic_load(&points), failed = 0, survived = 0;
    assert_true(n > 20);
    for (int at = 1; at <= n + 1; at += at < 200 || at > n - 20 ? 1 : 1 + at % 13) { /* the middle is much alike: one point in some */
        memset(&err, 0, sizeof err);
        atomic_store(&points, 0), atomic_store(&fail_at, at);
        int rc = all_of_it(&e, &err);
        atomic_store(&fail_at, 0);
        if (rc < 0) {
            if (!err.text[0] || strchr(err.text, '\n') || e.data) fail_msg("point %d of %d: code %d, '%s'", at, n, rc, err.text);
            failed++;
        } else {
            survived++;
            assert_memory_equal(e.data, want.data, D * sizeof(float));
        }
        jepa_embedding_free(&e);
    }
    assert_true(failed > 20 && survived > 0);
    jepa_embedding_free(&want);
}

/* A session that failed once works the next time. */
static void a_session_outlives_a_failure(void **state) {
    (void)state;
    jepa *m;
    jepa_embedding want = {0}, e = {0};
    jepa_err err = {0};
    jepa_embed_options o;
    jepa_embed_options_defaults(&o);
    const int layer[] = {0, 1};
    o.layers = 2, o.layer = layer;
    open_model(&m);
    jepa_run *r = session(m);
    assert_int_equal(jepa_embed_video(r, clip, &o, &want, &err), 0);
    jepa_session_close(&r);
    for (int at = 1; at < 4000; at++) {
        r = session(m);
        atomic_store(&points, 0), atomic_store(&fail_at, at);
        int rc = jepa_embed_video(r, clip, &o, &e, &err);
        int hit = atomic_load(&points) >= at;
        atomic_store(&fail_at, 0);
        jepa_embedding_free(&e);
        if (rc < 0) {
            memset(&err, 0, sizeof err);
            if (jepa_embed_video(r, clip, &o, &e, &err) < 0) fail_msg("after a failure at point %d: %s", at, err.text);
            assert_memory_equal(e.data, want.data, 2 * D * sizeof(float));
            jepa_embedding_free(&e);
        }
        jepa_session_close(&r);
        if (!hit) break;
    }
    jepa_embedding_free(&want);
    jepa_close(&m);
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
    video_quiet();
    strcpy(dir, "/tmp/jepa-api-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(clip, sizeof clip, "%s/clip.mp4", dir);
    snprintf(other, sizeof other, "%s/other.mp4", dir);
    return make_clip(clip, 1) || make_clip(other, 2);
}
static int end(void **state) {
    unlink(clip), unlink(other);
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_says_of_itself),
        cmocka_unit_test(shapes_of_rows),
        cmocka_unit_test(frames_from_memory),
        cmocka_unit_test(wrong_use_is_refused),
        cmocka_unit_test(a_caller_may_cancel),
        cmocka_unit_test(threads_share_a_model),
        cmocka_unit_test(failures_at_every_point),
        cmocka_unit_test(a_session_outlives_a_failure),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
