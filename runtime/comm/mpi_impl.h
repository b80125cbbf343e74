/* Shared by comm_mpi.c (calls and their queue) and mpi_transfer.c (the messages of a chunk). */
#ifndef WEFT_RUNTIME_COMM_MPI_IMPL_H
#define WEFT_RUNTIME_COMM_MPI_IMPL_H

#include <mpi.h>

#include "runtime/comm/comm_impl.h"

enum {
    NUM_TRANSFERS = 4,
    TAG_ROUND_BITS = 1,    /* tags: hash | sequence | chunk | round */
    TAG_CHUNK_BITS = 5,    /* more chunks than transfers */
    TAG_SEQUENCE_BITS = 9, /* MPI guarantees 15 bits in all */
    TAG_HASH_SHIFT = TAG_ROUND_BITS + TAG_CHUNK_BITS + TAG_SEQUENCE_BITS
};

/* A call. */
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

/* A chunk of a call in flight. */
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

/* Records an error of the MPI library with rank, host and label. */
enum status mpi_fail(const struct mpi_comm *comm, const char *label, int code);

#define MPI_TRY(comm, label, call)                                                                 \
    do {                                                                                           \
        int mpi_code = (call);                                                                     \
        if (mpi_code != MPI_SUCCESS) return mpi_fail(comm, label, mpi_code);                       \
    } while (0)

/* Slice `rank` of offsets [size + 1]. */
static inline int64_t slice_count(const int64_t *offsets, int rank)
{
    return offsets[rank + 1] - offsets[rank];
}

/* Puts the next chunk of `handle` in flight. */
enum status transfer_begin(struct mpi_comm *comm, struct transfer *t, struct mpi_handle *handle);

/* Moves a transfer on without blocking; sets t->handle to NULL when its chunk is complete. */
enum status transfer_advance(struct mpi_comm *comm, struct transfer *t);

#endif
