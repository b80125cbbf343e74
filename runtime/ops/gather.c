/*
 * Rows of tables: lookup, embedding, and the scatter-add that is their gradient.
 *
 * A table is [R, ...]: a row is everything after the first dimension. The scatter-add sorts indices
 * by counting, so every row of the result has one owner and sums in the order of the input: no
 * atomics, the same bits for any thread count.
 */
#include "runtime/ops/attrs.h"
#include "runtime/ops/ops_impl.h"

static bool gather_infer(struct graph *graph, struct node *node)
{
    const struct gather_attrs *attrs = NODE_ATTRS(node, struct gather_attrs);
    const struct tensor *table = node->inputs[0];
    const struct tensor *index = node->inputs[1];
    char a[SHAPE_TEXT];
    char b[SHAPE_TEXT];
    INFER_CHECK(dtype_is_float(table->dtype) && index->dtype == DTYPE_I32 &&
                    dtype_is_float((enum dtype)attrs->dtype) &&
                    (table->dtype == DTYPE_F32 || attrs->dtype == table->dtype),
                "gather: table %s, index %s, result %s", dtype_name(table->dtype),
                dtype_name(index->dtype), dtype_name((enum dtype)attrs->dtype));
    int rank = index->shape.rank + table->shape.rank - 1;
    INFER_CHECK(table->shape.rank >= 1 && rank <= SHAPE_MAX_RANK, "gather: table %s, index %s",
                shape_format(&table->shape, a), shape_format(&index->shape, b));
    struct shape shape = index->shape;
    shape.rank = rank;
    for (int i = 1; i < table->shape.rank; i++) {
        shape.dim[index->shape.rank + i - 1] = table->shape.dim[i];
    }
    return node_set_output(graph, node, 0, (enum dtype)attrs->dtype, shape);
}

static struct tensor *scatter(struct graph *g, struct tensor *x, struct tensor *index,
                              const struct shape *shape, int64_t padding, enum dtype dtype)
{
    struct gather_attrs attrs;
    ATTRS_CLEAR(attrs);
    attrs.rows = shape->dim[0];
    attrs.padding = padding;
    attrs.dtype = dtype;
    attrs.rank = shape->rank;
    memcpy(attrs.dim, shape->dim, (size_t)shape->rank * sizeof shape->dim[0]);
    struct tensor *inputs[] = {x, index};
    return graph_node_add(g, &op_row_scatter_add, inputs, 2, &attrs, sizeof attrs);
}

static void gather_gradient(struct graph *g, const struct node *node,
                            struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    const struct gather_attrs *attrs = NODE_ATTRS(node, struct gather_attrs);
    const struct tensor *table = node->inputs[0];
    d_inputs[0] =
        scatter(g, d_outputs[0], node->inputs[1], &table->shape, attrs->padding, table->dtype);
}

static enum status refuse_index(const struct kernel *kernel, int64_t position, int64_t rows)
{
    const int32_t *index = kernel->in[1];
    return status_fail(STATUS_INVALID, "index %d at position %lld is outside the table's 0..%lld",
                       index[position], (long long)position, (long long)rows - 1);
}

static enum status gather_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct tensor *table = kernel->node->inputs[0];
    int64_t rows = table->shape.dim[0];
    int64_t columns = shape_span(&table->shape, 1, table->shape.rank);
    int64_t count = shape_count(&kernel->node->inputs[1]->shape);
    enum vector_dtype dtype = vector_type(kernel->node->outputs[0].dtype);
    int64_t bad = table->dtype == DTYPE_F32
                      ? embedding_fwd_cpu(kernel->in[0], kernel->in[1], kernel->out[0], count, rows,
                                          columns, dtype)
                      : gather_rows_cpu(kernel->in[0], kernel->in[1], kernel->out[0], count, rows,
                                        columns, dtype);
    return bad < 0 ? STATUS_OK : refuse_index(kernel, bad, rows);
}

/* Only the rows that are looked up move. */
static void gather_cost(const struct node *node, struct op_cost *cost)
{
    cost->bytes = 2.0 * (double)tensor_bytes(&node->outputs[0]);
}

const struct op op_row_gather = {
    .name = "gather",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer = gather_infer,
    .gradient = gather_gradient,
    .cost = gather_cost,
    .cpu_run = gather_run,
};

static bool scatter_infer(struct graph *graph, struct node *node)
{
    const struct gather_attrs *attrs = NODE_ATTRS(node, struct gather_attrs);
    const struct tensor *x = node->inputs[0];
    const struct tensor *index = node->inputs[1];
    struct shape shape = {.rank = (int)attrs->rank};
    memcpy(shape.dim, attrs->dim, sizeof shape.dim);
    char a[SHAPE_TEXT];
    char b[SHAPE_TEXT];
    INFER_CHECK(dtype_is_float(x->dtype) && index->dtype == DTYPE_I32 &&
                    (attrs->dtype == DTYPE_F32 || attrs->dtype == x->dtype) &&
                    shape_count(&x->shape) ==
                        shape_count(&index->shape) * shape_span(&shape, 1, shape.rank),
                "scatter_add: %s %s by index %s %s to %s", dtype_name(x->dtype),
                shape_format(&x->shape, a), dtype_name(index->dtype),
                shape_format(&index->shape, b), dtype_name((enum dtype)attrs->dtype));
    return node_set_output(graph, node, 0, (enum dtype)attrs->dtype, shape);
}

static void scatter_gradient(struct graph *g, const struct node *node,
                             struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    const struct gather_attrs *attrs = NODE_ATTRS(node, struct gather_attrs);
    if (attrs->padding >= 0) {
        graph_fail(g, "scatter_add: no gradient with a padding index");
        return;
    }
    const struct tensor *x = node->inputs[0];
    struct tensor *dx = op_gather(g, op_cast(g, d_outputs[0], x->dtype), node->inputs[1]);
    d_inputs[0] = dx ? op_reshape(g, dx, x->shape) : NULL;
}

/* The gradients of a table that is looked up more than once add up where they lie: a whole table of
 * words need not be held beside its sum. */
static bool scatter_fuses(const struct node *node, const struct node *consumer, int input)
{
    (void)input;
    return node->outputs[0].dtype == DTYPE_F32 && node_is_plain_sum(consumer);
}

static enum status scatter_prepare(struct kernel *kernel)
{
    const struct gather_attrs *attrs = NODE_ATTRS(kernel->node, struct gather_attrs);
    kernel->scratch_size =
        scatter_add_rows_scratch(shape_count(&kernel->node->inputs[1]->shape), attrs->rows);
    return STATUS_OK;
}

static enum status scatter_run(struct kernel *kernel, const struct run_context *run)
{
    const struct gather_attrs *attrs = NODE_ATTRS(kernel->node, struct gather_attrs);
    const struct tensor *y = &kernel->node->outputs[0];
    const struct scatter_add_rows args = {
        .dy = kernel->in[0],
        .ids = kernel->in[1],
        .d = kernel->out[0],
        .scratch = kernel->scratch,
        .count = shape_count(&kernel->node->inputs[1]->shape),
        .num_rows = attrs->rows,
        .cols = shape_span(&y->shape, 1, y->shape.rank),
        .padding = attrs->padding,
        .accumulate = kernel->adds || (kernel->accumulates && run->accumulate),
        .dtype = kernel_dtype(kernel),
        .d_dtype = vector_type(y->dtype),
    };
    int64_t bad = scatter_add_rows_cpu(&args);
    return bad < 0 ? STATUS_OK : refuse_index(kernel, bad, attrs->rows);
}

const struct op op_row_scatter_add = {
    .name = "scatter_add",
    .min_inputs = 2,
    .max_inputs = 2,
    .flags = OP_ACCUMULATES | OP_ANY_GRADIENT,
    .infer = scatter_infer,
    .gradient = scatter_gradient,
    .fuses = scatter_fuses,
    .cpu_prepare = scatter_prepare,
    .cpu_run = scatter_run,
};

struct tensor *op_embedding(struct graph *g, struct tensor *table, struct tensor *index,
                            int64_t padding, enum dtype dtype)
{
    if (!table) return NULL;
    struct gather_attrs attrs;
    ATTRS_CLEAR(attrs);
    attrs.rows = table->shape.dim[0];
    attrs.padding = padding;
    attrs.dtype = dtype;
    struct tensor *inputs[] = {table, index};
    return graph_node_add(g, &op_row_gather, inputs, 2, &attrs, sizeof attrs);
}

struct tensor *op_gather(struct graph *g, struct tensor *table, struct tensor *index)
{
    return table ? op_embedding(g, table, index, -1, table->dtype) : NULL;
}

struct tensor *op_scatter_add(struct graph *g, struct tensor *x, struct tensor *index, int64_t rows,
                              int64_t padding, enum dtype dtype)
{
    if (!x) return NULL;
    return scatter(g, x, index, &SHAPE(rows, shape_columns(&x->shape)), padding, dtype);
}
