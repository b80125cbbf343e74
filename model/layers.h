/*
 * Layers with parameters that every family is built from. Each enters its own module, so `name`
 * becomes part of the reference's dotted parameter names.
 */
#ifndef WEFT_MODEL_LAYERS_H
#define WEFT_MODEL_LAYERS_H

#include "runtime/ops/ops.h"

/* name.weight [N,K] and name.bias [N] (absent without `bias`): x [...,K] -> [...,N]. */
struct layer_linear {
    struct init init; /* of the weight; the bias starts at zero */
    bool no_bias;
    bool gelu; /* exact GELU on the result */
};
struct tensor *layer_linear(struct graph *g, const char *name, struct tensor *x, int64_t n,
                            const struct layer_linear *options);

/* The gain and bias of a LayerNorm called `name`, f32 [columns]. */
struct layer_norm_parameters {
    struct tensor *gain;
    struct tensor *bias;
};
struct layer_norm_parameters layer_norm_parameters(struct graph *g, const char *name,
                                                   int64_t columns);

/* name.weight, name.bias [C]: LayerNorm over the last dimension. */
struct tensor *layer_norm(struct graph *g, const char *name, struct tensor *x, float eps);

/* The same of a + b; *sum, unless NULL, receives a + b. */
struct tensor *layer_add_norm(struct graph *g, const char *name, struct tensor *a, struct tensor *b,
                              float eps, struct tensor **sum);

/* x + drop_path(branch): plain addition at rate 0. `samples`: see op_dropout. */
struct tensor *layer_residual(struct graph *g, struct tensor *x, struct tensor *branch, float p,
                              int64_t samples, const char *name);

/* Registers a parameter that the reference stores and no forward pass reads. */
void layer_dead_parameter(struct graph *g, const char *name, struct shape shape, struct init init);

/* The last dimension. 0 for NULL. */
int64_t layer_width(const struct tensor *x);

#endif
