/* processor.c: a Hugging Face video (or image) processor's JSON as a transform: what it asks for is done exactly or refused. */
#include "base/json.h"
#include "video/video.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int flag(const json *j, const char *key, int otherwise) {
    const json *v = json_get(j, key);
    return !v || json_is_null(v) ? otherwise : json_bool(v, otherwise);
}

/* Three numbers in [low, high], or one for all. Absent: untouched. */
static int three(const json *j, const char *file, const char *key, double low, double high, float out[3], jepa_err *err) {
    const json *v = json_get(j, key);
    if (!v || json_is_null(v)) return 0;
    if (json_is_array(v) && json_size(v) != 3)
        return err_set_at(err, JEPA_E_MODEL, file, -1, "%s: %s: %lld numbers, 3 expected", file, key, (long long)json_size(v));
    const json *e = json_is_array(v) ? json_first(v) : v;
    for (int i = 0; i < 3; i++) {
        double d = json_number(e, NAN);
        if (!(d >= low && d <= high))
            return err_set_at(err, JEPA_E_MODEL, file, -1, "%s: %s: numbers from %g to %g expected", file, key, low, high);
        out[i] = (float)d;
        if (json_is_array(v)) e = json_next(e);
    }
    return 0;
}

/* a whole number, or {key: number}, or {"height": n, "width": n} with both the same */
static int side(const json *j, const char *file, const char *name, const char *key, int64_t *out, jepa_err *err) {
    const json *v = json_get(j, name);
    double d = json_number(v, NAN), e = d;
    if (json_is_object(v)) {
        const json *one = key ? json_get(v, key) : NULL;
        d = json_number(one ? one : json_get(v, "height"), NAN);
        e = json_number(one ? one : json_get(v, "width"), NAN);
        if (key && !one) return err_set_at(err, JEPA_E_MODEL, file, -1, "%s: %s: only {\"%s\": n} is supported", file, name, key);
    }
    if (d != e) return err_set_at(err, JEPA_E_MODEL, file, -1, "%s: %s: a square was expected (%g by %g)", file, name, d, e);
    if (!(d >= 1 && d <= 8192) || d != floor(d))
        return err_set_at(err, JEPA_E_MODEL, file, -1, "%s: %s: a whole number from 1 to 8192 expected", file, name);
    *out = (int64_t)d;
    return 0;
}

static int read_json(clip_cfg *out, const json *j, const char *f, jepa_err *err) {
    clip_cfg c;
    int64_t crop, size;
    if (!json_is_object(j)) return err_set_at(err, JEPA_E_MODEL, f, -1, "%s: not a processor configuration (no object)", f);
    /* ViTImageProcessor (I-JEPA's): the whole picture is resized to height x width, nothing is cut off */
    const json *s = json_get(j, "size");
    const int squeezed = json_is_object(s) && json_get(s, "height") && !json_get(s, "shortest_edge") && !flag(j, "do_center_crop", json_get(j, "crop_size") != NULL);
    int rc = squeezed ? side(j, f, "size", NULL, &crop, err) : side(j, f, "crop_size", NULL, &crop, err);
    if (!rc && !squeezed) rc = side(j, f, "size", "shortest_edge", &size, err);
    if (rc) return rc;
    clip_cfg_defaults(&c, (int)crop);
    c.mode = squeezed ? CLIP_PIL : CLIP_EVAL_HF;
    if (squeezed) size = crop;
    c.short_side = (int)size;
    if (size < crop)
        return err_set_at(err, JEPA_E_MODEL, f, -1, "%s: size %lld is smaller than crop_size %lld: padding is not supported", f,
                          (long long)size, (long long)crop);
    static const char *const needed[] = {"do_resize", "do_center_crop", "do_rescale"};
    for (int i = 0; i < 3; i++)
        if (!(squeezed && i == 1) && !flag(j, needed[i], 1)) return err_set_at(err, JEPA_E_MODEL, f, -1, "%s: %s false is not supported", f, needed[i]);
    if (flag(j, "do_pad", 0)) return err_set_at(err, JEPA_E_MODEL, f, -1, "%s: do_pad true is not supported", f);
    double factor = json_number(json_get(j, "rescale_factor"), 1 / 255.0), resample = json_number(json_get(j, "resample"), 2);
    if (fabs(factor * 255 - 1) > 1e-6)
        return err_set_at(err, JEPA_E_MODEL, f, -1, "%s: rescale_factor %g: only 1/255 is supported", f, factor);
    if (resample != 2) return err_set_at(err, JEPA_E_MODEL, f, -1, "%s: resample %g: only 2 (bilinear) is supported", f, resample);
    if ((rc = three(j, f, "image_mean", -10, 10, c.mean, err)) != 0) return rc;
    if ((rc = three(j, f, "image_std", 1e-6, 1e6, c.std, err)) != 0) return rc;
    if (!flag(j, "do_normalize", 1))
        for (int i = 0; i < 3; i++) c.mean[i] = 0, c.std[i] = 1;
    *out = c;
    return 0;
}

int clip_processor_read(clip_cfg *c, const char *path, jepa_err *err) {
    static const char *const names[] = {"video_preprocessor_config.json", "preprocessor_config.json"};
    struct stat st;
    char file[PATH_MAX];
    int found = 0, length = snprintf(file, sizeof file, "%s", path);
    if (length < 0 || length >= (int)sizeof file) return err_set(err, JEPA_E_IO, "%.200s…: path too long", path);
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        for (int i = 0; !found && i < 2; i++) {
            length = snprintf(file, sizeof file, "%s/%s", path, names[i]);
            found = length > 0 && length < (int)sizeof file && stat(file, &st) == 0;
        }
        if (!found) return JEPA_E_END;
    }
    json *j;
    int rc = json_read(&j, file, err);
    if (!rc) rc = read_json(c, j, file, err);
    json_close(&j);
    return rc;
}
