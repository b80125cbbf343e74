/* Arithmetic on whole tensors, element by element. See runtime/ops/vector_kernels.h. */
#ifndef WEFT_RUNTIME_OPS_VECTOR_ELEMENTWISE_H
#define WEFT_RUNTIME_OPS_VECTOR_ELEMENTWISE_H

#include "runtime/ops/vector/types.h"

/* In all of these an output may be any input of the same dtype. */

/* y = a + b */
void add_cpu(const void *a, const void *b, void *y, int64_t count, enum vector_dtype dtype);

/* y = a - b */
void sub_cpu(const void *a, const void *b, void *y, int64_t count, enum vector_dtype dtype);

/* y = a * b */
void mul_cpu(const void *a, const void *b, void *y, int64_t count, enum vector_dtype dtype);

/* y = alpha * x with a host constant. */
void scale_cpu(float alpha, const void *x, void *y, int64_t count, enum vector_dtype dtype);

/* y = *alpha * x. The gradient for alpha is dot_cpu(dy, x), that for x is this function on dy. */
void scale_by_cpu(const float *alpha, const void *x, void *y, int64_t count,
                  enum vector_dtype dtype);

/* y = alpha * x + y with a host constant. */
void axpy_cpu(float alpha, const void *x, void *y, int64_t count, enum vector_dtype dtype);

/* y = a + *alpha * b, the gated residual. */
void gated_add_fwd_cpu(const void *a, const void *b, const float *alpha, void *y, int64_t count,
                       enum vector_dtype dtype);

/*
 * db = *alpha * dy (NULL: not wanted; may be dy) and *dalpha = dot(dy, b) in one pass. The gradient
 * for a is dy itself. scratch: reduce_scratch().
 */
void gated_add_bwd_cpu(const void *dy, const void *b, const float *alpha, void *db, float *dalpha,
                       void *scratch, int64_t count, enum vector_dtype dtype);

/* y[r, c] = x[r, c] + bias[c], bias f32 [cols]. The gradient for bias is column_sum_cpu. */
void bias_add_cpu(const void *x, const float *bias, void *y, int64_t rows, int64_t cols,
                  enum vector_dtype dtype);

/* y = min(max(x, low), high). */
void clamp_fwd_cpu(const void *x, float low, float high, void *y, int64_t count,
                   enum vector_dtype dtype);

/* dx = dy where low <= x <= high, else 0. */
void clamp_bwd_cpu(const void *x, float low, float high, const void *dy, void *dx, int64_t count,
                   enum vector_dtype dtype);

/* Every element of y becomes value. */
void fill_cpu(float value, void *y, int64_t count, enum vector_dtype dtype);

/* y = x with another dtype. Equal dtypes copy. x and y must not overlap. */
void cast_cpu(const void *x, enum vector_dtype from, void *y, enum vector_dtype to, int64_t count);

#endif
