/* weft infer: the command around launch/infer.h. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/arguments.h"
#include "launch/command.h"
#include "launch/infer.h"
#include "launch/json_text.h"
#include "runtime/base/log.h"

static const char usage[] =
    "usage: weft infer --checkpoint RUN|CHECKPOINT IMAGE... --text TEXT [--text TEXT ...]\n"
    "\n"
    "Scores every picture (JPEG, PNG, WebP) with every text and prints JSON: `similarity` is the\n"
    "cosine of their features, `match` the probability that they belong together; null where the\n"
    "model was not trained for it. A picture that cannot be read is there with its reason, the\n"
    "others are scored, and the exit code is 1.\n"
    "\n"
    "  -c, --checkpoint PATH   a checkpoint, or a run: its newest one\n"
    "  -t, --text TEXT         may be given several times\n"
    "      --ema               the moving average of the parameters\n"
    "      --device KIND       cpu or cuda (train.device)\n"
    "      --set KEY=VALUE     override one value of the config, such as tokenizer.path\n"
    "      --batch N           pictures, texts or pairs at a time (8)\n";

enum {
    OPTION_EMA = 256,
    OPTION_DEVICE,
    OPTION_SET,
    OPTION_BATCH,
    DEFAULT_BATCH = 8,
    MAX_BATCH = 4096
};

static const struct option long_options[] = {
    {"checkpoint", required_argument, NULL, 'c'},
    {"text", required_argument, NULL, 't'},
    {"ema", no_argument, NULL, OPTION_EMA},
    {"device", required_argument, NULL, OPTION_DEVICE},
    {"set", required_argument, NULL, OPTION_SET},
    {"batch", required_argument, NULL, OPTION_BATCH},
    {"help", no_argument, NULL, 'h'},
    {0},
};

struct arguments {
    struct trained_options model;
    struct overrides overrides;
    const char **texts; /* [scores.num_texts] borrowed */
    struct infer_options scores;
    const struct trained *trained;
    int64_t printed; /* pictures */
};

static int refuse(const char *what)
{
    fprintf(stderr, "weft infer: %s\n%s", what, usage);
    return COMMAND_BAD_USAGE;
}

static int parse(int argc, char **argv, struct arguments *arguments)
{
    int batch = DEFAULT_BATCH;
    for (int option; (option = getopt_long(argc, argv, "hc:t:", long_options, NULL)) != -1;) {
        switch (option) {
        case 'c':
            arguments->model.path = optarg;
            break;
        case 't':
            arguments->texts[arguments->scores.num_texts++] = optarg;
            break;
        case OPTION_EMA:
            arguments->model.ema = true;
            break;
        case OPTION_DEVICE:
            overrides_add_text(&arguments->overrides, "train.device", optarg);
            break;
        case OPTION_SET:
            overrides_add(&arguments->overrides, "%s", optarg);
            break;
        case OPTION_BATCH:
            if (!command_count("infer", "batch", optarg, MAX_BATCH, &batch)) {
                return COMMAND_BAD_USAGE;
            }
            break;
        default:
            return command_usage(usage, option);
        }
    }
    arguments->scores.paths = (const char *const *)(argv + optind);
    arguments->scores.num_paths = argc - optind;
    arguments->scores.texts = arguments->texts;
    arguments->scores.batch = batch;
    arguments->model.overrides = arguments->overrides.items;
    arguments->model.num_overrides = arguments->overrides.count;
    if (arguments->overrides.failed) return refuse("out of memory");
    if (!arguments->model.path) return refuse("which model? give --checkpoint RUN");
    if (arguments->scores.num_paths == 0) return refuse("which pictures?");
    if (arguments->scores.num_texts == 0) return refuse("which texts? give --text TEXT");
    return COMMAND_GO_ON;
}

/* ---- printing ---- */

static enum status put(struct strbuf *out)
{
    bool failed = out->failed || fputs(out->text, stdout) == EOF;
    strbuf_fini(out);
    CHECK(!failed, STATUS_IO, "cannot print the scores");
    return STATUS_OK;
}

static enum status print_texts(void *user, const struct infer_text *texts, int64_t count)
{
    const struct arguments *arguments = user;
    struct strbuf out = {0};
    strbuf_append(&out, "{\"checkpoint\": ");
    json_append_string(&out, arguments->trained->path);
    strbuf_printf(&out, ", \"step\": %lld, \"ema\": %s,\n \"texts\": [",
                  (long long)arguments->trained->step, arguments->model.ema ? "true" : "false");
    for (int64_t i = 0; i < count; i++) {
        strbuf_append(&out, i ? ",\n  {\"text\": " : "\n  {\"text\": ");
        json_append_string(&out, texts[i].text);
        strbuf_printf(&out, ", \"tokens\": %lld, \"truncated\": %s}",
                      (long long)texts[i].num_tokens, texts[i].truncated ? "true" : "false");
    }
    strbuf_append(&out, "],\n \"images\": [");
    return put(&out);
}

static void append_score(struct strbuf *out, const float *score, int64_t index)
{
    if (score) {
        json_append_number(out, (double)score[index]);
    } else {
        strbuf_append(out, "null");
    }
}

static enum status print_picture(void *user, const struct infer_picture *picture)
{
    struct arguments *arguments = user;
    struct strbuf out = {0};
    strbuf_append(&out, arguments->printed++ ? ",\n  {\"path\": " : "\n  {\"path\": ");
    json_append_string(&out, picture->path);
    if (picture->error) {
        log_error("%s: %s", picture->path, picture->error);
        strbuf_append(&out, ", \"error\": ");
        json_append_string(&out, picture->error);
        strbuf_append(&out, "}");
        return put(&out);
    }
    strbuf_printf(&out, ", \"width\": %lld, \"height\": %lld, \"scores\": [",
                  (long long)picture->width, (long long)picture->height);
    for (int64_t t = 0; t < arguments->scores.num_texts; t++) {
        strbuf_append(&out, t ? ",\n    {\"similarity\": " : "\n    {\"similarity\": ");
        append_score(&out, picture->similarity, t);
        strbuf_append(&out, ", \"match\": ");
        append_score(&out, picture->probability, t);
        strbuf_append(&out, "}");
    }
    strbuf_append(&out, "]}");
    return put(&out);
}

/* ---- running ---- */

static enum status infer(struct arguments *arguments, struct trained *trained, int64_t *num_bad)
{
    const struct infer_sink sink = {
        .texts = print_texts, .picture = print_picture, .user = arguments};
    TRY(trained_open(trained, &arguments->model, NULL));
    arguments->trained = trained;
    TRY(infer_run(trained, &arguments->scores, &sink, num_bad));
    puts("]}");
    return STATUS_OK;
}

static int run(int argc, char **argv)
{
    struct arguments arguments = {.texts = calloc((size_t)argc, sizeof(char *))};
    struct trained trained = {0};
    int64_t num_bad = 0;
    int code = arguments.texts ? parse(argc, argv, &arguments) : refuse("out of memory");
    if (code == COMMAND_GO_ON) {
        code = command_end(infer(&arguments, &trained, &num_bad));
        if (code == 0) code = num_bad > 0;
    }
    trained_close(&trained);
    overrides_fini(&arguments.overrides);
    free(arguments.texts);
    return code;
}

const struct command command_infer = {
    .name = "infer",
    .summary = "scores of pictures and texts by a trained model",
    .usage = usage,
    .run = run,
};
