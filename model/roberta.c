/* Shapes: B texts, L tokens, D hidden, T image tokens. */
#include "model/roberta.h"

#define ROBERTA_EPS 1e-5f

static struct init init_of(const struct roberta *roberta)
{
    return INIT(INIT_NORMAL, roberta->init_std);
}

struct tensor *roberta_embed(struct graph *g, const struct roberta *roberta, struct tensor *ids,
                             enum dtype dtype)
{
    const struct init init = init_of(roberta);
    int64_t width = roberta->hidden;
    graph_push(g, "embeddings");
    struct tensor *words =
        graph_parameter(g, "word_embeddings.weight", SHAPE(roberta->vocab, width), init);
    struct tensor *places =
        graph_parameter(g, "position_embeddings.weight", SHAPE(roberta->positions, width), init);
    struct tensor *type = graph_parameter(g, "token_type_embeddings.weight", SHAPE(1, width), init);
    struct tensor *position = op_position_ids(g, ids, roberta->padding);
    struct tensor *x = op_embedding(g, words, ids, roberta->padding, dtype);
    struct tensor *y = op_embedding(g, places, position, roberta->padding, dtype);
    x = op_bias(g, x, op_reshape(g, type, SHAPE(width)));
    x = layer_add_norm(g, "LayerNorm", x, y, ROBERTA_EPS, NULL);
    x = op_dropout(g, x, roberta->dropout, roberta->samples, "dropout");
    graph_pop(g);
    return x;
}

/* Attention of queries from x to keys and values from `source`, under the module `self`. */
static struct tensor *attend(struct graph *g, const struct roberta *roberta, struct tensor *x,
                             struct tensor *source, struct tensor *mask)
{
    int64_t width = roberta->hidden;
    const struct layer_linear plain = {.init = init_of(roberta)};
    const struct attention_options options = {
        .heads = roberta->heads, .dropout = roberta->dropout, .samples = roberta->samples};
    graph_push(g, "self");
    struct tensor *q = layer_linear(g, "query", x, width, &plain);
    struct tensor *k = layer_linear(g, "key", source, width, &plain);
    struct tensor *v = layer_linear(g, "value", source, width, &plain);
    struct tensor *y = op_attention(g, q, k, v, mask, &options);
    graph_pop(g);
    y = layer_linear(g, "output.dense", y, width, &plain);
    return op_dropout(g, y, roberta->dropout, roberta->samples, "output.dropout");
}

/* FIBER's text-to-image attention: s + alpha_t2i * attention(query = s, image). */
static struct tensor *attend_to_image(struct graph *g, const struct roberta *roberta,
                                      struct tensor *s, struct tensor *image)
{
    struct tensor *alpha =
        graph_parameter(g, "alpha_t2i", SHAPE(1), INIT(INIT_CONSTANT, roberta->gate_init));
    graph_push(g, "crossattention_t2i");
    struct tensor *c = attend(g, roberta, s, image, NULL);
    graph_push(g, "output.LayerNorm");
    layer_dead_parameter(g, "weight", SHAPE(roberta->hidden), INIT(INIT_ONES, 0));
    layer_dead_parameter(g, "bias", SHAPE(roberta->hidden), INIT(INIT_ZEROS, 0));
    graph_pop(g);
    graph_pop(g);
    return op_add_gated(g, s, c, alpha);
}

struct tensor *roberta_layer(struct graph *g, const struct roberta *roberta, int64_t index,
                             struct tensor *x, const struct roberta_layer *options)
{
    graph_push(g, "encoder.layer.%lld", (long long)index);
    graph_block_begin(g, graph_path(g));
    graph_push(g, "attention");
    struct tensor *s = attend(g, roberta, x, x, options->mask);
    graph_pop(g);
    if (options->image) s = attend_to_image(g, roberta, s, options->image);
    struct tensor *u = layer_add_norm(g, "attention.output.LayerNorm", s, x, ROBERTA_EPS, NULL);
    const struct layer_linear plain = {.init = init_of(roberta)};
    const struct layer_linear gelu = {.init = init_of(roberta), .gelu = true};
    struct tensor *f = layer_linear(g, "intermediate.dense", u, roberta->ffn, &gelu);
    f = layer_linear(g, "output.dense", f, roberta->hidden, &plain);
    f = op_dropout(g, f, roberta->dropout, roberta->samples, "output.dropout");
    struct tensor *y = options->no_last_norm
                           ? op_add(g, f, u)
                           : layer_add_norm(g, "output.LayerNorm", f, u, ROBERTA_EPS, NULL);
    graph_block_end(g);
    graph_pop(g);
    return y;
}

void roberta_dead_parameters(struct graph *g, const struct roberta *roberta, int64_t num_fuse)
{
    int64_t width = roberta->hidden;
    for (int64_t i = 0; i < roberta->layers - num_fuse; i++) {
        graph_push(g, "encoder.layer.%lld", (long long)i);
        layer_dead_parameter(g, "alpha_t2i", SHAPE(1), INIT(INIT_ZEROS, 0));
        graph_pop(g);
    }
    graph_push(g, "pooler.dense");
    layer_dead_parameter(g, "weight", SHAPE(width, width), init_of(roberta));
    layer_dead_parameter(g, "bias", SHAPE(width), INIT(INIT_ZEROS, 0));
    graph_pop(g);
}
