/* See nccl.h. Messages go through buffers of the host, because MPI moves on at any time and device
 * memory can only be touched by work of the device. */
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <vector>

#include "runtime/base/bf16.h"
#include "tests/cuda/emulator/nccl.h"

struct emulated_nccl {
    MPI_Comm world;
    MPI_Request arrived; /* of all ranks, before there is `world` */
    bool is_ready;
    int rank, size;
    int64_t calls;
    ncclResult_t error;
    std::atomic<bool> is_aborted;
    std::atomic<int> recorded; /* groups that a graph holds */
};

static void must(int code, const char *what)
{
    if (code != MPI_SUCCESS) emulated_fail("NCCL: %s failed", what);
}

/* ---- life ---- */

ncclResult_t ncclGetVersion(int *version)
{
    const char *text = emulated_setting("WEFT_EMULATED_NCCL");
    *version = text ? atoi(text) : NCCL_VERSION_CODE;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const texts[] = {"no error",
                                        "unhandled cuda error",
                                        "unhandled system error",
                                        "internal error",
                                        "invalid argument",
                                        "invalid usage",
                                        "remote process exited or there was a network error",
                                        "NCCL operation in progress"};
    return texts[result];
}

const char *ncclGetLastError(ncclComm_t comm)
{
    return comm && comm->error != ncclSuccess ? "emulated failure" : "";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "emulated %d", (int)getpid());
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    if (strncmp(id.internal, "emulated ", 9) != 0) return ncclInvalidArgument;
    if (config->blocking != 0) emulated_fail("NCCL: a communicator that blocks");
    struct emulated_nccl *c = new struct emulated_nccl();
    c->world = MPI_COMM_NULL;
    c->arrived = MPI_REQUEST_NULL;
    c->rank = rank;
    c->size = size;
    *comm = c;
    if (emulated_setting("WEFT_EMULATED_NCCL_HANG")) return ncclInProgress;
    must(MPI_Ibarrier(MPI_COMM_WORLD, &c->arrived), "MPI_Ibarrier");
    return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
    int arrived = 0;
    if (!comm->is_ready && comm->arrived != MPI_REQUEST_NULL) {
        must(MPI_Test(&comm->arrived, &arrived, MPI_STATUS_IGNORE), "MPI_Test");
    }
    if (arrived) {
        must(MPI_Comm_dup(MPI_COMM_WORLD, &comm->world), "MPI_Comm_dup");
        comm->is_ready = true;
    }
    *error = comm->is_ready ? comm->error : ncclInProgress;
    return ncclSuccess;
}

/* NCCL would wait for the graphs, for ever. */
ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    if (comm->recorded > 0) emulated_fail("NCCL: the end of a communicator before its graphs'");
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    if (comm->world != MPI_COMM_NULL) must(MPI_Comm_free(&comm->world), "MPI_Comm_free");
    delete comm;
    return ncclSuccess;
}

/* Its work in the queue ends; it stays allocated for that. Then, as NCCL's, this waits until no
 * graph has a call of it. */
ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    comm->is_aborted = true;
    while (comm->recorded > 0) {
        usleep(1000);
    }
    return ncclSuccess;
}

/* ---- numbers ---- */

static size_t size_of(ncclDataType_t type)
{
    switch (type) {
    case ncclInt8:
    case ncclUint8:
        return 1;
    case ncclFloat16:
    case ncclBfloat16:
        return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
        return 4;
    default:
        return 8;
    }
}

template <typename T>
static void add_parts(const char *all, size_t stride, int ranks, char *out, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        T sum = ((const T *)(const void *)(all + (size_t)(ranks - 1) * stride))[i];
        for (int r = ranks - 2; r >= 0; r--) {
            sum += ((const T *)(const void *)(all + (size_t)r * stride))[i];
        }
        ((T *)(void *)out)[i] = sum;
    }
}

/* From the last rank to the first. */
static void sum_parts(const char *all, size_t stride, int ranks, char *out, size_t count,
                      ncclDataType_t type)
{
    if (type == ncclFloat32) return add_parts<float>(all, stride, ranks, out, count);
    if (type == ncclInt32) return add_parts<int32_t>(all, stride, ranks, out, count);
    if (type == ncclFloat64) return add_parts<double>(all, stride, ranks, out, count);
    if (type != ncclBfloat16) emulated_fail("NCCL: a sum of type %d", (int)type);
    for (size_t i = 0; i < count; i++) {
        float sum = 0;
        for (int r = ranks - 1; r >= 0; r--) {
            bf16 value = ((const bf16 *)(const void *)(all + (size_t)r * stride))[i];
            sum = bf16_to_f32(bf16_from_f32(sum + bf16_to_f32(value)));
        }
        ((bf16 *)(void *)out)[i] = bf16_from_f32(sum);
    }
}

/* ---- calls ---- */

enum kind { ALL_REDUCE, REDUCE, REDUCE_SCATTER, ALL_GATHER, BROADCAST, SEND, RECV };

struct call {
    enum kind kind;
    const void *send;
    void *recv;
    size_t count;
    ncclDataType_t type;
    int peer;                  /* or root */
    std::vector<char> out, in; /* while it is under way */
};

/* Calls that go together; recorded in a graph, it comes again. */
struct group {
    struct emulated_nccl *comm;
    cudaStream_t stream;
    std::vector<struct call> calls;
    std::vector<MPI_Request> requests;
    bool is_under_way;
    bool is_recorded;
    ~group()
    {
        if (is_recorded) comm->recorded--;
    }
};

static void begin(struct group *g, struct call *c)
{
    struct emulated_nccl *n = g->comm;
    size_t ranks = (size_t)n->size;
    size_t bytes = c->count * size_of(c->type);
    if (c->kind == REDUCE_SCATTER) bytes *= ranks;
    bool gathers = c->kind <= ALL_GATHER;
    c->out.resize(bytes + 1);
    c->in.resize(bytes * (gathers ? ranks : 1) + 1);
    if (c->send) memcpy(c->out.data(), c->send, bytes);
    MPI_Request request;
    char *in = c->in.data();
    int count = (int)bytes;
    switch (c->kind) {
    case BROADCAST:
        if (c->peer == n->rank) memcpy(in, c->out.data(), bytes);
        must(MPI_Ibcast(in, count, MPI_BYTE, c->peer, n->world, &request), "MPI_Ibcast");
        break;
    case SEND:
        must(MPI_Isend(c->out.data(), count, MPI_BYTE, c->peer, 1, n->world, &request),
             "MPI_Isend");
        break;
    case RECV:
        must(MPI_Irecv(in, count, MPI_BYTE, c->peer, 1, n->world, &request), "MPI_Irecv");
        break;
    default:
        must(
            MPI_Iallgather(c->out.data(), count, MPI_BYTE, in, count, MPI_BYTE, n->world, &request),
            "MPI_Iallgather");
    }
    g->requests.push_back(request);
}

static void end(const struct group *g, struct call *c)
{
    const struct emulated_nccl *n = g->comm;
    size_t bytes = c->count * size_of(c->type);
    const char *in = c->in.data();
    char *out = (char *)c->recv;
    switch (c->kind) {
    case ALL_REDUCE:
        return sum_parts(in, bytes, n->size, out, c->count, c->type);
    case REDUCE:
        if (n->rank == c->peer) sum_parts(in, bytes, n->size, out, c->count, c->type);
        return;
    case REDUCE_SCATTER:
        return sum_parts(in + (size_t)n->rank * bytes, bytes * (size_t)n->size, n->size, out,
                         c->count, c->type);
    case ALL_GATHER:
        memcpy(out, in, bytes * (size_t)n->size);
        return;
    case SEND:
        return;
    default:
        memcpy(out, in, bytes);
    }
}

/* WEFT_EMULATED_NCCL_ERROR, at this call. */
static bool fails_here(struct emulated_nccl *n)
{
    const char *text = emulated_setting("WEFT_EMULATED_NCCL_ERROR");
    if (text && ++n->calls > atoll(text)) n->error = ncclRemoteError;
    return n->error != ncclSuccess;
}

static bool advance(struct group *g)
{
    if (g->comm->is_aborted) return true;
    if (g->comm->error != ncclSuccess) return false;
    if (!g->is_under_way) {
        if (fails_here(g->comm)) return false;
        g->is_under_way = true;
        for (struct call &c : g->calls) {
            begin(g, &c);
        }
    }
    int done = 0;
    must(MPI_Testall((int)g->requests.size(), g->requests.data(), &done, MPI_STATUSES_IGNORE),
         "MPI_Testall");
    if (!done) return false;
    for (struct call &c : g->calls) {
        end(g, &c);
    }
    g->requests.clear();
    g->is_under_way = false;
    return true;
}

static struct group *open_group;
static int group_depth;

ncclResult_t ncclGroupStart(void)
{
    if (group_depth++ == 0) open_group = new struct group();
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (--group_depth > 0) return ncclSuccess;
    std::shared_ptr<struct group> group(open_group);
    open_group = NULL;
    if (group->calls.empty()) return ncclSuccess;
    if (emulated_is_capturing(group->stream)) {
        group->is_recorded = true;
        group->comm->recorded++;
    }
    emulated_submit_collective(group->stream, [=]() { return advance(group.get()); });
    return ncclSuccess;
}

static ncclResult_t add(enum kind kind, const void *send, void *recv, size_t count,
                        ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)
{
    if (!comm->is_ready || comm->is_aborted) return ncclInvalidUsage;
    if (comm->error != ncclSuccess) return comm->error;
    ncclGroupStart();
    if (!open_group->calls.empty() && open_group->stream != stream)
        emulated_fail("NCCL: a group over several streams");
    open_group->comm = comm;
    open_group->stream = stream;
    open_group->calls.push_back({kind, send, recv, count, type, peer, {}, {}});
    return ncclGroupEnd();
}

ncclResult_t ncclAllReduce(const void *send, void *recv, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
    (void)op;
    return add(ALL_REDUCE, send, recv, count, type, 0, comm, stream);
}

ncclResult_t ncclReduce(const void *send, void *recv, size_t count, ncclDataType_t type,
                        ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream)
{
    (void)op;
    return add(REDUCE, send, recv, count, type, root, comm, stream);
}

ncclResult_t ncclReduceScatter(const void *send, void *recv, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
    (void)op;
    return add(REDUCE_SCATTER, send, recv, count, type, 0, comm, stream);
}

ncclResult_t ncclAllGather(const void *send, void *recv, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream)
{
    return add(ALL_GATHER, send, recv, count, type, 0, comm, stream);
}

ncclResult_t ncclBroadcast(const void *send, void *recv, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream)
{
    return add(BROADCAST, send, recv, count, type, root, comm, stream);
}

ncclResult_t ncclSend(const void *send, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream)
{
    return add(SEND, send, NULL, count, type, peer, comm, stream);
}

ncclResult_t ncclRecv(void *recv, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    return add(RECV, NULL, recv, count, type, peer, comm, stream);
}
