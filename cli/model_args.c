/* model_args.c: see model_args.h. */
#include "cli/model_args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void model_args_defaults(model_args *a) {
    memset(a, 0, sizeof *a);
    a->pool = "mean";
    a->which = "target";
    a->positions = "grid";
    jepa_embed_options_defaults(&a->o);
}

void sampling_options(opt *t, model_args *a) {
    const opt o[N_SAMPLING] = {
        {"--frames", "N", "frames a clip; default: the model's", O_INT, &a->o.frames, 1, 4096, NULL},
        {"--fps", "F", "sampling rate; default: the model's (4 for published ones)", O_DOUBLE, &a->o.fps, 1e-6, 1e6, NULL},
        {"--stride", "S", "every S-th frame instead of a rate", O_INT, &a->o.stride, 1, 1000000, NULL},
        {"--clips", "K", "clips spread over each video; default 1", O_INT, &a->o.clips, 1, 100000, NULL},
        {"--every", "SECONDS", "a clip each so many seconds, while a whole one fits", O_DOUBLE, &a->o.every, 1e-3, 1e9, NULL},
        {"--crop", "N", "pixels a side; default: the model's", O_INT, &a->o.crop, 1, 8192, NULL},
        {"--by-time", NULL, "frames by their times (variable frame rates) instead of by rate and number", O_FLAG, &a->by_time, 0, 0, NULL},
        {"--as-stored", NULL, "ignore rotation tags (default: upright)", O_FLAG, &a->as_stored, 0, 0, NULL},
        {"--reject-short", NULL, "a video shorter than a clip fails (default: its last frame is repeated)", O_FLAG, &a->reject_short, 0, 0, NULL},
    };
    memcpy(t, o, sizeof o);
}

void model_options(opt *t, model_args *a) {
    const opt o[N_MODEL] = {
        {"--model", "MODEL", "a Hugging Face folder, a .pt or .pth.tar, a run or checkpoint folder, a .safetensors beside its config.json", O_TEXT, &a->model, 0, 0, "-m"},
        {"--layers", "I,J", "outputs of these blocks (0-based, final norm applied), joined", O_TEXT, &a->layers, 0, 0, NULL},
        {"--which", "W", "target (default) or context encoder of a training checkpoint", O_TEXT, &a->which, 0, 0, NULL},
        {"--positions", "P", "grid (default: the input's own) or published", O_TEXT, &a->positions, 0, 0, NULL},
        {"--allow-partial", NULL, "list missing and unknown tensors instead of refusing the model", O_FLAG, &a->allow_partial, 0, 0, NULL},
        {"--arch", "A", "size of a .pt that does not say it: vit_large, vit_giant_xformers, …", O_TEXT, &a->arch, 0, 0, NULL},
        {"--family", "F", "ijepa, vjepa1, vjepa2 or vjepa21; default: told by content", O_TEXT, &a->family, 0, 0, NULL},
        {"--config", "FILE", "its training YAML, or a Hugging Face config.json", O_TEXT, &a->config, 0, 0, NULL},
        {"--heads", "N", "attention heads of the encoder, where the size is no published one", O_INT, &a->heads, 1, 1024, NULL},
        {"--pred-heads", "N", "attention heads of the predictor", O_INT, &a->predictor_heads, 1, 1024, NULL},
    };
    memcpy(t, o, sizeof o);
}

static void log_line(void *ctx, const char *text) { cli_line(ctx, "%s", text); }

int model_args_open(cli *c, model_args *a, int untrained, jepa **m, clip_plan *p, jepa_err *err) {
    static const char *const pools[] = {"mean", "none", "time", "space"};
    jepa_options o;
    int rc;
    if (!a->model) return err_set(err, JEPA_E_USE, "which model? Give -m MODEL");
    if (strcmp(a->which, "target") && strcmp(a->which, "context")) return err_set(err, JEPA_E_USE, "--which %s: target or context", a->which);
    if (strcmp(a->positions, "grid") && strcmp(a->positions, "published")) return err_set(err, JEPA_E_USE, "--positions %s: grid or published", a->positions);
    for (a->o.pool = 0; a->o.pool < 4 && strcmp(a->pool, pools[a->o.pool]); a->o.pool++) {}
    if (a->o.pool == 4) return err_set(err, JEPA_E_USE, "--pool %s: mean, none, time or space", a->pool);
    if (a->o.fps > 0 && a->o.stride > 0) return err_set(err, JEPA_E_USE, "--fps and --stride exclude each other");
    a->o.layers = 0;
    for (const char *s = a->layers; s && *s;) {
        char *end;
        long v = strtol(s, &end, 10);
        if (end == s || (*end && *end != ',') || v < 0 || v > 1000 || a->o.layers == 16)
            return err_set(err, JEPA_E_USE, "--layers %s: up to 16 block numbers with commas between", a->layers);
        a->layer[a->o.layers++] = (int)v;
        s = *end ? end + 1 : end;
    }
    a->o.layer = a->layer;
    a->o.as_stored = a->as_stored, a->o.reject_short = a->reject_short;
    jepa_options_defaults(&o);
    if ((rc = cli_device(c, &o.device, err)) < 0) return rc;
    o.threads = c->threads;
    o.precision = c->precision;
    o.context_encoder = !strcmp(a->which, "context");
    o.published_positions = !strcmp(a->positions, "published");
    o.allow_partial = a->allow_partial;
    o.untrained = untrained;
    o.predictor = a->predictor;
    o.arch = a->arch, o.family = a->family, o.config = a->config, o.heads = a->heads, o.predictor_heads = a->predictor_heads;
    o.log = log_line, o.cancel = cli_stopped, o.ctx = c;
    if ((rc = jepa_open(m, a->model, &o, err)) < 0) return rc;
    if ((rc = plan_make(*m, &a->o, p, err)) < 0) jepa_close(m);
    p->by_time = a->by_time;
    return rc;
}

void model_args_say(cli *c, const jepa *m, const clip_plan *p) {
    char how[64];
    if (p->fps > 0) snprintf(how, sizeof how, "%g frames per second", p->fps);
    else if (p->stride == 1) snprintf(how, sizeof how, "every frame");
    else snprintf(how, sizeof how, "one frame in %d", p->stride);
    cli_line(c, "model: %s, %s%s, %d x %d, patch %d, tubelet %d", m->kind, m->mc.variant[0] ? m->mc.variant : m->mc.family, m->which_target ? ", target encoder" : "",
             m->ec.embed_dim, m->ec.depth, m->ec.patch_size, m->ec.tubelet_size);
    cli_line(c, "device: %s", m->device);
    if (p->every > 0) cli_line(c, "clips: %d frames, %s, one each %g s, %dx%d, %s", p->frames, how, p->every, p->clip.crop, p->clip.crop, m->transform);
    else cli_line(c, "clips: %d frames, %s, %d a video, %dx%d, %s", p->frames, how, p->clips, p->clip.crop, p->clip.crop, m->transform);
}
