/* test_video_decode_bad.c: files that cannot be used, or only in part: the reason, the count, no crash, no growth. */
#include "video_make.h"

#include <dirent.h>
#include <sys/stat.h>

/* The k-th thing that can fail fails (k 0: none). */
static long fail_at, points;
static int counting;
int fault_point(const char *name) {
    if (!counting) return 0;
    points++;
    return points == fail_at ? 5 : 0;
}

static void refused(const char *name, const char *reason) {
    vid *v = (vid *)1;
    jepa_err err = {0};
    const char *path = in_folder(name);
    int rc = vid_open(&v, path, NULL, &err);
    assert_int_equal(rc, JEPA_E_INPUT);
    assert_null(v);
    assert_string_equal(err.file, path);
    size_t n = strlen(path);
    if (strncmp(err.text, path, n) || strncmp(err.text + n, ": ", 2) || strncmp(err.text + n + 2, reason, strlen(reason)))
        fail_msg("“%s”, not “%s: %s…”", err.text, path, reason);
    assert_int_equal(vid_open(&v, path, NULL, NULL), JEPA_E_INPUT); /* nobody listens */
}

static void text_file(const char *name, const char *text) {
    assert_int_equal(file_write_atomic(in_folder(name), text, strlen(text), NULL), 0);
}

static void without_any_tool(void **state) {
    refused("missing.mp4", "not found");
    refused("missing/missing.mp4", "not found");
    text_file("empty.mp4", "");
    refused("empty.mp4", "empty file");
    text_file("text.mp4", "not a video\n");
    refused("text.mp4", "not a media file");
    text_file("one.mp4", "x");
    refused("one.mp4", "not a media file");
    assert_int_equal(mkdir(in_folder("dir.mp4"), 0700), 0);
    refused("dir.mp4", "a folder");
    assert_int_equal(mkfifo(in_folder("pipe.mp4"), 0600), 0); /* opening it would wait for ever */
    refused("pipe.mp4", "not a regular file");
    text_file("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1/a.ts\n#EXT-X-ENDLIST\n");
    refused("list.m3u8", "format not read: hls");
    text_file("list.ffconcat", "ffconcat version 1.0\nfile numbered.mp4\n");
    refused("list.ffconcat", "format not read: concat");
    text_file("a.heic", "\0\0\0\x18"
                        "ftypheic");
    assert_int_equal(file_write_atomic(in_folder("a.heic"),
                                       "\0\0\0\x18"
                                       "ftypheic\0\0\0\0mif1heic",
                                       24, NULL),
                     0);
    refused("a.heic", "format not read: HEIF");
    vid *v;
    jepa_err err = {0};
    static const char *const elsewhere[] = {"http://127.0.0.1/x.mp4",     "concat:a.mp4|b.mp4", "pipe:0",
                                            "data:video/mp4;base64,AAAA", "file:x.mp4",         NULL};
    for (int i = 0; elsewhere[i]; i++) { /* names, not addresses: such files are not there */
        assert_int_equal(vid_open(&v, elsewhere[i], NULL, &err), JEPA_E_INPUT);
        assert_non_null(strstr(err.text, "not found"));
    }
    assert_int_equal(vid_open(&v, "", NULL, &err), JEPA_E_USE);
    assert_int_equal(vid_open(&v, NULL, NULL, &err), JEPA_E_USE);
    vid_close(&v);
    vid_close(NULL);
}

static const char bad_files[] =
    "mkdir -p 'my clips'; cp numbered.mp4 'my clips/tea cup.mp4'; cp numbered.mp4 'ü_名.mp4'; cp numbered.mp4 'a:b.mp4'\n"
    "ff -f lavfi -i sine=d=1 -c:a aac audio.mp4\n"
    "ff -i audio.mp4 audio.wav\n"
    "ff -f lavfi -i color=red:s=64x64 -frames:v 1 cover.png\n"
    "ff -i audio.mp4 -i cover.png -map 0 -map 1 -c copy -c:v:0 png -disposition:v:0 attached_pic cover.m4a\n"
    "ff -f lavfi -i testsrc2=s=320x240:r=30:d=2 -c:v libx264 -crf 18 -g 12 -pix_fmt yuv420p rich.mp4\n"
    "S=$(stat -c %s rich.mp4); head -c $((S*6/10)) rich.mp4 > nomoov.mp4\n"
    "ff -i rich.mp4 -c copy -movflags +faststart fs.mp4; head -c $((S*6/10)) fs.mp4 > trunc.mp4\n"
    "ff -i rich.mp4 -c copy rich.mkv; head -c $((S*6/10)) rich.mkv > trunc.mkv\n"
    "ff -i rich.mp4 -c copy rich.ts; head -c $((S*6/10)) rich.ts > trunc.ts\n"
    "ff -i rich.mp4 -c:v mpeg4 -q 4 -bf 2 -g 30 rich.avi; head -c $(($(stat -c %s rich.avi)*6/10)) rich.avi > trunc.avi\n"
    "ff -i rich.mp4 -vf scale=160:120 -c:v libx264 -g 12 small.ts\n"
    "cat rich.ts small.ts > changes.ts; cat rich.ts rich.ts > twice.ts\n"
    "dd if=rich.ts of=middle.ts bs=188 skip=$(($(stat -c %s rich.ts)/188/3)) 2>/dev/null\n"
    "head -c 2000 fs.mp4 > header.mp4\n";

static int tool_counts(const char *name) {
    char line[512];
    snprintf(line, sizeof line, "ffprobe -v quiet -select_streams v:0 -count_frames -show_entries stream=nb_read_frames -of csv=p=0 %s",
             in_folder(name));
    FILE *f = popen(line, "r");
    int n = -1;
    if (f && fscanf(f, "%d", &n) != 1) n = -1;
    if (f) pclose(f);
    return n;
}

static void awkward_files(void **state) {
    need_encoder("libx264");
    assert_int_equal(script(bad_files), 0);
    static const char *const good[] = {"my clips/tea cup.mp4", "ü_名.mp4", "a:b.mp4", NULL};
    for (int i = 0; good[i]; i++) {
        vid *v = opened(good[i]);
        assert_int_equal(vid_get_info(v)->frames, 60);
        vid_close(&v);
    }
    refused("audio.mp4", "no video stream (1 audio stream found)");
    refused("audio.wav", "no video stream");
    refused("cover.m4a", "only a cover picture, no video");
    refused("nomoov.mp4", "no index (moov atom missing)");
    refused("header.mp4", "no ");
}

/* What is there can be read, the same number every time; what the container promised is told. */
static void cut_files(void **state) {
    need_encoder("libx264");
    static const struct {
        const char *name;
        int low, high, promised;
    } cut[] = {{"trunc.mp4", 33, 35, 60}, {"trunc.avi", 30, 40, 60}, {"trunc.mkv", 30, 40, 0}, {"trunc.ts", 30, 40, 0}};
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        int64_t n = -1;
        for (int again = 0; again < 3; again++) {
            vid *v = opened(cut[i].name);
            const vid_info *info = vid_get_info(v);
            if (info->frames < cut[i].low || info->frames > cut[i].high) fail_msg("%s: %lld frames", cut[i].name, (long long)info->frames);
            assert_int_equal(info->promised, cut[i].promised ? cut[i].promised : info->frames);
            if (n >= 0) assert_int_equal(info->frames, n);
            n = info->frames;
            int64_t last = n - 1;
            jepa_err err = {0};
            uint8_t *one = read_frames(v, &last, 1, NULL), *all = read_all(v, (int)n);
            assert_memory_equal(one, all + picture_size(v) * (size_t)last, picture_size(v));
            assert_int_equal(vid_read(v, &n, 1, one, NULL, &err), JEPA_E_USE); /* nothing waits for frames that do not exist */
            free(one);
            free(all);
            vid_close(&v);
        }
        if (tool_counts(cut[i].name) < n) fail_msg("%s: %lld frames, the tool has %d", cut[i].name, (long long)n, tool_counts(cut[i].name));
    }
}

static void odd_streams(void **state) {
    need_encoder("libx264");
    vid *v = opened("changes.ts"); /* another size from frame 60 on: brought to the first */
    assert_int_equal(vid_get_info(v)->frames, 120);
    assert_int_equal(vid_get_info(v)->width, 320);
    uint8_t *all = read_all(v, 120);
    long far = 0; /* the same picture, once scaled down and up again */
    for (size_t k = 0; k < picture_size(v); k++) far += abs(all[k] - all[60 * picture_size(v) + k]);
    assert_true(far / (double)picture_size(v) < 12);
    free(all);
    for (int i = 1; i < 120; i++) assert_true(vid_time_of(v, i) > vid_time_of(v, i - 1));
    vid_close(&v);
    v = opened("twice.ts"); /* the times start again at frame 60 */
    assert_int_equal(vid_get_info(v)->frames, 120);
    assert_float_equal(vid_time_of(v, 119), 119 / 30.0, 0.05);
    all = read_all(v, 120);
    assert_memory_equal(all + 5 * picture_size(v), all + 65 * picture_size(v), picture_size(v));
    free(all);
    vid_close(&v);
    v = opened("middle.ts"); /* begins inside a group: what cannot be decoded is not counted */
    assert_int_equal(vid_get_info(v)->frames, tool_counts("middle.ts"));
    free(read_all(v, (int)vid_get_info(v)->frames));
    vid_close(&v);
}

/* Bytes inside the pictures turned over: still no crash, the count is one that can be read, the same alone and in order. */
static void damaged_pictures(void **state) {
    need_encoder("libx264");
    static const char *const source[] = {"rich.mp4", "rich.mkv", "rich.ts", "rich.avi"};
    for (int i = 0; i < 40; i++) {
        char *data = NULL;
        size_t size = 0;
        assert_int_equal(file_read(in_folder(source[i % 4]), 1 << 24, &data, &size, NULL), 0);
        uint64_t x = 88172645463325252u + (uint64_t)i * 7919;
        for (int k = 0; k < 1 + i % 9; k++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            data[x % size] = (char)(x >> 40);
        }
        assert_int_equal(file_write_atomic(in_folder("damaged"), data, size, NULL), 0);
        mem_free(data);
        vid *v = NULL;
        jepa_err err = {0};
        if (vid_open(&v, in_folder("damaged"), NULL, &err) < 0) {
            assert_int_equal(err.code, JEPA_E_INPUT);
            continue;
        }
        uint8_t *one = malloc(picture_size(v));
        int ends = 0;
        for (int k = 0; k < 24; k++) {
            int64_t f = (k * 29 + 7) % vid_get_info(v)->frames, before = vid_get_info(v)->frames;
            int rc = vid_read(v, &f, 1, one, NULL, &err);
            assert_true(rc == 0 || rc == JEPA_E_END || rc == JEPA_E_INPUT);
            if (rc == JEPA_E_END) {
                assert_true(vid_get_info(v)->frames != before);
                ends++;
                if (vid_get_info(v)->frames < 1) break;
            }
        }
        assert_true(ends <= 1); /* corrected once, then true */
        free(one);
        vid_close(&v);
    }
}

/* A frame that cannot be decoded at all: found when it is asked for; told once, then the count is true. */
static void a_hole(void **state) {
    need_encoder("mjpeg");
    assert_int_equal(script("ff -i numbered.mp4 -frames:v 20 -c:v mjpeg -q 2 -pix_fmt yuvj420p whole.avi"), 0);
    char *data = NULL;
    size_t size = 0;
    assert_int_equal(file_read(in_folder("whole.avi"), 1 << 24, &data, &size, NULL), 0);
    char *p = data;
    for (int i = 0; i <= 7; i++) assert_non_null(p = (char *)memmem(p, size - (size_t)(p - data), "\xff\xd8\xff", 3) + 3);
    memset(p - 3, 0, 400); /* the eighth picture */
    assert_int_equal(file_write_atomic(in_folder("hole.avi"), data, size, NULL), 0);
    mem_free(data);
    vid *v = opened("hole.avi");
    jepa_err err = {0};
    uint8_t *rgb = malloc(picture_size(v) * 20);
    int64_t index[20];
    for (int i = 0; i < 20; i++) index[i] = i;
    assert_int_equal(vid_get_info(v)->frames, 20);
    assert_int_equal(vid_read(v, index, 5, rgb, NULL, &err), 0); /* before the hole */
    assert_int_equal(vid_read(v, index, 20, rgb, NULL, &err), JEPA_E_END);
    assert_non_null(strstr(err.text, "only 19 of 20 frames can be decoded"));
    assert_int_equal(vid_get_info(v)->frames, 19);
    assert_int_equal(vid_get_info(v)->promised, 20);
    double seconds[20];
    assert_int_equal(vid_read(v, index, 19, rgb, seconds, &err), 0);
    for (int i = 0; i < 19; i++) {
        assert_int_equal(number_at(v, rgb + picture_size(v) * (size_t)i), i < 7 ? i : i + 1);
        assert_float_equal(seconds[i], (i < 7 ? i : i + 1) / 30.0, 1e-6);
    }
    free(rgb);
    vid_close(&v);
}

static void wrong_use(void **state) {
    need_encoder("libx264");
    vid *v = opened("numbered.mp4");
    jepa_err err = {0};
    uint8_t *one = malloc(picture_size(v));
    assert_int_equal(vid_read(v, (const int64_t[]){60}, 1, one, NULL, &err), JEPA_E_USE);
    assert_non_null(strstr(err.text, "0 … 59"));
    assert_int_equal(vid_read(v, (const int64_t[]){-1}, 1, one, NULL, &err), JEPA_E_USE);
    assert_int_equal(vid_read(v, (const int64_t[]){INT64_MIN}, 1, one, NULL, NULL), JEPA_E_USE);
    assert_int_equal(vid_read(v, NULL, 0, one, NULL, &err), 0);
    assert_int_equal(vid_read(v, NULL, -1, one, NULL, &err), JEPA_E_USE);
    free(one);
    vid_close(&v);
}

static int open_and_read(const char *name) {
    vid *v = NULL;
    jepa_err err = {0};
    int rc = vid_open(&v, in_folder(name), NULL, &err);
    if (rc == 0) {
        uint8_t *rgb = malloc(picture_size(v) * 2);
        rc = vid_read(v, (const int64_t[]){25, 3}, 2, rgb, NULL, &err);
        if (rc == 0 && !strcmp(name, "numbered.mp4")) { /* whatever failed on the way: the right frames */
            assert_int_equal(number_at(v, rgb), 25);
            assert_int_equal(number_at(v, rgb + picture_size(v)), 3);
        }
        free(rgb);
    }
    if (rc < 0) assert_true(err.text[0] && err.code == rc);
    vid_close(&v);
    return rc;
}

static void each_thing_fails_once(void **state) {
    need_encoder("libx264");
    static const char *const name[] = {"numbered.mp4", "rich.ts", "trunc.mp4", "twice.ts"};
    for (int i = 0; i < 4; i++) {
        counting = 1;
        fail_at = 0, points = 0;
        assert_int_equal(open_and_read(name[i]), 0);
        long n = points, failures = 0;
        assert_true(n > 8);
        for (fail_at = 1; fail_at <= n && fail_at < 60; fail_at++) {
            points = 0;
            failures += open_and_read(name[i]) < 0;
        }
        counting = 0;
        assert_true(failures >= 6);
    }
}

static long resident_kib(void) {
    long pages = 0, all;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld %ld", &all, &pages) != 2) pages = 0;
    if (f) fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}
static int open_files(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}

/* 2,000 opens of good and bad files: memory and open files stay. */
static void memory_stays_flat(void **state) {
    need_encoder("libx264");
    static const char *const name[] = {"numbered.mp4", "trunc.mp4", "text.mp4",    "nomoov.mp4",   "cover.m4a",
                                       "audio.mp4",    "empty.mp4", "missing.mp4", "numbered.mp4", "list.m3u8"};
    long start = 0;
    int files = open_files();
    for (int i = 0; i < 2000; i++) {
        if (i == 300) start = resident_kib(); /* after the allocator has found its size */
        open_and_read(name[i % 10]);
    }
    long grown = resident_kib() - start;
    assert_int_equal(open_files(), files);
#ifndef __SANITIZE_ADDRESS__ /* its quarantine grows; it looks for leaks itself */
    /* a leaked context is more than 2 KiB an open; the allocator's own noise is below 1 MiB */
    if (grown > 3072) fail_msg("grown by %ld KiB over 1,700 opens", grown);
#endif
    (void)grown;
}

static int set_up(void **state) {
    if (make_folder()) return -1;
    return have_ffmpeg ? script(numbered) : 0;
}
static int tear_down(void **state) { return remove_folder(); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_any_tool), cmocka_unit_test(awkward_files),         cmocka_unit_test(cut_files),
        cmocka_unit_test(odd_streams),      cmocka_unit_test(damaged_pictures),      cmocka_unit_test(a_hole),
        cmocka_unit_test(wrong_use),        cmocka_unit_test(each_thing_fails_once), cmocka_unit_test(memory_stays_flat),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
