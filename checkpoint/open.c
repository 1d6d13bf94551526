/* open.c: which model lies at a path, told by content: files mapped, headers checked, no more. */
#include "checkpoint/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int join(char *out, const char *dir, const char *name, jepa_err *err) { return path_join(out, PATH_MAX, dir, name, err); }

static int add_file(ck *c, const char *path, jepa_err *err) {
    int rc = weights_open(&c->file[c->files], path, err);
    if (!rc) c->files++;
    return rc;
}

static int room(ck *c, int n, const char *path, jepa_err *err) {
    c->file = mem_alloc((size_t)n, sizeof *c->file);
    return c->file ? 0 : err_set_at(err, JEPA_E_MEMORY, path, -1, "%s: no memory to open it", path);
}

static int single(ck *c, const char *path, jepa_err *err) {
    int rc = room(c, 1, path, err);
    return rc ? rc : add_file(c, path, err);
}

/* text that is not JSON is a model that cannot be used; a file that cannot be read stays that */
static int read_json(json **out, const char *path, jepa_err *err) {
    char *text;
    size_t size;
    *out = NULL;
    int rc = file_read(path, 256 << 20, &text, &size, err);
    if (rc) return rc;
    rc = json_parse(out, text, size, path, err);
    mem_free(text);
    if (rc == JEPA_E_IO && err) err->code = JEPA_E_MODEL;
    return rc == JEPA_E_IO ? JEPA_E_MODEL : rc;
}

/* ---- shards ---- */

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static int shard_name_ok(const char *s) {
    size_t n = strlen(s);
    return n > 12 && n < 256 && !strchr(s, '/') && !strstr(s, "..") && s[0] != '.' &&
           (!strcmp(s + n - 12, ".safetensors") || !strcmp(s + n - 4, ".bin"));
}

/* Every tensor of the index is in its shard and every tensor of a shard is in the index, under that shard: nothing is read from a place
 * that the index does not name. */
static int check_map(ck *c, const json *map, const char **shard, const char *index, jepa_err *err) {
    int64_t listed = 0, held = 0;
    for (const json *e = json_first(map); e; e = json_next(e), listed++) {
        const char *of = json_string(e, "");
        const char **at = bsearch(&of, shard, (size_t)c->files, sizeof *shard, by_text);
        if (!at || !weights_has(&c->file[at - shard], json_key(e)))
            return err_set_at(err, JEPA_E_MODEL, index, -1, "%s: tensor %.150s is listed in %.150s but is not there", index, json_key(e),
                              of);
    }
    for (int i = 0; i < c->files; i++) held += weights_count(&c->file[i]);
    if (listed == held) return 0;
    if (listed > 20000) /* the search below takes the square of it */
        return err_set_at(err, JEPA_E_MODEL, index, -1, "%s: lists %lld tensors, its shards hold %lld", index, (long long)listed,
                          (long long)held);
    for (int i = 0; i < c->files; i++)
        for (int k = 0; k < weights_count(&c->file[i]); k++) {
            const char *name = weights_name(&c->file[i], k);
            if (strcmp(json_string(json_get(map, name), ""), shard[i]))
                return err_set_at(err, JEPA_E_MODEL, index, -1, "%s: tensor %.150s is in %.150s but the index does not list it there",
                                  index, name, shard[i]);
        }
    return 0;
}

static int sharded(ck *c, const char *index, jepa_err *err) {
    json *j = NULL;
    const char **shard = NULL;
    char path[PATH_MAX];
    int rc = read_json(&j, index, err);
    if (rc) return rc;
    const json *map = json_get(j, "weight_map");
    int64_t n = json_size(map), distinct = 0;
    if (!json_is_object(map) || !n) {
        rc = err_set_at(err, JEPA_E_MODEL, index, -1, "%s: has no weight_map, or an empty one", index);
        goto done;
    }
    shard = mem_alloc((size_t)n, sizeof *shard);
    if (!shard) {
        rc = err_set_at(err, JEPA_E_MEMORY, index, -1, "%s: no memory for its %lld entries", index, (long long)n);
        goto done;
    }
    n = 0;
    for (const json *e = json_first(map); e; e = json_next(e)) {
        const char *name = json_string(e, "");
        if (!shard_name_ok(name)) {
            rc = err_set_at(
                err, JEPA_E_MODEL, index, -1,
                "%s: tensor %.150s is said to be in \"%.150s\", which is not the name of a .safetensors (or .bin) file of this folder",
                index, json_key(e), name);
            goto done;
        }
        shard[n++] = name;
    }
    qsort(shard, (size_t)n, sizeof *shard, by_text);
    for (int64_t i = 0; i < n; i++)
        if (!i || strcmp(shard[i], shard[distinct - 1])) shard[distinct++] = shard[i];
    if (distinct > MAX_SHARDS) {
        rc = err_set_at(err, JEPA_E_MODEL, index, -1, "%s: names %lld files; at most %d", index, (long long)distinct, MAX_SHARDS);
        goto done;
    }
    rc = room(c, (int)distinct, index, err);
    for (int64_t i = 0; !rc && i < distinct; i++) {
        rc = join(path, c->path, shard[i], err);
        if (!rc) rc = add_file(c, path, err);
        if (rc) err_prefix(err, rc, "shard of %.200s", index);
        if (rc == JEPA_E_IO && access(path, F_OK)) { /* the folder is there, but not all of the model */
            rc = JEPA_E_MODEL;
            if (err) err->code = rc;
        }
    }
    if (!rc) rc = check_map(c, map, shard, index, err);
done:
    mem_free(shard);
    json_close(&j);
    return rc;
}

/* ---- folders ---- */

static int read_config(ck *c, const char *path, jepa_err *err) {
    int rc = read_json(&c->config, path, err);
    if (!rc && !json_is_object(c->config)) rc = err_set_at(err, JEPA_E_MODEL, path, -1, "%s: is not a JSON object", path);
    if (!rc) snprintf(c->config_path, sizeof c->config_path, "%s", path);
    return rc;
}

/* What of a folder's config.json we read; weights: one file, or NULL for what the folder holds. */
static int open_hf(ck *c, const char *config, const char *weights, jepa_err *err) {
    static const struct {
        const char *name;
        int index;
    } HOLDS[] = {
        {"model.safetensors", 0}, {"model.safetensors.index.json", 1}, {"pytorch_model.bin", 0}, {"pytorch_model.bin.index.json", 1}};
    char path[PATH_MAX];
    int rc = read_config(c, config, err), found = weights != NULL;
    if (rc) return rc;
    const char *type = json_string(json_get(c->config, "model_type"), NULL), *class = "VJEPA2Model";
    if (!type || (strcmp(type, "vjepa2") && strcmp(type, "ijepa")))
        return type ? err_set_at(err, JEPA_E_MODEL, config, -1,
                                 "%s: model_type \"%.60s\" is not one this program reads (vjepa2 and ijepa are)", config, type)
                    : err_set_at(err, JEPA_E_MODEL, config, -1, "%s: has no model_type, so it is not the config of a Hugging Face model",
                                 config);
    c->layout = LAYOUT_HF;
    c->is_ijepa = !strcmp(type, "ijepa");
    if (weights) rc = single(c, weights, err);
    for (size_t i = 0; !rc && !found && i < sizeof HOLDS / sizeof *HOLDS; i++) {
        if ((rc = join(path, c->path, HOLDS[i].name, err))) return rc;
        if (!path_is_file(path)) continue;
        found = 1;
        rc = HOLDS[i].index ? sharded(c, path, err) : single(c, path, err);
    }
    if (!rc && !found)
        rc = err_set_at(err, JEPA_E_MODEL, c->path, -1,
                        "%s: has a config.json but neither model.safetensors nor pytorch_model.bin, nor the index of either", c->path);
    if (!rc) rc = ck_collect(c, err);
    if (rc) return rc;
    const char *prefix = c->is_ijepa ? "ijepa." : "vjepa2.";
    c->hf_prefix = "";
    for (int i = 0; i < c->n; i++)
        if (!strncmp(c->tensor[i].name, prefix, strlen(prefix))) c->hf_prefix = prefix, c->classifier = 1;
    class = c->is_ijepa ? (c->classifier ? "IJepaForImageClassification" : "IJepaModel")
                        : (c->classifier ? "VJEPA2ForVideoClassification" : "VJEPA2Model");
    int n = snprintf(c->kind, sizeof c->kind, "Hugging Face %s folder", class);
    if (c->files > 1) snprintf(c->kind + n, sizeof c->kind - (size_t)n, ", %d shards", c->files);
    return 0;
}

static int open_own(ck *c, const char *config, const char *weights, jepa_err *err) {
    char path[PATH_MAX];
    int rc = read_config(c, config, err);
    if (rc) return rc;
    const char *format = json_string(json_get(c->config, "format"), "");
    int64_t version = 0;
    if (strcmp(format, "jepa model"))
        return err_set_at(err, JEPA_E_MODEL, config, -1, "%s: is not the model.json that jepa writes", config);
    rc = json_int(c->config, "version", 1, 1, &version, err);
    if (rc)
        return rc == JEPA_E_END ? err_set_at(err, JEPA_E_MODEL, config, -1, "%s: has no version", config)
                                : err_prefix(err, rc, "%s", config);
    c->layout = LAYOUT_OWN;
    c->hf_prefix = "";
    if (!weights) {
        rc = join(path, c->path, "model.safetensors", err);
        weights = path;
    }
    if (!rc) rc = single(c, weights, err);
    if (!rc) rc = ck_collect(c, err);
    if (rc) return rc;
    if (join(path, c->path, "optimizer.safetensors", NULL)) path[0] = 0;
    snprintf(c->kind, sizeof c->kind, path_is_file(path) ? "jepa run checkpoint" : "jepa model folder");
    return 0;
}

/* The folder c->path; weights as above. JEPA_E_END: none of the folders we know. */
static int open_dir(ck *c, const char *weights, jepa_err *err) {
    char own[PATH_MAX], hf[PATH_MAX];
    int rc = join(own, c->path, "model.json", err);
    if (!rc) rc = join(hf, c->path, "config.json", err);
    if (rc) return rc;
    if (path_is_file(own)) return open_own(c, own, weights, err);
    if (path_is_file(hf)) return open_hf(c, hf, weights, err);
    return JEPA_E_END;
}

/* What a folder that we do not know holds, for the message: the first file that says something. */
static void look_around(const char *dir, char *text, size_t size) {
    DIR *d = opendir(dir);
    text[0] = 0;
    for (struct dirent *e; d && !text[0] && (e = readdir(d));) {
        const char *dot = strrchr(e->d_name, '.');
        if (dot && (!strcmp(dot, ".pt") || !strcmp(dot, ".pth") || !strcmp(dot, ".tar") || !strcmp(dot, ".bin") || !strcmp(dot, ".ckpt")))
            snprintf(text, size, "; it holds %.80s, which looks like a PyTorch checkpoint: name that file itself", e->d_name);
    }
    if (d) closedir(d);
}

/* A file by itself whose sizes come from its tensors. */
static int open_meta(ck *c, const char *path, const ck_hints *h, jepa_err *err) {
    snprintf(c->path, sizeof c->path, "%s", path);
    c->layout = LAYOUT_META;
    c->hf_prefix = "";
    int rc = c->files ? 0 : single(c, path, err);
    if (!rc) rc = ck_collect(c, err);
    return rc ? rc : meta_config(c, h, err);
}

static int open_single(ck *c, const char *path, const ck_hints *h, jepa_err *err) {
    unsigned char head[512];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return err_set_at(err, JEPA_E_IO, path, -1, "%s: %s", path, strerror(errno));
    ssize_t n = read(fd, head, sizeof head);
    close(fd);
    if (n < 0) return err_set_at(err, JEPA_E_IO, path, -1, "%s: %s", path, strerror(errno));
    if (n == 0) return err_set_at(err, JEPA_E_MODEL, path, -1, "%s: is empty", path);
    const char *slash = strrchr(path, '/');
    size_t k = slash ? (size_t)(slash - path) : 0;
    if (!slash)
        snprintf(c->path, sizeof c->path, ".");
    else
        snprintf(c->path, sizeof c->path, "%.*s", k ? (int)k : 1, path);
    if (content_is_pytorch(head, (size_t)n)) return open_meta(c, path, h, err);
    const char *what = content_name(head, (size_t)n);
    if (content_is_safetensors(head, (size_t)n)) {
        int rc = open_dir(c, path, err);
        if (rc != JEPA_E_END) return rc;
        rc = single(c, path, err); /* names what is wrong with it, if something is */
        if (rc) return rc;
        for (int i = 0; i < weights_count(&c->file[0]); i++) /* Meta's names, in whatever dict they once were */
            if (strstr(weights_name(&c->file[0], i), "patch_embed.proj.weight")) return open_meta(c, path, h, err);
        return err_set_at(err, JEPA_E_MODEL, path, -1, "%s: its sizes are not known: neither config.json nor model.json lies beside it",
                          path);
    }
    if (head[0] == '{')
        return err_set_at(err, JEPA_E_MODEL, path, 0, "%s: is JSON, not weights; give the folder that holds it (%s)", path, c->path);
    if (what) return err_set_at(err, JEPA_E_MODEL, path, 0, "%s: is %s", path, what);
    if (n == (ssize_t)sizeof head && !memcmp(head + 257, "ustar", 5)) { /* its own words for a PyTorch file of that form */
        weight_file w = {0};
        int rc = pt_open(&w.pt, path, err);
        weights_close(&w);
        return rc ? rc : JEPA_E_MODEL;
    }
    return single(c, path, err); /* the words of the safetensors reader: it is none */
}

int ck_open(ck **out, const char *path, jepa_err *err) { return ck_open_as(out, path, NULL, err); }

int ck_open_as(ck **out, const char *path, const ck_hints *h, jepa_err *err) {
    *out = NULL;
    struct stat st;
    if (!path || !path[0]) return err_set(err, JEPA_E_USE, "no model was named");
    if (strlen(path) >= PATH_MAX - 64) return err_set(err, JEPA_E_IO, "%.200s…: path too long", path);
    if (stat(path, &st)) return err_set_at(err, JEPA_E_IO, path, -1, "%s: %s", path, errno == ENOENT ? "not found" : strerror(errno));
    ck *c = mem_alloc(1, sizeof *c);
    if (!c) return err_set_at(err, JEPA_E_MEMORY, path, -1, "%s: no memory to open it", path);
    int rc;
    if (S_ISREG(st.st_mode)) {
        rc = open_single(c, path, h, err);
    } else if (!S_ISDIR(st.st_mode)) {
        rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: is neither a folder nor an ordinary file", path);
    } else {
        snprintf(c->path, sizeof c->path, "%s", path);
        rc = open_dir(c, NULL, err);
        if (rc == JEPA_E_END && ck_find_latest(path, c->path, sizeof c->path, NULL) == 0) rc = open_dir(c, NULL, err);
        if (rc == JEPA_E_END) {
            char more[256];
            look_around(path, more, sizeof more);
            rc = err_set_at(err, JEPA_E_MODEL, path, -1,
                            "%s: holds no model: no config.json (Hugging Face), no model.json and no step-* folder (jepa)%s", path, more);
        }
    }
    if (!rc && c->layout != LAYOUT_META && h && (h->arch || h->family || h->config || h->heads || h->pred_heads))
        ck_note(c, "its folder says what the model is: the architecture, heads or configuration given are not used");
    if (rc) ck_close(&c);
    *out = c;
    return rc;
}

void ck_close(ck **c) {
    if (!c || !*c) return;
    for (int i = 0; i < (*c)->files; i++) weights_close(&(*c)->file[i]);
    for (int i = 0; i < (*c)->texts; i++) mem_free((*c)->text[i]);
    mem_free((*c)->text);
    mem_free((*c)->tensor);
    mem_free((*c)->by_name);
    mem_free((*c)->file);
    json_close(&(*c)->config);
    mem_free(*c);
    *c = NULL;
}

/* ---- questions ---- */

const char *ck_kind(const ck *c) { return c->kind; }
const char *ck_path(const ck *c) { return c->path; }
const char *ck_notes(const ck *c) { return c->notes; }

void ck_note(ck *c, const char *fmt, ...) {
    va_list ap;
    if (c->noted + 8 >= sizeof c->notes) return;
    va_start(ap, fmt);
    if (c->noted) c->notes[c->noted++] = '\n';
    int n = vsnprintf(c->notes + c->noted, sizeof c->notes - c->noted, fmt, ap);
    va_end(ap);
    c->noted += n < 0 ? 0 : (size_t)n < sizeof c->notes - c->noted ? (size_t)n : sizeof c->notes - c->noted - 1;
}

int ck_config(const ck *c, model_cfg *out, jepa_err *err) {
    memset(out, 0, sizeof *out);
    if (c->layout == LAYOUT_META) *out = c->meta;
    return c->layout == LAYOUT_META ? 0 : c->layout == LAYOUT_HF ? config_from_hf(c, out, err) : config_from_own(c, out, err);
}

void ck_side_file(const ck *c, const char *name, char *path, size_t size) {
    if (!size) return;
    path[0] = 0;
    if (c->layout == LAYOUT_META) return; /* what lies beside a .pt need not belong to it */
    if (strchr(name, '/') || path_join(path, size, c->path, name, NULL) || !path_is_file(path)) path[0] = 0;
}
