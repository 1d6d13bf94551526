/* cmd_pca.c: jepa pca -m MODEL INPUT… -o PNG|VIDEO */
#include "cli/model_args.h"
#include "infer/pca.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
    "  jepa pca -m vitl.pt clip.mp4 -o pca.mp4\n"
    "  jepa pca -m run/latest *.mp4 -o pca.png --save-basis basis.safetensors\n\n"
    "Frames as the model sees them, and the first three principal components of their patch features as red, green and blue: patches of one\n"
    "colour are alike to the model. One basis is made from all clips of all inputs, or read from another run (--basis). A picture has frames\n"
    "above and components below, for each clip; a video has them side by side, and covers all of the inputs in windows of a clip's length.\n";

typedef struct view { cli *c; int failures; } view;
static void failed(void *ctx, const char *path, int line, const char *reason) {
    size_t n = strlen(path);
    cli_warn(((view *)ctx)->c, "%s: %s", path, !strncmp(reason, path, n) && reason[n] == ':' ? reason + n + 2 : reason);
}
static void progress(void *ctx, int pass, int64_t done, int64_t all) {
    char text[96];
    snprintf(text, sizeof text, "%s %lld/%lld inputs", pass == 1 ? "looking at" : "drawing", (long long)done, (long long)all);
    cli_progress(((view *)ctx)->c, text);
}
static int stop(void *ctx) { return cli_stopped(NULL); }

static int ends(const char *path, const char *with) {
    size_t n = strlen(path), k = strlen(with);
    return n > k && !strcmp(path + n - k, with);
}

int cmd_pca(cli *c, int argc, char **argv) {
    jepa_err err = {0};
    model_args a;
    text_list rest = {0};
    view v = {.c = c};
    pca_job j = {.out = "pca.png", .stop = stop, .progress = progress, .failed = failed, .ctx = &v};
    model_args_defaults(&a);
    opt table[N_SAMPLING + N_MODEL + 4] = {
        {"--out", "OUT", ".png (default pca.png), .mp4, .mkv or .mov", O_TEXT, &j.out, 0, 0, "-o"},
        {"--basis", "F", "the basis that another run saved", O_TEXT, &j.basis_in, 0, 0, NULL},
        {"--save-basis", "F", "keep this run's basis (.safetensors)", O_TEXT, &j.basis_out, 0, 0, NULL},
        {"--foreground", "T", "draw only patches above this share of the first component's range (-T: below)", O_DOUBLE, &j.foreground, -0.999, 0.999, NULL},
    };
    sampling_options(table + 4, &a);
    model_options(table + 4 + N_SAMPLING, &a);
    jepa *m = NULL;
    jepa_run *run = NULL;
    clip_plan p;
    items in = {0};
    int rc = options_read(c, table, sizeof table / sizeof *table, argc, argv, usage, &rest, &err);
    if (rc) {
        rc = rc == 1 ? 0 : rc;
        goto done;
    }
    int video = ends(j.out, ".mp4") || ends(j.out, ".mkv") || ends(j.out, ".mov");
    if (!rest.n) rc = err_set(&err, JEPA_E_USE, "which videos or images? jepa pca -m MODEL clip.mp4 -o pca.png");
    else if (!video && !ends(j.out, ".png")) rc = err_set(&err, JEPA_E_USE, "-o %s: a .png, .mp4, .mkv or .mov is written", j.out);
    else if (j.basis_in && (j.basis_out || j.foreground != 0)) rc = err_set(&err, JEPA_E_USE, "--basis is used as it is: --save-basis and --foreground belong to the run that makes one");
    if (rc < 0) goto done;
    for (int i = 0; i < rest.n; i++)
        if ((rc = items_add(&in, rest.at[i], &err)) < 0) goto done;
    if ((rc = model_args_open(c, &a, 0, &m, &p, &err)) < 0 || (rc = jepa_session(m, &run, &err)) < 0) goto done;
    if (video && a.o.clips == 1 && a.o.every <= 0 && p.fps > 0) p.every = p.frames / p.fps; /* all of each video, window after window */
    model_args_say(c, m, &p);
    j.plan = &p, j.inputs = &in;
    if ((rc = pca_run(run, &j, &err)) < 0) goto done;
    cli_progress_end(c);
    printf("%s: %lld clip%s\n", j.out, (long long)j.clips, j.clips == 1 ? "" : "s");
    rc = j.failures ? 1 : 0;
done:
    items_free(&in);
    jepa_session_close(&run);
    jepa_close(&m);
    text_list_free(&rest);
    return cli_exit(c, rc, &err);
}
