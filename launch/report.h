/*
 * The report of a run: one HTML file that needs nothing else, with curves, tables and pictures.
 *
 * Made from what the run folder holds: log.jsonl (launch/run_history.h), config.yaml, eval/ (.json,
 * launch/eval_result.h). Only the first must be there; a run that still goes on can be reported.
 * Pictures are read from their data sets and made small; where that fails the page says why.
 */
#ifndef WEFT_LAUNCH_REPORT_H
#define WEFT_LAUNCH_REPORT_H

#include "runtime/base/status.h"

/* Writes the report of the folder `run` to `path`, replaced as a whole; NULL: RUN/report.html. Not
 * collective; rank 0 may call it at the end of training. Errors: STATUS_NOT_FOUND (no log.jsonl in
 * `run`), STATUS_IO, STATUS_NO_MEMORY. */
enum status report_write(const char *run, const char *path);

#endif
