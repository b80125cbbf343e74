/*
 * Forward and backward of one attention item (one head of one window), for the instruction set of
 * the including file. That file defines
 *     ATTENTION_KERNELS    the name of the table it exports
 *     ATTENTION_UNIT_BF16  when it multiplies bf16 (then tensors are bf16; otherwise either)
 *     ATTENTION_AMX        when it multiplies with tiles, also.
 *
 * Keys and values of an item are packed once, as the right-hand operands of the products. Query
 * rows are then taken ATTENTION_ROWS at a time, so that their scores stay in the first level cache
 * from the product that makes them to those that use them; softmax and its gradient are passes over
 * these rows. Scores are in units of log 2, so that exponentials are 2^x and scale, bias and masks
 * cost one multiply-add.
 *
 * The five products of the backward, for the rows i of a block and all keys j:
 *     s = q k^T    dp = dout v^T    dq = ds k    dv += p^T dout    dk += ds^T q
 * with p = 2^(s + add - lse) and ds = p (dp - dout . o). The last two sum over rows; they are done
 * for ATTENTION_BLOCK rows at a time, because dv and dk are read and written once each time.
 */
#if defined(ATTENTION_AMX)
#include "runtime/ops/attention_tiles.h"
#else
#include "runtime/ops/attention_gemm.h"
#endif
#include "runtime/ops/attention_backward.h"
#include "runtime/ops/attention_forward.h"

const struct attention_kernels ATTENTION_KERNELS = {
    .forward = forward_item,
    .backward = backward_item,
    .deep_key_pad = PRODUCT_DEEP_PAD,
    .dim_pad = 16 * UNIT,
};
