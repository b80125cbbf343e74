/* Evaluation of a run in training: when one is due, whether it was made, and making it. */
#include <sys/stat.h>

#include "launch/evaluate.h"
#include "launch/trainer.h"
#include "runtime/base/log.h"

bool trainer_evaluation_due(const struct trainer *t)
{
    int64_t every = t->values.eval.every;
    if (t->data.num_eval_sets == 0 || t->done == 0) return false;
    return t->done >= t->values.train.steps || (every > 0 && t->done % every == 0);
}

enum status trainer_is_evaluated(struct trainer *t, bool *is_evaluated)
{
    char path[4096];
    struct stat info;
    struct comm_agreed agreed;
    snprintf(path, sizeof path, "%s/eval/step-%08lld.json", t->run, (long long)t->done);
    int64_t found = t->comm->rank == 0 && stat(path, &info) == 0;
    TRY(comm_agree(t->comm, "evaluated", found, &agreed));
    *is_evaluated = agreed.any != 0;
    return STATUS_OK;
}

static void log_numbers(const struct eval_result *result)
{
    struct strbuf line = {0};
    strbuf_printf(&line, "evaluation at update %lld on %lld pictures and %lld texts:",
                  (long long)result->step, (long long)result->num_images,
                  (long long)result->num_texts);
    for (int i = 0; i < result->metrics.count; i++) {
        const struct run_value *value = &result->metrics.items[i];
        strbuf_printf(&line, "  %s %.3f", value->name, value->value);
    }
    log_info("%s", line.text ? line.text : "");
    strbuf_fini(&line);
}

static enum status save_result(void *user, const struct eval_result *result)
{
    struct trainer *t = user;
    log_numbers(result);
    TRY(eval_result_save(result, t->run));
    return run_output_eval(&t->output,
                           &(struct run_log_eval){.step = result->step,
                                                  .split = result->split,
                                                  .seconds = trainer_clock_since(&t->clock),
                                                  .metrics = result->metrics});
}

static bool is_signalled(void *user)
{
    const struct trainer *t = user;
    return t->signals && (t->signals->stop || t->signals->interrupt);
}

enum status trainer_evaluate(struct trainer *t)
{
    TRY(executor_parameters_fetch(t->executor));
    const struct eval_input input = {
        .model = {.values = &t->values,
                  .num_threads = t->threads.num_threads,
                  .parameters = executor_parameters(t->executor),
                  .num_elements = graph_flat_elements(t->step.graph)},
        .comm = t->comm,
        .tokenizer = t->tokenizer,
        .data = &t->data,
        .step = t->done,
        .split = "eval",
        .stop = is_signalled,
    };
    run_output_clear(&t->output);
    comm_phase_set(t->comm, COMM_PHASE_EVALUATE, "evaluation");
    return evaluate(&input, save_result, t);
}
