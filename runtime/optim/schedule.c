#include "runtime/optim/schedule.h"

#include <math.h>

static const char *const kind_names[] = {"constant", "linear",     "polynomial",
                                         "cosine",   "multi_step", NULL};

static const struct config_option options[] = {
    CONFIG_ENUM(struct schedule, kind, kind_names, .def = "linear",
                .help = "Shape after the warm-up."),
    CONFIG_DOUBLE(struct schedule, warmup, .def = "0.1", .range = "[0, inf)", .unit = "updates",
                  .help = "Length of the linear warm-up; below 1 it is a fraction of all updates."),
    CONFIG_DOUBLE(struct schedule, warmup_factor, .def = "0", .range = "[0, 1]",
                  .help = "Factor at the first update of the warm-up."),
    CONFIG_DOUBLE(struct schedule, end_factor, .def = "0", .range = "[0, 1]",
                  .only_if = "kind=linear|polynomial|cosine",
                  .help = "Factor after the last update."),
    CONFIG_DOUBLE(struct schedule, power, .def = "1", .range = "(0, inf)",
                  .only_if = "kind=polynomial", .help = "Exponent of the decay."),
    CONFIG_DOUBLE(struct schedule, gamma, .def = "0.1", .range = "(0, 1]",
                  .only_if = "kind=multi_step", .help = "Factor at every milestone."),
    CONFIG_DOUBLES(struct schedule, milestones, .def = "[0.67, 0.89]", .range = "(0, inf)",
                   .unit = "updates", .only_if = "kind=multi_step",
                   .help = "When the rate drops, rising; up to 1 a fraction of all updates."),
};

static enum status check(const void *value, const struct config_section *section)
{
    const struct schedule *schedule = value;
    for (int64_t i = 1; i < schedule->milestones.count; i++) {
        if (schedule->milestones.items[i] <= schedule->milestones.items[i - 1]) {
            return config_refuse(section, "milestones", "must rise, but %g follows %g",
                                 schedule->milestones.items[i], schedule->milestones.items[i - 1]);
        }
    }
    return STATUS_OK;
}

const struct config_table schedule_table = {
    CONFIG_TABLE(struct schedule, options),
    .name = "schedule",
    .help = "The learning rate over the run.",
    .check = check,
};

static double multi_step(const struct schedule *schedule, double n, double total)
{
    double factor = 1.0;
    for (int64_t i = 0; i < schedule->milestones.count; i++) {
        double milestone = schedule->milestones.items[i];
        if (milestone <= 1.0) milestone = floor(milestone * total);
        if (n >= milestone) factor *= schedule->gamma;
    }
    return factor;
}

double schedule_factor(const struct schedule *schedule, int64_t n, int64_t total)
{
    double warmup =
        schedule->warmup < 1.0 ? floor(schedule->warmup * (double)total) : schedule->warmup;
    double at = (double)n;
    double after = 1.0;
    double span = (double)total - warmup;
    double p = span > 0 ? (at - warmup) / span : 1.0;
    p = p < 0 ? 0 : p > 1 ? 1 : p;
    double end = schedule->end_factor;
    switch (schedule->kind) {
    case SCHEDULE_CONSTANT:
        break;
    case SCHEDULE_LINEAR:
        after = end + (1.0 - end) * (1.0 - p);
        break;
    case SCHEDULE_POLYNOMIAL:
        after = end + (1.0 - end) * pow(1.0 - p, schedule->power);
        break;
    case SCHEDULE_COSINE:
        after = end + (1.0 - end) * 0.5 * (1.0 + cos(3.14159265358979323846 * p));
        break;
    case SCHEDULE_MULTI_STEP:
        after = multi_step(schedule, at, (double)total);
        break;
    }
    if (at >= warmup) return after;
    double ramp = schedule->warmup_factor + (1.0 - schedule->warmup_factor) * at / warmup;
    /* Milestones may fall inside the warm-up; the other shapes are 1 there. */
    return ramp * after;
}
