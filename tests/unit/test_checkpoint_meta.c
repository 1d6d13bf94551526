/* test_checkpoint_meta.c: .pt files as models: the forms people save, those that do not fit, families told by content, hints, and models
 * written and read back bit for bit. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <sys/stat.h>

#include "checkpoint/checkpoint.h"
#include "pt_make.h"

/* fail_at: this fault point fails (1 = the first) */
static int fail_at, points;
int fault_point(const char *name) { return ++points == fail_at ? ENOSPC : 0; }

static dev *device;
static char dir[64];
static case_tensor tensors[400];

static int group_setup(void **state) { return dev_open(&device, "ref", 1, NULL); }
static int group_teardown(void **state) {
    dev_close(&device);
    return 0;
}
static int setup(void **state) {
    snprintf(dir, sizeof dir, "/tmp/jepa-ck-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}
static const char *at(const char *name) {
    static char path[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
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

static void add_params(params *p, const char *front, const case_tensor *t, int n) {
    char name[128];
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s%s", front, t[i].name);
        assert_true(params_add(p, NULL, name, t[i].rank, t[i].dim) >= 0);
    }
}

static void make_params(params *p, const char *front, const case_tensor *t, int n) {
    *p = (params){0};
    add_params(p, front, t, n);
    assert_int_equal(params_alloc(p, device, 0, NULL), 0);
}

static void set_params(params *p, size_t front) {
    for (int i = 0; i < p->n; i++)
        for (int64_t k = 0; k < p->item[i].count; k++) param_value(p, i)[k] = case_value(p->item[i].name + front, k);
}

static void check_values(const params *p, size_t front) {
    for (int i = 0; i < p->n; i++)
        for (int64_t k = 0; k < p->item[i].count; k++)
            if (param_value(p, i)[k] != case_value(p->item[i].name + front, k)) fail_msg("%s[%ld]", p->item[i].name, (long)k);
}

static void open_ok(ck **c, const char *path, const ck_hints *h, model_cfg *m) {
    jepa_err e = {0};
    if (ck_open_as(c, path, h, &e) || ck_config(*c, m, &e)) fail_msg("%s", e.text);
}

static void wont_open(const char *path, const ck_hints *h, int code, const char *words) {
    ck *c = (ck *)8;
    jepa_err e = {0};
    int rc = ck_open_as(&c, path, h, &e);
    if (rc != code || c || !strstr(e.text, words)) fail_msg("%d \"%s\", wanted %d \"%s\"", rc, e.text, code, words);
}

/* ---- the forms of one model ---- */

enum { PLAIN, PREFIXED, BF16, F16, SHARED, STRIDED, BARE, OLD, NESTED, WRAPPED, FORMS };
static const char *const form_names[FORMS] = {"plain",   "prefixed", "bf16",     "f16",    "shared",
                                              "strided", "bare",     "old form", "nested", "wrapped"};

static void put_values(blob *b, const case_tensor *t, int transposed) {
    for (int64_t i = 0; i < t->count; i++) {
        int64_t k = transposed ? i % t->dim[0] * t->dim[1] + i / t->dim[0] : i;
        float x = case_value(t->name, k);
        put(b, &x, 4);
    }
}

static void state_dict(archive_make *a, const char *prefix, const case_tensor *t, int n, int form, char type) {
    pk_odict(&a->pkl), puts_(&a->pkl, "(");
    int64_t all = 0, from = 0;
    for (int i = 0; i < n; i++) all += t[i].count;
    for (int i = 0; i < n; i++) {
        char key[16];
        int64_t stride[8], step = 1;
        case_number(a, key, sizeof key);
        if (form == SHARED) {
            for (int k = t[i].rank - 1; k >= 0; k--) stride[k] = step, step *= t[i].dim[k];
            pk_text(&a->pkl, t[i].name), pk_view(&a->pkl, "FloatStorage", "0", all, from, t[i].rank, t[i].dim, stride);
            from += t[i].count;
            put_values(&a->values[0], &t[i], 0), a->n = 1;
        } else if (form == STRIDED && t[i].rank == 2) {
            pk_text(&a->pkl, t[i].name), pk_view(&a->pkl, "FloatStorage", key, t[i].count, 0, 2, t[i].dim, DIMS(1, t[i].dim[0]));
            put_values(&a->values[a->n++], &t[i], 1);
        } else {
            case_add(a, prefix, &t[i], type);
        }
    }
    puts_(&a->pkl, "u");
}

static void write_old(const char *path, archive_make *a) { /* the same pickle behind the old form's, its storages behind it */
    blob b = {0};
    char key[16];
    pk_begin(&b, 2), puts_(&b, "\x8a\x0a"), put(&b, "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 10), puts_(&b, ".");
    pk_begin(&b, 2), pk_int(&b, 1001), puts_(&b, ".");
    pk_begin(&b, 2), puts_(&b, "}("), pk_text(&b, "little_endian"), puts_(&b, "\x88u.");
    put(&b, a->pkl.p, a->pkl.n);
    pk_begin(&b, 2), puts_(&b, "](");
    for (int i = 0; i < a->n; i++) snprintf(key, sizeof key, "%d", i), pk_text(&b, key);
    puts_(&b, "e.");
    for (int i = 0; i < a->n; i++) putn(&b, a->values[i].n / 4, 8), put(&b, a->values[i].p, a->values[i].n), blob_free(&a->values[i]);
    write_all(path, b.p, b.n);
    blob_free(&b), blob_free(&a->pkl);
}

static void write_form(const char *path, const case_tensor *t, int n, int form) {
    archive_make a = {0};
    blob *b = &a.pkl;
    pk_begin(b, 2);
    if (form == BARE) {
        state_dict(&a, "", t, n, form, 'f');
    } else {
        puts_(b, "}(");
        if (form == PREFIXED) {
            pk_text(b, "encoder"), state_dict(&a, "module.backbone.", t, n, form, 'f');
            pk_text(b, "target_encoder"), state_dict(&a, "module.backbone.", t, n, form, 'f');
            pk_text(b, "predictor"), puts_(b, "}");
            pk_text(b, "opt"), puts_(b, "}("), pk_text(b, "state"), puts_(b, "}("), pk_int(b, 0), puts_(b, "}("), pk_text(b, "step"),
                pk_view(b, "FloatStorage", "0", 1, 0, 0, NULL, NULL), puts_(b, "uuu");
            pk_text(b, "scaler"), puts_(b, "N"), pk_text(b, "loss"), pk_global(b, "numpy._core.multiarray", "scalar"), puts_(b, "(NB"),
                putn(b, 8, 4), putn(b, 0, 8), puts_(b, "tR");
        } else if (form == NESTED) {
            pk_text(b, "model"), puts_(b, "}("), pk_text(b, "encoder"), state_dict(&a, "module.", t, n, form, 'f'), puts_(b, "u");
        } else if (form == WRAPPED) { /* the state dict of one module that holds it all */
            pk_text(b, "state_dict"), state_dict(&a, "module.target_encoder.backbone.", t, n, form, 'f');
        } else {
            pk_text(b, form == BF16 ? "ema_encoder" : "target_encoder");
            state_dict(&a, form == BF16 ? "module." : "", t, n, form, form == BF16 ? 'b' : form == F16 ? 'h' : 'f');
        }
        pk_text(b, "epoch"), pk_int(b, 3), puts_(b, "u");
    }
    puts_(b, ".");
    if (form == OLD)
        write_old(path, &a);
    else
        ar_write(&a, path);
}

static void the_forms_people_save(void **state) {
    int n = case_vit(tensors, 48, 2, 16, 2, 4);
    int64_t values = 0;
    for (int i = 0; i < n; i++) values += tensors[i].count;
    assert_int_equal(n, 28);
    assert_int_equal(values, 130416);
    for (int form = 0; form < FORMS; form++) {
        ck *c;
        model_cfg m;
        params p;
        ck_report r;
        jepa_err e = {0};
        write_form(at("x.pt"), tensors, n, form);
        open_ok(&c, at("x.pt"), NULL, &m);
        if (m.embed_dim != 48 || m.depth != 2 || m.patch_size != 16 || m.tubelet_size != 2 || m.mlp_ratio != 4 || m.in_chans != 3 ||
            strcmp(m.family, "vjepa2") || !m.use_rope)
            fail_msg("%s: sizes", form_names[form]);
        assert_int_equal(m.num_heads, 0); /* nothing tells it */
        assert_non_null(strstr(ck_notes(c), "heads: no tensor tells their number"));
        assert_int_equal(ck_has(c, CK_PREDICTOR), 0);
        for (int which = 0; which < 2; which++) { /* a single encoder serves as either */
            make_params(&p, "encoder.", tensors, n);
            if (ck_load(c, &p, "encoder.", which ? CK_ENCODER : CK_TARGET, 0, &r, &e)) fail_msg("%s: %s", form_names[form], e.text);
            assert_int_equal(r.loaded, 28);
            assert_int_equal(r.missing + r.unexpected, 0);
            assert_string_equal(r.text, "");
            check_values(&p, 8);
            const float *w = param_value(&p, params_find(&p, "encoder.blocks.0.mlp.fc1.weight"));
            double sum = 0;
            for (int i = 0; i < 4 * 48 * 48; i++) sum += (double)w[i];
            assert_true(w[0] == 0.140625f && w[1] == 0.1484375f && w[2] == 0.15625f && w[3] == 0.1640625f && sum == 9.984375);
            params_close(&p);
        }
        ck_close(&c);
    }
}

static int count_each(void *ctx, const char *name, const tensor *t) {
    int *n = ctx;
    if (strncmp(name, "encoder.module.backbone.", 24) && strncmp(name, "target_encoder.module.backbone.", 31)) fail_msg("%s", name);
    n[0]++, n[1] += t->data == NULL;
    return 0;
}

static void questions_about_a_file(void **state) {
    int n = case_vit(tensors, 48, 2, 16, 2, 4), seen[2] = {0};
    ck *c;
    model_cfg m;
    char hex[65], side[300];
    write_form(at("x.pt"), tensors, n, PREFIXED);
    open_ok(&c, at("x.pt"), NULL, &m);
    assert_string_equal(ck_kind(c), "PyTorch checkpoint of V-JEPA 2");
    assert_string_equal(ck_path(c), at("x.pt"));
    assert_true(ck_has(c, CK_ENCODER) && ck_has(c, CK_TARGET) && !ck_has(c, CK_POOLER));
    assert_int_equal(ck_each(c, count_each, seen), 0);
    assert_int_equal(seen[0], 56);
    assert_int_equal(seen[1], 0);
    write_all(at("video_preprocessor_config.json"), "{}", 2); /* of whatever else lies there */
    ck_side_file(c, "video_preprocessor_config.json", side, sizeof side);
    assert_string_equal(side, "");
    assert_int_equal(ck_sha256(c, hex, NULL), 0);
    assert_int_equal(strlen(hex), 64);
    ck_close(&c);
}

/* ---- what does not fit ---- */

static int load(const char *path, const case_tensor *t, int n, const char *front, ck_module m, int flags, ck_report *r, jepa_err *e) {
    ck *c;
    model_cfg cfg;
    params p;
    open_ok(&c, path, NULL, &cfg);
    make_params(&p, front, t, n);
    int rc = ck_load(c, &p, front, m, flags, r, e);
    if (rc) { /* nothing is filled */
        double sum = 0;
        for (int64_t i = 0; i < p.total; i++) sum += fabs((double)((float *)p.value.p)[i]);
        assert_true(sum == 0);
    }
    params_close(&p);
    ck_close(&c);
    return rc;
}

static void missing_extra_and_misshapen(void **state) {
    static case_tensor less[40], more[40];
    int n = case_vit(tensors, 48, 2, 16, 2, 4);
    ck_report r;
    jepa_err e = {0};
    int k = 0;
    for (int i = 0; i < n; i++)
        if (strcmp(tensors[i].name, "blocks.1.mlp.fc2.bias")) less[k++] = tensors[i];
    write_form(at("x.pt"), less, k, PLAIN);
    assert_int_equal(load(at("x.pt"), tensors, n, "encoder.", CK_TARGET, 0, &r, &e), JEPA_E_MODEL);
    assert_non_null(strstr(e.text, "x.pt: target_encoder: 1 tensor missing, first blocks.1.mlp.fc2.bias"));
    assert_int_equal(load(at("x.pt"), tensors, n, "encoder.", CK_TARGET, CK_ALLOW_PARTIAL, &r, &e), 0);
    assert_int_equal(r.missing, 1);
    assert_string_equal(r.text, "missing: blocks.1.mlp.fc2.bias");
    for (int which = 0; which < 2; which++) { /* a table that rotary positions do not use, and a tensor that nobody knows */
        memcpy(more, tensors, (size_t)n * sizeof *more);
        k = n;
        if (which)
            case_put(more, &k, 1, DIMS(3), "extra.weight", 0);
        else
            case_put(more, &k, 3, DIMS(1, 1568, 48), "pos_embed", 0);
        write_form(at("x.pt"), more, k, PLAIN);
        int rc = load(at("x.pt"), tensors, n, "encoder.", CK_TARGET, 0, &r, &e);
        assert_int_equal(rc, which ? JEPA_E_MODEL : 0);
        if (!which) assert_string_equal(r.text, "pos_embed [1, 1568, 48] is in the file and not used: rotary positions need no table");
        if (which) assert_non_null(strstr(e.text, "1 tensor unexpected, first target_encoder.extra.weight"));
        assert_int_equal(load(at("x.pt"), tensors, n, "encoder.", CK_TARGET, CK_ALLOW_PARTIAL, &r, &e), 0);
        assert_int_equal(r.unexpected, which);
        assert_int_equal(r.loaded, 28);
    }
    int q = case_vit(less, 48, 2, 14, 2, 4);
    write_form(at("x.pt"), less, q, PLAIN);
    assert_int_equal(load(at("x.pt"), tensors, n, "encoder.", CK_TARGET, 0, &r, &e), JEPA_E_MODEL);
    assert_non_null(strstr(
        e.text,
        "1 of another shape, first patch_embed.proj.weight has shape [48, 3, 2, 14, 14] in the file, [48, 3, 2, 16, 16] in the model"));
    static const char yaml[] = "data: {patch_size: 16}\nmodel: {model_name: vit_tiny}\n";
    write_all(at("c.yaml"), yaml, sizeof yaml - 1);
    wont_open(at("x.pt"), &(ck_hints){.config = at("c.yaml")}, JEPA_E_MODEL,
              "patch_embed.proj.weight: has shape [48, 3, 2, 14, 14] in the file, [48, 3, 2, 16, 16] by the configuration (patch_size)");
}

static void predictors_of_another_depth(void **state) {
    static case_tensor other[400];
    archive_make a = {0};
    ck_report r;
    jepa_err e = {0};
    int n = case_predictor(tensors, 24, 48, 12, 2), k = case_predictor(other, 24, 48, 24, 2);
    pk_begin(&a.pkl, 2), puts_(&a.pkl, "}("), pk_text(&a.pkl, "predictor"), state_dict(&a, "module.backbone.", tensors, n, PLAIN, 'f'),
        puts_(&a.pkl, "u.");
    ar_write(&a, at("x.pt"));
    assert_int_equal(load(at("x.pt"), other, k, "predictor.", CK_PREDICTOR, 0, &r, &e), JEPA_E_MODEL);
    assert_non_null(strstr(e.text, "predictor: 144 tensors missing, first predictor_blocks.12.norm1.weight"));
    pk_begin(&a.pkl, 2), puts_(&a.pkl, "}("), pk_text(&a.pkl, "predictor"), state_dict(&a, "module.backbone.", other, k, PLAIN, 'f'),
        puts_(&a.pkl, "u.");
    ar_write(&a, at("x.pt"));
    assert_int_equal(load(at("x.pt"), tensors, n, "predictor.", CK_PREDICTOR, 0, &r, &e), JEPA_E_MODEL);
    assert_non_null(strstr(e.text, "predictor: 144 tensors unexpected, first predictor.predictor_blocks.12.norm1.weight"));
}

/* ---- families ---- */

static void position_table(archive_make *a, const char *name, int d, int gt, int gh, int gw, int uniform, int image) {
    int part[3] = {uniform ? (d + 5) / 6 * 2 : d / 2, uniform ? (d + 5) / 6 * 2 : d / 4, uniform ? (d + 5) / 6 * 2 : d / 4};
    char key[16];
    blob v = {0};
    if (image) part[0] = 0, part[1] = part[2] = d / 2;
    for (int i = 0; i < gt * gh * gw; i++) {
        int pos[3] = {i / (gh * gw), image ? i % gw : i / gw % gh, image ? i / gw : i % gw}, c = 0; /* I-JEPA: the column first */
        for (int x = 0; x < 3; x++)
            for (int j = 0; j < part[x] && c < d; j++, c++) {
                int half = part[x] / 2;
                double w = pos[x] * pow(10000, -(double)(j % half) / half);
                float f = (float)(j < half ? sin(w) : cos(w));
                put(&v, &f, 4);
            }
    }
    case_number(a, key, sizeof key);
    pk_text(&a->pkl, name), pk_tensor(&a->pkl, "FloatStorage", key, 3, DIMS(1, gt * gh * gw, d));
    ar_add(a, v.p, v.n);
    blob_free(&v);
}

static void v_jepa_1_is_told_by_its_tables(void **state) {
    for (int k = 0; k < 6; k++) { /* uniform or not; then 10 mask tokens, tables without sines, no predictor, and that with the hint */
        archive_make a = {0};
        blob *b = &a.pkl;
        int uniform = k == 0, d = uniform ? 40 : 48, n = case_vit(tensors, d, 1, 8, 2, 4);
        pk_begin(b, 2), puts_(b, "}("), pk_text(b, "encoder"), pk_odict(b), puts_(b, "(");
        for (int i = 0; i < n; i++) case_add(&a, "module.backbone.", &tensors[i], 'f');
        if (k == 3) {
            case_tensor t = {"pos_embed", 3, {1, 60, 48}, 60 * 48};
            case_add(&a, "module.backbone.", &t, 'f');
        } else {
            position_table(&a, "module.backbone.pos_embed", d, 4, 3, 5, uniform, 0);
        }
        puts_(b, "u");
        n = case_predictor(tensors, 24, d, 1, k == 2 ? 10 : 2);
        if (k < 4) {
            pk_text(b, "predictor"), pk_odict(b), puts_(b, "(");
            for (int i = 0; i < n; i++) case_add(&a, "module.backbone.", &tensors[i], 'f');
            position_table(&a, "module.backbone.predictor_pos_embed", 24, 4, 3, 5, uniform, 0);
            puts_(b, "u");
        }
        puts_(b, "u.");
        ar_write(&a, at("x.pt"));
        ck *c;
        model_cfg m;
        open_ok(&c, at("x.pt"), &(ck_hints){.heads = 4, .family = k == 5 ? "V-JEPA" : NULL}, &m);
        int one = k < 2 || k == 5;
        assert_string_equal(m.family, one ? "vjepa1" : "vjepa2");
        assert_int_equal(m.use_rope, !one);
        if (k != 3) { /* the grid stands in the table */
            assert_int_equal(m.img_height, 24);
            assert_int_equal(m.img_width, 40);
            assert_int_equal(m.num_frames, 8);
        }
        if (one) assert_int_equal(m.uniform_power, uniform);
        if (k < 2) assert_int_equal(m.predictor_num_heads, 4); /* as many as the encoder */
        ck_close(&c);
    }
}

/* A table that the file lacks stays as the model made it; one that is there is read. */
static void fixed_tables_may_be_missing(void **state) {
    int n = case_vit(tensors, 48, 2, 16, 2, 4);
    ck *c;
    model_cfg m;
    params p = {0};
    ck_report r;
    jepa_err e = {0};
    write_form(at("x.pt"), tensors, n, PLAIN);
    open_ok(&c, at("x.pt"), NULL, &m);
    add_params(&p, "encoder.", tensors, n);
    int table = params_add(&p, NULL, "encoder.pos_embed", 3, DIMS(1, 4, 48));
    p.item[table].flags |= PARAM_FIXED;
    assert_int_equal(params_alloc(&p, device, 0, NULL), 0);
    for (int i = 0; i < 4 * 48; i++) param_value(&p, table)[i] = 7;
    if (ck_load(c, &p, "encoder.", CK_TARGET, 0, &r, &e)) fail_msg("%s", e.text);
    assert_string_equal(r.text, "pos_embed is not in the file: the sin-cos table is used");
    assert_true(param_value(&p, table)[100] == 7);
    params_close(&p);
    ck_close(&c);
}

static void i_jepa_and_published_sizes(void **state) {
    archive_make a = {0};
    case_tensor t = {"patch_embed.proj.weight", 4, {48, 3, 14, 14}, 48 * 3 * 14 * 14};
    int n = case_vit(tensors, 48, 1, 14, 2, 4);
    pk_begin(&a.pkl, 2), puts_(&a.pkl, "}("), pk_text(&a.pkl, "target_encoder"), pk_odict(&a.pkl), puts_(&a.pkl, "("),
        case_add(&a, "module.", &t, 'f');
    for (int i = 1; i < n; i++) case_add(&a, "module.", &tensors[i], 'f');
    position_table(&a, "module.pos_embed", 48, 1, 5, 7, 0, 1);
    puts_(&a.pkl, "uu.");
    ar_write(&a, at("x.pth.tar"));
    ck *c;
    model_cfg m;
    open_ok(&c, at("x.pth.tar"), NULL, &m);
    assert_string_equal(m.family, "ijepa");
    assert_int_equal(m.img_height, 70);
    assert_int_equal(m.img_width, 98);
    assert_int_equal(m.num_frames * 10 + m.tubelet_size, 11);
    assert_int_equal(m.use_rope, 0);
    ck_close(&c);
    wont_open(at("x.pth.tar"), &(ck_hints){.family = "vjepa2"}, JEPA_E_MODEL, "is for images");
    /* heads by width and depth; a name only where the sizes are those of the published file */
    n = case_vit(tensors, 192, 12, 16, 2, 4);
    write_form(at("vitl.pt"), tensors, n, PLAIN);
    open_ok(&c, at("vitl.pt"), NULL, &m);
    assert_string_equal(m.variant, "vit_tiny");
    assert_int_equal(m.num_heads, 3);
    assert_int_equal(m.num_frames, 16);
    assert_int_equal(m.img_height, 256);
    ck_close(&c);
    open_ok(&c, at("vitl.pt"), &(ck_hints){.heads = 6, .crop = 96, .frames = 8}, &m);
    assert_int_equal(m.num_heads, 6);
    assert_int_equal(m.num_frames, 8);
    assert_int_equal(m.img_width, 96);
    ck_close(&c);
    wont_open(at("vitl.pt"), &(ck_hints){.arch = "vit_large"}, JEPA_E_MODEL,
              "patch_embed.proj.weight: has shape [192, 3, 2, 16, 16] in the file, [1024, 3, 2, 16, 16] by vit_large");
    wont_open(at("vitl.pt"), &(ck_hints){.arch = "vit_enormous"}, JEPA_E_USE, "architecture \"vit_enormous\" is not known");
    wont_open(at("vitl.pt"), &(ck_hints){.family = "mae"}, JEPA_E_USE, "family \"mae\" is not known");
    wont_open(at("vitl.pt"), &(ck_hints){.heads = 5}, JEPA_E_MODEL, "5 heads do not divide its 192 channels");
    static const char yaml[] = "app: vjepa\ndata: {crop_size: 128, patch_size: 16, tubelet_size: 2, dataset_fpcs: [8, 32]}\nmodel: "
                               "{model_name: vit_tiny, use_rope: true, pred_depth: 12}\n";
    write_all(at("run.yaml"), yaml, sizeof yaml - 1);
    open_ok(&c, at("vitl.pt"), &(ck_hints){.config = at("run.yaml")}, &m);
    assert_int_equal(m.img_width, 128);
    assert_int_equal(m.num_frames, 32);
    assert_int_equal(m.num_heads, 3);
    ck_close(&c);
    static const char json[] = "{\"model_type\": \"vjepa2\", \"hidden_size\": 192, \"num_hidden_layers\": 12, \"num_attention_heads\": 12, "
                               "\"crop_size\": 64, \"frames_per_clip\": 4}";
    write_all(at("hf.json"), json, sizeof json - 1);
    open_ok(&c, at("vitl.pt"), &(ck_hints){.config = at("hf.json")}, &m);
    assert_int_equal(m.num_heads * 100 + m.img_height, 1264);
    ck_close(&c);
    write_all(at("bad.yaml"), "data: {crop_size: -3}\n", 22);
    wont_open(at("vitl.pt"), &(ck_hints){.config = at("bad.yaml")}, JEPA_E_MODEL, "line 1: data.crop_size");
    wont_open(at("vitl.pt"), &(ck_hints){.config = at("no.yaml")}, JEPA_E_IO, "no.yaml");
}

/* The published code's own files: what they were made with stands in their meta.json. */
static void golden_files_are_told(void **state) {
    static const struct {
        const char *file, *family;
        int size, width, frames, patch, tubelet, dim, depth, pred_dim, pred_depth, out, tokens, norms, levels, pred_levels, context_proj;
    } k[] = {
        {"ijepa-meta-tiny/checkpoint.pth.tar", "ijepa", 70, 70, 1, 14, 1, 48, 2, 32, 2, 48, 1, 0, 0, 1, 0},
        {"vjepa1-meta-tiny/checkpoint-uniform.pth.tar", "vjepa1", 40, 40, 4, 8, 2, 40, 2, 28, 2, 40, 2, 0, 0, 1, 0},
        {"vjepa1-meta-tiny/checkpoint-nonuniform.pth.tar", "vjepa1", 32, 32, 8, 8, 2, 48, 2, 24, 2, 48, 2, 0, 0, 1, 0},
        {"vjepa2-meta-tiny/checkpoint.pt", "vjepa2", 256, 256, 16, 8, 2, 48, 2, 32, 2, 48, 3, 0, 0, 1, 0},
        {"vjepa2-meta-tiny/checkpoint-legacy.pt", "vjepa2", 16, 16, 16, 8, 2, 32, 1, 24, 1, 32, 2, 0, 0, 1, 0},
        {"vjepa2-meta-tiny/weights.safetensors", "vjepa2", 256, 256, 16, 8, 2, 48, 2, 32, 2, 48, 3, 0, 0, 1, 0},
        {"vjepa21-tiny/checkpoint.pt", "vjepa21", 256, 256, 16, 16, 2, 48, 12, 32, 4, 192, 2, 4, 4, 4, 1},
        {"vjepa21-tiny/student.pt", "vjepa21", 256, 256, 16, 16, 2, 24, 12, 28, 4, 40, 2, 4, 1, 1, 1},
    };
    for (size_t i = 0; i < sizeof k / sizeof *k; i++) {
        ck *c;
        model_cfg m;
        char path[300];
        snprintf(path, sizeof path, TEST_DATA "/vectors/%s", k[i].file);
        open_ok(&c, path, NULL, &m);
        assert_string_equal(m.family, k[i].family);
        const int got[] = {m.img_height,
                           m.img_width,
                           m.num_frames,
                           m.patch_size,
                           m.tubelet_size,
                           m.embed_dim,
                           m.depth,
                           m.predictor_embed_dim,
                           m.predictor_depth,
                           m.predictor_out_dim,
                           m.num_mask_tokens,
                           m.level_norms,
                           m.levels,
                           m.predictor_levels,
                           m.predictor_context_proj};
        if (memcmp(got, &k[i].size, sizeof got)) {
            for (size_t j = 0; j < sizeof got / sizeof *got; j++)
                if (got[j] != (&k[i].size)[j]) fail_msg("%s: number %zu: %d, not %d", k[i].file, j, got[j], (&k[i].size)[j]);
        }
        int new = m.level_norms > 0;
        assert_int_equal(
            m.rope_interleaved + m.interpolate_rope + m.image_patch_embed + m.modality_embedding + m.predictor_interpolate_rope, 5 * new);
        if (new) assert_memory_equal(m.level_block, ((int[]){2, 5, 8, 11}), sizeof m.level_block);
        if (!m.use_rope) assert_int_equal(m.uniform_power, strstr(k[i].file, "-uniform") != NULL);
        ck_close(&c);
    }
}

static void files_that_hold_no_model(void **state) {
    archive_make a = {0};
    case_tensor t = {"fc.weight", 2, {3, 4}, 12};
    pk_begin(&a.pkl, 2), puts_(&a.pkl, "}("), case_add(&a, "", &t, 'f'), puts_(&a.pkl, "u.");
    ar_write(&a, at("x.pt"));
    wont_open(at("x.pt"), NULL, JEPA_E_MODEL, "no patch_embed.proj.weight among its 1 tensors (the first is fc.weight)");
    pk_begin(&a.pkl, 2), puts_(&a.pkl, "}.");
    ar_write(&a, at("x.pt"));
    wont_open(at("x.pt"), NULL, JEPA_E_MODEL, "holds no tensors");
    int n = case_vit(tensors, 48, 1, 16, 2, 4);
    pk_begin(&a.pkl, 2), puts_(&a.pkl, "}("), pk_text(&a.pkl, "a"), state_dict(&a, "", tensors, n, PLAIN, 'f'), pk_text(&a.pkl, "b"),
        state_dict(&a, "", tensors, n, PLAIN, 'f'), puts_(&a.pkl, "u.");
    ar_write(&a, at("x.pt"));
    wont_open(at("x.pt"), NULL, JEPA_E_MODEL, "holds a encoder in \"a\" and another in \"b\"");
    pk_begin(&a.pkl, 2), puts_(&a.pkl, "}("), pk_text(&a.pkl, "encoder"), puts_(&a.pkl, "}(");
    for (int i = 0; i < 2; i++) case_add(&a, i ? "module." : "backbone.", &tensors[0], 'f');
    puts_(&a.pkl, "uu.");
    ar_write(&a, at("x.pt"));
    wont_open(at("x.pt"), NULL, JEPA_E_MODEL, "would be the same parameter");
    /* 1,000 blocks by their names, and hardly anything in them */
    pk_begin(&a.pkl, 2), puts_(&a.pkl, "}("), pk_text(&a.pkl, "encoder"), puts_(&a.pkl, "}("), case_add(&a, "", &tensors[0], 'f');
    t = (case_tensor){"blocks.999.norm1.weight", 1, {48}, 48};
    case_add(&a, "", &t, 'f'), puts_(&a.pkl, "uu.");
    ar_write(&a, at("x.pt"));
    wont_open(at("x.pt"), NULL, JEPA_E_MODEL,
              "encoder: its names and shapes are those of 1000 blocks of width 48 with 2.765e+07 values, and 7.378e+04 are there");
    t = (case_tensor){"patch_embed.proj.weight", 5, {48, 3, 2, 16, 8}, 48 * 3 * 2 * 16 * 8};
    pk_begin(&a.pkl, 2), puts_(&a.pkl, "}("), pk_text(&a.pkl, "encoder"), puts_(&a.pkl, "}("), case_add(&a, "", &t, 'f'),
        puts_(&a.pkl, "uu.");
    ar_write(&a, at("x.pt"));
    wont_open(at("x.pt"), NULL, JEPA_E_MODEL, "patch_embed.proj.weight: has a shape that no patch embedding has");
}

/* ---- Hugging Face folders with PyTorch weights; writing and reading back ---- */

static void torch_weights_in_a_folder(void **state) {
    case_tensor t[] = {{"embeddings.position_embeddings", 3, {1, 4, 8}, 32},
                       {"embeddings.patch_embeddings.projection.weight", 4, {8, 3, 2, 2}, 96},
                       {"encoder.layer.0.attention.attention.query.bias", 1, {8}, 8},
                       {"encoder.layer.0.attention.attention.key.bias", 1, {8}, 8},
                       {"encoder.layer.0.attention.attention.value.bias", 1, {8}, 8},
                       {"layernorm.weight", 1, {8}, 8}};
    static const char config[] = "{\"model_type\": \"ijepa\", \"hidden_size\": 8, \"num_hidden_layers\": 1, \"num_attention_heads\": 2, "
                                 "\"intermediate_size\": 16, \"image_size\": 4, \"patch_size\": 2}";
    static const char index[] = "{\"weight_map\": {\"embeddings.position_embeddings\": \"pytorch_model-00001-of-00002.bin\", "
                                "\"embeddings.patch_embeddings.projection.weight\": \"pytorch_model-00001-of-00002.bin\","
                                "\"encoder.layer.0.attention.attention.query.bias\": \"pytorch_model-00001-of-00002.bin\", "
                                "\"encoder.layer.0.attention.attention.key.bias\": \"pytorch_model-00002-of-00002.bin\","
                                "\"encoder.layer.0.attention.attention.value.bias\": \"pytorch_model-00002-of-00002.bin\", "
                                "\"layernorm.weight\": \"pytorch_model-00002-of-00002.bin\"}}";
    write_all(at("config.json"), config, sizeof config - 1);
    for (int shards = 0; shards < 2; shards++) {
        for (int s = 0; s <= shards; s++) {
            archive_make a = {0};
            pk_begin(&a.pkl, 2), pk_odict(&a.pkl), puts_(&a.pkl, "(");
            for (int i = shards ? s * 3 : 0; i < (shards ? s * 3 + 3 : 6); i++) case_add(&a, "", &t[i], 'f');
            puts_(&a.pkl, "u.");
            ar_write(&a, at(!shards ? "pytorch_model.bin" : s ? "pytorch_model-00002-of-00002.bin" : "pytorch_model-00001-of-00002.bin"));
        }
        if (shards) unlink(at("pytorch_model.bin")), write_all(at("pytorch_model.bin.index.json"), index, sizeof index - 1);
        ck *c;
        model_cfg m;
        params p = {0};
        ck_report r;
        jepa_err e = {0};
        open_ok(&c, dir, NULL, &m);
        assert_string_equal(ck_kind(c), shards ? "Hugging Face IJepaModel folder, 2 shards" : "Hugging Face IJepaModel folder");
        assert_string_equal(m.family, "ijepa");
        assert_int_equal(m.img_width * 10 + m.patch_size, 42);
        assert_true(m.layer_norm_eps == 1e-12 && m.mlp_ratio == 2); /* the first is transformers' default for this class */
        params_add(&p, NULL, "e.pos_embed", 3, DIMS(1, 4, 8)), params_add(&p, NULL, "e.patch_embed.proj.weight", 4, DIMS(8, 3, 2, 2));
        params_add(&p, NULL, "e.blocks.0.attn.qkv.bias", 1, DIMS(24)), params_add(&p, NULL, "e.norm.weight", 1, DIMS(8));
        assert_int_equal(params_alloc(&p, device, 0, NULL), 0);
        if (ck_load(c, &p, "e.", CK_ENCODER, 0, &r, &e)) fail_msg("%s", e.text);
        const float *qkv = param_value(&p, 2);
        assert_true(qkv[1] == case_value(t[2].name, 1) && qkv[8 + 2] == case_value(t[3].name, 2) &&
                    qkv[16 + 3] == case_value(t[4].name, 3));
        assert_true(param_value(&p, 0)[5] == case_value(t[0].name, 5));
        params_close(&p);
        ck_close(&c);
    }
}

static void written_and_read_back(void **state) {
    int n = case_vit(tensors, 48, 2, 16, 2, 4);
    static case_tensor pt[64];
    int k = case_predictor(pt, 24, 48, 2, 3);
    params p, q, other, r;
    ck *c;
    model_cfg m, got;
    jepa_err e = {0};
    make_params(&p, "encoder.", tensors, n), make_params(&other, "encoder.", tensors, n), make_params(&q, "predictor.", pt, k);
    set_params(&p, 8), set_params(&q, 10);
    for (int64_t i = 0; i < p.total; i++)
        ((float *)p.value.p)[i] += 1.0f / 3, ((float *)other.value.p)[i] = sinf((float)i); /* all bits in use */
    for (int i = 0; i < other.n; i++)                                                      /* padding stays 0 */
        for (int64_t j = 0; j < p.item[i].count; j++) param_value(&other, i)[j] = sinf((float)j);
    write_form(at("x.pt"), tensors, n, PLAIN);
    open_ok(&c, at("x.pt"), &(ck_hints){.heads = 3}, &m);
    ck_close(&c);
    m.predictor_embed_dim = 24, m.predictor_depth = 2, m.predictor_num_heads = 2, m.predictor_out_dim = 48, m.num_mask_tokens = 3,
    m.predictor_mlp_ratio = 4;
    const ck_part all[] = {{CK_ENCODER, &other, "encoder."}, {CK_TARGET, &p, "encoder."}, {CK_PREDICTOR, &q, "predictor."}},
                  one[] = {{CK_ENCODER, &p, "encoder."}, {CK_PREDICTOR, &q, "predictor."}};
    if (ck_write_pt(at("out.pt"), &m, all, 3, T_F32, &e) || ck_write_hf(at("hf"), &m, one, 2, T_F32, 0, &e) ||
        ck_write_own(at("own"), &m, one, 2, T_F32, &e))
        fail_msg("%s", e.text);
    for (int form = 0; form < 3; form++) {
        open_ok(&c, at(form == 0 ? "out.pt" : form == 1 ? "hf" : "own"), &(ck_hints){.heads = 3, .pred_heads = 2}, &got);
        assert_int_equal(got.predictor_depth * 100 + got.num_mask_tokens, 203);
        for (int i = 0; i < 3; i++) {
            make_params(&r, i == 2 ? "predictor." : "encoder.", i == 2 ? pt : tensors, i == 2 ? k : n);
            if (i == 1 && form) { /* one encoder */
                params_close(&r);
                continue;
            }
            if (ck_load(c, &r, i == 2 ? "predictor." : "encoder.", i == 2 ? CK_PREDICTOR : i == 1 ? CK_TARGET : CK_ENCODER, 0, NULL, &e))
                fail_msg("%s", e.text);
            for (int j = 0; j < r.n; j++) {
                const params *want = i == 2 ? &q : i == 0 && form == 0 ? &other : &p;
                assert_memory_equal(param_value(&r, j), param_value(want, j), (size_t)r.item[j].count * 4);
            }
            params_close(&r);
        }
        ck_close(&c);
    }
    pt_file *f;
    assert_int_equal(pt_open(&f, at("out.pt"), &e), 0);
    for (int i = 0; i < pt_count(f); i++) {
        assert_true(!strncmp(pt_at(f, i)->name, "module.backbone.", 16));
        assert_int_equal((uintptr_t)pt_at(f, i)->data % 64, 0);
    }
    assert_non_null(pt_find(f, "target_encoder", "module.backbone.blocks.1.attn.qkv.weight"));
    pt_close(&f);
    /* one encoder under both names lies in the file once; 16-bit types round */
    struct stat a, b;
    const ck_part both[] = {{CK_ENCODER, &p, "encoder."}, {CK_TARGET, &p, "encoder."}};
    assert_int_equal(ck_write_pt(at("both.pt"), &m, both, 2, T_F32, &e), 0);
    assert_int_equal(stat(at("both.pt"), &a), 0);
    assert_int_equal(stat(at("out.pt"), &b), 0);
    assert_true(a.st_size < b.st_size * 6 / 10);
    for (int half = 0; half < 2; half++) {
        assert_int_equal(ck_write_pt(at("half.pt"), &m, both, 2, half ? T_F16 : T_BF16, &e), 0);
        open_ok(&c, at("half.pt"), NULL, &got);
        make_params(&r, "encoder.", tensors, n);
        assert_int_equal(ck_load(c, &r, "encoder.", CK_TARGET, 0, NULL, &e), 0);
        for (int j = 0; j < r.n; j++)
            for (int64_t i = 0; i < r.item[j].count; i++) {
                float x = param_value(&p, j)[i];
                if (param_value(&r, j)[i] != (half ? f16_to_f32(f32_to_f16(x)) : bf16_to_f32(f32_to_bf16(x))))
                    fail_msg("%s[%ld]", r.item[j].name, (long)i);
            }
        params_close(&r);
        ck_close(&c);
    }
    static const char *const none[] = {"vjepa1", "vjepa21"};
    for (int i = 0; i < 2; i++) {
        snprintf(m.family, sizeof m.family, "%s", none[i]);
        assert_int_equal(ck_write_hf(at("no"), &m, one, 2, T_F32, 0, &e), JEPA_E_MODEL);
        assert_non_null(strstr(e.text, i ? "no class for V-JEPA 2.1" : "no class for V-JEPA 1"));
        assert_int_equal(access(at("no"), F_OK), -1);
    }
    assert_int_equal(ck_write_pt(at("no/out.pt"), &m, one, 2, T_F32, &e), JEPA_E_IO);
    assert_int_equal(ck_write_pt(at("z.pt"), &m, one, 0, T_F32, &e), JEPA_E_USE);
    params_close(&p), params_close(&q), params_close(&other);
}

/* Every allocation, map, write, sync and rename fails once: an error is given, nothing half-written has the name, nothing is left open. */
static void failures_everywhere(void **state) {
    int n = case_vit(tensors, 48, 1, 4, 2, 1), done = 0;
    params p, q;
    model_cfg m;
    jepa_err e = {0};
    ck *c = NULL;
    write_form(at("x.pt"), tensors, n, PREFIXED);
    open_ok(&c, at("x.pt"), &(ck_hints){.heads = 3}, &m);
    ck_close(&c);
    make_params(&p, "encoder.", tensors, n), make_params(&q, "encoder.", tensors, n);
    set_params(&p, 8);
    const ck_part part = {CK_TARGET, &p, "encoder."};
    for (int k = 1; !done; k++) {
        assert_true(k < 3000);
        points = 0, fail_at = k, e = (jepa_err){0};
        int rc = ck_write_pt(at("out.pt"), &m, &part, 1, T_BF16, &e);
        if (rc) assert_int_equal(access(at("out.pt.tmp"), F_OK), -1);
        if (!rc) rc = ck_open(&c, at("x.pt"), &e);
        if (!rc) rc = ck_load(c, &q, "encoder.", CK_TARGET, 0, NULL, &e);
        ck_close(&c);
        fail_at = 0;
        done = !rc;
        if (rc) assert_true(rc < 0 && e.text[0]);
        if (access(at("out.pt"), F_OK) == 0) { /* then it is whole */
            open_ok(&c, at("out.pt"), NULL, &m);
            ck_close(&c);
            unlink(at("out.pt"));
        }
    }
    check_values(&q, 8);
    params_close(&p), params_close(&q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_forms_people_save, setup, teardown),
        cmocka_unit_test_setup_teardown(questions_about_a_file, setup, teardown),
        cmocka_unit_test_setup_teardown(missing_extra_and_misshapen, setup, teardown),
        cmocka_unit_test_setup_teardown(predictors_of_another_depth, setup, teardown),
        cmocka_unit_test_setup_teardown(v_jepa_1_is_told_by_its_tables, setup, teardown),
        cmocka_unit_test_setup_teardown(fixed_tables_may_be_missing, setup, teardown),
        cmocka_unit_test_setup_teardown(i_jepa_and_published_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(golden_files_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(files_that_hold_no_model, setup, teardown),
        cmocka_unit_test_setup_teardown(torch_weights_in_a_folder, setup, teardown),
        cmocka_unit_test_setup_teardown(written_and_read_back, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_everywhere, setup, teardown),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
