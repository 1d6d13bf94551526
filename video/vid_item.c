/* vid_item.c: what is opened from inside something else: a member of a tar (a range of its bytes, read in place) and frames of HDF5. */
#include "video/h5_frames.h"
#include "video/image.h"
#include "video/vid.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_IMAGE = 1 << 28 };

int vid_open_still(vid *v, jepa_err *err) {
    if (v->length > MOST_IMAGE)
        return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: an image of %lld bytes", v->path, (long long)v->length);
    size_t n = (size_t)v->length, have = 0;
    uint8_t *data = mem_alloc(n + 1, 1);
    if (!data) return err_set_at(err, JEPA_E_MEMORY, v->path, -1, "%s: no memory to read it", v->path);
    while (have < n) {
        int64_t k = vid_pread(v, data + have, n - have, (int64_t)have);
        if (k <= 0) break;
        have += (size_t)k;
    }
    int rc = have < n ? err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: cannot be read to its end", v->path)
                      : image_parse(&v->still, data, n, v->path, v->opts.as_stored, err);
    mem_free(data);
    return rc;
}

/* ---- items ---- */

/* The name of the file that the item lies in: mem_free. */
static char *file_of(const item *it) {
    char *file = mem_alloc(it->inner, 1);
    if (file) memcpy(file, it->path, it->inner - 1);
    return file;
}

static int open_tar_member(vid *v, const item *it, jepa_err *err) {
    char *file = file_of(it);
    struct stat st;
    if (!file) return err_set_at(err, JEPA_E_MEMORY, v->path, -1, "%s: no memory to open it", v->path);
    v->fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    mem_free(file);
    if (v->fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: the tar is not found", v->path);
    if (v->fd < 0 || fstat(v->fd, &st))
        return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: the tar cannot be opened (%s)", v->path, strerror(errno));
    if (!S_ISREG(st.st_mode) || it->offset < 0 || it->size < 0 || it->offset > st.st_size || it->size > st.st_size - it->offset)
        return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: the tar has changed since it was listed: it ends at byte %lld", v->path,
                          (long long)st.st_size);
    v->base = it->offset;
    v->length = it->size;
    return 0;
}

static int open_h5(vid *v, const item *it, jepa_err *err) {
    h5_facts f;
    char *file = file_of(it);
    if (!file) return err_set_at(err, JEPA_E_MEMORY, v->path, -1, "%s: no memory to open it", v->path);
    int rc = h5_frames_open(&v->set, file, it->path + it->inner, v->path, &f, err);
    mem_free(file);
    if (rc < 0) return rc;
    v->frames = (int)f.frames;
    v->info = (vid_info){.width = f.width,
                         .height = f.height,
                         .frames = f.frames,
                         .promised = f.frames,
                         .fps = f.fps,
                         .duration = (double)f.frames / f.fps,
                         .codec = "hdf5",
                         .pix_fmt = "rgb24",
                         .range = "pc",
                         .matrix = "gbr"};
    return 0;
}

int vid_open_item(vid **out, const item *it, const vid_opts *opts, jepa_err *err) {
    *out = NULL;
    if (!it || !it->path) return err_set(err, JEPA_E_USE, "no item");
    if (it->kind == ITEM_FILE) return vid_open(out, it->path, opts, err);
    if (it->kind == ITEM_BAD) return err_set_at(err, JEPA_E_INPUT, it->path, -1, "%s: %s", it->path, it->path + it->inner);
    size_t n = strlen(it->path);
    if (it->inner < 2 || it->inner > n || (it->kind != ITEM_TAR && it->kind != ITEM_H5))
        return err_set(err, JEPA_E_USE, "%s: an item of no kind that is known", it->path);
    vid *v = NULL;
    int rc = vid_new(&v, it->path, opts, err);
    if (rc == 0) rc = it->kind == ITEM_TAR ? open_tar_member(v, it, err) : open_h5(v, it, err);
    if (rc == 0 && it->kind == ITEM_TAR) rc = vid_open_bytes(v, err);
    if (rc < 0) vid_close(&v);
    *out = v;
    return rc;
}
