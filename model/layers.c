#include "model/layers.h"

int64_t layer_width(const struct tensor *x)
{
    return x && x->shape.rank ? x->shape.dim[x->shape.rank - 1] : 0;
}

struct tensor *layer_linear(struct graph *g, const char *name, struct tensor *x, int64_t n,
                            const struct layer_linear *options)
{
    if (!x) return NULL;
    graph_push(g, "%s", name);
    struct tensor *w = graph_parameter(g, "weight", SHAPE(n, layer_width(x)), options->init);
    struct tensor *b =
        options->no_bias ? NULL : graph_parameter(g, "bias", SHAPE(n), INIT(INIT_ZEROS, 0));
    struct tensor *y = options->gelu ? op_linear_gelu(g, x, w, b) : op_linear(g, x, w, b);
    graph_pop(g);
    return y;
}

struct layer_norm_parameters layer_norm_parameters(struct graph *g, const char *name,
                                                   int64_t columns)
{
    graph_push(g, "%s", name);
    struct layer_norm_parameters p = {
        .gain = graph_parameter(g, "weight", SHAPE(columns), INIT(INIT_ONES, 0)),
        .bias = graph_parameter(g, "bias", SHAPE(columns), INIT(INIT_ZEROS, 0)),
    };
    graph_pop(g);
    return p;
}

struct tensor *layer_norm(struct graph *g, const char *name, struct tensor *x, float eps)
{
    if (!x) return NULL;
    struct layer_norm_parameters p = layer_norm_parameters(g, name, layer_width(x));
    return op_layer_norm(g, x, p.gain, p.bias, eps);
}

struct tensor *layer_add_norm(struct graph *g, const char *name, struct tensor *a, struct tensor *b,
                              float eps, struct tensor **sum)
{
    if (!a || !b) return NULL;
    struct layer_norm_parameters p = layer_norm_parameters(g, name, layer_width(a));
    return op_add_layer_norm(g, a, b, p.gain, p.bias, eps, sum);
}

struct tensor *layer_residual(struct graph *g, struct tensor *x, struct tensor *branch, float p,
                              int64_t samples, const char *name)
{
    return p == 0.0f ? op_add(g, x, branch) : op_add_drop_path(g, x, branch, p, samples, name);
}

void layer_dead_parameter(struct graph *g, const char *name, struct shape shape, struct init init)
{
    struct tensor *parameter = graph_parameter(g, name, shape, init);
    if (parameter) graph_parameter_freeze(g, parameter);
}
