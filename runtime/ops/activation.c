/*
 * Elementwise functions of one input.
 *
 * Gradients read the input (gelu, quick_gelu, clamp) or the output (tanh, relu, sigmoid), whichever
 * the backward pass has anyway. GELU (Hendrycks, Gimpel, 2016) is the exact erf form.
 */
#include <math.h>

#include "runtime/base/bf16.h"
#include "runtime/ops/attrs.h"
#include "runtime/ops/ops_impl.h"

static void activation_cost(const struct node *node, struct op_cost *cost)
{
    cost->flops = (double)shape_count(&node->outputs[0].shape);
}

#define ACTIVATION(name_, KIND, FROM_OUTPUT, FLAGS)                                                \
    static enum status name_##_run(struct kernel *kernel, const struct run_context *run)           \
    {                                                                                              \
        (void)run;                                                                                 \
        activation_fwd_cpu(KIND, kernel->in[0], kernel->out[0], node_count(kernel),                \
                           kernel_dtype(kernel));                                                  \
        return STATUS_OK;                                                                          \
    }                                                                                              \
    static void name_##_gradient(struct graph *g, const struct node *node,                         \
                                 struct tensor *const *d_outputs, struct tensor **d_inputs)        \
    {                                                                                              \
        struct tensor *from = (FROM_OUTPUT) ? tensor_of_output(node) : node->inputs[0];            \
        d_inputs[0] = op_binary(g, &op_row_##name_##_grad, from, d_outputs[0]);                    \
    }                                                                                              \
    static enum status name_##_grad_run(struct kernel *kernel, const struct run_context *run)      \
    {                                                                                              \
        (void)run;                                                                                 \
        if (FROM_OUTPUT) {                                                                         \
            activation_bwd_output_cpu(KIND, kernel->in[0], kernel->in[1], kernel->out[0],          \
                                      node_count(kernel), kernel_dtype(kernel));                   \
        } else {                                                                                   \
            activation_bwd_cpu(KIND, kernel->in[0], kernel->in[1], kernel->out[0],                 \
                               node_count(kernel), kernel_dtype(kernel));                          \
        }                                                                                          \
        return STATUS_OK;                                                                          \
    }                                                                                              \
    const struct op op_row_##name_ = {                                                             \
        .name = #name_,                                                                            \
        .min_inputs = 1,                                                                           \
        .max_inputs = 1,                                                                           \
        .flags = OP_INPLACE_0 | (FLAGS),                                                           \
        .infer = infer_same,                                                                       \
        .gradient = name_##_gradient,                                                              \
        .cost = activation_cost,                                                                   \
        .cpu_run = name_##_run,                                                                    \
    };                                                                                             \
    const struct op op_row_##name_##_grad = {                                                      \
        .name = #name_ "_grad",                                                                    \
        .min_inputs = 2,                                                                           \
        .max_inputs = 2,                                                                           \
        .flags = OP_CONSTANT | OP_INPLACE_0 | OP_INPLACE_1,                                        \
        .infer = infer_elementwise,                                                                \
        .cost = activation_cost,                                                                   \
        .cpu_run = name_##_grad_run,                                                               \
    };                                                                                             \
    struct tensor *op_##name_(struct graph *g, struct tensor *x)                                   \
    {                                                                                              \
        return op_unary(g, &op_row_##name_, x);                                                    \
    }

ACTIVATION(gelu, ACTIVATION_GELU, false, OP_CHEAP)
ACTIVATION(quick_gelu, ACTIVATION_GELU_QUICK, false, OP_CHEAP)
ACTIVATION(tanh, ACTIVATION_TANH, true, 0)
ACTIVATION(relu, ACTIVATION_RELU, true, 0)
ACTIVATION(sigmoid, ACTIVATION_SIGMOID, true, 0)

/* ---- functions for a few numbers: temperatures, scales ---- */

static float as_float(const void *data, enum vector_dtype dtype, int64_t i)
{
    return dtype == VECTOR_F32 ? ((const float *)data)[i] : bf16_to_f32(((const bf16 *)data)[i]);
}

static void put_float(void *data, enum vector_dtype dtype, int64_t i, float value)
{
    if (dtype == VECTOR_F32) {
        ((float *)data)[i] = value;
    } else {
        ((bf16 *)data)[i] = bf16_from_f32(value);
    }
}

static float reciprocal(float x)
{
    return 1.0f / x;
}

static void map(struct kernel *kernel, float (*function)(float))
{
    enum vector_dtype dtype = kernel_dtype(kernel);
    int64_t count = node_count(kernel);
#pragma omp parallel for schedule(static) if (count > 4096)
    for (int64_t i = 0; i < count; i++) {
        put_float(kernel->out[0], dtype, i, function(as_float(kernel->in[0], dtype, i)));
    }
}

#define FUNCTION(name_, function)                                                                  \
    static enum status name_##_run(struct kernel *kernel, const struct run_context *run)           \
    {                                                                                              \
        (void)run;                                                                                 \
        map(kernel, function);                                                                     \
        return STATUS_OK;                                                                          \
    }                                                                                              \
    const struct op op_row_##name_ = {                                                             \
        .name = #name_,                                                                            \
        .min_inputs = 1,                                                                           \
        .max_inputs = 1,                                                                           \
        .flags = OP_INPLACE_0,                                                                     \
        .infer = infer_same,                                                                       \
        .gradient = name_##_gradient,                                                              \
        .cost = activation_cost,                                                                   \
        .cpu_run = name_##_run,                                                                    \
    };                                                                                             \
    struct tensor *op_##name_(struct graph *g, struct tensor *x)                                   \
    {                                                                                              \
        return op_unary(g, &op_row_##name_, x);                                                    \
    }

static void exp_gradient(struct graph *g, const struct node *node, struct tensor *const *d_outputs,
                         struct tensor **d_inputs)
{
    d_inputs[0] = op_mul(g, d_outputs[0], tensor_of_output(node));
}

static void log_gradient(struct graph *g, const struct node *node, struct tensor *const *d_outputs,
                         struct tensor **d_inputs)
{
    d_inputs[0] = op_mul(g, d_outputs[0], op_reciprocal(g, node->inputs[0]));
}

static void reciprocal_gradient(struct graph *g, const struct node *node,
                                struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    struct tensor *y = tensor_of_output(node);
    d_inputs[0] = op_scale(g, op_mul(g, d_outputs[0], op_mul(g, y, y)), -1.0f);
}

FUNCTION(exp, expf)
FUNCTION(log, logf)
FUNCTION(reciprocal, reciprocal)

/* ---- clamp ---- */

static bool clamp_infer(struct graph *graph, struct node *node)
{
    const struct clamp_attrs *attrs = NODE_ATTRS(node, struct clamp_attrs);
    INFER_CHECK(attrs->low <= attrs->high, "clamp: the range [%g, %g] is empty", attrs->low,
                attrs->high);
    return infer_elementwise(graph, node);
}

static void clamp_gradient(struct graph *g, const struct node *node,
                           struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    struct tensor *inputs[] = {node->inputs[0], d_outputs[0]};
    d_inputs[0] =
        graph_node_add(g, &op_row_clamp_grad, inputs, 2, node->attrs.bytes, NODE_ATTRS_SIZE);
}

static enum status clamp_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct clamp_attrs *attrs = NODE_ATTRS(kernel->node, struct clamp_attrs);
    clamp_fwd_cpu(kernel->in[0], attrs->low, attrs->high, kernel->out[0], node_count(kernel),
                  kernel_dtype(kernel));
    return STATUS_OK;
}

static enum status clamp_grad_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct clamp_attrs *attrs = NODE_ATTRS(kernel->node, struct clamp_attrs);
    clamp_bwd_cpu(kernel->in[0], attrs->low, attrs->high, kernel->in[1], kernel->out[0],
                  node_count(kernel), kernel_dtype(kernel));
    return STATUS_OK;
}

const struct op op_row_clamp = {
    .name = "clamp",
    .min_inputs = 1,
    .max_inputs = 1,
    .flags = OP_INPLACE_0,
    .infer = clamp_infer,
    .gradient = clamp_gradient,
    .cost = activation_cost,
    .cpu_run = clamp_run,
};

const struct op op_row_clamp_grad = {
    .name = "clamp_grad",
    .min_inputs = 2,
    .max_inputs = 2,
    .flags = OP_CONSTANT | OP_INPLACE_0 | OP_INPLACE_1,
    .infer = clamp_infer,
    .cost = activation_cost,
    .cpu_run = clamp_grad_run,
};

struct tensor *op_clamp(struct graph *g, struct tensor *x, float low, float high)
{
    struct clamp_attrs attrs = {low, high};
    return graph_node_add(g, &op_row_clamp, &x, 1, &attrs, sizeof attrs);
}
