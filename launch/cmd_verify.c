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
#include "launch/verify.h"
#include "runtime/backend/cpu/threads.h"
#include "runtime/base/bf16.h"
#include "runtime/base/log.h"

static const struct verify_tolerances tolerances_f32 = {.value = 2e-5,
                                                        .loss = 1e-5,
                                                        .gradient = 1e-3,
                                                        .floor = 1e-6,
                                                        .whole = 1e-5,
                                                        .training = 5e-3,
                                                        .final = true};
/*
 * About one and a half times what PyTorch's own bf16 autocast differs by on such small models. The
 * gradient of a single number may be the small rest of large terms, which rounding the weights
 * alone, in f32 arithmetic, moves by as much as it is, and the losses of a few large steps on one
 * batch have steep places: these are judged with those of their kind.
 */
static const struct verify_tolerances tolerances_bf16 = {.value = 0.1,
                                                         .loss = 1e-2,
                                                         .gradient = 0.3,
                                                         .floor = 1e-2,
                                                         .whole = 8e-2,
                                                         .training = 5e-2,
                                                         .together = true};

static const struct config_option verify_options[] = {
    CONFIG_CHOICE(struct verify_config, model, "family", model_choices, .help = "The model."),
    CONFIG_SECTION(struct verify_config, objectives, objectives_table, .help = "The loss."),
};
static const struct config_table verify_table = {CONFIG_TABLE(struct verify_config, verify_options),
                                                 .name = "verify",
                                                 .help = "What a golden file describes."};

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
    struct shape shape;
    TRY(golden_shape(v->golden, "input/image", &shape));
    CHECK(shape.rank == 4, STATUS_CORRUPT, "%s: dataset 'input/image' is not [B,3,S,S]", v->path);
    const struct step_options options = {.config = &v->values.objectives,
                                         .model = v->values.model,
                                         .dtype = v->dtype,
                                         .batch = shape.dim[0],
                                         .world_size = 1,
                                         .verify = true};
    TRY(step_init(&v->step, &options));
    return executor_create(&v->executor, v->step.graph,
                           &(struct executor_options){.seed = 1, .device = v->device});
}

/* ---- weights and inputs ---- */

bool verify_is_unused(struct verify *v, const char *name)
{
    char full[512];
    snprintf(full, sizeof full, "grad/%s", name);
    return golden_has(v->golden, "grad") && !golden_has(v->golden, full);
}

/* The public code registers parameters of objectives that are switched off; a misspelt name would
 * have a gradient. */
static enum status check_known(void *context, const char *name)
{
    struct verify *v = context;
    CHECK(graph_parameter_find(v->step.graph, name) || verify_is_unused(v, name), STATUS_INVALID,
          "%s: params/%s is not a parameter of this model", v->path, name);
    return STATUS_OK;
}

static enum status load_weights(struct verify *v)
{
    struct graph *g = v->step.graph;
    TRY(executor_parameters_fetch(v->executor)); /* says whether there is memory for them */
    float *flat = executor_parameters(v->executor);
    for (int64_t i = 0; i < graph_num_parameters(g); i++) {
        const struct parameter *p = graph_parameter_at(g, i);
        char name[512];
        snprintf(name, sizeof name, "params/%s", p->name);
        TRY(golden_read_f32(v->golden, name, flat + p->offset, &p->tensor->shape));
    }
    executor_parameters_changed(v->executor);
    return golden_each(v->golden, "params", check_known, v);
}

static void *data_of(const struct verify *v, const struct tensor *tensor)
{
    return tensor ? executor_data(v->executor, tensor) : NULL;
}

static enum status read_ints(struct verify *v, const char *name, const struct tensor *tensor,
                             const struct shape *shape)
{
    return tensor ? golden_read_i32(v->golden, name, data_of(v, tensor), shape) : STATUS_OK;
}

/* Queues are stored as feature columns [D,Q]; rows here. */
static enum status read_queue(struct verify *v, const char *name, const struct tensor *tensor)
{
    int64_t rows = tensor->shape.dim[0];
    int64_t width = tensor->shape.dim[1];
    float *columns = NULL;
    TRY(verify_read_like(v, name, &SHAPE(width, rows), &columns));
    float *out = data_of(v, tensor);
    for (int64_t i = 0; i < rows * width; i++) {
        out[i] = columns[i % width * rows + i / width];
    }
    free(columns);
    return STATUS_OK;
}

static enum status load_inputs(struct verify *v)
{
    struct step *s = &v->step;
    const struct shape *text = &s->ids->shape;
    const struct shape rows = SHAPE(s->batch);
    TRY(golden_read_f32(v->golden, "input/image", data_of(v, s->pixels), &s->pixels->shape));
    TRY(read_ints(v, "input/ids", s->ids, text));
    TRY(read_ints(v, "input/mask", s->mask, text));
    TRY(read_ints(v, "input/mlm_ids", s->mlm_ids, text));
    TRY(read_ints(v, "input/mlm_labels", s->mlm_targets, text));
    TRY(read_ints(v, "input/neg_image", s->negative_image, &rows));
    TRY(read_ints(v, "input/neg_text", s->negative_text, &rows));
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

void verify_judge(struct verify *v, const char *name, double error, double tolerance)
{
    double ratio = isnan(error) ? INFINITY : error / tolerance;
    bool ok = ratio <= 1;
    v->compared++;
    v->failed += !ok;
    if (ratio > v->worst) {
        v->worst = ratio;
        snprintf(v->worst_name, sizeof v->worst_name, "%s", name);
    }
    if (v->all || !ok) {
        printf("%-6s %-78s error %.2e of %.0e\n", ok ? "ok" : "FAILED", name, error, tolerance);
    }
}

double verify_loss(const struct verify *v, const struct step_term *term)
{
    return (double)*(const float *)data_of(v, term->loss);
}

enum status verify_read_like(struct verify *v, const char *name, const struct shape *shape,
                             float **values)
{
    *values = malloc((size_t)shape_count(shape) * sizeof **values);
    CHECK(*values, STATUS_NO_MEMORY, "out of memory");
    enum status status = golden_read_f32(v->golden, name, *values, shape);
    if (status == STATUS_OK) return status;
    free(*values);
    *values = NULL;
    return status;
}

/* An element of a float tensor of either dtype. */
static double element(const void *data, enum dtype dtype, int64_t i)
{
    return dtype == DTYPE_BF16 ? (double)bf16_to_f32(((const uint16_t *)data)[i])
                               : (double)((const float *)data)[i];
}

/* Largest difference over the largest value. */
static double value_error(const void *got, enum dtype dtype, const float *want, int64_t count)
{
    double most = 0;
    double difference = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = fabs(element(got, dtype, i) - want[i]);
        if (isnan(d)) return INFINITY;
        if (d > difference) difference = d;
        if (fabs((double)want[i]) > most) most = fabs((double)want[i]);
    }
    return difference / (most > 0 ? most : 1);
}

static void add_values(struct verify_sum *sum, const float *got, const float *want, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        double difference = (double)got[i] - want[i];
        sum->norm += (double)want[i] * want[i];
        sum->difference += difference * difference;
    }
}

static double error_of(const struct verify *v, const struct verify_sum *sum)
{
    double floor = v->tolerance->floor;
    /* Where there is next to nothing, a difference of the floor is just allowed. */
    if (sqrt(sum->norm) < floor) return sqrt(sum->difference) / floor * v->tolerance->gradient;
    return sqrt(sum->difference / sum->norm);
}

double verify_gradient_error(const struct verify *v, const float *got, const float *want,
                             int64_t count)
{
    struct verify_sum sum = {0};
    add_values(&sum, got, want, count);
    return error_of(v, &sum);
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
    float *want = NULL;
    TRY(verify_read_like(v, name, &tensor->shape, &want));
    verify_judge(v, name,
                 value_error(data_of(v, tensor), tensor->dtype, want, shape_count(&tensor->shape)),
                 v->tolerance->value);
    free(want);
    return STATUS_OK;
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
        TRY(golden_read_f64(v->golden, name, &want, &SHAPE_SCALAR));
        verify_judge(v, name, fabs(verify_loss(v, term) - want) / fabs(want), v->tolerance->loss);
    }
    return STATUS_OK;
}

/* A gradient that the model does not compute is to be zero in the file. */
static enum status compare_absent(struct verify *v, const char *name)
{
    struct shape shape;
    float *want = NULL;
    TRY(golden_shape(v->golden, name, &shape));
    TRY(verify_read_like(v, name, &shape, &want));
    bool zero = true;
    for (int64_t i = 0; i < shape_count(&shape); i++) {
        zero = zero && want[i] == 0;
    }
    free(want);
    verify_judge(v, name, zero ? 0 : INFINITY, v->tolerance->gradient);
    return STATUS_OK;
}

/* The numbers that `name` belongs to; NULL when there are too many kinds. */
static struct verify_numbers *numbers_of(struct verify *v, const char *name)
{
    const char *dot = strrchr(name, '.');
    const char *last = dot ? dot + 1 : name;
    for (int i = 0; i < v->num_numbers; i++) {
        if (strcmp(v->numbers[i].name, last) == 0) return &v->numbers[i];
    }
    if (v->num_numbers == VERIFY_NUMBERS || strlen(last) >= sizeof v->numbers->name) return NULL;
    snprintf(v->numbers[v->num_numbers].name, sizeof v->numbers->name, "%s", last);
    return &v->numbers[v->num_numbers++];
}

static enum status compare_gradient(void *context, const char *name)
{
    struct verify *v = context;
    const struct parameter *p = graph_parameter_find(v->step.graph, name);
    char full[512];
    float *want = NULL;
    snprintf(full, sizeof full, "grad/%s", name);
    if (!p || !p->gradient) return compare_absent(v, full);
    TRY(verify_read_like(v, full, &p->tensor->shape, &want));
    const float *got = executor_gradients(v->executor) + p->offset;
    struct verify_numbers *kind =
        v->tolerance->together && p->count == 1 ? numbers_of(v, name) : NULL;
    if (!kind) {
        double error = verify_gradient_error(v, got, want, p->count);
        verify_judge(v, full, error, v->tolerance->gradient);
    }
    add_values(&v->gradient, got, want, p->count);
    if (kind) add_values(&kind->sum, got, want, p->count);
    free(want);
    return STATUS_OK;
}

static enum status compare_gradients(struct verify *v)
{
    TRY(golden_each(v->golden, "grad", compare_gradient, v));
    for (int i = 0; i < v->num_numbers; i++) {
        char name[96];
        snprintf(name, sizeof name, "all of grad/*%s as one vector", v->numbers[i].name);
        verify_judge(v, name, error_of(v, &v->numbers[i].sum), v->tolerance->gradient);
    }
    if (v->gradient.norm > 0) {
        verify_judge(v, "all gradients as one vector",
                     sqrt(v->gradient.difference / v->gradient.norm), v->tolerance->whole);
    }
    return STATUS_OK;
}

/* The other way round: what the file has no gradient of must not get one. */
static enum status compare_missing_gradients(struct verify *v)
{
    if (!golden_has(v->golden, "grad")) return STATUS_OK;
    for (int64_t i = 0; i < graph_num_parameters(v->step.graph); i++) {
        const struct parameter *p = graph_parameter_at(v->step.graph, i);
        if (!p->gradient || !verify_is_unused(v, p->name)) continue;
        const float *got = executor_gradients(v->executor) + p->offset;
        double sum = 0;
        for (int64_t k = 0; k < p->count; k++) {
            sum += (double)got[k] * got[k];
        }
        char full[512];
        snprintf(full, sizeof full, "grad/%s (absent)", p->name);
        verify_judge(v, full, sqrt(sum), v->tolerance->floor);
    }
    return STATUS_OK;
}

/* ---- the command ---- */

static enum status verify_file(struct verify *v)
{
    TRY(golden_open(&v->golden, v->path));
    TRY(build(v));
    TRY(load_weights(v));
    TRY(load_inputs(v));
    TRY(executor_run(v->executor, &(struct executor_run){.step = 0}));
    TRY(executor_wait(v->executor));
    TRY(executor_gradients_fetch(v->executor));
    TRY(golden_each(v->golden, "trace_fused", compare_trace, v));
    TRY(golden_each(v->golden, "out", compare_out, v));
    TRY(compare_losses(v));
    TRY(compare_gradients(v));
    TRY(compare_missing_gradients(v));
    return verify_training(v);
}

static int verify_one(const char *path, bool all, enum dtype dtype, enum device_kind device)
{
    struct verify v = {.path = path,
                       .device = device,
                       .all = all,
                       .dtype = dtype,
                       .tolerance = dtype == DTYPE_BF16 ? &tolerances_bf16 : &tolerances_f32};
    enum status status = verify_file(&v);
    executor_destroy(&v.executor);
    step_fini(&v.step);
    config_destroy(&v.config);
    golden_close(&v.golden);
    if (status != STATUS_OK) {
        log_error("%s", status_message());
        return 1;
    }
    printf("%s: %d values compared, %d outside the tolerances; worst %s at %.2f of its tolerance\n",
           path, v.compared, v.failed, v.worst_name, v.worst);
    return v.failed == 0 ? 0 : 1;
}

static const char usage[] =
    "usage: weft verify GOLDEN.h5... [--all] [--dtype f32|bf16] [--device cpu|cuda]\n"
    "\n"
    "Builds the model that a golden file describes, loads its weights, and compares every value,\n"
    "loss and gradient with the file's, then repeats its training steps. Exits 0 only when all "
    "are\n"
    "within the tolerances: forward values 2e-5 of the largest of the tensor, losses 1e-5,\n"
    "gradients 1e-3 (L2; 1e-5 all together), training steps 5e-3. Files: docs/verify.md.\n"
    "\n"
    "      --all         print every comparison, not only the ones that fail\n"
    "      --dtype TYPE  of activations, f32 or bf16. bf16: forward values 0.1, losses 1e-2,\n"
    "                    gradients 0.3 (8e-2 all together), losses of the training steps 5e-2;\n"
    "                    final parameters are left out\n"
    "      --device KIND cpu (the start) or cuda: the first GPU that this process sees\n";

static int run(int argc, char **argv)
{
    static const struct option options[] = {{"all", no_argument, NULL, 'a'},
                                            {"dtype", required_argument, NULL, 'd'},
                                            {"device", required_argument, NULL, 'D'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    bool all = false;
    enum dtype dtype = DTYPE_F32;
    enum device_kind device = DEVICE_CPU;
    for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (option == 'a') {
            all = true;
        } else if (option == 'd' && strcmp(optarg, "bf16") == 0) {
            dtype = DTYPE_BF16;
        } else if (option == 'd' && strcmp(optarg, "f32") == 0) {
            dtype = DTYPE_F32;
        } else if (option == 'D' && strcmp(optarg, "cuda") == 0) {
            device = DEVICE_CUDA;
        } else if (option == 'D' && strcmp(optarg, "cpu") == 0) {
            device = DEVICE_CPU;
        } else {
            if (option == 'd') log_error("--dtype %s: f32 or bf16", optarg);
            if (option == 'D') log_error("--device %s: cpu or cuda", optarg);
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
        failed |= verify_one(argv[i], all, dtype, device);
    }
    return failed;
}

const struct command command_verify = {
    .name = "verify",
    .summary = "compare a model with another implementation's values",
    .usage = usage,
    .run = run,
};
