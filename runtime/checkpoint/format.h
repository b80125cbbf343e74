/*
 * What a checkpoint file is: names, the table of hashes, and the seal.
 *
 * The file is HDF5 (h5py reads it; docs/checkpoint.md) with contiguous datasets:
 *
 *   /                     attributes format, version, step
 *   /state/NAME           f32 [elements]
 *   /blobs/NAME           u8 [size]
 *   /parameters           rows of {name, rank, shape, offset, count}
 *   /hashes               rows of {offset, bytes, xxh3}: XXH3-64 of these bytes of the file; rows
 *                         with bytes = 0 are spare
 *
 * The rows of /hashes cover every byte of the file once, HDF5's own metadata included, except
 * /hashes itself. That one is covered by the seal, 64 bytes behind the HDF5 part:
 *
 *   byte  0  "WEFTCKPT"
 *         8  u64 version, 1
 *        16  u64 bytes of the HDF5 part
 *        24  u64 where /hashes begins
 *        32  u64 its rows
 *        40  u64 XXH3-64 of /hashes
 *        48  u64 step
 *        56  u64 XXH3-64 of the 56 bytes above
 *
 * So nothing of a damaged file reaches libhdf5, which may crash or hang on it. All integers are
 * little-endian.
 */
#ifndef WEFT_RUNTIME_CHECKPOINT_FORMAT_H
#define WEFT_RUNTIME_CHECKPOINT_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/graph/tensor.h"

#define CHECKPOINT_FORMAT "weft checkpoint"

enum {
    CHECKPOINT_VERSION = 1,
    CHECKPOINT_SEAL_BYTES = 64,
    CHECKPOINT_NAME_MAX = 63,          /* bytes of a vector's or blob's name */
    CHECKPOINT_PIECE_BYTES = 16 << 20, /* the most that one hash covers of a vector or blob */
    CHECKPOINT_ALIGN = 4096,           /* datasets begin at multiples of it */
    CHECKPOINT_FOLDER_NAME_MAX = 64,   /* of a file in the folder */
    CHECKPOINT_FOLDER_MAX = 4096 - 2 * 64
};

#define CHECKPOINT_STATE      "state"
#define CHECKPOINT_BLOBS      "blobs"
#define CHECKPOINT_PARAMETERS "parameters"
#define CHECKPOINT_HASHES     "hashes"

/* A row of /hashes. */
struct checkpoint_hash {
    uint64_t offset;
    uint64_t bytes;
    uint64_t hash;
};

/* The numbers of a row of /parameters, behind its name. */
struct checkpoint_row {
    int64_t rank;
    int64_t dim[SHAPE_MAX_RANK];
    int64_t offset;
    int64_t count;
};

struct checkpoint_seal {
    int64_t file_bytes; /* of the HDF5 part */
    int64_t table_offset;
    int64_t table_rows;
    uint64_t table_hash;
    int64_t step;
};

void checkpoint_seal_encode(const struct checkpoint_seal *seal,
                            uint8_t bytes[CHECKPOINT_SEAL_BYTES]);

/*
 * Reads the seal from the last bytes of a file of `file_bytes`, seal included. Errors:
 * STATUS_CORRUPT when there is none, or it is damaged or does not fit; STATUS_UNSUPPORTED for
 * another version.
 */
enum status checkpoint_seal_decode(const uint8_t bytes[CHECKPOINT_SEAL_BYTES], const char *path,
                                   int64_t file_bytes, struct checkpoint_seal *seal);

/* Checks that the rows and the table itself cover the file exactly once. Sorts the rows by offset.
 * Errors: STATUS_CORRUPT. */
enum status checkpoint_hashes_check(struct checkpoint_hash *rows, const char *path,
                                    const struct checkpoint_seal *seal);

/* "step-00000012.h5" to `name`. */
void checkpoint_file_name(int64_t step, char name[CHECKPOINT_FOLDER_NAME_MAX]);

/* Whether `name` is that of a complete checkpoint, and its step. */
bool checkpoint_file_step(const char *name, int64_t *step);

/* Whether `path` is a folder's `latest`, which names a file and is none itself. */
bool checkpoint_path_is_latest(const char *path);

/*
 * The steps of the complete files in `folder`, newest first: *steps [*count], free() it. A folder
 * that does not exist has none. Errors: STATUS_IO, STATUS_NO_MEMORY.
 */
enum status checkpoint_folder_list(const char *folder, int64_t **steps, int64_t *count);

#endif
