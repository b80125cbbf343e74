/* Evaluation of a run in training. */
#include "launch/evaluate.h"
#include "launch/trainer.h"

static enum status save_result(void *user, const struct eval_result *result)
{
    struct trainer *t = user;
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
