/* Shapes: see objective.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "objectives/objective.h"

/* One row an objective. */
static const struct objective *const objectives[] = {&mlm_objective, &itc_objective,
                                                     &itm_objective};
enum { NUM_OBJECTIVES = sizeof objectives / sizeof objectives[0] };

extern const struct config_table mlm_table, itc_table, itm_table;
static const struct config_table *const objective_choices[] = {&mlm_table, &itc_table, &itm_table,
                                                               NULL};

/* Pixel statistics of the public code (ImageNet's). */
static const float pixel_mean[3] = {0.485f, 0.456f, 0.406f};
static const float pixel_std[3] = {0.229f, 0.224f, 0.225f};

static const struct config_option objectives_options[] = {
    CONFIG_BOOL(struct objectives_config, share, .def = "true",
                .help = "Compute what objectives have in common once; false draws dropout anew for "
                        "each, as the public code does."),
    CONFIG_CHOICES(struct objectives_config, list, "type", objective_choices, .length = "[1, 16]",
                   .help = "The terms of the loss, in the order in which they are recorded."),
};

static enum status check_objectives(const void *value, const struct config_section *section)
{
    const struct objectives_config *config = value;
    bool has_itm = false;
    for (int64_t i = 0; i < config->list.count; i++) {
        const struct config_table *table = config->list.items[i].table;
        for (int64_t k = 0; k < i; k++) {
            if (config->list.items[k].table == table) {
                return config_refuse(section, "list", "'%s' is there twice", table->name);
            }
        }
        if (table == &itc_table && has_itm) {
            return config_refuse(section, "list",
                                 "itc comes after itm; itm draws hard negatives from itc's "
                                 "similarities, so put itc first");
        }
        has_itm = has_itm || table == &itm_table;
    }
    return STATUS_OK;
}

const struct config_table objectives_table = {
    CONFIG_TABLE(struct objectives_config, objectives_options), .name = "objectives",
    .check = check_objectives, .help = "What is trained: the terms of the loss."};

const void *objectives_find(const struct objectives_config *config, const char *name)
{
    for (int64_t i = 0; i < config->list.count; i++) {
        if (strcmp(config->list.items[i].table->name, name) == 0)
            return config->list.items[i].value;
    }
    return NULL;
}

/*
 * Every position but the two special ones is chosen with probability p. Eight standard deviations
 * are out of reach (1e-15); small batches take all positions there are.
 */
int64_t step_mlm_rows(const struct objectives_config *config, int64_t batch, int64_t max_text_len)
{
    const struct mlm_config *mlm = objectives_find(config, "mlm");
    if (!mlm) return 0;
    double positions = (double)(batch * (max_text_len - 2));
    double mean = positions * mlm->probability;
    /* Whole words are chosen together: count them as groups of four. */
    double group = mlm->whole_word ? 4 : 1;
    double rows = ceil(mean + 8 * sqrt(group * mean * (1 - mlm->probability)) + 4 * group);
    return rows < positions ? (int64_t)rows : (int64_t)positions;
}

struct tensor *step_normalize(struct step *step, struct tensor *pixels)
{
    return op_normalize_pixels(step->graph, pixels, pixel_mean, pixel_std, step->model.dtype);
}

struct tensor *step_pixels(struct step *step)
{
    if (step->verify) return op_cast(step->graph, step->pixels, step->model.dtype);
    return step_normalize(step, step->pixels);
}

struct tensor *step_image(struct step *step)
{
    return model_image_prefix(&step->model, step->graph, step_pixels(step));
}

struct model_text step_text(struct step *step, struct tensor *ids)
{
    return model_text_prefix(&step->model, step->graph, ids, step->mask);
}

void step_term_add(struct step *step, const char *name, double weight, struct tensor *loss)
{
    if (!loss) return;
    step->terms[step->num_terms++] =
        (struct step_term){.name = name, .weight = weight, .loss = loss};
    char output[64];
    snprintf(output, sizeof output, "loss/%s", name);
    if (!step->parameters_only) graph_output(step->graph, output, loss);
    struct tensor *term = weight == 1 ? loss : op_scale(step->graph, loss, (float)weight);
    step->loss = step->loss ? op_add(step->graph, step->loss, term) : term;
}

void step_metric_add(struct step *step, const char *name, struct tensor *sum, struct tensor *weight,
                     double count)
{
    if (!sum || step->parameters_only) return;
    step->metrics[step->num_metrics++] =
        (struct step_metric){.name = name, .sum = sum, .weight = weight, .count = count};
    char output[64];
    snprintf(output, sizeof output, "metric/%s", name);
    graph_output(step->graph, output, sum);
    snprintf(output, sizeof output, "weight/%s", name);
    if (weight) graph_output(step->graph, output, weight);
}

void step_bound_add(struct step *step, const char *parameter, float low, float high)
{
    step->bounds[step->num_bounds++] =
        (struct step_bound){.parameter = parameter, .low = low, .high = high};
}

static void record_inputs(struct step *step, const struct objectives_config *config)
{
    struct graph *g = step->graph;
    const struct model_facts *facts = &step->model.facts;
    int64_t b = step->batch;
    int64_t s = facts->image_size;
    struct shape text = SHAPE(b, facts->max_text_len);
    step->pixels = step->verify ? graph_input(g, "pixels", DTYPE_F32, SHAPE(b, 3, s, s))
                                : graph_input(g, "pixels", DTYPE_U8, SHAPE(b, s, s, 3));
    step->ids = graph_input(g, "ids", DTYPE_I32, text);
    step->mask = graph_input(g, "mask", DTYPE_I32, text);
    if (objectives_find(config, "mlm")) {
        int64_t rows =
            step->verify ? b * facts->max_text_len : step_mlm_rows(config, b, facts->max_text_len);
        step->mlm_ids = graph_input(g, "mlm_ids", DTYPE_I32, text);
        step->mlm_index = graph_input(g, "mlm_index", DTYPE_I32, SHAPE(rows));
        step->mlm_targets = graph_input(g, "mlm_targets", DTYPE_I32, SHAPE(rows));
        step->mlm_weights = graph_input(g, "mlm_weights", DTYPE_F32, SHAPE(rows));
    }
    const struct itc_config *itc = objectives_find(config, "itc");
    if (itc && itc->mode == ITC_FIBER && itc->queue > 0) {
        struct shape queue = SHAPE(itc->queue, facts->hidden);
        step->image_queue = graph_input(g, "image_queue", DTYPE_F32, queue);
        step->text_queue = graph_input(g, "text_queue", DTYPE_F32, queue);
        step->queue_bias = graph_input(g, "queue_bias", DTYPE_F32, SHAPE(itc->queue));
        step->queue_empty = graph_input(g, "queue_empty", DTYPE_F32, SHAPE(itc->queue));
    }
    if (step->verify && objectives_find(config, "itm")) {
        step->negative_image = graph_input(g, "negative_image", DTYPE_I32, SHAPE(b));
        step->negative_text = graph_input(g, "negative_text", DTYPE_I32, SHAPE(b));
    }
}

/* The fused pass with the original text, every block kept. Recorded first: what objectives record
 * later are the same nodes. */
static void record_trace(struct step *step)
{
    struct graph *g = step->graph;
    step->model.trace = "trace_fused";
    struct tensor *image = step_image(step);
    struct model_text text = step_text(step, step->ids);
    struct model_pair pair = model_fuse(&step->model, g, image, &text);
    step->model.trace = NULL;
    graph_output(g, "out/fused_text_feats", pair.text);
    graph_output(g, "out/fused_image_feats", pair.image);
    graph_output(g, "out/fused_cls", pair.cls);
}

enum status step_init(struct step *step, const struct step_options *options)
{
    *step = (struct step){.batch = options->batch,
                          .world_size = options->world_size,
                          .verify = options->verify,
                          .parameters_only = options->parameters_only,
                          .share = options->config->share};
    TRY(model_init(&step->model, &options->model, options->batch));
    step->model.dtype = options->dtype;
    step->model.training = options->training;
    TRY(graph_create(&step->graph, &(struct graph_options){.world_size = options->world_size}));
    struct graph *g = step->graph;
    record_inputs(step, options->config);
    if (step->verify) record_trace(step);
    for (int64_t i = 0; i < options->config->list.count; i++) {
        const struct config_variant *choice = &options->config->list.items[i];
        if (!step->share) graph_random_scope(g, choice->table->name);
        for (int k = 0; k < NUM_OBJECTIVES; k++) {
            if (objectives[k]->table == choice->table) objectives[k]->record(step, choice->value);
        }
        graph_random_scope(g, "");
    }
    enum status status = graph_status(g);
    if (status == STATUS_OK && !step->parameters_only) {
        graph_output(g, "loss", step->loss);
        if (options->training || options->verify) status = graph_differentiate(g, step->loss);
    }
    if (status != STATUS_OK) step_fini(step);
    return status;
}

void step_fini(struct step *step)
{
    graph_destroy(&step->graph);
}
