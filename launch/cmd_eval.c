/* weft eval: retrieval of a trained model, the command around launch/evaluate.h. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "launch/arguments.h"
#include "launch/command.h"
#include "launch/evaluate.h"
#include "launch/trained.h"
#include "runtime/base/log.h"

static const char usage[] =
    "usage: weft eval RUN|CHECKPOINT [options]\n"
    "       mpirun -np N weft eval RUN|CHECKPOINT [options]\n"
    "\n"
    "Evaluates a trained model: every picture against every text of the evaluation sets of its\n"
    "config, first by features, then with the first K candidates of each query put in the order "
    "of\n"
    "their matching scores. Prints recall at 1, 5 and 10 both ways, and writes them with examples\n"
    "to RUN/eval, where weft report finds them. The same numbers on any number of ranks.\n"
    "\n"
    "      --sets GLOB         evaluate on these packed sets in place of data.eval_sets\n"
    "      --rerank K          match the first K candidates (eval.rerank); 0: features alone\n"
    "      --ema               the moving average of the parameters\n"
    "      --device KIND       cpu or cuda (train.device)\n"
    "      --set KEY=VALUE     override one value of the config; may be given several times\n"
    "      --split NAME        what to call these numbers in reports (eval; sets with --sets)\n"
    "  -o, --output FILE       write the JSON there\n"
    "      --json              print the JSON in place of the text\n";

enum {
    OPTION_SETS = 256,
    OPTION_RERANK,
    OPTION_EMA,
    OPTION_DEVICE,
    OPTION_SET,
    OPTION_SPLIT,
    OPTION_JSON
};

static const struct option long_options[] = {
    {"sets", required_argument, NULL, OPTION_SETS},
    {"rerank", required_argument, NULL, OPTION_RERANK},
    {"ema", no_argument, NULL, OPTION_EMA},
    {"device", required_argument, NULL, OPTION_DEVICE},
    {"set", required_argument, NULL, OPTION_SET},
    {"split", required_argument, NULL, OPTION_SPLIT},
    {"output", required_argument, NULL, 'o'},
    {"json", no_argument, NULL, OPTION_JSON},
    {"help", no_argument, NULL, 'h'},
    {0},
};

struct arguments {
    struct trained_options model;
    struct overrides overrides;
    const char *split;         /* NULL: by what is evaluated */
    const char *output;        /* NULL: in the run's folder */
    const struct trained *run; /* while reporting */
    bool json;
};

/* ---- arguments ---- */

/* --sets GLOB as the override that it means. */
static void add_sets(struct overrides *overrides, const char *glob)
{
    struct strbuf quoted = {0};
    strbuf_append_json(&quoted, glob, strlen(glob));
    if (quoted.failed) overrides->failed = true;
    if (!quoted.failed) overrides_add(overrides, "data.eval_sets=[{path: %s}]", quoted.text);
    strbuf_fini(&quoted);
}

static int parse(int argc, char **argv, struct arguments *arguments)
{
    bool sets = false;
    for (int option; (option = getopt_long(argc, argv, "ho:", long_options, NULL)) != -1;) {
        switch (option) {
        case OPTION_SETS:
            add_sets(&arguments->overrides, optarg);
            sets = true;
            break;
        case OPTION_RERANK:
            overrides_add(&arguments->overrides, "eval.rerank=%s", optarg);
            break;
        case OPTION_DEVICE:
            overrides_add_text(&arguments->overrides, "train.device", optarg);
            break;
        case OPTION_EMA:
            arguments->model.ema = true;
            break;
        case OPTION_SET:
            overrides_add(&arguments->overrides, "%s", optarg);
            break;
        case OPTION_SPLIT:
            arguments->split = optarg;
            break;
        case 'o':
            arguments->output = optarg;
            break;
        case OPTION_JSON:
            arguments->json = true;
            break;
        default:
            return command_usage(usage, option);
        }
    }
    if (!arguments->split) arguments->split = sets ? "sets" : "eval";
    arguments->model.overrides = arguments->overrides.items;
    arguments->model.num_overrides = arguments->overrides.count;
    return command_operand(argc, argv, usage, &arguments->overrides, &arguments->model.path);
}

/* ---- results ---- */

static double metric(const struct eval_result *result, const char *group, const char *name)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "%s%s%s", group, *group ? "/" : "", name);
    const struct run_values *values = *group ? &result->metrics : &result->chance;
    for (int i = 0; i < values->count; i++) {
        if (strcmp(values->items[i].name, wanted) == 0) return values->items[i].value;
    }
    return -1;
}

static void print_recalls(const struct eval_result *result, const char *label, const char *group)
{
    static const char *const names[6] = {"tr@1", "tr@5", "tr@10", "ir@1", "ir@5", "ir@10"};
    if (metric(result, group, names[0]) < 0) return;
    printf("%-10s", label);
    for (int i = 0; i < 6; i++) {
        printf("  %8.2f", 100 * metric(result, group, names[i]));
    }
    putchar('\n');
}

/* What matching decides; of a single picture there are no wrong pairs. */
static void print_decisions(const struct eval_result *result)
{
    double drawn = metric(result, "itm", "accuracy_random");
    double nearest = metric(result, "itm", "accuracy_hard");
    printf("matching: the first %lld by features put in the order of their scores; decides right "
           "on %.2f %%\n          of true pairs",
           (long long)result->rerank, 100 * metric(result, "itm", "accuracy_match"));
    if (drawn < 0 || nearest < 0) {
        printf("; there are no wrong ones, as there is one picture\n");
        return;
    }
    printf(", %.2f %% of wrong ones drawn, %.2f %% of the nearest wrong ones\n", 100 * drawn,
           100 * nearest);
}

static void print_text(const struct arguments *arguments, const struct eval_result *result)
{
    printf("model      %s, update %lld%s\n", arguments->run->path, (long long)result->step,
           arguments->model.ema ? ", moving average" : "");
    printf("split      %s: %s, %lld pictures, %lld texts\n", result->split, result->set,
           (long long)result->num_images, (long long)result->num_texts);
    printf("protocol   every picture against every text; TR: one of the picture's texts is among "
           "the first K,\n           IR: the text's picture is\n");
    printf("%-10s  %8s  %8s  %8s  %8s  %8s  %8s   percent\n", "", "TR@1", "TR@5", "TR@10", "IR@1",
           "IR@5", "IR@10");
    print_recalls(result, "features", "dual");
    print_recalls(result, "matching", "itm");
    print_recalls(result, "chance", "");
    if (result->rerank > 0) print_decisions(result);
}

/* RUN/eval/step-%08d.json as training writes it; other splits, and the average, beside it. */
static enum status choose_output(const struct arguments *arguments,
                                 const struct eval_result *result, struct strbuf *path)
{
    char run[4096];
    if (arguments->output) {
        strbuf_append(path, arguments->output);
        return STATUS_OK;
    }
    trained_run_folder(arguments->run, run, sizeof run);
    strbuf_printf(path, "%s/eval", run);
    CHECK(!path->failed, STATUS_NO_MEMORY, "out of memory");
    CHECK(mkdir(path->text, 0777) == 0 || errno == EEXIST, STATUS_IO,
          "%s: cannot make the folder: %s; name another place with --output", path->text,
          strerror(errno));
    strbuf_printf(path, "/step-%08lld", (long long)result->step);
    if (strcmp(result->split, "eval") != 0) strbuf_printf(path, "-%s", result->split);
    strbuf_append(path, ".json");
    return STATUS_OK;
}

static enum status report(void *user, const struct eval_result *result)
{
    const struct arguments *arguments = user;
    struct strbuf path = {0};
    struct strbuf text = {0};
    enum status status = choose_output(arguments, result, &path);
    if (status == STATUS_OK) status = eval_result_write(result, path.text);
    if (status == STATUS_OK && arguments->json) {
        eval_result_text(result, &text);
        fputs(text.failed ? "" : text.text, stdout);
    } else if (status == STATUS_OK) {
        print_text(arguments, result);
        printf("written    %s\n", path.text);
    }
    strbuf_fini(&path);
    strbuf_fini(&text);
    return status;
}

/* ---- running ---- */

static enum status evaluate_trained(struct arguments *arguments, struct trained *run,
                                    struct data *data, struct comm *comm)
{
    char split[256];
    snprintf(split, sizeof split, "%s%s", arguments->split, arguments->model.ema ? "-ema" : "");
    comm_phase_set(comm, COMM_PHASE_CHECKPOINT, "loading");
    TRY(trained_open(run, &arguments->model, comm));
    TRY(comm_agree_status(comm, "data",
                          data_open_eval(&run->values.data, run->config, "data", true, data)));
    const struct eval_input input = {.model = run->model,
                                     .comm = comm,
                                     .tokenizer = run->tokenizer,
                                     .data = data,
                                     .step = run->step,
                                     .split = split};
    arguments->run = run;
    comm_phase_set(comm, COMM_PHASE_EVALUATE, "evaluation");
    return evaluate(&input, report, arguments);
}

static int eval(struct arguments *arguments)
{
    struct comm *comm = NULL;
    struct trained run = {0};
    struct data data = {0};
    enum status status = comm_create(NULL, &comm);
    if (status != STATUS_OK) return command_end(status);
    status = evaluate_trained(arguments, &run, &data, comm);
    int code = status_exit_code(status);
    if (status == STATUS_COMM) comm_abort(comm, code, "%s", status_message());
    if (status != STATUS_OK && comm->rank == 0) log_error("%s", status_message());
    comm_phase_set(comm, COMM_PHASE_FINISH, "ending");
    data_close(&data);
    trained_close(&run);
    if (comm_finish(&comm) != STATUS_OK) comm_abort(comm, code ? code : 1, "%s", status_message());
    return code;
}

static int run(int argc, char **argv)
{
    struct arguments arguments = {0};
    int code = parse(argc, argv, &arguments);
    if (code == COMMAND_GO_ON) code = eval(&arguments);
    overrides_fini(&arguments.overrides);
    return code;
}

const struct command command_eval = {
    .name = "eval",
    .summary = "retrieval of a trained model on packed sets",
    .usage = usage,
    .run = run,
};
