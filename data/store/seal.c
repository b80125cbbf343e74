#include "data/store/seal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "runtime/base/file_io.h"

static const char magic[8] = {'W', 'E', 'F', 'T', 'S', 'E', 'A', 'L'};

static uint64_t get_u64(const uint8_t *bytes)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--) {
        value = value << 8 | bytes[i];
    }
    return value;
}

static void put_u64(uint8_t *bytes, uint64_t value)
{
    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
}

void seal_encode(const struct seal *seal, uint8_t bytes[SEAL_BYTES])
{
    memset(bytes, 0, SEAL_BYTES);
    memcpy(bytes, magic, sizeof magic);
    put_u64(bytes + 8, SEAL_VERSION);
    put_u64(bytes + 16, (uint64_t)seal->file_bytes);
    put_u64(bytes + 24, (uint64_t)seal->bulk_offset);
    put_u64(bytes + 32, (uint64_t)seal->bulk_bytes);
    put_u64(bytes + 40, seal->hash);
    put_u64(bytes + 56, XXH64(bytes, 56, 0));
}

enum status seal_decode(const uint8_t bytes[SEAL_BYTES], const char *path, int64_t file_bytes,
                        struct seal *seal, bool *sealed)
{
    *sealed = memcmp(bytes, magic, sizeof magic) == 0;
    if (!*sealed) return STATUS_OK;
    CHECK(get_u64(bytes + 56) == XXH64(bytes, 56, 0), STATUS_CORRUPT,
          "%s: the seal at the end of the file is damaged; copy or pack it again", path);
    CHECK(get_u64(bytes + 8) == SEAL_VERSION, STATUS_UNSUPPORTED,
          "%s: the seal has version %llu and this weft knows %d; use a newer weft", path,
          (unsigned long long)get_u64(bytes + 8), SEAL_VERSION);
    seal->file_bytes = (int64_t)get_u64(bytes + 16);
    seal->bulk_offset = (int64_t)get_u64(bytes + 24);
    seal->bulk_bytes = (int64_t)get_u64(bytes + 32);
    seal->hash = get_u64(bytes + 40);
    CHECK(seal->file_bytes == file_bytes - SEAL_BYTES, STATUS_CORRUPT,
          "%s: the file has %lld bytes and its seal says %lld; copy or pack it again", path,
          (long long)file_bytes, (long long)(seal->file_bytes + SEAL_BYTES));
    CHECK(seal->bulk_offset >= 0 && seal->bulk_bytes >= 0 &&
              seal->bulk_offset <= seal->file_bytes &&
              seal->bulk_bytes <= seal->file_bytes - seal->bulk_offset,
          STATUS_CORRUPT, "%s: the seal at the end of the file does not fit the file", path);
    return STATUS_OK;
}

enum status seal_read(int file, const char *path, int64_t file_bytes, struct seal *seal,
                      bool *sealed)
{
    *sealed = false;
    if (file_bytes < SEAL_BYTES) return STATUS_OK;
    uint8_t bytes[SEAL_BYTES];
    TRY(file_read_at(file, path, bytes, SEAL_BYTES, file_bytes - SEAL_BYTES));
    return seal_decode(bytes, path, file_bytes, seal, sealed);
}

static enum status hash_range(int file, const char *path, XXH64_state_t *state, int64_t begin,
                              int64_t end)
{
    enum { CHUNK = 1 << 20 };
    uint8_t *chunk = malloc(CHUNK);
    CHECK(chunk, STATUS_NO_MEMORY, "%s: out of memory", path);
    enum status status = STATUS_OK;
    while (begin < end && status == STATUS_OK) {
        int64_t size = end - begin < CHUNK ? end - begin : CHUNK;
        status = file_read_at(file, path, chunk, size, begin);
        if (status == STATUS_OK) XXH64_update(state, chunk, (size_t)size);
        begin += size;
    }
    free(chunk);
    return status;
}

enum status seal_hash(int file, const char *path, struct seal *seal)
{
    XXH64_state_t *state = XXH64_createState();
    CHECK(state, STATUS_NO_MEMORY, "%s: out of memory", path);
    XXH64_reset(state, 0);
    enum status status = hash_range(file, path, state, 0, seal->bulk_offset);
    if (status == STATUS_OK) {
        status =
            hash_range(file, path, state, seal->bulk_offset + seal->bulk_bytes, seal->file_bytes);
    }
    seal->hash = XXH64_digest(state);
    XXH64_freeState(state);
    return status;
}

enum status seal_append(int file, const char *path, int64_t bulk_offset, int64_t bulk_bytes)
{
    off_t end = lseek(file, 0, SEEK_END);
    CHECK(end > 0, STATUS_IO, "%s: cannot find its end: %s", path, strerror(errno));
    struct seal seal = {.file_bytes = end, .bulk_offset = bulk_offset, .bulk_bytes = bulk_bytes};
    TRY(seal_hash(file, path, &seal));
    uint8_t bytes[SEAL_BYTES];
    seal_encode(&seal, bytes);
    return file_write_at(file, path, bytes, SEAL_BYTES, end);
}

enum status seal_verify(int file, const char *path, const struct seal *seal)
{
    struct seal found = *seal;
    TRY(seal_hash(file, path, &found));
    CHECK(found.hash == seal->hash, STATUS_CORRUPT,
          "%s: the tables are damaged (hash %016llx, sealed as %016llx); copy or pack it again",
          path, (unsigned long long)found.hash, (unsigned long long)seal->hash);
    return STATUS_OK;
}
