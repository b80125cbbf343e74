/*
 * What the files of device_comm.h share: the communicator (device_comm.cu), its calls
 * (device_comm_calls.cu), waits and failures (device_comm_wait.cu).
 */
#ifndef WEFT_RUNTIME_BACKEND_CUDA_DEVICE_COMM_IMPL_CUH
#define WEFT_RUNTIME_BACKEND_CUDA_DEVICE_COMM_IMPL_CUH

#include "runtime/backend/cuda/device_comm.h"

#if defined(WEFT_NCCL)

#include <cuda_runtime.h>
#include <pthread.h>

#include "runtime/backend/cuda/kernel.cuh"
#include "runtime/backend/cuda/nccl_calls.cuh"

enum { MOST_LABELS = 4096, LABEL = 96, NO_CALL = -1 };

struct device_comm {
    struct comm *comm;
    int users;
    ncclComm_t nccl;
    cudaStream_t stream;
    cudaEvent_t reached;  /* of a wait */
    cudaEvent_t gathered; /* the end of the last gather */
    bool has_gathered;
    enum status broken;
    bool is_aborting;
    pthread_t abortion;
    int32_t *doing; /* pinned [2]: labels of what runs, on other streams and on `stream` */
    char (*labels)[LABEL];
    int num_labels;
};

/* Fails after a failure. */
enum status device_comm_check(const struct device_comm *dc);

/* Brings a call that is still in progress to its end. */
enum status device_comm_settle(struct device_comm *dc, ncclResult_t result, const char *what);

#endif
#endif
