/* pt.h: the parts of a PyTorch archive: a zip directory, a pickle taken apart as data, the old form. Inside this folder only.
 *
 * pickle_read runs no code and builds no object of a class: it keeps a flat list of values, each of 16 bytes, in which a tensor is a
 * tuple of numbers and the name of a storage. All that it allocates comes out of one budget that is set by the size of the file, so a
 * small hostile file cannot ask for much. */
#ifndef JEPA_CHECKPOINT_PT_H
#define JEPA_CHECKPOINT_PT_H
#include "checkpoint/internal.h"

enum {
    PT_MAX_PICKLE = 32 << 20, /* real ones have less than 1 MB */
    PT_MAX_ENTRIES = 200000,  /* of a zip; real ones have a few thousand */
    PT_MAX_STACK = 1 << 18,   /* values waiting at once: pickle writes lists and dicts in pieces of 1,000 */
    PT_MAX_MARKS = 1000,      /* opened and not yet closed: nesting */
    PT_MAX_NAME = 512
};

typedef struct pt_mem {
    size_t used, limit;
} pt_mem;
/* *array (of items of that size, *cap of them) gets room for want; JEPA_E_MEMORY: over the budget, or none. The old items stay. */
int pt_grow(pt_mem *m, void *array, size_t *cap, size_t want, size_t item);
void pt_give_back(pt_mem *m, void *array, size_t *cap, size_t item);

/* ---- zip (pt_zip.c): the directory, checked; the data of an entry when asked for. CRCs of stored entries are not looked at. ---- */
typedef struct zip_entry {
    const unsigned char *name; /* in the mapped file, not ended by 0 */
    uint32_t name_size;
    uint16_t method, flags;
    uint64_t size, packed, header; /* header: offset of the local one */
} zip_entry;
typedef struct zip {
    const unsigned char *map;
    size_t size;
    const char *path;
    zip_entry *entry; /* in the order of their names */
    size_t n, cap;
} zip;
int zip_read(zip *z, pt_mem *mem, jepa_err *err);
const zip_entry *zip_find(const zip *z, const char *name, size_t size);
int zip_data(const zip *z, const zip_entry *e, const unsigned char **data, jepa_err *err); /* stored entries only: where its bytes lie */
int zip_unpack(const zip *z, const zip_entry *e, unsigned char **data, pt_mem *mem, jepa_err *err); /* a deflated one; mem_free */

/* ---- pickle (pt_pickle.c) ---- */
typedef enum {
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_TEXT,
    V_BYTES,
    V_TUPLE,
    V_LIST,
    V_DICT,
    V_CLASS,
    V_STORAGE,
    V_TENSOR,
    V_NUMBER /* numpy's */,
    V_OBJECT
} pt_kind;
typedef enum {         /* what a class name means here; everything else is refused when it is met */
               C_PASS, /* parsed past: a value made by it is a V_OBJECT */
               C_DICT,
               C_TENSOR1,
               C_TENSOR2,
               C_TENSOR3,
               C_PARAMETER,
               C_FROM_TYPE,
               C_STORAGE,
               C_SAME /* its one argument */,
               C_DTYPE,
               C_NUMBER
} pt_role;
typedef struct value {
    uint8_t kind, role; /* role: of a V_CLASS; of a V_TENSOR which rebuild made it */
    uint8_t type;       /* dtype of a storage class or of a dtype */
    uint8_t class;      /* V_CLASS, and what a class made: which of the list (pt_class_name); 0: none */
    uint32_t at;        /* where in the pickle it begins */
    union {
        int64_t number; /* V_BOOL, V_INT */
        struct {
            uint32_t at, size;
        } text; /* V_TEXT, V_BYTES */
        struct {
            uint32_t first, n;
        } items; /* V_TUPLE: into item[] */
        struct {
            uint32_t head, tail;
        } pairs;       /* V_DICT, V_LIST (where lists are kept): into pair[], 0: none */
        uint32_t args; /* V_STORAGE, V_TENSOR: the tuple it was made of */
    };
} value;
typedef struct pair { /* of a dict, or an element of a list (key unused) */
    uint32_t key, value, next;
} pair;
typedef struct pickle {
    const unsigned char *p;
    size_t size;
    const char *path, *what; /* for messages: the file, "data.pkl" */
    int64_t base;            /* offset of p in the file; -1: it was packed */
    pt_mem *mem;
    int keep_lists;
    value *v;
    size_t n, v_cap;
    uint32_t *item;
    size_t items, item_cap;
    pair *pair;
    size_t pairs, pair_cap;
    uint32_t *memo;
    size_t memos, memo_cap;
    uint32_t *stack;
    size_t depth, stack_cap;
    uint32_t mark[PT_MAX_MARKS];
    int marks;
    size_t at; /* while reading; afterwards the end of the pickle */
    uint32_t root;
} pickle;
int pickle_read(pickle *k, jepa_err *err); /* p, size, path, what, base, mem are set; one pickle, up to its STOP */
void pickle_close(pickle *k);
int pickle_text_is(const pickle *k, uint32_t v, const char *text);
uint32_t pickle_get(const pickle *k, const value *dict, const char *key); /* 0: not there (value 0 is never a result) */
int pt_class(const unsigned char *module, size_t module_size, const unsigned char *name, size_t name_size,
             value *out);                                     /* JEPA_E_MODEL: none we know */
const char *pt_class_name(int class, char *out, size_t size); /* "module.name", for a message */
int64_t pickle_offset(const pickle *k, size_t at);

/* ---- an open archive ---- */
typedef struct pt_storage {           /* of the old form, whose storages stand one behind the other */
    const unsigned char *key, *bytes; /* bytes NULL: not met yet */
    uint32_t key_size;
    dtype type;
    int64_t numel;
} pt_storage;
struct pt_file {
    char *path;
    const unsigned char *map;
    size_t size;
    pt_mem mem;
    unsigned char *unpacked; /* data.pkl where it was deflated */
    char prefix[256];        /* "archive/", before every entry's name */
    zip z;
    pickle k;
    pt_storage *storage; /* the old form's, by key; NULL: a zip archive */
    size_t storages, storage_cap;
    pt_tensor *tensor;
    size_t n, cap;
    uint32_t *by_name;
    size_t by_name_cap;
    char **text; /* blocks that hold the names */
    size_t texts, text_cap, text_room;
    uint64_t claimed; /* bytes that all tensors together are said to have */
    size_t visits;
    int optimizer; /* one was passed over */
};
int legacy_read(pt_file *f, jepa_err *err); /* k and storage from the old form */
/* What a storage value says, checked as far as it goes by itself: the tuple (“storage”, class, key, place, numel, view). */
typedef struct storage_claim {
    const unsigned char *key;
    uint32_t key_size;
    dtype type;
    const char *why;    /* NULL, or what is wrong with it */
    const value *class; /* V_CLASS, for messages */
    int64_t numel, view_offset, view_size;
} storage_claim;
void storage_read(const pickle *k, const value *storage, storage_claim *out);
const pt_storage *legacy_find(const pt_file *f, const unsigned char *key, uint32_t size);

#endif
