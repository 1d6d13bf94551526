/* yaml.h: a YAML file as a tree that remembers lines (libyaml underneath).
 *
 *     yaml *y; yaml_read(&y, "tiny.yaml", &err);
 *     const yaml *v = yaml_at(y, "optimization.lr");
 *
 * YAML 1.1 as people write it in training configs: maps, lists, scalars. Limits: 1 MiB, 32 levels, 100,000 nodes;
 * anchors and aliases are refused by line (an alias bomb is the common attack), as are tags, duplicate keys, tabs as
 * indentation and a second document. A file of nothing but comments is an empty map. A value in a map has the line of its key. */
#ifndef JEPA_YAML_H
#define JEPA_YAML_H
#include "base/base.h"

typedef enum { YAML_SCALAR, YAML_LIST, YAML_MAP } yaml_kind;
typedef struct yaml {
    yaml_kind kind;
    int line;             /* 1-based; 0: set from the command line */
    char *key;            /* in a map */
    char *text;           /* scalars, as written (quotes removed) */
    int quoted;           /* a quoted scalar is a string whatever it looks like */
    struct yaml **item;   /* maps and lists */
    int count, cap;
} yaml;

int yaml_parse(yaml **out, const char *text, size_t size, const char *file, jepa_err *err);
int yaml_read(yaml **out, const char *path, jepa_err *err);
void yaml_close(yaml **y);
const yaml *yaml_get(const yaml *map, const char *key);     /* NULL: absent */
const yaml *yaml_at(const yaml *root, const char *dotted);  /* "data.batch_size" */
/* Sets a dotted path from the text of a value ("3", "[a.txt, b.txt]", "true"): what --set does. Makes missing maps; an element of a list is
 * named by its number ("mask.0.num_blocks"). JEPA_E_USE leaves the tree as it was. yaml_at takes the same paths. */
int yaml_set(yaml *root, const char *dotted, const char *value, jepa_err *err);
int yaml_write(const yaml *root, char **text, size_t *size, jepa_err *err); /* block style; freed by mem_free */

/* Scalars: 1 = got it, 0 = another type. null is "", "~" or "null" unquoted. bool: true/false/yes/no/on/off. 1e-4 and 1.e-4 are numbers. */
int yaml_is_null(const yaml *v);
int yaml_bool(const yaml *v, int *out);
int yaml_int(const yaml *v, int64_t *out);   /* 3, 3.0 and 1e3 count; 010 (octal there), 0x10 and 1_000 do not */
int yaml_double(const yaml *v, double *out);
#endif
