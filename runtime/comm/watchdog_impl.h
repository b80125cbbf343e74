/* Shared by watchdog.c (the thread) and verdict.c (who is to blame). */
#ifndef WEFT_RUNTIME_COMM_WATCHDOG_IMPL_H
#define WEFT_RUNTIME_COMM_WATCHDOG_IMPL_H

#include <poll.h>
#include <pthread.h>

#include "runtime/comm/beacon.h"
#include "runtime/comm/heartbeat.h"
#include "runtime/comm/watchdog.h"

enum {
    VERDICT_SIZE = 1024,
    GRACE_MS = 1000 /* for the main thread to end the job by itself */
};

/* What this rank knows of another. */
struct peer {
    uint64_t count; /* its last heartbeat */
    double heard;   /* when it last grew */
    int process;    /* pidfd, -1 = none */
};

struct watchdog {
    pthread_t thread;
    int wake; /* eventfd */
    atomic_bool is_stopping;
    char host[COMM_HOST_SIZE];

    /* Told by the main thread. */
    atomic_int timeouts_ms[COMM_NUM_PHASES]; /* 0 = never */
    atomic_uint generation;                  /* of the phase; a change restarts the clock */
    atomic_uint waiting_for;                 /* number of the collective, 0 = none */
    atomic_int exit_code;                    /* not 0: aborting with it */
    struct beat_slot alone;                  /* the slot before the table is there */
    _Atomic(struct beat_slot *) self;
    enum comm_phase phase; /* outside of collectives; main thread only */
    char label[BEAT_LABEL_SIZE];

    /* The other ranks; set once by the main thread, read by the thread after is_attached. */
    atomic_bool is_attached;
    const struct comm *comm;
    struct beat_slot *slots;
    struct peer *peers;     /* [size] */
    struct pollfd *entries; /* enough for all processes and connections */
    _Atomic(struct beacon *) beacon;

    /* The thread's own. */
    double time;         /* of this tick */
    double waited;       /* in this phase */
    double beacon_sent;  /* when */
    double deadline;     /* when the process ends, 0 = not */
    double terminate_at; /* when a SIGTERM takes effect, 0 = none */
    unsigned seen_generation;

    atomic_bool gave_up;
    char verdict[VERDICT_SIZE]; /* constant once gave_up */
};

/* "data", "compute", ... */
const char *watchdog_phase_name(int phase);

/* Looks at all ranks, once a tick; gives up when there is reason to. */
void watchdog_judge(struct watchdog *watchdog);

#endif
