/*
 * Where the first value that is not finite came from.
 *
 * An update whose gradient is not finite is skipped, and nothing tells which value was to blame:
 * it has spread everywhere by then. So the micro-batches of the update are made again by the
 * numbers of their samples, and run again with an eye on every value, until one shows it. A step is
 * a function of seed and numbers, so the same happens again (save that the queue of contrastive
 * learning has moved on: what is drawn from it may be another sample). Ranks run the same plan; the
 * earliest step of it is the cause, as what comes later may have come from another rank.
 *
 * Rejected: looking at every value all the time, which costs more than training.
 */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/trainer.h"

enum { TEXT = EXECUTOR_FOUND + 256 };

/* The first parameter with such a value into `text`, "" for none. The same on all ranks. */
static void look_at_parameters(struct trainer *t, char *text, size_t size)
{
    const float *flat = executor_parameters(t->executor);
    text[0] = '\0';
    for (int64_t i = 0; i < t->num_parameters; i++) {
        const struct checkpoint_parameter *p = &t->parameters[i];
        for (int64_t k = 0; k < p->count; k++) {
            if (isfinite(flat[p->offset + k])) continue;
            snprintf(text, size, "; the parameter %s itself holds %f (element %lld)", p->name,
                     (double)flat[p->offset + k], (long long)k);
            return;
        }
    }
}

/* Runs micro-batch `m` of this update again. */
static enum status look_at_micro_batch(struct trainer *t, int64_t m, struct executor_found *found)
{
    const struct loader_batch *batch = t->batch;
    TRY(executor_inputs_wait(t->executor));
    TRY(loader_samples_at(t->loader, t->samples + m * t->micro, t->micro, &t->batch));
    trainer_feed(t);
    t->batch = batch;
    struct executor_run run = trainer_run_of(t, m);
    run.accumulate = false;
    run.reduce = false;
    run.nonfinite = found;
    TRY(executor_run(t->executor, &run));
    return executor_wait(t->executor);
}

/* The earliest finding of all ranks, at rank 0; *any tells on all ranks that there is one. */
static enum status earliest(struct trainer *t, int64_t m, const struct executor_found *found,
                            char *text, size_t size, bool *any)
{
    struct comm_agreed step;
    char **texts = NULL;
    char mine[TEXT] = "";
    TRY(comm_agree(t->comm, "non-finite values", found->step < 0 ? INT_MAX : found->step, &step));
    *any = step.min != INT_MAX;
    if (!*any) return STATUS_OK;
    if (found->step == step.min) {
        const uint64_t *samples = t->samples + m * t->micro;
        snprintf(mine, sizeof mine, "rank %d: %s; samples %llu to %llu", t->comm->rank, found->text,
                 (unsigned long long)samples[0], (unsigned long long)samples[t->micro - 1]);
    }
    TRY(comm_gather_strings(t->comm, "non-finite values", mine, &texts));
    for (int r = t->comm->size - 1; texts && r >= 0; r--) {
        if (texts[r][0]) snprintf(text, size, "%s", texts[r]);
    }
    free(texts);
    return STATUS_OK;
}

enum status trainer_explain_nonfinite(struct trainer *t)
{
    struct executor_found found = {.step = -1};
    char first[TEXT] = "none in any micro-batch by itself: their sum is too large";
    char parameter[TEXT];
    char warning[2 * TEXT + 256];
    bool any = false;
    TRY(executor_parameters_fetch(t->executor));
    look_at_parameters(t, parameter, sizeof parameter);
    for (int64_t m = 0; m < t->accumulate && !any; m++) {
        TRY(look_at_micro_batch(t, m, &found));
        TRY(earliest(t, m, &found, first, sizeof first, &any));
    }
    TRY(trainer_batch_send(t));
    snprintf(warning, sizeof warning,
             "update %lld was skipped: its gradient is not finite. First value: %s%s",
             (long long)t->done + 1, first, parameter);
    return run_output_warning(&t->output, t->done + 1, warning);
}
