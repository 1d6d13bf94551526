/* open.c: which model lies at a path, told by content: files mapped, headers checked, no more. */
#include "checkpoint/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int join(char *out, const char *dir, const char *name, jepa_err *err) { return path_join(out, PATH_MAX, dir, name, err); }

static int add_file(ck *c, const char *path, jepa_err *err) {
    int rc = st_open(&c->file[c->files], path, err);
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
    return n > 12 && n < 256 && !strchr(s, '/') && !strstr(s, "..") && s[0] != '.' && !strcmp(s + n - 12, ".safetensors");
}

/* Every tensor of the index is in its shard and every tensor of a shard is in the index, under that shard: nothing is read from a place
 * that the index does not name. */
static int check_map(ck *c, const json *map, const char **shard, const char *index, jepa_err *err) {
    int64_t listed = 0, held = 0;
    for (const json *e = json_first(map); e; e = json_next(e), listed++) {
        const char *of = json_string(e, "");
        const char **at = bsearch(&of, shard, (size_t)c->files, sizeof *shard, by_text);
        if (!at || !st_find(c->file[at - shard], json_key(e)))
            return err_set_at(err, JEPA_E_MODEL, index, -1, "%s: tensor %.150s is listed in %.150s but is not there", index, json_key(e),
                              of);
    }
    for (int i = 0; i < c->files; i++) held += st_count(c->file[i]);
    if (listed == held) return 0;
    if (listed > 20000) /* the search below takes the square of it */
        return err_set_at(err, JEPA_E_MODEL, index, -1, "%s: lists %lld tensors, its shards hold %lld", index, (long long)listed,
                          (long long)held);
    for (int i = 0; i < c->files; i++)
        for (int k = 0; k < st_count(c->file[i]); k++) {
            const char *name = st_at(c->file[i], k)->name;
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
            rc = err_set_at(err, JEPA_E_MODEL, index, -1,
                            "%s: tensor %.150s is said to be in \"%.150s\", which is not the name of a .safetensors file of this folder",
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
    char path[PATH_MAX], other[PATH_MAX];
    int rc = read_config(c, config, err);
    if (rc) return rc;
    const char *type = json_string(json_get(c->config, "model_type"), NULL);
    if (!type || strcmp(type, "vjepa2"))
        return type ? err_set_at(err, JEPA_E_MODEL, config, -1, "%s: model_type \"%.60s\" is not one this program reads (vjepa2 is)",
                                 config, type)
                    : err_set_at(err, JEPA_E_MODEL, config, -1, "%s: has no model_type, so it is not the config of a Hugging Face model",
                                 config);
    c->layout = LAYOUT_HF;
    if (weights) {
        rc = single(c, weights, err);
    } else {
        rc = join(path, c->path, "model.safetensors", err);
        if (!rc) rc = join(other, c->path, "model.safetensors.index.json", err);
        if (rc) return rc;
        if (path_is_file(path))
            rc = single(c, path, err);
        else if (path_is_file(other))
            rc = sharded(c, other, err);
        else {
            rc = join(other, c->path, "pytorch_model.bin", err);
            if (!rc)
                rc = path_is_file(other) ? err_set_at(err, JEPA_E_MODEL, c->path, -1,
                                                      "%s: its weights are pytorch_model.bin, a PyTorch pickle; reading those is "
                                                      "not built in yet, model.safetensors is",
                                                      c->path)
                                         : err_set_at(err, JEPA_E_MODEL, c->path, -1,
                                                      "%s: has a config.json but neither model.safetensors nor "
                                                      "model.safetensors.index.json",
                                                      c->path);
        }
    }
    if (rc) return rc;
    c->hf_prefix = "";
    for (int i = 0; i < c->files; i++)
        for (int k = 0; k < st_count(c->file[i]); k++) {
            const char *name = st_at(c->file[i], k)->name;
            if (!strncmp(name, "vjepa2.", 7)) c->hf_prefix = "vjepa2.", c->classifier = 1;
        }
    int n = snprintf(c->kind, sizeof c->kind,
                     c->classifier ? "Hugging Face VJEPA2ForVideoClassification folder" : "Hugging Face VJEPA2Model folder");
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
            snprintf(text, size, "; it holds %.80s, which looks like a PyTorch checkpoint: reading those is not built in yet", e->d_name);
    }
    if (d) closedir(d);
}

static int open_single(ck *c, const char *path, jepa_err *err) {
    unsigned char head[64];
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
    /* a header length in 8 bytes and '{': any first bytes may be a length (0x80 0x02 of a pickle is 640) */
    int tensors = n > 8 && head[8] == '{' && !head[4] && !head[5] && !head[6] && !head[7];
    const char *what = content_name(head, (size_t)n);
    if (head[0] == '{' && !tensors)
        return err_set_at(err, JEPA_E_MODEL, path, 0, "%s: is JSON, not weights; give the folder that holds it (%s)", path, c->path);
    if (what && !tensors) return err_set_at(err, JEPA_E_MODEL, path, 0, "%s: is %s", path, what);
    int rc = open_dir(c, path, err);
    if (rc != JEPA_E_END) return rc;
    rc = single(c, path, err); /* names what is wrong with it, if something is */
    return rc ? rc
              : err_set_at(err, JEPA_E_MODEL, path, -1, "%s: its sizes are not known: neither config.json nor model.json lies beside it",
                           path);
}

int ck_open(ck **out, const char *path, jepa_err *err) {
    *out = NULL;
    struct stat st;
    if (!path || !path[0]) return err_set(err, JEPA_E_USE, "no model was named");
    if (strlen(path) >= PATH_MAX - 64) return err_set(err, JEPA_E_IO, "%.200s…: path too long", path);
    if (stat(path, &st)) return err_set_at(err, JEPA_E_IO, path, -1, "%s: %s", path, errno == ENOENT ? "not found" : strerror(errno));
    ck *c = mem_alloc(1, sizeof *c);
    if (!c) return err_set_at(err, JEPA_E_MEMORY, path, -1, "%s: no memory to open it", path);
    int rc;
    if (S_ISREG(st.st_mode)) {
        rc = open_single(c, path, err);
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
    if (rc) ck_close(&c);
    *out = c;
    return rc;
}

void ck_close(ck **c) {
    if (!c || !*c) return;
    for (int i = 0; i < (*c)->files; i++) st_close(&(*c)->file[i]);
    mem_free((*c)->file);
    json_close(&(*c)->config);
    mem_free(*c);
    *c = NULL;
}

/* ---- questions ---- */

const char *ck_kind(const ck *c) { return c->kind; }
const char *ck_path(const ck *c) { return c->path; }

const st_tensor *ck_find(const ck *c, const char *name) {
    for (int i = 0; i < c->files; i++) {
        const st_tensor *t = st_find(c->file[i], name);
        if (t) return t;
    }
    return NULL;
}

int ck_has(const ck *c, ck_module m) {
    char front[64];
    snprintf(front, sizeof front, "%s%s.", m == CK_POOLER ? "" : c->hf_prefix, module_name(m));
    size_t n = strlen(front);
    for (int i = 0; i < c->files; i++)
        for (int k = 0; k < st_count(c->file[i]); k++)
            if (!strncmp(st_at(c->file[i], k)->name, front, n)) return 1;
    return 0;
}

int ck_config(const ck *c, model_cfg *out, jepa_err *err) {
    memset(out, 0, sizeof *out);
    return c->layout == LAYOUT_HF ? config_from_hf(c, out, err) : config_from_own(c, out, err);
}

int ck_each(const ck *c, int (*fn)(void *ctx, const char *name, const tensor *t), void *ctx) {
    for (int i = 0; i < c->files; i++)
        for (int k = 0; k < st_count(c->file[i]); k++) {
            int rc = fn(ctx, st_at(c->file[i], k)->name, &st_at(c->file[i], k)->t);
            if (rc) return rc;
        }
    return 0;
}

int ck_sha256(const ck *c, char hex[65], jepa_err *err) {
    (void)err;
    sha256 s;
    sha256_open(&s);
    for (int i = 0; i < c->files; i++) { /* shards were opened in the order of their names */
        size_t n;
        const void *bytes = st_bytes(c->file[i], &n);
        sha256_add(&s, bytes, n);
        st_release(c->file[i]);
    }
    sha256_hex(&s, hex);
    return 0;
}

void ck_side_file(const ck *c, const char *name, char *path, size_t size) {
    if (!size) return;
    path[0] = 0;
    if (strchr(name, '/') || path_join(path, size, c->path, name, NULL) || !path_is_file(path)) path[0] = 0;
}
