#include "runtime/checkpoint/format.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "rows of checkpoints are written as they are in memory");

static const char magic[8] = {'W', 'E', 'F', 'T', 'C', 'K', 'P', 'T'};

/* The seal as it is on the disk. */
struct seal_bytes {
    char magic[8];
    uint64_t version, file_bytes, table_offset, table_rows, table_hash, step, hash;
};
_Static_assert(sizeof(struct seal_bytes) == CHECKPOINT_SEAL_BYTES, "no padding");

enum { HASHED_BYTES = CHECKPOINT_SEAL_BYTES - (int)sizeof(uint64_t) };

void checkpoint_seal_encode(const struct checkpoint_seal *seal,
                            uint8_t bytes[CHECKPOINT_SEAL_BYTES])
{
    struct seal_bytes raw = {.version = CHECKPOINT_VERSION,
                             .file_bytes = (uint64_t)seal->file_bytes,
                             .table_offset = (uint64_t)seal->table_offset,
                             .table_rows = (uint64_t)seal->table_rows,
                             .table_hash = seal->table_hash,
                             .step = (uint64_t)seal->step};
    memcpy(raw.magic, magic, sizeof magic);
    raw.hash = XXH3_64bits(&raw, HASHED_BYTES);
    memcpy(bytes, &raw, sizeof raw);
}

enum status checkpoint_seal_decode(const uint8_t bytes[CHECKPOINT_SEAL_BYTES], const char *path,
                                   int64_t file_bytes, struct checkpoint_seal *seal)
{
    struct seal_bytes raw;
    memcpy(&raw, bytes, sizeof raw);
    CHECK(memcmp(raw.magic, magic, sizeof magic) == 0, STATUS_CORRUPT,
          "%s: not a complete checkpoint (no seal at its end): cut short, changed, or never "
          "finished",
          path);
    CHECK(raw.hash == XXH3_64bits(&raw, HASHED_BYTES), STATUS_CORRUPT,
          "%s: the seal at its end is damaged", path);
    CHECK(raw.version == CHECKPOINT_VERSION, STATUS_UNSUPPORTED,
          "%s: a checkpoint of version %" PRIu64 ", and this weft reads version %d; %s", path,
          raw.version, CHECKPOINT_VERSION,
          raw.version > CHECKPOINT_VERSION ? "use a newer weft"
                                           : "export its weights with the weft that wrote it");
    uint64_t end = (uint64_t)file_bytes - CHECKPOINT_SEAL_BYTES;
    bool fits = raw.file_bytes == end && raw.table_offset <= end && raw.step <= INT64_MAX &&
                raw.table_rows <= (end - raw.table_offset) / sizeof(struct checkpoint_hash);
    CHECK(fits, STATUS_CORRUPT, "%s: has %" PRId64 " bytes and its seal says %" PRIu64, path,
          file_bytes, raw.file_bytes + CHECKPOINT_SEAL_BYTES);
    *seal = (struct checkpoint_seal){(int64_t)raw.file_bytes, (int64_t)raw.table_offset,
                                     (int64_t)raw.table_rows, raw.table_hash, (int64_t)raw.step};
    return STATUS_OK;
}

static int compare_rows(const void *a, const void *b)
{
    const struct checkpoint_hash *x = a;
    const struct checkpoint_hash *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

enum status checkpoint_hashes_check(struct checkpoint_hash *rows, const char *path,
                                    const struct checkpoint_seal *seal)
{
    qsort(rows, (size_t)seal->table_rows, sizeof *rows, compare_rows);
    uint64_t at = 0;
    uint64_t end = (uint64_t)seal->file_bytes;
    uint64_t table = (uint64_t)seal->table_offset;
    uint64_t table_end = table + (uint64_t)seal->table_rows * sizeof *rows;
    for (int64_t i = 0; i < seal->table_rows; i++) {
        if (rows[i].bytes == 0) continue;
        if (at == table) at = table_end;
        CHECK(rows[i].offset == at && rows[i].bytes <= end - at, STATUS_CORRUPT,
              "%s: byte %" PRIu64 " is covered by no hash or by two", path, at);
        at += rows[i].bytes;
    }
    if (at == table) at = table_end;
    CHECK(at == end, STATUS_CORRUPT, "%s: byte %" PRIu64 " is covered by no hash", path, at);
    return STATUS_OK;
}

/* ---- names ---- */

void checkpoint_file_name(int64_t step, char name[CHECKPOINT_FOLDER_NAME_MAX])
{
    snprintf(name, CHECKPOINT_FOLDER_NAME_MAX, "step-%08" PRId64 ".h5", step);
}

bool checkpoint_file_step(const char *name, int64_t *step)
{
    char again[CHECKPOINT_FOLDER_NAME_MAX];
    if (strncmp(name, "step-", 5) != 0) return false;
    errno = 0;
    *step = strtoll(name + 5, NULL, 10);
    if (errno != 0 || *step < 0) return false;
    checkpoint_file_name(*step, again);
    return strcmp(name, again) == 0;
}

bool checkpoint_path_is_latest(const char *path)
{
    const char *slash = strrchr(path, '/');
    return strcmp(slash ? slash + 1 : path, "latest") == 0;
}

static int compare_newest_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

enum status checkpoint_folder_list(const char *folder, int64_t **steps, int64_t *count)
{
    *steps = NULL;
    *count = 0;
    DIR *directory = opendir(folder);
    if (!directory && errno == ENOENT) return STATUS_OK;
    CHECK(directory, STATUS_IO, "%s: cannot list the folder: %s", folder, strerror(errno));
    enum status status = STATUS_OK;
    int64_t room = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        int64_t step;
        if (!checkpoint_file_step(entry->d_name, &step)) continue;
        if (*count == room) {
            room = room ? 2 * room : 16;
            int64_t *larger = realloc(*steps, (size_t)room * sizeof **steps);
            CHECK_GOTO(larger, status, done, STATUS_NO_MEMORY, "%s: no memory for its list",
                       folder);
            *steps = larger;
        }
        (*steps)[(*count)++] = step;
    }
    if (*count > 0) qsort(*steps, (size_t)*count, sizeof **steps, compare_newest_first);
done:
    closedir(directory);
    if (status != STATUS_OK) {
        free(*steps);
        *steps = NULL;
        *count = 0;
    }
    return status;
}
