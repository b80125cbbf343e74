/* weft version: what this binary is and what it runs on. */
#include <stdio.h>

#include "launch/command.h"
#include "runtime/backend/cpu/isa.h"

#ifndef WEFT_VERSION
#define WEFT_VERSION "0.1.0"
#endif

static int run(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("weft %s, vector instructions: %s\n", WEFT_VERSION, cpu_isa_name(cpu_isa()));
    return 0;
}

const struct command command_version = {
    .name = "version",
    .summary = "print the version and the instruction set in use",
    .usage = "usage: weft version",
    .run = run,
};
