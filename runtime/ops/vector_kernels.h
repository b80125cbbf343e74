/*
 * The memory-bound CPU kernels: raw functions on pointers and sizes, no graph. This header is the
 * whole family; the sub-headers can be included alone.
 *
 * What holds for all of them:
 *
 *  - A tensor is f32 or bf16 (`enum vector_dtype`), contiguous, "rows x cols" row-major. All
 * tensors of one call have the same dtype unless said otherwise. Arithmetic and statistics are f32;
 * a bf16 result is rounded once, to nearest even. Parameters (gamma, beta, bias) and statistics are
 * f32 in memory.
 *  - Pointers need the alignment of their element only. Sizes may be zero (nothing is read or
 *    written, except that a reduction over nothing writes its zeros). Input and output may be the
 *    same pointer where the function says "in place"; other overlap is not allowed.
 *  - Each call uses up to omp_get_max_threads() threads, one when the tensor is small or when
 * called inside a parallel region. Results do not depend on the number of threads: reductions over
 * rows are cut into at most VECTOR_PARTS parts by size alone, summed in the order of the parts.
 *  - The instruction set is cpu_isa()'s; results differ between instruction sets by rounding.
 *  - Nothing allocates. Kernels that need scratch have a `*_scratch` function that returns bytes;
 * the scratch of a call needs the alignment of double and holds nothing between calls.
 *  - NaN in gives NaN out, with no exception for special paths.
 *  - Sizes and pointers come from the planner, which has checked them: they are asserted, not
 *    reported. Data (ids, targets) is checked in every build.
 */
#ifndef WEFT_RUNTIME_OPS_VECTOR_KERNELS_H
#define WEFT_RUNTIME_OPS_VECTOR_KERNELS_H

#include "runtime/ops/vector/activation.h"
#include "runtime/ops/vector/elementwise.h"
#include "runtime/ops/vector/embedding.h"
#include "runtime/ops/vector/loss.h"
#include "runtime/ops/vector/norm.h"
#include "runtime/ops/vector/random.h"
#include "runtime/ops/vector/reduce.h"
#include "runtime/ops/vector/softmax.h"
#include "runtime/ops/vector/types.h"
#include "runtime/ops/vector/update.h"

#endif
