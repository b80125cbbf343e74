/*
 * Losses. All results are f32.
 *
 * Cross-entropy keeps the log-sum-exp of each row and nothing else of its size; the gradient makes
 * the softmax again and may overwrite the logits, which matters for a head of 50,265 classes.
 */
#include "runtime/ops/attrs.h"
#include "runtime/ops/ops_impl.h"

/* ---- cross-entropy ---- */

static bool target_check(struct graph *graph, const struct node *node, const struct tensor *target,
                         int64_t rows)
{
    char text[SHAPE_TEXT];
    INFER_CHECK(target->dtype == DTYPE_I32 && shape_count(&target->shape) == rows,
                "%s: targets must be i32 of %lld elements, not %s %s", node->op->name,
                (long long)rows, dtype_name(target->dtype), shape_format(&target->shape, text));
    return true;
}

static bool cross_entropy_infer(struct graph *graph, struct node *node)
{
    const struct tensor *logits = node->inputs[0];
    char text[SHAPE_TEXT];
    INFER_CHECK(dtype_is_float(logits->dtype) && logits->shape.rank == 2,
                "cross_entropy: logits must be float [N,V], not %s %s", dtype_name(logits->dtype),
                shape_format(&logits->shape, text));
    struct shape rows = SHAPE(logits->shape.dim[0]);
    return target_check(graph, node, node->inputs[1], rows.dim[0]) &&
           node_set_output(graph, node, 0, DTYPE_F32, rows) &&
           node_set_output(graph, node, 1, DTYPE_F32, rows) &&
           node_set_output(graph, node, 2, DTYPE_F32, rows);
}

static void cross_entropy_gradient(struct graph *g, const struct node *node,
                                   struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    if (!d_outputs[0]) return;
    struct tensor *inputs[] = {node->inputs[0], node->inputs[1],
                               tensor_sibling(tensor_of_output(node), 1), d_outputs[0]};
    d_inputs[0] = graph_node_add(g, &op_row_cross_entropy_grad, inputs, 4, node->attrs.bytes,
                                 NODE_ATTRS_SIZE);
}

static enum status cross_entropy_prepare(struct kernel *kernel)
{
    kernel->scratch_size = (size_t)kernel->node->inputs[0]->shape.dim[0];
    return STATUS_OK;
}

static enum status cross_entropy_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct shape *x = &kernel->node->inputs[0]->shape;
    uint8_t *correct = kernel->scratch;
    const struct cross_entropy_fwd args = {
        .logits = kernel->in[0],
        .targets = kernel->in[1],
        .loss = kernel->out[0],
        .lse = kernel->out[1],
        .correct = correct,
        .rows = x->dim[0],
        .cols = x->dim[1],
        .ignore_index = (int32_t)NODE_ATTRS(kernel->node, struct target_attrs)->ignore,
        .dtype = kernel_dtype(kernel),
    };
    int64_t bad = cross_entropy_fwd_cpu(&args);
    CHECK(bad < 0, STATUS_INVALID, "target %d of row %lld is outside the %lld classes",
          args.targets[bad], (long long)bad, (long long)x->dim[1]);
    float *flags = kernel->out[2];
    for (int64_t i = 0; i < x->dim[0]; i++) {
        flags[i] = correct[i];
    }
    return STATUS_OK;
}

static void cross_entropy_cost(const struct node *node, struct op_cost *cost)
{
    cost->flops = 4.0 * (double)shape_count(&node->inputs[0]->shape);
}

const struct op op_row_cross_entropy = {
    .name = "cross_entropy",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer = cross_entropy_infer,
    .gradient = cross_entropy_gradient,
    .cost = cross_entropy_cost,
    .cpu_prepare = cross_entropy_prepare,
    .cpu_run = cross_entropy_run,
};

static enum status cross_entropy_grad_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct shape *x = &kernel->node->inputs[0]->shape;
    const struct cross_entropy_bwd args = {
        .logits = kernel->in[0],
        .targets = kernel->in[1],
        .lse = kernel->in[2],
        .dloss = kernel->in[3],
        .dlogits = kernel->out[0],
        .rows = x->dim[0],
        .cols = x->dim[1],
        .ignore_index = (int32_t)NODE_ATTRS(kernel->node, struct target_attrs)->ignore,
        .dtype = kernel_dtype(kernel),
    };
    cross_entropy_bwd_cpu(&args);
    return STATUS_OK;
}

const struct op op_row_cross_entropy_grad = {
    .name = "cross_entropy_grad",
    .min_inputs = 4,
    .max_inputs = 4,
    .flags = OP_CONSTANT | OP_INPLACE_0,
    .infer = infer_same,
    .cost = cross_entropy_cost,
    .cpu_run = cross_entropy_grad_run,
};

struct tensor *op_cross_entropy(struct graph *g, struct tensor *logits, struct tensor *target,
                                int32_t ignore, struct tensor **correct)
{
    struct target_attrs attrs = {ignore};
    struct tensor *inputs[] = {logits, target};
    struct tensor *loss = graph_node_add(g, &op_row_cross_entropy, inputs, 2, &attrs, sizeof attrs);
    if (correct) *correct = tensor_sibling(loss, 2);
    return loss;
}

/* ---- weights of the rows that count ---- */

static bool target_weights_infer(struct graph *graph, struct node *node)
{
    const struct tensor *target = node->inputs[0];
    return target_check(graph, node, target, shape_count(&target->shape)) &&
           node_set_output(graph, node, 0, DTYPE_F32, target->shape);
}

static enum status target_weights_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    int64_t ignore = NODE_ATTRS(kernel->node, struct target_attrs)->ignore;
    int64_t rows = node_count(kernel);
    const int32_t *target = kernel->in[0];
    float *weight = kernel->out[0];
    int64_t valid = 0;
    for (int64_t i = 0; i < rows; i++) {
        valid += target[i] != ignore;
    }
    for (int64_t i = 0; i < rows; i++) {
        weight[i] = target[i] != ignore ? 1.0f / (float)valid : 0.0f;
    }
    return STATUS_OK;
}

const struct op op_row_target_weights = {
    .name = "target_weights",
    .min_inputs = 1,
    .max_inputs = 1,
    .flags = OP_CONSTANT,
    .infer = target_weights_infer,
    .cpu_run = target_weights_run,
};

struct tensor *op_target_weights(struct graph *g, struct tensor *target, int32_t ignore)
{
    struct target_attrs attrs = {ignore};
    return graph_node_add(g, &op_row_target_weights, &target, 1, &attrs, sizeof attrs);
}

/* ---- binary cross-entropy ---- */

static bool bce_infer(struct graph *graph, struct node *node)
{
    const struct tensor *x = node->inputs[0];
    const struct tensor *target = node->inputs[1];
    char a[SHAPE_TEXT];
    char b[SHAPE_TEXT];
    INFER_CHECK(dtype_is_float(x->dtype) && shape_equal(&x->shape, &target->shape) &&
                    target->dtype == DTYPE_F32,
                "bce_with_logits: logits %s %s must be float and targets %s %s f32 of the same "
                "shape",
                dtype_name(x->dtype), shape_format(&x->shape, a), dtype_name(target->dtype),
                shape_format(&target->shape, b));
    return node_set_output(graph, node, 0, DTYPE_F32, x->shape);
}

static void bce_gradient(struct graph *g, const struct node *node, struct tensor *const *d_outputs,
                         struct tensor **d_inputs)
{
    if (node->inputs[1]->differentiable) {
        graph_fail(g, "bce_with_logits: the target has no gradient; stop it with stop_gradient");
    }
    struct tensor *inputs[] = {node->inputs[0], node->inputs[1], d_outputs[0]};
    d_inputs[0] = graph_node_add(g, &op_row_bce_with_logits_grad, inputs, 3, NULL, 0);
}

static enum status bce_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    bce_fwd_cpu(kernel->in[0], kernel->in[1], kernel->out[0], node_count(kernel),
                kernel_dtype(kernel));
    return STATUS_OK;
}

static enum status bce_grad_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    bce_bwd_cpu(kernel->in[0], kernel->in[1], kernel->in[2], kernel->out[0], node_count(kernel),
                kernel_dtype(kernel));
    return STATUS_OK;
}

const struct op op_row_bce_with_logits = {
    .name = "bce_with_logits",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer = bce_infer,
    .gradient = bce_gradient,
    .cost = cross_entropy_cost,
    .cpu_run = bce_run,
};

const struct op op_row_bce_with_logits_grad = {
    .name = "bce_with_logits_grad",
    .min_inputs = 3,
    .max_inputs = 3,
    .flags = OP_CONSTANT | OP_INPLACE_0,
    .infer = infer_same,
    .cost = cross_entropy_cost,
    .cpu_run = bce_grad_run,
};

struct tensor *op_bce_with_logits(struct graph *g, struct tensor *x, struct tensor *target)
{
    return op_binary(g, &op_row_bce_with_logits, x, target);
}

/* ---- mean squared error ---- */

static bool mse_infer(struct graph *graph, struct node *node)
{
    return infer_elementwise(graph, node) &&
           node_set_output(graph, node, 0, DTYPE_F32, SHAPE_SCALAR);
}

static void mse_gradient(struct graph *g, const struct node *node, struct tensor *const *d_outputs,
                         struct tensor **d_inputs)
{
    struct tensor *inputs[] = {node->inputs[0], node->inputs[1], d_outputs[0]};
    d_inputs[0] = graph_node_add(g, &op_row_mse_grad, inputs, 3, NULL, 0);
    d_inputs[1] = tensor_sibling(d_inputs[0], 1);
}

static enum status mse_prepare(struct kernel *kernel)
{
    kernel->scratch_size = reduce_scratch();
    return STATUS_OK;
}

static enum status mse_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    int64_t count = node_count(kernel);
    mse_fwd_cpu(kernel->in[0], kernel->in[1], 1.0f / (float)count, kernel->out[0], kernel->scratch,
                count, kernel_dtype(kernel));
    return STATUS_OK;
}

const struct op op_row_mse = {
    .name = "mse",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer = mse_infer,
    .gradient = mse_gradient,
    .cost = cross_entropy_cost,
    .cpu_prepare = mse_prepare,
    .cpu_run = mse_run,
};

static bool mse_grad_infer(struct graph *graph, struct node *node)
{
    const struct tensor *a = node->inputs[0];
    return infer_same(graph, node) && node_set_output(graph, node, 1, a->dtype, a->shape);
}

static enum status mse_grad_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    int64_t count = node_count(kernel);
    mse_bwd_cpu(kernel->in[0], kernel->in[1], 1.0f / (float)count, kernel->in[2], kernel->out[0],
                kernel->out[1], count, kernel_dtype(kernel));
    return STATUS_OK;
}

const struct op op_row_mse_grad = {
    .name = "mse_grad",
    .min_inputs = 3,
    .max_inputs = 3,
    .flags = OP_CONSTANT,
    .infer = mse_grad_infer,
    .cost = cross_entropy_cost,
    .cpu_run = mse_grad_run,
};

struct tensor *op_mse(struct graph *g, struct tensor *a, struct tensor *b)
{
    return op_binary(g, &op_row_mse, a, b);
}

/* ---- cosine of rows ---- */

static bool cosine_infer(struct graph *graph, struct node *node)
{
    struct shape rows = node->inputs[0]->shape;
    INFER_CHECK(rows.rank >= 1, "cosine: needs at least one dimension");
    INFER_CHECK(NODE_ATTRS(node, struct cosine_attrs)->eps >= 0,
                "cosine: eps must not be negative");
    rows.rank--;
    return infer_elementwise(graph, node) && node_set_output(graph, node, 0, DTYPE_F32, rows) &&
           node_set_output(graph, node, 1, DTYPE_F32, rows) &&
           node_set_output(graph, node, 2, DTYPE_F32, rows);
}

static void cosine_gradient(struct graph *g, const struct node *node,
                            struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    struct tensor *y = tensor_of_output(node);
    if (!d_outputs[0]) return;
    struct tensor *inputs[] = {node->inputs[0],      node->inputs[1],      y,
                               tensor_sibling(y, 1), tensor_sibling(y, 2), d_outputs[0]};
    d_inputs[0] =
        graph_node_add(g, &op_row_cosine_grad, inputs, 6, node->attrs.bytes, NODE_ATTRS_SIZE);
    d_inputs[1] = tensor_sibling(d_inputs[0], 1);
}

static enum status cosine_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct shape *x = &kernel->node->inputs[0]->shape;
    cosine_fwd_cpu(kernel->in[0], kernel->in[1], kernel->out[0], kernel->out[1], kernel->out[2],
                   shape_rows(x), shape_columns(x),
                   NODE_ATTRS(kernel->node, struct cosine_attrs)->eps, kernel_dtype(kernel));
    return STATUS_OK;
}

static enum status cosine_grad_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct shape *x = &kernel->node->inputs[0]->shape;
    cosine_bwd_cpu(kernel->in[0], kernel->in[1], kernel->in[2], kernel->in[3], kernel->in[4],
                   kernel->in[5], kernel->out[0], kernel->out[1], shape_rows(x), shape_columns(x),
                   NODE_ATTRS(kernel->node, struct cosine_attrs)->eps, kernel_dtype(kernel));
    return STATUS_OK;
}

const struct op op_row_cosine = {
    .name = "cosine",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer = cosine_infer,
    .gradient = cosine_gradient,
    .cost = cross_entropy_cost,
    .cpu_run = cosine_run,
};

const struct op op_row_cosine_grad = {
    .name = "cosine_grad",
    .min_inputs = 6,
    .max_inputs = 6,
    .flags = OP_CONSTANT,
    .infer = mse_grad_infer,
    .cost = cross_entropy_cost,
    .cpu_run = cosine_grad_run,
};

struct tensor *op_cosine(struct graph *g, struct tensor *a, struct tensor *b, float eps)
{
    struct cosine_attrs attrs = {eps};
    struct tensor *inputs[] = {a, b};
    return graph_node_add(g, &op_row_cosine, inputs, 2, &attrs, sizeof attrs);
}
