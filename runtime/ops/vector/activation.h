/*
 * Activations and their gradients, elementwise. See runtime/ops/vector_kernels.h.
 *
 * Errors in f32, before the product with dy, against double precision: 5 units in the last place at
 * most; for GELU the larger of that and 1e-7 (below x = -1 the value is small and the error is
 * absolute), for its slope 5e-7. In bf16 GELU adds 1.3e-6 to the rounding of the result, its slope
 * 1e-6.
 */
#ifndef WEFT_RUNTIME_OPS_VECTOR_ACTIVATION_H
#define WEFT_RUNTIME_OPS_VECTOR_ACTIVATION_H

#include "runtime/ops/vector/types.h"

enum activation {
    ACTIVATION_GELU,       /* x * Phi(x), Phi the normal distribution: the exact (erf) form */
    ACTIVATION_GELU_QUICK, /* x * sigmoid(1.702 x) */
    ACTIVATION_TANH,
    ACTIVATION_RELU, /* gradient 0 at 0 */
    ACTIVATION_SIGMOID,
    ACTIVATION_COUNT
};

/* y = f(x). In place: y may be x. */
void activation_fwd_cpu(enum activation kind, const void *x, void *y, int64_t count,
                        enum vector_dtype dtype);

/* dx = dy * f'(x), from the INPUT x of the activation. In place: dx may be dy or x. */
void activation_bwd_cpu(enum activation kind, const void *x, const void *dy, void *dx,
                        int64_t count, enum vector_dtype dtype);

/*
 * Both in one pass over x: y = f(x) and dx = dy * f'(x), for a backward pass that needs the
 * activation again (the input gradient of the layer and, recomputed, its output). In place: dx may
 * be dy, and either output may be x.
 */
void activation_both_cpu(enum activation kind, const void *x, const void *dy, void *y, void *dx,
                         int64_t count, enum vector_dtype dtype);

/*
 * dx = dy * f'(x) from the OUTPUT y = f(x): ACTIVATION_TANH, ACTIVATION_SIGMOID and ACTIVATION_RELU
 * only. In place: dx may be dy or y.
 */
void activation_bwd_output_cpu(enum activation kind, const void *y, const void *dy, void *dx,
                               int64_t count, enum vector_dtype dtype);

#endif
