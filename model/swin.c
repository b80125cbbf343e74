/* Shapes: B images, Y = X tokens a side, C channels of the stage, T = Y * X, L text tokens. */
#include "model/swin.h"

#define SWIN_EPS 1e-5f

static struct init init_of(const struct swin *swin)
{
    return INIT(INIT_TRUNC_NORMAL, swin->init_std);
}

int64_t swin_num_blocks(const struct swin *swin)
{
    int64_t sum = 0;
    for (int s = 0; s < SWIN_STAGES; s++) {
        sum += swin->depths[s];
    }
    return sum;
}

void swin_locate(const struct swin *swin, int64_t block, int64_t *stage, int64_t *index)
{
    for (*stage = 0; *stage < SWIN_STAGES - 1 && block >= swin->depths[*stage]; (*stage)++) {
        block -= swin->depths[*stage];
    }
    *index = block;
}

int64_t swin_width(const struct swin *swin, int64_t stage)
{
    return swin->embed_dim << stage;
}

int64_t swin_resolution(const struct swin *swin, int64_t stage)
{
    return swin->image_size / swin->patch_size >> stage;
}

enum status swin_check(const struct swin *swin, const char **key)
{
    int64_t unit = swin->patch_size << (SWIN_STAGES - 1);
    *key = "image_size";
    CHECK(swin->image_size % unit == 0, STATUS_INVALID,
          "image_size %lld is not a multiple of %lld (patch_size %lld, halved three times)",
          (long long)swin->image_size, (long long)unit, (long long)swin->patch_size);
    for (int s = 0; s < SWIN_STAGES; s++) {
        int64_t side = swin_resolution(swin, s);
        int64_t window = swin->window < side ? swin->window : side;
        *key = "window";
        CHECK(side % window == 0, STATUS_INVALID,
              "window %lld does not divide the %lld tokens a side of stage %d (image_size %lld)",
              (long long)window, (long long)side, s, (long long)swin->image_size);
        *key = "heads";
        CHECK(swin_width(swin, s) % swin->heads[s] == 0, STATUS_INVALID,
              "%lld heads do not divide the %lld channels of stage %d", (long long)swin->heads[s],
              (long long)swin_width(swin, s), s);
    }
    return STATUS_OK;
}

struct tensor *swin_embed(struct graph *g, const struct swin *swin, struct tensor *pixels)
{
    int64_t patch = swin->patch_size;
    int64_t side = swin_resolution(swin, 0);
    graph_push(g, "patch_embed");
    graph_push(g, "proj");
    struct tensor *w =
        graph_parameter(g, "weight", SHAPE(swin->embed_dim, 3, patch, patch), init_of(swin));
    struct tensor *b = graph_parameter(g, "bias", SHAPE(swin->embed_dim), INIT(INIT_ZEROS, 0));
    struct tensor *x = op_patch_embed(g, pixels, w, b);
    graph_pop(g);
    x = layer_norm(g, "norm", x, SWIN_EPS);
    graph_pop(g);
    if (!x) return NULL;
    return op_reshape(g, x, SHAPE(x->shape.dim[0], side, side, swin->embed_dim));
}

/*
 * FIBER's gated image-to-text attention: o + alpha_i2t * proj(attention(query = LN(o), text)). The
 * queries are the outputs of self-attention; a query sees the whole text, so windows do not matter.
 */
static struct tensor *attend_to_text(struct graph *g, const struct swin *swin, int64_t stage,
                                     struct tensor *o, const struct swin_text *text)
{
    if (!o) return NULL;
    int64_t width = swin_width(swin, stage);
    const struct layer_linear plain = {.init = init_of(swin)};
    struct shape grid = o->shape;
    struct tensor *alpha =
        graph_parameter(g, "alpha_i2t", SHAPE(1), INIT(INIT_CONSTANT, swin->gate_init));
    struct tensor *q = layer_norm(g, "norm_i2t_i", o, SWIN_EPS);
    q = layer_linear(g, "qkv_i2t", q, width, &plain);
    q = op_reshape(g, q, SHAPE(grid.dim[0], grid.dim[1] * grid.dim[2], width));
    struct tensor *kv = layer_linear(g, "qkv_text_i2t", text->hidden, 2 * width, &plain);
    const struct attention_options options = {.heads = swin->heads[stage],
                                              .samples = swin->samples};
    struct tensor *c = op_attention_kv(g, q, kv, text->mask, &options);
    c = layer_linear(g, "proj_i2t", c, width, &plain);
    return op_add_gated(g, o, op_reshape(g, c, grid), alpha);
}

static struct tensor *attention(struct graph *g, const struct swin *swin, int64_t stage,
                                int64_t index, struct tensor *h, const struct swin_text *text)
{
    int64_t width = swin_width(swin, stage);
    const struct layer_linear plain = {.init = init_of(swin)};
    int64_t side = swin_resolution(swin, stage);
    int64_t window = swin->window < side ? swin->window : side;
    int64_t shift = index % 2 == 1 && side > window ? window / 2 : 0;
    graph_push(g, "attn");
    struct tensor *qkv = layer_linear(g, "qkv", h, 3 * width, &plain);
    struct tensor *table = graph_parameter(
        g, "relative_position_bias_table",
        SHAPE((2 * window - 1) * (2 * window - 1), swin->heads[stage]), init_of(swin));
    struct tensor *o = op_window_attention(g, qkv, table, swin->heads[stage], window, shift);
    o = layer_linear(g, "proj", o, width, &plain);
    if (text) o = attend_to_text(g, swin, stage, o, text);
    graph_pop(g);
    return o;
}

struct tensor *swin_block(struct graph *g, const struct swin *swin, int64_t block, struct tensor *x,
                          const struct swin_text *text)
{
    int64_t stage;
    int64_t index;
    swin_locate(swin, block, &stage, &index);
    int64_t last = swin_num_blocks(swin) - 1;
    float rate = last > 0 ? swin->drop_path * (float)block / (float)last : 0.0f;
    graph_push(g, "layers.%lld.blocks.%lld", (long long)stage, (long long)index);
    graph_block_begin(g, graph_path(g));
    struct tensor *o = attention(g, swin, stage, index, layer_norm(g, "norm1", x, SWIN_EPS), text);
    struct tensor *h;
    if (rate == 0.0f) {
        h = layer_add_norm(g, "norm2", x, o, SWIN_EPS, &x);
    } else {
        x = layer_residual(g, x, o, rate, swin->samples, "drop_path1");
        h = layer_norm(g, "norm2", x, SWIN_EPS);
    }
    graph_push(g, "mlp");
    const struct layer_linear plain = {.init = init_of(swin)};
    const struct layer_linear gelu = {.init = init_of(swin), .gelu = true};
    h = layer_linear(g, "fc1", h, 4 * layer_width(x), &gelu);
    h = layer_linear(g, "fc2", h, layer_width(x), &plain);
    graph_pop(g);
    x = layer_residual(g, x, h, rate, swin->samples, "drop_path2");
    graph_block_end(g);
    graph_pop(g);
    return x;
}

struct tensor *swin_downsample_after(struct graph *g, const struct swin *swin, int64_t block,
                                     struct tensor *x)
{
    int64_t stage;
    int64_t index;
    swin_locate(swin, block, &stage, &index);
    if (!x || index != swin->depths[stage] - 1 || stage == SWIN_STAGES - 1) return x;
    const struct layer_linear reduction = {.init = init_of(swin), .no_bias = true};
    graph_push(g, "layers.%lld.downsample", (long long)stage);
    x = layer_norm(g, "norm", op_patch_merge(g, x), SWIN_EPS);
    x = layer_linear(g, "reduction", x, swin_width(swin, stage + 1), &reduction);
    graph_pop(g);
    return x;
}
