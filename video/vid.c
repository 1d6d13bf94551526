/* vid.c: opening a video: what the file is, which stream, why it cannot be used. */
#include "video/vid.h"

#include <errno.h>
#include <fcntl.h>
#include <libavutil/log.h>
#include <libswscale/swscale.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Containers that are read. Playlists (hls, dash, concat, sdp …) would open other files or addresses and are refused,
 * as is anything else. */
static const char *const containers[] = {"mov", "matroska", "webm", "avi", "mpegts", "mpeg", "flv", "ogg", "asf", NULL};
static const char readable[] = "mp4, mov, mkv, webm, avi, ts, mpg, flv, ogv, wmv";

void video_quiet(void) { av_log_set_level(AV_LOG_QUIET); }

static int bad(vid *v, jepa_err *err, const char *reason) { return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: %s", v->path, reason); }

/* ---- what the bytes say ---- */

static int looks_like_image(const uint8_t *b, size_t n) {
    return (n >= 3 && !memcmp(b, "\xff\xd8\xff", 3)) || (n >= 8 && !memcmp(b, "\x89PNG\r\n\x1a\n", 8)) ||
           (n >= 14 && !memcmp(b, "BM", 2) && !b[6] && !b[7]) || (n >= 6 && (!memcmp(b, "GIF87a", 6) || !memcmp(b, "GIF89a", 6))) ||
           (n >= 12 && !memcmp(b, "RIFF", 4) && !memcmp(b + 8, "WEBP", 4)) ||
           (n >= 4 && (!memcmp(b, "II*\0", 4) || !memcmp(b, "MM\0*", 4)));
}

static int looks_like_heif(const uint8_t *b, size_t n) {
    static const char brand[][5] = {"heic", "heix", "mif1", "msf1", "avif", "avis"};
    if (n < 12 || memcmp(b + 4, "ftyp", 4)) return 0;
    for (size_t i = 0; i < sizeof brand / sizeof *brand; i++)
        if (!memcmp(b + 8, brand[i], 4)) return 1;
    return 0;
}

/* 1: a moov box stands at the top level of this MP4 file. */
static int has_moov(const vid *v) {
    int found = 0;
    uint8_t b[16];
    uint64_t at = 0;
    for (int boxes = 0; boxes < 100000 && !found; boxes++) {
        int64_t k = vid_pread(v, b, sizeof b, (int64_t)at);
        if (k < 8) break;
        uint64_t size = (uint64_t)b[0] << 24 | (uint64_t)b[1] << 16 | (uint64_t)b[2] << 8 | b[3], least = 8;
        if (size == 1 && k == 16) {
            size = 0, least = 16;
            for (int i = 8; i < 16; i++) size = size << 8 | b[i];
        }
        found = !memcmp(b + 4, "moov", 4);
        if (size < least || size > (uint64_t)INT64_MAX - at) break; /* 0: to the end of the file */
        at += size;
    }
    return found;
}

/* ---- the demuxer ---- */

static int no_other_files(AVFormatContext *s, AVIOContext **pb, const char *url, int flags, AVDictionary **options) {
    return AVERROR(EPERM); /* a container that names another file does not get it */
}

static int probe(vid *v, jepa_err *err) {
    /* without a name: by content only, or a text called x.mp4 would count as MP4 */
    int score = v->format ? AVPROBE_SCORE_MAX : av_probe_input_buffer2(v->io, &v->format, "", NULL, 0, 0);
    if (score < AVPROBE_SCORE_RETRY || !v->format) return bad(v, err, "not a media file");
    for (int i = 0; containers[i]; i++)
        if (av_match_name(containers[i], v->format->name)) return 0;
    if (score < AVPROBE_SCORE_EXTENSION) return bad(v, err, "not a media file"); /* FFmpeg's guess at some bytes */
    const char *f = v->format->name;
    if (!strcmp(f, "aac") || !strcmp(f, "mp3") || !strcmp(f, "wav") || !strcmp(f, "flac"))
        return bad(v, err, "no video stream (an audio file)");
    return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: format not read: %s (%s are)", v->path, f, readable);
}

static int pick_stream(vid *v, jepa_err *err) {
    int audio = 0, cover = 0, best = -1;
    for (unsigned i = 0; i < v->fmt->nb_streams; i++) {
        const AVStream *st = v->fmt->streams[i];
        if (st->codecpar->codec_type == AVMEDIA_TYPE_AUDIO) audio++;
        if (st->codecpar->codec_type != AVMEDIA_TYPE_VIDEO) continue;
        if (st->disposition & AV_DISPOSITION_ATTACHED_PIC) {
            cover++;
        } else if (best < 0 || (st->disposition & ~v->fmt->streams[best]->disposition & AV_DISPOSITION_DEFAULT)) {
            best = (int)i; /* the first, unless a later one is marked as the default */
        }
    }
    if (best >= 0) {
        v->stream = best;
        return 0;
    }
    if (cover) return bad(v, err, "only a cover picture, no video");
    return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: no video stream (%d audio stream%s found)", v->path, audio,
                      audio == 1 ? "" : "s");
}

static int find_streams(vid *v) {
    unsigned n = v->fmt->nb_streams;
    AVDictionary **o = n ? mem_alloc(n, sizeof *o) : NULL;
    if (n && !o) return AVERROR(ENOMEM);
    for (unsigned i = 0; i < n; i++) av_dict_set_int(&o[i], "max_pixels", VID_MAX_PIXELS, 0);
    for (unsigned i = 0; i < n; i++)
        if (v->fmt->streams[i]->codecpar->codec_type != AVMEDIA_TYPE_VIDEO) v->fmt->streams[i]->discard = AVDISCARD_ALL;
    int rc = avformat_find_stream_info(v->fmt, o);
    for (unsigned i = 0; i < n; i++) av_dict_free(&o[i]);
    mem_free(o);
    return rc;
}

void vid_demux_close(vid *v) {
    avformat_close_input(&v->fmt);
    vid_range_close(v);
    v->next = -1;
    v->have = 0;
}

int vid_demux(vid *v, jepa_err *err) {
    AVDictionary *o = NULL;
    vid_demux_close(v);
    int rc = fault_point("video.open") ? AVERROR(EIO) : vid_range_open(v);
    if (rc < 0) return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: cannot be opened (%s)", v->path, av_err2str(rc));
    if ((rc = probe(v, err)) < 0) return rc;
    v->fmt = fault_point("video.format") ? NULL : avformat_alloc_context();
    if (!v->fmt) return err_set_at(err, JEPA_E_MEMORY, v->path, -1, "%s: no memory to open it", v->path);
    v->fmt->pb = v->io;
    v->fmt->io_open = no_other_files;
    av_dict_set(&o, "protocol_whitelist", "file", 0);
    rc = avformat_open_input(&v->fmt, "", v->format, &o); /* frees and nulls fmt when it fails */
    av_dict_free(&o);
    if (rc < 0) {
        if (av_match_name("mov", v->format->name) && !has_moov(v))
            return bad(v, err, "no index (moov atom missing): cut short, or never closed by what recorded it");
        return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: damaged %s header (%s)", v->path, v->format->name, av_err2str(rc));
    }
    if (find_streams(v) < 0) return bad(v, err, "damaged: its streams cannot be made out");
    if ((rc = pick_stream(v, err)) < 0) return rc;
    for (unsigned i = 0; i < v->fmt->nb_streams; i++) v->fmt->streams[i]->discard = (int)i == v->stream ? AVDISCARD_DEFAULT : AVDISCARD_ALL;
    v->time_base = v->fmt->streams[v->stream]->time_base;
    if (v->time_base.num < 1 || v->time_base.den < 1) return bad(v, err, "damaged: its time base is not a number");
    const AVStream *st = v->fmt->streams[v->stream];
    AVRational r = st->avg_frame_rate.num > 0 && st->avg_frame_rate.den > 0 ? st->avg_frame_rate : st->r_frame_rate;
    v->rate = r.num > 0 && r.den > 0 ? av_q2d(r) : 0;
    v->next = 0;
    return 0;
}

static int make_decoder(vid *v, jepa_err *err) {
    const AVCodecParameters *p = v->fmt->streams[v->stream]->codecpar;
    const AVCodec *c = avcodec_find_decoder(p->codec_id);
    const char *name = avcodec_get_name(p->codec_id);
    if (!c) return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: no decoder for %s in this FFmpeg", v->path, name);
    if (p->width < 1 || p->height < 1) return bad(v, err, "no frames: the picture size is not known");
    if (p->width > VID_MAX_SIDE || p->height > VID_MAX_SIDE || (int64_t)p->width * p->height > VID_MAX_PIXELS)
        return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: pictures of %d×%d are too large (at most %d a side)", v->path, p->width,
                          p->height, VID_MAX_SIDE);
    v->dec = fault_point("video.decoder") ? NULL : avcodec_alloc_context3(c);
    if (!v->pkt) v->pkt = av_packet_alloc();
    if (!v->frame) v->frame = av_frame_alloc();
    if (!v->dec || !v->pkt || !v->frame || avcodec_parameters_to_context(v->dec, p) < 0)
        return err_set_at(err, JEPA_E_MEMORY, v->path, -1, "%s: no memory for a decoder", v->path);
    v->dec->max_pixels = VID_MAX_PIXELS;
    v->dec->flags |= AV_CODEC_FLAG_UNALIGNED; /* crop exactly, also where the left edge is then not aligned */
    v->dec->thread_count = v->opts.threads < 1 ? 1 : v->opts.threads > 64 ? 64 : v->opts.threads;
    v->dec->thread_type = FF_THREAD_FRAME | FF_THREAD_SLICE;
    v->dec->pkt_timebase = v->time_base;
    return 0;
}

/* After the packets are known: how many frames are held back for reordering has to be set before the decoder (and its threads) start. */
int vid_start_decoder(vid *v, jepa_err *err) {
    int rc = avcodec_open2(v->dec, v->dec->codec, NULL);
    if (rc == 0) return 0;
    const char *name = avcodec_get_name(v->dec->codec_id);
    return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: the %s decoder refuses it (%s)", v->path, name, av_err2str(rc));
}

static void put(char *to, size_t size, const char *text) { snprintf(to, size, "%s", text ? text : "unknown"); }

static void describe(vid *v) {
    const AVStream *st = v->fmt->streams[v->stream];
    vid_info *i = &v->info;
    put(i->codec, sizeof i->codec, avcodec_get_name(st->codecpar->codec_id));
    put(i->pix_fmt, sizeof i->pix_fmt, av_get_pix_fmt_name(st->codecpar->format));
    put(i->range, sizeof i->range, av_color_range_name(st->codecpar->color_range));
    put(i->matrix, sizeof i->matrix, av_color_space_name(st->codecpar->color_space));
    double tb = av_q2d(v->time_base), span = v->frames > 1 ? ((double)v->time[v->frames - 1] - (double)v->time[0]) * tb : 0;
    i->fps = v->rate;
    i->duration = span + (v->last_duration > 0 ? (double)v->last_duration * tb : v->rate > 0 ? 1 / v->rate : 0);
    /* a header far from what the times say (written for fields, or a guess) is not believed */
    double counted = span > 0 ? (v->frames - 1) / span : 0;
    if (counted > 0 && !(fabs(i->fps - counted) <= 0.25 * counted)) i->fps = counted;
}

/* ---- opening ---- */

static int open_image(vid *v, jepa_err *err) {
    int rc = vid_open_still(v, err);
    if (rc < 0) return rc;
    v->info = (vid_info){.width = v->still.width, .height = v->still.height, .is_image = 1, .frames = 1, .promised = 1};
    put(v->info.codec, sizeof v->info.codec, "image");
    put(v->info.pix_fmt, sizeof v->info.pix_fmt, "rgb24");
    put(v->info.range, sizeof v->info.range, "pc");
    put(v->info.matrix, sizeof v->info.matrix, "gbr");
    return 0;
}

/* The whole file as the range. */
static int open_file(vid *v, jepa_err *err) {
    struct stat st;
    if (stat(v->path, &st)) {
        if (errno == ENOENT || errno == ENOTDIR) return bad(v, err, "not found");
        return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: cannot be opened (%s)", v->path, strerror(errno));
    }
    if (!S_ISREG(st.st_mode)) return bad(v, err, S_ISDIR(st.st_mode) ? "a folder, not a file" : "not a regular file");
    if (!st.st_size) return bad(v, err, "empty file");
    v->fd = open(v->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (v->fd < 0 || fstat(v->fd, &st))
        return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: cannot be opened (%s)", v->path, strerror(errno));
    v->length = st.st_size;
    return 0;
}

/* 1: an image (opened), 0: go on with FFmpeg. */
static int look(vid *v, jepa_err *err) {
    uint8_t b[32];
    if (!v->length) return bad(v, err, "empty file");
    int64_t n = vid_pread(v, b, sizeof b, 0);
    if (n < 0) return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: cannot be read", v->path);
    if (looks_like_heif(b, (size_t)n)) return bad(v, err, "format not read: HEIF or AVIF still image (convert it to PNG or JPEG)");
    if (!looks_like_image(b, (size_t)n)) return 0;
    int rc = open_image(v, err);
    return rc < 0 ? rc : 1;
}

int vid_new(vid **out, const char *path, const vid_opts *opts, jepa_err *err) {
    *out = NULL;
    if (!path || !*path) return err_set(err, JEPA_E_USE, "no file name");
    vid *v = mem_alloc(1, sizeof *v);
    size_t n = strlen(path) + 1;
    if (v) {
        v->fd = -1;
        v->path = mem_alloc(n, 1);
    }
    if (!v || !v->path) {
        vid_close(&v);
        return err_set_at(err, JEPA_E_MEMORY, path, -1, "%s: no memory to open it", path);
    }
    memcpy(v->path, path, n);
    if (opts) v->opts = *opts;
    v->next = v->from = v->shown = v->last_wanted = -1;
    *out = v;
    return 0;
}

int vid_index_anew(vid *v, jepa_err *err) {
    int rc;
    avcodec_free_context(&v->dec);
    mem_free(v->packet);
    mem_free(v->order);
    mem_free(v->time);
    v->packet = NULL;
    v->order = NULL;
    v->time = NULL;
    v->packets = v->cap = v->frames = v->unread = v->cut = v->packed = v->exact = v->holds = v->drained = 0;
    v->last_duration = 0;
    v->from = v->shown = -1;
    v->lied = 1;
    if ((rc = vid_demux(v, err)) < 0 || (rc = make_decoder(v, err)) < 0 || (rc = vid_index(v, err)) < 0) return rc;
    describe(v);
    return 0;
}

int vid_open_bytes(vid *v, jepa_err *err) {
    int rc = look(v, err);
    if (rc != 0) return rc < 0 ? rc : 0;
    if ((rc = vid_demux(v, err)) < 0 || (rc = make_decoder(v, err)) < 0 || (rc = vid_convert_open(v, err)) < 0) return rc;
    rc = vid_index(v, err);
    if (v->lied) return vid_index_anew(v, err);
    if (rc == 0) describe(v);
    return rc;
}

int vid_open(vid **out, const char *path, const vid_opts *opts, jepa_err *err) {
    vid *v = NULL;
    *out = NULL;
    int rc = vid_new(&v, path, opts, err);
    if (rc == 0) rc = open_file(v, err);
    if (rc == 0) rc = vid_open_bytes(v, err);
    if (rc < 0) vid_close(&v);
    *out = v;
    return rc;
}

void vid_close(vid **pv) {
    vid *v = pv ? *pv : NULL;
    if (!v) return;
    vid_demux_close(v);
    avcodec_free_context(&v->dec);
    av_packet_free(&v->pkt);
    av_frame_free(&v->frame);
    vid_convert_close(v);
    h5_frames_close(&v->set);
    if (v->fd >= 0) close(v->fd);
    mem_free(v->packet);
    mem_free(v->order);
    mem_free(v->time);
    mem_free(v->still.rgb);
    mem_free(v->path);
    mem_free(v);
    *pv = NULL;
}

const vid_info *vid_get_info(const vid *v) { return &v->info; }
int64_t vid_decoded(const vid *v) { return v->decoded; }

const char *video_libraries(void) {
    /* the versions this was built against: constant text, so that no state is kept */
#define VERSION_OF(L) AV_STRINGIFY(L##_VERSION_MAJOR) "." AV_STRINGIFY(L##_VERSION_MINOR) "." AV_STRINGIFY(L##_VERSION_MICRO)
    return "libavformat " VERSION_OF(LIBAVFORMAT) ", libavcodec " VERSION_OF(LIBAVCODEC) ", libavutil " VERSION_OF(
        LIBAVUTIL) ", libswscale " VERSION_OF(LIBSWSCALE);
#undef VERSION_OF
}
