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
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/comm/comm_impl.h"
#include "runtime/comm/watchdog.h"

enum {
    SPINS_BEFORE_YIELD = 64,      /* a few microseconds: small calls between ranks that are there */
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

/* ---- life ---- */

static void free_comm(struct comm *comm)
{
    if (!comm) return;
    watchdog_destroy(&comm->watchdog);
    free(comm->hosts);
    free(comm->leaders);
    comm->ops->destroy(comm);
}

/* Finds out who shares a host: ranks that share memory and the host's name. */
static void group_by_host(struct comm *comm, const int *shared)
{
    for (int r = 0; r < comm->size; r++) {
        int first = 0;
        while (shared[first] != shared[r] || strcmp(comm->hosts[first], comm->hosts[r]) != 0) {
            first++;
        }
        comm->leaders[r] = first;
        if (first == r) comm->num_hosts++;
    }
    comm->leader = comm->leaders[comm->rank];
    for (int r = 0; r < comm->size; r++) {
        if (comm->leaders[r] != comm->leader) continue;
        if (r < comm->rank) comm->local_rank++;
        comm->local_size++;
    }
}

static enum status find_hosts(struct comm *comm)
{
    static const char label[] = "host names";
    size_t size = (size_t)comm->size;
    int *shared = calloc(size, sizeof *shared);
    comm->leaders = calloc(size, sizeof *comm->leaders);
    comm->hosts = calloc(size, sizeof *comm->hosts);
    enum status status = STATUS_OK;
    if (!shared || !comm->leaders || !comm->hosts)
        status = status_fail(STATUS_NO_MEMORY, "no memory for the names of %zu hosts", size);
    TRY_GOTO(status, comm_agree_status(comm, label, status), done);
    TRY_GOTO(status, comm_allgather(comm, label, &comm->leader, shared, 1, NULL, COMM_I32), done);
    TRY_GOTO(status,
             comm_allgather(comm, label, comm->host, comm->hosts, COMM_HOST_SIZE, NULL, COMM_U8),
             done);
    group_by_host(comm, shared);
done:
    free(shared);
    return status;
}

static void find_host_name(const struct comm_options *options, char name[COMM_HOST_SIZE])
{
    memset(name, 0, COMM_HOST_SIZE);
    if (options->host) {
        snprintf(name, COMM_HOST_SIZE, "%s", options->host);
    } else if (gethostname(name, COMM_HOST_SIZE - 1) != 0) {
        snprintf(name, COMM_HOST_SIZE, "unknown host");
    }
}

static enum status join(struct comm *comm, const struct comm_options *options)
{
    if (options->require_launched_size) TRY(comm_check_launched_size(comm->size));
    TRY(find_hosts(comm));
    TRY(comm_check_builds(comm, options->build_id));
    return watchdog_attach(comm->watchdog, comm);
}

enum status comm_create(const struct comm_options *options, struct comm **created)
{
    static const struct comm_options defaults;
    if (!options) options = &defaults;
    *created = NULL;
    char host[COMM_HOST_SIZE];
    find_host_name(options, host);
    struct watchdog *watchdog = NULL;
    struct comm *comm = NULL;
    TRY(watchdog_create(host, options->timeouts, &watchdog));
    enum status status = comm_mpi_create(options, &comm);
    if (status != STATUS_OK) {
        watchdog_destroy(&watchdog);
        return status;
    }
    comm->watchdog = watchdog;
    memcpy(comm->host, host, sizeof host);
    log_set_rank(comm->rank, comm->size);
    status = join(comm, options);
    if (status != STATUS_OK) {
        /* Every rank comes here with the same verdict (or the comm is broken and so is the end). */
        if (comm->broken == STATUS_OK) comm->ops->finish(comm);
        free_comm(comm);
        return status;
    }
    watchdog_phase(watchdog, COMM_PHASE_IDLE, "");
    *created = comm;
    return STATUS_OK;
}

enum status comm_finish(struct comm **finished)
{
    struct comm *comm = *finished;
    if (!comm) return STATUS_OK;
    watchdog_phase(comm->watchdog, COMM_PHASE_FINISH, "");
    enum status status = comm_barrier(comm, "finish");
    if (status != STATUS_OK) return status;
    watchdog_finished(comm->watchdog);
    status = comm->ops->finish(comm);
    free_comm(comm);
    *finished = NULL;
    return status;
}

void comm_abort(struct comm *comm, int exit_code, const char *format, ...)
{
    char message[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (exit_code == 0) exit_code = 1;
    const char *verdict = comm ? watchdog_verdict(comm->watchdog) : NULL;
    if (comm) watchdog_aborting(comm->watchdog, exit_code);
    /* The watchdog has printed its line already. */
    if (!verdict || !strstr(message, verdict)) log_error("%s", message);
    fflush(NULL);
    if (comm && comm->size > 1) comm->ops->abort(comm, exit_code);
    _exit(exit_code);
}

void comm_step_set(struct comm *comm, int64_t step)
{
    watchdog_step(comm->watchdog, step);
}

void comm_phase_set(struct comm *comm, enum comm_phase phase, const char *label)
{
    watchdog_phase(comm->watchdog, phase, label);
}

void comm_timeout_set(struct comm *comm, enum comm_phase phase, double seconds)
{
    watchdog_timeout(comm->watchdog, phase, seconds);
}

/* ---- errors ---- */

enum status comm_break(struct comm *comm, enum status status)
{
    if (comm->broken == STATUS_OK) {
        comm->broken = status;
        strncpy(comm->broken_message, status_message(), sizeof comm->broken_message - 1);
    }
    return status;
}

/* Fails when an earlier call did or the watchdog has given up. */
static enum status check_usable(struct comm *comm)
{
    const char *verdict = watchdog_verdict(comm->watchdog);
    if (verdict && comm->broken == STATUS_OK)
        return comm_break(comm, status_fail(STATUS_COMM, "%s", verdict));
    if (comm->broken == STATUS_OK) return STATUS_OK;
    return status_fail(comm->broken, "%s", comm->broken_message);
}

uint32_t comm_label_hash(const char *label)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *label; label++) {
        hash = (hash ^ (uint8_t)*label) * 16777619u;
    }
    return hash ^ hash >> 15;
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

static enum status start_call(struct comm *comm, const struct comm_call *call,
                              struct comm_handle **handle)
{
    *handle = NULL;
    TRY(check_usable(comm));
    TRY(check_call(comm, call));
    comm->sequence++;
    comm->stats.calls++;
    watchdog_call(comm->watchdog, comm->sequence, call->label);
    if (comm->size == 1) return complete_alone(call);
    enum status status = comm->ops->start(comm, call, handle);
    return status == STATUS_OK ? STATUS_OK : comm_break(comm, status);
}

enum status comm_start(struct comm *comm, const struct comm_call *call, struct comm_handle **handle)
{
    double start = now();
    enum status status = start_call(comm, call, handle);
    comm->stats.seconds += now() - start;
    return status;
}

/* ---- waiting ---- */

static enum status progress(struct comm *comm)
{
    TRY(check_usable(comm));
    enum status status = comm->ops->progress(comm);
    return status == STATUS_OK ? STATUS_OK : comm_break(comm, status);
}

enum status comm_progress(struct comm *comm)
{
    if (comm->size == 1) return STATUS_OK;
    double start = now();
    enum status status = progress(comm);
    comm->stats.seconds += now() - start;
    return status;
}

static enum status test(struct comm *comm, struct comm_handle **handle, bool *done)
{
    *done = false;
    if (*handle) {
        TRY(progress(comm));
        if (!comm->ops->is_done(*handle)) return STATUS_OK;
        comm->ops->release(comm, *handle);
        *handle = NULL;
    }
    *done = true;
    return STATUS_OK;
}

enum status comm_test(struct comm *comm, struct comm_handle **handle, bool *done)
{
    double start = now();
    enum status status = test(comm, handle, done);
    comm->stats.seconds += now() - start;
    return status;
}

enum status comm_wait(struct comm *comm, struct comm_handle **handle)
{
    if (!*handle) return STATUS_OK;
    double start = now();
    enum status status = STATUS_OK;
    bool done = false;
    watchdog_wait_begin(comm->watchdog, (*handle)->sequence, (*handle)->label);
    for (int64_t spins = 0;; spins++) {
        status = test(comm, handle, &done);
        if (status != STATUS_OK || done) break;
        if (spins < SPINS_BEFORE_YIELD) continue;
        if (spins < SPINS_BEFORE_SLEEP) {
            sched_yield(); /* ranks may share a core */
        } else {
            nanosleep(&(struct timespec){.tv_nsec = SLEEP_NANOSECONDS}, NULL);
        }
    }
    watchdog_wait_end(comm->watchdog);
    comm->stats.seconds += now() - start;
    return status;
}

/* ---- collectives of other libraries ---- */

uint32_t comm_outside_started(struct comm *comm, const char *label)
{
    comm->sequence++;
    watchdog_call(comm->watchdog, comm->sequence, label);
    return comm->sequence;
}

void comm_outside_wait_begin(struct comm *comm, uint32_t call, const char *label)
{
    watchdog_wait_begin(comm->watchdog, call, label);
}

void comm_outside_wait_end(struct comm *comm)
{
    watchdog_wait_end(comm->watchdog);
}

enum status comm_outside_poll(struct comm *comm)
{
    return comm->size == 1 ? check_usable(comm) : progress(comm);
}

enum status comm_outside_failed(struct comm *comm, enum status status)
{
    return comm_break(comm, status);
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
    int64_t *ones = calloc((size_t)comm->size, sizeof *ones);
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
