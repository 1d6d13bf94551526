/* cpu.h: what the files of the cpu back end share.
 *
 * init.c chooses: ops_init_portable, then _avx2, _avx512 and _avx512_bf16 (on ARM: then _neon), each overwriting what the one before filled.
 * kernels_ISA.c compile the same *_tmpl.h with other flags.
 *
 * What is summed together depends on sizes only, never on the number of threads, and sums over pieces are added in order: results are the
 * same for any number of threads. */
#ifndef JEPA_CPU_H
#define JEPA_CPU_H
#include "compute/device.h"

void ops_init_portable(ops *t);
void ops_init_avx2(ops *t);
void ops_init_avx512(ops *t);
void ops_init_avx512_bf16(ops *t);
void ops_init_neon(ops *t);

/* ---- threads ---- */

/* Below this much work (about one unit per float touched) waking the team costs more than it saves. */
enum { SERIAL_WORK = 24 * 1024 };

static inline void cpu_for(queue *q, int64_t n, double work, void (*fn)(void *ctx, int64_t i), void *ctx) {
    pool_for(q->d->team, work < SERIAL_WORK ? 1 : q->threads, n, fn, ctx);
}
static inline int64_t pieces(int64_t n, int64_t piece) { return (n + piece - 1) / piece; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

#endif
