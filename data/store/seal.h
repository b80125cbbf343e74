/*
 * Seal: 64 bytes behind the HDF5 part of a shard that say how the file should be.
 *
 *   byte  0  "WEFTSEAL"
 *         8  u64 version, 1
 *        16  u64 bytes of the HDF5 file in front of the seal
 *        24  u64 where images/bytes begins in the file
 *        32  u64 its length
 *        40  u64 XXH64 of everything in front of the seal except images/bytes
 *        48  u64 0
 *        56  u64 XXH64 of the 56 bytes above
 *
 * all little-endian. images/bytes itself is covered by the hash of each image (images/hash, which
 * the seal covers). HDF5 tools ignore bytes behind the end that the superblock gives, and drop them
 * when they change a file; so a shard that was edited is simply not sealed any more.
 *
 * The seal is verified before libhdf5 sees a byte of the file: the library is known to crash or
 * hang on damaged metadata. A shard without a seal (written by h5py) is read all the same, and
 * `weft check
 * --seal` adds one.
 */
#ifndef WEFT_DATA_STORE_SEAL_H
#define WEFT_DATA_STORE_SEAL_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { SEAL_BYTES = 64, SEAL_VERSION = 1 };

struct seal {
    int64_t file_bytes; /* of the HDF5 part */
    int64_t bulk_offset;
    int64_t bulk_bytes;
    uint64_t hash;
};

/*
 * Reads the seal at the end of `file` (a descriptor, `file_bytes` long; `path` for messages).
 * `sealed` tells whether there is one. Errors: STATUS_IO; STATUS_CORRUPT when the seal is damaged
 * or does not fit the file's length.
 */
enum status seal_read(int file, const char *path, int64_t file_bytes, struct seal *seal,
                      bool *sealed);

/* Compares the hash of the file with the seal's. Errors: STATUS_CORRUPT, STATUS_IO. */
enum status seal_verify(int file, const char *path, const struct seal *seal);

/* Hashes the file with seal->file_bytes, bulk_offset and bulk_bytes given, into seal->hash. */
enum status seal_hash(int file, const char *path, struct seal *seal);

/* Hashes and appends the seal to `file`, whose HDF5 part ends at its end. Errors: STATUS_IO. */
enum status seal_append(int file, const char *path, int64_t bulk_offset, int64_t bulk_bytes);

/* Writes the seal to `bytes`. */
void seal_encode(const struct seal *seal, uint8_t bytes[SEAL_BYTES]);

/* Reads a seal from `bytes`; `file_bytes` is the length of the whole file. See seal_read. */
enum status seal_decode(const uint8_t bytes[SEAL_BYTES], const char *path, int64_t file_bytes,
                        struct seal *seal, bool *sealed);

#endif
