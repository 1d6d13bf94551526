/* h5_lock.c: see h5.h. The one writable object at file scope: what it guards is the library's, and that is one for the process too. */
#include "video/h5.h"

#include <hdf5.h>
#include <pthread.h>

static pthread_mutex_t h5_one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

void h5_lock(void) {
    pthread_mutex_lock(&h5_one_at_a_time);
    H5dont_atexit(); /* its clean-up at exit crashes where a file could not be written; what matters is closed by then */
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}
void h5_unlock(void) { pthread_mutex_unlock(&h5_one_at_a_time); }
