/*
 * Communication between ranks: one interface for in-graph collective nodes and for plain code.
 *
 * `struct comm` is a world of ranks behind a table of operations (`struct comm_ops`); the one here
 * is MPI on host memory, another library can stand beside it. All calls come from one thread (the
 * one that created the comm), take a label that names the call in every message, count elements in
 * int64_t (large messages are split), and are covered by the watchdog: a rank that is gone or stuck
 * makes the others fail with STATUS_COMM and a message that names it, instead of hanging.
 *
 * Numbers: every reduction adds rank 0, 1, 2, ... in this order, element by element, whatever the
 * sizes, buckets and chunks are. So two runs of a layout are bit-identical, all-reduce equals
 * reduce-scatter followed by all-gather bit for bit, and bucket sizes never change a result. bf16
 * travels as bf16 and is summed in f32, rounded once. Minimum and maximum keep a NaN.
 *
 * Order: all ranks make the same calls, with the same labels, in the same order; this holds for
 * starting non-blocking calls, which may be waited for in any order. Blocking calls may be made
 * while others are in flight. At size 1 everything is a copy or nothing.
 */
#ifndef WEFT_RUNTIME_COMM_COMM_H
#define WEFT_RUNTIME_COMM_COMM_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum comm_dtype { COMM_F32, COMM_BF16, COMM_F64, COMM_I64, COMM_I32, COMM_U8, COMM_NUM_DTYPES };
enum comm_reduction { COMM_SUM, COMM_MIN, COMM_MAX };

enum comm_kind {
    COMM_ALLREDUCE,
    COMM_REDUCE_SCATTER,
    COMM_ALLGATHER,
    COMM_BROADCAST,
    COMM_EXCHANGE,
    COMM_BARRIER
};

/* Bytes of one element. */
int64_t comm_dtype_size(enum comm_dtype dtype);

struct comm_handle; /* a call in flight */

/* One collective call, the same on all ranks except for the buffers (and EXCHANGE's counts). */
struct comm_call {
    enum comm_kind kind;
    const char *label; /* names the call in messages, the same on all ranks; copied */
    enum comm_dtype dtype;
    enum comm_reduction reduction; /* ALLREDUCE, REDUCE_SCATTER */
    int root;                      /* BROADCAST */
    const void *send;              /* not used by ALLREDUCE and BROADCAST, which work in place */
    void *recv;
    int64_t count;              /* elements: ALLREDUCE, BROADCAST; or of each rank's equal slice */
    const int64_t *send_counts; /* [size] EXCHANGE: elements for each rank; copied */
    const int64_t *recv_counts; /* [size] slices, or from each rank; NULL = count; copied */
};

struct comm;

/* The operations a communication library provides. Generic code validates calls, handles size 1,
 * waits and watches. */
struct comm_ops {
    const char *name;
    enum status (*start)(struct comm *comm, const struct comm_call *call,
                         struct comm_handle **handle);
    enum status (*progress)(struct comm *comm); /* advances everything in flight, never blocks */
    bool (*is_done)(const struct comm_handle *handle);
    void (*release)(struct comm *comm, struct comm_handle *handle); /* of a handle that is done */
    enum status (*finish)(struct comm *comm);        /* collective; the last communication */
    void (*destroy)(struct comm *comm);              /* frees the comm */
    void (*abort)(struct comm *comm, int exit_code); /* ends the job; may return */
};

/* What a rank is doing, for the watchdog; each has a time-out of its own. */
enum comm_phase {
    COMM_PHASE_IDLE,       /* nothing declared; never times out */
    COMM_PHASE_STARTUP,    /* 300 s */
    COMM_PHASE_DATA,       /* 600 s */
    COMM_PHASE_COMPUTE,    /* 1800 s */
    COMM_PHASE_COLLECTIVE, /* 120 s; set by the calls themselves */
    COMM_PHASE_CHECKPOINT, /* 3600 s */
    COMM_PHASE_FILE,       /* 300 s; libhdf5's own collectives, which a failure may leave waiting */
    COMM_PHASE_EVALUATE,   /* 7200 s */
    COMM_PHASE_FINISH,     /* 120 s */
    COMM_NUM_PHASES
};

struct comm_options {
    /* Refuse to be a world of one when the launcher promised more (SLURM_NTASKS and the like). For
     * commands that train; helpers may run once inside a larger allocation. */
    bool require_launched_size;
    int64_t chunk_bytes;  /* largest message part in flight; 0 = chosen by the number of ranks */
    const char *build_id; /* replaces the hash of the executable, for tests */
    const char *host;     /* replaces the host name, for tests: same name = same host */
    double timeouts[COMM_NUM_PHASES]; /* seconds; 0 = the default above, below 0 = never */
};

struct comm_stats {
    int64_t calls;      /* collectives started */
    int64_t bytes_sent; /* handed to other ranks */
    double seconds;     /* of this thread inside calls, waiting or working */
};

enum { COMM_HOST_SIZE = 64 };

struct watchdog;

/* A world. The fields are read-only for users. */
struct comm {
    const struct comm_ops *ops;
    int rank;
    int size;
    int local_rank; /* among the ranks of this host */
    int local_size;
    char host[COMM_HOST_SIZE];
    int num_hosts;
    int leader;                    /* the lowest rank of this host */
    int *leaders;                  /* [size] the lowest rank of each rank's host; owned */
    char (*hosts)[COMM_HOST_SIZE]; /* [size] host names; owned */
    struct watchdog *watchdog;     /* owned */
    struct comm_stats stats;
    uint32_t sequence;  /* collectives started */
    enum status broken; /* the first failure; later calls return it with its message */
    char broken_message[1024];
};

/*
 * Starts MPI (unless the program has) and returns the world of all ranks. Sets the rank for the
 * log. Works without mpirun as a world of one. `options` may be NULL. Collective. Errors:
 * STATUS_INVALID for a world of one where a launcher promised more, STATUS_COMM from MPI or when
 * ranks run different builds (names them).
 */
enum status comm_create(const struct comm_options *options, struct comm **created);

/* Waits for all ranks, ends MPI if comm_create started it, frees. NULL-safe, sets NULL. When a rank
 * is gone it fails with STATUS_COMM and the comm stays, for comm_abort. Collective. */
enum status comm_finish(struct comm **finished);

/*
 * Prints the message as an error and ends the whole job: every rank exits non-zero, this one with
 * `exit_code` (1 if it is 0). For failures of one rank; where all ranks fail together
 * (comm_agree_status), finish and return the code instead. `comm` may be NULL. For main only.
 */
void comm_abort(struct comm *comm, int exit_code, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4)));

/* ---- the watchdog; not collective, cheap ---- */

/* The step that messages tell; before the first call there is none. */
void comm_step_set(struct comm *comm, int64_t step);

/*
 * Declares what this rank does now and restarts the phase's clock; `label` ("read batch") is
 * copied. A rank that waits in a collective for a rank that is alive and within its own phase's
 * time-out goes on waiting, so a phase's time-out alone limits how slow a rank may be. Collectives
 * declare themselves and restore the phase.
 */
void comm_phase_set(struct comm *comm, enum comm_phase phase, const char *label);

/* Changes a time-out: 0 = default, below 0 = never. Use equal values on all ranks. */
void comm_timeout_set(struct comm *comm, enum comm_phase phase, double seconds);

/* ---- calls in flight ---- */

/*
 * Starts a call. *handle is NULL when it is already complete. Buffers must stay untouched until
 * the call is waited for. Collective (same order on all ranks). Errors: STATUS_INVALID for negative
 * counts or a dtype that cannot be reduced, STATUS_COMM.
 */
enum status comm_start(struct comm *comm, const struct comm_call *call,
                       struct comm_handle **handle);

/* comm_start of an in-place all-reduce of `count` elements. */
enum status comm_allreduce_start(struct comm *comm, const char *label, void *data, int64_t count,
                                 enum comm_dtype dtype, enum comm_reduction reduction,
                                 struct comm_handle **handle);

/* Advances everything in flight without blocking; cheap when there is nothing. Call it between
 * kernels. Not collective. */
enum status comm_progress(struct comm *comm);

/* Advances, and sets *done when the call is complete (then *handle is released and set to NULL). */
enum status comm_test(struct comm *comm, struct comm_handle **handle, bool *done);

/* Waits until the call is complete, releases it and sets *handle to NULL. A NULL handle is
 * complete.
 */
enum status comm_wait(struct comm *comm, struct comm_handle **handle);

/* ---- collectives of other libraries ---- */

/*
 * A call that another library makes on all ranks (NCCL) counts among the collectives, so that the
 * watchdog can tell who is missing. `_started` where it is started, on all ranks in the same order,
 * gives its number. `_wait_begin` and `_wait_end` lie around a wait for it, in which `_poll` is
 * called again and again: it fails when the watchdog has given up or an earlier call failed, and
 * advances what is in flight here. `_failed` makes later calls fail as this one did. Not
 * collective.
 */
uint32_t comm_outside_started(struct comm *comm, const char *label);
void comm_outside_wait_begin(struct comm *comm, uint32_t call, const char *label);
void comm_outside_wait_end(struct comm *comm);
enum status comm_outside_poll(struct comm *comm);
enum status comm_outside_failed(struct comm *comm, enum status status);

/* ---- blocking calls, all collective ---- */

/* Reduces `count` elements in place; every rank gets the same bits. */
enum status comm_allreduce(struct comm *comm, const char *label, void *data, int64_t count,
                           enum comm_dtype dtype, enum comm_reduction reduction);

/*
 * Reduces `send` (all slices one after another) and gives slice r to rank r. counts [size] holds
 * the slices' elements and is equal on all ranks; NULL means `count` elements each. `recv` may be
 * this rank's slice inside `send`; the rest of `send` is not changed.
 */
enum status comm_reduce_scatter(struct comm *comm, const char *label, const void *send, void *recv,
                                int64_t count, const int64_t *counts, enum comm_dtype dtype,
                                enum comm_reduction reduction);

/*
 * Gathers the slices of all ranks one after another into `recv` on every rank. counts [size] as
 * above, NULL means `count` each. `send` may be this rank's slice inside `recv`.
 */
enum status comm_allgather(struct comm *comm, const char *label, const void *send, void *recv,
                           int64_t count, const int64_t *counts, enum comm_dtype dtype);

/* Copies `count` elements of rank `root` to every rank. */
enum status comm_broadcast(struct comm *comm, const char *label, void *data, int64_t count,
                           enum comm_dtype dtype, int root);

/*
 * All-to-all: send_counts[r] elements for rank r lie one after another in `send`; recv_counts[r]
 * elements from rank r arrive one after another in `recv`. The buffers do not overlap. For rows,
 * multiply by the row's elements.
 */
enum status comm_exchange(struct comm *comm, const char *label, const void *send,
                          const int64_t *send_counts, void *recv, const int64_t *recv_counts,
                          enum comm_dtype dtype);

/* Tells every rank how many elements it gets from whom: recv_counts[r] = what rank r has in
 * send_counts[this rank]. Both [size]. */
enum status comm_exchange_counts(struct comm *comm, const char *label, const int64_t *send_counts,
                                 int64_t *recv_counts);

/* Returns when all ranks have called it. */
enum status comm_barrier(struct comm *comm, const char *label);

/* ---- agreement, all collective ---- */

struct comm_agreed {
    int64_t min, max, sum;
    int64_t any; /* bitwise or */
    int64_t all; /* bitwise and */
};

/* Combines one integer of every rank. */
enum status comm_agree(struct comm *comm, const char *label, int64_t value,
                       struct comm_agreed *agreed);

/*
 * Succeeds on all ranks or fails on all ranks: returns `mine` where it is a failure (message kept),
 * and on the others the status of the lowest failing rank with its message and rank in front. For
 * "rank 0 reads, everyone must know".
 */
enum status comm_agree_status(struct comm *comm, const char *label, enum status mine);

/* Fails with STATUS_INVALID on all ranks unless all hold the same `size` bytes; names the ranks
 * that differ from rank 0. For resolved configs, plans, file lists. */
enum status comm_agree_bytes(struct comm *comm, const char *label, const void *bytes, int64_t size);

/* Gathers one string of every rank to rank 0: *texts [size] there (one block, free() by the
 * caller), NULL on other ranks. */
enum status comm_gather_strings(struct comm *comm, const char *label, const char *text,
                                char ***texts);

#ifdef __cplusplus
}
#endif
#endif
