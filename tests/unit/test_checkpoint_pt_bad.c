/* test_checkpoint_pt_bad.c: hostile and broken PyTorch archives: each is refused by a line that names what is wrong, within a second and
 * without asking for more memory than a few times the file's size. Nothing of a pickle is ever run. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <time.h>

#include "checkpoint/checkpoint.h"
#include "pt_make.h"

static char dir[64], path[128];
static int setup(void **state) {
    snprintf(dir, sizeof dir, "/tmp/jepa-pt-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/x.pt", dir);
    return 0;
}
static int teardown(void **state) {
    unlink(path);
    return rmdir(dir);
}

static double now(void) { /* of this thread: other tests may run beside it */
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* VmHWM of this process in bytes, and the same begun anew. 0: the kernel does not say. */
static size_t peak(int reset) {
    char line[200];
    size_t kib = 0;
    FILE *f = reset ? fopen("/proc/self/clear_refs", "w") : NULL;
    if (f) fputs("5", f), fclose(f);
    f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %zu", &kib) == 1) break;
    if (f) fclose(f);
    return kib * 1024;
}

/* what the file that is at path gives: a refusal with these words */
static void refused(const char *words) {
    pt_file *f = (pt_file *)8;
    jepa_err e = {0};
    FILE *s = fopen(path, "rb");
    assert_non_null(s);
    fseek(s, 0, SEEK_END);
    size_t size = (size_t)ftell(s);
    fclose(s);
    size_t before = peak(1);
    double began = now();
    int rc = pt_open(&f, path, &e);
    double took = now() - began;
    size_t after = peak(0);
    if (rc != JEPA_E_MODEL || f || !strstr(e.text, words) || !strstr(e.text, path)) fail_msg("%d \"%s\", wanted \"%s\"", rc, e.text, words);
#if !defined __SANITIZE_ADDRESS__ /* which is slow, and keeps what was freed */
    if (took > 1) fail_msg("\"%s\": %.2f s", words, took);
    if (after > before + 4 * size + (6 << 20)) fail_msg("\"%s\": %zu bytes more for a file of %zu", words, after - before, size);
#else
    (void)before, (void)after, (void)size, (void)took;
#endif
}

/* an archive of that pickle and one storage of 16 bytes named 0 */
static void refused_pickle(blob *p, const char *words) {
    archive_make a = {0};
    a.pkl = *p;
    ar_add(&a, "0123456789abcdef", 16);
    ar_write(&a, path);
    refused(words);
    *p = (blob){0};
}

/* ---- pickles ---- */

static void code_is_named_and_never_run(void **state) {
    static const struct {
        const char *module, *name;
    } bad[] = {{"os", "system"},
               {"posix", "system"},
               {"builtins", "eval"},
               {"__builtin__", "exec"},
               {"subprocess", "Popen"},
               {"torch.storage", "_load_from_bytes"},
               {"torch", "load"},
               {"builtins", "getattr"},
               {"collections", "OrderedDict.__init__"},
               {"__torch__.model", "Encoder"},
               {"runpy", "_run_code"}};
    char marker[160], words[100];
    snprintf(marker, sizeof marker, "%s/ran", dir);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int how = 0; how < 3; how++) {
            blob p = {0};
            char command[200];
            snprintf(command, sizeof command, "touch %s", marker);
            snprintf(words, sizeof words, "%s.%s", bad[i].module, bad[i].name);
            pk_begin(&p, 4);
            if (how == 0) { /* the root */
                pk_global(&p, bad[i].module, bad[i].name), put8(&p, '('), pk_text(&p, command), puts_(&p, "tR.");
            } else if (how == 1) { /* a value that is of no interest, by STACK_GLOBAL */
                puts_(&p, "}("), pk_text(&p, "note"), pk_text(&p, bad[i].module), pk_text(&p, bad[i].name), puts_(&p, "\x93("),
                    pk_text(&p, command), puts_(&p, "tRu.");
            } else { /* without a call */
                puts_(&p, "}("), pk_text(&p, "encoder"), puts_(&p, "}("), pk_text(&p, "w"), pk_global(&p, bad[i].module, bad[i].name),
                    puts_(&p, "uu.");
            }
            refused_pickle(&p, words);
        }
    assert_int_equal(access(marker, F_OK), -1);
}

static void calls_of_other_things_are_refused(void **state) {
    blob p = {0};
    pk_begin(&p, 2), pk_text(&p, "print"), puts_(&p, ")R.");
    refused_pickle(&p, "something that is no class of the list is called");
    pk_begin(&p, 2), pk_odict(&p), puts_(&p, ")R.");
    refused_pickle(&p, "something that is no class of the list is called");
    pk_begin(&p, 2), pk_global(&p, "collections", "OrderedDict"), puts_(&p, "]R.");
    refused_pickle(&p, "arguments that are no tuple");
    pk_begin(&p, 2), pk_text(&p, "a"), puts_(&p, ")\x81.");
    refused_pickle(&p, "an object of something that is no class");
    pk_begin(&p, 2), pk_text(&p, "a"), puts_(&p, "Q.");
    refused_pickle(&p, "a persistent id that is no tuple");
    pk_begin(&p, 2), pk_int(&p, 1), puts_(&p, "}b.");
    refused_pickle(&p, "attributes are given to something");
    static const struct {
        const char *ops, *words;
    } other[] = {{"(cos\nsystem\no.", "os.system"},
                 {"(ios\nsystem\n.", "(INST)"},
                 {"(o.", "(OBJ)"},
                 {"Pabc\n.", "(PERSID)"},
                 {"\x82\x01.", "(EXT1)"},
                 {"I1\n.", "(INT)"},
                 {"S'a'\n.", "(STRING)"},
                 {"\x97.", "(NEXT_BUFFER)"},
                 {"\xff.", "0xff is no opcode"},
                 {"\x80\x09.", "a pickle protocol above 5"}};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        pk_begin(&p, 2), puts_(&p, other[i].ops);
        refused_pickle(&p, other[i].words);
    }
}

static void repeat(blob *p, const char *what, size_t n) {
    while (n--) puts_(p, what);
}

static void nesting_and_counts_have_limits(void **state) {
    blob p = {0};
    pk_begin(&p, 2), repeat(&p, "(", 5000);
    refused_pickle(&p, "values nested more than 1000 deep");
    pk_begin(&p, 2), puts_(&p, "}"), repeat(&p, "2", 1 << 20), puts_(&p, ".");
    refused_pickle(&p, "more than 262144 values wait on its stack");
    pk_begin(&p, 2), puts_(&p, ")"), repeat(&p, "\x85", 4 << 20), puts_(&p, "."); /* a tuple in a tuple in a tuple … */
    refused_pickle(&p, "it needs more memory than a file of this size may");
    pk_begin(&p, 2), puts_(&p, "]q"), put8(&p, 0), puts_(&p, "("), repeat(&p, "Nh", 1), put8(&p, 0),
        puts_(&p, "e."); /* a list that holds itself */
    refused_pickle(&p, "holds no state dict");
    pk_begin(&p, 2), puts_(&p, "X"), putn(&p, 0xffffffff, 4), puts_(&p, "abc");
    refused_pickle(&p, "a text is said to be longer than what is there");
    pk_begin(&p, 4), put8(&p, 0x8d), putn(&p, UINT64_MAX, 8), puts_(&p, "abc");
    refused_pickle(&p, "a text is said to be longer than what is there");
    pk_begin(&p, 2), puts_(&p, "\x8b"), putn(&p, 0x7fffffff, 4), puts_(&p, "abc");
    refused_pickle(&p, "a number is said to be longer than what is there");
    pk_begin(&p, 2), puts_(&p, "Nr"), putn(&p, 0xffffffff, 4), puts_(&p, ".");
    refused_pickle(&p, "a memo number that does not follow");
    pk_begin(&p, 2), puts_(&p, "h\x05.");
    refused_pickle(&p, "a memo entry that was never made");
    pk_begin(&p, 2), puts_(&p, "((u.");
    refused_pickle(&p, "it takes values that are not there");
    pk_begin(&p, 2), puts_(&p, "}(Nu.");
    refused_pickle(&p, "a key has no value");
    pk_begin(&p, 2), puts_(&p, "N(NNu.");
    refused_pickle(&p, "something that is no dict");
    pk_begin(&p, 2), puts_(&p, "NN.");
    refused_pickle(&p, "other than one value");
    pk_begin(&p, 2), puts_(&p, "}");
    refused_pickle(&p, "ends without a stop");
    pk_begin(&p, 2), puts_(&p, "}(K\x01"
                               "c");
    refused_pickle(&p, "a class name without an end");
}

/* As much of it as there may be: none of these takes long. */
static void large_pickles_are_read_quickly(void **state) {
    static const struct {
        const char *what, *words;
    } k[] = {{"cnumpy\ndtype\n0", "it needs more memory"},
             {"N0", "it needs more memory"},
             {"(0", "a pickle of more than 32 MB"},
             {"}q\x01"
              "0h\x01"
              "0",
              "it needs more memory"},
             {")0", "it needs more memory"},
             {"cos\nsystem\n", "os.system"}};
    for (size_t i = 0; i < sizeof k / sizeof *k; i++) {
        blob p = {0};
        pk_begin(&p, 2), repeat(&p, k[i].what, (size_t)(34 << 20) / strlen(k[i].what));
        refused_pickle(&p, k[i].words);
    }
}

/* A dict that holds itself, and dicts that hold the one before them many times: 9 levels of 30 would be 30^9 visits. */
static void dicts_of_dicts_do_not_explode(void **state) {
    blob p = {0};
    char key[16];
    pk_begin(&p, 2), puts_(&p, "}q"), put8(&p, 0), puts_(&p, "("), pk_text(&p, "me"), puts_(&p, "h"), put8(&p, 0), puts_(&p, "u.");
    refused_pickle(&p, "dicts nested more than 8 deep");
    pk_begin(&p, 2), puts_(&p, "}q"), put8(&p, 0), puts_(&p, "0");
    for (int level = 1; level < 8; level++) {
        puts_(&p, "}q"), put8(&p, level), puts_(&p, "(");
        for (int i = 0; i < 30; i++) snprintf(key, sizeof key, "%d", i), pk_text(&p, key), puts_(&p, "h"), put8(&p, level - 1);
        puts_(&p, "u"), puts_(&p, level < 7 ? "0" : ".");
    }
    refused_pickle(&p, "holds more names and tensors than a file of this size may");
}

/* ---- tensors ---- */

static void refused_view(blob *p, const char *class, const char *key, int64_t numel, int64_t offset, int rank, const int64_t *dim,
                         const int64_t *stride, const char *words) {
    char whole[300];
    pk_begin(p, 2), puts_(p, "}("), pk_text(p, "encoder"), puts_(p, "}("), pk_text(p, "blocks.0.w"),
        pk_view(p, class, key, numel, offset, rank, dim, stride), puts_(p, "uu.");
    snprintf(whole, sizeof whole, "tensor encoder: blocks.0.w: %s", words);
    refused_pickle(p, whole);
}

static void views_outside_their_storage_are_named(void **state) {
    blob p = {0};
    const int64_t big = INT64_MAX;
    refused_view(&p, "FloatStorage", "0", 4, 0, 1, DIMS(5), DIMS(1), "its view reaches element 4 of a storage of 4");
    refused_view(&p, "FloatStorage", "0", 4, 4, 1, DIMS(1), DIMS(1), "its view reaches element 4 of a storage of 4");
    refused_view(&p, "FloatStorage", "0", 4, 0, 2, DIMS(2, 2), DIMS(3, 1), "its view reaches element 4 of a storage of 4");
    refused_view(&p, "FloatStorage", "0", 4, -1, 1, DIMS(1), DIMS(1), "offset, shape and strides are not whole numbers");
    refused_view(&p, "FloatStorage", "0", 4, 0, 1, DIMS(-1), DIMS(1), "offset, shape and strides are not whole numbers");
    refused_view(&p, "FloatStorage", "0", 4, 0, 1, DIMS(2), DIMS(-1), "offset, shape and strides are not whole numbers");
    refused_view(&p, "FloatStorage", "0", 4, 0, 2, DIMS(big, big), DIMS(0, 0), "its shape overflows");
    refused_view(&p, "FloatStorage", "0", 4, 0, 2, DIMS(3, 3), DIMS(big, big), "its shape overflows");
    refused_view(&p, "FloatStorage", "0", 4, big, 1, DIMS(3), DIMS(1), "its shape overflows");
    refused_view(&p, "FloatStorage", "0", 4, 0, 1, DIMS((int64_t)1 << 40), DIMS(0),
                 "views of the same bytes add up to more than four times the file");
    refused_view(&p, "FloatStorage", "0", 5, 0, 1, DIMS(4), DIMS(1),
                 "its storage, entry a/data/0, has 16 bytes; 5 values of f32 are others");
    refused_view(&p, "FloatStorage", "0", 3, 0, 1, DIMS(3), DIMS(1),
                 "its storage, entry a/data/0, has 16 bytes; 3 values of f32 are others");
    refused_view(&p, "FloatStorage", "0", big, 0, 1, DIMS(4), DIMS(1), "its storage, entry a/data/0, has 16 bytes");
    refused_view(&p, "FloatStorage", "9", 4, 0, 1, DIMS(4), DIMS(1), "its storage, entry a/data/9, is not in the archive");
    refused_view(&p, "FloatStorage", "../../etc/passwd", 4, 0, 1, DIMS(4), DIMS(1),
                 "its storage, entry a/data/../../etc/passwd, is not in the archive");
    refused_view(&p, "ComplexFloatStorage", "0", 2, 0, 1, DIMS(2), DIMS(1), "values of torch.ComplexFloatStorage are not read");
}

static void wrong_tensors(void **state) {
    blob p = {0};
    const int64_t nine[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    pk_begin(&p, 2), puts_(&p, "}("), pk_text(&p, "w"), pk_view(&p, "FloatStorage", "0", 4, 0, 9, nine, nine), puts_(&p, "u.");
    refused_pickle(&p, "tensor w: offset, shape and strides are not whole numbers, or more than 8 dimensions");
    pk_begin(&p, 2), puts_(&p, "}("), pk_text(&p, "w"), pk_global(&p, "torch._utils", "_rebuild_tensor_v2"), puts_(&p, "(NNtRu.");
    refused_pickle(&p, "tensor w: offset, shape and strides");
    for (int twice = 0; twice < 2; twice++) {
        pk_begin(&p, 2), puts_(&p, "}("), pk_text(&p, twice ? "w" : ""), pk_tensor(&p, "FloatStorage", "0", 1, DIMS(4)), pk_text(&p, "w"),
            pk_tensor(&p, "FloatStorage", "0", 1, DIMS(4)), puts_(&p, "u.");
        refused_pickle(&p, twice ? "tensor w: is there twice" : "whose name is empty");
    }
    pk_begin(&p, 2), puts_(&p, "}("), pk_text(&p, "encoder"), puts_(&p, "}("), pk_text(&p, "w"),
        pk_tensor(&p, "FloatStorage", "0", 1, DIMS(4));
    pk_text(&p, "blocks.1.q"), pk_global(&p, "torch._utils", "_rebuild_qtensor"), puts_(&p, "(NtRuu.");
    refused_pickle(&p, "encoder: blocks.1.q: is made by torch._utils._rebuild_qtensor");
    pk_begin(&p, 2), pk_tensor(&p, "FloatStorage", "0", 1, DIMS(4)), puts_(&p, ".");
    refused_pickle(&p, "holds no state dict but one tensor");
    pk_begin(&p, 2), pk_global(&p, "argparse", "Namespace"), puts_(&p, ")R.");
    refused_pickle(&p, "holds no state dict but an object of argparse.Namespace");
    /* 200 views of one storage of 1 MB */
    archive_make a = {0};
    char name[16];
    pk_begin(&a.pkl, 2), puts_(&a.pkl, "}(");
    for (int i = 0; i < 200; i++)
        snprintf(name, sizeof name, "w%d", i), pk_text(&a.pkl, name), pk_tensor(&a.pkl, "ByteStorage", "0", 1, DIMS(1 << 20));
    puts_(&a.pkl, "u.");
    a.values[0].p = calloc(1 << 20, 1), a.values[0].n = 1 << 20, a.n = 1;
    ar_write(&a, path);
    refused("views of the same bytes add up to more than four times the file");
}

/* ---- archives ---- */

enum {
    FINE,
    CUT,
    NO_END,
    NO_PICKLE,
    BIG_ENDIAN_VALUES,
    DEFLATED,
    ENCRYPTED,
    SIZES_DIFFER,
    OUTSIDE,
    OVERLAP,
    TWICE,
    MOVED,
    OVERFLOW64,
    NO_64,
    COUNT,
    DIRECTORY,
    SPLIT,
    LOCATOR,
    BOMB,
    KINDS
};

static void wrong_archives(void **state) {
    static const char *const words[KINDS] = {NULL,
                                             "its end is missing",
                                             "its end is missing",
                                             "without a data.pkl",
                                             "its values are big-endian",
                                             "entry \"a/data/0\" is packed (method 8)",
                                             "entry \"a/data/0\" is encrypted",
                                             "entry \"a/data/0\" is stored, but its two sizes differ",
                                             "entry \"a/data/0\" lies outside the file",
                                             "entry \"a/data/0\" overlaps the one behind it",
                                             "entry \"a/data/0\" is there twice",
                                             "entry \"a/data/0\" is not where the directory says",
                                             "entry \"a/data/0\" lies outside the file",
                                             "entry \"a/data/0\" has no 64-bit sizes",
                                             "its directory is too short",
                                             "its directory lies outside the file",
                                             "one in several parts",
                                             "the 64-bit end record is not where",
                                             "entry \"a/data.pkl\" would be too large unpacked"};
    for (int k = 0; k < KINDS; k++) {
        zip_make z = {.force64 = k == LOCATOR};
        blob p = {0};
        pk_begin(&p, 2), puts_(&p, "}("), pk_text(&p, "w"), pk_tensor(&p, "FloatStorage", "0", 1, DIMS(4)), puts_(&p, "u.");
        uint64_t header = z.out.n;
        if (k == BOMB) { /* a few bytes that are said to unpack to 4 GB */
            zip_local(&z.out, "a/data.pkl", 8, 0, 10, 10), puts_(&z.out, "0123456789");
            zip_central(&z, "a/data.pkl", 8, 0, 4000000000u, 10, 0);
        } else {
            zip_add(&z, k == NO_PICKLE ? "a/data" : "a/data.pkl", p.p, p.n);
        }
        zip_add(&z, "a/byteorder", k == BIG_ENDIAN_VALUES ? "bigend" : "little", 6);
        header = z.out.n;
        zip_local(&z.out, "a/data/0", 0, 0, 16, 16), puts_(&z.out, "0123456789abcdef");
        const size_t c = z.central.n;
        zip_central(&z, "a/data/0", k == DEFLATED ? 8 : 0, 0, 16, 16, header);
        unsigned char *e = z.central.p + c;
        if (k == ENCRYPTED) e[8] = 1;
        if (k == SIZES_DIFFER) e[24] = 12;
        if (k == OUTSIDE) e[20] = e[24] = 0, e[21] = e[25] = 0xff;
        if (k == MOVED) e[42]++, e[20]--, e[24]--;
        if (k == NO_64) memset(e + 20, 0xff, 4);
        if (k == OVERFLOW64) { /* header and sizes whose sum wraps */
            z.central.n = c, z.entries--;
            zip_central(&z, "a/data/0", 0, 0, UINT64_MAX - 8, UINT64_MAX - 8, header);
        }
        if (k == TWICE)
            header = z.out.n, zip_local(&z.out, "a/data/0", 0, 0, 4, 4), puts_(&z.out, "0123"),
            zip_central(&z, "a/data/0", 0, 0, 4, 4, header);
        if (k == OVERLAP) zip_central(&z, "a/inside", 0, 0, 4, 4, header + 10);
        zip_end(&z);
        unsigned char *end = z.out.p + z.out.n - 22;
        if (k == COUNT) end[10] = 0xff;
        if (k == DIRECTORY) end[19] = 0x7f;
        if (k == SPLIT) end[4] = 2;
        if (k == LOCATOR) end[-12] = 0x77;
        if (k == NO_END) end[0] = 'x';
        write_all(path, z.out.p, z.out.n - (k == CUT ? 30 : 0));
        if (k == FINE) {
            pt_file *f;
            jepa_err err = {0};
            if (pt_open(&f, path, &err)) fail_msg("%s", err.text);
            pt_close(&f);
        } else {
            refused(words[k]);
        }
        blob_free(&z.out), blob_free(&z.central), blob_free(&p);
    }
}

/* ---- the old form ---- */

static void old_form(blob *b, int magic, int protocol, int little, int64_t claimed, int64_t numel, size_t bytes) {
    pk_begin(b, 2), puts_(b, "\x8a\x0a"), put(b, magic ? "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" : "0123456789", 10), puts_(b, ".");
    pk_begin(b, 2), pk_int(b, protocol), puts_(b, ".");
    pk_begin(b, 2), puts_(b, "}("), pk_text(b, "little_endian"), put8(b, little ? 0x88 : 0x89), puts_(b, "u.");
    pk_begin(b, 2), puts_(b, "}("), pk_text(b, "w"), pk_global(b, "torch._utils", "_rebuild_tensor_v2"), put8(b, '(');
    put8(b, '('), pk_text(b, "storage"), pk_global(b, "torch", "FloatStorage"), pk_text(b, "93"), pk_text(b, "cpu"), pk_int(b, claimed),
        puts_(b, "NtQ");
    pk_int(b, 0), pk_ints(b, 1, DIMS(2)), pk_ints(b, 1, DIMS(1)), put8(b, 0x89), pk_odict(b), puts_(b, "tRu.");
    pk_begin(b, 2), puts_(b, "]("), pk_text(b, "93"), puts_(b, "e.");
    putn(b, (uint64_t)numel, 8);
    for (size_t i = 0; i < bytes; i++) put8(b, 0);
}

static void the_old_form(void **state) {
    static const struct {
        int magic, protocol, little;
        int64_t claimed, numel;
        size_t bytes;
        const char *words;
    } k[] = {
        {1, 1001, 1, 2, 2, 8, NULL},
        {0, 1001, 1, 2, 2, 8, "a Python pickle, but not one that torch.save wrote"},
        {1, 1002, 1, 2, 2, 8, "its protocol number is not 1001"},
        {1, 1001, 0, 2, 2, 8, "its values are big-endian"},
        {1, 1001, 1, 2, 2, 7, "storage \"93\" lies behind the end of the file"},
        {1, 1001, 1, 2, 3, 12, "storage \"93\" has 3 values, its tensors say 2"},
        {1, 1001, 1, 2, INT64_MAX, 8, "storage \"93\" lies behind the end of the file"},
        {1, 1001, 1, 2, -1, 8, "storage \"93\" lies behind the end of the file"},
        {1, 1001, 1, 1, 1, 4, "tensor w: its view reaches element 1 of a storage of 1"},
    };
    for (size_t i = 0; i < sizeof k / sizeof *k; i++) {
        blob b = {0};
        old_form(&b, k[i].magic, k[i].protocol, k[i].little, k[i].claimed, k[i].numel, k[i].bytes);
        write_all(path, b.p, b.n);
        if (k[i].words) {
            refused(k[i].words);
        } else {
            pt_file *f;
            jepa_err e = {0};
            if (pt_open(&f, path, &e)) fail_msg("%s", e.text);
            assert_int_equal(pt_count(f), 1);
            pt_close(&f);
            for (size_t n = 8; n < b.n; n += 7) { /* cut anywhere */
                write_all(path, b.p, n);
                refused("");
            }
        }
        blob_free(&b);
    }
}

static void other_files_are_named(void **state) {
    unsigned char tar[1024] = "sys_info";
    memcpy(tar + 257, "ustar", 5);
    write_all(path, tar, sizeof tar);
    refused("is a tar archive: the form of PyTorch 0.1");
    write_all(path, "not a pickle at all", 19);
    refused("neither a zip archive nor a pickle");
    write_all(path, "PK", 2);
    refused("2 bytes are no PyTorch file");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(code_is_named_and_never_run, setup, teardown),
        cmocka_unit_test_setup_teardown(calls_of_other_things_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(nesting_and_counts_have_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(large_pickles_are_read_quickly, setup, teardown),
        cmocka_unit_test_setup_teardown(dicts_of_dicts_do_not_explode, setup, teardown),
        cmocka_unit_test_setup_teardown(views_outside_their_storage_are_named, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_tensors, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_archives, setup, teardown),
        cmocka_unit_test_setup_teardown(the_old_form, setup, teardown),
        cmocka_unit_test_setup_teardown(other_files_are_named, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
