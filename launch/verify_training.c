/*
 * The training steps of a golden file: AdamW as FIBER's coarse stage has it, on the same batch and
 * the same negatives. The file gives the losses before each update and the parameters at the end.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/verify.h"
#include "model/heads.h"
#include "runtime/optim/optimizer.h"

enum { MAX_NAMES = 8, NUM_GROUPS = 3 };

/* Texts that put a parameter into a group, ended by NULL. */
static const char *const group_names[NUM_GROUPS][MAX_NAMES] = {
    {"bias", "LayerNorm.weight", "norm.bias", "norm.weight", "norm1.weight", "norm2.weight"},
    {"mlm_score", "itm_score"},
    {"cross_modal", "i2t", "t2i"}};

struct training {
    struct optimizer_config config;
    struct optimizer_group groups[NUM_GROUPS];
    const char *names[NUM_GROUPS][MAX_NAMES];
    double betas[2];
    int64_t total; /* length of the schedule */
};

static bool any_parameter_has(const struct graph *g, const char *text)
{
    for (int64_t i = 0; i < graph_num_parameters(g); i++) {
        if (strstr(graph_parameter_at(g, i)->name, text)) return true;
    }
    return false;
}

/* Groups of the names that this model has: the optimizer refuses others. */
static void group_parameters(struct training *t, const struct graph *g, const double *lr)
{
    int num_groups = 0;
    for (int i = 0; i < NUM_GROUPS; i++) {
        int count = 0;
        for (int k = 0; group_names[i][k]; k++) {
            if (any_parameter_has(g, group_names[i][k]))
                t->names[num_groups][count++] = group_names[i][k];
        }
        if (count == 0) continue;
        t->groups[num_groups] = (struct optimizer_group){
            .match = {t->names[num_groups], count}, .lr = lr[i], .decay = i == 0 ? 0 : 1};
        num_groups++;
    }
    t->config.groups.items = t->groups;
    t->config.groups.count = num_groups;
}

static enum status read_constants(struct verify *v, struct training *t)
{
    char *text = NULL;
    TRY(golden_text(v->golden, "train", &text));
    CHECK(text, STATUS_CORRUPT, "%s: no attribute 'train' to go with train/losses", v->path);
    json_t *train = json_loads(text, 0, NULL);
    free(text);
    double lr[NUM_GROUPS] = {1, 0, 0};
    double warmup = 0;
    json_int_t steps = 0;
    *t = (struct training){.config = {.form = OPTIMIZER_ADAMW_FIBER}};
    struct optimizer_config *config = &t->config;
    json_error_t error;
    int unpacked = json_unpack_ex(
        train, &error, 0, "{s:F,s:F,s:I,s:[F,F],s:F,s:F,s:F,s:F}", "lr", &config->lr, "warmup",
        &warmup, "total", &steps, "betas", &t->betas[0], &t->betas[1], "eps", &config->eps,
        "weight_decay", &config->weight_decay, "lr_mult_head", &lr[1], "lr_mult_cross", &lr[2]);
    json_decref(train);
    CHECK(unpacked == 0, STATUS_CORRUPT, "%s: attribute 'train': %s", v->path, error.text);
    config->betas.items = t->betas;
    config->betas.count = 2;
    config->schedule = (struct schedule){.kind = SCHEDULE_LINEAR, .warmup = warmup};
    group_parameters(t, v->step.graph, lr);
    v->most_lr = fmax(1, fmax(lr[1], lr[2]));
    t->total = steps;
    return STATUS_OK;
}

static enum status apply_bounds(struct verify *v, struct optimizer *optimizer)
{
    float *flat = executor_device_parameters(v->executor);
    CHECK(flat, STATUS_INTERNAL, "%s", status_message());
    for (int i = 0; i < v->step.num_bounds; i++) {
        const struct step_bound *bound = &v->step.bounds[i];
        const struct parameter *p = graph_parameter_find(v->step.graph, bound->parameter);
        TRY(optimizer_clamp(optimizer, flat, p->offset, bound->low, bound->high));
    }
    executor_device_parameters_changed(v->executor);
    return STATUS_OK;
}

/* `losses`: what the file has for this step, a number for each term, as `sums`. */
static enum status train_step(struct verify *v, struct optimizer *optimizer, int64_t step,
                              int64_t total, const double *losses, double rate,
                              struct verify_sum *sums)
{
    char name[64];
    TRY(apply_bounds(v, optimizer));
    TRY(executor_run(v->executor, &(struct executor_run){.step = (uint64_t)step}));
    TRY(executor_wait(v->executor));
    for (int i = 0; i < v->step.num_terms; i++) {
        const struct step_term *term = &v->step.terms[i];
        double difference = verify_loss(v, term) - losses[i];
        sums[i].norm += losses[i] * losses[i];
        sums[i].difference += difference * difference;
        if (v->tolerance->together) continue;
        snprintf(name, sizeof name, "train/losses[%lld] %s", (long long)step, term->name);
        verify_judge(v, name, fabs(difference) / fabs(losses[i]), v->tolerance->training);
    }
    struct optimizer_report report;
    float *parameters = executor_device_parameters(v->executor);
    CHECK(parameters, STATUS_INTERNAL, "%s", status_message());
    TRY(optimizer_step(optimizer, parameters, executor_device_gradients(v->executor), 1.0, step,
                       total, &report));
    v->reach += report.lr * v->most_lr;
    snprintf(name, sizeof name, "train/lr[%lld]", (long long)step);
    verify_judge(v, name, fabs(report.lr - rate) / fmax(rate, 1e-12), 1e-6);
    executor_device_parameters_changed(v->executor);
    return STATUS_OK;
}

static enum status train(struct verify *v, const struct shape *shape, const double *losses,
                         const double *rates)
{
    struct training t;
    struct optimizer *optimizer = NULL;
    struct verify_sum sums[STEP_MAX_TERMS] = {0};
    TRY(read_constants(v, &t));
    enum status status =
        optimizer_create(&optimizer, v->step.graph, &t.config, NULL, executor_stream(v->executor));
    for (int64_t s = 0; status == STATUS_OK && s < shape->dim[0]; s++) {
        status = train_step(v, optimizer, s, t.total, losses + s * shape->dim[1], rates[s], sums);
    }
    for (int i = 0; status == STATUS_OK && v->tolerance->together && i < v->step.num_terms; i++) {
        char name[64];
        snprintf(name, sizeof name, "train/losses %s as one vector", v->step.terms[i].name);
        verify_judge(v, name, sqrt(sums[i].difference / sums[i].norm), v->tolerance->training);
    }
    optimizer_destroy(&optimizer);
    if (status == STATUS_OK) status = executor_parameters_fetch(v->executor);
    return status;
}

/* ---- the parameters afterwards ---- */

/* A parameter and where its values are: aliases follow their source. NULL for one that the model
 * lacks. */
static const struct parameter *values_of(struct verify *v, const char *name, const float **values)
{
    const struct parameter *p = graph_parameter_find(v->step.graph, name);
    if (!p) return NULL;
    const char *source;
    int64_t row;
    *values = executor_parameters(v->executor) + p->offset;
    if (head_alias(name, &source, &row)) {
        const struct parameter *from = graph_parameter_find(v->step.graph, source);
        *values = executor_parameters(v->executor) + from->offset + row * p->count;
    }
    return p;
}

static double norm_of(const float *values, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += (double)values[i] * values[i];
    }
    return sqrt(sum);
}

/*
 * Whether the file's gradient of a parameter is rounding noise (key biases: exactly zero in
 * theory). AdamW turns noise into steps of full length, so such a parameter is only held to how far
 * the rates can have moved it.
 */
static enum status is_noise(struct verify *v, const struct parameter *p, bool *noise)
{
    char full[512];
    float *gradient = NULL;
    snprintf(full, sizeof full, "grad/%s", p->name);
    *noise = false;
    if (!golden_has(v->golden, full)) return STATUS_OK;
    TRY(verify_read_like(v, full, &p->tensor->shape, &gradient));
    *noise = norm_of(gradient, p->count) < v->tolerance->floor;
    free(gradient);
    return STATUS_OK;
}

static enum status compare_norm(void *context, const char *name)
{
    struct verify *v = context;
    const float *values = NULL;
    const struct parameter *p = values_of(v, name, &values);
    char full[512];
    double want = 0;
    bool noise = false;
    if (!p && verify_is_unused(v, name)) return STATUS_OK;
    snprintf(full, sizeof full, "train/final_l2/%s", name);
    CHECK(p, STATUS_INVALID, "%s: %s is not a parameter of this model", v->path, full);
    TRY(golden_read_f64(v->golden, full, &want, &SHAPE_SCALAR));
    TRY(is_noise(v, p, &noise));
    double error = fabs(norm_of(values, p->count) - want);
    double reach = noise ? v->reach * sqrt((double)p->count) : 0;
    verify_judge(v, full, error, fmax(v->tolerance->training * fmax(want, 1e-3), reach));
    return STATUS_OK;
}

static enum status compare_final(void *context, const char *name)
{
    struct verify *v = context;
    const float *values = NULL;
    const struct parameter *p = values_of(v, name, &values);
    char full[512];
    float *want = NULL;
    if (!p && verify_is_unused(v, name)) return STATUS_OK;
    snprintf(full, sizeof full, "train/final_params/%s", name);
    CHECK(p, STATUS_INVALID, "%s: %s is not a parameter of this model", v->path, full);
    TRY(verify_read_like(v, full, &p->tensor->shape, &want));
    verify_judge(v, full, verify_gradient_error(v, values, want, p->count), v->tolerance->training);
    free(want);
    return STATUS_OK;
}

enum status verify_training(struct verify *v)
{
    if (!golden_has(v->golden, "train/losses")) return STATUS_OK;
    struct shape shape;
    TRY(golden_shape(v->golden, "train/losses", &shape));
    CHECK(shape.rank == 2 && shape.dim[1] == v->step.num_terms, STATUS_CORRUPT,
          "%s: train/losses has not one column for each of the %d losses", v->path,
          v->step.num_terms);
    int64_t count = shape_count(&shape);
    double *numbers = calloc((size_t)(count + shape.dim[0]), sizeof *numbers);
    CHECK(numbers, STATUS_NO_MEMORY, "out of memory");
    double *rates = numbers + count;
    enum status status = golden_read_f64(v->golden, "train/losses", numbers, &shape);
    if (status == STATUS_OK)
        status = golden_read_f64(v->golden, "train/lr", rates, &SHAPE(shape.dim[0]));
    if (status == STATUS_OK) status = train(v, &shape, numbers, rates);
    free(numbers);
    TRY(status);
    if (!v->tolerance->final) return STATUS_OK;
    TRY(golden_each(v->golden, "train/final_l2", compare_norm, v));
    return golden_each(v->golden, "train/final_params", compare_final, v);
}
