/*
 * The update on a GPU: the arithmetic of runtime/ops/vector/update.h over device memory. Built only
 * where there is CUDA (WEFT_CUDA).
 */
#ifndef WEFT_RUNTIME_OPTIM_OPTIMIZER_CUDA_H
#define WEFT_RUNTIME_OPTIM_OPTIMIZER_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct comm;
struct cuda_update;

/* A contiguous piece of the flat vectors with multipliers of its own. */
struct cuda_segment {
    int64_t begin; /* elements of the flat vectors */
    int64_t end;
    double lr;
    double decay;
};

/*
 * Moments (and the EMA with `ema`) of [begin, begin + count) of the flat vectors, zero, in device
 * memory. The segments are copied. Errors: STATUS_NO_MEMORY.
 */
enum status cuda_update_create(struct cuda_update **update, const struct cuda_segment *segments,
                               int64_t num_segments, int64_t begin, int64_t count, bool ema);
void cuda_update_destroy(struct cuda_update **update);

/* *square = the sum of x^2, in f64 and in an order of its own; waits for it. */
enum status cuda_update_square(struct cuda_update *update, const float *x, int64_t count,
                               double *square);

struct cuda_update_step {
    float *parameters;      /* device, the flat vectors */
    const float *gradients; /* device */
    int64_t step;           /* 1 for the first update */
    double lr, beta1, beta2, eps, weight_decay, gradient_scale;
    double ema_decay;
    bool fiber; /* ADAMW_FIBER */
};

/* AdamW over all segments in one launch, then the EMA. Returns when it is done. */
enum status cuda_update_run(struct cuda_update *update, const struct cuda_update_step *step);

/*
 * Gathers the slices of all ranks [counts: size] after an update of this rank's: starts it, behind
 * what the host does next. The first call opens the ranks' device_comm, so it is collective.
 */
enum status cuda_update_gather(struct cuda_update *update, struct comm *comm, float *parameters,
                               const int64_t *counts);

/* Limits one element to [low, high], after a gather that was started. */
enum status cuda_update_clamp(struct cuda_update *update, float *element, float low, float high);

/* Vector 0, 1 or 2 (first moment, second moment, EMA) to or from host memory. */
enum status cuda_update_read(const struct cuda_update *update, int vector, float *host);
enum status cuda_update_write(struct cuda_update *update, int vector, const float *host);

#ifdef __cplusplus
}
#endif
#endif
