/*
 * The generic half of communication: checks calls, answers them at size 1, waits and counts.
 *
 * A blocking call is a started call that is waited for, so there is one path per collective and a
 * blocking call can be made while others are in flight. Waiting polls instead of blocking inside
 * the library: the loop can leave when the watchdog has given up on a peer, which a thread inside
 * MPI_Allreduce cannot.
 */
#include "runtime/comm/comm.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/base/log.h"
#include "runtime/comm/comm_impl.h"

enum {
    SPINS_BEFORE_SLEEP = 1 << 16, /* about 50 ms: longer than any part is on its way */
    SLEEP_NANOSECONDS = 100000
};

int64_t comm_dtype_size(enum comm_dtype dtype)
{
    static const int64_t sizes[COMM_NUM_DTYPES] = {
        [COMM_F32] = 4, [COMM_BF16] = 2, [COMM_F64] = 8,
        [COMM_I64] = 8, [COMM_I32] = 4,  [COMM_U8] = 1,
    };
    return sizes[dtype];
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum status comm_create(const struct comm_options *options, struct comm **out)
{
    static const struct comm_options defaults;
    if (!options) options = &defaults;
    *out = NULL;
    struct comm *comm = NULL;
    TRY(comm_mpi_create(options, &comm));
    log_set_rank(comm->rank, comm->size);
    enum status status = STATUS_OK;
    if (options->require_launched_size) {
        TRY_GOTO(status, comm_check_launched_size(comm->size), fail);
    }
    TRY_GOTO(status, comm_check_builds(comm, options->build_id), fail);
    *out = comm;
    return STATUS_OK;
fail:
    /* Every rank comes here with the same verdict, so the collective end is safe. */
    comm->ops->finish(comm);
    return status;
}

enum status comm_finish(struct comm **comm)
{
    if (!*comm) return STATUS_OK;
    enum status status = (*comm)->ops->finish(*comm);
    *comm = NULL;
    return status;
}

enum status comm_break(struct comm *comm, enum status status)
{
    if (comm->broken == STATUS_OK) {
        comm->broken = status;
        strncpy(comm->broken_message, status_message(), sizeof comm->broken_message - 1);
    }
    return status;
}

static enum status check_broken(const struct comm *comm)
{
    if (comm->broken == STATUS_OK) return STATUS_OK;
    return status_fail(comm->broken, "%s", comm->broken_message);
}

/* ---- starting ---- */

static enum status check_counts(const struct comm *comm, const char *label, const int64_t *counts,
                                const char *what)
{
    for (int r = 0; counts && r < comm->size; r++) {
        CHECK(counts[r] >= 0, STATUS_INVALID, "rank %d: '%s': %s of rank %d is %lld, below 0",
              comm->rank, label, what, r, (long long)counts[r]);
    }
    return STATUS_OK;
}

static enum status check_call(const struct comm *comm, const struct comm_call *call)
{
    const char *label = call->label;
    CHECK(call->count >= 0, STATUS_INVALID, "rank %d: '%s': count %lld is below 0", comm->rank,
          label, (long long)call->count);
    TRY(check_counts(comm, label, call->send_counts, "send count"));
    TRY(check_counts(comm, label, call->recv_counts, "count"));
    if (call->kind == COMM_ALLREDUCE || call->kind == COMM_REDUCE_SCATTER) {
        CHECK(call->dtype != COMM_U8, STATUS_INVALID, "rank %d: '%s': bytes cannot be reduced",
              comm->rank, label);
    }
    CHECK(call->kind != COMM_EXCHANGE || (call->send_counts && call->recv_counts), STATUS_INVALID,
          "rank %d: '%s': an exchange needs both counts", comm->rank, label);
    CHECK(call->root >= 0 && call->root < comm->size, STATUS_INVALID,
          "rank %d: '%s': root %d is not among %d ranks", comm->rank, label, call->root,
          comm->size);
    return STATUS_OK;
}

/* What a call means in a world of one: at most a copy. */
static enum status complete_alone(const struct comm_call *call)
{
    if (call->kind == COMM_ALLREDUCE || call->kind == COMM_BROADCAST || call->kind == COMM_BARRIER)
        return STATUS_OK;
    int64_t count = call->recv_counts ? call->recv_counts[0] : call->count;
    if (call->kind == COMM_EXCHANGE) {
        CHECK(call->send_counts[0] == count, STATUS_INVALID,
              "'%s': rank 0 sends itself %lld elements and expects %lld", call->label,
              (long long)call->send_counts[0], (long long)count);
    }
    if (count > 0 && call->recv != call->send)
        memmove(call->recv, call->send, (size_t)(count * comm_dtype_size(call->dtype)));
    return STATUS_OK;
}

enum status comm_start(struct comm *comm, const struct comm_call *call, struct comm_handle **handle)
{
    *handle = NULL;
    TRY(check_broken(comm));
    TRY(check_call(comm, call));
    comm->sequence++;
    comm->stats.calls++;
    if (comm->size == 1) return complete_alone(call);
    enum status status = comm->ops->start(comm, call, handle);
    return status == STATUS_OK ? STATUS_OK : comm_break(comm, status);
}

/* ---- waiting ---- */

enum status comm_progress(struct comm *comm)
{
    if (comm->size == 1) return STATUS_OK;
    TRY(check_broken(comm));
    enum status status = comm->ops->progress(comm);
    return status == STATUS_OK ? STATUS_OK : comm_break(comm, status);
}

enum status comm_test(struct comm *comm, struct comm_handle **handle, bool *done)
{
    *done = false;
    if (*handle) {
        TRY(comm_progress(comm));
        if (!comm->ops->is_done(*handle)) return STATUS_OK;
        comm->ops->release(comm, *handle);
        *handle = NULL;
    }
    *done = true;
    return STATUS_OK;
}

enum status comm_wait(struct comm *comm, struct comm_handle **handle)
{
    if (!*handle) return STATUS_OK;
    double start = now();
    enum status status = STATUS_OK;
    bool done = false;
    for (int64_t spins = 0;; spins++) {
        status = comm_test(comm, handle, &done);
        if (status != STATUS_OK || done) break;
        if (spins < SPINS_BEFORE_SLEEP) {
            sched_yield(); /* ranks may share a core */
        } else {
            nanosleep(&(struct timespec){.tv_nsec = SLEEP_NANOSECONDS}, NULL);
        }
    }
    comm->stats.wait_seconds += now() - start;
    return status;
}

static enum status run(struct comm *comm, const struct comm_call *call)
{
    struct comm_handle *handle;
    TRY(comm_start(comm, call, &handle));
    return comm_wait(comm, &handle);
}

/* ---- the calls ---- */

enum status comm_allreduce_start(struct comm *comm, const char *label, void *data, int64_t count,
                                 enum comm_dtype dtype, enum comm_reduction reduction,
                                 struct comm_handle **handle)
{
    struct comm_call call = {.kind = COMM_ALLREDUCE,
                             .label = label,
                             .dtype = dtype,
                             .reduction = reduction,
                             .recv = data,
                             .count = count};
    return comm_start(comm, &call, handle);
}

enum status comm_allreduce(struct comm *comm, const char *label, void *data, int64_t count,
                           enum comm_dtype dtype, enum comm_reduction reduction)
{
    struct comm_handle *handle;
    TRY(comm_allreduce_start(comm, label, data, count, dtype, reduction, &handle));
    return comm_wait(comm, &handle);
}

enum status comm_reduce_scatter(struct comm *comm, const char *label, const void *send, void *recv,
                                int64_t count, const int64_t *counts, enum comm_dtype dtype,
                                enum comm_reduction reduction)
{
    struct comm_call call = {.kind = COMM_REDUCE_SCATTER,
                             .label = label,
                             .dtype = dtype,
                             .reduction = reduction,
                             .send = send,
                             .recv = recv,
                             .count = count,
                             .recv_counts = counts};
    return run(comm, &call);
}

enum status comm_allgather(struct comm *comm, const char *label, const void *send, void *recv,
                           int64_t count, const int64_t *counts, enum comm_dtype dtype)
{
    struct comm_call call = {.kind = COMM_ALLGATHER,
                             .label = label,
                             .dtype = dtype,
                             .send = send,
                             .recv = recv,
                             .count = count,
                             .recv_counts = counts};
    return run(comm, &call);
}

enum status comm_broadcast(struct comm *comm, const char *label, void *data, int64_t count,
                           enum comm_dtype dtype, int root)
{
    struct comm_call call = {.kind = COMM_BROADCAST,
                             .label = label,
                             .dtype = dtype,
                             .root = root,
                             .recv = data,
                             .count = count};
    return run(comm, &call);
}

enum status comm_exchange(struct comm *comm, const char *label, const void *send,
                          const int64_t *send_counts, void *recv, const int64_t *recv_counts,
                          enum comm_dtype dtype)
{
    struct comm_call call = {.kind = COMM_EXCHANGE,
                             .label = label,
                             .dtype = dtype,
                             .send = send,
                             .recv = recv,
                             .send_counts = send_counts,
                             .recv_counts = recv_counts};
    return run(comm, &call);
}

enum status comm_exchange_counts(struct comm *comm, const char *label, const int64_t *send_counts,
                                 int64_t *recv_counts)
{
    int64_t *ones = malloc((size_t)comm->size * sizeof *ones);
    CHECK(ones, STATUS_NO_MEMORY, "'%s': no memory for %d counts", label, comm->size);
    for (int r = 0; r < comm->size; r++) {
        ones[r] = 1;
    }
    enum status status = comm_exchange(comm, label, send_counts, ones, recv_counts, ones, COMM_I64);
    free(ones);
    return status;
}

enum status comm_barrier(struct comm *comm, const char *label)
{
    struct comm_call call = {.kind = COMM_BARRIER, .label = label};
    return run(comm, &call);
}
