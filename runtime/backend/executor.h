/*
 * Executes a plan on a device: owns the memory of a step and replays its kernels.
 *
 * Everything is allocated and resolved in executor_create; executor_run allocates nothing, looks
 * nothing up and decides no shapes. Parameters and gradients are flat vectors in the order of the
 * graph's parameters.
 *
 * What callers read and write is host memory. On the CPU it is the memory of the step itself, and
 * the functions that move things do nothing. On a GPU it is a copy beside it: inputs are taken over
 * by executor_run, outputs are there after executor_wait, parameters and gradients after a _fetch.
 */
#ifndef WEFT_RUNTIME_BACKEND_EXECUTOR_H
#define WEFT_RUNTIME_BACKEND_EXECUTOR_H

#include "runtime/graph/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;
struct comm;
struct executor;
struct host_rows;

enum device_kind { DEVICE_CPU, DEVICE_CUDA };

enum { DEVICE_TEXT = 512 };

/*
 * Gives this rank its device, before threads are started: for CUDA the GPU of its number on the
 * host (or the only one that it sees), and the cores nearest to it unless the launcher bound it to
 * some. `text` receives what was done, "" for the CPU. Collective; `comm` NULL: one rank. Errors,
 * on all ranks together: no GPU, too few, two ranks on one, a build without CUDA.
 */
enum status device_bind(enum device_kind device, struct comm *comm, char text[DEVICE_TEXT]);

struct executor_options {
    struct plan_options plan;
    enum device_kind device; /* CUDA: the one of device_bind */
    bool tf32;               /* CUDA: f32 products keep 10 bits of their operands' mantissas */
    bool poison;             /* fill memory with NaN when its last reader is done; for tests */
    bool check_finite; /* look for NaN and infinity after every kernel; slow, names the first op */
    bool profile;      /* add up the time of every step */
    bool separate;     /* every buffer is an allocation of its own, for memory checkers */
    uint64_t seed;
    struct comm *comm; /* borrowed; NULL for one rank */
    /* The flat vectors in the device's memory; borrowed, at least graph_flat_elements, 64-byte
     * aligned. NULL: owned here. */
    float *parameters;
    float *gradients;
    /* CUDA: for the check that all fits in its memory, and the message when it does not. */
    int64_t batch;  /* samples of the step; 0: not known */
    size_t reserve; /* bytes that the caller will allocate beside the executor */
    bool ahead;     /* CUDA: executor_inputs_send will be called; holds the inputs twice */
};

/* Collective when there is a comm. The graph is borrowed. Errors: the plan's, out of memory. */
enum status executor_create(struct executor **executor, const struct graph *graph,
                            const struct executor_options *options);
void executor_destroy(struct executor **executor);

const struct plan *executor_plan(const struct executor *executor);

/*
 * The flat vectors in host memory, graph_flat_elements long; never NULL on the CPU, NULL on a GPU
 * when the host has no memory for them, which a _fetch says as an error. What the device computed
 * is in them after a _fetch. After writing parameters, call _changed.
 */
float *executor_parameters(struct executor *executor);
float *executor_gradients(struct executor *executor);
enum status executor_parameters_fetch(struct executor *executor);
enum status executor_gradients_fetch(struct executor *executor);
void executor_parameters_changed(struct executor *executor);

/* The same vectors where the device has them, for an update there; what was written to the host's
 * is there first. NULL with a status_message when that fails. After the update, call _changed. */
float *executor_device_parameters(struct executor *executor);
float *executor_device_gradients(struct executor *executor);
void executor_device_parameters_changed(struct executor *executor);

/*
 * The stream of a GPU that all its work is on; NULL on the CPU. What is enqueued there (an update)
 * comes behind the runs before it, which executor_wait waits for alone, and before what reads the
 * vectors later: runs and fetches.
 */
struct CUstream_st *executor_stream(const struct executor *executor);

/* Fills the parameters from their `init` rules. A function of seed and names alone. Errors: no host
 * memory for them beside a GPU's, as of executor_parameters_fetch. */
enum status executor_init_parameters(struct executor *executor);

/*
 * The host memory of an input (to be filled before a run; between a run and a wait see
 * executor_inputs_wait), of an output (after a run and a wait) or of a parameter. NULL when the
 * plan does not hold it at the end of a step. The size is tensor_bytes(tensor).
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
 * Runs the step once. With `reduce`, all buckets are reduced when it is over (summed over ranks; a
 * bucket belongs to all ranks, or with num_slices > 1 to rank bucket.slice alone). Collective when
 * the graph has collectives or `reduce` is set. Errors: an index out of range, a non-finite value
 * under check_finite, STATUS_COMM.
 */
enum status executor_run(struct executor *executor, const struct executor_run *run);

/* Returns when the last run is over and its outputs are in host memory. Errors: those that the
 * device found in the run. */
enum status executor_wait(struct executor *executor);

/*
 * For filling the inputs of the next run while a device computes the last one. _wait returns when
 * the last run needs what is in the host's memory of inputs no more, and they may be written; _send
 * brings what was written to the device, beside the inputs of the run that goes on, and the next
 * executor_run takes it from there. After _send inputs must not be written before another _wait,
 * which takes back what was sent. Between executor_run and executor_wait, or outside; not with
 * op_fetch_rows, whose host_rows may read inputs to the end of a run. On the CPU, whose runs are
 * over when they return, both do nothing. Not collective. Errors: the device's; STATUS_INVALID for
 * _send without the option `ahead`.
 */
enum status executor_inputs_wait(struct executor *executor);
enum status executor_inputs_send(struct executor *executor);

/* Seconds that the device took for the last run, after its wait. 0 on the CPU. */
double executor_run_seconds(struct executor *executor);

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

/* The same of any device, which need not be there. Errors: STATUS_UNSUPPORTED in a build without
 * it. */
enum status executor_plan_backend(enum device_kind device, const struct plan_backend **backend);

#ifdef __cplusplus
}
#endif
#endif
