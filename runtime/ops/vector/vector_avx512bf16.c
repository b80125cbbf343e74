/* The vector kernels for x86-64 with AVX512BF16. */
#if defined(__x86_64__)
#define VECTOR_TABLE vector_table_avx512bf16
#include "runtime/ops/vector/bodies.h"
#else
typedef int vector_avx512bf16_is_for_x86_64; /* a file must not be empty */
#endif
