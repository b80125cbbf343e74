/*
 * The plan of a step: which kernels run in which order, and where every byte lives.
 *
 * Made once per graph, before anything is allocated, over forward, backward, gradient reduction and
 * update. It is data: it can be printed, and tested without running a kernel. Memory falls into
 * classes:
 *
 *   parameter   the flat vector of parameters                     owned by the caller
 *   gradient    the flat vector of gradients                      owned by the caller
 *   input       what is supplied before a run
 *   update      values that depend on parameters alone (casts): computed once per update, kept
 *   step        everything else, with offsets from lifetimes
 *
 * Ideas: greedy-by-size offset assignment (Pisarchyk, Lee: "Efficient memory management for deep
 * neural net inference", 2020) on exact lifetimes; a value that is an elementwise function of a
 * dying input takes its place; a final gradient is written straight into its slot of the flat
 * vector; sums of weight gradients are accumulated by the matrix product.
 */
#ifndef WEFT_RUNTIME_GRAPH_PLAN_H
#define WEFT_RUNTIME_GRAPH_PLAN_H

#include <stdio.h>

#include "runtime/graph/op.h"

#ifdef __cplusplus
extern "C" {
#endif

enum plan_recompute {
    PLAN_KEEP,            /* keep what backward reads */
    PLAN_RECOMPUTE_CHEAP, /* run one-pass ops (norms, activations) again */
    PLAN_RECOMPUTE_BLOCKS /* and whole blocks, see graph_block_begin */
};

struct plan_options {
    enum plan_recompute recompute;
    bool no_reuse;        /* every buffer has memory of its own; for tests */
    bool no_fusion;       /* no epilogues and nothing in place; for tests */
    bool accumulate;      /* the step may run several times before an update */
    int64_t bucket_bytes; /* gradient bytes per reduction; 0: 32 MiB */
    int64_t num_slices;   /* buckets end at the borders of so many equal slices (ZeRO-1); 0: 1 */
    int num_threads;      /* threads of this rank; 0: as many as OpenMP offers */
    int runs_per_update;  /* micro-steps, for the choice of packed weights; 0: 1 */
};

enum plan_class {
    PLAN_CLASS_PARAMETER,
    PLAN_CLASS_GRADIENT,
    PLAN_CLASS_INPUT,
    PLAN_CLASS_UPDATE,
    PLAN_CLASS_STEP,
    PLAN_CLASS_COUNT
};

enum plan_phase {
    PLAN_PHASE_UPDATE, /* once after every update */
    PLAN_PHASE_FORWARD,
    PLAN_PHASE_BACKWARD
};

/* Memory shared by one value and its views, or by values that overwrite each other in place. */
struct plan_buffer {
    enum plan_class memory_class;
    size_t size;
    size_t offset; /* in its class */
    int first;     /* the step that first writes it; -1: before the first step */
    int last;      /* the last step that touches it; num_steps: kept beyond the last step */
};

/* A tensor in the plan; with recomputation a tensor can be several values. */
struct plan_value {
    const struct tensor *tensor;
    int buffer;    /* -1 until assigned */
    size_t offset; /* in its buffer, bytes */
    int def;       /* step that writes it; -1 for sources */
    int last;      /* last step that reads it or its views; num_steps when kept to the end */
};

struct plan_step {
    const struct node *node; /* NULL for a store into the gradient vector */
    enum plan_phase phase;
    bool recomputed;           /* runs again what ran before */
    int in[OP_MAX_INPUTS];     /* values */
    int out[NODE_MAX_OUTPUTS]; /* with kernel.sums one more than the node has */
    int extra;                 /* value of the other summand when kernel.adds, else -1 */
    int scratch;               /* buffer or -1 */
    int64_t store;             /* the parameter whose gradient slot in[0] is stored to, or -1 */
    struct kernel kernel;
};

/* First element of slice `index` of `num_slices` of a flat vector; slices cover it in order. */
int64_t plan_slice_begin(int64_t elements, int64_t num_slices, int64_t index);

/* A contiguous piece of the flat gradient vector, reduced over ranks as one message. */
struct plan_bucket {
    int64_t offset; /* elements */
    int64_t count;
    int slice; /* which of num_slices it lies in */
    int ready; /* the step after which it is complete */
};

struct plan {
    const struct graph *graph;
    struct plan_options options;
    struct plan_step *steps;
    int num_steps;
    struct plan_value *values;
    int num_values;
    struct plan_buffer *buffers;
    int num_buffers;
    struct plan_bucket *buckets; /* in the order in which they become ready */
    int num_buckets;
    int *first_value; /* by tensor id: its value, -1 when the plan does not need it */
    size_t alignment; /* of buffers, but for parameters and gradients */
    size_t class_bytes[PLAN_CLASS_COUNT];
    size_t step_peak; /* largest sum of live step buffers: the lower bound of class_bytes[STEP] */
    struct pack_cache *packs; /* owned by the backend */
};

/* The backend's part at plan time: may set kernel->state, kernel->scratch_size. */
struct plan_backend {
    size_t alignment; /* of buffers: a power of two, at least 64 */
    enum status (*prepare)(struct kernel *kernel);
    void (*release)(struct kernel *kernel);
    enum status (*packs_create)(struct pack_cache **packs); /* NULL: the backend packs nothing */
    void (*packs_destroy)(struct pack_cache **packs);
    /* Whether the kernel of `node` can also add up the columns of its output 0, which saves the
     * gradient of a bias a pass over it. NULL: none can. */
    bool (*sums)(const struct node *node);
};

/*
 * Plans everything that the graph's outputs and parameter gradients need. The graph is borrowed and
 * must not change while the plan lives. Errors: the graph's own, out of memory, what a kernel's
 * preparation refuses.
 */
enum status plan_create(struct plan **out, const struct graph *graph,
                        const struct plan_options *options, const struct plan_backend *backend);
void plan_destroy(struct plan **plan, const struct plan_backend *backend);

/*
 * Checks the plan's own invariants: no two live step buffers overlap, every read comes after its
 * write, all offsets lie inside their class. For tests and for --check runs.
 */
enum status plan_verify(const struct plan *plan);

/* The value of a tensor at the end of the step; -1 when the plan does not compute it. */
int plan_value_of(const struct plan *plan, const struct tensor *tensor);

struct plan_totals {
    double forward_flops; /* executed: forward steps, without recomputation */
    double backward_flops;
    double recompute_flops;
    double distinct_flops; /* forward + backward as if every distinct node ran once: recomputation
                              not counted */
    double bytes;          /* moved by one run */
    int64_t reduce_bytes;  /* of gradients, per update and rank */
};
struct plan_totals plan_totals(const struct plan *plan);

/* A summary by class and phase, then one line per op kind; with `detail`, one line per step. */
void plan_print(const struct plan *plan, FILE *file, bool detail);

/* The same as one JSON object: {"memory":{...},"flops":{...},"ops":[...],"steps":[...]}. */
void plan_print_json(const struct plan *plan, FILE *file, bool detail);

#ifdef __cplusplus
}
#endif
#endif
