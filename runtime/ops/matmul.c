/* Batched matrix products. Both gradients are products again. */
#include "runtime/backend/cpu/matmul.h"
#include "runtime/ops/attrs.h"
#include "runtime/ops/ops_impl.h"

/* Sizes of op(a) [M,K] and op(b) [K,N]. */
struct sizes {
    int64_t batch, m, k, k_b, n;
};

static struct sizes matmul_sizes(const struct node *node)
{
    const struct matmul_attrs *attrs = NODE_ATTRS(node, struct matmul_attrs);
    const struct shape *a = &node->inputs[0]->shape;
    const struct shape *b = &node->inputs[1]->shape;
    int ra = a->rank;
    int rb = b->rank;
    return (struct sizes){
        .batch = shape_span(a, 0, ra - 2),
        .m = a->dim[ra - (attrs->transpose_a ? 1 : 2)],
        .k = a->dim[ra - (attrs->transpose_a ? 2 : 1)],
        .k_b = b->dim[rb - (attrs->transpose_b ? 1 : 2)],
        .n = b->dim[rb - (attrs->transpose_b ? 2 : 1)],
    };
}

static bool matmul_infer(struct graph *graph, struct node *node)
{
    const struct matmul_attrs *attrs = NODE_ATTRS(node, struct matmul_attrs);
    const struct tensor *a = node->inputs[0];
    const struct tensor *b = node->inputs[1];
    char ta[SHAPE_TEXT];
    char tb[SHAPE_TEXT];
    shape_format(&a->shape, ta);
    shape_format(&b->shape, tb);
    INFER_CHECK(dtype_is_float(a->dtype) && a->dtype == b->dtype,
                "matmul: %s x %s; both must be f32 or both bf16", dtype_name(a->dtype),
                dtype_name(b->dtype));
    bool fits = a->shape.rank >= 2 && a->shape.rank == b->shape.rank;
    for (int i = 0; fits && i < a->shape.rank - 2; i++) {
        fits = a->shape.dim[i] == b->shape.dim[i];
    }
    struct sizes s = {0};
    if (fits) s = matmul_sizes(node);
    INFER_CHECK(fits && s.k == s.k_b, "matmul: %s%s x %s%s", ta, attrs->transpose_a ? "^T" : "", tb,
                attrs->transpose_b ? "^T" : "");
    struct shape shape = a->shape;
    shape.dim[shape.rank - 2] = s.m;
    shape.dim[shape.rank - 1] = s.n;
    return node_set_output(graph, node, 0, a->dtype, shape);
}

static void matmul_gradient(struct graph *g, const struct node *node,
                            struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    const struct matmul_attrs *attrs = NODE_ATTRS(node, struct matmul_attrs);
    struct tensor *a = node->inputs[0];
    struct tensor *b = node->inputs[1];
    struct tensor *dy = d_outputs[0];
    bool ta = attrs->transpose_a;
    bool tb = attrs->transpose_b;
    if (a->differentiable) {
        d_inputs[0] = ta ? op_matmul(g, b, dy, tb, true) : op_matmul(g, dy, b, false, !tb);
    }
    if (b->differentiable) {
        d_inputs[1] = tb ? op_matmul(g, dy, a, true, ta) : op_matmul(g, a, dy, !ta, false);
    }
}

static void matmul_cost(const struct node *node, struct op_cost *cost)
{
    struct sizes s = matmul_sizes(node);
    cost->flops = 2.0 * (double)s.batch * (double)s.m * (double)s.n * (double)s.k;
}

static enum status matmul_prepare(struct kernel *kernel)
{
    const struct node *node = kernel->node;
    const struct matmul_attrs *attrs = NODE_ATTRS(node, struct matmul_attrs);
    struct sizes s = matmul_sizes(node);
    const struct cpu_matmul_spec spec = {
        .batch = s.batch,
        .m = s.m,
        .n = s.n,
        .k = s.k,
        .transpose_a = attrs->transpose_a,
        .transpose_b = attrs->transpose_b,
        .dtype_a = node->inputs[0]->dtype,
        .dtype_b = node->inputs[1]->dtype,
        .dtype_c = node->outputs[0].dtype,
    };
    return cpu_matmul_create((struct cpu_matmul **)&kernel->state, &spec, &kernel->scratch_size);
}

static enum status matmul_run(struct kernel *kernel, const struct run_context *run)
{
    const struct cpu_matmul_run product = {
        .a = kernel->in[0],
        .b = kernel->in[1],
        .c = kernel->out[0],
        .scratch = kernel->scratch,
        .version = run->version,
    };
    return cpu_matmul_run(kernel->state, &product);
}

static void matmul_release(struct kernel *kernel)
{
    cpu_matmul_destroy((struct cpu_matmul **)&kernel->state);
}

const struct op op_row_matmul = {
    .name = "matmul",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer = matmul_infer,
    .gradient = matmul_gradient,
    .cost = matmul_cost,
    .cpu_prepare = matmul_prepare,
    .cpu_run = matmul_run,
    .cpu_release = matmul_release,
};

struct tensor *op_matmul(struct graph *g, struct tensor *a, struct tensor *b, bool transpose_a,
                         bool transpose_b)
{
    struct matmul_attrs attrs;
    ATTRS_CLEAR(attrs);
    attrs.transpose_a = transpose_a;
    attrs.transpose_b = transpose_b;
    struct tensor *inputs[] = {a, b};
    return graph_node_add(g, &op_row_matmul, inputs, 2, &attrs, sizeof attrs);
}
