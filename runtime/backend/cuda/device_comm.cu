/*
 * See device_comm.h.
 *
 * The communicator does not block (NCCL's blocking = 0): calls that would wait return "in
 * progress", and are polled together with the watchdog, so that a rank that never comes ends the
 * start, too. Host threads never sleep in CUDA: waits poll an event.
 *
 * Which collective hangs is not something NCCL tells. So a kernel of one thread before each call
 * writes its number into pinned host memory, and one behind takes it back: when the host gives up,
 * it finds there what was being done. Two words, as there are two streams.
 *
 * Rejected: a second communicator for the gradients. Two of them may each hold multiprocessors that
 * the other needs, in another order on another rank.
 */
#include "runtime/backend/cuda/device_comm.h"

#include <cuda_runtime.h>

#include "runtime/backend/cuda/device.h"
#include "runtime/backend/cuda/kernel.cuh"

#if defined(WEFT_NCCL)

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/backend/cuda/nccl_calls.cuh"

enum { MOST_LABELS = 4096, LABEL = 96, NO_CALL = -1 };
enum {
    SPINS_BEFORE_SLEEP = 200,
    SLEEP_NANOSECONDS = 20000,
    POLLS_PER_LOOK = 16 /* at errors */
};

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

/* One for each process, as there is one GPU. */
static struct device_comm *current;

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

static enum status check_usable(const struct device_comm *dc)
{
    CHECK(dc->broken == STATUS_OK, dc->broken, "rank %d on %s: NCCL failed before", dc->comm->rank,
          dc->comm->host);
    return STATUS_OK;
}

/* Looks at errors that have come up since. */
static enum status look(struct device_comm *dc, const char *what)
{
    ncclResult_t error = ncclSuccess;
    TRY(check_usable(dc));
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

/* Brings a call that is still in progress to its end. */
static enum status settle(struct device_comm *dc, ncclResult_t result, const char *what)
{
    for (int64_t spins = 0; result == ncclInProgress; spins++) {
        TRY(look(dc, what));
        ncclResult_t failed = nccl.CommGetAsyncError(dc->nccl, &result);
        if (failed != ncclSuccess) return nccl_failed(dc, failed, what);
        pause_briefly(spins);
    }
    return result == ncclSuccess ? STATUS_OK : nccl_failed(dc, result, what);
}

/* ---- the marks ---- */

static __global__ void mark_kernel(volatile int32_t *word, int32_t value)
{
    *word = value;
}

static int32_t label_number(struct device_comm *dc, const char *label)
{
    for (int i = 0; i < dc->num_labels; i++) {
        if (strncmp(dc->labels[i], label, LABEL - 1) == 0) return i;
    }
    if (dc->num_labels == MOST_LABELS) return MOST_LABELS - 1;
    snprintf(dc->labels[dc->num_labels], LABEL, "%s", label);
    return dc->num_labels++;
}

static enum status mark(struct device_comm *dc, int32_t value, cudaStream_t stream)
{
    return CUDA_LAUNCH(mark_kernel, 1, 1, 0, stream, dc->doing + (stream == dc->stream), value);
}

static enum status begin(struct device_comm *dc, const char *label, cudaStream_t stream)
{
    TRY(check_usable(dc));
    return mark(dc, label_number(dc, label), stream);
}

static enum status end(struct device_comm *dc, ncclResult_t result, const char *label,
                       cudaStream_t stream)
{
    TRY(settle(dc, result, label));
    return mark(dc, NO_CALL, stream);
}

/* ---- start ---- */

/* NCCL hangs, or worse, where its versions differ. */
static enum status agree_versions(struct comm *comm)
{
    int version = 0;
    nccl.GetVersion(&version);
    int32_t own = version;
    int32_t *all = (int32_t *)calloc((size_t)comm->size, sizeof *all);
    enum status status = all ? STATUS_OK : status_fail(STATUS_NO_MEMORY, "out of memory");
    TRY_GOTO(status, comm_agree_status(comm, "NCCL", status), done);
    TRY_GOTO(status, comm_allgather(comm, "NCCL", &own, all, 1, NULL, COMM_I32), done);
    for (int r = 1; r < comm->size; r++) {
        CHECK_GOTO(all[r] == all[0], status, done, STATUS_UNSUPPORTED,
                   "rank 0 on %s has NCCL %d.%d.%d, and rank %d on %s has %d.%d.%d: use the same "
                   "library on all hosts (LD_LIBRARY_PATH)",
                   comm->hosts[0], all[0] / 10000, all[0] / 100 % 100, all[0] % 100, r,
                   comm->hosts[r], all[r] / 10000, all[r] / 100 % 100, all[r] % 100);
    }
done:
    free(all);
    return status;
}

static enum status start_nccl(struct device_comm *dc)
{
    struct comm *comm = dc->comm;
    static const char label[] = "NCCL start";
    ncclUniqueId id;
    memset(&id, 0, sizeof id);
    enum status status = STATUS_OK;
    if (comm->rank == 0) {
        ncclResult_t result = nccl.GetUniqueId(&id);
        if (result != ncclSuccess) {
            status = status_fail(STATUS_COMM, "NCCL: %s: %s; NCCL_SOCKET_IFNAME names the network",
                                 nccl.GetErrorString(result), nccl.GetLastError(NULL));
        }
    }
    TRY(comm_agree_status(comm, label, status));
    TRY(comm_broadcast(comm, label, &id, (int64_t)sizeof id, COMM_U8, 0));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    uint32_t call = comm_outside_started(comm, label);
    comm_outside_wait_begin(comm, call, label);
    ncclResult_t result = nccl.CommInitRankConfig(&dc->nccl, comm->size, id, comm->rank, &config);
    status = settle(dc, result, label);
    comm_outside_wait_end(comm);
    return status;
}

static enum status start_streams(struct device_comm *dc)
{
    int least = 0;
    int greatest = 0;
    CUDA_TRY(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    CUDA_TRY(cudaStreamCreateWithPriority(&dc->stream, cudaStreamNonBlocking, greatest));
    CUDA_TRY(cudaEventCreateWithFlags(&dc->reached, cudaEventDisableTiming));
    CUDA_TRY(cudaEventCreateWithFlags(&dc->gathered, cudaEventDisableTiming));
    CUDA_TRY(cudaMallocHost((void **)&dc->doing, 2 * sizeof *dc->doing));
    dc->doing[0] = dc->doing[1] = NO_CALL;
    dc->labels = (char(*)[LABEL])calloc(MOST_LABELS, LABEL);
    CHECK(dc->labels, STATUS_NO_MEMORY, "NCCL: out of memory");
    return STATUS_OK;
}

extern "C" enum status device_comm_open(struct device_comm **opened, struct comm *comm)
{
    *opened = NULL;
    if (current) {
        CHECK(current->comm == comm, STATUS_INTERNAL, "NCCL: a second world of ranks");
        current->users++;
        *opened = current;
        return STATUS_OK;
    }
    struct device_comm *dc = (struct device_comm *)calloc(1, sizeof *dc);
    enum status status = dc ? STATUS_OK : status_fail(STATUS_NO_MEMORY, "NCCL: out of memory");
    if (dc) {
        dc->comm = comm;
        dc->users = 1;
        status = start_streams(dc);
        if (status == STATUS_OK) status = nccl_load();
    }
    TRY_GOTO(status, comm_agree_status(comm, "NCCL", status), fail);
    TRY_GOTO(status, agree_versions(comm), fail);
    TRY_GOTO(status, start_nccl(dc), fail);
    current = dc;
    *opened = dc;
    return STATUS_OK;
fail:
    device_comm_close(&dc);
    return status;
}

extern "C" void device_comm_close(struct device_comm **closed)
{
    struct device_comm *dc = *closed;
    *closed = NULL;
    if (!dc || --dc->users > 0) return;
    if (dc == current) current = NULL;
    if (dc->nccl) {
        ncclResult_t result = nccl.CommFinalize(dc->nccl);
        if (settle(dc, result, "end") == STATUS_OK) nccl.CommDestroy(dc->nccl);
    }
    if (dc->is_aborting) pthread_join(dc->abortion, NULL);
    if (dc->stream) cudaStreamDestroy(dc->stream);
    if (dc->reached) cudaEventDestroy(dc->reached);
    if (dc->gathered) cudaEventDestroy(dc->gathered);
    cudaFreeHost(dc->doing);
    free(dc->labels);
    free(dc);
}

extern "C" struct CUstream_st *device_comm_stream(struct device_comm *dc)
{
    return dc->stream;
}

/* ---- calls ---- */

static ncclDataType_t type_of(enum comm_dtype dtype)
{
    switch (dtype) {
    case COMM_F32:
        return ncclFloat32;
    case COMM_BF16:
        return ncclBfloat16;
    case COMM_F64:
        return ncclFloat64;
    case COMM_I64:
        return ncclInt64;
    case COMM_I32:
        return ncclInt32;
    default:
        return ncclUint8;
    }
}

extern "C" enum status device_comm_all_reduce(struct device_comm *dc, const char *label,
                                              const void *send, void *recv, int64_t count,
                                              enum comm_dtype dtype, struct CUstream_st *stream)
{
    TRY(begin(dc, label, stream));
    ncclResult_t result =
        nccl.AllReduce(send, recv, (size_t)count, type_of(dtype), ncclSum, dc->nccl, stream);
    return end(dc, result, label, stream);
}

extern "C" enum status device_comm_reduce(struct device_comm *dc, const char *label, float *data,
                                          int64_t count, int root, struct CUstream_st *stream)
{
    TRY(begin(dc, label, stream));
    ncclResult_t result =
        nccl.Reduce(data, data, (size_t)count, ncclFloat32, ncclSum, root, dc->nccl, stream);
    return end(dc, result, label, stream);
}

extern "C" enum status device_comm_reduce_scatter(struct device_comm *dc, const char *label,
                                                  const void *send, void *recv, int64_t count,
                                                  enum comm_dtype dtype, struct CUstream_st *stream)
{
    TRY(begin(dc, label, stream));
    ncclResult_t result =
        nccl.ReduceScatter(send, recv, (size_t)count, type_of(dtype), ncclSum, dc->nccl, stream);
    return end(dc, result, label, stream);
}

extern "C" enum status device_comm_all_gather(struct device_comm *dc, const char *label,
                                              const void *send, void *recv, int64_t count,
                                              enum comm_dtype dtype, struct CUstream_st *stream)
{
    TRY(begin(dc, label, stream));
    ncclResult_t result =
        nccl.AllGather(send, recv, (size_t)count, type_of(dtype), dc->nccl, stream);
    return end(dc, result, label, stream);
}

/* What goes wrong inside a group also comes out of its end. */
static ncclResult_t exchange_calls(struct device_comm *dc, const char *send,
                                   const int64_t *send_bytes, char *recv, const int64_t *recv_bytes,
                                   cudaStream_t stream)
{
    ncclResult_t result = nccl.GroupStart();
    for (int r = 0; result == ncclSuccess && r < dc->comm->size; r++) {
        if (send_bytes[r] > 0) {
            result = nccl.Send(send, (size_t)send_bytes[r], ncclUint8, r, dc->nccl, stream);
        }
        if (recv_bytes[r] > 0 && (result == ncclSuccess || result == ncclInProgress)) {
            result = nccl.Recv(recv, (size_t)recv_bytes[r], ncclUint8, r, dc->nccl, stream);
        }
        if (result == ncclInProgress) result = ncclSuccess;
        send += send_bytes[r];
        recv += recv_bytes[r];
    }
    ncclResult_t end = nccl.GroupEnd();
    return result == ncclSuccess ? end : result;
}

extern "C" enum status device_comm_exchange(struct device_comm *dc, const char *label,
                                            const void *send, const int64_t *send_bytes, void *recv,
                                            const int64_t *recv_bytes, struct CUstream_st *stream)
{
    TRY(begin(dc, label, stream));
    ncclResult_t result =
        exchange_calls(dc, (const char *)send, send_bytes, (char *)recv, recv_bytes, stream);
    return end(dc, result, label, stream);
}

extern "C" enum status device_comm_gather_start(struct device_comm *dc, const char *label,
                                                float *data, const int64_t *counts)
{
    TRY(begin(dc, label, dc->stream));
    /* Slices differ by a line, which ncclAllGather cannot; broadcasts of a group run together. */
    ncclResult_t result = nccl.GroupStart();
    for (int r = 0; result == ncclSuccess && r < dc->comm->size; r++) {
        if (counts[r] > 0) {
            result =
                nccl.Broadcast(data, data, (size_t)counts[r], ncclFloat32, r, dc->nccl, dc->stream);
        }
        if (result == ncclInProgress) result = ncclSuccess;
        data += counts[r];
    }
    ncclResult_t grouped = nccl.GroupEnd();
    TRY(end(dc, result == ncclSuccess ? grouped : result, label, dc->stream));
    return device_comm_gather_extend(dc);
}

extern "C" enum status device_comm_gather_extend(struct device_comm *dc)
{
    CUDA_TRY(cudaEventRecord(dc->gathered, dc->stream));
    dc->has_gathered = true;
    return STATUS_OK;
}

extern "C" enum status device_comm_order(struct device_comm *dc, struct CUstream_st *stream)
{
    if (!dc->has_gathered) return STATUS_OK;
    CUDA_TRY(cudaStreamWaitEvent(stream, dc->gathered, 0));
    return STATUS_OK;
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

#else

extern "C" enum status device_comm_open(struct device_comm **opened, struct comm *comm)
{
    (void)comm;
    *opened = NULL;
    return status_fail(STATUS_UNSUPPORTED,
                       "several ranks on GPUs need NCCL, which this build lacks: build it where "
                       "nccl.h is found (NCCL_HOME), start one rank, or run on the CPU");
}

extern "C" void device_comm_close(struct device_comm **closed)
{
    *closed = NULL;
}

static enum status no_nccl(void)
{
    return status_fail(STATUS_INTERNAL, "no NCCL");
}

extern "C" struct CUstream_st *device_comm_stream(struct device_comm *)
{
    return NULL;
}

extern "C" enum status device_comm_all_reduce(struct device_comm *, const char *, const void *,
                                              void *, int64_t, enum comm_dtype,
                                              struct CUstream_st *)
{
    return no_nccl();
}

extern "C" enum status device_comm_reduce(struct device_comm *, const char *, float *, int64_t, int,
                                          struct CUstream_st *)
{
    return no_nccl();
}

extern "C" enum status device_comm_reduce_scatter(struct device_comm *, const char *, const void *,
                                                  void *, int64_t, enum comm_dtype,
                                                  struct CUstream_st *)
{
    return no_nccl();
}

extern "C" enum status device_comm_all_gather(struct device_comm *, const char *, const void *,
                                              void *, int64_t, enum comm_dtype,
                                              struct CUstream_st *)
{
    return no_nccl();
}

extern "C" enum status device_comm_exchange(struct device_comm *, const char *, const void *,
                                            const int64_t *, void *, const int64_t *,
                                            struct CUstream_st *)
{
    return no_nccl();
}

extern "C" enum status device_comm_gather_start(struct device_comm *, const char *, float *,
                                                const int64_t *)
{
    return no_nccl();
}

extern "C" enum status device_comm_gather_extend(struct device_comm *)
{
    return no_nccl();
}

extern "C" enum status device_comm_order(struct device_comm *, struct CUstream_st *)
{
    return STATUS_OK;
}

extern "C" enum status device_comm_wait(struct device_comm *, struct CUstream_st *, uint32_t,
                                        const char *)
{
    return no_nccl();
}

extern "C" enum status device_comm_wait_event(struct device_comm *, struct CUevent_st *, uint32_t,
                                              const char *)
{
    return no_nccl();
}

#endif
