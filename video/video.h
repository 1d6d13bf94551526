/* video.h: from files to frames: FFmpeg decoding in process, stb images, sampling, crop and resize.
 *
 *     vid *v; vid_open(&v, "clip.mp4", NULL, &err);
 *     int64_t index[16]; sample_frames(…);
 *     vid_read(v, index, 16, rgb, seconds, &err);        // exact frames, upright, RGB, any order
 *     vid_close(&v);
 *
 * Frame n is the n-th displayed frame (presentation order after edit lists), the same whether read alone or from the start. */
#ifndef JEPA_VIDEO_H
#define JEPA_VIDEO_H
#include "base/base.h"

typedef struct vid vid;
typedef struct vid_opts {
    int as_stored;            /* 1: ignore rotation tags and EXIF; default 0: upright */
    int threads;              /* decoder threads, default 1 */
} vid_opts;
typedef struct vid_info {
    int width, height;        /* as vid_read gives them (upright) */
    int is_image;             /* a still: one frame */
    int64_t frames;           /* that can be read (packets counted, truncation seen) */
    int64_t promised;         /* what the container says; > frames: the file is cut short */
    double fps;               /* average rate, frames per second; 0 for an image */
    double duration;          /* seconds */
    int rotation;             /* degrees clockwise that upright needs: 0, 90, 180, 270 */
    char codec[32], pix_fmt[32], range[16], matrix[16];
} vid_info;
/* JEPA_E_INPUT with a reason that starts alike for the same cause: "not found", "empty file", "not a media file",
 * "no video stream", "only a cover picture, no video", "no index (moov atom missing)", … Images are opened too, by content. */
int vid_open(vid **out, const char *path, const vid_opts *opts, jepa_err *err);
void vid_close(vid **v);
const vid_info *vid_get_info(const vid *v);
/* n frames by index (any order, repeats allowed; outside 0 … frames-1 is JEPA_E_USE) → rgb [n,H,W,3]; seconds [n] or NULL: presentation times.
 * rgb NULL: decoded, not converted (not for frame sets of HDF5). Decodes each group of pictures that is needed once, no other. Where fewer frames come out than the packets promised (damage in the middle),
 * info->frames is corrected, once, and JEPA_E_END returned: sample again. Another size later in the stream is scaled to the first.
 * Colours: matrix and range as tagged; no tag: BT.601 limited. No tone mapping, square pixels, alpha dropped. */
int vid_read(vid *v, const int64_t *index, int n, uint8_t *rgb, double *seconds, jepa_err *err);
int64_t vid_frame_at(vid *v, double seconds); /* frame on display: the last with time <= seconds (first frame's time is 0); 0 before the first */
double vid_time_of(vid *v, int64_t frame);
int64_t vid_decoded(const vid *v);            /* frames decoded so far: for tests and bench */

/* ---- which frames (family spec section 7; golden/frames) ---- */
typedef struct sample_cfg {
    int frames;               /* per clip */
    double fps;               /* > 0: step = ceil(video fps) div fps, at least 1 */
    int frame_step;           /* used when fps is 0 */
    double duration;          /* seconds; > 0: step = floor(duration·ceil(fps)/frames), at least 1; goes before fps */
    int raw_fps;              /* V-JEPA 1: duration mode with the raw rate */
    int num_clips;
    int random;               /* random window where a part is longer than the span */
    int allow_clip_overlap;
    int reject_short;         /* JEPA_E_INPUT "shorter than N frames" instead of repeating */
} sample_cfg;
void sample_cfg_defaults(sample_cfg *c); /* 16 frames, 4 fps, 1 clip, not random */
/* draw(ctx, low, high): a random integer in [low, high); used only when random. index [num_clips·frames]. *slow: 1 when the source is slower than asked. */
int sample_frames(const sample_cfg *c, int64_t frames_in_video, double video_fps, int64_t (*draw)(void *, int64_t low, int64_t high), void *ctx,
                  int64_t *index, int *slow, jepa_err *err);
/* Time-based: frames at start + i/fps, the frame on display at each. */
int sample_times(vid *v, double start, double fps, int frames, int64_t *index, jepa_err *err);

/* ---- what the model sees ---- */
typedef struct image { int width, height; uint8_t *rgb; } image; /* mem_free(rgb) */
typedef enum { CLIP_EVAL_META /* short side to floor(crop·256/224), OpenCV bilinear on uint8, centre crop, offset half to even */,
               CLIP_EVAL_HF   /* antialiased bilinear on uint8, offset truncated */,
               CLIP_TRAIN     /* the given box, bilinear without antialiasing */,
               CLIP_PIL       /* the given box (all zero: the whole picture, squeezed square) through PIL's antialiased bilinear (I-JEPA) */,
               CLIP_RAW } clip_mode;
typedef struct clip_cfg {
    clip_mode mode; int crop; int short_side;   /* 0: floor(crop·256/224) */
    int box[4]; int flip;                       /* CLIP_TRAIN, CLIP_PIL: top, left, height, width */
    int view, num_views;                        /* views: short side = crop, evenly spaced along the long side; num_views 0: centre crop */
    float mean[3], std[3];                      /* for clip_normalise */
} clip_cfg;
void clip_cfg_defaults(clip_cfg *c, int crop);
/* rgb [T,H,W,3] → out uint8 [T,crop,crop,3]; CLIP_TRAIN rounds to nearest (at most half a grey level from the published float). */
int clip_prepare(const clip_cfg *c, const uint8_t *rgb, int frames, int height, int width, uint8_t *out, jepa_err *err);
/* The same as normalised float32 [C,T,crop,crop] (frames_first: [T,C,crop,crop]); CLIP_TRAIN is exact, not rounded. */
int clip_prepare_f32(const clip_cfg *c, const uint8_t *rgb, int frames, int height, int width, int frames_first, float *out, jepa_err *err);
int clip_resize_u8(const uint8_t *rgb, int frames, int h, int w, int oh, int ow, clip_mode how, uint8_t *out, jepa_err *err);
/* Size after scaling the short side to `side` (the other side truncated). 0, JEPA_E_USE, or JEPA_E_INPUT when it would be too long. */
int clip_short_side(int height, int width, int side, int *out_height, int *out_width);
/* A Hugging Face video or image processor's JSON (a file, or a folder holding video_preprocessor_config.json or preprocessor_config.json) → c.
 * JEPA_E_MODEL where it asks for something else than resize (and centre crop), rescale by 1/255, normalise. JEPA_E_END: the folder has none. */
int clip_processor_read(clip_cfg *c, const char *path, jepa_err *err);
/* Random resized crop. uniform: in [low, high]; integer: low … high, both included (Python's randint). 10 tries, then a centred box.
 * box = top, left, height, width. JEPA_E_USE when scale or ratio is no range of positive numbers. */
typedef struct crop_draw { double (*uniform)(void *, double, double); int64_t (*integer)(void *, int64_t, int64_t); void *ctx; } crop_draw;
int crop_box(int height, int width, const double scale[2], const double ratio[2], const crop_draw *d, int box[4]);

/* ---- still images (video/image.h has the checks) ---- */
int image_read(image *out, const char *path, int as_stored, jepa_err *err); /* by content; alpha dropped; 16 bit to 8; EXIF upright */
int image_write_png(const char *path, const uint8_t *rgb, int width, int height, jepa_err *err); /* aside, renamed */

/* ---- lists and folders ---- */
typedef enum { ITEM_FILE, ITEM_TAR /* a member of a tar */, ITEM_H5 /* a data set of an HDF5 file */, ITEM_BAD /* fails when opened */ } item_kind;
typedef struct item {
    char *path;               /* its name: "clip.mp4", "shard.tar/key.mp4", "demo.hdf5:/data/demo_0/obs/agentview" */
    int64_t label; int line; int list; /* label -1: none; line 0: not from a list; list: index into list_paths */
    item_kind kind;
    uint32_t inner;           /* ITEM_TAR, ITEM_H5: path + inner is the name inside, what stands before it, less a byte, the file. ITEM_BAD: the reason */
    int64_t offset, size;     /* ITEM_TAR: its bytes in the file */
} item;
typedef struct items {
    item *at; int n, cap; char **list_paths; int n_lists;
    int64_t ignored;          /* members of tars and data sets of HDF5 files that are no item: labels apart, nothing we read */
} items;
/* A video, image, folder (searched, sorted by bytes), list (.txt, .csv, "-" for stdin), tar (WebDataset: a video, or an image, per key; label
 * from .cls or .json "label"), HDF5 file (one item per uint8 [T,H,W,3] data set; numbers in names in their order): appended. Lists and folders
 * may name tars and HDF5 files. A missing file named directly is still an item (it fails later, with its reason), and so is what is damaged. */
int items_add(items *list, const char *input, jepa_err *err);
int items_parse(items *list, const char *text, size_t size, const char *list_path, jepa_err *err);
void items_free(items *list);
int item_copy(item *to, const item *from, jepa_err *err); /* with a path of its own: mem_free(to->path) */
/* vid_open for an item of any kind. Frames of an HDF5 file: fps is its attribute `fps`, or that of a group above, or 10. */
int vid_open_item(vid **out, const item *it, const vid_opts *opts, jepa_err *err);

/* ---- writing small videos (our own libav* writer) ---- */
typedef struct vid_writer vid_writer;
typedef struct vid_write_cfg { int width, height; double fps; int crf; int gop; int lossless; } vid_write_cfg; /* H.264 4:2:0 BT.709 limited in MP4; crf 0–51 */
int vid_writer_open(vid_writer **out, const char *path, const vid_write_cfg *c, jepa_err *err);
int vid_writer_add(vid_writer *w, const uint8_t *rgb, jepa_err *err);
int vid_writer_finish(vid_writer **w, jepa_err *err); /* completes path (written aside, renamed); on failure nothing is left */
void vid_writer_abort(vid_writer **w);
void video_quiet(void); /* FFmpeg prints nothing from then on, in the whole process: for programs, called once at the start */
const char *video_libraries(void); /* "libavformat 59.27.100, …" */
#endif
