/*
 * Collectives as nodes. Every rank records the same graph, so every rank runs them in the same
 * order.
 *
 * Gather and reduce-scatter are each other's gradients: with y = all_gather(x), every rank's loss
 * reads every row, so the gradient of my rows is the sum over ranks of what they computed for them.
 */
#include "runtime/comm/comm.h"
#include "runtime/ops/ops_impl.h"

static enum comm_dtype comm_type(enum dtype dtype)
{
    static const enum comm_dtype types[DTYPE_COUNT] = {[DTYPE_F32] = COMM_F32,
                                                       [DTYPE_BF16] = COMM_BF16,
                                                       [DTYPE_I32] = COMM_I32,
                                                       [DTYPE_U8] = COMM_U8};
    return types[dtype];
}

static const char *label(const struct kernel *kernel)
{
    return *kernel->node->path ? kernel->node->path : kernel->node->op->name;
}

/* ---- all-gather ---- */

static bool all_gather_infer(struct graph *graph, struct node *node)
{
    const struct tensor *x = node->inputs[0];
    INFER_CHECK(x->shape.rank >= 1, "all_gather: needs at least one dimension");
    struct shape shape = x->shape;
    shape.dim[0] *= graph_world_size(graph);
    return node_set_output(graph, node, 0, x->dtype, shape);
}

static void all_gather_gradient(struct graph *g, const struct node *node,
                                struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    (void)node;
    d_inputs[0] = op_reduce_scatter(g, d_outputs[0]);
}

static enum status all_gather_run(struct kernel *kernel, const struct run_context *run)
{
    const struct tensor *x = kernel->node->inputs[0];
    if (!run->comm || run->comm->size == 1) {
        memcpy(kernel->out[0], kernel->in[0], tensor_bytes(x));
        return STATUS_OK;
    }
    return comm_allgather(run->comm, label(kernel), kernel->in[0], kernel->out[0],
                          shape_count(&x->shape), NULL, comm_type(x->dtype));
}

const struct op op_row_all_gather = {
    .name = "all_gather",
    .min_inputs = 1,
    .max_inputs = 1,
    .flags = OP_COLLECTIVE,
    .infer = all_gather_infer,
    .gradient = all_gather_gradient,
    .cpu_run = all_gather_run,
};

struct tensor *op_all_gather(struct graph *g, struct tensor *x)
{
    return op_unary(g, &op_row_all_gather, x);
}

/* ---- reduce-scatter ---- */

static bool reduce_scatter_infer(struct graph *graph, struct node *node)
{
    const struct tensor *x = node->inputs[0];
    char text[SHAPE_TEXT];
    INFER_CHECK(dtype_is_float(x->dtype) && x->shape.rank >= 1 &&
                    x->shape.dim[0] % graph_world_size(graph) == 0,
                "reduce_scatter: %s %s does not divide over %lld ranks", dtype_name(x->dtype),
                shape_format(&x->shape, text), (long long)graph_world_size(graph));
    struct shape shape = x->shape;
    shape.dim[0] /= graph_world_size(graph);
    return node_set_output(graph, node, 0, x->dtype, shape);
}

static void reduce_scatter_gradient(struct graph *g, const struct node *node,
                                    struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    (void)node;
    d_inputs[0] = op_all_gather(g, d_outputs[0]);
}

static enum status reduce_scatter_run(struct kernel *kernel, const struct run_context *run)
{
    const struct tensor *y = &kernel->node->outputs[0];
    if (!run->comm || run->comm->size == 1) {
        memcpy(kernel->out[0], kernel->in[0], tensor_bytes(y));
        return STATUS_OK;
    }
    return comm_reduce_scatter(run->comm, label(kernel), kernel->in[0], kernel->out[0],
                               shape_count(&y->shape), NULL, comm_type(y->dtype), COMM_SUM);
}

const struct op op_row_reduce_scatter = {
    .name = "reduce_scatter",
    .min_inputs = 1,
    .max_inputs = 1,
    .flags = OP_COLLECTIVE,
    .infer = reduce_scatter_infer,
    .gradient = reduce_scatter_gradient,
    .cpu_run = reduce_scatter_run,
};

struct tensor *op_reduce_scatter(struct graph *g, struct tensor *x)
{
    return op_unary(g, &op_row_reduce_scatter, x);
}

/* ---- all-reduce ---- */

static void all_reduce_gradient(struct graph *g, const struct node *node,
                                struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    (void)node;
    d_inputs[0] = op_all_reduce(g, d_outputs[0]);
}

static enum status all_reduce_run(struct kernel *kernel, const struct run_context *run)
{
    const struct tensor *x = kernel->node->inputs[0];
    if (kernel->out[0] != kernel->in[0]) memcpy(kernel->out[0], kernel->in[0], tensor_bytes(x));
    if (!run->comm || run->comm->size == 1) return STATUS_OK;
    return comm_allreduce(run->comm, label(kernel), kernel->out[0], shape_count(&x->shape),
                          comm_type(x->dtype), COMM_SUM);
}

const struct op op_row_all_reduce = {
    .name = "all_reduce",
    .min_inputs = 1,
    .max_inputs = 1,
    .flags = OP_COLLECTIVE | OP_INPLACE_0,
    .infer = infer_same,
    .gradient = all_reduce_gradient,
    .cpu_run = all_reduce_run,
};

struct tensor *op_all_reduce(struct graph *g, struct tensor *x)
{
    return op_unary(g, &op_row_all_reduce, x);
}
