/* h5_frames.c: see h5_frames.h. */
#include "video/h5_frames.h"
#include "video/h5.h"

#include <errno.h>
#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct h5_frames {
    hid_t file, set, space, frame; /* frame: the shape of one in memory */
    int64_t frames;
    int width, height;
    char *name;
};

/* ---- opening ---- */

/* Under the lock. */
static hid_t open_file(const char *path, jepa_err *err) {
    hid_t access_list = H5Pcreate(H5P_FILE_ACCESS), f;
    if (access_list < 0) {
        err_set_at(err, JEPA_E_MEMORY, path, -1, "%s: no memory to open it", path);
        return -1;
    }
#if H5_VERSION_GE(1, 10, 7)
    H5Pset_file_locking(access_list, 0, 1); /* before 1.10.7 there is no call for it: HDF5_USE_FILE_LOCKING=FALSE is the user's to set */
#endif
    f = H5Fopen(path, H5F_ACC_RDONLY, access_list);
    H5Pclose(access_list);
    if (f >= 0) return f;
    if (access(path, R_OK))
        err_set_at(err, JEPA_E_INPUT, path, -1, "%s: %s", path, errno == ENOENT ? "not found" : strerror(errno));
    else
        err_set_at(err, JEPA_E_INPUT, path, -1, "%s: cannot be opened as HDF5: damaged, or not written to the end", path);
    return f;
}

typedef enum { SET_OTHER, SET_FRAMES, SET_CLIPS } set_kind;
/* What a data set is, by its type and shape. */
static set_kind kind_of(hid_t set, hsize_t dim[H5S_MAX_RANK]) {
    hid_t type = H5Dget_type(set), space = H5Dget_space(set);
    int rank = space >= 0 ? H5Sget_simple_extent_dims(space, dim, NULL) : -1;
    int bytes = type >= 0 && H5Tget_class(type) == H5T_INTEGER && H5Tget_size(type) == 1 && H5Tget_sign(type) == H5T_SGN_NONE;
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (!bytes || rank < 4 || rank > 5 || dim[rank - 1] != 3) return SET_OTHER;
    return rank == 4 ? SET_FRAMES : SET_CLIPS;
}

static const char *package_of(int filter) {
    switch (filter) {
    case 32000:
        return "LZF; on Debian: apt-get install hdf5-plugin-lzf";
    case 307:
        return "bzip2; on Debian: apt-get install hdf5-filter-plugin";
    case 32001:
        return "Blosc; on Debian: apt-get install hdf5-filter-plugin-blosc-serial";
    case 32004:
        return "LZ4; on Debian: apt-get install hdf5-filter-plugin";
    case 32008:
        return "Bitshuffle; on Debian: apt-get install hdf5-filter-plugin";
    case 32013:
        return "ZFP; on Debian: apt-get install hdf5-filter-plugin-zfp-serial";
    case 32015:
        return "Zstandard; on Debian: apt-get install python3-hdf5plugin, and HDF5_PLUGIN_PATH set to its folder of plugins";
    case 32026:
        return "Blosc2; on Debian: apt-get install python3-hdf5plugin, and HDF5_PLUGIN_PATH set to its folder of plugins";
    case H5Z_FILTER_DEFLATE:
        return "deflate, which this HDF5 was built without";
    case H5Z_FILTER_SZIP:
        return "szip, which this HDF5 was built without";
    default:
        return "not one that Debian has a package for";
    }
}

/* Bytes of a chunk (0: not in chunks) into *chunk; refuses what cannot be, or must not be, read. */
static int check_storage(hid_t set, const char *name, size_t *chunk, jepa_err *err) {
    hid_t p = H5Dget_create_plist(set);
    int rc = 0;
    *chunk = 0;
    if (p < 0) return err_set_at(err, JEPA_E_INPUT, name, -1, "%s: damaged: its storage is not described", name);
    H5D_layout_t layout = H5Pget_layout(p);
    if (layout == H5D_VIRTUAL || H5Pget_external_count(p) > 0) {
        rc = err_set_at(err, JEPA_E_INPUT, name, -1, "%s: its data lie in other files, which are not opened from here", name);
    } else if (H5Dget_storage_size(set) == 0) {
        rc = err_set_at(err, JEPA_E_INPUT, name, -1, "%s: no frames were written", name);
    } else if (layout == H5D_CHUNKED) {
        hsize_t dim[H5S_MAX_RANK];
        int rank = H5Pget_chunk(p, H5S_MAX_RANK, dim);
        size_t bytes = 1;
        for (int i = 0; i < rank && rank <= H5S_MAX_RANK; i++)
            if (dim[i] > H5_MOST_CHUNK || size_mul(bytes, (size_t)dim[i], &bytes)) bytes = SIZE_MAX / 2;
        *chunk = bytes;
        if (bytes > H5_MOST_CHUNK)
            rc = err_set_at(err, JEPA_E_INPUT, name, -1, "%s: chunks of more than %d MiB; write it with smaller ones", name,
                            H5_MOST_CHUNK >> 20);
    }
    int filters = H5Pget_nfilters(p);
    for (int i = 0; i < filters && !rc; i++) {
        unsigned flags;
        size_t values = 0;
        char text[64] = "";
        H5Z_filter_t id = H5Pget_filter2(p, (unsigned)i, &flags, &values, NULL, sizeof text, text, NULL);
        if (id < 0 || H5Zfilter_avail(id) > 0) continue;
        rc = err_set_at(err, JEPA_E_INPUT, name, -1, "%s: compressed with HDF5 filter %d, which is not here (%s)", name, (int)id,
                        package_of(id));
    }
    H5Pclose(p);
    return rc;
}

static int number_of(hid_t object, const char *name, double *out) {
    hid_t a, space, type;
    int found = 0;
    if (H5Aexists(object, name) <= 0 || (a = H5Aopen(object, name, H5P_DEFAULT)) < 0) return 0;
    space = H5Aget_space(a), type = H5Aget_type(a);
    if (space >= 0 && type >= 0 && H5Sget_simple_extent_npoints(space) == 1) {
        H5T_class_t c = H5Tget_class(type);
        if (c == H5T_INTEGER || c == H5T_FLOAT) found = H5Aread(a, H5T_NATIVE_DOUBLE, out) >= 0;
    }
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    H5Aclose(a);
    return found;
}

/* The nearest `fps`: of the set, then of the groups above it. */
static void find_fps(hid_t file, const char *set, h5_facts *f) {
    char *at = strdup(set);
    f->fps = H5_FPS;
    for (int level = 0; at && level < 64; level++) {
        double v;
        hid_t o = H5Oopen(file, *at ? at : "/", H5P_DEFAULT);
        if (o >= 0) {
            if (number_of(o, "fps", &v) && v > 0 && v <= 10000) f->fps = v, f->fps_is_told = 1, level = 64;
            H5Oclose(o);
        }
        char *slash = strrchr(at, '/');
        if (!*at || !slash) break;
        *slash = 0;
    }
    free(at);
}

static int open_set(h5_frames *h, const char *path, const char *set, h5_facts *f, jepa_err *err) {
    hsize_t dim[H5S_MAX_RANK], one[3];
    size_t chunk = 0;
    if ((h->file = open_file(path, err)) < 0) return JEPA_E_INPUT;
    if ((h->set = H5Dopen2(h->file, set, H5P_DEFAULT)) < 0)
        return err_set_at(err, JEPA_E_INPUT, h->name, -1, "%s: no such data set, or damaged", h->name);
    if (kind_of(h->set, dim) != SET_FRAMES) return err_set_at(err, JEPA_E_INPUT, h->name, -1, "%s: not frames (uint8 [T,H,W,3])", h->name);
    if (!dim[0] || dim[0] > INT32_MAX || !dim[1] || !dim[2] || dim[1] > H5_MOST_SIDE || dim[2] > H5_MOST_SIDE)
        return err_set_at(err, JEPA_E_INPUT, h->name, -1, "%s: %llu frames of %llux%llu cannot be used", h->name,
                          (unsigned long long)dim[0], (unsigned long long)dim[2], (unsigned long long)dim[1]);
    int rc = check_storage(h->set, h->name, &chunk, err);
    if (rc < 0) return rc;
    if (chunk > 1 << 20) { /* opened again with room for one chunk, or each frame of it would be unpacked anew */
        hid_t p = H5Pcreate(H5P_DATASET_ACCESS);
        H5Dclose(h->set);
        if (p >= 0) H5Pset_chunk_cache(p, 11, chunk + 1, 1);
        h->set = H5Dopen2(h->file, set, p >= 0 ? p : H5P_DEFAULT);
        if (p >= 0) H5Pclose(p);
        if (h->set < 0) return err_set_at(err, JEPA_E_INPUT, h->name, -1, "%s: cannot be opened again", h->name);
    }
    memcpy(one, dim + 1, sizeof one);
    h->space = H5Dget_space(h->set);
    h->frame = H5Screate_simple(3, one, NULL);
    if (h->space < 0 || h->frame < 0) return err_set_at(err, JEPA_E_MEMORY, h->name, -1, "%s: no memory to open it", h->name);
    h->frames = (int64_t)dim[0], h->height = (int)dim[1], h->width = (int)dim[2];
    *f = (h5_facts){.frames = h->frames, .width = h->width, .height = h->height};
    find_fps(h->file, set, f);
    return 0;
}

int h5_frames_open(h5_frames **out, const char *path, const char *set, const char *name, h5_facts *facts, jepa_err *err) {
    h5_frames *h = mem_alloc(1, sizeof *h);
    size_t n = strlen(name) + 1;
    *out = NULL;
    if (h) h->file = h->set = h->space = h->frame = -1;
    if (!h || !(h->name = mem_alloc(n, 1))) {
        h5_frames_close(&h);
        return err_set_at(err, JEPA_E_MEMORY, name, -1, "%s: no memory to open it", name);
    }
    memcpy(h->name, name, n);
    h5_lock();
    int rc = open_set(h, path, set, facts, err);
    h5_unlock();
    if (rc < 0) h5_frames_close(&h);
    *out = h;
    return rc;
}

void h5_frames_close(h5_frames **ph) {
    h5_frames *h = ph ? *ph : NULL;
    if (!h) return;
    h5_lock();
    if (h->frame >= 0) H5Sclose(h->frame);
    if (h->space >= 0) H5Sclose(h->space);
    if (h->set >= 0) H5Dclose(h->set);
    if (h->file >= 0) H5Fclose(h->file);
    h5_unlock();
    mem_free(h->name);
    mem_free(h);
    *ph = NULL;
}

int h5_frames_read(h5_frames *h, int64_t frame, uint8_t *rgb, jepa_err *err) {
    if (frame < 0 || frame >= h->frames)
        return err_set_at(err, JEPA_E_USE, h->name, -1, "%s: frame %lld of %lld asked for", h->name, (long long)frame,
                          (long long)h->frames);
    hsize_t start[4] = {(hsize_t)frame, 0, 0, 0}, count[4] = {1, (hsize_t)h->height, (hsize_t)h->width, 3};
    h5_lock();
    int ok = H5Sselect_hyperslab(h->space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 && !fault_point("h5.read") &&
             H5Dread(h->set, H5T_NATIVE_UINT8, h->frame, h->space, H5P_DEFAULT, rgb) >= 0;
    h5_unlock();
    if (ok) return 0;
    return err_set_at(err, JEPA_E_INPUT, h->name, -1, "%s: frame %lld cannot be read: damaged, or cut short", h->name, (long long)frame);
}

/* ---- what a file has ---- */

typedef struct found {
    char *set;
    int clips;
} found;
typedef struct search {
    found *at;
    int n, cap, rc;
    int64_t seen, others;
} search;

static int keep(search *s, const char *name, int clips) {
    if (s->n == s->cap) {
        int cap = s->cap ? s->cap * 2 : 64;
        found *more = mem_alloc((size_t)cap, sizeof *more);
        if (!more) return JEPA_E_MEMORY;
        if (s->n) memcpy(more, s->at, (size_t)s->n * sizeof *more);
        mem_free(s->at);
        s->at = more;
        s->cap = cap;
    }
    size_t n = strlen(name) + 2;
    char *c = mem_alloc(n, 1);
    if (!c) return JEPA_E_MEMORY;
    snprintf(c, n, "/%s", name);
    s->at[s->n++] = (found){c, clips};
    return 0;
}

static herr_t on_object(hid_t root, const char *name, const H5O_info_t *info, void *ctx) {
    search *s = ctx;
    hsize_t dim[H5S_MAX_RANK];
    if (++s->seen > H5_MOST_OBJECTS) return s->rc = JEPA_E_INPUT, 1;
    if (info->type != H5O_TYPE_DATASET) return 0;
    hid_t d = H5Dopen2(root, name, H5P_DEFAULT);
    set_kind k = d >= 0 ? kind_of(d, dim) : SET_OTHER;
    if (d >= 0) H5Dclose(d);
    if (k == SET_OTHER)
        s->others++;
    else if (keep(s, name, k == SET_CLIPS) < 0)
        return s->rc = JEPA_E_MEMORY, 1;
    return 0;
}

/* Runs of digits by their value, all else by bytes; names that differ in leading zeros only by bytes. */
static int by_number(const void *a, const void *b) {
    const char *x = ((const found *)a)->set, *y = ((const found *)b)->set, *p = x, *q = y;
    while (*p && *q) {
        if (*p >= '0' && *p <= '9' && *q >= '0' && *q <= '9') {
            while (*p == '0') p++;
            while (*q == '0') q++;
            size_t m = strspn(p, "0123456789"), n = strspn(q, "0123456789");
            int c = m != n ? (m < n ? -1 : 1) : memcmp(p, q, m);
            if (c) return c;
            p += m, q += n;
        } else {
            if (*p != *q) return (unsigned char)*p < (unsigned char)*q ? -1 : 1;
            p++, q++;
        }
    }
    return *p || *q ? (*p ? 1 : -1) : strcmp(x, y);
}

/* robomimic keeps each frame twice: in obs, and as next_obs of the step before. */
static int is_next_of(const search *s, const char *set) {
    const char *at = strstr(set, "/next_obs/");
    if (!at) return 0;
    size_t n = strlen(set), head = (size_t)(at - set) + 1;
    char *obs = mem_alloc(n + 1, 1);
    if (!obs) return 0;
    memcpy(obs, set, head);
    memcpy(obs + head, set + head + 5, n - head - 5 + 1);
    found key = {obs, 0};
    int yes = bsearch(&key, s->at, (size_t)s->n, sizeof key, by_number) != NULL;
    mem_free(obs);
    return yes;
}

int h5_frames_list(const char *path, int (*fn)(void *ctx, const char *set, const char *reason), void *ctx, int64_t *ignored,
                   jepa_err *err) {
    search s = {0};
    int rc = 0;
    h5_lock();
    hid_t f = open_file(path, err);
    if (f < 0)
        rc = JEPA_E_INPUT;
    else if (H5Ovisit2(f, H5_INDEX_NAME, H5_ITER_NATIVE, on_object, &s, H5O_INFO_BASIC) < 0)
        rc = err_set_at(err, JEPA_E_INPUT, path, -1, "%s: damaged HDF5", path);
    if (f >= 0) H5Fclose(f);
    h5_unlock();
    if (s.rc == JEPA_E_MEMORY)
        rc = err_set_at(err, s.rc, path, -1, "%s: no memory for the list of its data sets", path);
    else if (s.rc)
        rc = err_set_at(err, s.rc, path, -1, "%s: more than %d objects", path, H5_MOST_OBJECTS);
    if (s.n) qsort(s.at, (size_t)s.n, sizeof *s.at, by_number);
    for (int i = 0; i < s.n && !rc; i++) {
        if (is_next_of(&s, s.at[i].set))
            s.others++;
        else
            rc = fn(ctx, s.at[i].set,
                    s.at[i].clips ? "uint8 [N,T,H,W,3]: clips in one data set are not read; write one [T,H,W,3] for each" : NULL);
    }
    *ignored = s.others;
    for (int i = 0; i < s.n; i++) mem_free(s.at[i].set);
    mem_free(s.at);
    return rc;
}
