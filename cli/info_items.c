/* info_items.c: see info_items.h. */
#include "cli/info_items.h"
#include "video/video.h"

#include <stdio.h>
#include <string.h>

enum { MOST_NAMES = 32, MOST_REASONS = 5, MOST_OPENED = 10000 };

static void reasons(const items *l, json_writer *w) {
    int n = 0, all = 0;
    for (int i = 0; i < l->n; i++) all += l->at[i].kind == ITEM_BAD;
    if (!all) return;
    jw_int(w, "cannot_be_used", all);
    jw_open(w, "reasons", '[');
    for (int i = 0; i < l->n && n < MOST_REASONS; i++)
        if (l->at[i].kind == ITEM_BAD) jw_string(w, NULL, l->at[i].path + l->at[i].inner), n++;
    jw_close(w, ']');
}

static void of_tar(const items *l, json_writer *w) {
    int64_t labelled = 0, bytes = 0, samples = 0;
    for (int i = 0; i < l->n; i++) {
        if (l->at[i].kind != ITEM_TAR) continue;
        samples++;
        labelled += l->at[i].label != -1;
        bytes += l->at[i].size;
    }
    jw_string(w, "kind", "tar");
    jw_int(w, "samples", samples), jw_int(w, "labelled", labelled), jw_int(w, "bytes", bytes), jw_int(w, "other_members", l->ignored);
    reasons(l, w);
}

/* The group that a camera's data set belongs to: without "/obs/agentview", "/observations/images/cam_high" or the last name alone. */
static size_t episode(const char *set) {
    static const char *const ends[] = {"/obs", "/next_obs", "/observations/images", "/observations", "/images"};
    const char *slash = strrchr(set, '/');
    size_t n = slash ? (size_t)(slash - set) : strlen(set);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t k = strlen(ends[i]);
        if (n >= k && !memcmp(set + n - k, ends[i], k)) return n - k;
    }
    return n;
}

static int of_h5(const items *l, json_writer *w) {
    const char *camera[MOST_NAMES], *before = NULL;
    int cameras = 0, failed = 0;
    int64_t sets = 0, episodes = 0, frames = 0, least = INT64_MAX, most = 0;
    double fps = 0;
    size_t before_n = 0;
    for (int i = 0; i < l->n; i++) {
        if (l->at[i].kind != ITEM_H5) continue;
        const char *set = l->at[i].path + l->at[i].inner, *name = strrchr(set, '/');
        size_t n = episode(set);
        int known = 0;
        name = name ? name + 1 : set;
        if (!before || n != before_n || memcmp(set, before, n)) episodes++; /* sorted: those of an episode stand together */
        before = set, before_n = n;
        for (int k = 0; k < cameras && !known; k++) known = !strcmp(camera[k], name);
        if (!known && cameras < MOST_NAMES) camera[cameras++] = name;
        vid *v = NULL;
        if (++sets > MOST_OPENED) continue;
        if (vid_open_item(&v, &l->at[i], NULL, NULL) < 0) {
            failed++;
            continue;
        }
        const vid_info *f = vid_get_info(v);
        frames += f->frames;
        if (f->frames < least) least = f->frames;
        if (f->frames > most) most = f->frames;
        if (!fps) fps = f->fps;
        vid_close(&v);
    }
    jw_string(w, "kind", "HDF5");
    if (!sets) return 0;
    jw_int(w, "frame_sets", sets), jw_int(w, "episodes", episodes);
    jw_open(w, "cameras", '[');
    for (int k = 0; k < cameras; k++) jw_string(w, NULL, camera[k]);
    jw_close(w, ']');
    if (failed) jw_int(w, "frame_sets_unreadable", failed);
    if (most) jw_int(w, "frames", frames), jw_int(w, "shortest", least), jw_int(w, "longest", most), jw_double(w, "fps", fps);
    reasons(l, w);
    return 0;
}

int info_items(const char *path, json_writer *w, jepa_err *err) {
    items l = {0};
    const char *dot = strrchr(path, '.');
    if (!strcmp(path, "-") || (dot && (!strcmp(dot, ".txt") || !strcmp(dot, ".csv") || !strcmp(dot, ".npy") || !strcmp(dot, ".npz")))) return 0;
    int rc = items_add(&l, path, err), tar = 0, h5 = 0, bad = 0;
    for (int i = 0; i < l.n; i++) tar |= l.at[i].kind == ITEM_TAR, h5 |= l.at[i].kind == ITEM_H5, bad |= l.at[i].kind == ITEM_BAD;
    if (rc == 0 && h5) of_h5(&l, w);
    else if (rc == 0 && tar) of_tar(&l, w);
    else if (rc == 0 && bad) rc = err_set_at(err, JEPA_E_INPUT, path, -1, "%s: %s", path, l.at[0].path + l.at[0].inner);
    items_free(&l);
    return rc < 0 ? rc : tar || h5;
}
