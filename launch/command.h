/*
 * Subcommands of `weft`. Each lives in launch/cmd_NAME.c, defines one `const struct command
 * command_NAME`, and is listed in the table of launch/main.c.
 */
#ifndef WEFT_LAUNCH_COMMAND_H
#define WEFT_LAUNCH_COMMAND_H

struct command {
    const char *name;
    const char *summary; /* one line for `weft help` */
    const char *usage;   /* the whole help text for `weft help NAME` and `weft NAME --help` */
    /* Runs with argv[0] = the subcommand's name; returns the process exit code (0, 1, or 2 for bad
     * usage). */
    int (*run)(int argc, char **argv);
};

#endif
