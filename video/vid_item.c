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

enum { BUFFER = 1 << 15, MOST_IMAGE = 1 << 28 };

/* ---- a range of a file ---- */

int64_t vid_pread(const vid *v, void *to, size_t n, int64_t at) {
    if (at < 0 || at >= v->length) return 0;
    if ((int64_t)n > v->length - at) n = (size_t)(v->length - at);
    for (;;) {
        ssize_t k = pread(v->fd, to, n, (off_t)(v->base + at));
        if (k >= 0 || errno != EINTR) return k;
    }
}

static int range_read(void *ctx, uint8_t *to, int n) {
    vid *v = ctx;
    int64_t k = fault_point("video.range") ? -1 : vid_pread(v, to, (size_t)n, v->at);
    if (k < 0) return AVERROR(EIO);
    if (!k) return AVERROR_EOF;
    v->at += k;
    return (int)k;
}

static int64_t range_seek(void *ctx, int64_t to, int whence) {
    vid *v = ctx;
    whence &= ~AVSEEK_FORCE;
    if (whence == AVSEEK_SIZE) return v->length;
    if (whence == SEEK_CUR) to = to > INT64_MAX - v->at ? -1 : to + v->at;
    else if (whence == SEEK_END) to = to > INT64_MAX - v->length ? -1 : to + v->length;
    else if (whence != SEEK_SET) return AVERROR(EINVAL);
    if (to < 0) return AVERROR(EINVAL);
    return v->at = to;
}

int vid_range_open(vid *v) {
    uint8_t *buffer = av_malloc(BUFFER);
    v->at = 0;
    v->io = buffer ? avio_alloc_context(buffer, BUFFER, 0, v, range_read, NULL, range_seek) : NULL;
    if (v->io) return 0;
    av_free(buffer);
    return AVERROR(ENOMEM);
}

void vid_range_close(vid *v) {
    if (v->io) av_freep(&v->io->buffer); /* the demuxer may have put another in its place */
    avio_context_free(&v->io);
}

int vid_open_still(vid *v, jepa_err *err) {
    if (v->in == VID_IN_FILE) return image_read(&v->still, v->path, v->opts.as_stored, err);
    if (v->length > MOST_IMAGE) return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: an image of %lld bytes", v->path, (long long)v->length);
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

static int open_tar_member(vid *v, const item *it, jepa_err *err) {
    char *file = v->url; /* as long as the path and more */
    struct stat st;
    memcpy(file, it->path, it->inner - 1);
    file[it->inner - 1] = 0;
    v->fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (v->fd < 0 && (errno == ENOENT || errno == ENOTDIR)) return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: the tar is not found", v->path);
    if (v->fd < 0 || fstat(v->fd, &st))
        return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: the tar cannot be opened (%s)", v->path, strerror(errno));
    if (!S_ISREG(st.st_mode) || it->offset < 0 || it->size < 0 || it->offset > st.st_size || it->size > st.st_size - it->offset)
        return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: the tar has changed since it was listed: it ends at byte %lld", v->path,
                          (long long)st.st_size);
    v->in = VID_IN_RANGE;
    v->base = it->offset;
    v->length = it->size;
    return 0;
}

static int open_h5(vid *v, const item *it, jepa_err *err) {
    h5_facts f;
    char *file = v->url;
    memcpy(file, it->path, it->inner - 1);
    file[it->inner - 1] = 0;
    int rc = h5_frames_open(&v->set, file, it->path + it->inner, v->path, &f, err);
    if (rc < 0) return rc;
    v->frames = (int)f.frames;
    v->info = (vid_info){.width = f.width, .height = f.height, .frames = f.frames, .promised = f.frames, .fps = f.fps,
                         .duration = (double)f.frames / f.fps, .codec = "hdf5", .pix_fmt = "rgb24", .range = "pc", .matrix = "gbr"};
    v->in = VID_IN_H5;
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
