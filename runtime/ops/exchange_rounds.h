/*
 * The rounds of an exchange of rows (exchange.c says what that is): which requests each serves. A
 * function of what all ranks ask for, so that all ranks find the same. For the CPU's and the GPU's
 * exchange.
 */
#ifndef WEFT_RUNTIME_OPS_EXCHANGE_ROUNDS_H
#define WEFT_RUNTIME_OPS_EXCHANGE_ROUNDS_H

#include <stdint.h>
#include <string.h>

struct exchange_rounds {
    int rank, size;
    int64_t rows;     /* N, of each rank's source */
    int64_t requests; /* M, of each rank */
    int64_t capacity; /* rows a rank sends in a round */
    int32_t *index;   /* [size * M] what every rank asks for: rows of all ranks */
    int64_t *asked;   /* [size] rows asked of each rank in this round */
};

static inline int64_t exchange_capacity(int64_t requests, int64_t world_size)
{
    return world_size == 1 ? 0 : 2 * requests;
}

/* The end of the round that begins at request `begin`: the first one its owner has no room for. */
static inline int64_t exchange_round_end(const struct exchange_rounds *r, int64_t begin)
{
    memset(r->asked, 0, (size_t)r->size * sizeof *r->asked);
    int64_t end = begin;
    for (; end < r->size * r->requests; end++) {
        int64_t owner = r->index[end] / r->rows;
        if (r->asked[owner] == r->capacity) break;
        r->asked[owner]++;
    }
    return end;
}

/* Rows between this rank and the others in a round: as owner by requester, as requester by owner;
 * both [size]. */
static inline void exchange_round_counts(const struct exchange_rounds *r, int64_t begin,
                                         int64_t end, int64_t *as_owner, int64_t *as_requester)
{
    memset(as_owner, 0, (size_t)r->size * sizeof *as_owner);
    memset(as_requester, 0, (size_t)r->size * sizeof *as_requester);
    for (int64_t i = begin; i < end; i++) {
        int64_t requester = i / r->requests;
        int64_t owner = r->index[i] / r->rows;
        if (owner == r->rank) as_owner[requester]++;
        if (requester == r->rank) as_requester[owner]++;
    }
}

#endif
