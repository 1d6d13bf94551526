/* video_make.h: videos for tests, made with the ffmpeg tool in a folder of their own. */
#ifndef VIDEO_MAKE_H
#define VIDEO_MAKE_H
#include "video/video.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HELPER static __attribute__((unused))

static char folder[64];
static int have_ffmpeg;

HELPER const char *in_folder(const char *name) {
    static char path[8][512];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

/* A shell script in the folder: ff ARGS is the ffmpeg tool. 0: all went well. */
HELPER int script(const char *text) {
    char name[96], line[256];
    snprintf(name, sizeof name, "%s/make.sh", folder);
    FILE *f = fopen(name, "w");
    if (!f) return -1;
    fprintf(f, "set -e\nff() { ffmpeg -nostdin -v error -y \"$@\"; }\n%s\n", text);
    fclose(f);
    snprintf(line, sizeof line, "cd %s && sh make.sh >make.log 2>&1", folder);
    int rc = system(line);
    return rc;
}

/* Frame n of 60 is flat, luma 16 + 3n; the picture tells its number. */
static const char numbered[] __attribute__((unused)) =
    "ff -f lavfi -i \"color=c=black:s=320x240:r=30:d=2,format=yuv420p,geq=lum='16+3*N':cb=128:cr=128\" -c:v libx264 -crf 4 -g 12 -bf 2 "
    "-pix_fmt yuv420p -colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv numbered.mp4\n";

HELPER int make_folder(void) {
    snprintf(folder, sizeof folder, "/tmp/jepa-video-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    have_ffmpeg = system("ffmpeg -version >/dev/null 2>&1 && ffprobe -version >/dev/null 2>&1") == 0;
    video_quiet();
    return 0;
}

HELPER int remove_folder(void) {
    char line[128];
    snprintf(line, sizeof line, "rm -rf %s", folder);
    return system(line);
}

/* Skips the test (counted as skipped) where the tool, or an encoder, is not there. */
HELPER void need_tool(void) {
    if (have_ffmpeg) return;
    print_message("skipped: the ffmpeg tool is not installed\n");
    skip();
}
HELPER void need_encoder(const char *name) {
    char line[128];
    need_tool();
    snprintf(line, sizeof line, "ffmpeg -v quiet -encoders | grep -q ' %s '", name);
    if (system(line) == 0) return;
    print_message("skipped: this ffmpeg has no %s\n", name);
    skip();
}

HELPER vid *opened(const char *name) {
    vid *v = NULL;
    jepa_err err = {0};
    int rc = vid_open(&v, name[0] == '/' ? name : in_folder(name), NULL, &err);
    if (rc < 0) fail_msg("%s", err.text);
    return v;
}

HELPER size_t picture_size(const vid *v) { return (size_t)vid_get_info(v)->width * (size_t)vid_get_info(v)->height * 3; }

HELPER uint8_t *read_frames(vid *v, const int64_t *index, int n, double *seconds) {
    jepa_err err = {0};
    uint8_t *rgb = malloc(picture_size(v) * (size_t)n + 1);
    assert_non_null(rgb);
    if (vid_read(v, index, n, rgb, seconds, &err) < 0) fail_msg("%s", err.text);
    return rgb;
}

HELPER uint8_t *read_all(vid *v, int n) {
    int64_t *index = malloc((size_t)n * sizeof *index + 1);
    for (int i = 0; i < n; i++) index[i] = i;
    uint8_t *rgb = read_frames(v, index, n, NULL);
    free(index);
    return rgb;
}

/* The number in the middle of a numbered picture. */
HELPER int number_at(const vid *v, const uint8_t *rgb) {
    const vid_info *i = vid_get_info(v);
    const uint8_t *p = rgb + ((size_t)(i->height / 2) * (size_t)i->width + (size_t)(i->width / 2)) * 3;
    return (int)((p[0] + p[1] + p[2]) / 3.0 * 219 / (255 * 3) + 0.5);
}
#endif
