/*
 * Rows of other ranks by global number: a collective gather, for hard negatives.
 *
 * Only the rows that are asked for travel. Every rank learns what all ranks ask for (a few
 * integers), so all of them split the requests into the same rounds, in the order (rank, position),
 * such that no rank sends more than a fixed number of rows in a round: the buffers are planned, and
 * the worst case (everybody asks the same rank) only takes more rounds. The gradient runs the same
 * rounds backwards; an owner adds what comes in, in that same order, in f32.
 */
#include "runtime/base/bf16.h"
#include "runtime/comm/comm.h"
#include "runtime/ops/attrs.h"
#include "runtime/ops/exchange_rounds.h"
#include "runtime/ops/ops_impl.h"

/* What a kernel of either direction works with. */
struct exchange {
    struct comm *comm; /* NULL for one rank */
    struct exchange_rounds r;
    size_t row_bytes;
    int64_t *to;       /* [size] rows from this rank to each, then elements */
    int64_t *from;     /* [size] the other way */
    uint8_t *outgoing; /* [capacity] rows */
    uint8_t *incoming; /* [max(capacity, M)] rows */
    const char *label;
};

static size_t exchange_scratch(const struct exchange_attrs *attrs, int64_t requests,
                               size_t row_bytes)
{
    if (attrs->world_size == 1) return 0;
    size_t world = (size_t)attrs->world_size;
    size_t rows = 2 * (size_t)exchange_capacity(requests, attrs->world_size);
    return world * (size_t)requests * sizeof(int32_t) + 64 + 3 * world * sizeof(int64_t) + 64 +
           rows * row_bytes;
}

static size_t align64(size_t value)
{
    return (value + 63) & ~(size_t)63;
}

static enum status exchange_start(struct exchange *e, const struct kernel *kernel,
                                  const struct run_context *run, const struct tensor *row_source,
                                  int64_t requests)
{
    const struct exchange_attrs *attrs = NODE_ATTRS(kernel->node, struct exchange_attrs);
    const struct node *node = kernel->node;
    memset(e, 0, sizeof *e);
    e->comm = run->comm && run->comm->size > 1 ? run->comm : NULL;
    e->r.size = e->comm ? e->comm->size : 1;
    e->r.rank = e->comm ? e->comm->rank : 0;
    e->r.rows = attrs->rows;
    e->r.requests = requests;
    e->row_bytes = (size_t)shape_span(&row_source->shape, 1, row_source->shape.rank) *
                   dtype_size(row_source->dtype);
    e->label = *node->path ? node->path : node->op->name;
    const int32_t *index = kernel->in[1];
    for (int64_t i = 0; i < requests; i++) {
        if (index[i] >= 0 && index[i] < e->r.rows * e->r.size) continue;
        return status_fail(STATUS_INVALID, "row %d at position %lld is outside 0..%lld", index[i],
                           (long long)i, (long long)(e->r.rows * e->r.size) - 1);
    }
    if (!e->comm) return STATUS_OK;
    uint8_t *at = kernel->scratch;
    size_t world = (size_t)e->r.size;
    e->r.capacity = exchange_capacity(requests, e->r.size);
    e->r.index = (int32_t *)(void *)at;
    at += align64(world * (size_t)requests * sizeof *e->r.index);
    e->r.asked = (int64_t *)(void *)at;
    e->to = e->r.asked + world;
    e->from = e->to + world;
    at += align64(3 * world * sizeof *e->r.asked);
    e->outgoing = at;
    e->incoming = at + (size_t)e->r.capacity * e->row_bytes;
    return comm_allgather(e->comm, e->label, index, e->r.index, requests, NULL, COMM_I32);
}

static enum status round_move(struct exchange *e)
{
    for (int r = 0; r < e->r.size; r++) {
        e->to[r] *= (int64_t)e->row_bytes;
        e->from[r] *= (int64_t)e->row_bytes;
    }
    return comm_exchange(e->comm, e->label, e->outgoing, e->to, e->incoming, e->from, COMM_U8);
}

/* ---- forward ---- */

static bool exchange_infer(struct graph *graph, struct node *node)
{
    const struct tensor *x = node->inputs[0];
    const struct tensor *index = node->inputs[1];
    char a[SHAPE_TEXT];
    char b[SHAPE_TEXT];
    INFER_CHECK(x->shape.rank >= 1 && index->dtype == DTYPE_I32 && index->shape.rank == 1,
                "exchange_rows: rows of %s by index %s %s", shape_format(&x->shape, a),
                dtype_name(index->dtype), shape_format(&index->shape, b));
    struct shape shape = x->shape;
    shape.dim[0] = index->shape.dim[0];
    return node_set_output(graph, node, 0, x->dtype, shape);
}

static enum status exchange_prepare(struct kernel *kernel)
{
    const struct tensor *y = &kernel->node->outputs[0];
    kernel->scratch_size =
        exchange_scratch(NODE_ATTRS(kernel->node, struct exchange_attrs), y->shape.dim[0],
                         (size_t)shape_span(&y->shape, 1, y->shape.rank) * dtype_size(y->dtype));
    return STATUS_OK;
}

/* Rows arrive by owner, and from one owner in the order of the requests. */
static void place_rows(const struct exchange *e, int64_t begin, int64_t end, uint8_t *y)
{
    const uint8_t *at = e->incoming;
    for (int owner = 0; owner < e->r.size; owner++) {
        for (int64_t m = 0; m < e->r.requests; m++) {
            int64_t i = e->r.rank * e->r.requests + m;
            if (i < begin || i >= end || e->r.index[i] / e->r.rows != owner) continue;
            memcpy(y + (size_t)m * e->row_bytes, at, e->row_bytes);
            at += e->row_bytes;
        }
    }
}

static enum status exchange_run(struct kernel *kernel, const struct run_context *run)
{
    const struct tensor *x = kernel->node->inputs[0];
    struct exchange e;
    TRY(exchange_start(&e, kernel, run, x, kernel->node->inputs[1]->shape.dim[0]));
    const uint8_t *rows = kernel->in[0];
    uint8_t *y = kernel->out[0];
    const int32_t *mine = kernel->in[1];
    for (int64_t m = 0; !e.comm && m < e.r.requests; m++) {
        memcpy(y + (size_t)m * e.row_bytes, rows + (size_t)mine[m] * e.row_bytes, e.row_bytes);
    }
    int64_t total = e.comm ? e.r.size * e.r.requests : 0;
    for (int64_t begin = 0, end; begin < total; begin = end) {
        end = exchange_round_end(&e.r, begin);
        exchange_round_counts(&e.r, begin, end, e.to, e.from);
        uint8_t *at = e.outgoing;
        for (int64_t i = begin; i < end; i++) {
            if (e.r.index[i] / e.r.rows != e.r.rank) continue;
            memcpy(at, rows + (size_t)(e.r.index[i] % e.r.rows) * e.row_bytes, e.row_bytes);
            at += e.row_bytes;
        }
        TRY(round_move(&e));
        place_rows(&e, begin, end, y);
    }
    return STATUS_OK;
}

static void exchange_gradient(struct graph *g, const struct node *node,
                              struct tensor *const *d_outputs, struct tensor **d_inputs)
{
    struct tensor *inputs[] = {d_outputs[0], node->inputs[1]};
    d_inputs[0] = graph_node_add(g, &op_row_exchange_rows_grad, inputs, 2, node->attrs.bytes,
                                 NODE_ATTRS_SIZE);
}

static void exchange_cost(const struct node *node, struct op_cost *cost)
{
    cost->bytes = 2.0 * (double)tensor_bytes(&node->outputs[0]);
}

const struct op op_row_exchange_rows = {
    .name = "exchange_rows",
    .min_inputs = 2,
    .max_inputs = 2,
    .flags = OP_COLLECTIVE,
    .infer = exchange_infer,
    .gradient = exchange_gradient,
    .cost = exchange_cost,
    .cpu_prepare = exchange_prepare,
    .cpu_run = exchange_run,
};

struct tensor *op_exchange_rows(struct graph *g, struct tensor *x, struct tensor *index)
{
    if (!x || !index) return NULL;
    struct exchange_attrs attrs;
    ATTRS_CLEAR(attrs);
    attrs.rows = x->shape.rank ? x->shape.dim[0] : 0;
    attrs.world_size = graph_world_size(g);
    struct tensor *inputs[] = {x, index};
    return graph_node_add(g, &op_row_exchange_rows, inputs, 2, &attrs, sizeof attrs);
}

/* ---- gradient: rows travel back to their owner and add up there ---- */

static bool exchange_grad_infer(struct graph *graph, struct node *node)
{
    struct tensor *dy = node->inputs[0];
    INFER_CHECK(dtype_is_float(dy->dtype), "exchange_rows_grad: %s", dtype_name(dy->dtype));
    struct shape shape = dy->shape;
    shape.dim[0] = NODE_ATTRS(node, struct exchange_attrs)->rows;
    return node_set_output(graph, node, 0, dy->dtype, shape);
}

/* Sums of bf16 rows are kept in f32 until the end. */
static size_t sums_bytes(const struct tensor *dx)
{
    return dx->dtype == DTYPE_F32 ? 0 : align64((size_t)shape_count(&dx->shape) * sizeof(float));
}

static enum status exchange_grad_prepare(struct kernel *kernel)
{
    const struct tensor *dx = &kernel->node->outputs[0];
    kernel->scratch_size =
        align64(exchange_scratch(
            NODE_ATTRS(kernel->node, struct exchange_attrs), kernel->node->inputs[0]->shape.dim[0],
            (size_t)shape_span(&dx->shape, 1, dx->shape.rank) * dtype_size(dx->dtype))) +
        sums_bytes(dx);
    return STATUS_OK;
}

static void add_row(float *sum, const uint8_t *row, int64_t columns, enum dtype dtype)
{
    if (dtype == DTYPE_F32) {
        const float *values = (const float *)(const void *)row;
        for (int64_t c = 0; c < columns; c++) {
            sum[c] += values[c];
        }
        return;
    }
    const uint16_t *values = (const uint16_t *)(const void *)row;
    for (int64_t c = 0; c < columns; c++) {
        sum[c] += bf16_to_f32(values[c]);
    }
}

/* Adds what came in, in the order of the requests: from requester to requester. */
static void add_rows(const struct exchange *e, int64_t begin, int64_t end, float *sums,
                     int64_t columns, enum dtype dtype)
{
    const uint8_t *at = e->incoming;
    for (int64_t i = begin; i < end; i++) {
        if (e->r.index[i] / e->r.rows != e->r.rank) continue;
        add_row(sums + e->r.index[i] % e->r.rows * columns, at, columns, dtype);
        at += e->row_bytes;
    }
}

static enum status exchange_grad_rounds(struct exchange *e, const uint8_t *dy, float *sums,
                                        int64_t columns, enum dtype dtype)
{
    for (int64_t begin = 0, end; begin < e->r.size * e->r.requests; begin = end) {
        end = exchange_round_end(&e->r, begin);
        exchange_round_counts(&e->r, begin, end, e->from, e->to);
        uint8_t *at = e->outgoing;
        for (int owner = 0; owner < e->r.size; owner++) {
            for (int64_t m = 0; m < e->r.requests; m++) {
                int64_t i = e->r.rank * e->r.requests + m;
                if (i < begin || i >= end || e->r.index[i] / e->r.rows != owner) continue;
                memcpy(at, dy + (size_t)m * e->row_bytes, e->row_bytes);
                at += e->row_bytes;
            }
        }
        TRY(round_move(e));
        add_rows(e, begin, end, sums, columns, dtype);
    }
    return STATUS_OK;
}

static enum status exchange_grad_run(struct kernel *kernel, const struct run_context *run)
{
    const struct tensor *dy = kernel->node->inputs[0];
    const struct tensor *dx = &kernel->node->outputs[0];
    int64_t columns = shape_span(&dx->shape, 1, dx->shape.rank);
    struct exchange e;
    TRY(exchange_start(&e, kernel, run, dy, dy->shape.dim[0]));
    float *sums = kernel->out[0];
    size_t in_scratch = sums_bytes(dx);
    if (in_scratch) {
        sums = (float *)(void *)((uint8_t *)kernel->scratch + kernel->scratch_size - in_scratch);
    }
    int64_t count = shape_count(&dx->shape);
    memset(sums, 0, (size_t)count * sizeof *sums);
    const int32_t *index = kernel->in[1];
    const uint8_t *rows = kernel->in[0];
    for (int64_t m = 0; !e.comm && m < e.r.requests; m++) {
        add_row(sums + index[m] * columns, rows + (size_t)m * e.row_bytes, columns, dy->dtype);
    }
    if (e.comm) TRY(exchange_grad_rounds(&e, rows, sums, columns, dy->dtype));
    if (in_scratch) {
        cast_cpu(sums, vector_type(DTYPE_F32), kernel->out[0], vector_type(dx->dtype), count);
    }
    return STATUS_OK;
}

const struct op op_row_exchange_rows_grad = {
    .name = "exchange_rows_grad",
    .min_inputs = 2,
    .max_inputs = 2,
    .flags = OP_COLLECTIVE | OP_CONSTANT,
    .infer = exchange_grad_infer,
    .cost = exchange_cost,
    .cpu_prepare = exchange_grad_prepare,
    .cpu_run = exchange_grad_run,
};
