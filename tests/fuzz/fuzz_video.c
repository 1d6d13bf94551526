/* fuzz_video.c: any bytes as a video file: opened, its frames counted, some read in a jumping order. */
#include "video/video.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    jepa_err err = {0};
    vid *v = NULL;
    video_quiet();
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0) return 0;
    if (write(fd, data, size) == (ssize_t)size) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        int rc = vid_open(&v, path, NULL, &err);
        if (rc < 0 && (!err.text[0] || v)) abort();
        if (rc == 0) {
            const vid_info *i = vid_get_info(v);
            size_t bytes = (size_t)i->width * (size_t)i->height * 3;
            if (i->frames < 1 || i->width < 1 || i->height < 1) abort();
            uint8_t *rgb = bytes <= 1 << 22 ? malloc(bytes * 2) : NULL;
            for (int k = 0; rgb && k < 4 && i->frames > 0; k++) {
                int64_t index[2] = {(i->frames - 1) * (3 - k) / 3, vid_frame_at(v, i->duration * k / 3)};
                double seconds[2];
                if (index[1] < 0 || index[1] >= i->frames) abort();
                rc = vid_read(v, index, 2, rgb, seconds, &err);
                if (rc != 0 && rc != JEPA_E_END && rc != JEPA_E_INPUT && rc != JEPA_E_MEMORY) abort();
            }
            free(rgb);
        }
        vid_close(&v);
        if (v) abort();
    }
    close(fd);
    return 0;
}
