/* One update: from micro-batches to new parameters. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "launch/trainer.h"
#include "runtime/base/log.h"

static void *data_of(struct trainer *t, const struct tensor *tensor)
{
    return executor_data(t->executor, tensor);
}

static float scalar(struct trainer *t, const struct tensor *tensor)
{
    return *(const float *)data_of(t, tensor);
}

/* Adds this micro-step's numbers to the sums. */
static void collect(struct trainer *t)
{
    const struct step *s = &t->step;
    double *at = t->sums;
    for (int i = 0; i < s->num_terms; i++) {
        *at++ += (double)scalar(t, s->terms[i].loss);
    }
    for (int i = 0; i < s->num_metrics; i++) {
        *at++ += (double)scalar(t, s->metrics[i].sum);
        *at++ +=
            s->metrics[i].weight ? (double)scalar(t, s->metrics[i].weight) : s->metrics[i].count;
    }
}

/* Gives the time since the last part to `part`, and what of it was communication to that. */
static void took(struct trainer *t, double *part)
{
    trainer_clock_part(&t->clock, t->comm, part);
}

/*
 * Adds a hash of what was drawn for each sample of the micro-batch. Hashes are summed modulo 2^64,
 * so that it does not matter how ranks share the samples; in four pieces, whose sums are exact as
 * doubles (2^53 / 2^16 samples of an update).
 */
static void collect_draws(struct trainer *t, const uint64_t *samples)
{
    const struct step *s = &t->step;
    double *pieces = t->sums + s->num_terms + 2 * s->num_metrics;
    const int32_t *image = s->negative_image ? data_of(t, s->negative_image) : NULL;
    const int32_t *text = s->negative_text ? data_of(t, s->negative_text) : NULL;
    for (int64_t i = 0; i < t->micro; i++) {
        const uint64_t drawn[] = {samples[i], t->hashes[i], image ? (uint64_t)image[i] : 0,
                                  text ? (uint64_t)text[i] : 0};
        uint64_t hash = XXH3_64bits(drawn, sizeof drawn);
        for (int k = 0; k < 4; k++) {
            pieces[k] += (double)(hash >> 16 * k & 0xFFFF);
        }
    }
}

static uint64_t draws_of(const double pieces[4])
{
    uint64_t hash = 0;
    for (int k = 0; k < 4; k++) {
        hash += (uint64_t)pieces[k] << 16 * k;
    }
    return hash;
}

/*
 * Raw inputs of drawn negatives (struct host_rows): columns below the micro-batch are its own rows,
 * the others are places of the queue, whose samples are made again by their numbers. Own rows are
 * read from what the step was fed: trainer_explain_nonfinite runs other batches than t->batch.
 */
static enum status fetch_row(struct trainer *t, int64_t column, uint8_t *pixels, int32_t *ids,
                             int32_t *mask)
{
    const struct step *s = &t->step;
    int64_t length = t->batch->text_length;
    size_t picture = (size_t)(t->batch->side * t->batch->side * 3);
    size_t text = (size_t)length * sizeof *ids;
    if (column >= t->micro) {
        const struct loader_batch *batch;
        uint64_t sample = feature_queue_sample(&t->queue, column - t->micro);
        bool text_alone = !pixels && feature_queue_is_sound(&t->queue, column - t->micro);
        took(t, &t->clock.seconds.compute);
        TRY((text_alone ? loader_texts_at : loader_samples_at)(t->loader, &sample, 1, &batch));
        took(t, &t->clock.seconds.wait_decode);
        if (pixels) memcpy(pixels, batch->pixels, picture);
        if (ids) memcpy(ids, batch->ids, text);
        if (mask) memcpy(mask, batch->mask, text);
        return STATUS_OK;
    }
    if (pixels) {
        memcpy(pixels, (uint8_t *)data_of(t, s->pixels) + (size_t)column * picture, picture);
    }
    if (ids) memcpy(ids, (int32_t *)data_of(t, s->ids) + column * length, text);
    if (mask) memcpy(mask, (int32_t *)data_of(t, s->mask) + column * length, text);
    return STATUS_OK;
}

static enum status fetch_rows(void *user, const int32_t *images, const int32_t *texts,
                              int64_t count, uint8_t *pixels, int32_t *ids, int32_t *mask)
{
    struct trainer *t = user;
    int64_t picture = t->batch->side * t->batch->side * 3;
    int64_t length = t->batch->text_length;
    for (int64_t i = 0; i < count; i++) {
        TRY(fetch_row(t, images[i], pixels + i * picture, NULL, NULL));
        TRY(fetch_row(t, texts[i], NULL, ids + i * length, mask + i * length));
    }
    return STATUS_OK;
}

struct executor_run trainer_run_of(const struct trainer *t, int64_t micro_step)
{
    int64_t first = (micro_step * t->comm->size + t->comm->rank) * t->micro;
    return (struct executor_run){.step = (uint64_t)t->done,
                                 .sample_base = (uint64_t)first,
                                 .accumulate = micro_step > 0,
                                 .reduce = micro_step == t->accumulate - 1,
                                 .host = &t->host};
}

/* step.bounds, where the device has the parameters, behind an update. */
static enum status limit_parameters(struct trainer *t, float *parameters)
{
    for (int i = 0; i < t->step.num_bounds; i++) {
        const struct step_bound *bound = &t->step.bounds[i];
        const struct parameter *p = graph_parameter_find(t->step.graph, bound->parameter);
        TRY(optimizer_clamp(t->optimizer, parameters, p->offset, bound->low, bound->high));
    }
    return STATUS_OK;
}

void trainer_apply_bounds(struct trainer *t)
{
    float *flat = executor_parameters(t->executor);
    for (int i = 0; i < t->step.num_bounds; i++) {
        const struct step_bound *bound = &t->step.bounds[i];
        const struct parameter *p = graph_parameter_find(t->step.graph, bound->parameter);
        flat[p->offset] = fminf(fmaxf(flat[p->offset], bound->low), bound->high);
    }
}

/* Whether an update is work behind the last run, which the host need not have waited for. */
static bool updates_behind(const struct trainer *t)
{
    return executor_stream(t->executor) != NULL;
}

static enum status start_update(struct trainer *t)
{
    float *parameters = executor_device_parameters(t->executor);
    CHECK(parameters, STATUS_INTERNAL, "%s", status_message());
    TRY(optimizer_start(t->optimizer, parameters, executor_device_gradients(t->executor),
                        1.0 / (double)(t->comm->size * t->accumulate), t->done,
                        t->values.train.steps));
    TRY(limit_parameters(t, parameters));
    executor_device_parameters_changed(t->executor);
    return STATUS_OK;
}

static enum status micro_step(struct trainer *t, int64_t m)
{
    uint64_t *samples = t->samples + m * t->micro;
    struct trainer_wait hidden = {0};
    TRY(trainer_batch_next(t));
    took(t, &t->clock.seconds.compute);
    double begun = t->clock.last;
    struct executor_run run = trainer_run_of(t, m);
    TRY(executor_run(t->executor, &run));
    enum status status = STATUS_OK;
    if (updates_behind(t) && m == t->accumulate - 1) status = start_update(t);
    if (status == STATUS_COMM) return status;
    trainer_batch_note(t, samples);
    if (status == STATUS_OK) status = trainer_batch_ahead(t, m, &hidden);
    /* Of a GPU that failed this says more: what comes next is told its error, too. */
    TRY(executor_wait(t->executor));
    TRY(status);
    trainer_wait_account(t, &hidden, begun + executor_run_seconds(t->executor));
    collect(t);
    collect_draws(t, samples);
    TRY(feature_queue_push(&t->queue, &t->step, t->executor, samples, t->current.is_sound,
                           t->comm));
    took(t, &t->clock.seconds.compute);
    return STATUS_OK;
}

static enum trainer_end end_of(const double flags[2])
{
    return flags[1] > 0 ? TRAINER_INTERRUPTED : flags[0] > 0 ? TRAINER_STOPPED : TRAINER_RUNNING;
}

static void read_signals(const struct trainer *t, double flags[2])
{
    flags[0] = t->signals && t->signals->stop;
    flags[1] = t->signals && t->signals->interrupt;
}

enum status trainer_signalled(struct trainer *t, enum trainer_end *end)
{
    double flags[2];
    read_signals(t, flags);
    TRY(comm_allreduce(t->comm, "signals", flags, 2, COMM_F64, COMM_SUM));
    *end = end_of(flags);
    return STATUS_OK;
}

/* Means over ranks and micro-steps; the signals of any rank. */
static enum status reduce_numbers(struct trainer *t, enum trainer_end *end)
{
    const struct step *s = &t->step;
    int count = s->num_terms + 2 * s->num_metrics;
    double *draws = t->sums + count;
    double *flags = draws + 4;
    read_signals(t, flags);
    TRY(comm_allreduce(t->comm, "numbers of the update", t->sums, count + TRAINER_NUMBERS, COMM_F64,
                       COMM_SUM));
    t->report.draws = draws_of(draws);
    const double *at = t->sums;
    t->report.losses[0] = 0;
    for (int i = 0; i < s->num_terms; i++) {
        double mean = *at++ / (double)(t->comm->size * t->accumulate);
        t->report.losses[i + 1] = mean;
        t->report.losses[0] += s->terms[i].weight * mean;
    }
    for (int i = 0; i < s->num_metrics; i++, at += 2) {
        t->report.metrics[i] = at[1] > 0 ? at[0] / at[1] : 0;
    }
    *end = end_of(flags);
    return STATUS_OK;
}

static enum status check_skipped(struct trainer *t)
{
    if (!t->report.optimizer.skipped) {
        t->skipped_row = 0;
        return STATUS_OK;
    }
    TRY(trainer_explain_nonfinite(t));
    trainer_clock_whole(&t->clock, t->comm, &t->clock.seconds.other);
    t->skipped_row++;
    t->failed_together = t->skipped_row > t->values.train.max_skipped;
    CHECK(!t->failed_together, STATUS_CORRUPT,
          "%lld updates in a row had gradients that are not finite (the last at update %lld); the "
          "last checkpoint is untouched. Lower the learning rate, use train.precision f32, or look "
          "at the samples named above",
          (long long)t->skipped_row, (long long)t->done + 1);
    return STATUS_OK;
}

enum status trainer_update(struct trainer *t, enum trainer_end *end)
{
    t->host = (struct host_rows){.user = t, .fetch = fetch_rows};
    struct run_seconds *seconds = &t->clock.seconds;
    int numbers = t->step.num_terms + 2 * t->step.num_metrics + TRAINER_NUMBERS;
    memset(t->sums, 0, (size_t)numbers * sizeof *t->sums);
    comm_step_set(t->comm, t->done + 1);
    for (int64_t m = 0; m < t->accumulate; m++) {
        TRY(micro_step(t, m));
    }
    TRY(checkpoint_settle(t->saver));
    trainer_clock_whole(&t->clock, t->comm, &seconds->checkpoint);
    if (!updates_behind(t)) TRY(start_update(t));
    TRY(optimizer_finish(t->optimizer, &t->report.optimizer));
    TRY(reduce_numbers(t, end));
    took(t, &seconds->update);
    TRY(check_skipped(t));
    t->done++;
    if (t->done == t->values.train.steps && *end == TRAINER_RUNNING) *end = TRAINER_FINISHED;
    return STATUS_OK;
}
