/*
 * The thread goes through the pieces from the first on; settling copies them from the last on, so
 * the two meet in the middle and nothing is copied that is written soon anyway. A source is looked
 * up for each part of a piece, so the owner waits for one part at most.
 *
 * Rejected: always copying everything first. The copy runs at the speed of memory, 5-10 times a
 * disk's, which would stop the training for 10-20 % of the writing, and needs as much memory again
 * as the state; between two updates a step leaves the state alone for seconds.
 */
#include "runtime/checkpoint/piece_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xxhash.h>

#include "runtime/base/file_io.h"
#include "runtime/checkpoint/save_impl.h"

enum { PART_BYTES = 1 << 20 };

enum status piece_writer_init(struct piece_writer *writer)
{
    memset(writer, 0, sizeof *writer);
    int error = pthread_mutex_init(&writer->lock, NULL);
    if (error == 0) error = pthread_cond_init(&writer->idle, NULL);
    CHECK(error == 0, STATUS_NO_MEMORY, "cannot make a lock: %s", strerror(error));
    return STATUS_OK;
}

void piece_writer_fini(struct piece_writer *writer)
{
    piece_writer_cancel(writer);
    (void)background_join(&writer->background);
    if (writer->staging) munmap(writer->staging, (size_t)writer->staging_bytes);
    pthread_cond_destroy(&writer->idle);
    pthread_mutex_destroy(&writer->lock);
}

/* ---- the thread ---- */

/* Where the bytes of a piece are now; marks them as being read. NULL when cancelled. */
static const uint8_t *take_source(struct piece_writer *writer, const struct piece *piece)
{
    pthread_mutex_lock(&writer->lock);
    const uint8_t *source = writer->cancelled ? NULL : piece->source;
    writer->reads_live = source && !piece->owned;
    pthread_mutex_unlock(&writer->lock);
    return source;
}

static void return_source(struct piece_writer *writer, bool piece_is_written)
{
    pthread_mutex_lock(&writer->lock);
    writer->reads_live = false;
    if (piece_is_written) writer->num_written++;
    pthread_cond_broadcast(&writer->idle);
    pthread_mutex_unlock(&writer->lock);
}

static enum status write_piece(struct piece_writer *writer, int file, XXH3_state_t *hash,
                               struct piece *piece)
{
    XXH3_64bits_reset(hash);
    enum status status = STATUS_OK;
    for (int64_t at = 0; at < piece->bytes && status == STATUS_OK; at += PART_BYTES) {
        int64_t size = piece->bytes - at < PART_BYTES ? piece->bytes - at : PART_BYTES;
        const uint8_t *source = take_source(writer, piece);
        if (!source) return status_fail(STATUS_CANCELLED, "%s: given up", writer->path);
        XXH3_64bits_update(hash, source + at, (size_t)size);
        errno = 0;
        status = file_write_at(file, writer->path, source + at, size, piece->offset + at);
        if (status != STATUS_OK) status = save_explain(status, errno);
        return_source(writer, status == STATUS_OK && at + size == piece->bytes);
    }
    piece->hash = XXH3_64bits_digest(hash);
    /* Lets the disk begin now instead of at the flush. Advice: a refusal does not matter. */
    (void)sync_file_range(file, piece->offset, piece->bytes, SYNC_FILE_RANGE_WRITE);
    return status;
}

static enum status write_pieces(void *argument)
{
    struct piece_writer *writer = argument;
    XXH3_state_t *hash = XXH3_createState();
    CHECK(hash, STATUS_NO_MEMORY, "%s: no memory to hash it", writer->path);
    enum status status = STATUS_OK;
    int file = open(writer->path, O_WRONLY | O_CLOEXEC);
    if (file < 0) {
        int error = errno;
        status = save_explain(
            status_fail(STATUS_IO, "%s: cannot open: %s", writer->path, strerror(error)), error);
    }
    for (int64_t i = 0; i < writer->num_pieces && status == STATUS_OK; i++) {
        status = write_piece(writer, file, hash, &writer->pieces[i]);
    }
    if (status == STATUS_OK) {
        status = file_sync(file, writer->path);
        if (status != STATUS_OK) status = save_explain(status, errno);
    }
    if (file >= 0) close(file);
    XXH3_freeState(hash);
    return status;
}

/* ---- the owner ---- */

enum status piece_writer_start(struct piece_writer *writer, const char *path, struct piece *pieces,
                               int64_t num_pieces)
{
    snprintf(writer->path, sizeof writer->path, "%s", path);
    writer->pieces = pieces;
    writer->num_pieces = num_pieces;
    writer->num_written = 0;
    writer->cancelled = false;
    return background_start(&writer->background, write_pieces, writer);
}

/* Room for a copy of every piece; pages take memory when they are first used. */
static enum status reserve_staging(struct piece_writer *writer)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < writer->num_pieces; i++) {
        if (!writer->pieces[i].owned) bytes += writer->pieces[i].bytes;
    }
    if (bytes <= writer->staging_bytes) return STATUS_OK;
    if (writer->staging) munmap(writer->staging, (size_t)writer->staging_bytes);
    writer->staging_bytes = 0;
    writer->staging = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (writer->staging == MAP_FAILED) {
        writer->staging = NULL;
        return status_fail(STATUS_NO_MEMORY,
                           "no memory to set aside %lld bytes of state while a checkpoint is "
                           "written",
                           (long long)bytes);
    }
    (void)madvise(writer->staging, (size_t)bytes, MADV_HUGEPAGE);
    writer->staging_bytes = bytes;
    return STATUS_OK;
}

static void set_aside(struct piece_writer *writer, int64_t index, uint8_t *copy)
{
    struct piece *piece = &writer->pieces[index];
    pthread_mutex_lock(&writer->lock);
    bool is_written = index < writer->num_written;
    pthread_mutex_unlock(&writer->lock);
    if (is_written) return;
    memcpy(copy, piece->source, (size_t)piece->bytes);
    pthread_mutex_lock(&writer->lock);
    piece->source = copy;
    piece->owned = true;
    pthread_mutex_unlock(&writer->lock);
}

enum status piece_writer_settle(struct piece_writer *writer)
{
    if (background_is_done(&writer->background)) return STATUS_OK;
    bool all_owned = true;
    for (int64_t i = 0; i < writer->num_pieces; i++) {
        all_owned = all_owned && writer->pieces[i].owned;
    }
    if (all_owned) return STATUS_OK; /* settled before: the staging memory is in use */
    TRY(reserve_staging(writer));
    if (!writer->staging) return STATUS_OK; /* nothing to set aside */
    uint8_t *end = writer->staging + writer->staging_bytes;
    int64_t *places = malloc((size_t)writer->num_pieces * sizeof *places);
    CHECK(places, STATUS_NO_MEMORY, "no memory for %lld places", (long long)writer->num_pieces);
    /* The last pieces lie at the end: they are the ones copied every time. */
    int64_t behind = 0;
    for (int64_t i = writer->num_pieces - 1; i >= 0; i--) {
        if (!writer->pieces[i].owned) behind += writer->pieces[i].bytes;
        places[i] = behind;
    }
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t k = 0; k < writer->num_pieces; k++) {
        int64_t i = writer->num_pieces - 1 - k;
        if (!writer->pieces[i].owned) set_aside(writer, i, end - places[i]);
    }
    free(places);
    pthread_mutex_lock(&writer->lock);
    while (writer->reads_live) {
        pthread_cond_wait(&writer->idle, &writer->lock);
    }
    pthread_mutex_unlock(&writer->lock);
    return STATUS_OK;
}

bool piece_writer_is_done(const struct piece_writer *writer)
{
    return background_is_done(&writer->background);
}

enum status piece_writer_join(struct piece_writer *writer)
{
    return background_join(&writer->background);
}

void piece_writer_cancel(struct piece_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    writer->cancelled = true;
    pthread_mutex_unlock(&writer->lock);
}
