/* The vector kernels for x86-64 with AVX512. */
#if defined(__x86_64__)
#define VECTOR_TABLE vector_table_avx512
#include "runtime/ops/vector/bodies.h"
#else
typedef int vector_avx512_is_for_x86_64; /* a file must not be empty */
#endif
