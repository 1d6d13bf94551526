/* fuzz_pt.c: a PyTorch file from outside: the bytes as they are, as the pickle of an archive whose frame is right, and as a model. */
#include "checkpoint/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[64], whole[96], framed[96]; /* made at the first call, removed at the end */
static dev *device;
static params model;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void leave(void) {
    unlink(whole), unlink(framed);
    rmdir(dir);
    params_close(&model);
    dev_close(&device);
}

static int start(void) {
    static const struct {
        const char *name;
        int rank;
        int64_t dim[5];
    } P[] = {{"encoder.patch_embed.proj.weight", 5, {4, 1, 1, 1, 1}},
             {"encoder.blocks.0.norm1.weight", 1, {4}},
             {"encoder.pos_embed", 3, {1, 1, 4}},
             {"predictor.predictor_embed.weight", 2, {2, 4}}};
    snprintf(dir, sizeof dir, "%s/jepa-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(dir)) return -1;
    snprintf(whole, sizeof whole, "%s/x.pt", dir);
    snprintf(framed, sizeof framed, "%s/y.pt", dir);
    atexit(leave);
    if (dev_open(&device, "ref", 1, NULL)) return -1;
    for (size_t i = 0; i < sizeof P / sizeof *P; i++)
        if (params_add(&model, NULL, P[i].name, P[i].rank, P[i].dim) < 0) return -1;
    return params_alloc(&model, device, 0, NULL);
}

static void number(FILE *f, uint64_t v, int n) {
    while (n--) fputc((int)(v & 255), f), v >>= 8;
}

/* A zip of the bytes as its pickle and of four storages of 64 bytes. */
static void frame(const uint8_t *data, size_t size) {
    static const char *const names[] = {"a/data.pkl", "a/data/0", "a/data/1", "a/data/2", "a/data/3"};
    size_t at[5], n[5] = {size, 64, 64, 64, 64}, pos = 0, central = 0;
    FILE *f = fopen(framed, "wb");
    if (!f) abort();
    for (int i = 0; i < 5; i++) {
        at[i] = pos;
        fwrite("PK\3\4", 1, 4, f), number(f, 20, 2), number(f, 0, 12), number(f, n[i], 4), number(f, n[i], 4),
            number(f, strlen(names[i]), 2), number(f, 0, 2);
        fputs(names[i], f);
        if (!i && size) fwrite(data, 1, size, f);
        for (size_t k = 0; i && k < 64; k++) fputc((int)(k * 7 + (size_t)i) & 255, f);
        pos += 30 + strlen(names[i]) + n[i];
    }
    for (int i = 0; i < 5; i++) {
        fwrite("PK\1\2", 1, 4, f), number(f, 20, 2), number(f, 20, 2), number(f, 0, 12), number(f, n[i], 4), number(f, n[i], 4),
            number(f, strlen(names[i]), 2);
        number(f, 0, 12), number(f, at[i], 4);
        fputs(names[i], f);
        central += 46 + strlen(names[i]);
    }
    fwrite("PK\5\6", 1, 4, f), number(f, 0, 4), number(f, 5, 2), number(f, 5, 2), number(f, central, 4), number(f, pos, 4), number(f, 0, 2);
    if (fclose(f)) abort();
}

static void look(const char *path, size_t size) {
    jepa_err err = {0};
    pt_file *f = NULL;
    int rc = pt_open(&f, path, &err);
    if (rc > 0 || (rc == 0) != (f != NULL) || (rc && !err.text[0])) abort();
    size_t claimed = 0;
    for (int i = 0; f && i < pt_count(f); i++) {
        const pt_tensor *t = pt_at(f, i);
        size_t n = 1;
        for (int k = 0; k < t->rank; k++) n *= (size_t)t->dim[k];
        claimed += n * dtype_size(t->type);
        if (pt_find(f, t->top, t->name) != t || claimed / 4 > size + (8 << 20)) abort();
        if (n > 1 << 20) continue;            /* allowed, and slow */
        float *x = malloc(n * sizeof *x + 4); /* every element that a view claims is there */
        if (!x || pt_copy_f32(t, x)) abort();
        free(x);
    }
    pt_close(&f);
    static const ck_hints hints[2] = {{.arch = NULL}, {.arch = "vit_tiny", .family = "vjepa1", .heads = 3, .crop = 64}};
    for (int i = 0; i < 2; i++) {
        ck *c = NULL;
        model_cfg m;
        ck_report r;
        if (ck_open_as(&c, path, &hints[i], &err) == 0) {
            if (ck_config(c, &m, &err) == 0 &&
                (m.embed_dim < 1 || m.depth > 1024 || m.img_height < 0 || m.img_height > 65536 || !m.family[0]))
                abort();
            ck_load(c, &model, "encoder.", CK_TARGET, 0, &r, &err);
            ck_load(c, &model, "encoder.", CK_ENCODER, CK_ALLOW_PARTIAL, &r, &err);
            ck_load(c, &model, "predictor.", CK_PREDICTOR, CK_ALLOW_PARTIAL, &r, &err);
        }
        ck_close(&c);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!dir[0] && start()) abort();
    FILE *f = fopen(whole, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f)) abort();
    look(whole, size);
    frame(data, size);
    look(framed, size + 512);
    return 0;
}
