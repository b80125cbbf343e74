/*
 * What a training run will take, found without training and without data: parameters by module,
 * memory by class, FLOPs, bytes communicated, and an estimate of the time of an update.
 */
#ifndef WEFT_LAUNCH_TRAIN_PLAN_H
#define WEFT_LAUNCH_TRAIN_PLAN_H

#include <stdio.h>

#include "launch/machine_probe.h"
#include "launch/train_config.h"

enum train_memory {
    TRAIN_MEMORY_PARAMETERS,
    TRAIN_MEMORY_GRADIENTS,
    TRAIN_MEMORY_MOMENTS,
    TRAIN_MEMORY_EMA,
    TRAIN_MEMORY_CASTS,  /* bf16 copies and the like, made once per update */
    TRAIN_MEMORY_PACKED, /* weights in the layout that the matrix library likes */
    TRAIN_MEMORY_INPUTS,
    TRAIN_MEMORY_ACTIVATIONS,
    TRAIN_MEMORY_QUEUE,  /* beside the features, which are inputs */
    TRAIN_MEMORY_LOADER, /* batches made ahead */
    TRAIN_MEMORY_COUNT
};

struct train_plan {
    const struct train_config *values; /* borrowed */
    int ranks;
    int num_threads;
    int64_t micro;
    int64_t accumulate;
    struct step step;
    const struct plan_backend *backend;
    struct plan *plan;
    int64_t memory[TRAIN_MEMORY_COUNT]; /* bytes of a rank */
    int64_t peak;    /* their sum; with a GPU that of its memory, without `host` */
    int64_t host;    /* with a GPU: of them, what lies in the host's memory */
    int64_t staging; /* at most, while a checkpoint is written behind */

    /* Of a rank and an update: handed to other ranks. */
    double gradient_bytes;
    double parameter_bytes;  /* gathered again when moments are sharded */
    double collective_bytes; /* features, negatives, sums within the step */

    bool probed;
    struct machine_probe probe;
    double pass_seconds;   /* forward and backward of all micro-steps */
    double update_seconds; /* casts and optimiser */
};

/*
 * Plans the step of `values` (borrowed, with its config for messages) on `ranks` ranks of
 * `num_threads`, or on a GPU each (train.device), which need not be there. Reserves no memory of
 * the step. Not collective; release with train_plan_fini, also after a failure. Errors: those of
 * train_batch_divide, step_init and plan_create.
 */
enum status train_plan_init(struct train_plan *plan, const struct train_config *values,
                            struct config *config, int ranks, int num_threads);
void train_plan_fini(struct train_plan *plan);

/*
 * Measures this machine for about a second and estimates the time of an update: each planned op
 * takes the longer of its FLOPs at the rate of the product and its bytes at that of the triad. What
 * ops lose to imperfect kernels, and what waiting for other ranks costs, is not in it.
 */
enum status train_plan_probe(struct train_plan *plan);

/* Refuses an optimiser whose rules match no parameter; --detail lists the names. */
enum status train_plan_check(const struct train_plan *plan);

/* For people, and as one JSON object. `detail` adds one line (entry) per planned op,
 * and to the text the table of parameters. */
void train_plan_print(const struct train_plan *plan, FILE *file, bool detail);
void train_plan_print_json(const struct train_plan *plan, FILE *file, bool detail);

#endif
