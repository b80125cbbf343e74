/* What the .cu files of the op families share; rows of both tables by name. For runtime/ only. */
#ifndef WEFT_RUNTIME_OPS_OPS_CUDA_H
#define WEFT_RUNTIME_OPS_OPS_CUDA_H

#include "runtime/backend/cuda/cuda_op.h"

#ifdef __cplusplus
extern "C" {
#endif

#define OP(name) extern const struct op op_row_##name;
#include "runtime/ops/ops.def"
#undef OP
#define CUDA_OP(name) extern const struct cuda_op cuda_op_##name;
#include "runtime/ops/ops_cuda.def"
#undef CUDA_OP

#ifdef __cplusplus
}
#endif
#endif
