/* device.h: what a device and a queue are inside compute/; no other folder includes it. */
#ifndef JEPA_COMPUTE_DEVICE_H
#define JEPA_COMPUTE_DEVICE_H
#include "compute/ops.h"

enum { /* instruction sets that kernels may use; each of the x86 ones implies those above it */
    CPU_AVX2 = 1,   /* AVX2 and FMA */
    CPU_AVX512 = 2, /* AVX-512 F, BW, VL, DQ */
    CPU_AVX512_BF16 = 4,
    CPU_NEON = 256  /* 64-bit ARM */
};

enum dev_kind { DEV_REF, DEV_CPU };

struct dev {
    enum dev_kind kind;
    char name[16];
    char describe[160];
    int threads;
    team *team;     /* the team of all its queues; NULL: ref */
    unsigned found; /* CPU_*: what the machine has */
    unsigned flags; /* CPU_*: what the table below was filled for */
    ops table;
    struct profile *profile; /* compute/profile.c: the table times what it does; or NULL */
};

struct queue {
    dev *d;
    int threads; /* of its operations: the device's, or fewer (queue_limit) */
    void *scratch; size_t scratch_bytes;
};

unsigned cpu_detect(void);
void profile_close(dev *d);

/* Every index[i] in [0, below): 0, else JEPA_E_USE. The gather, scatter and tubelet checks call it, so they read the list:
 * a back end whose memory the host cannot read has to check inside its kernel instead. */
int check_index(const int32_t *index, int64_t count, int64_t below);

/* A stride of 0 means dense. */
static inline int64_t stride_or(int64_t ld, int64_t dense)
{
    return ld ? ld : dense;
}

/* The default scale of attention. */
double attention_scale(double scale, int64_t head_dim);

#endif
