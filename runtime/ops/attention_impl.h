/* Shared between the attention files and their tests; not for callers of the kernels. */
#ifndef WEFT_RUNTIME_OPS_ATTENTION_IMPL_H
#define WEFT_RUNTIME_OPS_ATTENTION_IMPL_H

#include "runtime/backend/cpu/isa.h"
#include "runtime/ops/attention_kernel.h"

/* The forward or backward with the instructions of `isa`, which the machine must have. */
void attention_run(const struct attention_shape *shape, const struct attention_tensors *tensors,
                   int num_threads, enum cpu_isa isa, bool backward);

#endif
