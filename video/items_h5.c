/* items_h5.c: HDF5 files as items: one for each data set of frames. */
#include "video/h5_frames.h"
#include "video/items_in.h"

#include <stdio.h>
#include <string.h>

typedef struct into {
    items *l;
    const char *path;
    item_from from;
    jepa_err *err;
} into;

static int on_set(void *ctx, const char *set, const char *reason) {
    into *t = ctx;
    item it = {.label = t->from.label, .line = t->from.line, .list = t->from.list, .kind = ITEM_H5};
    if (!reason) return items_append_inner(t->l, t->path, ':', set, it, t->err);
    size_t n = strlen(t->path) + strlen(set) + 2;
    char *whole = mem_alloc(n, 1);
    if (!whole) return err_set(t->err, JEPA_E_MEMORY, "no memory for the list of files");
    snprintf(whole, n, "%s:%s", t->path, set);
    int rc = items_append_bad(t->l, whole, reason, t->from, t->err);
    mem_free(whole);
    return rc;
}

int items_add_h5(items *l, const char *path, item_from f, int searched, jepa_err *err) {
    into t = {l, path, f, err};
    jepa_err why = {0};
    int64_t others = 0;
    int before = l->n, rc;
    t.err = &why;
    rc = h5_frames_list(path, on_set, &t, &others, &why);
    l->ignored += others;
    if (rc == JEPA_E_MEMORY) return err_set_at(err, rc, path, -1, "%s", why.text);
    if (rc < 0) {
        size_t n = strlen(path);
        int named = !strncmp(why.text, path, n) && !strncmp(why.text + n, ": ", 2); /* the path is said by whoever reports the item */
        return items_append_bad(l, path, named ? why.text + n + 2 : why.text, f, err);
    }
    if (l->n > before || searched) return 0;
    char text[160];
    snprintf(text, sizeof text, "no data set of frames (uint8 [T,H,W,3]) in this HDF5 file; it has %lld other%s", (long long)others,
             others == 1 ? "" : "s");
    return items_append_bad(l, path, text, f, err);
}
