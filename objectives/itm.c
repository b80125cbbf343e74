/*
 * Image-text matching with hard negatives (Li et al., "Align before Fuse", NeurIPS 2021, section
 * 3.2; FIBER section 3.2): a fused pass over 3B pairs - the true ones, each image with a wrong
 * text, each text with a wrong image - classified as match or not.
 *
 * Negatives are drawn from the similarities of contrastive learning over all its candidates, the
 * queue included; without it, uniformly over the batch. Only drawn rows travel between ranks: of
 * prefixes when sharing, so that nothing is encoded again, of raw inputs otherwise. What is drawn
 * from the queue is read from the data again by its number, and encoded.
 */
#include "model/heads.h"
#include "objectives/objective.h"

static const struct config_option itm_options[] = {
    OBJECTIVE_WEIGHT(struct itm_config),
    CONFIG_DOUBLE(struct itm_config, hardness, .def = "1", .range = "[0, 10]",
                  .help =
                      "Factor of the similarities that negatives are drawn from: 1 as the public "
                      "code, 0 any other sample alike, which is easier to start with."),
};
extern const struct config_table itm_table;
const struct config_table itm_table = {CONFIG_TABLE(struct itm_config, itm_options), .name = "itm",
                                       .help = "Image-text matching with hard negatives."};

/*
 * The scores that negatives are drawn from: those of contrastive learning, without columns of a
 * queue that nothing was written to; without contrastive learning all alike.
 */
static struct tensor *scores(struct step *step, struct tensor *similarities, double hardness)
{
    struct graph *g = step->graph;
    if (!similarities) {
        return op_fill(g, DTYPE_F32, SHAPE(step->batch, step->batch * step->world_size), 0.0f);
    }
    struct tensor *s = op_stop_gradient(g, similarities);
    if (hardness != 1) s = op_scale(g, s, (float)hardness);
    if (!step->queue_empty) return s;
    struct tensor *own = op_fill(g, DTYPE_F32, SHAPE(step->batch), 0.0f);
    return op_bias(g, s, op_concat(g, (struct tensor *[]){own, step->queue_empty}, 2, 0));
}

static struct tensor *draw(struct step *step, struct tensor *similarities, double hardness,
                           const char *name, struct tensor **entropy)
{
    bool all_ranks = !similarities || step->columns_of_all_ranks;
    return op_draw_negatives(step->graph, scores(step, similarities, hardness), all_ranks, name,
                             entropy);
}

static void draw_negatives(struct step *step, double hardness)
{
    struct graph *g = step->graph;
    if (step->negative_image) return;
    if (step->parameters_only) { /* recorded for its parameters alone, maybe with a single pair */
        step->negative_image = step->negative_text = op_row_numbers(g, step->batch, false);
        return;
    }
    struct tensor *entropy[2] = {NULL, NULL};
    /* Drawn once, so it is the same draw whether or not objectives share. */
    graph_random_scope(g, "");
    graph_push(g, "itm");
    step->negative_image = draw(step, step->text_to_image, hardness, "image", &entropy[0]);
    step->negative_text = draw(step, step->image_to_text, hardness, "text", &entropy[1]);
    graph_pop(g);
    if (!step->share) graph_random_scope(g, itm_table.name);
    if (!entropy[0] || !entropy[1]) return;
    if (!step->parameters_only) {
        graph_output(g, "itm/negative_image", step->negative_image);
        graph_output(g, "itm/negative_text", step->negative_text);
    }
    step_metric_add(step, "itm/negative_entropy",
                    op_sum(g, op_combine(g, entropy[0], 0.5f, entropy[1], 0.5f), 0, 1), NULL,
                    (double)step->batch);
}

/* [own; own; drawn] or [own; drawn; own] along the first dimension. */
static struct tensor *three(struct graph *g, struct tensor *own, struct tensor *drawn, int where)
{
    struct tensor *parts[3] = {own, own, own};
    parts[where] = drawn;
    return op_concat(g, parts, 3, 0);
}

/* What the drawn rows are: inputs or prefixes, whichever is at hand. */
struct drawn {
    struct tensor *pixels; /* normalised [B,3,S,S] */
    struct tensor *ids;    /* i32 [B,L] */
    struct tensor *mask;   /* i32 [B,L] */
};

/* Raw inputs of the drawn rows: from the ranks that hold them, or, where some are in the queue,
 * from the data, as the queue keeps no pixels. */
static struct drawn drawn_inputs(struct step *step)
{
    struct graph *g = step->graph;
    struct drawn d;
    if (step->queue_empty && !step->verify) {
        struct tensor *pixels = op_fetch_rows(g, step->negative_image, step->negative_text,
                                              step->model.facts.image_size,
                                              step->model.facts.max_text_len, &d.ids, &d.mask);
        d.pixels = step_normalize(step, pixels);
        return d;
    }
    d.pixels = op_exchange_rows(g, step_pixels(step), step->negative_image);
    d.ids = op_exchange_rows(g, step->ids, step->negative_text);
    d.mask = op_exchange_rows(g, step->mask, step->negative_text);
    return d;
}

/* Sharing: own prefixes are those of the other objectives, and so are the drawn ones unless they
 * come from the queue. */
static struct model_pair fuse_shared(struct step *step)
{
    struct graph *g = step->graph;
    struct tensor *image = step_image(step);
    struct model_text text = step_text(step, step->ids);
    struct tensor *other_image;
    struct model_text other;
    if (step->queue_empty && !step->verify) {
        struct drawn d = drawn_inputs(step);
        other_image = model_image_prefix(&step->model, g, d.pixels);
        other = model_text_prefix(&step->model, g, d.ids, d.mask);
    } else {
        other_image = op_exchange_rows(g, image, step->negative_image);
        other.tokens = op_exchange_rows(g, text.tokens, step->negative_text);
        other.mask = op_exchange_rows(g, text.mask, step->negative_text);
    }
    text.tokens = three(g, text.tokens, other.tokens, 1);
    text.mask = three(g, text.mask, other.mask, 1);
    return model_fuse(&step->model, g, three(g, image, other_image, 2), &text);
}

static struct model_pair fuse_apart(struct step *step)
{
    struct graph *g = step->graph;
    struct drawn d = drawn_inputs(step);
    struct tensor *pixels = three(g, step_pixels(step), d.pixels, 2);
    struct tensor *ids = three(g, step->ids, d.ids, 1);
    struct tensor *mask = three(g, step->mask, d.mask, 1);
    struct model_text text = model_text_prefix(&step->model, g, ids, mask);
    return model_fuse(&step->model, g, model_image_prefix(&step->model, g, pixels), &text);
}

static void accuracy_add(struct step *step, const char *name, struct tensor *correct, int64_t begin,
                         int64_t end)
{
    struct graph *g = step->graph;
    step_metric_add(step, name, op_sum(g, op_slice(g, correct, 0, begin, end), 0, 1), NULL,
                    (double)(end - begin));
}

static void itm_record(struct step *step, const void *config)
{
    const struct itm_config *itm = config;
    struct graph *g = step->graph;
    int64_t b = step->batch;
    draw_negatives(step, itm->hardness);
    struct model_pair pair = step->share ? fuse_shared(step) : fuse_apart(step);
    struct tensor *logits = head_itm(g, pair.cls, step->model.facts.init_std);
    if (!logits) return;
    if (step->verify) graph_output(g, "out/itm_logits", logits);
    struct tensor *labels[] = {op_fill(g, DTYPE_I32, SHAPE(b), 1.0f),
                               op_fill(g, DTYPE_I32, SHAPE(2 * b), 0.0f)};
    struct tensor *correct = NULL;
    struct tensor *loss = op_cross_entropy(g, logits, op_concat(g, labels, 2, 0), -100, &correct);
    if (!correct) return;
    accuracy_add(step, "itm/accuracy", correct, 0, 3 * b);
    accuracy_add(step, "itm/accuracy_match", correct, 0, b);
    accuracy_add(step, "itm/accuracy_negative", correct, b, 3 * b);
    step_term_add(step, "itm", itm->weight, op_mean(g, loss, 0, 1));
}

const struct objective itm_objective = {.table = &itm_table, .record = itm_record};
