/* mask_spec.c: masks from a text ("future:from=4") or a file, for one token grid. */
#include "infer/predict.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct spec_option { const char *name; double value, low, high; int given; } spec_option;

/* "name=number,…" against a table. */
static int options(const char *spec, const char *text, spec_option *o, int n, jepa_err *err) {
    while (*text) {
        size_t k = strcspn(text, "=,");
        spec_option *at = NULL;
        for (int i = 0; i < n; i++)
            if (strlen(o[i].name) == k && !strncmp(o[i].name, text, k)) at = &o[i];
        if (!at || text[k] != '=') {
            char known[128] = "";
            for (int i = 0; i < n; i++) snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s=N", i ? ", " : "", o[i].name);
            return err_set(err, JEPA_E_USE, "mask %s: \"%.*s\" is not an option here; known: %s", spec, (int)k, text, known);
        }
        char *end;
        at->value = strtod(text + k + 1, &end);
        at->given = 1;
        if (end == text + k + 1 || (*end && *end != ',') || !(at->value >= at->low && at->value <= at->high))
            return err_set(err, JEPA_E_USE, "mask %s: %s must be a number from %g to %g", spec, at->name, at->low, at->high);
        text = *end ? end + 1 : end;
    }
    return 0;
}

/* One sample's lists out of a mask group, kept as they are. */
static int take(pred_masks *m, const mask_set *s, jepa_err *err) {
    m->sets = 1, m->blocks = s->num_targets;
    m->n_context = s->n_context, m->n_target = (int64_t)s->n_target * s->num_targets;
    m->context = mem_alloc((size_t)m->n_context, sizeof *m->context);
    m->target = mem_alloc((size_t)m->n_target, sizeof *m->target);
    if (!m->context || !m->target) return err_set(err, JEPA_E_MEMORY, "no memory for masks");
    memcpy(m->context, s->context, (size_t)m->n_context * sizeof *m->context);
    memcpy(m->target, s->target, (size_t)m->n_target * sizeof *m->target);
    return 0;
}

static int multiblock(pred_masks *m, const char *spec, const char *text, int image_model, jepa_err *err) {
    spec_option o[] = {{"generator", 0, 0, 1, 0}, {"seed", 0, 0, 4294967295.0, 0}};
    int rc = options(spec, text, o, 2, err);
    if (rc < 0) return rc;
    mask_cfg c;
    mask_set *s = NULL;
    mask_cfg_defaults(&c, image_model ? MASK_MULTIBLOCK2D : MASK_MULTIBLOCK3D);
    if (!image_model && o[0].value == 1) c.num_blocks = 2, c.spatial_scale[0] = c.spatial_scale[1] = 0.7; /* the published second generator */
    if ((rc = mask_cfg_check(&c, m->grid, err)) == 0 && (rc = mask_group(&s, &c, m->grid, 1, (uint64_t)o[1].value, 0, 0, (int)o[0].value, err)) == 0)
        rc = take(m, s, err);
    mask_free(&s);
    return rc;
}

static int tube(pred_masks *m, const char *spec, const char *text, jepa_err *err) {
    spec_option o[] = {{"ratio", 0.9, 0.001, 0.999, 0}, {"seed", 0, 0, 4294967295.0, 0}};
    int rc = options(spec, text, o, 2, err);
    if (rc < 0) return rc;
    mask_cfg c;
    mask_set *s = NULL;
    mask_cfg_defaults(&c, MASK_TUBE);
    c.ratio = o[0].value;
    if ((rc = mask_cfg_check(&c, m->grid, err)) == 0 && (rc = mask_group(&s, &c, m->grid, 1, (uint64_t)o[1].value, 0, 0, 0, err)) == 0) rc = take(m, s, err);
    mask_free(&s);
    return rc;
}

static int future(pred_masks *m, const char *spec, const char *text, jepa_err *err) {
    spec_option o[] = {{"from", 0, 1, 100000, 0}};
    int rc = options(spec, text, o, 1, err), from = o[0].given ? (int)o[0].value : (m->grid.frames + 1) / 2;
    mask_set *s = NULL;
    if (rc < 0) return rc;
    if (from >= m->grid.frames)
        return err_set(err, JEPA_E_USE, "mask %s: a clip has %d tubelets in time, so nothing would be left to predict after %d; from=1 to %d", spec,
                       m->grid.frames, from, m->grid.frames - 1);
    if ((rc = mask_causal(&s, m->grid, 1, from, err)) == 0) rc = take(m, s, err);
    mask_free(&s);
    return rc;
}

/* ---- a file ---- */

static int list_of(const char *path, const st_file *f, const char *name, int64_t tokens, int32_t **out, int64_t *sets, int64_t *n, jepa_err *err) {
    const st_tensor *t = st_find(f, name);
    if (!t) return err_set_at(err, JEPA_E_USE, path, -1, "%s: has no tensor \"%s\"", path, name);
    if ((t->t.type != T_I64 && t->t.type != T_I32) || t->t.rank < 1 || t->t.rank > 2)
        return err_set_at(err, JEPA_E_USE, path, t->offset, "%s: \"%s\" must be int64 [n] or [clips,n]", path, name);
    *sets = t->t.rank == 2 ? t->t.dim[0] : 1, *n = t->t.dim[t->t.rank - 1];
    if (*sets < 1 || *n < 1 || *n > tokens) return err_set_at(err, JEPA_E_USE, path, t->offset, "%s: \"%s\" lists %lld tokens of a grid of %lld", path, name, (long long)*n, (long long)tokens);
    size_t all = (size_t)tensor_count(&t->t);
    if (!(*out = mem_alloc(all, sizeof **out))) return err_set(err, JEPA_E_MEMORY, "no memory for the masks of %s", path);
    for (size_t i = 0; i < all; i++) {
        int64_t v;
        int32_t small;
        if (t->t.type == T_I64) memcpy(&v, (const char *)t->t.data + i * 8, 8);
        else memcpy(&small, (const char *)t->t.data + i * 4, 4), v = small;
        if (v < 0 || v >= tokens)
            return err_set_at(err, JEPA_E_USE, path, t->offset, "%s: \"%s\" names token %lld; the grid has 0 to %lld", path, name, (long long)v, (long long)tokens - 1);
        (*out)[i] = (int32_t)v;
    }
    return 0;
}

static int disjoint(const char *path, const pred_masks *m, int64_t tokens, jepa_err *err) {
    unsigned char *seen = mem_alloc((size_t)tokens, 1);
    int rc = seen ? 0 : err_set(err, JEPA_E_MEMORY, "no memory for the masks of %s", path);
    for (int64_t s = 0; s < m->sets && !rc; s++) {
        memset(seen, 0, (size_t)tokens);
        for (int64_t i = 0; i < m->n_context + m->n_target && !rc; i++) {
            int32_t v = i < m->n_context ? m->context[s * m->n_context + i] : m->target[s * m->n_target + i - m->n_context];
            if (seen[v]++) rc = err_set_at(err, JEPA_E_USE, path, -1, "%s: token %d is listed twice (clip %lld): context and target may not overlap", path, v, (long long)s);
        }
    }
    mem_free(seen);
    return rc;
}

static int from_file(pred_masks *m, const char *path, jepa_err *err) {
    st_file *f = NULL;
    int64_t tokens = (int64_t)m->grid.frames * m->grid.rows * m->grid.cols, other = 0;
    int rc = st_open(&f, path, err);
    m->blocks = 1;
    if (rc < 0) return rc;
    if ((rc = list_of(path, f, "context", tokens, &m->context, &m->sets, &m->n_context, err)) == 0 &&
        (rc = list_of(path, f, "target", tokens, &m->target, &other, &m->n_target, err)) == 0) {
        if (other != m->sets) rc = err_set_at(err, JEPA_E_USE, path, -1, "%s: context is for %lld clips, target for %lld", path, (long long)m->sets, (long long)other);
        else rc = disjoint(path, m, tokens, err);
    }
    st_close(&f);
    return rc;
}

int pred_masks_make(pred_masks *m, const char *spec, mask_grid g, int image_model, jepa_err *err) {
    static const char *const kinds[] = {"multiblock", "tube", "future", "file"};
    *m = (pred_masks){.grid = g, .blocks = 1};
    if (!spec) return err_set(err, JEPA_E_USE, "which mask? --mask future:from=4, multiblock, tube:ratio=0.9 or file:masks.safetensors");
    size_t n = strcspn(spec, ":");
    const char *text = spec[n] ? spec + n + 1 : spec + n;
    int kind = 0, rc;
    while (kind < 4 && (strlen(kinds[kind]) != n || strncmp(kinds[kind], spec, n))) kind++;
    if (kind == 0) rc = multiblock(m, spec, text, image_model, err);
    else if (kind == 1) rc = tube(m, spec, text, err);
    else if (kind == 2) rc = future(m, spec, text, err);
    else if (kind == 3) rc = from_file(m, text, err);
    else rc = err_set(err, JEPA_E_USE, "mask \"%s\" is not known; there are future:from=N, multiblock[:generator=0,seed=0], tube:ratio=0.9, file:masks.safetensors", spec);
    if (rc < 0) pred_masks_free(m);
    return rc;
}

void pred_masks_free(pred_masks *m) {
    mem_free(m->context), mem_free(m->target);
    m->context = m->target = NULL;
}
