/* test_feed.c: the same clips for any number of threads, any queue, any start; bad items counted and replaced. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "video/feed.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { W = 64, H = 48, FRAMES = 24, VIDEOS = 10, T = 4, CROP = 16, BATCH = 4, CLIP = T * CROP * CROP * 3 };
static char home[64];
static const char *names[VIDEOS];
static int fail_at; /* the n-th allocation from now on fails; 0: none */

int fault_point(const char *name) {
    if (strcmp(name, "alloc") || !__atomic_load_n(&fail_at, __ATOMIC_RELAXED)) return 0;
    return __atomic_sub_fetch(&fail_at, 1, __ATOMIC_RELAXED) == 0 ? ENOMEM : 0;
}

static const char *in_home(const char *name) {
    static char path[8][128];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(path[turn], sizeof path[turn], "%s/%s", home, name);
    return path[turn];
}

/* Video k: red tells the video, green the frame, blue the column. */
static void make_video(const char *path, int k, int frames) {
    static uint8_t rgb[W * H * 3];
    vid_writer *w = NULL;
    vid_write_cfg c = {.width = W, .height = H, .fps = 8, .crf = 4, .gop = 6};
    jepa_err err = {0};
    if (vid_writer_open(&w, path, &c, &err)) fail_msg("%s", err.text);
    for (int n = 0; n < frames; n++) {
        for (int i = 0; i < W * H; i++)
            rgb[3 * i] = (uint8_t)(20 * k), rgb[3 * i + 1] = (uint8_t)(8 * n), rgb[3 * i + 2] = (uint8_t)(3 * (i % W));
        if (vid_writer_add(w, rgb, &err)) fail_msg("%s", err.text);
    }
    if (vid_writer_finish(&w, &err)) fail_msg("%s", err.text);
}

static int setup(void **state) {
    (void)state;
    video_quiet();
    snprintf(home, sizeof home, "/tmp/feed-XXXXXX");
    if (!mkdtemp(home)) return -1;
    for (int k = 0; k < VIDEOS; k++) {
        char name[32];
        snprintf(name, sizeof name, "v%d.mp4", k);
        names[k] = strdup(in_home(name));
        make_video(names[k], k, FRAMES);
    }
    FILE *f = fopen(in_home("empty.mp4"), "w");
    if (f) fclose(f);
    f = fopen(in_home("text.mp4"), "w");
    if (f) fputs("not a video\n", f), fclose(f);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    char command[128];
    for (int k = 0; k < VIDEOS; k++) free((char *)names[k]);
    snprintf(command, sizeof command, "rm -rf %s", home);
    return system(command);
}

static void add(items *l, const char *path, int64_t label) {
    assert_int_equal(items_add(l, path, NULL), 0);
    l->at[l->n - 1].label = label;
}

static items good_items(void) {
    items l = {0};
    for (int k = 0; k < VIDEOS; k++) add(&l, names[k], 100 + k);
    return l;
}

static feed_cfg config(void) {
    feed_cfg c;
    feed_cfg_defaults(&c);
    c.batch = BATCH;
    c.crop = CROP;
    c.sample.frames = T;
    c.sample.fps = 4;
    c.seed = 11;
    return c;
}

typedef struct step { int32_t which[BATCH]; int64_t label[BATCH], number; int replaced; uint8_t clips[BATCH * CLIP]; } step;

static feed *opened(const feed_cfg *c, const items *l) {
    feed *f = NULL;
    jepa_err err = {0};
    if (feed_open(&f, c, l, &err)) fail_msg("%s", err.text);
    return f;
}

static void take(feed *f, step *out, int n) {
    for (int i = 0; i < n; i++) {
        feed_batch *b = NULL;
        jepa_err err = {0};
        if (feed_next(f, &b, &err)) fail_msg("%s", err.text);
        assert_true(b->batch == BATCH && b->frames == T && b->height == CROP && b->width == CROP && b->seconds_waited >= 0);
        out[i].number = b->step;
        out[i].replaced = b->replaced;
        memcpy(out[i].which, b->item_index, sizeof out[i].which);
        memcpy(out[i].label, b->labels, sizeof out[i].label);
        memcpy(out[i].clips, b->clips, sizeof out[i].clips);
        feed_release(f, &b);
        assert_null(b);
    }
}

static step *steps(const feed_cfg *c, const items *l, int n) {
    step *s = calloc((size_t)n, sizeof *s);
    assert_non_null(s);
    feed *f = opened(c, l);
    take(f, s, n);
    feed_close(&f);
    assert_null(f);
    return s;
}

static void equal(const step *a, const step *b, int n) {
    for (int i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a)) fail_msg("step %lld differs", (long long)a[i].number);
}

/* ---- the same for any number of threads ---- */

static void any_number_of_threads(void **state) {
    (void)state;
    enum { N = 8 };
    items l = good_items();
    feed_cfg c = config();
    c.threads = 1;
    step *want = steps(&c, &l, N);
    static const int other[][2] = {{2, 1}, {3, 4}, {7, 2}};
    for (int k = 0; k < 3; k++) {
        c.threads = other[k][0], c.queue_batches = other[k][1];
        step *got = steps(&c, &l, N);
        equal(want, got, N);
        free(got);
    }
    for (int s = 0; s < N; s++) { /* ten items, batches of four: two steps an epoch, no item twice in one */
        assert_int_equal(want[s].number, s);
        assert_int_equal(want[s].replaced, 0);
        for (int i = 0; i < BATCH; i++) {
            assert_int_equal(want[s].label[i], 100 + want[s].which[i]);
            for (int k = 0; k < 2 * BATCH; k++) {
                int t = s / 2 * 2 + k / BATCH, j = k % BATCH;
                if (t != s || j != i) assert_int_not_equal(want[t].which[j], want[s].which[i]);
            }
            const uint8_t *p = want[s].clips + i * CLIP; /* and it is that video: red tells (4:2:0 costs a little) */
            assert_true(abs(p[0] - 20 * want[s].which[i]) < 8);
        }
    }
    assert_true(memcmp(want[0].which, want[2].which, sizeof want[0].which) || memcmp(want[1].which, want[3].which, sizeof want[0].which));
    c.seed++;
    step *got = steps(&c, &l, 2);
    assert_true(memcmp(got[0].clips, want[0].clips, sizeof got[0].clips) != 0);
    free(got);
    free(want);
    items_free(&l);
}

static void any_start(void **state) {
    (void)state;
    items l = good_items();
    feed_cfg c = config();
    step *want = steps(&c, &l, 9);
    c.first_step = 5; /* inside an epoch */
    step *got = steps(&c, &l, 4);
    equal(want + 5, got, 4);
    free(got);
    c.first_step = INT64_C(1) << 40; /* as fast as the first */
    got = steps(&c, &l, 1);
    assert_int_equal(got[0].number, INT64_C(1) << 40);
    free(got);
    free(want);
    items_free(&l);
}

static int64_t window(void *r, int64_t low, int64_t high) { return low + rng_below(r, (uint32_t)(high - low)); }
static double uniform(void *r, double low, double high) { return rng_uniform(r, low, high); }
static int64_t integer(void *r, int64_t low, int64_t high) { return low + rng_below(r, (uint32_t)(high - low + 1)); }

/* A sample by hand: order, frames, crop and flip from their documented keys. */
static void as_documented(void **state) {
    (void)state;
    items l = good_items();
    feed_cfg c = config();
    step *got = steps(&c, &l, 5);
    uint32_t order[VIDEOS];
    static uint8_t rgb[T * W * H * 3], clip[CLIP];
    int flips = 0;
    for (int s = 0; s < 5; s++)
        for (int i = 0; i < BATCH; i++) {
            rng r = rng_key(c.seed, (uint64_t)s / 2, 0, RNG_ORDER);
            rng_permute(&r, order, VIDEOS);
            int which = (int)order[s % 2 * BATCH + i], slow;
            assert_int_equal(got[s].which[i], which);
            vid *v = NULL;
            assert_int_equal(vid_open(&v, names[which], NULL, NULL), 0);
            int64_t index[T];
            r = rng_key(c.seed, (uint64_t)s, (uint32_t)i, RNG_FRAMES);
            assert_int_equal(sample_frames(&c.sample, FRAMES, 8, window, &r, index, &slow, NULL), 0);
            assert_int_equal(vid_read(v, index, T, rgb, NULL, NULL), 0);
            vid_close(&v);
            clip_cfg t;
            clip_cfg_defaults(&t, CROP);
            t.mode = CLIP_TRAIN;
            r = rng_key(c.seed, (uint64_t)s, (uint32_t)i, RNG_CROP);
            crop_draw d = {uniform, integer, &r};
            assert_int_equal(crop_box(H, W, c.scale, c.ratio, &d, t.box), 0);
            t.flip = rng_unit(&r) < 0.5;
            flips += t.flip;
            assert_int_equal(clip_prepare(&t, rgb, T, H, W, clip, NULL), 0);
            assert_memory_equal(clip, got[s].clips + i * CLIP, CLIP);
        }
    assert_true(flips > 0 && flips < 5 * BATCH);
    free(got);
    c.eval = 1; /* no randomness: the same clip of an item in every epoch */
    got = steps(&c, &l, 6);
    for (int s = 2; s < 6; s++)
        for (int i = 0; i < BATCH; i++)
            for (int k = 0; k < 2 * BATCH; k++)
                if (got[k / BATCH].which[k % BATCH] == got[s].which[i])
                    assert_memory_equal(got[k / BATCH].clips + k % BATCH * CLIP, got[s].clips + i * CLIP, CLIP);
    free(got);
    items_free(&l);
}

/* ---- bad items ---- */

static items mixed_items(void) {
    items l = good_items();
    add(&l, in_home("gone.mp4"), 1);
    add(&l, in_home("empty.mp4"), 2);
    add(&l, in_home("text.mp4"), 3);
    add(&l, in_home("gone too.mp4"), 4);
    return l;
}

static int64_t reason(const feed *f, const char *word) {
    feed_bad b[32];
    int n = feed_report(f, b, 32, NULL);
    for (int i = 0; i < n; i++)
        if (!strcmp(b[i].reason, word)) return b[i].count;
    return 0;
}

static void bad_items(void **state) {
    (void)state;
    enum { N = 9 };
    items l = mixed_items();
    feed_cfg c = config();
    c.max_bad = 0.5;
    c.threads = 1;
    step *want = steps(&c, &l, N);
    for (int threads = 2; threads < 6; threads += 3) {
        c.threads = threads, c.queue_batches = threads;
        step *got = steps(&c, &l, N);
        equal(want, got, N);
        free(got);
    }
    int64_t replaced = 0, sum = 0;
    for (int s = 0; s < N; s++) {
        uint32_t order[VIDEOS + 4];
        rng r = rng_key(c.seed, (uint64_t)s / 3, 0, RNG_ORDER);
        rng_permute(&r, order, VIDEOS + 4);
        int missed = 0;
        for (int i = 0; i < BATCH; i++) { /* the next good one of the order */
            int at = s % 3 * BATCH + i;
            missed += order[at] >= VIDEOS;
            while (order[at % (VIDEOS + 4)] >= VIDEOS) at++;
            assert_int_equal(want[s].which[i], order[at % (VIDEOS + 4)]);
        }
        assert_int_equal(want[s].replaced, missed);
        sum += missed;
    }
    c.threads = 3;
    feed *f = opened(&c, &l);
    step *got = calloc(N, sizeof *got);
    assert_non_null(got);
    take(f, got, N);
    feed_bad b[32];
    assert_int_equal(feed_report(f, b, 32, &replaced), 3);
    assert_int_equal(replaced, sum);
    assert_int_equal(reason(f, "not found"), 2);
    assert_int_equal(reason(f, "empty file"), 1);
    assert_int_equal(reason(f, "not a media file"), 1);
    int32_t which;
    const char *why;
    for (int k = 0; k < 4; k++) {
        assert_int_equal(feed_bad_item(f, k, &which, &why), 0);
        assert_true(which >= VIDEOS && which < VIDEOS + 4);
        if (which == VIDEOS + 1) assert_string_equal(why, "empty file");
    }
    assert_int_equal(feed_bad_item(f, 4, &which, &why), JEPA_E_END);
    feed_close(&f);
    free(got);
    free(want);
    items_free(&l);
}

static void counters_go_on(void **state) {
    (void)state;
    items l = mixed_items();
    feed_cfg c = config();
    c.max_bad = 0.5;
    char *text[5][2];
    size_t size;
    step s[8];
    for (int k = 0; k < 2; k++) { /* whatever was prepared ahead, the state holds what was given out */
        c.threads = k ? 6 : 1, c.queue_batches = k ? 8 : 1;
        feed *f = opened(&c, &l);
        for (int n = 0; n < 5; n++) {
            assert_int_equal(feed_state(f, &text[n][k], &size, NULL), 0);
            assert_int_equal(size, strlen(text[n][k]));
            take(f, s, 1);
        }
        feed_close(&f);
    }
    for (int n = 0; n < 5; n++) assert_string_equal(text[n][0], text[n][1]);
    assert_string_not_equal(text[0][0], text[4][0]);

    char *whole, *again;
    feed *f = opened(&c, &l);
    take(f, s, 8);
    assert_int_equal(feed_state(f, &whole, &size, NULL), 0);
    feed_close(&f);
    c.first_step = 4; /* stopped after four, gone on to eight */
    f = opened(&c, &l);
    jepa_err err = {0};
    if (feed_restore(f, text[4][0], strlen(text[4][0]), &err)) fail_msg("%s", err.text);
    take(f, s, 4);
    assert_int_equal(feed_state(f, &again, &size, NULL), 0);
    assert_string_equal(whole, again);

    static const char *const damaged[] = {"",
                                          "[]",
                                          "{}",
                                          "{\"items\":14,\"replaced\":-1}",
                                          "{\"items\":14,\"replaced\":0,\"reasons\":[{\"reason\":\"x\",\"count\":1}]}",
                                          "{\"items\":14,\"replaced\":0,\"reasons\":[],\"bad\":[99,0]}"};
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) assert_true(feed_restore(f, damaged[i], strlen(damaged[i]), &err) < 0);
    char *last = NULL; /* none of those touched what is there */
    assert_int_equal(feed_state(f, &last, &size, NULL), 0);
    assert_string_equal(whole, last);
    mem_free(last);
    feed_close(&f);
    l.n--; /* another list */
    f = opened(&c, &l);
    assert_int_equal(feed_restore(f, whole, strlen(whole), &err), JEPA_E_MODEL);
    assert_non_null(strstr(err.text, "14 items"));
    feed_close(&f);
    l.n++;
    for (int n = 0; n < 5; n++) mem_free(text[n][0]), mem_free(text[n][1]);
    mem_free(whole);
    mem_free(again);
    items_free(&l);
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void too_many_bad(void **state) {
    (void)state;
    items l = mixed_items();
    feed_cfg c = config();
    int at[2] = {0};
    for (int k = 0; k < 2; k++) { /* four of fourteen where three are borne: stops at the same step on any number of threads */
        c.max_bad = 0.22;
        c.threads = k ? 5 : 1;
        feed *f = opened(&c, &l);
        feed_batch *b = NULL;
        jepa_err err = {0};
        int rc;
        while ((rc = feed_next(f, &b, &err)) == 0) {
            feed_release(f, &b);
            at[k]++;
            assert_true(at[k] < 50);
        }
        assert_int_equal(rc, JEPA_E_STOPPED);
        assert_null(b);
        if (!strstr(err.text, "4 of 14") || !strstr(err.text, "2 not found") || !strstr(err.text, "1 empty file")) fail_msg("%s", err.text);
        err = (jepa_err){0};
        assert_int_equal(feed_next(f, &b, &err), JEPA_E_STOPPED); /* and it stays so */
        assert_non_null(strstr(err.text, "4 of 14"));
        feed_close(&f);
    }
    assert_int_equal(at[0], at[1]);
    items_free(&l);

    double start = seconds(); /* nothing but bad ones: an end within seconds, not a search without end */
    for (int n = 1; n < 3000; n += 2998) {
        for (int i = 0; i < n; i++) add(&l, in_home(i % 2 ? "text.mp4" : "gone.mp4"), -1);
        c.threads = 3;
        c.max_bad = n > 1 ? 1 : 0;
        feed *f = opened(&c, &l);
        feed_batch *b = NULL;
        jepa_err err = {0};
        assert_int_equal(feed_next(f, &b, &err), JEPA_E_STOPPED);
        feed_close(&f);
        items_free(&l);
    }
    assert_true(seconds() - start < 60); /* far more than it takes, also under a sanitizer */
    jepa_err err = {0};
    feed *f;
    assert_int_equal(feed_open(&f, &c, &l, &err), JEPA_E_INPUT);
    assert_null(f);
}

/* A file that promises more than it holds: only what decodes is used, and it is said. */
static void cut_file(void **state) {
    (void)state;
    if (system("ffmpeg -version >/dev/null 2>&1")) skip();
    char command[512];
    snprintf(command, sizeof command,
             "cd %s && ffmpeg -v error -y -f lavfi -i testsrc2=s=160x120:r=30:d=2 -c:v libx264 -crf 18 -g 12 -pix_fmt yuv420p -movflags "
             "+faststart fs.mp4 && "
             "head -c $(($(stat -c %%s fs.mp4)*6/10)) fs.mp4 > trunc.mp4",
             home);
    if (system(command)) skip();
    items l = {0};
    add(&l, in_home("trunc.mp4"), 6);
    feed_cfg c = config();
    step *want = NULL;
    for (int threads = 1; threads < 4; threads += 2) {
        c.threads = threads;
        feed *f = opened(&c, &l);
        step *s = calloc(3, sizeof *s);
        assert_non_null(s);
        take(f, s, 3);
        assert_int_equal(reason(f, "clip of a file that is cut short"), 3 * BATCH);
        assert_int_equal(s[0].replaced, 0);
        feed_close(&f);
        if (want) equal(want, s, 3);
        free(want);
        want = s;
    }
    free(want);
    items_free(&l);
}

static void images_as_clips(void **state) {
    (void)state;
    items l = {0};
    add(&l, TEST_DATA "/images/ramp.png", 1);
    add(&l, TEST_DATA "/images/exif6.jpg", 2);
    add(&l, names[3], 3);
    add(&l, TEST_DATA "/images/x.webp", 4);
    feed_cfg c = config();
    step *s = steps(&c, &l, 4);
    int seen = 0;
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < BATCH; i++) {
            const uint8_t *p = s[k].clips + i * CLIP;
            if (s[k].which[i] == 2) continue;
            assert_in_range(s[k].which[i], 0, 1);
            for (int t = 1; t < T; t++) assert_memory_equal(p, p + t * CLIP / T, CLIP / T);
            seen++;
        }
    assert_true(seen > 0);
    free(s);
    feed *f = opened(&c, &l);
    step one[1];
    take(f, one, 1);
    assert_int_equal(reason(f, "format not read"), 1);
    feed_close(&f);
    items_free(&l);
}

static void slow_and_short(void **state) {
    (void)state;
    items l = {0};
    make_video(in_home("short.mp4"), 1, 3);
    add(&l, names[0], 0);
    add(&l, in_home("short.mp4"), 1);
    feed_cfg c = config();
    c.sample.fps = 30; /* the videos have 8 */
    feed *f = opened(&c, &l);
    step s[2];
    take(f, s, 2);
    assert_int_equal(reason(f, "clip of a source slower than asked"), 2 * BATCH);
    feed_close(&f);
    c.sample.fps = 8;
    c.sample.reject_short = 1;
    f = opened(&c, &l);
    take(f, s, 2);
    assert_int_equal(reason(f, "shorter than 4 frames"), 1);
    for (int i = 0; i < BATCH; i++) assert_int_equal(s[1].which[i], 0);
    feed_close(&f);
    items_free(&l);
}

/* ---- weights ---- */

static void weights(void **state) {
    (void)state;
    enum { N = 60 };
    items l = mixed_items();
    double w[VIDEOS + 4] = {1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0}; /* the file that is not there among them */
    feed_cfg c = config();
    c.weight = w;
    c.sample.frames = T;
    c.max_bad = 0.1;
    step *want = steps(&c, &l, N);
    c.threads = 4;
    c.first_step = 10;
    step *got = steps(&c, &l, 20);
    equal(want + 10, got, 20);
    int count[2] = {0};
    for (int s = 0; s < N; s++)
        for (int i = 0; i < BATCH; i++) {
            assert_true(want[s].which[i] == 0 || want[s].which[i] == 2);
            count[want[s].which[i] / 2]++;
        }
    double share = (double)count[1] / (N * BATCH), sd = sqrt(0.75 * 0.25 / (N * BATCH));
    assert_true(fabs(share - 0.75) < 5 * sd); /* five standard deviations of a fair draw */
    free(got);
    free(want);
    static const double wrong[][2] = {{-1, 1}, {NAN, 1}, {INFINITY, 1}, {0, 0}};
    for (int i = 0; i < 4; i++) {
        double v[VIDEOS + 4] = {wrong[i][0], wrong[i][1]};
        feed *f;
        c.weight = v;
        assert_int_equal(feed_open(&f, &c, &l, NULL), JEPA_E_USE);
    }
    items_free(&l);
}

/* ---- memory and threads ---- */

static int blocks;
static void *get(void *ctx, size_t bytes) {
    (*(int *)ctx)++;
    return calloc(bytes, 1);
}
static void put(void *ctx, void *p, size_t bytes) {
    (*(int *)ctx)--;
    memset(p, 0xee, bytes); /* all of it is ours */
    free(p);
}

static void held_and_closed(void **state) {
    (void)state;
    items l = good_items();
    feed_cfg c = config();
    c.get = get, c.put = put, c.mem_ctx = &blocks;
    step *want = steps(&c, &l, 7);
    assert_int_equal(blocks, 0);
    feed *f = opened(&c, &l);
    assert_int_equal(blocks, 2);
    feed_batch *b[7];
    for (int i = 0; i < 7; i++) assert_int_equal(feed_next(f, &b[i], NULL), 0); /* more than the queue holds */
    for (int i = 0; i < 7; i++) assert_memory_equal(b[i]->clips, want[i].clips, sizeof want[i].clips);
    assert_int_equal(blocks, 9);
    for (int i = 6; i >= 0; i -= 2) feed_release(f, &b[i]);
    feed_batch *none = NULL;
    feed_release(f, &none);
    feed_release(f, NULL);
    for (int i = 0; i < 20; i++) { /* steady: nothing more is needed */
        assert_int_equal(feed_next(f, &b[0], NULL), 0);
        feed_release(f, &b[0]);
    }
    assert_int_equal(blocks, 9);
    feed_close(&f); /* with batches still held */
    assert_int_equal(blocks, 0);
    for (int i = 0; i < 12; i++) { /* at any moment */
        c.threads = 1 + i % 4, c.queue_batches = 1 + i % 3;
        f = opened(&c, &l);
        struct timespec t = {0, i * 700000};
        nanosleep(&t, NULL);
        if (i % 3) assert_int_equal(feed_next(f, &b[0], NULL), 0);
        feed_close(&f);
        assert_int_equal(blocks, 0);
    }
    feed_close(&f);
    feed_close(NULL);
    free(want);
    items_free(&l);
}

static void small_list(void **state) {
    (void)state;
    items l = {0}; /* fewer items than a batch: they repeat in it */
    for (int k = 0; k < 3; k++) add(&l, names[k], k);
    feed_cfg c = config();
    feed *f = opened(&c, &l);
    assert_int_equal(feed_steps_per_epoch(f), 1);
    step s[3];
    take(f, s, 3);
    for (int k = 0; k < 3; k++) {
        int seen[3] = {0};
        for (int i = 0; i < BATCH; i++) seen[s[k].which[i]]++;
        assert_true(seen[0] >= 1 && seen[1] >= 1 && seen[2] >= 1);
    }
    feed_close(&f);
    items_free(&l);
}

static void refused(void **state) {
    (void)state;
    items l = good_items();
    feed *f;
    jepa_err err = {0};
#define REFUSE(change) do { \
        feed_cfg c = config(); \
        change; \
        assert_int_equal(feed_open(&f, &c, &l, &err), JEPA_E_USE); \
        assert_null(f); \
    } while (0)
    REFUSE(c.batch = 0);
    REFUSE(c.threads = 0);
    REFUSE(c.threads = 100000);
    REFUSE(c.queue_batches = 0);
    REFUSE(c.crop = 0);
    REFUSE(c.sample.frames = 0);
    REFUSE(c.sample.num_clips = 2);
    REFUSE(c.first_step = -1);
    REFUSE(c.max_bad = NAN);
    REFUSE(c.scale[0] = 0);
    REFUSE(c.ratio[1] = 0.1);
    REFUSE(c.get = get);
    items_free(&l);
    add(&l, names[0], 0);
    feed_cfg c = config(); /* wrong use that shows only at work: an error, not a bad item */
    c.sample.fps = 0;
    c.sample.frame_step = 0;
    f = opened(&c, &l);
    feed_batch *b;
    assert_int_equal(feed_next(f, &b, &err), JEPA_E_USE);
    assert_int_equal(feed_next(f, &b, &err), JEPA_E_USE);
    feed_close(&f);
    items_free(&l);
}

/* Each allocation fails once: an error or the same clips, no leak (the sanitizer's run sees), no wait without end. */
static void allocations_fail(void **state) {
    (void)state;
    items l = good_items();
    feed_cfg c = config();
    c.threads = 1;
    int errors = 0, n = 0;
    for (int done = 0; !done; n++) {
        assert_true(n < 5000);
        feed *f = NULL;
        jepa_err err = {0};
        __atomic_store_n(&fail_at, n + 1, __ATOMIC_RELAXED);
        int rc = feed_open(&f, &c, &l, &err);
        for (int k = 0; rc == 0 && k < 2; k++) {
            feed_batch *b;
            if ((rc = feed_next(f, &b, &err)) == 0) feed_release(f, &b);
        }
        feed_close(&f);
        done = __atomic_load_n(&fail_at, __ATOMIC_RELAXED) > 0; /* it was not reached */
        __atomic_store_n(&fail_at, 0, __ATOMIC_RELAXED);
        if (rc) {
            errors++;
            if (rc != JEPA_E_MEMORY && rc != JEPA_E_STOPPED) fail_msg("allocation %d: %d %s", n, rc, err.text);
            assert_true(err.text[0] != 0);
        }
    }
    assert_true(errors > 20);
    items_free(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_threads), cmocka_unit_test(any_start), cmocka_unit_test(as_documented), cmocka_unit_test(bad_items),
        cmocka_unit_test(counters_go_on), cmocka_unit_test(too_many_bad), cmocka_unit_test(cut_file), cmocka_unit_test(images_as_clips),
        cmocka_unit_test(slow_and_short), cmocka_unit_test(weights), cmocka_unit_test(held_and_closed), cmocka_unit_test(small_list),
        cmocka_unit_test(refused), cmocka_unit_test(allocations_fail),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
