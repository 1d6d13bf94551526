/* items_in.h: the inside of the item list, shared by items.c, items_tar.c and items_h5.c. */
#ifndef JEPA_ITEMS_IN_H
#define JEPA_ITEMS_IN_H
#include "video/video.h"

/* What an item has beside its path: label, line, list. */
typedef struct item_from { int64_t label; int line, list; } item_from;
int items_append(items *l, item it, jepa_err *err); /* it.path is taken over, also on failure; NULL is "no memory" */
/* file + between + inner as one path, the item's inner set */
int items_append_inner(items *l, const char *file, char between, const char *inner, item it, jepa_err *err);
/* An item that fails with this reason when it is opened. */
int items_append_bad(items *l, const char *path, const char *reason, item_from f, jepa_err *err);

typedef enum { NAME_OTHER, NAME_VIDEO, NAME_IMAGE } name_kind;
name_kind items_name_kind(const char *name); /* by its ending */
int items_integer(const char *s, size_t n, int64_t *out); /* s[0..n) as an integer of at most 18 digits */

typedef enum { HOLDS_NOTHING_SPECIAL, HOLDS_TAR, HOLDS_H5, HOLDS_PACKED /* a compressed tar */ } holds;
holds items_sniff(const char *path); /* by content; by name only to tell a compressed tar from other compressed files */
/* All items of one container. What is damaged becomes one failing item behind those before it. searched: nothing in it is no failure. */
int items_add_tar(items *l, const char *path, item_from f, int searched, jepa_err *err);
int items_add_h5(items *l, const char *path, item_from f, int searched, jepa_err *err);
#endif
