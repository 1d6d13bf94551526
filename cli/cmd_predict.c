/* cmd_predict.c: jepa predict -m MODEL --mask SPEC INPUT…: what the predictor thinks is behind the mask, and how far off it is. */
#include "base/json.h"
#include "cli/model_args.h"
#include "infer/predict.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "  jepa predict -m vitl.pt --mask future:from=4 clip.mp4 -o p.h5 --video errors.mp4\n"
    "  jepa predict -m run/latest --mask future:from=4 --every 0.5 --csv surprise.csv --curve surprise.png long.mp4\n\n"
    "The context encoder sees the tokens that the mask leaves, the predictor predicts the target encoder's features of the others; the error of a\n"
    "token is the mean over channels of |predicted - target|, targets normalised per token as in training.\n"
    "Masks (one for all clips): future:from=N: all after the first N tubelets in time. multiblock[:generator=0,seed=0]: the published blocks.\n"
    "tube:ratio=0.9[,seed=0]: columns through all of time. file:masks.safetensors: context and target, int64 [n] or [clips,n].\n"
    "A surprise curve is --every SECONDS with a future mask: the error of what follows, a window each so many seconds.\n";

typedef struct failure { char *path, *reason; int line; } failure;
typedef struct view { cli *c; failure *f; int n; double began; } view;

static void failed(void *ctx, const char *path, int line, const char *reason) {
    view *v = ctx;
    failure *more = realloc(v->f, ((size_t)v->n + 1) * sizeof *more);
    cli_line(v->c, "failed: %s: %s", path, reason);
    if (!more) return;
    v->f = more;
    more[v->n++] = (failure){strdup(path), strdup(reason), line};
}

static void progress(void *ctx, int64_t done, int64_t all, int64_t clips) {
    view *v = ctx;
    double s = clock_seconds() - v->began;
    char text[160];
    snprintf(text, sizeof text, "%lld/%lld inputs, %lld clips, %.2f clips/s", (long long)done, (long long)all, (long long)clips, s > 0 ? (double)clips / s : 0);
    cli_progress(v->c, text);
}

static int stop(void *ctx) { return cli_stopped(NULL); }

static void report(const cli *c, const predict_job *j, const view *v, const pred_plan *p) {
    const pred_masks *k = p->masks;
    int has_target;
    const int64_t dim = predict_dim(j->m, &has_target);
    if (!c->json) {
        printf("%lld clip%s, %lld tokens seen, %lld predicted of %lld channels", (long long)j->rows, j->rows == 1 ? "" : "s", (long long)k->n_context,
               (long long)k->n_target, (long long)dim);
        if (has_target) printf(", mean error %.4f", j->mean_error);
        printf("\n");
        return;
    }
    json_writer w = {0};
    jw_open(&w, NULL, '{');
    if (j->out) jw_string(&w, "out", j->out);
    jw_int(&w, "clips", j->rows), jw_int(&w, "context_tokens", k->n_context), jw_int(&w, "target_tokens", k->n_target), jw_int(&w, "dim", dim);
    jw_int(&w, "mask_token", p->mask_token);
    if (has_target) jw_double(&w, "mean_error", j->mean_error);
    jw_open(&w, "failed", '[');
    for (int i = 0; i < v->n; i++) {
        jw_open(&w, NULL, '{');
        jw_string(&w, "path", v->f[i].path), jw_int(&w, "line", v->f[i].line), jw_string(&w, "reason", v->f[i].reason);
        jw_close(&w, '}');
    }
    jw_close(&w, ']');
    jw_close(&w, '}');
    if (!w.failed) printf("%s\n", w.text);
    jw_free(&w);
}

static int ends(const char *path, const char *with) {
    size_t n = strlen(path), k = strlen(with);
    return n > k && !strcmp(path + n - k, with);
}

int cmd_predict(cli *c, int argc, char **argv) {
    jepa_err err = {0};
    model_args a;
    text_list rest = {0};
    const char *mask = NULL, *memory = NULL;
    int token = -1, batch = 1, all = 0;
    predict_job j = {.out = NULL};
    model_args_defaults(&a);
    opt table[N_SAMPLING + N_MODEL + 10] = {
        {"--mask", "SPEC", "future:from=N, multiblock[:generator=0,seed=0], tube:ratio=0.9, file:F.safetensors", O_TEXT, &mask, 0, 0, NULL},
        {"--out", "OUT.h5", "predicted, target, error and the index lists", O_TEXT, &j.out, 0, 0, "-o"},
        {"--png", "F", "the first clip's frames, below them with the error laid over", O_TEXT, &j.png, 0, 0, NULL},
        {"--video", "F.mp4", "all clips' frames, beside them with the error laid over", O_TEXT, &j.video, 0, 0, NULL},
        {"--csv", "F", "a line a clip: times and mean error", O_TEXT, &j.csv, 0, 0, NULL},
        {"--curve", "F.png", "the mean error over time, a curve an input", O_TEXT, &j.curve, 0, 0, NULL},
        {"--mask-token", "I", "default: 0 for Meta's and our files, 1 for Hugging Face folders", O_INT, &token, 0, 9999, NULL},
        {"--encode-all", NULL, "encode all tokens and pick the context's, as Hugging Face's code does", O_FLAG, &all, 0, 0, NULL},
        {"--batch", "N", "clips computed together; default 1", O_INT, &batch, 1, 4096, NULL},
        {"--memory", "SIZE", "20G, 512M or auto (what is free): fewer clips at a time so that it is enough", O_TEXT, &memory, 0, 0, NULL},
    };
    sampling_options(table + 10, &a);
    model_options(table + 10 + N_SAMPLING, &a);
    jepa *m = NULL;
    clip_plan p;
    pred_masks k = {0};
    items in = {0};
    view v = {.c = c, .began = clock_seconds()};
    int rc = options_read(c, table, sizeof table / sizeof *table, argc, argv, usage, &rest, &err);
    if (rc) {
        rc = rc == 1 ? 0 : rc;
        goto done;
    }
    if (!rest.n) {
        rc = err_set(&err, JEPA_E_USE, "which inputs? jepa predict -m MODEL --mask future:from=4 clip.mp4 -o p.h5");
        goto done;
    }
    if (j.out && !ends(j.out, ".h5") && !ends(j.out, ".hdf5")) {
        rc = err_set(&err, JEPA_E_USE, "-o %s: predictions are written as .h5", j.out);
        goto done;
    }
    if (memory && mem_size(memory, &j.memory)) {
        rc = err_set(&err, JEPA_E_USE, "--memory %s: an amount as 20G or 512M, or auto, is needed", memory);
        goto done;
    }
    if (a.layers) {
        rc = err_set(&err, JEPA_E_USE, "--layers has no meaning here: the predictor predicts the target encoder's output");
        goto done;
    }
    if (!j.out && !j.png && !j.video && !j.csv && !j.curve) j.out = "predictions.h5";
    a.predictor = 1;
    if ((rc = model_args_open(c, &a, 0, &m, &p, &err)) < 0) goto done;
    const mask_grid g = {(int)p.grid[0], (int)p.grid[1], (int)p.grid[2]};
    if ((rc = pred_masks_make(&k, mask, g, !strcmp(m->mc.family, "ijepa"), &err)) < 0) goto done;
    const pred_plan plan = {.clip = &p, .masks = &k, .mask_token = token < 0 ? m->mc.mask_token : token, .encode_all = all};
    model_args_say(c, m, &p);
    cli_line(c, "mask: %s: %lld of %lld tokens seen, %lld predicted; mask token %d of %d", mask, (long long)k.n_context, (long long)(p.grid[0] * p.grid[1] * p.grid[2]),
             (long long)k.n_target, plan.mask_token, m->pc.num_mask_tokens);
    for (int i = 0; i < rest.n; i++)
        if ((rc = items_add(&in, rest.at[i], &err)) < 0) goto done;
    if (!in.n) {
        rc = err_set(&err, JEPA_E_USE, "there is nothing in what was given");
        goto done;
    }
    j.m = m, j.plan = &plan, j.inputs = &in, j.mask_text = mask, j.command = c->line, j.batch = batch;
    j.stop = stop, j.progress = progress, j.failed = failed, j.ctx = &v;
    rc = predict_run(&j, &err);
    cli_progress_end(c);
    for (int i = 0; i < v.n && v.n > 1 && !c->json; i++) cli_warn(c, "%s: %s", v.f[i].path, v.f[i].reason);
    if (v.n == 1 && !c->json) cli_warn(c, "%s: %s", v.f[0].path, v.f[0].reason);
    if (rc < 0) goto done;
    report(c, &j, &v, &plan);
    rc = j.failures ? 1 : 0;
done:
    for (int i = 0; i < v.n; i++) free(v.f[i].path), free(v.f[i].reason);
    free(v.f);
    items_free(&in);
    pred_masks_free(&k);
    jepa_close(&m);
    text_list_free(&rest);
    return cli_exit(c, rc, &err);
}
