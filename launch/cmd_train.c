/* weft train: the command around launch/trainer.h. */
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "launch/arguments.h"
#include "launch/command.h"
#include "launch/trainer.h"
#include "runtime/base/log.h"

static const char usage[] =
    "usage: mpirun -np N weft train CONFIG [options]\n"
    "\n"
    "Trains as CONFIG says (docs/config.md; weft train --print-config shows every option), on N\n"
    "ranks. The run lives in the folder `run` of the config; the same command started again goes\n"
    "on where its newest checkpoint is, on any number of ranks.\n"
    "\n"
    "      --run DIR           the run's folder, in place of the config's\n"
    "      --set KEY=VALUE     override one value; may be given several times\n"
    "      --device KIND       cpu or cuda (train.device)\n"
    "      --resume auto       continue the run if it has a checkpoint (the default)\n"
    "      --resume never      refuse to go on with a run that exists\n"
    "      --resume PATH       start from this checkpoint or run\n"
    "      --allow-changes     continue although data, batch or optimiser were changed\n"
    "      --print-config      print the resolved config with explanations, and stop\n"
    "      --profile           time every op and print a table at the end (rank 0)\n"
    "      --quiet             no progress line\n"
    "\n"
    "SIGTERM and SIGUSR1 save a checkpoint at the end of the update, or at the next batch of an\n"
    "evaluation, and exit with code 75: start the same command again. SIGINT (Ctrl-C) does the\n"
    "same with code 130; a second one stops at once.\n";

static struct trainer_signals signals;

static void on_stop(int number)
{
    (void)number;
    signals.stop = 1;
}

static void on_interrupt(int number)
{
    (void)number;
    if (signals.interrupt) _exit(130);
    signals.interrupt = 1;
}

/*
 * The first thing of all: a signal that arrives while MPI starts must not kill the job, and the
 * watchdog leaves a SIGTERM that somebody handles alone. A launcher may have held them back until
 * here (it passes its mask on), so that none is lost before main.
 */
static void catch_signals(void)
{
    sigset_t ours;
    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGUSR1);
    sigaddset(&ours, SIGINT);
    struct sigaction stop = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    struct sigaction interrupt = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGUSR1, &stop, NULL);
    sigaction(SIGINT, &interrupt, NULL);
    sigprocmask(SIG_UNBLOCK, &ours, NULL);
}

enum {
    OPTION_RUN = 256,
    OPTION_DEVICE,
    OPTION_SET,
    OPTION_RESUME,
    OPTION_CHANGES,
    OPTION_PRINT,
    OPTION_PROFILE,
    OPTION_QUIET
};

static const struct option long_options[] = {
    {"run", required_argument, NULL, OPTION_RUN},
    {"device", required_argument, NULL, OPTION_DEVICE},
    {"set", required_argument, NULL, OPTION_SET},
    {"resume", required_argument, NULL, OPTION_RESUME},
    {"allow-changes", no_argument, NULL, OPTION_CHANGES},
    {"print-config", no_argument, NULL, OPTION_PRINT},
    {"profile", no_argument, NULL, OPTION_PROFILE},
    {"quiet", no_argument, NULL, OPTION_QUIET},
    {"help", no_argument, NULL, 'h'},
    {0},
};

struct arguments {
    struct trainer_options options;
    struct overrides overrides;
    bool print;
};

static int parse(int argc, char **argv, struct arguments *arguments)
{
    arguments->options.resume = "auto";
    for (int option; (option = getopt_long(argc, argv, "h", long_options, NULL)) != -1;) {
        switch (option) {
        case OPTION_RUN:
            overrides_add_text(&arguments->overrides, "run", optarg);
            break;
        case OPTION_DEVICE:
            overrides_add_text(&arguments->overrides, "train.device", optarg);
            break;
        case OPTION_SET:
            overrides_add(&arguments->overrides, "%s", optarg);
            break;
        case OPTION_RESUME:
            arguments->options.resume = optarg;
            break;
        case OPTION_CHANGES:
            arguments->options.allow_changes = true;
            break;
        case OPTION_PRINT:
            arguments->print = true;
            break;
        case OPTION_PROFILE:
            arguments->options.profile = true;
            break;
        case OPTION_QUIET:
            arguments->options.quiet = true;
            break;
        default:
            return command_usage(usage, option);
        }
    }
    arguments->options.overrides = arguments->overrides.items;
    arguments->options.num_overrides = arguments->overrides.count;
    return command_operand(argc, argv, usage, &arguments->overrides, &arguments->options.config);
}

static int print_config(const struct arguments *arguments)
{
    struct train_config values;
    struct config *config = NULL;
    struct strbuf text = {0};
    enum status status =
        config_read(&train_table, arguments->options.config, arguments->options.overrides,
                    arguments->options.num_overrides, &values, &config);
    if (status == STATUS_OK) status = train_config_check(&values, config);
    if (status == STATUS_OK) status = config_print(&train_table, &values, true, &text);
    if (status == STATUS_OK) fputs(text.text, stdout);
    int code = command_end(status);
    strbuf_fini(&text);
    config_destroy(&config);
    return code;
}

/*
 * A failure that all ranks share ends them one by one with the same code. One that this rank met
 * alone, in the middle of an update, ends the job: the others may be waiting for it.
 */
static int train(const struct arguments *arguments)
{
    struct comm *comm = NULL;
    struct trainer *trainer = NULL;
    int code = 0;
    enum status status = comm_create(&(struct comm_options){.require_launched_size = true}, &comm);
    if (status != STATUS_OK) return command_end(status);
    status = trainer_create(&trainer, &arguments->options, comm, &signals);
    if (status == STATUS_OK) {
        status = trainer_run(trainer, &code);
        if (status != STATUS_OK) {
            code = status_exit_code(status);
            run_output_end(&trainer->output, &(struct run_log_end){.step = trainer->done,
                                                                   .reason = status_message(),
                                                                   .exit_code = code});
            if (!trainer->failed_together) comm_abort(comm, code, "%s", status_message());
            if (comm->rank == 0) log_error("%s", status_message());
        }
    } else {
        code = status_exit_code(status);
        if (comm->rank == 0) log_error("%s", status_message());
    }
    comm_phase_set(comm, COMM_PHASE_FINISH, "ending");
    trainer_destroy(&trainer);
    if (comm_finish(&comm) != STATUS_OK) {
        if (code == 0) code = 1;
        comm_abort(comm, code, "%s", status_message());
    }
    return code;
}

static int run(int argc, char **argv)
{
    struct arguments arguments = {0};
    catch_signals();
    int code = parse(argc, argv, &arguments);
    if (code == COMMAND_GO_ON)
        code = arguments.print ? print_config(&arguments) : train(&arguments);
    overrides_fini(&arguments.overrides);
    return code;
}

const struct command command_train = {
    .name = "train",
    .summary = "train a model on packed data",
    .usage = usage,
    .run = run,
};
