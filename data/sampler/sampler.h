/*
 * The order in which samples are drawn: a function of (seed, epoch, index), with nothing kept in
 * memory.
 *
 * The position of a run is two integers: the epoch and the index of the next sample in it. Ranks
 * share one sequence: a global batch is the next `global_batch` samples, and a rank takes its
 * contiguous part, so every rank takes the same number of steps and any rank count draws the same
 * samples. Resuming is starting from a position.
 *
 * Orders:
 *   - concatenation: an epoch visits every row of every set once, in a keyed permutation of all;
 *   - mixture (weights given): within every block of SAMPLER_BLOCK draws each set has its exact
 * share, in a keyed order; a set that runs out starts over in another permutation, whatever the
 * epoch;
 *   - locality (chunk_rows > 0; concatenation only): chunks of adjacent rows are permuted, and rows
 * inside a window of chunks, for disks that hate random reads.
 */
#ifndef WEFT_DATA_SAMPLER_SAMPLER_H
#define WEFT_DATA_SAMPLER_SAMPLER_H

#include <stdbool.h>

#include "data/sampler/permutation.h"
#include "runtime/base/status.h"

enum { SAMPLER_MAX_SETS = 64, SAMPLER_BLOCK = 4096 };

/* What happens when an epoch does not divide into global batches. */
enum sampler_tail {
    SAMPLER_TAIL_DROP, /* the rest of the epoch is left out */
    SAMPLER_TAIL_WRAP  /* the batch is filled from the next epoch */
};

struct sampler_options {
    const int64_t *set_rows;   /* [num_sets], each >= 1; copied */
    const double *set_weights; /* [num_sets] > 0, any scale, copied; NULL: concatenation */
    int num_sets;
    uint64_t seed;
    int64_t global_batch;
    enum sampler_tail tail;
    int64_t epoch_samples; /* mixture: length of an epoch; 0: the rows of all sets together */
    int64_t chunk_rows;    /* locality: rows of a chunk; 0: off */
    int64_t window_chunks; /* locality: chunks shuffled together */
};

struct sampler {
    int num_sets;
    bool is_mixture;
    int64_t set_rows[SAMPLER_MAX_SETS];
    int64_t set_begin[SAMPLER_MAX_SETS + 1]; /* concatenation: first row of each set */
    int64_t quota[SAMPLER_MAX_SETS + 1];     /* mixture: first slot of each set in a block */
    uint64_t seed;
    int64_t global_batch;
    enum sampler_tail tail;
    int64_t epoch_samples;
    int64_t chunk_rows;
    int64_t window_chunks;
};

/* The next sample to draw. Saved in checkpoints. */
struct sampler_position {
    int64_t epoch;
    int64_t index;
};

/* One draw. */
struct sampler_draw {
    int set;
    int64_t row;     /* in the set */
    uint64_t sample; /* epoch * epoch_samples + index: the sample's number in the run, key of its
                        randomness */
};

/*
 * Fills in a sampler; needs no release. Errors: STATUS_INVALID for sets, weights or sizes that make
 * no sense (an epoch below one global batch with SAMPLER_TAIL_DROP, a weight whose share of a block
 * rounds to nothing).
 */
enum status sampler_init(struct sampler *sampler, const struct sampler_options *options);

/* Draw `index` (below epoch_samples) of `epoch`. */
struct sampler_draw sampler_draw_at(const struct sampler *sampler, int64_t epoch, int64_t index);

/* Global batches of one epoch, with SAMPLER_TAIL_WRAP rounded down. */
int64_t sampler_steps_per_epoch(const struct sampler *sampler);

/*
 * Sample `i` (below global_batch) of the global batch that begins at `position`: rank r of `size`
 * takes the i in [r * global_batch / size, (r + 1) * global_batch / size).
 */
struct sampler_draw sampler_batch_at(const struct sampler *sampler,
                                     struct sampler_position position, int64_t i);

/* The position of the next global batch. */
struct sampler_position sampler_next(const struct sampler *sampler,
                                     struct sampler_position position);

/* The position at the beginning of global batch `step` (from 0). */
struct sampler_position sampler_at_step(const struct sampler *sampler, int64_t step);

#endif
