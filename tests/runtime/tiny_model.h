/*
 * A small network that uses every mechanism of the runtime at once, for tests of graph, plan and
 * executor: an embedding read twice (tied), a windowed and a masked attention, dropout, drop-path,
 * a gated residual, norms with and without a residual, recompute blocks, a head with cross-entropy
 * and gathered features.
 */
#ifndef WEFT_TESTS_RUNTIME_TINY_MODEL_H
#define WEFT_TESTS_RUNTIME_TINY_MODEL_H

#include <string.h>

#include "runtime/backend/executor.h"
#include "runtime/base/rng.h"
#include "runtime/ops/ops.h"

struct tiny_options {
    int64_t batch; /* of one micro-step on one rank */
    int64_t world_size;
    enum dtype dtype;
    float dropout;
};

enum { TINY_GRID = 8, TINY_WIDTH = 32, TINY_VOCAB = 29, TINY_TOKENS = 7 };

struct tiny {
    struct graph *graph;
    struct tensor *pixels;  /* f32 [B,3,16,16] */
    struct tensor *ids;     /* i32 [B,T] */
    struct tensor *mask;    /* i32 [B,T] */
    struct tensor *targets; /* i32 [B*T] */
    struct tensor *loss;
};

static struct tensor *tiny_linear(struct graph *g, const char *name, struct tensor *x, int64_t k,
                                  int64_t n, bool gelu)
{
    graph_push(g, "%s", name);
    struct tensor *w = graph_parameter(g, "weight", SHAPE(n, k), INIT(INIT_TRUNC_NORMAL, 0.15f));
    struct tensor *b = graph_parameter(g, "bias", SHAPE(n), INIT(INIT_NORMAL, 0.02f));
    struct tensor *y = gelu ? op_linear_gelu(g, x, w, b) : op_linear(g, x, w, b);
    graph_pop(g);
    return y;
}

static struct tensor *tiny_norm(struct graph *g, const char *name, struct tensor *x,
                                struct tensor *residual)
{
    graph_push(g, "%s", name);
    int64_t c = x ? x->shape.dim[x->shape.rank - 1] : 1;
    struct tensor *gain = graph_parameter(g, "weight", SHAPE(c), INIT(INIT_ONES, 0));
    struct tensor *bias = graph_parameter(g, "bias", SHAPE(c), INIT(INIT_ZEROS, 0));
    struct tensor *y = residual ? op_add_layer_norm(g, x, residual, gain, bias, 1e-5f, NULL)
                                : op_layer_norm(g, x, gain, bias, 1e-5f);
    graph_pop(g);
    return y;
}

static struct tensor *tiny_image(const struct tiny_options *o, struct graph *g,
                                 struct tensor *pixels)
{
    const int64_t c = TINY_WIDTH;
    struct tensor *w =
        graph_parameter(g, "image.patch.weight", SHAPE(c, 3, 2, 2), INIT(INIT_NORMAL, 0.2f));
    struct tensor *b = graph_parameter(g, "image.patch.bias", SHAPE(c), INIT(INIT_ZEROS, 0));
    struct tensor *x = op_patch_embed(g, op_cast(g, pixels, o->dtype), w, b);
    for (int i = 0; i < 2; i++) {
        graph_block_begin(g, i ? "image.1" : "image.0");
        graph_push(g, "image.block.%d", i);
        struct tensor *h = tiny_norm(g, "norm1", x, NULL);
        h = tiny_linear(g, "qkv", h, c, 3 * c, false);
        struct tensor *table =
            graph_parameter(g, "bias_table", SHAPE(49, 2), INIT(INIT_NORMAL, 0.2f));
        h = op_reshape(g, h, SHAPE(o->batch, TINY_GRID, TINY_GRID, 3 * c));
        h = op_window_attention(g, h, table, 2, 4, i ? 2 : 0);
        h = op_reshape(g, h, SHAPE(o->batch, TINY_GRID * TINY_GRID, c));
        h = tiny_linear(g, "proj", h, c, c, false);
        x = op_add_drop_path(g, x, h, o->dropout * 0.5f, o->batch, "path1");
        h = tiny_linear(g, "fc1", tiny_norm(g, "norm2", x, NULL), c, 2 * c, true);
        x = op_add_drop_path(g, x, tiny_linear(g, "fc2", h, 2 * c, c, false), o->dropout * 0.5f,
                             o->batch, "path2");
        graph_pop(g);
        graph_block_end(g);
    }
    return x;
}

static struct tensor *tiny_text(const struct tiny_options *o, struct graph *g, struct tensor *table,
                                struct tensor *ids, struct tensor *mask, struct tensor *image)
{
    const int64_t c = TINY_WIDTH;
    struct tensor *x = op_embedding(g, table, ids, 1, o->dtype);
    x = op_dropout(g, tiny_norm(g, "text.norm", x, NULL), o->dropout, o->batch, "embed");
    graph_block_begin(g, "text");
    graph_push(g, "text");
    struct attention_options options = {.heads = 2, .dropout = o->dropout};
    struct tensor *s =
        op_attention(g, tiny_linear(g, "q", x, c, c, false), tiny_linear(g, "k", x, c, c, false),
                     tiny_linear(g, "v", x, c, c, false), mask, &options);
    struct tensor *kv = tiny_linear(g, "kv", image, c, 2 * c, false);
    struct tensor *cross = op_attention_kv(g, tiny_linear(g, "cq", s, c, c, false), kv, NULL,
                                           &(struct attention_options){.heads = 2});
    struct tensor *alpha = graph_parameter(g, "alpha", SHAPE(1), INIT(INIT_CONSTANT, 0.3f));
    s = op_add_gated(g, s, cross, alpha);
    x = tiny_norm(g, "norm1", s, x);
    struct tensor *h = tiny_linear(g, "fc1", x, c, 2 * c, true);
    x = tiny_norm(g, "norm2", tiny_linear(g, "fc2", h, 2 * c, c, false), x);
    graph_pop(g);
    graph_block_end(g);
    return x;
}

/* Mean cross-entropy of the text tokens plus a contrastive term over the gathered batch. */
static void tiny_build(struct tiny *t, const struct tiny_options *o)
{
    const int64_t c = TINY_WIDTH;
    graph_create(&t->graph, &(struct graph_options){.world_size = o->world_size});
    struct graph *g = t->graph;
    t->pixels = graph_input(g, "pixels", DTYPE_F32, SHAPE(o->batch, 3, 16, 16));
    t->ids = graph_input(g, "ids", DTYPE_I32, SHAPE(o->batch, TINY_TOKENS));
    t->mask = graph_input(g, "mask", DTYPE_I32, SHAPE(o->batch, TINY_TOKENS));
    t->targets = graph_input(g, "targets", DTYPE_I32, SHAPE(o->batch * TINY_TOKENS));
    struct tensor *table =
        graph_parameter(g, "embed.weight", SHAPE(TINY_VOCAB, c), INIT(INIT_NORMAL, 0.3f));
    struct tensor *image = tiny_image(o, g, t->pixels);
    struct tensor *text = tiny_text(o, g, table, t->ids, t->mask, image);

    struct tensor *rows = op_reshape(g, text, SHAPE(o->batch * TINY_TOKENS, c));
    struct tensor *logits = op_linear(g, rows, table, NULL); /* tied to the embedding */
    struct tensor *each = op_cross_entropy(g, logits, t->targets, -100, NULL);
    struct tensor *mlm = op_mean(g, each, 0, 1);

    struct tensor *image_feature = op_l2_normalize(g, op_mean(g, image, 1, 2), 1e-6f);
    struct tensor *text_feature =
        op_l2_normalize(g, op_reshape(g, op_slice(g, text, 1, 0, 1), SHAPE(o->batch, c)), 1e-6f);
    struct tensor *scores =
        op_matmul(g, op_cast(g, image_feature, DTYPE_F32),
                  op_cast(g, op_all_gather(g, text_feature), DTYPE_F32), false, true);
    struct tensor *contrast = op_mean(g, op_log_softmax(g, op_scale(g, scores, 5.0f)), 0, 2);
    t->loss = op_combine(g, mlm, 1.0f, contrast, -0.1f);
    graph_output(g, "loss", t->loss);
}

/* The data of global samples [first, first + batch): a function of the index alone. */
static void tiny_fill(struct tiny *t, struct executor *e, int64_t first)
{
    int64_t batch = t->ids->shape.dim[0];
    float *pixels = executor_data(e, t->pixels);
    int32_t *ids = executor_data(e, t->ids);
    int32_t *mask = executor_data(e, t->mask);
    int32_t *targets = executor_data(e, t->targets);
    for (int64_t b = 0; b < batch; b++) {
        uint64_t sample = (uint64_t)(first + b);
        struct rng_key key = rng_key(5, RNG_TEST, 0);
        rng_fill_normal(key, 0, sample, pixels + b * 768, 768);
        for (int64_t i = 0; i < TINY_TOKENS; i++) {
            struct rng_block r = rng_at(key, 1, sample, (uint32_t)i);
            int64_t at = b * TINY_TOKENS + i;
            ids[at] = 2 + (int32_t)rng_below(r.word[0], TINY_VOCAB - 2);
            mask[at] = i < 3 || r.word[1] % 3 != 0;
            if (!mask[at]) ids[at] = 1;
            targets[at] = ids[at] * 3 % TINY_VOCAB;
        }
    }
}

#endif
