#include "launch/eval_pass.h"

#include <string.h>

#include "model/heads.h"

static enum status begin(const struct eval_model *model, int64_t batch, struct eval_pass *pass)
{
    const struct train_config *values = model->values;
    const struct step_options options = {.config = &values->objectives,
                                         .model = values->model,
                                         .dtype = values->train.precision == TRAIN_BF16 ? DTYPE_BF16
                                                                                        : DTYPE_F32,
                                         .batch = batch,
                                         .world_size = 1,
                                         .parameters_only = true};
    *pass = (struct eval_pass){0};
    return step_init(&pass->step, &options);
}

static enum status end(const struct eval_model *model, struct eval_pass *pass,
                       struct tensor *output)
{
    struct graph *g = pass->step.graph;
    pass->output = output;
    graph_output(g, "eval", output);
    TRY(graph_status(g));
    CHECK(graph_flat_elements(g) == model->num_elements, STATUS_INTERNAL,
          "evaluation records %lld parameters, training had %lld",
          (long long)graph_flat_elements(g), (long long)model->num_elements);
    enum device_kind device = model->values->train.device;
    const struct executor_options options = {.plan = {.num_threads = model->num_threads},
                                             .device = device,
                                             .tf32 = model->values->train.tf32,
                                             .batch = pass->step.batch,
                                             .seed = (uint64_t)model->values->train.seed,
                                             .parameters =
                                                 device == DEVICE_CPU ? model->parameters : NULL};
    TRY(executor_create(&pass->executor, g, &options));
    if (device == DEVICE_CPU) return STATUS_OK;
    /* A GPU has its own copy. */
    TRY(executor_parameters_fetch(pass->executor)); /* says whether there is memory for it */
    float *parameters = executor_parameters(pass->executor);
    memcpy(parameters, model->parameters, (size_t)model->num_elements * sizeof *parameters);
    executor_parameters_changed(pass->executor);
    return STATUS_OK;
}

enum status eval_pass_image(const struct eval_model *model, int64_t batch, struct eval_pass *pass)
{
    TRY(begin(model, batch, pass));
    struct step *s = &pass->step;
    return end(model, pass, model_image_feature(&s->model, s->graph, step_image(s)));
}

enum status eval_pass_text(const struct eval_model *model, int64_t batch, struct eval_pass *pass)
{
    TRY(begin(model, batch, pass));
    struct step *s = &pass->step;
    struct model_text text = step_text(s, s->ids);
    return end(model, pass, model_text_feature(&s->model, s->graph, &text));
}

enum status eval_pass_prefix(const struct eval_model *model, int64_t batch, struct eval_pass *pass)
{
    TRY(begin(model, batch, pass));
    return end(model, pass, step_image(&pass->step));
}

enum status eval_pass_match(const struct eval_model *model, int64_t batch, struct eval_pass *pass)
{
    TRY(begin(model, batch, pass));
    struct step *s = &pass->step;
    struct tensor *own = step_image(s); /* for its shape: it is not an output, so it is not run */
    if (own) pass->prefix = graph_input(s->graph, "eval/prefix", own->dtype, own->shape);
    struct model_text text = step_text(s, s->ids);
    struct model_pair pair = model_fuse(&s->model, s->graph, pass->prefix, &text);
    struct tensor *logits = head_itm(s->graph, pair.cls, s->model.facts.init_std);
    return end(model, pass, logits ? op_cast(s->graph, logits, DTYPE_F32) : NULL);
}

void eval_pass_fini(struct eval_pass *pass)
{
    executor_destroy(&pass->executor);
    step_fini(&pass->step);
}

void *eval_pass_data(struct eval_pass *pass, const struct tensor *tensor)
{
    return executor_data(pass->executor, tensor);
}

enum status eval_pass_run(struct eval_pass *pass, const void **values)
{
    TRY(executor_run(pass->executor, &(struct executor_run){0}));
    TRY(executor_wait(pass->executor));
    *values = executor_data(pass->executor, pass->output);
    return STATUS_OK;
}
