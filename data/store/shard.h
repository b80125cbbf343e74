/*
 * Shard: one file of a store, opened for reading. Internal to data/store and its programs; training
 * code uses store.h.
 *
 * Opening checks the seal, lets libhdf5 tell attributes and where each dataset lies, and closes the
 * HDF5 file again; what remains is a descriptor and a table of file ranges. Reading is pread and
 * conversion, thread-safe.
 */
#ifndef WEFT_DATA_STORE_SHARD_H
#define WEFT_DATA_STORE_SHARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "data/store/schema.h"
#include "runtime/base/status.h"

/* Where a dataset lies in the file. */
struct shard_column {
    bool present;
    bool is_signed;
    bool is_float;
    uint8_t width;    /* bytes an element: 1, 2, 4 or 8 */
    int64_t elements; /* number of elements, all columns together */
    int64_t offset;   /* in the file */
};

enum { SHARD_NAME_MAX = 256 };

/* The attributes of the file. */
struct shard_info {
    char set[SHARD_NAME_MAX];    /* name of the set, "" for none */
    char set_id[SHARD_NAME_MAX]; /* hash of source and options, "" for none */
    char uuid[SHARD_NAME_MAX];   /* "" for none */
    char origin[1024];           /* who made it, from what */
    int64_t shard;               /* position, from 0 */
    int64_t shards;              /* of so many */
    int64_t skipped;             /* bad items and parts that were left out at packing */
};

struct shard {
    char *path; /* owned */
    int file;   /* descriptor, -1 when closed */
    int64_t file_bytes;
    bool sealed;
    struct shard_info info;
    struct shard_column columns[TABLE_COUNT];
    int64_t rows[GROUP_COUNT];
    struct stat identity;         /* at opening */
    _Atomic int64_t next_recheck; /* seconds of the monotonic clock */
};

/* Opens `path`. `verify` compares the seal's hash. Errors as store_open. */
enum status shard_open(struct shard *shard, const char *path, bool verify);
void shard_close(struct shard *shard);

/* Checks that columns and rows agree: lengths, presence, ranges within the file. The part of
 * opening that needs no HDF5. Errors: STATUS_CORRUPT, STATUS_UNSUPPORTED. */
enum status shard_check_tables(struct shard *shard);

/* Whether the path still leads to the file that was opened, unchanged. Errors: STATUS_INVALID. */
enum status shard_check_identity(const struct shard *shard);

/*
 * Reads `count` elements from element `first` of an integer dataset; a missing one gives its
 * default. Unsigned 64-bit values come as their bit pattern. Errors: STATUS_IO, STATUS_CORRUPT (out
 * of range).
 */
enum status shard_read_ints(const struct shard *shard, enum schema_table table, int64_t first,
                            int64_t count, int64_t *values);

/* The same for a float dataset. */
enum status shard_read_floats(const struct shard *shard, enum schema_table table, int64_t first,
                              int64_t count, float *values);

/* Reads `count` bytes from `first` of a bytes dataset. Errors: STATUS_IO, STATUS_CORRUPT. */
enum status shard_read_bytes(const struct shard *shard, enum schema_table table, int64_t first,
                             int64_t count, void *bytes);

/* The range [begin, end) of row `row` in the bytes dataset that belongs to offset table `table`.
 * Errors: STATUS_CORRUPT when it is not a range within those bytes. */
enum status shard_read_range(const struct shard *shard, enum schema_table table, int64_t row,
                             int64_t *begin, int64_t *end);

/*
 * The rows [first, first + count) of a sorted integer dataset that hold `value`. Errors: STATUS_IO.
 * On an unsorted dataset the result is a range of rows that hold `value`, perhaps not all of them.
 */
enum status shard_find(const struct shard *shard, enum schema_table table, int64_t value,
                       int64_t *first, int64_t *count);

#endif
