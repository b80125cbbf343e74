#include "launch/inspect_batch.h"

#include <stdio.h>

#include "data/loader/batch_sheet.h"
#include "data/loader/loader_config.h"
#include "launch/train_config.h"
#include "runtime/base/strbuf.h"

struct state {
    struct train_config settings;
    struct config *config;
    struct data data;
    struct tokenizer *tokenizer;
    struct mlm_options mlm;
    struct loader *loader;
    struct strbuf text;
};

static enum status open_loader(struct state *s, const struct inspect_batch *arguments)
{
    const struct train_config *settings = &s->settings;
    int64_t micro = 0;
    int64_t accumulate = 0;
    TRY(train_batch_divide(&settings->batch, s->config, (int)arguments->ranks, &micro,
                           &accumulate));
    CHECK(arguments->micro < accumulate, STATUS_INVALID,
          "--micro %lld: a step has micro-batches 0 to %lld", (long long)arguments->micro,
          (long long)accumulate - 1);
    TRY(data_open(&settings->data, s->config, "data", true, &s->data));
    TRY(tokenizer_config_load(&settings->tokenizer, s->config, "tokenizer", &s->tokenizer));
    struct loader_options options = data_loader_options(&s->data);
    const struct mlm_config *mlm = objectives_find(&settings->objectives, "mlm");
    if (mlm) {
        s->mlm = mlm_defaults;
        s->mlm.probability = mlm->probability;
        s->mlm.whole_word = mlm->whole_word;
        options.mlm = &s->mlm;
    }
    options.tokenizer = s->tokenizer;
    options.rank = (int)arguments->rank;
    options.size = (int)arguments->ranks;
    options.batch = micro;
    options.seed = (uint64_t)settings->train.seed;
    options.start = arguments->step * accumulate + arguments->micro;
    options.prefetch = 1;
    return data_loader_create(&s->data, &options, &s->loader);
}

static enum status show(struct state *s, const struct inspect_batch *arguments)
{
    const struct loader_batch *batch = NULL;
    char title[4096];
    TRY(config_read(&train_table, arguments->config, arguments->overrides, arguments->num_overrides,
                    &s->settings, &s->config));
    TRY(open_loader(s, arguments));
    TRY(loader_next(s->loader, &batch));
    TRY(batch_print(s->loader, batch, &s->text));
    fputs(s->text.text, stdout);
    if (!arguments->html) return STATUS_OK;
    snprintf(title, sizeof title, "Step %lld of %s", (long long)arguments->step, arguments->config);
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
