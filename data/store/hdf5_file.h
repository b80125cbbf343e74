/*
 * The little that weft asks of libhdf5. The library is not built thread-safe, so every use is
 * between hdf5_lock and hdf5_unlock; nothing at training time after opening is.
 *
 * The parallel build of the library works without MPI_Init as long as no MPI file driver is asked
 * for; this is what pack, check and inspect rely on (tests/data/store/test_store.c runs so).
 */
#ifndef WEFT_DATA_STORE_HDF5_FILE_H
#define WEFT_DATA_STORE_HDF5_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include <hdf5.h>

#include "data/store/shard.h"
#include "runtime/base/status.h"

/* Takes the library's lock and silences its printing of errors. */
void hdf5_lock(void);
void hdf5_unlock(void);

/* The innermost message on the library's error stack, for our own messages. To be called right
 * after the failure, as any other call of the library clears the stack. Valid until the next call.
 * Needs the lock. */
const char *hdf5_reason(void);

/*
 * Fills in shard->info and shard->columns from the file at shard->path. Takes the lock. The
 * metadata of a shard without a verified seal are read in a child process, because libhdf5 may
 * crash or hang on damaged ones (1.10.8 does at 25 of the 17,000 bytes of a small h5py file).
 * Errors as store_open.
 */
enum status hdf5_read_layout(struct shard *shard, bool verified);

/* Writes an attribute of the root group. Need the lock. Errors: STATUS_IO. */
enum status hdf5_write_text(hid_t file, const char *path, const char *name, const char *value);
enum status hdf5_write_int(hid_t file, const char *path, const char *name, int64_t value);

/* Creates a group in the root group, without times, so that equal contents make equal files. Needs
 * the lock. Errors: STATUS_IO. */
enum status hdf5_create_group(hid_t file, const char *path, const char *name);

/*
 * Creates the contiguous dataset of `table` with `elements` elements (a multiple of its columns),
 * early allocation and no fill, and gives its place in the file (0 for no elements). Its group
 * must exist. Needs the lock. Errors: STATUS_IO.
 */
enum status hdf5_create_table(hid_t file, const char *path, enum schema_table table,
                              int64_t elements, int64_t *offset);

#endif
