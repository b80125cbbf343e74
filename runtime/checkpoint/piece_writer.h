/*
 * Writes pieces of memory to their places in a file and hashes them, on a thread of its own, while
 * the memory is still in use: the owner may ask at any time to have it back, and what is not
 * written by then is copied to staging memory.
 */
#ifndef WEFT_RUNTIME_CHECKPOINT_PIECE_WRITER_H
#define WEFT_RUNTIME_CHECKPOINT_PIECE_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/checkpoint/background.h"

struct piece {
    const uint8_t *source;
    int64_t offset; /* in the file */
    int64_t bytes;
    int64_t row; /* of its hash in the table */
    bool owned;  /* the source stays as it is until the writer is joined; no need for a copy */
    uint64_t hash;
};

struct piece_writer {
    char path[1024];
    struct piece *pieces; /* borrowed */
    int64_t num_pieces;
    struct background background;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t idle;
    int64_t num_written;
    bool reads_live; /* the thread is reading memory that is not owned */
    bool cancelled;
    uint8_t *staging; /* owned; kept from one file to the next */
    int64_t staging_bytes;
};

enum status piece_writer_init(struct piece_writer *writer);
void piece_writer_fini(struct piece_writer *writer); /* joins */

/* Starts writing `pieces` to the existing file `path` and flushing it. Errors: STATUS_NO_MEMORY. */
enum status piece_writer_start(struct piece_writer *writer, const char *path, struct piece *pieces,
                               int64_t num_pieces);

/* Returns when no source that is not owned is read any more. Errors: STATUS_NO_MEMORY (the sources
 * are still in use). */
enum status piece_writer_settle(struct piece_writer *writer);

bool piece_writer_is_done(const struct piece_writer *writer);

/* Waits until all is on the disk. The hashes are in the pieces. Errors: STATUS_IO. */
enum status piece_writer_join(struct piece_writer *writer);

/* Makes the thread stop soon; join it after. */
void piece_writer_cancel(struct piece_writer *writer);

#endif
