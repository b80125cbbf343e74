/*
 * An executor as its backend sees it: what executor.c does for every device, and what a backend
 * adds. For runtime/backend/ only.
 */
#ifndef WEFT_RUNTIME_BACKEND_EXECUTOR_IMPL_H
#define WEFT_RUNTIME_BACKEND_EXECUTOR_IMPL_H

#include "runtime/backend/executor.h"

#ifdef __cplusplus
extern "C" {
#endif

struct backend;
struct comm_handle;

struct executor {
    const struct graph *graph;
    struct plan *plan;
    struct executor_options options;
    const struct backend *backend;
    void *memory[PLAN_CLASS_COUNT]; /* of the device */
    char **separate;                /* options.separate: each buffer's own memory */
    int *dying_first;               /* poison: by step, first entry in `dying` */
    int *dying;                     /* buffers in the order of their last step */
    struct executor_profile *profile;
    uint64_t version;             /* of the parameters */
    uint64_t updated;             /* the version that update-phase values were computed from */
    struct executor_found *found; /* executor_run.nonfinite of the current run */
    void *state;                  /* the backend's */
};

/*
 * What a device does its own way. `allocate` fills executor.memory (and `separate`) and makes the
 * state, after planning; `release` undoes what it did, also after it failed.
 */
struct backend {
    struct plan_backend plan;
    enum status (*allocate)(struct executor *executor);
    void (*release)(struct executor *executor);
    enum status (*run)(struct executor *executor, const struct executor_run *run);
    enum status (*wait)(struct executor *executor);
    enum status (*inputs_wait)(struct executor *executor);
    enum status (*inputs_send)(struct executor *executor);
    double (*seconds)(struct executor *executor); /* of the last run */
    /* Host memory of a value that is kept; NULL when there is none. */
    void *(*data)(struct executor *executor, int value);
    /* Host memory of a flat vector. */
    float *(*flat)(struct executor *executor, enum plan_class memory_class);
    /* Makes the host memory of a flat vector, or the device's, what the other is. */
    enum status (*fetch)(struct executor *executor, enum plan_class memory_class);
    void (*stale)(struct executor *executor, bool host_is_newer);
    /* Brings what was written to the host's parameters to the device. */
    enum status (*settle)(struct executor *executor);
    size_t (*bytes)(const struct executor *executor); /* beyond the plan's classes */
    struct CUstream_st *(*stream)(const struct executor *executor);
};

extern const struct backend cpu_backend;
#if defined(WEFT_CUDA)
extern const struct backend cuda_backend;
#endif

/* Where a value of the plan is on the device. */
char *executor_value_address(const struct executor *executor, int value);
char *executor_buffer_address(const struct executor *executor, int buffer);

/* STATUS_CORRUPT, naming path, op and value, when `data` (host memory) of a step's output is not
 * finite. */
enum status executor_check_finite(const struct plan_step *step, const struct tensor *tensor, int k,
                                  const void *data);

#ifdef __cplusplus
}
#endif
#endif
