/*
 * Everything a training run tells the outside, in one place: RUN/log.jsonl (launch/run_log.h), the
 * TensorBoard event file (launch/tensorboard.h) and the progress line (launch/train_line.h).
 *
 *     struct run_output output;
 *     TRY(run_output_open(&output, &options));        on every rank; silent where rank != 0
 *     TRY(run_output_start(&output, &start));
 *     ... TRY(run_output_step(&output, &step)); ...
 *     run_output_end(&output, &end);
 *     run_output_close(&output);
 *
 * Once open, a file that cannot be written (a full disk) is a warning, told once; nothing here ends
 * a run then. On ranks other than 0 all functions do nothing. Not collective; one thread at a time.
 */
#ifndef WEFT_LAUNCH_RUN_OUTPUT_H
#define WEFT_LAUNCH_RUN_OUTPUT_H

#include "launch/run_log.h"
#include "launch/tensorboard.h"
#include "launch/train_line.h"

struct run_output_options {
    const char *folder;  /* RUN, which exists */
    int rank;            /* of this process */
    int64_t step;        /* updates done before: 0, or those of the checkpoint */
    int64_t total_steps; /* of the whole run */
    int64_t every;       /* steps between plain progress lines; 0: 50 */
    bool quiet;          /* no progress line */
    bool no_tensorboard;
};

struct run_output {
    bool active; /* rank 0 */
    bool has_tensorboard;
    bool troubled; /* a line could not be written, and that was told */
    struct run_log log;
    struct tensorboard tensorboard;
    struct train_line line;
};

/* Opens the files. Close with run_output_close, also after a failure. Errors: STATUS_IO,
 * STATUS_NO_MEMORY. */
enum status run_output_open(struct run_output *output, const struct run_output_options *options);

/* The same moments as in launch/run_log.h. A step also goes to TensorBoard and to the progress
 * line, which may add a warning; eval goes to TensorBoard under eval-SPLIT/. Errors: STATUS_IO,
 * STATUS_NO_MEMORY. */
enum status run_output_start(struct run_output *output, const struct run_log_start *start);
enum status run_output_step(struct run_output *output, const struct run_log_step *step);
enum status run_output_eval(struct run_output *output, const struct run_log_eval *eval);
enum status run_output_checkpoint(struct run_output *output,
                                  const struct run_log_checkpoint *checkpoint);

/* Prints `text` as a warning and logs it. Errors as above. */
enum status run_output_warning(struct run_output *output, int64_t step, const char *text);
enum status run_output_end(struct run_output *output, const struct run_log_end *end);

/* Clears the progress line, before something else is printed to the terminal. */
void run_output_clear(struct run_output *output);

/* Errors: STATUS_IO. */
enum status run_output_close(struct run_output *output);

#endif
