/*
 * Where a run is: the blob `position.yaml` of its checkpoints. Keys that came later have defaults,
 * so that older checkpoints stay readable.
 */
#ifndef WEFT_LAUNCH_RUN_POSITION_H
#define WEFT_LAUNCH_RUN_POSITION_H

#include "runtime/base/config.h"

struct run_position {
    int64_t updates;
    int64_t micro_batches;
    int64_t samples_per_micro_batch;
    int64_t seen;
    int64_t bad;
    int64_t applied;
    int64_t skipped;
    int64_t skipped_row; /* 0 in checkpoints that do not have it */
    CONFIG_LIST_OF(const char *) data;
    const char *tokenizer;
};

extern const struct config_table run_position_table;

#endif
