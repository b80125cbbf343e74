/*
 * Integers that objectives need inside the step: hard negatives, position ids, numbers of rows.
 *
 * Hard negatives (Li et al., "Align before Fuse", NeurIPS 2021, section 3.2): one draw per row from
 * the softmax of its similarities, without its own positive. The draw is a function of (seed, site,
 * step, global sample), so any rank count draws the same ones.
 */
#include <math.h>

#include "runtime/base/rng.h"
#include "runtime/comm/comm.h"
#include "runtime/ops/attrs.h"
#include "runtime/ops/ops_impl.h"

static int64_t rank_of(const struct run_context *run)
{
    return run->comm ? run->comm->rank : 0;
}

/* ---- draw_negatives ---- */

static bool draw_infer(struct graph *graph, struct node *node)
{
    const struct tensor *x = node->inputs[0];
    const struct integer_attrs *attrs = NODE_ATTRS(node, struct integer_attrs);
    char text[SHAPE_TEXT];
    INFER_CHECK(x->dtype == DTYPE_F32 && x->shape.rank == 2, "draw_negatives: %s %s",
                dtype_name(x->dtype), shape_format(&x->shape, text));
    int64_t positives = x->shape.dim[0] * (attrs->all_ranks ? graph_world_size(graph) : 1);
    INFER_CHECK(x->shape.dim[1] >= positives, "draw_negatives: %s lacks columns of its positives",
                shape_format(&x->shape, text));
    INFER_CHECK(x->shape.dim[1] >= 2,
                "a single pair has no negative to match against; raise the batch to at least 2");
    struct shape rows = SHAPE(x->shape.dim[0]);
    return node_set_output(graph, node, 0, DTYPE_I32, rows) &&
           node_set_output(graph, node, 1, DTYPE_F32, rows);
}

/*
 * Draws by inverting the cumulative sum at u in [0, 1); every candidate keeps 1e-9 of the weight,
 * as in the reference, so that rows of equal weight zero still give one. *entropy: of the draw, in
 * nats.
 */
static const float masked = -5000.0f; /* columns below are left out, as of an unfilled queue */

static int64_t draw_row(const float *logits, int64_t columns, int64_t positive, float u,
                        float *entropy)
{
    float high = -INFINITY;
    for (int64_t c = 0; c < columns; c++) {
        if (c != positive && logits[c] > high) high = logits[c];
    }
    const float least = high < masked ? -INFINITY : masked; /* all masked: any of them */
    double sum = 0;
    double weighted = 0;
    for (int64_t c = 0; c < columns; c++) {
        if (c == positive || logits[c] < least) continue;
        double weight = exp((double)(logits[c] - high)) + 1e-9;
        sum += weight;
        weighted += weight * log(weight);
    }
    *entropy = (float)(log(sum) - weighted / sum);
    double target = (double)u * sum;
    double below = 0;
    int64_t last = -1;
    for (int64_t c = 0; c < columns; c++) {
        if (c == positive || logits[c] < least) continue;
        below += exp((double)(logits[c] - high)) + 1e-9;
        last = c;
        if (below > target) break;
    }
    return last;
}

static enum status draw_run(struct kernel *kernel, const struct run_context *run)
{
    const struct integer_attrs *attrs = NODE_ATTRS(kernel->node, struct integer_attrs);
    const struct shape *shape = &kernel->node->inputs[0]->shape;
    int64_t rows = shape->dim[0];
    int64_t columns = shape->dim[1];
    const float *logits = kernel->in[0];
    int32_t *index = kernel->out[0];
    float *entropy = kernel->out[1];
    struct rng_key key = rng_key(run->seed, RNG_NEGATIVE, attrs->site);
    int64_t first = attrs->all_ranks ? rank_of(run) * rows : 0;
    int64_t offset = attrs->all_ranks ? 0 : rank_of(run) * rows;
    for (int64_t r = 0; r < rows; r++) {
        uint32_t word = rng_at(key, run->step, run->sample_base + (uint64_t)r, 0).word[0];
        int64_t column =
            draw_row(logits + r * columns, columns, first + r, rng_uniform(word), entropy + r);
        index[r] = (int32_t)(offset + column);
    }
    return STATUS_OK;
}

static void draw_cost(const struct node *node, struct op_cost *cost)
{
    cost->flops = 40.0 * (double)shape_count(&node->inputs[0]->shape);
}

const struct op op_row_draw_negatives = {
    .name = "draw_negatives",
    .min_inputs = 1,
    .max_inputs = 1,
    .flags = OP_RANDOM | OP_CONSTANT,
    .infer = draw_infer,
    .cost = draw_cost,
    .cpu_run = draw_run,
};

struct tensor *op_draw_negatives(struct graph *g, struct tensor *logits, bool all_ranks,
                                 const char *name, struct tensor **entropy)
{
    struct integer_attrs attrs;
    ATTRS_CLEAR(attrs);
    attrs.site = graph_random_site(g, name);
    attrs.all_ranks = all_ranks;
    struct tensor *index = NULL;
    if (logits) {
        index = graph_node_add(g, &op_row_draw_negatives, &logits, 1, &attrs, sizeof attrs);
    }
    if (entropy) *entropy = tensor_sibling(index, 1);
    return index;
}

/* ---- fetch_rows ---- */

static bool fetch_infer(struct graph *graph, struct node *node)
{
    const struct fetch_attrs *attrs = NODE_ATTRS(node, struct fetch_attrs);
    const struct tensor *images = node->inputs[0];
    const struct tensor *texts = node->inputs[1];
    char text[SHAPE_TEXT];
    INFER_CHECK(images->dtype == DTYPE_I32 && images->shape.rank == 1 &&
                    texts->dtype == DTYPE_I32 && shape_equal(&images->shape, &texts->shape),
                "fetch_rows: images %s %s", dtype_name(images->dtype),
                shape_format(&images->shape, text));
    int64_t n = images->shape.dim[0];
    struct shape row = SHAPE(n, attrs->length);
    return node_set_output(graph, node, 0, DTYPE_U8, SHAPE(n, attrs->side, attrs->side, 3)) &&
           node_set_output(graph, node, 1, DTYPE_I32, row) &&
           node_set_output(graph, node, 2, DTYPE_I32, row);
}

static enum status fetch_prepare(struct kernel *kernel)
{
    kernel->scratch_size = 2 * tensor_bytes(kernel->node->inputs[0]);
    return STATUS_OK;
}

/* Numbers among all ranks' rows become columns of this rank. */
static enum status fetch_run(struct kernel *kernel, const struct run_context *run)
{
    CHECK(run->host, STATUS_INTERNAL, "fetch_rows: the run has no source of rows");
    int64_t n = kernel->node->inputs[0]->shape.dim[0];
    int32_t *columns = kernel->scratch;
    int32_t offset = (int32_t)(rank_of(run) * n);
    for (int64_t i = 0; i < 2 * n; i++) {
        columns[i] = ((const int32_t *)kernel->in[i / n])[i % n] - offset;
    }
    return run->host->fetch(run->host->user, columns, columns + n, n, kernel->out[0],
                            kernel->out[1], kernel->out[2]);
}

const struct op op_row_fetch_rows = {
    .name = "fetch_rows",
    .min_inputs = 2,
    .max_inputs = 2,
    .flags = OP_RANDOM | OP_CONSTANT,
    .infer = fetch_infer,
    .cpu_prepare = fetch_prepare,
    .cpu_run = fetch_run,
};

struct tensor *op_fetch_rows(struct graph *g, struct tensor *images, struct tensor *texts,
                             int64_t side, int64_t length, struct tensor **ids,
                             struct tensor **mask)
{
    struct fetch_attrs attrs;
    ATTRS_CLEAR(attrs);
    attrs.side = side;
    attrs.length = length;
    struct tensor *inputs[] = {images, texts};
    struct tensor *pixels = NULL;
    if (images && texts) {
        pixels = graph_node_add(g, &op_row_fetch_rows, inputs, 2, &attrs, sizeof attrs);
    }
    *ids = tensor_sibling(pixels, 1);
    *mask = tensor_sibling(pixels, 2);
    return pixels;
}

/* ---- position_ids ---- */

static bool position_infer(struct graph *graph, struct node *node)
{
    const struct tensor *ids = node->inputs[0];
    char text[SHAPE_TEXT];
    INFER_CHECK(ids->dtype == DTYPE_I32 && ids->shape.rank == 2, "position_ids: %s %s",
                dtype_name(ids->dtype), shape_format(&ids->shape, text));
    return node_set_output(graph, node, 0, DTYPE_I32, ids->shape);
}

static enum status position_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct shape *shape = &kernel->node->inputs[0]->shape;
    int32_t padding = (int32_t)NODE_ATTRS(kernel->node, struct integer_attrs)->parameter;
    const int32_t *ids = kernel->in[0];
    int32_t *positions = kernel->out[0];
    for (int64_t b = 0; b < shape->dim[0]; b++) {
        int32_t count = 0;
        for (int64_t t = 0; t < shape->dim[1]; t++) {
            int64_t i = b * shape->dim[1] + t;
            positions[i] = ids[i] == padding ? padding : padding + ++count;
        }
    }
    return STATUS_OK;
}

const struct op op_row_position_ids = {
    .name = "position_ids",
    .min_inputs = 1,
    .max_inputs = 1,
    .flags = OP_CONSTANT | OP_CHEAP,
    .infer = position_infer,
    .cpu_run = position_run,
};

struct tensor *op_position_ids(struct graph *g, struct tensor *ids, int64_t padding)
{
    struct integer_attrs attrs;
    ATTRS_CLEAR(attrs);
    attrs.parameter = padding;
    return ids ? graph_node_add(g, &op_row_position_ids, &ids, 1, &attrs, sizeof attrs) : NULL;
}

/* ---- row_numbers ---- */

static bool row_numbers_infer(struct graph *graph, struct node *node)
{
    return node_set_output(graph, node, 0, DTYPE_I32,
                           SHAPE(NODE_ATTRS(node, struct integer_attrs)->parameter));
}

static enum status row_numbers_run(struct kernel *kernel, const struct run_context *run)
{
    int64_t rows = kernel->node->outputs[0].shape.dim[0];
    int64_t all_ranks = NODE_ATTRS(kernel->node, struct integer_attrs)->all_ranks;
    int64_t first = all_ranks ? rank_of(run) * rows : 0;
    int32_t *index = kernel->out[0];
    for (int64_t r = 0; r < rows; r++) {
        index[r] = (int32_t)(first + r);
    }
    return STATUS_OK;
}

const struct op op_row_row_numbers = {
    .name = "row_numbers",
    .flags = OP_CONSTANT,
    .infer = row_numbers_infer,
    .cpu_run = row_numbers_run,
};

struct tensor *op_row_numbers(struct graph *g, int64_t rows, bool all_ranks)
{
    struct integer_attrs attrs;
    ATTRS_CLEAR(attrs);
    attrs.parameter = rows;
    attrs.all_ranks = all_ranks;
    return graph_node_add(g, &op_row_row_numbers, NULL, 0, &attrs, sizeof attrs);
}
