/* Choosing the algorithms of a plan's products by time, before its first run. For replay.cu. */
#ifndef WEFT_RUNTIME_BACKEND_CUDA_TUNE_H
#define WEFT_RUNTIME_BACKEND_CUDA_TUNE_H

#include "runtime/backend/cuda/cuda_op.h"
#include "runtime/backend/executor_impl.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Times what is not known yet (runtime/backend/cuda/tuning.h), tells how long it took, and keeps it
 * on disk. `run` is that of a step that does not add to the gradients. Overwrites the memory of
 * activations, cast parameters and gradients of products, which hold nothing before the first run.
 * With several ranks rank 0 chooses for all: collective. Errors: those of the products,
 * STATUS_COMM.
 */
enum status cuda_tune(struct executor *executor, const struct cuda_run *run);

#ifdef __cplusplus
}
#endif
#endif
