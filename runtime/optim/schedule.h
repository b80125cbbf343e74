/*
 * Learning-rate schedules: a factor of the base rate as a function of the update's number.
 *
 * Warm-up is linear from `warmup_factor` to 1 over the first W updates (update n, counted from 0,
 * uses warmup_factor + (1 - warmup_factor) * n / W, so with factor 0 the first update has rate 0,
 * as in both FIBER stages). After it, p = (n - W) / (T - W) runs from 0 to 1 over the rest of the T
 * updates.
 */
#ifndef WEFT_RUNTIME_OPTIM_SCHEDULE_H
#define WEFT_RUNTIME_OPTIM_SCHEDULE_H

#include "runtime/base/config.h"

enum schedule_kind {
    SCHEDULE_CONSTANT,
    SCHEDULE_LINEAR,     /* to end_factor */
    SCHEDULE_POLYNOMIAL, /* end_factor + (1 - end_factor) * (1 - p)^power */
    SCHEDULE_COSINE,     /* end_factor + (1 - end_factor) * (1 + cos(pi * p)) / 2 */
    SCHEDULE_MULTI_STEP  /* gamma^(milestones passed) */
};

struct schedule {
    enum schedule_kind kind;
    double warmup;        /* updates when >= 1, otherwise a fraction of all updates */
    double warmup_factor; /* at update 0 */
    double end_factor;
    double power;
    double gamma;
    CONFIG_LIST_OF(double) milestones; /* updates when > 1, otherwise fractions of all updates */
};

extern const struct config_table schedule_table;

/* The factor for update `n` (from 0) of `total`. After the last update the end value stays. */
double schedule_factor(const struct schedule *schedule, int64_t n, int64_t total);

#endif
