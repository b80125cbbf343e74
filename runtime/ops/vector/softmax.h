/* Softmax, log-softmax and cross-entropy over rows. See runtime/ops/vector_kernels.h. */
#ifndef WEFT_RUNTIME_OPS_VECTOR_SOFTMAX_H
#define WEFT_RUNTIME_OPS_VECTOR_SOFTMAX_H

#include "runtime/ops/vector/types.h"

/* y = softmax(scale * x) over the last dimension. A row of only -inf gives NaN. In place: y may be
 * x. */
void softmax_fwd_cpu(const void *x, void *y, int64_t rows, int64_t cols, float scale,
                     enum vector_dtype dtype);

/* dx = scale * y * (dy - dot(dy, y)), from the output y. In place: dx may be dy. */
void softmax_bwd_cpu(const void *y, const void *dy, void *dx, int64_t rows, int64_t cols,
                     float scale, enum vector_dtype dtype);

/* y = log(softmax(scale * x)). In place: y may be x. */
void log_softmax_fwd_cpu(const void *x, void *y, int64_t rows, int64_t cols, float scale,
                         enum vector_dtype dtype);

/* dx = scale * (dy - exp(y) * sum(dy)), from the output y. In place: dx may be dy. */
void log_softmax_bwd_cpu(const void *y, const void *dy, void *dx, int64_t rows, int64_t cols,
                         float scale, enum vector_dtype dtype);

/*
 * Cross-entropy of each row against one target class, without stored probabilities. For a row whose
 * target is ignore_index, loss and correct are 0; lse is written for every row.
 */
struct cross_entropy_fwd {
    const void *logits;     /* [rows, cols] */
    const int32_t *targets; /* [rows], 0 <= target < cols or ignore_index */
    float *loss;            /* [rows] lse - logits[target] */
    float *lse;             /* [rows] log(sum(exp(logits))), for the backward call */
    uint8_t *correct; /* [rows] 1 where the target is the first largest logit; NULL: not wanted */
    int64_t rows;
    int64_t cols;
    int32_t ignore_index;
    enum vector_dtype dtype;
};

/* Returns the first row whose target is out of range (its loss is NaN), or -1 when all are good. */
int64_t cross_entropy_fwd_cpu(const struct cross_entropy_fwd *args);

/* dlogits = (softmax(logits) - onehot(target)) * dloss; zero for ignored and for bad rows. */
struct cross_entropy_bwd {
    const void *logits;     /* [rows, cols] */
    const int32_t *targets; /* [rows] */
    const float *lse;       /* [rows] of the forward call */
    const float *dloss;     /* [rows], the gradient of each row's loss */
    void *dlogits;          /* [rows, cols]; may be logits */
    int64_t rows;
    int64_t cols;
    int32_t ignore_index;
    enum vector_dtype dtype;
};
void cross_entropy_bwd_cpu(const struct cross_entropy_bwd *args);

#endif
