/* Constants, casts and elementwise arithmetic. */
#include "runtime/base/bf16.h"
#include "runtime/ops/attrs.h"
#include "runtime/ops/ops_impl.h"

/* ---- fill ---- */

static bool fill_infer(struct graph *graph, struct node *node)
{
    const struct fill_attrs *attrs = NODE_ATTRS(node, struct fill_attrs);
    struct shape shape = {.rank = (int)attrs->rank};
    memcpy(shape.dim, attrs->dim, sizeof shape.dim);
    INFER_CHECK(attrs->dtype != DTYPE_U8, "fill: only f32, bf16 and i32");
    return node_set_output(graph, node, 0, (enum dtype)attrs->dtype, shape);
}

static enum status fill_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct tensor *y = &kernel->node->outputs[0];
    if (y->dtype == DTYPE_I32) {
        int32_t *values = kernel->out[0];
        int32_t value = (int32_t)NODE_ATTRS(kernel->node, struct fill_attrs)->value;
        for (int64_t i = 0; i < shape_count(&y->shape); i++) {
            values[i] = value;
        }
        return STATUS_OK;
    }
    fill_cpu((float)NODE_ATTRS(kernel->node, struct fill_attrs)->value, kernel->out[0],
             shape_count(&y->shape), vector_type(y->dtype));
    return STATUS_OK;
}

const struct op op_row_fill = {
    .name = "fill",
    .flags = OP_CONSTANT,
    .infer = fill_infer,
    .cpu_run = fill_run,
};

struct tensor *op_fill(struct graph *g, enum dtype dtype, struct shape shape, float value)
{
    struct fill_attrs attrs;
    ATTRS_CLEAR(attrs);
    attrs.dtype = dtype;
    attrs.rank = shape.rank;
    memcpy(attrs.dim, shape.dim, (size_t)shape.rank * sizeof shape.dim[0]);
    attrs.value = value;
    return graph_node_add(g, &op_row_fill, NULL, 0, &attrs, sizeof attrs);
}

/* ---- cast ---- */

static bool cast_infer(struct graph *graph, struct node *node)
{
    const struct tensor *x = node->inputs[0];
    enum dtype dtype = (enum dtype)NODE_ATTRS(node, struct cast_attrs)->dtype;
    INFER_CHECK(dtype_is_float(x->dtype) && dtype_is_float(dtype), "cast: %s to %s",
                dtype_name(x->dtype), dtype_name(dtype));
    return node_set_output(graph, node, 0, dtype, x->shape);
}

static void cast_gradient(struct graph *g, const struct node *node, struct tensor *const *d_outputs,
                          struct tensor **d_inputs)
{
    d_inputs[0] = op_cast(g, d_outputs[0], node->inputs[0]->dtype);
}

static enum status cast_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    cast_cpu(kernel->in[0], kernel_dtype(kernel), kernel->out[0],
             vector_type(kernel->node->outputs[0].dtype), node_count(kernel));
    return STATUS_OK;
}

const struct op op_row_cast = {
    .name = "cast",
    .min_inputs = 1,
    .max_inputs = 1,
    .flags = OP_ANY_GRADIENT,
    .infer = cast_infer,
    .gradient = cast_gradient,
    .cpu_run = cast_run,
};

struct tensor *op_cast(struct graph *g, struct tensor *x, enum dtype dtype)
{
    if (!x || x->dtype == dtype) return x;
    struct cast_attrs attrs = {dtype};
    return graph_node_add(g, &op_row_cast, &x, 1, &attrs, sizeof attrs);
}

/* ---- stop gradient: a view that is not differentiable ---- */

const struct op op_row_stop_gradient = {
    .name = "stop_gradient",
    .min_inputs = 1,
    .max_inputs = 1,
    .flags = OP_VIEW | OP_CONSTANT,
    .infer = infer_same,
};

struct tensor *op_stop_gradient(struct graph *g, struct tensor *x)
{
    return x && x->differentiable ? op_unary(g, &op_row_stop_gradient, x) : x;
}

/* ---- alpha * a + beta * b ---- */

bool node_is_plain_sum(const struct node *node)
{
    if (node->op != &op_row_combine) return false;
    const struct combine_attrs *attrs = NODE_ATTRS(node, struct combine_attrs);
    return attrs->alpha == 1.0f && attrs->beta == 1.0f;
}

static void combine_gradient(struct graph *g, const struct node *node,
                             struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    const struct combine_attrs *attrs = NODE_ATTRS(node, struct combine_attrs);
    d_inputs[0] = op_scale(g, d_outputs[0], attrs->alpha);
    d_inputs[1] = op_scale(g, d_outputs[0], attrs->beta);
}

static enum status combine_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct combine_attrs *attrs = NODE_ATTRS(kernel->node, struct combine_attrs);
    enum vector_dtype dtype = kernel_dtype(kernel);
    int64_t count = node_count(kernel);
    float alpha = attrs->alpha;
    float beta = attrs->beta;
    if (alpha == 1.0f && beta == 1.0f) {
        add_cpu(kernel->in[0], kernel->in[1], kernel->out[0], count, dtype);
    } else if (alpha == 1.0f) {
        gated_add_fwd_cpu(kernel->in[0], kernel->in[1], &beta, kernel->out[0], count, dtype);
    } else if (beta == 1.0f) {
        gated_add_fwd_cpu(kernel->in[1], kernel->in[0], &alpha, kernel->out[0], count, dtype);
    } else if (dtype == VECTOR_F32) {
        const float *a = kernel->in[0];
        const float *b = kernel->in[1];
        float *y = kernel->out[0];
#pragma omp parallel for schedule(static) if (count > 32768)
        for (int64_t i = 0; i < count; i++) {
            y[i] = alpha * a[i] + beta * b[i];
        }
    } else {
        const bf16 *a = kernel->in[0];
        const bf16 *b = kernel->in[1];
        bf16 *y = kernel->out[0];
#pragma omp parallel for schedule(static) if (count > 32768)
        for (int64_t i = 0; i < count; i++) {
            y[i] = bf16_from_f32(alpha * bf16_to_f32(a[i]) + beta * bf16_to_f32(b[i]));
        }
    }
    return STATUS_OK;
}

static void combine_cost(const struct node *node, struct op_cost *cost)
{
    cost->flops = (double)shape_count(&node->outputs[0].shape);
}

const struct op op_row_combine = {
    .name = "combine",
    .min_inputs = 2,
    .max_inputs = 2,
    .flags = OP_INPLACE_0 | OP_INPLACE_1,
    .infer = infer_elementwise,
    .gradient = combine_gradient,
    .cost = combine_cost,
    .cpu_run = combine_run,
};

struct tensor *op_combine(struct graph *g, struct tensor *a, float alpha, struct tensor *b,
                          float beta)
{
    struct combine_attrs attrs = {alpha, beta};
    struct tensor *inputs[] = {a, b};
    return graph_node_add(g, &op_row_combine, inputs, 2, &attrs, sizeof attrs);
}

struct tensor *op_add(struct graph *g, struct tensor *a, struct tensor *b)
{
    return op_combine(g, a, 1.0f, b, 1.0f);
}

/* ---- products ---- */

static void mul_gradient(struct graph *g, const struct node *node, struct tensor *const *d_outputs,
                         struct tensor **d_inputs)
{
    struct tensor *a = node->inputs[0];
    struct tensor *b = node->inputs[1];
    if (a->differentiable) d_inputs[0] = op_mul(g, d_outputs[0], b);
    if (b->differentiable) d_inputs[1] = op_mul(g, d_outputs[0], a);
}

static enum status mul_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    mul_cpu(kernel->in[0], kernel->in[1], kernel->out[0], node_count(kernel), kernel_dtype(kernel));
    return STATUS_OK;
}

const struct op op_row_mul = {
    .name = "mul",
    .min_inputs = 2,
    .max_inputs = 2,
    .flags = OP_INPLACE_0 | OP_INPLACE_1,
    .infer = infer_elementwise,
    .gradient = mul_gradient,
    .cost = combine_cost,
    .cpu_run = mul_run,
};

struct tensor *op_mul(struct graph *g, struct tensor *a, struct tensor *b)
{
    return op_binary(g, &op_row_mul, a, b);
}

static void scale_gradient(struct graph *g, const struct node *node,
                           struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    d_inputs[0] = op_scale(g, d_outputs[0], NODE_ATTRS(node, struct scale_attrs)->factor);
}

static enum status scale_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    scale_cpu(NODE_ATTRS(kernel->node, struct scale_attrs)->factor, kernel->in[0], kernel->out[0],
              node_count(kernel), kernel_dtype(kernel));
    return STATUS_OK;
}

const struct op op_row_scale = {
    .name = "scale",
    .min_inputs = 1,
    .max_inputs = 1,
    .flags = OP_INPLACE_0,
    .infer = infer_same,
    .gradient = scale_gradient,
    .cost = combine_cost,
    .cpu_run = scale_run,
};

struct tensor *op_scale(struct graph *g, struct tensor *x, float factor)
{
    if (factor == 1.0f) return x;
    struct scale_attrs attrs = {factor};
    return graph_node_add(g, &op_row_scale, &x, 1, &attrs, sizeof attrs);
}

/* ---- device scalars ---- */

static bool scale_by_infer(struct graph *graph, struct node *node)
{
    return check_vector(graph, node, node->inputs[1], "the factor", 1) && infer_same(graph, node);
}

static struct tensor *dot_like(struct graph *g, struct tensor *a, struct tensor *b,
                               const struct tensor *like)
{
    return op_reshape(g, op_binary(g, &op_row_dot, a, b), like->shape);
}

static void scale_by_gradient(struct graph *g, const struct node *node,
                              struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    struct tensor *x = node->inputs[0];
    struct tensor *s = node->inputs[1];
    if (x->differentiable) d_inputs[0] = op_scale_by(g, d_outputs[0], s);
    if (s->differentiable) d_inputs[1] = dot_like(g, d_outputs[0], x, s);
}

static enum status scale_by_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    scale_by_cpu(kernel->in[1], kernel->in[0], kernel->out[0], node_count(kernel),
                 kernel_dtype(kernel));
    return STATUS_OK;
}

const struct op op_row_scale_by = {
    .name = "scale_by",
    .min_inputs = 2,
    .max_inputs = 2,
    .flags = OP_INPLACE_0,
    .infer = scale_by_infer,
    .gradient = scale_by_gradient,
    .cost = combine_cost,
    .cpu_run = scale_by_run,
};

struct tensor *op_scale_by(struct graph *g, struct tensor *x, struct tensor *s)
{
    return op_binary(g, &op_row_scale_by, x, s);
}

static bool dot_infer(struct graph *graph, struct node *node)
{
    return infer_elementwise(graph, node) &&
           node_set_output(graph, node, 0, DTYPE_F32, SHAPE_SCALAR);
}

static enum status dot_prepare(struct kernel *kernel)
{
    kernel->scratch_size = reduce_scratch();
    return STATUS_OK;
}

static enum status dot_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    dot_cpu(kernel->in[0], kernel->in[1], kernel->out[0], kernel->scratch, node_count(kernel),
            kernel_dtype(kernel));
    return STATUS_OK;
}

static void dot_cost(const struct node *node, struct op_cost *cost)
{
    cost->flops = 2.0 * (double)shape_count(&node->inputs[0]->shape);
}

/* sum(a * b), the gradient of a device scalar. */
const struct op op_row_dot = {
    .name = "dot",
    .min_inputs = 2,
    .max_inputs = 2,
    .flags = OP_CONSTANT,
    .infer = dot_infer,
    .cost = dot_cost,
    .cpu_prepare = dot_prepare,
    .cpu_run = dot_run,
};

static bool add_gated_infer(struct graph *graph, struct node *node)
{
    struct node pair = *node;
    pair.num_inputs = 2;
    if (!infer_elementwise(graph, &pair)) return false;
    return check_vector(graph, node, node->inputs[2], "the gate", 1) && infer_same(graph, node);
}

static void add_gated_gradient(struct graph *g, const struct node *node,
                               struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    struct tensor *b = node->inputs[1];
    struct tensor *s = node->inputs[2];
    d_inputs[0] = d_outputs[0];
    if (b->differentiable && s->differentiable) {
        struct tensor *inputs[] = {d_outputs[0], b, s};
        d_inputs[1] = graph_node_add(g, &op_row_add_gated_grad, inputs, 3, NULL, 0);
        d_inputs[2] = op_reshape(g, tensor_sibling(d_inputs[1], 1), s->shape);
    } else if (b->differentiable) {
        d_inputs[1] = op_scale_by(g, d_outputs[0], s);
    } else {
        d_inputs[2] = dot_like(g, d_outputs[0], b, s);
    }
}

static enum status add_gated_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    gated_add_fwd_cpu(kernel->in[0], kernel->in[1], kernel->in[2], kernel->out[0],
                      node_count(kernel), kernel_dtype(kernel));
    return STATUS_OK;
}

const struct op op_row_add_gated = {
    .name = "add_gated",
    .min_inputs = 3,
    .max_inputs = 3,
    .flags = OP_INPLACE_0 | OP_INPLACE_1,
    .infer = add_gated_infer,
    .gradient = add_gated_gradient,
    .cost = dot_cost,
    .cpu_run = add_gated_run,
};

struct tensor *op_add_gated(struct graph *g, struct tensor *a, struct tensor *b, struct tensor *s)
{
    struct tensor *inputs[] = {a, b, s};
    return graph_node_add(g, &op_row_add_gated, inputs, 3, NULL, 0);
}

/* dy, b, s -> db = s * dy, ds = sum(dy * b) in one pass. */
static bool add_gated_grad_infer(struct graph *graph, struct node *node)
{
    return add_gated_infer(graph, node) && node_set_output(graph, node, 1, DTYPE_F32, SHAPE_SCALAR);
}

static enum status add_gated_grad_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    gated_add_bwd_cpu(kernel->in[0], kernel->in[1], kernel->in[2], kernel->out[0], kernel->out[1],
                      kernel->scratch, node_count(kernel), kernel_dtype(kernel));
    return STATUS_OK;
}

const struct op op_row_add_gated_grad = {
    .name = "add_gated_grad",
    .min_inputs = 3,
    .max_inputs = 3,
    .flags = OP_CONSTANT,
    .infer = add_gated_grad_infer,
    .cost = dot_cost,
    .cpu_prepare = dot_prepare,
    .cpu_run = add_gated_grad_run,
};

/* ---- row bias ---- */

static bool bias_infer(struct graph *graph, struct node *node)
{
    const struct tensor *x = node->inputs[0];
    return check_vector(graph, node, node->inputs[1], "the bias", shape_columns(&x->shape)) &&
           infer_same(graph, node);
}

static void bias_gradient(struct graph *g, const struct node *node, struct tensor *const *d_outputs,
                          struct tensor **d_inputs)
{
    d_inputs[0] = d_outputs[0];
    if (node->inputs[1]->differentiable) {
        struct tensor *sum = op_sum_f32(g, d_outputs[0], 0, d_outputs[0]->shape.rank - 1);
        d_inputs[1] = op_reshape(g, sum, node->inputs[1]->shape);
    }
}

static enum status bias_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct shape *x = &kernel->node->inputs[0]->shape;
    bias_add_cpu(kernel->in[0], kernel->in[1], kernel->out[0], shape_rows(x), shape_columns(x),
                 kernel_dtype(kernel));
    return STATUS_OK;
}

const struct op op_row_bias = {
    .name = "bias",
    .min_inputs = 2,
    .max_inputs = 2,
    .flags = OP_INPLACE_0,
    .infer = bias_infer,
    .gradient = bias_gradient,
    .cost = combine_cost,
    .cpu_run = bias_run,
};

struct tensor *op_bias(struct graph *g, struct tensor *x, struct tensor *bias)
{
    return op_binary(g, &op_row_bias, x, bias);
}
