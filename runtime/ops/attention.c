/*
 * Multi-head attention as one op, forward and backward; the arithmetic is in attention_kernel.h.
 *
 * Queries, keys and values come in one, two or three tensors (`packing`), so that a fused
 * projection is read in place. Swin's windows are attributes: the kernel finds rows by index
 * arithmetic and neither rolls nor partitions. The forward keeps o and the log-sum-exp per row and
 * head.
 */
#include <math.h>
#include <stdlib.h>

#include "runtime/ops/attention_node.h"
#include "runtime/ops/ops_impl.h"

enum packing { PACK_QKV = 1, PACK_Q_KV = 2, PACK_Q_K_V = 3 }; /* also the number of tensors */

struct attention_attrs {
    uint64_t site;
    int64_t heads;
    int64_t samples;
    int64_t window; /* 0: none */
    int64_t shift;
    int32_t packing;
    int32_t has_mask;
    int32_t has_bias;
    int32_t causal;
    float scale;
    float mask_value;
    float dropout;
    int32_t reserved;
};

/* Inputs in order: the packed tensors, then mask, then bias table. */
static int mask_index(const struct attention_attrs *attrs)
{
    return attrs->packing;
}

static int bias_index(const struct attention_attrs *attrs)
{
    return attrs->packing + attrs->has_mask;
}

static int num_attention_inputs(const struct attention_attrs *attrs)
{
    return attrs->packing + attrs->has_mask + attrs->has_bias;
}

/* Where the q, k or v part of a packed [.., parts * C] tensor is. */
static struct attention_stride part_stride(const struct tensor *tensor, bool has_grid)
{
    int64_t columns = shape_columns(&tensor->shape);
    int64_t tokens = has_grid ? tensor->shape.dim[1] * tensor->shape.dim[2] : tensor->shape.dim[1];
    return (struct attention_stride){.batch = tokens * columns, .token = columns};
}

static struct attention_shape describe(const struct node *node)
{
    const struct attention_attrs *attrs = NODE_ATTRS(node, struct attention_attrs);
    const struct tensor *q = node->inputs[0];
    const struct tensor *last = node->inputs[attrs->packing - 1];
    bool has_grid = attrs->window > 0;
    int64_t parts = attrs->packing == PACK_QKV ? 3 : 1;
    int64_t channels = shape_columns(&q->shape) / parts;
    int64_t queries = has_grid ? q->shape.dim[1] * q->shape.dim[2] : q->shape.dim[1];
    struct attention_shape shape = {
        .batch = q->shape.dim[0],
        .query_len = queries,
        .key_len = attrs->packing == PACK_QKV ? queries : last->shape.dim[1],
        .heads = attrs->heads,
        .head_dim = channels / attrs->heads,
        .bf16 = q->dtype == DTYPE_BF16,
        .scale = attrs->scale,
        .causal = attrs->causal,
        .mask_value = attrs->mask_value,
        .window = attrs->window,
        .shift = attrs->shift,
        .grid_h = has_grid ? q->shape.dim[1] : 0,
        .grid_w = has_grid ? q->shape.dim[2] : 0,
        .dropout = attrs->dropout,
    };
    shape.q = part_stride(q, has_grid);
    shape.k = part_stride(node->inputs[attrs->packing == PACK_QKV ? 0 : 1], has_grid);
    shape.v = part_stride(last, has_grid);
    shape.o = (struct attention_stride){.batch = queries * channels, .token = channels};
    shape.dq = shape.q;
    shape.dk = shape.k;
    shape.dv = shape.v;
    shape.dout = shape.o;
    return shape;
}

static bool attention_check_parts(struct graph *graph, const struct node *node)
{
    const struct attention_attrs *attrs = NODE_ATTRS(node, struct attention_attrs);
    const struct tensor *q = node->inputs[0];
    int rank = attrs->window > 0 ? 4 : 3;
    int64_t parts = attrs->packing == PACK_QKV ? 3 : 1;
    char a[SHAPE_TEXT];
    char b[SHAPE_TEXT];
    shape_format(&q->shape, a);
    INFER_CHECK(dtype_is_float(q->dtype) && q->shape.rank == rank, "attention: queries are %s %s",
                dtype_name(q->dtype), a);
    INFER_CHECK(attrs->heads >= 1 && attrs->heads <= shape_columns(&q->shape) &&
                    shape_columns(&q->shape) % (attrs->heads * parts) == 0,
                "attention: %s does not divide into %lld heads", a, (long long)attrs->heads);
    for (int i = 1; i < attrs->packing; i++) {
        const struct tensor *k = node->inputs[i];
        int64_t wanted = shape_columns(&q->shape) * (attrs->packing == PACK_Q_KV ? 2 : 1);
        INFER_CHECK(k->dtype == q->dtype && k->shape.rank == 3 &&
                        k->shape.dim[0] == q->shape.dim[0] && k->shape.dim[2] == wanted &&
                        k->shape.dim[1] == node->inputs[1]->shape.dim[1],
                    "attention: queries %s %s, keys or values %s %s", dtype_name(q->dtype), a,
                    dtype_name(k->dtype), shape_format(&k->shape, b));
    }
    return true;
}

static bool attention_infer(struct graph *graph, struct node *node)
{
    const struct attention_attrs *attrs = NODE_ATTRS(node, struct attention_attrs);
    if (!attention_check_parts(graph, node)) return false;
    const struct tensor *q = node->inputs[0];
    struct attention_shape s = describe(node);
    char text[SHAPE_TEXT];
    INFER_CHECK(attention_shape_check(&s) == STATUS_OK, "%s", status_message());
    if (attrs->has_mask) {
        const struct tensor *mask = node->inputs[mask_index(attrs)];
        INFER_CHECK(mask->dtype == DTYPE_I32 && shape_count(&mask->shape) == s.batch * s.key_len,
                    "attention: the mask must be i32 [%lld,%lld], not %s %s", (long long)s.batch,
                    (long long)s.key_len, dtype_name(mask->dtype),
                    shape_format(&mask->shape, text));
    }
    int64_t side = 2 * attrs->window - 1;
    if (attrs->has_bias && !check_vector(graph, node, node->inputs[bias_index(attrs)],
                                         "the bias table", side * side * attrs->heads)) {
        return false;
    }
    INFER_CHECK(attrs->dropout == 0 || (attrs->samples >= 1 && s.batch % attrs->samples == 0),
                "attention: a batch of %lld does not hold copies of %lld samples",
                (long long)s.batch, (long long)attrs->samples);
    struct shape o = q->shape;
    o.dim[o.rank - 1] = s.heads * s.head_dim;
    return node_set_output(graph, node, 0, q->dtype, o) &&
           node_set_output(graph, node, 1, DTYPE_F32, SHAPE(s.batch, s.heads, s.query_len));
}

/* Pointers to the q, k and v parts inside packed memory. */
static void unpack(const struct attention_attrs *attrs, const struct attention_shape *s,
                   void *const *tensors, void **q, void **k, void **v)
{
    size_t width = (size_t)(s->heads * s->head_dim) * (s->bf16 ? 2 : 4);
    *q = tensors[0];
    if (attrs->packing == PACK_QKV) {
        *k = (char *)tensors[0] + width;
        *v = (char *)tensors[0] + 2 * width;
    } else {
        *k = tensors[1];
        *v = attrs->packing == PACK_Q_KV ? (void *)((char *)tensors[1] + width) : tensors[2];
    }
}

void attention_node_tensors(const struct kernel *kernel, const struct attention_shape *s,
                            const struct run_context *run, struct attention_tensors *tensors)
{
    const struct attention_attrs *attrs = NODE_ATTRS(kernel->node, struct attention_attrs);
    struct attention_tensors t = {
        .key_mask = attrs->has_mask ? kernel->in[mask_index(attrs)] : NULL,
        .bias_table = attrs->has_bias ? kernel->in[bias_index(attrs)] : NULL,
        .scratch = kernel->scratch,
        .random = {.key = rng_key(run->seed, RNG_DROPOUT, attrs->site),
                   .step = run->step,
                   .sample_base = run->sample_base,
                   .samples = attrs->samples},
    };
    void *q;
    void *k;
    void *v;
    unpack(attrs, s, kernel->in, &q, &k, &v);
    t.q = q;
    t.k = k;
    t.v = v;
    if (kernel->node->op == &op_row_attention) {
        t.o = kernel->out[0];
        t.lse = kernel->out[1];
    } else {
        int at = num_attention_inputs(attrs);
        t.o = kernel->in[at];
        t.lse = kernel->in[at + 1];
        t.dout = kernel->in[at + 2];
        unpack(attrs, s, kernel->out, &t.dq, &t.dk, &t.dv);
        t.dbias_table = attrs->has_bias ? kernel->out[attrs->packing] : NULL;
    }
    *tensors = t;
}

void attention_node_describe(const struct node *node, struct attention_shape *shape, bool *has_mask,
                             bool *has_bias)
{
    const struct attention_attrs *attrs = NODE_ATTRS(node, struct attention_attrs);
    *shape = describe(node);
    *has_mask = attrs->has_mask;
    *has_bias = attrs->has_bias;
}

static enum status attention_prepare(struct kernel *kernel)
{
    struct attention_shape *shape = malloc(sizeof *shape);
    CHECK(shape, STATUS_NO_MEMORY, "out of memory");
    *shape = describe(kernel->node);
    kernel->state = shape;
    kernel->scratch_size = attention_scratch_size(shape, kernel->num_threads);
    return STATUS_OK;
}

static void attention_release(struct kernel *kernel)
{
    free(kernel->state);
    kernel->state = NULL;
}

static enum status attention_run(struct kernel *kernel, const struct run_context *run)
{
    const struct attention_shape *shape = kernel->state;
    struct attention_tensors t;
    attention_node_tensors(kernel, shape, run, &t);
    attention_forward(shape, &t, kernel->num_threads);
    return STATUS_OK;
}

static void attention_cost(const struct node *node, struct op_cost *cost)
{
    struct attention_shape shape = describe(node);
    cost->flops = attention_flops(&shape);
}

static void attention_gradient(struct graph *g, const struct node *node,
                               struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    const struct attention_attrs *attrs = NODE_ATTRS(node, struct attention_attrs);
    if (!d_outputs[0]) return;
    struct tensor *inputs[OP_MAX_INPUTS];
    int count = num_attention_inputs(attrs);
    for (int i = 0; i < count; i++) {
        inputs[i] = node->inputs[i];
    }
    struct tensor *o = tensor_of_output(node);
    inputs[count++] = o;
    inputs[count++] = tensor_sibling(o, 1);
    inputs[count++] = d_outputs[0];
    struct tensor *grad = graph_node_add(g, &op_row_attention_grad, inputs, count,
                                         node->attrs.bytes, NODE_ATTRS_SIZE);
    for (int i = 0; i < attrs->packing; i++) {
        d_inputs[i] = tensor_sibling(grad, i);
    }
    if (attrs->has_bias) d_inputs[bias_index(attrs)] = tensor_sibling(grad, attrs->packing);
}

const struct op op_row_attention = {
    .name = "attention",
    .min_inputs = 1,
    .max_inputs = 5,
    .flags = OP_RANDOM,
    .infer = attention_infer,
    .gradient = attention_gradient,
    .cost = attention_cost,
    .cpu_prepare = attention_prepare,
    .cpu_run = attention_run,
    .cpu_release = attention_release,
};

/* The attention inputs, then o, lse, do -> gradients of the packed tensors and of the bias table.
 */
static bool attention_grad_infer(struct graph *graph, struct node *node)
{
    const struct attention_attrs *attrs = NODE_ATTRS(node, struct attention_attrs);
    for (int i = 0; i < attrs->packing; i++) {
        const struct tensor *x = node->inputs[i];
        if (!node_set_output(graph, node, i, x->dtype, x->shape)) return false;
    }
    if (!attrs->has_bias) return true;
    const struct tensor *bias = node->inputs[bias_index(attrs)];
    return node_set_output(graph, node, attrs->packing, DTYPE_F32, bias->shape);
}

static enum status attention_grad_run(struct kernel *kernel, const struct run_context *run)
{
    const struct attention_shape *shape = kernel->state;
    struct attention_tensors t;
    attention_node_tensors(kernel, shape, run, &t);
    attention_backward(shape, &t, kernel->num_threads);
    return STATUS_OK;
}

static void attention_grad_cost(const struct node *node, struct op_cost *cost)
{
    struct attention_shape shape = describe(node);
    cost->flops = 2.0 * attention_flops(&shape);
}

const struct op op_row_attention_grad = {
    .name = "attention_grad",
    .min_inputs = 4,
    .max_inputs = OP_MAX_INPUTS,
    .flags = OP_RANDOM | OP_CONSTANT,
    .infer = attention_grad_infer,
    .cost = attention_grad_cost,
    .cpu_prepare = attention_prepare,
    .cpu_run = attention_grad_run,
    .cpu_release = attention_release,
};

/* ---- builders ---- */

static struct attention_attrs attrs_make(struct graph *g, const struct tensor *q,
                                         const struct attention_options *options, int packing)
{
    struct attention_attrs attrs;
    ATTRS_CLEAR(attrs);
    int64_t channels = shape_columns(&q->shape) / (packing == PACK_QKV ? 3 : 1);
    attrs.heads = options->heads;
    attrs.packing = packing;
    attrs.causal = options->causal;
    attrs.dropout = options->dropout;
    attrs.scale = options->scale != 0.0f || options->heads < 1
                      ? options->scale
                      : 1.0f / sqrtf((float)(channels / options->heads));
    attrs.mask_value = options->mask_value != 0.0f ? options->mask_value : -10000.0f;
    if (attrs.dropout != 0.0f) {
        attrs.samples = options->samples ? options->samples : q->shape.dim[0];
        attrs.site = graph_random_site(g, "attention");
    }
    return attrs;
}

static struct tensor *attention_add(struct graph *g, struct tensor *const *packed, int packing,
                                    struct tensor *mask, const struct attention_options *options)
{
    if (!packed[0]) return NULL;
    struct attention_attrs attrs = attrs_make(g, packed[0], options, packing);
    struct tensor *inputs[4];
    for (int i = 0; i < packing; i++) {
        inputs[i] = packed[i];
    }
    attrs.has_mask = mask != NULL;
    inputs[packing] = mask;
    return graph_node_add(g, &op_row_attention, inputs, packing + attrs.has_mask, &attrs,
                          sizeof attrs);
}

struct tensor *op_attention(struct graph *g, struct tensor *q, struct tensor *k, struct tensor *v,
                            struct tensor *mask, const struct attention_options *options)
{
    return attention_add(g, (struct tensor *[]){q, k, v}, PACK_Q_K_V, mask, options);
}

struct tensor *op_attention_kv(struct graph *g, struct tensor *q, struct tensor *kv,
                               struct tensor *mask, const struct attention_options *options)
{
    return attention_add(g, (struct tensor *[]){q, kv}, PACK_Q_KV, mask, options);
}

struct tensor *op_attention_qkv(struct graph *g, struct tensor *qkv, struct tensor *mask,
                                const struct attention_options *options)
{
    return attention_add(g, &qkv, PACK_QKV, mask, options);
}

struct tensor *op_window_attention(struct graph *g, struct tensor *qkv, struct tensor *bias_table,
                                   int64_t heads, int64_t window, int64_t shift)
{
    if (!qkv) return NULL;
    if (window < 1) return graph_fail(g, "attention: the window must be at least 1");
    const struct attention_options options = {.heads = heads};
    struct attention_attrs attrs = attrs_make(g, qkv, &options, PACK_QKV);
    attrs.window = window;
    attrs.shift = shift;
    attrs.has_bias = bias_table != NULL;
    struct tensor *inputs[] = {qkv, bias_table};
    return graph_node_add(g, &op_row_attention, inputs, 1 + attrs.has_bias, &attrs, sizeof attrs);
}
