/* make_h5.c: HDF5 files of frames as robot data sets have them, from clips that `jepa frames --raw -o F.safetensors` gave:
 *
 *     make_h5 OUT.hdf5 NAME CLIPS.safetensors [gzip]
 *
 * NAME holds %d, the clip's number, where each clip has a data set of its own (data/demo_%d/obs/agentview): uint8 [T,H,W,3]. Beside it
 * stand data sets that are no frames. Existing files are added to. */
#include "checkpoint/checkpoint.h"

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int die(const char *what) {
    fprintf(stderr, "make_h5: %s\n", what);
    exit(2);
}

static void put(hid_t f, const char *name, hid_t type, int rank, const hsize_t *dim, const void *data, int gzip) {
    hid_t s = H5Screate_simple(rank, dim, NULL), groups = H5Pcreate(H5P_LINK_CREATE), c = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_create_intermediate_group(groups, 1);
    if (gzip) {
        hsize_t chunk[4] = {1, dim[1], dim[2], dim[3]};
        if (H5Pset_chunk(c, rank, chunk) < 0 || H5Pset_deflate(c, 4) < 0) die("chunks");
    }
    hid_t d = H5Dcreate2(f, name, type, s, groups, c, H5P_DEFAULT);
    if (d < 0 || H5Dwrite(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0) die(name);
    H5Dclose(d), H5Pclose(c), H5Pclose(groups), H5Sclose(s);
}

int main(int argc, char **argv) {
    jepa_err err = {0};
    st_file *st = NULL;
    if (argc < 4 || argc > 5) return 2;
    if (st_open(&st, argv[3], &err) < 0) die(err.text);
    const st_tensor *t = st_find(st, "frames");
    if (!t || t->t.rank != 5 || t->t.type != T_U8) die("no frames");
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t f = H5Fopen(argv[1], H5F_ACC_RDWR, H5P_DEFAULT);
    if (f < 0) f = H5Fcreate(argv[1], H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    if (f < 0) die(argv[1]);
    const hsize_t dim[4] = {(hsize_t)t->t.dim[1], (hsize_t)t->t.dim[2], (hsize_t)t->t.dim[3], 3}, states[2] = {dim[0], 7};
    const size_t clip = (size_t)(dim[0] * dim[1] * dim[2] * 3);
    float *zero = calloc((size_t)(dim[0] * 7), sizeof *zero);
    if (!zero) die("memory");
    for (int64_t i = 0; i < t->t.dim[0]; i++) {
        char name[200], other[256];
        const char *percent = strstr(argv[2], "%d");
        if (percent)
            snprintf(name, sizeof name, "%.*s%lld%s", (int)(percent - argv[2]), argv[2], (long long)i, percent + 2);
        else
            snprintf(name, sizeof name, "%s", argv[2]);
        put(f, name, H5T_NATIVE_UINT8, 4, dim, (const char *)t->t.data + (size_t)i * clip, argc == 5);
        snprintf(other, sizeof other, "%s_actions", name);
        put(f, other, H5T_NATIVE_FLOAT, 2, states, zero, 0);
        if (!percent) break;
    }
    H5Fclose(f);
    st_close(&st);
    free(zero);
    return 0;
}
