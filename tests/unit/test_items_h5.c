/* test_items_h5.c: frames in HDF5 files: which data sets are found, in which order; the right bytes, from many threads, read-only. */
#include "video/h5.h"
#include "video_make.h"

#include <hdf5.h>
#include <pthread.h>
#include <sys/stat.h>

static items list;
static jepa_err err;

static uint8_t pixel(int demo, int camera, int t, int y, int x, int c) {
    return (uint8_t)(demo * 97 + camera * 41 + t * 13 + y * 5 + x * 3 + c);
}

static hid_t groups(hid_t f, const char *path) {
    hid_t p = H5Pcreate(H5P_LINK_CREATE), g;
    H5Pset_create_intermediate_group(p, 1);
    g = H5Gcreate2(f, path, p, H5P_DEFAULT, H5P_DEFAULT);
    H5Pclose(p);
    return g;
}

static int has_group(hid_t f, const char *path) {
    hid_t g = H5Gopen2(f, path, H5P_DEFAULT);
    if (g >= 0) H5Gclose(g);
    return g >= 0;
}

/* how: 0 contiguous; n > 0: chunks of n frames, deflated */
static void put(hid_t f, const char *group, const char *name, int demo, int camera, int frames, int h, int w, int how) {
    hsize_t dim[4] = {(hsize_t)frames, (hsize_t)h, (hsize_t)w, 3}, chunk[4] = {(hsize_t)how, (hsize_t)h, (hsize_t)w, 3};
    uint8_t *b = malloc((size_t)(frames * h * w * 3)), *o = b;
    for (int t = 0; t < frames; t++)
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++)
                for (int c = 0; c < 3; c++) *o++ = pixel(demo, camera, t, y, x, c);
    hid_t g = has_group(f, group) ? H5Gopen2(f, group, H5P_DEFAULT) : groups(f, group);
    hid_t s = H5Screate_simple(4, dim, NULL), p = H5Pcreate(H5P_DATASET_CREATE);
    if (how) H5Pset_chunk(p, 4, chunk), H5Pset_deflate(p, 1);
    hid_t d = H5Dcreate2(g, name, H5T_STD_U8LE, s, H5P_DEFAULT, p, H5P_DEFAULT);
    assert_true(d >= 0 && H5Dwrite(d, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, b) >= 0);
    H5Dclose(d);
    H5Pclose(p);
    H5Sclose(s);
    H5Gclose(g);
    free(b);
}

static hid_t empty_set(hid_t f, const char *name, int rank, const hsize_t *dim, hid_t type, hid_t plist) {
    hid_t s = H5Screate_simple(rank, dim, NULL), d = H5Dcreate2(f, name, type, s, H5P_DEFAULT, plist, H5P_DEFAULT);
    H5Sclose(s);
    return d;
}

static void fps(hid_t o, double v) {
    hid_t s = H5Screate(H5S_SCALAR), a = H5Acreate2(o, "fps", H5T_NATIVE_DOUBLE, s, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Awrite(a, H5T_NATIVE_DOUBLE, &v) >= 0);
    H5Aclose(a);
    H5Sclose(s);
}

static hid_t create(const char *name) { return H5Fcreate(in_folder(name), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT); }

static int add(const char *name) {
    items_free(&list);
    err = (jepa_err){0};
    return items_add(&list, in_folder(name), &err);
}
static const char *inside(int i) { return list.at[i].path + list.at[i].inner; }

static void expect_bad(int i, const char *part) {
    vid *v = NULL;
    assert_true(i < list.n);
    assert_int_equal(vid_open_item(&v, &list.at[i], NULL, &err), JEPA_E_INPUT);
    assert_null(v);
    if (!strstr(err.text, part)) fail_msg("\"%s\" does not say \"%s\"", err.text, part);
    assert_null(strchr(err.text, '\n'));
}

/* robomimic: demos in the order of their numbers, cameras by name, next_obs left out, states ignored. */
static void robomimic(void **state) {
    static const int lengths[] = {5, 7, 3};
    static const int demo[] = {0, 2, 10};
    char g[128];
    hid_t f = create("demo.hdf5");
    for (int i = 2; i >= 0; i--) { /* written in another order */
        for (int next = 0; next < 2; next++) {
            snprintf(g, sizeof g, "data/demo_%d/%s", demo[i], next ? "next_obs" : "obs");
            put(f, g, "eye_in_hand", demo[i], 1, lengths[i], 12, 10, next ? 1 : 0);
            put(f, g, "agentview", demo[i], 0, lengths[i], 16, 20, i);
        }
        snprintf(g, sizeof g, "data/demo_%d", demo[i]);
        hid_t o = H5Gopen2(f, g, H5P_DEFAULT);
        hsize_t dim[2] = {(hsize_t)lengths[i], 7}, depth[4] = {2, 16, 20, 1};
        H5Dclose(empty_set(o, "actions", 2, dim, H5T_IEEE_F64LE, H5P_DEFAULT));
        H5Dclose(empty_set(o, "depth", 4, depth, H5T_STD_U8LE, H5P_DEFAULT));
        if (i == 1) fps(o, 20);
        H5Gclose(o);
    }
    H5Fclose(f);
    assert_int_equal(chmod(in_folder("demo.hdf5"), 0400), 0);
    assert_int_equal(add("demo.hdf5"), 0);
    assert_int_equal(list.n, 6);
    assert_int_equal(list.ignored, 3 * 4);
    for (int i = 0; i < 6; i++) {
        char want[64];
        vid *v = NULL;
        int which = i / 2, camera = i % 2, n = lengths[which];
        snprintf(want, sizeof want, "/data/demo_%d/obs/%s", demo[which], camera ? "eye_in_hand" : "agentview");
        assert_string_equal(inside(i), want);
        snprintf(g, sizeof g, "%s:%s", in_folder("demo.hdf5"), want);
        assert_string_equal(list.at[i].path, g);
        if (vid_open_item(&v, &list.at[i], NULL, &err) < 0) fail_msg("%s", err.text);
        const vid_info *info = vid_get_info(v);
        assert_int_equal(info->frames, n);
        assert_int_equal(info->promised, n);
        assert_int_equal(info->width, camera ? 10 : 20);
        assert_int_equal(info->height, camera ? 12 : 16);
        assert_float_equal(info->fps, which == 1 ? 20 : 10, 0);
        assert_float_equal(info->duration, n / info->fps, 1e-12);
        assert_int_equal(info->is_image, 0);
        int64_t index[5] = {n - 1, 0, 1, 1, n - 1};
        double seconds[5];
        uint8_t *rgb = read_frames(v, index, 5, seconds), *o = rgb;
        for (int k = 0; k < 5; k++) {
            for (int y = 0; y < info->height; y++)
                for (int x = 0; x < info->width; x++)
                    for (int c = 0; c < 3; c++) assert_int_equal(*o++, pixel(demo[which], camera, (int)index[k], y, x, c));
            assert_float_equal(seconds[k], (double)index[k] / info->fps, 1e-12);
            assert_int_equal(vid_frame_at(v, seconds[k]), index[k]);
        }
        assert_int_equal(vid_decoded(v), 3); /* only those asked for, each once */
        free(rgb);
        int64_t beyond = n;
        uint8_t one[1];
        assert_int_equal(vid_read(v, &beyond, 1, one, NULL, &err), JEPA_E_USE);
        vid_close(&v);
    }
    /* named by a list and found in a folder */
    assert_int_equal(script("mkdir -p d; cp demo.hdf5 d/b.h5; : >d/a.mp4; : >d/c.mp4; echo d/b.h5 4 >l.txt"), 0);
    assert_int_equal(add("l.txt"), 0);
    assert_int_equal(list.n, 6);
    assert_int_equal(list.at[5].label, 4);
    assert_int_equal(list.at[5].line, 1);
    assert_int_equal(add("d"), 0);
    assert_int_equal(list.n, 8);
    assert_int_equal(list.at[3].kind, ITEM_H5);
    assert_int_equal(list.at[7].kind, ITEM_FILE);
}

static void other_places(void **state) {
    hid_t f = create("episode_0.hdf5");
    put(f, "observations/images", "cam_high", 0, 0, 4, 8, 8, 2);
    put(f, "observations/images", "cam_left_wrist", 0, 1, 4, 8, 8, 2);
    put(f, "x", "top", 0, 2, 4, 8, 8, 0);
    hid_t o = H5Dopen2(f, "x/top", H5P_DEFAULT);
    fps(f, 50);
    fps(o, 5);
    H5Dclose(o);
    put(f, "y/next_obs", "alone", 0, 3, 4, 8, 8, 0); /* no obs beside it: all there is */
    H5Fclose(f);
    assert_int_equal(add("episode_0.hdf5"), 0);
    assert_int_equal(list.n, 4);
    static const char *const want[] = {"/observations/images/cam_high", "/observations/images/cam_left_wrist", "/x/top",
                                       "/y/next_obs/alone"};
    for (int i = 0; i < 4; i++) {
        vid *v = NULL;
        assert_string_equal(inside(i), want[i]);
        assert_int_equal(vid_open_item(&v, &list.at[i], NULL, &err), 0);
        assert_float_equal(vid_get_info(v)->fps, i == 2 ? 5 : 50, 0);
        vid_close(&v);
    }
}

static size_t unknown_filter(unsigned flags, size_t n, const unsigned values[], size_t bytes, size_t *size, void **buffer) { return bytes; }

static void refused(void **state) {
    hid_t f = create("odd.h5"), p;
    hsize_t clips[5] = {2, 3, 8, 8, 3}, none[4] = {0, 8, 8, 3}, some[4] = {4, 8, 8, 3}, most[4] = {H5S_UNLIMITED, 8, 8, 3};
    hsize_t large[4] = {4, 12000, 12000, 3}, wide[4] = {1, 1, 20000, 3};
    uint8_t b[4 * 8 * 8 * 3] = {1};
    H5Dclose(empty_set(f, "a_clips", 5, clips, H5T_STD_U8LE, H5P_DEFAULT));
    p = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(p, 4, some);
    hid_t s = H5Screate_simple(4, none, most);
    H5Dclose(H5Dcreate2(f, "b_none", H5T_STD_U8LE, s, H5P_DEFAULT, p, H5P_DEFAULT));
    H5Sclose(s);
    H5Dclose(empty_set(f, "c_unwritten", 4, some, H5T_STD_U8LE, p));
    H5Pclose(p);
    p = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(p, "/etc/passwd", 0, 768);
    H5Dclose(empty_set(f, "d_elsewhere", 4, some, H5T_STD_U8LE, p));
    H5Pclose(p);
    p = H5Pcreate(H5P_DATASET_CREATE); /* a filter that a reader does not have */
    const H5Z_class2_t filter = {H5Z_CLASS_T_VERS, 32015, 1, 1, "zstd", NULL, NULL, unknown_filter};
    assert_true(H5Zregister(&filter) >= 0);
    H5Pset_chunk(p, 4, some);
    H5Pset_filter(p, 32015, H5Z_FLAG_MANDATORY, 0, NULL);
    hid_t d = empty_set(f, "e_packed", 4, some, H5T_STD_U8LE, p);
    assert_true(H5Dwrite(d, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, b) >= 0);
    H5Dclose(d);
    H5Pclose(p);
    assert_true(H5Zunregister(32015) >= 0);
    p = H5Pcreate(H5P_DATASET_CREATE); /* chunks of 1.6 GiB */
    H5Pset_chunk(p, 4, large);
    H5Pset_alloc_time(p, H5D_ALLOC_TIME_INCR);
    H5Pset_fill_time(p, H5D_FILL_TIME_NEVER);
    H5Pset_deflate(p, 1);
    d = empty_set(f, "f_chunks", 4, large, H5T_STD_U8LE, p);
    uint32_t mask = 0;
    hsize_t zero[4] = {0};
    assert_true(H5Dwrite_chunk(d, H5P_DEFAULT, mask, zero, sizeof b, b) >= 0); /* a few bytes that claim it */
    H5Dclose(d);
    H5Pclose(p);
    d = empty_set(f, "g_wide", 4, wide, H5T_STD_U8LE, H5P_DEFAULT);
    H5Dclose(d);
    H5Lcreate_external("/etc/passwd", "/x", f, "h_link", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/nowhere", f, "i_link", H5P_DEFAULT, H5P_DEFAULT);
    d = empty_set(f, "j_signed", 4, some, H5T_STD_I8LE, H5P_DEFAULT);
    H5Dclose(d);
    p = H5Pcreate(H5P_DATASET_CREATE); /* deflated, but not: fails when read */
    H5Pset_chunk(p, 4, some);
    H5Pset_deflate(p, 1);
    d = empty_set(f, "k_damaged", 4, some, H5T_STD_U8LE, p);
    assert_true(H5Dwrite_chunk(d, H5P_DEFAULT, mask, zero, sizeof b, b) >= 0);
    H5Dclose(d);
    H5Pclose(p);
    H5Fclose(f);
    assert_int_equal(add("odd.h5"), 0);
    static const char *const why[] = {
        "/a_clips: uint8 [N,T,H,W,3]",
        "/b_none: 0 frames",
        "/c_unwritten: no frames were written",
        "/d_elsewhere: its data lie in other files",
        "/e_packed: compressed with HDF5 filter 32015, which is not here (Zstandard; on Debian: apt-get install ",
        "/f_chunks: chunks of more than 256 MiB",
        "/g_wide: 1 frames of 20000x1 cannot be used"};
    assert_int_equal(list.n, 8);
    for (int i = 0; i < 7; i++) expect_bad(i, why[i]);
    vid *v = NULL;
    assert_int_equal(vid_open_item(&v, &list.at[7], NULL, &err), 0);
    int64_t k = 0;
    assert_int_equal(vid_read(v, &k, 1, b, NULL, &err), JEPA_E_INPUT);
    assert_non_null(strstr(err.text, "/k_damaged: frame 0 cannot be read"));
    vid_close(&v);
    /* a file without frames, a cut one, one that only starts alike; in a folder the first is somebody else's */
    f = create("plain.h5");
    H5Dclose(empty_set(f, "embeddings", 2, (hsize_t[2]){4, 8}, H5T_IEEE_F32LE, H5P_DEFAULT));
    H5Fclose(f);
    assert_int_equal(
        script("head -c 3000 demo.hdf5 >cut.h5; printf '\\211HDF\\r\\n\\032\\nrest' >short.h5; mkdir -p e; cp plain.h5 e; : >e/x.mp4"), 0);
    assert_int_equal(add("plain.h5"), 0);
    expect_bad(0, "plain.h5: no data set of frames (uint8 [T,H,W,3]) in this HDF5 file; it has 1 other");
    assert_int_equal(add("e"), 0);
    assert_int_equal(list.n, 1);
    static const char *const broken[] = {"cut.h5", "short.h5"};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(add(broken[i]), 0);
        assert_int_equal(list.n, 1);
        expect_bad(0, "cannot be opened as HDF5: damaged, or not written to the end");
    }
    /* gone after it was listed */
    assert_int_equal(add("episode_0.hdf5"), 0);
    assert_int_equal(unlink(in_folder("episode_0.hdf5")), 0);
    expect_bad(0, "not found");
}

/* A writer that holds its lock does not keep us out: no lock is asked for. */
static void no_locks(void **state) {
    hid_t f = create("locked.h5");
    put(f, "a", "b", 1, 0, 3, 8, 8, 0);
    H5Fflush(f, H5F_SCOPE_GLOBAL);
    H5Fclose(f);
    char text[256];
    snprintf(text, sizeof text, "exec 9<>locked.h5; flock -x 9; touch held; while [ -e held ]; do sleep 0.05; done");
    pid_t other = fork();
    assert_true(other >= 0);
    if (!other) _exit(script(text) != 0);
    for (int i = 0; i < 400 && access(in_folder("held"), F_OK); i++) usleep(10000);
    assert_int_equal(access(in_folder("held"), F_OK), 0);
    assert_int_equal(add("locked.h5"), 0);
    vid *v = NULL;
    int rc = list.n == 1 && list.at[0].kind == ITEM_H5 ? vid_open_item(&v, &list.at[0], NULL, &err) : -1;
    unlink(in_folder("held"));
    assert_int_equal(rc, 0);
    vid_close(&v);
}

static void *reader(void *ctx) {
    int me = *(int *)ctx;
    uint8_t rgb[2 * 20 * 16 * 3];
    for (int round = 0; round < 40; round++) {
        int i = (me + round) % 6, demo = ((const int[]){0, 2, 10})[i / 2];
        vid *v = NULL;
        if (vid_open_item(&v, &list.at[i], NULL, NULL) < 0) return "not opened";
        const vid_info *info = vid_get_info(v);
        int64_t index[2] = {round % info->frames, me % info->frames};
        const uint8_t *o = rgb;
        const char *bad = vid_read(v, index, 2, rgb, NULL, NULL) < 0 ? "not read" : NULL;
        for (int k = 0; k < 2 && !bad; k++)
            for (int y = 0; y < info->height; y++)
                for (int x = 0; x < info->width; x++)
                    for (int c = 0; c < 3; c++)
                        if (*o++ != pixel(demo, i % 2, (int)index[k], y, x, c)) bad = "wrong bytes";
        vid_close(&v);
        if (bad) return (void *)(uintptr_t)bad;
    }
    return NULL;
}

static void many_threads(void **state) {
    pthread_t id[8];
    int number[8];
    hbool_t safe = 0;
    H5is_library_threadsafe(&safe);
    print_message("this HDF5 says that it is %ssafe for threads\n", safe ? "" : "not ");
    assert_int_equal(add("demo.hdf5"), 0);
    for (int i = 0; i < 8; i++) {
        number[i] = i;
        assert_int_equal(pthread_create(&id[i], NULL, reader, &number[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        void *said = NULL;
        pthread_join(id[i], &said);
        if (said) fail_msg("%s", (const char *)said);
    }
}

/* Frames packed many to a chunk: a chunk is unpacked once, not once for each frame. */
static size_t unpacked;
static size_t counting(unsigned flags, size_t n, const unsigned values[], size_t bytes, size_t *size, void **buffer) {
    if (flags & H5Z_FLAG_REVERSE) unpacked++;
    return bytes;
}
static void chunks_once(void **state) {
    const H5Z_class2_t filter = {H5Z_CLASS_T_VERS, 300, 1, 1, "counting", NULL, NULL, counting};
    assert_true(H5Zregister(&filter) >= 0);
    hid_t f = create("chunks.h5"), p = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t dim[4] = {64, 128, 128, 3}, chunk[4] = {32, 128, 128, 3};
    uint8_t *b = malloc(64 * 128 * 128 * 3);
    for (size_t i = 0; i < 64 * 128 * 128 * 3; i++) b[i] = (uint8_t)(i / (128 * 128 * 3));
    H5Pset_chunk(p, 4, chunk);
    H5Pset_filter(p, 300, H5Z_FLAG_MANDATORY, 0, NULL);
    hid_t d = empty_set(f, "v", 4, dim, H5T_STD_U8LE, p);
    assert_true(H5Dwrite(d, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, b) >= 0);
    H5Dclose(d);
    H5Pclose(p);
    H5Fclose(f);
    free(b);
    assert_int_equal(add("chunks.h5"), 0);
    vid *v = NULL;
    assert_int_equal(vid_open_item(&v, &list.at[0], NULL, &err), 0);
    int64_t index[32];
    for (int i = 0; i < 32; i++) index[i] = 62 - 2 * i;
    unpacked = 0;
    uint8_t *rgb = read_frames(v, index, 32, NULL);
    for (int i = 0; i < 32; i++) assert_int_equal(rgb[(size_t)i * picture_size(v) + 77], index[i]);
    assert_int_equal(unpacked, 2);
    free(rgb);
    vid_close(&v);
    H5Zunregister(300);
}

static int set_up(void **state) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return make_folder();
}
static int tear_down(void **state) {
    items_free(&list);
    return remove_folder();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(robomimic), cmocka_unit_test(other_places), cmocka_unit_test(refused),
        cmocka_unit_test(no_locks),  cmocka_unit_test(many_threads), cmocka_unit_test(chunks_once),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
