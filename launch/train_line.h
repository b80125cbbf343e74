/*
 * What training says on standard error while it runs: on a terminal one line that is rewritten,
 * otherwise a plain line every so many steps. All figures are means over the last steps (50 at
 * most, or those since the plain line before); the time left counts no evaluations.
 *
 *   step 1,200/100,000  loss 4.1032 mlm 2.0110 itc 1.5513 itm 0.5409  312 samples/s  wait 2%
 *   compute 84% communicate 9% update 5%  left 1:02:11
 *
 * It also notices that training waits for data: more than 10 % of the last 50 steps. Rank 0; one
 * thread at a time.
 */
#ifndef WEFT_LAUNCH_TRAIN_LINE_H
#define WEFT_LAUNCH_TRAIN_LINE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "launch/run_log.h"

enum { TRAIN_LINE_WINDOW = 50, TRAIN_LINE_LOSSES = 12 };

struct train_line_options {
    int64_t total_steps;
    int64_t every;  /* steps between plain lines; 0: 50 */
    FILE *out;      /* NULL: standard error */
    bool plain;     /* no rewriting even on a terminal */
    bool no_output; /* only watch for waits */
};

struct train_line {
    struct train_line_options options;
    bool terminal;
    bool visible;                                  /* the cursor stands behind a line */
    bool waits;                                    /* told that it waits for data */
    int64_t steps;                                 /* seen */
    int64_t unshown;                               /* steps since the last plain line */
    double shown;                                  /* seconds of the monotonic clock */
    struct run_log_step window[TRAIN_LINE_WINDOW]; /* ring; losses point into `losses` */
    struct run_value losses[TRAIN_LINE_WINDOW][TRAIN_LINE_LOSSES];
    struct strbuf text;
    char warning[512];
};

/* Prepares for steps; free with train_line_fini, which ends the line on a terminal. */
void train_line_init(struct train_line *line, const struct train_line_options *options);
void train_line_fini(struct train_line *line);

/*
 * Takes one step in and shows it when it is time. Names in step->losses must live as long as the
 * line. Returns NULL, or the text of a warning (valid until the next call) when training has begun
 * to wait for data: how much, for what, and what to change; the first 5 steps do not count. It is
 * told again only after waits have been below 5 % meanwhile.
 */
const char *train_line_step(struct train_line *line, const struct run_log_step *step);

/* Clears the line on a terminal before something else is printed there. */
void train_line_clear(struct train_line *line);

#endif
