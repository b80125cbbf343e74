/*
 * The little that weft asks of libhdf5. The library is not built thread-safe, so every use is
 * between hdf5_lock and hdf5_unlock; nothing at training time after opening is.
 *
 * The parallel build of the library works without MPI_Init as long as no MPI file driver is asked
 * for; this is what pack, check and inspect rely on (tests/data/store/test_store.c runs so).
 */
#ifndef WEFT_RUNTIME_BASE_HDF5_USE_H
#define WEFT_RUNTIME_BASE_HDF5_USE_H

#include <stdint.h>

#include <hdf5.h>

#include "runtime/base/status.h"

/* Takes the library's lock and silences its printing of errors. */
void hdf5_lock(void);
void hdf5_unlock(void);

/* The innermost message on the library's error stack, for our own messages. To be called right
 * after the failure, as any other call of the library clears the stack. Valid until the next call.
 * Needs the lock. */
const char *hdf5_reason(void);

/* Writes an attribute of the root group. Need the lock. Errors: STATUS_IO. */
enum status hdf5_write_text(hid_t file, const char *path, const char *name, const char *value);
enum status hdf5_write_int(hid_t file, const char *path, const char *name, int64_t value);

/* Creates a group in the root group, without times, so that equal contents make equal files. Needs
 * the lock. Errors: STATUS_IO. */
enum status hdf5_create_group(hid_t file, const char *path, const char *name);

/*
 * Creates the contiguous dataset `name` of `rank` dimensions, early allocation and no fill, without
 * times, and gives its place in the file (0 for no elements). Its group must exist. Needs the lock.
 * Errors: STATUS_IO.
 */
enum status hdf5_create_dataset(hid_t file, const char *path, const char *name, hid_t type,
                                int rank, const hsize_t *shape, int64_t *offset);

#endif
