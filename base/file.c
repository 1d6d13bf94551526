/* file.c: whole files in and out: read with a cap; written aside, synced, renamed. */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

__attribute__((weak)) int fault_point(const char *name) { /* a test program links a strong one */
    (void)name;
    return 0;
}

/* fails like the call it stands before when a test says so */
static int faulty(const char *name) {
    int e = fault_point(name);
    if (e) errno = e;
    return e;
}

int file_read(const char *path, size_t max, char **data, size_t *size, jepa_err *err) {
    *data = NULL;
    *size = 0;
    int fd = faulty("file.open") ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_set_at(err, JEPA_E_IO, path, -1, "%s: %s", path, errno == ENOENT ? "not found" : strerror(errno));
    struct stat st;
    size_t cap = 65536, n = 0;
    char *b = NULL;
    int rc = 0;
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: is a folder, a file was expected", path);
        goto done;
    }
    if (S_ISREG(st.st_mode) && st.st_size > 0) cap = (size_t)st.st_size + 1;
    if (cap > max) cap = max < SIZE_MAX ? max + 1 : max;
    b = malloc(cap + 1);
    while (b) {
        if (n == cap) {
            char *more = cap > max ? NULL : realloc(b, cap * 2 + 1);
            if (!more) break;
            b = more;
            cap *= 2;
        }
        ssize_t k = faulty("file.read") ? -1 : read(fd, b + n, cap - n);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) {
            rc = err_set_at(err, JEPA_E_IO, path, (int64_t)n, "%s: cannot be read: %s", path, strerror(errno));
            goto done;
        }
        if (k == 0) break;
        n += (size_t)k;
        if (n > max) break;
    }
    if (!b) rc = err_set_at(err, JEPA_E_MEMORY, path, -1, "%s: no memory to read it", path);
    else if (n > max) rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: larger than %zu bytes, the most that is read of such a file", path, max);
done:
    close(fd);
    if (rc) {
        free(b);
        return rc;
    }
    b[n] = 0;
    *data = b;
    *size = n;
    return 0;
}

int dir_sync(const char *path) {
    char copy[PATH_MAX];
    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy) return JEPA_E_IO;
    int fd = faulty("dir.sync") ? -1 : open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return JEPA_E_IO;
    int rc = fsync(fd);
    close(fd);
    return rc && errno != EINVAL ? JEPA_E_IO : 0; /* some file systems cannot sync a folder */
}

int file_write_atomic(const char *path, const void *data, size_t size, jepa_err *err) {
    char aside[PATH_MAX];
    if (snprintf(aside, sizeof aside, "%s.tmp", path) >= (int)sizeof aside)
        return err_set_at(err, JEPA_E_IO, path, -1, "%.200s…: path too long", path);
    int fd = faulty("file.create") ? -1 : open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return err_set_at(err, JEPA_E_IO, path, -1, "%s: cannot be written: %s", path, strerror(errno));
    const char *p = data;
    size_t left = size;
    while (left) {
        ssize_t k = faulty("file.write") ? -1 : write(fd, p, left > 1 << 30 ? 1 << 30 : left);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) goto fail;
        p += k;
        left -= (size_t)k;
    }
    if (faulty("file.sync") || fsync(fd)) goto fail;
    int bad = close(fd);
    fd = -1;
    if (bad || faulty("file.rename") || rename(aside, path)) goto fail;
    dir_sync(path);
    return 0;
fail:;
    int e = errno;
    if (fd >= 0) close(fd);
    unlink(aside);
    return err_set_at(err, JEPA_E_IO, path, -1, "%s: cannot be written: %s", path, strerror(e));
}

int dir_make(const char *path, jepa_err *err) {
    char copy[PATH_MAX];
    size_t n = strlen(path);
    if (!n || n >= sizeof copy) return err_set(err, JEPA_E_IO, "folder name empty or too long");
    memcpy(copy, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (copy[i] != '/' && copy[i]) continue;
        char c = copy[i];
        copy[i] = 0;
        struct stat st;
        if (faulty("dir.make") || (mkdir(copy, 0777) && (errno != EEXIST || stat(copy, &st) || (!S_ISDIR(st.st_mode) && (errno = ENOTDIR)))))
            return err_set_at(err, JEPA_E_IO, path, -1, "%s: folder cannot be made: %s", path, strerror(errno));
        copy[i] = c;
    }
    return 0;
}
