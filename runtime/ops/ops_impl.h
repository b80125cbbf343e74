/* What the op families share: rows by name, small shape helpers. For runtime/ only. */
#ifndef WEFT_RUNTIME_OPS_OPS_IMPL_H
#define WEFT_RUNTIME_OPS_OPS_IMPL_H

#include <string.h>

#include "runtime/graph/op.h"
#include "runtime/ops/ops.h"
#include "runtime/ops/vector_kernels.h"

#define OP(name) extern const struct op op_row_##name;
#include "runtime/ops/ops.def"
#undef OP

/* Zeroes every byte of an attribute struct before it is filled in: attributes are compared as
 * bytes. */
#define ATTRS_CLEAR(attrs) memset(&(attrs), 0, sizeof(attrs))

/* Refuses with "op: what" when the condition is false. For shape rules. */
#define INFER_CHECK(condition, ...)                                                                \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            graph_fail(graph, __VA_ARGS__);                                                        \
            return false;                                                                          \
        }                                                                                          \
    } while (0)

/* Output 0 has the dtype and shape of input 0. */
bool infer_same(struct graph *graph, struct node *node);

/* The same; input 0 must be float and every further input equal to it in dtype and shape. */
bool infer_elementwise(struct graph *graph, struct node *node);

/* Refuses a tensor that is not f32 of `count` elements, naming it as `what`. */
bool check_vector(struct graph *graph, const struct node *node, const struct tensor *tensor,
                  const char *what, int64_t count);

/* Size of the last dimension (1 for rank 0), and the number of rows before it. */
int64_t shape_columns(const struct shape *shape);
int64_t shape_rows(const struct shape *shape);

/* For CPU kernels: elements and vector dtype of input 0. */
int64_t node_count(const struct kernel *kernel);
enum vector_dtype kernel_dtype(const struct kernel *kernel);
enum vector_dtype vector_type(enum dtype dtype);

/* Output 0 of a node that a gradient rule looks at. */
static inline struct tensor *tensor_of_output(const struct node *node)
{
    return ((struct node *)(uintptr_t)node)->outputs;
}

/* A node of one or two inputs and no attributes. */
struct tensor *op_unary(struct graph *g, const struct op *op, struct tensor *x);
struct tensor *op_binary(struct graph *g, const struct op *op, struct tensor *a, struct tensor *b);

/* scale * sum over [begin, end), as f32 whatever x is; only where nothing lies before `begin`. */
struct tensor *op_sum_f32(struct graph *g, struct tensor *x, int begin, int end);

/* combine(1, 1): a plain sum, which matrix products can take as an epilogue. */
bool node_is_plain_sum(const struct node *node);

#endif
