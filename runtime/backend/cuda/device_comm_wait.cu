/* Waits, and the failures that end them; see device_comm.h. */
#include "runtime/backend/cuda/device_comm_impl.cuh"

#if defined(WEFT_NCCL)

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "runtime/backend/cuda/device.h"

enum {
    SPINS_BEFORE_SLEEP = 200,
    SLEEP_NANOSECONDS = 20000,
    POLLS_PER_LOOK = 16 /* at errors */
};

/* ---- failures ---- */

static void append_doing(const struct device_comm *dc, char *text, size_t size)
{
    bool any = false;
    for (int i = 0; dc->doing && i < 2; i++) {
        int32_t number = ((volatile int32_t *)dc->doing)[i];
        if (number < 0 || number >= dc->num_labels) continue;
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%s'%s'", any ? " and " : ", in ", dc->labels[number]);
        any = true;
    }
}

/* Ends what is in flight at once, and returns when no graph holds a call of the communicator. */
static void *abort_nccl(void *communicator)
{
    /* A new thread is on the first GPU, and NCCL would go back to it. */
    if (cuda_device_ready() == STATUS_OK) nccl.CommAbort((ncclComm_t)communicator);
    return NULL;
}

/* Ends all that is in flight, and makes every later call fail as this one, whose message is the
 * thread's. The graphs are destroyed later, or never, so the abortion has a thread of its own. */
static enum status give_up(struct device_comm *dc, enum status status)
{
    if (dc->broken != STATUS_OK) return status;
    dc->broken = status;
    comm_outside_failed(dc->comm, status);
    if (dc->nccl) dc->is_aborting = pthread_create(&dc->abortion, NULL, abort_nccl, dc->nccl) == 0;
    dc->nccl = NULL;
    return status;
}

static enum status nccl_failed(struct device_comm *dc, ncclResult_t result, const char *what)
{
    char doing[3 * LABEL] = "";
    char last[512] = "";
    append_doing(dc, doing, sizeof doing);
    if (dc->nccl) snprintf(last, sizeof last, "%s", nccl.GetLastError(dc->nccl));
    return give_up(
        dc,
        status_fail(STATUS_COMM, "rank %d on %s: NCCL: %s%s: %s%s%s%s; NCCL_DEBUG=INFO tells more",
                    dc->comm->rank, dc->comm->host, what, doing, nccl.GetErrorString(result),
                    *last ? " (" : "", last, *last ? ")" : ""));
}

enum status device_comm_check(const struct device_comm *dc)
{
    CHECK(dc->broken == STATUS_OK, dc->broken, "rank %d on %s: NCCL failed before", dc->comm->rank,
          dc->comm->host);
    return STATUS_OK;
}

/* Looks at errors that have come up since. */
static enum status look(struct device_comm *dc, const char *what)
{
    ncclResult_t error = ncclSuccess;
    TRY(device_comm_check(dc));
    ncclResult_t result = nccl.CommGetAsyncError(dc->nccl, &error);
    if (result != ncclSuccess) return nccl_failed(dc, result, what);
    if (error != ncclSuccess && error != ncclInProgress) return nccl_failed(dc, error, what);
    enum status status = comm_outside_poll(dc->comm);
    return status == STATUS_OK ? STATUS_OK : give_up(dc, status);
}

static void pause_briefly(int64_t spins)
{
    if (spins < SPINS_BEFORE_SLEEP) {
        sched_yield();
    } else {
        struct timespec nap = {0, SLEEP_NANOSECONDS};
        nanosleep(&nap, NULL);
    }
}

enum status device_comm_settle(struct device_comm *dc, ncclResult_t result, const char *what)
{
    for (int64_t spins = 0; result == ncclInProgress; spins++) {
        TRY(look(dc, what));
        ncclResult_t failed = nccl.CommGetAsyncError(dc->nccl, &result);
        if (failed != ncclSuccess) return nccl_failed(dc, failed, what);
        pause_briefly(spins);
    }
    return result == ncclSuccess ? STATUS_OK : nccl_failed(dc, result, what);
}

/* ---- waiting ---- */

static enum status gpu_failed(struct device_comm *dc, cudaError_t error, const char *what)
{
    char doing[3 * LABEL] = "";
    struct cuda_device device;
    int index = cuda_device_used(&device);
    append_doing(dc, doing, sizeof doing);
    return give_up(dc,
                   status_fail(STATUS_INTERNAL,
                               "rank %d on %s: GPU %d, %s, failed in %s%s: %s; WEFT_CUDA_SYNC=1 "
                               "names the op, nvidia-smi -q and dmesg tell of the device",
                               dc->comm->rank, dc->comm->host, index, device.name, what, doing,
                               cudaGetErrorString(error)));
}

static enum status poll(struct device_comm *dc, cudaEvent_t event, const char *what)
{
    for (int64_t spins = 0;; spins++) {
        cudaError_t error = cudaEventQuery(event);
        if (error == cudaSuccess) return STATUS_OK;
        if (error != cudaErrorNotReady) return gpu_failed(dc, error, what);
        cudaGetLastError(); /* launches would find it there */
        if (spins % POLLS_PER_LOOK == 0) TRY(look(dc, what));
        pause_briefly(spins);
    }
}

extern "C" enum status device_comm_wait(struct device_comm *dc, struct CUstream_st *stream,
                                        uint32_t call, const char *what)
{
    cudaError_t error = cudaEventRecord(dc->reached, stream);
    if (error != cudaSuccess) return gpu_failed(dc, error, what);
    return device_comm_wait_event(dc, dc->reached, call, what);
}

extern "C" enum status device_comm_wait_event(struct device_comm *dc, struct CUevent_st *event,
                                              uint32_t call, const char *what)
{
    comm_outside_wait_begin(dc->comm, call, what);
    enum status status = poll(dc, event, what);
    comm_outside_wait_end(dc->comm);
    return status;
}

#endif
