/* weft compare: several runs beside each other. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "launch/command.h"
#include "launch/compare.h"

static const char usage[] =
    "usage: weft compare RUN1 RUN2... [-o FILE]\n"
    "\n"
    "Prints what the runs reached (newest evaluations, means of the last 50 steps, speed; a star\n"
    "marks the best) and the keys in which their configurations differ. With -o also writes an\n"
    "HTML page that shows their curves over each other. At most 8 runs.\n"
    "\n"
    "  -o, --output FILE  write the page to FILE\n";

static const struct option long_options[] = {{"output", required_argument, NULL, 'o'}, {0}};

static enum status parse(int argc, char **argv, const char **output)
{
    optind = 1;
    opterr = 0;
    for (;;) {
        int option = getopt_long(argc, argv, ":o:", long_options, NULL);
        if (option == -1) break;
        CHECK(option != ':', STATUS_INVALID, "%s needs a value", argv[optind - 1]);
        CHECK(option == 'o', STATUS_INVALID, "no option %s; see `weft help compare`",
              argv[optind - 1]);
        *output = optarg;
    }
    CHECK(argc - optind >= 2, STATUS_INVALID, "which runs? two at least; see `weft help compare`");
    return STATUS_OK;
}

static int run(int argc, char **argv)
{
    const char *output = NULL;
    enum status status = parse(argc, argv, &output);
    struct compare *compare = calloc(1, sizeof *compare);
    if (!compare) status = status_fail(STATUS_NO_MEMORY, "out of memory");
    if (status == STATUS_OK) {
        status = compare_read(compare, (const char *const *)argv + optind, argc - optind);
    }
    if (status == STATUS_OK) {
        compare_print(compare);
        if (output) status = compare_write(compare, output);
    }
    if (compare) compare_fini(compare);
    free(compare);
    if (status != STATUS_OK) {
        fprintf(stderr, "weft compare: %s\n", status_message());
        return status_exit_code(status);
    }
    if (output) printf("\npage: %s\n", output);
    return 0;
}

const struct command command_compare = {
    .name = "compare",
    .summary = "runs beside each other: metrics, configs, curves",
    .usage = usage,
    .run = run,
};
