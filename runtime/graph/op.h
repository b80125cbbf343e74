/*
 * The op table: everything the runtime knows about an op is one row.
 *
 * A row lives in the file of its op family (runtime/ops/) and is listed by one line in
 * runtime/ops/ops.def. Nothing else in the runtime names ops: the graph, the gradient, the plan,
 * the executor and the print-outs ask the row.
 */
#ifndef WEFT_RUNTIME_GRAPH_OP_H
#define WEFT_RUNTIME_GRAPH_OP_H

#include "runtime/graph/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

struct comm;
struct host_rows;
struct kernel;
struct pack_cache;
struct run_context;

enum op_flag {
    OP_VIEW = 1 << 0,        /* output 0 is input 0's memory at view_offset bytes; nothing runs */
    OP_CHEAP = 1 << 1,       /* one pass over memory: may be run again instead of kept */
    OP_COLLECTIVE = 1 << 2,  /* all ranks take part, in the same order everywhere */
    OP_RANDOM = 1 << 3,      /* depends on (seed, step, sample), so never once per update */
    OP_CONSTANT = 1 << 4,    /* no gradient by definition: masks, indices, backward-only ops */
    OP_SOURCE = 1 << 5,      /* parameter or input: has storage, nothing runs */
    OP_ACCUMULATES = 1 << 6, /* with run_context.accumulate the kernel adds to output 0 */
    OP_INPLACE_0 = 1 << 7,   /* output 0 may overwrite input 0 */
    OP_INPLACE_1 = 1 << 8,   /* output 0 may overwrite input 1 */
    OP_ANY_GRADIENT = 1 << 9 /* the gradient rule takes gradients of another float dtype */
};

struct op_cost {
    double flops; /* 2 per multiply-add */
    double bytes; /* that must move to and from memory */
};

#define OP_MAX_INPUTS 8

struct op {
    const char *name;
    int min_inputs;
    int max_inputs; /* at most OP_MAX_INPUTS */
    unsigned flags; /* of enum op_flag */

    /*
     * Shape rule: checks inputs and attributes, sets num_outputs and every output with
     * node_set_output. Refuses with graph_fail and false.
     */
    bool (*infer)(struct graph *graph, struct node *node);

    /*
     * Gradient rule: given d loss / d output for each output (NULL where none), records nodes and
     * writes d loss / d input for each input (NULL where none; the array starts as NULLs). Absent
     * for OP_CONSTANT and OP_SOURCE.
     */
    void (*gradient)(struct graph *graph, const struct node *node, struct tensor *const *d_outputs,
                     struct tensor **d_inputs);

    /* Cost of one run, added to the default of no FLOPs and the bytes of all inputs and outputs. */
    void (*cost)(const struct node *node, struct op_cost *cost);

    /*
     * Whether this op's kernel can also compute `consumer`, which reads output 0 as its input
     * `input` and is output 0's only reader. Absent: no.
     */
    bool (*fuses)(const struct node *node, const struct node *consumer, int input);

    /* OP_VIEW: byte offset of output 0 in input 0. Absent: 0. */
    size_t (*view_offset)(const struct node *node);

    /*
     * CPU. `prepare` (optional) runs once at plan time and may set kernel->state and
     * kernel->scratch_size; `run` executes and allocates nothing; `release` frees the state.
     */
    enum status (*cpu_prepare)(struct kernel *kernel);
    enum status (*cpu_run)(struct kernel *kernel, const struct run_context *run);
    void (*cpu_release)(struct kernel *kernel);
};

/* One planned call of an op, as its CPU functions see it. Pointers are resolved before the first
 * run. */
struct kernel {
    const struct node *node;
    const struct node
        *epilogue;    /* a consumer computed by this kernel, see op.fuses; NULL for none */
    bool adds;        /* the epilogue is a sum: out[0] holds the other summand at the start */
    bool accumulates; /* out[0] is a slot of the gradient vector, see OP_ACCUMULATES */
    bool sums;        /* out[num_outputs], f32, receives the sums of out[0] over all dimensions but
                         the last: see plan_backend.sums */
    int num_threads;
    void *in[OP_MAX_INPUTS];
    void *out[NODE_MAX_OUTPUTS];
    void *scratch;              /* scratch_size bytes, 64-byte aligned, contents undefined */
    size_t scratch_size;        /* set by cpu_prepare */
    void *state;                /* owned by the op: primitives and the like */
    bool stable[OP_MAX_INPUTS]; /* the input changes only with the parameters */
    int uses[OP_MAX_INPUTS]; /* stable inputs: runs per update of kernels of this op that read it */
    struct pack_cache *packs; /* where stable inputs are kept in a faster layout; NULL: nowhere */
};

/* Where a step gets raw rows that are not among its inputs: the caller knows them by number. */
struct host_rows {
    void *user;
    /* Fills rows [i] of pixels [count, pixel_bytes], ids and mask [count, length]: the picture of
     * column images[i] and the text of column texts[i], as the builder of op_fetch_rows counts. */
    enum status (*fetch)(void *user, const int32_t *images, const int32_t *texts, int64_t count,
                         uint8_t *pixels, int32_t *ids, int32_t *mask);
};

/* What a run of the whole step supplies to every kernel. */
struct run_context {
    uint64_t seed;
    uint64_t step;
    uint64_t sample_base; /* global index of this rank's first sample of this micro-batch */
    bool accumulate;      /* gradients add to the flat vector (micro-steps after the first) */
    uint64_t version;     /* of the parameters: grows with every update */
    struct comm *comm;    /* NULL for one rank */
    const struct host_rows *host; /* NULL: nothing to fetch */
};

/* The row of an op by name; NULL when there is none. */
const struct op *op_find(const char *name);
int op_count(void);
const struct op *op_at(int index);

/* Sets output `index` of a node under inference. Refuses sizes below 0 and overflow. */
bool node_set_output(struct graph *graph, struct node *node, int index, enum dtype dtype,
                     struct shape shape);

/* Bytes of a tensor. */
size_t tensor_bytes(const struct tensor *tensor);

/* Cost of one run of a node. */
struct op_cost node_cost(const struct node *node);

#ifdef __cplusplus
}
#endif
#endif
