/*
 * Collectives over MPI.
 *
 * A call is cut into chunks, and each chunk is a small machine of non-blocking point-to-point
 * messages ("transfer") that comm_progress advances. Calls queue in the order they were started and
 * a fixed number of transfers is in flight, which bounds the workspace and pipelines large buckets:
 * one chunk is summed while the next is on its way.
 *
 * All-reduce = each rank receives its slice of the chunk from everyone, adds in rank order, and
 * sends the result to everyone. This moves 2 (p-1)/p of the data per rank, as a ring does, but the
 * order of the sum is the ranks' order for every element. Tiny chunks skip the second round: all
 * data to all, all add.
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

#include "runtime/comm/comm_impl.h"

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
    NUM_TRANSFERS = 4,
    TINY_BYTES = 4096,          /* all-reduce in one round up to here */
    SLICE_BYTES = 256 * 1024,   /* wanted size of one rank's slice of a chunk */
    MIN_CHUNK_BYTES = 1 << 20,  /* of the default chunk */
    MAX_CHUNK_BYTES = 64 << 20, /* of the default chunk */
    TAG_ROUND_BITS = 1,         /* tags: hash | sequence | chunk | round */
    TAG_CHUNK_BITS = 5,         /* above NUM_TRANSFERS */
    TAG_SEQUENCE_BITS = 9,      /* MPI guarantees 15 bits in all */
    TAG_HASH_SHIFT = TAG_ROUND_BITS + TAG_CHUNK_BITS + TAG_SEQUENCE_BITS,
    ALIGN_ELEMENTS = 32, /* slices of a chunk start at multiples of this */
};

struct mpi_handle {
    struct comm_handle base;
    struct comm_call call; /* its counts point to the arrays below */
    int64_t *send_offsets; /* [size + 1] elements */
    int64_t *recv_offsets; /* [size + 1] */
    int64_t element;       /* bytes */
    int64_t piece;         /* elements a chunk covers: of the buffer, or of each rank's slice */
    int64_t num_chunks;
    int64_t next_chunk; /* the next to start */
    int64_t chunks_done;
    int tag;                 /* without chunk and round */
    struct mpi_handle *next; /* in the queue or the free list */
};

struct transfer {
    struct mpi_handle *handle; /* NULL = free */
    int64_t chunk;
    int64_t begin; /* first element of the chunk */
    int64_t count; /* elements of an all-reduce chunk */
    bool is_tiny;  /* all-reduce in one round */
    int round;
    int num_requests;
    MPI_Request *requests; /* [2 size] */
    MPI_Status *statuses;  /* [2 size] */
    int64_t *expected;     /* [2 size] bytes of a receive, -1 for a send */
    int *peers;            /* [2 size] */
    const void **parts;    /* [size] */
    char *workspace;       /* owned */
    int64_t workspace_size;
};

struct mpi_comm {
    struct comm base;
    MPI_Comm world; /* owned duplicate, errors are returned */
    bool owns_mpi;
    int64_t chunk_bytes;
    int tag_hash_mask;                          /* bits of the label's hash that fit in a tag */
    struct mpi_handle *queue_head, *queue_tail; /* chunks left to start */
    struct mpi_handle *free_handles;
    int num_active; /* transfers in flight */
    struct transfer transfers[NUM_TRANSFERS];
};

/* ---- errors ---- */

static enum status mpi_fail(const struct mpi_comm *comm, const char *label, int code)
{
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int length = 0;
    MPI_Error_string(code, text, &length);
    return status_fail(STATUS_COMM, "rank %d on %s: '%s': %s", comm->base.rank, comm->base.host,
                       label, text);
}

#define MPI_TRY(comm, label, call)                                                                 \
    do {                                                                                           \
        int mpi_code = (call);                                                                     \
        if (mpi_code != MPI_SUCCESS) return mpi_fail(comm, label, mpi_code);                       \
    } while (0)

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

static int64_t count_from(const int64_t *offsets, int rank)
{
    return offsets[rank + 1] - offsets[rank];
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
    int64_t bytes = count_from(handle->recv_offsets, rank) * handle->element;
    if (bytes > 0 && to != from) memmove(to, from, (size_t)bytes);
}

/* ---- messages of one transfer ---- */

static int transfer_tag(const struct transfer *t)
{
    int chunk = (int)(t->chunk & ((1 << TAG_CHUNK_BITS) - 1));
    return t->handle->tag | chunk << TAG_ROUND_BITS | t->round;
}

static enum status post_receive(struct mpi_comm *comm, struct transfer *t, void *data,
                                int64_t bytes, int peer)
{
    if (bytes == 0) return STATUS_OK;
    int i = t->num_requests;
    MPI_TRY(
        comm, t->handle->base.label,
        MPI_Irecv(data, (int)bytes, MPI_BYTE, peer, transfer_tag(t), comm->world, &t->requests[i]));
    t->expected[i] = bytes;
    t->peers[i] = peer;
    t->num_requests++;
    return STATUS_OK;
}

static enum status post_send(struct mpi_comm *comm, struct transfer *t, const void *data,
                             int64_t bytes, int peer)
{
    if (bytes == 0) return STATUS_OK;
    int i = t->num_requests;
    MPI_TRY(
        comm, t->handle->base.label,
        MPI_Isend(data, (int)bytes, MPI_BYTE, peer, transfer_tag(t), comm->world, &t->requests[i]));
    t->expected[i] = -1;
    t->peers[i] = peer;
    t->num_requests++;
    comm->base.stats.bytes_sent += bytes;
    return STATUS_OK;
}

/* The peers are visited from the next rank on (receives from the previous one backwards), so that
 * not everyone starts with rank 0. */
static int peer_after(const struct mpi_comm *comm, int i)
{
    return (comm->base.rank + i) % comm->base.size;
}

static int peer_before(const struct mpi_comm *comm, int i)
{
    return (comm->base.rank - i + comm->base.size) % comm->base.size;
}

static enum status reserve_workspace(const struct mpi_comm *comm, struct transfer *t, int64_t bytes)
{
    if (bytes <= t->workspace_size) return STATUS_OK;
    free(t->workspace);
    t->workspace_size = 0;
    t->workspace = aligned_alloc(64, (size_t)(bytes + 63) / 64 * 64);
    CHECK(t->workspace, STATUS_NO_MEMORY, "rank %d: '%s': no memory for %lld bytes of workspace",
          comm->base.rank, t->handle->base.label, (long long)bytes);
    t->workspace_size = bytes;
    return STATUS_OK;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Elements of [begin, begin + piece) that exist among `count`. */
static int64_t overlap(int64_t count, int64_t begin, int64_t piece)
{
    return count > begin ? least(count - begin, piece) : 0;
}

/* The part of an all-reduce chunk that rank r sums: elements [*first, *first + result). */
static int64_t slice_of_chunk(const struct mpi_comm *comm, const struct transfer *t, int r,
                              int64_t *first)
{
    int64_t size = comm->base.size;
    int64_t each = (t->count + size - 1) / size;
    each = (each + ALIGN_ELEMENTS - 1) / ALIGN_ELEMENTS * ALIGN_ELEMENTS;
    *first = least(r * each, t->count);
    return least(each, t->count - *first);
}

/*
 * Receives `count` elements from every rank into the workspace as parts; the own part is `own`.
 * Used by the reductions' first round.
 */
static enum status post_part_receives(struct mpi_comm *comm, struct transfer *t, int64_t count,
                                      const void *own)
{
    int64_t bytes = count * t->handle->element;
    int64_t stride = (bytes + 63) / 64 * 64;
    TRY(reserve_workspace(comm, t, stride * comm->base.size));
    t->parts[comm->base.rank] = own;
    for (int i = 1; i < comm->base.size; i++) {
        int peer = peer_before(comm, i);
        t->parts[peer] = t->workspace + stride * peer;
        TRY(post_receive(comm, t, t->workspace + stride * peer, bytes, peer));
    }
    return STATUS_OK;
}

static enum status allreduce_begin(struct mpi_comm *comm, struct transfer *t)
{
    const struct mpi_handle *h = t->handle;
    t->count = overlap(h->call.count, t->begin, h->piece);
    t->is_tiny = t->count * h->element <= TINY_BYTES;
    char *data = (char *)h->call.recv + t->begin * h->element;
    int64_t first = 0;
    int64_t count = t->is_tiny ? t->count : slice_of_chunk(comm, t, comm->base.rank, &first);
    TRY(post_part_receives(comm, t, count, data + first * h->element));
    for (int i = 1; i < comm->base.size; i++) {
        int peer = peer_after(comm, i);
        first = 0;
        count = t->is_tiny ? t->count : slice_of_chunk(comm, t, peer, &first);
        TRY(post_send(comm, t, data + first * h->element, count * h->element, peer));
    }
    return STATUS_OK;
}

/* After the first round: sum my slice; after it, send it to all and receive theirs. */
static enum status allreduce_sum(struct mpi_comm *comm, struct transfer *t, bool *is_complete)
{
    const struct mpi_handle *h = t->handle;
    char *data = (char *)h->call.recv + t->begin * h->element;
    int64_t first = 0;
    int64_t count = t->is_tiny ? t->count : slice_of_chunk(comm, t, comm->base.rank, &first);
    char *mine = data + first * h->element;
    comm_reduce(h->call.dtype, h->call.reduction, mine, t->parts, comm->base.size, count);
    *is_complete = t->is_tiny;
    if (t->is_tiny) return STATUS_OK;
    t->round = 1;
    for (int i = 1; i < comm->base.size; i++) {
        int peer = peer_before(comm, i);
        int64_t theirs = slice_of_chunk(comm, t, peer, &first);
        TRY(post_receive(comm, t, data + first * h->element, theirs * h->element, peer));
    }
    for (int i = 1; i < comm->base.size; i++) {
        TRY(post_send(comm, t, mine, count * h->element, peer_after(comm, i)));
    }
    return STATUS_OK;
}

static enum status reduce_scatter_begin(struct mpi_comm *comm, struct transfer *t)
{
    const struct mpi_handle *h = t->handle;
    const char *send = h->call.send;
    int rank = comm->base.rank;
    int64_t count = overlap(count_from(h->recv_offsets, rank), t->begin, h->piece);
    TRY(post_part_receives(comm, t, count, send + (h->recv_offsets[rank] + t->begin) * h->element));
    for (int i = 1; i < comm->base.size; i++) {
        int peer = peer_after(comm, i);
        count = overlap(count_from(h->recv_offsets, peer), t->begin, h->piece);
        TRY(post_send(comm, t, send + (h->recv_offsets[peer] + t->begin) * h->element,
                      count * h->element, peer));
    }
    return STATUS_OK;
}

static void reduce_scatter_sum(const struct mpi_comm *comm, const struct transfer *t)
{
    const struct mpi_handle *h = t->handle;
    int64_t count = overlap(count_from(h->recv_offsets, comm->base.rank), t->begin, h->piece);
    comm_reduce(h->call.dtype, h->call.reduction, (char *)h->call.recv + t->begin * h->element,
                t->parts, comm->base.size, count);
}

/* Gather and exchange: the same receives, but a gather sends one slice to all. */
static enum status gather_begin(struct mpi_comm *comm, struct transfer *t)
{
    const struct mpi_handle *h = t->handle;
    for (int i = 1; i < comm->base.size; i++) {
        int peer = peer_before(comm, i);
        int64_t count = overlap(count_from(h->recv_offsets, peer), t->begin, h->piece);
        char *to = (char *)h->call.recv + (h->recv_offsets[peer] + t->begin) * h->element;
        TRY(post_receive(comm, t, to, count * h->element, peer));
    }
    bool is_exchange = h->call.kind == COMM_EXCHANGE;
    for (int i = 1; i < comm->base.size; i++) {
        int peer = peer_after(comm, i);
        const int64_t *offsets = is_exchange ? h->send_offsets : h->recv_offsets;
        int64_t count =
            overlap(count_from(offsets, is_exchange ? peer : comm->base.rank), t->begin, h->piece);
        int64_t from = t->begin + (is_exchange ? offsets[peer] : 0);
        TRY(post_send(comm, t, (const char *)h->call.send + from * h->element, count * h->element,
                      peer));
    }
    return STATUS_OK;
}

/* Broadcast and barrier are the library's own; their data does not depend on its algorithm. */
static enum status library_begin(struct mpi_comm *comm, struct transfer *t)
{
    const struct mpi_handle *h = t->handle;
    t->expected[0] = -1;
    t->num_requests = 1;
    if (h->call.kind == COMM_BARRIER) {
        MPI_TRY(comm, h->base.label, MPI_Ibarrier(comm->world, &t->requests[0]));
        return STATUS_OK;
    }
    int64_t bytes = overlap(h->call.count, t->begin, h->piece) * h->element;
    MPI_TRY(comm, h->base.label,
            MPI_Ibcast((char *)h->call.recv + t->begin * h->element, (int)bytes, MPI_BYTE,
                       h->call.root, comm->world, &t->requests[0]));
    if (comm->base.rank == h->call.root) comm->base.stats.bytes_sent += bytes;
    return STATUS_OK;
}

/* ---- the machine ---- */

static enum status transfer_begin(struct mpi_comm *comm, struct transfer *t, struct mpi_handle *h)
{
    t->handle = h;
    t->chunk = h->next_chunk++;
    t->begin = t->chunk * h->piece;
    t->round = 0;
    t->num_requests = 0;
    comm->num_active++;
    switch (h->call.kind) {
    case COMM_ALLREDUCE:
        return allreduce_begin(comm, t);
    case COMM_REDUCE_SCATTER:
        return reduce_scatter_begin(comm, t);
    case COMM_ALLGATHER:
    case COMM_EXCHANGE:
        return gather_begin(comm, t);
    case COMM_BROADCAST:
    case COMM_BARRIER:
        return library_begin(comm, t);
    }
    return status_fail(STATUS_INTERNAL, "'%s': unknown collective", h->base.label);
}

/* A message shorter than its receive means that the ranks disagree about the call. */
static enum status check_received(const struct mpi_comm *comm, const struct transfer *t)
{
    for (int i = 0; i < t->num_requests; i++) {
        if (t->expected[i] < 0) continue;
        int bytes = 0;
        MPI_Get_count(&t->statuses[i], MPI_BYTE, &bytes);
        CHECK(bytes == t->expected[i], STATUS_COMM,
              "rank %d on %s: '%s': rank %d sent %d bytes where %lld are expected; the ranks "
              "disagree about the sizes of this call",
              comm->base.rank, comm->base.host, t->handle->base.label, t->peers[i], bytes,
              (long long)t->expected[i]);
    }
    return STATUS_OK;
}

static enum status transfer_test(struct mpi_comm *comm, struct transfer *t, bool *arrived)
{
    int flag = 0;
    int code = MPI_Testall(t->num_requests, t->requests, &flag, t->statuses);
    if (code == MPI_ERR_IN_STATUS) {
        for (int i = 0; i < t->num_requests; i++) {
            code = t->statuses[i].MPI_ERROR;
            if (code == MPI_SUCCESS || code == MPI_ERR_PENDING) continue;
            enum status status = mpi_fail(comm, t->handle->base.label, code);
            int class = 0;
            MPI_Error_class(code, &class);
            if (class == MPI_ERR_TRUNCATE)
                return status_prefix(status, "rank %d sent more than the %lld bytes expected",
                                     t->peers[i], (long long)t->expected[i]);
            return status;
        }
    }
    MPI_TRY(comm, t->handle->base.label, code);
    *arrived = flag != 0;
    return flag ? check_received(comm, t) : STATUS_OK;
}

/* Moves one transfer on; sets t->handle to NULL when its chunk is complete. */
static enum status transfer_advance(struct mpi_comm *comm, struct transfer *t)
{
    for (;;) {
        bool arrived = false;
        TRY(transfer_test(comm, t, &arrived));
        if (!arrived) return STATUS_OK;
        t->num_requests = 0;
        bool is_complete = true;
        if (t->round == 0 && t->handle->call.kind == COMM_ALLREDUCE)
            TRY(allreduce_sum(comm, t, &is_complete));
        if (t->handle->call.kind == COMM_REDUCE_SCATTER) reduce_scatter_sum(comm, t);
        if (is_complete) break;
    }
    t->handle->chunks_done++;
    t->handle = NULL;
    comm->num_active--;
    return STATUS_OK;
}

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
        t->requests = malloc(2 * size * sizeof *t->requests);
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

enum status comm_mpi_create(const struct comm_options *options, struct comm **out)
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
    *out = &comm->base;
    return STATUS_OK;
fail:
    destroy(&comm->base);
    return status;
}
