/* Evaluation of a run in training. */
#include "launch/evaluate.h"
#include "launch/trainer.h"
#include "runtime/base/log.h"

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
    return run_output_eval(&t->output, &(struct run_log_eval){.step = result->step,
                                                              .split = result->split,
                                                              .metrics = result->metrics});
}

enum status trainer_evaluate(struct trainer *t)
{
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
    };
    return evaluate(&input, save_result, t);
}
