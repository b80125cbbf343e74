/* Elementwise losses and row products. See runtime/ops/vector_kernels.h. */
#ifndef WEFT_RUNTIME_OPS_VECTOR_LOSS_H
#define WEFT_RUNTIME_OPS_VECTOR_LOSS_H

#include "runtime/ops/vector/types.h"

/*
 * Binary cross-entropy with logits: loss = max(x, 0) - x * target + log(1 + exp(-|x|)) per element.
 * x f32 or bf16 [count], target f32 [count] in [0, 1] (soft), loss f32 [count].
 */
void bce_fwd_cpu(const void *x, const float *target, float *loss, int64_t count,
                 enum vector_dtype dtype);

/* dx = (sigmoid(x) - target) * dloss, dloss f32 [count]. In place: dx may be x. */
void bce_bwd_cpu(const void *x, const float *target, const float *dloss, void *dx, int64_t count,
                 enum vector_dtype dtype);

/* *out = scale * sum((a - b)^2); scale is 1 / count for the mean. scratch: reduce_scratch(). */
void mse_fwd_cpu(const void *a, const void *b, float scale, float *out, void *scratch,
                 int64_t count, enum vector_dtype dtype);

/* da = 2 * scale * *dout * (a - b) and db = -da; either may be NULL, da may be a, db may be b. */
void mse_bwd_cpu(const void *a, const void *b, float scale, const float *dout, void *da, void *db,
                 int64_t count, enum vector_dtype dtype);

/* out[r] = dot(a[r, :], b[r, :]), f32 [rows]. a may be b (squared norms). */
void row_dot_cpu(const void *a, const void *b, float *out, int64_t rows, int64_t cols,
                 enum vector_dtype dtype);

/*
 * y[r, :] = u[r] * a[r, :] + v[r] * b[r, :] with f32 u, v [rows]; b and v may be NULL together. The
 * gradient of row_dot (da = g * b) and, with two terms, of cosine similarity. In place: y may be a
 * or b.
 */
void row_axpby_cpu(const float *u, const void *a, const float *v, const void *b, void *y,
                   int64_t rows, int64_t cols, enum vector_dtype dtype);

/*
 * Cosine similarity of rows: out[r] = dot(a, b) / (max(||a||, eps) * max(||b||, eps)). norm_a and
 * norm_b f32 [rows] receive the clamped norms for the backward call.
 */
void cosine_fwd_cpu(const void *a, const void *b, float *out, float *norm_a, float *norm_b,
                    int64_t rows, int64_t cols, float eps, enum vector_dtype dtype);

/*
 * da = dout * (b / (|a||b|) - out * a / |a|^2) and db likewise; either may be NULL. Norms clamped
 * at eps count as constants. `out`, norm_a and norm_b are results of the forward call.
 */
void cosine_bwd_cpu(const void *a, const void *b, const float *out, const float *norm_a,
                    const float *norm_b, const float *dout, void *da, void *db, int64_t rows,
                    int64_t cols, float eps, enum vector_dtype dtype);

#endif
