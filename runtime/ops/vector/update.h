/* Optimiser steps over flat slices. See runtime/ops/vector_kernels.h. */
#ifndef WEFT_RUNTIME_OPS_VECTOR_UPDATE_H
#define WEFT_RUNTIME_OPS_VECTOR_UPDATE_H

#include "runtime/base/bf16.h"
#include "runtime/ops/vector/types.h"

/*
 * Both forms: g' = gradient_scale * g; m = beta1 m + (1 - beta1) g'; v = beta2 v + (1 - beta2)
 * g'^2. ADAMW_DECOUPLED (Loshchilov, Hutter, 2019): p -= lr * weight_decay * p, then p -= lr / (1 -
 * beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps) ADAMW_FIBER, as the library behind FIBER's
 * reference: eps is added to the uncorrected sqrt(v), and the decay comes after the update: p -= lr
 * * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps), then p -= lr * weight_decay * p
 */
enum adamw_form { ADAMW_DECOUPLED, ADAMW_FIBER };

struct adamw {
    float *p;       /* [count] parameters, updated */
    const float *g; /* [count] gradient */
    float *m;       /* [count] first moment, updated */
    float *v;       /* [count] second moment, updated */
    bf16 *shadow;   /* [count] p rounded to bf16, written; NULL: not wanted */
    int64_t count;
    int64_t step; /* t, 1 for the first update */
    double lr;
    double beta1;
    double beta2;
    double eps;
    double weight_decay;
    double gradient_scale; /* averaging and clipping; 1 for none */
    enum adamw_form form;
};
void adamw_cpu(const struct adamw *args);

/* ema = decay * ema + (1 - decay) * p, f32 [count]. */
void ema_cpu(float *ema, const float *p, double decay, int64_t count);

/*
 * *out = sum of x^2, accumulated in f64. No f32 input overflows it, so `!isfinite(*out)` says
 * exactly that some x is infinite or NaN: norm and check in one pass. scratch: reduce_scratch().
 */
void sum_squares_cpu(const float *x, double *out, void *scratch, int64_t count);

#endif
