/*
 * The CUDA backend's own: the state of an executor on a GPU, shared by backend.cu, memory.cu,
 * steps.cu, inputs.cu and replay.cu.
 */
#ifndef WEFT_RUNTIME_BACKEND_CUDA_BACKEND_IMPL_H
#define WEFT_RUNTIME_BACKEND_CUDA_BACKEND_IMPL_H

#include <cuda_runtime.h>

#include "runtime/backend/cuda/cuda_op.h"
#include "runtime/backend/executor_impl.h"

extern "C" bool step_is_view(const struct plan_step *step);

/* Kinds of recorded work. */
enum cuda_kind {
    KIND_UPDATE,
    KIND_STEP,
    KIND_STEP_ADDING,
    KIND_STEP_REDUCING,
    KIND_STEP_ADDING_REDUCING,
    KIND_COUNT
};

/* An output of the graph that is no input or gradient: copied back after each run. A parameter too,
 * as its host copy is only as new as the last fetch. */
struct cuda_output {
    int value;
    size_t bytes;
    size_t offset; /* in the host copy */
};

struct cuda_state {
    cudaStream_t stream;
    cudaEvent_t start, end;  /* of an op, for the profile */
    cudaEvent_t begun, ran;  /* the last run's begin, and its end, whatever is enqueued behind it */
    cudaStream_t copies;     /* of inputs to the device */
    char *ahead;             /* device: inputs of the next run; NULL without the option */
    cudaEvent_t inputs_read; /* the host's inputs are on the device */
    cudaEvent_t ahead_taken; /* those of `ahead` are where the kernels read them */
    bool is_sent;            /* `ahead` holds the inputs of the next run */
    bool owned[PLAN_CLASS_COUNT];
    struct cuda_values *values;      /* device */
    struct cuda_values *values_host; /* pinned */
    int32_t *fault;                  /* device */
    int32_t *fault_host;             /* pinned */
    struct cuda_host host;
    char *inputs;  /* pinned copy of the class */
    char *outputs; /* pinned */
    struct cuda_output *output;
    int num_outputs;
    float *flat[2];           /* host copies of parameters and gradients; NULL until asked for */
    bool parameters_edited;   /* the host's parameters are newer than the device's */
    bool flat_stale[2];       /* the device's are newer than the host's */
    struct device_comm *comm; /* NULL for one rank */
    cudaEvent_t fork, join;   /* between `stream` and that of the buckets */
    bool is_forked;           /* since the last join */
    int *cuts;                /* steps between two pieces */
    int num_cuts;
    cudaGraphExec_t *graph[KIND_COUNT]; /* by piece */
    bool seen[KIND_COUNT];
    uint64_t run_number;
    uint32_t call; /* of this run, to the watchdog */
    bool sync;     /* wait after each op */
    bool running;  /* since the last wait */
    bool tuned;    /* the products' algorithms are chosen */
};

static inline struct cuda_state *state_of(const struct executor *e)
{
    return (struct cuda_state *)e->state;
}

/* ---- memory.cu: what an executor holds on the GPU, and its pinned host memory ---- */

/* Everything of the state; on several ranks collective, and a rank without memory fails all. */
enum status cuda_allocate(struct executor *e);
void cuda_release(struct executor *e);

/* ---- steps.cu: the steps of a plan ---- */

/* Enqueues step `index` on the run's stream. */
enum status cuda_step_enqueue(struct executor *e, int index, const struct cuda_run *run);

/* Runs a step to its end, says what went wrong in it, and looks at its time and its values where
 * that was asked for. */
enum status cuda_step_alone(struct executor *e, int index, const struct cuda_run *run);

/* Fills the buffers that die with step `index` with NaN. */
enum status cuda_step_poison(struct executor *e, int index);

/* The error of a fault word. */
enum status cuda_fault_describe(const struct executor *e, int number);

/* ---- inputs.cu ---- */

/* The backend's `inputs_wait` and `inputs_send`. */
enum status cuda_inputs_wait(struct executor *e);
enum status cuda_inputs_send(struct executor *e);

/* Orders the run's stream behind the inputs where the kernels read them: what was sent, or else
 * what the host's memory holds. No run is going on. */
enum status cuda_inputs_take(struct executor *e);

/* ---- replay.cu: runs ---- */

enum status cuda_run_step(struct executor *e, const struct executor_run *run);

/* Until all that is on the stream is done; `what` is for messages. */
enum status cuda_finish(struct executor *e, const char *what);

/* The backend's `wait`. */
enum status cuda_wait(struct executor *e);

/* The backend's `seconds`. */
double cuda_seconds(struct executor *e);

/* The backend's `settle`. */
enum status cuda_settle(struct executor *e);

#endif
