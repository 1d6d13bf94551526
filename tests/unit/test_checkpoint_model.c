/* test_checkpoint_model.c: model folders: Hugging Face's (single, sharded, three types) and ours, read, refused and written. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"

#define GOLD TEST_DATA "/vectors/vjepa2-hf-tiny/"

static dev *device;
static char dir[64];

/* ---- small helpers ---- */

static int group_setup(void **state) { return dev_open(&device, "ref", 1, NULL); }
static int group_teardown(void **state) {
    dev_close(&device);
    return 0;
}

static const char *at(const char *name) {
    static char path[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static int setup(void **state) {
    snprintf(dir, sizeof dir, "/tmp/jepa-ck-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static void empty(const char *path) {
    DIR *d = opendir(path);
    char sub[512];
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(sub, sizeof sub, "%s/%s", path, e->d_name);
        if (unlink(sub)) empty(sub);
    }
    if (d) closedir(d);
    rmdir(path);
}

static int teardown(void **state) {
    empty(dir);
    return 0;
}

static void text(const char *name, const char *what) {
    FILE *f = fopen(at(name), "wb");
    assert_non_null(f);
    assert_true(fputs(what, f) >= 0);
    fclose(f);
}

static void copy(const char *from, const char *name) {
    char *data;
    size_t n;
    assert_int_equal(file_read(from, 64 << 20, &data, &n, NULL), 0);
    FILE *f = fopen(at(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
    mem_free(data);
}

/* A text file of golden with one piece replaced. */
static void copy_changed(const char *from, const char *name, const char *old, const char *fresh) {
    char *data, *p;
    size_t n;
    assert_int_equal(file_read(from, 64 << 20, &data, &n, NULL), 0);
    p = strstr(data, old);
    if (!p) fail_msg("%s: no %s", from, old);
    FILE *f = fopen(at(name), "wb");
    fwrite(data, 1, (size_t)(p - data), f);
    fputs(fresh, f);
    fputs(p + strlen(old), f);
    fclose(f);
    mem_free(data);
}

/* ---- parameters by Meta's names ---- */

static void add(params *p, const char *front, const char *name, int rank, ...) {
    char whole[128];
    int64_t dim[8];
    va_list ap;
    va_start(ap, rank);
    for (int i = 0; i < rank; i++) dim[i] = va_arg(ap, int);
    va_end(ap);
    snprintf(whole, sizeof whole, "%s%s", front, name);
    assert_true(params_add(p, NULL, whole, rank, dim) >= 0);
}

static void add_block(params *p, const char *front, const char *list, int i, int d, int hidden) {
    char b[64];
    snprintf(b, sizeof b, "%s%s.%d.", front, list, i);
    add(p, b, "norm1.weight", 1, d);
    add(p, b, "norm1.bias", 1, d);
    add(p, b, "attn.qkv.weight", 2, 3 * d, d);
    add(p, b, "attn.qkv.bias", 1, 3 * d);
    add(p, b, "attn.proj.weight", 2, d, d);
    add(p, b, "attn.proj.bias", 1, d);
    add(p, b, "norm2.weight", 1, d);
    add(p, b, "norm2.bias", 1, d);
    add(p, b, "mlp.fc1.weight", 2, hidden, d);
    add(p, b, "mlp.fc1.bias", 1, hidden);
    add(p, b, "mlp.fc2.weight", 2, d, hidden);
    add(p, b, "mlp.fc2.bias", 1, d);
}

static void add_encoder(params *p, const char *front, const model_cfg *m) {
    int d = m->embed_dim;
    add(p, front, "patch_embed.proj.weight", 5, d, m->in_chans, m->tubelet_size, m->patch_size, m->patch_size);
    add(p, front, "patch_embed.proj.bias", 1, d);
    for (int i = 0; i < m->depth; i++) add_block(p, front, "blocks", i, d, (int)(d * m->mlp_ratio));
    add(p, front, "norm.weight", 1, d);
    add(p, front, "norm.bias", 1, d);
}

static void add_predictor(params *p, const char *front, const model_cfg *m) {
    int d = m->predictor_embed_dim;
    char name[32];
    add(p, front, "predictor_embed.weight", 2, d, m->embed_dim);
    add(p, front, "predictor_embed.bias", 1, d);
    for (int i = 0; i < m->num_mask_tokens; i++) {
        snprintf(name, sizeof name, "mask_tokens.%d", i);
        add(p, front, name, 3, 1, 1, d);
    }
    for (int i = 0; i < m->predictor_depth; i++) add_block(p, front, "predictor_blocks", i, d, (int)(d * m->predictor_mlp_ratio));
    add(p, front, "predictor_norm.weight", 1, d);
    add(p, front, "predictor_norm.bias", 1, d);
    add(p, front, "predictor_proj.weight", 2, m->predictor_out_dim, d);
    add(p, front, "predictor_proj.bias", 1, m->predictor_out_dim);
}

static const model_cfg TINY = {.family = "vjepa2",
                               .img_height = 64,
                               .img_width = 64,
                               .patch_size = 16,
                               .tubelet_size = 2,
                               .num_frames = 4,
                               .in_chans = 3,
                               .embed_dim = 56,
                               .depth = 2,
                               .num_heads = 2,
                               .mlp_ratio = 4,
                               .layer_norm_eps = 1e-6,
                               .use_rope = 1,
                               .predictor_embed_dim = 40,
                               .predictor_depth = 2,
                               .predictor_num_heads = 2,
                               .predictor_out_dim = 56,
                               .num_mask_tokens = 3,
                               .predictor_mlp_ratio = 2,
                               .mask_token = 1,
                               .published_rows = 4,
                               .published_cols = 4};

static void model(params *p, const model_cfg *m) {
    *p = (params){0};
    add_encoder(p, "encoder.", m);
    add_predictor(p, "predictor.", m);
    assert_int_equal(params_alloc(p, device, 0, NULL), 0);
}

static void open_ok(ck **c, const char *path) {
    jepa_err e = {0};
    if (ck_open(c, path, &e)) fail_msg("%s", e.text);
}

static void load_both(const char *path, params *p, ck_report *r) {
    ck *c;
    jepa_err e = {0};
    open_ok(&c, path);
    if (ck_load(c, p, "encoder.", CK_ENCODER, 0, r, &e) || ck_load(c, p, "predictor.", CK_PREDICTOR, 0, r, &e)) fail_msg("%s", e.text);
    ck_close(&c);
    assert_null(c);
}

static void same_params(const params *a, const params *b) {
    assert_int_equal(a->n, b->n);
    for (int i = 0; i < a->n; i++) {
        assert_string_equal(a->item[i].name, b->item[i].name);
        if (memcmp(param_value(a, i), param_value(b, i), (size_t)a->item[i].count * 4)) fail_msg("%s differs", a->item[i].name);
    }
}

static void same_file(const char *a, const char *b) {
    char *x, *y;
    size_t n, m;
    assert_int_equal(file_read(a, 64 << 20, &x, &n, NULL), 0);
    assert_int_equal(file_read(b, 64 << 20, &y, &m, NULL), 0);
    if (n != m || memcmp(x, y, n)) fail_msg("%s and %s differ", a, b);
    mem_free(x);
    mem_free(y);
}

/* ---- Hugging Face, read ---- */

static void a_golden_folder_is_opened(void **state) {
    ck *c;
    model_cfg m;
    jepa_err e = {0};
    open_ok(&c, GOLD "model");
    assert_string_equal(ck_kind(c), "Hugging Face VJEPA2Model folder");
    if (ck_config(c, &m, &e)) fail_msg("%s", e.text);
    assert_memory_equal(&m, &TINY, sizeof m);
    assert_int_equal(ck_has(c, CK_ENCODER), 1);
    assert_int_equal(ck_has(c, CK_PREDICTOR), 1);
    assert_int_equal(ck_has(c, CK_TARGET), 0);
    char side[300], hex[65];
    ck_side_file(c, "config.json", side, sizeof side);
    assert_string_equal(side, GOLD "model/config.json");
    ck_side_file(c, "video_preprocessor_config.json", side, sizeof side);
    assert_string_equal(side, "");
    ck_side_file(c, "../meta.json", side, sizeof side);
    assert_string_equal(side, "");
    assert_int_equal(ck_sha256(c, hex, &e), 0); /* as sha256sum model.safetensors says */
    assert_string_equal(hex, "5b79b1d062da5d0d83e7488e6a658f6bbfaa8515bf4867d0fbac5ba71843d684");
    ck_close(&c);
    open_ok(&c, GOLD "model/model.safetensors"); /* the file beside its config */
    assert_string_equal(ck_kind(c), "Hugging Face VJEPA2Model folder");
    assert_int_equal(ck_config(c, &m, &e), 0);
    ck_close(&c);
    open_ok(&c, GOLD "model-sharded");
    assert_string_equal(ck_kind(c), "Hugging Face VJEPA2Model folder, 5 shards");
    assert_int_equal(ck_config(c, &m, &e), 0);
    ck_close(&c);
    ck_close(&c);
    ck_close(NULL);
}

static void names_and_rows_are_mapped(void **state) {
    params p;
    ck_report r;
    jepa_err e = {0};
    st_file *f;
    model(&p, &TINY);
    load_both(GOLD "model", &p, &r);
    assert_int_equal(r.loaded, 2 * 12 + 2 + 3 + 4);
    assert_int_equal(r.missing + r.unexpected + r.ignored, 0);
    assert_string_equal(r.text, "");
    assert_int_equal(st_open(&f, GOLD "model/model.safetensors", &e), 0);
    static const struct {
        const char *meta, *hf;
        int from;
    } map[] = {
        {"encoder.patch_embed.proj.weight", "encoder.embeddings.patch_embeddings.proj.weight", 0},
        {"encoder.norm.bias", "encoder.layernorm.bias", 0},
        {"encoder.blocks.1.attn.qkv.weight", "encoder.layer.1.attention.query.weight", 0},
        {"encoder.blocks.1.attn.qkv.weight", "encoder.layer.1.attention.key.weight", 56 * 56},
        {"encoder.blocks.1.attn.qkv.weight", "encoder.layer.1.attention.value.weight", 2 * 56 * 56},
        {"encoder.blocks.0.attn.qkv.bias", "encoder.layer.0.attention.value.bias", 112},
        {"encoder.blocks.0.mlp.fc2.weight", "encoder.layer.0.mlp.fc2.weight", 0},
        {"predictor.predictor_embed.weight", "predictor.embeddings.predictor_embeddings.weight", 0},
        {"predictor.predictor_blocks.1.attn.qkv.weight", "predictor.layer.1.attention.key.weight", 1600},
        {"predictor.predictor_norm.weight", "predictor.layernorm.weight", 0},
        {"predictor.predictor_proj.weight", "predictor.proj.weight", 0},
    };
    for (size_t i = 0; i < sizeof map / sizeof *map; i++) {
        const st_tensor *t = st_find(f, map[i].hf);
        assert_non_null(t);
        assert_memory_equal(param_value(&p, params_find(&p, map[i].meta)) + map[i].from, t->t.data, (size_t)tensor_count(&t->t) * 4);
    }
    const float *tokens = st_find(f, "predictor.embeddings.mask_tokens")->t.data;
    for (int i = 0; i < 3; i++) {
        char name[40];
        snprintf(name, sizeof name, "predictor.mask_tokens.%d", i);
        assert_memory_equal(param_value(&p, params_find(&p, name)), tokens + 40 * i, 160);
    }
    st_close(&f);
    params_close(&p);
}

static void shards_and_half_types_hold_the_same(void **state) {
    params p, q;
    model(&p, &TINY);
    model(&q, &TINY);
    load_both(GOLD "model", &p, NULL);
    load_both(GOLD "model-sharded", &q, NULL);
    same_params(&p, &q);
    for (int half = 0; half < 2; half++) {
        load_both(half ? GOLD "model-fp16" : GOLD "model-bf16", &q, NULL);
        for (int i = 0; i < p.n; i++)
            for (int64_t k = 0; k < p.item[i].count; k++) {
                float x = param_value(&p, i)[k], y = half ? f16_to_f32(f32_to_f16(x)) : bf16_to_f32(f32_to_bf16(x));
                if (param_value(&q, i)[k] != y) fail_msg("%s[%ld]", p.item[i].name, (long)k);
            }
    }
    ck *c;
    jepa_err e = {0};
    open_ok(&c, GOLD "model"); /* its one encoder serves as the target too */
    params t = {0};
    add_encoder(&t, "target_encoder.", &TINY);
    assert_int_equal(params_alloc(&t, device, 0, NULL), 0);
    if (ck_load(c, &t, "target_encoder.", CK_TARGET, 0, NULL, &e)) fail_msg("%s", e.text);
    assert_memory_equal(param_value(&t, 5), param_value(&p, 5), (size_t)p.item[5].count * 4);
    ck_close(&c);
    params_close(&t);
    params_close(&p);
    params_close(&q);
}

/* A classifier made of the golden model: prefixed names, a pooler and a head. */
static int prefix_all(void *ctx, const char *name, const tensor *t) {
    struct {
        st_out *o;
        char (*name)[256];
        int n;
    } *l = ctx;
    snprintf(l->name[l->n], 256, "vjepa2.%s", name);
    l->o[l->n] = (st_out){l->name[l->n], *t, T_NONE};
    l->n++;
    return 0;
}

static void a_classifier_gives_its_backbone(void **state) {
    struct {
        st_out *o;
        char (*name)[256];
        int n;
    } l = {calloc(100, sizeof *l.o), calloc(100, sizeof *l.name), 0};
    ck *c;
    jepa_err e = {0};
    float head[7 * 56] = {0};
    open_ok(&c, GOLD "model");
    ck_each(c, prefix_all, &l);
    l.o[l.n++] = (st_out){"classifier.weight", {T_F32, 2, {7, 56}, head}, T_NONE};
    l.o[l.n++] = (st_out){"pooler.query_tokens", {T_F32, 3, {1, 1, 56}, head}, T_NONE};
    assert_int_equal(st_write(at("model.safetensors"), l.o, l.n, NULL, &e), 0);
    ck_close(&c);
    copy(GOLD "model/config.json", "config.json");
    params p, q;
    ck_report r;
    model(&p, &TINY);
    model(&q, &TINY);
    load_both(GOLD "model", &p, NULL);
    load_both(dir, &q, &r);
    same_params(&p, &q);
    assert_int_equal(r.ignored, 2);
    assert_string_equal(r.text, "pooler and classifier: 2 tensors, read when classifying");
    open_ok(&c, dir);
    assert_string_equal(ck_kind(c), "Hugging Face VJEPA2ForVideoClassification folder");
    ck_close(&c);
    params_close(&p);
    params_close(&q);
    free(l.o);
    free(l.name);
}

/* ---- what is refused ---- */

static void wont_open(const char *path, int code, const char *words) {
    ck *c = (ck *)8;
    jepa_err e = {0};
    int rc = ck_open(&c, path, &e);
    if (rc != code || c || !strstr(e.text, words)) fail_msg("%s: %d \"%s\", wanted %d \"%s\"", path, rc, e.text, code, words);
}

static void other_things_are_refused_by_name(void **state) {
    wont_open("/nonexistent", JEPA_E_IO, "not found");
    wont_open("", JEPA_E_USE, "no model");
    wont_open(dir, JEPA_E_MODEL, "holds no model");
    text("vitl.pt", "PK\x03\x04 zip");
    wont_open(at("vitl.pt"), JEPA_E_MODEL, "vitl.pt: a zip archive, but too short to be whole");
    wont_open(dir, JEPA_E_MODEL, "it holds vitl.pt, which looks like a PyTorch checkpoint");
    text("old.pt", "\x80\x02}}}}}q");
    wont_open(at("old.pt"), JEPA_E_MODEL, "byte 7 of its first pickle: it ends in the middle of a value");
    text("clip.mp4", "not a model at all");
    wont_open(at("clip.mp4"), JEPA_E_MODEL, "not a safetensors file");
    text("none", "");
    wont_open(at("none"), JEPA_E_MODEL, "is empty");
    copy(GOLD "model/model.safetensors", "lonely.safetensors");
    wont_open(at("lonely.safetensors"), JEPA_E_MODEL, "neither config.json nor model.json");
    assert_int_equal(mkfifo(at("pipe"), 0600), 0);
    wont_open(at("pipe"), JEPA_E_IO, "neither a folder nor an ordinary file");
    text("config.json", "{\"model_type\": \"vit\"}");
    wont_open(dir, JEPA_E_MODEL, "model_type \"vit\"");
    text("config.json", "{\"hidden_size\": 3}");
    wont_open(dir, JEPA_E_MODEL, "has no model_type");
    text("config.json", "[1]");
    wont_open(dir, JEPA_E_MODEL, "not a JSON object");
    text("config.json", "{\"model_type\": ");
    wont_open(dir, JEPA_E_MODEL, "config.json: not valid JSON at byte 15");
    copy(GOLD "model/config.json", "config.json");
    wont_open(dir, JEPA_E_MODEL, "neither model.safetensors nor");
    wont_open(at("config.json"), JEPA_E_MODEL, "give the folder that holds it");
    text("pytorch_model.bin", "PK\x03\x04");
    wont_open(dir, JEPA_E_MODEL, "pytorch_model.bin: 4 bytes are no PyTorch file");
    text("model.safetensors", "version https://git-lfs.github.com/spec/v1");
    wont_open(dir, JEPA_E_MODEL, "Git LFS pointer");
    text("model.json", "{}");
    wont_open(dir, JEPA_E_MODEL, "not the model.json that jepa writes");
    text("model.json", "{\"format\": \"jepa model\", \"version\": 2}");
    wont_open(dir, JEPA_E_MODEL, "version is 2");
}

static void a_bad_index_is_refused(void **state) {
    char index[] = GOLD "model-sharded/model.safetensors.index.json", name[64], from[300];
    copy(GOLD "model/config.json", "config.json");
    for (int i = 1; i <= 5; i++) {
        snprintf(name, sizeof name, "model-%05d-of-00005.safetensors", i);
        snprintf(from, sizeof from, GOLD "model-sharded/%s", name);
        copy(from, name);
    }
    const char *to = "model.safetensors.index.json", *one = "\"predictor.proj.bias\": \"model-00005-of-00005.safetensors\"";
    copy(index, to);
    ck *c;
    open_ok(&c, dir);
    ck_close(&c);
    static const struct {
        const char *fresh, *words;
    } bad[] = {
        {"\"predictor.proj.bias\": \"../model-00005-of-00005.safetensors\"", "not the name of a .safetensors (or .bin) file of this folder"},
        {"\"predictor.proj.bias\": \"/etc/model.safetensors\"", "not the name of"},
        {"\"predictor.proj.bias\": \"sub/x.safetensors\"", "not the name of"},
        {"\"predictor.proj.bias\": \"a..safetensors\"", "not the name of"},
        {"\"predictor.proj.bias\": 5", "not the name of"},
        {"\"predictor.proj.bias\": \"passwd\"", "not the name of"},
        {"\"predictor.proj.bias\": \"model-00004-of-00005.safetensors\"",
         "predictor.proj.bias is listed in model-00004-of-00005.safetensors but is not there"},
        {"\"predictor.other.bias\": \"model-00005-of-00005.safetensors\"", "predictor.other.bias is listed"},
        {"\"predictor.proj.bias\": \"model-00006-of-00005.safetensors\"", "model-00006-of-00005.safetensors: not found"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        copy_changed(index, to, one, bad[i].fresh);
        wont_open(dir, JEPA_E_MODEL, bad[i].words);
    }
    copy_changed(index, to, "    \"predictor.proj.bias\": \"model-00005-of-00005.safetensors\",\n", "");
    wont_open(dir, JEPA_E_MODEL, "predictor.proj.bias is in model-00005-of-00005.safetensors but the index does not list it");
    text(to, "{\"metadata\": {}}");
    wont_open(dir, JEPA_E_MODEL, "no weight_map");
    copy(index, to);
    unlink(at("model-00003-of-00005.safetensors"));
    wont_open(dir, JEPA_E_MODEL, "model-00003-of-00005.safetensors: not found");
}

static void a_bad_config_is_refused(void **state) {
    static const struct {
        const char *old, *fresh, *words;
    } bad[] = {
        {"\"patch_size\": 16", "\"patch_size\": 0", "patch_size is 0; from 1 to 1024"},
        {"\"patch_size\": 16", "\"patch_size\": 1e9", "patch_size is 1000000000"},
        {"\"patch_size\": 16", "\"patch_size\": \"16\"", "patch_size is not a number"},
        {"\"patch_size\": 16", "\"patch_size\": 65", "patch_size 65 does not fit into crop_size 64"},
        {"\"hidden_size\": 56", "\"hidden_size\": -1", "hidden_size is -1"},
        {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 99999", "num_hidden_layers is 99999"},
        {"\"layer_norm_eps\": 1e-06", "\"layer_norm_eps\": 0", "layer_norm_eps is 0"},
        {"\"mlp_ratio\": 4.0", "\"mlp_ratio\": 1e30", "mlp_ratio is 1e+30"},
        {"\"hidden_act\": \"gelu\"", "\"hidden_act\": \"relu\"", "hidden_act \"relu\""},
        {"\"qkv_bias\": true", "\"qkv_bias\": false", "qkv_bias is false"},
        {"\"patch_size\": 16", "\"patch_size\": 14",
         "patch_embeddings.proj.weight has shape [56, 3, 2, 16, 16], the configuration (hidden_size, in_chans, tubelet_size, patch_size) "
         "makes it [56, 3, 2, 14, 14]"},
        {"\"hidden_size\": 56", "\"hidden_size\": 64", "makes it [64, 3, 2, 16, 16]"},
        {"\"mlp_ratio\": 4.0", "\"mlp_ratio\": 3.0", "has shape [224, 56], the configuration (hidden_size, mlp_ratio) makes it [168, 56]"},
        {"\"pred_num_mask_tokens\": 3", "\"pred_num_mask_tokens\": 2", "has shape [3, 1, 1, 40]"},
        {"\"pred_hidden_size\": 40", "\"pred_hidden_size\": 44", "makes it [44, 56]"},
    };
    copy(GOLD "model/model.safetensors", "model.safetensors");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck *c;
        model_cfg m;
        jepa_err e = {0};
        copy_changed(GOLD "model/config.json", "config.json", bad[i].old, bad[i].fresh);
        open_ok(&c, dir);
        if (ck_config(c, &m, &e) != JEPA_E_MODEL || !strstr(e.text, bad[i].words) || !strstr(e.text, "config.json"))
            fail_msg("%s: \"%s\"", bad[i].fresh, e.text);
        ck_close(&c);
    }
    text("config.json", "{\"model_type\": \"vjepa2\"}"); /* transformers leaves defaults out: ViT-L, which this file is not */
    ck *c;
    model_cfg m;
    jepa_err e = {0};
    open_ok(&c, dir);
    assert_int_equal(ck_config(c, &m, &e), JEPA_E_MODEL);
    assert_string_equal(m.variant, "vit_large");
    assert_int_equal(m.num_frames, 64);
    ck_close(&c);
}

/* ---- checkpoints that do not fit ---- */

static void wont_fit(const model_cfg *m, ck_module what, const char *words) {
    ck *c;
    params p = {0};
    jepa_err e = {0};
    ck_report r;
    if (what == CK_PREDICTOR)
        add_predictor(&p, "predictor.", m);
    else
        add_encoder(&p, "encoder.", m);
    assert_int_equal(params_alloc(&p, device, 0, NULL), 0);
    open_ok(&c, dir);
    int rc = ck_load(c, &p, what == CK_PREDICTOR ? "predictor." : "encoder.", what, 0, &r, &e);
    if (rc != JEPA_E_MODEL || !strstr(e.text, words)) fail_msg("%d \"%s\", wanted \"%s\"", rc, e.text, words);
    for (int64_t i = 0; i < p.total; i++) assert_true(((float *)p.value.p)[i] == 0); /* nothing was half loaded */
    if (ck_load(c, &p, what == CK_PREDICTOR ? "predictor." : "encoder.", what, CK_ALLOW_PARTIAL, &r, &e)) fail_msg("partial: %s", e.text);
    assert_true(r.missing + r.unexpected > 0 && r.loaded > 0);
    assert_int_equal(r.loaded + r.missing, p.n);
    int listed = 0; /* every one, by name */
    for (const char *line = r.text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        listed += !strncmp(line, "missing: ", 9) || !strncmp(line, "not loaded: ", 12);
    }
    assert_int_equal(listed, r.missing);
    ck_close(&c);
    params_close(&p);
}

static void missing_and_extra_are_named_and_counted(void **state) {
    model_cfg m = TINY, more;
    m.predictor_depth = 12;
    for (int hf = 0; hf < 2; hf++) {
        jepa_err e = {0};
        params p;
        model(&p, &m);
        ck_part part[] = {{CK_ENCODER, &p, "encoder."}, {CK_PREDICTOR, &p, "predictor."}};
        if (hf ? ck_write_hf(dir, &m, part, 2, T_F32, 0, &e) : ck_write_own(dir, &m, part, 2, T_F32, &e)) fail_msg("%s", e.text);
        params_close(&p);
        more = m;
        more.predictor_depth = 24;
        wont_fit(&more, CK_PREDICTOR, "predictor: 144 tensors missing, first predictor_blocks.12.norm1.weight");
        more.predictor_depth = 0; /* the reverse, and all of them */
        wont_fit(&more, CK_PREDICTOR, "predictor: 144 tensors unexpected, first predictor.");
        more = m;
        more.num_mask_tokens = 4;
        wont_fit(&more, CK_PREDICTOR, "1 tensor missing, first mask_tokens.3");
        more.num_mask_tokens = 2;
        wont_fit(&more, CK_PREDICTOR, hf ? "mask_tokens" : "1 tensor unexpected, first predictor.mask_tokens.2");
        more = m;
        more.patch_size = 14;
        wont_fit(
            &more, CK_ENCODER,
            "1 of another shape, first patch_embed.proj.weight has shape [56, 3, 2, 16, 16] in the file, [56, 3, 2, 14, 14] in the model");
        more = m;
        more.embed_dim = more.predictor_out_dim = 48;
        wont_fit(&more, CK_PREDICTOR,
                 "3 of another shape, first predictor_embed.weight has shape [40, 56] in the file, [40, 48] in the model");
        more = m;
        more.depth = 3;
        wont_fit(&more, CK_ENCODER, "encoder: 12 tensors missing, first blocks.2.norm1.weight");
        unlink(at("model.json"));
        unlink(at("config.json"));
    }
}

static void one_tensor_more_or_less(void **state) {
    jepa_err e = {0};
    params p = {0}, q = {0};
    model_cfg m = TINY;
    int64_t table[3] = {1, 1568, 56};
    add_encoder(&p, "encoder.", &m);
    assert_true(params_add(&p, &e, "encoder.pos_embed", 3, table) >= 0);
    assert_int_equal(params_alloc(&p, device, 0, NULL), 0);
    for (int64_t i = 0; i < p.total; i++) ((float *)p.value.p)[i] = (float)i;
    add_encoder(&q, "encoder.", &m);
    assert_int_equal(params_alloc(&q, device, 0, NULL), 0);
    ck_part part = {CK_ENCODER, &p, "encoder."};
    m.predictor_embed_dim = 0;
    assert_int_equal(ck_write_own(dir, &m, &part, 1, T_F32, &e), 0);
    ck *c;
    ck_report r;
    open_ok(&c, dir);
    if (ck_load(c, &q, "encoder.", CK_ENCODER, 0, &r, &e)) fail_msg("%s", e.text); /* a table that rotary positions do not need */
    assert_string_equal(r.text, "pos_embed [1, 1568, 56] is in the file and not used: rotary positions need no table");
    assert_int_equal(r.loaded, 28);
    assert_int_equal(ck_load(c, &q, "encoder.", CK_TARGET, 0, &r, &e), JEPA_E_MODEL);
    assert_non_null(strstr(e.text, "target_encoder: 28 tensors missing, first patch_embed.proj.weight"));
    assert_int_equal(ck_load(c, &q, "nothing.", CK_ENCODER, 0, &r, &e), JEPA_E_USE);
    ck_close(&c);
    params_close(&q);
    q = (params){0};
    add_encoder(&q, "encoder.", &m);
    int64_t eight = 8;
    assert_true(params_add(&q, &e, "encoder.late", 1, &eight) >= 0);
    assert_int_equal(params_alloc(&q, device, 0, NULL), 0);
    st_out o[40];
    char name[40][160];
    int n = 0;
    for (int i = 0; i < p.n; i++) { /* without one tensor, and with one that nobody knows */
        if (strstr(p.item[i].name, "blocks.1.mlp.fc2.bias") || strstr(p.item[i].name, "pos_embed")) continue;
        snprintf(name[n], sizeof name[n], "%s", p.item[i].name);
        o[n] = (st_out){name[n], {T_F32, p.item[i].rank, {0}, param_value(&p, i)}, T_NONE};
        memcpy(o[n].t.dim, p.item[i].dim, sizeof p.item[i].dim);
        n++;
    }
    o[n++] = (st_out){"extra.weight", {T_F32, 1, {8}, p.value.p}, T_NONE};
    int32_t whole[8] = {0};
    o[n++] = (st_out){"encoder.late", {T_I32, 1, {8}, whole}, T_NONE};
    assert_int_equal(st_write(at("model.safetensors"), o, n, NULL, &e), 0);
    open_ok(&c, dir);
    assert_int_equal(ck_load(c, &q, "encoder.", CK_ENCODER, 0, &r, &e), JEPA_E_MODEL);
    assert_non_null(strstr(e.text, "1 tensor missing, first blocks.1.mlp.fc2.bias; 1 of another shape, first late has shape i32 of a kind "
                                   "that does not fit in the file, [8] in the model; "
                                   "1 tensor unexpected, first extra.weight"));
    assert_int_equal(ck_load(c, &q, "encoder.", CK_ENCODER, CK_ALLOW_PARTIAL, &r, &e), 0);
    assert_int_equal(r.loaded, 27);
    assert_int_equal(r.missing, 2);
    assert_int_equal(r.unexpected, 1);
    assert_non_null(strstr(r.text, "missing: blocks.1.mlp.fc2.bias\n"));
    assert_non_null(strstr(r.text, "unexpected: extra.weight"));
    ck_close(&c);
    params_close(&p);
    params_close(&q);
}

/* ---- writing ---- */

static void golden_written_again_is_the_same_bytes(void **state) {
    static const struct {
        const char *name;
        dtype store;
    } kinds[] = {{"model", T_F32}, {"model-bf16", T_BF16}, {"model-fp16", T_F16}};
    for (int i = 0; i < 3; i++) {
        jepa_err e = {0};
        params p, q;
        ck *c;
        model_cfg m;
        char from[300], whole[340];
        snprintf(from, sizeof from, GOLD "%s", kinds[i].name);
        snprintf(whole, sizeof whole, "%s/model.safetensors", from);
        model(&p, &TINY);
        model(&q, &TINY);
        load_both(from, &p, NULL);
        ck_part part[] = {{CK_PREDICTOR, &p, "predictor."}, {CK_ENCODER, &p, "encoder."}};
        if (ck_write_hf(dir, &TINY, part, 2, kinds[i].store, 0, &e)) fail_msg("%s", e.text);
        same_file(whole, at("model.safetensors"));
        open_ok(&c, dir);
        assert_int_equal(ck_config(c, &m, &e), 0);
        assert_memory_equal(&m, &TINY, sizeof m);
        ck_close(&c);
        /* Meta's names, then Hugging Face's, then back: the same bits */
        assert_int_equal(ck_write_own(at("own"), &TINY, part, 2, T_F32, &e), 0);
        open_ok(&c, at("own"));
        assert_string_equal(ck_kind(c), "jepa model folder");
        assert_int_equal(ck_config(c, &m, &e), 0);
        assert_memory_equal(&m, &TINY, sizeof m);
        ck_close(&c);
        load_both(at("own"), &q, NULL);
        same_params(&p, &q);
        if (ck_write_hf(at("shards"), &TINY, part, 2, T_F32, 100000, &e)) fail_msg("%s", e.text);
        memset(q.value.p, 0, (size_t)q.total * 4);
        open_ok(&c, at("shards"));
        assert_non_null(strstr(ck_kind(c), "shards"));
        ck_close(&c);
        load_both(at("shards"), &q, NULL);
        same_params(&p, &q);
        if (ck_write_hf(at("shards"), &TINY, part, 2, T_F32, 0, &e)) fail_msg("%s", e.text); /* one file over shards */
        open_ok(&c, at("shards"));
        assert_string_equal(ck_kind(c), "Hugging Face VJEPA2Model folder");
        ck_close(&c);
        params_close(&p);
        params_close(&q);
    }
}

static void what_cannot_be_written_is_said(void **state) {
    jepa_err e = {0};
    params p, none = {0};
    model_cfg m = TINY;
    model(&p, &TINY);
    ck_part part = {CK_ENCODER, &p, "encoder."};
    m.img_width = 80;
    assert_int_equal(ck_write_hf(dir, &m, &part, 1, T_F32, 0, &e), JEPA_E_MODEL);
    assert_non_null(strstr(e.text, "height and width differ"));
    m = TINY;
    m.use_rope = 0;
    assert_int_equal(ck_write_hf(dir, &m, &part, 1, T_F32, 0, &e), JEPA_E_MODEL);
    m = TINY;
    snprintf(m.family, sizeof m.family, "vjepa21");
    assert_int_equal(ck_write_hf(dir, &m, &part, 1, T_F32, 0, &e), JEPA_E_MODEL);
    assert_int_equal(ck_write_hf(dir, &TINY, &part, 1, T_I64, 0, &e), JEPA_E_USE);
    part.prefix = "other.";
    assert_int_equal(ck_write_hf(dir, &TINY, &part, 1, T_F32, 0, &e), JEPA_E_USE);
    part.p = &none;
    assert_int_equal(ck_write_own(dir, &TINY, &part, 1, T_F32, &e), JEPA_E_USE);
    params q = {0};
    int64_t d[3] = {1, 32, 56};
    add_encoder(&q, "encoder.", &TINY);
    assert_true(params_add(&q, &e, "encoder.pos_embed", 3, d) >= 0);
    assert_int_equal(params_alloc(&q, device, 0, NULL), 0);
    part = (ck_part){CK_ENCODER, &q, "encoder."};
    assert_int_equal(ck_write_hf(dir, &TINY, &part, 1, T_F32, 0, &e), JEPA_E_MODEL);
    assert_non_null(strstr(e.text, "pos_embed has no place"));
    assert_int_equal(access(at("model.safetensors"), F_OK), -1);
    params_close(&q);
    params_close(&p);
}

static void variants_are_known(void **state) {
    jepa_err e = {0};
    static const struct {
        const char *name;
        int d, depth, heads;
        double ratio;
    } T[] = {
        {"vit_tiny", 192, 12, 3, 4},
        {"vit_giant_xformers", 1408, 40, 22, 4.363636363636363},
        {"vit_giant", 1408, 40, 16, 48.0 / 11},
        {"", 192, 12, 4, 4},
    };
    params p = {0};
    int64_t one = 1;
    assert_true(params_add(&p, &e, "encoder.x", 1, &one) >= 0);
    assert_int_equal(params_alloc(&p, device, 0, NULL), 0);
    ck_part part = {CK_ENCODER, &p, "encoder."};
    for (size_t i = 0; i < sizeof T / sizeof *T; i++) {
        model_cfg m = TINY, r;
        ck *c;
        m.embed_dim = T[i].d, m.depth = T[i].depth, m.num_heads = T[i].heads, m.mlp_ratio = T[i].ratio;
        assert_int_equal(ck_write_own(dir, &m, &part, 1, T_F32, &e), 0);
        open_ok(&c, dir);
        assert_int_equal(ck_config(c, &r, &e), 0);
        assert_string_equal(r.variant, T[i].name);
        assert_true(r.mlp_ratio == m.mlp_ratio);
        ck_close(&c);
    }
    params_close(&p);
}

int main(void) {
#define FOLDER(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest t[] = {
        cmocka_unit_test(a_golden_folder_is_opened),
        cmocka_unit_test(names_and_rows_are_mapped),
        cmocka_unit_test(shards_and_half_types_hold_the_same),
        FOLDER(a_classifier_gives_its_backbone),
        FOLDER(other_things_are_refused_by_name),
        FOLDER(a_bad_index_is_refused),
        FOLDER(a_bad_config_is_refused),
        FOLDER(missing_and_extra_are_named_and_counted),
        FOLDER(one_tensor_more_or_less),
        FOLDER(golden_written_again_is_the_same_bytes),
        FOLDER(what_cannot_be_written_is_said),
        FOLDER(variants_are_known),
    };
    return cmocka_run_group_tests(t, group_setup, group_teardown);
}
