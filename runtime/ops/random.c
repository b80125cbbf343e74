/*
 * Dropout and drop-path. Masks are never stored: the backward pass draws the same numbers again,
 * because a number is a function of (seed, site, step, global sample, element).
 */
#include "runtime/ops/attrs.h"
#include "runtime/ops/ops_impl.h"

static bool random_infer(struct graph *graph, struct node *node)
{
    const struct random_attrs *attrs = NODE_ATTRS(node, struct random_attrs);
    const struct tensor *x = node->inputs[0];
    char text[SHAPE_TEXT];
    INFER_CHECK(attrs->p >= 0.0f && attrs->p < 1.0f, "%s: the rate must be in [0, 1), not %g",
                node->op->name, attrs->p);
    INFER_CHECK(x->shape.rank >= 1 && attrs->samples >= 1 && x->shape.dim[0] % attrs->samples == 0,
                "%s: %s does not hold copies of %lld samples", node->op->name,
                shape_format(&x->shape, text), (long long)attrs->samples);
    return infer_elementwise(graph, node);
}

static struct random_attrs random_make(struct graph *g, float p, int64_t samples, const char *name)
{
    struct random_attrs attrs;
    ATTRS_CLEAR(attrs);
    attrs.site = graph_random_site(g, name);
    attrs.samples = samples;
    attrs.p = p;
    return attrs;
}

static struct rng_key random_key(const struct random_attrs *attrs, const struct run_context *run)
{
    return rng_key(run->seed, RNG_DROPOUT, attrs->site);
}

/* ---- dropout ---- */

static void dropout_gradient(struct graph *g, const struct node *node,
                             struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    d_inputs[0] =
        graph_node_add(g, &op_row_dropout, d_outputs, 1, node->attrs.bytes, NODE_ATTRS_SIZE);
}

static enum status dropout_run(struct kernel *kernel, const struct run_context *run)
{
    const struct random_attrs *attrs = NODE_ATTRS(kernel->node, struct random_attrs);
    const struct shape *x = &kernel->node->inputs[0]->shape;
    const struct dropout args = {
        .x = kernel->in[0],
        .y = kernel->out[0],
        .rows = x->dim[0],
        .per_row = shape_span(x, 1, x->rank),
        .samples = attrs->samples,
        .sample_base = run->sample_base,
        .key = random_key(attrs, run),
        .step = run->step,
        .p = attrs->p,
        .dtype = kernel_dtype(kernel),
    };
    dropout_cpu(&args);
    return STATUS_OK;
}

const struct op op_row_dropout = {
    .name = "dropout",
    .min_inputs = 1,
    .max_inputs = 1,
    .flags = OP_RANDOM | OP_INPLACE_0,
    .infer = random_infer,
    .gradient = dropout_gradient,
    .cpu_run = dropout_run,
};

struct tensor *op_dropout(struct graph *g, struct tensor *x, float p, int64_t samples,
                          const char *name)
{
    if (!x || p == 0.0f) return x;
    struct random_attrs attrs = random_make(g, p, samples, name);
    return graph_node_add(g, &op_row_dropout, &x, 1, &attrs, sizeof attrs);
}

/* ---- drop-path ---- */

static enum status run_drop_path(struct kernel *kernel, const struct run_context *run,
                                 const void *x, const void *branch)
{
    const struct random_attrs *attrs = NODE_ATTRS(kernel->node, struct random_attrs);
    const struct shape *shape = &kernel->node->inputs[0]->shape;
    const struct drop_path args = {
        .x = x,
        .branch = branch,
        .y = kernel->out[0],
        .rows = shape->dim[0],
        .per_row = shape_span(shape, 1, shape->rank),
        .samples = attrs->samples,
        .sample_base = run->sample_base,
        .key = random_key(attrs, run),
        .step = run->step,
        .p = attrs->p,
        .dtype = kernel_dtype(kernel),
    };
    drop_path_cpu(&args);
    return STATUS_OK;
}

static enum status add_drop_path_run(struct kernel *kernel, const struct run_context *run)
{
    return run_drop_path(kernel, run, kernel->in[0], kernel->in[1]);
}

static enum status drop_path_run(struct kernel *kernel, const struct run_context *run)
{
    return run_drop_path(kernel, run, NULL, kernel->in[0]);
}

static void add_drop_path_gradient(struct graph *g, const struct node *node,
                                   struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    d_inputs[0] = d_outputs[0];
    d_inputs[1] =
        graph_node_add(g, &op_row_drop_path, d_outputs, 1, node->attrs.bytes, NODE_ATTRS_SIZE);
}

const struct op op_row_add_drop_path = {
    .name = "add_drop_path",
    .min_inputs = 2,
    .max_inputs = 2,
    .flags = OP_RANDOM | OP_INPLACE_0 | OP_INPLACE_1,
    .infer = random_infer,
    .gradient = add_drop_path_gradient,
    .cpu_run = add_drop_path_run,
};

/* The branch's gradient; recorded by the backward pass alone. */
const struct op op_row_drop_path = {
    .name = "drop_path",
    .min_inputs = 1,
    .max_inputs = 1,
    .flags = OP_RANDOM | OP_CONSTANT | OP_INPLACE_0,
    .infer = random_infer,
    .cpu_run = drop_path_run,
};

struct tensor *op_add_drop_path(struct graph *g, struct tensor *x, struct tensor *branch, float p,
                                int64_t samples, const char *name)
{
    if (p == 0.0f) return op_add(g, x, branch);
    struct random_attrs attrs = random_make(g, p, samples, name);
    struct tensor *inputs[] = {x, branch};
    return graph_node_add(g, &op_row_add_drop_path, inputs, 2, &attrs, sizeof attrs);
}
