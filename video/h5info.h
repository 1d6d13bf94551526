/* h5info.h: a look into an HDF5 file: names, shapes, types, attributes. Files are opened read-only and without locks. */
#ifndef JEPA_H5INFO_H
#define JEPA_H5INFO_H
#include "base/base.h"

/* For each data set and each attribute of the root: what is "name", text is "[12, 96] f32" or the attribute's value. Stops when fn answers nonzero.
 * At most 10,000 objects. JEPA_E_INPUT when it is not HDF5; JEPA_E_IO when not there. */
int h5_describe(const char *path, int (*fn)(void *ctx, int is_attribute, const char *what, const char *text), void *ctx, jepa_err *err);
int h5_is(const char *path); /* 1: starts like HDF5 */
#endif
