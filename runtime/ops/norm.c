/*
 * Layer normalisation (Ba, Kiros, Hinton, 2016), alone or of a residual sum, and L2 normalisation.
 *
 * The forward keeps mean and 1/std per row. In the backward, the gradient that arrives at the same
 * value by the residual path can be added in the same pass: the plan merges that sum into the
 * kernel.
 */
#include "runtime/ops/attrs.h"
#include "runtime/ops/ops_impl.h"

enum { NORM_Y, NORM_MEAN, NORM_RSTD, NORM_SUM };

static struct shape leading_shape(const struct shape *shape)
{
    struct shape rows = *shape;
    rows.rank = shape->rank > 0 ? shape->rank - 1 : 0;
    rows.dim[rows.rank] = 0;
    return rows;
}

/* Inputs: x, gain, bias, or x, residual, gain, bias. */
static bool layer_norm_infer(struct graph *graph, struct node *node)
{
    const struct norm_attrs *attrs = NODE_ATTRS(node, struct norm_attrs);
    const struct tensor *x = node->inputs[0];
    int64_t columns = shape_columns(&x->shape);
    int at = attrs->has_residual ? 2 : 1;
    struct node pair = *node;
    pair.num_inputs = at;
    if (!infer_elementwise(graph, &pair)) return false;
    INFER_CHECK(attrs->eps >= 0, "layer_norm: eps must not be negative");
    if (!check_vector(graph, node, node->inputs[at], "the gain", columns) ||
        !check_vector(graph, node, node->inputs[at + 1], "the bias", columns) ||
        !infer_same(graph, node)) {
        return false;
    }
    struct shape rows = leading_shape(&x->shape);
    return node_set_output(graph, node, NORM_MEAN, DTYPE_F32, rows) &&
           node_set_output(graph, node, NORM_RSTD, DTYPE_F32, rows) &&
           (!attrs->has_residual || node_set_output(graph, node, NORM_SUM, x->dtype, x->shape));
}

static void layer_norm_gradient(struct graph *g, const struct node *node,
                                struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    const struct norm_attrs *attrs = NODE_ATTRS(node, struct norm_attrs);
    int at = attrs->has_residual ? 2 : 1;
    struct tensor *y = tensor_of_output(node);
    struct tensor *dx = NULL;
    if (d_outputs[NORM_Y]) {
        struct tensor *x = attrs->has_residual ? tensor_sibling(y, NORM_SUM) : node->inputs[0];
        struct tensor *inputs[] = {d_outputs[NORM_Y], x, tensor_sibling(y, NORM_MEAN),
                                   tensor_sibling(y, NORM_RSTD), node->inputs[at]};
        dx = graph_node_add(g, &op_row_layer_norm_grad, inputs, 5, NULL, 0);
        d_inputs[at] = tensor_sibling(dx, 1);
        d_inputs[at + 1] = tensor_sibling(dx, 2);
    }
    if (attrs->has_residual && d_outputs[NORM_SUM]) {
        dx = dx ? op_add(g, dx, d_outputs[NORM_SUM]) : d_outputs[NORM_SUM];
    }
    d_inputs[0] = dx;
    if (attrs->has_residual) d_inputs[1] = dx;
}

static enum status layer_norm_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct norm_attrs *attrs = NODE_ATTRS(kernel->node, struct norm_attrs);
    const struct shape *x = &kernel->node->inputs[0]->shape;
    int at = attrs->has_residual ? 2 : 1;
    const struct layernorm_fwd args = {
        .x = kernel->in[0],
        .residual = attrs->has_residual ? kernel->in[1] : NULL,
        .gamma = kernel->in[at],
        .beta = kernel->in[at + 1],
        .sum = attrs->has_residual ? kernel->out[NORM_SUM] : NULL,
        .y = kernel->out[NORM_Y],
        .mean = kernel->out[NORM_MEAN],
        .rstd = kernel->out[NORM_RSTD],
        .rows = shape_rows(x),
        .cols = shape_columns(x),
        .eps = attrs->eps,
        .dtype = kernel_dtype(kernel),
    };
    layernorm_fwd_cpu(&args);
    return STATUS_OK;
}

static void norm_cost(const struct node *node, struct op_cost *cost)
{
    cost->flops = 8.0 * (double)shape_count(&node->outputs[0].shape);
}

const struct op op_row_layer_norm = {
    .name = "layer_norm",
    .min_inputs = 3,
    .max_inputs = 4,
    .flags = OP_CHEAP,
    .infer = layer_norm_infer,
    .gradient = layer_norm_gradient,
    .cost = norm_cost,
    .cpu_run = layer_norm_run,
};

struct tensor *op_layer_norm(struct graph *g, struct tensor *x, struct tensor *gain,
                             struct tensor *bias, float eps)
{
    struct norm_attrs attrs = {.eps = eps};
    struct tensor *inputs[] = {x, gain, bias};
    return graph_node_add(g, &op_row_layer_norm, inputs, 3, &attrs, sizeof attrs);
}

struct tensor *op_add_layer_norm(struct graph *g, struct tensor *a, struct tensor *b,
                                 struct tensor *gain, struct tensor *bias, float eps,
                                 struct tensor **sum)
{
    struct norm_attrs attrs = {.has_residual = 1, .eps = eps};
    struct tensor *inputs[] = {a, b, gain, bias};
    struct tensor *y = graph_node_add(g, &op_row_layer_norm, inputs, 4, &attrs, sizeof attrs);
    if (sum) *sum = tensor_sibling(y, NORM_SUM);
    return y;
}

/* dy, x, mean, rstd, gain -> dx, dgain, dbias. */
static bool layer_norm_grad_infer(struct graph *graph, struct node *node)
{
    const struct tensor *gain = node->inputs[4];
    struct node pair = *node;
    pair.num_inputs = 2;
    return infer_elementwise(graph, &pair) && infer_same(graph, node) &&
           node_set_output(graph, node, 1, DTYPE_F32, gain->shape) &&
           node_set_output(graph, node, 2, DTYPE_F32, gain->shape);
}

static bool layer_norm_grad_fuses(const struct node *node, const struct node *consumer, int input)
{
    (void)node;
    (void)input;
    return node_is_plain_sum(consumer);
}

static enum status layer_norm_grad_prepare(struct kernel *kernel)
{
    const struct shape *x = &kernel->node->inputs[0]->shape;
    kernel->scratch_size = layernorm_bwd_scratch(shape_rows(x), shape_columns(x));
    return STATUS_OK;
}

static enum status layer_norm_grad_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct shape *x = &kernel->node->inputs[0]->shape;
    const struct layernorm_bwd args = {
        .dy = kernel->in[0],
        .x = kernel->in[1],
        .mean = kernel->in[2],
        .rstd = kernel->in[3],
        .gamma = kernel->in[4],
        .dresidual = kernel->adds ? kernel->out[0] : NULL,
        .dx = kernel->out[0],
        .dgamma = kernel->out[1],
        .dbeta = kernel->out[2],
        .scratch = kernel->scratch,
        .rows = shape_rows(x),
        .cols = shape_columns(x),
        .dtype = kernel_dtype(kernel),
    };
    layernorm_bwd_cpu(&args);
    return STATUS_OK;
}

const struct op op_row_layer_norm_grad = {
    .name = "layer_norm_grad",
    .min_inputs = 5,
    .max_inputs = 5,
    .flags = OP_CONSTANT | OP_INPLACE_0,
    .infer = layer_norm_grad_infer,
    .cost = norm_cost,
    .fuses = layer_norm_grad_fuses,
    .cpu_prepare = layer_norm_grad_prepare,
    .cpu_run = layer_norm_grad_run,
};

/* ---- L2 ---- */

static bool l2_infer(struct graph *graph, struct node *node)
{
    const struct tensor *x = node->inputs[0];
    INFER_CHECK(x->shape.rank >= 1, "l2_normalize: needs at least one dimension");
    INFER_CHECK(NODE_ATTRS(node, struct norm_attrs)->eps >= 0,
                "l2_normalize: eps must not be negative");
    return infer_same(graph, node) &&
           node_set_output(graph, node, 1, DTYPE_F32, leading_shape(&x->shape));
}

static void l2_gradient(struct graph *g, const struct node *node, struct tensor *const *d_outputs,
                        struct tensor **d_inputs)
{
    struct tensor *y = tensor_of_output(node);
    if (!d_outputs[0]) return;
    struct tensor *inputs[] = {d_outputs[0], y, tensor_sibling(y, 1)};
    d_inputs[0] =
        graph_node_add(g, &op_row_l2_normalize_grad, inputs, 3, node->attrs.bytes, NODE_ATTRS_SIZE);
}

static enum status l2_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct shape *x = &kernel->node->inputs[0]->shape;
    l2norm_fwd_cpu(kernel->in[0], kernel->out[0], kernel->out[1], shape_rows(x), shape_columns(x),
                   NODE_ATTRS(kernel->node, struct norm_attrs)->eps, kernel_dtype(kernel));
    return STATUS_OK;
}

const struct op op_row_l2_normalize = {
    .name = "l2_normalize",
    .min_inputs = 1,
    .max_inputs = 1,
    .flags = OP_INPLACE_0,
    .infer = l2_infer,
    .gradient = l2_gradient,
    .cost = norm_cost,
    .cpu_run = l2_run,
};

static enum status l2_grad_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct shape *x = &kernel->node->inputs[0]->shape;
    l2norm_bwd_cpu(kernel->in[1], kernel->in[2], kernel->in[0], kernel->out[0], shape_rows(x),
                   shape_columns(x), NODE_ATTRS(kernel->node, struct norm_attrs)->eps,
                   kernel_dtype(kernel));
    return STATUS_OK;
}

const struct op op_row_l2_normalize_grad = {
    .name = "l2_normalize_grad",
    .min_inputs = 3,
    .max_inputs = 3,
    .flags = OP_CONSTANT | OP_INPLACE_0,
    .infer = infer_same,
    .cost = norm_cost,
    .cpu_run = l2_grad_run,
};

struct tensor *op_l2_normalize(struct graph *g, struct tensor *x, float eps)
{
    struct norm_attrs attrs = {.eps = eps};
    return graph_node_add(g, &op_row_l2_normalize, &x, 1, &attrs, sizeof attrs);
}
