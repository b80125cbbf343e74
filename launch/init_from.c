#include "launch/init_from.h"

#include <string.h>

#include "model/weight_names.h"
#include "runtime/base/log.h"
#include "runtime/comm/comm.h"

static void tell(const char *path, const char *text)
{
    log_info("weights from %s:", path);
    while (*text) {
        size_t length = strcspn(text, "\n");
        log_info("%.*s", (int)length, text);
        text += length + (text[length] == '\n');
    }
}

/* A run that kept a moving average is known by it. */
static enum status open_source(struct weights **weights, const char *path)
{
    TRY(weights_create(weights));
    enum status status = weights_add(*weights, path, "ema");
    if (status == STATUS_NOT_FOUND) {
        weights_destroy(weights);
        TRY(weights_create(weights));
        status = weights_add(*weights, path, "parameters");
    }
    TRY(status);
    return weight_names_apply(*weights);
}

static enum status load(const struct train_section *train,
                        const struct checkpoint_parameter *parameters, int64_t num_parameters,
                        float *vector)
{
    struct weights *weights = NULL;
    struct weights_report report = {0};
    enum status status = open_source(&weights, train->init_from);
    if (status == STATUS_OK) {
        status = weights_load(weights, parameters, num_parameters, train->init_allow.items,
                              train->init_allow.count, vector, &report);
    }
    if (report.text.text) tell(train->init_from, report.text.text);
    weights_report_fini(&report);
    weights_destroy(&weights);
    return status == STATUS_OK ? status : status_prefix(status, "train.init_from");
}

enum status init_from_load(const struct train_section *train,
                           const struct checkpoint_parameter *parameters, int64_t num_parameters,
                           float *vector, int64_t elements, struct comm *comm)
{
    enum status status = STATUS_OK;
    if (comm->rank == 0) status = load(train, parameters, num_parameters, vector);
    TRY(comm_agree_status(comm, "initial weights", status));
    return comm_broadcast(comm, "initial weights", vector, elements, COMM_F32, 0);
}
