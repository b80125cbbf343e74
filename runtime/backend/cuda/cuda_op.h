/*
 * The CUDA side of an op's row.
 *
 * An op's kernel lives in runtime/ops/NAME.cu beside its C file and is listed by one line in
 * runtime/ops/ops_cuda.def. What the CUDA functions get is the same planned call that the CPU's
 * get (struct kernel), with pointers into device memory, and a stream to launch on. `run` enqueues
 * and returns: it is recorded into a graph and replayed, so what changes between runs is read by
 * the kernels from struct cuda_values and never from arguments.
 */
#ifndef WEFT_RUNTIME_BACKEND_CUDA_CUDA_OP_H
#define WEFT_RUNTIME_BACKEND_CUDA_CUDA_OP_H

#include "runtime/graph/op.h"

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st; /* cudaStream_t */
struct cuda_matmul_context;
struct device_comm;

/* What a run supplies, in device memory. */
struct cuda_values {
    uint64_t step;
    uint64_t sample_base;
};

/* What a part of the run that executes on the host tells the executor. */
struct cuda_host {
    const struct host_rows *rows; /* of this run; NULL: nothing to fetch */
    enum status status;           /* of the first that failed */
    char message[512];
};

/* A fault word that nobody wrote holds this; a kernel that finds bad data writes its number with
 * atomicMin and goes on without it. */
#define CUDA_NO_FAULT 0x7F7F7F7F

struct cuda_run {
    struct CUstream_st *stream;
    const struct cuda_values *values;
    int32_t *fault; /* device: see CUDA_NO_FAULT */
    int32_t number; /* of this call: what to write there */
    uint64_t seed;
    int64_t rank;
    bool tf32;                /* f32 products in TF32 */
    bool tunes;               /* choose algorithms by time alone; see cuda_op.tunes */
    bool accumulate;          /* gradients add to the flat vector; runs with and without it are
                                 recorded apart */
    struct cuda_host *host;   /* lives as long as the graph */
    struct device_comm *comm; /* between the ranks; NULL for one */
    int64_t size;             /* ranks */
    /* For ops that wait for the device in the middle of a run (cuda_op_waits): the number of this
     * run of the executor, and what device_comm_wait takes. */
    uint64_t run_number;
    uint32_t call;
};

/* Rows need not name what few of them have. */
#if defined(__cplusplus)
#define CUDA_OP_DEFAULT(value) = (value)
#else
#define CUDA_OP_DEFAULT(value)
#endif

struct cuda_op {
    const struct op *op;
    /* `prepare` (optional) runs once at plan time and may set kernel->state and
     * kernel->scratch_size. */
    enum status (*prepare)(struct kernel *kernel);
    enum status (*run)(struct kernel *kernel, const struct cuda_run *run);
    void (*release)(struct kernel *kernel);
    const char *fault; /* what a fault of this op means, such as "an index is out of range" */
    bool sums CUDA_OP_DEFAULT(false);  /* `run` knows kernel.sums */
    bool tunes CUDA_OP_DEFAULT(false); /* `run` knows what to do when cuda_run.tunes is set: it may
                                          overwrite outputs and scratch */
};

/* The CUDA side of an op; NULL when it has none. */
const struct cuda_op *cuda_op_find(const struct op *op);

/* Whether an op among several ranks waits for the device in the middle of a run, for counts that
 * only the host can pass on. It runs between recorded pieces. */
bool cuda_op_waits(const struct op *op);

/* For such an op further on: starts what it will wait for, so that one wait serves several. What it
 * is counted by must have been computed. */
enum status cuda_op_wait_begin(struct kernel *kernel, const struct cuda_run *run);

#ifdef __cplusplus
}
#endif
#endif
