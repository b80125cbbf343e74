/*
 * Reverse-mode differentiation as a rewrite of the graph (Griewank, Walther: "Evaluating
 * Derivatives", chapter 3).
 *
 * Nodes are visited from the loss back to the first; each asks its op's gradient rule for the
 * gradients of its inputs, recorded as ordinary nodes. A value read more than once collects a list
 * of contributions that is summed when its own node is reached, in the order of the readers from
 * last to first, so sums have one fixed order. Values that no trainable parameter reaches are never
 * differentiated.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/graph/graph_impl.h"
#include "runtime/ops/ops.h"

static void contribute(struct graph *graph, const struct tensor *target, struct tensor *gradient)
{
    if (!gradient || !target->differentiable) return;
    struct tensor *sum = graph->gradients[target->id];
    if (sum && sum->dtype != gradient->dtype) {
        /* A weight gradient is f32 whatever the activations are; the sum keeps its precision. */
        sum = op_cast(graph, sum, DTYPE_F32);
        gradient = op_cast(graph, gradient, DTYPE_F32);
    }
    graph->gradients[target->id] = sum ? op_add(graph, sum, gradient) : gradient;
}

/* Calls the gradient rule of one node when a gradient reached any of its outputs. */
static void node_differentiate(struct graph *graph, struct node *node)
{
    struct tensor *d_outputs[NODE_MAX_OUTPUTS] = {0};
    struct tensor *d_inputs[OP_MAX_INPUTS] = {0};
    bool reached = false;
    for (int i = 0; i < node->num_outputs; i++) {
        d_outputs[i] = graph->gradients[node->outputs[i].id];
        reached |= d_outputs[i] != NULL;
        if (d_outputs[i] && !(node->op->flags & OP_ANY_GRADIENT)) {
            d_outputs[i] = op_cast(graph, d_outputs[i], node->outputs[i].dtype);
        }
    }
    if (!reached || !node->op->gradient) return;
    bool wanted = false;
    for (int i = 0; i < node->num_inputs; i++) {
        wanted |= node->inputs[i]->differentiable;
    }
    if (!wanted) return;
    strbuf_clear(&graph->path);
    strbuf_append(&graph->path, node->path);
    node->op->gradient(graph, node, d_outputs, d_inputs);
    for (int i = 0; i < node->num_inputs; i++) {
        contribute(graph, node->inputs[i], d_inputs[i]);
    }
}

enum status graph_differentiate(struct graph *graph, struct tensor *loss)
{
    TRY(graph_status(graph));
    char text[SHAPE_TEXT];
    CHECK(!graph->gradients, STATUS_INTERNAL, "the graph is differentiated already");
    CHECK(loss && loss->dtype == DTYPE_F32 && shape_count(&loss->shape) == 1, STATUS_INVALID,
          "the loss must be one f32 number, not %s",
          loss ? shape_format(&loss->shape, text) : "missing");
    CHECK(loss->differentiable, STATUS_INVALID,
          "the loss does not depend on any trainable parameter through ops that have a gradient");
    graph->num_gradients = graph->num_tensors;
    graph->gradients = calloc((size_t)graph->num_gradients, sizeof(struct tensor *));
    CHECK(graph->gradients, STATUS_NO_MEMORY, "graph: out of memory");
    graph->loss = loss;
    graph->in_backward = true;
    struct strbuf path = graph->path; /* backward nodes carry the path of their forward node */
    graph->path = (struct strbuf){0};
    graph->gradients[loss->id] = op_fill(graph, DTYPE_F32, loss->shape, 1.0f);
    for (int64_t i = loss->node->id; i >= 0 && !graph->error; i--) {
        node_differentiate(graph, graph->nodes[i]);
    }
    for (int64_t i = 0; i < graph->num_parameters && !graph->error; i++) {
        struct parameter *parameter = &graph->parameters[i];
        if (!parameter->trainable) continue;
        struct tensor *gradient = graph->gradients[parameter->tensor->id];
        if (!gradient) continue;
        gradient = op_cast(graph, gradient, DTYPE_F32);
        if (gradient && !shape_equal(&gradient->shape, &parameter->tensor->shape)) {
            gradient = op_reshape(graph, gradient, parameter->tensor->shape);
        }
        parameter->gradient = gradient;
    }
    strbuf_fini(&graph->path);
    graph->path = path;
    graph->in_backward = false;
    return graph_status(graph);
}

int64_t graph_unused_parameters(const struct graph *graph, int64_t *indices, int64_t capacity)
{
    int64_t count = 0;
    for (int64_t i = 0; i < graph->num_parameters; i++) {
        if (!graph->parameters[i].trainable || graph->parameters[i].gradient) continue;
        if (count < capacity) indices[count] = i;
        count++;
    }
    return count;
}

/* The first op on a path from `tensor` to the loss that has no gradient; NULL when nothing reads
 * it. */
static const struct node *blocking_node(const struct graph *graph, const struct tensor *tensor)
{
    for (int64_t i = tensor->node->id + 1; i <= graph->loss->node->id; i++) {
        const struct node *node = graph->nodes[i];
        for (int k = 0; k < node->num_inputs; k++) {
            if (node->inputs[k] != tensor) continue;
            if (node->op->flags & OP_CONSTANT) return node;
            const struct node *further = blocking_node(graph, &node->outputs[0]);
            if (further) return further;
        }
    }
    return NULL;
}

enum status graph_check_parameters(const struct graph *graph)
{
    int64_t index = 0;
    if (graph_unused_parameters(graph, &index, 1) == 0) return STATUS_OK;
    const struct parameter *parameter = &graph->parameters[index];
    const struct node *node = blocking_node(graph, parameter->tensor);
    CHECK(node, STATUS_INVALID,
          "parameter %s: no op reads it on the way to the loss; remove it or freeze it",
          parameter->name);
    return status_fail(STATUS_INVALID,
                       "parameter %s: reaches the loss only through '%s'%s%s, which has no "
                       "gradient; freeze the parameter if that is meant",
                       parameter->name, node->op->name, *node->path ? " in " : "", node->path);
}

struct tensor *graph_gradient_of(const struct graph *graph, const struct tensor *tensor)
{
    if (!graph->gradients || tensor->id >= graph->num_gradients) return NULL;
    return graph->gradients[tensor->id];
}
