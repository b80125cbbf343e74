/*
 * Who writes what. Every rank knows the slices of all ranks, so every rank can number all hashes
 * alike: vector by vector, rank by rank, piece by piece; then rank 0's copies; then, at the end of
 * the save, the stretches that HDF5 wrote itself. Reading needs none of this: a row of the table is
 * a place, a length and a hash.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/checkpoint/piece_writer.h"
#include "runtime/checkpoint/save_impl.h"
#include "runtime/comm/comm.h"

static int rank_of(const struct comm *comm)
{
    return comm ? comm->rank : 0;
}

static int size_of(const struct comm *comm)
{
    return comm ? comm->size : 1;
}

static int64_t num_pieces_of(int64_t bytes)
{
    return (bytes + CHECKPOINT_PIECE_BYTES - 1) / CHECKPOINT_PIECE_BYTES;
}

/* ---- slices ---- */

static int64_t *slice_of(const struct save_plan *plan, const struct checkpoint_state *state,
                         int rank, int vector)
{
    return plan->slices + 2 * ((int64_t)rank * state->num_vectors + vector);
}

/* Where rank r's share of a vector that all ranks hold begins; whole blocks of the file. */
static int64_t share_begin(int64_t elements, int rank, int size)
{
    const int64_t block = CHECKPOINT_ALIGN / (int64_t)sizeof(float);
    if (rank == size) return elements;
    int64_t blocks = (elements + block - 1) / block;
    int64_t begin = blocks / size * rank + blocks % size * rank / size;
    return begin * block;
}

/* Turns what the ranks hold of a vector into what they write. */
static enum status share_vector(const struct save_plan *plan, const struct checkpoint_state *state,
                                int vector, int size)
{
    const struct checkpoint_vector *row = &state->vectors[vector];
    bool whole = true;
    int64_t expected = 0;
    int wrong = -1;
    for (int r = 0; r < size; r++) {
        const int64_t *slice = slice_of(plan, state, r, vector);
        whole = whole && slice[0] == 0 && slice[1] == row->elements;
        if (wrong < 0 && (slice[0] != expected || slice[1] < slice[0])) wrong = r;
        expected = slice[1];
    }
    if (whole) {
        for (int r = 0; r < size; r++) {
            int64_t *slice = slice_of(plan, state, r, vector);
            slice[0] = share_begin(row->elements, r, size);
            slice[1] = share_begin(row->elements, r + 1, size);
        }
        return STATUS_OK;
    }
    CHECK(wrong < 0, STATUS_INVALID,
          "vector '%s': the slices of the ranks do not follow each other: rank %d's is [%" PRId64
          ", %" PRId64 ")",
          row->name, wrong, slice_of(plan, state, wrong, vector)[0],
          slice_of(plan, state, wrong, vector)[1]);
    CHECK(expected == row->elements, STATUS_INVALID,
          "vector '%s': the slices of the ranks end at %" PRId64 " of %" PRId64 " elements",
          row->name, expected, row->elements);
    return STATUS_OK;
}

static enum status share_vectors(struct save_plan *plan, const struct checkpoint_state *state,
                                 struct comm *comm)
{
    int size = size_of(comm);
    int64_t per_rank = 2 * (int64_t)state->num_vectors;
    plan->slices = calloc((size_t)(size * per_rank + 1), sizeof *plan->slices);
    enum status status = STATUS_OK;
    if (!plan->slices) status = status_fail(STATUS_NO_MEMORY, "no memory for a checkpoint's plan");
    if (comm) status = comm_agree_status(comm, "checkpoint: plan", status);
    TRY(status);
    for (int v = 0; v < state->num_vectors; v++) {
        int64_t *mine = slice_of(plan, state, rank_of(comm), v);
        mine[0] = state->vectors[v].begin;
        mine[1] = state->vectors[v].begin + state->vectors[v].count;
    }
    if (comm && per_rank > 0) {
        TRY(comm_allgather(comm, "checkpoint: slices", slice_of(plan, state, rank_of(comm), 0),
                           plan->slices, per_rank, NULL, COMM_I64));
    }
    /* The same on all ranks, so no agreement is needed. */
    for (int v = 0; v < state->num_vectors; v++) {
        TRY(share_vector(plan, state, v, size));
    }
    return STATUS_OK;
}

/* ---- counting ---- */

static void count_rows(struct save_plan *plan, const struct checkpoint_state *state, int rank,
                       int size)
{
    for (int v = 0; v < state->num_vectors; v++) {
        for (int r = 0; r < size; r++) {
            const int64_t *slice = slice_of(plan, state, r, v);
            int64_t pieces = num_pieces_of((slice[1] - slice[0]) * (int64_t)sizeof(float));
            plan->num_rows += pieces;
            if (r == rank) plan->num_pieces += pieces;
        }
    }
    int64_t copies = num_pieces_of(state->num_parameters * save_row_bytes(state));
    for (int b = 0; b < state->num_blobs; b++) {
        copies += num_pieces_of(state->blobs[b].size);
    }
    plan->num_rows += copies;
    if (rank == 0) plan->num_pieces += copies;
    /* HDF5's own bytes: in front of each dataset and behind the last. */
    plan->num_rows += state->num_vectors + state->num_blobs + 2 + 1;
}

enum status save_plan_create(struct save_plan *plan, const struct checkpoint_state *state,
                             struct comm *comm)
{
    memset(plan, 0, sizeof *plan);
    TRY(share_vectors(plan, state, comm));
    count_rows(plan, state, rank_of(comm), size_of(comm));
    int64_t copies = state->num_parameters * save_row_bytes(state);
    for (int b = 0; b < state->num_blobs; b++) {
        copies += state->blobs[b].size;
    }
    plan->rows = calloc((size_t)plan->num_rows, sizeof *plan->rows);
    plan->pieces = calloc((size_t)plan->num_pieces + 1, sizeof *plan->pieces);
    if (rank_of(comm) == 0) plan->copies = malloc((size_t)copies + 1);
    enum status status = STATUS_OK;
    if (!plan->rows || !plan->pieces || (rank_of(comm) == 0 && !plan->copies)) {
        status = status_fail(STATUS_NO_MEMORY, "no memory for a checkpoint's plan");
    }
    return comm ? comm_agree_status(comm, "checkpoint: plan", status) : status;
}

void save_plan_fini(struct save_plan *plan)
{
    free(plan->pieces);
    free(plan->rows);
    free(plan->copies);
    free(plan->slices);
    memset(plan, 0, sizeof *plan);
}

/* ---- places ---- */

/* Cuts [offset, offset + bytes) of the file into rows, and into pieces when `source` is given. */
static void place(struct save_plan *plan, int64_t *next_piece, const uint8_t *source, bool is_mine,
                  bool owned, int64_t offset, int64_t bytes)
{
    for (int64_t at = 0; at < bytes; at += CHECKPOINT_PIECE_BYTES) {
        int64_t size = bytes - at < CHECKPOINT_PIECE_BYTES ? bytes - at : CHECKPOINT_PIECE_BYTES;
        struct checkpoint_hash *row = &plan->rows[plan->num_used];
        row->offset = (uint64_t)(offset + at);
        row->bytes = (uint64_t)size;
        if (is_mine) {
            plan->pieces[(*next_piece)++] = (struct piece){.source = source + at,
                                                           .offset = offset + at,
                                                           .bytes = size,
                                                           .row = plan->num_used,
                                                           .owned = owned};
        }
        plan->num_used++;
    }
}

static void place_vectors(struct save_plan *plan, const struct checkpoint_state *state,
                          const struct save_layout *layout, int64_t *next_piece, int rank, int size)
{
    for (int v = 0; v < state->num_vectors; v++) {
        const struct checkpoint_vector *vector = &state->vectors[v];
        for (int r = 0; r < size; r++) {
            const int64_t *slice = slice_of(plan, state, r, v);
            const float *source = r == rank ? vector->data + (slice[0] - vector->begin) : NULL;
            place(plan, next_piece, (const uint8_t *)source, r == rank, false,
                  layout->vectors[v] + slice[0] * (int64_t)sizeof(float),
                  (slice[1] - slice[0]) * (int64_t)sizeof(float));
        }
    }
}

static void place_copies(struct save_plan *plan, const struct checkpoint_state *state,
                         const struct save_layout *layout, int64_t *next_piece, int rank)
{
    uint8_t *at = plan->copies;
    if (at) save_rows(state, at);
    place(plan, next_piece, at, rank == 0, true, layout->parameters, layout->parameters_bytes);
    if (at) at += layout->parameters_bytes;
    for (int b = 0; b < state->num_blobs; b++) {
        int64_t size = state->blobs[b].size;
        if (at && size > 0) memcpy(at, state->blobs[b].bytes, (size_t)size);
        place(plan, next_piece, at, rank == 0, true, layout->blobs[b], size);
        if (at) at += size;
    }
}

enum status save_plan_place(struct save_plan *plan, const struct checkpoint_state *state,
                            const struct save_layout *layout, struct comm *comm)
{
    int64_t next_piece = 0;
    int rank = rank_of(comm);
    place_vectors(plan, state, layout, &next_piece, rank, size_of(comm));
    place_copies(plan, state, layout, &next_piece, rank);
    CHECK(next_piece == plan->num_pieces && plan->num_used <= plan->num_rows, STATUS_INTERNAL,
          "a checkpoint of %" PRId64 " pieces has %" PRId64, plan->num_pieces, next_piece);
    return STATUS_OK;
}
