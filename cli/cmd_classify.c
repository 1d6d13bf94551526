/* cmd_classify.c: jepa classify -m HF_FOLDER INPUT…: what a released classifier sees in each video. */
#include "base/json.h"
#include "cli/model_args.h"
#include "infer/classify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "  jepa classify -m HF_SSV2_FOLDER clip.mp4\n"
    "  jepa classify -m HF_SSV2_FOLDER --top 1 --segments 2 --views 3 --json clips.txt\n\n"
    "The model is a Hugging Face VJEPA2ForVideoClassification folder; classes are named by its config.json. INPUT: a video, an image, a "
    "folder,\n"
    "a list, or a .safetensors with pixel_values [B,T,3,H,W] float32, used as it is. Published evaluations take several segments (clips "
    "spread\n"
    "over the video, their tokens pooled together) and 3 views (crops along the long side, their probabilities averaged). Where a list "
    "has\n"
    "labels, the share of right answers is told. Files that cannot be read are named, the others are done (exit code 1).\n";

typedef struct failure {
    char *path, *reason;
} failure;
typedef struct view {
    cli *c;
    const jepa_head *h;
    int top, n_failures;
    failure *f;
    int64_t *index;      /* [top] */
    double *probability; /* [classes] */
    const char *out;
    char aside[1112];
    FILE *csv;
    int64_t done, labelled, right1, right5;
} view;

static void failed(view *v, const char *path, int line, const char *text) {
    const size_t front = strlen(path);
    if (!strncmp(text, path, front) && text[front] == ':' && text[front + 1] == ' ') text += front + 2; /* named once */
    if (line)
        cli_warn(v->c, "%s (line %d): %s", path, line, text);
    else
        cli_warn(v->c, "%s: %s", path, text);
    if (v->c->json) {
        json_writer w = {.indent = -1};
        jw_open(&w, NULL, '{');
        jw_string(&w, "path", path), jw_string(&w, "error", text);
        jw_close(&w, '}');
        if (!w.failed) printf("%s\n", w.text);
        jw_free(&w);
    }
    failure *more = realloc(v->f, ((size_t)v->n_failures + 1) * sizeof *more);
    if (!more) return;
    v->f = more;
    more[v->n_failures++] = (failure){strdup(path), strdup(text)};
}

static void csv_text(FILE *f, const char *text) {
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '"') fputc('"', f);
        fputc(*text, f);
    }
    fputc('"', f);
}

static int csv_failed(const view *v, jepa_err *err) {
    return err_set_at(err, JEPA_E_IO, v->out, -1, "%s: cannot be written: %s", v->out, strerror(errno));
}

static int csv_open(view *v, jepa_err *err) {
    if (snprintf(v->aside, sizeof v->aside, "%s.tmp", v->out) >= (int)sizeof v->aside)
        return err_set(err, JEPA_E_USE, "-o %.200s…: too long", v->out);
    v->csv = fopen(v->aside, "we");
    return v->csv && fputs("path,clip,rank,class,name,probability,label\n", v->csv) >= 0 ? 0 : csv_failed(v, err);
}

/* One clip's or video's answer, on stdout and in the CSV. clip < 0: a video. */
static int tell(view *v, const char *path, int64_t clip, int64_t label, jepa_err *err) {
    char name[2048], what[4400];
    if (clip < 0)
        snprintf(what, sizeof what, "%s", path);
    else
        snprintf(what, sizeof what, "%s[%lld]", path, (long long)clip);
    int rc = class_top(v->probability, v->h->c.num_classes, v->top, v->index, err);
    if (rc < 0) return rc;
    json_writer w = {.indent = -1};
    jw_open(&w, NULL, '{');
    jw_string(&w, "path", path);
    if (clip >= 0) jw_int(&w, "clip", clip);
    if (label >= 0) jw_int(&w, "label", label);
    jw_open(&w, "classes", '[');
    for (int i = 0; i < v->top; i++) {
        const double p = v->probability[v->index[i]];
        class_name(v->h, v->index[i], name, sizeof name);
        jw_open(&w, NULL, '{');
        jw_int(&w, "class", v->index[i]), jw_string(&w, "name", name), jw_double(&w, "probability", p);
        jw_close(&w, '}');
        const int in = (int)strlen(what) < 40 ? (int)strlen(what) : 4;
        if (!v->c->json && !i)
            printf("%s: %.4f %s\n", what, p, name);
        else if (!v->c->json)
            printf("%*s  %.4f %s\n", in, "", p, name);
        if (!v->csv) continue;
        csv_text(v->csv, path);
        fprintf(v->csv, ",%lld,%d,%lld,", (long long)(clip < 0 ? 0 : clip), i + 1, (long long)v->index[i]);
        csv_text(v->csv, name);
        fprintf(v->csv, ",%.9g,%lld\n", p, (long long)label);
        if (ferror(v->csv)) {
            jw_free(&w);
            return csv_failed(v, err);
        }
    }
    jw_close(&w, ']');
    jw_close(&w, '}');
    if (v->c->json && !w.failed) printf("%s\n", w.text);
    jw_free(&w);
    fflush(stdout);
    v->done++;
    if (label >= 0) {
        int64_t best[5];
        const int n = v->h->c.num_classes < 5 ? v->h->c.num_classes : 5;
        if ((rc = class_top(v->probability, v->h->c.num_classes, n, best, err)) < 0) return rc;
        v->labelled++;
        v->right1 += best[0] == label;
        for (int i = 0; i < n; i++) v->right5 += best[i] == label;
    }
    return 0;
}

/* Clips that somebody prepared already. */
static int tensor_of(view *v, jepa_run *run, const class_plan *p, const char *path, jepa_err *err) {
    st_file *f = NULL;
    float *x = NULL;
    int rc = st_open(&f, path, err);
    if (rc < 0) return rc == JEPA_E_MEMORY ? rc : JEPA_E_INPUT;
    const st_tensor *t = st_find(f, "pixel_values");
    if (!t) t = st_find(f, "pixel_values_videos");
    if (!t || t->t.rank != 5 || t->t.dim[2] != 3 || t->t.type != T_F32 || tensor_count(&t->t) < 1) {
        rc = err_set(err, JEPA_E_INPUT, "%s: no tensor pixel_values [B,T,3,H,W] float32 in it", path);
        goto done;
    }
    if (p->segments > 1 || p->views > 1) {
        rc = err_set(err, JEPA_E_USE, "%s: clips of pixel_values are used as they are: --segments and --views have no meaning", path);
        goto done;
    }
    const size_t clip = (size_t)(tensor_count(&t->t) / t->t.dim[0]);
    if (!(x = mem_alloc(clip, sizeof *x))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for a clip");
        goto done;
    }
    for (int64_t i = 0; i < t->t.dim[0] && !rc; i++) {
        memcpy(x, (const char *)t->t.data + (size_t)i * clip * sizeof *x, clip * sizeof *x);
        rc = classify_tensor(run, p, x, t->t.dim[1], t->t.dim[3], t->t.dim[4], v->probability, err);
        if (rc == 0) rc = tell(v, path, i, -1, err);
        if (rc == 0 && i + 1 < t->t.dim[0] && cli_stopped(NULL)) rc = err_set(err, JEPA_E_CANCELLED, "stopped in %s", path);
    }
done:
    mem_free(x);
    st_close(&f);
    return rc;
}

static int is_tensor(const char *path) {
    const size_t n = strlen(path);
    return n > 12 && !strcmp(path + n - 12, ".safetensors");
}

static int all_inputs(view *v, jepa_run *run, const class_plan *p, const text_list *rest, int64_t *total, jepa_err *err) {
    items in = {0};
    const double began = clock_seconds();
    int rc = 0;
    for (int k = 0; k < rest->n && rc == 0; k++)
        if (!is_tensor(rest->at[k])) rc = items_add(&in, rest->at[k], err);
    *total = in.n;
    for (int k = 0; k < rest->n && rc == 0; k++) {
        if (!is_tensor(rest->at[k])) continue;
        ++*total;
        if ((rc = tensor_of(v, run, p, rest->at[k], err)) == JEPA_E_INPUT) {
            failed(v, rest->at[k], 0, err->text);
            rc = 0;
        }
    }
    for (int i = 0; i < in.n && rc == 0; i++) {
        char text[160];
        if (i && cli_stopped(NULL)) {
            rc = err_set(err, JEPA_E_CANCELLED, "stopped after %d of %d inputs", i, in.n);
            break;
        }
        vid *opened = NULL;
        const vid_opts o = {.as_stored = p->clip.as_stored};
        if ((rc = vid_open_item(&opened, &in.at[i], &o, err)) == 0) rc = classify_vid(run, p, opened, in.at[i].path, v->probability, err);
        vid_close(&opened);
        if (rc == 0)
            rc = tell(v, in.at[i].path, -1, in.at[i].label, err);
        else if (rc == JEPA_E_INPUT)
            failed(v, in.at[i].path, in.at[i].line, err->text[0] ? err->text : "cannot be read"), rc = 0;
        const double s = clock_seconds() - began;
        snprintf(text, sizeof text, "%d/%d inputs, %.2f a second", i + 1, in.n, s > 0 ? (i + 1) / s : 0);
        if (rc == 0 && in.n > 1) cli_progress(v->c, text);
    }
    items_free(&in);
    return rc;
}

int cmd_classify(cli *c, int argc, char **argv) {
    jepa_err err = {0};
    model_args a;
    text_list rest = {0};
    int segments = 1, views = 1, heads = 0, used = 5;
    view v = {.c = c, .top = 5};
    int64_t total = 0;
    model_args_defaults(&a);
    opt table[N_SAMPLING + N_MODEL + 5] =
        {
            {"--top", "N", "classes told; default 5", O_INT, &v.top, 1, 100000, NULL},
            {"--segments", "K", "clips spread over each video, pooled together; default 1", O_INT, &segments, 1, 1000, NULL},
            {"--views", "V", "crops along the long side, probabilities averaged; default 1: the model's own crop", O_INT, &views, 1, 1000,
             NULL},
            {"--pooler-heads", "N", "attention heads of the pooler; default: the encoder's, as Hugging Face's code", O_INT, &heads, 1, 1024,
             NULL},
            {"--out", "F.csv", "the same as a table: path, clip, rank, class, name, probability, label", O_TEXT, &v.out, 0, 0, "-o"},
        },
                                     all[N_SAMPLING + N_MODEL];
    sampling_options(all, &a);
    model_options(all + N_SAMPLING, &a);
    for (int i = 0; i < N_SAMPLING + N_MODEL;
         i++) /* those that make several rows of a video, or other features than the head was trained on */
        if (strcmp(all[i].name, "--clips") && strcmp(all[i].name, "--every") && strcmp(all[i].name, "--layers") &&
            strcmp(all[i].name, "--which"))
            table[used++] = all[i];
    jepa *m = NULL;
    jepa_run *run = NULL;
    clip_plan unused;
    class_plan p;
    int rc = options_read(c, table, used, argc, argv, usage, &rest, &err);
    if (rc) {
        rc = rc == 1 ? 0 : rc;
        goto done;
    }
    if (!rest.n) {
        rc = err_set(&err, JEPA_E_USE, "which inputs? jepa classify -m HF_FOLDER clip.mp4");
        goto done;
    }
    if ((rc = model_args_open(c, &a, 0, &m, &unused, &err)) < 0) goto done;
    if (heads) m->mc.pooler_heads = heads;
    if ((rc = class_plan_make(m, &a.o, segments, views, &p, &err)) < 0 || (rc = jepa_session(m, &run, &err)) < 0 ||
        (rc = head_of(run, &v.h, &err)) < 0)
        goto done;
    p.clip.by_time = a.by_time;
    if (v.top > v.h->c.num_classes) v.top = v.h->c.num_classes;
    if (!(v.index = mem_alloc((size_t)v.top, sizeof *v.index)) ||
        !(v.probability = mem_alloc((size_t)v.h->c.num_classes, sizeof *v.probability))) {
        rc = err_set(&err, JEPA_E_MEMORY, "no memory for %d classes", v.h->c.num_classes);
        goto done;
    }
    model_args_say(c, m, &p.clip);
    cli_line(c, "head: %d classes, %d blocks of %d heads; %d segment%s, %d view%s", v.h->c.num_classes, v.h->c.depth, v.h->c.num_heads,
             segments, segments > 1 ? "s" : "", views, views > 1 ? "s" : "");
    if (!heads && v.h->c.num_heads == 22) /* tensors do not say how many */
        cli_line(c, "Meta trained its released probes with 16 heads, also for ViT-g; Hugging Face's code takes the encoder's 22: "
                    "--pooler-heads 16 for Meta's");
    if (v.out && (rc = csv_open(&v, &err)) < 0) goto done;
    rc = all_inputs(&v, run, &p, &rest, &total, &err);
    cli_progress_end(c);
    if (rc < 0) goto done;
    if (v.n_failures > 1) {
        cli_line(c, "%d inputs failed:", v.n_failures);
        for (int i = 0; i < v.n_failures; i++) cli_line(c, "  %s: %s", v.f[i].path, v.f[i].reason);
    }
    if (v.labelled)
        cli_line(c, "right: %.2f %% (among the best five: %.2f %%) of %lld", 100.0 * (double)v.right1 / (double)v.labelled,
                 100.0 * (double)v.right5 / (double)v.labelled, (long long)v.labelled);
    if (!v.done) {
        rc = err_set(&err, total ? JEPA_E_IO : JEPA_E_USE,
                     total ? "none of %lld inputs could be classified" : "there is nothing in what was given (%lld inputs)",
                     (long long)total);
        goto done;
    }
    if (v.csv) {
        const int bad = fflush(v.csv) || fsync(fileno(v.csv)) || fclose(v.csv);
        v.csv = NULL;
        if (bad || rename(v.aside, v.out)) {
            rc = csv_failed(&v, &err);
            unlink(v.aside);
            goto done;
        }
    }
    rc = v.n_failures ? 1 : 0;
done:
    if (v.csv) fclose(v.csv), unlink(v.aside);
    for (int i = 0; i < v.n_failures; i++) free(v.f[i].path), free(v.f[i].reason);
    free(v.f);
    mem_free(v.index), mem_free(v.probability);
    jepa_session_close(&run);
    jepa_close(&m);
    text_list_free(&rest);
    return cli_exit(c, rc, &err);
}
