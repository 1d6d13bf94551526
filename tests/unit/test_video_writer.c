/* test_video_writer.c: what is written comes back; the same bytes for the same input; nothing left behind by a failure. */
#include "video_make.h"

#include <dirent.h>
#include <sys/stat.h>
#include <time.h>

static const char *failing;
int fault_point(const char *name) { return failing && !strcmp(failing, name) ? 28 : 0; }

static void picture(uint8_t *rgb, int w, int h, int t) { /* smooth colours that move: 4:2:0 keeps them */
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++, rgb += 3) {
            rgb[0] = (uint8_t)(40 + (x * 150 / w + t * 4) % 190);
            rgb[1] = (uint8_t)(60 + y * 120 / h);
            rgb[2] = (uint8_t)(200 - t * 8);
        }
}

static int write_clip(const char *path, const vid_write_cfg *c, int frames, jepa_err *err) {
    vid_writer *w = NULL;
    uint8_t *rgb = malloc((size_t)c->width * (size_t)c->height * 3);
    int rc = vid_writer_open(&w, path, c, err);
    for (int t = 0; t < frames && rc == 0; t++) {
        picture(rgb, c->width, c->height, t);
        rc = vid_writer_add(w, rgb, err);
    }
    free(rgb);
    if (rc == 0)
        rc = vid_writer_finish(&w, err);
    else
        vid_writer_abort(&w);
    assert_null(w);
    return rc;
}

static int files_in_folder(void) {
    DIR *d = opendir(folder);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static int has_x264(void) { /* what the writer itself finds: lossless needs it */
    jepa_err err = {0};
    int rc = write_clip(in_folder("probe.mp4"), &(vid_write_cfg){16, 16, 8, 0, 0, 1}, 1, &err);
    unlink(in_folder("probe.mp4"));
    return rc == 0;
}

static void comes_back(const vid_write_cfg *c, int frames, int worst_allowed, double mean_allowed) {
    jepa_err err = {0};
    if (write_clip(in_folder("w.mp4"), c, frames, &err) < 0) fail_msg("%s", err.text);
    vid *v = opened("w.mp4");
    const vid_info *i = vid_get_info(v);
    assert_int_equal(i->frames, frames);
    assert_int_equal(i->promised, frames);
    assert_int_equal(i->width, c->width);
    assert_int_equal(i->height, c->height);
    assert_float_equal(i->fps, c->fps, 1e-3 * c->fps);
    assert_float_equal(i->duration, frames / c->fps, 1e-3 * frames / c->fps);
    assert_string_equal(i->range, "tv");
    assert_string_equal(i->matrix, "bt709");
    uint8_t *got = read_all(v, frames), *want = malloc(picture_size(v));
    double sum = 0;
    int worst = 0;
    for (int t = 0; t < frames; t++) {
        picture(want, c->width, c->height, t);
        for (size_t k = 0; k < picture_size(v); k++) {
            int d = abs(got[(size_t)t * picture_size(v) + k] - want[k]);
            sum += d;
            if (d > worst) worst = d;
        }
        assert_float_equal(vid_time_of(v, t), t / c->fps, 1e-3 / c->fps);
    }
    sum /= (double)picture_size(v) * frames;
    if (worst > worst_allowed || sum > mean_allowed) fail_msg("%d×%d crf %d: worst %d, mean %.2f", c->width, c->height, c->crf, worst, sum);
    free(got);
    free(want);
    vid_close(&v);
}

static void round_trips(void **state) {
    if (!has_x264()) {
        print_message("skipped: this FFmpeg has no libx264\n");
        skip();
    }
    /* lossless is so in YUV: RGB to 8-bit YUV and back costs up to 2 levels */
    comes_back(&(vid_write_cfg){48, 48, 8, 0, 0, 1}, 16, 2, 0.7);
    comes_back(&(vid_write_cfg){33, 17, 29.97, 0, 4, 1}, 9, 2, 0.7);
    /* Quantiser step: about 2 at crf 10 and 5 at crf 18, on average a quarter to a half of it is lost, times up to 1.8 from YUV to RGB.
     * The wrap of red is a hard edge, which half-size chroma blurs by up to half its height of 190. */
    comes_back(&(vid_write_cfg){48, 48, 8, 18, 0, 0}, 16, 130, 6);
    comes_back(&(vid_write_cfg){320, 240, 30, 10, 12, 0}, 40, 130, 4);
    comes_back(&(vid_write_cfg){2, 2, 1, 10, 0, 0}, 1, 70, 25); /* four different colours share one chroma sample */
    comes_back(&(vid_write_cfg){1920, 16, 1000, 10, 0, 0}, 3, 130, 4);
    comes_back(&(vid_write_cfg){16, 16, 0.01, 10, 0, 0}, 3, 130, 8); /* every second column or row is an edge of chroma here */
}

static void same_bytes(void **state) {
    jepa_err err = {0};
    vid_write_cfg c = {48, 48, 8, 18, 0, 0};
    char *a = NULL, *b = NULL;
    size_t n = 0, m = 0;
    if (write_clip(in_folder("a.mp4"), &c, 16, &err) < 0) fail_msg("%s", err.text);
    struct timespec second = {1, 100000000}; /* a time of day in the file would show */
    nanosleep(&second, NULL);
    assert_int_equal(write_clip(in_folder("b.mp4"), &c, 16, &err), 0);
    assert_int_equal(file_read(in_folder("a.mp4"), 1 << 20, &a, &n, NULL), 0);
    assert_int_equal(file_read(in_folder("b.mp4"), 1 << 20, &b, &m, NULL), 0);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    mem_free(a);
    mem_free(b);
}

static void failures_leave_nothing(void **state) {
    static const char *const at[] = {"writer.encoder", "writer.format", "writer.create", "writer.write", "writer.rename", "alloc"};
    jepa_err err = {0};
    vid_write_cfg c = {48, 48, 8, 18, 0, 0};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        int before = files_in_folder();
        failing = at[i];
        int rc = write_clip(in_folder("failed.mp4"), &c, 16, &err);
        failing = NULL;
        if (rc >= 0) fail_msg("%s failed unseen", at[i]);
        assert_true(err.text[0] && err.code == rc);
        assert_int_equal(files_in_folder(), before);
    }
    assert_int_equal(write_clip(in_folder("kept.mp4"), &c, 16, &err), 0);
    struct stat old, now;
    assert_int_equal(stat(in_folder("kept.mp4"), &old), 0);
    failing = "writer.write"; /* the earlier file stays */
    assert_true(write_clip(in_folder("kept.mp4"), &c, 3, &err) < 0);
    failing = NULL;
    assert_int_equal(stat(in_folder("kept.mp4"), &now), 0);
    assert_int_equal(old.st_size, now.st_size);
    assert_int_equal(old.st_ino, now.st_ino);
    assert_int_equal(write_clip("/nowhere/at/all.mp4", &c, 1, &err), JEPA_E_IO);
    assert_non_null(strstr(err.text, "/nowhere/at/all.mp4: cannot be written (No such file"));
    vid_writer *w = NULL;
    assert_int_equal(vid_writer_open(&w, in_folder("none.mp4"), &c, &err), 0);
    assert_int_equal(vid_writer_finish(&w, &err), JEPA_E_USE); /* no frames */
    assert_int_not_equal(access(in_folder("none.mp4"), F_OK), 0);
    assert_int_not_equal(access(in_folder("none.mp4.tmp"), F_OK), 0);
    vid_writer_abort(&w);
    vid_writer_abort(NULL);
}

static void refusals(void **state) {
    static const vid_write_cfg bad[] = {{0, 48, 8, 18, 0, 0},  {48, -2, 8, 18, 0, 0}, {16386, 48, 8, 18, 0, 0}, {33, 48, 8, 18, 0, 0},
                                        {48, 33, 8, 18, 0, 0}, {48, 48, 0, 18, 0, 0}, {48, 48, -1, 18, 0, 0},   {48, 48, 1e9, 18, 0, 0},
                                        {48, 48, 8, 52, 0, 0}, {48, 48, 8, -1, 0, 0}, {48, 48, 8, 18, -1, 0}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        vid_writer *w = (vid_writer *)1;
        jepa_err err = {0};
        assert_int_equal(vid_writer_open(&w, in_folder("bad.mp4"), &bad[i], &err), JEPA_E_USE);
        assert_null(w);
        assert_true(err.text[0]);
    }
}

/* Without libx264: MPEG-4 part 2, which reads back too; lossless is refused. */
static void without_x264(void **state) {
    jepa_err err = {0};
    failing = "writer.x264";
    int rc = write_clip(in_folder("m4.mp4"), &(vid_write_cfg){48, 48, 8, 18, 0, 0}, 16, &err);
    int lossless = write_clip(in_folder("m4l.mp4"), &(vid_write_cfg){48, 48, 8, 18, 0, 1}, 16, &err);
    failing = NULL;
    assert_int_equal(rc, 0);
    assert_int_equal(lossless, JEPA_E_UNSUPPORTED);
    vid *v = opened("m4.mp4");
    assert_string_equal(vid_get_info(v)->codec, "mpeg4");
    assert_int_equal(vid_get_info(v)->frames, 16);
    free(read_all(v, 16));
    vid_close(&v);
}

static void many_small_ones(void **state) {
    struct timespec a, b;
    jepa_err err = {0};
    char name[32];
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "small%d.mp4", i % 10);
        assert_int_equal(write_clip(in_folder(name), &(vid_write_cfg){48, 48, 8, 18, 0, 0}, 16, &err), 0);
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    double each = ((double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec)) / 200;
    print_message("a clip of 16 frames of 48×48: %.2f ms of processor time\n", each * 1e3);
#ifndef __SANITIZE_ADDRESS__
    assert_true(each < 0.02); /* some 2 ms; ten times that would make a few thousand clips a matter of minutes */
#endif
}

static int set_up(void **state) { return make_folder(); }
static int tear_down(void **state) { return remove_folder(); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips), cmocka_unit_test(same_bytes),   cmocka_unit_test(failures_leave_nothing),
        cmocka_unit_test(refusals),    cmocka_unit_test(without_x264), cmocka_unit_test(many_small_ones),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
