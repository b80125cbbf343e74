/* Sums over rows, columns and middle axes, and broadcasting back. See runtime/ops/vector_kernels.h.
 */
#ifndef WEFT_RUNTIME_OPS_VECTOR_REDUCE_H
#define WEFT_RUNTIME_OPS_VECTOR_REDUCE_H

#include "runtime/ops/vector/types.h"

/* Bytes of scratch for a reduction of a whole tensor to one number. */
size_t reduce_scratch(void);

/* *out = scale * sum(x). scratch: reduce_scratch(). */
void sum_all_cpu(const void *x, float scale, float *out, void *scratch, int64_t count,
                 enum vector_dtype dtype);

/* *out = sum(a * b). scratch: reduce_scratch(). */
void dot_cpu(const void *a, const void *b, float *out, void *scratch, int64_t count,
             enum vector_dtype dtype);

/* out[c] = sum over rows of x[r, c], f32 [cols] (the gradient of a row bias). */
size_t column_sum_scratch(int64_t rows, int64_t cols);
void column_sum_cpu(const void *x, float *out, void *scratch, int64_t rows, int64_t cols,
                    enum vector_dtype dtype);

/*
 * y[o, i] = scale * sum over k of x[o, k, i]: x [outer, n, inner], y [outer, inner] of the same
 * dtype. scale = 1 / n is the mean; inner = 1 sums rows. Parallel over outer and inner.
 */
void sum_middle_cpu(const void *x, float scale, void *y, int64_t outer, int64_t n, int64_t inner,
                    enum vector_dtype dtype);

/* x[o, k, i] = scale * y[o, i]: the gradient of sum_middle_cpu, and broadcasting in general. */
void broadcast_middle_cpu(const void *y, float scale, void *x, int64_t outer, int64_t n,
                          int64_t inner, enum vector_dtype dtype);

#endif
