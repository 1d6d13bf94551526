/* h5.h: the HDF5 library keeps state for the whole process and, as distributions build it, is not safe for threads: every call of ours,
 * reading in video/ and writing in infer/, stands between h5_lock and h5_unlock. Not to be nested. */
#ifndef JEPA_H5_H
#define JEPA_H5_H
void h5_lock(void); /* also keeps the library from printing */
void h5_unlock(void);
#endif
