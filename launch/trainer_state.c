/*
 * What a checkpoint of a run holds, and how a run continues from one.
 *
 *   vectors   parameters, moment1, moment2, ema (when there is one)
 *   blobs     config.yaml (resolved), position.yaml (below), queue (contrastive learning, `fiber`)
 *
 * A run continues only as what it was: the same model, objectives, data, tokenizer, batch,
 * optimiser and seed, told section by section. Rank count, threads, folders, logging and the
 * length of the run may change.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "launch/init_from.h"
#include "launch/trainer.h"
#include "runtime/base/log.h"

struct run_position {
    int64_t updates;
    int64_t micro_batches;
    int64_t samples_per_micro_batch;
    int64_t seen;
    int64_t bad;
    int64_t applied;
    int64_t skipped;
    CONFIG_LIST_OF(const char *) data;
    const char *tokenizer;
};

#define COUNT(field, text) CONFIG_INT(struct run_position, field, .range = "[0, inf)", .help = text)

static const struct config_option position_options[] = {
    COUNT(updates, "Updates done."),
    COUNT(micro_batches, "Micro-batches made: the position in the data."),
    COUNT(samples_per_micro_batch, "Over all ranks."),
    COUNT(seen, "Samples that the loaders of all ranks gave out."),
    COUNT(bad, "Bad ones among them."),
    COUNT(applied, "Updates that were applied."),
    COUNT(skipped, "Updates that were skipped because a gradient was not finite."),
    CONFIG_STRINGS(struct run_position, data, .help = "Fingerprints of the data sets."),
    CONFIG_STRING(struct run_position, tokenizer, .help = "Fingerprint of the tokenizer."),
};
static const struct config_table position_table = {
    CONFIG_TABLE(struct run_position, position_options), .name = "position",
    .help = "Where a run is."};

/* Texts of fingerprints; lives as long as the caller's storage. */
struct prints {
    char text[SAMPLER_MAX_SETS + 1][20];
    const char *data[SAMPLER_MAX_SETS];
};

static void fill_position(struct trainer *t, struct run_position *position, struct prints *prints)
{
    struct optimizer_state state = optimizer_state(t->optimizer);
    struct loader_stats stats = {.seen = t->seen, .bad = t->bad};
    if (t->loader) stats = loader_stats(t->loader);
    *position = (struct run_position){
        .updates = t->done,
        .micro_batches = t->done * t->accumulate,
        .samples_per_micro_batch = t->comm->size * t->micro,
        .seen = stats.seen,
        .bad = stats.bad,
        .applied = *state.applied,
        .skipped = *state.skipped,
    };
    for (int i = 0; i < t->data.num_sets; i++) {
        snprintf(prints->text[i], sizeof prints->text[i], "%016llx",
                 (unsigned long long)store_fingerprint(t->data.sets[i].store));
        prints->data[i] = prints->text[i];
    }
    char *last = prints->text[SAMPLER_MAX_SETS];
    snprintf(last, sizeof prints->text[0], "%016llx",
             (unsigned long long)tokenizer_fingerprint(t->tokenizer));
    position->tokenizer = last;
    position->data.items = prints->data;
    position->data.count = t->data.num_sets;
}

/* ---- saving ---- */

enum status trainer_save(struct trainer *t)
{
    struct optimizer_state state = optimizer_state(t->optimizer);
    int64_t elements = graph_flat_elements(t->step.graph);
    struct checkpoint_vector vectors[4] = {
        {"parameters", elements, 0, elements, executor_parameters(t->executor)},
        {"moment1", elements, state.begin, state.count, state.first_moment},
        {"moment2", elements, state.begin, state.count, state.second_moment},
        {"ema", elements, state.begin, state.count, state.ema},
    };
    struct run_position position;
    struct prints prints;
    struct strbuf text = {0};
    fill_position(t, &position, &prints);
    TRY(config_print(&position_table, &position, false, &text));
    int64_t queue_bytes = feature_queue_bytes(&t->queue);
    void *queue = queue_bytes ? malloc((size_t)queue_bytes) : NULL;
    if (queue) feature_queue_save(&t->queue, queue);
    const struct checkpoint_blob blobs[] = {
        {"config.yaml", t->config_text.text, (int64_t)t->config_text.length},
        {"position.yaml", text.text, (int64_t)text.length},
        {"queue", queue, queue_bytes},
    };
    const struct checkpoint_state all = {
        .step = t->done,
        .vectors = vectors,
        .num_vectors = state.ema ? 4 : 3,
        .blobs = blobs,
        .num_blobs = queue ? 3 : 2,
        .parameters = t->parameters,
        .num_parameters = t->num_parameters,
    };
    enum status status = queue_bytes && !queue
                             ? status_fail(STATUS_NO_MEMORY, "out of memory for the queue")
                             : checkpoint_begin(t->saver, &all);
    strbuf_fini(&text);
    free(queue);
    return status;
}

/* ---- comparing with what is saved ---- */

struct difference {
    char names[256];
};

static enum status compare_section(struct difference *difference, const char *name,
                                   const struct config_table *table, const void *now,
                                   const void *then)
{
    struct strbuf a = {0};
    struct strbuf b = {0};
    enum status status = config_print(table, now, false, &a);
    if (status == STATUS_OK) status = config_print(table, then, false, &b);
    if (status == STATUS_OK && strcmp(a.text ? a.text : "", b.text ? b.text : "") != 0) {
        size_t used = strlen(difference->names);
        snprintf(difference->names + used, sizeof difference->names - used, "%s%s",
                 used ? ", " : "", name);
    }
    strbuf_fini(&a);
    strbuf_fini(&b);
    return status;
}

static enum status compare_configs(struct trainer *t, const struct train_config *saved,
                                   const char *path)
{
    struct train_config then = *saved;
    struct difference fatal = {""};
    struct difference other = {""};
    then.data.threads = t->values.data.threads;
    then.data.prefetch = t->values.data.prefetch;
    then.data.verify = t->values.data.verify;
    then.data.on_bad = t->values.data.on_bad;
    then.data.max_bad_rate = t->values.data.max_bad_rate;
    then.data.eval_sets = t->values.data.eval_sets;
    bool same_family = then.model.table == t->values.model.table;
    if (same_family) {
        TRY(compare_section(&fatal, "model", then.model.table, t->values.model.value,
                            then.model.value));
    }
    CHECK(same_family && !fatal.names[0], STATUS_INVALID,
          "%s: was saved with another model section than %s has; give its config, or another run "
          "folder",
          path, t->options.config);
    TRY(compare_section(&other, "data", &data_table, &t->values.data, &then.data));
    TRY(compare_section(&other, "tokenizer", &tokenizer_table, &t->values.tokenizer,
                        &then.tokenizer));
    TRY(compare_section(&other, "objectives", &objectives_table, &t->values.objectives,
                        &then.objectives));
    TRY(compare_section(&other, "optimizer", &optimizer_table, &t->values.optimizer,
                        &then.optimizer));
    size_t used = strlen(other.names);
    if (then.batch.global != t->values.batch.global) {
        snprintf(other.names + used, sizeof other.names - used, "%sbatch.global", used ? ", " : "");
        used = strlen(other.names);
    }
    if (then.train.seed != t->values.train.seed) {
        snprintf(other.names + used, sizeof other.names - used, "%strain.seed", used ? ", " : "");
    }
    if (!other.names[0]) return STATUS_OK;
    CHECK(t->options.allow_changes, STATUS_INVALID,
          "%s: was saved with other settings than %s has in: %s. The run would not continue as "
          "what it was; undo the changes, start another run, or add --allow-changes",
          path, t->options.config, other.names);
    log_warning("continuing with changed settings: %s", other.names);
    return STATUS_OK;
}

static enum status compare_data(struct trainer *t, const struct run_position *saved,
                                const char *path)
{
    struct run_position now;
    struct prints prints;
    fill_position(t, &now, &prints);
    bool same = saved->data.count == now.data.count && strcmp(saved->tokenizer, now.tokenizer) == 0;
    for (int64_t i = 0; same && i < now.data.count; i++) {
        same = strcmp(saved->data.items[i], now.data.items[i]) == 0;
    }
    CHECK(same || t->options.allow_changes, STATUS_INVALID,
          "%s: was saved with other data sets or another tokenizer than those in %s now (their "
          "contents differ); bring them back, or add --allow-changes",
          path, t->options.config);
    CHECK(saved->samples_per_micro_batch == now.samples_per_micro_batch || t->options.allow_changes,
          STATUS_INVALID,
          "%s: was saved with micro-batches of %lld samples over all ranks, now they have %lld = "
          "%d ranks x %lld; set batch.micro or batch.accumulate so that they agree, or add "
          "--allow-changes",
          path, (long long)saved->samples_per_micro_batch, (long long)now.samples_per_micro_batch,
          t->comm->size, (long long)t->micro);
    return STATUS_OK;
}

/* ---- loading ---- */

static enum status restore_vectors(struct trainer *t, const struct checkpoint *c)
{
    struct optimizer_state state = optimizer_state(t->optimizer);
    int64_t elements = graph_flat_elements(t->step.graph);
    TRY(checkpoint_check_model(c, t->parameters, t->num_parameters));
    TRY(checkpoint_read(c, "parameters", t->parameters, t->num_parameters, 0, elements,
                        executor_parameters(t->executor)));
    TRY(checkpoint_read(c, "moment1", t->parameters, t->num_parameters, state.begin, state.count,
                        state.first_moment));
    TRY(checkpoint_read(c, "moment2", t->parameters, t->num_parameters, state.begin, state.count,
                        state.second_moment));
    if (state.ema) {
        TRY(checkpoint_read(c, "ema", t->parameters, t->num_parameters, state.begin, state.count,
                            state.ema));
    }
    executor_parameters_changed(t->executor);
    return STATUS_OK;
}

static enum status restore_position(struct trainer *t, const struct checkpoint *c)
{
    void *text = NULL;
    int64_t size = 0;
    struct run_position position;
    struct config *config = NULL;
    TRY(checkpoint_blob_read(c, "position.yaml", &text, &size));
    enum status status = config_read_text(&position_table, checkpoint_path(c), text, (size_t)size,
                                          NULL, 0, &position, &config);
    if (status == STATUS_OK) status = compare_data(t, &position, checkpoint_path(c));
    if (status == STATUS_OK) {
        struct optimizer_state state = optimizer_state(t->optimizer);
        t->done = position.updates;
        t->seen = position.seen;
        t->bad = position.bad;
        *state.applied = position.applied;
        *state.skipped = position.skipped;
    }
    config_destroy(&config);
    free(text);
    return status;
}

static enum status restore_config(struct trainer *t, const struct checkpoint *c)
{
    void *text = NULL;
    int64_t size = 0;
    struct train_config saved;
    struct config *config = NULL;
    TRY(checkpoint_blob_read(c, "config.yaml", &text, &size));
    enum status status = config_read_text(&train_table, checkpoint_path(c), text, (size_t)size,
                                          NULL, 0, &saved, &config);
    if (status == STATUS_OK) status = compare_configs(t, &saved, checkpoint_path(c));
    config_destroy(&config);
    free(text);
    return status;
}

static enum status restore_queue(struct trainer *t, const struct checkpoint *c)
{
    if (!t->queue.capacity) return STATUS_OK;
    void *bytes = NULL;
    int64_t size = 0;
    TRY(checkpoint_blob_read(c, "queue", &bytes, &size));
    enum status status = feature_queue_load(&t->queue, bytes, size);
    free(bytes);
    return status;
}

static enum status restore(struct trainer *t, const struct checkpoint *c)
{
    TRY(restore_config(t, c));
    TRY(restore_vectors(t, c));
    TRY(restore_position(t, c));
    TRY(restore_queue(t, c));
    t->resumed_from = strdup(checkpoint_path(c));
    return STATUS_OK;
}

static enum status open_saver(struct trainer *t)
{
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/checkpoints", t->run);
    const struct checkpoint_saver_options options = {.keep = t->values.checkpoint.keep,
                                                     .keep_every = t->values.checkpoint.keep_every,
                                                     .resumed_step = t->done};
    return checkpoint_saver_create(&t->saver, folder, &options, t->comm);
}

/* A path without any checkpoint is an error, except for the run's own folder with `auto`. */
static enum status load_checkpoint(struct trainer *t, const char *path, bool may_be_absent)
{
    struct checkpoint *c = NULL;
    enum status status = checkpoint_open(&c, path, t->comm);
    if (status == STATUS_NOT_FOUND && may_be_absent) return STATUS_OK;
    TRY(status);
    status = comm_agree_status(t->comm, "checkpoint", restore(t, c));
    if (status == STATUS_OK) {
        log_info("resuming from %s, update %lld", checkpoint_path(c), (long long)t->done);
    }
    checkpoint_close(&c);
    return status;
}

static enum status refuse_existing(struct trainer *t)
{
    char folder[4096];
    struct stat info;
    snprintf(folder, sizeof folder, "%s/log.jsonl", t->run);
    CHECK(stat(folder, &info) != 0, STATUS_INVALID,
          "%s: holds a run already, and --resume never would overwrite it; give another folder "
          "with --run, or --resume auto to continue it",
          t->run);
    return STATUS_OK;
}

/* A new run may start from other weights than drawn ones. */
static enum status start_weights(struct trainer *t)
{
    if (t->resumed_from || !t->values.train.init_from) return STATUS_OK;
    float *parameters = executor_parameters(t->executor);
    enum status status = init_from_load(&t->values.train, t->parameters, t->num_parameters,
                                        parameters, graph_flat_elements(t->step.graph), t->comm);
    if (status != STATUS_OK) {
        return status_prefix(status, "%s", config_where(t->config, "train.init_from"));
    }
    trainer_apply_bounds(t);
    executor_parameters_changed(t->executor);
    optimizer_ema_start(t->optimizer, parameters);
    return STATUS_OK;
}

enum status trainer_resume(struct trainer *t)
{
    const char *resume = t->options.resume;
    if (strcmp(resume, "never") == 0) {
        TRY(comm_agree_status(t->comm, "run folder", refuse_existing(t)));
    } else if (strcmp(resume, "auto") == 0) {
        TRY(load_checkpoint(t, t->run, true));
    } else {
        TRY(load_checkpoint(t, resume, false));
    }
    TRY(start_weights(t));
    return open_saver(t);
}
