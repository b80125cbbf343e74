/* weft import: other people's weights for the model of a recipe, as one safetensors file. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/command.h"
#include "launch/train_config.h"
#include "model/weight_names.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/graph/graph.h"

static const char usage[] =
    "usage: weft import SOURCE... --config RECIPE -o OUT.safetensors [OPTION...]\n"
    "\n"
    "Brings weights of other programs to the model of RECIPE: changes their names, resizes Swin's\n"
    "window tables to the recipe's resolution, drops buffers and heads of other tasks, checks\n"
    "every shape, and says what was loaded, resized, missing and unused. The result goes into\n"
    "a recipe as train.init_from.\n"
    "\n"
    "SOURCE is a safetensors file with FIBER's names, one of Hugging Face RoBERTa, one of timm's\n"
    "or Microsoft's Swin (the last two may be given together), or a checkpoint or run of weft.\n"
    "FIBER's .ckpt files are turned into safetensors by launch/ckpt_to_safetensors.py first.\n"
    "\n"
    "  -c, --config RECIPE    the recipe whose model the weights are for\n"
    "  -o, --output FILE      where to write\n"
    "  -a, --allow PATTERN    names that may be missing or unused; may be given again. Without a\n"
    "                         '*' the pattern may occur anywhere in the name\n"
    "  -s, --set KEY=VALUE    change the recipe; may be given again\n"
    "  -v, --vector NAME      of a checkpoint: parameters (default) or ema";

enum { MAX_WORDS = 64 };

struct words {
    const char *items[MAX_WORDS];
    int count;
};

struct arguments {
    const char *config;
    const char *output;
    const char *vector;
    struct words allow;
    struct words overrides;
    char **sources;
    int num_sources;
};

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'c'}, {"output", required_argument, NULL, 'o'},
    {"allow", required_argument, NULL, 'a'},  {"set", required_argument, NULL, 's'},
    {"vector", required_argument, NULL, 'v'}, {NULL, 0, NULL, 0}};

static enum status add_word(struct words *words, const char *word)
{
    CHECK(words->count < MAX_WORDS, STATUS_INVALID, "more than %d of one option", MAX_WORDS);
    words->items[words->count++] = word;
    return STATUS_OK;
}

static enum status parse(struct arguments *arguments, int argc, char **argv)
{
    *arguments = (struct arguments){.vector = "parameters"};
    optind = 1;
    opterr = 0;
    for (;;) {
        int option = getopt_long(argc, argv, ":c:o:a:s:v:", long_options, NULL);
        if (option == -1) break;
        CHECK(option != ':', STATUS_INVALID, "%s needs a value", argv[optind - 1]);
        CHECK(option != '?', STATUS_INVALID, "no option %s; see `weft help import`",
              argv[optind - 1]);
        if (option == 'c') arguments->config = optarg;
        if (option == 'o') arguments->output = optarg;
        if (option == 'v') arguments->vector = optarg;
        if (option == 'a') TRY(add_word(&arguments->allow, optarg));
        if (option == 's') TRY(add_word(&arguments->overrides, optarg));
    }
    arguments->sources = argv + optind;
    arguments->num_sources = argc - optind;
    CHECK(arguments->num_sources > 0, STATUS_INVALID, "which file? see `weft help import`");
    CHECK(arguments->config, STATUS_INVALID, "--config RECIPE is needed: it says which model");
    CHECK(arguments->output, STATUS_INVALID, "-o OUT.safetensors is needed");
    return STATUS_OK;
}

/* PyTorch's own format is a zip file, or a pickle. */
static enum status refuse_pickle(const char *path)
{
    unsigned char start[2] = {0};
    FILE *file = fopen(path, "rb");
    size_t got = file ? fread(start, 1, sizeof start, file) : 0;
    if (file) fclose(file);
    bool is_zip = got == 2 && start[0] == 'P' && start[1] == 'K';
    bool is_pickle = got == 2 && start[0] == 0x80 && start[1] >= 2 && start[1] <= 5;
    CHECK(!is_zip && !is_pickle, STATUS_INVALID,
          "%s: a PyTorch file; convert it first: python3 launch/ckpt_to_safetensors.py %s "
          "OUT.safetensors",
          path, path);
    return STATUS_OK;
}

static enum status open_sources(const struct arguments *arguments, struct weights *weights)
{
    for (int i = 0; i < arguments->num_sources; i++) {
        TRY(refuse_pickle(arguments->sources[i]));
        TRY(weights_add(weights, arguments->sources[i], arguments->vector));
    }
    return weight_names_apply(weights);
}

/* Records the recipe's model to know its parameters. */
static enum status record(const struct train_config *values, struct step *step)
{
    const struct step_options options = {.config = &values->objectives,
                                         .model = values->model,
                                         .dtype = DTYPE_F32,
                                         .batch = 2,
                                         .world_size = 1,
                                         .parameters_only = true};
    return step_init(step, &options);
}

static enum status write_loaded(const char *path, const struct checkpoint_parameter *parameters,
                                int64_t count, const float *vector,
                                const struct weights_report *report)
{
    struct safetensors_tensor *tensors = calloc((size_t)count + 1, sizeof *tensors);
    CHECK(tensors, STATUS_NO_MEMORY, "%s: no memory for its header", path);
    int64_t next = 0;
    for (int64_t i = 0; i < count; i++) {
        if (report->fates[i] == WEIGHTS_MISSING) continue;
        tensors[next++] =
            (struct safetensors_tensor){parameters[i].name, SAFETENSORS_F32, parameters[i].shape,
                                        vector + parameters[i].offset};
    }
    enum status status = safetensors_write(path, tensors, next);
    free(tensors);
    return status;
}

static enum status import(const struct arguments *arguments, const struct graph *graph,
                          const struct weights *weights)
{
    struct checkpoint_parameter *parameters = NULL;
    int64_t count;
    TRY(checkpoint_parameters(graph, &parameters, &count));
    struct weights_report report = {0};
    enum status status = STATUS_OK;
    float *vector = calloc((size_t)graph_flat_elements(graph), sizeof *vector);
    CHECK_GOTO(vector, status, done, STATUS_NO_MEMORY, "no memory for %" PRId64 " weights",
               graph_flat_elements(graph));
    status = weights_load(weights, parameters, count, arguments->allow.items,
                          arguments->allow.count, vector, &report);
    if (report.text.text) fputs(report.text.text, stdout);
    if (status == STATUS_OK) {
        status = write_loaded(arguments->output, parameters, count, vector, &report);
    } else {
        status_prefix(status, "%s", arguments->config);
    }
done:
    weights_report_fini(&report);
    free(parameters);
    free(vector);
    return status;
}

static enum status run_import(const struct arguments *arguments)
{
    struct train_config values;
    struct config *config = NULL;
    struct weights *weights = NULL;
    struct step step = {0};
    TRY(config_read(&train_table, arguments->config, arguments->overrides.items,
                    arguments->overrides.count, &values, &config));
    enum status status;
    TRY_GOTO(status, weights_create(&weights), done);
    TRY_GOTO(status, open_sources(arguments, weights), done);
    TRY_GOTO(status, record(&values, &step), done);
    status = import(arguments, step.graph, weights);
done:
    step_fini(&step);
    weights_destroy(&weights);
    config_destroy(&config);
    return status;
}

static int run(int argc, char **argv)
{
    struct arguments arguments;
    enum status status = parse(&arguments, argc, argv);
    if (status == STATUS_OK) status = run_import(&arguments);
    if (status != STATUS_OK) {
        fprintf(stderr, "weft import: %s\n", status_message());
        return status_exit_code(status);
    }
    printf("written: %s\n", arguments.output);
    return 0;
}

const struct command command_import = {
    .name = "import",
    .summary = "weights of other programs (FIBER, RoBERTa, Swin) for a recipe",
    .usage = usage,
    .run = run,
};
