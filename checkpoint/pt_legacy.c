/* pt_legacy.c: the form that torch.save wrote before 1.6 and still writes on request: a magic number, a protocol number, a description of
 * the system, the object, the list of its storages' keys, each as a pickle of its own; then the storages in the order of that list, each
 * 8 bytes of length (in elements) and its values. Which type a key's storage has stands only in the object. */
#include "checkpoint/pt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char MAGIC[10] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};

static int refuse(const pt_file *f, size_t at, jepa_err *err, const char *why) {
    return err_set_at(err, JEPA_E_MODEL, f->path, (int64_t)at, "%s: a PyTorch file in the old (not zip) form, but %s", f->path, why);
}

void storage_read(const pickle *k, const value *s, storage_claim *out) {
    *out = (storage_claim){0};
    const value *args = &k->v[s->args];
    const uint32_t *item = k->item + args->items.first;
    out->why = "its storage is not described as torch.save does";
    if (args->items.n < 5 || args->items.n > 6 || !pickle_text_is(k, item[0], "storage")) return;
    const value *class = &k->v[item[1]], *key = &k->v[item[2]], *numel = &k->v[item[4]];
    if (class->kind != V_CLASS || class->role != C_STORAGE || key->kind != V_TEXT || numel->kind != V_INT || numel->number < 0) return;
    out->key = k->p + key->text.at, out->key_size = key->text.size;
    out->class = class, out->type = (dtype) class->type;
    out->numel = out->view_size = numel->number;
    if (args->items.n == 6 && k->v[item[5]].kind == V_TUPLE) { /* (key of the view, offset, size): a part of the root storage */
        const value *view = &k->v[item[5]];
        const uint32_t *w = k->item + view->items.first;
        if (view->items.n != 3 || k->v[w[1]].kind != V_INT || k->v[w[2]].kind != V_INT) return;
        out->view_offset = k->v[w[1]].number, out->view_size = k->v[w[2]].number;
        if (out->view_offset < 0 || out->view_size < 0 || out->view_offset > out->numel || out->view_size > out->numel - out->view_offset) {
            out->why = "its view lies outside its storage";
            return;
        }
    } else if (args->items.n == 6 && k->v[item[5]].kind != V_NONE) {
        return;
    }
    out->why = NULL;
}

static int key_order(const pt_storage *a, const unsigned char *key, uint32_t size) {
    int k = memcmp(a->key, key, a->key_size < size ? a->key_size : size);
    return k ? k : a->key_size < size ? -1 : a->key_size > size;
}

static int by_key(const void *a, const void *b) { return key_order(a, ((const pt_storage *)b)->key, ((const pt_storage *)b)->key_size); }

const pt_storage *legacy_find(const pt_file *f, const unsigned char *key, uint32_t size) {
    size_t low = 0, high = f->storages;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int k = key_order(&f->storage[mid], key, size);
        if (!k) return &f->storage[mid];
        if (k < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* Every storage that the object names, once. One that is described badly is left out: a tensor that needs it says so. */
static int collect(pt_file *f, jepa_err *err) {
    storage_claim c;
    for (size_t i = 1; i < f->k.n; i++) {
        if (f->k.v[i].kind != V_STORAGE) continue;
        storage_read(&f->k, &f->k.v[i], &c);
        if (c.why) continue;
        if (pt_grow(&f->mem, &f->storage, &f->storage_cap, f->storages + 1, sizeof *f->storage))
            return refuse(f, (size_t)f->k.base, err, "it names more storages than a file of this size may");
        f->storage[f->storages++] = (pt_storage){c.key, NULL, c.key_size, c.type, c.numel};
    }
    if (!f->storages && pt_grow(&f->mem, &f->storage, &f->storage_cap, 1, sizeof *f->storage))
        return refuse(f, 0, err, "there is no memory for it");
    qsort(f->storage, f->storages, sizeof *f->storage, by_key);
    size_t n = 0;
    for (size_t i = 0; i < f->storages; i++) {
        if (n && !by_key(&f->storage[n - 1], &f->storage[i])) {
            if (f->storage[n - 1].type != f->storage[i].type || f->storage[n - 1].numel != f->storage[i].numel)
                return refuse(f, (size_t)f->k.base, err, "one storage is described in two ways");
            continue;
        }
        f->storage[n++] = f->storage[i];
    }
    f->storages = n;
    return 0;
}

/* The storages' places: the keys in their order, a length and the values of each. */
static int locate(pt_file *f, const pickle *keys, size_t at, jepa_err *err) {
    char why[200];
    const value *list = &keys->v[keys->root];
    if (list->kind != V_LIST) return refuse(f, (size_t)keys->base, err, "the list of its storages is none");
    for (uint32_t i = list->pairs.head; i; i = keys->pair[i].next) {
        const value *t = &keys->v[keys->pair[i].value];
        if (t->kind != V_TEXT) return refuse(f, (size_t)keys->base, err, "the key of a storage is no text");
        const unsigned char *key = keys->p + t->text.at;
        int shown = (int)(t->text.size > 60 ? 60 : t->text.size);
        pt_storage *s = (pt_storage *)(uintptr_t)legacy_find(f, key, t->text.size);
        size_t one = s ? dtype_size(s->type) : 0, bytes;
        if (!one || s->bytes) {
            snprintf(why, sizeof why, "storage \"%.*s\" %s", shown, (const char *)key,
                     s && s->bytes ? "is listed twice"
                     : s           ? "has values of a type that is not read"
                                   : "is listed and used by nothing, so its length is not known");
            return refuse(f, (size_t)keys->base, err, why);
        }
        uint64_t numel = 0;
        for (int b = 7; b >= 0 && f->size - at >= 8; b--) numel = numel << 8 | f->map[at + (size_t)b];
        if (f->size - at < 8 || numel > INT64_MAX || size_mul((size_t)numel, one, &bytes) || bytes > f->size - at - 8) {
            snprintf(why, sizeof why, "storage \"%.*s\" lies behind the end of the file, or is said to be longer than it", shown,
                     (const char *)key);
            return refuse(f, at, err, why);
        }
        if ((int64_t)numel != s->numel) {
            snprintf(why, sizeof why, "storage \"%.*s\" has %llu values, its tensors say %lld", shown, (const char *)key,
                     (unsigned long long)numel, (long long)s->numel);
            return refuse(f, at, err, why);
        }
        s->bytes = f->map + at + 8;
        at += 8 + bytes;
    }
    return 0;
}

static int one(pt_file *f, pickle *k, const char *what, size_t *at, jepa_err *err) {
    *k = (pickle){.p = f->map + *at,
                  .size = f->size - *at,
                  .path = f->path,
                  .what = what,
                  .base = (int64_t)*at,
                  .mem = &f->mem,
                  .keep_lists = k->keep_lists};
    int rc = pickle_read(k, err);
    *at += k->at;
    return rc;
}

int legacy_read(pt_file *f, jepa_err *err) {
    size_t at = 0;
    pickle k = {0}, keys = {.keep_lists = 1};
    int rc = one(f, &k, "its first pickle", &at, err);
    const value *v = rc ? NULL : &k.v[k.root];
    if (!rc && (v->kind != V_BYTES || v->text.size != sizeof MAGIC || memcmp(k.p + v->text.at, MAGIC, sizeof MAGIC)))
        rc = err_set_at(err, JEPA_E_MODEL, f->path, 0, "%s: a Python pickle, but not one that torch.save wrote", f->path);
    pickle_close(&k);
    if (!rc) rc = one(f, &k, "its protocol number", &at, err);
    if (!rc && (k.v[k.root].kind != V_INT || k.v[k.root].number != 1001)) rc = refuse(f, 0, err, "its protocol number is not 1001");
    pickle_close(&k);
    if (!rc) rc = one(f, &k, "its system description", &at, err);
    if (!rc) {
        uint32_t little = pickle_get(&k, &k.v[k.root], "little_endian");
        if (!little || k.v[little].kind != V_BOOL || !k.v[little].number)
            rc = refuse(f, 0, err, "its values are big-endian, which is not read");
    }
    pickle_close(&k);
    if (!rc) rc = one(f, &f->k, "its pickle", &at, err);
    if (!rc) rc = one(f, &keys, "the list of its storages", &at, err);
    if (!rc) rc = collect(f, err);
    if (!rc) rc = locate(f, &keys, at, err);
    pickle_close(&keys);
    return rc;
}
