/*
 * Image-text contrastive learning (Radford et al., ICML 2021; Li et al., "Align before Fuse",
 * NeurIPS 2021): cosine similarities of dual features over a learned temperature, cross-entropy
 * both ways against the own pair.
 *
 *   gathered  candidates are the features of all ranks, with their gradient (which the public code
 *             leaves out: its candidates are detached on both sides);
 *   fiber     as FIBER's public code: candidates are this rank's detached features and a queue of
 *             earlier ones. What a rank sees then depends on the rank count.
 */
#include "objectives/objective.h"

static const char *const itc_modes[] = {"gathered", "fiber", NULL};

static const struct config_option itc_options[] = {
    OBJECTIVE_WEIGHT(struct itc_config),
    CONFIG_ENUM(struct itc_config, mode, itc_modes, .def = "gathered",
                .help = "gathered: against all ranks' features, with gradients; fiber: against own "
                        "detached features and a queue."),
    CONFIG_DOUBLE(struct itc_config, temperature, .def = "0.07", .range = "[0.001, 1]",
                  .help = "Initial temperature; learned, and kept in [0.001, 1]."),
    CONFIG_INT(struct itc_config, queue, .def = "4096", .range = "[0, 10000000]", .unit = "samples",
               .only_if = "mode=fiber",
               .help = "Features of earlier samples that serve as candidates."),
    CONFIG_BOOL(struct itc_config, mask_unfilled, .def = "true", .only_if = "mode=fiber",
                .help = "Leave out columns of the queue that nothing was written to yet; false "
                        "trains against their random start, as the public code does."),
};
extern const struct config_table itc_table;
const struct config_table itc_table = {CONFIG_TABLE(struct itc_config, itc_options), .name = "itc",
                                       .help = "Image-text contrastive learning."};

/* Similarities [B,M] of own features and candidates of the other modality. */
static struct tensor *similarities(struct step *step, const struct itc_config *itc,
                                   struct tensor *own, struct tensor *other, struct tensor *queue,
                                   struct tensor *inverse)
{
    struct graph *g = step->graph;
    struct tensor *candidates;
    if (itc->mode == ITC_GATHERED) {
        candidates = op_all_gather(g, other);
    } else {
        candidates = op_stop_gradient(g, other);
        if (queue) candidates = op_concat(g, (struct tensor *[]){candidates, queue}, 2, 0);
    }
    struct tensor *s = op_scale_by(g, op_matmul(g, own, candidates, false, true), inverse);
    if (step->queue_bias) {
        struct tensor *own_bias = op_fill(g, DTYPE_F32, SHAPE(step->batch), 0.0f);
        s = op_bias(g, s, op_concat(g, (struct tensor *[]){own_bias, step->queue_bias}, 2, 0));
    }
    return s;
}

static struct tensor *cross_entropy(struct step *step, struct tensor *s, const char *metric)
{
    struct graph *g = step->graph;
    struct tensor *correct = NULL;
    struct tensor *targets = op_row_numbers(g, step->batch, step->columns_of_all_ranks);
    struct tensor *loss = op_mean(g, op_cross_entropy(g, s, targets, -100, &correct), 0, 1);
    if (correct) step_metric_add(step, metric, op_sum(g, correct, 0, 1), NULL, (double)step->batch);
    return loss;
}

static void itc_record(struct step *step, const void *config)
{
    const struct itc_config *itc = config;
    struct graph *g = step->graph;
    struct model_text text = step_text(step, step->ids);
    struct tensor *image = model_image_feature(&step->model, g, step_image(step));
    struct tensor *words = model_text_feature(&step->model, g, &text);
    struct tensor *temp = graph_parameter_named(g, "temp", SHAPE_SCALAR,
                                                INIT(INIT_CONSTANT, (float)itc->temperature));
    step_bound_add(step, "temp", 0.001f, 1.0f);
    struct tensor *inverse = op_reciprocal(g, temp);
    step->columns_of_all_ranks = itc->mode == ITC_GATHERED;
    step->image_to_text = similarities(step, itc, image, words, step->text_queue, inverse);
    step->text_to_image = similarities(step, itc, words, image, step->image_queue, inverse);
    if (!step->image_to_text || !step->text_to_image) return;
    step->image_feature = image;
    step->text_feature = words;
    if (step->verify || step->queue_bias) {
        graph_output(g, "out/dual_image", image);
        graph_output(g, "out/dual_text", words);
    }
    step_metric_add(step, "itc/temperature", op_scale(g, temp, 1.0f), NULL, 1);
    struct tensor *i2t = cross_entropy(step, step->image_to_text, "itc/image_to_text_r1");
    struct tensor *t2i = cross_entropy(step, step->text_to_image, "itc/text_to_image_r1");
    step_term_add(step, "itc", itc->weight, op_combine(g, i2t, 0.5f, t2i, 0.5f));
}

const struct objective itc_objective = {.table = &itc_table, .record = itc_record};
