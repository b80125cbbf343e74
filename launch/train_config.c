#include "launch/train_config.h"

static const struct config_option batch_options[] = {
    CONFIG_INT(struct batch_config, global, .range = "[1, 100000000]", .unit = "samples",
               .help = "Samples of one update, over all ranks: ranks x micro x accumulate."),
    CONFIG_INT(struct batch_config, micro, .def = "0", .range = "[0, 100000000]", .unit = "samples",
               .help = "Samples of one rank at a time; 0: as many as it takes."),
    CONFIG_INT(struct batch_config, accumulate, .def = "0", .range = "[0, 1000000]",
               .unit = "micro-batches",
               .help =
                   "Micro-batches whose gradients add up to an update; 0: as many as it takes."),
};
static const struct config_table batch_table = {CONFIG_TABLE(struct batch_config, batch_options),
                                                .name = "batch",
                                                .help = "How an update's samples are divided."};

static const char *const device_names[] = {"cpu", "cuda", NULL};
static const char *const precision_names[] = {"f32", "bf16", NULL};
static const char *const recompute_names[] = {"none", "cheap", "blocks", NULL};

static const struct config_option train_options[] = {
    CONFIG_INT(struct train_section, steps, .range = "[1, 1000000000]", .unit = "updates",
               .help = "Length of the run and of its learning-rate schedule."),
    CONFIG_INT(struct train_section, seed, .def = "0", .range = "[0, inf)",
               .help = "Of everything random: weights, order, crops, masks, dropout, negatives."),
    CONFIG_ENUM(struct train_section, device, device_names, .def = "cpu",
                .help = "Where steps run: the processor, or a GPU (one for each rank)."),
    CONFIG_ENUM(struct train_section, precision, precision_names, .def = "f32",
                .help = "Activations and their gradients; weights, moments and statistics are f32 "
                        "either way."),
    CONFIG_BOOL(struct train_section, tf32, .def = "false",
                .help = "f32 matrix products on a GPU in TF32: operands with 10 bits of mantissa, "
                        "sums in f32."),
    CONFIG_ENUM(struct train_section, recompute, recompute_names, .def = "none",
                .help = "What is computed again in the backward pass to save memory: nothing, "
                        "one-pass ops, or whole blocks."),
    CONFIG_INT(struct train_section, log_every, .def = "50", .range = "[1, inf)", .unit = "updates",
               .help = "Between plain progress lines; a terminal shows every update."),
    CONFIG_INT(
        struct train_section, max_skipped, .def = "10", .range = "[0, inf)", .unit = "updates",
        .help = "So many updates in a row may be skipped because a gradient is not finite; one "
                "more stops the run."),
    CONFIG_STRING_OR_NULL(struct train_section, init_from,
                          .help = "Weights to start from: a safetensors file or a checkpoint."),
    CONFIG_STRINGS(struct train_section, init_allow, .def = "[]", .only_if = "init_from",
                   .help = "Patterns of names that may be missing from init_from, or unused: "
                           "[\"itm_score.*\"]."),
};
static const struct config_table section_table = {CONFIG_TABLE(struct train_section, train_options),
                                                  .name = "train", .help = "The run."};

static const struct config_option checkpoint_options[] = {
    CONFIG_INT(struct checkpoint_section, every, .def = "1000", .range = "[1, inf)",
               .unit = "updates", .help = "Between checkpoints; the last update always has one."),
    CONFIG_INT(struct checkpoint_section, keep, .def = "3", .range = "[1, inf)",
               .help = "How many of the newest stay."),
    CONFIG_INT(struct checkpoint_section, keep_every, .def = "0", .range = "[0, inf)",
               .unit = "updates", .help = "Checkpoints of such steps stay for ever; 0: none."),
};
static const struct config_table checkpoint_table = {
    CONFIG_TABLE(struct checkpoint_section, checkpoint_options), .name = "checkpoint",
    .help = "When and what is saved."};

static const struct config_option eval_options[] = {
    CONFIG_INT(struct eval_section, every, .def = "0", .range = "[0, inf)", .unit = "updates",
               .help = "Between evaluations on data.eval_sets; 0: only at the end."),
    CONFIG_INT(struct eval_section, batch, .def = "16", .range = "[1, 65536]", .unit = "samples",
               .help = "Pictures, texts or pairs of one rank at a time."),
    CONFIG_INT(struct eval_section, rerank, .def = "16", .range = "[0, 1024]", .unit = "candidates",
               .help = "How many of the first by features are scored again as pairs; 0: none."),
};
static const struct config_table eval_table = {CONFIG_TABLE(struct eval_section, eval_options),
                                               .name = "eval",
                                               .help = "Retrieval on held-out sets."};

static const struct config_option options[] = {
    CONFIG_STRING(struct train_config, run,
                  .help = "Folder of the run: logs, checkpoints, evaluations, report."),
    CONFIG_CHOICE(struct train_config, model, "family", model_choices, .help = "The model."),
    CONFIG_SECTION(struct train_config, data, data_table, .help = "What is trained on."),
    CONFIG_SECTION(struct train_config, tokenizer, tokenizer_table, .help = "Text to tokens."),
    CONFIG_SECTION(struct train_config, objectives, objectives_table, .help = "The loss."),
    CONFIG_SECTION(struct train_config, batch, batch_table, .help = "The batch."),
    CONFIG_SECTION(struct train_config, optimizer, optimizer_table, .help = "The optimiser."),
    CONFIG_SECTION(struct train_config, train, section_table, .help = "The run."),
    CONFIG_SECTION(struct train_config, checkpoint, checkpoint_table, .help = "Checkpoints."),
    CONFIG_SECTION(struct train_config, eval, eval_table, .help = "Evaluation."),
};

const struct config_table train_table = {CONFIG_TABLE(struct train_config, options),
                                         .name = "train", .help = "A training run."};

enum status train_config_check(const struct train_config *values, struct config *config)
{
    struct model model;
    TRY(model_init(&model, &values->model, 1));
    const struct model_facts *facts = &model.facts;
    CHECK(values->data.image_size == facts->image_size, STATUS_INVALID,
          "%s: data.image_size is %lld, but the model takes pictures of model.image_size %lld",
          config_where(config, "data.image_size"), (long long)values->data.image_size,
          (long long)facts->image_size);
    CHECK(values->data.max_text_len == facts->max_text_len, STATUS_INVALID,
          "%s: data.max_text_len is %lld, but the model takes texts of model.max_text_len %lld",
          config_where(config, "data.max_text_len"), (long long)values->data.max_text_len,
          (long long)facts->max_text_len);
    CHECK(
        !values->train.tf32 || values->train.device == DEVICE_CUDA, STATUS_INVALID,
        "%s: train.tf32 is a way of GPUs to multiply, and train.device is cpu; leave it out there "
        "(--set train.tf32=false), or set train.device to cuda",
        config_where(config, "train.tf32"));
    CHECK(values->data.on_bad != LOADER_SKIP, STATUS_INVALID,
          "%s: data.on_bad: skip leaves empty places in a batch, which contrastive learning and "
          "matching cannot leave out; use replace or fail",
          config_where(config, "data.on_bad"));
    CHECK(values->data.eval_sets.count == 0 || objectives_find(&values->objectives, "itc"),
          STATUS_INVALID,
          "%s: data.eval_sets: retrieval ranks by the features of contrastive learning; add the "
          "objective itc, or leave data.eval_sets empty",
          config_where(config, "data.eval_sets"));
    return STATUS_OK;
}

static int64_t at_least_one(int64_t count)
{
    return count > 0 ? count : 1;
}

enum status train_batch_divide(const struct batch_config *batch, struct config *config, int ranks,
                               int64_t *micro, int64_t *accumulate)
{
    *micro = batch->micro;
    *accumulate = batch->accumulate;
    int64_t share = batch->global / ranks;
    if (*micro == 0 && *accumulate == 0) *accumulate = 1;
    if (*micro == 0) *micro = at_least_one(share / *accumulate);
    if (*accumulate == 0) *accumulate = at_least_one(share / *micro);
    CHECK(ranks * *micro * *accumulate == batch->global, STATUS_INVALID,
          "%s: batch.global %lld is not ranks %d x micro %lld x accumulate %lld = %lld; change the "
          "number of ranks, batch.micro or batch.accumulate",
          config_where(config, "batch.global"), (long long)batch->global, ranks, (long long)*micro,
          (long long)*accumulate, (long long)(ranks * *micro * *accumulate));
    return STATUS_OK;
}

bool train_looks_ahead(const struct train_config *values)
{
    const struct itc_config *itc = objectives_find(&values->objectives, "itc");
    bool has_queue = itc && itc->mode == ITC_FIBER && itc->queue > 0;
    return values->train.device != DEVICE_CPU && !has_queue;
}

size_t train_optimizer_bytes(const struct train_config *values, const struct graph *graph,
                             int ranks)
{
    int64_t slices = values->optimizer.shard ? ranks : 1;
    int64_t bytes = graph_flat_elements(graph) * (int64_t)sizeof(float);
    int64_t vectors = values->optimizer.ema_decay > 0 ? 3 : 2;
    return (size_t)(vectors * ((bytes + slices - 1) / slices));
}

struct step_options train_step_options(const struct train_config *values, int64_t micro, int ranks)
{
    return (struct step_options){.config = &values->objectives,
                                 .model = values->model,
                                 .dtype =
                                     values->train.precision == TRAIN_BF16 ? DTYPE_BF16 : DTYPE_F32,
                                 .training = true,
                                 .batch = micro,
                                 .world_size = ranks};
}

struct plan_options train_plan_options(const struct train_config *values, int64_t accumulate,
                                       int ranks, int num_threads)
{
    static const enum plan_recompute recompute[] = {PLAN_KEEP, PLAN_RECOMPUTE_CHEAP,
                                                    PLAN_RECOMPUTE_BLOCKS};
    return (struct plan_options){.recompute = recompute[values->train.recompute],
                                 .accumulate = accumulate > 1,
                                 .num_slices = values->optimizer.shard ? ranks : 1,
                                 .num_threads = num_threads,
                                 .runs_per_update = (int)accumulate};
}
