/* info_items.h: what a tar shard or an HDF5 file holds for the other subcommands. */
#ifndef JEPA_INFO_ITEMS_H
#define JEPA_INFO_ITEMS_H
#include "base/json.h"

/* 1: the file is a tar or HDF5 with frames and was written into w; 0: it is neither; < 0. */
int info_items(const char *path, json_writer *w, jepa_err *err);
#endif
