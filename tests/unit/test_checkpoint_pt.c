/* test_checkpoint_pt.c: PyTorch archives read: golden ones of every form, and forged ones for what those do not have. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/stat.h>
#include <time.h>

#include "checkpoint/internal.h"
#include "pt_make.h"

#define GOLD TEST_DATA "/vectors/vjepa2-meta-tiny/"

static char dir[64];
static int setup(void **state) {
    snprintf(dir, sizeof dir, "/tmp/jepa-pt-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}
static const char *at(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}
static int teardown(void **state) {
    unlink(at("x.pt"));
    return rmdir(dir);
}

static void open_ok(pt_file **f, const char *path) {
    jepa_err e = {0};
    if (pt_open(f, path, &e)) fail_msg("%s", e.text);
}

static int64_t count_of(const pt_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dim[i];
    return n;
}

static double sum_of(const pt_tensor *t, float *first) {
    int64_t n = count_of(t);
    float *x = malloc((size_t)n * 4 + 4);
    double s = 0;
    assert_int_equal(pt_copy_f32(t, x), 0);
    for (int64_t i = 0; i < n; i++) s += (double)x[i];
    if (first) *first = n ? x[0] : 0;
    free(x);
    return s;
}

/* ---- golden ---- */

static void golden_forms_are_told_and_searched(void **state) {
    static const struct {
        const char *file, *top;
        int tensors;
    } k[] = {{"checkpoint.pt", "encoder", 89}, {"checkpoint-legacy.pt", "encoder", 55}, {"checkpoint-strided.pt", "target_encoder", 65}};
    for (size_t i = 0; i < sizeof k / sizeof *k; i++) {
        pt_file *f;
        char path[300];
        snprintf(path, sizeof path, GOLD "%s", k[i].file);
        open_ok(&f, path);
        assert_int_equal(pt_count(f), k[i].tensors);
        for (int j = 0; j < pt_count(f); j++) assert_ptr_equal(pt_find(f, pt_at(f, j)->top, pt_at(f, j)->name), pt_at(f, j));
        assert_non_null(pt_find(f, k[i].top, "module.backbone.blocks.0.attn.qkv.weight"));
        assert_null(pt_find(f, "opt", "module.backbone.blocks.0.attn.qkv.weight"));
        assert_null(pt_find(f, "encoder", "module.backbone.blocks.0.attn.qkv"));
        assert_null(pt_at(f, -1));
        assert_null(pt_at(f, pt_count(f)));
        pt_close(&f);
        assert_null(f);
    }
    pt_close(NULL);
}

/* The same object under two names, transposed, expanded (stride 0), empty, and every type: as the archive's maker says. */
static void golden_strides_are_kept(void **state) {
    pt_file *f;
    open_ok(&f, GOLD "checkpoint-strided.pt");
    const pt_tensor *w = pt_find(f, "encoder", "module.backbone.patch_embed.proj.weight"),
                    *v = pt_find(f, "target_encoder", "module.backbone.patch_embed.proj.weight");
    assert_int_equal(w->type, T_BF16);
    assert_int_equal(w->rank, 5);
    assert_int_equal(w->stride[1], 1); /* channels last */
    assert_ptr_equal(w->data, v->data);
    const pt_tensor *ints = pt_find(f, "", "ints"), *u8 = pt_find(f, "", "u8");
    assert_int_equal(ints->type, T_I32);
    assert_int_equal(ints->stride[0], 3);
    assert_int_equal(u8->stride[0], 1);
    assert_int_equal(u8->stride[1], 3);
    const pt_tensor *empty = pt_find(f, "encoder", "module.backbone.empty");
    assert_int_equal(count_of(empty), 0);
    assert_int_equal(pt_copy_f32(empty, NULL), 0);
    pt_close(&f);
}

/* ---- forged ---- */

static void views_are_copied_in_row_major_order(void **state) {
    archive_make a = {0};
    float base[24];
    for (int i = 0; i < 24; i++) base[i] = (float)i;
    pk_begin(&a.pkl, 2), puts_(&a.pkl, "}(");
    static const struct {
        const char *name;
        int64_t offset;
        int rank;
        int64_t dim[4], stride[4];
        float want[8];
        int n;
    } k[] = {
        {"transposed", 1, 2, {2, 3}, {1, 2}, {1, 3, 5, 2, 4, 6}, 6},
        {"expanded", 5, 2, {2, 2}, {0, 0}, {5, 5, 5, 5}, 4},
        {"scalar", 23, 0, {0}, {0}, {23}, 1},
        {"ones", 4, 3, {1, 2, 1}, {99, 3, 77}, {4, 7}, 2}, /* strides of dimensions of 1 mean nothing */
        {"every other", 0, 1, {4}, {2}, {0, 2, 4, 6}, 4},
        {"four", 0, 4, {2, 1, 2, 2}, {12, 1, 3, 1}, {0, 1, 3, 4, 12, 13, 15, 16}, 8},
        {"none", 24, 1, {0}, {1}, {0}, 0},
    };
    for (size_t i = 0; i < sizeof k / sizeof *k; i++)
        pk_text(&a.pkl, k[i].name), pk_view(&a.pkl, "FloatStorage", "0", 24, k[i].offset, k[i].rank, k[i].dim, k[i].stride);
    puts_(&a.pkl, "u.");
    ar_add(&a, base, sizeof base);
    ar_write(&a, at("x.pt"));
    pt_file *f;
    open_ok(&f, at("x.pt"));
    for (size_t i = 0; i < sizeof k / sizeof *k; i++) {
        float got[8];
        const pt_tensor *t = pt_find(f, "", k[i].name);
        assert_non_null(t);
        assert_int_equal(pt_copy_f32(t, got), 0);
        assert_memory_equal(got, k[i].want, (size_t)k[i].n * sizeof *got);
        for (int from = 0; from < k[i].n; from++)
            for (int n = 0; n <= k[i].n - from; n++) { /* in pieces */
                got[n % 8] = -1;
                assert_int_equal(pt_copy_part(t, from, n, got), 0);
                assert_memory_equal(got, k[i].want + from, (size_t)n * sizeof *got);
            }
    }
    pt_close(&f);
}

static void types_are_read(void **state) {
    static const struct {
        const char *class;
        dtype type;
        unsigned char bytes[8];
        int size;
        float value;
    } k[] = {
        {"FloatStorage", T_F32, {0, 0, 0x20, 0xc0}, 4, -2.5f},
        {"DoubleStorage", T_F64, {0, 0, 0, 0, 0, 0, 4, 0xc0}, 8, -2.5f},
        {"HalfStorage", T_F16, {0, 0xc1}, 2, -2.5f},
        {"BFloat16Storage", T_BF16, {0x20, 0xc0}, 2, -2.5f},
        {"LongStorage", T_I64, {0xfe, 255, 255, 255, 255, 255, 255, 255}, 8, -2},
        {"IntStorage", T_I32, {0xfe, 255, 255, 255}, 4, -2},
        {"ShortStorage", T_I16, {0xfe, 255}, 2, -2},
        {"CharStorage", T_I8, {0xfe}, 1, -2},
        {"ByteStorage", T_U8, {0xfe}, 1, 254},
        {"BoolStorage", T_BOOL, {1}, 1, 1},
    };
    archive_make a = {0};
    pk_begin(&a.pkl, 2), puts_(&a.pkl, "}(");
    for (size_t i = 0; i < sizeof k / sizeof *k; i++) {
        char key[8];
        snprintf(key, sizeof key, "%zu", i);
        pk_text(&a.pkl, k[i].class), pk_tensor(&a.pkl, k[i].class, key, 1, DIMS(1)), ar_add(&a, k[i].bytes, (size_t)k[i].size);
    }
    puts_(&a.pkl, "u.");
    ar_write(&a, at("x.pt"));
    pt_file *f;
    open_ok(&f, at("x.pt"));
    for (size_t i = 0; i < sizeof k / sizeof *k; i++) {
        const pt_tensor *t = pt_find(f, "", k[i].class);
        float x;
        assert_int_equal(t->type, k[i].type);
        assert_int_equal(pt_copy_f32(t, &x), 0);
        assert_true(x == k[i].value);
    }
    pt_close(&f);
}

/* What trainers save beside the weights: numpy scalars, an optimizer with its tensors (one of them badly described), arguments, None,
 * _metadata on the state dict, parameters; protocol 4's words for the same. */
static void what_stands_beside_is_passed_over(void **state) {
    archive_make a = {0};
    blob *b = &a.pkl;
    float one = 1;
    pk_begin(b, 4), put8(b, 0x95), putn(b, 1000, 8), puts_(b, "}\x94(");
    pk_text(b, "loss"), pk_global(b, "numpy.core.multiarray", "scalar"), put8(b, '('), pk_global(b, "numpy", "dtype"), put8(b, '('),
        pk_text(b, "f8"), puts_(b, "\x89\x88tR(");
    pk_int(b, 3), pk_text(b, "<"), puts_(b, "NNN"), pk_int(b, -1), pk_int(b, -1), pk_int(b, 0), puts_(b, "tb"), puts_(b, "B"),
        putn(b, 8, 4), putn(b, 0, 8), puts_(b, "tR");
    pk_text(b, "scaler"), puts_(b, "N");
    pk_text(b, "opt"), puts_(b, "}("), pk_text(b, "state"), puts_(b, "}("), pk_int(b, 0), puts_(b, "}("), pk_text(b, "exp_avg");
    pk_view(b, "FloatStorage", "77", 5, 1000, 1, DIMS(9), DIMS(1)); /* no such storage: it is never looked at */
    puts_(b, "uu"), pk_text(b, "param_groups"), puts_(b, "](}(");
    pk_text(b, "betas"), puts_(b, "G"), putn(b, 0, 8), puts_(b, "G"), putn(b, 0, 8), puts_(b, "\x86"), pk_text(b, "params"), puts_(b, "]("),
        pk_int(b, 0), puts_(b, "eueu");
    pk_text(b, "args"), pk_global(b, "argparse", "Namespace"), puts_(b, ")\x81}("), pk_text(b, "lr"), pk_int(b, 3), puts_(b, "ub");
    pk_text(b, "seen"), puts_(b, "\x8f("), pk_int(b, 1), pk_int(b, 2), puts_(b, "\x90");
    pk_text(b, "big"), puts_(b, "\x8a\x0c"), putn(b, 7, 8), putn(b, 7, 4);
    pk_text(b, "encoder"), pk_odict(b), puts_(b, "\x94(");
    put8(b, 0x8c), put8(b, 1), puts_(b, "w"), pk_global(b, "torch._utils", "_rebuild_parameter"), put8(b, '('),
        pk_tensor(b, "FloatStorage", "0", 1, DIMS(1)), put8(b, 0x88), pk_odict(b), puts_(b, "tR");
    pk_text(b, "steps"), pk_int(b, 12), pk_text(b, "x"), put8(b, 0x8c), put8(b, 12), puts_(b, "torch._utils"), put8(b, 0x8c), put8(b, 18),
        puts_(b, "_rebuild_tensor_v2"), puts_(b, "\x93(");
    pk_storage(b, "FloatStorage", "0", 1), pk_int(b, 0), puts_(b, ")"), puts_(b, ")"), put8(b, 0x89), pk_odict(b), puts_(b, "tR");
    puts_(b, "u}("), pk_text(b, "_metadata"), pk_odict(b), puts_(b, "ub"); /* BUILD */
    puts_(b, "u.");
    ar_add(&a, &one, 4);
    ar_write(&a, at("x.pt"));
    pt_file *f;
    open_ok(&f, at("x.pt"));
    assert_int_equal(pt_count(f), 2);
    assert_int_equal(pt_find(f, "encoder", "w")->rank, 1);
    assert_int_equal(pt_find(f, "encoder", "x")->rank, 0);
    pt_close(&f);
}

static void dicts_in_dicts_have_their_path(void **state) {
    archive_make a = {0};
    float one = 1;
    pk_begin(&a.pkl, 2), puts_(&a.pkl, "}("), pk_text(&a.pkl, "model"), puts_(&a.pkl, "}("), pk_text(&a.pkl, "encoder"),
        puts_(&a.pkl, "}(");
    pk_text(&a.pkl, "w"), pk_tensor(&a.pkl, "FloatStorage", "0", 1, DIMS(1)), puts_(&a.pkl, "uuu.");
    ar_add(&a, &one, 4);
    ar_write(&a, at("x.pt"));
    pt_file *f;
    open_ok(&f, at("x.pt"));
    assert_int_equal(pt_count(f), 1);
    assert_non_null(pt_find(f, "model.encoder", "w"));
    pt_close(&f);
}

static void a_deflated_pickle_is_unpacked(void **state) {
    zip_make z = {0};
    blob p = {0};
    float one = 1;
    unsigned char packed[4096];
    pk_begin(&p, 2), puts_(&p, "}("), pk_text(&p, "w"), pk_tensor(&p, "FloatStorage", "0", 1, DIMS(1)), puts_(&p, "u.");
    z_stream s = {.next_in = p.p, .avail_in = (uInt)p.n, .next_out = packed, .avail_out = sizeof packed};
    assert_int_equal(deflateInit2(&s, 9, Z_DEFLATED, -15, 9, 0), Z_OK);
    assert_int_equal(deflate(&s, Z_FINISH), Z_STREAM_END);
    deflateEnd(&s);
    zip_local(&z.out, "a/data.pkl", 8, 0, p.n, s.total_out);
    put(&z.out, packed, s.total_out);
    zip_central(&z, "a/data.pkl", 8, 0, p.n, s.total_out, 0);
    zip_add(&z, "a/data/0", &one, 4);
    zip_end(&z);
    write_all(at("x.pt"), z.out.p, z.out.n);
    pt_file *f;
    open_ok(&f, at("x.pt"));
    assert_int_equal(pt_count(f), 1);
    pt_close(&f);
    blob_free(&z.out), blob_free(&p);
}

/* ---- large ---- */

static double now(void) { /* of this thread: other tests may run beside it */
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* 4.5 GB of which a few kB are there: a storage of 4.3 GB, and another behind it, so sizes and offsets need 64 bits. */
static void a_large_file_opens_in_milliseconds(void **state) {
    const uint64_t n = (uint64_t)1150 << 20; /* floats */
    zip_make z = {0};
    blob p = {0};
    float last[4] = {1, 2, 3, 4};
    pk_begin(&p, 2), puts_(&p, "}("), pk_text(&p, "huge"), pk_tensor(&p, "FloatStorage", "0", 2, DIMS(1150, 1 << 20)),
        pk_text(&p, "behind"), pk_tensor(&p, "FloatStorage", "1", 1, DIMS(4)), puts_(&p, "u.");
    zip_add(&z, "a/data.pkl", p.p, p.n);
    uint64_t header = z.out.n;
    zip_local(&z.out, "a/data/0", 0, 0, n * 4, n * 4);
    zip_central(&z, "a/data/0", 0, 0, n * 4, n * 4, header);
    int fd = open(at("x.pt"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, z.out.p, z.out.n, 0), z.out.n);
    uint64_t behind = z.out.n + n * 4;
    blob tail = {0};
    zip_local(&tail, "a/data/1", 0, 0, 16, 16);
    put(&tail, last, 16);
    zip_central(&z, "a/data/1", 0, 0, 16, 16, behind);
    uint64_t central = behind + tail.n;
    put(&tail, z.central.p, z.central.n);
    zip_tail(&tail, z.entries, z.central.n, central, 1);
    if (pwrite(fd, tail.p, tail.n, (off_t)behind) != (ssize_t)tail.n) { /* a file system without files of that size */
        close(fd);
        skip();
    }
    close(fd);
    double began = now();
    pt_file *f;
    open_ok(&f, at("x.pt"));
    double took = now() - began;
    assert_int_equal(pt_find(f, "", "huge")->dim[0], 1150);
    float first;
    assert_true(sum_of(pt_find(f, "", "behind"), &first) == 10 && first == 1);
    pt_close(&f);
    if (took > 0.05) fail_msg("opened in %.3f s", took); /* about 0.0001 s */
    blob_free(&z.out), blob_free(&z.central), blob_free(&tail), blob_free(&p);
}

static void sixty_four_bit_fields_of_small_files(void **state) {
    archive_make a = {.z.force64 = 1};
    float one = 1;
    pk_begin(&a.pkl, 2), puts_(&a.pkl, "}("), pk_text(&a.pkl, "w"), pk_tensor(&a.pkl, "FloatStorage", "0", 1, DIMS(1)), puts_(&a.pkl, "u.");
    ar_add(&a, &one, 4);
    ar_write(&a, at("x.pt"));
    pt_file *f;
    open_ok(&f, at("x.pt"));
    assert_int_equal(pt_count(f), 1);
    pt_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(golden_forms_are_told_and_searched, setup, teardown),
        cmocka_unit_test_setup_teardown(golden_strides_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(views_are_copied_in_row_major_order, setup, teardown),
        cmocka_unit_test_setup_teardown(types_are_read, setup, teardown),
        cmocka_unit_test_setup_teardown(what_stands_beside_is_passed_over, setup, teardown),
        cmocka_unit_test_setup_teardown(dicts_in_dicts_have_their_path, setup, teardown),
        cmocka_unit_test_setup_teardown(a_deflated_pickle_is_unpacked, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_file_opens_in_milliseconds, setup, teardown),
        cmocka_unit_test_setup_teardown(sixty_four_bit_fields_of_small_files, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
