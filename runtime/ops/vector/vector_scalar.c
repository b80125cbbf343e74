/* The vector kernels for every processor: 4 lanes by compiler extension (SSE2 or NEON in practice).
 */
#define VECTOR_TABLE vector_table_scalar
#include "runtime/ops/vector/bodies.h"
