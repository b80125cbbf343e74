/*
 * Sums and means over a range of axes, and the reverse: repeating along them.
 *
 * A range of axes makes x [outer, n, inner]. Broadcasting to a shape is one expansion per group of
 * adjacent axes. Sum and expansion are each other's gradients, so one pair of rows serves sums,
 * means and broadcasts.
 */
#include "runtime/ops/attrs.h"
#include "runtime/ops/ops_impl.h"

static struct shape range_shape(const struct range_attrs *attrs)
{
    struct shape shape = {.rank = (int)attrs->rank};
    memcpy(shape.dim, attrs->dim, sizeof shape.dim);
    return shape;
}

static bool range_infer(struct graph *graph, struct node *node)
{
    const struct range_attrs *attrs = NODE_ATTRS(node, struct range_attrs);
    INFER_CHECK(dtype_is_float(node->inputs[0]->dtype), "%s: needs f32 or bf16, not %s",
                node->op->name, dtype_name(node->inputs[0]->dtype));
    return node_set_output(graph, node, 0, (enum dtype)attrs->dtype, range_shape(attrs));
}

static struct range_attrs range_make(const struct shape *shape, enum dtype dtype, float scale)
{
    struct range_attrs attrs;
    ATTRS_CLEAR(attrs);
    attrs.rank = shape->rank;
    memcpy(attrs.dim, shape->dim, (size_t)shape->rank * sizeof shape->dim[0]);
    attrs.dtype = dtype;
    attrs.scale = scale;
    return attrs;
}

static struct tensor *range_reverse(struct graph *g, const struct node *node,
                                    const struct op *reverse, struct tensor *dy)
{
    const struct range_attrs *forward = NODE_ATTRS(node, struct range_attrs);
    const struct tensor *x = node->inputs[0];
    struct range_attrs attrs = range_make(&x->shape, x->dtype, forward->scale);
    attrs.outer = forward->outer;
    attrs.n = forward->n;
    attrs.inner = forward->inner;
    dy = op_cast(g, dy, x->dtype);
    return graph_node_add(g, reverse, &dy, 1, &attrs, sizeof attrs);
}

static void sum_gradient(struct graph *g, const struct node *node, struct tensor *const *d_outputs,
                         struct tensor **d_inputs)
{
    d_inputs[0] = range_reverse(g, node, &op_row_expand, d_outputs[0]);
}

static void expand_gradient(struct graph *g, const struct node *node,
                            struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    d_inputs[0] = range_reverse(g, node, &op_row_sum, d_outputs[0]);
}

static enum status sum_prepare(struct kernel *kernel)
{
    const struct range_attrs *attrs = NODE_ATTRS(kernel->node, struct range_attrs);
    size_t columns = column_sum_scratch(attrs->n, attrs->inner);
    size_t all = reduce_scratch();
    kernel->scratch_size = columns > all ? columns : all;
    return STATUS_OK;
}

static enum status sum_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct range_attrs *attrs = NODE_ATTRS(kernel->node, struct range_attrs);
    enum vector_dtype dtype = kernel_dtype(kernel);
    bool to_f32 = attrs->dtype == DTYPE_F32 && attrs->outer == 1;
    if (to_f32 && attrs->inner == 1) {
        sum_all_cpu(kernel->in[0], attrs->scale, kernel->out[0], kernel->scratch, attrs->n, dtype);
    } else if (to_f32) {
        column_sum_cpu(kernel->in[0], kernel->out[0], kernel->scratch, attrs->n, attrs->inner,
                       dtype);
        if (attrs->scale != 1.0f) {
            scale_cpu(attrs->scale, kernel->out[0], kernel->out[0], attrs->inner, VECTOR_F32);
        }
    } else {
        sum_middle_cpu(kernel->in[0], attrs->scale, kernel->out[0], attrs->outer, attrs->n,
                       attrs->inner, dtype);
    }
    return STATUS_OK;
}

static enum status expand_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct range_attrs *attrs = NODE_ATTRS(kernel->node, struct range_attrs);
    broadcast_middle_cpu(kernel->in[0], attrs->scale, kernel->out[0], attrs->outer, attrs->n,
                         attrs->inner, kernel_dtype(kernel));
    return STATUS_OK;
}

static void sum_cost(const struct node *node, struct op_cost *cost)
{
    cost->flops = (double)shape_count(&node->inputs[0]->shape);
}

const struct op op_row_sum = {
    .name = "sum",
    .min_inputs = 1,
    .max_inputs = 1,
    .flags = OP_ANY_GRADIENT,
    .infer = range_infer,
    .gradient = sum_gradient,
    .cost = sum_cost,
    .cpu_prepare = sum_prepare,
    .cpu_run = sum_run,
};

const struct op op_row_expand = {
    .name = "expand",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = range_infer,
    .gradient = expand_gradient,
    .cpu_run = expand_run,
};

static struct tensor *sum_add(struct graph *g, struct tensor *x, int begin, int end, bool is_mean,
                              enum dtype dtype)
{
    if (!x) return NULL;
    char text[SHAPE_TEXT];
    if (begin < 0 || begin > end || end > x->shape.rank) {
        return graph_fail(g, "sum: axes [%d, %d) of %s", begin, end, shape_format(&x->shape, text));
    }
    struct shape shape = {.rank = x->shape.rank - (end - begin)};
    for (int i = 0, k = 0; i < x->shape.rank; i++) {
        if (i < begin || i >= end) shape.dim[k++] = x->shape.dim[i];
    }
    int64_t n = shape_span(&x->shape, begin, end);
    if (n == 1) return op_cast(g, op_reshape(g, x, shape), dtype);
    struct range_attrs attrs = range_make(&shape, dtype, is_mean ? 1.0f / (float)n : 1.0f);
    attrs.outer = shape_span(&x->shape, 0, begin);
    attrs.n = n;
    attrs.inner = shape_span(&x->shape, end, x->shape.rank);
    return graph_node_add(g, &op_row_sum, &x, 1, &attrs, sizeof attrs);
}

struct tensor *op_sum(struct graph *g, struct tensor *x, int begin, int end)
{
    return x ? sum_add(g, x, begin, end, false, x->dtype) : NULL;
}

struct tensor *op_mean(struct graph *g, struct tensor *x, int begin, int end)
{
    return x ? sum_add(g, x, begin, end, true, x->dtype) : NULL;
}

struct tensor *op_sum_f32(struct graph *g, struct tensor *x, int begin, int end)
{
    return sum_add(g, x, begin, end, false, DTYPE_F32);
}

struct tensor *op_broadcast(struct graph *g, struct tensor *x, struct shape shape)
{
    if (!x) return NULL;
    char a[SHAPE_TEXT];
    char b[SHAPE_TEXT];
    bool fits = x->shape.rank == shape.rank;
    for (int i = 0; fits && i < shape.rank; i++) {
        fits = x->shape.dim[i] == shape.dim[i] || x->shape.dim[i] == 1;
    }
    if (!fits) {
        return graph_fail(g, "broadcast: %s to %s", shape_format(&x->shape, a),
                          shape_format(&shape, b));
    }
    /* Innermost groups first: the data is smallest while the copies are finest. */
    for (int end = shape.rank; end > 0; end--) {
        if (x->shape.dim[end - 1] == shape.dim[end - 1]) continue;
        int begin = end - 1;
        while (begin > 0 && x->shape.dim[begin - 1] == 1 && shape.dim[begin - 1] > 1) {
            begin--;
        }
        struct shape wider = x->shape;
        for (int i = begin; i < end; i++) {
            wider.dim[i] = shape.dim[i];
        }
        struct range_attrs attrs = range_make(&wider, x->dtype, 1.0f);
        attrs.outer = shape_span(&wider, 0, begin);
        attrs.n = shape_span(&wider, begin, end);
        attrs.inner = shape_span(&wider, end, wider.rank);
        x = graph_node_add(g, &op_row_expand, &x, 1, &attrs, sizeof attrs);
        if (!x) return NULL;
    }
    return x;
}
