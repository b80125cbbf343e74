#include "runtime/ops/vector/activation.h"

#include <assert.h>

#include "runtime/ops/vector/impl.h"

/* y[count] and, for activation_both, z are the outputs. */
static void run(enum vector_op op, struct vector_map args, int64_t count, enum vector_dtype dtype)
{
    assert((unsigned)args.kind < ACTIVATION_COUNT);
    bool in_place = args.y == args.a || args.y == args.b || (args.z && args.z == args.a);
    args.stream = vector_streams(args.y, count, 64, dtype, in_place) && (uintptr_t)args.z % 64 == 0;
    vector_run_elements(op, dtype, &args, count);
}

void activation_fwd_cpu(enum activation kind, const void *x, void *y, int64_t count,
                        enum vector_dtype dtype)
{
    run(VECTOR_OP_activation_fwd, (struct vector_map){.a = x, .y = y, .kind = (int)kind}, count,
        dtype);
}

void activation_bwd_cpu(enum activation kind, const void *x, const void *dy, void *dx,
                        int64_t count, enum vector_dtype dtype)
{
    run(VECTOR_OP_activation_bwd, (struct vector_map){.a = x, .b = dy, .y = dx, .kind = (int)kind},
        count, dtype);
}

void activation_both_cpu(enum activation kind, const void *x, const void *dy, void *y, void *dx,
                         int64_t count, enum vector_dtype dtype)
{
    run(VECTOR_OP_activation_both,
        (struct vector_map){.a = x, .b = dy, .y = dx, .z = y, .kind = (int)kind}, count, dtype);
}

void activation_bwd_output_cpu(enum activation kind, const void *y, const void *dy, void *dx,
                               int64_t count, enum vector_dtype dtype)
{
    assert(kind == ACTIVATION_TANH || kind == ACTIVATION_SIGMOID || kind == ACTIVATION_RELU);
    run(VECTOR_OP_activation_bwd_output,
        (struct vector_map){.a = y, .b = dy, .y = dx, .kind = (int)kind}, count, dtype);
}
