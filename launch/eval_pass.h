/*
 * Passes over a trained model: features, prefixes, and matching of pairs, for `weft eval`, `weft
 * infer` and evaluation during training.
 *
 * A pass is a graph behind a copy of the training step that keeps nothing, so that the flat vector
 * of parameters has the same layout as in training; it runs on the caller's vector. Not collective.
 *
 * Letters: B samples of a run, D joint width.
 */
#ifndef WEFT_LAUNCH_EVAL_PASS_H
#define WEFT_LAUNCH_EVAL_PASS_H

#include "launch/train_config.h"
#include "runtime/backend/executor.h"

struct eval_model {
    const struct train_config *values; /* model, objectives, train.precision, train.seed */
    int num_threads;
    float *parameters; /* [num_elements] in the order of training, 64-byte aligned; borrowed */
    int64_t num_elements;
};

/* Inputs are step.pixels, or step.ids and step.mask; eval_pass_data gives their memory. */
struct eval_pass {
    struct step step;
    struct executor *executor;
    struct tensor *prefix; /* input of matching [B,...] */
    struct tensor *output;
};

/* Prepares a pass over B samples at a time; release with eval_pass_fini, also after a failure.
 * Errors: those of step_init and executor_create. */
enum status eval_pass_image(const struct eval_model *model, int64_t batch,
                            struct eval_pass *pass); /* pixels -> feature, f32 [B,D] */
enum status eval_pass_text(const struct eval_model *model, int64_t batch,
                           struct eval_pass *pass); /* ids, mask -> feature, f32 [B,D] */
enum status eval_pass_prefix(const struct eval_model *model, int64_t batch,
                             struct eval_pass *pass); /* pixels -> prefix [B,...] */
enum status eval_pass_match(const struct eval_model *model, int64_t batch,
                            struct eval_pass *pass); /* prefix, ids, mask -> logits, f32 [B,2] */
void eval_pass_fini(struct eval_pass *pass);

/* The memory of an input. */
void *eval_pass_data(struct eval_pass *pass, const struct tensor *tensor);

/* Runs it; *values points to the output until the next run. */
enum status eval_pass_run(struct eval_pass *pass, const void **values);

#endif
