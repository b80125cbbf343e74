#include "launch/run_output.h"

#include "runtime/base/log.h"

enum status run_output_open(struct run_output *output, const struct run_output_options *options)
{
    *output = (struct run_output){.log.fd = -1, .tensorboard.fd = -1};
    const struct train_line_options line = {
        .total_steps = options->total_steps, .every = options->every, .no_output = options->quiet};
    train_line_init(&output->line, &line);
    if (options->rank != 0) return STATUS_OK;
    TRY(run_log_open(&output->log, options->folder));
    if (!options->no_tensorboard) {
        TRY(tensorboard_open(&output->tensorboard, options->folder, options->step));
        output->has_tensorboard = true;
    }
    output->active = true;
    return STATUS_OK;
}

/*
 * A log that cannot be written (a full disk) is no reason to lose a run: it is told once, and later
 * lines are tried again. An event file with a torn record is unreadable from there on, so it ends.
 */
static enum status tolerate(struct run_output *output, enum status status)
{
    if (status != STATUS_IO) return status;
    if (!output->troubled) {
        train_line_clear(&output->line);
        log_warning("%s; training goes on without that line", status_message());
    }
    output->troubled = true;
    return STATUS_OK;
}

static enum status tolerate_events(struct run_output *output, enum status status)
{
    if (status == STATUS_IO) output->has_tensorboard = false;
    return tolerate(output, status);
}

enum status run_output_start(struct run_output *output, const struct run_log_start *start)
{
    return output->active ? tolerate(output, run_log_start(&output->log, start)) : STATUS_OK;
}

enum status run_output_step(struct run_output *output, const struct run_log_step *step)
{
    if (!output->active) return STATUS_OK;
    TRY(tolerate(output, run_log_step(&output->log, step)));
    if (output->has_tensorboard) {
        TRY(tolerate_events(output, tensorboard_step(&output->tensorboard, step)));
    }
    const char *warning = train_line_step(&output->line, step);
    return warning ? run_output_warning(output, step->step, warning) : STATUS_OK;
}

enum status run_output_eval(struct run_output *output, const struct run_log_eval *eval)
{
    if (!output->active) return STATUS_OK;
    TRY(tolerate(output, run_log_eval(&output->log, eval)));
    if (!output->has_tensorboard) return STATUS_OK;
    struct strbuf prefix = {0};
    strbuf_printf(&prefix, "eval-%s", eval->split);
    enum status status = prefix.failed ? status_fail(STATUS_NO_MEMORY, "out of memory")
                                       : tensorboard_values(&output->tensorboard, eval->step,
                                                            prefix.text, &eval->metrics);
    strbuf_fini(&prefix);
    return tolerate_events(output, status);
}

enum status run_output_checkpoint(struct run_output *output,
                                  const struct run_log_checkpoint *checkpoint)
{
    return output->active ? tolerate(output, run_log_checkpoint(&output->log, checkpoint))
                          : STATUS_OK;
}

enum status run_output_warning(struct run_output *output, int64_t step, const char *text)
{
    if (!output->active) return STATUS_OK;
    train_line_clear(&output->line);
    log_warning("step %lld: %s", (long long)step, text);
    return tolerate(output, run_log_warning(&output->log, step, text));
}

enum status run_output_end(struct run_output *output, const struct run_log_end *end)
{
    return output->active ? tolerate(output, run_log_end(&output->log, end)) : STATUS_OK;
}

void run_output_clear(struct run_output *output)
{
    train_line_clear(&output->line);
}

enum status run_output_close(struct run_output *output)
{
    train_line_fini(&output->line);
    output->active = false;
    enum status status = tensorboard_close(&output->tensorboard);
    enum status log = run_log_close(&output->log);
    return log != STATUS_OK ? log : status;
}
