/*
 * What commands share in reading their arguments: `--set`, counts, help, and how they end.
 *
 *     int code = parse(argc, argv, &arguments);         COMMAND_GO_ON, or what to exit with
 *     if (code == COMMAND_GO_ON) code = command_end(work(&arguments));
 */
#ifndef WEFT_LAUNCH_ARGUMENTS_H
#define WEFT_LAUNCH_ARGUMENTS_H

#include <stdbool.h>

#include "runtime/base/arena.h"
#include "runtime/base/status.h"

enum { COMMAND_GO_ON = -1, COMMAND_BAD_USAGE = 2 };

/* Overrides of a config, "a.b=value", in the order they were given. Zero-initialise; free with
 * overrides_fini. */
struct overrides {
    const char **items; /* [count] */
    int count;
    bool failed; /* out of memory; later additions do nothing */
    struct arena arena;
};

void overrides_add(struct overrides *overrides, const char *format, ...) STATUS_PRINTF(2, 3);

/* KEY="text": text as it stands, whatever it would mean in a config. */
void overrides_add_text(struct overrides *overrides, const char *key, const char *text);
void overrides_fini(struct overrides *overrides);

/* Prints help for the option 'h', and for others, which getopt has refused, as what is right;
 * returns the exit code. */
int command_usage(const char *usage, int option);

/* The end of parsing: takes the only operand into *operand. Returns COMMAND_GO_ON, or the exit code
 * when there is none or more than one, or when `overrides` ran out of memory (told). */
int command_operand(int argc, char **argv, const char *usage, const struct overrides *overrides,
                    const char **operand);

/* Reads the value of --OPTION, a whole number from 1 to `most`; false: refused, and told. */
bool command_count(const char *command, const char *option, const char *text, int most, int *count);

/* Prints the message of a failure; returns the exit code. */
int command_end(enum status status);

#endif
