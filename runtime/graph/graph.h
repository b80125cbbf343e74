/*
 * The recorded graph of one training or evaluation step.
 *
 * Forward code calls builders (runtime/ops/ops.h) that append nodes; nothing runs. Three properties
 * carry the design:
 *
 *   - Hash-consing: the same op on the same inputs with the same attributes is the same node.
 *     Objectives written independently share what they have in common. Random ops carry a site in
 *     their attributes, so they are shared exactly when the caller means the same draw.
 *   - Sticky errors: a builder that fails records the first message with its module path and
 * returns NULL; builders accept NULL inputs and return NULL, so forward code is a straight line
 * with one graph_status() at the end.
 *   - Creation order is a topological order, and the order in which the plan runs the nodes.
 *
 * Ownership: nodes, tensors and names live in the graph's arena until graph_destroy. Not safe for
 * concurrent use.
 */
#ifndef WEFT_RUNTIME_GRAPH_GRAPH_H
#define WEFT_RUNTIME_GRAPH_GRAPH_H

#include "runtime/base/status.h"
#include "runtime/graph/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

struct graph;
struct node;
struct op;

/* One value: an output of a node. Borrowed by everyone but the graph. */
struct tensor {
    struct node *node; /* what computes it */
    int output;        /* which output of the node */
    int64_t id;        /* dense over the graph, in creation order */
    enum dtype dtype;
    bool differentiable; /* a trainable parameter reaches it through differentiable ops */
    struct shape shape;
};

#define NODE_MAX_OUTPUTS 5
#define NODE_ATTRS_SIZE  96

struct node {
    const struct op *op;
    int64_t id; /* dense over the graph, in creation order */
    int num_inputs;
    int num_outputs;
    struct tensor **inputs;
    struct tensor outputs[NODE_MAX_OUTPUTS];
    const char *path; /* module path where it was recorded, "" at top level */
    int block;        /* recompute block, -1 for none; see graph_block_begin */
    bool is_backward; /* recorded by graph_differentiate */
    union {
        unsigned char bytes[NODE_ATTRS_SIZE];
        int64_t align;
    } attrs; /* the op's own attribute struct, zero-padded */
};

/* How a parameter starts. Values come from the counter-based generator keyed by its name. */
enum init_kind {
    INIT_ZEROS,
    INIT_ONES,
    INIT_NORMAL,       /* normal, mean 0, standard deviation `scale` */
    INIT_TRUNC_NORMAL, /* the same, redrawn outside two standard deviations */
    INIT_CONSTANT      /* `scale` everywhere */
};

struct init {
    enum init_kind kind;
    float scale;
};

#define INIT(k, s) ((struct init){(k), (s)})

struct parameter {
    const char *name;        /* dotted reference-style name */
    struct tensor *tensor;   /* f32 */
    struct tensor *gradient; /* f32, same shape; NULL before graph_differentiate or when unused */
    struct init init;
    int64_t offset; /* first element in the flat vectors, a multiple of PARAMETER_ALIGN */
    int64_t count;  /* elements */
    bool trainable;
};

/* Elements: every parameter starts on a 64-byte boundary of the flat vectors. Gaps stay zero. */
#define PARAMETER_ALIGN 16

struct graph_options {
    int64_t world_size; /* ranks that collectives span; 0 means 1 */
};

enum status graph_create(struct graph **graph, const struct graph_options *options);
void graph_destroy(struct graph **graph);

/* The first error of any builder, with its module path in status_message(); STATUS_OK before. */
enum status graph_status(const struct graph *graph);

/*
 * Records an error at the current module path unless one is recorded already. Returns NULL, so a
 * builder can say `return graph_fail(...)`.
 */
struct tensor *graph_fail(struct graph *graph, const char *format, ...) STATUS_PRINTF(2, 3);

/* Enters and leaves a module: `name` is appended to the dotted module path. Calls are paired. */
void graph_push(struct graph *graph, const char *format, ...) STATUS_PRINTF(2, 3);
void graph_pop(struct graph *graph);
const char *graph_path(const struct graph *graph);

/*
 * The scope of random draws: "" (the start) or a name such as an objective's. The site of a random
 * op is the hash of scope, module path and `name`, so under one scope the same module draws once
 * however often it is recorded, and under different scopes draws are independent, as in the
 * reference.
 */
void graph_random_scope(struct graph *graph, const char *scope);
uint64_t graph_random_site(const struct graph *graph, const char *name);

/*
 * Nodes recorded between begin and end form a recompute block: when the plan recomputes blocks,
 * only what lies outside reads of it is kept for the backward pass. Blocks do not nest.
 */
void graph_block_begin(struct graph *graph, const char *name);
void graph_block_end(struct graph *graph);
int graph_num_blocks(const struct graph *graph);
const char *graph_block_name(const struct graph *graph, int block);

/*
 * The parameter "MODULE.PATH.name". Asking again for a name gives the same tensor and must ask for
 * the same shape. Parameters are f32; ops that compute in bf16 cast them, once per update.
 */
struct tensor *graph_parameter(struct graph *graph, const char *name, struct shape shape,
                               struct init init);

/* The same by its whole name, whatever the module path. */
struct tensor *graph_parameter_named(struct graph *graph, const char *full_name, struct shape shape,
                                     struct init init);

/* Makes later uses treat the parameter as a constant. Call before its first use. */
void graph_parameter_freeze(struct graph *graph, struct tensor *parameter);

int64_t graph_num_parameters(const struct graph *graph);
struct parameter *graph_parameter_at(const struct graph *graph, int64_t index);
struct parameter *graph_parameter_find(const struct graph *graph, const char *name); /* or NULL */
int64_t graph_flat_elements(const struct graph *graph); /* length of the flat vectors, with gaps */

/* A value supplied from outside before every run, found again by its unique name. */
struct tensor *graph_input(struct graph *graph, const char *name, enum dtype dtype,
                           struct shape shape);

/* Marks a value to be kept until the end of the step and found by its unique name. */
void graph_output(struct graph *graph, const char *name, struct tensor *tensor);

struct graph_named {
    const char *name;
    struct tensor *tensor;
};
int64_t graph_num_inputs(const struct graph *graph);
const struct graph_named *graph_input_at(const struct graph *graph, int64_t index);
int64_t graph_num_outputs(const struct graph *graph);
const struct graph_named *graph_output_at(const struct graph *graph, int64_t index);

/* The input or output of that name; NULL when absent. */
struct tensor *graph_tensor_find(const struct graph *graph, const char *name);

int64_t graph_num_nodes(const struct graph *graph);
struct node *graph_node_at(const struct graph *graph, int64_t index);
int64_t graph_num_tensors(const struct graph *graph);
int64_t graph_world_size(const struct graph *graph);

/*
 * For builders: the node of `op` on `inputs` with the attribute struct `attrs` (`size` bytes, every
 * byte defined). Returns its output 0 (an existing node's when there is one), NULL after an error.
 * Optional inputs that are absent are left out of the list and told by the attributes.
 */
struct tensor *graph_node_add(struct graph *graph, const struct op *op,
                              struct tensor *const *inputs, int num_inputs, const void *attrs,
                              size_t size);

/* The attribute struct of a node, as the op's own type. */
#define NODE_ATTRS(node, type) ((const type *)(const void *)(node)->attrs.bytes)

/* Another output of the node that computes `tensor`. NULL in, NULL out. */
struct tensor *tensor_sibling(struct tensor *tensor, int output);

/*
 * Records the backward pass of `loss` (one f32 element): for every trainable parameter that
 * influences it, parameter.gradient becomes the f32 tensor of d loss / d parameter. Contributions
 * to tied and shared values sum in a fixed order. Errors: loss not a scalar, or influenced by no
 * parameter. Call once, after all forward nodes.
 */
enum status graph_differentiate(struct graph *graph, struct tensor *loss);

/*
 * Trainable parameters without a gradient: writes up to `capacity` of their indices to `indices`
 * and returns how many there are.
 */
int64_t graph_unused_parameters(const struct graph *graph, int64_t *indices, int64_t capacity);

/*
 * Refuses a graph with a trainable parameter that gets no gradient, naming it and why: no op reads
 * it, or every path to the loss runs through an op without a gradient (named). Errors:
 * STATUS_INVALID.
 */
enum status graph_check_parameters(const struct graph *graph);

/* After graph_differentiate: d loss / d tensor, NULL when there is none. Also for forward values.
 */
struct tensor *graph_gradient_of(const struct graph *graph, const struct tensor *tensor);

#ifdef __cplusplus
}
#endif
#endif
