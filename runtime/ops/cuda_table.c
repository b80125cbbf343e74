/* The table of CUDA kernels, from ops_cuda.def. */
#if defined(WEFT_CUDA)
#include "runtime/ops/exchange_ranks.h"
#include "runtime/ops/ops_cuda.h"

static const struct cuda_op *const table[] = {
#define CUDA_OP(name) &cuda_op_##name,
#include "runtime/ops/ops_cuda.def"
#undef CUDA_OP
    NULL,
};

const struct cuda_op *cuda_op_find(const struct op *op)
{
    for (const struct cuda_op *const *at = table; *at; at++) {
        if ((*at)->op == op) return *at;
    }
    return NULL;
}

bool cuda_op_waits(const struct op *op)
{
    return op == &op_row_exchange_rows || op == &op_row_exchange_rows_grad;
}

enum status cuda_op_wait_begin(struct kernel *kernel, const struct cuda_run *run)
{
    return exchange_ranks_ask(kernel, run);
}
#else
typedef int ops_cuda_without_cuda;
#endif
