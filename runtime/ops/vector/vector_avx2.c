/* The vector kernels for x86-64 with AVX2. */
#if defined(__x86_64__)
#define VECTOR_TABLE vector_table_avx2
#include "runtime/ops/vector/bodies.h"
#else
typedef int vector_avx2_is_for_x86_64; /* a file must not be empty */
#endif
