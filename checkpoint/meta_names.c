/* meta_names.c: which tensors of a .pt are a model's, and what they are called without the prefixes that training wrappers put before.
 *
 * State dicts named encoder, target_encoder or ema_encoder, and predictor are the model, wherever in the file they stand, and then nothing
 * else is. Where no dict has such a name, the one that holds a patch embedding (or a predictor) is it: the file of a bare state dict; in
 * such a one names may begin with "encoder." and the like. "module.", "backbone." and "_orig_mod." before a name go. */
#include "checkpoint/internal.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *top, *module;
} TOPS[] = {{"encoder", "encoder"},
            {"context_encoder", "encoder"},
            {"target_encoder", "target_encoder"},
            {"ema_encoder", "target_encoder"},
            {"predictor", "predictor"}};

static const char *strip(const char *name) {
    static const char *const FRONT[] = {"module.", "backbone.", "_orig_mod."};
    for (size_t i = 0; i < sizeof FRONT / sizeof *FRONT; i++)
        if (!strncmp(name, FRONT[i], strlen(FRONT[i]))) {
            name += strlen(FRONT[i]);
            i = (size_t)-1;
        }
    return name;
}

static const char *last(const char *top) { /* of "model.encoder" */
    const char *dot = strrchr(top, '.');
    return dot ? dot + 1 : top;
}

static const char *module_of_top(const char *top) {
    for (size_t i = 0; i < sizeof TOPS / sizeof *TOPS; i++)
        if (!strcmp(last(top), TOPS[i].top)) return TOPS[i].module;
    return NULL;
}

/* In a bare state dict: the module by the front of the name, which goes, or by what the parameter is. */
static const char *module_of_name(const char **name) {
    const char *s = strip(*name);
    for (size_t i = 0; i < sizeof TOPS / sizeof *TOPS; i++) {
        size_t n = strlen(TOPS[i].top);
        if (!strncmp(s, TOPS[i].top, n) && s[n] == '.') {
            *name = strip(s + n + 1);
            return TOPS[i].module;
        }
    }
    *name = s;
    return !strncmp(s, "predictor_", 10) || !strncmp(s, "mask_token", 10) ? "predictor" : "encoder";
}

static int keep(ck *c, int to, const ck_tensor *t, const char *module, const char *inner, jepa_err *err) {
    size_t n = strlen(module) + strlen(inner) + 2;
    char *name = mem_alloc(n, 1);
    if (!name) return err_set_at(err, JEPA_E_MEMORY, c->path, -1, "%s: no memory for its names", c->path);
    snprintf(name, n, "%s.%s", module, inner);
    c->text[c->texts++] = name;
    c->tensor[to] = *t;
    c->tensor[to].name = name;
    return 0;
}

/* The one state dict that a model is in where none has a name that we know. */
static int bare_top(const ck *c, const char **top, jepa_err *err) {
    *top = NULL;
    for (int want = 0; want < 2 && !*top; want++)
        for (int i = 0; i < c->n; i++) {
            const char *name = c->tensor[i].stored;
            const char *module = module_of_name(&name);
            int is = want ? !strncmp(name, "predictor_embed.", 16) : !strcmp(name, "patch_embed.proj.weight");
            if (!is) continue;
            if (*top && strcmp(*top, c->tensor[i].top))
                return err_set_at(
                    err, JEPA_E_MODEL, c->path, -1,
                    "%s: holds a %s in \"%.80s\" and another in \"%.80s\"; one of them must be named encoder, target_encoder or predictor",
                    c->path, module, *top, c->tensor[i].top);
            *top = c->tensor[i].top;
        }
    if (*top) return 0;
    if (!c->n) return err_set_at(err, JEPA_E_MODEL, c->path, -1, "%s: holds no tensors", c->path);
    return err_set_at(err, JEPA_E_MODEL, c->path, -1,
                      "%s: holds no encoder and no predictor of this family: no patch_embed.proj.weight among its %d tensors (the first is "
                      "%.60s%s%.150s)",
                      c->path, c->n, c->tensor[0].top, c->tensor[0].top[0] ? ": " : "", c->tensor[0].stored);
}

int meta_names(ck *c, jepa_err *err) {
    int named = 0, ema = 0, kept = 0, rc = 0;
    const char *bare = NULL;
    c->text = mem_alloc((size_t)c->n, sizeof *c->text);
    if (!c->text) return err_set_at(err, JEPA_E_MEMORY, c->path, -1, "%s: no memory for its names", c->path);
    for (int i = 0; i < c->n; i++) {
        const char *top = c->tensor[i].top;
        named |= module_of_top(top) != NULL;
        ema |= !strcmp(last(top), "ema_encoder");
    }
    if (!named && (rc = bare_top(c, &bare, err))) return rc;
    for (int i = 0; !rc && i < c->n; i++) {
        const ck_tensor t = c->tensor[i];
        const char *inner = t.stored, *module = bare ? strcmp(t.top, bare) ? NULL : module_of_name(&inner) : module_of_top(t.top);
        if (module && ema && !strcmp(last(t.top), "target_encoder")) module = NULL; /* a distilled student's: the teacher */
        if (module) rc = keep(c, kept++, &t, module, bare ? inner : strip(inner), err);
    }
    if (!rc && kept < c->n) ck_note(c, "%d of its %d tensors are no encoder's or predictor's and are not used", c->n - kept, c->n);
    c->n = rc ? 0 : kept;
    return rc;
}
