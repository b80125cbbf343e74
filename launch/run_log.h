/*
 * RUN/log.jsonl: what happened in a run, one JSON object a line, written by rank 0.
 *
 * Every line has "kind" and "time" (seconds since 1970). Kinds:
 *
 *   start       step, total_steps, host, ranks, hosts, threads, global_batch, build,
 *               config_fingerprint, resumed_from (a path or null)
 *   step        step, epoch, index, draws, losses {name: value}, metrics {..}, lr {group: value},
 *               gradient_norm, samples_per_s, seconds {step, wait_read, ..}, rss_mb
 *   eval        step, split, seconds, metrics {name: value}
 *   checkpoint  step, path, seconds, stall_s, bytes
 *   warning     step, text
 *   end         step, reason, exit_code
 *
 * `step` is the number of updates done, this one included, as in checkpoints/step-%08d.h5: the
 * first line has 1. A resumed run appends. What an earlier process logged beyond the step that the
 * "start" line resumes from did not become part of the run: readers (launch/run_history.h) drop it,
 * and where one step has several lines the last one counts.
 *
 * `draws` is a hash, in hexadecimal, of all that was drawn for the update: which samples, their
 * crops, masks and hard negatives. It does not depend on the number of ranks, so that two runs can
 * be told to have seen the same.
 *
 * Numbers read back bit for bit; NaN and infinities are strings (launch/json_text.h).
 *
 * Each line is one write to a file opened for appending, so that a run that is killed leaves whole
 * lines; a line cut off by a full disk is ended before the next. Not collective; one thread at a
 * time.
 */
#ifndef WEFT_LAUNCH_RUN_LOG_H
#define WEFT_LAUNCH_RUN_LOG_H

#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/base/strbuf.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A named number: a loss, a metric, a learning rate. The name is borrowed. */
struct run_value {
    const char *name;
    double value;
};

/* Several of them, borrowed. */
struct run_values {
    const struct run_value *items;
    int count;
};

/* Where the time of a step went, seconds of wall time of rank 0. `step` is all of it, from the line
 * of the step before to this one, and the sum of the others. A step's line is written when its
 * update is done, so a save or an evaluation that follows it counts for the next one. The waits are
 * the time that training stood still for the loader, by what the loader was busy with. */
struct run_seconds {
    double step;
    double wait_read;
    double wait_decode;
    double wait_tokenise;
    double compute;
    double communicate; /* only what was not hidden behind compute */
    double update;
    double checkpoint; /* what a save takes from training: its start, setting aside, its end */
    double evaluate;
    double other; /* writing logs, looking for values that are not finite */
};

/* Strings may be NULL where that is said. All are borrowed during the call. */
struct run_log_start {
    int64_t step; /* updates done before: 0, or those of the checkpoint */
    int64_t total_steps;
    int64_t global_batch;
    int ranks;
    int hosts;
    int threads; /* of each rank */
    const char *host;
    const char *build;
    const char *config_fingerprint;
    const char *resumed_from; /* path of the checkpoint; NULL for a new run */
};

struct run_log_step {
    int64_t step;
    int64_t epoch;
    int64_t index; /* samples of the epoch done, these included */
    uint64_t draws;
    struct run_values losses;
    struct run_values metrics;
    struct run_values lr;
    double gradient_norm;
    double samples_per_s;
    struct run_seconds seconds;
    double rss_mb; /* resident memory of rank 0 */
};

struct run_log_eval {
    int64_t step;
    const char *split;
    double seconds; /* until its line */
    struct run_values metrics;
};

struct run_log_checkpoint {
    int64_t step;
    const char *path;
    double seconds; /* from the start to the file in its place */
    double stall_s; /* of these, how long training stood still */
    int64_t bytes;
};

struct run_log_end {
    int64_t step;
    const char *reason; /* "finished", "stopped by SIGUSR1", the message of a failure */
    int exit_code;
};

/* Zero-initialise. */
struct run_log {
    int fd; /* -1 when closed; 0 is never used */
    char *path;
    struct strbuf line;
};

/* Opens FOLDER/log.jsonl for appending and creates it when it is not there; the folder must exist.
 * Close with run_log_close. Errors: STATUS_IO, STATUS_NO_MEMORY. */
enum status run_log_open(struct run_log *log, const char *folder);

/* Append one line each. Errors: STATUS_IO naming the file (disk full), STATUS_NO_MEMORY. */
enum status run_log_start(struct run_log *log, const struct run_log_start *start);
enum status run_log_step(struct run_log *log, const struct run_log_step *step);
enum status run_log_eval(struct run_log *log, const struct run_log_eval *eval);
enum status run_log_checkpoint(struct run_log *log, const struct run_log_checkpoint *checkpoint);
enum status run_log_warning(struct run_log *log, int64_t step, const char *text);
enum status run_log_end(struct run_log *log, const struct run_log_end *last);

/* Flushes to the disk and closes. NULL-safe, and nothing on a log that is not open. Errors:
 * STATUS_IO. */
enum status run_log_close(struct run_log *log);

#ifdef __cplusplus
}
#endif
#endif
