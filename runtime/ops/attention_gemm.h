/*
 * The small matrix products of the attention kernels, in registers.
 *
 * All operands are matrices of 32-bit units: one f32, or (ATTENTION_UNIT_BF16) two bf16 that are
 * neighbours along the summed dimension. A unit of A is broadcast, a vector of units of B runs
 * along the columns of C, and one instruction adds their products to a vector of C. So f32 and bf16
 * share the code, and A may be read by rows or by columns. C is f32.
 *
 * A tile of C, GEMM_ROWS_n rows by n vectors, is held in registers over the whole summed dimension.
 * Rows of C come in multiples of 4; who packs the operands pads them.
 */
#ifndef WEFT_RUNTIME_OPS_ATTENTION_GEMM_H
#define WEFT_RUNTIME_OPS_ATTENTION_GEMM_H

#include <stdbool.h>

#include "runtime/ops/attention_simd.h"
#include "runtime/ops/attention_unit.h"

/* Rows of a tile that is n vectors wide: fill the registers, 32 of AVX-512 or 16. */
#if defined(__AVX512F__)
enum { GEMM_ROWS_1 = 12, GEMM_ROWS_2 = 12, GEMM_ROWS_3 = 8 };
#else
enum { GEMM_ROWS_1 = 8, GEMM_ROWS_2 = 4, GEMM_ROWS_3 = 4 };
#endif

/* C[rows, cols * VF] (+)= A B over `depth` units. A(i, k) is a[i * lda + k], or a[k * lda + i] when
 * `by_columns`. All but the pointers, strides and depth are constants where this is inlined. */
INLINE void gemm_tile(int rows, int cols, bool by_columns, bool add, const float *a, int64_t lda,
                      const float *b, int64_t ldb, float *c, int64_t ldc, int64_t depth)
{
    vf sum[12][3];
    REPEAT (i, rows) {
        REPEAT (j, cols) {
            sum[i][j] = add ? vf_load(c + i * ldc + j * VF) : vf_set(0);
        }
    }
#pragma GCC unroll 2
    for (int64_t k = 0; k < depth; k++) {
        vf right[3];
        REPEAT (j, cols)
            right[j] = vf_load(b + k * ldb + j * VF);
        REPEAT (i, rows) {
            vf left = vf_set(by_columns ? a[k * lda + i] : a[i * lda + k]);
            REPEAT (j, cols)
                sum[i][j] = unit_multiply(left, right[j], sum[i][j]);
        }
    }
    REPEAT (i, rows) {
        REPEAT (j, cols)
            vf_store(c + i * ldc + j * VF, sum[i][j]);
    }
}

/* All rows of `cols` vectors of C: tiles of `most` rows, then of 8 and 4. */
INLINE void gemm_panel(int most, int cols, bool by_columns, bool add, int64_t rows, const float *a,
                       int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc,
                       int64_t depth)
{
    int64_t step = by_columns ? 1 : lda;
    int64_t i = 0;
    for (; i + most <= rows; i += most) {
        gemm_tile(most, cols, by_columns, add, a + i * step, lda, b, ldb, c + i * ldc, ldc, depth);
    }
    if (most > 8 && i + 8 <= rows) {
        gemm_tile(8, cols, by_columns, add, a + i * step, lda, b, ldb, c + i * ldc, ldc, depth);
        i += 8;
    }
    if (most > 4 && i < rows) {
        gemm_tile(4, cols, by_columns, add, a + i * step, lda, b, ldb, c + i * ldc, ldc, depth);
    }
}

/* C[rows, columns] (+)= A B; rows a multiple of 4 and columns of VF. */
INLINE void gemm(bool by_columns, bool add, int64_t rows, int64_t columns, int64_t depth,
                 const float *a, int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc)
{
    int64_t left = columns / VF;
    while (left > 0) {
        /* 3 wide is best, but 2 + 2 beats 3 + 1. */
        if (left >= 3 && left != 4) {
            gemm_panel(GEMM_ROWS_3, 3, by_columns, add, rows, a, lda, b, ldb, c, ldc, depth);
            left -= 3;
            b += 3 * VF;
            c += 3 * VF;
        } else if (left >= 2) {
            gemm_panel(GEMM_ROWS_2, 2, by_columns, add, rows, a, lda, b, ldb, c, ldc, depth);
            left -= 2;
            b += 2 * VF;
            c += 2 * VF;
        } else {
            gemm_panel(GEMM_ROWS_1, 1, by_columns, add, rows, a, lda, b, ldb, c, ldc, depth);
            left -= 1;
        }
    }
}

enum { PRODUCT_DEEP_PAD = 16 }; /* what the summed dimension of product_rows is padded to */

/* C[rows, columns] = A B, A by rows; columns a multiple of 16. Computes up to 3 more rows of C. */
static void product_rows(int64_t rows, int64_t columns, int64_t depth, const float *a, int64_t lda,
                         const float *b, float *c)
{
    gemm(false, false, (rows + 3) / 4 * 4, columns, depth, a, lda, b, columns, c, columns);
}

/* C[rows, columns] += A^T B for A[depth, lda]. Computes up to 3 more rows of C. */
static void product_columns(int64_t rows, int64_t columns, int64_t depth, const float *a,
                            int64_t lda, const float *b, float *c)
{
    gemm(true, true, (rows + 3) / 4 * 4, columns, depth, a, lda, b, columns, c, columns);
}

#endif
