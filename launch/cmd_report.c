/* weft report: a run folder as one HTML page. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "launch/command.h"
#include "launch/report.h"

static const char usage[] =
    "usage: weft report RUN [-o FILE]\n"
    "\n"
    "Writes what happened in the run folder RUN as one HTML file without outside references: its\n"
    "outcome, curves of every loss and metric, learning rates, where the time goes, memory,\n"
    "warnings, retrieval beside chance, the best and worst retrievals with their pictures, wrong\n"
    "pairs that the model took for a match, and the configuration. A run that is still going on\n"
    "can be reported. Pictures are read from the data sets named by RUN/eval/*.json; run it where\n"
    "they can be found under the same paths.\n"
    "\n"
    "  -o, --output FILE  where to write it (RUN/report.html)\n";

static const struct option long_options[] = {{"output", required_argument, NULL, 'o'}, {0}};

static enum status parse(int argc, char **argv, const char **run, const char **output)
{
    optind = 1;
    opterr = 0;
    for (;;) {
        int option = getopt_long(argc, argv, ":o:", long_options, NULL);
        if (option == -1) break;
        CHECK(option != ':', STATUS_INVALID, "%s needs a value", argv[optind - 1]);
        CHECK(option == 'o', STATUS_INVALID, "no option %s; see `weft help report`",
              argv[optind - 1]);
        *output = optarg;
    }
    CHECK(optind + 1 == argc, STATUS_INVALID, "%s; see `weft help report`",
          optind == argc ? "which run?" : "one run at a time");
    *run = argv[optind];
    return STATUS_OK;
}

static int run(int argc, char **argv)
{
    const char *folder = NULL;
    const char *output = NULL;
    enum status status = parse(argc, argv, &folder, &output);
    if (status == STATUS_OK) status = report_write(folder, output);
    if (status != STATUS_OK) {
        fprintf(stderr, "weft report: %s\n", status_message());
        return status_exit_code(status);
    }
    if (output) {
        printf("report: %s\n", output);
    } else {
        printf("report: %s/report.html\n", folder);
    }
    return 0;
}

const struct command command_report = {
    .name = "report",
    .summary = "a run as one HTML page: curves, tables, pictures",
    .usage = usage,
    .run = run,
};
