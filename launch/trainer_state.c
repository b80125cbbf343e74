/*
 * What a checkpoint of a run holds, and how a run continues from one.
 *
 *   vectors   parameters, moment1, moment2, ema (when there is one)
 *   blobs     config.yaml (resolved), position.yaml (launch/run_position.h), queue (contrastive
 *             learning, `fiber`)
 *
 * A run continues only as what it was: the same model, objectives, data, tokenizer, batch,
 * optimiser, precision and seed. Rank count, threads, sharding, folders, logging and the length of
 * the run may change.
 */
#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "launch/init_from.h"
#include "launch/run_position.h"
#include "launch/trainer.h"
#include "runtime/base/log.h"

/* Texts of fingerprints; lives as long as the caller's storage. */
struct prints {
    char text[SAMPLER_MAX_SETS + 1][20];
    const char *data[SAMPLER_MAX_SETS];
};

/* Samples and bad ones of all ranks' loaders; each began with the run's totals. */
static enum status count_samples(struct trainer *t, int64_t *seen, int64_t *bad)
{
    int64_t counts[2] = {t->handed.seen - t->seen, t->handed.bad - t->bad};
    TRY(comm_allreduce(t->comm, "samples seen", counts, 2, COMM_I64, COMM_SUM));
    *seen = t->seen + counts[0];
    *bad = t->bad + counts[1];
    return STATUS_OK;
}

static void fill_position(struct trainer *t, struct run_position *position, struct prints *prints)
{
    struct optimizer_state state = optimizer_state(t->optimizer);
    *position = (struct run_position){
        .updates = t->done,
        .micro_batches = t->origin + t->done * t->accumulate,
        .samples_per_micro_batch = t->comm->size * t->micro,
        .applied = *state.applied,
        .skipped = *state.skipped,
        .skipped_row = t->skipped_row,
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
    TRY(executor_parameters_fetch(t->executor));
    TRY(optimizer_fetch(t->optimizer));
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
    TRY(count_samples(t, &position.seen, &position.bad));
    int64_t queue_bytes = feature_queue_bytes(&t->queue);
    void *queue = queue_bytes ? malloc((size_t)queue_bytes) : NULL;
    if (queue) feature_queue_save(&t->queue, queue);
    enum status status = config_print(&run_position_table, &position, false, &text);
    if (status == STATUS_OK && queue_bytes && !queue) {
        status = status_fail(STATUS_NO_MEMORY, "out of memory for the queue");
    }
    /* A failure is told and training goes on: a rank must not do that while others save. */
    status = comm_agree_status(t->comm, "checkpoint", status);
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
    if (status == STATUS_OK) status = checkpoint_begin(t->saver, &all);
    strbuf_fini(&text);
    free(queue);
    return status;
}

/* ---- comparing with what is saved ---- */

/* Texts of what differs, "batch.global (12, saved with 24), ...". */
struct difference {
    char names[1024];
};

static void tell_difference(struct difference *difference, const char *name, const char *now,
                            const char *then)
{
    size_t used = strlen(difference->names);
    snprintf(difference->names + used, sizeof difference->names - used, "%s%s (%s, saved with %s)",
             used ? ", " : "", name, now, then);
}

static void tell_number(struct difference *difference, const char *name, int64_t now, int64_t then)
{
    char a[32];
    char b[32];
    if (now == then) return;
    snprintf(a, sizeof a, "%lld", (long long)now);
    snprintf(b, sizeof b, "%lld", (long long)then);
    tell_difference(difference, name, a, b);
}

/* The line at *text without indentation, cut to `size`; *text moves behind it. */
static void take_line(const char **text, char *line, size_t size)
{
    const char *begin = *text + strspn(*text, " -");
    size_t length = strcspn(begin, "\n");
    snprintf(line, size, "%.*s", (int)length, begin);
    *text = begin + length + (begin[length] == '\n');
}

/* Tells the first line in which two sections of the same table differ. */
static void tell_lines(struct difference *difference, const char *name, const char *now,
                       const char *then)
{
    char a[96] = "";
    char b[96] = "";
    while (strcmp(a, b) == 0 && (*now || *then)) {
        take_line(&now, a, sizeof a);
        take_line(&then, b, sizeof b);
    }
    if (strcmp(a, b) != 0) tell_difference(difference, name, a, b);
}

static enum status compare_section(struct difference *difference, const char *name,
                                   const struct config_table *table, const void *now,
                                   const void *then)
{
    struct strbuf a = {0};
    struct strbuf b = {0};
    enum status status = config_print(table, now, false, &a);
    if (status == STATUS_OK) status = config_print(table, then, false, &b);
    if (status == STATUS_OK) {
        tell_lines(difference, name, a.text ? a.text : "", b.text ? b.text : "");
    }
    strbuf_fini(&a);
    strbuf_fini(&b);
    return status;
}

static enum status compare_models(const struct trainer *t, const struct train_config *then,
                                  const char *path)
{
    const struct config_table *table = t->values.model.table;
    struct difference difference = {""};
    if (then->model.table != table) {
        tell_difference(&difference, "family", table->name, then->model.table->name);
    } else {
        TRY(compare_section(&difference, "model", table, t->values.model.value, then->model.value));
    }
    CHECK(
        !difference.names[0], STATUS_INVALID,
        "%s: was saved with another model than %s has: %s; give its config, or another run folder",
        path, t->options.config, difference.names);
    return STATUS_OK;
}

/* Data may have been moved: what it holds is compared by fingerprints. */
static enum status compare_places(struct difference *difference, const struct train_config *now,
                                  struct train_config *then)
{
    struct data_set_config sets[SAMPLER_MAX_SETS];
    int64_t count = then->data.sets.count;
    if (count == now->data.sets.count && count <= SAMPLER_MAX_SETS) {
        for (int64_t i = 0; i < count; i++) {
            sets[i] = now->data.sets.items[i];
            sets[i].weight = then->data.sets.items[i].weight;
        }
        then->data.sets.items = sets;
    }
    then->tokenizer.path = now->tokenizer.path;
    then->tokenizer.merges = now->tokenizer.merges;
    TRY(compare_section(difference, "data", &data_table, &now->data, &then->data));
    return compare_section(difference, "tokenizer", &tokenizer_table, &now->tokenizer,
                           &then->tokenizer);
}

static enum status compare_configs(struct trainer *t, const struct train_config *saved,
                                   const char *path)
{
    const struct train_config *now = &t->values;
    struct train_config then = *saved;
    struct difference other = {""};
    then.data.threads = now->data.threads;
    then.data.prefetch = now->data.prefetch;
    then.data.verify = now->data.verify;
    then.data.on_bad = now->data.on_bad;
    then.data.max_bad_rate = now->data.max_bad_rate;
    then.data.eval_sets = now->data.eval_sets;
    then.optimizer.shard = now->optimizer.shard;
    TRY(compare_models(t, &then, path));
    TRY(compare_places(&other, now, &then));
    TRY(compare_section(&other, "objectives", &objectives_table, &now->objectives,
                        &then.objectives));
    TRY(compare_section(&other, "optimizer", &optimizer_table, &now->optimizer, &then.optimizer));
    tell_number(&other, "batch.global", now->batch.global, then.batch.global);
    tell_number(&other, "train.seed", now->train.seed, then.train.seed);
    if (now->train.precision != then.train.precision) {
        static const char *const names[] = {"f32", "bf16"};
        tell_difference(&other, "train.precision", names[now->train.precision],
                        names[then.train.precision]);
    }
    if (!other.names[0]) return STATUS_OK;
    CHECK(t->options.allow_changes, STATUS_INVALID,
          "%s: was saved with other settings than %s has: %s. The run would not continue as what "
          "it was; undo the changes, start another run, or add --allow-changes",
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
    if (state.ema && checkpoint_elements(c, "ema") >= 0) {
        TRY(checkpoint_read(c, "ema", t->parameters, t->num_parameters, state.begin, state.count,
                            state.ema));
    } else if (state.ema) { /* --allow-changes: the average begins here */
        optimizer_ema_start(t->optimizer, executor_parameters(t->executor));
    }
    executor_parameters_changed(t->executor);
    return optimizer_restored(t->optimizer);
}

static enum status restore_position(struct trainer *t, const struct checkpoint *c)
{
    void *text = NULL;
    int64_t size = 0;
    struct run_position position;
    struct config *config = NULL;
    TRY(checkpoint_blob_read(c, "position.yaml", &text, &size));
    enum status status = config_read_text(&run_position_table, checkpoint_path(c), text,
                                          (size_t)size, NULL, 0, &position, &config);
    if (status == STATUS_OK) status = compare_data(t, &position, checkpoint_path(c));
    if (status == STATUS_OK) {
        struct optimizer_state state = optimizer_state(t->optimizer);
        t->done = position.updates;
        int64_t samples = position.micro_batches * position.samples_per_micro_batch;
        t->origin = samples / (t->comm->size * t->micro) - t->done * t->accumulate;
        t->seen = position.seen;
        t->bad = position.bad;
        *state.applied = position.applied;
        *state.skipped = position.skipped;
        t->skipped_row = position.skipped_row;
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
    enum status status = checkpoint_blob_read(c, "queue", &bytes, &size);
    if (status == STATUS_OK) status = feature_queue_load(&t->queue, bytes, size);
    free(bytes);
    bool other = status == STATUS_NOT_FOUND || status == STATUS_INVALID;
    if (!other || !t->options.allow_changes) return status;
    log_warning("the queue of contrastive learning starts anew: %s", status_message());
    return STATUS_OK;
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

/* Whether the run's folder has checkpoints. */
static bool has_checkpoints(const struct trainer *t)
{
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/checkpoints", t->run);
    DIR *listing = opendir(folder);
    bool found = false;
    for (struct dirent *entry; listing && !found && (entry = readdir(listing));) {
        size_t length = strlen(entry->d_name);
        found = strncmp(entry->d_name, "step-", 5) == 0 && length > 3 &&
                strcmp(entry->d_name + length - 3, ".h5") == 0;
    }
    if (listing) closedir(listing);
    return found;
}

static enum status refuse_existing(struct trainer *t)
{
    char log[4096];
    struct stat info;
    snprintf(log, sizeof log, "%s/log.jsonl", t->run);
    CHECK(stat(log, &info) != 0 && !has_checkpoints(t), STATUS_INVALID,
          "%s: holds a run already, and --resume never would overwrite it; give another folder "
          "with --run, or --resume auto to continue it",
          t->run);
    return STATUS_OK;
}

/* A run with checkpoints continues one of them, not those of others: the job that is started again
 * with the same command would begin anew each time. */
static enum status refuse_foreign(struct trainer *t, const char *path)
{
    char run[PATH_MAX];
    char from[PATH_MAX];
    if (!has_checkpoints(t) || !realpath(t->run, run) || !realpath(path, from)) return STATUS_OK;
    size_t length = strlen(run);
    bool inside = strncmp(from, run, length) == 0 && (from[length] == '/' || !from[length]);
    CHECK(inside, STATUS_INVALID,
          "%s: has checkpoints of its own, and --resume %s would leave them aside; continue it "
          "with --resume auto, or give another folder with --run",
          t->run, path);
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
    return optimizer_restored(t->optimizer);
}

enum status trainer_resume(struct trainer *t)
{
    const char *resume = t->options.resume;
    /* Gigabytes from a slow disk take longer than the rest of the start may. */
    comm_phase_set(t->comm, COMM_PHASE_CHECKPOINT, "loading");
    if (strcmp(resume, "never") == 0) {
        enum status status = t->comm->rank == 0 ? refuse_existing(t) : STATUS_OK;
        TRY(comm_agree_status(t->comm, "run folder", status));
    } else if (strcmp(resume, "auto") == 0) {
        TRY(load_checkpoint(t, t->run, true));
        if (t->resumed_from) t->saved = t->done;
    } else {
        enum status status = t->comm->rank == 0 ? refuse_foreign(t, resume) : STATUS_OK;
        TRY(comm_agree_status(t->comm, "run folder", status));
        TRY(load_checkpoint(t, resume, false));
    }
    TRY(start_weights(t));
    TRY(open_saver(t));
    comm_phase_set(t->comm, COMM_PHASE_STARTUP, "setting up");
    return STATUS_OK;
}
