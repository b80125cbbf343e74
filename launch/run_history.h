/*
 * A run folder's log.jsonl (launch/run_log.h) read back as columns.
 *
 * Of the step, eval and checkpoint lines only what became part of the run is kept: a "start" line
 * drops what was logged beyond the step it resumes from, and of several lines of one step the last
 * one counts. Lines that cannot be read (cut off by a full disk, a kill on a network file system)
 * are skipped and counted. A log that is still being written can be read.
 */
#ifndef WEFT_LAUNCH_RUN_HISTORY_H
#define WEFT_LAUNCH_RUN_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "launch/run_log.h"
#include "runtime/base/arena.h"

/* One column of the step lines. */
struct run_series {
    const char *group; /* "losses", "metrics", "lr", "seconds", "run" (gradient_norm, ...) */
    const char *name;
    double *values; /* [num_steps], NaN where a step does not have it */
};

struct run_history_eval {
    int64_t step;
    double time;
    const char *split;
    struct run_values metrics;
};

struct run_history_checkpoint {
    int64_t step;
    double time;
    const char *path;
    double seconds;
    double stall_s;
    int64_t bytes;
};

struct run_history_warning {
    int64_t step;
    double time;
    const char *text;
};

struct run_history_start {
    double time;
    struct run_log_start start; /* strings may be NULL */
};

struct run_history {
    struct arena arena;
    int64_t num_steps;
    int64_t *steps; /* [num_steps], ascending */
    double *times;  /* [num_steps], seconds since 1970 */
    int num_series;
    struct run_series *series;
    int num_evals;
    struct run_history_eval *evals;
    int num_checkpoints;
    struct run_history_checkpoint *checkpoints;
    int num_warnings;
    struct run_history_warning *warnings;
    int num_starts;
    struct run_history_start *starts;
    bool ended; /* an "end" line follows the last start */
    struct run_log_end end;
    double end_time;
    double last_time;       /* of the last line */
    int64_t num_superseded; /* step lines that were dropped or replaced */
    int64_t num_bad;        /* lines that could not be read */
    int64_t first_bad;      /* number of the first of them, from 1 */
};

/* Reads RUN/log.jsonl. Free with run_history_fini, also after a failure. Not collective. Errors:
 * STATUS_NOT_FOUND (no run there), STATUS_IO, STATUS_NO_MEMORY. */
enum status run_history_read(struct run_history *history, const char *run);
void run_history_fini(struct run_history *history);

/* The column `name` of `group`, or NULL. */
const struct run_series *run_history_find(const struct run_history *history, const char *group,
                                          const char *name);

#endif
