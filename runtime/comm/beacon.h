/*
 * Heartbeats between hosts, over TCP beside MPI.
 *
 * One rank of each host (its leader, the lowest) keeps a connection to rank 0, sends the slots of
 * its host and gets everyone else's. A connection that ends means that its leader is gone; silence
 * shows as heartbeats that no longer grow. All functions but the two that connect are called by the
 * watchdog's thread only, and never block.
 */
#ifndef WEFT_RUNTIME_COMM_BEACON_H
#define WEFT_RUNTIME_COMM_BEACON_H

#include <poll.h>

#include "runtime/comm/heartbeat.h"

struct beacon;

enum { BEACON_TOKEN_SIZE = 16, BEACON_ADDRESSES_SIZE = 2048 };

/* How to reach rank 0: told to the leaders by broadcast. */
struct beacon_invitation {
    uint8_t token[BEACON_TOKEN_SIZE];      /* proves that a connection is one of ours */
    char addresses[BEACON_ADDRESSES_SIZE]; /* "ip port" lines; "" = cannot listen */
};

/* Rank 0: listens on every interface. `comm` and `slots` are borrowed. Errors: STATUS_IO,
 * STATUS_NO_MEMORY. */
enum status beacon_listen(const struct comm *comm, struct beat_slot *slots,
                          struct beacon_invitation *invitation, struct beacon **created);

/* A leader: tries the addresses in turn until one answers as ours; blocks for a few seconds at
 * most. Errors: STATUS_IO. */
enum status beacon_connect(const struct comm *comm, struct beat_slot *slots,
                           const struct beacon_invitation *invitation, struct beacon **created);

/* The most entries beacon_poll_fill writes. */
int beacon_poll_size(const struct beacon *beacon);

/* Adds what to wait for; returns the number of entries. */
int beacon_poll_fill(struct beacon *beacon, struct pollfd *entries);

/* Takes in what has arrived: updates slots; the leader behind a lost connection becomes BEAT_DEAD
 * unless it has left. */
void beacon_poll_handle(struct beacon *beacon, const struct pollfd *entries, int num_entries);

/* Sends the slots of this side to the other sides, except where the last send is not out yet. */
void beacon_send(struct beacon *beacon);

/* Whether a connection was made since the last send: it waits for its first news. */
bool beacon_has_new_link(const struct beacon *beacon);

void beacon_destroy(struct beacon **beacon);

#endif
