/*
 * Writing one shard. Samples are appended; nothing is at the final path until finish, which seals
 * the file, flushes it and renames it. Equal samples and attributes give equal files, byte for
 * byte. Not safe for concurrent use; different writers are independent.
 */
#ifndef WEFT_DATA_STORE_WRITER_H
#define WEFT_DATA_STORE_WRITER_H

#include <stdint.h>

#include "data/store/sample.h"
#include "data/store/shard.h"
#include "runtime/base/status.h"

struct shard_writer;

/* What is said once per shard. The pointers are borrowed for the writer's life. */
struct shard_head {
    const char *set;
    const char *set_id;
    const char *origin;
    int64_t shard;
    int64_t shards;
    const char *const *categories; /* [num_categories] */
    const int64_t *category_ids;   /* [num_categories], NULL: row numbers */
    int64_t num_categories;
};

/* Starts a shard that will be `path`; until then it is `path`.tmp, which is replaced if it exists.
 * Errors: STATUS_IO, STATUS_NO_MEMORY. */
enum status shard_writer_create(struct shard_writer **writer, const char *path,
                                const struct shard_head *head);

/*
 * Appends a sample that sample_clean has put in order (a sample from elsewhere must keep its rules:
 * children sorted by parent, references in range). `hashes` are the XXH64 (seed 0) of its images'
 * bytes, or NULL to compute them here. Errors: STATUS_IO (disk full), STATUS_NO_MEMORY.
 */
enum status shard_writer_add(struct shard_writer *writer, const struct sample *sample,
                             const uint64_t *hashes);

/* Writes the tables and the seal, flushes and renames. `skipped` is kept as an attribute. The
 * writer is gone afterwards, whatever the result; on failure its file is too. Errors: STATUS_IO. */
enum status shard_writer_finish(struct shard_writer **writer, int64_t skipped);

/* Gives up: removes the temporary file and frees the writer. NULL-safe. */
void shard_writer_destroy(struct shard_writer **writer);

#endif
