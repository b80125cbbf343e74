#include "runtime/ops/vector/loss.h"

#include "runtime/ops/vector/impl.h"
#include "runtime/ops/vector/reduce.h"

void bce_fwd_cpu(const void *x, const float *target, float *loss, int64_t count,
                 enum vector_dtype dtype)
{
    struct vector_map args = {.a = x, .b = target, .y = loss};
    vector_run_elements(VECTOR_OP_bce_fwd, dtype, &args, count);
}

void bce_bwd_cpu(const void *x, const float *target, const float *dloss, void *dx, int64_t count,
                 enum vector_dtype dtype)
{
    struct vector_map args = {.a = x, .b = target, .c = dloss, .y = dx};
    vector_run_elements(VECTOR_OP_bce_bwd, dtype, &args, count);
}

void mse_fwd_cpu(const void *a, const void *b, float scale, float *out, void *scratch,
                 int64_t count, enum vector_dtype dtype)
{
    struct vector_parts parts = vector_parts_of(count);
    struct vector_map args = {
        .a = a, .b = b, .count = count, .part = parts.size, .partial = scratch};
    vector_run(VECTOR_OP_mse_fwd, dtype, &args, parts.count, 1, 1);
    *out = (float)((double)scale * vector_parts_sum(scratch, parts.count));
}

void mse_bwd_cpu(const void *a, const void *b, float scale, const float *dout, void *da, void *db,
                 int64_t count, enum vector_dtype dtype)
{
    struct vector_map args = {.a = a, .b = b, .y = da, .z = db, .alpha = 2 * scale * *dout};
    vector_run_elements(VECTOR_OP_mse_bwd, dtype, &args, count);
}

void row_dot_cpu(const void *a, const void *b, float *out, int64_t rows, int64_t cols,
                 enum vector_dtype dtype)
{
    struct vector_rows args = {.a = a, .b = b, .p = out, .cols = cols};
    vector_run_rows(VECTOR_OP_row_dot, dtype, &args, rows, cols);
}

void row_axpby_cpu(const float *u, const void *a, const float *v, const void *b, void *y,
                   int64_t rows, int64_t cols, enum vector_dtype dtype)
{
    struct vector_rows args = {.a = a, .b = b, .u = u, .v = v, .y = y, .cols = cols};
    vector_run_rows(VECTOR_OP_row_axpby, dtype, &args, rows, cols);
}

void cosine_fwd_cpu(const void *a, const void *b, float *out, float *norm_a, float *norm_b,
                    int64_t rows, int64_t cols, float eps, enum vector_dtype dtype)
{
    struct vector_rows args = {
        .a = a, .b = b, .p = out, .q = norm_a, .r = norm_b, .cols = cols, .alpha = eps};
    vector_run_rows(VECTOR_OP_cosine_fwd, dtype, &args, rows, cols);
}

void cosine_bwd_cpu(const void *a, const void *b, const float *out, const float *norm_a,
                    const float *norm_b, const float *dout, void *da, void *db, int64_t rows,
                    int64_t cols, float eps, enum vector_dtype dtype)
{
    struct vector_rows args = {.a = a,
                               .b = b,
                               .u = out,
                               .v = norm_a,
                               .w = norm_b,
                               .dout = dout,
                               .y = da,
                               .z = db,
                               .cols = cols,
                               .alpha = eps};
    vector_run_rows(VECTOR_OP_cosine_bwd, dtype, &args, rows, cols);
}
