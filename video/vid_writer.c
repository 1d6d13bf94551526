/* vid_writer.c: small videos written: H.264 in MP4, BT.709 limited range, the same bytes for the same input.
 *
 * Written to PATH.tmp and renamed when whole; not synced to the disk, thousands of small files would take minutes. Without libx264 in this
 * FFmpeg the encoder is MPEG-4 part 2 (every FFmpeg has it; larger files), and `lossless` is refused. */
#include "video/video.h"

#include <errno.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct vid_writer {
    char *path, *aside, *url;
    vid_write_cfg cfg;
    AVFormatContext *fmt;
    AVCodecContext *enc;
    AVStream *stream;
    AVFrame *frame;
    AVPacket *pkt;
    struct SwsContext *sws;
    uint8_t *line; /* the picture with rows padded: swscale's vector code reads past the last pixel */
    int stride;
    int64_t frames;
    int created;
};

static int failed(vid_writer *w, int code, jepa_err *err, const char *what, int rc) {
    return err_set_at(err, code, w->path, -1, "%s: %s (%s)", w->path, what, av_err2str(rc));
}

static int check(const char *path, const vid_write_cfg *c, jepa_err *err) {
    if (!path || !*path) return err_set(err, JEPA_E_USE, "no file name to write a video to");
    if (c->width < 2 || c->height < 2 || c->width > 16384 || c->height > 16384 || (int64_t)c->width * c->height > 1 << 28)
        return err_set_at(err, JEPA_E_USE, path, -1, "%s: a video of %d×%d: sides of 2 … 16384", path, c->width, c->height);
    if (!c->lossless && (c->width % 2 || c->height % 2))
        return err_set_at(err, JEPA_E_USE, path, -1, "%s: a video of %d×%d: 4:2:0 needs even sides (lossless does not)", path, c->width,
                          c->height);
    if (!(c->fps >= 0.001 && c->fps <= 1000))
        return err_set_at(err, JEPA_E_USE, path, -1, "%s: %g frames per second: 0.001 … 1000", path, c->fps);
    if (c->crf < 0 || c->crf > 51) return err_set_at(err, JEPA_E_USE, path, -1, "%s: crf %d: 0 … 51", path, c->crf);
    if (c->gop < 0 || c->gop > 1 << 20) return err_set_at(err, JEPA_E_USE, path, -1, "%s: a group of %d pictures", path, c->gop);
    return 0;
}

static int open_encoder(vid_writer *w, jepa_err *err) {
    const vid_write_cfg *c = &w->cfg;
    const AVCodec *codec = fault_point("writer.x264") ? NULL : avcodec_find_encoder_by_name("libx264");
    int x264 = codec != NULL;
    if (!x264 && c->lossless) return err_set_at(err, JEPA_E_UNSUPPORTED, w->path, -1, "%s: lossless needs an FFmpeg with libx264", w->path);
    if (!x264) codec = avcodec_find_encoder(AV_CODEC_ID_MPEG4);
    if (!codec)
        return err_set_at(err, JEPA_E_UNSUPPORTED, w->path, -1, "%s: this FFmpeg has neither libx264 nor the mpeg4 encoder", w->path);
    w->enc = fault_point("writer.encoder") ? NULL : avcodec_alloc_context3(codec);
    if (!w->enc) return failed(w, JEPA_E_MEMORY, err, "no memory for an encoder", AVERROR(ENOMEM));
    AVCodecContext *e = w->enc;
    AVRational rate = av_d2q(c->fps, 100000);
    e->width = c->width, e->height = c->height;
    e->pix_fmt = c->lossless ? AV_PIX_FMT_YUV444P : AV_PIX_FMT_YUV420P;
    e->time_base = av_inv_q(rate);
    e->framerate = rate;
    e->gop_size = c->gop > 0 ? c->gop : 250;
    e->thread_count = 1; /* the bytes do not depend on the machine */
    e->flags |= AV_CODEC_FLAG_BITEXACT | AV_CODEC_FLAG_GLOBAL_HEADER;
    e->colorspace = AVCOL_SPC_BT709, e->color_range = AVCOL_RANGE_MPEG;
    e->color_primaries = AVCOL_PRI_BT709, e->color_trc = AVCOL_TRC_BT709;
    int rc;
    if (x264) {
        /* veryfast with a short look-ahead: opening the encoder is most of the cost of a clip of 16 small frames */
        av_opt_set(e->priv_data, "preset", "veryfast", 0);
        av_opt_set(e->priv_data, "x264-params", "rc-lookahead=8:sync-lookahead=0:bframes=2", 0);
        av_opt_set_double(e->priv_data, "crf", c->lossless ? 0 : c->crf, 0);
        if (c->lossless) av_opt_set_int(e->priv_data, "qp", 0, 0);
    } else {
        e->flags |= AV_CODEC_FLAG_QSCALE;
        e->global_quality = FF_QP2LAMBDA * (c->crf < 8 ? 1 : c->crf / 4); /* its scale of 1 … 31 for ours of 0 … 51 */
    }
    if ((rc = avcodec_open2(e, codec, NULL)) >= 0) return 0;
    return failed(w, JEPA_E_UNSUPPORTED, err, "the video encoder refuses this size and rate", rc);
}

static int open_output(vid_writer *w, jepa_err *err) {
    int rc = fault_point("writer.format") ? AVERROR(ENOMEM) : avformat_alloc_output_context2(&w->fmt, NULL, "mp4", NULL);
    if (rc < 0) return failed(w, JEPA_E_MEMORY, err, "no MP4 writer", rc);
    w->fmt->flags |= AVFMT_FLAG_BITEXACT; /* no version, no time of day */
    w->stream = avformat_new_stream(w->fmt, NULL);
    if (!w->stream || avcodec_parameters_from_context(w->stream->codecpar, w->enc) < 0)
        return failed(w, JEPA_E_MEMORY, err, "no memory", AVERROR(ENOMEM));
    w->stream->time_base = w->enc->time_base;
    w->stream->avg_frame_rate = w->enc->framerate;
    rc = fault_point("writer.create") ? AVERROR(EACCES) : avio_open(&w->fmt->pb, w->url, AVIO_FLAG_WRITE);
    if (rc < 0) return failed(w, JEPA_E_IO, err, "cannot be written", rc);
    w->created = 1;
    if ((rc = avformat_write_header(w->fmt, NULL)) < 0) return failed(w, JEPA_E_IO, err, "cannot be written", rc);
    return 0;
}

static int open_picture(vid_writer *w, jepa_err *err) {
    const AVCodecContext *e = w->enc;
    w->pkt = av_packet_alloc();
    w->frame = av_frame_alloc();
    w->stride = (e->width * 3 + 127) / 64 * 64 + 64;
    w->line = mem_alloc((size_t)e->height + 1, (size_t)w->stride);
    w->sws = sws_getContext(e->width, e->height, AV_PIX_FMT_RGB24, e->width, e->height, e->pix_fmt,
                            SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP, NULL, NULL, NULL);
    if (!w->pkt || !w->frame || !w->line || !w->sws) return failed(w, JEPA_E_MEMORY, err, "no memory for a picture", AVERROR(ENOMEM));
    sws_setColorspaceDetails(w->sws, sws_getCoefficients(SWS_CS_DEFAULT), 1, sws_getCoefficients(SWS_CS_ITU709), 0, 0, 1 << 16, 1 << 16);
    w->frame->format = e->pix_fmt, w->frame->width = e->width, w->frame->height = e->height;
    w->frame->colorspace = e->colorspace, w->frame->color_range = e->color_range;
    w->frame->color_primaries = e->color_primaries, w->frame->color_trc = e->color_trc;
    if (av_frame_get_buffer(w->frame, 0) < 0) return failed(w, JEPA_E_MEMORY, err, "no memory for a picture", AVERROR(ENOMEM));
    return 0;
}

int vid_writer_open(vid_writer **out, const char *path, const vid_write_cfg *c, jepa_err *err) {
    *out = NULL;
    int rc = check(path, c, err);
    if (rc < 0) return rc;
    size_t n = strlen(path);
    vid_writer *w = mem_alloc(1, sizeof *w);
    if (w) {
        w->cfg = *c;
        w->path = mem_alloc(n + 1, 1), w->aside = mem_alloc(n + 5, 1), w->url = mem_alloc(n + 10, 1);
    }
    if (!w || !w->path || !w->aside || !w->url) {
        rc = err_set_at(err, JEPA_E_MEMORY, path, -1, "%s: no memory to write it", path);
        goto fail;
    }
    memcpy(w->path, path, n + 1);
    snprintf(w->aside, n + 5, "%s.tmp", path);
    snprintf(w->url, n + 10, "file:%s.tmp", path);
    if ((rc = open_encoder(w, err)) < 0 || (rc = open_picture(w, err)) < 0 || (rc = open_output(w, err)) < 0) goto fail;
    *out = w;
    return 0;
fail:
    vid_writer_abort(&w);
    return rc;
}

/* Hands frame (NULL: no more) to the encoder and writes what comes out. */
static int encode(vid_writer *w, const AVFrame *frame, jepa_err *err) {
    int rc = avcodec_send_frame(w->enc, frame);
    if (rc < 0) return failed(w, JEPA_E_IO, err, "encoding failed", rc);
    while ((rc = avcodec_receive_packet(w->enc, w->pkt)) >= 0) {
        if (w->pkt->duration <= 0) w->pkt->duration = 1;
        av_packet_rescale_ts(w->pkt, w->enc->time_base, w->stream->time_base);
        w->pkt->stream_index = 0;
        rc = fault_point("writer.write") ? AVERROR(ENOSPC) : av_interleaved_write_frame(w->fmt, w->pkt);
        av_packet_unref(w->pkt);
        if (rc < 0) return failed(w, JEPA_E_IO, err, "cannot be written", rc);
    }
    return rc == AVERROR(EAGAIN) || rc == AVERROR_EOF ? 0 : failed(w, JEPA_E_IO, err, "encoding failed", rc);
}

int vid_writer_add(vid_writer *w, const uint8_t *rgb, jepa_err *err) {
    size_t row = (size_t)w->cfg.width * 3;
    int rc = av_frame_make_writable(w->frame);
    if (rc < 0) return failed(w, JEPA_E_MEMORY, err, "no memory for a picture", rc);
    for (int y = 0; y < w->cfg.height; y++) memcpy(w->line + (size_t)y * (size_t)w->stride, rgb + (size_t)y * row, row);
    const uint8_t *from[4] = {w->line, NULL, NULL, NULL};
    int stride[4] = {w->stride, 0, 0, 0};
    if ((rc = sws_scale(w->sws, from, stride, 0, w->cfg.height, w->frame->data, w->frame->linesize)) < 0)
        return failed(w, JEPA_E_IO, err, "a picture cannot be converted", rc);
    w->frame->pts = w->frames++;
    w->frame->quality = w->enc->global_quality; /* of the mpeg4 encoder */
    return encode(w, w->frame, err);
}

int vid_writer_finish(vid_writer **pw, jepa_err *err) {
    vid_writer *w = *pw;
    int rc = w->frames ? encode(w, NULL, err) : err_set_at(err, JEPA_E_USE, w->path, -1, "%s: a video without frames", w->path);
    if (rc == 0) {
        int e = av_write_trailer(w->fmt);
        if (e >= 0 && w->fmt->pb->error < 0) e = w->fmt->pb->error;
        int closed = avio_closep(&w->fmt->pb);
        if (e >= 0 && closed < 0) e = closed;
        if (e >= 0 && (fault_point("writer.rename") || rename(w->aside, w->path))) e = AVERROR(errno ? errno : EIO);
        if (e < 0)
            rc = failed(w, JEPA_E_IO, err, "cannot be written", e);
        else
            w->created = 0;
    }
    vid_writer_abort(pw);
    return rc;
}

void vid_writer_abort(vid_writer **pw) {
    vid_writer *w = pw ? *pw : NULL;
    if (!w) return;
    if (w->fmt) avio_closep(&w->fmt->pb);
    if (w->created) unlink(w->aside);
    avformat_free_context(w->fmt);
    avcodec_free_context(&w->enc);
    av_frame_free(&w->frame);
    av_packet_free(&w->pkt);
    sws_freeContext(w->sws);
    mem_free(w->line);
    mem_free(w->path);
    mem_free(w->aside);
    mem_free(w->url);
    mem_free(w);
    *pw = NULL;
}
