/*
 * Pairing, by the general rule that gives FIBER-Base exactly: enumerate the Swin blocks of stages 2
 * and 3, take the last K, and pair them in order with the last K text layers. Both members of a
 * pair read the other's input, so a pair is recorded from values before either is updated. Patch
 * merging between two fused blocks changes the image side alone.
 *
 * Norms at the top differ by mode, as in the public code: towers run alone end with vit_model.norm
 * and the last layer's LayerNorm; fused, the image skips the former and the last text layer skips
 * the latter.
 *
 * Shapes: B samples, Y = X tokens a side, C channels, L text tokens, D hidden.
 */
#include "model/fiber.h"

#include <stdio.h>

#include "model/heads.h"
#include "model/roberta.h"
#include "model/swin.h"

enum { PADDING_ID = 1 };

#define POSITIVE .range = "[1, 65536]"

static const struct config_option fiber_options[] = {
    CONFIG_INT(struct fiber_config, image_size, .def = "384", POSITIVE, .unit = "pixels",
               .help = "Side of the square input picture."),
    CONFIG_INT(struct fiber_config, patch_size, .def = "4", .range = "[1, 64]", .unit = "pixels",
               .help = "Side of the patch that becomes one token."),
    CONFIG_INT(struct fiber_config, embed_dim, .def = "128", POSITIVE,
               .help = "Channels of the first Swin stage; they double from stage to stage."),
    CONFIG_INTS(struct fiber_config, depths, .def = "[2, 2, 18, 2]", .range = "[1, 1000]",
                .length = "[4, 4]", .help = "Blocks of each Swin stage."),
    CONFIG_INTS(struct fiber_config, heads, .def = "[4, 8, 16, 32]", .range = "[1, 1024]",
                .length = "[4, 4]", .help = "Attention heads of each Swin stage."),
    CONFIG_INT(struct fiber_config, window, .def = "0", .range = "[0, 1024]", .unit = "tokens",
               .help = "Side of an attention window; 0: image_size / 32."),
    CONFIG_INT(struct fiber_config, text_layers, .def = "12", .range = "[1, 1000]",
               .help = "Layers of the text encoder."),
    CONFIG_INT(struct fiber_config, hidden, .def = "768", POSITIVE,
               .help = "Width of the text encoder and of the joint space."),
    CONFIG_INT(struct fiber_config, text_heads, .def = "12", .range = "[1, 1024]",
               .help = "Attention heads of the text encoder."),
    CONFIG_INT(struct fiber_config, ffn, .def = "3072", .range = "[1, 1048576]",
               .help = "Width inside the text encoder's feed-forward layers."),
    CONFIG_INT(struct fiber_config, vocab, .def = "50265", .range = "[5, 100000000]",
               .help = "Rows of the word table: at least the tokens of the tokenizer."),
    CONFIG_INT(struct fiber_config, max_text_len, .def = "40", .range = "[3, 65536]",
               .unit = "tokens", .help = "Length that texts are cut and padded to."),
    CONFIG_INT(struct fiber_config, positions, .def = "514", .range = "[5, 65538]",
               .help = "Rows of the position table: at least max_text_len + 2."),
    CONFIG_INT(struct fiber_config, num_fuse, .def = "6", .range = "[0, 1000]",
               .help = "How many top pairs of blocks attend to each other."),
    CONFIG_DOUBLE(struct fiber_config, dropout, .def = "0.1", .range = "[0, 1)",
                  .help = "Rate in the text encoder: hidden states and attention."),
    CONFIG_DOUBLE(struct fiber_config, init_std, .def = "0.02", .range = "(0, 1]",
                  .help = "Standard deviation that matrices start with; narrow models need more, "
                          "about 1 / sqrt(hidden)."),
    CONFIG_DOUBLE(struct fiber_config, gate_init, .def = "0", .range = "[0, 1]",
                  .help = "What the gates of the fusion start at. 0, as published, keeps what "
                          "pre-trained towers know; towers that start from nothing get hardly a "
                          "gradient from each other through closed gates, and want 1."),
    CONFIG_DOUBLE(struct fiber_config, drop_path, .def = "0.1", .range = "[0, 1)",
                  .help = "Rate of stochastic depth at the last Swin block; 0 at the first."),
};

static struct swin swin_of(const struct model *model)
{
    const struct fiber_config *c = model->config;
    struct swin swin = {
        .image_size = c->image_size,
        .patch_size = c->patch_size,
        .embed_dim = c->embed_dim,
        .window = c->window ? c->window : c->image_size / 32,
        .init_std = (float)c->init_std,
        .gate_init = (float)c->gate_init,
        .drop_path = model->training ? (float)c->drop_path : 0.0f,
        .samples = model->samples,
    };
    for (int s = 0; s < SWIN_STAGES; s++) {
        swin.depths[s] = c->depths.items[s];
        swin.heads[s] = c->heads.items[s];
    }
    return swin;
}

struct swin fiber_swin(const struct fiber_config *config)
{
    const struct model model = {.config = config};
    return swin_of(&model);
}

static struct roberta roberta_of(const struct model *model)
{
    const struct fiber_config *c = model->config;
    return (struct roberta){
        .layers = c->text_layers,
        .hidden = c->hidden,
        .heads = c->text_heads,
        .ffn = c->ffn,
        .vocab = c->vocab,
        .positions = c->positions,
        .padding = PADDING_ID,
        .init_std = (float)c->init_std,
        .gate_init = (float)c->gate_init,
        .dropout = model->training ? (float)c->dropout : 0.0f,
        .samples = model->samples,
    };
}

/* Whether the sizes fit together; *key receives the option to blame. */
static enum status check_sizes(const struct fiber_config *c, const char **key)
{
    struct swin swin = fiber_swin(c);
    *key = "window";
    CHECK(swin.window >= 1, STATUS_INVALID,
          "image_size %lld is below 32, so its window is empty; set model.window",
          (long long)c->image_size);
    TRY(swin_check(&swin, key));
    int64_t blocks = c->depths.items[2] + c->depths.items[3];
    *key = "num_fuse";
    CHECK(c->num_fuse <= c->text_layers && c->num_fuse <= blocks, STATUS_INVALID,
          "num_fuse %lld is more than the %lld text layers or the %lld blocks of the last two Swin "
          "stages",
          (long long)c->num_fuse, (long long)c->text_layers, (long long)blocks);
    *key = "positions";
    CHECK(c->positions >= c->max_text_len + PADDING_ID + 1, STATUS_INVALID,
          "positions %lld is too few for texts of %lld tokens; it takes max_text_len + 2",
          (long long)c->positions, (long long)c->max_text_len);
    *key = "text_heads";
    CHECK(c->hidden % c->text_heads == 0, STATUS_INVALID,
          "text_heads %lld does not divide hidden %lld", (long long)c->text_heads,
          (long long)c->hidden);
    return STATUS_OK;
}

static enum status fiber_check(const void *config, struct model_facts *facts)
{
    const struct fiber_config *c = config;
    const char *key;
    enum status status = check_sizes(c, &key);
    if (status != STATUS_OK) return status_prefix(status, "model");
    *facts = (struct model_facts){.image_size = c->image_size,
                                  .max_text_len = c->max_text_len,
                                  .vocab = c->vocab,
                                  .hidden = c->hidden,
                                  .padding = PADDING_ID,
                                  .init_std = (float)c->init_std};
    return STATUS_OK;
}

static enum status check_section(const void *value, const struct config_section *section)
{
    const char *key;
    if (check_sizes(value, &key) == STATUS_OK) return STATUS_OK;
    char message[512];
    snprintf(message, sizeof message, "%s", status_message());
    return config_refuse(section, key, "%s", message);
}

const struct config_table fiber_table = {
    CONFIG_TABLE(struct fiber_config, fiber_options), .name = "fiber", .check = check_section,
    .help = "FIBER: Swin and RoBERTa fused in their last blocks."};

/* The first fused block and text layer. */
static int64_t first_block(const struct model *model, const struct swin *swin)
{
    return swin_num_blocks(swin) - ((const struct fiber_config *)model->config)->num_fuse;
}

static int64_t first_layer(const struct model *model)
{
    const struct fiber_config *c = model->config;
    return c->text_layers - c->num_fuse;
}

/* The last layer is no part of the prefix even when nothing is fused: its norm differs by mode. */
static int64_t prefix_layers(const struct model *model)
{
    const struct fiber_config *c = model->config;
    return c->num_fuse > 0 ? first_layer(model) : c->text_layers - 1;
}

/* [B,Y,X,C] -> [B,T,C] */
static struct tensor *flatten(struct graph *g, struct tensor *x)
{
    if (!x) return NULL;
    return op_reshape(g, x,
                      SHAPE(x->shape.dim[0], x->shape.dim[1] * x->shape.dim[2], x->shape.dim[3]));
}

/* Block `block`, and patch merging where its stage ends: the next block reads merged tokens. */
static struct tensor *image_block(const struct model *model, struct graph *g,
                                  const struct swin *swin, int64_t block, struct tensor *x,
                                  const struct swin_text *text)
{
    int64_t stage;
    int64_t index;
    swin_locate(swin, block, &stage, &index);
    x = swin_block(g, swin, block, x, text);
    model_keep(model, g, flatten(g, x), "image/stage%lld.block%lld", (long long)stage,
               (long long)index);
    struct tensor *merged = swin_downsample_after(g, swin, block, x);
    if (merged != x) {
        model_keep(model, g, flatten(g, merged), "image/stage%lld.downsample", (long long)stage);
    }
    return merged;
}

static struct tensor *fiber_image_prefix(const struct model *model, struct graph *g,
                                         struct tensor *pixels)
{
    struct swin swin = swin_of(model);
    graph_push(g, "vit_model");
    struct tensor *x = swin_embed(g, &swin, pixels);
    model_keep(model, g, flatten(g, x), "image/patch_embed");
    for (int64_t b = 0; b < first_block(model, &swin); b++) {
        x = image_block(model, g, &swin, b, x, NULL);
    }
    graph_pop(g);
    return x;
}

static struct model_text fiber_text_prefix(const struct model *model, struct graph *g,
                                           struct tensor *ids, struct tensor *mask)
{
    struct roberta roberta = roberta_of(model);
    const struct roberta_layer alone = {.mask = mask};
    graph_push(g, "text_transformer");
    struct tensor *x = roberta_embed(g, &roberta, ids, model->dtype);
    model_keep(model, g, x, "text/embeddings");
    for (int64_t t = 0; t < prefix_layers(model); t++) {
        x = roberta_layer(g, &roberta, t, x, &alone);
        model_keep(model, g, x, "text/layer%lld", (long long)t);
    }
    roberta_dead_parameters(g, &roberta, roberta.layers - first_layer(model));
    graph_pop(g);
    return (struct model_text){.tokens = x, .mask = mask};
}

/* Linear to the joint width, normal initialisation. */
static struct tensor *transform(const struct model *model, struct graph *g, const char *name,
                                struct tensor *x)
{
    const struct layer_linear plain = {.init = INIT(INIT_NORMAL, model->facts.init_std)};
    return layer_linear(g, name, x, model->facts.hidden, &plain);
}

/* [B,T,D] -> [B,D]: the first token. */
static struct tensor *first_token(struct graph *g, struct tensor *x)
{
    if (!x) return NULL;
    return op_reshape(g, op_slice(g, x, 1, 0, 1), SHAPE(x->shape.dim[0], x->shape.dim[2]));
}

static struct tensor *fiber_image_feature(const struct model *model, struct graph *g,
                                          struct tensor *x)
{
    struct swin swin = swin_of(model);
    graph_push(g, "vit_model");
    for (int64_t b = first_block(model, &swin); b < swin_num_blocks(&swin); b++) {
        x = image_block(model, g, &swin, b, x, NULL);
    }
    x = layer_norm(g, "norm", flatten(g, x), 1e-5f);
    graph_pop(g);
    x = transform(model, g, "cross_modal_image_transform_itc", x);
    return head_pooler(g, "cross_modal_image_pooler_itc", op_mean(g, x, 1, 2),
                       model->facts.init_std);
}

static struct tensor *fiber_text_feature(const struct model *model, struct graph *g,
                                         const struct model_text *prefix)
{
    struct roberta roberta = roberta_of(model);
    const struct roberta_layer alone = {.mask = prefix->mask};
    struct tensor *x = prefix->tokens;
    graph_push(g, "text_transformer");
    for (int64_t t = prefix_layers(model); t < roberta.layers; t++) {
        x = roberta_layer(g, &roberta, t, x, &alone);
    }
    graph_pop(g);
    x = transform(model, g, "cross_modal_text_transform_itc", x);
    return head_pooler(g, "cross_modal_text_pooler_itc", first_token(g, x), model->facts.init_std);
}

static struct model_pair fiber_fuse(const struct model *model, struct graph *g,
                                    struct tensor *image, const struct model_text *text)
{
    struct swin swin = swin_of(model);
    struct roberta roberta = roberta_of(model);
    struct tensor *hidden = text->tokens;
    int64_t block = first_block(model, &swin);
    for (int64_t t = prefix_layers(model); t < roberta.layers; t++) {
        bool paired = t >= first_layer(model);
        const struct swin_text read = {.hidden = hidden, .mask = text->mask};
        const struct roberta_layer layer = {.mask = text->mask,
                                            .image = paired ? flatten(g, image) : NULL,
                                            .no_last_norm = t == roberta.layers - 1};
        graph_push(g, "text_transformer");
        hidden = roberta_layer(g, &roberta, t, hidden, &layer);
        model_keep(model, g, hidden, "text/layer%lld", (long long)t);
        graph_pop(g);
        if (!paired) continue;
        graph_push(g, "vit_model");
        image = image_block(model, g, &swin, block++, image, &read);
        graph_pop(g);
    }
    struct model_pair pair;
    pair.text = transform(model, g, "cross_modal_text_transform", hidden);
    pair.image = transform(model, g, "cross_modal_image_transform", flatten(g, image));
    struct tensor *cls[] = {
        head_pooler(g, "cross_modal_text_pooler", first_token(g, pair.text), model->facts.init_std),
        head_pooler(g, "cross_modal_image_pooler", op_mean(g, pair.image, 1, 2),
                    model->facts.init_std),
    };
    pair.cls = op_concat(g, cls, 2, 1);
    return pair;
}

const struct model_family fiber_family = {
    .table = &fiber_table,
    .check = fiber_check,
    .image_prefix = fiber_image_prefix,
    .text_prefix = fiber_text_prefix,
    .image_feature = fiber_image_feature,
    .text_feature = fiber_text_feature,
    .fuse = fiber_fuse,
};
