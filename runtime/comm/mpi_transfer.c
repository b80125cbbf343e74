/*
 * One chunk of a collective as a small machine of non-blocking messages.
 *
 * All-reduce = each rank receives its slice of the chunk from everyone, adds in rank order, and
 * sends the result to everyone. This moves 2 (p-1)/p of the data per rank, as a ring does, but the
 * order of the sum is the ranks' order for every element. Tiny chunks skip the second round: all
 * data to all, all add.
 */
#include <stdio.h>
#include <stdlib.h>

#include "runtime/comm/mpi_impl.h"

enum {
    TINY_BYTES = 4096,   /* all-reduce in one round up to here */
    ALIGN_ELEMENTS = 32, /* slices of a chunk start at multiples of this */
};

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
    int64_t count = overlap(slice_count(h->recv_offsets, rank), t->begin, h->piece);
    TRY(post_part_receives(comm, t, count, send + (h->recv_offsets[rank] + t->begin) * h->element));
    for (int i = 1; i < comm->base.size; i++) {
        int peer = peer_after(comm, i);
        count = overlap(slice_count(h->recv_offsets, peer), t->begin, h->piece);
        TRY(post_send(comm, t, send + (h->recv_offsets[peer] + t->begin) * h->element,
                      count * h->element, peer));
    }
    return STATUS_OK;
}

static void reduce_scatter_sum(const struct mpi_comm *comm, const struct transfer *t)
{
    const struct mpi_handle *h = t->handle;
    int64_t count = overlap(slice_count(h->recv_offsets, comm->base.rank), t->begin, h->piece);
    comm_reduce(h->call.dtype, h->call.reduction, (char *)h->call.recv + t->begin * h->element,
                t->parts, comm->base.size, count);
}

/* Gather and exchange: the same receives, but a gather sends one slice to all. */
static enum status gather_begin(struct mpi_comm *comm, struct transfer *t)
{
    const struct mpi_handle *h = t->handle;
    for (int i = 1; i < comm->base.size; i++) {
        int peer = peer_before(comm, i);
        int64_t count = overlap(slice_count(h->recv_offsets, peer), t->begin, h->piece);
        char *to = (char *)h->call.recv + (h->recv_offsets[peer] + t->begin) * h->element;
        TRY(post_receive(comm, t, to, count * h->element, peer));
    }
    bool is_exchange = h->call.kind == COMM_EXCHANGE;
    for (int i = 1; i < comm->base.size; i++) {
        int peer = peer_after(comm, i);
        const int64_t *offsets = is_exchange ? h->send_offsets : h->recv_offsets;
        int64_t count =
            overlap(slice_count(offsets, is_exchange ? peer : comm->base.rank), t->begin, h->piece);
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

enum status transfer_begin(struct mpi_comm *comm, struct transfer *t, struct mpi_handle *handle)
{
    t->handle = handle;
    t->chunk = handle->next_chunk++;
    t->begin = t->chunk * handle->piece;
    t->round = 0;
    t->num_requests = 0;
    comm->num_active++;
    switch (handle->call.kind) {
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
    return status_fail(STATUS_INTERNAL, "'%s': unknown collective", handle->base.label);
}

static enum status size_mismatch(const struct mpi_comm *comm, const struct transfer *t, int i,
                                 const char *sent)
{
    return status_fail(STATUS_COMM,
                       "rank %d on %s: '%s': rank %d sent %s where %lld are expected; the ranks "
                       "disagree about the sizes of this call",
                       comm->base.rank, comm->base.host, t->handle->base.label, t->peers[i], sent,
                       (long long)t->expected[i]);
}

/* A message shorter than its receive means that the ranks disagree about the call. */
static enum status check_received(const struct mpi_comm *comm, const struct transfer *t)
{
    for (int i = 0; i < t->num_requests; i++) {
        if (t->expected[i] < 0) continue;
        int bytes = 0;
        MPI_Get_count(&t->statuses[i], MPI_BYTE, &bytes);
        if (bytes == t->expected[i]) continue;
        char sent[32];
        snprintf(sent, sizeof sent, "%d bytes", bytes);
        return size_mismatch(comm, t, i, sent);
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
            int class = 0;
            MPI_Error_class(code, &class);
            if (class != MPI_ERR_TRUNCATE) return mpi_fail(comm, t->handle->base.label, code);
            return size_mismatch(comm, t, i, "more bytes");
        }
    }
    MPI_TRY(comm, t->handle->base.label, code);
    *arrived = flag != 0;
    return flag ? check_received(comm, t) : STATUS_OK;
}

enum status transfer_advance(struct mpi_comm *comm, struct transfer *t)
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
