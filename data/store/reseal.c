#include "data/store/reseal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "data/store/hdf5_file.h"
#include "data/store/seal.h"
#include "data/store/shard.h"
#include "runtime/base/file_io.h"

static enum status copy_bytes(const struct shard *shard, int to, const char *to_path)
{
    enum { CHUNK = 1 << 20 };
    uint8_t *chunk = malloc(CHUNK);
    CHECK(chunk, STATUS_NO_MEMORY, "%s: out of memory", shard->path);
    enum status status = STATUS_OK;
    for (int64_t at = 0; at < shard->file_bytes && status == STATUS_OK; at += CHUNK) {
        int64_t size = shard->file_bytes - at < CHUNK ? shard->file_bytes - at : CHUNK;
        status = file_read_at(shard->file, shard->path, chunk, size, at);
        if (status == STATUS_OK) status = file_write_at(to, to_path, chunk, size, at);
    }
    free(chunk);
    return status;
}

/* The hashes of all pictures, one at a time in memory. */
static enum status hash_pictures(const struct shard *shard, uint64_t *hashes)
{
    uint8_t *bytes = NULL;
    int64_t capacity = 0;
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < shard->rows[GROUP_IMAGES] && status == STATUS_OK; i++) {
        int64_t begin = 0;
        int64_t end = 0;
        status = shard_read_range(shard, TABLE_IMAGES_OFFSET, i, &begin, &end);
        if (status == STATUS_OK && end - begin > capacity) {
            free(bytes);
            capacity = end - begin;
            bytes = malloc((size_t)capacity);
            if (!bytes) status = status_fail(STATUS_NO_MEMORY, "%s: out of memory", shard->path);
        }
        if (status == STATUS_OK) {
            status = shard_read_bytes(shard, TABLE_IMAGES_BYTES, begin, end - begin, bytes);
        }
        if (status == STATUS_OK) hashes[i] = XXH64(bytes, (size_t)(end - begin), 0);
    }
    free(bytes);
    return status;
}

/* Adds images/hash and uuid where they are missing. `offset` is where the hashes go, 0: nowhere. */
static enum status extend(const struct shard *shard, const char *copy, const uint64_t *hashes,
                          int64_t *offset)
{
    int64_t images = shard->rows[GROUP_IMAGES];
    bool add_hashes = images > 0 && !shard->columns[TABLE_IMAGES_HASH].present;
    char uuid[33];
    snprintf(uuid, sizeof uuid, "%016llx%016llx",
             (unsigned long long)XXH64(hashes, (size_t)images * sizeof *hashes, 0),
             (unsigned long long)XXH64(hashes, (size_t)images * sizeof *hashes, 1));
    *offset = 0;
    hdf5_lock();
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    H5Pset_file_locking(access, false, true);
    hid_t file = H5Fopen(copy, H5F_ACC_RDWR, access);
    enum status status = STATUS_OK;
    if (file < 0) {
        status = status_fail(STATUS_IO, "%s: cannot open: %s", copy, hdf5_reason());
    }
    if (status == STATUS_OK && add_hashes) {
        status = hdf5_create_table(file, copy, TABLE_IMAGES_HASH, images, offset);
    }
    if (status == STATUS_OK && !shard->info.uuid[0]) {
        if (H5Aexists(file, "uuid") > 0) H5Adelete(file, "uuid");
        status = hdf5_write_text(file, copy, "uuid", uuid);
    }
    if (file >= 0 && H5Fclose(file) < 0 && status == STATUS_OK) {
        status = status_fail(STATUS_IO, "%s: cannot write: %s", copy, hdf5_reason());
    }
    H5Pclose(access);
    hdf5_unlock();
    return status;
}

/* libhdf5 does not survive a disk that fills while it closes a file: see writer.c. */
static enum status reserve_space(const struct shard *shard, int file, const char *copy)
{
    enum { METADATA = 1 << 16 };
    int64_t bytes = shard->file_bytes + shard->rows[GROUP_IMAGES] * 8 + METADATA;
    int error = posix_fallocate(file, 0, bytes);
    CHECK(error == 0, STATUS_IO, "%s: cannot write: %s", copy, strerror(error));
    return STATUS_OK;
}

static enum status fill_copy(const struct shard *shard, int file, const char *copy,
                             uint64_t *hashes)
{
    int64_t offset = 0;
    TRY(hash_pictures(shard, hashes));
    TRY(copy_bytes(shard, file, copy));
    TRY(reserve_space(shard, file, copy));
    TRY(extend(shard, copy, hashes, &offset));
    if (offset) {
        TRY(file_write_at(file, copy, hashes, shard->rows[GROUP_IMAGES] * (int64_t)sizeof *hashes,
                          offset));
    }
    const struct shard_column *bulk = &shard->columns[TABLE_IMAGES_BYTES];
    TRY(seal_append(file, copy, bulk->offset, bulk->elements));
    return file_sync(file, copy);
}

static enum status make_copy(const struct shard *shard, const char *copy)
{
    int file = open(copy, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    CHECK(file >= 0, STATUS_IO, "%s: cannot create: %s", copy, strerror(errno));
    uint64_t *hashes = calloc((size_t)shard->rows[GROUP_IMAGES] + 1, sizeof *hashes);
    enum status status = hashes ? fill_copy(shard, file, copy, hashes)
                                : status_fail(STATUS_NO_MEMORY, "%s: out of memory", copy);
    free(hashes);
    close(file);
    if (status == STATUS_OK) status = file_rename(copy, shard->path);
    if (status != STATUS_OK) unlink(copy);
    return status;
}

enum status reseal(const char *path, bool *sealed)
{
    struct shard shard;
    char copy[PATH_MAX];
    *sealed = false;
    CHECK(snprintf(copy, sizeof copy, "%s.tmp", path) < (int)sizeof copy, STATUS_INVALID,
          "%s: the path is too long", path);
    TRY(shard_open(&shard, path, true));
    enum status status = STATUS_OK;
    if (!shard.sealed) {
        status = make_copy(&shard, copy);
        *sealed = status == STATUS_OK;
    }
    shard_close(&shard);
    return status;
}
