/*
 * The update on a GPU: the arithmetic of runtime/ops/vector/update.h over device memory. Built only
 * where there is CUDA (WEFT_CUDA).
 *
 * An update is work on the stream of the executor that makes the gradients, behind the run. The
 * device itself finds the gradient's norm and decides what to do about it; the host is told.
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

struct CUstream_st; /* cudaStream_t */
struct comm;
struct cuda_update;

/* A contiguous piece of the flat vectors with multipliers of its own. */
struct cuda_segment {
    int64_t begin; /* elements of the flat vectors */
    int64_t end;
    double lr;
    double decay;
};

struct cuda_update_options {
    const struct cuda_segment *segments; /* of what is updated here */
    int64_t num_segments;
    const int64_t *bounds; /* [slices + 1]: slices of the flat vectors, as sharded state has them */
    int slices;
    int own; /* the slice whose state is here, each rank having one; -1: all of them */
    bool ema;
    struct CUstream_st *stream;
    struct comm *comm; /* NULL: one rank */
};

/*
 * Moments (and the EMA with `ema`) of the own slice, or of all, zero, in device memory. Segments
 * and bounds are copied; stream and comm are borrowed. Collective among several ranks, whose
 * executor there must be. Errors: STATUS_NO_MEMORY, those of device_comm_open.
 */
enum status cuda_update_create(struct cuda_update **update,
                               const struct cuda_update_options *options);
void cuda_update_destroy(struct cuda_update **update);

struct cuda_update_step {
    float *parameters;      /* device, the flat vectors */
    const float *gradients; /* device; valid in the own slice, or everywhere */
    int64_t step;           /* 1 for the first update */
    double lr, beta1, beta2, eps, weight_decay, gradient_scale;
    double clip; /* largest norm; 0: any */
    double ema_decay;
    bool fiber; /* ADAMW_FIBER */
};

/* What the device made of the gradient; the same bits on all ranks. */
struct cuda_decision {
    double norm;  /* of gradient_scale times the gradient */
    double scale; /* gradient_scale, and what clipping adds to it */
    int32_t clipped;
    int32_t skipped; /* the norm is not finite, and nothing is changed */
};

/*
 * Enqueues the norm, the decision, AdamW over all segments in one launch, the EMA, and the
 * gathering of all slices, which is on the stream of the device_comm: whoever uses the parameters
 * calls device_comm_order first. Sums of squares are f64, in an order that sizes alone decide:
 * slice by slice, whether they are here or not. Collective. Errors: those of launches.
 */
enum status cuda_update_start(struct cuda_update *update, const struct cuda_update_step *step);

/* Waits for the decision of the update that was started; what follows from it goes on. */
enum status cuda_update_finish(struct cuda_update *update, struct cuda_decision *decision);

/* Limits one element to [low, high], behind what was started. */
enum status cuda_update_clamp(struct cuda_update *update, float *element, float low, float high);

/* Vector 0, 1 or 2 (first moment, second moment, EMA) to or from host memory, behind what was
 * started; returns when it is there. */
enum status cuda_update_read(struct cuda_update *update, int vector, float *host);
enum status cuda_update_write(struct cuda_update *update, int vector, const float *host);

#ifdef __cplusplus
}
#endif
#endif
