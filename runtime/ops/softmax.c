/* Softmax and log-softmax over the last dimension; both gradients read the output. */
#include "runtime/ops/ops_impl.h"

static bool softmax_infer(struct graph *graph, struct node *node)
{
    INFER_CHECK(node->inputs[0]->shape.rank >= 1, "%s: needs at least one dimension",
                node->op->name);
    return infer_elementwise(graph, node);
}

static void softmax_cost(const struct node *node, struct op_cost *cost)
{
    cost->flops = 5.0 * (double)shape_count(&node->outputs[0].shape);
}

#define SOFTMAX(name_, forward, backward)                                                          \
    static enum status name_##_run(struct kernel *kernel, const struct run_context *run)           \
    {                                                                                              \
        (void)run;                                                                                 \
        const struct shape *x = &kernel->node->inputs[0]->shape;                                   \
        forward(kernel->in[0], kernel->out[0], shape_rows(x), shape_columns(x), 1.0f,              \
                kernel_dtype(kernel));                                                             \
        return STATUS_OK;                                                                          \
    }                                                                                              \
    static enum status name_##_grad_run(struct kernel *kernel, const struct run_context *run)      \
    {                                                                                              \
        (void)run;                                                                                 \
        const struct shape *x = &kernel->node->inputs[0]->shape;                                   \
        backward(kernel->in[0], kernel->in[1], kernel->out[0], shape_rows(x), shape_columns(x),    \
                 1.0f, kernel_dtype(kernel));                                                      \
        return STATUS_OK;                                                                          \
    }                                                                                              \
    static void name_##_gradient(struct graph *g, const struct node *node,                         \
                                 struct tensor *const *d_outputs, struct tensor **d_inputs)        \
    {                                                                                              \
        d_inputs[0] = op_binary(g, &op_row_##name_##_grad, tensor_of_output(node), d_outputs[0]);  \
    }                                                                                              \
    const struct op op_row_##name_ = {                                                             \
        .name = #name_,                                                                            \
        .min_inputs = 1,                                                                           \
        .max_inputs = 1,                                                                           \
        .flags = OP_INPLACE_0,                                                                     \
        .infer = softmax_infer,                                                                    \
        .gradient = name_##_gradient,                                                              \
        .cost = softmax_cost,                                                                      \
        .cpu_run = name_##_run,                                                                    \
    };                                                                                             \
    const struct op op_row_##name_##_grad = {                                                      \
        .name = #name_ "_grad",                                                                    \
        .min_inputs = 2,                                                                           \
        .max_inputs = 2,                                                                           \
        .flags = OP_CONSTANT | OP_INPLACE_1,                                                       \
        .infer = softmax_infer,                                                                    \
        .cost = softmax_cost,                                                                      \
        .cpu_run = name_##_grad_run,                                                               \
    };                                                                                             \
    struct tensor *op_##name_(struct graph *g, struct tensor *x)                                   \
    {                                                                                              \
        return op_unary(g, &op_row_##name_, x);                                                    \
    }

SOFTMAX(softmax, softmax_fwd_cpu, softmax_bwd_cpu)
SOFTMAX(log_softmax, log_softmax_fwd_cpu, log_softmax_bwd_cpu)
