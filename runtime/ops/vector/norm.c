#include "runtime/ops/vector/norm.h"

#include <assert.h>

#include "runtime/ops/vector/jobs.h"

void layernorm_fwd_cpu(const struct layernorm_fwd *args)
{
    assert(!args->residual || args->sum);
    int64_t count = args->rows * args->cols;
    struct layernorm_job job = {.fwd = *args};
    bool in_place = args->y == args->x || args->y == args->residual;
    job.stream = vector_streams(args->y, count, args->cols, args->dtype, in_place);
    bool sum_in_place = args->sum == args->x || args->sum == args->residual;
    job.stream_sum = args->residual && args->cols <= VECTOR_ROW &&
                     vector_streams(args->sum, count, args->cols, args->dtype, sum_in_place);
    vector_run_rows(VECTOR_OP_layernorm_fwd, args->dtype, &job, args->rows, args->cols);
}

size_t layernorm_bwd_scratch(int64_t rows, int64_t cols)
{
    return (size_t)vector_row_parts(rows, cols).count * (size_t)cols * 2 * sizeof(float);
}

void layernorm_bwd_cpu(const struct layernorm_bwd *args)
{
    assert((args->dgamma != NULL) == (args->dbeta != NULL));
    const int64_t cols = args->cols;
    struct vector_parts parts = vector_row_parts(args->rows, cols);
    struct layernorm_job job = {.bwd = *args, .part = parts.size};
    bool in_place = args->dx == args->dy || args->dx == args->dresidual || args->dx == args->x;
    job.stream =
        args->dx && vector_streams(args->dx, args->rows * cols, cols, args->dtype, in_place);
    vector_run(VECTOR_OP_layernorm_bwd, args->dtype, &job, parts.count, 1, 1);
    if (!args->dgamma) return;
    /* The partial results are rows of dgamma followed by dbeta. */
    const float *partial = args->scratch;
    vector_sum_partial_rows(partial, parts.count, 2 * cols, cols, args->dgamma);
    vector_sum_partial_rows(partial + cols, parts.count, 2 * cols, cols, args->dbeta);
}

void l2norm_fwd_cpu(const void *x, void *y, float *norm, int64_t rows, int64_t cols, float eps,
                    enum vector_dtype dtype)
{
    struct vector_rows args = {.a = x, .y = y, .p = norm, .cols = cols, .alpha = eps};
    args.stream = vector_streams(y, rows * cols, cols, dtype, y == x);
    vector_run_rows(VECTOR_OP_l2norm_fwd, dtype, &args, rows, cols);
}

void l2norm_bwd_cpu(const void *y, const float *norm, const void *dy, void *dx, int64_t rows,
                    int64_t cols, float eps, enum vector_dtype dtype)
{
    struct vector_rows args = {.a = y, .b = dy, .u = norm, .y = dx, .cols = cols, .alpha = eps};
    args.stream = vector_streams(dx, rows * cols, cols, dtype, dx == dy || dx == y);
    vector_run_rows(VECTOR_OP_l2norm_bwd, dtype, &args, rows, cols);
}
