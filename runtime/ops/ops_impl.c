#include "runtime/ops/ops_impl.h"

bool infer_same(struct graph *graph, struct node *node)
{
    const struct tensor *x = node->inputs[0];
    INFER_CHECK(dtype_is_float(x->dtype), "%s: needs f32 or bf16, not %s", node->op->name,
                dtype_name(x->dtype));
    return node_set_output(graph, node, 0, x->dtype, x->shape);
}

bool infer_elementwise(struct graph *graph, struct node *node)
{
    const struct tensor *x = node->inputs[0];
    char a[SHAPE_TEXT];
    char b[SHAPE_TEXT];
    for (int i = 1; i < node->num_inputs; i++) {
        const struct tensor *y = node->inputs[i];
        INFER_CHECK(x->dtype == y->dtype && shape_equal(&x->shape, &y->shape),
                    "%s: %s %s and %s %s differ", node->op->name, dtype_name(x->dtype),
                    shape_format(&x->shape, a), dtype_name(y->dtype), shape_format(&y->shape, b));
    }
    return infer_same(graph, node);
}

bool check_vector(struct graph *graph, const struct node *node, const struct tensor *tensor,
                  const char *what, int64_t count)
{
    char text[SHAPE_TEXT];
    INFER_CHECK(tensor->dtype == DTYPE_F32 && shape_count(&tensor->shape) == count,
                "%s: %s must be f32 of %lld elements, not %s %s", node->op->name, what,
                (long long)count, dtype_name(tensor->dtype), shape_format(&tensor->shape, text));
    return true;
}

int64_t shape_columns(const struct shape *shape)
{
    return shape->rank ? shape->dim[shape->rank - 1] : 1;
}

int64_t shape_rows(const struct shape *shape)
{
    return shape_span(shape, 0, shape->rank - 1);
}

int64_t node_count(const struct kernel *kernel)
{
    return shape_count(&kernel->node->inputs[0]->shape);
}

enum vector_dtype vector_type(enum dtype dtype)
{
    return dtype == DTYPE_BF16 ? VECTOR_BF16 : VECTOR_F32;
}

enum vector_dtype kernel_dtype(const struct kernel *kernel)
{
    return vector_type(kernel->node->inputs[0]->dtype);
}

struct tensor *op_unary(struct graph *g, const struct op *op, struct tensor *x)
{
    return graph_node_add(g, op, &x, 1, NULL, 0);
}

struct tensor *op_binary(struct graph *g, const struct op *op, struct tensor *a, struct tensor *b)
{
    struct tensor *inputs[] = {a, b};
    return graph_node_add(g, op, inputs, 2, NULL, 0);
}
