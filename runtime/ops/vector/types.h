/* What the vector kernels share in their interfaces. See runtime/ops/vector_kernels.h. */
#ifndef WEFT_RUNTIME_OPS_VECTOR_TYPES_H
#define WEFT_RUNTIME_OPS_VECTOR_TYPES_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/backend/cpu/isa.h"

enum vector_dtype { VECTOR_F32, VECTOR_BF16 };

/* Reductions over rows are cut into at most this many parts. Divides well among usual thread
 * counts. */
enum { VECTOR_PARTS = 48 };

/* Bytes of one element. */
static inline size_t vector_dtype_size(enum vector_dtype dtype)
{
    return dtype == VECTOR_F32 ? 4 : 2;
}

/*
 * For tests and benchmarks: from now on the kernels use `isa`, or the best level below it that this
 * machine has. Returns the level used. Not thread-safe.
 */
enum cpu_isa vector_isa_use(enum cpu_isa isa);

/* The instruction set in use. */
enum cpu_isa vector_isa(void);

/*
 * For tests and benchmarks: outputs of at least `bytes` bypass the caches where they can (aligned,
 * not in place). Returns the value before. Not thread-safe.
 */
int64_t vector_stream_use(int64_t bytes);

/*
 * STREAM triad a = b + scalar * c on f32 [count], the ceiling that memory-bound kernels are
 * measured against (McCalpin, "Memory bandwidth and machine balance in current high performance
 * computers", 1995). `streaming` selects stores that bypass the caches.
 */
void triad_cpu(const float *b, const float *c, float scalar, float *a, int64_t count,
               int streaming);

#endif
