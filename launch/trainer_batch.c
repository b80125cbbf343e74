/*
 * Batches on their way from the loader into the step.
 *
 * A GPU gets the next micro-batch while it computes: between a run and its wait the batch after it
 * is taken from the loader and sent (executor_inputs_send). Nobody may notice but the clock. What a
 * run is told by is noted of its batch before (trainer->current, hashes), counts of samples are
 * those of batches that were run, and what fails ahead fails again, in its place, when the batch is
 * asked for: the loader says the same once more.
 *
 * Not on the CPU, which computes in executor_run; not with a queue of features, which is written
 * into the inputs after a run and read to the end of one; not beyond the end of the run.
 */
#include <string.h>

#include "launch/trainer.h"
#include "runtime/base/log.h"

static void *data_of(struct trainer *t, const struct tensor *tensor)
{
    return executor_data(t->executor, tensor);
}

/* The rows that masked language modelling predicts, out of the batch's labels. */
static void feed_masked(struct trainer *t)
{
    const struct loader_batch *batch = t->batch;
    int64_t positions = t->micro * batch->text_length;
    int64_t rows = t->step.mlm_index->shape.dim[0];
    int32_t *index = data_of(t, t->step.mlm_index);
    int32_t *targets = data_of(t, t->step.mlm_targets);
    float *weights = data_of(t, t->step.mlm_weights);
    memcpy(data_of(t, t->step.mlm_ids), batch->mlm_ids, (size_t)positions * sizeof(int32_t));
    int64_t used = 0;
    for (int64_t i = 0; i < positions; i++) {
        if (batch->mlm_labels[i] == MLM_IGNORE) continue;
        if (used == rows) {
            if (t->rows_lost++ == 0) {
                log_warning("more masked tokens than the %lld planned rows; the rest of this batch "
                            "is not predicted",
                            (long long)rows);
            }
            continue;
        }
        index[used] = (int32_t)i;
        targets[used] = batch->mlm_labels[i];
        weights[used++] = 1.0f;
    }
    for (; used < rows; used++) {
        index[used] = 0;
        targets[used] = MLM_IGNORE;
        weights[used] = 0.0f;
    }
}

void trainer_feed(struct trainer *t)
{
    const struct step *s = &t->step;
    const struct loader_batch *batch = t->batch;
    memcpy(data_of(t, s->pixels), batch->pixels, tensor_bytes(s->pixels));
    memcpy(data_of(t, s->ids), batch->ids, tensor_bytes(s->ids));
    memcpy(data_of(t, s->mask), batch->mask, tensor_bytes(s->mask));
    if (s->mlm_ids) feed_masked(t);
}

/* ---- taking ---- */

/* The next batch of the loader becomes trainer->batch, which stays when that fails. What it took is
 * in `wait`, and not yet in the clock's seconds. */
static enum status take_batch(struct trainer *t, struct trainer_wait *wait)
{
    const struct loader_batch *batch = NULL;
    struct loader_stats before = loader_stats(t->loader);
    comm_phase_set(t->comm, COMM_PHASE_DATA, "waiting for a batch");
    trainer_clock_part(&t->clock, t->comm, &t->clock.seconds.compute);
    *wait = (struct trainer_wait){.begin = t->clock.last};
    enum status status = loader_next(t->loader, &batch);
    struct loader_stats after = loader_stats(t->loader);
    wait->read = after.wait_read - before.wait_read;
    wait->tokenise = after.wait_tokenise - before.wait_tokenise;
    trainer_clock_whole(&t->clock, t->comm, &wait->whole);
    TRY(status); /* in the phase that it failed in */
    t->batch = batch;
    return STATUS_OK;
}

/* By the loader's account; what it was not reading or tokenising for counts as decoding. */
void trainer_wait_account(struct trainer *t, const struct trainer_wait *wait, double over)
{
    struct run_seconds *seconds = &t->clock.seconds;
    if (wait->whole <= 0) return;
    double hidden = over - wait->begin;
    hidden = hidden < 0 ? 0 : hidden > wait->whole ? wait->whole : hidden;
    double share = 1 - hidden / wait->whole;
    seconds->compute += hidden;
    seconds->wait_read += share * wait->read;
    seconds->wait_tokenise += share * wait->tokenise;
    seconds->wait_decode += share * (wait->whole - wait->read - wait->tokenise);
}

enum status trainer_batch_next(struct trainer *t)
{
    struct trainer_wait wait;
    if (!t->is_ahead) {
        enum status status = take_batch(t, &wait);
        trainer_wait_account(t, &wait, 0);
        TRY(status);
        trainer_feed(t);
    }
    /* One that was ahead was taken in the update before: a save or an evaluation came since. */
    comm_phase_set(t->comm, COMM_PHASE_COMPUTE, "forward and backward");
    t->is_ahead = false;
    t->handed = loader_stats(t->loader);
    return STATUS_OK;
}

void trainer_batch_note(struct trainer *t, uint64_t *samples)
{
    const struct loader_batch *batch = t->batch;
    t->current.epoch = batch->epoch;
    t->current.index = batch->index;
    t->current.is_sound = batch->num_bad == 0;
    memcpy(samples, batch->sample, (size_t)t->micro * sizeof *samples);
    for (int64_t i = 0; i < t->micro; i++) {
        t->hashes[i] = loader_slot_hash(batch, i);
    }
}

/* ---- ahead ---- */

/* Whether this is the last micro-batch of the run, as far as this rank knows. */
static bool is_last(const struct trainer *t, int64_t m)
{
    bool is_stopping = t->signals && (t->signals->stop || t->signals->interrupt);
    return m == t->accumulate - 1 && (t->done + 1 == t->values.train.steps || is_stopping);
}

enum status trainer_batch_send(struct trainer *t)
{
    if (!t->is_ahead) return STATUS_OK;
    TRY(executor_inputs_wait(t->executor));
    trainer_feed(t);
    return executor_inputs_send(t->executor);
}

enum status trainer_batch_ahead(struct trainer *t, int64_t m, struct trainer_wait *wait)
{
    if (!train_looks_ahead(&t->values) || is_last(t, m)) return STATUS_OK;
    t->is_ahead = take_batch(t, wait) == STATUS_OK;
    comm_phase_set(t->comm, COMM_PHASE_COMPUTE, "forward and backward");
    return trainer_batch_send(t);
}
