#include "launch/trained.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/backend/cpu/memory.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/comm/comm.h"

static enum status read_config(struct trained *t, const struct trained_options *options,
                               const struct checkpoint *c)
{
    void *text = NULL;
    int64_t size = 0;
    TRY(checkpoint_blob_read(c, "config.yaml", &text, &size));
    enum status status =
        config_read_text(&train_table, checkpoint_path(c), text, (size_t)size, options->overrides,
                         options->num_overrides, &t->values, &t->config);
    free(text);
    TRY(status);
    return train_config_check(&t->values, t->config);
}

/* The position of the run names the fingerprint of the tokenizer. */
static enum status check_tokenizer(const struct trained *t, const struct checkpoint *c)
{
    char print[20];
    void *text = NULL;
    int64_t size = 0;
    snprintf(print, sizeof print, "%016llx",
             (unsigned long long)tokenizer_fingerprint(t->tokenizer));
    TRY(checkpoint_blob_read(c, "position.yaml", &text, &size));
    bool same = strstr(text, print) != NULL;
    free(text);
    CHECK(same, STATUS_INVALID,
          "%s: was trained with another tokenizer than %s is now (their contents differ); name the "
          "right one with --set tokenizer.path=",
          checkpoint_path(c), t->values.tokenizer.path);
    return STATUS_OK;
}

static enum status read_parameters(struct trained *t, const char *vector,
                                   const struct checkpoint *c, const struct graph *graph)
{
    struct checkpoint_parameter *parameters = NULL;
    int64_t count = 0;
    int64_t elements = graph_flat_elements(graph);
    TRY(memory_map(&t->memory, (size_t)elements * sizeof(float), "parameters"));
    t->model.parameters = t->memory;
    t->model.num_elements = elements;
    TRY(checkpoint_parameters(graph, &parameters, &count));
    enum status status = checkpoint_check_model(c, parameters, count);
    if (status == STATUS_OK) {
        status = checkpoint_read(c, vector, parameters, count, 0, elements, t->memory);
    }
    free(parameters);
    return status;
}

static enum status load_parameters(struct trained *t, bool ema, const struct checkpoint *c)
{
    struct step step;
    struct step_options options = train_step_options(&t->values, 1, 1);
    options.training = false;
    options.parameters_only = true;
    CHECK(!ema || checkpoint_elements(c, "ema") >= 0, STATUS_NOT_FOUND,
          "%s: has no moving average of the parameters (optimizer.ema_decay was 0); leave --ema "
          "out",
          checkpoint_path(c));
    TRY(step_init(&step, &options));
    enum status status = read_parameters(t, ema ? "ema" : "parameters", c, step.graph);
    step_fini(&step);
    return status;
}

static enum status begin(struct trained *t, const struct trained_options *options,
                         const struct checkpoint *c)
{
    t->step = checkpoint_step(c);
    t->path = strdup(checkpoint_path(c));
    CHECK(t->path, STATUS_NO_MEMORY, "out of memory");
    return read_config(t, options, c);
}

static enum status load(struct trained *t, const struct trained_options *options,
                        const struct comm *comm, const struct checkpoint *c)
{
    TRY(cpu_threads_start(comm ? comm->local_rank : 0, comm ? comm->local_size : 1, &t->threads));
    t->model.num_threads = t->threads.num_threads;
    TRY(load_parameters(t, options->ema, c));
    TRY(tokenizer_config_load(&t->values.tokenizer, t->config, "tokenizer", &t->tokenizer));
    return check_tokenizer(t, c);
}

static enum status agree(struct comm *comm, enum status status)
{
    return comm ? comm_agree_status(comm, "model", status) : status;
}

enum status trained_open(struct trained *t, const struct trained_options *options,
                         struct comm *comm)
{
    char device[DEVICE_TEXT];
    struct checkpoint *c = NULL;
    memset(t, 0, sizeof *t);
    t->model.values = &t->values;
    TRY(checkpoint_open(&c, options->path, comm));
    enum status status = agree(comm, begin(t, options, c));
    if (status == STATUS_OK) status = device_bind(t->values.train.device, comm, device);
    if (status == STATUS_OK) status = agree(comm, load(t, options, comm, c));
    checkpoint_close(&c);
    return status;
}

void trained_close(struct trained *t)
{
    tokenizer_destroy(&t->tokenizer);
    memory_unmap(&t->memory, (size_t)t->model.num_elements * sizeof(float));
    config_destroy(&t->config);
    free(t->path);
    t->path = NULL;
}

void trained_run_folder(const struct trained *t, char *folder, size_t size)
{
    snprintf(folder, size, "%s", t->path);
    char *slash = strrchr(folder, '/');
    if (!slash) {
        snprintf(folder, size, ".");
        return;
    }
    *slash = '\0';
    slash = strrchr(folder, '/');
    const char *last = slash ? slash + 1 : folder;
    if (strcmp(last, "checkpoints") != 0) return;
    if (slash) {
        *slash = '\0';
    } else {
        snprintf(folder, size, ".");
    }
}
