/* What the files of runtime/graph share about a graph; nobody else includes this. */
#ifndef WEFT_RUNTIME_GRAPH_GRAPH_IMPL_H
#define WEFT_RUNTIME_GRAPH_GRAPH_IMPL_H

#include "runtime/base/arena.h"
#include "runtime/base/strbuf.h"
#include "runtime/graph/graph.h"
#include "runtime/graph/op.h"

#define GRAPH_MAX_DEPTH 32

struct graph {
    struct arena arena; /* owns nodes, names and paths */
    int64_t world_size;
    const char *error; /* the first one, with its module path */

    struct node **nodes; /* creation order */
    int64_t num_nodes;
    int64_t nodes_capacity;
    struct tensor **tensors; /* by id */
    int64_t num_tensors;
    int64_t tensors_capacity;
    struct node **table; /* hash-consing; table_size is a power of two */
    int64_t table_size;

    struct parameter *parameters;
    int64_t num_parameters;
    int64_t parameters_capacity;
    int64_t flat_elements;
    struct graph_named *inputs;
    int64_t num_inputs;
    int64_t inputs_capacity;
    struct graph_named *outputs;
    int64_t num_outputs;
    int64_t outputs_capacity;

    struct strbuf path; /* the module path now */
    size_t path_length[GRAPH_MAX_DEPTH];
    int depth;
    const char *last_path; /* the path of the newest node, reused while it stays the same */
    const char *random_scope;
    const char **blocks;
    int64_t num_blocks;
    int64_t blocks_capacity;
    int block; /* open recompute block or -1 */

    bool in_backward;
    struct tensor *loss;
    struct tensor **gradients; /* by forward tensor id, after graph_differentiate */
    int64_t num_gradients;
};

extern const struct op op_parameter;
extern const struct op op_input;

#endif
