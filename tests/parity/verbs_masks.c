/* verbs_masks.c: block sizes exactly, everything random by its statistics. */
#include "masking/masking.h"
#include "parity.h"

#include <math.h>
#include <string.h>

enum { SEED = 20250101, MAX_SIDE = 64 }; /* fixed: the same draws in every run */

static int pair(const check *c, const char *key, double out[2], jepa_err *err) { return param_numbers(c, key, 2, out, err); }

static int optional_int(const check *c, const char *key, int64_t otherwise, int64_t high, int64_t *out, jepa_err *err) {
    const json *v = json_get(c->params, key);
    if (v && !json_is_null(v)) return param_int(c, key, 0, high, out, err);
    *out = otherwise;
    return 0;
}

static int sampler(check *c, mask_cfg *m, mask_grid *g, jepa_err *err) {
    const char *kind = param_string(c, "sampler", "");
    int64_t n, keep;
    double grid[3] = {1, 0, 0};
    int rc;
    if (!strcmp(kind, "multiblock3d")) {
        mask_cfg_defaults(m, MASK_MULTIBLOCK3D);
        if ((rc = param_numbers(c, "grid", 3, grid, err)) < 0 || (rc = param_int(c, "num_blocks", 1, 1024, &n, err)) < 0 ||
            (rc = pair(c, "spatial_scale", m->spatial_scale, err)) < 0 || (rc = pair(c, "temporal_scale", m->temporal_scale, err)) < 0 ||
            (rc = pair(c, "aspect_ratio", m->aspect_ratio, err)) < 0 || (rc = optional_int(c, "max_keep", 0, 1 << 24, &keep, err)) < 0)
            return rc;
        m->num_blocks = (int)n;
        m->max_keep = (int)keep;
        if (json_get(c->params, "max_temporal_keep") && (rc = param_numbers(c, "max_temporal_keep", 1, &m->max_temporal_keep, err)) < 0)
            return rc;
        m->full_complement = json_bool(json_get(c->params, "full_complement"), 0);
        m->pred_full_complement = json_bool(json_get(c->params, "pred_full_complement"), 0);
        m->inv_block = json_bool(json_get(c->params, "inv_block"), 0);
    } else if (!strcmp(kind, "multiblock2d")) {
        mask_cfg_defaults(m, MASK_MULTIBLOCK2D);
        if ((rc = param_numbers(c, "grid", 2, grid + 1, err)) < 0 || (rc = param_int(c, "num_targets", 1, 31, &n, err)) < 0 ||
            (rc = pair(c, "target_scale", m->pred_mask_scale, err)) < 0 || (rc = pair(c, "context_scale", m->enc_mask_scale, err)) < 0 ||
            (rc = pair(c, "aspect_ratio", m->aspect_ratio, err)) < 0 ||
            (rc = optional_int(c, "min_keep", m->min_keep, 1 << 24, &keep, err)) < 0)
            return rc;
        m->num_pred_masks = (int)n;
        m->min_keep = (int)keep;
        m->allow_overlap = json_bool(json_get(c->params, "allow_overlap"), 0);
    } else {
        return err_set(err, JEPA_E_MODEL, "sampler \"%s\" is not known", kind);
    }
    for (int i = 0; i < 3; i++)
        if (!(grid[i] >= 1 && grid[i] <= 1024)) return err_set(err, JEPA_E_MODEL, "the grid is %g,%g,%g", grid[0], grid[1], grid[2]);
    *g = (mask_grid){(int)grid[0], (int)grid[1], (int)grid[2]};
    return 0;
}

typedef struct draws {                        /* what n batches of ours add up to */
    int64_t n, tokens, lists;                 /* lists of targets a batch: samples times target blocks */
    double context[2], target[2];             /* sum and sum of squares of the lengths */
    double *p_context, *p_target;             /* counts by position */
    int64_t size[MAX_SIDE + 1][MAX_SIDE + 1]; /* target blocks (2-D) by height and width */
} draws;

static double mean_of(const double s[2], int64_t n) { return s[0] / (double)n; }
static double std_of(const double s[2], int64_t n) {
    double m = mean_of(s, n), v = s[1] / (double)n - m * m;
    return v > 0 ? sqrt(v) : 0;
}

static void count_block(draws *d, const int32_t *list, int n, mask_grid g) {
    int top = g.rows, left = g.cols, bottom = -1, right = -1;
    for (int i = 0; i < n; i++) {
        int r = list[i] / g.cols % g.rows, k = list[i] % g.cols;
        top = r < top ? r : top, bottom = r > bottom ? r : bottom, left = k < left ? k : left, right = k > right ? k : right;
    }
    int h = bottom - top + 1, w = right - left + 1;
    if (h >= 1 && h <= MAX_SIDE && w >= 1 && w <= MAX_SIDE) d->size[h][w]++;
}

static int draw_all(draws *d, const mask_cfg *m, mask_grid g, int batch, int64_t n, jepa_err *err) {
    memset(d, 0, sizeof *d);
    d->n = n;
    d->tokens = (int64_t)g.frames * g.rows * g.cols;
    if (!(d->p_context = mem_alloc((size_t)d->tokens, sizeof(double))) || !(d->p_target = mem_alloc((size_t)d->tokens, sizeof(double))))
        return err_set(err, JEPA_E_MEMORY, "no memory for the maps");
    for (int64_t k = 0; k < n; k++) {
        mask_set *s = NULL;
        int rc = mask_group(&s, m, g, batch, SEED, (uint64_t)k, 0, 0, err);
        if (rc < 0) return rc;
        d->lists = (int64_t)s->num_targets * batch;
        d->context[0] += s->n_context, d->context[1] += (double)s->n_context * s->n_context;
        d->target[0] += s->n_target, d->target[1] += (double)s->n_target * s->n_target;
        for (int64_t i = 0; i < (int64_t)batch * s->n_context; i++) d->p_context[s->context[i]]++;
        for (int64_t i = 0; i < d->lists * s->n_target; i++) d->p_target[s->target[i]]++;
        if (m->kind == MASK_MULTIBLOCK2D) count_block(d, s->target, s->n_target, g);
        mask_free(&s);
    }
    return 0;
}

/* In units of the standard error, so that a row can say how many sigmas were used. */
static void compare_sigmas(check *c, const char *what, double stored, double ours, double error, double sigmas, double *most) {
    compare_value(c, what, ours, stored, sigmas * error, 0);
    double z = error > 0 ? fabs(ours - stored) / error : ours == stored ? 0 : INFINITY;
    if (z > *most) *most = z;
}

static int compare_length(check *c, const char *role, const double sum[2], int64_t n, double sigmas, double *most, jepa_err *err) {
    const char *text = output_ref(c, role);
    if (!text) return 0;
    const json *v = NULL;
    double mean, std, count;
    int rc = ref_json(c, text, &v, err);
    if (rc < 0 || (rc = json_numbers(json_get(v, "mean"), "mean", 1, &mean, err)) < 0 ||
        (rc = json_numbers(json_get(v, "std"), "std", 1, &std, err)) < 0 || (rc = json_numbers(json_get(v, "n"), "n", 1, &count, err)) < 0)
        return rc;
    c->t.roles++;
    double s = std_of(sum, n);
    compare_sigmas(c, role, mean, mean_of(sum, n), sqrt(std * std / count + s * s / (double)n), sigmas, most);
    return 0;
}

/* Two shares p and q, of m and m' draws: their difference over what chance gives. */
static void compare_share(check *c, const char *what, double p, double m, double ours, double m2, double sigmas, double *most) {
    double q = (m * p + m2 * ours + 1) / (m + m2 + 2);
    compare_sigmas(c, what, p, ours, sqrt(q * (1 - q) * (1 / m + 1 / m2)), sigmas, most);
}

static int compare_map(check *c, const char *role, const char *count_key, const double *count, double lists, const draws *d, double batches,
                       double sigmas, double *most, jepa_err *err) {
    const char *text = output_ref(c, role);
    if (!text) return 0;
    const tensor *t = NULL;
    double m;
    int rc = ref_tensor(c, text, &t, err);
    if (rc < 0 || (rc = param_numbers(c, count_key, 1, &m, err)) < 0) return rc;
    if (t->type != T_F32 || tensor_count(t) != d->tokens || !(m > 0)) return err_set(err, JEPA_E_MODEL, "%s is no map of the grid", role);
    c->t.roles++;
    for (int64_t i = 0; i < d->tokens; i++) {
        float p;
        char what[64];
        memcpy(&p, (const char *)t->data + 4 * i, 4);
        snprintf(what, sizeof what, "%s[%lld]", role, (long long)i);
        compare_share(c, what, p, m, count[i] / ((double)d->n * lists), m * (double)d->n / batches, sigmas, most);
    }
    return 0;
}

static int compare_sizes(check *c, const draws *d, double batches, double sigmas, double *most, jepa_err *err) {
    const char *text = output_ref(c, "block_sizes");
    if (!text) return 0;
    const json *v = NULL;
    int rc = ref_json(c, text, &v, err);
    if (rc < 0) return rc;
    if (!json_is_object(v)) return err_set(err, JEPA_E_MODEL, "block_sizes are no object");
    c->t.roles++;
    for (const json *e = json_first(v); e; e = json_next(e)) {
        int h, w, end = 0;
        if (sscanf(json_key(e), "%dx%d%n", &h, &w, &end) != 2 || json_key(e)[end] || h < 1 || w < 1 || !json_is_number(e))
            return err_set(err, JEPA_E_MODEL, "block_sizes: \"%s\" is no height x width", json_key(e));
    }
    for (int h = 1; h <= MAX_SIDE; h++)
        for (int w = 1; w <= MAX_SIDE; w++) {
            char key[32];
            snprintf(key, sizeof key, "%dx%d", h, w);
            double stored = json_number(json_get(v, key), 0), ours = (double)d->size[h][w];
            if (stored > 0 || ours > 0) compare_share(c, key, stored / batches, batches, ours / (double)d->n, (double)d->n, sigmas, most);
        }
    return 0;
}

int verb_mask_statistics(check *c, jepa_err *err) {
    mask_cfg m;
    mask_grid g = {0};
    int64_t batch, batches;
    double sigmas = json_number(json_get(c->j, "sigmas"), 0), map_sigmas = json_number(json_get(c->j, "map_sigmas"), 0), most = 0,
           map_most = 0;
    if (!(sigmas > 0) || !(map_sigmas > 0)) return err_set(err, JEPA_E_MODEL, "mask_statistics needs sigmas and map_sigmas");
    int rc;
    if ((rc = sampler(c, &m, &g, err)) < 0 || (rc = param_int(c, "batch", 1, 4096, &batch, err)) < 0 ||
        (rc = param_int(c, "batches", 2, 1000000, &batches, err)) < 0)
        return rc;
    draws *d = mem_alloc(1, sizeof *d);
    if (!d) return err_set(err, JEPA_E_MEMORY, "no memory for the draws");
    int64_t n = batches < 4000 ? batches : 4000; /* as many as were drawn there; more would cost time, not sharpen much */
    if ((rc = draw_all(d, &m, g, (int)batch, n, err)) == 0 &&
        (rc = compare_length(c, "context_length", d->context, n, sigmas, &most, err)) == 0 &&
        (rc = compare_length(c, "target_length", d->target, n, sigmas, &most, err)) == 0 &&
        (rc = compare_map(c, "p_context", "n_context", d->p_context, (double)batch, d, (double)batches, map_sigmas, &map_most, err)) == 0 &&
        (rc = compare_map(c, "p_target", "n_target", d->p_target, (double)d->lists, d, (double)batches, map_sigmas, &map_most, err)) == 0)
        rc = compare_sizes(c, d, (double)batches, map_sigmas, &map_most, err);
    snprintf(c->t.text, sizeof c->t.text, "lengths %.2f of %g sigmas, maps %.2f of %g sigmas, %lld batches", most, sigmas, map_most,
             map_sigmas, (long long)n);
    mem_free(d->p_context);
    mem_free(d->p_target);
    mem_free(d);
    return rc;
}

/* ---- given uniforms -> block size ---- */

static void compare_ints(check *c, int nth, const char *what, const int *ours, const double *stored, int n) {
    for (int i = 0; i < n; i++) {
        char text[96];
        snprintf(text, sizeof text, "record %d, %s[%d]", nth, what, i);
        compare_value(c, text, ours[i], stored[i], c->abs + c->rel * fabs(stored[i]), 0);
    }
}

static int size_record3d(check *c, const json *r, int nth, jepa_err *err) {
    mask_cfg m;
    double grid[3], u[3], want[3];
    int rc, size[3];
    mask_cfg_defaults(&m, MASK_MULTIBLOCK3D);
    if ((rc = json_numbers(json_get(r, "grid"), "grid", 3, grid, err)) < 0 ||
        (rc = json_numbers(json_get(r, "uniforms"), "uniforms", 3, u, err)) < 0 ||
        (rc = json_numbers(json_get(r, "temporal_scale"), "temporal_scale", 2, m.temporal_scale, err)) < 0 ||
        (rc = json_numbers(json_get(r, "spatial_scale"), "spatial_scale", 2, m.spatial_scale, err)) < 0 ||
        (rc = json_numbers(json_get(r, "aspect_ratio"), "aspect_ratio", 2, m.aspect_ratio, err)) < 0 ||
        (rc = json_numbers(json_get(r, "size_t_h_w"), "size_t_h_w", 3, want, err)) < 0)
        return rc;
    mask_block_size3d(&m, (mask_grid){(int)grid[0], (int)grid[1], (int)grid[2]}, u[0], u[1], u[2], size);
    compare_ints(c, nth, "size_t_h_w", size, want, 3);
    return 0;
}

static int size_record2d(check *c, const json *r, int nth, jepa_err *err) {
    double grid[2], u, scale[2], aspect[2], want[2];
    static const char *const which[][3] = {{"target_scale", "target_aspect_ratio", "target_h_w"},
                                           {"context_scale", "context_aspect_ratio", "context_h_w"}};
    int rc, size[2];
    if ((rc = json_numbers(json_get(r, "grid"), "grid", 2, grid, err)) < 0 ||
        (rc = json_numbers(json_get(r, "uniform"), "uniform", 1, &u, err)) < 0)
        return rc;
    for (int i = 0; i < 2; i++) {
        if ((rc = json_numbers(json_get(r, which[i][0]), which[i][0], 2, scale, err)) < 0 ||
            (rc = json_numbers(json_get(r, which[i][1]), which[i][1], 2, aspect, err)) < 0 ||
            (rc = json_numbers(json_get(r, which[i][2]), which[i][2], 2, want, err)) < 0)
            return rc;
        mask_block_size2d(scale, aspect, (mask_grid){1, (int)grid[0], (int)grid[1]}, 0, u, size);
        compare_ints(c, nth, which[i][2], size, want, 2);
    }
    return 0;
}

int verb_block_size(check *c, jepa_err *err) {
    const json *v = NULL;
    int nth = 0, rc = ref_json(c, output_ref(c, "records"), &v, err);
    if (rc < 0) return rc;
    const char *kind = param_string(c, "sampler", "");
    int three = !strcmp(kind, "multiblock3d");
    if (!three && strcmp(kind, "multiblock2d")) return err_set(err, JEPA_E_MODEL, "sampler \"%s\" is not known", kind);
    if (!json_is_array(v)) return err_set(err, JEPA_E_MODEL, "records are no list");
    c->t.roles++;
    for (const json *r = json_first(v); r && rc == 0; r = json_next(r), nth++)
        rc = three ? size_record3d(c, r, nth, err) : size_record2d(c, r, nth, err);
    return rc;
}
