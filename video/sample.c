/* sample.c: which frames of a video make a clip: the published sampling of V-JEPA 1 and 2, by index, and ours by time.
 *
 * The video is cut into num_clips equal parts. A part longer than a clip's span (frames·step) gives a window of that span; a shorter one
 * its evenly spaced frames, the last repeated. Differences from the published code, each where that fails: a step of 0 is 1 (*slow says
 * so), an index of -1 (several clips of a one-frame video) is 0. */
#include "video/video.h"

#include <math.h>

enum { MAX_FRAMES = 1 << 20, MAX_CLIPS = 1 << 16 };

void sample_cfg_defaults(sample_cfg *c) { *c = (sample_cfg){.frames = 16, .fps = 4, .frame_step = 4, .num_clips = 1}; }

/* x[k] of numpy.linspace(start, stop, n): the same roundings, the last value exact. */
static double spaced(double start, double stop, int64_t n, int64_t k) {
    if (n > 1 && k == n - 1) return stop;
    return n > 1 ? (double)k * ((stop - start) / (double)(n - 1)) + start : start;
}

static int64_t clip_to(double x, int64_t low, int64_t high) {
    if (high < low) high = low; /* where the published code gives -1 */
    double y = x < (double)low ? (double)low : x > (double)high ? (double)high : x;
    return (int64_t)y;
}

static int step_of(const sample_cfg *c, int64_t n, double video_fps, int64_t *step, int *slow, jepa_err *err) {
    *slow = 0;
    if (!(c->fps > 0) && !(c->duration > 0)) {
        if (c->frame_step < 1) return err_set(err, JEPA_E_USE, "frame step %d: at least 1", c->frame_step);
        *step = c->frame_step;
        return 0;
    }
    if (!(video_fps > 0) || video_fps > 1e6) {
        if (n != 1) return err_set(err, JEPA_E_INPUT, "frame rate not known: give a frame step instead of frames per second");
        *step = 1; /* an image, repeated */
        return 0;
    }
    double whole = ceil(video_fps), s;
    if (c->duration > 0)
        s = floor(c->duration * (c->raw_fps ? video_fps : whole) / c->frames);
    else
        s = floor(whole / c->fps);
    if (s > 1e9) return err_set(err, JEPA_E_USE, "a step of %.0f frames", s);
    *slow = s < 1 || (!(c->duration > 0) && video_fps < c->fps);
    *step = s < 1 ? 1 : (int64_t)s;
    return 0;
}

int sample_frames(const sample_cfg *c, int64_t n, double video_fps, int64_t (*draw)(void *, int64_t, int64_t), void *ctx, int64_t *index,
                  int *slow, jepa_err *err) {
    int64_t step = 1;
    int is_slow = 0;
    if (slow) *slow = 0;
    if (c->frames < 1 || c->frames > MAX_FRAMES) return err_set(err, JEPA_E_USE, "%d frames a clip: 1 … %d", c->frames, MAX_FRAMES);
    if (c->num_clips < 1 || c->num_clips > MAX_CLIPS) return err_set(err, JEPA_E_USE, "%d clips: 1 … %d", c->num_clips, MAX_CLIPS);
    if (n < 1) return err_set(err, JEPA_E_INPUT, "no frames");
    if (c->random && !draw) return err_set(err, JEPA_E_USE, "random windows without a source of randomness");
    int rc = step_of(c, n, video_fps, &step, &is_slow, err);
    if (rc < 0) return rc;
    if (slow) *slow = is_slow;
    int64_t frames = c->frames, span = frames * step, part = n / c->num_clips;
    if (c->reject_short && n < span) return err_set(err, JEPA_E_INPUT, "shorter than %lld frames (%lld)", (long long)span, (long long)n);
    for (int i = 0; i < c->num_clips; i++, index += frames) {
        if (part > span) {
            int64_t end = c->random ? draw(ctx, span, part) : span, start = end - span;
            if (end < span || end >= part)
                return err_set(err, JEPA_E_USE, "a window drawn outside %lld … %lld", (long long)span, (long long)part - 1);
            for (int64_t k = 0; k < frames; k++)
                index[k] = clip_to(spaced((double)start, (double)end, frames, k), start, end - 1) + i * part;
            continue;
        }
        /* `length` is what the published code spaces over: the part, or with overlap one frame less than span or video */
        int64_t length = part, at = i * part;
        if (c->allow_clip_overlap) {
            length = (span < n ? span : n) - 1;
            at = n > span && c->num_clips > 1 ? i * ((n - span) / (c->num_clips - 1)) : 0;
        }
        int64_t there = length / step;
        for (int64_t k = 0; k < frames; k++) {
            double x = k < there ? spaced(0, (double)length, there, k) : (double)length;
            index[k] = clip_to(x, 0, length - 1) + at;
        }
    }
    return 0;
}

int sample_times(vid *v, double start, double fps, int frames, int64_t *index, jepa_err *err) {
    if (frames < 1 || frames > MAX_FRAMES) return err_set(err, JEPA_E_USE, "%d frames a clip: 1 … %d", frames, MAX_FRAMES);
    if (!(fps > 0) || fps > 1e6) return err_set(err, JEPA_E_USE, "%g frames per second", fps);
    if (!isfinite(start)) return err_set(err, JEPA_E_USE, "a start that is not a number");
    for (int k = 0; k < frames; k++) index[k] = vid_frame_at(v, start + k / fps);
    return 0;
}
