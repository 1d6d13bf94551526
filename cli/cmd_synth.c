/* cmd_synth.c: jepa synth moving-digits --out DIR --clips N --seed S */
#include "cli/cli.h"
#include "base/json.h"
#include "video/synth.h"
#include "video/video.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "  jepa synth moving-digits --out digits --clips 2000 --seed 1\n"
    "  jepa synth moving-digits --out held-out --clips 500 --seed 2 --held-out\n\n"
    "Handwritten digits (UCI, CC BY 4.0) moving over static noise, 16 frames of 48x48, one small H.264 file a clip. DIR gets clips/, and three\n"
    "lists: clips.txt (no labels), digit.txt (labelled 0-9), direction.txt (labelled 0-7: angle times pi/4).\n";

typedef struct work { const synth_cfg *s; const char *dir; int crf; double fps; atomic_int failed; jepa_err err; int64_t n, from; } work;

static void one(void *ctx, int64_t i) {
    work *w = ctx;
    vid_writer *v = NULL;
    char path[PATH_MAX];
    jepa_err err = {0};
    size_t frame = (size_t)w->s->size * (size_t)w->s->size * 3;
    uint8_t *rgb = NULL;
    int64_t n = w->from + i;
    if (w->failed || cli_stopped(NULL)) return;
    const vid_write_cfg c = {.width = w->s->size, .height = w->s->size, .fps = w->fps, .crf = w->crf, .gop = w->s->frames, .lossless = 0};
    int rc = JEPA_E_MEMORY;
    if (!(rgb = mem_alloc((size_t)w->s->frames, frame))) err_set(&err, rc, "no memory for a clip");
    else if ((rc = snprintf(path, sizeof path, "%s/clips/%06lld.mp4", w->dir, (long long)n) < (int)sizeof path ? 0 : JEPA_E_USE) == 0 &&
             (rc = synth_digits(w->s, (uint32_t)n, rgb, NULL, &err)) == 0 && (rc = vid_writer_open(&v, path, &c, &err)) == 0) {
        for (int f = 0; f < w->s->frames && rc == 0; f++) rc = vid_writer_add(v, rgb + (size_t)f * frame, &err);
        if (rc == 0) rc = vid_writer_finish(&v, &err);
        else vid_writer_abort(&v);
    }
    mem_free(rgb);
    if (rc < 0 && !atomic_exchange(&w->failed, 1)) {
        w->err = err;
        w->err.code = rc;
    }
}

static int write_list(const char *dir, const char *name, const synth_cfg *s, int64_t clips, int which, jepa_err *err) {
    char path[PATH_MAX];
    size_t cap = (size_t)clips * 32 + 1, n = 0;
    char *text = mem_alloc(cap, 1);
    if (!text) return err_set(err, JEPA_E_MEMORY, "no memory for a list of %lld clips", (long long)clips);
    int rc = 0;
    for (int64_t i = 0; i < clips && rc == 0; i++) {
        synth_label l;
        rc = synth_digits(s, (uint32_t)i, NULL, &l, err);
        n += (size_t)snprintf(text + n, cap - n, which ? "clips/%06lld.mp4 %d\n" : "clips/%06lld.mp4\n", (long long)i, which == 1 ? l.digit : l.direction);
    }
    if (rc == 0) rc = snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path ? file_write_atomic(path, text, n, err) : err_set(err, JEPA_E_USE, "folder name too long");
    mem_free(text);
    return rc;
}

int cmd_synth(cli *c, int argc, char **argv) {
    jepa_err err = {0};
    text_list rest = {0};
    const char *out = NULL;
    int64_t clips = 2000, seed = 1;
    int held_out = 0, crf = 10;
    double fps = 8;
    synth_cfg s;
    synth_cfg_defaults(&s);
    const opt table[] = {
        {"--out", "DIR", "where the files go", O_TEXT, &out, 0, 0, "-o"},
        {"--clips", "N", "how many; default 2000", O_LONG, &clips, 1, 1000000, NULL},
        {"--seed", "S", "another seed: other clips; default 1", O_LONG, &seed, 0, 9e15, NULL},
        {"--held-out", NULL, "from the quarter of the digits that the others never show", O_FLAG, &held_out, 0, 0, NULL},
        {"--frames", "N", "frames a clip; default 16", O_INT, &s.frames, 1, 4096, NULL},
        {"--size", "N", "pixels a side, even; default 48", O_INT, &s.size, 16, 1024, NULL},
        {"--noise", "X", "static noise, +-X of the full range; default 0.03", O_DOUBLE, &s.noise, 0, 0.3, NULL},
        {"--rate", "F", "frames per second that the files say; default 8", O_DOUBLE, &fps, 0.1, 1000, NULL},
        {"--crf", "N", "H.264 quality, 0 (best) to 51; default 10", O_INT, &crf, 0, 51, NULL},
    };
    int rc = options_read(c, table, sizeof table / sizeof *table, argc, argv, usage, &rest, &err);
    if (rc) {
        rc = rc == 1 ? 0 : rc;
        goto done;
    }
    if (rest.n != 1 || strcmp(rest.at[0], "moving-digits") || !out || s.size % 2) {
        rc = err_set(&err, JEPA_E_USE, "jepa synth moving-digits --out DIR (an even --size)");
        goto done;
    }
    s.seed = (uint64_t)seed;
    s.split = held_out ? SYNTH_HELD_OUT : SYNTH_TRAIN;
    char dir[PATH_MAX];
    if (snprintf(dir, sizeof dir, "%s/clips", out) >= (int)sizeof dir) {
        rc = err_set(&err, JEPA_E_USE, "folder name too long");
        goto done;
    }
    if ((rc = dir_make(dir, &err)) < 0) goto done;
    work w = {.s = &s, .dir = out, .crf = crf, .fps = fps};
    int threads = c->threads ? c->threads : pool_cores();
    for (w.from = 0; w.from < clips; w.from += w.n) { /* in pieces, so that progress can be shown and a signal is obeyed */
        w.n = clips - w.from < 256 ? clips - w.from : 256;
        pool_once(threads, w.n, one, &w);
        if (w.failed) {
            err = w.err;
            rc = w.err.code;
            goto done;
        }
        if (cli_stopped(NULL)) {
            rc = err_set(&err, JEPA_E_CANCELLED, "stopped; %s has no lists yet", out);
            goto done;
        }
        char text[80];
        snprintf(text, sizeof text, "%lld/%lld clips", (long long)(w.from + w.n), (long long)clips);
        cli_progress(c, text);
    }
    if ((rc = write_list(out, "clips.txt", &s, clips, 0, &err)) < 0 || (rc = write_list(out, "digit.txt", &s, clips, 1, &err)) < 0 ||
        (rc = write_list(out, "direction.txt", &s, clips, 2, &err)) < 0)
        goto done;
    cli_progress_end(c);
    if (c->json) {
        json_writer o = {0};
        jw_open(&o, NULL, '{');
        jw_string(&o, "out", out), jw_int(&o, "clips", clips);
        jw_close(&o, '}');
        if (!o.failed) printf("%s\n", o.text);
        jw_free(&o);
    } else printf("%s: %lld clips, lists clips.txt, digit.txt, direction.txt\n", out, (long long)clips);
done:
    text_list_free(&rest);
    return cli_exit(c, rc, &err);
}
