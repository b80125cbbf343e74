/* Shared by the files of runtime/comm, not for users of comm.h. */
#ifndef WEFT_RUNTIME_COMM_COMM_IMPL_H
#define WEFT_RUNTIME_COMM_COMM_IMPL_H

#include "runtime/comm/comm.h"

enum { COMM_LABEL_SIZE = 64 };

/* The head of every library's handle. */
struct comm_handle {
    char label[COMM_LABEL_SIZE];
    uint32_t sequence; /* number of this collective in its comm, from 1 */
};

/*
 * Reduces num_parts arrays of n elements into `out`: ((part 0 + part 1) + part 2) + ... for each
 * element; bf16 in f32 with one rounding at the end. `out` may be one of the parts. `dtype` is not
 * COMM_U8.
 */
void comm_reduce(enum comm_dtype dtype, enum comm_reduction reduction, void *out,
                 const void *const *parts, int num_parts, int64_t n);

/* A hash of a collective's name, to tell calls apart. */
uint32_t comm_label_hash(const char *label);

/* Starts MPI where needed and makes a comm that can communicate, with rank and size filled in, and
 * in `leader` the lowest rank with the same shared memory. Collective. */
enum status comm_mpi_create(const struct comm_options *options, struct comm **created);

/* Records the first failure of `comm` with this thread's message and returns it. */
enum status comm_break(struct comm *comm, enum status status);

/* Refuses a world of one when the environment promises more. Not collective. */
enum status comm_check_launched_size(int size);

/* Refuses different builds; `build_id` NULL means the hash of the executable. Collective. */
enum status comm_check_builds(struct comm *comm, const char *build_id);

#endif
