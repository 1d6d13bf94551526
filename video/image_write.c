/* image_write.c: PNG files through libavcodec's encoder, written aside and renamed. */
#include "video/image.h"

#include <libavcodec/avcodec.h>
#include <string.h>

int image_write_png(const char *path, const uint8_t *rgb, int width, int height, jepa_err *err) {
    if (width < 1 || height < 1 || width > IMAGE_MOST_SIDE || height > IMAGE_MOST_SIDE || (int64_t)width * height > IMAGE_MOST_PIXELS)
        return err_set(err, JEPA_E_USE, "%s: a picture of %dx%d cannot be written", path, width, height);
    const AVCodec *codec = avcodec_find_encoder(AV_CODEC_ID_PNG);
    if (!codec) return err_set(err, JEPA_E_USE, "%s: this FFmpeg has no PNG encoder", path);
    int rc = err_set(err, JEPA_E_MEMORY, "%s: no memory for a picture of %dx%d", path, width, height);
    AVCodecContext *c = avcodec_alloc_context3(codec);
    AVFrame *f = av_frame_alloc();
    AVPacket *p = av_packet_alloc();
    if (!c || !f || !p) goto done;
    c->width = f->width = width;
    c->height = f->height = height;
    c->pix_fmt = f->format = AV_PIX_FMT_RGB24;
    c->time_base = (AVRational){1, 1};
    c->thread_count = 1;
    if (av_frame_get_buffer(f, 0) < 0 || avcodec_open2(c, codec, NULL) < 0) goto done;
    for (int y = 0; y < height; y++)
        memcpy(f->data[0] + (ptrdiff_t)y * f->linesize[0], rgb + (size_t)y * (size_t)width * 3, (size_t)width * 3);
    if (avcodec_send_frame(c, f) < 0 || avcodec_send_frame(c, NULL) < 0 || avcodec_receive_packet(c, p) < 0) goto done;
    if (err) *err = (jepa_err){0};
    rc = file_write_atomic(path, p->data, (size_t)p->size, err);
done:
    av_packet_free(&p);
    av_frame_free(&f);
    avcodec_free_context(&c);
    return rc;
}
