/*
 * Logging per rank, to standard error and optionally to a file.
 *
 * Rank 0 prints from INFO on, other ranks from WARNING on, so that N ranks do not repeat one line N
 * times. Lines carry the level and, when there is more than one rank, the rank. Safe to call from
 * any thread.
 */
#ifndef WEFT_RUNTIME_BASE_LOG_H
#define WEFT_RUNTIME_BASE_LOG_H

#include <stdbool.h>

#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

/* Sets this process' place among `size` ranks; called once after MPI start-up. The default is 0
 * of 1. */
void log_set_rank(int rank, int size);

/* Sets the least level printed by this process, in place of the rank's default. */
void log_set_level(enum log_level level);

/* Also appends every line to `path` (opened now), NULL stops. Errors: STATUS_IO. */
enum status log_set_file(const char *path);

void log_print(enum log_level level, const char *format, ...) STATUS_PRINTF(2, 3);

#define log_debug(...)   log_print(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)    log_print(LOG_INFO, __VA_ARGS__)
#define log_warning(...) log_print(LOG_WARNING, __VA_ARGS__)
#define log_error(...)   log_print(LOG_ERROR, __VA_ARGS__)

#ifdef __cplusplus
}
#endif
#endif
