/*
 * Executes a plan on the CPU: owns the memory of a step and replays its kernels.
 *
 * Everything is allocated and resolved in executor_create; executor_run allocates nothing, looks
 * nothing up and decides no shapes. Parameters and gradients are flat vectors in the order of the
 * graph's parameters.
 */
#ifndef WEFT_RUNTIME_BACKEND_CPU_EXECUTOR_H
#define WEFT_RUNTIME_BACKEND_CPU_EXECUTOR_H

#include "runtime/graph/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

struct comm;
struct executor;
struct host_rows;

struct executor_options {
    struct plan_options plan;
    bool poison;       /* fill memory with NaN when its last reader is done; for tests */
    bool check_finite; /* look for NaN and infinity after every kernel; slow, names the first op */
    bool profile;      /* add up the time of every step */
    uint64_t seed;
    struct comm *comm; /* borrowed; NULL for one rank */
    /* The flat vectors; borrowed, at least graph_flat_elements, 64-byte aligned. NULL: owned here.
     */
    float *parameters;
    float *gradients;
};

/* Collective when there is a comm. The graph is borrowed. Errors: the plan's, out of memory. */
enum status executor_create(struct executor **executor, const struct graph *graph,
                            const struct executor_options *options);
void executor_destroy(struct executor **executor);

const struct plan *executor_plan(const struct executor *executor);

/* The flat vectors, graph_flat_elements long. After writing parameters, call _changed. */
float *executor_parameters(struct executor *executor);
float *executor_gradients(struct executor *executor);
void executor_parameters_changed(struct executor *executor);

/* Fills the parameters from their `init` rules. A function of seed and names alone. */
void executor_init_parameters(struct executor *executor);

/*
 * The memory of an input (to be filled before a run), of an output (after a run) or of a parameter.
 * NULL when the plan does not hold it at the end of a step. The size is tensor_bytes(tensor).
 */
void *executor_data(struct executor *executor, const struct tensor *tensor);

/* The first value of a run that is not finite. */
enum { EXECUTOR_FOUND = 512 };
struct executor_found {
    int step;                  /* of the plan, the same op on all ranks; -1: there is none */
    char text[EXECUTOR_FOUND]; /* path, op and value */
};

struct executor_run {
    uint64_t step;
    uint64_t sample_base; /* global index of this rank's first sample in this micro-batch */
    bool accumulate;      /* add to the gradients: micro-steps after the first */
    bool reduce;          /* start reducing each bucket when it is complete: the last micro-step */
    /* Unless NULL, the run looks at every value it computes, tells the first that is not finite,
     * and goes on. Slow. */
    struct executor_found *nonfinite;
    const struct host_rows *host; /* for op_fetch_rows; NULL without */
};

/*
 * Runs the step once. With `reduce`, returns when all buckets are reduced (summed over ranks; a
 * bucket belongs to all ranks, or with num_slices > 1 to rank bucket.slice alone). Collective when
 * the graph has collectives or `reduce` is set. Errors: an index out of range, a non-finite value
 * under check_finite, STATUS_COMM.
 */
enum status executor_run(struct executor *executor, const struct executor_run *run);

/* Bytes held by this executor, per class of the plan. */
size_t executor_bytes(const struct executor *executor);

/* With `profile`: seconds and runs of a step since creation. */
struct executor_profile {
    double seconds;
    int64_t runs;
};
const struct executor_profile *executor_profile(const struct executor *executor, int step);

/* With `profile`: one line per op kind: runs, ms per run, GFLOP/s, GB/s. */
void executor_print_profile(const struct executor *executor, FILE *file);

/* The CPU's part of planning, for plans without an executor. */
extern const struct plan_backend cpu_plan_backend;

#ifdef __cplusplus
}
#endif
#endif
