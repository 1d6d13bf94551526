/* out.c: files that appear under their name only when whole, and the folders they lie in. */
#include "checkpoint/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int ck_fault(const char *name) {
    int e = fault_point(name);
    if (e) errno = e;
    return e;
}

static int failed(const char *path, const char *what, jepa_err *err) {
    int e = errno;
    return err_set_at(err, JEPA_E_IO, path, -1, "%s: cannot be %s: %s%s", path, what, strerror(e),
                      e == ENOSPC || e == EDQUOT ? "; what was there before is untouched" : "");
}

int out_open(out_file *f, const char *path, jepa_err *err) {
    f->fd = -1;
    f->path[0] = f->aside[0] = 0;
    if (snprintf(f->path, sizeof f->path, "%s", path) >= (int)sizeof f->path ||
        snprintf(f->aside, sizeof f->aside, "%s.tmp", path) >= (int)sizeof f->aside) {
        f->aside[0] = 0;
        return err_set_at(err, JEPA_E_IO, path, -1, "%.200s…: path too long", path);
    }
    f->fd = ck_fault("ck.open") ? -1 : open(f->aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (f->fd < 0) {
        f->aside[0] = 0;
        return failed(path, "written", err);
    }
    return 0;
}

int out_write(out_file *f, const void *data, size_t size, jepa_err *err) {
    const char *p = data;
    while (size) {
        ssize_t k = ck_fault("ck.write") ? -1 : write(f->fd, p, size > 1 << 30 ? 1 << 30 : size);
        if (k < 0 && errno == EINTR) continue;
        if (k == 0) errno = EIO;
        if (k <= 0) return failed(f->path, "written", err);
        p += k;
        size -= (size_t)k;
    }
    return 0;
}

int out_commit(out_file *f, jepa_err *err) {
    if (ck_fault("ck.sync") || fsync(f->fd)) return failed(f->path, "synced", err);
    int fd = f->fd;
    f->fd = -1;
    if (close(fd)) return failed(f->path, "written", err);
    if (ck_fault("ck.rename") || rename(f->aside, f->path)) return failed(f->path, "renamed into place", err);
    f->aside[0] = 0;
    if (dir_sync(f->path)) return failed(f->path, "synced", err);
    return 0;
}

void out_abort(out_file *f) {
    if (f->fd >= 0) close(f->fd);
    f->fd = -1;
    if (f->aside[0]) unlink(f->aside);
    f->aside[0] = 0;
}

int out_file_whole(const char *path, const void *data, size_t size, jepa_err *err) {
    out_file f;
    int rc = out_open(&f, path, err);
    if (!rc) rc = out_write(&f, data, size, err);
    if (!rc) rc = out_commit(&f, err);
    out_abort(&f);
    return rc;
}

int path_join(char *out, size_t size, const char *dir, const char *name, jepa_err *err) {
    size_t n = strlen(dir);
    int slash = n && dir[n - 1] != '/';
    if (snprintf(out, size, "%s%s%s", dir, slash ? "/" : "", name) >= (int)size) {
        out[0] = 0;
        return err_set_at(err, JEPA_E_IO, dir, -1, "%.200s…: path too long", dir);
    }
    return 0;
}

int path_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int path_is_file(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

int dir_remove(const char *path, jepa_err *err) {
    int fd = ck_fault("ck.remove") ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? 0 : failed(path, "removed", err);
    DIR *d = fdopendir(fd);
    if (!d) {
        int e = errno;
        close(fd);
        errno = e;
        return failed(path, "removed", err);
    }
    int bad = 0;
    for (struct dirent *e; !bad && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) bad = unlinkat(dirfd(d), e->d_name, 0) != 0;
    int e = errno;
    closedir(d);
    errno = e;
    if (bad || rmdir(path)) return failed(path, "removed", err);
    return 0;
}

int dir_sync_self(const char *path, jepa_err *err) {
    int fd = ck_fault("ck.sync") ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return failed(path, "synced", err);
    int bad = fsync(fd) && errno != EINVAL; /* some file systems cannot sync a folder */
    int e = errno;
    close(fd);
    errno = e;
    return bad ? failed(path, "synced", err) : 0;
}
