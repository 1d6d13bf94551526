/* fuzz_safetensors.c: a safetensors file from outside, by itself and as the weights of a small Hugging Face folder. */
#include "checkpoint/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[64], weights[96], config[96]; /* made at the first call, removed at the end */
static dev *device;
static params model;

static const char CONFIG[] = "{\"model_type\": \"vjepa2\", \"patch_size\": 1, \"crop_size\": 2, \"frames_per_clip\": 2, \"tubelet_size\": "
                             "2, \"in_chans\": 1, \"hidden_size\": 2, "
                             "\"num_hidden_layers\": 1, \"num_attention_heads\": 1, \"mlp_ratio\": 1, \"pred_hidden_size\": 2, "
                             "\"pred_num_hidden_layers\": 1, \"pred_num_attention_heads\": 1, "
                             "\"pred_mlp_ratio\": 1, \"pred_num_mask_tokens\": 2}";

static void leave(void) {
    unlink(weights);
    unlink(config);
    rmdir(dir);
    params_close(&model);
    dev_close(&device);
}

static int start(void) {
    static const struct {
        const char *name;
        int rank;
        int64_t dim[5];
    } P[] = {
        {"encoder.patch_embed.proj.weight", 5, {2, 1, 2, 1, 1}},
        {"encoder.blocks.0.attn.qkv.weight", 2, {6, 2}},
        {"encoder.blocks.0.attn.qkv.bias", 1, {6}},
        {"encoder.norm.weight", 1, {2}},
        {"predictor.mask_tokens.0", 3, {1, 1, 2}},
        {"predictor.mask_tokens.1", 3, {1, 1, 2}},
        {"predictor.predictor_proj.bias", 1, {2}},
    };
    snprintf(dir, sizeof dir, "%s/jepa-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(dir)) return -1;
    snprintf(weights, sizeof weights, "%s/model.safetensors", dir);
    snprintf(config, sizeof config, "%s/config.json", dir);
    atexit(leave);
    if (file_write_atomic(config, CONFIG, sizeof CONFIG - 1, NULL) || dev_open(&device, "ref", 1, NULL)) return -1;
    for (size_t i = 0; i < sizeof P / sizeof *P; i++)
        if (params_add(&model, NULL, P[i].name, P[i].rank, P[i].dim) < 0) return -1;
    return params_alloc(&model, device, 0, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!dir[0] && start()) abort();
    FILE *f = fopen(weights, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f)) abort();
    jepa_err err;
    st_file *s = NULL;
    if (st_open(&s, weights, &err) == 0) {
        volatile unsigned sum = 0;              /* read, whatever the compiler thinks */
        for (int i = 0; i < st_count(s); i++) { /* every byte that a tensor claims is there, and no file is as large as what it may claim */
            const st_tensor *t = st_at(s, i);
            size_t n = (size_t)tensor_count(&t->t) * dtype_size(t->t.type);
            if (n > size || st_find(s, t->name) != t) abort();
            for (size_t k = 0; k < n; k++) sum = sum + ((const unsigned char *)t->t.data)[k];
        }
        st_meta(s, "format");
    }
    st_close(&s);
    ck *c = NULL;
    model_cfg m;
    ck_report r;
    if (ck_open(&c, dir, &err) == 0) {
        ck_config(c, &m, &err);
        ck_load(c, &model, "encoder.", CK_ENCODER, 0, &r, &err);
        ck_load(c, &model, "encoder.", CK_ENCODER, CK_ALLOW_PARTIAL, &r, &err);
        ck_load(c, &model, "predictor.", CK_PREDICTOR, CK_ALLOW_PARTIAL, &r, &err);
        char hex[65];
        ck_sha256(c, hex, &err);
    }
    ck_close(&c);
    return 0;
}
