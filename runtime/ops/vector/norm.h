/* Layer normalisation and L2 normalisation of rows. See runtime/ops/vector_kernels.h. */
#ifndef WEFT_RUNTIME_OPS_VECTOR_NORM_H
#define WEFT_RUNTIME_OPS_VECTOR_NORM_H

#include "runtime/ops/vector/types.h"

/*
 * Layer normalisation (Ba, Kiros, Hinton, 2016): y = (x - mean) * rstd * gamma + beta for each row,
 * rstd = 1 / sqrt(variance + eps), variance with the divisor cols. Mean and variance take two
 * passes over the row, so a large common offset does not cost precision.
 */
struct layernorm_fwd {
    const void *x;        /* [rows, cols] */
    const void *residual; /* [rows, cols] added to x first, or NULL */
    const float *gamma;   /* [cols], NULL for ones */
    const float *beta;    /* [cols], NULL for zeros */
    void *sum;   /* [rows, cols] x + residual, written when residual is given; may be x. The
                    statistics are those of the stored, rounded sum */
    void *y;     /* [rows, cols]; may be x when there is no residual */
    float *mean; /* [rows], NULL when not wanted */
    float *rstd; /* [rows], NULL when not wanted */
    int64_t rows;
    int64_t cols;
    float eps;
    enum vector_dtype dtype;
};
void layernorm_fwd_cpu(const struct layernorm_fwd *args);

/*
 * Gradients of layer normalisation. x is what was normalised (`sum` of the forward call where a
 * residual was added). dx = rstd * (dy * gamma - mean(dy * gamma) - xhat * mean(dy * gamma *
 * xhat)), plus dresidual where given.
 */
struct layernorm_bwd {
    const void *dy;        /* [rows, cols] */
    const void *x;         /* [rows, cols] */
    const float *mean;     /* [rows] */
    const float *rstd;     /* [rows] */
    const float *gamma;    /* [cols], NULL for ones */
    const void *dresidual; /* [rows, cols] added to dx, or NULL */
    void *dx;              /* [rows, cols]; may be dy or dresidual. NULL when not wanted */
    float *dgamma;         /* [cols], overwritten. NULL when not wanted, then dbeta too */
    float *dbeta;          /* [cols], overwritten. NULL when not wanted, then dgamma too */
    void *scratch;         /* layernorm_bwd_scratch bytes; unused without dgamma and dbeta */
    int64_t rows;
    int64_t cols;
    enum vector_dtype dtype;
};
size_t layernorm_bwd_scratch(int64_t rows, int64_t cols);
void layernorm_bwd_cpu(const struct layernorm_bwd *args);

/*
 * y = x / max(||x||, eps) for each row. eps = 0 divides by the plain norm (a zero row gives NaN).
 * norm[rows] receives ||x|| (not clamped). In place: y may be x.
 */
void l2norm_fwd_cpu(const void *x, void *y, float *norm, int64_t rows, int64_t cols, float eps,
                    enum vector_dtype dtype);

/*
 * dx = (dy - y * dot(dy, y)) / norm, and dy / eps for rows whose norm is below eps. `y` and `norm`
 * are the results of the forward call with the same eps. In place: dx may be dy.
 */
void l2norm_bwd_cpu(const void *y, const float *norm, const void *dy, void *dx, int64_t rows,
                    int64_t cols, float eps, enum vector_dtype dtype);

#endif
