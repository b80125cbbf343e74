/*
 * The table of heartbeats: what every rank is doing, readable without MPI.
 *
 * One table per host in shared memory, one slot per rank of the world. A rank writes its own slot;
 * the slots of other hosts are kept up to date by the beacon (beacon.h). Everything is atomic and
 * free of locks, so a rank that dies or is stopped at any instruction cannot block another.
 */
#ifndef WEFT_RUNTIME_COMM_HEARTBEAT_H
#define WEFT_RUNTIME_COMM_HEARTBEAT_H

#include <stdatomic.h>
#include <stdint.h>

#include "runtime/comm/comm.h"

enum beat_state {
    BEAT_UNKNOWN,  /* not heard from yet */
    BEAT_RUNNING,  /* between start and finish */
    BEAT_FINISHED, /* left in order */
    BEAT_ABORTED,  /* ends the job because of an error of its own */
    BEAT_GAVE_UP,  /* ends the job because of `culprit` */
    BEAT_DEAD      /* its process is gone without a word; written by those who notice */
};

enum { BEAT_LABEL_SIZE = 48 };

/* A rank's state at one moment; also what travels between hosts. */
struct beat {
    int32_t rank;
    int16_t state;
    int16_t phase;     /* enum comm_phase */
    uint64_t count;    /* grows while the rank's watchdog runs */
    int64_t step;      /* -1 before the first */
    uint64_t call;     /* the last collective started: sequence << 32 | hash of its label */
    int32_t waited_ms; /* time in this phase */
    int32_t limit_ms;  /* when it would time out by itself, 0 never */
    int32_t culprit;   /* of BEAT_GAVE_UP: the rank it blames, or -1 */
    int32_t reserved;
    char label[BEAT_LABEL_SIZE]; /* of the phase */
};

struct beat_slot {
    _Alignas(128) atomic_int state;
    atomic_int phase;
    atomic_ullong count;
    atomic_llong step;
    atomic_ullong call;
    atomic_int waited_ms;
    atomic_int limit_ms;
    atomic_int culprit;
    atomic_int pid;              /* 0 for ranks of other hosts */
    atomic_ullong pid_namespace; /* pids mean something only within one */
    atomic_ullong label[BEAT_LABEL_SIZE / 8];
};

/* Copies a slot; fields may be of slightly different moments. */
void beat_read(const struct beat_slot *slot, int rank, struct beat *beat);

/* Writes a slot from news of another host. A state never goes back. */
void beat_write(struct beat_slot *slot, const struct beat *beat);

/* Cuts `label` to the slot's size. */
void beat_set_label(struct beat_slot *slot, const char *label);

/* Raises the slot's state to `state` unless the rank already left or is known to be dead. */
void beat_raise_state(struct beat_slot *slot, enum beat_state state);

/* Fills in the pid of this process and its namespace. */
void beat_set_process(struct beat_slot *slot);

/*
 * Maps this host's table of comm->size slots, shared by the ranks with the same comm->leader. The
 * file behind it is gone when the call returns. Collective. Errors: STATUS_IO when no folder for it
 * is shared by the ranks of a host. Release with beat_table_unmap.
 */
enum status beat_table_map(struct comm *comm, struct beat_slot **slots);
void beat_table_unmap(struct beat_slot **slots, int size);

#endif
