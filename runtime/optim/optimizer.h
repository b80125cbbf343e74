/*
 * AdamW on the flat vectors: groups by name, clipping, EMA, sharded state, skipped steps.
 *
 * All ranks hold the same parameters. With `shard` (ZeRO-1: Rajbhandari et al., SC 2020,
 * section 5.1) a rank keeps moments and EMA of its slice alone: gradients arrive reduced to the
 * owner of each slice, the slice is updated, and the parameters are gathered. Gradients with a
 * non-finite value anywhere skip the update on all ranks together.
 */
#ifndef WEFT_RUNTIME_OPTIM_OPTIMIZER_H
#define WEFT_RUNTIME_OPTIM_OPTIMIZER_H

#include "runtime/graph/graph.h"
#include "runtime/optim/schedule.h"

struct comm;

/*
 * A rule for parameters whose name matches any of `match`: a text without '*' matches anywhere in
 * the name, one with '*' must match the whole name. Every rule that matches multiplies.
 */
struct optimizer_group {
    CONFIG_LIST_OF(const char *) match;
    double lr;    /* multiplies the learning rate */
    double decay; /* multiplies the weight decay */
};

enum optimizer_form {
    OPTIMIZER_ADAMW,      /* Loshchilov, Hutter, ICLR 2019, algorithm 2 */
    OPTIMIZER_ADAMW_FIBER /* the library behind FIBER's coarse stage: eps beside the uncorrected
                             sqrt(v), decay after the update */
};

struct optimizer_config {
    enum optimizer_form form;
    double lr;
    CONFIG_LIST_OF(double) betas; /* two */
    double eps;
    double weight_decay;
    double clip_norm; /* global L2 norm; 0: no clipping */
    double ema_decay; /* 0: no EMA */
    bool shard;
    CONFIG_LIST_OF(struct optimizer_group) groups;
    struct schedule schedule;
};

extern const struct config_table optimizer_table;

struct optimizer;

/*
 * Prepares state for all trainable parameters of `graph` that have a gradient. The graph, config
 * and comm (NULL: one rank) are borrowed. Not collective. Errors: STATUS_INVALID for a group that
 * matches no parameter (named); STATUS_NO_MEMORY.
 */
enum status optimizer_create(struct optimizer **optimizer, const struct graph *graph,
                             const struct optimizer_config *config, struct comm *comm);
void optimizer_destroy(struct optimizer **optimizer);

/*
 * The same with the state, and the vectors that optimizer_step updates, on a GPU. What
 * optimizer_state shows is then a host copy: optimizer_fetch brings it up to date, and
 * optimizer_restored takes over what was written to it. Errors: STATUS_UNSUPPORTED in a build
 * without CUDA.
 */
enum status optimizer_create_cuda(struct optimizer **optimizer, const struct graph *graph,
                                  const struct optimizer_config *config, struct comm *comm);
enum status optimizer_fetch(struct optimizer *optimizer);
enum status optimizer_restored(struct optimizer *optimizer);

/* Limits element `offset` of the vector that optimizer_step updates to [low, high]. */
enum status optimizer_clamp(struct optimizer *optimizer, float *parameters, int64_t offset,
                            float low, float high);

struct optimizer_report {
    double lr;            /* base rate of this update */
    double gradient_norm; /* of the averaged gradient, before clipping */
    bool clipped;
    bool skipped; /* a gradient was not finite */
};

/*
 * One update of `parameters` from `gradients` (flat, reduced as executor_run leaves them: summed
 * over ranks; valid in this rank's slice with `shard`). `scale` is multiplied in: 1 / (ranks *
 * micro-steps) for the mean. `update` counts from 0 and `total` is the length of the schedule. A
 * skipped update changes nothing but the counter of skipped ones. Collective when sharded. On a
 * GPU the other ranks' slices are then on their way: the executor that has `parameters` waits.
 */
enum status optimizer_step(struct optimizer *optimizer, float *parameters, float *gradients,
                           double scale, int64_t update, int64_t total,
                           struct optimizer_report *report);

/* State for checkpoints: this rank's slice [begin, begin + count) of the flat vectors. */
struct optimizer_state {
    int64_t begin;
    int64_t count;
    float *first_moment;  /* [count] */
    float *second_moment; /* [count] */
    float *ema;           /* [count]; NULL without EMA */
    int64_t *applied;     /* updates that were applied: the t of the bias correction */
    int64_t *skipped;     /* updates that were skipped */
};
struct optimizer_state optimizer_state(struct optimizer *optimizer);

/* Starts the EMA from the parameters, in host memory; call once they are initialised or loaded. On
 * a GPU followed by optimizer_restored. */
void optimizer_ema_start(struct optimizer *optimizer, const float *parameters);

/* Learning-rate and decay multipliers of a parameter, for print-outs. */
void optimizer_multipliers(const struct optimizer_config *config, const char *name, double *lr,
                           double *decay);

#endif
