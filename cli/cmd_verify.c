/* cmd_verify.c: jepa verify LIST…: every item decoded once, before a training run meets it. */
#include "cli/cli.h"
#include "base/json.h"
#include "video/feed.h"
#include "video/verify.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] =
    "  jepa verify clips.txt --good usable.txt\n"
    "  jepa verify videos/ shards/0000.tar demo.hdf5 --json\n\n"
    "Every video, picture, member of a tar and frame set of an HDF5 file is decoded once, whole, on all cores. What cannot be used is named with\n"
    "its reason; what is cut short is named too and counts as usable, as it is for training. Exit code 1: some cannot be used.\n";

typedef struct bad { int32_t which; verify_state state; char *text; } bad;
enum { CAUSES = 24 };

typedef struct tally {
    cli *c;
    const items *l;
    uint8_t *usable; /* [items] */
    bad *list;
    size_t n, cap;
    int64_t done, good, cut, failed, frames;
    double seconds, from;
    feed_bad causes[CAUSES];
    int n_causes, no_room;
} tally;

static void note(tally *t, int32_t which, verify_state state, const char *text) {
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 64;
        bad *more = realloc(t->list, cap * sizeof *more);
        if (more) t->list = more, t->cap = cap;
    }
    char *own = t->n < t->cap ? malloc(strlen(text) + 1) : NULL;
    if (!own) {
        t->no_room = 1;
        return;
    }
    strcpy(own, text);
    t->list[t->n++] = (bad){which, state, own};
}

static void count(tally *t, const char *reason) {
    int k = 0;
    while (k < t->n_causes && strcmp(t->causes[k].reason, reason)) k++;
    if (k == t->n_causes && k == CAUSES) k = CAUSES - 1; /* the last one takes the rest */
    else if (k == t->n_causes) snprintf(t->causes[t->n_causes++].reason, sizeof t->causes[k].reason, "%s", k == CAUSES - 1 ? "other reasons" : reason);
    t->causes[k].count++;
}

static void ended(void *ctx, int32_t which, const verify_result *r) {
    tally *t = ctx;
    t->done++;
    if (r->state == VERIFY_BAD) {
        t->failed++;
        count(t, r->reason);
        note(t, which, r->state, r->text);
    } else {
        t->usable[which] = 1;
        t->good++, t->frames += r->frames, t->seconds += r->seconds;
        if (r->state == VERIFY_CUT) {
            char text[600];
            snprintf(text, sizeof text, "%.400s: cut short: %" PRId64 " of %" PRId64 " frames can be decoded", t->l->at[which].path, r->frames, r->promised);
            t->cut++;
            note(t, which, r->state, text);
        }
    }
    double spent = clock_seconds() - t->from;
    char line[160];
    snprintf(line, sizeof line, "%" PRId64 "/%d items, %" PRId64 " cannot be used, %.0f frames/s, about %.0f s left", t->done, t->l->n, t->failed,
             (double)t->frames / (spent > 0 ? spent : 1), spent / (double)t->done * (double)(t->l->n - t->done));
    cli_progress(t->c, line);
}

static int by_item(const void *a, const void *b) {
    int32_t x = ((const bad *)a)->which, y = ((const bad *)b)->which;
    return (x > y) - (x < y);
}

/* What can be used as a list: paths from the root, so that it may lie anywhere; a tar or HDF5 file once, where anything in it can. */
static int write_good(const tally *t, const char *path, jepa_err *err) {
    char *text = NULL, before[PATH_MAX] = "";
    size_t size = 0;
    int left = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) return err_set(err, JEPA_E_MEMORY, "no memory for the list");
    for (int i = 0; i < t->l->n; i++) {
        const item *it = &t->l->at[i];
        char file[PATH_MAX], whole[PATH_MAX];
        if (!t->usable[i]) continue;
        int n = it->inner && it->kind != ITEM_FILE ? (int)it->inner - 1 : (int)strlen(it->path);
        if (snprintf(file, sizeof file, "%.*s", n, it->path) >= (int)sizeof file || !realpath(file, whole) || strpbrk(whole, "\r\n")) {
            left++;
            continue;
        }
        if (it->kind != ITEM_FILE && !strcmp(whole, before)) continue;
        snprintf(before, sizeof before, "%s", it->kind != ITEM_FILE ? whole : "");
        if (it->kind == ITEM_FILE && it->label != -1) fprintf(f, "%s :: %" PRId64 "\n", whole, it->label);
        else fprintf(f, "%s\n", whole);
    }
    int rc = fclose(f) ? err_set(err, JEPA_E_MEMORY, "no memory for the list") : file_write_atomic(path, text, size, err);
    free(text);
    if (rc == 0 && left) cli_warn(t->c, "%s: %d paths cannot stand in a list (too long, a line break, or gone)", path, left);
    return rc;
}

/* Before hours of decoding: can the list be written, and is it none of the files that are read? */
static int good_allowed(const items *l, const text_list *inputs, const char *good, jepa_err *err) {
    char folder[PATH_MAX];
    struct stat a, b;
    const char *slash = strrchr(good, '/');
    if (strlen(good) >= sizeof folder) return err_set(err, JEPA_E_USE, "--good: too long a path");
    if (slash) snprintf(folder, sizeof folder, "%.*s", (int)(slash - good) + 1, good);
    if (access(slash ? folder : ".", W_OK | X_OK)) return err_set_at(err, JEPA_E_IO, good, -1, "%s: cannot be written in its folder: %s", good, strerror(errno));
    if (stat(good, &a)) return 0;
    for (int i = 0; i < inputs->n + l->n; i++) {
        const char *path = i < inputs->n ? inputs->at[i] : l->at[i - inputs->n].path;
        if (stat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
            return err_set(err, JEPA_E_USE, "--good %s: is one of the inputs and would be overwritten; name another file", good);
    }
    return 0;
}

static void print(const tally *t, const char *good) {
    double spent = clock_seconds() - t->from;
    if (t->c->json) {
        json_writer w = {0};
        jw_open(&w, NULL, '{');
        jw_int(&w, "items", t->l->n), jw_int(&w, "usable", t->good), jw_int(&w, "cut_short", t->cut), jw_int(&w, "bad", t->failed);
        jw_int(&w, "frames", t->frames), jw_double(&w, "video_seconds", t->seconds), jw_double(&w, "seconds", spent);
        jw_open(&w, "reasons", '[');
        for (int k = 0; k < t->n_causes; k++) {
            jw_open(&w, NULL, '{');
            jw_string(&w, "reason", t->causes[k].reason), jw_int(&w, "count", t->causes[k].count);
            jw_close(&w, '}');
        }
        jw_close(&w, ']');
        jw_open(&w, "named", '[');
        for (size_t k = 0; k < t->n; k++) {
            const item *it = &t->l->at[t->list[k].which];
            jw_open(&w, NULL, '{');
            jw_string(&w, "path", it->path), jw_int(&w, "line", it->line), jw_bool(&w, "usable", t->list[k].state == VERIFY_CUT);
            jw_string(&w, "text", t->list[k].text);
            jw_close(&w, '}');
        }
        jw_close(&w, ']');
        if (good) jw_string(&w, "good", good);
        jw_close(&w, '}');
        if (!w.failed) printf("%s\n", w.text);
        jw_free(&w);
        return;
    }
    for (size_t k = 0; k < t->n; k++) {
        const item *it = &t->l->at[t->list[k].which];
        if (it->line) printf("%s (line %d)\n", t->list[k].text, it->line);
        else printf("%s\n", t->list[k].text);
    }
    printf("%d items in %.1f s: %" PRId64 " usable (%" PRId64 " frames, %.2f h of video)", t->l->n, spent, t->good, t->frames, t->seconds / 3600);
    if (t->cut) printf(", %" PRId64 " of them cut short", t->cut);
    printf("; %" PRId64 " cannot be used (%.2f %%)\n", t->failed, 100.0 * (double)t->failed / t->l->n);
    for (int k = 0; k < t->n_causes; k++) printf("  %6" PRId64 "  %s\n", t->causes[k].count, t->causes[k].reason);
    if (good) printf("%s: a list of what is usable\n", good);
}

int cmd_verify(cli *c, int argc, char **argv) {
    jepa_err err = {0};
    text_list rest = {0};
    items in = {0};
    tally t = {.c = c, .l = &in, .from = clock_seconds()};
    int workers = 0;
    const char *good = NULL;
    const opt table[] = {
        {"--good", "FILE", "write a list of what is usable, with its labels", O_TEXT, &good, 0, 0, "-o"},
        {"--workers", "N", "items decoded at a time; default: --threads, the cores", O_INT, &workers, 1, 1024, NULL},
    };
    int rc = options_read(c, table, sizeof table / sizeof *table, argc, argv, usage, &rest, &err);
    if (rc) {
        rc = rc == 1 ? 0 : rc;
        goto done;
    }
    if (!rest.n) rc = err_set(&err, JEPA_E_USE, "nothing was named: jepa verify LIST…");
    for (int i = 0; i < rest.n && rc == 0; i++) rc = items_add(&in, rest.at[i], &err);
    if (rc == 0 && !in.n) rc = err_set(&err, JEPA_E_INPUT, "%s: no item in it", rest.at[0]);
    if (rc == 0 && good) rc = good_allowed(&in, &rest, good, &err);
    if (rc < 0) goto done;
    if (!(t.usable = calloc((size_t)in.n, 1))) {
        rc = err_set(&err, JEPA_E_MEMORY, "no memory for %d items", in.n);
        goto done;
    }
    const verify_cfg cfg = {.workers = workers ? workers : c->threads, .stop = cli_stopped, .item = ended, .ctx = &t};
    rc = verify_items(&in, &cfg, &err);
    cli_progress_end(c);
    if (rc == JEPA_E_CANCELLED) err_set(&err, rc, "stopped after %" PRId64 " of %d items; no list was written", t.done, in.n);
    if (rc == 0 && t.no_room) rc = err_set(&err, JEPA_E_MEMORY, "no memory to keep what was found");
    if (rc == 0 && good) rc = write_good(&t, good, &err);
    if (rc == 0) {
        if (t.n) qsort(t.list, t.n, sizeof *t.list, by_item);
        print(&t, good);
        if (t.failed) rc = t.failed == in.n ? err_set(&err, JEPA_E_IO, "none of the items can be used") : 1;
    }
done:
    for (size_t k = 0; k < t.n; k++) free(t.list[k].text);
    free(t.list), free(t.usable);
    items_free(&in);
    text_list_free(&rest);
    return cli_exit(c, rc, &err);
}
