/*
 * One golden file under comparison: what launch/cmd_verify.c shares with the repetition of the
 * file's training steps.
 */
#ifndef WEFT_LAUNCH_VERIFY_H
#define WEFT_LAUNCH_VERIFY_H

#include "launch/golden.h"
#include "objectives/objective.h"
#include "runtime/backend/executor.h"

struct verify_config {
    struct config_variant model;
    struct objectives_config objectives;
};

/* What the same arithmetic in another order, or in another precision, may differ by. */
struct verify_tolerances {
    double value;    /* largest difference, of the largest value of the tensor */
    double loss;     /* relative */
    double gradient; /* relative, L2, of a parameter */
    double floor;    /* below this norm gradients compare absolutely */
    double whole;    /* relative, L2, of all gradients as one vector */
    double training; /* relative: losses of the training steps, and final parameters */
    bool together;   /* whether single numbers are judged as one vector with those of their kind:
                        gradients by last name, losses of the training steps by term */
    bool final;      /* whether the parameters after the training steps are compared */
};

/* Gradients added up over parameters, squared. */
struct verify_sum {
    double norm, difference;
};

/* Parameters of a single number that have the same last name: the gates of all blocks, say. */
struct verify_numbers {
    char name[64];
    struct verify_sum sum;
};

enum { VERIFY_NUMBERS = 16 };

struct verify {
    const char *path;
    bool all; /* print every comparison */
    enum dtype dtype;
    enum device_kind device;
    const struct verify_tolerances *tolerance;
    struct golden *golden;
    struct config *config;
    struct verify_config values;
    struct step step;
    struct executor *executor;
    int compared;
    int failed;
    double most_lr;             /* largest multiplier of the learning rate */
    double reach;               /* how far a parameter can have moved in training: sum of rates */
    struct verify_sum gradient; /* of all gradients compared */
    struct verify_numbers numbers[VERIFY_NUMBERS];
    int num_numbers;
    double worst; /* error over tolerance */
    char worst_name[512];
};

/* Counts a comparison, and prints it when it failed or all are wanted. A NaN fails. */
void verify_judge(struct verify *v, const char *name, double error, double tolerance);

/* L2 norm of the difference over the norm of `want`, or over the floor where that is below it. */
double verify_gradient_error(const struct verify *v, const float *got, const float *want,
                             int64_t count);

/* The value of a term of the loss after a run. */
double verify_loss(const struct verify *v, const struct step_term *term);

/* Reads a dataset of the parameter's shape; the caller frees. */
enum status verify_read_like(struct verify *v, const char *name, const struct shape *shape,
                             float **values);

/* Whether the file says that no gradient reaches `name`: it has gradients, but none of it. Such a
 * parameter may be absent from the model. */
bool verify_is_unused(struct verify *v, const char *name);

/* Repeats the training steps of the file; nothing without train/losses. */
enum status verify_training(struct verify *v);

#endif
