/*
 * Linear layers: y = x w^T + bias, w [N,K] as the reference stores it, or y = x w with w [K,N].
 *
 * The gradient of one orientation is the other: dx = dy w. The weight gradient is a product of its
 * own that always writes f32, so that bf16 activations give f32 gradients without a cast, and that
 * can add to its output: sums over tied uses and over micro-steps cost nothing extra.
 *
 * N output features, K input features, M rows (all leading dimensions of x).
 */
#include "runtime/backend/cpu/matmul.h"
#include "runtime/ops/attrs.h"
#include "runtime/ops/ops_impl.h"

/* Rows that have to be multiplied by a weight between two updates before packing it pays. */
enum { LINEAR_PACK_ROWS = 2048 };

static bool linear_infer(struct graph *graph, struct node *node)
{
    const struct linear_attrs *attrs = NODE_ATTRS(node, struct linear_attrs);
    const struct tensor *x = node->inputs[0];
    const struct tensor *w = node->inputs[1];
    char a[SHAPE_TEXT];
    char b[SHAPE_TEXT];
    INFER_CHECK(dtype_is_float(x->dtype) && w->dtype == x->dtype,
                "linear: x is %s and w is %s; both must be f32 or both bf16", dtype_name(x->dtype),
                dtype_name(w->dtype));
    INFER_CHECK(x->shape.rank >= 1 && w->shape.rank == 2 &&
                    shape_columns(&x->shape) == w->shape.dim[attrs->transposed ? 0 : 1],
                "linear: %s x %s%s", shape_format(&x->shape, a), shape_format(&w->shape, b),
                attrs->transposed ? "" : "^T");
    int64_t n = w->shape.dim[attrs->transposed ? 1 : 0];
    if (attrs->has_bias) {
        const struct tensor *bias = node->inputs[2];
        INFER_CHECK(bias->dtype == DTYPE_F32 && bias->shape.rank == 1 && bias->shape.dim[0] == n,
                    "linear: bias must be f32 [%lld], not %s %s", (long long)n,
                    dtype_name(bias->dtype), shape_format(&bias->shape, a));
    }
    struct shape shape = x->shape;
    shape.dim[shape.rank - 1] = n;
    return node_set_output(graph, node, 0, x->dtype, shape);
}

static struct tensor *weight_grad(struct graph *g, struct tensor *dy, struct tensor *x,
                                  const struct linear_attrs *attrs)
{
    struct tensor *inputs[] = {dy, x};
    return graph_node_add(g, &op_row_linear_weight_grad, inputs, 2, attrs, sizeof *attrs);
}

static struct tensor *linear_add(struct graph *g, struct tensor *x, struct tensor *w,
                                 struct tensor *bias, bool transposed)
{
    if (!x || !w) return NULL;
    struct linear_attrs attrs;
    ATTRS_CLEAR(attrs);
    attrs.transposed = transposed;
    attrs.has_bias = bias != NULL;
    if (dtype_is_float(x->dtype) && dtype_is_float(w->dtype)) w = op_cast(g, w, x->dtype);
    struct tensor *inputs[] = {x, w, bias};
    return graph_node_add(g, &op_row_linear, inputs, bias ? 3 : 2, &attrs, sizeof attrs);
}

static void linear_gradient(struct graph *g, const struct node *node,
                            struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    const struct linear_attrs *attrs = NODE_ATTRS(node, struct linear_attrs);
    struct tensor *x = node->inputs[0];
    struct tensor *w = node->inputs[1];
    struct tensor *dy = d_outputs[0];
    if (x->differentiable) d_inputs[0] = linear_add(g, dy, w, NULL, !attrs->transposed);
    if (w->differentiable) {
        struct linear_attrs grad;
        ATTRS_CLEAR(grad);
        grad.transposed = attrs->transposed;
        d_inputs[1] = weight_grad(g, dy, x, &grad);
    }
    if (attrs->has_bias && node->inputs[2]->differentiable) {
        d_inputs[2] = op_sum_f32(g, dy, 0, dy->shape.rank - 1);
    }
}

static void linear_cost(const struct node *node, struct op_cost *cost)
{
    const struct shape *x = &node->inputs[0]->shape;
    cost->flops = 2.0 * (double)shape_count(x) * (double)shape_columns(&node->outputs[0].shape);
}

/* GELU of the result, or a sum with something of its shape. */
static bool linear_fuses(const struct node *node, const struct node *consumer, int input)
{
    (void)node;
    (void)input;
    return consumer->op == &op_row_gelu || node_is_plain_sum(consumer);
}

static enum status linear_prepare(struct kernel *kernel)
{
    const struct node *node = kernel->node;
    const struct linear_attrs *attrs = NODE_ATTRS(node, struct linear_attrs);
    const struct shape *x = &node->inputs[0]->shape;
    struct cpu_matmul_spec spec = {
        .batch = 1,
        .m = shape_rows(x),
        .k = shape_columns(x),
        .n = shape_columns(&node->outputs[0].shape),
        .transpose_b = !attrs->transposed,
        .dtype_a = node->inputs[0]->dtype,
        .dtype_b = node->inputs[1]->dtype,
        .dtype_c = node->outputs[0].dtype,
        .bias = attrs->has_bias,
        .gelu = kernel->epilogue && !kernel->adds,
        .adds = kernel->adds,
    };
    /* Reordering a weight costs about as much as multiplying this many rows saves (measured). */
    if (kernel->stable[1] && spec.m * kernel->uses[1] >= LINEAR_PACK_ROWS) {
        spec.packs = kernel->packs;
        spec.pack_id = node->inputs[1]->id;
    }
    return cpu_matmul_create((struct cpu_matmul **)&kernel->state, &spec, &kernel->scratch_size);
}

static enum status linear_run(struct kernel *kernel, const struct run_context *run)
{
    const struct cpu_matmul_run product = {
        .a = kernel->in[0],
        .b = kernel->in[1],
        .bias = kernel->in[2],
        .c = kernel->out[0],
        .scratch = kernel->scratch,
        .add = kernel->accumulates && run->accumulate,
        .version = run->version,
    };
    return cpu_matmul_run(kernel->state, &product);
}

static void linear_release(struct kernel *kernel)
{
    cpu_matmul_destroy((struct cpu_matmul **)&kernel->state);
}

const struct op op_row_linear = {
    .name = "linear",
    .min_inputs = 2,
    .max_inputs = 3,
    .infer = linear_infer,
    .gradient = linear_gradient,
    .cost = linear_cost,
    .fuses = linear_fuses,
    .cpu_prepare = linear_prepare,
    .cpu_run = linear_run,
    .cpu_release = linear_release,
};

/* ---- weight gradient: dy [...,N], x [...,K] -> dy^T x [N,K], or x^T dy [K,N] when transposed ----
 */

static bool weight_grad_infer(struct graph *graph, struct node *node)
{
    const struct linear_attrs *attrs = NODE_ATTRS(node, struct linear_attrs);
    const struct tensor *dy = node->inputs[0];
    const struct tensor *x = node->inputs[1];
    INFER_CHECK(dy->dtype == x->dtype && dtype_is_float(x->dtype) &&
                    shape_rows(&dy->shape) == shape_rows(&x->shape),
                "linear_weight_grad: gradient and input do not fit");
    int64_t n = shape_columns(&dy->shape);
    int64_t k = shape_columns(&x->shape);
    struct shape shape = attrs->transposed ? SHAPE(k, n) : SHAPE(n, k);
    return node_set_output(graph, node, 0, DTYPE_F32, shape);
}

static bool weight_grad_fuses(const struct node *node, const struct node *consumer, int input)
{
    (void)node;
    (void)input;
    return node_is_plain_sum(consumer);
}

static enum status weight_grad_prepare(struct kernel *kernel)
{
    const struct node *node = kernel->node;
    const struct linear_attrs *attrs = NODE_ATTRS(node, struct linear_attrs);
    const struct tensor *dy = node->inputs[0];
    const struct shape *dw = &node->outputs[0].shape;
    const struct cpu_matmul_spec spec = {
        .batch = 1,
        .m = dw->dim[0],
        .n = dw->dim[1],
        .k = shape_rows(&dy->shape),
        .transpose_a = true,
        .dtype_a = dy->dtype,
        .dtype_b = dy->dtype,
        .dtype_c = DTYPE_F32,
        .adds = kernel->adds,
        .may_add = kernel->accumulates && !kernel->adds,
    };
    (void)attrs;
    return cpu_matmul_create((struct cpu_matmul **)&kernel->state, &spec, &kernel->scratch_size);
}

static enum status weight_grad_run(struct kernel *kernel, const struct run_context *run)
{
    bool transposed = NODE_ATTRS(kernel->node, struct linear_attrs)->transposed;
    const struct cpu_matmul_run product = {
        .a = kernel->in[transposed ? 1 : 0],
        .b = kernel->in[transposed ? 0 : 1],
        .c = kernel->out[0],
        .scratch = kernel->scratch,
        .add = kernel->accumulates && run->accumulate,
        .version = run->version,
    };
    return cpu_matmul_run(kernel->state, &product);
}

static void weight_grad_cost(const struct node *node, struct op_cost *cost)
{
    cost->flops = 2.0 * (double)shape_count(&node->inputs[0]->shape) *
                  (double)shape_columns(&node->inputs[1]->shape);
}

const struct op op_row_linear_weight_grad = {
    .name = "linear_weight_grad",
    .min_inputs = 2,
    .max_inputs = 2,
    .flags = OP_CONSTANT | OP_ACCUMULATES,
    .infer = weight_grad_infer,
    .cost = weight_grad_cost,
    .fuses = weight_grad_fuses,
    .cpu_prepare = weight_grad_prepare,
    .cpu_run = weight_grad_run,
    .cpu_release = linear_release,
};

/* ---- builders ---- */

struct tensor *op_linear(struct graph *g, struct tensor *x, struct tensor *w, struct tensor *bias)
{
    return linear_add(g, x, w, bias, false);
}

struct tensor *op_linear_gelu(struct graph *g, struct tensor *x, struct tensor *w,
                              struct tensor *bias)
{
    return op_gelu(g, linear_add(g, x, w, bias, false));
}

struct tensor *op_linear_transposed(struct graph *g, struct tensor *x, struct tensor *w,
                                    struct tensor *bias)
{
    return linear_add(g, x, w, bias, true);
}

struct tensor *op_patch_embed(struct graph *g, struct tensor *x, struct tensor *w,
                              struct tensor *bias)
{
    if (!x || !w) return NULL;
    char a[SHAPE_TEXT];
    char b[SHAPE_TEXT];
    const struct shape *s = &x->shape;
    int64_t p = w->shape.rank == 4 ? w->shape.dim[3] : 0;
    if (s->rank != 4 || p < 1 || w->shape.dim[2] != p || w->shape.dim[1] != s->dim[1] ||
        s->dim[2] % p || s->dim[3] % p) {
        return graph_fail(g, "patch_embed: image %s does not divide into patches of %s",
                          shape_format(s, a), shape_format(&w->shape, b));
    }
    int64_t batch = s->dim[0];
    int64_t channels = s->dim[1];
    int64_t rows = s->dim[2] / p;
    int64_t columns = s->dim[3] / p;
    static const int axes[] = {0, 2, 4, 1, 3, 5};
    x = op_reshape(g, x, SHAPE(batch, channels, rows, p, columns, p));
    x = op_permute(g, x, axes);
    x = op_reshape(g, x, SHAPE(batch, rows * columns, channels * p * p));
    w = op_reshape(g, w, SHAPE(w->shape.dim[0], channels * p * p));
    return op_linear(g, x, w, bias);
}
