/* What the store asks of libhdf5: the tables of a shard. */
#ifndef WEFT_DATA_STORE_HDF5_FILE_H
#define WEFT_DATA_STORE_HDF5_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "data/store/shard.h"
#include "runtime/base/hdf5_use.h"
#include "runtime/base/status.h"

/*
 * Fills in shard->info and shard->columns from the file at shard->path. Takes the lock. The
 * metadata of a shard without a verified seal are read in a child process, because libhdf5 may
 * crash or hang on damaged ones (1.10.8 does at 25 of the 17,000 bytes of a small h5py file).
 * Errors as store_open.
 */
enum status hdf5_read_layout(struct shard *shard, bool verified);

/*
 * Creates the contiguous dataset of `table` with `elements` elements (a multiple of its columns),
 * early allocation and no fill, and gives its place in the file (0 for no elements). Its group
 * must exist. Needs the lock. Errors: STATUS_IO.
 */
enum status hdf5_create_table(hid_t file, const char *path, enum schema_table table,
                              int64_t elements, int64_t *offset);

#endif
