/* h5_frames.h: frames in HDF5 files: uint8 data sets [T,H,W,3], as robot data has them (robomimic and LIBERO data/demo_I/obs/CAMERA, ALOHA
 * observations/images/CAMERA, any other place). Files are opened read-only, without locks; every call takes h5_lock itself. */
#ifndef JEPA_H5_FRAMES_H
#define JEPA_H5_FRAMES_H
#include "base/base.h"

typedef struct h5_frames h5_frames;
typedef struct h5_facts {
    int64_t frames;
    int width, height;
    double fps;      /* attribute `fps` of the data set, or of a group above it, or H5_FPS */
    int fps_is_told; /* 0: none of them has it */
} h5_facts;
#define H5_FPS 10.0 /* robot data is recorded at 10 to 50 a second and seldom says so */
enum { H5_MOST_CHUNK = 1 << 28, H5_MOST_OBJECTS = 1 << 22, H5_MOST_SIDE = 16384 };

/* fn(ctx, "/data/demo_0/obs/agentview", NULL) for each set, numbers in names in their order (demo_2 before demo_10); for one that looks like
 * frames and cannot be used, reason says why. What stands in `next_obs` beside the same set in `obs` (the same frames, one later) is left
 * out. *ignored: the other data sets. JEPA_E_INPUT: not to be opened, or damaged; JEPA_E_IO: not there. */
int h5_frames_list(const char *path, int (*fn)(void *ctx, const char *set, const char *reason), void *ctx, int64_t *ignored, jepa_err *err);
/* name: for messages. A filter that is not there is named with its Debian package. */
int h5_frames_open(h5_frames **out, const char *path, const char *set, const char *name, h5_facts *facts, jepa_err *err);
int h5_frames_read(h5_frames *h, int64_t frame, uint8_t *rgb, jepa_err *err); /* [H,W,3]; only this frame's chunks are read */
void h5_frames_close(h5_frames **h);
#endif
