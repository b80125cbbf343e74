/*
 * Several runs beside each other: what they reached, in what their configs differ, their curves
 * over each other.
 */
#ifndef WEFT_LAUNCH_COMPARE_H
#define WEFT_LAUNCH_COMPARE_H

#include "launch/run_history.h"

enum { COMPARE_RUNS = 8 };

/* A row of a table: one text a run, "" where the run has none. */
struct compare_row {
    const char *label;
    const char *texts[COMPARE_RUNS];
    int best; /* the run whose value is best, -1: all equal, or nothing to choose */
};

struct compare_rows {
    struct compare_row *rows; /* [count] */
    int count;
};

struct compare {
    struct arena arena;
    int num_runs;
    const char *folders[COMPARE_RUNS]; /* borrowed */
    const char *names[COMPARE_RUNS];   /* last parts of the folders, or all of them when equal */
    struct run_history histories[COMPARE_RUNS];
    struct compare_rows metrics; /* final losses, speed, newest evaluations */
    struct compare_rows configs; /* keys of config.yaml whose values differ */
    int num_equal;               /* keys that have the same value everywhere */
    char unread[400];            /* why the configs could not be compared, "" */
};

/* Reads the runs and makes the tables. Free with compare_fini, also after a failure. Errors:
 * STATUS_INVALID (too many runs), those of run_history_read. */
enum status compare_read(struct compare *compare, const char *const *folders, int num_runs);
void compare_fini(struct compare *compare);

/* Prints the tables to standard output. */
void compare_print(const struct compare *compare);

/* Writes tables and curves as one HTML page to `path`. Errors: STATUS_IO, STATUS_NO_MEMORY. */
enum status compare_write(struct compare *compare, const char *path);

/*
 * The scalars of a YAML file as "a.b.0.c" = text, in the order of the file, in `arena`: pairs of
 * strings, *count of them. Errors: STATUS_NOT_FOUND, STATUS_IO, STATUS_CORRUPT naming the line.
 */
enum status compare_flatten(const char *path, struct arena *arena, const char *(**pairs)[2],
                            int *count);

#endif
