/*
 * Checkpoints: one HDF5 file a step that holds the whole state of a run, for any number of ranks.
 *
 *   step-%08d.h5         complete files, and nothing else under this name
 *   latest               one line, the name of the newest file; for people and scripts
 *   step-%08d.h5.tmp     a write in progress
 *   step-%08d.h5.aside   see checkpoint_saver_options
 *
 * State is flat f32 vectors (parameters, moments, EMA), small blobs of bytes (config, data
 * position, queues, ...) and the table of parameters that says where each one lies in the vectors.
 * What is on disk does not depend on the number of ranks, nor on how they shared the vectors.
 *
 * Saving is collective and runs behind the training: checkpoint_begin returns once the file exists,
 * a thread of each rank writes its part from the live state, and the state need only be left alone
 * until checkpoint_settle, which sets the rest aside. A file gets its name when every rank's bytes
 * are on the disk; whatever happens before that leaves the former checkpoint untouched. A failure
 * is one message on all ranks, after which training may go on and try again.
 *
 * Every byte of a file is covered by a hash; loading verifies all of them before anything is used.
 * Format and recovery: docs/checkpoint.md.
 */
#ifndef WEFT_RUNTIME_CHECKPOINT_CHECKPOINT_H
#define WEFT_RUNTIME_CHECKPOINT_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/graph/tensor.h"

struct comm;
struct graph;

/* A flat vector. Either every rank gives all of it (begin 0, count = elements) and the ranks share
 * the writing, or the ranks' slices together are the vector (ZeRO-1), in the order of ranks. */
struct checkpoint_vector {
    const char *name;  /* "parameters", "moment1", "ema": letters, digits, '_', '-', '.' */
    int64_t elements;  /* of the whole vector, gaps included */
    int64_t begin;     /* this rank's slice */
    int64_t count;     /* elements of this rank's slice */
    const float *data; /* [count]; borrowed, see checkpoint_begin */
};

/* Bytes that are the same on all ranks (rank 0's are written); borrowed, copied by the call. */
struct checkpoint_blob {
    const char *name; /* "config.yaml", "data_position": as above */
    const void *bytes;
    int64_t size;
};

/* The blob that holds the resolved recipe; `weft export` reads it. */
#define CHECKPOINT_BLOB_CONFIG "config.yaml"

/* Where a parameter lies in the vectors. */
struct checkpoint_parameter {
    const char *name;
    struct shape shape;
    int64_t offset; /* first element */
    int64_t count;  /* elements */
};

struct checkpoint_state {
    int64_t step; /* updates done */
    const struct checkpoint_vector *vectors;
    int num_vectors;
    const struct checkpoint_blob *blobs;
    int num_blobs;
    const struct checkpoint_parameter *parameters;
    int64_t num_parameters;
};

/* The table of all parameters of `graph`: *parameters [*count], free() it. Names are borrowed from
 * the graph. Errors: STATUS_NO_MEMORY. */
enum status checkpoint_parameters(const struct graph *graph,
                                  struct checkpoint_parameter **parameters, int64_t *count);

/* ---- saving ---- */

struct checkpoint_saver;

struct checkpoint_saver_options {
    int64_t keep;       /* newest files to keep; 0: all */
    int64_t keep_every; /* files whose step is a multiple of it stay for ever; 0: none */
    /*
     * The step this run continues from (0: a fresh start), below 0: nothing is known. Files of
     * later steps are damaged, or belong to a continuation that this run does not follow; they are
     * renamed to NAME.aside with a warning, so that a later start does not take them for newer.
     */
    int64_t resumed_step;
};

/*
 * Prepares saving to `folder` (made when it is not there), removes what dead writers left (the
 * caller holds the run's lock, run_lock.h). `comm` is borrowed; NULL: one rank without MPI.
 * A file size limit becomes an error instead of a signal (SIGXFSZ is ignored from here on).
 * Collective. Errors, the same on all ranks: STATUS_IO for a folder that cannot be written.
 */
enum status checkpoint_saver_create(struct checkpoint_saver **created, const char *folder,
                                    const struct checkpoint_saver_options *options,
                                    struct comm *comm);

/* Waits for this rank's thread, gives up a save that is not complete, frees. NULL-safe. Not
 * collective. */
void checkpoint_saver_destroy(struct checkpoint_saver **saver);

/*
 * Starts saving `state`. The vectors must stay unchanged until checkpoint_settle; everything else
 * is copied. Waits for a save still in flight (whose failure it then returns). Collective; leaves
 * the watchdog in COMM_PHASE_CHECKPOINT. Errors, the same on all ranks: STATUS_INVALID for slices
 * that are not a vector; STATUS_IO naming the path and the remedy, the temporary file removed.
 */
enum status checkpoint_begin(struct checkpoint_saver *saver, const struct checkpoint_state *state);

/*
 * Makes the vectors free to change: what is not written yet is copied to staging memory, which
 * stays allocated for the next time. Call it before the next update, or right after
 * checkpoint_begin. Costs nothing when all is written. Not collective. Errors: STATUS_NO_MEMORY.
 */
enum status checkpoint_settle(struct checkpoint_saver *saver);

/*
 * Moves a save in flight on, without waiting; call it at every step boundary. *finished tells that
 * a save became complete in this call. Collective (one small agreement while a save is in flight,
 * nothing otherwise). Errors as checkpoint_begin; the save is given up.
 */
enum status checkpoint_progress(struct checkpoint_saver *saver, bool *finished);

/* Waits until no save is in flight. Collective. Errors as checkpoint_progress. */
enum status checkpoint_wait(struct checkpoint_saver *saver, bool *finished);

/* checkpoint_begin and checkpoint_wait. Collective. */
enum status checkpoint_save(struct checkpoint_saver *saver, const struct checkpoint_state *state);

struct checkpoint_report {
    int64_t step; /* of the last complete save; -1 before the first */
    char path[4096];
    int64_t bytes;  /* of the file */
    double seconds; /* from checkpoint_begin until complete */
    double stall;   /* seconds of it that this rank's calls took from the training */
};
struct checkpoint_report checkpoint_report(const struct checkpoint_saver *saver);

/* ---- loading ---- */

struct checkpoint;

/*
 * Opens a checkpoint: `path` is a file, a folder of checkpoints or its `latest`, or a run folder.
 * In a folder the newest sound file is taken; each newer one that is damaged is told as a warning
 * with the reason. All hashes are verified, by all ranks together. With `comm` NULL: this process
 * alone, for tools; otherwise collective, and every rank must reach the same file. Errors:
 * STATUS_NOT_FOUND when there is none; STATUS_CORRUPT when all are damaged; STATUS_UNSUPPORTED for
 * another version; STATUS_INVALID for a file that is no checkpoint.
 */
enum status checkpoint_open(struct checkpoint **checkpoint, const char *path, struct comm *comm);
void checkpoint_close(struct checkpoint **checkpoint); /* NULL-safe; not collective */

const char *checkpoint_path(const struct checkpoint *checkpoint);
int64_t checkpoint_step(const struct checkpoint *checkpoint);
int64_t checkpoint_bytes(const struct checkpoint *checkpoint);

/* Elements of a vector, -1 when there is none of that name. */
int64_t checkpoint_elements(const struct checkpoint *checkpoint, const char *vector);

int64_t checkpoint_num_parameters(const struct checkpoint *checkpoint);
const struct checkpoint_parameter *checkpoint_parameter_at(const struct checkpoint *checkpoint,
                                                           int64_t index);

/* Names of the vectors and blobs, NULL past the last. */
const char *checkpoint_vector_name(const struct checkpoint *checkpoint, int index);
const char *checkpoint_blob_name(const struct checkpoint *checkpoint, int index);

/* Size of a blob in bytes, -1 when there is none of that name. */
int64_t checkpoint_blob_size(const struct checkpoint *checkpoint, const char *name);

/* Reads a blob; *bytes is free()d by the caller and has a NUL behind its end. Not collective.
 * Errors: STATUS_NOT_FOUND, STATUS_IO. */
enum status checkpoint_blob_read(const struct checkpoint *checkpoint, const char *name,
                                 void **bytes, int64_t *size);

/*
 * Refuses a checkpoint of another model: the parameters must have the same names and shapes, in any
 * order. The first difference is named. Not collective. Errors: STATUS_INVALID.
 */
enum status checkpoint_check_model(const struct checkpoint *checkpoint,
                                   const struct checkpoint_parameter *parameters, int64_t count);

/*
 * Reads elements [begin, begin + count) of `vector`, laid out as the caller's `parameters` say, in
 * whatever order the file has them; gaps become zero. The parameters must fit
 * (checkpoint_check_model). Not collective. Errors: STATUS_NOT_FOUND, STATUS_INVALID, STATUS_IO.
 */
enum status checkpoint_read(const struct checkpoint *checkpoint, const char *vector,
                            const struct checkpoint_parameter *parameters, int64_t num_parameters,
                            int64_t begin, int64_t count, float *out);

/* Reads elements of `vector` as they lie in the file. Not collective. Errors as above. */
enum status checkpoint_read_flat(const struct checkpoint *checkpoint, const char *vector,
                                 int64_t begin, int64_t count, float *out);

#endif
