/*
 * Collectives over MPI.
 *
 * A call is cut into chunks, and each chunk is a small machine of non-blocking point-to-point
 * messages ("transfer") that comm_progress advances. Calls queue in the order they were started and
 * a fixed number of transfers is in flight, which bounds the workspace and pipelines large buckets:
 * one chunk is summed while the next is on its way.
 *
 * Why not MPI_Iallreduce: its order of summation depends on the algorithm that the library picks
 * by message size and rank count (so numbers would change with bucket sizes and with ZeRO-1), it
 * has no bf16, a user-defined MPI_Op for bf16 would round at every hop, and MPI_Ireduce_scatter is
 * a reduce followed by a scatter in Open MPI 4. The price: p-1 messages a chunk and rank, so the
 * chunks grow with p.
 *
 * No deadlock: all ranks start calls in the same order, so the oldest unfinished chunk is in flight
 * (or next) on every rank, and transfers never wait for a younger one. Messages are told apart by
 * tags made of call number, chunk and round; the label's hash is in the tag where the library's tag
 * range allows, so that mismatched calls hang (and are named by the watchdog) instead of mixing
 * data.
 */
#include "runtime/comm/comm_mpi.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/comm/mpi_impl.h"

/*
 * Under the leak checker, plug-ins stay loaded: MPI keeps some memory until exit, and a suppression
 * by library name matches only while the library is there.
 */
#if defined(__SANITIZE_ADDRESS__)
#define HAS_LEAK_CHECK 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_LEAK_CHECK 1
#endif
#endif
#ifdef HAS_LEAK_CHECK
int dlclose(void *handle);
int dlclose(void *handle)
{
    (void)handle;
    return 0;
}
#endif

enum {
    SLICE_BYTES = 256 * 1024,   /* wanted size of one rank's slice of a chunk */
    MIN_CHUNK_BYTES = 1 << 20,  /* of the default chunk */
    MAX_CHUNK_BYTES = 64 << 20, /* of the default chunk */
};

enum status mpi_fail(const struct mpi_comm *comm, const char *label, int code)
{
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int length = 0;
    MPI_Error_string(code, text, &length);
    return status_fail(STATUS_COMM, "rank %d on %s: '%s': %s", comm->base.rank, comm->base.host,
                       label, text);
}

/* ---- handles ---- */

static void handle_free(struct mpi_handle *handle)
{
    if (!handle) return;
    free(handle->send_offsets);
    free(handle->recv_offsets);
    free(handle);
}

static struct mpi_handle *handle_take(struct mpi_comm *comm)
{
    struct mpi_handle *handle = comm->free_handles;
    if (handle) {
        comm->free_handles = handle->next;
        return handle;
    }
    handle = calloc(1, sizeof *handle);
    if (!handle) return NULL;
    size_t bytes = ((size_t)comm->base.size + 1) * sizeof(int64_t);
    handle->send_offsets = malloc(bytes);
    handle->recv_offsets = malloc(bytes);
    if (!handle->send_offsets || !handle->recv_offsets) {
        handle_free(handle);
        return NULL;
    }
    return handle;
}

static void release(struct comm *base, struct comm_handle *handle)
{
    struct mpi_comm *comm = (struct mpi_comm *)base;
    struct mpi_handle *h = (struct mpi_handle *)handle;
    h->next = comm->free_handles;
    comm->free_handles = h;
}

static bool is_done(const struct comm_handle *handle)
{
    const struct mpi_handle *h = (const struct mpi_handle *)handle;
    return h->chunks_done == h->num_chunks;
}

/* Fills prefix sums and returns the largest count. */
static int64_t fill_offsets(int size, const int64_t *counts, int64_t equal, int64_t *offsets)
{
    int64_t largest = 0;
    offsets[0] = 0;
    for (int r = 0; r < size; r++) {
        int64_t count = counts ? counts[r] : equal;
        offsets[r + 1] = offsets[r] + count;
        if (count > largest) largest = count;
    }
    return largest;
}

/* Cuts the call into chunks. */
static void handle_plan(const struct mpi_comm *comm, struct mpi_handle *handle)
{
    const struct comm_call *call = &handle->call;
    int size = comm->base.size;
    int64_t length = call->count;
    int64_t bytes = comm->chunk_bytes;
    bool by_rank = call->kind == COMM_REDUCE_SCATTER || call->kind == COMM_ALLGATHER ||
                   call->kind == COMM_EXCHANGE;
    if (by_rank) {
        length = fill_offsets(size, call->recv_counts, call->count, handle->recv_offsets);
        bytes /= size;
    }
    if (call->kind == COMM_EXCHANGE) {
        int64_t most = fill_offsets(size, call->send_counts, 0, handle->send_offsets);
        if (most > length) length = most;
    }
    handle->element = comm_dtype_size(call->dtype);
    handle->piece = bytes / handle->element > 0 ? bytes / handle->element : 1;
    handle->num_chunks = (length + handle->piece - 1) / handle->piece;
    if (call->kind == COMM_BARRIER) handle->num_chunks = 1;
    handle->next_chunk = 0;
    handle->chunks_done = 0;
}

/* Gather and exchange copy this rank's own part at once. */
static void copy_own(const struct mpi_comm *comm, const struct mpi_handle *handle)
{
    const struct comm_call *call = &handle->call;
    int rank = comm->base.rank;
    if (call->kind != COMM_ALLGATHER && call->kind != COMM_EXCHANGE) return;
    const char *from = call->send;
    if (call->kind == COMM_EXCHANGE) from += handle->send_offsets[rank] * handle->element;
    char *to = (char *)call->recv + handle->recv_offsets[rank] * handle->element;
    int64_t bytes = slice_count(handle->recv_offsets, rank) * handle->element;
    if (bytes > 0 && to != from) memmove(to, from, (size_t)bytes);
}

/* ---- the queue ---- */

/* Puts chunks of the queue in flight while there is a free transfer. */
static enum status fill_transfers(struct mpi_comm *comm)
{
    for (int i = 0; i < NUM_TRANSFERS && comm->queue_head; i++) {
        if (comm->transfers[i].handle) continue;
        struct mpi_handle *h = comm->queue_head;
        if (h->next_chunk + 1 == h->num_chunks) {
            comm->queue_head = h->next;
            if (!comm->queue_head) comm->queue_tail = NULL;
        }
        TRY(transfer_begin(comm, &comm->transfers[i], h));
    }
    return STATUS_OK;
}

static enum status progress(struct comm *base)
{
    struct mpi_comm *comm = (struct mpi_comm *)base;
    if (comm->num_active == 0 && !comm->queue_head) return STATUS_OK;
    for (int i = 0; i < NUM_TRANSFERS; i++) {
        if (comm->transfers[i].handle) TRY(transfer_advance(comm, &comm->transfers[i]));
    }
    return fill_transfers(comm);
}

static enum status start(struct comm *base, const struct comm_call *call, struct comm_handle **out)
{
    struct mpi_comm *comm = (struct mpi_comm *)base;
    struct mpi_handle *h = handle_take(comm);
    CHECK(h, STATUS_NO_MEMORY, "rank %d: '%s': no memory for a handle", base->rank, call->label);
    snprintf(h->base.label, sizeof h->base.label, "%s", call->label);
    h->base.sequence = base->sequence;
    h->call = *call;
    h->call.label = h->base.label;
    int sequence = (int)(base->sequence & ((1 << TAG_SEQUENCE_BITS) - 1));
    int hash = (int)(comm_label_hash(h->base.label) & (uint32_t)comm->tag_hash_mask);
    h->tag = hash << TAG_HASH_SHIFT | sequence << (TAG_CHUNK_BITS + TAG_ROUND_BITS);
    handle_plan(comm, h);
    /* The caller's arrays may be gone when the next chunk starts; the offsets hold them. */
    h->call.send_counts = h->call.recv_counts = NULL;
    copy_own(comm, h);
    if (h->num_chunks == 0) {
        release(base, &h->base);
        return STATUS_OK;
    }
    h->next = NULL;
    if (comm->queue_tail) {
        comm->queue_tail->next = h;
    } else {
        comm->queue_head = h;
    }
    comm->queue_tail = h;
    *out = &h->base;
    return progress(base);
}

/* ---- life ---- */

static enum status finish(struct comm *base)
{
    struct mpi_comm *comm = (struct mpi_comm *)base;
    /* Calls nobody waited for; peers may wait for their half. */
    while (comm->num_active > 0 || comm->queue_head) {
        TRY(progress(base));
    }
    if (comm->world != MPI_COMM_NULL) MPI_Comm_free(&comm->world);
    if (comm->owns_mpi) {
        comm->owns_mpi = false;
        int code = MPI_Finalize();
        CHECK(code == MPI_SUCCESS, STATUS_COMM, "MPI_Finalize failed with code %d", code);
    }
    return STATUS_OK;
}

static void destroy(struct comm *base)
{
    struct mpi_comm *comm = (struct mpi_comm *)base;
    for (int i = 0; i < NUM_TRANSFERS; i++) {
        struct transfer *t = &comm->transfers[i];
        free(t->requests);
        free(t->statuses);
        free(t->expected);
        free(t->peers);
        free(t->parts);
        free(t->workspace);
    }
    while (comm->free_handles) {
        struct mpi_handle *next = comm->free_handles->next;
        handle_free(comm->free_handles);
        comm->free_handles = next;
    }
    free(comm);
}

static void abort_job(struct comm *base, int exit_code)
{
    (void)base;
    MPI_Abort(MPI_COMM_WORLD, exit_code);
}

static const struct comm_ops mpi_ops = {
    .name = "MPI",
    .start = start,
    .progress = progress,
    .is_done = is_done,
    .release = release,
    .finish = finish,
    .destroy = destroy,
    .abort = abort_job,
};

MPI_Comm comm_mpi_communicator(const struct comm *comm)
{
    assert(comm->ops == &mpi_ops);
    return ((const struct mpi_comm *)comm)->world;
}

static enum status allocate_transfers(struct mpi_comm *comm)
{
    size_t size = (size_t)comm->base.size;
    for (int i = 0; i < NUM_TRANSFERS; i++) {
        struct transfer *t = &comm->transfers[i];
        t->requests = malloc(2 * size * sizeof(MPI_Request));
        t->statuses = malloc(2 * size * sizeof *t->statuses);
        t->expected = malloc(2 * size * sizeof *t->expected);
        t->peers = malloc(2 * size * sizeof *t->peers);
        t->parts = malloc(size * sizeof *t->parts);
        CHECK(t->requests && t->statuses && t->expected && t->peers && t->parts, STATUS_NO_MEMORY,
              "no memory for the requests of %zu ranks", size);
    }
    return STATUS_OK;
}

/*
 * Without a launcher Open MPI 4 forks a helper daemon, which takes time and fails where no ssh is
 * installed; an isolated singleton needs none. Other libraries ignore the variable.
 */
static void prepare_singleton(void)
{
    static const char *const launchers[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK",
                                            "PMI_FD"};
    for (size_t i = 0; i < sizeof launchers / sizeof launchers[0]; i++) {
        if (getenv(launchers[i])) return;
    }
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
}

static enum status start_mpi(struct mpi_comm *comm)
{
    int is_initialized = 0;
    MPI_Initialized(&is_initialized);
    if (!is_initialized) {
        prepare_singleton();
        int provided = 0;
        int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
        CHECK(code == MPI_SUCCESS, STATUS_COMM, "MPI_Init_thread failed with code %d", code);
        comm->owns_mpi = true;
    }
    MPI_TRY(comm, "start", MPI_Comm_dup(MPI_COMM_WORLD, &comm->world));
    MPI_TRY(comm, "start", MPI_Comm_set_errhandler(comm->world, MPI_ERRORS_RETURN));
    return STATUS_OK;
}

static enum status find_place(struct mpi_comm *comm)
{
    struct comm *base = &comm->base;
    MPI_Comm local;
    MPI_TRY(comm, "start", MPI_Comm_rank(comm->world, &base->rank));
    MPI_TRY(comm, "start", MPI_Comm_size(comm->world, &base->size));
    MPI_TRY(comm, "start",
            MPI_Comm_split_type(comm->world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local));
    base->leader = base->rank;
    MPI_TRY(comm, "start", MPI_Bcast(&base->leader, 1, MPI_INT, 0, local));
    MPI_TRY(comm, "start", MPI_Comm_free(&local));
    int *tag_limit = NULL;
    int found = 0;
    MPI_TRY(comm, "start", MPI_Comm_get_attr(comm->world, MPI_TAG_UB, &tag_limit, &found));
    int64_t limit = found ? *tag_limit : (1 << TAG_HASH_SHIFT) - 1;
    while ((((int64_t)comm->tag_hash_mask * 2 + 2) << TAG_HASH_SHIFT) - 1 <= limit) {
        comm->tag_hash_mask = comm->tag_hash_mask * 2 + 1;
    }
    return STATUS_OK;
}

enum status comm_mpi_create(const struct comm_options *options, struct comm **created)
{
    struct mpi_comm *comm = calloc(1, sizeof *comm);
    CHECK(comm, STATUS_NO_MEMORY, "no memory for a communicator");
    comm->base.ops = &mpi_ops;
    comm->world = MPI_COMM_NULL;
    enum status status;
    TRY_GOTO(status, start_mpi(comm), fail);
    TRY_GOTO(status, find_place(comm), fail);
    TRY_GOTO(status, allocate_transfers(comm), fail);
    comm->chunk_bytes = options->chunk_bytes;
    if (comm->chunk_bytes <= 0) {
        comm->chunk_bytes = (int64_t)SLICE_BYTES * comm->base.size;
        if (comm->chunk_bytes < MIN_CHUNK_BYTES) comm->chunk_bytes = MIN_CHUNK_BYTES;
        if (comm->chunk_bytes > MAX_CHUNK_BYTES) comm->chunk_bytes = MAX_CHUNK_BYTES;
    }
    CHECK_GOTO(comm->chunk_bytes <= INT32_MAX / 2, status, fail, STATUS_INVALID,
               "chunk_bytes %lld is above %d", (long long)comm->chunk_bytes, INT32_MAX / 2);
    *created = &comm->base;
    return STATUS_OK;
fail:
    destroy(&comm->base);
    return status;
}
