/* Shared by the files that load checkpoints. */
#ifndef WEFT_RUNTIME_CHECKPOINT_LOAD_IMPL_H
#define WEFT_RUNTIME_CHECKPOINT_LOAD_IMPL_H

#include "runtime/base/arena.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/format.h"

/* A dataset of the file. */
struct load_array {
    const char *name;
    int64_t elements;
    int64_t offset; /* in the file */
};

struct checkpoint {
    char path[4096];
    int file; /* open for reading */
    int64_t step;
    int64_t bytes; /* of the whole file */
    struct load_array *vectors;
    int num_vectors;
    struct load_array *blobs;
    int num_blobs;
    struct checkpoint_parameter *parameters;
    int64_t num_parameters;
    int64_t *by_name; /* [num_parameters] indices in the order of names */
    struct arena arena;
};

/* Reads what the verified file holds, through libhdf5. Errors: STATUS_INVALID when it is something
 * else than a checkpoint, STATUS_CORRUPT, STATUS_NO_MEMORY. */
enum status load_contents(struct checkpoint *checkpoint);

#endif
