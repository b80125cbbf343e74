#include "launch/inspect_batch.h"

#include <stdio.h>

#include "data/loader/batch_sheet.h"
#include "data/loader/loader_config.h"
#include "model/model.h"
#include "objectives/objective.h"
#include "runtime/base/strbuf.h"
#include "runtime/optim/optimizer.h"

/* The sections that decide what a batch holds, and those that stand beside them in a config. */
struct batch_config {
    int64_t micro;
};

struct run_config {
    int64_t seed;
};

struct inspect_config {
    struct config_variant model;
    struct data_config data;
    const struct tokenizer_config *tokenizer;
    const struct objectives_config *objectives;
    const struct optimizer_config *optimizer;
    struct batch_config batch;
    struct run_config train;
};

static const struct config_option batch_options[] = {
    CONFIG_INT(struct batch_config, micro, .def = "8", .range = "[1, 1048576]", .unit = "samples",
               .help = "Samples that a rank takes at once."),
};
static const struct config_table batch_table = {CONFIG_TABLE(struct batch_config, batch_options),
                                                .name = "batch", .help = "How many samples."};
static const struct config_option run_options[] = {
    CONFIG_INT(struct run_config, seed, .def = "0", .range = "[0, inf)",
               .help = "Decides everything random."),
};
static const struct config_table run_table = {CONFIG_TABLE(struct run_config, run_options),
                                              .name = "train", .help = "The run."};

static const struct config_option inspect_options[] = {
    CONFIG_CHOICE_OR_NULL(struct inspect_config, model, "family", model_choices,
                          .help = "The model."),
    CONFIG_SECTION(struct inspect_config, data, data_table, .help = "The data."),
    CONFIG_SECTION_OR_NULL(struct inspect_config, tokenizer, tokenizer_table,
                           .help = "The tokenizer."),
    CONFIG_SECTION_OR_NULL(struct inspect_config, objectives, objectives_table,
                           .help = "The objectives; masked language modelling says how to mask."),
    CONFIG_SECTION_OR_NULL(struct inspect_config, optimizer, optimizer_table,
                           .help = "The optimiser."),
    CONFIG_SECTION(struct inspect_config, batch, batch_table, .help = "How many samples."),
    CONFIG_SECTION(struct inspect_config, train, run_table, .help = "The run."),
};
static const struct config_table inspect_table = {
    CONFIG_TABLE(struct inspect_config, inspect_options), .name = "config", .help = "A training."};

struct state {
    struct inspect_config settings;
    struct config *config;
    struct data data;
    struct tokenizer *tokenizer;
    struct mlm_options mlm;
    struct loader *loader;
    struct strbuf text;
};

static enum status open_loader(struct state *s, const struct inspect_batch *arguments)
{
    const struct inspect_config *settings = &s->settings;
    bool has_texts = settings->tokenizer != NULL;
    TRY(data_open(&settings->data, s->config, "data", has_texts, &s->data));
    struct loader_options options = data_loader_options(&s->data);
    if (has_texts) {
        TRY(tokenizer_config_load(settings->tokenizer, s->config, "tokenizer", &s->tokenizer));
    }
    const struct mlm_config *mlm =
        settings->objectives ? objectives_find(settings->objectives, "mlm") : NULL;
    if (mlm) {
        s->mlm = mlm_defaults;
        s->mlm.probability = mlm->probability;
        s->mlm.whole_word = mlm->whole_word;
        options.mlm = &s->mlm;
    }
    options.rows = has_texts ? LOADER_TEXTS : LOADER_IMAGES;
    options.tokenizer = s->tokenizer;
    options.rank = (int)arguments->rank;
    options.size = (int)arguments->ranks;
    options.batch = settings->batch.micro;
    options.seed = (uint64_t)settings->train.seed;
    options.start = arguments->number;
    options.prefetch = 1;
    return data_loader_create(&s->data, &options, &s->loader);
}

static enum status show(struct state *s, const struct inspect_batch *arguments)
{
    const struct loader_batch *batch = NULL;
    char title[4096];
    TRY(config_read(&inspect_table, arguments->config, arguments->overrides,
                    arguments->num_overrides, &s->settings, &s->config));
    TRY(open_loader(s, arguments));
    TRY(loader_next(s->loader, &batch));
    TRY(batch_print(s->loader, batch, &s->text));
    fputs(s->text.text, stdout);
    if (!arguments->html) return STATUS_OK;
    snprintf(title, sizeof title, "Micro-batch %lld of %s", (long long)arguments->number,
             arguments->config);
    TRY(batch_sheet_write(s->loader, batch, title, arguments->html));
    printf("page: %s\n", arguments->html);
    return STATUS_OK;
}

enum status inspect_batch_run(const struct inspect_batch *arguments)
{
    struct state state = {0};
    enum status status = show(&state, arguments);
    loader_destroy(&state.loader);
    tokenizer_destroy(&state.tokenizer);
    data_close(&state.data);
    config_destroy(&state.config);
    strbuf_fini(&state.text);
    return status;
}
