/* vals.c: what scripts need to look into outputs without Python: values of a .safetensors, .npy or .h5, one a line, and comparisons.
 *
 *     vals FILE [NAME]               the values (a .npy has one array and no name)
 *     vals --shape FILE [NAME]       "6 96"
 *     vals --diff A NAME B NAME      largest difference, scaled by the largest value; "shape" where shapes differ */
#include "checkpoint/checkpoint.h"

#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct array { int rank; long long dim[8], n; double *v; char **text; } array;

static int die(const char *what, const char *path) {
    fprintf(stderr, "vals: %s: %s\n", path, what);
    exit(2);
}

static void size_of(array *a) {
    a->n = 1;
    for (int i = 0; i < a->rank; i++) a->n *= a->dim[i];
    if (!(a->v = calloc((size_t)a->n + 1, sizeof *a->v))) die("no memory", "values");
}

static double one(dtype t, const unsigned char *p) {
    float f;
    double d;
    uint16_t h;
    int32_t i32;
    int64_t i64;
    switch (t) {
    case T_F32: memcpy(&f, p, sizeof f); return f;
    case T_F64: memcpy(&d, p, sizeof d); return d;
    case T_F16: memcpy(&h, p, sizeof h); return f16_to_f32(h);
    case T_I32: memcpy(&i32, p, sizeof i32); return i32;
    case T_I64: memcpy(&i64, p, sizeof i64); return (double)i64;
    case T_U8: return *p;
    default: return NAN;
    }
}

static void read_safetensors(array *a, const char *path, const char *name) {
    jepa_err err = {0};
    st_file *f = NULL;
    if (st_open(&f, path, &err) < 0) die(err.text, path);
    const st_tensor *t = st_find(f, name ? name : "embeddings");
    if (!t) die("no such tensor", name ? name : path);
    a->rank = t->t.rank;
    for (int i = 0; i < a->rank; i++) a->dim[i] = t->t.dim[i];
    size_of(a);
    for (long long i = 0; i < a->n; i++) a->v[i] = one(t->t.type, (const unsigned char *)t->t.data + (size_t)i * dtype_size(t->t.type));
    st_close(&f);
}

static void read_npy(array *a, const char *path) {
    FILE *f = fopen(path, "rb");
    unsigned char h[10];
    char text[4096];
    if (!f || fread(h, 1, 10, f) != 10 || memcmp(h, "\x93NUMPY\x01\x00", 8)) die("not .npy 1.0", path);
    size_t n = (size_t)h[8] + 256u * h[9];
    if (n >= sizeof text || fread(text, 1, n, f) != n || (n + 10) % 64) die("header", path);
    text[n] = 0;
    dtype t = strstr(text, "'<f4'") ? T_F32 : strstr(text, "'<f2'") ? T_F16 : T_NONE;
    char *s = strstr(text, "'shape': (");
    if (t == T_NONE || !s || !strstr(text, "'fortran_order': False")) die("header", path);
    for (s += 10; *s && *s != ')' && a->rank < 8;) {
        char *end;
        a->dim[a->rank++] = strtoll(s, &end, 10);
        for (s = end; *s == ',' || *s == ' '; s++) {}
    }
    size_of(a);
    unsigned char b[4];
    for (long long i = 0; i < a->n; i++) {
        if (fread(b, dtype_size(t), 1, f) != 1) die("too short", path);
        a->v[i] = one(t, b);
    }
    if (fgetc(f) != EOF) die("too long", path);
    fclose(f);
}

static void read_h5(array *a, const char *path, const char *name) {
    hid_t f = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), d = f < 0 ? -1 : H5Dopen2(f, name ? name : "embeddings", H5P_DEFAULT);
    if (d < 0) die("no such data set", path);
    hid_t s = H5Dget_space(d), t = H5Dget_type(d);
    hsize_t dim[8];
    a->rank = H5Sget_simple_extent_dims(s, dim, NULL);
    for (int i = 0; i < a->rank; i++) a->dim[i] = (long long)dim[i];
    size_of(a);
    if (H5Tget_class(t) == H5T_STRING) {
        hid_t m = H5Tcopy(H5T_C_S1);
        H5Tset_size(m, H5T_VARIABLE);
        H5Tset_cset(m, H5T_CSET_UTF8);
        if (!(a->text = calloc((size_t)a->n + 1, sizeof *a->text)) || (a->n && H5Dread(d, m, H5S_ALL, H5S_ALL, H5P_DEFAULT, a->text) < 0)) die("text", path);
    } else if (a->n && H5Dread(d, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, a->v) < 0) {
        die("cannot be read", path);
    }
    H5Tclose(t), H5Sclose(s), H5Dclose(d), H5Fclose(f);
}

static array read_any(const char *path, const char *name) {
    array a = {0};
    size_t n = strlen(path);
    if (n > 3 && !strcmp(path + n - 3, ".h5")) read_h5(&a, path, name);
    else if (n > 4 && !strcmp(path + n - 4, ".npy")) read_npy(&a, path);
    else read_safetensors(&a, path, name);
    return a;
}

static void drop(array *a) {
    for (long long i = 0; a->text && i < a->n; i++) H5free_memory(a->text[i]);
    free(a->text), free(a->v);
}

int main(int argc, char **argv) {
    if (argc == 6 && !strcmp(argv[1], "--diff")) {
        array a = read_any(argv[2], argv[3]), b = read_any(argv[4], argv[5]);
        double most = 0, scale = 1e-30;
        int shape = a.n != b.n, bad = 0;
        for (long long i = 0; !shape && i < a.n; i++) {
            bad |= !isfinite(a.v[i]) || !isfinite(b.v[i]);
            most = fmax(most, fabs(a.v[i] - b.v[i])), scale = fmax(scale, fabs(a.v[i]));
        }
        if (shape || bad) printf(shape ? "shape\n" : "nan\n");
        else printf("%.3g\n", most / scale);
        drop(&a), drop(&b);
    } else if (argc >= 3 && argc <= 4 && !strcmp(argv[1], "--shape")) {
        array a = read_any(argv[2], argc > 3 ? argv[3] : NULL);
        for (int i = 0; i < a.rank; i++) printf("%s%lld", i ? " " : "", a.dim[i]);
        printf("\n");
        drop(&a);
    } else if (argc >= 2 && argc <= 3) {
        array a = read_any(argv[1], argc > 2 ? argv[2] : NULL);
        for (long long i = 0; i < a.n; i++)
            if (a.text) printf("%s\n", a.text[i]);
            else printf("%.9g\n", a.v[i]);
        drop(&a);
    } else {
        return 2;
    }
    return 0;
}
