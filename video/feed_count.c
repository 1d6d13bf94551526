/* feed_count.c: what was bad, why, and how often a clip was replaced: counted when a batch is given out, kept with training state. */
#include "base/json.h"
#include "video/feed_work.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int feed_note_add(feed_notes *n, int32_t which, int warning, const char *reason) {
    if (n->n == n->cap) {
        int cap = n->cap ? n->cap * 2 : 4;
        feed_note *more = mem_alloc((size_t)cap, sizeof *more);
        if (!more) return JEPA_E_MEMORY;
        if (n->n) memcpy(more, n->at, (size_t)n->n * sizeof *more);
        mem_free(n->at);
        n->at = more;
        n->cap = cap;
    }
    feed_note *a = &n->at[n->n++];
    a->item = which;
    a->warning = warning;
    snprintf(a->reason, sizeof a->reason, "%s", reason);
    return 0;
}

/* The two warnings stand first, so that they are never crowded out. */
enum { WARNINGS = 2 };
int feed_count_open(feed_count *c, int n_items) {
    c->bad = mem_alloc((size_t)n_items, 1);
    snprintf(c->reason[0], FEED_REASON, "%s", FEED_CUT);
    snprintf(c->reason[1], FEED_REASON, "%s", FEED_SLOW);
    c->n = WARNINGS;
    return c->bad ? 0 : JEPA_E_MEMORY;
}

void feed_count_close(feed_count *c) {
    mem_free(c->bad);
    mem_free(c->item);
    memset(c, 0, sizeof *c);
}

/* The place of a reason; when the table is full the last one takes the rest. */
static int place(feed_count *c, const char *reason) {
    int k = 0;
    while (k < c->n && strcmp(c->reason[k], reason)) k++;
    if (k < c->n) return k;
    if (c->n == FEED_REASONS) return FEED_REASONS - 1;
    snprintf(c->reason[k], FEED_REASON, "%s", c->n == FEED_REASONS - 1 ? "other reasons" : reason);
    c->n++;
    return k;
}

static int add_bad(feed_count *c, int32_t which, int reason) {
    if (c->bad[which]) return 0; /* known already */
    if (c->n_bad == c->cap) {
        int64_t cap = c->cap ? c->cap * 2 : 64;
        int32_t *more = mem_alloc((size_t)cap, sizeof *more);
        if (!more) return JEPA_E_MEMORY;
        if (c->n_bad) memcpy(more, c->item, (size_t)c->n_bad * sizeof *more);
        mem_free(c->item);
        c->item = more;
        c->cap = cap;
    }
    c->item[c->n_bad++] = which;
    c->bad[which] = (uint8_t)(1 + reason);
    c->count[reason]++;
    return 0;
}

static int stopped(const feed *f, jepa_err *err) {
    const feed_count *c = &f->count;
    char why[280] = "";
    size_t n = 0;
    for (int k = WARNINGS; k < c->n && n < sizeof why - 80; k++)
        if (c->count[k]) n += (size_t)snprintf(why + n, sizeof why - n, "%s%lld %s", n ? ", " : "", (long long)c->count[k], c->reason[k]);
    const item *first = &f->list.at[c->item[0]];
    char where[32] = "";
    if (first->line) snprintf(where, sizeof where, " (line %d)", first->line);
    return err_set_at(err, JEPA_E_STOPPED, first->path, -1, "too many items cannot be used: %lld of %d (%lld borne): %s; first %.140s%s",
                      (long long)c->n_bad, f->list.n, (long long)f->allowed, why, first->path, where);
}

int feed_count_batch(feed *f, slot *s, jepa_err *err) {
    feed_count *c = &f->count;
    s->b.replaced = 0;
    for (int i = 0; i < s->b.batch; i++) {
        int missed = 0;
        for (int k = 0; k < s->notes[i].n; k++) {
            const feed_note *a = &s->notes[i].at[k];
            int at = place(c, a->reason);
            if (a->warning) {
                c->count[at]++;
                continue;
            }
            missed = 1;
            if (add_bad(c, a->item, at)) return err_set(err, JEPA_E_MEMORY, "no memory to count bad items");
        }
        if (c->n_bad > f->allowed) return stopped(f, err);
        if (s->b.item_index[i] < 0) /* every item with a weight was tried */
            return err_set(err, JEPA_E_STOPPED, "no item that can be used is left: %lld of %d are bad", (long long)c->n_bad, f->list.n);
        s->b.replaced += missed;
    }
    c->replaced += s->b.replaced;
    return 0;
}

int feed_report(const feed *f, feed_bad *out, int max, int64_t *replaced) {
    const feed_count *c = &f->count;
    if (replaced) *replaced = c->replaced;
    int n = 0;
    for (int k = 0; k < c->n && n < max; k++) {
        if (!c->count[k]) continue;
        memcpy(out[n].reason, c->reason[k], sizeof out[n].reason);
        out[n++].count = c->count[k];
    }
    return n;
}

int feed_bad_item(const feed *f, int64_t k, int32_t *item_index, const char **reason) {
    const feed_count *c = &f->count;
    if (k < 0 || k >= c->n_bad) return JEPA_E_END;
    *item_index = c->item[k];
    *reason = c->reason[c->bad[c->item[k]] - 1];
    return 0;
}

/* ---- state ---- */

int feed_state(const feed *f, char **text, size_t *size, jepa_err *err) {
    const feed_count *c = &f->count;
    json_writer w = {0};
    *text = NULL;
    *size = 0;
    jw_open(&w, NULL, '{');
    jw_int(&w, "items", f->list.n);
    jw_int(&w, "replaced", c->replaced);
    jw_open(&w, "reasons", '[');
    for (int k = 0; k < c->n; k++) {
        jw_open(&w, NULL, '{');
        jw_string(&w, "reason", c->reason[k]);
        jw_int(&w, "count", c->count[k]);
        jw_close(&w, '}');
    }
    jw_close(&w, ']');
    jw_open(&w, "bad", '['); /* item, reason, item, reason, … in the order they were met */
    for (int64_t k = 0; k < c->n_bad; k++) {
        jw_int(&w, NULL, c->item[k]);
        jw_int(&w, NULL, c->bad[c->item[k]] - 1);
    }
    jw_close(&w, ']');
    jw_close(&w, '}');
    if (w.failed) {
        jw_free(&w);
        return err_set(err, JEPA_E_MEMORY, "no memory for the feed's counters");
    }
    *text = mem_alloc(w.size + 1, 1);
    if (*text) {
        memcpy(*text, w.text, w.size);
        *size = w.size;
    }
    jw_free(&w);
    return *text ? 0 : err_set(err, JEPA_E_MEMORY, "no memory for the feed's counters");
}

static int wrong(jepa_err *err) { return err_set(err, JEPA_E_MODEL, "the feed's saved counters are damaged"); }

/* value as an integer in [low, high]; 0 when it is none */
static int whole(const json *v, double low, double high, int64_t *out) {
    double d = json_number(v, NAN);
    if (!(d >= low && d <= high) || d != floor(d)) return 0;
    *out = (int64_t)d;
    return 1;
}

static int put_back(feed *f, const json *j, jepa_err *err) {
    feed_count c = {.bad = mem_alloc((size_t)f->list.n, 1)};
    int64_t n, which, reason, sum = 0;
    int rc = 0;
    if (!c.bad) return err_set(err, JEPA_E_MEMORY, "no memory for the feed's counters");
    if (!whole(json_get(j, "items"), 1, INT32_MAX, &n) || !whole(json_get(j, "replaced"), 0, 9e15, &c.replaced)) rc = wrong(err);
    else if (n != f->list.n)
        rc = err_set(err, JEPA_E_MODEL,
                     "the run was saved with a list of %lld items, this one has %d: the order of the data would be another", (long long)n,
                     f->list.n);
    for (const json *r = json_first(json_get(j, "reasons")); !rc && r; r = json_next(r)) {
        const char *word = json_string(json_get(r, "reason"), "");
        if (c.n == FEED_REASONS || !*word || !whole(json_get(r, "count"), 0, 9e15, &c.count[c.n])) rc = wrong(err);
        else snprintf(c.reason[c.n++], FEED_REASON, "%s", word);
    }
    for (const json *b = json_first(json_get(j, "bad")); !rc && b; b = json_next(b)) {
        const json *r = json_next(b);
        if (!whole(b, 0, f->list.n - 1, &which) || !whole(r, WARNINGS, c.n - 1, &reason) || c.bad[which]) {
            rc = wrong(err);
            break;
        }
        c.count[reason]--; /* add_bad counts it again */
        if (add_bad(&c, (int32_t)which, (int)reason)) rc = err_set(err, JEPA_E_MEMORY, "no memory for the feed's counters");
        b = r;
    }
    for (int k = WARNINGS; !rc && k < c.n; k++) {
        sum += c.count[k];
        if (c.count[k] < 1) rc = wrong(err);
    }
    if (!rc && (sum != c.n_bad || c.n < WARNINGS || strcmp(c.reason[0], FEED_CUT) || strcmp(c.reason[1], FEED_SLOW))) rc = wrong(err);
    if (rc) {
        feed_count_close(&c);
        return rc;
    }
    feed_count_close(&f->count);
    f->count = c;
    return 0;
}

int feed_restore(feed *f, const char *text, size_t size, jepa_err *err) {
    json *j;
    int rc = json_parse(&j, text, size, "feed counters", err);
    if (!rc) rc = put_back(f, j, err);
    json_close(&j);
    return rc;
}
