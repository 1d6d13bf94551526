/* cmd_info.c: jepa info PATH…: what is in a model, a video, an image, an HDF5 file. */
#include "cli/cli.h"
#include "cli/info_items.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "video/h5info.h"
#include "video/video.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char usage[] =
    "  jepa info run/latest vitl.pt clip.mp4 embeddings.h5\n\n"
    "Models: family, sizes, parameters, what is in the file, and what was chosen where it leaves something open. "
    "Videos: size, rate, frames, duration, rotation, codec. HDF5: data sets, attributes.\n";

typedef struct tally { int64_t tensors, values, by_type[12]; } tally;
static int count(void *ctx, const char *name, const tensor *t) {
    tally *n = ctx;
    n->tensors++;
    n->values += tensor_count(t);
    if (t->type < 12) n->by_type[t->type] += tensor_count(t);
    return 0;
}

static int info_model(const char *path, const ck_hints *hints, json_writer *w, jepa_err *err) {
    ck *k = NULL;
    model_cfg m;
    tally n = {0};
    int rc = ck_open_as(&k, path, hints, err);
    if (rc < 0 || (rc = ck_config(k, &m, err)) < 0) {
        ck_close(&k);
        return rc;
    }
    ck_each(k, count, &n);
    int type = T_F32;
    for (int i = 0; i < 12; i++)
        if (n.by_type[i] > n.by_type[type]) type = i;
    jw_string(w, "kind", ck_kind(k));
    jw_string(w, "family", m.family);
    if (m.variant[0]) jw_string(w, "variant", m.variant);
    jw_int(w, "parameters", n.values), jw_int(w, "tensors", n.tensors);
    jw_string(w, "dtype", dtype_name((dtype)type));
    jw_int(w, "embed_dim", m.embed_dim), jw_int(w, "depth", m.depth);
    if (m.num_heads) jw_int(w, "num_heads", m.num_heads); /* a .pt of no published size does not tell it */
    jw_double(w, "mlp_ratio", m.mlp_ratio);
    jw_int(w, "patch_size", m.patch_size), jw_int(w, "tubelet_size", m.tubelet_size), jw_int(w, "num_frames", m.num_frames);
    jw_int(w, "img_height", m.img_height), jw_int(w, "img_width", m.img_width);
    jw_string(w, "positions", !m.use_rope ? "sin-cos" : m.rope_interleaved ? "rotary, interleaved" : "rotary, tiled");
    jw_bool(w, "encoder", ck_has(k, CK_ENCODER)), jw_bool(w, "target_encoder", ck_has(k, CK_TARGET)), jw_bool(w, "predictor", ck_has(k, CK_PREDICTOR));
    if (ck_has(k, CK_PREDICTOR)) {
        jw_int(w, "predictor_embed_dim", m.predictor_embed_dim), jw_int(w, "predictor_depth", m.predictor_depth);
        if (m.predictor_num_heads) jw_int(w, "predictor_num_heads", m.predictor_num_heads);
        jw_int(w, "num_mask_tokens", m.num_mask_tokens);
    }
    if (m.level_norms) jw_int(w, "levels", m.levels), jw_int(w, "level_norms", m.level_norms);
    if (m.pooler_depth) jw_int(w, "pooler_depth", m.pooler_depth), jw_int(w, "num_classes", m.num_classes);
    if (ck_notes(k)[0]) { /* what no tensor told, and what was taken for it */
        jw_open(w, "choices", '[');
        for (const char *p = ck_notes(k), *end; *p; p = *end ? end + 1 : end) {
            char line[600];
            end = strchr(p, '\n');
            if (!end) end = p + strlen(p);
            snprintf(line, sizeof line, "%.*s", (int)(end - p), p);
            jw_string(w, NULL, line);
        }
        jw_close(w, ']');
    }
    jw_bool(w, "optimizer", ck_has_optimizer(k));
    ck_close(&k);
    return 0;
}

static int info_video(const char *path, json_writer *w, jepa_err *err) {
    vid *v = NULL;
    int rc = vid_open(&v, path, NULL, err);
    if (rc < 0) return rc;
    const vid_info *i = vid_get_info(v);
    jw_string(w, "kind", i->is_image ? "image" : "video");
    jw_int(w, "width", i->width), jw_int(w, "height", i->height), jw_int(w, "frames", i->frames);
    if (!i->is_image) {
        if (i->promised > i->frames) jw_int(w, "frames_promised", i->promised);
        jw_double(w, "fps", i->fps), jw_double(w, "seconds", i->duration);
    }
    jw_int(w, "rotation", i->rotation);
    jw_string(w, "codec", i->codec);
    if (i->pix_fmt[0]) jw_string(w, "pixel_format", i->pix_fmt);
    if (i->range[0]) jw_string(w, "range", i->range);
    if (i->matrix[0]) jw_string(w, "matrix", i->matrix);
    vid_close(&v);
    return 0;
}

/* "/path" is a data set, "@pool" an attribute: neither can be taken for a key of ours */
static int h5_line(void *ctx, int attribute, const char *what, const char *text) {
    char key[600];
    snprintf(key, sizeof key, "%c%s", attribute ? '@' : '/', what);
    jw_string(ctx, key, text);
    return 0;
}

/* a zip archive or a pickle: what PyTorch writes, whatever the file is called */
static int is_pytorch(const char *path) {
    unsigned char head[4] = {0};
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(head, 1, sizeof head, f) : 0;
    if (f) fclose(f);
    return n == sizeof head && (!memcmp(head, "PK\3\4", 4) || !memcmp(head, "PK\5\6", 4) || (head[0] == 0x80 && head[1] >= 2 && head[1] <= 5));
}

static int info_of(const char *path, const ck_hints *hints, json_writer *w, jepa_err *err) {
    struct stat st;
    size_t n = strlen(path);
    if (stat(path, &st)) return err_set(err, JEPA_E_IO, "%s: not found", path);
    if (S_ISDIR(st.st_mode) || (n > 12 && !strcmp(path + n - 12, ".safetensors")) || (S_ISREG(st.st_mode) && is_pytorch(path)))
        return info_model(path, hints, w, err);
    int is_h5 = h5_is(path), held = info_items(path, w, err);
    if (is_h5) {
        if (held <= 0) jw_string(w, "kind", "HDF5"); /* no frames: a file of embeddings, say */
        return h5_describe(path, h5_line, w, err);
    }
    return held ? (held < 0 ? held : 0) : info_video(path, w, err);
}

/* The JSON that --json prints, a line a value, for people. */
static void print_text(const char *path, const json *o) {
    printf("%s\n", path);
    for (const json *v = json_first(o); v; v = json_next(v)) {
        if (!strcmp(json_key(v), "path")) continue;
        if (json_is_array(v))
            for (const json *e = json_first(v); e; e = json_next(e)) printf("  %-20s %s\n", e == json_first(v) ? json_key(v) : "", json_string(e, ""));
        else if (json_is_string(v)) printf("  %-20s %s\n", json_key(v), json_string(v, ""));
        else if (json_is_bool(v)) printf("  %-20s %s\n", json_key(v), json_bool(v, 0) ? "yes" : "no");
        else printf("  %-20s %.10g\n", json_key(v), json_number(v, 0));
    }
}

int cmd_info(cli *c, int argc, char **argv) {
    jepa_err err = {0};
    text_list rest = {0};
    ck_hints hints = {0};
    const opt table[] = {
        {"--arch", "A", "size of a .pt that does not say it: vit_large, vit_giant_xformers, …", O_TEXT, &hints.arch, 0, 0, NULL},
        {"--family", "F", "ijepa, vjepa1, vjepa2 or vjepa21; default: told by content", O_TEXT, &hints.family, 0, 0, NULL},
        {"--config", "FILE", "its training YAML, or a Hugging Face config.json", O_TEXT, &hints.config, 0, 0, NULL},
    };
    int failed = 0, last = 0, rc = options_read(c, table, sizeof table / sizeof *table, argc, argv, usage, &rest, &err);
    if (rc) {
        rc = rc == 1 ? 0 : rc;
        goto done;
    }
    if (!rest.n) rc = err_set(&err, JEPA_E_USE, "nothing was named: jepa info PATH…");
    for (int i = 0; i < rest.n; i++) {
        json_writer w = {0};
        json *j = NULL;
        jw_open(&w, NULL, '{');
        jw_string(&w, "path", rest.at[i]);
        int bad = info_of(rest.at[i], &hints, &w, &err);
        jw_close(&w, '}');
        if (bad < 0) {
            last = bad;
            if (++failed < rest.n) cli_warn(c, "%s", err.text);
        } else if (c->json) printf("%s\n", w.failed ? "{}" : w.text);
        else if (w.failed || (bad = json_parse(&j, w.text, w.size, rest.at[i], &err)) < 0) last = bad < 0 ? bad : JEPA_E_MEMORY, failed++, cli_warn(c, "%s: %s", rest.at[i], err.text);
        else print_text(rest.at[i], j);
        json_close(&j);
        jw_free(&w);
    }
    if (failed) rc = failed == rest.n ? last : 1;
done:
    text_list_free(&rest);
    return cli_exit(c, rc, &err);
}
