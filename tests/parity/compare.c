/* compare.c: the one rule: abs(a - b) <= abs + rel * abs(b) for every element, b the stored value. */
#include "parity.h"

#include <fnmatch.h>
#include <math.h>
#include <string.h>

/* Exact for every type but 64-bit integers beyond 2^53. */
static double element(const tensor *t, int64_t i) {
    const char *p = (const char *)t->data + (size_t)i * dtype_size(t->type);
    uint16_t h;
    float f;
    double d;
    int64_t l;
    int32_t w;
    int16_t s;
    switch (t->type) {
    case T_F32:
        return memcpy(&f, p, 4), f;
    case T_F64:
        return memcpy(&d, p, 8), d;
    case T_BF16:
        return memcpy(&h, p, 2), bf16_to_f32(h);
    case T_F16:
        return memcpy(&h, p, 2), f16_to_f32(h);
    case T_I64:
        return memcpy(&l, p, 8), (double)l;
    case T_I32:
        return memcpy(&w, p, 4), w;
    case T_I16:
        return memcpy(&s, p, 2), s;
    case T_I8:
        return *(const signed char *)p;
    case T_U8:
    case T_BOOL:
        return *(const unsigned char *)p;
    default:
        return NAN;
    }
}

/* Shapes count as equal when they are so without their ones: [1,4,3,64,64] and [4,3,64,64]. */
static int same_shape(const tensor *a, const tensor *b) {
    int i = 0, k = 0;
    for (;;) {
        while (i < a->rank && a->dim[i] == 1) i++;
        while (k < b->rank && b->dim[k] == 1) k++;
        if (i == a->rank || k == b->rank) return i == a->rank && k == b->rank;
        if (a->dim[i++] != b->dim[k++]) return 0;
    }
}

static void shape_text(const tensor *t, char *out, size_t size) {
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i < t->rank && n < size; i++) n += (size_t)snprintf(out + n, size - n, "%s%lld", i ? "," : "", (long long)t->dim[i]);
}

/* The first entry that names this tensor and row decides. */
exclusion exclude_find(const check *c, const char *module, const char *name, int64_t row) {
    exclusion e = {0, 1, 0, 0};
    for (const json *x = json_first(json_get(c->j, "exclude")); x; x = json_next(x)) {
        const char *m = json_string(json_get(x, "module"), NULL);
        if (fnmatch(json_string(json_get(x, "tensors"), ""), name, 0) || (m && strcmp(m, module))) continue;
        const json *rows = json_get(x, "rows");
        int inside = rows == NULL;
        for (const json *r = json_first(rows); r && !inside; r = json_next(r)) {
            double b[2];
            inside = json_numbers(r, "rows", 2, b, NULL) == 0 && (double)row >= b[0] && (double)row < b[1];
        }
        if (!inside) continue;
        e.applies = 1;
        e.compared = json_is_number(json_get(x, "abs"));
        e.abs = json_number(json_get(x, "abs"), 0);
        e.rel = json_number(json_get(x, "rel"), 0);
        return e;
    }
    return e;
}

/* Nothing that is not a finite number passes, whatever the bound: the comparison is written so that NaN fails it. */
void compare_value(check *c, const char *what, double ours, double stored, double bound, int own_bound) {
    tally *t = &c->t;
    double d = fabs(ours - stored);
    int good = d <= bound && isfinite(ours) && isfinite(stored) && isfinite(bound);
    double ratio = good ? (d == 0 ? 0 : d / bound) : (isfinite(d) && bound > 0 ? d / bound : INFINITY);
    t->compared++;
    if (!own_bound && (d > t->err || isnan(d))) t->err = d;
    if (ratio > t->ratio || t->compared == 1) {
        snprintf(t->where, sizeof t->where, "%s: ours %.9g, stored %.9g, off by %.3g, bound %.3g", what, ours, stored, d, bound);
        t->ratio = ratio;
    }
    if (!good) t->bad++;
}

int compare_tensor(check *c, const char *module, const char *name, const tensor *ours, const tensor *stored, jepa_err *err) {
    if (!same_shape(ours, stored)) {
        char a[128], b[128];
        shape_text(ours, a, sizeof a);
        shape_text(stored, b, sizeof b);
        return err_set(err, JEPA_E_MODEL, "%s.%s: ours is [%s], stored is [%s]", module, name, a, b);
    }
    int64_t n = tensor_count(stored), rows = stored->rank > 0 ? stored->dim[0] : 1, per_row = rows > 0 ? n / rows : 0;
    double sum = 0;
    int64_t summed = 0;
    for (int64_t r = 0; r < rows; r++) {
        exclusion x = exclude_find(c, module, name, r);
        if (!x.compared) {
            c->t.skipped += per_row;
            continue;
        }
        double abs_bound = x.applies ? x.abs : c->abs, rel_bound = x.applies ? x.rel : c->rel;
        for (int64_t i = r * per_row; i < (r + 1) * per_row; i++) {
            double a = element(ours, i), b = element(stored, i), d = fabs(a - b), bound = abs_bound + rel_bound * fabs(b);
            /* names are only made where they may be kept: a tensor has millions of elements */
            if (!(d <= bound) || d > c->t.ratio * bound || !isfinite(b) || c->t.compared == 0) {
                char what[256];
                snprintf(what, sizeof what, "%s.%s[%lld]", module, name, (long long)i);
                compare_value(c, what, a, b, bound, x.applies);
            } else {
                c->t.compared++;
                if (!x.applies && d > c->t.err) c->t.err = d;
            }
            sum += d;
            summed++;
        }
    }
    if (c->mean_abs >= 0 && summed > 0) {
        double mean = sum / (double)summed;
        char what[256];
        snprintf(what, sizeof what, "%s.%s: mean of |a - b|", module, name);
        compare_value(c, what, mean, 0, c->mean_abs, 1);
    }
    return 0;
}

int compare_output(check *c, const char *role, const tensor *ours, jepa_err *err) {
    const char *text = output_ref(c, role);
    if (!text) return 0;
    const tensor *stored = NULL;
    int rc = ref_tensor(c, text, &stored, err);
    if (rc < 0) return rc;
    c->t.roles++;
    return compare_tensor(c, "output", role, ours, stored, err);
}

int compare_number(check *c, const char *what, double ours, const json *stored, jepa_err *err) {
    if (json_is_null(stored)) return c->t.skipped++, 0;
    if (!json_is_number(stored)) return err_set(err, JEPA_E_MODEL, "%s: the stored value is no number", what);
    double b = json_number(stored, NAN);
    compare_value(c, what, ours, b, c->abs + c->rel * fabs(b), 0);
    return 0;
}

int compare_output_number(check *c, const char *role, double ours, jepa_err *err) {
    const char *text = output_ref(c, role);
    if (!text) return 0;
    const json *stored = NULL;
    int rc = ref_json(c, text, &stored, err);
    if (rc < 0) return rc;
    c->t.roles++;
    return compare_number(c, role, ours, stored, err);
}

tensor tensor_f32(const float *data, int rank, const int64_t *dim) {
    tensor t = {.type = T_F32, .rank = rank, .data = data};
    memcpy(t.dim, dim, (size_t)rank * sizeof *dim);
    return t;
}
