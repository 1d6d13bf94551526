/* vid_range.c: how the demuxer reads: a range of a file, whole or a member of a tar, by pread.
 *
 * "Blind": the bytes of samples whose place the container's index gives are not read at all, zeros stand for them; then the demuxer lists
 * packets with their times at the cost of the header. */
#include "video/vid.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER = 1 << 15 };

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
    int64_t k = n;
    if (v->at >= v->blind_from && v->at < v->blind_to) { /* both 0 where all is read */
        if (k > v->blind_to - v->at) k = v->blind_to - v->at;
        memset(to, 0, (size_t)k);
    } else {
        if (v->at < v->blind_from && k > v->blind_from - v->at) k = v->blind_from - v->at;
        k = fault_point("video.range") ? -1 : vid_pread(v, to, (size_t)k, v->at);
        if (k < 0) return AVERROR(EIO);
    }
    if (!k) return AVERROR_EOF;
    v->at += k;
    return (int)k;
}

static int64_t range_seek(void *ctx, int64_t to, int whence) {
    vid *v = ctx;
    whence &= ~AVSEEK_FORCE;
    if (whence == AVSEEK_SIZE) return v->length;
    if (whence == SEEK_CUR)
        to = to > INT64_MAX - v->at ? -1 : to + v->at;
    else if (whence == SEEK_END)
        to = to > INT64_MAX - v->length ? -1 : to + v->length;
    else if (whence != SEEK_SET)
        return AVERROR(EINVAL);
    if (to < 0) return AVERROR(EINVAL);
    return v->at = to;
}

int vid_range_open(vid *v) {
    uint8_t *buffer = av_malloc(BUFFER);
    v->at = v->blind_from = v->blind_to = 0;
    v->io = buffer ? avio_alloc_context(buffer, BUFFER, 0, v, range_read, NULL, range_seek) : NULL;
    if (v->io) return 0;
    av_free(buffer);
    return AVERROR(ENOMEM);
}

void vid_range_close(vid *v) {
    if (v->io) av_freep(&v->io->buffer); /* the demuxer may have put another in its place */
    avio_context_free(&v->io);
}

void vid_blind(vid *v, int64_t from, int64_t to) {
    v->io->direct = 1; /* a seek then forgets what the buffer holds */
    avio_seek(v->io, v->at, SEEK_SET);
    v->io->direct = 0;
    v->blind_from = from;
    v->blind_to = to;
}
