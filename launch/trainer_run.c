/*
 * The loop: updates, and between them logs, checkpoints and evaluations.
 *
 * The line of a step is written before what follows it, so that a run that is killed in a save or
 * an evaluation has it. An evaluation comes after the save of the same update: what is lost with it
 * is made up for when the run goes on, before its first update, as its result is not there.
 */
#include <stdlib.h>
#include <sys/resource.h>

#include "launch/build.h"
#include "launch/report.h"
#include "launch/trainer.h"
#include "runtime/base/log.h"

static double resident_mb(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

/* ---- logs ---- */

/* Without the gaps between them, which the flat vector has for alignment. */
static int64_t num_parameters(const struct trainer *t)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < t->num_parameters; i++) {
        sum += t->parameters[i].count;
    }
    return sum;
}

static void tell_start(const struct trainer *t)
{
    char what[96];
    long long done = (long long)t->done;
    long long steps = (long long)t->values.train.steps;
    snprintf(what, sizeof what, "updates %lld to %lld", done + 1, steps);
    if (t->done >= t->values.train.steps) {
        snprintf(what, sizeof what, "the run is finished: %lld of %lld updates are done", done,
                 steps);
    }
    log_info("%s: %d ranks on %d hosts, %d threads each; batch %lld = %d x %lld x %lld; %lld "
             "parameters; %s",
             t->run, t->comm->size, t->comm->num_hosts, t->threads.num_threads,
             (long long)t->values.batch.global, t->comm->size, (long long)t->micro,
             (long long)t->accumulate, (long long)num_parameters(t), what);
    if (t->device[0]) log_info("rank %d: %s", t->comm->rank, t->device);
}

static enum status log_start(struct trainer *t)
{
    char fingerprint[32];
    uint64_t hash = rng_site(t->config_text.text);
    snprintf(fingerprint, sizeof fingerprint, "%016llx", (unsigned long long)hash);
    tell_start(t);
    return run_output_start(&t->output,
                            &(struct run_log_start){.step = t->done,
                                                    .total_steps = t->values.train.steps,
                                                    .global_batch = t->values.batch.global,
                                                    .ranks = t->comm->size,
                                                    .hosts = t->comm->num_hosts,
                                                    .threads = t->threads.num_threads,
                                                    .host = t->comm->host,
                                                    .build = build_text(),
                                                    .config_fingerprint = fingerprint,
                                                    .resumed_from = t->resumed_from});
}

static enum status log_update(struct trainer *t)
{
    const struct step *s = &t->step;
    struct run_seconds seconds = trainer_clock_step(&t->clock, t->comm);
    struct run_value losses[STEP_MAX_TERMS + 1] = {{"loss", t->report.losses[0]}};
    struct run_value metrics[STEP_MAX_METRICS];
    struct run_value lr = {"base", t->report.optimizer.lr};
    for (int i = 0; i < s->num_terms; i++) {
        losses[i + 1] = (struct run_value){s->terms[i].name, t->report.losses[i + 1]};
    }
    for (int i = 0; i < s->num_metrics; i++) {
        metrics[i] = (struct run_value){s->metrics[i].name, t->report.metrics[i]};
    }
    return run_output_step(
        &t->output,
        &(struct run_log_step){.step = t->done,
                               .epoch = t->current.epoch,
                               .index = t->current.index + t->comm->size * t->micro,
                               .draws = t->report.draws,
                               .losses = {losses, s->num_terms + 1},
                               .metrics = {metrics, s->num_metrics},
                               .lr = {&lr, 1},
                               .gradient_norm = t->report.optimizer.gradient_norm,
                               .samples_per_s = (double)t->values.batch.global / seconds.step,
                               .seconds = seconds,
                               .rss_mb = resident_mb()});
}

static enum status log_checkpoint(struct trainer *t)
{
    struct checkpoint_report report = checkpoint_report(t->saver);
    return run_output_checkpoint(&t->output, &(struct run_log_checkpoint){.step = report.step,
                                                                          .path = report.path,
                                                                          .seconds = report.seconds,
                                                                          .stall_s = report.stall,
                                                                          .bytes = report.bytes});
}

/* ---- checkpoints ---- */

/* A failure that the ranks share; with STATUS_COMM they have lost each other. */
static enum status fail_together(struct trainer *t, enum status status)
{
    t->failed_together = status != STATUS_COMM;
    return status;
}

/* Moves a save in flight on, or to its end. One that failed is told, and the next one is tried when
 * it is time; the former checkpoint stays. */
static enum status continue_save(struct trainer *t, bool wait)
{
    bool finished = false;
    enum status status =
        wait ? checkpoint_wait(t->saver, &finished) : checkpoint_progress(t->saver, &finished);
    if (status == STATUS_OK) return finished ? log_checkpoint(t) : STATUS_OK;
    if (status == STATUS_COMM) return status;
    t->saved = -1;
    return run_output_warning(&t->output, t->done, status_message());
}

static enum status start_save(struct trainer *t)
{
    TRY(trainer_save(t));
    t->saved = t->done;
    return STATUS_OK;
}

/* Saves when it is time. */
static enum status save_step(struct trainer *t)
{
    bool due = t->done % t->values.checkpoint.every == 0;
    TRY(continue_save(t, due));
    if (!due) return STATUS_OK;
    enum status status = start_save(t);
    if (status == STATUS_OK || status == STATUS_COMM) return status;
    /* A GPU that failed has no state to be saved later. */
    if (status == STATUS_INTERNAL) return status;
    return run_output_warning(&t->output, t->done, status_message());
}

/* The save of the last update, unless there is one; a failure fails the run. */
static enum status save_last(struct trainer *t)
{
    bool finished = false;
    TRY(continue_save(t, true));
    if (t->saved == t->done) return STATUS_OK;
    enum status status = start_save(t);
    if (status == STATUS_OK) status = checkpoint_wait(t->saver, &finished);
    if (status != STATUS_OK) return fail_together(t, status);
    return finished ? log_checkpoint(t) : STATUS_OK;
}

static enum status save(struct trainer *t, enum trainer_end end)
{
    enum status status = end == TRAINER_RUNNING ? save_step(t) : save_last(t);
    trainer_clock_whole(&t->clock, t->comm, &t->clock.seconds.checkpoint);
    return status;
}

/* ---- evaluation ---- */

/*
 * Evaluates when it is time, with the save before it complete: an evaluation may be long, and a run
 * that is killed in it must not lose the save, which is not moved on meanwhile. Signals that end it
 * end the run, saved. An evaluation that its data or the parameters at hand fail is told, and
 * training goes on; at the end, with the last checkpoint saved, it fails the run.
 */
static enum status evaluate_step(struct trainer *t, enum trainer_end *end)
{
    if (*end == TRAINER_STOPPED || *end == TRAINER_INTERRUPTED) return STATUS_OK;
    if (!trainer_evaluation_due(t)) return STATUS_OK;
    TRY(continue_save(t, true));
    trainer_clock_whole(&t->clock, t->comm, &t->clock.seconds.checkpoint);
    enum status status = trainer_evaluate(t);
    trainer_clock_whole(&t->clock, t->comm, &t->clock.seconds.evaluate);
    if (status == STATUS_OK) return STATUS_OK;
    if (status == STATUS_CANCELLED) {
        log_info("the evaluation of update %lld is left for when the run goes on",
                 (long long)t->done);
        TRY(trainer_signalled(t, end));
        return save(t, *end);
    }
    bool data = status == STATUS_CORRUPT || status == STATUS_IO;
    if (!data || *end == TRAINER_FINISHED) return fail_together(t, status);
    return run_output_warning(&t->output, t->done, status_message());
}

/* An evaluation that the process before did not come to, or did not end. */
static enum status evaluate_left(struct trainer *t, enum trainer_end *end)
{
    bool is_evaluated = true;
    if (trainer_evaluation_due(t)) TRY(trainer_is_evaluated(t, &is_evaluated));
    return is_evaluated ? STATUS_OK : evaluate_step(t, end);
}

/* ---- the run ---- */

/* The report of a finished run, by rank 0 alone. The run is worth more than its report: where that
 * cannot be made, it is told. */
static void write_report(struct trainer *t)
{
    if (t->comm->rank != 0) return;
    comm_phase_set(t->comm, COMM_PHASE_EVALUATE, "report");
    if (report_write(t->run, NULL) == STATUS_OK) {
        log_info("report: %s/report.html", t->run);
    } else {
        log_warning("no report of the run: %s; `weft report %s` makes one", status_message(),
                    t->run);
    }
}

static enum status finish(struct trainer *t, enum trainer_end end, int *exit_code)
{
    static const char *const reasons[] = {"", "finished", "stopped by a signal, to be continued",
                                          "interrupted"};
    *exit_code = end == TRAINER_FINISHED ? 0 : end == TRAINER_STOPPED ? TRAINER_REQUEUE : 130;
    run_output_clear(&t->output);
    if (t->options.profile && t->comm->rank == 0) executor_print_profile(t->executor, stdout);
    log_info("%s at update %lld; %s", reasons[end], (long long)t->done, t->run);
    TRY(run_output_end(
        &t->output,
        &(struct run_log_end){.step = t->done, .reason = reasons[end], .exit_code = *exit_code}));
    if (end == TRAINER_FINISHED) write_report(t);
    return STATUS_OK;
}

enum status trainer_run(struct trainer *t, int *exit_code)
{
    enum trainer_end end = t->done < t->values.train.steps ? TRAINER_RUNNING : TRAINER_FINISHED;
    TRY(log_start(t));
    trainer_clock_start(&t->clock, t->comm);
    TRY(evaluate_left(t, &end));
    while (end == TRAINER_RUNNING) {
        TRY(trainer_update(t, &end));
        TRY(log_update(t));
        TRY(save(t, end));
        TRY(evaluate_step(t, &end));
    }
    return finish(t, end, exit_code);
}
