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
#include "runtime/backend/cuda/device_comm_impl.cuh"

#if defined(WEFT_NCCL)

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

struct nccl_calls nccl;

enum status nccl_load(void)
{
    static bool is_loaded;
    if (is_loaded) return STATUS_OK;
#if defined(WEFT_CUDA_EMULATED)
#define CALL(name) nccl.name = nccl##name;
    NCCL_CALLS(CALL)
#undef CALL
#else
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    CHECK(library, STATUS_UNSUPPORTED,
          "several ranks on GPUs need NCCL: %s; install libnccl2, or name its folder in "
          "LD_LIBRARY_PATH",
          dlerror());
#define CALL(name)                                                                                 \
    nccl.name = reinterpret_cast<decltype(&nccl##name)>(dlsym(library, "nccl" #name));             \
    CHECK(nccl.name, STATUS_UNSUPPORTED,                                                           \
          "NCCL is too old, it has no nccl" #name "; use 2.18 or newer");
    NCCL_CALLS(CALL)
#undef CALL
#endif
    is_loaded = true;
    return STATUS_OK;
}

/* One for each process, as there is one GPU. */
static struct device_comm *current;

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
    status = device_comm_settle(dc, result, label);
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
        if (device_comm_settle(dc, result, "end") == STATUS_OK) nccl.CommDestroy(dc->nccl);
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

#endif
