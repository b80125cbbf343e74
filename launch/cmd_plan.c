/* weft plan: the command around launch/train_plan.h. */
#include <getopt.h>
#include <omp.h>
#include <stdio.h>

#include "launch/arguments.h"
#include "launch/command.h"
#include "launch/train_plan.h"
#include "runtime/backend/cpu/threads.h"

static const char usage[] =
    "usage: weft plan CONFIG [--ranks N] [options]\n"
    "\n"
    "Tells what training as CONFIG says will take on N ranks, without training: parameters by\n"
    "module, memory by class, FLOPs, bytes communicated, and an estimate of the time of an update\n"
    "from a quick measurement of this machine. Reads no data and reserves no memory of the step.\n"
    "\n"
    "      --ranks N           plan for one rank of N (1)\n"
    "      --threads N         threads of a rank (those of one rank alone here)\n"
    "      --device KIND       cpu or cuda (train.device); the GPU need not be there, and no time "
    "is\n"
    "                          estimated for it\n"
    "      --set KEY=VALUE     override one value; may be given several times\n"
    "      --no-probe          do not measure this machine: no estimate of time\n"
    "      --detail            also every parameter, and every planned op with its memory\n"
    "      --json              one JSON object\n";

enum { MOST = 1000000 }; /* ranks, threads */

enum {
    OPTION_RANKS = 256,
    OPTION_THREADS,
    OPTION_DEVICE,
    OPTION_SET,
    OPTION_NO_PROBE,
    OPTION_DETAIL,
    OPTION_JSON
};

static const struct option long_options[] = {
    {"ranks", required_argument, NULL, OPTION_RANKS},
    {"threads", required_argument, NULL, OPTION_THREADS},
    {"device", required_argument, NULL, OPTION_DEVICE},
    {"set", required_argument, NULL, OPTION_SET},
    {"no-probe", no_argument, NULL, OPTION_NO_PROBE},
    {"detail", no_argument, NULL, OPTION_DETAIL},
    {"json", no_argument, NULL, OPTION_JSON},
    {"help", no_argument, NULL, 'h'},
    {0},
};

struct arguments {
    const char *config;
    struct overrides overrides;
    int ranks;
    int threads; /* 0: as training */
    bool no_probe;
    bool detail;
    bool json;
};

static int parse(int argc, char **argv, struct arguments *arguments)
{
    for (int option; (option = getopt_long(argc, argv, "h", long_options, NULL)) != -1;) {
        bool ok = true;
        switch (option) {
        case OPTION_RANKS:
            ok = command_count("plan", "ranks", optarg, MOST, &arguments->ranks);
            break;
        case OPTION_THREADS:
            ok = command_count("plan", "threads", optarg, MOST, &arguments->threads);
            break;
        case OPTION_DEVICE:
            overrides_add_text(&arguments->overrides, "train.device", optarg);
            break;
        case OPTION_SET:
            overrides_add(&arguments->overrides, "%s", optarg);
            break;
        case OPTION_NO_PROBE:
            arguments->no_probe = true;
            break;
        case OPTION_DETAIL:
            arguments->detail = true;
            break;
        case OPTION_JSON:
            arguments->json = true;
            break;
        default:
            return command_usage(usage, option);
        }
        if (!ok) return COMMAND_BAD_USAGE;
    }
    return command_operand(argc, argv, usage, &arguments->overrides, &arguments->config);
}

/* Without --threads, those that one rank alone takes on this machine. */
static enum status choose_threads(struct arguments *arguments)
{
    struct cpu_threads threads;
    TRY(cpu_threads_start(0, 1, &threads));
    if (arguments->threads) {
        omp_set_num_threads(arguments->threads);
    } else {
        arguments->threads = threads.num_threads;
    }
    return STATUS_OK;
}

static enum status show(struct arguments *arguments, struct train_config *values,
                        struct config **config, struct train_plan *plan)
{
    TRY(choose_threads(arguments));
    TRY(config_read(&train_table, arguments->config, arguments->overrides.items,
                    arguments->overrides.count, values, config));
    TRY(train_plan_init(plan, values, *config, arguments->ranks, arguments->threads));
    bool on_cpu = values->train.device == DEVICE_CPU;
    if (!arguments->no_probe && on_cpu) TRY(train_plan_probe(plan));
    (arguments->json ? train_plan_print_json : train_plan_print)(plan, stdout, arguments->detail);
    return train_plan_check(plan);
}

static int run(int argc, char **argv)
{
    struct arguments arguments = {.ranks = 1};
    struct train_config values = {0};
    struct config *config = NULL;
    struct train_plan plan = {0};
    int code = parse(argc, argv, &arguments);
    if (code == COMMAND_GO_ON) code = command_end(show(&arguments, &values, &config, &plan));
    train_plan_fini(&plan);
    config_destroy(&config);
    overrides_fini(&arguments.overrides);
    return code;
}

const struct command command_plan = {
    .name = "plan",
    .summary = "memory, work and time of a training run, without training",
    .usage = usage,
    .run = run,
};
