/*
 * Masked language modelling with the picture in view (Devlin et al., NAACL 2019, section 3.1; FIBER
 * section 3.2): a fused pass over masked captions, cross-entropy of the masked tokens.
 *
 * Only masked rows go through the vocabulary-wide head. The loss is the mean over the masked tokens
 * of all ranks; the public code takes each rank's own mean, which depends on the rank count.
 */
#include "model/heads.h"
#include "objectives/objective.h"

static const struct config_option mlm_options[] = {
    OBJECTIVE_WEIGHT(struct mlm_config),
    CONFIG_DOUBLE(struct mlm_config, probability, .def = "0.15", .range = "(0, 1)",
                  .help =
                      "Share of tokens that are predicted: 80 % masked, 10 % random, 10 % kept."),
    CONFIG_BOOL(struct mlm_config, whole_word, .def = "false",
                .help = "Mask all tokens of a word together."),
};
extern const struct config_table mlm_table;
const struct config_table mlm_table = {CONFIG_TABLE(struct mlm_config, mlm_options), .name = "mlm",
                                       .help = "Masked language modelling."};

static void mlm_record(struct step *step, const void *config)
{
    const struct mlm_config *mlm = config;
    struct graph *g = step->graph;
    int64_t width = step->model.facts.hidden;
    struct tensor *image = step_image(step);
    struct model_text text = step_text(step, step->mlm_ids);
    struct model_pair pair = model_fuse(&step->model, g, image, &text);
    if (!pair.text) return;
    struct tensor *rows =
        op_reshape(g, pair.text, SHAPE(step->batch * step->model.facts.max_text_len, width));
    rows = op_gather(g, rows, step->mlm_index);
    struct tensor *logits = head_mlm(g, rows, step->model.facts.vocab, step->model.facts.init_std);
    if (step->verify) {
        graph_output(g, "out/mlm_logits",
                     op_reshape(g, logits,
                                SHAPE(step->batch, step->model.facts.max_text_len,
                                      step->model.facts.vocab)));
    }
    struct tensor *correct = NULL;
    struct tensor *loss = op_cross_entropy(g, logits, step->mlm_targets, -100, &correct);
    loss = op_sum(g, op_mul(g, loss, step->mlm_weights), 0, 1);
    struct tensor *count = op_sum(g, step->mlm_weights, 0, 1);
    struct tensor *all = op_clamp(g, op_all_reduce(g, count), 1.0f, 1e9f);
    struct tensor *hits = op_sum(g, op_mul(g, correct, step->mlm_weights), 0, 1);
    step_metric_add(step, "mlm/accuracy", hits, count, 0);
    loss = op_scale(g, op_mul(g, loss, op_reciprocal(g, all)), (float)step->world_size);
    step_term_add(step, "mlm", mlm->weight, loss);
}

const struct objective mlm_objective = {.table = &mlm_table, .record = mlm_record};
