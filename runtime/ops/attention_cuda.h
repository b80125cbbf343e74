/*
 * Attention on a GPU: what attention_kernel.h defines, by the kernels in attention.cu.
 *
 * bf16 with a head size that is a multiple of 8 and at most 64 runs on tensor cores; windows there
 * have at most 24 x 24 tokens and neither key mask nor dropout, as op_window_attention gives them.
 * Everything else, and all f32, is computed with f32 arithmetic. Two runs give the same bits.
 */
#ifndef WEFT_RUNTIME_OPS_ATTENTION_CUDA_H
#define WEFT_RUNTIME_OPS_ATTENTION_CUDA_H

#include "runtime/backend/cuda/cuda_op.h"
#include "runtime/ops/attention_kernel.h"

#ifdef __cplusplus
extern "C" {
#endif

struct attention_cuda;

/*
 * Chooses kernels for a checked shape, for the forward or the backward, on the current device.
 * `has_mask` and `has_bias`: key_mask and bias_table will be given. Owned by the caller. Errors:
 * STATUS_UNSUPPORTED for windows whose bias gradient does not fit in the device's shared memory.
 */
enum status attention_cuda_create(const struct attention_shape *shape, bool has_mask, bool has_bias,
                                  bool backward, struct attention_cuda **plan);
void attention_cuda_destroy(struct attention_cuda **plan);

/* Bytes of device memory that `scratch` must have; its contents do not matter. */
size_t attention_cuda_scratch(const struct attention_cuda *plan);

/*
 * Launches the kernels on `stream` (a cudaStream_t). All tensors and `values` are in device memory,
 * tensors aligned to 16 bytes; random.step and random.sample_base are not read, `values` is (NULL
 * without dropout). Not collective.
 */
enum status attention_cuda_run(const struct attention_cuda *plan,
                               const struct attention_tensors *tensors,
                               const struct cuda_values *values, void *stream);

#ifdef __cplusplus
}
#endif
#endif
