/* weft: the program. One subcommand a row of the table; each lives in a file of its own. */
#include <stdio.h>
#include <string.h>

#include "launch/command.h"
#include "runtime/base/strbuf.h"

extern const struct command command_check;
extern const struct command command_compare;
extern const struct command command_doctor;
extern const struct command command_eval;
extern const struct command command_export;
extern const struct command command_import;
extern const struct command command_infer;
extern const struct command command_inspect;
extern const struct command command_pack;
extern const struct command command_plan;
extern const struct command command_report;
extern const struct command command_tokenizer;
extern const struct command command_train;
extern const struct command command_verify;
extern const struct command command_version;

/* One row a line, so that adding one does not move the others. */
/* clang-format off */
static const struct command *const commands[] = {
    &command_pack,
    &command_check,
    &command_inspect,
    &command_tokenizer,
    &command_plan,
    &command_train,
    &command_verify,
    &command_report,
    &command_compare,
    &command_doctor,
    &command_import,
    &command_eval,
    &command_infer,
    &command_export,
    &command_version,
};
/* clang-format on */
enum { NUM_COMMANDS = sizeof commands / sizeof commands[0] };

static const struct command *command_find(const char *name)
{
    for (int i = 0; i < NUM_COMMANDS; i++) {
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    }
    return NULL;
}

static int refuse_unknown(const char *name)
{
    const char *names[NUM_COMMANDS];
    for (int i = 0; i < NUM_COMMANDS; i++) {
        names[i] = commands[i]->name;
    }
    const char *nearest = string_nearest(name, names, NUM_COMMANDS);
    fprintf(stderr, "weft: unknown command '%s'", name);
    if (nearest) fprintf(stderr, "; did you mean '%s'?", nearest);
    fprintf(stderr, "\n`weft help` lists the commands.\n");
    return 2;
}

static int help(const char *name)
{
    if (name) {
        const struct command *command = command_find(name);
        if (!command) return refuse_unknown(name);
        printf("%s\n", command->usage);
        return 0;
    }
    printf(
        "weft: distributed pre-training of vision-language models\n\nusage: weft COMMAND ...\n\n");
    for (int i = 0; i < NUM_COMMANDS; i++) {
        printf("  %-12s %s\n", commands[i]->name, commands[i]->summary);
    }
    printf("\n`weft help COMMAND` tells all of one command.\n");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0) {
        return help(argc > 2 ? argv[2] : NULL);
    }
    if (strcmp(argv[1], "--version") == 0) return command_version.run(1, argv + 1);
    const struct command *command = command_find(argv[1]);
    if (!command) return refuse_unknown(argv[1]);
    if (argc > 2 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)) {
        return help(argv[1]);
    }
    return command->run(argc - 1, argv + 1);
}
