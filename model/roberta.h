/*
 * RoBERTa's text encoder (Liu et al., 2019) as FIBER changes it: an optional gated text-to-image
 * attention between self-attention and its residual. Parameter names are those of the public code.
 */
#ifndef WEFT_MODEL_ROBERTA_H
#define WEFT_MODEL_ROBERTA_H

#include "model/layers.h"

struct roberta {
    int64_t layers;
    int64_t hidden; /* D */
    int64_t heads;
    int64_t ffn;
    int64_t vocab;
    int64_t positions; /* rows of the position table: longest text + padding id + 1 */
    int64_t padding;   /* id of the padding token */
    float init_std;    /* of matrices and tables: normal */
    float dropout;     /* hidden states and attention probabilities */
    float gate_init;   /* of alpha_t2i */
    int64_t samples;   /* see op_dropout */
};

/* ids i32 [B,L] -> [B,L,D] in `dtype`. Under the module `embeddings`. */
struct tensor *roberta_embed(struct graph *g, const struct roberta *roberta, struct tensor *ids,
                             enum dtype dtype);

struct roberta_layer {
    struct tensor *mask;  /* i32 [B,L], 1 = token */
    struct tensor *image; /* tokens [B,T,C] to attend to; NULL: text alone */
    bool no_last_norm;    /* leave out output.LayerNorm */
};

/* Layer `index` of x [B,L,D]. Under the module `encoder.layer.INDEX`. */
struct tensor *roberta_layer(struct graph *g, const struct roberta *roberta, int64_t index,
                             struct tensor *x, const struct roberta_layer *options);

/* Names that the reference stores without using them: the pooler, and the gates of layers that are
 * not among the last `num_fuse`. */
void roberta_dead_parameters(struct graph *g, const struct roberta *roberta, int64_t num_fuse);

#endif
