/* cmd_convert.c: jepa convert MODEL OUT --to hf|meta: a model in the files that other programs read. */
#include "base/json.h"
#include "cli/cli.h"
#include "infer/infer.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] =
    "  jepa convert run/latest out_hf --to hf\n"
    "  jepa convert run/latest out.pt --to meta --dtype bf16\n\n"
    "hf: a Hugging Face folder (V-JEPA 2: VJEPA2Model, encoder and predictor; I-JEPA: IJepaModel, the encoder) with its preprocessor's "
    "JSON.\n"
    "meta: a PyTorch archive with the names of the published checkpoints, which torch.load(weights_only=True) opens.\n"
    "OUT must not be there; it appears only when it is whole.\n";

typedef struct source { /* opened models: the second one where both encoders are wanted and the first holds one */
    jepa *m, *context;
    ck_part part[3];
    int n;
} source;

static int open_model(jepa **m, const cli *c, const char *path, const jepa_options *with, int context, int predictor, jepa_err *err) {
    jepa_options o = *with;
    o.device = "cpu", o.threads = c->threads;
    o.context_encoder = context, o.predictor = predictor;
    return jepa_open(m, path, &o, err);
}

static void add(source *s, ck_module module, const params *p, const char *prefix) { s->part[s->n++] = (ck_part){module, p, prefix}; }

/* which: "target", "context" or "all". A Hugging Face folder holds one encoder; an archive that is given one holds it under both names. */
static int gather(source *s, cli *c, const char *path, const jepa_options *with, const char *which, int hf, jepa_err *err) {
    int all = !strcmp(which, "all"), context = !strcmp(which, "context"), rc;
    if ((rc = open_model(&s->m, c, path, with, context, 0, err)) < 0) return rc;
    const ck *k = s->m->c;
    int both = ck_has(k, CK_ENCODER) && ck_has(k, CK_TARGET);
    int predictor = ck_has(k, CK_PREDICTOR) && !(hf && !strcmp(s->m->mc.family, "ijepa"));
    if (predictor && !strcmp(s->m->mc.family, "vjepa2ac"))
        return err_set(err, JEPA_E_MODEL, "%s: predictors of V-JEPA 2-AC are not converted", path);
    if (ck_has(k, CK_PREDICTOR) && !predictor) cli_line(c, "an IJepaModel is an encoder: the predictor is not written");
    if (predictor) {
        jepa_close(&s->m);
        if ((rc = open_model(&s->m, c, path, with, context, 1, err)) < 0) return rc;
    }
    if (all && both && (rc = open_model(&s->context, c, path, with, 1, 0, err)) < 0) return rc;
    if (all && !hf) {
        add(s, CK_ENCODER, s->context ? &s->context->p : &s->m->p, "encoder.");
        add(s, CK_TARGET, &s->m->p, "encoder.");
    } else {
        add(s, context || hf ? CK_ENCODER : CK_TARGET, &s->m->p, "encoder.");
    }
    if (predictor) add(s, CK_PREDICTOR, &s->m->pp, "predictor.");
    return 0;
}

/* What the model's frames went through, as transformers' processors say it. */
static int write_processor(const char *dir, const jepa *m, jepa_err *err) {
    const clip_cfg *k = &m->clip;
    int still = !strcmp(m->mc.family, "ijepa"), squeeze = k->mode == CLIP_PIL;
    char path[4096];
    json_writer w = {.indent = 2};
    jw_open(&w, NULL, '{');
    if (!squeeze) {
        jw_open(&w, "crop_size", '{');
        jw_int(&w, "height", k->crop), jw_int(&w, "width", k->crop);
        jw_close(&w, '}');
    }
    jw_bool(&w, "do_center_crop", !squeeze), jw_bool(&w, "do_normalize", 1), jw_bool(&w, "do_rescale", 1), jw_bool(&w, "do_resize", 1);
    for (int i = 0; i < 2; i++) {
        jw_open(&w, i ? "image_std" : "image_mean", '[');
        for (int j = 0; j < 3; j++)
            jw_double(&w, NULL, (double)(int)((i ? k->std[j] : k->mean[j]) * 1e6f + 0.5f) / 1e6); /* 0.485, not the float beside it */
        jw_close(&w, ']');
    }
    if (still) jw_string(&w, "image_processor_type", squeeze ? "ViTImageProcessor" : "CLIPImageProcessor");
    jw_int(&w, "resample", 2);
    jw_double(&w, "rescale_factor", 1.0 / 255);
    jw_open(&w, "size", '{');
    if (squeeze)
        jw_int(&w, "height", k->crop), jw_int(&w, "width", k->crop);
    else
        jw_int(&w, "shortest_edge", k->short_side ? k->short_side : k->crop * 256 / 224);
    jw_close(&w, '}');
    if (!still) jw_string(&w, "video_processor_type", "VJEPA2VideoProcessor");
    jw_close(&w, '}');
    int rc = w.failed ? err_set(err, JEPA_E_MEMORY, "no memory for the processor's JSON") : 0;
    if (!rc && snprintf(path, sizeof path, "%s/%s", dir, still ? "preprocessor_config.json" : "video_preprocessor_config.json") >=
                   (int)sizeof path)
        rc = err_set(err, JEPA_E_IO, "%.200s…: path too long", dir);
    if (!rc) rc = file_write_atomic(path, w.text, w.size, err);
    jw_free(&w);
    return rc;
}

static void remove_folder(const char *dir) {
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) unlinkat(dirfd(d), e->d_name, 0);
    if (d) closedir(d);
    rmdir(dir);
}

/* Written beside it and renamed: OUT is there whole or not at all. */
static int write_folder(const char *out, const source *s, dtype store, jepa_err *err) {
    char aside[4096];
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/') n--;
    if (snprintf(aside, sizeof aside, "%.*s.tmp-%ld", (int)n, out, (long)getpid()) >= (int)sizeof aside)
        return err_set(err, JEPA_E_IO, "%.200s…: path too long", out);
    int rc = ck_write_hf(aside, &s->m->mc, s->part, s->n, store, 0, err);
    if (!rc) rc = write_processor(aside, s->m, err);
    if (!rc && rename(aside, out)) rc = err_set(err, JEPA_E_IO, "%s: cannot be renamed into place: %s", out, strerror(errno));
    if (rc) remove_folder(aside);
    return rc;
}

static int64_t count_values(const source *s) {
    int64_t n = 0;
    for (int i = 0; i < s->n; i++)
        for (int k = 0; k < s->part[i].p->n; k++) n += s->part[i].p->item[k].count;
    return n;
}

static void log_line(void *ctx, const char *text) { cli_line(ctx, "%s", text); }

int cmd_convert(cli *c, int argc, char **argv) {
    const char *to = NULL, *type = "f32", *which = NULL;
    jepa_err err = {0};
    jepa_options o;
    text_list rest = {0};
    source s = {0};
    struct stat st;
    jepa_options_defaults(&o);
    o.log = log_line, o.ctx = c;
    const opt table[] = {
        {"--to", "FORM", "hf (a Hugging Face folder) or meta (a .pt)", O_TEXT, &to, 0, 0, NULL},
        {"--dtype", "T", "f32 (default), bf16 or f16", O_TEXT, &type, 0, 0, NULL},
        {"--which", "W", "target (default of hf), context, or all (default of meta): which encoder", O_TEXT, &which, 0, 0, NULL},
        {"--arch", "A", "size of a .pt that does not say it: vit_large, …", O_TEXT, &o.arch, 0, 0, NULL},
        {"--family", "F", "ijepa, vjepa1, vjepa2 or vjepa21; default: told by content", O_TEXT, &o.family, 0, 0, NULL},
        {"--config", "FILE", "its training YAML, or a Hugging Face config.json", O_TEXT, &o.config, 0, 0, NULL},
        {"--heads", "N", "attention heads of the encoder, where the size is no published one", O_INT, &o.heads, 1, 1024, NULL},
        {"--pred-heads", "N", "attention heads of the predictor", O_INT, &o.predictor_heads, 1, 1024, NULL},
    };
    int rc = options_read(c, table, sizeof table / sizeof *table, argc, argv, usage, &rest, &err);
    if (rc) {
        rc = rc == 1 ? 0 : rc;
        goto done;
    }
    int hf = to && !strcmp(to, "hf");
    dtype store = !strcmp(type, "f32") ? T_F32 : !strcmp(type, "bf16") ? T_BF16 : !strcmp(type, "f16") ? T_F16 : T_NONE;
    if (!which) which = hf ? "target" : "all";
    if (rest.n != 2)
        rc = err_set(&err, JEPA_E_USE, "a model and what to write: jepa convert MODEL OUT --to hf|meta");
    else if (!to || (!hf && strcmp(to, "meta")))
        rc = err_set(&err, JEPA_E_USE, "--to %s: hf or meta", to ? to : "is missing");
    else if (store == T_NONE)
        rc = err_set(&err, JEPA_E_USE, "--dtype %s: f32, bf16 or f16", type);
    else if (strcmp(which, "target") && strcmp(which, "context") && strcmp(which, "all"))
        rc = err_set(&err, JEPA_E_USE, "--which %s: target, context or all", which);
    else if (hf && !strcmp(which, "all"))
        rc = err_set(&err, JEPA_E_USE, "--which all: a Hugging Face folder holds one encoder: target or context");
    else if (lstat(rest.at[1], &st) == 0)
        rc = err_set(&err, JEPA_E_USE, "%s is there already; convert overwrites nothing", rest.at[1]);
    if (!rc) rc = gather(&s, c, rest.at[0], &o, which, hf, &err);
    if (!rc) rc = hf ? write_folder(rest.at[1], &s, store, &err) : ck_write_pt(rest.at[1], &s.m->mc, s.part, s.n, store, &err);
    if (!rc && c->json) {
        json_writer w = {0};
        jw_open(&w, NULL, '{');
        jw_string(&w, "out", rest.at[1]), jw_string(&w, "to", to), jw_string(&w, "dtype", type), jw_string(&w, "family", s.m->mc.family);
        jw_int(&w, "values", count_values(&s));
        jw_close(&w, '}');
        printf("%s\n", w.failed ? "{}" : w.text);
        jw_free(&w);
    } else if (!rc) {
        printf("%s: %s%s, %lld values as %s\n", rest.at[1], hf ? "Hugging Face folder of " : "PyTorch archive of ",
               s.m->mc.variant[0] ? s.m->mc.variant : s.m->mc.family, (long long)count_values(&s), type);
    }
done:
    jepa_close(&s.m);
    jepa_close(&s.context);
    text_list_free(&rest);
    return cli_exit(c, rc, &err);
}
