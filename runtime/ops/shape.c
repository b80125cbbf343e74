/*
 * Reshape, slices, padding, joins and permutations.
 *
 * A reshape and a slice of leading rows are views. The copies move runs of contiguous bytes: a
 * slice of [outer, n, inner] is `outer` runs, a permutation whose last axis stays is runs of that
 * axis.
 */
#include "runtime/ops/attrs.h"
#include "runtime/ops/ops_impl.h"

/* ---- reshape ---- */

static struct shape attrs_shape(const struct shape_attrs *attrs)
{
    struct shape shape = {.rank = (int)attrs->rank};
    memcpy(shape.dim, attrs->dim, sizeof shape.dim);
    return shape;
}

static bool reshape_infer(struct graph *graph, struct node *node)
{
    struct shape shape = attrs_shape(NODE_ATTRS(node, struct shape_attrs));
    const struct tensor *x = node->inputs[0];
    char a[SHAPE_TEXT];
    char b[SHAPE_TEXT];
    if (!node_set_output(graph, node, 0, x->dtype, shape)) return false;
    INFER_CHECK(shape_count(&shape) == shape_count(&x->shape), "reshape: %s to %s",
                shape_format(&x->shape, a), shape_format(&shape, b));
    return true;
}

static void reshape_gradient(struct graph *g, const struct node *node,
                             struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    d_inputs[0] = op_reshape(g, d_outputs[0], node->inputs[0]->shape);
}

const struct op op_row_reshape = {
    .name = "reshape",
    .min_inputs = 1,
    .max_inputs = 1,
    .flags = OP_VIEW | OP_ANY_GRADIENT,
    .infer = reshape_infer,
    .gradient = reshape_gradient,
};

struct tensor *op_reshape(struct graph *g, struct tensor *x, struct shape shape)
{
    if (!x || shape_equal(&x->shape, &shape)) return x;
    /* A reshape of a reshape is one reshape, so that chains share nodes. */
    if (x->node->op == &op_row_reshape) return op_reshape(g, x->node->inputs[0], shape);
    struct shape_attrs attrs;
    ATTRS_CLEAR(attrs);
    attrs.rank = shape.rank;
    memcpy(attrs.dim, shape.dim, (size_t)shape.rank * sizeof shape.dim[0]);
    return graph_node_add(g, &op_row_reshape, &x, 1, &attrs, sizeof attrs);
}

/* ---- slices ---- */

/* Bytes of one run (everything inside the axis) and the number of runs outside it. */
static int64_t inner_bytes(const struct tensor *x, int64_t axis)
{
    return shape_span(&x->shape, (int)axis + 1, x->shape.rank) * (int64_t)dtype_size(x->dtype);
}

static int64_t outer_count(const struct tensor *x, int64_t axis)
{
    return shape_span(&x->shape, 0, (int)axis);
}

/* Copies `runs` runs of `bytes` bytes between two strided places. */
static void copy_runs(char *to, int64_t to_stride, const char *from, int64_t from_stride,
                      int64_t runs, int64_t bytes)
{
#pragma omp parallel for schedule(static) if (runs > 1 && runs * bytes > 131072)
    for (int64_t i = 0; i < runs; i++) {
        memcpy(to + i * to_stride, from + i * from_stride, (size_t)bytes);
    }
}

static bool slice_infer(struct graph *graph, struct node *node)
{
    const struct slice_attrs *attrs = NODE_ATTRS(node, struct slice_attrs);
    const struct tensor *x = node->inputs[0];
    char text[SHAPE_TEXT];
    INFER_CHECK(attrs->axis >= 0 && attrs->axis < x->shape.rank && attrs->begin >= 0 &&
                    attrs->begin < attrs->end && attrs->end <= x->shape.dim[attrs->axis],
                "slice: [%lld, %lld) on axis %lld of %s", (long long)attrs->begin,
                (long long)attrs->end, (long long)attrs->axis, shape_format(&x->shape, text));
    struct shape shape = x->shape;
    shape.dim[attrs->axis] = attrs->end - attrs->begin;
    return node_set_output(graph, node, 0, x->dtype, shape);
}

static void slice_gradient(struct graph *g, const struct node *node,
                           struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    const struct slice_attrs *attrs = NODE_ATTRS(node, struct slice_attrs);
    d_inputs[0] = op_pad(g, d_outputs[0], (int)attrs->axis, attrs->begin,
                         node->inputs[0]->shape.dim[attrs->axis]);
}

static enum status slice_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct slice_attrs *attrs = NODE_ATTRS(kernel->node, struct slice_attrs);
    const struct tensor *x = kernel->node->inputs[0];
    int64_t inner = inner_bytes(x, attrs->axis);
    int64_t length = (attrs->end - attrs->begin) * inner;
    copy_runs(kernel->out[0], length, (const char *)kernel->in[0] + attrs->begin * inner,
              x->shape.dim[attrs->axis] * inner, outer_count(x, attrs->axis), length);
    return STATUS_OK;
}

static size_t rows_offset(const struct node *node)
{
    const struct slice_attrs *attrs = NODE_ATTRS(node, struct slice_attrs);
    return (size_t)(attrs->begin * inner_bytes(node->inputs[0], attrs->axis));
}

/* A slice of leading rows: nothing lies outside the axis, so it is a view. */
const struct op op_row_rows = {
    .name = "rows",
    .min_inputs = 1,
    .max_inputs = 1,
    .flags = OP_VIEW,
    .infer = slice_infer,
    .gradient = slice_gradient,
    .view_offset = rows_offset,
};

const struct op op_row_slice = {
    .name = "slice",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = slice_infer,
    .gradient = slice_gradient,
    .cpu_run = slice_run,
};

struct tensor *op_slice(struct graph *g, struct tensor *x, int axis, int64_t begin, int64_t end)
{
    if (!x) return NULL;
    bool in_range = axis >= 0 && axis < x->shape.rank;
    if (in_range && begin == 0 && end == x->shape.dim[axis]) return x;
    struct slice_attrs attrs = {.axis = axis, .begin = begin, .end = end};
    bool is_view = in_range && outer_count(x, axis) == 1;
    return graph_node_add(g, is_view ? &op_row_rows : &op_row_slice, &x, 1, &attrs, sizeof attrs);
}

static bool pad_infer(struct graph *graph, struct node *node)
{
    const struct slice_attrs *attrs = NODE_ATTRS(node, struct slice_attrs);
    const struct tensor *x = node->inputs[0];
    char text[SHAPE_TEXT];
    INFER_CHECK(attrs->axis >= 0 && attrs->axis < x->shape.rank && attrs->begin >= 0 &&
                    attrs->begin <= attrs->size - x->shape.dim[attrs->axis],
                "pad: %s to %lld from %lld on axis %lld", shape_format(&x->shape, text),
                (long long)attrs->size, (long long)attrs->begin, (long long)attrs->axis);
    struct shape shape = x->shape;
    shape.dim[attrs->axis] = attrs->size;
    return node_set_output(graph, node, 0, x->dtype, shape);
}

static void pad_gradient(struct graph *g, const struct node *node, struct tensor *const *d_outputs,
                         struct tensor **d_inputs)
{
    const struct slice_attrs *attrs = NODE_ATTRS(node, struct slice_attrs);
    d_inputs[0] = op_slice(g, d_outputs[0], (int)attrs->axis, attrs->begin,
                           attrs->begin + node->inputs[0]->shape.dim[attrs->axis]);
}

static enum status pad_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct slice_attrs *attrs = NODE_ATTRS(kernel->node, struct slice_attrs);
    const struct tensor *x = kernel->node->inputs[0];
    int64_t inner = inner_bytes(x, attrs->axis);
    int64_t length = x->shape.dim[attrs->axis] * inner;
    memset(kernel->out[0], 0, tensor_bytes(&kernel->node->outputs[0]));
    copy_runs((char *)kernel->out[0] + attrs->begin * inner, attrs->size * inner, kernel->in[0],
              length, outer_count(x, attrs->axis), length);
    return STATUS_OK;
}

const struct op op_row_pad = {
    .name = "pad",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = pad_infer,
    .gradient = pad_gradient,
    .cpu_run = pad_run,
};

struct tensor *op_pad(struct graph *g, struct tensor *x, int axis, int64_t begin, int64_t size)
{
    struct slice_attrs attrs = {.axis = axis, .begin = begin, .size = size};
    return graph_node_add(g, &op_row_pad, &x, 1, &attrs, sizeof attrs);
}

/* ---- concat ---- */

static bool concat_infer(struct graph *graph, struct node *node)
{
    int64_t axis = NODE_ATTRS(node, struct slice_attrs)->axis;
    struct shape shape = node->inputs[0]->shape;
    char a[SHAPE_TEXT];
    char b[SHAPE_TEXT];
    INFER_CHECK(axis >= 0 && axis < shape.rank, "concat: axis %lld of %s", (long long)axis,
                shape_format(&shape, a));
    for (int i = 1; i < node->num_inputs; i++) {
        struct shape other = node->inputs[i]->shape;
        int64_t size = other.rank > axis ? other.dim[axis] : 0;
        other.dim[axis] = node->inputs[0]->shape.dim[axis];
        INFER_CHECK(size > 0 && shape_equal(&node->inputs[0]->shape, &other) &&
                        node->inputs[i]->dtype == node->inputs[0]->dtype,
                    "concat: %s %s and %s %s on axis %lld", dtype_name(node->inputs[0]->dtype),
                    shape_format(&node->inputs[0]->shape, a), dtype_name(node->inputs[i]->dtype),
                    shape_format(&node->inputs[i]->shape, b), (long long)axis);
        shape.dim[axis] += size;
    }
    return node_set_output(graph, node, 0, node->inputs[0]->dtype, shape);
}

static void concat_gradient(struct graph *g, const struct node *node,
                            struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    int axis = (int)NODE_ATTRS(node, struct slice_attrs)->axis;
    int64_t begin = 0;
    for (int i = 0; i < node->num_inputs; i++) {
        int64_t end = begin + node->inputs[i]->shape.dim[axis];
        if (node->inputs[i]->differentiable) {
            d_inputs[i] = op_slice(g, d_outputs[0], axis, begin, end);
        }
        begin = end;
    }
}

static enum status concat_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    int64_t axis = NODE_ATTRS(kernel->node, struct slice_attrs)->axis;
    const struct tensor *y = &kernel->node->outputs[0];
    int64_t inner = inner_bytes(y, axis);
    char *to = kernel->out[0];
    for (int i = 0; i < kernel->node->num_inputs; i++) {
        int64_t length = kernel->node->inputs[i]->shape.dim[axis] * inner;
        copy_runs(to, y->shape.dim[axis] * inner, kernel->in[i], length, outer_count(y, axis),
                  length);
        to += length;
    }
    return STATUS_OK;
}

const struct op op_row_concat = {
    .name = "concat",
    .min_inputs = 1,
    .max_inputs = OP_MAX_INPUTS,
    .infer = concat_infer,
    .gradient = concat_gradient,
    .cpu_run = concat_run,
};

struct tensor *op_concat(struct graph *g, struct tensor *const *inputs, int count, int axis)
{
    if (count == 1) return inputs[0];
    struct slice_attrs attrs = {.axis = axis};
    return graph_node_add(g, &op_row_concat, inputs, count, &attrs, sizeof attrs);
}

/* ---- permute ---- */

static bool permute_infer(struct graph *graph, struct node *node)
{
    const struct permute_attrs *attrs = NODE_ATTRS(node, struct permute_attrs);
    const struct tensor *x = node->inputs[0];
    struct shape shape = {.rank = x->shape.rank};
    unsigned seen = 0;
    for (int i = 0; i < shape.rank; i++) {
        INFER_CHECK(attrs->axis[i] >= 0 && attrs->axis[i] < shape.rank &&
                        !(seen & (1u << attrs->axis[i])),
                    "permute: the axes are not a permutation of 0..%d", shape.rank - 1);
        seen |= 1u << attrs->axis[i];
        shape.dim[i] = x->shape.dim[attrs->axis[i]];
    }
    return node_set_output(graph, node, 0, x->dtype, shape);
}

static void permute_gradient(struct graph *g, const struct node *node,
                             struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    const struct permute_attrs *attrs = NODE_ATTRS(node, struct permute_attrs);
    int inverse[SHAPE_MAX_RANK];
    for (int i = 0; i < node->inputs[0]->shape.rank; i++) {
        inverse[attrs->axis[i]] = i;
    }
    d_inputs[0] = op_permute(g, d_outputs[0], inverse);
}

/* One output row: `count` elements whose sources lie `stride` elements apart. */
static void copy_strided(char *to, const char *from, int64_t count, int64_t stride, size_t size)
{
    if (stride == 1) {
        memcpy(to, from, (size_t)count * size);
    } else if (size == 4) {
        for (int64_t i = 0; i < count; i++) {
            memcpy(to + i * 4, from + i * stride * 4, 4);
        }
    } else {
        for (int64_t i = 0; i < count; i++) {
            memcpy(to + i * (int64_t)size, from + i * stride * (int64_t)size, size);
        }
    }
}

static enum status permute_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct permute_attrs *attrs = NODE_ATTRS(kernel->node, struct permute_attrs);
    const struct shape *in = &kernel->node->inputs[0]->shape;
    const struct shape *out = &kernel->node->outputs[0].shape;
    size_t size = dtype_size(kernel->node->inputs[0]->dtype);
    int rank = out->rank;
    int64_t stride[SHAPE_MAX_RANK];
    for (int i = 0; i < rank; i++) {
        stride[i] = shape_span(in, (int)attrs->axis[i] + 1, rank);
    }
    /* Trailing axes that stay together are one run. */
    int64_t run_length = 1;
    while (rank > 0 && stride[rank - 1] == run_length) {
        run_length *= out->dim[--rank];
    }
    bool is_runs = run_length > 1 || rank == 0;
    int64_t columns = is_runs ? run_length : out->dim[--rank];
    int64_t column_stride = is_runs ? 1 : stride[rank];
    int64_t rows = shape_span(out, 0, rank);
    const char *from = kernel->in[0];
    char *to = kernel->out[0];
#pragma omp parallel for schedule(static) if (rows * columns > 32768)
    for (int64_t r = 0; r < rows; r++) {
        int64_t offset = 0;
        int64_t rest = r;
        for (int i = rank - 1; i >= 0; i--) {
            offset += rest % out->dim[i] * stride[i];
            rest /= out->dim[i];
        }
        copy_strided(to + r * columns * (int64_t)size, from + offset * (int64_t)size, columns,
                     column_stride, size);
    }
    return STATUS_OK;
}

const struct op op_row_permute = {
    .name = "permute",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = permute_infer,
    .gradient = permute_gradient,
    .cpu_run = permute_run,
};

struct tensor *op_permute(struct graph *g, struct tensor *x, const int *axes)
{
    if (!x) return NULL;
    struct permute_attrs attrs;
    ATTRS_CLEAR(attrs);
    bool identity = true;
    for (int i = 0; i < x->shape.rank; i++) {
        attrs.axis[i] = axes[i];
        identity &= axes[i] == i;
    }
    if (identity) return x;
    return graph_node_add(g, &op_row_permute, &x, 1, &attrs, sizeof attrs);
}
