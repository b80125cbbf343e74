/*
 * weft verify: a model's arithmetic against values that another implementation computed.
 *
 * The golden file says which model it is. It is recorded as for training, with the file's weights,
 * inputs and negatives; every value the file holds is compared, and then its training steps are
 * repeated. Tolerances are those that the same arithmetic in another order meets in f32.
 */
#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/command.h"
#include "launch/golden.h"
#include "model/heads.h"
#include "objectives/objective.h"
#include "runtime/backend/cpu/executor.h"
#include "runtime/backend/cpu/threads.h"
#include "runtime/base/log.h"
#include "runtime/optim/optimizer.h"

static const double tolerance_value = 2e-5;    /* of the largest value of the tensor */
static const double tolerance_loss = 1e-5;     /* relative */
static const double tolerance_gradient = 1e-3; /* relative, L2 */
static const double tolerance_training = 5e-3; /* relative, losses of the training steps */
static const double gradient_floor = 1e-6;     /* below this norm gradients compare absolutely */

struct verify_config {
    struct config_variant model;
    struct objectives_config objectives;
};

static const struct config_option verify_options[] = {
    CONFIG_CHOICE(struct verify_config, model, "family", model_choices, .help = "The model."),
    CONFIG_SECTION(struct verify_config, objectives, objectives_table, .help = "The loss."),
};
static const struct config_table verify_table = {CONFIG_TABLE(struct verify_config, verify_options),
                                                 .name = "verify",
                                                 .help = "What a golden file describes."};

struct verify {
    const char *path;
    bool all; /* print every comparison */
    struct golden *golden;
    struct config *config;
    struct verify_config values;
    struct step step;
    struct executor *executor;
    int compared;
    int failed;
    double most_lr; /* largest multiplier of the learning rate */
    double reach;   /* how far a parameter can have moved in training: sum of rates */
    double worst;   /* error over tolerance */
    char worst_name[512];
};

/* ---- the model of the file ---- */

/* The file's config is flat; `queue` belongs to the contrastive objective. */
static enum status config_text(struct verify *v, char **text)
{
    char *stored = NULL;
    TRY(golden_text(v->golden, "config", &stored));
    CHECK(stored, STATUS_CORRUPT, "%s: no attribute 'config'; this is not a golden file of a model",
          v->path);
    json_error_t error;
    json_t *model = json_loads(stored, 0, &error);
    free(stored);
    CHECK(model && json_is_object(model), STATUS_CORRUPT,
          "%s: attribute 'config' is not a JSON object", v->path);
    json_int_t queue = json_integer_value(json_object_get(model, "queue"));
    json_object_del(model, "queue");
    json_t *list = json_array();
    if (golden_has(v->golden, "loss/mlm"))
        json_array_append_new(list, json_pack("{ss}", "type", "mlm"));
    if (golden_has(v->golden, "loss/itc")) {
        json_array_append_new(list, json_pack("{sssssIsb}", "type", "itc", "mode", "fiber", "queue",
                                              queue, "mask_unfilled", 0));
    }
    if (golden_has(v->golden, "loss/itm"))
        json_array_append_new(list, json_pack("{ss}", "type", "itm"));
    json_t *root = json_pack("{sos{so}}", "model", model, "objectives", "list", list);
    *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    CHECK(*text, STATUS_NO_MEMORY, "out of memory");
    return STATUS_OK;
}

static enum status build(struct verify *v)
{
    char *text = NULL;
    TRY(config_text(v, &text));
    enum status status = config_read_text(&verify_table, v->path, text, strlen(text), NULL, 0,
                                          &v->values, &v->config);
    free(text);
    TRY(status);
    int rank;
    int64_t shape[8];
    int64_t count = golden_count(v->golden, "input/image", &rank, shape);
    CHECK(count > 0 && rank == 4, STATUS_CORRUPT, "%s: no dataset 'input/image' [B,3,S,S]",
          v->path);
    const struct step_options options = {.config = &v->values.objectives,
                                         .model = v->values.model,
                                         .dtype = DTYPE_F32,
                                         .batch = shape[0],
                                         .world_size = 1,
                                         .verify = true};
    TRY(step_init(&v->step, &options));
    return executor_create(&v->executor, v->step.graph, &(struct executor_options){.seed = 1});
}

/* ---- weights and inputs ---- */

static enum status check_known(void *context, const char *name)
{
    struct verify *v = context;
    CHECK(graph_parameter_find(v->step.graph, name), STATUS_INVALID,
          "%s: params/%s is not a parameter of this model", v->path, name);
    return STATUS_OK;
}

static enum status load_weights(struct verify *v)
{
    struct graph *g = v->step.graph;
    float *flat = executor_parameters(v->executor);
    for (int64_t i = 0; i < graph_num_parameters(g); i++) {
        const struct parameter *p = graph_parameter_at(g, i);
        char name[512];
        snprintf(name, sizeof name, "params/%s", p->name);
        TRY(golden_read_f32(v->golden, name, flat + p->offset, p->count));
    }
    executor_parameters_changed(v->executor);
    return golden_each(v->golden, "params", check_known, v);
}

static void *data_of(struct verify *v, const struct tensor *tensor)
{
    return tensor ? executor_data(v->executor, tensor) : NULL;
}

static enum status read_ints(struct verify *v, const char *name, const struct tensor *tensor)
{
    if (!tensor) return STATUS_OK;
    return golden_read_i32(v->golden, name, data_of(v, tensor), shape_count(&tensor->shape));
}

/* Queues are stored as feature columns [D,Q]; rows here. */
static enum status read_queue(struct verify *v, const char *name, const struct tensor *tensor)
{
    int64_t rows = tensor->shape.dim[0];
    int64_t width = tensor->shape.dim[1];
    float *columns = malloc((size_t)(rows * width) * sizeof *columns);
    CHECK(columns, STATUS_NO_MEMORY, "out of memory");
    enum status status = golden_read_f32(v->golden, name, columns, rows * width);
    float *out = data_of(v, tensor);
    for (int64_t i = 0; status == STATUS_OK && i < rows * width; i++) {
        out[i] = columns[i % width * rows + i / width];
    }
    free(columns);
    return status;
}

static enum status load_inputs(struct verify *v)
{
    struct step *s = &v->step;
    TRY(golden_read_f32(v->golden, "input/image", data_of(v, s->pixels),
                        shape_count(&s->pixels->shape)));
    TRY(read_ints(v, "input/ids", s->ids));
    TRY(read_ints(v, "input/mask", s->mask));
    TRY(read_ints(v, "input/mlm_ids", s->mlm_ids));
    TRY(read_ints(v, "input/mlm_labels", s->mlm_targets));
    TRY(read_ints(v, "input/neg_image", s->negative_image));
    TRY(read_ints(v, "input/neg_text", s->negative_text));
    if (s->mlm_ids) {
        const int32_t *targets = data_of(v, s->mlm_targets);
        float *weights = data_of(v, s->mlm_weights);
        int32_t *index = data_of(v, s->mlm_index);
        for (int64_t i = 0; i < shape_count(&s->mlm_index->shape); i++) {
            index[i] = (int32_t)i;
            weights[i] = targets[i] == -100 ? 0.0f : 1.0f;
        }
    }
    if (s->image_queue) {
        TRY(read_queue(v, "input/image_queue", s->image_queue));
        TRY(read_queue(v, "input/text_queue", s->text_queue));
        memset(data_of(v, s->queue_bias), 0, tensor_bytes(s->queue_bias));
    }
    return STATUS_OK;
}

/* ---- comparison ---- */

static void judge(struct verify *v, const char *name, double error, double tolerance)
{
    double ratio = error / tolerance;
    bool ok = ratio <= 1; /* a NaN is not */
    v->compared++;
    v->failed += !ok;
    if (!(ratio <= v->worst)) {
        v->worst = ratio;
        snprintf(v->worst_name, sizeof v->worst_name, "%s", name);
    }
    if (v->all || !ok) {
        printf("%-6s %-78s error %.2e of %.0e\n", ok ? "ok" : "FAILED", name, error, tolerance);
    }
}

/* Largest difference over the largest value. */
static double value_error(const float *got, const float *want, int64_t count)
{
    double most = 0;
    double difference = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = fabs((double)got[i] - want[i]);
        if (!(d <= difference)) difference = d;
        if (fabs((double)want[i]) > most) most = fabs((double)want[i]);
    }
    return difference / (most > 0 ? most : 1);
}

/* L2 norm of the difference over the norm, or itself where there is next to nothing. */
static double gradient_error(const float *got, const float *want, int64_t count)
{
    double norm = 0;
    double difference = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = (double)got[i] - want[i];
        difference += d * d;
        norm += (double)want[i] * want[i];
    }
    norm = sqrt(norm);
    difference = sqrt(difference);
    return norm < gradient_floor ? difference / gradient_floor * tolerance_gradient
                                 : difference / norm;
}

static enum status compare(struct verify *v, const char *name, const float *got, int64_t count,
                           bool is_gradient)
{
    float *want = malloc((size_t)count * sizeof *want);
    CHECK(want, STATUS_NO_MEMORY, "out of memory");
    enum status status = golden_read_f32(v->golden, name, want, count);
    if (status == STATUS_OK && is_gradient) {
        judge(v, name, gradient_error(got, want, count), tolerance_gradient);
    } else if (status == STATUS_OK) {
        judge(v, name, value_error(got, want, count), tolerance_value);
    }
    free(want);
    return status;
}

static enum status compare_output(struct verify *v, const char *name)
{
    const struct tensor *tensor = graph_tensor_find(v->step.graph, name);
    if (!tensor) {
        printf("FAILED %s: the model has no such value\n", name);
        v->compared++;
        v->failed++;
        return STATUS_OK;
    }
    return compare(v, name, data_of(v, tensor), shape_count(&tensor->shape), false);
}

static enum status compare_trace(void *context, const char *name)
{
    char full[512];
    snprintf(full, sizeof full, "trace_fused/%s", name);
    return compare_output(context, full);
}

static enum status compare_out(void *context, const char *name)
{
    char full[512];
    snprintf(full, sizeof full, "out/%s", name);
    return compare_output(context, full);
}

static enum status compare_losses(struct verify *v)
{
    for (int i = 0; i < v->step.num_terms; i++) {
        const struct step_term *term = &v->step.terms[i];
        char name[64];
        double want = 0;
        snprintf(name, sizeof name, "loss/%s", term->name);
        TRY(golden_read_f64(v->golden, name, &want, 1));
        double got = (double)*(float *)data_of(v, term->loss);
        judge(v, name, fabs(got - want) / fabs(want), tolerance_loss);
    }
    return STATUS_OK;
}

static enum status compare_gradient(void *context, const char *name)
{
    struct verify *v = context;
    const struct parameter *p = graph_parameter_find(v->step.graph, name);
    char full[512];
    snprintf(full, sizeof full, "grad/%s", name);
    if (!p || !p->gradient) {
        int rank;
        int64_t shape[8];
        int64_t count = golden_count(v->golden, full, &rank, shape);
        float *want = calloc((size_t)(count > 0 ? count : 1), sizeof *want);
        CHECK(want, STATUS_NO_MEMORY, "out of memory");
        enum status status = golden_read_f32(v->golden, full, want, count);
        bool zero = true;
        for (int64_t i = 0; i < count; i++) {
            zero = zero && want[i] == 0;
        }
        free(want);
        judge(v, full, zero ? 0 : INFINITY, tolerance_gradient);
        return status;
    }
    return compare(v, full, executor_gradients(v->executor) + p->offset, p->count, true);
}

/* ---- the training steps of the file ---- */

static const char *const no_decay[] = {"bias",        "LayerNorm.weight", "norm.bias",
                                       "norm.weight", "norm1.weight",     "norm2.weight"};
static const char *const head_names[] = {"mlm_score", "itm_score"};
static const char *const cross_names[] = {"cross_modal", "i2t", "t2i"};

#define NAMES(array)                                                                               \
    {                                                                                              \
        (array), sizeof(array) / sizeof(array)[0]                                                  \
    }

static enum status train_constants(struct verify *v, struct optimizer_config *config,
                                   struct optimizer_group *groups, double *betas, int64_t *total)
{
    char *text = NULL;
    TRY(golden_text(v->golden, "train", &text));
    CHECK(text, STATUS_CORRUPT, "%s: no attribute 'train'", v->path);
    json_t *train = json_loads(text, 0, NULL);
    free(text);
    double head = 0;
    double cross = 0;
    double warmup = 0;
    json_int_t steps = 0;
    int unpacked = json_unpack(train, "{s:F,s:F,s:I,s:[F,F],s:F,s:F,s:F,s:F}", "lr", &config->lr,
                               "warmup", &warmup, "total", &steps, "betas", &betas[0], &betas[1],
                               "eps", &config->eps, "weight_decay", &config->weight_decay,
                               "lr_mult_head", &head, "lr_mult_cross", &cross);
    json_decref(train);
    CHECK(unpacked == 0, STATUS_CORRUPT, "%s: attribute 'train' lacks a constant", v->path);
    config->form = OPTIMIZER_ADAMW_FIBER;
    config->betas.items = betas;
    config->betas.count = 2;
    config->schedule = (struct schedule){.kind = SCHEDULE_LINEAR, .warmup = warmup};
    groups[0] = (struct optimizer_group){.match = NAMES(no_decay), .lr = 1, .decay = 0};
    groups[1] = (struct optimizer_group){.match = NAMES(head_names), .lr = head, .decay = 1};
    groups[2] = (struct optimizer_group){.match = NAMES(cross_names), .lr = cross, .decay = 1};
    config->groups.items = groups;
    config->groups.count = 3;
    v->most_lr = fmax(1, fmax(head, cross));
    *total = steps;
    return STATUS_OK;
}

static void apply_bounds(struct verify *v)
{
    float *flat = executor_parameters(v->executor);
    for (int i = 0; i < v->step.num_bounds; i++) {
        const struct step_bound *bound = &v->step.bounds[i];
        const struct parameter *p = graph_parameter_find(v->step.graph, bound->parameter);
        flat[p->offset] = fminf(fmaxf(flat[p->offset], bound->low), bound->high);
    }
    executor_parameters_changed(v->executor);
}

static enum status train_step(struct verify *v, struct optimizer *optimizer, int64_t step,
                              int64_t total, const double *losses, const double *rates)
{
    char name[64];
    apply_bounds(v);
    TRY(executor_run(v->executor, &(struct executor_run){.step = (uint64_t)step}));
    for (int i = 0; i < v->step.num_terms; i++) {
        double want = losses[step * v->step.num_terms + i];
        double got = (double)*(float *)data_of(v, v->step.terms[i].loss);
        snprintf(name, sizeof name, "train/losses[%lld] %s", (long long)step,
                 v->step.terms[i].name);
        judge(v, name, fabs(got - want) / fabs(want), tolerance_training);
    }
    struct optimizer_report report;
    TRY(optimizer_step(optimizer, executor_parameters(v->executor), executor_gradients(v->executor),
                       1.0, step, total, &report));
    v->reach += report.lr * v->most_lr;
    snprintf(name, sizeof name, "train/lr[%lld]", (long long)step);
    judge(v, name, fabs(report.lr - rates[step]) / fmax(rates[step], 1e-12), 1e-6);
    executor_parameters_changed(v->executor);
    return STATUS_OK;
}

/* Where a parameter's values are: aliases follow their source. */
static const float *values_of(struct verify *v, const char *name, const struct parameter *p)
{
    const char *source;
    int64_t row;
    int64_t offset = 0;
    if (head_alias(name, &source, &row)) {
        offset = row * p->count;
        p = graph_parameter_find(v->step.graph, source);
    }
    return executor_parameters(v->executor) + p->offset + offset;
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
static enum status is_noise(struct verify *v, const char *name, int64_t count, bool *noise)
{
    char full[512];
    snprintf(full, sizeof full, "grad/%s", name);
    *noise = false;
    if (!golden_has(v->golden, full)) return STATUS_OK;
    float *gradient = malloc((size_t)count * sizeof *gradient);
    CHECK(gradient, STATUS_NO_MEMORY, "out of memory");
    enum status status = golden_read_f32(v->golden, full, gradient, count);
    if (status == STATUS_OK) *noise = norm_of(gradient, count) < gradient_floor;
    free(gradient);
    return status;
}

static enum status compare_norm(void *context, const char *name)
{
    struct verify *v = context;
    const struct parameter *p = graph_parameter_find(v->step.graph, name);
    char full[512];
    double want = 0;
    bool noise = false;
    snprintf(full, sizeof full, "train/final_l2/%s", name);
    TRY(golden_read_f64(v->golden, full, &want, 1));
    CHECK(p, STATUS_INVALID, "%s: %s is not a parameter of this model", v->path, full);
    TRY(is_noise(v, name, p->count, &noise));
    double error = fabs(norm_of(values_of(v, name, p), p->count) - want);
    double reach = noise ? v->reach * sqrt((double)p->count) : 0;
    judge(v, full, error, fmax(tolerance_training * fmax(want, 1e-3), reach));
    return STATUS_OK;
}

static enum status compare_final(void *context, const char *name)
{
    struct verify *v = context;
    const struct parameter *p = graph_parameter_find(v->step.graph, name);
    char full[512];
    snprintf(full, sizeof full, "train/final_params/%s", name);
    CHECK(p, STATUS_INVALID, "%s: %s is not a parameter of this model", v->path, full);
    float *want = malloc((size_t)p->count * sizeof *want);
    CHECK(want, STATUS_NO_MEMORY, "out of memory");
    enum status status = golden_read_f32(v->golden, full, want, p->count);
    if (status == STATUS_OK) {
        judge(v, full, gradient_error(executor_parameters(v->executor) + p->offset, want, p->count),
              tolerance_training);
    }
    free(want);
    return status;
}

static enum status verify_training(struct verify *v)
{
    if (!golden_has(v->golden, "train/losses")) return STATUS_OK;
    struct optimizer_config config = {0};
    struct optimizer_group groups[3];
    double betas[2];
    int64_t total = 0;
    TRY(train_constants(v, &config, groups, betas, &total));
    int rank;
    int64_t shape[8];
    int64_t count = golden_count(v->golden, "train/losses", &rank, shape);
    CHECK(rank == 2 && shape[1] == v->step.num_terms, STATUS_CORRUPT,
          "%s: train/losses has not one column a loss", v->path);
    int64_t steps = shape[0];
    double *numbers = calloc((size_t)(count + steps), sizeof *numbers);
    CHECK(numbers, STATUS_NO_MEMORY, "out of memory");
    struct optimizer *optimizer = NULL;
    enum status status = golden_read_f64(v->golden, "train/losses", numbers, count);
    if (status == STATUS_OK) {
        status = golden_read_f64(v->golden, "train/lr", numbers + count, steps);
    }
    if (status == STATUS_OK) status = optimizer_create(&optimizer, v->step.graph, &config, NULL);
    for (int64_t s = 0; status == STATUS_OK && s < steps; s++) {
        status = train_step(v, optimizer, s, total, numbers, numbers + count);
    }
    optimizer_destroy(&optimizer);
    free(numbers);
    TRY(status);
    TRY(golden_each(v->golden, "train/final_l2", compare_norm, v));
    return golden_each(v->golden, "train/final_params", compare_final, v);
}

/* ---- the command ---- */

static enum status verify_file(struct verify *v)
{
    TRY(golden_open(&v->golden, v->path));
    TRY(build(v));
    TRY(load_weights(v));
    TRY(load_inputs(v));
    TRY(executor_run(v->executor, &(struct executor_run){.step = 0}));
    TRY(golden_each(v->golden, "trace_fused", compare_trace, v));
    TRY(golden_each(v->golden, "out", compare_out, v));
    TRY(compare_losses(v));
    TRY(golden_each(v->golden, "grad", compare_gradient, v));
    return verify_training(v);
}

static int verify_one(const char *path, bool all)
{
    struct verify v = {.path = path, .all = all};
    enum status status = verify_file(&v);
    executor_destroy(&v.executor);
    step_fini(&v.step);
    config_destroy(&v.config);
    golden_close(&v.golden);
    if (status != STATUS_OK) {
        log_error("%s", status_message());
        return 1;
    }
    printf(
        "%s: %d values compared, %d outside the tolerances; closest %s at %.2f of its tolerance\n",
        path, v.compared, v.failed, v.worst_name, v.worst);
    return v.failed == 0 ? 0 : 1;
}

static const char usage[] =
    "usage: weft verify GOLDEN.h5... [--all]\n"
    "\n"
    "Builds the model that a golden file describes, loads its weights, and compares every value,\n"
    "loss and gradient with the file's, then repeats its training steps. Exits 0 only when all "
    "are\n"
    "within the tolerances: forward values 2e-5 of the largest of the tensor, losses 1e-5,\n"
    "gradients 1e-3 (L2), training steps 5e-3.\n"
    "\n"
    "      --all    print every comparison, not only the ones that fail\n";

static int run(int argc, char **argv)
{
    static const struct option options[] = {
        {"all", no_argument, NULL, 'a'}, {"help", no_argument, NULL, 'h'}, {0}};
    bool all = false;
    for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (option == 'a') {
            all = true;
        } else {
            fputs(usage, option == 'h' ? stdout : stderr);
            return option == 'h' ? 0 : 2;
        }
    }
    if (optind == argc) {
        fputs(usage, stderr);
        return 2;
    }
    struct cpu_threads threads;
    if (cpu_threads_start(0, 1, &threads) != STATUS_OK) {
        log_error("%s", status_message());
        return 1;
    }
    int failed = 0;
    for (int i = optind; i < argc; i++) {
        failed |= verify_one(argv[i], all);
    }
    return failed;
}

const struct command command_verify = {
    .name = "verify",
    .summary = "compare a model with another implementation's values",
    .usage = usage,
    .run = run,
};
