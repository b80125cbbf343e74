/* Shared by the files that save checkpoints. */
#ifndef WEFT_RUNTIME_CHECKPOINT_SAVE_IMPL_H
#define WEFT_RUNTIME_CHECKPOINT_SAVE_IMPL_H

#include <limits.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/format.h"

/* Puts what the user can do about `error` (an errno) behind this thread's message. */
enum status save_explain(enum status status, int error);

/* ---- save_file.c: the HDF5 file ---- */

/* Where everything lies in a file. */
struct save_layout {
    int64_t file_bytes; /* of the HDF5 part; rank 0 */
    int64_t *vectors;   /* [num_vectors] offsets; owned */
    int64_t *blobs;     /* [num_blobs] offsets; owned */
    int64_t parameters;
    int64_t parameters_bytes;
    int64_t hashes;
    int64_t num_hashes;
};

void save_layout_fini(struct save_layout *layout);

/* Bytes of a row of /parameters: the longest name with its NUL, padded, and the numbers. */
int64_t save_row_bytes(const struct checkpoint_state *state);

/* Writes the rows of /parameters to `bytes`. */
void save_rows(const struct checkpoint_state *state, uint8_t *bytes);

/*
 * Creates the file at `path` with room for everything, through parallel HDF5, contents undefined,
 * and reserves its blocks on the disk. Collective; fails on all ranks together, without leaving the
 * file. Errors: STATUS_IO, STATUS_NO_MEMORY.
 */
enum status save_file_create(const char *path, const struct checkpoint_state *state,
                             int64_t num_hashes, struct comm *comm, struct save_layout *layout);

/* ---- save_plan.c: who writes what ---- */

struct save_plan {
    struct piece *pieces; /* this rank's, owned */
    int64_t num_pieces;
    struct checkpoint_hash *rows; /* [num_rows] offsets and bytes of all ranks' pieces; the spare
                                     rows are zero; owned */
    int64_t num_rows;
    int64_t num_used;
    uint8_t *copies; /* rank 0: the rows of /parameters and the blobs; owned */
    int64_t *slices; /* [ranks][vectors][2] begin, end; owned */
};

/* Decides who writes which elements and how many hashes there will be. Collective; fails on all
 * ranks together. Errors: STATUS_INVALID, STATUS_NO_MEMORY. */
enum status save_plan_create(struct save_plan *plan, const struct checkpoint_state *state,
                             struct comm *comm);

/* Fills in pieces and rows once the places in the file are known. Not collective. */
enum status save_plan_place(struct save_plan *plan, const struct checkpoint_state *state,
                            const struct save_layout *layout, struct comm *comm);
void save_plan_fini(struct save_plan *plan);

/* ---- save_finish.c: rank 0's end of a save ---- */

struct save_finish {
    const char *folder;
    const char *temporary;
    int64_t step;
    int64_t keep;
    int64_t keep_every;
    const struct save_layout *layout;
    const struct save_plan *plan;
};

/* Hashes HDF5's own bytes, writes table and seal, flushes, renames, moves `latest`, removes old
 * files. For background_start. Errors: STATUS_IO. */
enum status save_finish(void *finish);

/* ---- save_folder.c: the folder; rank 0 ---- */

/*
 * Makes the folder when it is not there, removes what dead writers left, and, unless `resumed_step`
 * is below 0, renames files of later steps to NAME.aside and mends `latest`. Errors: STATUS_IO.
 */
enum status save_folder_prepare(const char *folder, int64_t resumed_step);

/* Makes FOLDER/latest name the file of `step`. Errors: STATUS_IO. */
enum status save_folder_latest(const char *folder, int64_t step);

/* Removes all but the newest `keep` (0: removes nothing) of the files up to `step`, and those whose
 * step is a multiple of `keep_every`. Later ones are not of this continuation. Errors: STATUS_IO.
 */
enum status save_folder_thin(const char *folder, int64_t step, int64_t keep, int64_t keep_every);

#endif
