/* Dropout and drop-path. See runtime/ops/vector_kernels.h. */
#ifndef WEFT_RUNTIME_OPS_VECTOR_RANDOM_H
#define WEFT_RUNTIME_OPS_VECTOR_RANDOM_H

#include "runtime/base/rng.h"
#include "runtime/ops/vector/types.h"

/*
 * Dropout (Srivastava et al., 2014), inverted: y = x / (1 - p) where kept, 0 where dropped. The
 * tensor is [rows, per_row]. Row r belongs to sample sample_base + r % samples and holds elements
 * (r / samples) * per_row + [0, per_row) of it, so the mask is a function of (key, step, sample,
 * element) whatever the batch layout; element e is kept where
 * rng_uniform(rng_at(key, step, sample, e / 4).word[e % 4]) >= p. The backward pass is the same
 * call on dy. In place: y may be x. With several groups of rows (r / samples > 0) the
 * groups draw different numbers.
 */
struct dropout {
    const void *x;
    void *y;
    int64_t rows;
    int64_t per_row;
    int64_t samples;      /* > 0 */
    uint64_t sample_base; /* global index of the first sample */
    struct rng_key key;
    uint64_t step;
    float p; /* 0 <= p <= 1; p = 1 drops everything */
    enum vector_dtype dtype;
};
void dropout_cpu(const struct dropout *args);

/*
 * Drop-path (Huang et al., 2016, stochastic depth) with its residual addition:
 * y = x + branch / (1 - p) for kept rows, y = x for dropped ones (branch is not read). One draw per
 * row: element r / samples of sample sample_base + r % samples. In place: y may be x or branch.
 * x = NULL stands for zeros: the gradient of branch is the call with x = NULL and branch = dy
 * (the gradient of x is dy).
 */
struct drop_path {
    const void *x; /* [rows, per_row] or NULL */
    const void *branch;
    void *y;
    int64_t rows;
    int64_t per_row;
    int64_t samples;
    uint64_t sample_base;
    struct rng_key key;
    uint64_t step;
    float p;
    enum vector_dtype dtype;
};
void drop_path_cpu(const struct drop_path *args);

#endif
