/* vid.h: the inside of a vid, shared by the vid_*.c files only.
 *
 * Packets are numbered in the order the demuxer gives them ("ordinal"). A packet goes into the decoder with its ordinal as its pts, so a
 * picture that comes out tells which packet it is, whatever the container's times are. order[] lists ordinals in display order. */
#ifndef JEPA_VID_H
#define JEPA_VID_H
#include "video/h5_frames.h"
#include "video/video.h"

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/avstring.h>
#include <libavutil/pixdesc.h>

enum {
    VID_MAX_SIDE = 16384,
    VID_MAX_PIXELS = 1 << 28,
    VID_MAX_PACKETS = 1 << 24, /* 77 hours at 60 frames a second; 76 bytes each */
    VID_SKIP = 256             /* up to so many packets are read past rather than sought over */
};
enum { VID_EOF = -1, VID_LOST = -2 }; /* instead of an ordinal: no more packets; the packets are not those of the index */

typedef struct vid_packet {
    int64_t pts, dts;       /* as the demuxer gives them */
    int64_t time;           /* when it is shown: pts, or made from dts */
    int64_t pos;            /* in the file, or -1 */
    int32_t size;
    uint32_t sum;           /* of its first bytes: with size and place, what a packet is known by after a seek; 0: not yet read */
    int32_t at;             /* display position, or -1: never shown */
    uint8_t key, hidden;    /* hidden: outside the edit list, or the codec says that it is not for showing */
    uint8_t wanted, passed; /* by the vid_read in hand; sent last so that it is left out where no other picture needs it */
} vid_packet;

struct vid {
    char *path;
    int fd;                 /* -1: frames of an HDF5 file */
    int64_t base, length;   /* what of the file is ours: all, or a member of a tar */
    int64_t at, blind_from, blind_to; /* see vid_range.c */
    h5_frames *set;         /* frames of an HDF5 file, else NULL */
    vid_opts opts;
    vid_info info;
    image still;            /* where info.is_image */

    AVFormatContext *fmt;
    AVIOContext *io;
    const AVInputFormat *format;
    int stream;
    AVRational time_base;
    double rate;            /* frames a second, as the container says; 0: it does not */
    AVCodecContext *dec;
    AVPacket *pkt;
    AVFrame *frame;

    vid_packet *packet;
    int packets, cap;
    int32_t *order;         /* [frames] ordinals in display order */
    int64_t *time;          /* [frames] in time_base, never falling */
    int frames;
    int packed;             /* MPEG-4 packets with two pictures */
    int cut;                /* the file ends before what it promises */
    int64_t last_duration;  /* of the last packet, in time_base */
    int unread;             /* the index was made from the container's, without reading the packets */
    int lied;               /* and it was found out to be wrong */
    int exact;              /* the order was found by decoding everything */

    int next;               /* ordinal of the next packet read, -1: not known */
    int have;               /* pkt holds packet `next` already */
    int from;               /* the decoder was fed from this ordinal on without a gap; -1: nothing yet */
    int drained;            /* it was told that no more comes */
    int shown;              /* display position of the last picture out since then, -1: none */
    int holds;              /* frame holds picture `shown` */
    int no_seek;            /* seeking led astray once: from then on read from the start */
    int last_wanted;        /* the last frame that vid_read wants; -1: every picture is to come out */
    int64_t decoded;

    struct SwsContext *sws;
    int sws_w, sws_h, sws_fmt, sws_full, sws_matrix;
    int stored_w, stored_h; /* of the coded picture; what every frame is brought to */
    int swap, flip_x, flip_y; /* upright: out(x,y) = in(swap ? y,x : x,y), mirrored in the input's x and y */
    uint8_t *line;          /* stored_h rows of `stride` bytes */
    size_t stride;
};

int vid_new(vid **out, const char *path, const vid_opts *opts, jepa_err *err);
int vid_open_bytes(vid *v, jepa_err *err); /* the range as image or video */
int vid_open_still(vid *v, jepa_err *err);
int64_t vid_pread(const vid *v, void *to, size_t n, int64_t at); /* of the range */
int vid_range_open(vid *v);             /* v->io over the range; AVERROR */
void vid_range_close(vid *v);
void vid_blind(vid *v, int64_t from, int64_t to); /* from now on zeros stand for these bytes (0, 0: for none); the buffer is forgotten */
int vid_demux(vid *v, jepa_err *err);   /* opens file, demuxer; finds the stream. Also for starting over */
void vid_demux_close(vid *v);
int vid_start_decoder(vid *v, jepa_err *err);
int vid_index(vid *v, jepa_err *err);   /* fills packet, order, time, frames; starts the decoder */
int vid_index_anew(vid *v, jepa_err *err); /* reading all packets: where the container's index was found out to be wrong */
uint32_t vid_sum(const AVPacket *k);    /* never 0 */
/* Decodes from packet `from` on; display positions low … high become what came out. */
int vid_recount(vid *v, int from, int low, int high, jepa_err *err);
int vid_start_of(const vid *v, int f, int back); /* ordinal to decode from for frame f; back: so many keyframes earlier than needed */
int vid_go(vid *v, int ordinal, jepa_err *err);  /* the next packet is this one, the decoder empty; VID_LOST when that fails */
int vid_next_picture(vid *v);           /* ordinal of the picture now in frame, VID_EOF, VID_LOST */
int vid_convert(vid *v, const AVFrame *frame, uint8_t *rgb, jepa_err *err);
int vid_convert_open(vid *v, jepa_err *err);
void vid_convert_close(vid *v);
#endif
