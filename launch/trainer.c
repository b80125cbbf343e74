/* Setting a run up and taking it down. The order below is that of trainer_create. */
#include "launch/trainer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/log.h"

/* ---- config ---- */

static enum status read_config(struct trainer *t)
{
    TRY(config_read(&train_table, t->options.config, t->options.overrides, t->options.num_overrides,
                    &t->values, &t->config));
    TRY(train_config_check(&t->values, t->config));
    TRY(train_batch_divide(&t->values.batch, t->config, t->comm->size, &t->micro, &t->accumulate));
    size_t length = strlen(t->values.run);
    CHECK(length > 0 && length < sizeof t->run, STATUS_INVALID,
          "%s: run has %zu characters; name a folder of 1 to %zu", config_where(t->config, "run"),
          length, sizeof t->run - 1);
    snprintf(t->run, sizeof t->run, "%s", t->values.run);
    return config_print(&train_table, &t->values, false, &t->config_text);
}

/* ---- data ---- */

static enum status check_tokenizer(struct trainer *t)
{
    struct model model;
    TRY(model_init(&model, &t->values.model, 1));
    int64_t size = tokenizer_vocab_size(t->tokenizer);
    CHECK(size <= model.facts.vocab, STATUS_INVALID,
          "%s: model.vocab is %lld, but the tokenizer %s has %lld tokens; set model.vocab to at "
          "least that",
          config_where(t->config, "model.vocab"), (long long)model.facts.vocab,
          t->values.tokenizer.path, (long long)size);
    int32_t padding = tokenizer_special(t->tokenizer, TOKENIZER_PAD);
    CHECK(padding == model.facts.padding, STATUS_INVALID,
          "%s: the tokenizer %s pads with id %d, but model.family %s takes %lld as padding",
          config_where(t->config, "tokenizer"), t->values.tokenizer.path, padding,
          t->values.model.table->name, (long long)model.facts.padding);
    return STATUS_OK;
}

static enum status open_data(struct trainer *t)
{
    struct cpu_threads *threads = &t->threads;
    TRY(cpu_threads_start(t->comm->local_rank, t->comm->local_size, threads));
    TRY(tokenizer_config_load(&t->values.tokenizer, t->config, "tokenizer", &t->tokenizer));
    TRY(check_tokenizer(t));
    return data_open(&t->values.data, t->config, "data", true, &t->data);
}

/* All ranks must see the same config and the same data. */
static enum status agree_inputs(struct trainer *t)
{
    TRY(comm_agree_bytes(t->comm, "the resolved config", t->config_text.text,
                         (int64_t)t->config_text.length));
    uint64_t prints[SAMPLER_MAX_SETS + 1] = {tokenizer_fingerprint(t->tokenizer)};
    for (int i = 0; i < t->data.num_sets; i++) {
        prints[i + 1] = store_fingerprint(t->data.sets[i].store);
    }
    return comm_agree_bytes(t->comm, "the data sets and the tokenizer", prints, sizeof prints);
}

static enum status open_loader(struct trainer *t)
{
    struct loader_options options = data_loader_options(&t->data);
    struct mlm_options mlm = mlm_defaults;
    const struct mlm_config *config = objectives_find(&t->values.objectives, "mlm");
    options.rank = t->comm->rank;
    options.size = t->comm->size;
    options.batch = t->micro;
    options.start = t->origin + t->done * t->accumulate;
    options.seed = (uint64_t)t->values.train.seed;
    options.tokenizer = t->tokenizer;
    options.seen = t->seen;
    options.bad = t->bad;
    options.stop = NULL;
    if (config) {
        mlm.probability = config->probability;
        mlm.whole_word = config->whole_word;
        options.mlm = &mlm;
    }
    TRY(data_loader_create(&t->data, &options, &t->loader));
    t->handed = loader_stats(t->loader);
    return STATUS_OK;
}

/* ---- model ---- */

/* A recipe of few objectives may leave parts of the model out; that must not go unnoticed. */
static void tell_unused(const struct trainer *t)
{
    const struct graph *g = t->step.graph;
    int64_t first[3];
    int64_t count = graph_unused_parameters(g, first, 3);
    if (count == 0 || t->comm->rank != 0) return;
    char names[512] = "";
    for (int64_t i = 0; i < count && i < 3; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "",
                 graph_parameter_at(g, first[i])->name);
    }
    log_warning("%lld of %lld parameters take no part in these objectives and stay as they are: "
                "%s%s",
                (long long)count, (long long)graph_num_parameters(g), names,
                count > 3 ? " and others" : "");
}

/* Matching draws a wrong partner for each text and picture of a micro-batch. */
static enum status check_negatives(struct trainer *t)
{
    const struct objectives_config *objectives = &t->values.objectives;
    const struct itc_config *itc = objectives_find(objectives, "itc");
    bool own = itc && itc->mode == ITC_FIBER;
    int64_t pairs = own ? t->micro : t->micro * t->comm->size;
    CHECK(pairs >= 2 || !objectives_find(objectives, "itm"), STATUS_INVALID,
          "%s: itm draws wrong pairs from the micro-batch of %s, which is a single pair; raise "
          "batch.global, or lower batch.accumulate",
          config_where(t->config, "batch.global"), own ? "a rank (itc mode fiber)" : "all ranks");
    return STATUS_OK;
}

static enum status build_model(struct trainer *t)
{
    const struct train_section *train = &t->values.train;
    const struct step_options options = train_step_options(&t->values, t->micro, t->comm->size);
    TRY(check_negatives(t));
    TRY(step_init(&t->step, &options));
    tell_unused(t);
    const struct executor_options executor = {
        .batch = t->micro,
        .ahead = train_looks_ahead(&t->values),
        .reserve = train_optimizer_bytes(&t->values, t->step.graph, t->comm->size),
        .plan =
            train_plan_options(&t->values, t->accumulate, t->comm->size, t->threads.num_threads),
        .profile = t->options.profile,
        .seed = (uint64_t)train->seed,
        .device = train->device,
        .tf32 = train->tf32,
        .comm = t->comm};
    TRY(executor_create(&t->executor, t->step.graph, &executor));
    TRY(optimizer_create(&t->optimizer, t->step.graph, &t->values.optimizer, t->comm,
                         executor_stream(t->executor)));
    TRY(checkpoint_parameters(t->step.graph, &t->parameters, &t->num_parameters));
    int numbers = t->step.num_terms + 2 * t->step.num_metrics + TRAINER_NUMBERS;
    t->sums = calloc((size_t)numbers, sizeof *t->sums);
    t->samples = calloc((size_t)(t->accumulate * t->micro), sizeof *t->samples);
    t->hashes = calloc((size_t)t->micro, sizeof *t->hashes);
    CHECK(t->sums && t->samples && t->hashes, STATUS_NO_MEMORY, "out of memory");
    TRY(executor_init_parameters(t->executor));
    optimizer_ema_start(t->optimizer, executor_parameters(t->executor));
    TRY(optimizer_restored(t->optimizer));
    const struct itc_config *itc = objectives_find(&t->values.objectives, "itc");
    return feature_queue_init(&t->queue, &t->step, t->executor, itc, (uint64_t)train->seed);
}

/* ---- run folder ---- */

/* mkdir -p */
static enum status make_folder(const char *path)
{
    char part[3072];
    snprintf(part, sizeof part, "%s", path);
    for (char *at = part + 1;; at++) {
        if (*at != '/' && *at != '\0') continue;
        bool last = *at == '\0';
        *at = '\0';
        CHECK(mkdir(part, 0777) == 0 || errno == EEXIST, STATUS_IO,
              "%s: cannot make the run folder: %s; set `run` to a place that can be written", path,
              strerror(errno));
        if (last) return STATUS_OK;
        *at = '/';
    }
}

static enum status open_run(struct trainer *t)
{
    enum status status = t->comm->rank == 0 ? make_folder(t->run) : STATUS_OK;
    TRY(comm_agree_status(t->comm, "run folder", status));
    TRY(run_lock_acquire(&t->lock, t->run, t->comm));
    return trainer_resume(t);
}

static enum status open_output(struct trainer *t)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/config.yaml", t->run);
    enum status status =
        t->comm->rank == 0 ? config_write(&train_table, &t->values, false, path) : STATUS_OK;
    if (status == STATUS_OK) {
        status = run_output_open(&t->output,
                                 &(struct run_output_options){.folder = t->run,
                                                              .rank = t->comm->rank,
                                                              .step = t->done,
                                                              .total_steps = t->values.train.steps,
                                                              .every = t->values.train.log_every,
                                                              .quiet = t->options.quiet});
    }
    return comm_agree_status(t->comm, "run folder", status);
}

static enum status create_all(struct trainer *t)
{
    TRY(comm_agree_status(t->comm, "config", read_config(t)));
    TRY(device_bind(t->values.train.device, t->comm, t->device));
    TRY(comm_agree_status(t->comm, "data", open_data(t)));
    TRY(agree_inputs(t));
    TRY(comm_agree_status(t->comm, "model", build_model(t)));
    TRY(open_run(t));
    TRY(comm_agree_status(t->comm, "loader", open_loader(t)));
    return open_output(t);
}

enum status trainer_create(struct trainer **trainer, const struct trainer_options *options,
                           struct comm *comm, struct trainer_signals *signals)
{
    *trainer = NULL;
    struct trainer *t = calloc(1, sizeof *t);
    CHECK(t, STATUS_NO_MEMORY, "out of memory");
    t->options = *options;
    t->comm = comm;
    t->signals = signals;
    t->saved = -1;
    comm_phase_set(comm, COMM_PHASE_STARTUP, "setting up");
    enum status status = create_all(t);
    if (status != STATUS_OK) {
        trainer_destroy(&t);
        return status;
    }
    *trainer = t;
    return STATUS_OK;
}

void trainer_destroy(struct trainer **trainer)
{
    struct trainer *t = *trainer;
    if (!t) return;
    run_output_close(&t->output);
    loader_destroy(&t->loader);
    checkpoint_saver_destroy(&t->saver);
    run_lock_release(&t->lock);
    feature_queue_fini(&t->queue);
    optimizer_destroy(&t->optimizer);
    executor_destroy(&t->executor);
    step_fini(&t->step);
    data_close(&t->data);
    tokenizer_destroy(&t->tokenizer);
    config_destroy(&t->config);
    strbuf_fini(&t->config_text);
    free(t->parameters);
    free(t->resumed_from);
    free(t->sums);
    free(t->samples);
    free(t->hashes);
    free(t);
    *trainer = NULL;
}
