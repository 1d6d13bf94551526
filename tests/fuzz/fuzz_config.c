/* fuzz_config.c: any bytes as a training configuration; what is accepted is written and must read back as the same text. */
#include "base/yaml.h"
#include "train/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_as_file(train_cfg *c, const void *data, size_t size, jepa_err *err) {
    static const char *const f32 = "meta.dtype=float32";
    char path[64];
    int fd = memfd_create("config", 0), rc = JEPA_E_IO;
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || snprintf(path, sizeof path, "/proc/self/fd/%d", fd) < 0) abort();
    rc = train_cfg_read(c, path, &f32, 1, err);
    close(fd);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    train_cfg c, d;
    jepa_err err = {0};
    char *text, *again;
    size_t n, m;
    if (size > 1 << 16) return 0;
    if (read_as_file(&c, data, size, &err)) {
        if (!err.text[0] || c.resolved) abort();
        return 0;
    }
    if (yaml_write(c.resolved, &text, &n, &err)) abort();
    if (read_as_file(&d, text, n, &err) || yaml_write(d.resolved, &again, &m, &err)) abort();
    if (n != m || memcmp(text, again, n)) abort();
    mem_free(text), mem_free(again);
    train_cfg_free(&c), train_cfg_free(&d);
    return 0;
}
