/* test_video_decode.c: the right frame, the right way up, in the right colours: whatever container, codec, order of asking. */
#include "video_make.h"

#include <math.h>

/* Every frame alone, in orders that jump about, equals the same frame read from the start; the count is what ffprobe decodes. */
static void check_access(const char *name, int frames, const int *numbers, int first_number) {
    vid *v = opened(name), *w = opened(name);
    const vid_info *info = vid_get_info(v);
    if (info->frames != frames) fail_msg("%s: %lld frames, not %d", name, (long long)info->frames, frames);
    uint8_t *all = read_all(v, frames), *one = malloc(picture_size(v));
    double before = -1, t;
    for (int k = 0; k < frames; k++) {
        int want = numbers ? numbers[k] : first_number + k;
        if (first_number >= 0 && number_at(v, all + picture_size(v) * (size_t)k) != want)
            fail_msg("%s: frame %d shows %d, not %d", name, k, number_at(v, all + picture_size(v) * (size_t)k), want);
        assert_true(vid_time_of(v, k) > before);
        before = vid_time_of(v, k);
        assert_int_equal(vid_frame_at(v, before), k);
    }
    static const int special[] = {59, 0, 31, 30, 11, 12, 13, 13, 12};
    jepa_err err = {0};
    for (int i = 0; i < 3 * frames; i++) {
        int64_t k = i < 9 ? special[i] % frames : i < frames ? frames - 1 - i : (i * 37 + i / 7 * 11) % frames;
        if (vid_read(w, &k, 1, one, &t, &err) < 0) fail_msg("%s", err.text);
        if (memcmp(one, all + picture_size(v) * (size_t)k, picture_size(v)))
            fail_msg("%s: frame %lld differs when read alone", name, (long long)k);
        assert_true(t == vid_time_of(v, k));
    }
    free(all);
    free(one);
    vid_close(&v);
    vid_close(&w);
}

static void numbered_clip(void **state) {
    need_encoder("libx264");
    check_access("numbered.mp4", 60, NULL, 0);
    vid *v = opened("numbered.mp4");
    const vid_info *i = vid_get_info(v);
    assert_int_equal(i->width, 320);
    assert_int_equal(i->height, 240);
    assert_int_equal(i->promised, 60);
    assert_int_equal(i->rotation, 0);
    assert_int_equal(i->is_image, 0);
    assert_float_equal(i->fps, 30, 1e-9);
    assert_float_equal(i->duration, 2, 1e-6);
    assert_string_equal(i->codec, "h264");
    assert_string_equal(i->pix_fmt, "yuv420p");
    assert_string_equal(i->range, "tv");
    assert_string_equal(i->matrix, "bt709");
    /* repeats and any order in one call; the repeated are decoded once */
    static const int64_t mixed[] = {59, 0, 31, 30, 11, 12, 13, 13, 59, 0};
    double seconds[10];
    int64_t before = vid_decoded(v);
    uint8_t *rgb = read_frames(v, mixed, 10, seconds);
    for (int k = 0; k < 10; k++) {
        assert_int_equal(number_at(v, rgb + picture_size(v) * (size_t)k), mixed[k]);
        assert_float_equal(seconds[k], (double)mixed[k] / 30, 1e-9);
    }
    assert_true(vid_decoded(v) - before <= 60);
    free(rgb);
    vid_close(&v);
}

static void threads_give_the_same(void **state) {
    need_encoder("libx264");
    vid *v = opened("numbered.mp4"), *w = NULL;
    jepa_err err = {0};
    assert_int_equal(vid_open(&w, in_folder("numbered.mp4"), &(vid_opts){.threads = 4}, &err), 0);
    uint8_t *a = read_all(v, 60), *one = malloc(picture_size(v));
    for (int i = 0; i < 60; i++) {
        int64_t k = i * 41 % 60;
        assert_int_equal(vid_read(w, &k, 1, one, NULL, &err), 0);
        assert_memory_equal(one, a + picture_size(v) * (size_t)k, picture_size(v));
    }
    free(a);
    free(one);
    vid_close(&v);
    vid_close(&w);
}

/* One source in many wrappings. Each line: file, encoder that it needs, how it is made, frames, number of the first. */
typedef struct wrapping {
    const char *file, *encoder, *how;
    int frames, first;
} wrapping;
static const wrapping wrappings[] = {
    {"a.mkv", "libx264", "ff -i numbered.mp4 -c copy a.mkv", 60, 0},
    {"live.mkv", "libx264", "ff -i numbered.mp4 -c copy -f matroska -live 1 live.mkv", 60, 0}, /* no index in the file */
    {"a.ts", "libx264", "ff -i numbered.mp4 -c copy a.ts", 60, 0},
    {"a.flv", "libx264", "ff -i numbered.mp4 -c copy a.flv", 60, 0},
    {"a.avi", "libx264", "ff -i numbered.mp4 -c copy a.avi", 60, 0}, /* B-frames without times; the header says 120 */
    {"frag.mp4", "libx264", "ff -i numbered.mp4 -c copy -movflags frag_keyframe+empty_moov frag.mp4", 60, 0},
    {"cut.mp4", "libx264", "ff -ss 0.5 -i numbered.mp4 -c copy cut.mp4", 45, 15}, /* an edit list begins inside a group */
    {"opengop.mp4", "libx264",
     "ff -i numbered.mp4 -c:v libx264 -crf 4 -bf 3 -x264-params open-gop=1:keyint=12:min-keyint=12:scenecut=0 opengop.mp4", 60, 0},
    {"opengop.ts", "libx264", "ff -i opengop.mp4 -c copy opengop.ts", 60, 0},
    {"refresh.mp4", "libx264", "ff -i numbered.mp4 -c:v libx264 -crf 4 -intra-refresh 1 -g 20 -bf 0 refresh.mp4", 60, 0},
    {"fields.mp4", "libx264", "ff -i numbered.mp4 -c:v libx264 -crf 4 -g 15 -flags +ilme+ildct -x264-params tff=1 fields.mp4", 60, 0},
    {"onegroup.mp4", "libx264", "ff -i numbered.mp4 -c:v libx264 -crf 4 -g 1000 -bf 2 onegroup.mp4", 60, 0},
    {"hevc.mp4", "libx265", "ff -i numbered.mp4 -c:v libx265 -crf 4 -x265-params log-level=error:keyint=12:open-gop=1:bframes=4 hevc.mp4",
     60, 0},
    {"hevc.ts", "libx265", "ff -i hevc.mp4 -c copy hevc.ts", 60, 0},
    {"m2.mpg", "mpeg2video", "ff -i numbered.mp4 -c:v mpeg2video -q 2 -bf 2 -g 15 m2.mpg", 60, 0},
    {"m2.ts", "mpeg2video", "ff -i numbered.mp4 -c:v mpeg2video -q 2 -bf 2 -g 15 m2.ts", 60, 0},
    {"m4.avi", "mpeg4", "ff -i numbered.mp4 -c:v mpeg4 -q 2 -bf 2 -g 15 m4.avi", 60, 0}, /* times on B-frames only */
    {"w.wmv", "wmv2", "ff -i numbered.mp4 -c:v wmv2 -q 2 -g 15 w.wmv", 60, 0},
    {"t.ogv", "libtheora", "ff -i numbered.mp4 -c:v libtheora -q 10 -g 15 t.ogv", 60, 0},
    {"mj.avi", "mjpeg", "ff -i numbered.mp4 -c:v mjpeg -q 2 -pix_fmt yuvj420p mj.avi", 60, 0},
    {"v8.webm", "libvpx", "ff -i numbered.mp4 -c:v libvpx -crf 4 -b:v 2M -auto-alt-ref 1 -lag-in-frames 16 -g 30 v8.webm", 60, 0},
    {"v9.webm", "libvpx-vp9",
     "ff -i numbered.mp4 -c:v libvpx-vp9 -crf 4 -b:v 0 -cpu-used 8 -auto-alt-ref 1 -lag-in-frames 16 -g 30 v9.webm", 60, 0},
    {"av1.mkv", "libsvtav1", "ff -i numbered.mp4 -c:v libsvtav1 -preset 10 -crf 8 -g 30 av1.mkv", 60, 0},
    /* a moving picture, so that a wrong reference shows; compared with itself and with what the tool counts */
    {"rich.mp4", "libx264", "ff -f lavfi -i testsrc2=s=176x144:r=30:d=2 -c:v libx264 -crf 18 -g 12 -bf 3 -pix_fmt yuv420p rich.mp4", 60,
     -1},
    {"richopen.mp4", "libx264",
     "ff -i rich.mp4 -c:v libx264 -crf 18 -bf 3 -x264-params open-gop=1:keyint=12:min-keyint=12:scenecut=0 richopen.mp4", 60, -1},
    {"rich5.mkv", "libx265", "ff -i rich.mp4 -c:v libx265 -crf 18 -x265-params log-level=error:keyint=12:open-gop=1:bframes=4 rich5.mkv",
     60, -1},
    {"rich2.ts", "mpeg2video", "ff -i rich.mp4 -c:v mpeg2video -q 4 -bf 2 -g 15 rich2.ts", 60, -1},
    {"rich4.avi", "mpeg4", "ff -i rich.mp4 -c:v mpeg4 -q 4 -bf 2 -g 15 rich4.avi", 60, -1},
    {"richr.ts", "libx264", "ff -i rich.mp4 -c:v libx264 -crf 18 -intra-refresh 1 -g 20 -bf 0 richr.ts", 60, -1},
};

static void wrapped_in_many_ways(void **state) {
    need_encoder("libx264");
    int made = 0;
    for (size_t i = 0; i < sizeof wrappings / sizeof *wrappings; i++) {
        const wrapping *w = &wrappings[i];
        char line[128];
        snprintf(line, sizeof line, "ffmpeg -v quiet -encoders | grep -q ' %s '", w->encoder);
        if (system(line)) {
            print_message("left out: %s (this ffmpeg has no %s)\n", w->file, w->encoder);
            continue;
        }
        if (script(w->how)) fail_msg("%s could not be made", w->file);
        check_access(w->file, w->frames, NULL, w->first);
        made++;
    }
    assert_true(made >= 10);
}

/* Pictures and their order against the tool's own decoding. ±2: the tool's build may choose another row function. */
static void same_as_the_tool(void **state) {
    need_encoder("libx264");
    static const char *const file[] = {"rich.mp4", "richopen.mp4", "cut.mp4", "opengop.ts", NULL};
    for (int i = 0; file[i]; i++) {
        char text[512];
        snprintf(text, sizeof text,
                 "ff -i %s -vsync passthrough -sws_flags bilinear+accurate_rnd+full_chroma_int -pix_fmt rgb24 -f rawvideo out.rgb",
                 file[i]);
        if (script(text)) {
            print_message("left out: %s (the tool is too old)\n", file[i]);
            continue;
        }
        vid *v = opened(file[i]);
        int n = (int)vid_get_info(v)->frames;
        size_t size = picture_size(v) * (size_t)n, got = 0;
        char *theirs = NULL;
        assert_int_equal(file_read(in_folder("out.rgb"), size + 1, &theirs, &got, NULL), 0);
        assert_int_equal(got, size);
        uint8_t *ours = read_all(v, n);
        for (size_t k = 0; k < size; k++)
            if (abs(ours[k] - (uint8_t)theirs[k]) > 2)
                fail_msg("%s: byte %zu is %d, the tool has %d", file[i], k, ours[k], (uint8_t)theirs[k]);
        free(ours);
        mem_free(theirs);
        vid_close(&v);
    }
}

static void variable_rate(void **state) {
    need_encoder("libx264");
    assert_int_equal(
        script("ff -i numbered.mp4 -vf \"select='lt(n,30)+not(mod(n,5))'\" -vsync vfr -c:v libx264 -crf 4 -bf 0 -g 250 vfr.mp4"), 0);
    int numbers[36];
    for (int i = 0; i < 36; i++) numbers[i] = i <= 30 ? i : 30 + (i - 30) * 5;
    check_access("vfr.mp4", 36, numbers, 0);
    vid *v = opened("vfr.mp4");
    assert_float_equal(vid_get_info(v)->fps, 135.0 / 7, 1e-9);
    static const double late[] = {1.1667, 1.3333, 1.5, 1.6667, 1.8333};
    for (int i = 0; i < 5; i++) assert_float_equal(vid_time_of(v, 31 + i), late[i], 1e-4);
    sample_cfg c;
    sample_cfg_defaults(&c);
    int64_t index[16];
    int slow;
    jepa_err err = {0};
    assert_int_equal(sample_frames(&c, 36, vid_get_info(v)->fps, NULL, NULL, index, &slow, &err), 0);
    uint8_t *rgb = read_frames(v, index, 16, NULL);
    static const int by_index[] = {0, 6, 12, 18, 24, 30, 55};
    for (int k = 0; k < 16; k++) assert_int_equal(number_at(v, rgb + picture_size(v) * (size_t)k), by_index[k < 6 ? k : 6]);
    free(rgb);
    assert_int_equal(sample_times(v, 0, 4, 8, index, &err), 0);
    rgb = read_frames(v, index, 8, NULL);
    static const int by_time[] = {0, 7, 15, 22, 30, 35, 45, 50};
    for (int k = 0; k < 8; k++) assert_int_equal(number_at(v, rgb + picture_size(v) * (size_t)k), by_time[k]);
    free(rgb);
    assert_int_equal(vid_frame_at(v, -1), 0);
    assert_int_equal(vid_frame_at(v, 1.166666), 31); /* as printed with six digits */
    assert_int_equal(vid_frame_at(v, 1.1666), 30);
    assert_int_equal(vid_frame_at(v, 1e30), 35);
    assert_int_equal(vid_frame_at(v, NAN), 0);
    assert_int_equal(sample_times(v, 0, 0, 8, index, &err), JEPA_E_USE);
    assert_int_equal(sample_times(v, 0, 4, 0, index, &err), JEPA_E_USE);
    assert_int_equal(sample_times(v, INFINITY, 4, 8, index, &err), JEPA_E_USE);
    vid_close(&v);
}

static char colour(const uint8_t *p) {
    return p[0] > 200 && p[1] < 60 && p[2] < 60   ? 'r'
           : p[2] > 200 && p[0] < 60 && p[1] < 60 ? 'b'
           : p[0] < 40 && p[1] < 40 && p[2] < 40  ? '0'
                                                  : '?';
}

static void corners(const char *name, int as_stored, int width, int height, int rotation, const char *want) {
    vid *v = NULL;
    jepa_err err = {0};
    if (vid_open(&v, in_folder(name), &(vid_opts){.as_stored = as_stored}, &err) < 0) fail_msg("%s", err.text);
    assert_int_equal(vid_get_info(v)->width, width);
    assert_int_equal(vid_get_info(v)->height, height);
    assert_int_equal(vid_get_info(v)->rotation, rotation);
    uint8_t *rgb = read_frames(v, (const int64_t[]){3}, 1, NULL);
    char got[5] = {0};
    for (int i = 0; i < 4; i++) {
        size_t x = i % 2 ? (size_t)width - 6 : 5, y = i / 2 ? (size_t)height - 6 : 5;
        got[i] = colour(rgb + (y * (size_t)width + x) * 3);
    }
    free(rgb);
    vid_close(&v);
    if (strcmp(got, want)) fail_msg("%s: corners %s, not %s", name, got, want);
}

static void turned_phone(void **state) {
    need_encoder("libx264");
    assert_int_equal(script("ff -f lavfi -i \"color=c=black:s=320x240:r=10:d=1,format=yuv420p,drawbox=x=0:y=0:w=320:h=60:color=red:t=fill,"
                            "drawbox=x=0:y=60:w=80:h=180:color=blue:t=fill\" -c:v libx264 -crf 4 up.mp4\n"
                            "for r in 90 180 270; do ff -i up.mp4 -c copy -metadata:s:v:0 rotate=$r rot$r.mp4 || :; done"),
                     0);
    corners("up.mp4", 0, 320, 240, 0, "rrb0");
    char text[256];
    snprintf(text, sizeof text, "ffprobe -v error -show_streams rot90.mp4 | grep -q rotation=90");
    if (script(text)) { /* newer tools took the metadata away */
        print_message("left out: turned files (this ffmpeg does not write the tag)\n");
        return;
    }
    corners("rot90.mp4", 0, 240, 320, 270, "r0rb");
    corners("rot180.mp4", 0, 320, 240, 180, "0brr");
    corners("rot270.mp4", 0, 240, 320, 90, "br0r");
    corners("rot90.mp4", 1, 320, 240, 270, "rrb0"); /* as stored */
    corners("rot180.mp4", 1, 320, 240, 180, "rrb0");
}

/* The display matrix of an MP4, found and replaced: mirrors, a slanted one, nonsense. */
static void patch_matrix(const char *from, const char *to, const int32_t m[9]) {
    char *data = NULL;
    size_t size = 0;
    assert_int_equal(file_read(in_folder(from), 1 << 20, &data, &size, NULL), 0);
    char *box = memmem(data, size, "tkhd", 4); /* version 0: the matrix lies 40 bytes after the name's end */
    assert_non_null(box);
    for (int i = 0; i < 9; i++)
        for (int b = 0; b < 4; b++) box[4 + 40 + i * 4 + b] = (char)((uint32_t)m[i] >> (24 - 8 * b));
    assert_int_equal(file_write_atomic(in_folder(to), data, size, NULL), 0);
    mem_free(data);
}

static void mirrored(void **state) {
    need_encoder("libx264");
    enum { one = 1 << 16, unit = 1 << 30 };
    patch_matrix("up.mp4", "mirror.mp4", (const int32_t[9]){-one, 0, 0, 0, one, 0, 320 * one, 0, unit});
    corners("mirror.mp4", 0, 320, 240, 180, "rr0b"); /* its first axis points left */
    patch_matrix("up.mp4", "over.mp4", (const int32_t[9]){one, 0, 0, 0, -one, 0, 0, 240 * one, unit});
    corners("over.mp4", 0, 320, 240, 0, "b0rr");
    patch_matrix("up.mp4", "transpose.mp4", (const int32_t[9]){0, one, 0, one, 0, 0, 0, 0, unit});
    corners("transpose.mp4", 0, 240, 320, 90, "rbr0");
    patch_matrix("up.mp4", "slanted.mp4", (const int32_t[9]){46341, 46341, 0, -46341, 46341, 0, 0, 0, unit});
    corners("slanted.mp4", 0, 320, 240, 0, "rrb0");
    patch_matrix("up.mp4", "zero.mp4", (const int32_t[9]){0, 0, 0, 0, 0, 0, 0, 0, 0});
    corners("zero.mp4", 0, 320, 240, 0, "rrb0");
}

static void colours(void **state) {
    need_encoder("libx264");
    static const struct {
        const char *file, *encoder, *how;
        int w, h;
    } c[] = {
        {"c709.mp4", "libx264", "mk c709.mp4 320x240 yuv420p bt709 tv -c:v libx264 -crf 4 -colorspace bt709", 320, 240},
        {"c601.mp4", "libx264", "mk c601.mp4 320x240 yuv420p smpte170m tv -c:v libx264 -crf 4 -colorspace smpte170m", 320, 240},
        {"cfull.mp4", "libx264", "mk cfull.mp4 320x240 yuvj420p bt709 pc -c:v libx264 -crf 4 -colorspace bt709", 320, 240},
        {"c10.mp4", "libx265",
         "mk c10.mp4 320x240 yuv420p10le bt709 tv -c:v libx265 -crf 4 -x265-params log-level=error -tag:v hvc1 -colorspace bt709", 320,
         240},
        {"c444.mp4", "libx264", "mk c444.mp4 320x240 yuv444p bt709 tv -c:v libx264 -crf 4 -colorspace bt709", 320, 240},
        {"cvp9.webm", "libvpx-vp9", "mk cvp9.webm 320x240 yuv420p bt709 tv -c:v libvpx-vp9 -crf 10 -b:v 0 -cpu-used 8 -colorspace bt709",
         320, 240},
        {"cav1.mp4", "libsvtav1", "mk cav1.mp4 320x240 yuv420p bt709 tv -c:v libsvtav1 -crf 10 -colorspace bt709", 320, 240},
        {"codd.mp4", "libx264", "mk codd.mp4 323x241 yuv444p bt709 tv -c:v libx264 -crf 4 -colorspace bt709", 323, 241},
        {"c854.mp4", "libx264", "mk c854.mp4 854x482 yuv420p bt709 tv -c:v libx264 -crf 4 -colorspace bt709", 854, 482},
        {"c2020.mp4", "libx264", "mk c2020.mp4 320x240 yuv420p bt2020 tv -c:v libx264 -crf 4 -colorspace bt2020nc", 320, 240},
        {"none.mp4", "libx264", "mk none.mp4 320x240 yuv420p smpte170m tv -c:v libx264 -crf 4", 320,
         240}, /* no tag: read as BT.601 limited */
        {"crgb.mkv", "ffv1", "mk crgb.mkv 64x48 bgr0 bt709 pc -c:v ffv1", 64, 48},
    };
    int made = 0;
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        char text[1024];
        snprintf(text, sizeof text, "ffmpeg -v quiet -encoders | grep -q ' %s '", c[i].encoder);
        if (system(text)) {
            print_message("left out: %s (this ffmpeg has no %s)\n", c[i].file, c[i].encoder);
            continue;
        }
        snprintf(text, sizeof text,
                 "mk() { out=$1; sz=$2; pix=$3; mat=$4; rng=$5; shift 5; ff -f lavfi -i \"color=c=0xC83C14:s=$sz:r=10:d=1,format=gbrp\" "
                 "-vf \"scale=out_color_matrix=$mat:out_range=$rng,format=$pix\" \"$@\" -color_range $rng $out; }\n%s\n",
                 c[i].how);
        if (script(text)) fail_msg("%s could not be made", c[i].file);
        vid *v = opened(c[i].file);
        assert_int_equal(vid_get_info(v)->width, c[i].w);
        assert_int_equal(vid_get_info(v)->height, c[i].h);
        int n = (int)vid_get_info(v)->frames;
        assert_int_equal(n, 10);
        uint8_t *rgb = read_all(v, n);
        for (size_t k = 0; k < picture_size(v) * (size_t)n; k += 3)
            if (abs(rgb[k] - 200) > 4 || abs(rgb[k + 1] - 60) > 4 || abs(rgb[k + 2] - 20) > 4)
                fail_msg("%s: pixel %zu is %d %d %d", c[i].file, k / 3, rgb[k], rgb[k + 1], rgb[k + 2]);
        free(rgb);
        vid_close(&v);
        made++;
    }
    assert_true(made >= 6);
}

/* 3,000 frames in groups of 250: sixteen frames cost the groups they lie in, one pass each. */
static void only_the_groups_needed(void **state) {
    need_encoder("libx264");
    assert_int_equal(script("ff -f lavfi -i testsrc2=s=96x64:r=30:d=100 -c:v libx264 -preset ultrafast -g 250 -keyint_min 250 "
                            "-sc_threshold 0 -bf 2 long.mp4"),
                     0);
    vid *v = opened("long.mp4");
    assert_int_equal(vid_get_info(v)->frames, 3000);
    assert_int_equal(vid_decoded(v), 0); /* opening decodes nothing */
    int64_t index[16];
    for (int i = 0; i < 16; i++) index[i] = 1010 + 4 * i; /* in the group of 1000 … 1249 */
    free(read_frames(v, index, 16, NULL));
    int64_t once = vid_decoded(v);
    assert_true(once >= 16 && once <= 75);                /* 1000 … 1070, a few held back for order, less those that nothing needs */
    for (int i = 0; i < 16; i++) index[i] = 1074 + 4 * i; /* goes on where it is */
    free(read_frames(v, index, 16, NULL));
    assert_true(vid_decoded(v) - once <= 68);
    once = vid_decoded(v);
    for (int i = 0; i < 16; i++) index[i] = i % 2 ? 2990 - i : 20 + i; /* two groups, asked for in turns */
    free(read_frames(v, index, 16, NULL));
    assert_true(vid_decoded(v) - once <= 40 + 245);
    once = vid_decoded(v);
    free(read_frames(v, (const int64_t[]){2989, 2989}, 2, NULL)); /* the picture still held */
    assert_int_equal(vid_decoded(v), once);
    vid_close(&v);
}

static int set_up(void **state) {
    if (make_folder()) return -1;
    return have_ffmpeg ? script(numbered) : 0;
}
static int tear_down(void **state) { return remove_folder(); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbered_clip),
        cmocka_unit_test(threads_give_the_same),
        cmocka_unit_test(wrapped_in_many_ways),
        cmocka_unit_test(same_as_the_tool),
        cmocka_unit_test(variable_rate),
        cmocka_unit_test(turned_phone),
        cmocka_unit_test(mirrored),
        cmocka_unit_test(colours),
        cmocka_unit_test(only_the_groups_needed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
