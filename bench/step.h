/*
 * A whole training step on made-up inputs, for benchmarks: FIBER-Base at 384 px with MLM, ITC and
 * ITM over shared prefixes, or the same in miniature, to see that a benchmark runs.
 */
#ifndef WEFT_BENCH_STEP_H
#define WEFT_BENCH_STEP_H

#include "launch/train_config.h"

struct bench_step_options {
    int64_t micro;
    enum device_kind device;
    const char *precision; /* f32, bf16 */
    const char *recompute; /* none, cheap, blocks */
    const char *share;     /* what objectives have in common: true (also NULL), false */
    bool tiny;             /* the miniature */
    bool profile;
};

struct bench_step {
    struct train_config values;
    struct config *config;
    struct step step;
    struct executor *executor;
    struct optimizer *optimizer;
    int num_threads;
    int64_t micro;
};

/* Plans the step, reserves its memory, fills parameters and inputs. bench_step_fini releases, also
 * after a failure. Errors: STATUS_NO_MEMORY when it does not fit the device, those of the parts. */
enum status bench_step_init(struct bench_step *bench, const struct bench_step_options *options);
void bench_step_fini(struct bench_step *bench);

/* Forward, backward and update; returns when the loss is in host memory. Errors: STATUS_CORRUPT for
 * a loss or a gradient that is not finite. */
enum status bench_step_run(struct bench_step *bench, int64_t update);

#endif
