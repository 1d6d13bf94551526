/* vid_index.c: which frames a file has: all packets are listed once, none is decoded. Where the container's own index is whole (MP4, MOV)
 * the packets are listed without reading their bytes; what is then read later is held against it.
 *
 * Display order is the order of the packets' times, edit lists respected (the demuxer marks what they leave out). That is exact for almost
 * every file. Where it cannot be (no times on reordered frames, two frames at one time), everything is decoded once and the order is what
 * came out; where only an end is in doubt (open first group, cut file), only that group is decoded. */
#include "video/vid.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int grow(vid *v) {
    int cap = v->cap ? v->cap * 2 : 1024;
    vid_packet *p = mem_alloc((size_t)cap, sizeof *p);
    if (!p) return -1;
    if (v->packets) memcpy(p, v->packet, (size_t)v->packets * sizeof *p);
    mem_free(v->packet);
    v->packet = p;
    v->cap = cap;
    return 0;
}

/* MPEG-4 pictures in a packet. Old AVI files pack two into one and put an empty one after: packets then say nothing about the order. */
static int pictures(const AVPacket *k) {
    int n = 0;
    const uint8_t *b = k->data, *end = k->data + k->size;
    while (n < 2 && end - b >= 4 && (b = memmem(b, (size_t)(end - b), "\0\0\1\xb6", 4))) n++, b += 4;
    return n;
}

uint32_t vid_sum(const AVPacket *k) {
    uint32_t h = 2166136261u; /* FNV-1a */
    for (int i = 0; i < k->size && i < 1024; i++) h = (h ^ k->data[i]) * 16777619u;
    return h ? h : 1;
}

static int add(vid *v, const AVPacket *k) {
    if (v->packets == v->cap && grow(v) < 0) return -1;
    vid_packet *p = &v->packet[v->packets++];
    p->pts = p->time = k->pts;
    p->dts = k->dts;
    p->pos = k->pos;
    p->size = k->size;
    p->sum = v->unread ? 0 : vid_sum(k);
    p->key = k->flags & AV_PKT_FLAG_KEY ? 1 : 0;
    /* VP8 keeps pictures that are only referred to in packets of their own: bit 4 says "show" */
    int vp8_only_referred_to = v->dec->codec_id == AV_CODEC_ID_VP8 && k->size > 0 && !(k->data[0] & 0x10);
    if (v->dec->codec_id == AV_CODEC_ID_MPEG4 && (k->size < 8 || pictures(k) > 1)) v->packed = 1;
    p->hidden = k->flags & AV_PKT_FLAG_DISCARD || k->size < 1 || vp8_only_referred_to;
    p->at = -1;
    if (k->duration > 0) v->last_duration = k->duration;
    return 0;
}

static int read_all(vid *v, jepa_err *err) {
    int rc, last_damaged = 0;
    while ((rc = av_read_frame(v->fmt, v->pkt)) >= 0) {
        int full = 0, mine = v->pkt->stream_index == v->stream;
        if (mine) {
            last_damaged = v->pkt->flags & AV_PKT_FLAG_CORRUPT;
            full = v->packets == VID_MAX_PACKETS;
            if (!full && (add(v, v->pkt) < 0 || fault_point("video.index"))) {
                av_packet_unref(v->pkt);
                return err_set_at(err, JEPA_E_MEMORY, v->path, -1, "%s: no memory for the index of its frames", v->path);
            }
        }
        av_packet_unref(v->pkt);
        if (full) return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: more than %d frames", v->path, VID_MAX_PACKETS);
    }
    if (last_damaged && v->packets) v->packets--; /* half a picture is not a frame */
    v->cut = last_damaged || rc != AVERROR_EOF;
    v->next = -1;
    return 0;
}

/* ---- from the container's index alone ---- */

/* Each of its samples has a place in the file, none is left out by an edit list, none was lost: 1, and from where to where they lie. */
static int index_is_whole(const vid *v, int64_t *from, int64_t *to) {
    AVStream *st = v->fmt->streams[v->stream];
    enum AVCodecID c = v->dec->codec_id; /* others hide or pack frames in ways that show in their bytes only */
    int n = avformat_index_get_entries_count(st);
    if (!av_match_name("mov", v->format->name) || (c != AV_CODEC_ID_H264 && c != AV_CODEC_ID_HEVC)) return 0;
    if (n < 1 || n > VID_MAX_PACKETS || st->nb_frames != n) return 0; /* in fragments: 0 or the first one's */
    *from = INT64_MAX, *to = 0;
    for (int i = 0; i < n; i++) {
        const AVIndexEntry *e = avformat_index_get_entry(st, i);
        if (!e || e->flags & AVINDEX_DISCARD_FRAME || e->size < 1) return 0;
        if (e->pos < 0 || e->pos > v->length || e->size > v->length - e->pos) return 0;
        if (e->pos < *from) *from = e->pos;
        if (e->pos + e->size > *to) *to = e->pos + e->size;
    }
    return avformat_index_get_entry(st, 0)->flags & AVINDEX_KEYFRAME;
}

/* The packets as listed are those of the index, one by one. Keyframes: the index's word, checked when they are read. */
static int matches_index(vid *v) {
    AVStream *st = v->fmt->streams[v->stream];
    if (v->cut || v->packets != avformat_index_get_entries_count(st)) return 0;
    for (int i = 0; i < v->packets; i++) {
        const AVIndexEntry *e = avformat_index_get_entry(st, i);
        vid_packet *p = &v->packet[i];
        if (!e || e->pos != p->pos || e->size != p->size || p->pts == AV_NOPTS_VALUE || p->dts == AV_NOPTS_VALUE || p->hidden) return 0;
        p->key = e->flags & AVINDEX_KEYFRAME ? 1 : 0;
    }
    return 1;
}

static int list_packets(vid *v, jepa_err *err) {
    int64_t from, to;
    int rc;
    if (!v->lied && index_is_whole(v, &from, &to) && !fault_point("video.unread")) {
        v->unread = 1;
        vid_blind(v, from, to);
        rc = read_all(v, err);
        if (rc == 0) vid_blind(v, 0, 0);
        if (rc < 0 || matches_index(v)) return rc;
        v->unread = v->packets = v->cut = 0;
        v->last_duration = 0;
        if ((rc = vid_demux(v, err)) < 0) return rc;
    }
    return read_all(v, err);
}

/* Frames that the container says it has, less those that an edit list leaves out; 0: it does not say. */
static int64_t promise(const vid *v) {
    AVStream *st = v->fmt->streams[v->stream];
    if (!av_match_name("mov", v->format->name)) return st->nb_frames > 0 ? st->nb_frames : 0;
    int64_t n = 0;
    int entries = avformat_index_get_entries_count(st);
    for (int i = 0; i < entries; i++) {
        const AVIndexEntry *e = avformat_index_get_entry(st, i);
        if (e && !(e->flags & AVINDEX_DISCARD_FRAME)) n++;
    }
    return n;
}

/* ---- order ---- */

typedef struct stamp {
    int64_t time;
    int32_t ordinal;
} stamp;
static int by_time(const void *a, const void *b) {
    const stamp *x = a, *y = b;
    return x->time != y->time ? (x->time < y->time ? -1 : 1) : x->ordinal < y->ordinal ? -1 : 1;
}
static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* at[], time[] and the reorder delay (which it returns) from order[]. */
static int settle(vid *v) {
    double fps = v->rate > 0 ? v->rate : 25;
    int have_time = 1, have_dts = 1, rank = 0, delay = 0;
    for (int i = 0; i < v->packets; i++) v->packet[i].at = -1;
    for (int f = 0; f < v->frames; f++) {
        const vid_packet *p = &v->packet[v->order[f]];
        v->packet[v->order[f]].at = f;
        if (p->time == AV_NOPTS_VALUE) have_time = 0;
        if (p->dts == AV_NOPTS_VALUE) have_dts = 0;
    }
    for (int f = 0; f < v->frames; f++) {
        const vid_packet *p = &v->packet[v->order[f]];
        double guess = fps > 0 ? f / fps / av_q2d(v->time_base) : f;
        v->time[f] = have_time ? p->time : have_dts ? p->dts : guess < 9e18 ? (int64_t)llround(guess) : INT64_MAX / 2;
    }
    if (!have_time && have_dts) qsort(v->time, (size_t)v->frames, sizeof *v->time, by_value); /* the k-th frame shown has the k-th time */
    /* recordings put one after another start again at an early time: go on from where the one before ended */
    int64_t shift = 0, frame = fps > 0 ? llround(fmin(1 / fps / av_q2d(v->time_base), 1e15)) : 1;
    for (int f = 1; f < v->frames; f++) {
        if (v->time[f] < INT64_MAX / 2 - shift) v->time[f] += shift;
        if (v->time[f] >= v->time[f - 1]) continue;
        shift += v->time[f - 1] + frame - v->time[f];
        v->time[f] = v->time[f - 1] + frame;
    }
    /* H.264 decoders guess how many frames to hold back and drop one when they guess too few: say it. It is the most frames that a frame
     * can have before it in decode order and after it in display order. */
    for (int i = 0; i < v->packets; i++) {
        if (v->packet[i].at < 0) continue;
        if (rank - v->packet[i].at > delay) delay = rank - v->packet[i].at;
        rank++;
    }
    if (delay > v->dec->has_b_frames) v->dec->has_b_frames = delay > 16 ? 16 : delay;
    v->info.frames = v->frames;
    return delay;
}

/* MPEG-1, -2 and -4 hold back one frame at most: a B-frame is shown when it is decoded (pts = dts), any other when the next other one is.
 * AVI and program streams leave times of the others out, and FFmpeg's guess for one can be wrong: where one lacks, all are made anew. */
static void fill_times(vid *v) {
    enum AVCodecID c = v->dec->codec_id;
    if (v->packed || (c != AV_CODEC_ID_MPEG1VIDEO && c != AV_CODEC_ID_MPEG2VIDEO && c != AV_CODEC_ID_MPEG4)) return;
    int lacking = 0;
    for (int i = 0; i < v->packets; i++) {
        if (v->packet[i].dts == AV_NOPTS_VALUE) return;
        if (v->packet[i].pts == AV_NOPTS_VALUE) lacking = 1;
    }
    int64_t next = AV_NOPTS_VALUE;
    for (int i = v->packets - 1; i >= 0 && lacking; i--) {
        vid_packet *p = &v->packet[i];
        if (p->pts == p->dts) continue;
        if (next != AV_NOPTS_VALUE)
            p->time = next;
        else if (p->pts == AV_NOPTS_VALUE)
            p->time = v->packet[v->packets - 1].dts + 1;
        next = p->dts;
    }
}

/* order[] by time; *doubt: it is not certain. */
static int sort(vid *v, int *doubt) {
    const AVCodecDescriptor *d = avcodec_descriptor_get(v->dec->codec_id);
    int reorders = (!d || d->props & AV_CODEC_PROP_REORDER) && v->dec->has_b_frames > 0, no_time = 0, n = 0, sorted = 1;
    fill_times(v);
    stamp *s = mem_alloc((size_t)v->packets + 1, sizeof *s);
    v->order = mem_alloc((size_t)v->packets + 1, sizeof *v->order);
    v->time = mem_alloc((size_t)v->packets + 1, sizeof *v->time);
    if (!s || !v->order || !v->time) {
        mem_free(s);
        return -1;
    }
    for (int i = 0; i < v->packets; i++) {
        if (v->packet[i].hidden) continue;
        if (v->packet[i].time == AV_NOPTS_VALUE) no_time = 1;
        s[n++] = (stamp){v->packet[i].time, i};
        if (n > 1 && s[n - 1].time <= s[n - 2].time) sorted = 0;
    }
    if (!no_time && !sorted) qsort(s, (size_t)n, sizeof *s, by_time);
    *doubt = (no_time && reorders) || v->packed;
    for (int f = 0; f < n; f++) {
        v->order[f] = s[f].ordinal;
        if (!no_time && f && s[f].time == s[f - 1].time) *doubt = 1;
    }
    v->frames = n;
    mem_free(s);
    if (settle(v) > 16) *doubt = 1; /* no codec reorders that far: the times start again somewhere */
    return 0;
}

int vid_recount(vid *v, int from, int low, int high, jepa_err *err) {
    int n = 0, rc = JEPA_E_MEMORY, limit = v->frames;
    int32_t *came = mem_alloc((size_t)v->packets + 1, sizeof *came);
    uint8_t *seen = mem_alloc((size_t)v->packets + 1, 1);
    if (!came || !seen) {
        err_set_at(err, rc, v->path, -1, "%s: no memory for the index of its frames", v->path);
        goto done;
    }
    int all = low == 0 && high >= limit - 1;
    rc = vid_go(v, from, err);
    while (rc == 0) {
        int k = vid_next_picture(v);
        if (k == VID_EOF) break;
        if (k == VID_LOST) {
            rc = err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: does not read the same twice; is it being written?", v->path);
            break;
        }
        int at = v->packet[k].at;
        if (!seen[k] && (all ? !v->packet[k].hidden : at >= low && at <= high)) came[n++] = k;
        seen[k] = 1;
        if (!all && at >= high) break;
    }
    if (rc == VID_LOST) rc = err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: its start cannot be found again", v->path);
    if (rc < 0) goto done;
    if (high > limit - 1) high = limit - 1;
    memmove(v->order + low + n, v->order + high + 1, (size_t)(limit - 1 - high) * sizeof *v->order);
    memcpy(v->order + low, came, (size_t)n * sizeof *came);
    v->frames = low + n + (limit - 1 - high);
    v->holds = 0;
    v->from = -1; /* positions have changed: start again from a keyframe */
    settle(v);
done:
    mem_free(came);
    mem_free(seen);
    return rc;
}

int vid_index(vid *v, jepa_err *err) {
    int doubt = 0, rc = list_packets(v, err);
    if (rc < 0) return rc;
    int64_t promised = promise(v);
    if (sort(v, &doubt) < 0) return err_set_at(err, JEPA_E_MEMORY, v->path, -1, "%s: no memory for the index of its frames", v->path);
    if ((rc = vid_start_decoder(v, err)) < 0) return rc;
    if (av_match_name("mov", v->format->name) && v->packets < promised) v->cut = 1; /* others promise what they like */
    if (v->frames && doubt) {
        rc = vid_recount(v, 0, 0, INT32_MAX, err);
        v->exact = 1;
    } else if (v->frames) {
        int first = 0; /* the first keyframe that is shown; pictures before it may need what is not in the file */
        while (first < v->packets && (!v->packet[first].key || v->packet[first].at < 0)) first++;
        if (first < v->packets && v->packet[first].at > 0 && !v->packet[0].hidden) rc = vid_recount(v, 0, 0, v->packet[first].at, err);
        if (rc == 0 && v->cut && v->frames) {
            int from = vid_start_of(v, v->frames - 1, 0), low = v->packet[from].at < 0 ? 0 : v->packet[from].at;
            rc = vid_recount(v, low ? from : 0, low, INT32_MAX, err);
        }
    }
    if (rc < 0) return rc;
    v->info.promised = v->cut && promised > v->frames ? promised : v->frames;
    if (v->frames) return 0;
    if (promised > 0)
        return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: no frames: cut short (%lld promised)", v->path, (long long)promised);
    return err_set_at(err, JEPA_E_INPUT, v->path, -1, "%s: no frames can be decoded", v->path);
}
