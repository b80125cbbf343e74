/*
 * A trained model out of a checkpoint: its config, its tokenizer and its parameters, for `weft
 * eval` and `weft infer`.
 */
#ifndef WEFT_LAUNCH_TRAINED_H
#define WEFT_LAUNCH_TRAINED_H

#include "launch/eval_pass.h"
#include "runtime/backend/cpu/threads.h"

struct comm;

struct trained_options {
    const char *path; /* a checkpoint, a folder of them, or a run: its newest one */
    const char *const *overrides;
    int num_overrides;
    bool ema; /* the moving average in place of the last parameters */
};

struct trained {
    struct train_config values; /* as it was trained, with the overrides */
    struct config *config;
    struct cpu_threads threads;
    struct tokenizer *tokenizer;
    char *path;   /* of the file that was loaded */
    int64_t step; /* updates that its parameters had */
    struct eval_model model;
    void *memory; /* of the parameters */
};

/*
 * Opens `trained`, with `comm` on all ranks together, with NULL this process alone. Release with
 * trained_close, also after a failure. Errors: those of checkpoint_open and of the config; a
 * tokenizer that is not the one of training; STATUS_NOT_FOUND without a moving average.
 */
enum status trained_open(struct trained *trained, const struct trained_options *options,
                         struct comm *comm);
void trained_close(struct trained *trained);

/* The folder of the run that the checkpoint lies in: above `checkpoints`, otherwise its own;
 * cut off after `size`. */
void trained_run_folder(const struct trained *trained, char *folder, size_t size);

#endif
