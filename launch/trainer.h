/*
 * Training: everything a run consists of, made from a config, advanced one update at a time, and
 * put away again. launch/cmd_train.c holds the command.
 *
 * A run folder belongs to one job at a time (run_lock.h). Its state is layout-free: parameters,
 * moments and queues of checkpoints load on any rank count, and the position in the data is the
 * number of micro-batches made, which any rank count with the same ranks x micro-batch continues.
 *
 * All functions are collective; they fail on all ranks together, except where a rank fails alone in
 * the middle of an update - then the caller aborts the job.
 */
#ifndef WEFT_LAUNCH_TRAINER_H
#define WEFT_LAUNCH_TRAINER_H

#include <signal.h>

#include "launch/feature_queue.h"
#include "launch/run_output.h"
#include "launch/train_config.h"
#include "launch/trainer_clock.h"
#include "runtime/backend/cpu/threads.h"
#include "runtime/backend/executor.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/run_lock.h"
#include "runtime/comm/comm.h"
#include "runtime/graph/op.h"

/* Exit code of a run that saved and stopped because it was asked to: start the same command again.
 */
enum { TRAINER_REQUEUE = 75 };

struct trainer_options {
    const char *config;           /* path */
    const char *const *overrides; /* "a.b=value" */
    int num_overrides;
    const char *resume; /* "auto", "never", or a path */
    bool allow_changes; /* resume although data, batch or optimiser differ from the checkpoint */
    bool quiet;
    bool profile; /* time every op, and print a table at the end */
};

/* What is summed over ranks with the losses and metrics: pieces of a hash, and signals. */
enum { TRAINER_NUMBERS = 4 + 2 };

/* Signals that arrived at this rank, set by handlers of the caller. */
struct trainer_signals {
    volatile sig_atomic_t stop;      /* SIGTERM, SIGUSR1: save and stop for a requeue */
    volatile sig_atomic_t interrupt; /* SIGINT: save and stop */
};

enum trainer_end { TRAINER_RUNNING, TRAINER_FINISHED, TRAINER_STOPPED, TRAINER_INTERRUPTED };

/* Numbers of one update, means over ranks and micro-steps. */
struct trainer_report {
    double losses[STEP_MAX_TERMS + 1]; /* the whole loss, then the terms */
    double metrics[STEP_MAX_METRICS];
    uint64_t draws; /* launch/run_log.h */
    struct optimizer_report optimizer;
};

struct trainer {
    struct trainer_options options;
    struct train_config values;
    struct config *config;
    struct comm *comm; /* borrowed */
    struct trainer_signals *signals;
    char device[DEVICE_TEXT]; /* what device_bind did */
    struct cpu_threads threads;
    char run[3072]; /* folder */
    struct run_lock *lock;

    struct tokenizer *tokenizer;
    struct data data;
    struct loader *loader;
    const struct loader_batch *batch; /* the newest */
    bool is_ahead;                    /* it is sent to the executor already, and has not been run */
    struct loader_stats handed;       /* of the loader, without a batch that is ahead */
    struct {
        int64_t epoch, index; /* as of struct loader_batch */
        bool is_sound;        /* there was no bad row */
    } current;                /* the micro-batch that was run last */

    struct step step;
    struct executor *executor;
    struct optimizer *optimizer;
    struct feature_queue queue;
    struct host_rows host; /* drawn negatives that are not in the batch */
    int64_t micro;         /* samples of a micro-batch of this rank */
    int64_t accumulate;    /* micro-batches of an update */
    int64_t rows_lost;     /* masked tokens beyond the planned rows, since the start */

    struct checkpoint_parameter *parameters; /* table of the graph's */
    int64_t num_parameters;
    struct checkpoint_saver *saver;
    char *resumed_from; /* path, NULL for a new run */
    struct strbuf config_text;

    int64_t origin; /* micro-batches before the first of done x accumulate: 0, unless a run went on
                       with other micro-batches (--allow-changes) */
    int64_t done;   /* updates, the ones skipped included */
    int64_t seen, bad;    /* samples of all ranks' loaders before this process */
    int64_t skipped_row;  /* updates skipped in a row */
    uint64_t *samples;    /* [accumulate * micro] numbers of this rank's samples of the update */
    uint64_t *hashes;     /* [micro] of the slots of the micro-batch that was run last */
    bool failed_together; /* what trainer_run failed with, all ranks failed with */
    int64_t saved;        /* updates of the run's newest save, maybe still in flight; -1: none */
    struct run_output output;
    struct trainer_report report;
    struct trainer_clock clock;
    double *sums; /* scratch: [terms + 2 * metrics + TRAINER_NUMBERS] */
};

/*
 * Reads the config, opens data, builds the model, and resumes or initialises. `signals` is borrowed
 * and looked at between updates. Errors: all that can be wrong with a recipe, each with its place.
 */
enum status trainer_create(struct trainer **trainer, const struct trainer_options *options,
                           struct comm *comm, struct trainer_signals *signals);
void trainer_destroy(struct trainer **trainer);

/* One update: micro-batches, reduction, optimiser, numbers into trainer->report, and its time into
 * trainer->clock. *end tells whether training goes on; saving is the caller's. */
enum status trainer_update(struct trainer *trainer, enum trainer_end *end);

/* What the signals of all ranks together ask for: TRAINER_RUNNING for nothing. */
enum status trainer_signalled(struct trainer *trainer, enum trainer_end *end);

void trainer_apply_bounds(struct trainer *trainer); /* step.bounds, to the parameters */

/* How micro-batch `m` of the update is run. */
struct executor_run trainer_run_of(const struct trainer *trainer, int64_t m);

/* ---- launch/trainer_batch.c; not collective ---- */

/* A wait for the loader: when it began (of the clock), and its seconds. */
struct trainer_wait {
    double begin;
    double whole;
    double read, tokenise; /* parts of it */
};

/* Fills the step's inputs from trainer->batch. */
void trainer_feed(struct trainer *trainer);

/* Makes trainer->batch the next one, as inputs of the next run. Errors: loader_next's. */
enum status trainer_batch_next(struct trainer *trainer);

/* Keeps what is asked of trainer->batch after its run: the samples' numbers [micro] and the rest in
 * `trainer`. */
void trainer_batch_note(struct trainer *trainer, uint64_t *samples);

/* Behind the run of micro-batch `m`: takes the next batch and sends it to the device, where that is
 * to be done ahead. *wait is left alone where it is not. Errors: the device's. */
enum status trainer_batch_ahead(struct trainer *trainer, int64_t m, struct trainer_wait *wait);

/* A batch that is ahead is sent again, after the inputs were used for something else. */
enum status trainer_batch_send(struct trainer *trainer);

/* Gives a wait to the clock's seconds: until `over`, when a run ended, as compute. */
void trainer_wait_account(struct trainer *trainer, const struct trainer_wait *wait, double over);

/* ---- launch/trainer_run.c ---- */

/*
 * The whole loop from where the run is, with logs, checkpoints, evaluations and the report.
 * *exit_code: 0, or the code to end with after a requested stop. A failure that is not STATUS_COMM
 * and that trainer->failed_together tells of is that of all ranks.
 */
enum status trainer_run(struct trainer *trainer, int *exit_code);

/* ---- launch/trainer_eval.c ---- */

/* Whether the number of updates done asks for an evaluation. */
bool trainer_evaluation_due(const struct trainer *trainer);

/* Whether RUN/eval has the result of the number of updates done; the same on all ranks. */
enum status trainer_is_evaluated(struct trainer *trainer, bool *is_evaluated);

/*
 * Evaluates the parameters on data.eval_sets (launch/evaluate.h): logs, and writes
 * RUN/eval/step-%08d.json with examples. Errors, the same on all ranks (but STATUS_COMM):
 * STATUS_CANCELLED when a signal arrived at any rank; those of evaluate.
 */
enum status trainer_evaluate(struct trainer *trainer);

/* ---- launch/trainer_nonfinite.c ---- */

/* Logs which op of which rank made the first value of this update that is not finite, and out of
 * which samples. Runs the micro-batches again, which leaves nothing of the gradient. */
enum status trainer_explain_nonfinite(struct trainer *trainer);

/* ---- launch/trainer_state.c: checkpoints ---- */

/* Loads the newest checkpoint as options.resume says, or else the weights of train.init_from, and
 * opens the saver. */
enum status trainer_resume(struct trainer *trainer);

/* Starts saving the state; complete after checkpoint_wait or some checkpoint_progress. */
enum status trainer_save(struct trainer *trainer);

#endif
