#include "runtime/ops/vector/reduce.h"

#include "runtime/ops/vector/jobs.h"

size_t reduce_scratch(void)
{
    return VECTOR_PARTS * sizeof(double);
}

static double reduce(enum vector_op op, const void *a, const void *b, void *scratch, int64_t count,
                     enum vector_dtype dtype)
{
    struct vector_parts parts = vector_parts_of(count);
    struct vector_map args = {
        .a = a, .b = b, .count = count, .part = parts.size, .partial = scratch};
    vector_run(op, dtype, &args, parts.count, 1, 1);
    return vector_parts_sum(scratch, parts.count);
}

void sum_all_cpu(const void *x, float scale, float *out, void *scratch, int64_t count,
                 enum vector_dtype dtype)
{
    *out = (float)((double)scale * reduce(VECTOR_OP_sum_all, x, NULL, scratch, count, dtype));
}

void dot_cpu(const void *a, const void *b, float *out, void *scratch, int64_t count,
             enum vector_dtype dtype)
{
    *out = (float)reduce(VECTOR_OP_dot, a, b, scratch, count, dtype);
}

static void sum_columns(const void *x, int64_t rows, int64_t stride, int64_t cols, float *out,
                        enum vector_dtype dtype)
{
    struct column_sum_job job = {.x = x, .out = out, .rows = rows, .cols = cols, .stride = stride};
    int64_t grain = VECTOR_GRAIN / VECTOR_GROUP / (rows > 0 ? rows : 1);
    vector_run(VECTOR_OP_column_sum, dtype, &job, (cols + VECTOR_GROUP - 1) / VECTOR_GROUP,
               grain > 0 ? grain : 1, 1);
}

void vector_sum_partial_rows(const float *partial, int64_t parts, int64_t stride, int64_t cols,
                             float *out)
{
    sum_columns(partial, parts, stride, cols, out, VECTOR_F32);
}

size_t column_sum_scratch(int64_t rows, int64_t cols)
{
    int64_t parts = vector_row_parts(rows, cols).count;
    return parts > 1 ? (size_t)parts * (size_t)cols * sizeof(float) : 0;
}

void column_sum_cpu(const void *x, float *out, void *scratch, int64_t rows, int64_t cols,
                    enum vector_dtype dtype)
{
    struct vector_parts parts = vector_row_parts(rows, cols);
    if (parts.count <= 1) {
        sum_columns(x, rows, cols, cols, out, dtype);
        return;
    }
    struct column_sum_job job = {
        .x = x, .out = scratch, .rows = rows, .cols = cols, .stride = cols, .part = parts.size};
    vector_run(VECTOR_OP_column_sum, dtype, &job, parts.count, 1, 1);
    vector_sum_partial_rows(scratch, parts.count, cols, cols, out);
}

static void run_middle(enum vector_op op, const void *x, float scale, void *y, int64_t outer,
                       int64_t n, int64_t inner, enum vector_dtype dtype)
{
    struct middle_job job = {.x = x, .y = y, .scale = scale, .length = n, .inner = inner};
    job.groups = (inner + VECTOR_GROUP - 1) / VECTOR_GROUP;
    int64_t unit = n * (inner < VECTOR_GROUP ? inner : VECTOR_GROUP);
    int64_t grain = VECTOR_GRAIN / (unit > 0 ? unit : 1);
    vector_run(op, dtype, &job, outer * job.groups, grain > 0 ? grain : 1, 1);
}

void sum_middle_cpu(const void *x, float scale, void *y, int64_t outer, int64_t n, int64_t inner,
                    enum vector_dtype dtype)
{
    run_middle(VECTOR_OP_sum_middle, x, scale, y, outer, n, inner, dtype);
}

void broadcast_middle_cpu(const void *y, float scale, void *x, int64_t outer, int64_t n,
                          int64_t inner, enum vector_dtype dtype)
{
    run_middle(VECTOR_OP_broadcast_middle, y, scale, x, outer, n, inner, dtype);
}
