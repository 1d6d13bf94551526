/* test_video_index.c: MP4 opened by its own index, without reading the packets, gives what reading all of them gives: the same frames at
 * the same times, for every kind of file; and an index that lies is found out. */
#include "video_make.h"

static int refuse; /* 1: the index is not trusted, all packets are read */
int fault_point(const char *name) { return refuse && !strcmp(name, "video.unread"); }

static vid *open_as(const char *name, int reading) {
    vid *v = NULL;
    jepa_err err = {0};
    refuse = reading;
    int rc = vid_open(&v, in_folder(name), NULL, &err);
    refuse = 0;
    if (rc < 0) fail_msg("%s", err.text);
    return v;
}

/* Bytes of the file that this thread's process has read so far. */
static long long bytes_read(void) {
    FILE *f = fopen("/proc/self/io", "r");
    long long n = -1;
    if (!f) return -1;
    if (fscanf(f, "rchar: %lld", &n) != 1) n = -1;
    fclose(f);
    return n;
}

static void same_both_ways(const char *name) {
    vid *a = open_as(name, 0), *b = open_as(name, 1);
    if (memcmp(vid_get_info(a), vid_get_info(b), sizeof(vid_info)))
        fail_msg("%s: %lld frames %g fps %g s, not %lld %g %g", name, (long long)vid_get_info(a)->frames, vid_get_info(a)->fps,
                 vid_get_info(a)->duration, (long long)vid_get_info(b)->frames, vid_get_info(b)->fps, vid_get_info(b)->duration);
    int n = (int)vid_get_info(a)->frames;
    size_t size = picture_size(a);
    uint8_t *all = read_all(b, n), *one = malloc(size * 4);
    double t, u;
    jepa_err err = {0};
    for (int i = 0; i < n + n / 3; i++) { /* backwards, then in jumps: each frame right after a seek */
        int64_t k = i < n ? n - 1 - i : (i * 37 + i / 7 * 11) % n;
        if (i % 30 == 0) { /* opened anew, so that this is the first thing read */
            vid_close(&a);
            a = open_as(name, 0);
        }
        if (vid_read(a, &k, 1, one, &t, &err) < 0) fail_msg("%s: %s", name, err.text);
        if (memcmp(one, all + size * (size_t)k, size)) fail_msg("%s: frame %lld differs", name, (long long)k);
        u = vid_time_of(b, k);
        assert_true(t == u);
        assert_int_equal(vid_frame_at(a, t), vid_frame_at(b, u));
    }
    for (int i = 0; i < n; i += 10) { /* several at once, apart from each other */
        int64_t k[4] = {i, (i + 9) % n, (i + 23) % n, (i + 3) % n};
        if (vid_read(a, k, 4, one, NULL, &err) < 0) fail_msg("%s: %s", name, err.text);
        for (int j = 0; j < 4; j++)
            if (memcmp(one + size * (size_t)j, all + size * (size_t)k[j], size))
                fail_msg("%s: frame %lld differs among others", name, (long long)k[j]);
    }
    free(all);
    free(one);
    vid_close(&a);
    vid_close(&b);
}

static const struct {
    const char *file, *encoder, *how;
} files[] = {
    {"numbered.mp4", "libx264", ":"},
    {"rich.mp4", "libx264", "ff -f lavfi -i testsrc2=s=176x144:r=30:d=2 -c:v libx264 -crf 18 -g 12 -bf 3 -pix_fmt yuv420p rich.mp4"},
    {"nob.mp4", "libx264", "ff -i rich.mp4 -c:v libx264 -crf 18 -g 15 -bf 0 -refs 3 nob.mp4"},
    {"pyramid.mp4", "libx264",
     "ff -i rich.mp4 -c:v libx264 -crf 18 -g 60 -bf 7 -b_strategy 0 -x264-params b-pyramid=normal:direct=temporal pyramid.mp4"},
    {"spatial.mp4", "libx264",
     "ff -i rich.mp4 -c:v libx264 -crf 18 -g 60 -bf 5 -b_strategy 0 -x264-params b-pyramid=strict:direct=spatial spatial.mp4"},
    {"richopen.mp4", "libx264",
     "ff -i rich.mp4 -c:v libx264 -crf 18 -bf 3 -x264-params open-gop=1:keyint=12:min-keyint=12:scenecut=0 richopen.mp4"},
    {"refresh.mp4", "libx264", "ff -i rich.mp4 -c:v libx264 -crf 18 -intra-refresh 1 -g 20 -bf 0 refresh.mp4"},
    {"fields.mp4", "libx264", "ff -i rich.mp4 -c:v libx264 -crf 18 -g 15 -bf 2 -flags +ilme+ildct -x264-params tff=1 fields.mp4"},
    {"hevc.mp4", "libx265", "ff -i rich.mp4 -c:v libx265 -crf 18 -x265-params log-level=error:keyint=12:open-gop=1:bframes=4 hevc.mp4"},
    {"hevcclosed.mp4", "libx265",
     "ff -i rich.mp4 -c:v libx265 -crf 18 -x265-params log-level=error:keyint=30:open-gop=0:bframes=4:b-pyramid=1 hevcclosed.mp4"},
    {"layers.mp4", "libx265",
     "ff -i rich.mp4 -c:v libx265 -crf 18 -x265-params log-level=error:keyint=30:temporal-layers=1:bframes=7 layers.mp4"},
    {"edit.mp4", "libx264", "ff -ss 0.5 -i rich.mp4 -c copy edit.mp4"}, /* an edit list begins inside a group */
    {"editopen.mp4", "libx264", "ff -ss 0.5 -i richopen.mp4 -c copy editopen.mp4"},
    {"nolist.mp4", "libx264", "ff -i rich.mp4 -c copy -use_editlist 0 nolist.mp4"},
    {"negative.mp4", "libx264", "ff -i rich.mp4 -c copy -movflags negative_cts_offsets negative.mp4"},
    {"late.mp4", "libx264", "ff -itsoffset 1.5 -i rich.mp4 -c copy late.mp4"}, /* an empty edit first */
    {"vfr.mp4", "libx264", "ff -i rich.mp4 -vf \"select='lt(n,30)+not(mod(n,5))'\" -vsync vfr -c:v libx264 -crf 18 -bf 3 -g 20 vfr.mp4"},
    {"frag.mp4", "libx264", "ff -i rich.mp4 -c copy -movflags frag_keyframe+empty_moov frag.mp4"},
    {"fragmoov.mp4", "libx264", "ff -i rich.mp4 -c copy -movflags frag_keyframe fragmoov.mp4"},
    {"fast.mp4", "libx264", "ff -i rich.mp4 -c copy -movflags faststart fast.mp4"},
    {"sound.mp4", "libx264", "ff -i rich.mp4 -f lavfi -i sine=d=2 -c:v copy -c:a aac -shortest sound.mp4"},
    {"two.mov", "libx264", "ff -i rich.mp4 -i numbered.mp4 -map 0 -map 1 -c copy two.mov"},
    {"joined.mp4", "libx264", "printf \"file rich.mp4\\nfile rich.mp4\\n\" >j.txt; ff -f concat -i j.txt -c copy joined.mp4"},
    {"m4.mp4", "mpeg4", "ff -i rich.mp4 -c:v mpeg4 -q 4 -bf 2 -g 15 m4.mp4"},
    {"v9.mp4", "libvpx-vp9", "ff -i rich.mp4 -c:v libvpx-vp9 -crf 20 -b:v 0 -cpu-used 8 -auto-alt-ref 1 -lag-in-frames 16 -g 30 v9.mp4"},
    {"av1.mp4", "libsvtav1", "ff -i rich.mp4 -c:v libsvtav1 -preset 10 -crf 30 -g 30 av1.mp4"},
    {"rich.mkv", "libx264", "ff -i rich.mp4 -c copy rich.mkv"},
    {"rich.ts", "libx264", "ff -i richopen.mp4 -c copy rich.ts"},
    {"cutfast.mp4", "libx264", "head -c $(($(stat -c %s fast.mp4) * 2 / 3)) fast.mp4 >cutfast.mp4"}, /* cut short; the index is whole */
};

static void every_kind(void **state) {
    need_encoder("libx264");
    int made = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char line[128];
        snprintf(line, sizeof line, "ffmpeg -v quiet -encoders | grep -q ' %s '", files[i].encoder);
        if (system(line)) {
            print_message("left out: %s (this ffmpeg has no %s)\n", files[i].file, files[i].encoder);
            continue;
        }
        if (script(files[i].how)) fail_msg("%s could not be made", files[i].file);
        same_both_ways(files[i].file);
        made++;
    }
    assert_true(made >= 15);
}

/* The bytes of frames that are not asked for are not read. */
static void not_read(void **state) {
    need_encoder("libx264");
    assert_int_equal(
        script("ff -f lavfi -i testsrc2=s=320x240:r=30:d=60 -f lavfi -i sine=d=60 -c:v libx264 -preset ultrafast -crf 10 -g 30 "
               "-c:a aac big.mp4"),
        0);
    char *data = NULL;
    size_t size = 0;
    assert_int_equal(file_read(in_folder("big.mp4"), 1 << 28, &data, &size, NULL), 0);
    mem_free(data);
    long long before = bytes_read();
    if (before < 0) skip(); /* no /proc */
    vid *v = open_as("big.mp4", 0);
    free(read_frames(v, (const int64_t[]){300, 310}, 2, NULL));
    long long ours = bytes_read() - before;
    vid_close(&v);
    before = bytes_read();
    v = open_as("big.mp4", 1);
    free(read_frames(v, (const int64_t[]){300, 310}, 2, NULL));
    long long all = bytes_read() - before;
    vid_close(&v);
    print_message("%zu bytes: %lld read by its index, %lld otherwise\n", size, ours, all);
    assert_true(all > (long long)size);
    assert_true(ours < (long long)size / 5); /* 1 group of 60, the index, about a megabyte that FFmpeg looks at to tell the streams */
}

/* A box's payload in the file, to be forged. */
static uint8_t *box(char *data, size_t size, const char *name) {
    uint8_t *b = memmem(data, size, name, 4);
    assert_non_null(b);
    return b + 4;
}

static void lying_index(void **state) {
    need_encoder("libx264");
    char *data = NULL;
    size_t size = 0;
    jepa_err err = {0};
    /* keyframes where there are none: sample 13 (the second group's first) becomes 17 */
    assert_int_equal(file_read(in_folder("rich.mp4"), 1 << 28, &data, &size, NULL), 0);
    uint8_t *stss = box(data, size, "stss");
    assert_int_equal(stss[15], 13);
    stss[15] = 17;
    assert_int_equal(file_write_atomic(in_folder("liar.mp4"), data, size, NULL), 0);
    same_both_ways("liar.mp4");
    vid *v = open_as("liar.mp4", 0), *w = open_as("rich.mp4", 0);
    for (int64_t k = 14; k < 24; k++) { /* and they are the right ones */
        uint8_t *a = read_frames(v, &k, 1, NULL), *b = read_frames(w, &k, 1, NULL);
        assert_memory_equal(a, b, picture_size(v));
        free(a);
        free(b);
    }
    vid_close(&v);
    vid_close(&w);
    /* all of them called keyframes: no stss box at all */
    memcpy(box(data, size, "stss") - 4, "free", 4);
    assert_int_equal(file_write_atomic(in_folder("liar.mp4"), data, size, NULL), 0);
    same_both_ways("liar.mp4");
    mem_free(data);
    /* places and sizes of samples changed at random: the same answer both ways, or the same refusal */
    assert_int_equal(file_read(in_folder("fast.mp4"), 1 << 28, &data, &size, NULL), 0);
    uint32_t seed = 1;
    int opened_both = 0;
    for (int i = 0; i < 60; i++) {
        static const char *const tables[] = {"stsz", "stco", "stsc", "ctts", "stts", "elst"};
        uint8_t *b = box(data, size, tables[i % 6]), keep[64];
        memcpy(keep, b, sizeof keep);
        for (int j = 0; j < 2; j++) {
            seed = seed * 1664525 + 1013904223;
            b[8 + (seed >> 8) % 48] ^= (uint8_t)(seed >> 24);
        }
        assert_int_equal(file_write_atomic(in_folder("forged.mp4"), data, size, NULL), 0);
        memcpy(b, keep, sizeof keep);
        vid *x = NULL, *y = NULL;
        int rx = vid_open(&x, in_folder("forged.mp4"), NULL, &err);
        refuse = 1;
        int ry = vid_open(&y, in_folder("forged.mp4"), NULL, &err);
        refuse = 0;
        if (rx != ry) fail_msg("forgery %d (%s): %d, not %d", i, tables[i % 6], rx, ry);
        if (rx == 0 && ry == 0 && vid_get_info(x)->frames == vid_get_info(y)->frames) {
            int n = (int)vid_get_info(x)->frames;
            int64_t k[3] = {0, n / 2, n - 1};
            size_t bytes = picture_size(x) * 3;
            uint8_t *p = calloc(bytes, 1), *q = calloc(bytes, 1);
            if (vid_read(x, k, 3, p, NULL, NULL) == 0 && vid_read(y, k, 3, q, NULL, NULL) == 0) {
                if (memcmp(p, q, bytes)) fail_msg("forgery %d (%s): other frames", i, tables[i % 6]);
                opened_both++;
            }
            free(p);
            free(q);
        }
        vid_close(&x);
        vid_close(&y);
    }
    mem_free(data);
    print_message("%d of 60 forgeries could be read\n", opened_both);
    assert_true(opened_both >= 5);
}

static int set_up(void **state) {
    if (make_folder()) return -1;
    return have_ffmpeg ? script(numbered) : 0;
}
static int tear_down(void **state) { return remove_folder(); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind),
        cmocka_unit_test(not_read),
        cmocka_unit_test(lying_index),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
