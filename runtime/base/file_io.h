/* Whole reads and writes at an offset, with messages. Thread-safe. */
#ifndef WEFT_RUNTIME_BASE_FILE_IO_H
#define WEFT_RUNTIME_BASE_FILE_IO_H

#include <stdint.h>

#include "runtime/base/status.h"

/* Reads exactly `size` bytes at `offset`. Errors: STATUS_IO, also for a file that ends before. */
enum status file_read_at(int file, const char *path, void *bytes, int64_t size, int64_t offset);

/* Writes exactly `size` bytes at `offset`. Errors: STATUS_IO (disk full, file size limit). */
enum status file_write_at(int file, const char *path, const void *bytes, int64_t size,
                          int64_t offset);

/* Flushes `file` to the disk. Errors: STATUS_IO. */
enum status file_sync(int file, const char *path);

/* Flushes the folder that holds `path` to the disk: names made or removed there. Errors: STATUS_IO.
 */
enum status file_sync_folder(const char *path);

/* Renames `from` to `to` in the same directory and flushes the directory. Errors: STATUS_IO. */
enum status file_rename(const char *from, const char *to);

/* Writes a whole small file, which appears complete or not at all: to PATH.tmp, flushed, renamed.
 * Errors: STATUS_IO. */
enum status file_replace(const char *path, const void *bytes, int64_t size);

#endif
