/* vid_read.c: frames by number. Each group of pictures that is needed is decoded once, from its keyframe on; what comes out is
 * recognised by its packet, never by its time. A seek that led elsewhere is seen (the packets are compared with the index) and
 * made good from earlier. */
#include "video/vid.h"

#include <stdlib.h>
#include <string.h>

enum { MISSED = 1 }; /* a frame did not come out of the decoder where it should */

/* ---- packets ---- */

/* The bytes are those of the index; where it was made without them they are taken down now, and its word about keyframes is checked. */
static int bytes_fit(vid *v, vid_packet *p, const AVPacket *k) {
    uint32_t sum = vid_sum(k);
    if (p->sum) return p->sum == sum;
    if (p->pos != k->pos) return 0;
    p->sum = sum;
    if (p->key && !(k->flags & AV_PKT_FLAG_KEY)) v->lied = 1; /* decoding must not start here */
    return 1;
}

/* Brings packet v->next into v->pkt: 0, VID_EOF, VID_LOST. */
static int packet(vid *v) {
    if (v->have) return 0;
    if (v->next < 0) return VID_LOST;
    if (v->next >= v->packets) return VID_EOF;
    for (;;) {
        if (fault_point("video.read") || av_read_frame(v->fmt, v->pkt) < 0) {
            v->next = -1;
            return VID_LOST;
        }
        if (v->pkt->stream_index == v->stream) break;
        av_packet_unref(v->pkt);
    }
    vid_packet *p = &v->packet[v->next];
    if (p->size != v->pkt->size || !bytes_fit(v, p, v->pkt)) { /* times can be guesses, and differ after a seek */
        av_packet_unref(v->pkt);
        v->next = -1;
        return VID_LOST;
    }
    v->have = 1;
    return 0;
}

static void packet_done(vid *v) {
    av_packet_unref(v->pkt);
    v->have = 0;
    v->next++;
}

/* All of it has to agree: after a seek program streams give packets that begin in the middle and times that are guesses, and
 * plain pictures have equal bytes. */
static int same(vid *v, vid_packet *p, const AVPacket *k) {
    if (p->size != k->size || p->pos != k->pos || k->pos < 0) return 0;
    if (p->pts != AV_NOPTS_VALUE || k->pts != AV_NOPTS_VALUE ? p->pts != k->pts : p->dts != k->dts || k->dts == AV_NOPTS_VALUE) return 0;
    return bytes_fit(v, p, k);
}

/* After a seek: which packet is this? 0 when it is one at or before `goal`. */
static int land(vid *v, int goal) {
    for (int tries = 0; tries < 64;) {
        if (av_read_frame(v->fmt, v->pkt) < 0) return VID_LOST;
        if (v->pkt->stream_index == v->stream) {
            for (int i = goal; i >= 0; i--) {
                if (!same(v, &v->packet[i], v->pkt)) continue;
                v->next = i;
                v->have = 1;
                return 0;
            }
            tries++; /* the first after a seek into a transport stream can be half a packet */
        }
        av_packet_unref(v->pkt);
    }
    return VID_LOST;
}

static int keyframe_before(const vid *v, int ordinal, int n) {
    int i = ordinal;
    while (n > 0 && i > 0)
        if (v->packet[--i].key) n--;
    return i;
}

static int seek(vid *v, int goal, int earlier) {
    const vid_packet *p = &v->packet[keyframe_before(v, goal, earlier)];
    int by_pts = av_match_name("mov", v->format->name) || av_match_name("matroska", v->format->name); /* others look for dts */
    int64_t t = by_pts && p->pts != AV_NOPTS_VALUE ? p->pts : p->dts != AV_NOPTS_VALUE ? p->dts : p->pts;
    if (t == AV_NOPTS_VALUE) return VID_LOST;
    if (!v->fmt) return VID_LOST; /* an earlier start over failed */
    if (v->have) av_packet_unref(v->pkt);
    v->have = 0;
    v->next = -1;
    if (fault_point("video.seek") || av_seek_frame(v->fmt, v->stream, t, AVSEEK_FLAG_BACKWARD) < 0) return VID_LOST;
    return land(v, goal);
}

int vid_go(vid *v, int ordinal, jepa_err *err) {
    static const int earlier[] = {0, 1, 8};
    avcodec_flush_buffers(v->dec);
    v->from = v->shown = -1;
    v->holds = v->drained = 0;
    int near = v->next >= 0 && v->next <= ordinal && ordinal - v->next <= VID_SKIP, found = near ? 0 : VID_LOST;
    for (int i = 0; i < 3 && found == VID_LOST && !v->no_seek; i++) found = seek(v, ordinal, earlier[i]);
    for (int again = 0; again < 2; again++) {
        if (found == VID_LOST) { /* from the start: always right, only slow */
            int rc = vid_demux(v, err);
            if (rc < 0) return rc;
            again = 1;
        }
        while (v->next >= 0 && v->next < ordinal && (found = packet(v)) == 0) packet_done(v);
        if (v->next == ordinal) {
            v->from = ordinal;
            return 0;
        }
        found = VID_LOST;
        v->no_seek = 1;
    }
    return VID_LOST;
}

/* ---- pictures ---- */

/* H.264 says of each picture whether others are made from it. One that is neither that nor wanted is not decoded; behind the last that is
 * wanted all are, for whoever reads on. (HEVC's word holds within a temporal layer only.) */
static void choose(vid *v, vid_packet *p) {
    p->passed = v->dec->codec_id == AV_CODEC_ID_H264 && !p->wanted && p->at >= 0 && p->at < v->last_wanted;
    v->dec->skip_frame = p->passed ? AVDISCARD_NONREF : AVDISCARD_DEFAULT;
}

/* 1: what lies between two pictures that came out one after the other was left out on purpose. */
static int passed_over(const vid *v, int from, int to) {
    for (int f = from; f < to; f++)
        if (!v->packet[v->order[f]].passed) return 0;
    return from < to;
}

int vid_next_picture(vid *v) {
    for (int full = 0;;) {
        av_frame_unref(v->frame);
        v->holds = 0;
        int rc = avcodec_receive_frame(v->dec, v->frame);
        if (rc == 0) {
            v->decoded++;
            if (v->frame->pts < 0 || v->frame->pts >= v->packets) continue;
            return (int)v->frame->pts;
        }
        if (rc == AVERROR_EOF) return VID_EOF;
        if (rc != AVERROR(EAGAIN) && v->drained) return VID_EOF; /* a damaged end */
        rc = packet(v);
        if (rc == VID_LOST) return VID_LOST;
        if (rc == VID_EOF) {
            v->drained = 1;
            avcodec_send_packet(v->dec, NULL);
            continue;
        }
        v->pkt->pts = v->pkt->dts = v->next;
        choose(v, &v->packet[v->next]);
        if (v->pkt->size > 0 && avcodec_send_packet(v->dec, v->pkt) == AVERROR(EAGAIN) && full++ < 64)
            continue;   /* more to take out first */
        packet_done(v); /* what a damaged packet costs shows in what comes out */
        full = 0;
    }
}

int vid_start_of(const vid *v, int f, int back) {
    int k = v->order[f], i = k;
    int64_t t = v->packet[k].time;
    for (;; i--) {
        const vid_packet *p = &v->packet[i];
        if (i == 0) return 0;
        if (!p->key) continue;
        /* a picture shown before the keyframe it follows (open group) needs the group before */
        int before = p->at >= 0 ? p->at <= f : p->time != AV_NOPTS_VALUE && t != AV_NOPTS_VALUE && p->time <= t;
        if (before) break;
    }
    return keyframe_before(v, i, back);
}

/* Decodes until frame f is out. */
static int run_to(vid *v, int f, int suspicious) {
    for (;;) {
        int k = vid_next_picture(v);
        if (k == VID_LOST) v->no_seek = 1;
        if (k < 0) {
            v->from = -1;
            return MISSED;
        }
        int at = v->packet[k].at;
        if (at < 0) continue;
        if (v->shown >= 0 && at != v->shown + 1 && !v->exact &&
            !passed_over(v, v->shown + 1, at)) { /* not the order of the index: one of the two is wrong */
            v->from = -1;
            return MISSED;
        }
        if (at > v->shown) v->shown = at;
        if (at == f) {
            /* damage seen right after a jump may come from the jump */
            if (suspicious && v->from > 0 && (v->frame->flags & AV_FRAME_FLAG_CORRUPT || v->frame->decode_error_flags)) return MISSED;
            v->holds = 1;
            return 0;
        }
        if (at > f) return MISSED;
    }
}

/* Frame f into v->frame: 0, MISSED (it does not come out, even from the start), or an error. */
static int show(vid *v, int f, jepa_err *err) {
    if (v->holds && v->shown == f) return 0;
    int from = vid_start_of(v, f, 0), rc = MISSED;
    /* the decoder is on the way to it: no keyframe between what it was fed last and what f needs */
    int left_out = v->next > v->order[f] && v->packet[v->order[f]].passed; /* by a read before this one */
    if (v->from >= 0 && v->from <= from && v->shown < f && !left_out && (v->drained || (v->next >= 0 && from <= v->next)))
        rc = run_to(v, f, 1);
    for (int back = 0, last = 0; rc == MISSED && !last; back = back ? back * 2 : 1) {
        int start = back > 8 ? 0 : vid_start_of(v, f, back);
        last = start == 0;
        rc = vid_go(v, start, err);
        if (rc == VID_LOST)
            return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: does not read the same twice; is it being written?", v->path);
        if (rc < 0) return rc;
        rc = run_to(v, f, back == 0);
    }
    return rc;
}

typedef struct want {
    int64_t index;
    int place;
} want;
static int by_index(const void *a, const void *b) {
    const want *x = a, *y = b;
    return x->index != y->index ? (x->index < y->index ? -1 : 1) : x->place - y->place;
}

static void mark(vid *v, const want *w, int n, uint8_t wanted) {
    for (int i = 0; i < n && v->packet; i++)
        if (w[i].index < v->frames) v->packet[v->order[w[i].index]].wanted = wanted;
    v->last_wanted = wanted && n ? (int)w[n - 1].index : -1;
}

static int read_each(vid *v, const want *w, int n, uint8_t *rgb, double *seconds, jepa_err *err) {
    size_t size = (size_t)v->info.width * (size_t)v->info.height * 3;
    for (int i = 0; i < n; i++) {
        uint8_t *to = rgb ? rgb + size * (size_t)w[i].place : NULL;
        if (!rgb && !v->set) {
            int rc = v->info.is_image ? 0 : show(v, (int)w[i].index, err);
            if (rc) return rc;
        } else if (i && w[i].index == w[i - 1].index) {
            memcpy(to, rgb + size * (size_t)w[i - 1].place, size);
        } else if (v->info.is_image) {
            memcpy(to, v->still.rgb, size);
        } else if (v->set) {
            int rc = h5_frames_read(v->set, w[i].index, to, err);
            if (rc) return rc;
            v->decoded++;
        } else {
            int rc = show(v, (int)w[i].index, err);
            if (rc == 0) rc = vid_convert(v, v->frame, to, err);
            if (rc) return rc;
        }
        if (seconds) seconds[w[i].place] = vid_time_of(v, w[i].index);
    }
    return 0;
}

static int read_sorted(vid *v, const want *w, int n, uint8_t *rgb, double *seconds, jepa_err *err) {
    mark(v, w, n, 1);
    int rc = read_each(v, w, n, rgb, seconds, err);
    mark(v, w, n, 0);
    return rc;
}

int vid_read(vid *v, const int64_t *index, int n, uint8_t *rgb, double *seconds, jepa_err *err) {
    if (!rgb && v->set && n > 0) return err_set_at(err, JEPA_E_USE, v->path, -1, "%s: frames of a frame set need a place to go to", v->path);
    if (n < 1) return n < 0 ? err_set(err, JEPA_E_USE, "%s: %d frames asked for", v->info.is_image ? "image" : v->path, n) : 0;
    for (int i = 0; i < n; i++) {
        if (index[i] >= 0 && index[i] < v->info.frames) continue;
        return err_set_at(err, JEPA_E_USE, v->path, -1, "%s: frame %lld asked for, there are 0 … %lld", v->path, (long long)index[i],
                          (long long)v->info.frames - 1);
    }
    want *w = mem_alloc((size_t)n, sizeof *w);
    if (!w) return err_set_at(err, JEPA_E_MEMORY, v->path, -1, "%s: no memory to read %d frames", v->path, n);
    for (int i = 0; i < n; i++) w[i] = (want){index[i], i};
    qsort(w, (size_t)n, sizeof *w, by_index);
    int rc = read_sorted(v, w, n, rgb, seconds, err);
    if (v->lied && v->unread) { /* whatever came out: again, from an index that is right */
        int frames = v->frames;
        rc = vid_index_anew(v, err);
        if (rc == 0 && v->frames != frames) {
            if (v->info.promised < frames) v->info.promised = frames;
            rc = err_set_at(err, JEPA_E_END, v->path, -1, "%s: %d frames, not %d as its index says", v->path, v->frames, frames);
        } else if (rc == 0) {
            rc = read_sorted(v, w, n, rgb, seconds, err);
        }
    }
    if (rc == MISSED && !v->exact) {
        /* the index promised a frame that no decoding gives: find out once which there are */
        int frames = v->frames;
        v->exact = 1;
        rc = vid_recount(v, 0, 0, INT32_MAX, err);
        if (rc == 0 && v->frames != frames) {
            if (v->info.promised < frames) v->info.promised = frames;
            rc = err_set_at(err, JEPA_E_END, v->path, -1, "%s: only %d of %d frames can be decoded", v->path, v->frames, frames);
        } else if (rc == 0) {
            rc = read_sorted(v, w, n, rgb, seconds, err);
        }
    }
    if (rc == MISSED) rc = err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: a frame cannot be decoded again", v->path);
    mem_free(w);
    return rc;
}

/* ---- times ---- */

double vid_time_of(vid *v, int64_t frame) {
    if (v->info.is_image || frame <= 0 || v->frames < 1) return 0;
    if (frame >= v->frames) frame = v->frames - 1;
    if (v->set) return (double)frame / v->info.fps;
    return ((double)v->time[frame] - (double)v->time[0]) * av_q2d(v->time_base);
}

int64_t vid_frame_at(vid *v, double seconds) {
    int64_t low = 0, high = v->info.is_image ? 0 : v->frames - 1;
    seconds += 1e-6; /* times come written with six digits, or as sums of fractions; no two frames are that close */
    while (low < high) {
        int64_t middle = high - (high - low) / 2;
        if (vid_time_of(v, middle) <= seconds)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}
