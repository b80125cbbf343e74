/*
 * Packing: from an importer's items to a set of sealed shards.
 *
 * Shard k holds the items [k * shard_size, (k + 1) * shard_size) of the source, in order, whatever
 * the number of threads. A shard appears under its name only when it is whole; so packing that was
 * stopped in any way goes on where it was by the same command, and equal input gives equal files.
 */
#ifndef WEFT_DATA_STORE_PACK_H
#define WEFT_DATA_STORE_PACK_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "data/import/import.h"
#include "runtime/base/status.h"

enum pack_on_bad {
    PACK_FAIL,  /* stop at the first bad item or part */
    PACK_SKIP,  /* leave it out, name it, go on */
    PACK_REPORT /* read everything, name what is bad, write nothing */
};

struct pack_totals {
    int64_t items;     /* items looked at in this run */
    int64_t num_items; /* of so many that this run has to do */
    int64_t images;    /* written in this run (found good, with PACK_REPORT), as the rest */
    int64_t texts;
    int64_t boxes;
    int64_t answers;
    int64_t bytes;       /* of encoded pictures */
    int64_t bad_items;   /* left out whole */
    int64_t bad_parts;   /* rows left out of items that were kept */
    int64_t transparent; /* pictures stored that can be transparent, which decoding drops */
    int64_t shards_written;
    int64_t shards_kept; /* finished by an earlier run */
};

struct pack_options {
    const struct importer *importer;
    struct import_args args;
    const char *output; /* path with one %d or %05d for the shard, without for a single shard */
    int64_t shard_size; /* items a shard, at least 1 */
    enum pack_on_bad on_bad;
    int64_t max_side; /* pictures with a longer side are made smaller and encoded anew; 0: never */
    int quality;      /* of JPEGs encoded anew, 1 to 100 */
    bool flatten;     /* transparent pictures are laid on `background` and stored as opaque PNGs */
    uint8_t background[3]; /* RGB */
    int num_threads;       /* 0: one per CPU */
    bool overwrite;        /* replace shards that are there */
    /* Called in the calling thread after each item; may be NULL. */
    void (*progress)(void *user, const struct pack_totals *totals);
    /* Called in the calling thread for each bad item or part, in order; may be NULL. */
    void (*bad)(void *user, const char *message);
    void *user;
    const volatile sig_atomic_t *stop; /* non-zero: stop soon with STATUS_CANCELLED; may be NULL */
};

/*
 * Packs. Every picture is decoded once to prove it sound. `totals` is filled in also on failure.
 * Not collective. Errors: what the importer's open says; STATUS_INVALID (a bad item with PACK_FAIL,
 * an output that is another set's, another pack at work on the same output); STATUS_IO (disk full;
 * finished shards stay, the torn one is removed); STATUS_CANCELLED.
 */
enum status pack_run(const struct pack_options *options, struct pack_totals *totals);

/* Puts the path of shard `shard` into `path`. Errors: STATUS_INVALID (no or two %d, too long). */
enum status pack_shard_path(const char *output, int64_t shard, char *path, int64_t size);

#endif
