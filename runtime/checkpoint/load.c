/*
 * Loading verifies first and looks later: the seal, then the table of hashes, then every byte that
 * the table covers, each rank its part. Only then does libhdf5 open the file, to tell what is
 * where; the values are read with pread at these places.
 *
 * In a folder the newest file is tried first. One that is damaged is told and passed over; one that
 * is sound but of another version is refused, because an older file would silently undo training.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "runtime/base/file_io.h"
#include "runtime/base/log.h"
#include "runtime/base/strbuf.h"
#include "runtime/checkpoint/load_impl.h"
#include "runtime/comm/comm.h"

/* ---- verifying ---- */

static enum status read_seal(struct checkpoint *checkpoint, struct checkpoint_seal *seal)
{
    const char *path = checkpoint->path;
    struct stat info;
    checkpoint->file = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(checkpoint->file >= 0, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO,
          "%s: cannot open: %s", path, strerror(errno));
    CHECK(fstat(checkpoint->file, &info) == 0, STATUS_IO, "%s: cannot look at it: %s", path,
          strerror(errno));
    CHECK(S_ISREG(info.st_mode), STATUS_INVALID, "%s: not a file", path);
    CHECK(info.st_size > CHECKPOINT_SEAL_BYTES, STATUS_CORRUPT,
          "%s: has only %lld bytes: cut short or never finished", path, (long long)info.st_size);
    uint8_t bytes[CHECKPOINT_SEAL_BYTES];
    TRY(file_read_at(checkpoint->file, path, bytes, sizeof bytes,
                     info.st_size - CHECKPOINT_SEAL_BYTES));
    checkpoint->bytes = info.st_size;
    return checkpoint_seal_decode(bytes, path, info.st_size, seal);
}

/* What a row covers, for the message about a damaged one. */
static enum status verify_row(const struct checkpoint *checkpoint,
                              const struct checkpoint_hash *row, uint8_t *room)
{
    enum { PART = 1 << 20 };
    XXH3_state_t *state = XXH3_createState();
    CHECK(state, STATUS_NO_MEMORY, "%s: no memory to verify it", checkpoint->path);
    XXH3_64bits_reset(state);
    enum status status = STATUS_OK;
    for (uint64_t at = 0; at < row->bytes && status == STATUS_OK; at += PART) {
        int64_t size = row->bytes - at < PART ? (int64_t)(row->bytes - at) : PART;
        status = file_read_at(checkpoint->file, checkpoint->path, room, size,
                              (int64_t)(row->offset + at));
        XXH3_64bits_update(state, room, (size_t)size);
    }
    uint64_t hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    TRY(status);
    CHECK(hash == row->hash, STATUS_CORRUPT,
          "%s: damaged: the %" PRIu64 " bytes from %" PRIu64 " on do not have their hash",
          checkpoint->path, row->bytes, row->offset);
    return STATUS_OK;
}

/* Verifies every size-th row from `rank` on, with the threads of this process. */
static enum status verify_rows(const struct checkpoint *checkpoint,
                               const struct checkpoint_hash *rows, int64_t num_rows, int rank,
                               int size)
{
    enum status result = STATUS_OK;
    char message[1024] = "";
#pragma omp parallel
    {
        uint8_t *room = malloc(1 << 20);
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = rank; i < num_rows; i += size) {
            if (rows[i].bytes == 0) continue; /* spare */
            enum status status = room ? verify_row(checkpoint, &rows[i], room)
                                      : status_fail(STATUS_NO_MEMORY, "%s: no memory to verify it",
                                                    checkpoint->path);
            if (status == STATUS_OK) continue;
#pragma omp critical
            if (result == STATUS_OK) {
                result = status;
                snprintf(message, sizeof message, "%s", status_message());
            }
        }
        free(room);
    }
    return result == STATUS_OK ? STATUS_OK : status_fail(result, "%s", message);
}

static enum status verify(struct checkpoint *checkpoint, int rank, int size)
{
    struct checkpoint_seal seal;
    TRY(read_seal(checkpoint, &seal));
    checkpoint->step = seal.step;
    size_t bytes = (size_t)seal.table_rows * sizeof(struct checkpoint_hash);
    struct checkpoint_hash *rows = malloc(bytes ? bytes : 1);
    CHECK(rows, STATUS_NO_MEMORY, "%s: no memory for %zu bytes of hashes", checkpoint->path, bytes);
    enum status status =
        file_read_at(checkpoint->file, checkpoint->path, rows, (int64_t)bytes, seal.table_offset);
    if (status == STATUS_OK && XXH3_64bits(rows, bytes) != seal.table_hash) {
        status = status_fail(STATUS_CORRUPT,
                             "%s: damaged: its table of hashes is not what was "
                             "written",
                             checkpoint->path);
    }
    if (status == STATUS_OK) status = checkpoint_hashes_check(rows, checkpoint->path, &seal);
    if (status == STATUS_OK) status = verify_rows(checkpoint, rows, seal.table_rows, rank, size);
    free(rows);
    return status;
}

/* ---- opening ---- */

void checkpoint_close(struct checkpoint **checkpoint)
{
    if (!*checkpoint) return;
    if ((*checkpoint)->file >= 0) close((*checkpoint)->file);
    arena_fini(&(*checkpoint)->arena);
    free(*checkpoint);
    *checkpoint = NULL;
}

/* Opens one file; all ranks succeed or fail together. */
static enum status open_file(struct checkpoint **opened, const char *path, struct comm *comm)
{
    struct checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
    enum status status = STATUS_OK;
    if (!checkpoint) status = status_fail(STATUS_NO_MEMORY, "%s: no memory to open it", path);
    if (checkpoint) {
        checkpoint->file = -1;
        snprintf(checkpoint->path, sizeof checkpoint->path, "%s", path);
        status = verify(checkpoint, comm ? comm->rank : 0, comm ? comm->size : 1);
    }
    if (comm) status = comm_agree_status(comm, "checkpoint: verify", status);
    if (status == STATUS_OK) {
        status = load_contents(checkpoint);
        if (comm) status = comm_agree_status(comm, "checkpoint: contents", status);
    }
    if (status != STATUS_OK) {
        char message[1024];
        snprintf(message, sizeof message, "%s", status_message());
        checkpoint_close(&checkpoint);
        return status_fail(status, "%s", message);
    }
    *opened = checkpoint;
    return STATUS_OK;
}

/* What a path stands for: a file, or the files of a folder, newest first. */
struct candidates {
    char folder[CHECKPOINT_FOLDER_MAX];
    bool is_file;
    int64_t *steps;
    int64_t count;
};

/* The folder that `path` stands for: that of a run, of a `latest`, or itself. */
static void find_folder(const char *path, bool is_folder, char folder[CHECKPOINT_FOLDER_MAX])
{
    struct stat info;
    if (!is_folder) {
        const char *slash = strrchr(path, '/');
        int length = slash == path ? 1 : slash ? (int)(slash - path) : 1;
        snprintf(folder, CHECKPOINT_FOLDER_MAX, "%.*s", length, slash ? path : ".");
        return;
    }
    snprintf(folder, CHECKPOINT_FOLDER_MAX, "%s/checkpoints", path);
    if (stat(folder, &info) == 0 && S_ISDIR(info.st_mode)) return;
    snprintf(folder, CHECKPOINT_FOLDER_MAX, "%s", path);
}

static enum status find_candidates(const char *path, struct candidates *found)
{
    struct stat info;
    CHECK(strlen(path) < sizeof found->folder - 32, STATUS_INVALID, "%s: the path is too long",
          path);
    CHECK(stat(path, &info) == 0, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO,
          "%s: cannot find a checkpoint there: %s", path, strerror(errno));
    bool is_folder = S_ISDIR(info.st_mode);
    found->is_file = !is_folder && !checkpoint_path_is_latest(path);
    found->count = 1;
    if (found->is_file) return STATUS_OK;
    find_folder(path, is_folder, found->folder);
    TRY(checkpoint_folder_list(found->folder, &found->steps, &found->count));
    CHECK(found->count > 0, STATUS_NOT_FOUND, "%s: no checkpoint (step-*.h5) there", found->folder);
    return STATUS_OK;
}

/* Rank 0 lists; the others take its list, so that all try the same files. */
static enum status share_candidates(const char *path, struct candidates *found, struct comm *comm)
{
    if (!comm) return find_candidates(path, found);
    enum status status = comm->rank == 0 ? find_candidates(path, found) : STATUS_OK;
    TRY(comm_agree_status(comm, "checkpoint: list", status));
    int64_t head[2] = {found->is_file, found->count};
    TRY(comm_broadcast(comm, "checkpoint: list", head, 2, COMM_I64, 0));
    TRY(comm_broadcast(comm, "checkpoint: list", found->folder, sizeof found->folder, COMM_U8, 0));
    found->is_file = head[0] != 0;
    found->count = head[1];
    if (found->is_file) return STATUS_OK;
    if (comm->rank != 0) found->steps = malloc((size_t)found->count * sizeof *found->steps);
    status = found->steps ? STATUS_OK : status_fail(STATUS_NO_MEMORY, "no memory for a list");
    TRY(comm_agree_status(comm, "checkpoint: list", status));
    return comm_broadcast(comm, "checkpoint: list", found->steps, found->count, COMM_I64, 0);
}

/* Damage is a reason to look at an older file; so is a file that cannot be read. */
static bool may_pass_over(enum status status)
{
    return status == STATUS_CORRUPT || status == STATUS_IO || status == STATUS_NOT_FOUND;
}

static enum status open_newest(struct checkpoint **checkpoint, const struct candidates *found,
                               struct comm *comm)
{
    bool tells = !comm || comm->rank == 0;
    for (int64_t i = 0; i < found->count; i++) {
        char name[CHECKPOINT_FOLDER_NAME_MAX];
        char path[PATH_MAX];
        checkpoint_file_name(found->steps[i], name);
        snprintf(path, sizeof path, "%s/%s", found->folder, name);
        enum status status = open_file(checkpoint, path, comm);
        if (status == STATUS_OK || !may_pass_over(status)) return status;
        if (tells) {
            log_warning("%s; %s", status_message(),
                        i + 1 < found->count ? "trying the one before" : "there is no older one");
        }
    }
    return status_fail(STATUS_CORRUPT,
                       "%s: none of the %" PRId64 " checkpoints there is sound; start a new run, "
                       "or copy one from elsewhere",
                       found->folder, found->count);
}

enum status checkpoint_open(struct checkpoint **checkpoint, const char *path, struct comm *comm)
{
    *checkpoint = NULL;
    struct candidates found = {0};
    enum status status = share_candidates(path, &found, comm);
    if (status == STATUS_OK) {
        status = found.is_file ? open_file(checkpoint, path, comm)
                               : open_newest(checkpoint, &found, comm);
    }
    free(found.steps);
    return status;
}
