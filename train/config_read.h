/* config_read.h: typed reading of a configuration tree, for train/config*.c alone.
 *
 * Every getter takes the path of a key and the text of its default; NULL: the key must be there. A default that is used is put into the
 * tree, so that the tree is the resolved configuration and reads back to the same one. The first failure stays; getters after it do
 * nothing. A message names file and line of the value, or --set where it came from there. */
#ifndef JEPA_TRAIN_CONFIG_READ_H
#define JEPA_TRAIN_CONFIG_READ_H
#include "base/yaml.h"
#include "train/train.h"

typedef struct cfg_reader {
    yaml *root;
    const char *file;
    jepa_err *err;
    int rc;
} cfg_reader;

/* where v stands, and what is wrong with it; keeps the first failure */
void cfg_fail(cfg_reader *r, const yaml *v, const char *path, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
const yaml *cfg_at(cfg_reader *r, const char *path, const char *otherwise); /* NULL: failed (missing) */
int cfg_has(const cfg_reader *r, const char *path);                         /* there and not null */
void cfg_int(cfg_reader *r, const char *path, const char *otherwise, int64_t low, int64_t high, int64_t *out);
void cfg_int32(cfg_reader *r, const char *path, const char *otherwise, int low, int high, int *out);
void cfg_double(cfg_reader *r, const char *path, const char *otherwise, double low, double high, double *out);
void cfg_bool(cfg_reader *r, const char *path, const char *otherwise, int *out);
void cfg_text(cfg_reader *r, const char *path, const char *otherwise, char *out, size_t size);
void cfg_pair(cfg_reader *r, const char *path, const char *otherwise, double low, double high, double out[2]); /* [a, b] */

/* Every key known, no key with a value that is not supported; keys that change nothing here are listed in notes. (train/config_keys.c) */
void cfg_check_keys(cfg_reader *r, char *notes, size_t size);
/* The mask section: a list of generators (V-JEPA) or one map (I-JEPA). (train/config_mask.c) */
void cfg_read_masks(cfg_reader *r, train_cfg *c);
#endif
