/* load.c: tensors of an open model into named parameters: first everything is looked up and compared, then filled. */
#include "checkpoint/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { PIECE = 16384 }; /* elements converted at a time */

typedef struct source { /* where one parameter comes from */
    const ck_tensor *t[3];
    int parts; /* 0: missing; 3: query, key, value; 2: key, value */
    int slice; /* >= 0: that one of the first dimension */
} source;

typedef struct load {
    const ck *c;
    params *p;
    const char *prefix, *module; /* of the parameter names; of our own file names, "encoder." */
    ck_module m;
    const name_row *rows;
    source *from;        /* one for each parameter */
    unsigned char *used; /* one for each tensor of the files */
    int stack;           /* slices of the stacked tensor that parameters take */
    int missing, unexpected, unlike, ignored;
    char first_missing[400], first_unexpected[400], first_unlike[500], pos_embed[300];
    ck_report *report;
    size_t text;
} load;

/* appends a line to the report while there is room */
static void note(load *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void note(load *l, const char *fmt, ...) {
    char *to = l->report->text;
    size_t room = sizeof l->report->text;
    if (l->text + 8 >= room) return;
    va_list ap;
    va_start(ap, fmt);
    if (l->text) to[l->text++] = '\n';
    int k = vsnprintf(to + l->text, room - l->text, fmt, ap);
    va_end(ap);
    if (k >= (int)(room - l->text)) { /* cut: three dots, and nothing more after */
        memcpy(to + room - 4, "...", 4);
        l->text = room;
    } else {
        l->text += k > 0 ? (size_t)k : 0;
    }
}

static void mark(load *l, const ck_tensor *t) { l->used[t - l->c->tensor] = 1; }

static const ck_tensor *find_hf(const load *l, const name_row *row, int number, const char *rest, char *name, size_t size) {
    char inner[256];
    if (name_make(row->hf, number, rest, inner, sizeof inner)) return NULL;
    if (snprintf(name, size, "%s%s", l->m == CK_POOLER ? "" : l->c->hf_prefix, inner) >= (int)size) return NULL;
    return ck_find(l->c, name);
}

/* The tensors that make up parameter `meta` (without prefix); `lacks` gets the file's name of what is not there. */
static void look_up(load *l, const char *meta, source *s, char *lacks, size_t size) {
    const char *rest;
    int number;
    *s = (source){.slice = -1};
    if (l->c->layout != LAYOUT_HF) {
        if (snprintf(lacks, size, "%s%s", l->module, meta) < (int)size && (s->t[0] = ck_find(l->c, lacks))) s->parts = 1;
    } else {
        snprintf(lacks, size, "%s", meta);
        for (const name_row *r = l->rows; r->meta; r++) {
            if (!name_match(r->meta, meta, &number, &rest)) continue;
            const ck_tensor *t = find_hf(l, r, number, rest, lacks, size);
            if (t && r->how == NAME_STACK) {
                if (number >= l->stack) l->stack = number + 1;
                if (t->rank < 1 || t->dim[0] <= number) t = NULL;
                s->slice = number;
            }
            if (!t) {
                s->parts = 0;
                return;
            }
            s->t[s->parts++] = t;
        }
    }
    for (int i = 0; i < s->parts; i++) mark(l, s->t[i]);
}

/* The shape that the file gives the parameter, (query,) key and value put together; 0: no such shape (or no float type). */
static int shape_of(const source *s, int *rank, int64_t dim[8]) {
    const ck_tensor *t = s->t[0];
    for (int i = 0; i < s->parts; i++) {
        const ck_tensor *u = s->t[i];
        if (u->type != T_F32 && u->type != T_BF16 && u->type != T_F16 && u->type != T_F64) return 0;
        int same = u->rank == t->rank;
        for (int k = 0; same && k < t->rank; k++) same = u->dim[k] == t->dim[k];
        if (!same) return 0;
    }
    int skip = s->slice >= 0;
    *rank = t->rank - skip;
    for (int i = 0; i < *rank; i++) dim[i] = t->dim[i + skip];
    if (s->parts > 1) {
        if (*rank < 1 || dim[0] > INT64_MAX / s->parts) return 0;
        dim[0] *= s->parts;
    }
    return 1;
}

static void compare(load *l, const param *a, const char *meta, source *s) {
    int rank = 0;
    int64_t dim[8];
    int ok = shape_of(s, &rank, dim), same = ok && rank == a->rank;
    for (int i = 0; same && i < rank; i++) same = dim[i] == a->dim[i];
    if (same) return;
    char is[200], should[200];
    shape_text(should, sizeof should, a->rank, a->dim);
    if (ok)
        shape_text(is, sizeof is, rank, dim);
    else
        snprintf(is, sizeof is, "%s of a kind that does not fit", dtype_name(s->t[0]->type));
    char line[500];
    snprintf(line, sizeof line, "%s has shape %s in the file, %s in the model", meta, is, should);
    if (!l->unlike++) memcpy(l->first_unlike, line, sizeof line);
    note(l, "not loaded: %s", line);
    s->parts = 0;
}

/* ---- what is in the files and in no parameter ---- */

static int starts(const char *name, const char *front) { return !strncmp(name, front, strlen(front)); }

static void extra(load *l, const char *name, const char *what) {
    if (!l->unexpected++) snprintf(l->first_unexpected, sizeof l->first_unexpected, "%s", name);
    note(l, "unexpected: %s%s", name, what);
}

static void leftover(load *l, const ck_tensor *t) {
    const ck *c = l->c;
    const char *name = t->name, *inner = name, *rest;
    int number, prefixed = starts(name, c->hf_prefix);
    if (prefixed) inner += strlen(c->hf_prefix);
    const int head = c->classifier && (starts(name, "pooler.") || starts(name, "classifier."));
    if (head != (l->m == CK_POOLER) && c->layout == LAYOUT_HF) { /* a backbone's head, or a head's backbone: not asked for here */
        if (head) l->ignored++;
        if (head || prefixed) return;
    }
    if (head) inner = name;
    if (c->is_ijepa &&
        (!strcmp(inner, "embeddings.mask_token") || starts(inner, "pooler."))) { /* of fine-tuning; the encoder has neither */
        l->ignored++;
        return;
    }
    int known = head || (prefixed && c->is_ijepa) ||
                (prefixed && (starts(inner, "encoder.") || starts(inner, "predictor.") ||
                              (c->layout != LAYOUT_HF && (starts(inner, "target_encoder.") || starts(inner, "pooler.")))));
    if (known && !head && !c->is_ijepa && !starts(inner, l->module)) return; /* of another module: not asked for here */
    const char *last = strrchr(inner, '.');
    if (known && last &&
        (!strcmp(last, ".pos_embed") || !strcmp(last, ".predictor_pos_embed"))) { /* a fixed table that a rotary model does not use */
        char dims[160];
        shape_text(dims, sizeof dims, t->rank, t->dim);
        snprintf(l->pos_embed, sizeof l->pos_embed, "%s %s is in the file and not used: rotary positions need no table", last + 1, dims);
        l->ignored++;
        return;
    }
    if (known && c->layout == LAYOUT_HF)
        for (const name_row *r = l->rows; r->meta; r++) {
            int of, part = name_part(r->how, &of);
            char first[300];
            if (part && name_match(r->hf, inner, &number, &rest) && find_hf(l, r - part, number, rest, first, sizeof first))
                return; /* counted once, as Meta's one tensor, by its first part */
        }
    extra(l, name, "");
}

static void leftovers(load *l) {
    for (int i = 0; i < l->c->n; i++) {
        const ck_tensor *t = &l->c->tensor[i];
        if (!l->used[i]) {
            leftover(l, t);
        } else if (l->stack && t->rank >= 1 && t->dim[0] > l->stack) {
            const char *inner = t->name + strlen(l->c->hf_prefix), *rest;
            int number;
            for (const name_row *r = l->rows; r->meta; r++)
                if (r->how == NAME_STACK && name_match(r->hf, inner, &number, &rest)) {
                    char what[80];
                    snprintf(what, sizeof what, " has %lld, the model %d", (long long)t->dim[0], l->stack);
                    extra(l, t->name, what);
                }
        }
    }
}

/* In pieces, into whatever the parameter is stored as; the file's pages go as soon as they were read, so that weights exist once. */
static int fill(load *l, int i, float *piece, queue *q, jepa_err *err) {
    const source *s = &l->from[i];
    const int64_t each = l->p->item[i].count / s->parts;
    int rc = 0;
    for (int k = 0; k < s->parts && !rc; k++) {
        for (int64_t at = 0, n; at < each && !rc; at += n) {
            n = each - at < PIECE ? each - at : PIECE;
            if ((rc = ck_copy_part(s->t[k], s->slice, at, n, piece)))
                err_set_at(err, rc, l->c->path, -1, "%s: %s could not be converted", l->c->path, s->t[k]->name);
            else
                rc = param_put(l->p, i, q, piece, each * k + at, n, err);
        }
        ck_release_tensor(l->c, s->t[k]);
    }
    return rc;
}

static int verdict(load *l, jepa_err *err) {
    char text[500];
    size_t n = 0, room = sizeof text;
    text[0] = 0;
    if (l->missing)
        n += (size_t)snprintf(text, room, "%d %s missing, first %s", l->missing, l->missing == 1 ? "tensor" : "tensors", l->first_missing);
    if (l->unlike && n < room)
        n += (size_t)snprintf(text + n, room - n, "%s%d of another shape, first %s", n ? "; " : "", l->unlike, l->first_unlike);
    if (l->unexpected && n < room)
        snprintf(text + n, room - n, "%s%d %s unexpected, first %s", n ? "; " : "", l->unexpected,
                 l->unexpected == 1 ? "tensor" : "tensors", l->first_unexpected);
    return err_set_at(err, JEPA_E_MODEL, l->c->path, -1, "%s: %.*s: %s", l->c->path, (int)strlen(l->module) - 1, l->module, text);
}

static int look(load *l, jepa_err *err) {
    int wanted = 0;
    size_t k = strlen(l->prefix);
    for (int i = 0; i < l->p->n; i++) {
        const param *a = &l->p->item[i];
        char lacks[400];
        if (strncmp(a->name, l->prefix, k)) continue;
        wanted++;
        look_up(l, a->name + k, &l->from[i], lacks, sizeof lacks);
        if (!l->from[i].parts && (a->flags & PARAM_FIXED)) {
            note(l, "%s is not in the file: the sin-cos table is used", a->name + k);
        } else if (!l->from[i].parts) {
            if (!l->missing++)
                snprintf(l->first_missing, sizeof l->first_missing,
                         strcmp(lacks, a->name + k) && l->c->layout == LAYOUT_HF ? "%s (%s)" : "%s", a->name + k, lacks);
            note(l, "missing: %s", a->name + k);
        } else {
            compare(l, a, a->name + k, &l->from[i]);
        }
    }
    return wanted ? 0 : err_set(err, JEPA_E_USE, "no parameter's name starts with \"%s\"", l->prefix);
}

/* Which module's tensors serve: a single encoder is taken for either. */
static const char *serves(const ck *c, ck_module m) {
    if (c->layout == LAYOUT_HF && m == CK_TARGET) return "encoder";
    if (c->layout == LAYOUT_META && m == CK_TARGET && !ck_has(c, CK_TARGET)) return "encoder";
    if (c->layout == LAYOUT_META && m == CK_ENCODER && !ck_has(c, CK_ENCODER)) return "target_encoder";
    return module_name(m);
}

int ck_load(const ck *c, params *p, const char *prefix, ck_module m, int flags, ck_report *report, jepa_err *err) {
    ck_report none;
    float *piece = NULL;
    queue *q = NULL;
    int rc = 0;
    load l = {.c = c, .p = p, .prefix = prefix, .m = m, .report = report ? report : &none};
    *l.report = (ck_report){0};
    char module[32], inside[160];
    snprintf(module, sizeof module, "%s.", serves(c, m));
    l.module = module;
    l.rows = c->is_ijepa ? ck_names_ijepa : names_of(m);
    if (!p->value.p) return err_set(err, JEPA_E_USE, "parameters are not allocated");
    snprintf(inside, sizeof inside, "%saction_encoder.weight", prefix);
    if (m == CK_PREDICTOR && c->layout == LAYOUT_META && ck_find(c, "predictor.action_encoder.weight") && params_find(p, inside) < 0)
        return err_set_at(err, JEPA_E_MODEL, c->path, -1,
                          "%s: its predictor is conditioned on actions (V-JEPA 2-AC: action_encoder), not on masks", c->path);
    l.from = mem_alloc((size_t)p->n, sizeof *l.from);
    l.used = mem_alloc((size_t)c->n, 1);
    if (!l.from || !l.used) {
        rc = err_set_at(err, JEPA_E_MEMORY, c->path, -1, "%s: no memory to load it", c->path);
        goto done;
    }
    rc = look(&l, err);
    if (rc) goto done;
    leftovers(&l);
    if (l.pos_embed[0]) note(&l, "%s", l.pos_embed);
    if (c->classifier && m != CK_POOLER)
        note(&l, "pooler and classifier: %d tensors, read when classifying", l.ignored - (l.pos_embed[0] != 0));
    if ((l.missing || l.unlike || l.unexpected) && !(flags & CK_ALLOW_PARTIAL)) {
        rc = verdict(&l, err);
        goto done;
    }
    piece = mem_alloc(PIECE, sizeof *piece);
    rc = piece ? queue_open(&q, p->value.d, err) : err_set_at(err, JEPA_E_MEMORY, c->path, -1, "%s: no memory to load it", c->path);
    for (int i = 0; !rc && i < p->n; i++)
        if (l.from[i].parts) {
            rc = fill(&l, i, piece, q, err);
            l.report->loaded++;
        }
    if (!rc) rc = queue_wait(q, err);
    ck_release(c);
done:
    queue_close(&q);
    mem_free(piece);
    l.report->missing = l.missing + l.unlike;
    l.report->unexpected = l.unexpected;
    l.report->ignored = l.ignored;
    mem_free(l.from);
    mem_free(l.used);
    return rc;
}
