/* vid_convert.c: a decoded picture to upright RGB: matrix and range as tagged, by libswscale.
 *
 * A video without colour tags is read as BT.601 limited range at every size, as ffmpeg does. Transfer functions are left alone (HDR is not
 * tone-mapped), pixels are taken as square, alpha is dropped: the published models were trained on pictures read like this. */
#include "video/vid.h"

#include <libswscale/swscale.h>
#include <math.h>
#include <string.h>

/* The display matrix of the stream, or NULL. Where it is kept moved in FFmpeg 6.1. */
static const int32_t *display_matrix(const AVStream *st) {
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 102)
    const AVCodecParameters *p = st->codecpar;
    const AVPacketSideData *s = av_packet_side_data_get(p->coded_side_data, p->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
    return s && s->size >= 9 * sizeof(int32_t) ? (const int32_t *)s->data : NULL;
#else
    size_t size = 0;
    const uint8_t *s = av_stream_get_side_data(st, AV_PKT_DATA_DISPLAYMATRIX, &size);
    return s && size >= 9 * sizeof(int32_t) ? (const int32_t *)s : NULL;
#endif
}

/* The matrix maps stored (p,q) to shown (a·p + c·q, b·p + d·q). Quarter turns and mirrors are followed, other angles are
 * not (as stored). */
static void upright(vid *v, const int32_t *m) {
    double a = m[0], b = m[1], c = m[3], d = m[4];
    double small = 0.02, ab = hypot(a, b), cd = hypot(c, d); /* a hundredth of a turn's sine: rounding of 16.16 numbers, no more */
    if (!(ab > 0) || !(cd > 0)) return;
    a /= ab, b /= ab, c /= cd, d /= cd;
    int straight = fabs(b) < small && fabs(c) < small, turned = fabs(a) < small && fabs(d) < small;
    if (!straight && !turned) return;
    if (!v->opts.as_stored) v->swap = turned, v->flip_x = (turned ? b : a) < 0, v->flip_y = (turned ? c : d) < 0;
    int turn = (int)lround(atan2(b, a) * 2 / 3.14159265358979323846); /* quarter turns clockwise (y points down) */
    v->info.rotation = (turn + 4) % 4 * 90;
}

int vid_convert_open(vid *v, jepa_err *err) {
    const AVCodecParameters *p = v->fmt->streams[v->stream]->codecpar;
    v->stored_w = p->width, v->stored_h = p->height;
    const int32_t *m = display_matrix(v->fmt->streams[v->stream]);
    if (m) upright(v, m);
    v->info.width = v->swap ? v->stored_h : v->stored_w;
    v->info.height = v->swap ? v->stored_w : v->stored_h;
    v->stride = ((size_t)v->stored_w * 3 + 127) / 64 * 64 + 64; /* swscale's vector code writes past the last pixel */
    v->line = mem_alloc((size_t)v->stored_h + 1, v->stride);
    if (v->line && !fault_point("video.picture")) return 0;
    return err_set_at(err, JEPA_E_MEMORY, v->path, -1, "%s: no memory for a picture", v->path);
}

void vid_convert_close(vid *v) {
    sws_freeContext(v->sws);
    v->sws = NULL;
    mem_free(v->line);
    v->line = NULL;
}

/* The old "J" formats are the plain ones with full range. */
static int plain_format(int f, int *full) {
    int plain = f;
    switch (f) {
    case AV_PIX_FMT_YUVJ420P:
        plain = AV_PIX_FMT_YUV420P;
        break;
    case AV_PIX_FMT_YUVJ422P:
        plain = AV_PIX_FMT_YUV422P;
        break;
    case AV_PIX_FMT_YUVJ444P:
        plain = AV_PIX_FMT_YUV444P;
        break;
    case AV_PIX_FMT_YUVJ440P:
        plain = AV_PIX_FMT_YUV440P;
        break;
    case AV_PIX_FMT_YUVJ411P:
        plain = AV_PIX_FMT_YUV411P;
        break;
    default:
        break;
    }
    if (plain != f) *full = 1;
    return plain;
}

/* swscale's name for a matrix; -1: it has none (YCgCo, ICtCp …), and guessing would give wrong colours without a word. */
static int matrix_of(enum AVColorSpace s) {
    switch (s) {
    case AVCOL_SPC_BT709:
        return SWS_CS_ITU709;
    case AVCOL_SPC_FCC:
        return SWS_CS_FCC;
    case AVCOL_SPC_SMPTE240M:
        return SWS_CS_SMPTE240M;
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL:
        return SWS_CS_BT2020;
    case AVCOL_SPC_UNSPECIFIED:
    case AVCOL_SPC_RESERVED:
    case AVCOL_SPC_BT470BG:
    case AVCOL_SPC_SMPTE170M:
    case AVCOL_SPC_RGB:
        return SWS_CS_ITU601;
    default:
        return -1;
    }
}

static int prepare(vid *v, const AVFrame *f, jepa_err *err) {
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(f->format);
    int full = f->color_range == AVCOL_RANGE_JPEG, matrix = matrix_of(f->colorspace);
    int format = plain_format(f->format, &full);
    if (!d || !sws_isSupportedInput(format)) {
        return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: pixel format %s cannot be converted", v->path, d ? d->name : "unknown");
    }
    /* grey without a tag is full range, as ffmpeg has it */
    if (d->nb_components < 3 && f->color_range == AVCOL_RANGE_UNSPECIFIED) full = 1;
    if (matrix < 0 && !(d->flags & AV_PIX_FMT_FLAG_RGB) && d->nb_components >= 3) {
        const char *name = av_color_space_name(f->colorspace);
        return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: colour matrix %s cannot be converted", v->path, name ? name : "unknown");
    }
    if (matrix < 0) matrix = SWS_CS_ITU601;
    int same_size = v->sws_w == f->width && v->sws_h == f->height;
    if (v->sws && same_size && v->sws_fmt == format && v->sws_full == full && v->sws_matrix == matrix) return 0;
    sws_freeContext(v->sws);
    v->sws = fault_point("video.swscale") ? NULL
                                          : sws_getContext(f->width, f->height, format, v->stored_w, v->stored_h, AV_PIX_FMT_RGB24,
                                                           SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT, NULL, NULL, NULL);
    if (!v->sws) {
        return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: a picture of %d×%d, %s, cannot be converted", v->path, f->width, f->height,
                          d->name);
    }
    if (!(d->flags & AV_PIX_FMT_FLAG_RGB)) {
        /* fails for formats that need no matrix; nothing is lost then */
        sws_setColorspaceDetails(v->sws, sws_getCoefficients(matrix), full, sws_getCoefficients(SWS_CS_DEFAULT), 1, 0, 1 << 16, 1 << 16);
    }
    v->sws_w = f->width, v->sws_h = f->height, v->sws_fmt = format, v->sws_full = full, v->sws_matrix = matrix;
    return 0;
}

int vid_convert(vid *v, const AVFrame *f, uint8_t *rgb, jepa_err *err) {
    if (f->width < 1 || f->height < 1 || f->width > VID_MAX_SIDE || f->height > VID_MAX_SIDE) {
        return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: a picture of %d×%d", v->path, f->width, f->height);
    }
    int rc = prepare(v, f, err);
    if (rc < 0) return rc;
    uint8_t *to[4] = {v->line, NULL, NULL, NULL};
    int stride[4] = {(int)v->stride, 0, 0, 0};
    if (sws_scale(v->sws, (const uint8_t *const *)f->data, f->linesize, 0, f->height, to, stride) < 0) {
        return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: a picture cannot be converted", v->path);
    }
    int w = v->info.width, h = v->info.height;
    for (int y = 0; y < h; y++) {
        uint8_t *o = rgb + (size_t)y * (size_t)w * 3;
        if (!v->swap && !v->flip_x) {
            memcpy(o, v->line + (size_t)(v->flip_y ? h - 1 - y : y) * v->stride, (size_t)w * 3);
            continue;
        }
        for (int x = 0; x < w; x++, o += 3) {
            int p = v->swap ? y : x, q = v->swap ? x : y;
            if (v->flip_x) p = v->stored_w - 1 - p;
            if (v->flip_y) q = v->stored_h - 1 - q;
            const uint8_t *i = v->line + (size_t)q * v->stride + (size_t)p * 3;
            o[0] = i[0], o[1] = i[1], o[2] = i[2];
        }
    }
    return 0;
}
