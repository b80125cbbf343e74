/* Rows of other ranks on a GPU, the part of exchange.cu for several ranks. For runtime/ops only. */
#ifndef WEFT_RUNTIME_OPS_EXCHANGE_RANKS_H
#define WEFT_RUNTIME_OPS_EXCHANGE_RANKS_H

#include "runtime/backend/cuda/cuda_op.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The CUDA functions of exchange_rows and exchange_rows_grad (struct cuda_op). Nothing to prepare
 * or release for one rank. `_run` is for several ranks alone. */
enum status exchange_ranks_prepare(struct kernel *kernel);
enum status exchange_ranks_run(struct kernel *kernel, const struct cuda_run *run);
enum status exchange_ranks_grad_run(struct kernel *kernel, const struct cuda_run *run);
void exchange_ranks_release(struct kernel *kernel);

/* Starts bringing to the host what all ranks ask for, so that a wait for another kernel serves this
 * one, too. Its index must have been computed. For several ranks. */
enum status exchange_ranks_ask(struct kernel *kernel, const struct cuda_run *run);

#ifdef __cplusplus
}
#endif
#endif
