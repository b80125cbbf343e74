/*
 * Recording: nodes, hash-consing, names, sticky errors.
 *
 * Nodes are kept in creation order, which is topological because a builder needs its inputs first.
 * The hash table maps (op, inputs, attributes) to a node. Attribute structs are compared as bytes,
 * so builders zero them before filling them in. Everything is allocated from one arena; only the
 * growing arrays are on the heap.
 */
#include "runtime/graph/graph.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/arena.h"
#include "runtime/base/rng.h"
#include "runtime/base/strbuf.h"
#include "runtime/graph/graph_impl.h"

/* Grows `*array` of elements of `size` bytes to hold one more than `count`. */
static bool grow(struct graph *graph, void **array, int64_t count, int64_t *capacity, size_t size)
{
    if (count < *capacity) return true;
    int64_t wider = *capacity ? *capacity * 2 : 64;
    void *larger = realloc(*array, (size_t)wider * size);
    if (!larger) {
        graph_fail(graph, "out of memory");
        return false;
    }
    *array = larger;
    *capacity = wider;
    return true;
}

enum status graph_create(struct graph **graph, const struct graph_options *options)
{
    *graph = calloc(1, sizeof **graph);
    CHECK(*graph, STATUS_NO_MEMORY, "graph: out of memory");
    (*graph)->world_size = options && options->world_size ? options->world_size : 1;
    (*graph)->block = -1;
    (*graph)->random_scope = "";
    if ((*graph)->world_size < 1) {
        graph_destroy(graph);
        return status_fail(STATUS_INVALID, "graph: world size must be at least 1");
    }
    return STATUS_OK;
}

void graph_destroy(struct graph **graph)
{
    struct graph *g = *graph;
    if (!g) return;
    free(g->nodes);
    free(g->tensors);
    free(g->table);
    free(g->parameters);
    free(g->inputs);
    free(g->outputs);
    free(g->blocks);
    free(g->gradients);
    strbuf_fini(&g->path);
    arena_fini(&g->arena);
    free(g);
    *graph = NULL;
}

enum status graph_status(const struct graph *graph)
{
    if (!graph->error) return STATUS_OK;
    return status_fail(STATUS_INVALID, "%s", graph->error);
}

struct tensor *graph_fail(struct graph *graph, const char *format, ...)
{
    if (graph->error) return NULL;
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const char *path = graph_path(graph);
    const char *error = arena_printf(&graph->arena, "%s%s%s", path, *path ? ": " : "", text);
    graph->error = error ? error : "out of memory";
    return NULL;
}

/* ---- module path, blocks, random sites ---- */

void graph_push(struct graph *graph, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (graph->depth == GRAPH_MAX_DEPTH) {
        graph_fail(graph, "modules nest deeper than %d", GRAPH_MAX_DEPTH);
        return;
    }
    graph->path_length[graph->depth++] = graph->path.length;
    if (graph->path.length && *text) strbuf_append(&graph->path, ".");
    strbuf_append(&graph->path, text);
}

void graph_pop(struct graph *graph)
{
    if (graph->depth == 0) {
        graph_fail(graph, "graph_pop without graph_push");
        return;
    }
    graph->path.length = graph->path_length[--graph->depth];
    if (graph->path.text) graph->path.text[graph->path.length] = '\0';
}

const char *graph_path(const struct graph *graph)
{
    return graph->path.text ? graph->path.text : "";
}

void graph_random_scope(struct graph *graph, const char *scope)
{
    char *copy = arena_strdup(&graph->arena, scope);
    if (copy) {
        graph->random_scope = copy;
    } else {
        graph_fail(graph, "out of memory");
    }
}

uint64_t graph_random_site(const struct graph *graph, const char *name)
{
    uint64_t site = rng_site(graph_path(graph));
    site = site * 31 + rng_site(name);
    return *graph->random_scope ? site * 31 + rng_site(graph->random_scope) : site;
}

void graph_block_begin(struct graph *graph, const char *name)
{
    if (graph->block >= 0) {
        graph_fail(graph, "recompute block '%s' begins inside '%s'", name,
                   graph->blocks[graph->block]);
        return;
    }
    if (!grow(graph, (void **)&graph->blocks, graph->num_blocks, &graph->blocks_capacity,
              sizeof *graph->blocks)) {
        return;
    }
    graph->blocks[graph->num_blocks] = arena_strdup(&graph->arena, name);
    graph->block = (int)graph->num_blocks++;
}

void graph_block_end(struct graph *graph)
{
    if (graph->block < 0) graph_fail(graph, "graph_block_end without graph_block_begin");
    graph->block = -1;
}

int graph_num_blocks(const struct graph *graph)
{
    return (int)graph->num_blocks;
}

const char *graph_block_name(const struct graph *graph, int block)
{
    return graph->blocks[block];
}

/* ---- nodes ---- */

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ p[i]) * 0x100000001B3u;
    }
    return hash ^ (hash >> 29);
}

static uint64_t node_hash(const struct node *node)
{
    uint64_t hash = hash_bytes(0xCBF29CE484222325u, node->op->name, strlen(node->op->name));
    for (int i = 0; i < node->num_inputs; i++) {
        hash = hash_bytes(hash, &node->inputs[i]->id, sizeof node->inputs[i]->id);
    }
    return hash_bytes(hash, node->attrs.bytes, sizeof node->attrs.bytes);
}

static bool node_equal(const struct node *a, const struct node *b)
{
    if (a->op != b->op || a->num_inputs != b->num_inputs) return false;
    for (int i = 0; i < a->num_inputs; i++) {
        if (a->inputs[i] != b->inputs[i]) return false;
    }
    return memcmp(a->attrs.bytes, b->attrs.bytes, sizeof a->attrs.bytes) == 0;
}

/* The slot that holds an equal node, or the empty slot where it belongs. */
static struct node **table_slot(const struct graph *graph, const struct node *node)
{
    uint64_t index = node_hash(node) & (uint64_t)(graph->table_size - 1);
    while (graph->table[index] && !node_equal(graph->table[index], node)) {
        index = (index + 1) & (uint64_t)(graph->table_size - 1);
    }
    return &graph->table[index];
}

static bool table_reserve(struct graph *graph)
{
    if ((graph->num_nodes + 1) * 2 <= graph->table_size) return true;
    int64_t size = graph->table_size ? graph->table_size * 2 : 1024;
    struct node **table = calloc((size_t)size, sizeof *table);
    if (!table) {
        graph_fail(graph, "out of memory");
        return false;
    }
    free(graph->table);
    graph->table = table;
    graph->table_size = size;
    for (int64_t i = 0; i < graph->num_nodes; i++) {
        *table_slot(graph, graph->nodes[i]) = graph->nodes[i];
    }
    return true;
}

/* Stores a node that passed its shape rule: numbers it and its outputs. */
static bool node_keep(struct graph *graph, struct node *node)
{
    if (!grow(graph, (void **)&graph->nodes, graph->num_nodes, &graph->nodes_capacity,
              sizeof(struct node *))) {
        return false;
    }
    bool differentiable = false;
    for (int i = 0; i < node->num_inputs && !(node->op->flags & OP_CONSTANT); i++) {
        differentiable |= node->inputs[i]->differentiable;
    }
    for (int i = 0; i < node->num_outputs; i++) {
        if (!grow(graph, (void **)&graph->tensors, graph->num_tensors, &graph->tensors_capacity,
                  sizeof(struct tensor *))) {
            return false;
        }
        struct tensor *output = &node->outputs[i];
        output->node = node;
        output->output = i;
        output->id = graph->num_tensors;
        output->differentiable = differentiable && dtype_is_float(output->dtype);
        graph->tensors[graph->num_tensors++] = output;
    }
    node->id = graph->num_nodes;
    graph->nodes[graph->num_nodes++] = node;
    return true;
}

struct tensor *graph_node_add(struct graph *graph, const struct op *op,
                              struct tensor *const *inputs, int num_inputs, const void *attrs,
                              size_t size)
{
    if (graph->error) return NULL;
    for (int i = 0; i < num_inputs; i++) {
        if (!inputs[i]) return graph_fail(graph, "%s: input %d is missing", op->name, i);
    }
    if (num_inputs < op->min_inputs || num_inputs > op->max_inputs || size > NODE_ATTRS_SIZE) {
        return graph_fail(graph, "%s: takes %d to %d inputs, got %d", op->name, op->min_inputs,
                          op->max_inputs, num_inputs);
    }
    struct node probe = {.op = op, .num_inputs = num_inputs, .block = graph->block};
    struct tensor *list[OP_MAX_INPUTS];
    for (int i = 0; i < num_inputs; i++) {
        list[i] = inputs[i];
    }
    probe.inputs = list;
    if (size) memcpy(probe.attrs.bytes, attrs, size);
    if (!table_reserve(graph)) return NULL;
    struct node **slot = table_slot(graph, &probe);
    if (*slot) return &(*slot)->outputs[0];

    struct node *node = arena_alloc(&graph->arena, sizeof *node);
    struct tensor **kept = arena_alloc(&graph->arena, (size_t)num_inputs * sizeof(struct tensor *));
    if (!node || !kept) return graph_fail(graph, "out of memory");
    *node = probe;
    if (num_inputs) memcpy(kept, inputs, (size_t)num_inputs * sizeof(struct tensor *));
    node->inputs = kept;
    node->is_backward = graph->in_backward;
    node->path = graph->last_path && strcmp(graph->last_path, graph_path(graph)) == 0
                     ? graph->last_path
                     : arena_strdup(&graph->arena, graph_path(graph));
    if (!node->path) return graph_fail(graph, "out of memory");
    graph->last_path = node->path;
    if (!op->infer(graph, node)) {
        if (!graph->error) graph_fail(graph, "%s: refused its inputs", op->name);
        return NULL;
    }
    if (!node_keep(graph, node)) return NULL;
    *slot = node;
    return &node->outputs[0];
}

/* Refuses sizes below 1 and more elements than fit, naming `kind` and `name`. */
static bool shape_check(struct graph *graph, const char *kind, const char *name,
                        const struct shape *shape)
{
    int64_t count = 1;
    char text[SHAPE_TEXT];
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dim[i] < 1) {
            graph_fail(graph, "%s%s: every size must be at least 1, got %s", kind, name,
                       shape_format(shape, text));
            return false;
        }
        if (count > INT64_MAX / 16 / shape->dim[i]) {
            graph_fail(graph, "%s%s: %s has more elements than can be addressed", kind, name,
                       shape_format(shape, text));
            return false;
        }
        count *= shape->dim[i];
    }
    return true;
}

bool node_set_output(struct graph *graph, struct node *node, int index, enum dtype dtype,
                     struct shape shape)
{
    if (!shape_check(graph, node->op->name, "", &shape)) return false;
    for (int i = shape.rank; i < SHAPE_MAX_RANK; i++) {
        shape.dim[i] = 0;
    }
    node->outputs[index].dtype = dtype;
    node->outputs[index].shape = shape;
    if (index >= node->num_outputs) node->num_outputs = index + 1;
    return true;
}

size_t tensor_bytes(const struct tensor *tensor)
{
    return (size_t)shape_count(&tensor->shape) * dtype_size(tensor->dtype);
}

struct op_cost node_cost(const struct node *node)
{
    struct op_cost cost = {0};
    if (!(node->op->flags & (OP_SOURCE | OP_VIEW))) {
        for (int i = 0; i < node->num_inputs; i++) {
            cost.bytes += (double)tensor_bytes(node->inputs[i]);
        }
        for (int i = 0; i < node->num_outputs; i++) {
            cost.bytes += (double)tensor_bytes(&node->outputs[i]);
        }
    }
    if (node->op->cost) node->op->cost(node, &cost);
    return cost;
}

struct tensor *tensor_sibling(struct tensor *tensor, int output)
{
    return tensor ? &tensor->node->outputs[output] : NULL;
}

/* ---- parameters, inputs, outputs ---- */

/* Sources differ by an ordinal in their attributes, so that hash-consing keeps them apart. */
struct source_attrs {
    int64_t ordinal;
    int64_t is_parameter;
    int64_t dtype;
    int64_t rank;
    int64_t dim[SHAPE_MAX_RANK];
};
_Static_assert(sizeof(struct source_attrs) <= NODE_ATTRS_SIZE, "source attributes are too large");

static bool source_infer(struct graph *graph, struct node *node)
{
    const struct source_attrs *attrs = NODE_ATTRS(node, struct source_attrs);
    struct shape shape = {.rank = (int)attrs->rank};
    memcpy(shape.dim, attrs->dim, sizeof shape.dim);
    return node_set_output(graph, node, 0, (enum dtype)attrs->dtype, shape);
}

const struct op op_parameter = {.name = "parameter", .flags = OP_SOURCE, .infer = source_infer};
const struct op op_input = {.name = "input", .flags = OP_SOURCE, .infer = source_infer};

static struct tensor *source_add(struct graph *graph, const struct op *op, int64_t ordinal,
                                 enum dtype dtype, struct shape shape)
{
    struct source_attrs attrs = {.ordinal = ordinal, .dtype = dtype, .rank = shape.rank};
    attrs.is_parameter = op == &op_parameter;
    memcpy(attrs.dim, shape.dim, sizeof attrs.dim);
    int block = graph->block;
    graph->block = -1;
    struct tensor *tensor = graph_node_add(graph, op, NULL, 0, &attrs, sizeof attrs);
    graph->block = block;
    return tensor;
}

struct parameter *graph_parameter_find(const struct graph *graph, const char *name)
{
    for (int64_t i = 0; i < graph->num_parameters; i++) {
        if (strcmp(graph->parameters[i].name, name) == 0) return &graph->parameters[i];
    }
    return NULL;
}

struct tensor *graph_parameter_named(struct graph *graph, const char *full_name, struct shape shape,
                                     struct init init)
{
    if (graph->error) return NULL;
    char was[SHAPE_TEXT];
    char now[SHAPE_TEXT];
    struct parameter *found = graph_parameter_find(graph, full_name);
    if (found) {
        if (shape_equal(&found->tensor->shape, &shape)) return found->tensor;
        return graph_fail(graph, "parameter %s: asked for as %s, but it is %s", full_name,
                          shape_format(&shape, now), shape_format(&found->tensor->shape, was));
    }
    if (!shape_check(graph, "parameter ", full_name, &shape)) return NULL;
    if (!grow(graph, (void **)&graph->parameters, graph->num_parameters,
              &graph->parameters_capacity, sizeof *graph->parameters)) {
        return NULL;
    }
    struct tensor *tensor =
        source_add(graph, &op_parameter, graph->num_parameters, DTYPE_F32, shape);
    char *name = arena_strdup(&graph->arena, full_name);
    if (!tensor || !name) return graph_fail(graph, "parameter %s: out of memory", full_name);
    tensor->differentiable = true;
    int64_t count = shape_count(&shape);
    graph->parameters[graph->num_parameters++] = (struct parameter){
        .name = name,
        .tensor = tensor,
        .init = init,
        .offset = graph->flat_elements,
        .count = count,
        .trainable = true,
    };
    graph->flat_elements += (count + PARAMETER_ALIGN - 1) / PARAMETER_ALIGN * PARAMETER_ALIGN;
    return tensor;
}

struct tensor *graph_parameter(struct graph *graph, const char *name, struct shape shape,
                               struct init init)
{
    const char *path = graph_path(graph);
    char full[1024];
    int length = snprintf(full, sizeof full, "%s%s%s", path, *path ? "." : "", name);
    if (length < 0 || (size_t)length >= sizeof full) {
        return graph_fail(graph, "parameter name '%s' is too long", name);
    }
    return graph_parameter_named(graph, full, shape, init);
}

void graph_parameter_freeze(struct graph *graph, struct tensor *parameter)
{
    if (!parameter) return;
    for (int64_t i = 0; i < graph->num_parameters; i++) {
        if (graph->parameters[i].tensor != parameter) continue;
        graph->parameters[i].trainable = false;
        parameter->differentiable = false;
        return;
    }
    graph_fail(graph, "only a parameter can be frozen, not the result of '%s'",
               parameter->node->op->name);
}

int64_t graph_num_parameters(const struct graph *graph)
{
    return graph->num_parameters;
}

struct parameter *graph_parameter_at(const struct graph *graph, int64_t index)
{
    return &graph->parameters[index];
}

int64_t graph_flat_elements(const struct graph *graph)
{
    return graph->flat_elements;
}

struct tensor *graph_tensor_find(const struct graph *graph, const char *name)
{
    for (int64_t i = 0; i < graph->num_inputs; i++) {
        if (strcmp(graph->inputs[i].name, name) == 0) return graph->inputs[i].tensor;
    }
    for (int64_t i = 0; i < graph->num_outputs; i++) {
        if (strcmp(graph->outputs[i].name, name) == 0) return graph->outputs[i].tensor;
    }
    return NULL;
}

struct tensor *graph_input(struct graph *graph, const char *name, enum dtype dtype,
                           struct shape shape)
{
    if (graph->error) return NULL;
    if (graph_tensor_find(graph, name)) {
        return graph_fail(graph, "input '%s' is declared twice", name);
    }
    if (!shape_check(graph, "input ", name, &shape)) return NULL;
    if (!grow(graph, (void **)&graph->inputs, graph->num_inputs, &graph->inputs_capacity,
              sizeof *graph->inputs)) {
        return NULL;
    }
    struct tensor *tensor = source_add(graph, &op_input, graph->num_inputs, dtype, shape);
    char *copy = arena_strdup(&graph->arena, name);
    if (!tensor || !copy) return graph_fail(graph, "input '%s': out of memory", name);
    graph->inputs[graph->num_inputs++] = (struct graph_named){copy, tensor};
    return tensor;
}

void graph_output(struct graph *graph, const char *name, struct tensor *tensor)
{
    if (graph->error) return;
    if (!tensor) {
        graph_fail(graph, "output '%s' has no value", name);
        return;
    }
    if (graph_tensor_find(graph, name)) {
        graph_fail(graph, "output '%s' is declared twice", name);
        return;
    }
    char *copy = arena_strdup(&graph->arena, name);
    if (!copy || !grow(graph, (void **)&graph->outputs, graph->num_outputs,
                       &graph->outputs_capacity, sizeof *graph->outputs)) {
        graph_fail(graph, "out of memory");
        return;
    }
    graph->outputs[graph->num_outputs++] = (struct graph_named){copy, tensor};
}

int64_t graph_num_inputs(const struct graph *graph)
{
    return graph->num_inputs;
}

const struct graph_named *graph_input_at(const struct graph *graph, int64_t index)
{
    return &graph->inputs[index];
}

int64_t graph_num_outputs(const struct graph *graph)
{
    return graph->num_outputs;
}

const struct graph_named *graph_output_at(const struct graph *graph, int64_t index)
{
    return &graph->outputs[index];
}

int64_t graph_num_nodes(const struct graph *graph)
{
    return graph->num_nodes;
}

struct node *graph_node_at(const struct graph *graph, int64_t index)
{
    return graph->nodes[index];
}

int64_t graph_num_tensors(const struct graph *graph)
{
    return graph->num_tensors;
}

int64_t graph_world_size(const struct graph *graph)
{
    return graph->world_size;
}
