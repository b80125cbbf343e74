/* What an attention node or its gradient node computes, for the kernels of every device. For
 * runtime/ops only. */
#ifndef WEFT_RUNTIME_OPS_ATTENTION_NODE_H
#define WEFT_RUNTIME_OPS_ATTENTION_NODE_H

#include "runtime/graph/op.h"
#include "runtime/ops/attention_kernel.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Sizes, strides and features, and whether the node has a key mask and a bias table. */
void attention_node_describe(const struct node *node, struct attention_shape *shape, bool *has_mask,
                             bool *has_bias);

/* Where the tensors of a planned call are: for the forward without dout and gradients. Of `run` it
 * reads seed, step and sample_base. */
void attention_node_tensors(const struct kernel *kernel, const struct attention_shape *shape,
                            const struct run_context *run, struct attention_tensors *tensors);

#ifdef __cplusplus
}
#endif
#endif
