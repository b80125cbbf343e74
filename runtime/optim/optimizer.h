/*
 * AdamW on the flat vectors: groups by name, clipping, EMA, sharded state, skipped steps.
 *
 * All ranks hold the same parameters. With `shard` (ZeRO-1: Rajbhandari et al., SC 2020,
 * section 5.1) a rank keeps moments and EMA of its slice alone: gradients arrive reduced to the
 * owner of each slice, the slice is updated, and the parameters are gathered. Gradients with a
 * non-finite value anywhere skip the update on all ranks together.
 *
 * On a GPU an update is work behind the run that makes the gradients: optimizer_start enqueues it
 * before the host waits for that run, the GPU decides whether it is applied, and optimizer_finish
 * learns that. On the CPU optimizer_start does it all.
 */
#ifndef WEFT_RUNTIME_OPTIM_OPTIMIZER_H
#define WEFT_RUNTIME_OPTIM_OPTIMIZER_H

#include "runtime/graph/graph.h"
#include "runtime/optim/schedule.h"

struct CUstream_st;
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
 * Prepares state for all trainable parameters of `graph` that have a gradient: in host memory, or,
 * with the `stream` of an executor on a GPU (executor_stream), there, as are the vectors that it
 * updates. The graph, config and comm (NULL: one rank) are borrowed, and the executor must live
 * longer. Not collective on the CPU. Errors: STATUS_INVALID for a group that matches no parameter
 * (named); STATUS_NO_MEMORY.
 */
enum status optimizer_create(struct optimizer **optimizer, const struct graph *graph,
                             const struct optimizer_config *config, struct comm *comm,
                             struct CUstream_st *stream);
void optimizer_destroy(struct optimizer **optimizer);

/*
 * On a GPU what optimizer_state shows is a host copy: optimizer_fetch brings it up to date, behind
 * the last update, and optimizer_restored takes over what was written to it. On the CPU they do
 * nothing.
 */
enum status optimizer_fetch(struct optimizer *optimizer);
enum status optimizer_restored(struct optimizer *optimizer);

/* Limits element `offset` of the vector that optimizer_start updates to [low, high], behind the
 * update. */
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
 * GPU it is enqueued behind what the executor was given, and the executor that has `parameters`
 * orders what reads them behind it. The run must be waited for too: what it finds wrong is not
 * known to the update, which is then not to be saved.
 */
enum status optimizer_start(struct optimizer *optimizer, float *parameters, float *gradients,
                            double scale, int64_t update, int64_t total);

/* What became of the update that was started; comes once, before the next one. On a GPU it waits
 * for the norm of the gradient, and not for the update. */
enum status optimizer_finish(struct optimizer *optimizer, struct optimizer_report *report);

/* Both. */
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
