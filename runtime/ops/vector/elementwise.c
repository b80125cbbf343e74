#include "runtime/ops/vector/elementwise.h"

#include <string.h>

#include "runtime/ops/vector/impl.h"
#include "runtime/ops/vector/reduce.h"

static void run_map(enum vector_op op, struct vector_map args, int64_t count,
                    enum vector_dtype dtype)
{
    args.stream = vector_streams(args.y, count, 64, dtype, args.y == args.a || args.y == args.b);
    vector_run_elements(op, dtype, &args, count);
}

void add_cpu(const void *a, const void *b, void *y, int64_t count, enum vector_dtype dtype)
{
    run_map(VECTOR_OP_add, (struct vector_map){.a = a, .b = b, .y = y}, count, dtype);
}

void sub_cpu(const void *a, const void *b, void *y, int64_t count, enum vector_dtype dtype)
{
    run_map(VECTOR_OP_sub, (struct vector_map){.a = a, .b = b, .y = y}, count, dtype);
}

void mul_cpu(const void *a, const void *b, void *y, int64_t count, enum vector_dtype dtype)
{
    run_map(VECTOR_OP_mul, (struct vector_map){.a = a, .b = b, .y = y}, count, dtype);
}

void scale_cpu(float alpha, const void *x, void *y, int64_t count, enum vector_dtype dtype)
{
    run_map(VECTOR_OP_scale, (struct vector_map){.a = x, .y = y, .alpha = alpha}, count, dtype);
}

void scale_by_cpu(const float *alpha, const void *x, void *y, int64_t count,
                  enum vector_dtype dtype)
{
    scale_cpu(*alpha, x, y, count, dtype);
}

void axpy_cpu(float alpha, const void *x, void *y, int64_t count, enum vector_dtype dtype)
{
    run_map(VECTOR_OP_axpy, (struct vector_map){.a = y, .b = x, .y = y, .alpha = alpha}, count,
            dtype);
}

void gated_add_fwd_cpu(const void *a, const void *b, const float *alpha, void *y, int64_t count,
                       enum vector_dtype dtype)
{
    run_map(VECTOR_OP_axpy, (struct vector_map){.a = a, .b = b, .y = y, .alpha = *alpha}, count,
            dtype);
}

void gated_add_bwd_cpu(const void *dy, const void *b, const float *alpha, void *db, float *dalpha,
                       void *scratch, int64_t count, enum vector_dtype dtype)
{
    struct vector_parts parts = vector_parts_of(count);
    struct vector_map args = {.a = dy,
                              .b = b,
                              .y = db,
                              .alpha = *alpha,
                              .count = count,
                              .part = parts.size,
                              .partial = scratch};
    vector_run(VECTOR_OP_gated_add_bwd, dtype, &args, parts.count, 1, 1);
    *dalpha = (float)vector_parts_sum(scratch, parts.count);
}

void bias_add_cpu(const void *x, const float *bias, void *y, int64_t rows, int64_t cols,
                  enum vector_dtype dtype)
{
    struct vector_rows args = {.a = x, .u = bias, .y = y, .cols = cols};
    args.stream = vector_streams(y, rows * cols, cols, dtype, y == x);
    vector_run_rows(VECTOR_OP_bias_add, dtype, &args, rows, cols);
}

void clamp_fwd_cpu(const void *x, float low, float high, void *y, int64_t count,
                   enum vector_dtype dtype)
{
    run_map(VECTOR_OP_clamp_fwd, (struct vector_map){.a = x, .y = y, .alpha = low, .beta = high},
            count, dtype);
}

void clamp_bwd_cpu(const void *x, float low, float high, const void *dy, void *dx, int64_t count,
                   enum vector_dtype dtype)
{
    run_map(VECTOR_OP_clamp_bwd,
            (struct vector_map){.a = x, .b = dy, .y = dx, .alpha = low, .beta = high}, count,
            dtype);
}

void fill_cpu(float value, void *y, int64_t count, enum vector_dtype dtype)
{
    run_map(VECTOR_OP_fill, (struct vector_map){.y = y, .alpha = value}, count, dtype);
}

void cast_cpu(const void *x, enum vector_dtype from, void *y, enum vector_dtype to, int64_t count)
{
    struct vector_map args = {.a = x, .y = y, .kind = (int)to};
    args.stream = vector_streams(y, count, 64, to, y == x);
    vector_run_elements(VECTOR_OP_cast, from, &args, count);
}
