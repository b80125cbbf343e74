#include "model/heads.h"

#include <string.h>

#define MLM_EPS 1e-12f

struct tensor *head_pooler(struct graph *g, const char *name, struct tensor *x, float std)
{
    const struct layer_linear plain = {.init = INIT(INIT_NORMAL, std)};
    graph_push(g, "%s", name);
    struct tensor *y = op_tanh(g, layer_linear(g, "dense", x, layer_width(x), &plain));
    graph_pop(g);
    return y;
}

struct tensor *head_mlm(struct graph *g, struct tensor *x, int64_t vocab, float std)
{
    if (!x) return NULL;
    const struct layer_linear gelu = {.init = INIT(INIT_NORMAL, std), .gelu = true};
    int64_t width = layer_width(x);
    graph_push(g, "mlm_score");
    graph_push(g, "transform");
    x = layer_linear(g, "dense", x, width, &gelu);
    x = layer_norm(g, "LayerNorm", x, MLM_EPS);
    graph_pop(g);
    struct tensor *w =
        graph_parameter(g, "decoder.weight", SHAPE(vocab, width), INIT(INIT_NORMAL, std));
    struct tensor *b = graph_parameter(g, "bias", SHAPE(vocab), INIT(INIT_ZEROS, 0));
    x = op_linear(g, x, w, b);
    graph_pop(g);
    return x;
}

struct tensor *head_itm(struct graph *g, struct tensor *cls, float std)
{
    if (!cls) return NULL;
    const struct layer_linear plain = {.init = INIT(INIT_NORMAL, std)};
    graph_push(g, "rank_output");
    layer_dead_parameter(g, "weight", SHAPE(1, layer_width(cls)), INIT(INIT_NORMAL, std));
    layer_dead_parameter(g, "bias", SHAPE(1), INIT(INIT_ZEROS, 0));
    graph_pop(g);
    graph_push(g, "itm_score");
    struct tensor *y = layer_linear(g, "fc", cls, 2, &plain);
    graph_pop(g);
    return y;
}

bool head_alias(const char *name, const char **source, int64_t *row)
{
    *row = 1;
    if (strcmp(name, "rank_output.weight") == 0)
        *source = "itm_score.fc.weight";
    else if (strcmp(name, "rank_output.bias") == 0)
        *source = "itm_score.fc.bias";
    else
        return false;
    return true;
}
