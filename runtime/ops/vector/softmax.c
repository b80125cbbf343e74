#include "runtime/ops/vector/softmax.h"

#include "runtime/ops/vector/jobs.h"

static void run(enum vector_op op, struct vector_rows args, int64_t rows, enum vector_dtype dtype)
{
    bool in_place = args.y == args.a || args.y == args.b;
    args.stream = vector_streams(args.y, rows * args.cols, args.cols, dtype, in_place);
    vector_run_rows(op, dtype, &args, rows, args.cols);
}

void softmax_fwd_cpu(const void *x, void *y, int64_t rows, int64_t cols, float scale,
                     enum vector_dtype dtype)
{
    run(VECTOR_OP_softmax_fwd, (struct vector_rows){.a = x, .y = y, .cols = cols, .alpha = scale},
        rows, dtype);
}

void softmax_bwd_cpu(const void *y, const void *dy, void *dx, int64_t rows, int64_t cols,
                     float scale, enum vector_dtype dtype)
{
    run(VECTOR_OP_softmax_bwd,
        (struct vector_rows){.a = y, .b = dy, .y = dx, .cols = cols, .alpha = scale}, rows, dtype);
}

void log_softmax_fwd_cpu(const void *x, void *y, int64_t rows, int64_t cols, float scale,
                         enum vector_dtype dtype)
{
    run(VECTOR_OP_softmax_fwd,
        (struct vector_rows){.a = x, .y = y, .cols = cols, .alpha = scale, .kind = 1}, rows, dtype);
}

void log_softmax_bwd_cpu(const void *y, const void *dy, void *dx, int64_t rows, int64_t cols,
                         float scale, enum vector_dtype dtype)
{
    run(VECTOR_OP_softmax_bwd,
        (struct vector_rows){.a = y, .b = dy, .y = dx, .cols = cols, .alpha = scale, .kind = 1},
        rows, dtype);
}

int64_t cross_entropy_fwd_cpu(const struct cross_entropy_fwd *args)
{
    struct cross_entropy_job job = {.fwd = *args};
    vector_run_rows(VECTOR_OP_cross_entropy_fwd, args->dtype, &job, args->rows, args->cols);
    for (int64_t r = 0; r < args->rows; r++) {
        int32_t target = args->targets[r];
        if (target != args->ignore_index && (target < 0 || target >= args->cols)) return r;
    }
    return -1;
}

void cross_entropy_bwd_cpu(const struct cross_entropy_bwd *args)
{
    struct cross_entropy_job job = {.bwd = *args};
    job.stream = vector_streams(args->dlogits, args->rows * args->cols, args->cols, args->dtype,
                                args->dlogits == args->logits);
    vector_run_rows(VECTOR_OP_cross_entropy_bwd, args->dtype, &job, args->rows, args->cols);
}
