/*
 * A progress line on standard error: a bar with rate and time left on a terminal, otherwise a plain
 * line every half minute, so that log files stay short. One thread at a time.
 */
#ifndef WEFT_LAUNCH_PROGRESS_H
#define WEFT_LAUNCH_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
    const char *what; /* "packing" */
    const char *unit; /* "items" */
    double begin;     /* seconds of the monotonic clock */
    double shown;     /* when the last line was shown */
    bool terminal;
    bool visible; /* the cursor stands behind a bar */
};

/* Starts the clock. The strings are borrowed. */
void progress_start(struct progress *progress, const char *what, const char *unit);

/* Shows how far it is, at most ten times a second. `note` is put at the end, may be NULL. */
void progress_show(struct progress *progress, int64_t done, int64_t total, const char *note);

/* Clears the bar before something else is printed to the terminal. */
void progress_clear(struct progress *progress);

/* Seconds since progress_start. */
double progress_seconds(const struct progress *progress);

/* Writes `number` with thousands separators to `text` and returns it: 1234567 as 1,234,567. */
const char *number_text(int64_t number, char *text, size_t size);

/* Writes `bytes` with a unit to `text` and returns it: 1.2 GB. */
const char *bytes_text(int64_t bytes, char *text, size_t size);

#endif
