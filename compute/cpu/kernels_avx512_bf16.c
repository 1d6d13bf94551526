/* kernels_avx512_bf16.c: products and attention compiled once more for processors that multiply bf16 (AVX512-BF16). */
#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BF16__)
#include "compute/cpu/kernels_tmpl.h"

void ops_init_avx512_bf16(ops *t) {
    t->linear = t_linear;
    t->linear_bwd = t_linear_bwd;
    t->attention = t_attention;
    t->attention_bwd = t_attention_bwd;
}
#else
typedef int nothing_to_compile_here;
#endif
