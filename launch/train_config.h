/* The whole config of a training run: the sections of the modules, and what ties them together. */
#ifndef WEFT_LAUNCH_TRAIN_CONFIG_H
#define WEFT_LAUNCH_TRAIN_CONFIG_H

#include "data/loader/loader_config.h"
#include "objectives/objective.h"
#include "runtime/backend/executor.h"
#include "runtime/graph/plan.h"
#include "runtime/optim/optimizer.h"

struct batch_config {
    int64_t global;
    int64_t micro;
    int64_t accumulate;
};

enum train_precision { TRAIN_F32, TRAIN_BF16 };
enum train_recompute { TRAIN_RECOMPUTE_NONE, TRAIN_RECOMPUTE_CHEAP, TRAIN_RECOMPUTE_BLOCKS };

struct train_section {
    int64_t steps;
    int64_t seed;
    enum device_kind device;
    enum train_precision precision;
    bool tf32;
    enum train_recompute recompute;
    int64_t log_every;
    int64_t max_skipped;
    const char *init_from;
    CONFIG_LIST_OF(const char *) init_allow;
};

struct checkpoint_section {
    int64_t every;
    int64_t keep;
    int64_t keep_every;
};

struct eval_section {
    int64_t every;
    int64_t batch;
    int64_t rerank;
};

struct train_config {
    const char *run;
    struct config_variant model;
    struct data_config data;
    struct tokenizer_config tokenizer;
    struct objectives_config objectives;
    struct batch_config batch;
    struct optimizer_config optimizer;
    struct train_section train;
    struct checkpoint_section checkpoint;
    struct eval_section eval;
};

extern const struct config_table train_table;

/*
 * Whether the sections agree with each other: image sides, text lengths, what the tokenizer has to
 * the model's vocabulary is checked where it is loaded. Errors: STATUS_INVALID naming both keys and
 * where they were given.
 */
enum status train_config_check(const struct train_config *values, struct config *config);

/* How the global batch divides over `ranks`: fills in micro and accumulate where the recipe leaves
 * them open. Refuses with the arithmetic. */
enum status train_batch_divide(const struct batch_config *batch, struct config *config, int ranks,
                               int64_t *micro, int64_t *accumulate);

/* Whether a run gives its device the inputs of a micro-batch while it computes the one before. */
bool train_looks_ahead(const struct train_config *values);

/* Bytes of a rank's moments and moving average. */
size_t train_optimizer_bytes(const struct train_config *values, const struct graph *graph,
                             int ranks);

/* How the training step of `micro` samples a rank is recorded, and how it is planned for ranks of
 * `num_threads`. Borrows from `values`. */
struct step_options train_step_options(const struct train_config *values, int64_t micro, int ranks);
struct plan_options train_plan_options(const struct train_config *values, int64_t accumulate,
                                       int ranks, int num_threads);

#endif
