/* weft export: the weights of a run under the public names, for PyTorch. */
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/command.h"
#include "launch/train_config.h"
#include "model/state_dict.h"
#include "runtime/base/file_io.h"
#include "runtime/checkpoint/checkpoint.h"

static const char usage[] =
    "usage: weft export CHECKPOINT -o MODEL.safetensors [--ema]\n"
    "\n"
    "Writes the weights of CHECKPOINT (a file, a folder of them, or a run, whose newest is taken)\n"
    "with the names and shapes of FIBER's public state dict, buffers included, and the recipe\n"
    "beside it as MODEL.yaml. In Python:\n"
    "\n"
    "  from safetensors.torch import load_file\n"
    "  model.load_state_dict(load_file(\"MODEL.safetensors\"), strict=False)\n"
    "\n"
    "Only the queues are not there. rank_output is row 1 of itm_score.fc.\n"
    "\n"
    "  -o, --output FILE  where to write\n"
    "  -e, --ema          the moving average instead of the last weights";

static const struct option long_options[] = {
    {"output", required_argument, NULL, 'o'}, {"ema", no_argument, NULL, 'e'}, {NULL, 0, NULL, 0}};

struct arguments {
    const char *source;
    const char *output;
    const char *vector;
};

static enum status parse(struct arguments *arguments, int argc, char **argv)
{
    *arguments = (struct arguments){.vector = "parameters"};
    optind = 1;
    opterr = 0;
    for (;;) {
        int option = getopt_long(argc, argv, ":o:e", long_options, NULL);
        if (option == -1) break;
        CHECK(option != ':', STATUS_INVALID, "%s needs a value", argv[optind - 1]);
        CHECK(option != '?', STATUS_INVALID, "no option %s; see `weft help export`",
              argv[optind - 1]);
        if (option == 'o') arguments->output = optarg;
        if (option == 'e') arguments->vector = "ema";
    }
    CHECK(optind + 1 == argc, STATUS_INVALID, "%s; see `weft help export`",
          optind == argc ? "which checkpoint?" : "one checkpoint at a time");
    arguments->source = argv[optind];
    CHECK(arguments->output, STATUS_INVALID, "-o MODEL.safetensors is needed");
    return STATUS_OK;
}

/* MODEL.safetensors -> MODEL.yaml */
static enum status config_path(const char *output, char path[PATH_MAX])
{
    static const char ending[] = ".safetensors";
    size_t length = strlen(output);
    size_t tail = sizeof ending - 1;
    CHECK(length > tail && strcmp(output + length - tail, ending) == 0 && length < PATH_MAX - 8,
          STATUS_INVALID, "%s: the name must end in %s", output, ending);
    snprintf(path, PATH_MAX, "%.*s.yaml", (int)(length - tail), output);
    return STATUS_OK;
}

static enum status read_weights(const struct checkpoint *checkpoint, const char *vector,
                                float **weights)
{
    int64_t elements = checkpoint_elements(checkpoint, vector);
    CHECK(elements >= 0, STATUS_NOT_FOUND, "%s: holds no '%s'%s", checkpoint_path(checkpoint),
          vector, strcmp(vector, "ema") == 0 ? "; the recipe's optimizer.ema_decay is 0" : "");
    *weights = malloc((size_t)(elements + 1) * sizeof **weights);
    CHECK(*weights, STATUS_NO_MEMORY, "no memory for %" PRId64 " weights", elements);
    return checkpoint_read_flat(checkpoint, vector, 0, elements, *weights);
}

static enum status write_state(const struct arguments *arguments,
                               const struct checkpoint *checkpoint,
                               const struct config_variant *model, const float *weights)
{
    struct state_dict dict;
    TRY(state_dict_init(&dict, model, checkpoint_parameter_at(checkpoint, 0),
                        checkpoint_num_parameters(checkpoint), weights));
    enum status status = safetensors_write(arguments->output, dict.tensors, dict.count);
    if (status == STATUS_OK) {
        printf("%s: %" PRId64 " tensors, %" PRId64 " of them parameters, from %s\n",
               arguments->output, dict.count, checkpoint_num_parameters(checkpoint),
               checkpoint_path(checkpoint));
    }
    state_dict_fini(&dict);
    return status;
}

static enum status export_checkpoint(const struct arguments *arguments,
                                     const struct checkpoint *checkpoint)
{
    char beside[PATH_MAX];
    char *text = NULL;
    int64_t size;
    float *weights = NULL;
    struct train_config values;
    struct config *config = NULL;
    enum status status;
    TRY(config_path(arguments->output, beside));
    TRY(checkpoint_blob_read(checkpoint, CHECKPOINT_BLOB_CONFIG, (void **)&text, &size));
    TRY_GOTO(status,
             config_read_text(&train_table, checkpoint_path(checkpoint), text, (size_t)size, NULL,
                              0, &values, &config),
             done);
    TRY_GOTO(status, read_weights(checkpoint, arguments->vector, &weights), done);
    TRY_GOTO(status, write_state(arguments, checkpoint, &values.model, weights), done);
    status = file_replace(beside, text, size);
    if (status == STATUS_OK) printf("%s: its recipe\n", beside);
done:
    config_destroy(&config);
    free(weights);
    free(text);
    return status;
}

static int run(int argc, char **argv)
{
    struct arguments arguments;
    struct checkpoint *checkpoint = NULL;
    enum status status = parse(&arguments, argc, argv);
    if (status == STATUS_OK) status = checkpoint_open(&checkpoint, arguments.source, NULL);
    if (status == STATUS_OK) status = export_checkpoint(&arguments, checkpoint);
    checkpoint_close(&checkpoint);
    if (status != STATUS_OK) {
        fprintf(stderr, "weft export: %s\n", status_message());
        return status_exit_code(status);
    }
    return 0;
}

const struct command command_export = {
    .name = "export",
    .summary = "weights of a run as safetensors for PyTorch",
    .usage = usage,
    .run = run,
};
