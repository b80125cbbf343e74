/* What the tables and the page of a comparison share. */
#ifndef WEFT_LAUNCH_COMPARE_IMPL_H
#define WEFT_LAUNCH_COMPARE_IMPL_H

#include "launch/compare.h"

/* Adds a row without texts. Errors: STATUS_NO_MEMORY, STATUS_UNSUPPORTED (too many). */
enum status compare_add_row(struct compare *compare, struct compare_rows *rows, const char *label,
                            struct compare_row **added);
bool compare_has_row(const struct compare_rows *rows, const char *label);

/* Whether a run before run `run` has the column `series` too: it was dealt with there. */
bool compare_seen_before(const struct compare *compare, int run, const struct run_series *series);

#endif
