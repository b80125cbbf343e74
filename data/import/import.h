/*
 * Importers: one foreign format each, in a file data/import/NAME.c that defines one
 * `const struct importer importer_NAME`, listed in the table of data/import/import.c.
 *
 * An importer is an indexed list of items. `open` scans the source once (parses the annotations,
 * indexes the tar file, ...) and says how many items there are; `fetch` then makes item i into a
 * sample, from any thread and in any order, and always the same sample for the same i. Packing gets
 * everything else from that: work in parallel, output in order, shard k = items [k * shard_size,
 * (k + 1) * shard_size), and a restart that redoes only the shards that are missing.
 *
 * Memory: keep a compact index (file offsets, row numbers), not the texts and never the pictures.
 */
#ifndef WEFT_DATA_IMPORT_IMPORT_H
#define WEFT_DATA_IMPORT_IMPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "data/store/sample.h"
#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An option of one importer, given as --NAME VALUE (or --NAME=VALUE) to weft pack. */
struct import_option {
    const char *name;  /* "split"; must not be one of weft pack's own options */
    const char *value; /* default, NULL when there is none */
    const char *help;  /* one line */
};

/* What the user asked for. Valid during open only; copy what is needed later. */
struct import_args {
    const char *const *sources; /* [num_sources] paths as given */
    int num_sources;
    const struct import_option *options; /* the importer's own table */
    const char *const *values;           /* one per option: what the user gave, or the default */
};

/* An open source, filled in by `open`. */
struct import_source {
    void *state;       /* owned by the importer, freed by its close */
    int64_t num_items; /* items are 0 .. num_items - 1 */
    /* Hash of what the items depend on (annotation files' bytes, or names, sizes and times of many
     * files; also options that change the samples). A pack that is resumed with another fingerprint
     * is refused. */
    uint64_t fingerprint;
    /* Category names in the order of sample_box.category, owned by state; NULL when there are none.
     */
    const char *const *categories; /* [num_categories] */
    const int64_t *category_ids;   /* [num_categories] ids of the source; NULL: the row numbers */
    int64_t num_categories;
};

struct importer {
    const char *name;                    /* the FORMAT of weft pack */
    const char *summary;                 /* one line for the list of formats */
    const char *usage;                   /* what SRC is and what becomes of it, several lines */
    const struct import_option *options; /* ended by a NULL name; NULL: none */
    int min_sources;
    int max_sources; /* -1: any number */

    /* Opens the source and counts its items. `source` is zeroed; on failure nothing stays open.
     * Errors name the file and the line or entry: STATUS_NOT_FOUND, STATUS_IO, STATUS_CORRUPT,
     * STATUS_INVALID. A damaged single item is not an error here but of its fetch. */
    enum status (*open)(struct import_source *source, const struct import_args *args);

    /* Makes item `item` into `sample` (empty at entry). Thread-safe. A failure says that this item
     * is bad and why, and which (file name, line, key); what to do about it is up to --on-bad. Only
     * STATUS_NO_MEMORY and STATUS_CANCELLED stop the packing whatever --on-bad says. */
    enum status (*fetch)(const struct import_source *source, int64_t item, struct sample *sample);

    /* Frees `state`. Safe on a source whose open failed. */
    void (*close)(struct import_source *source);
};

/* The table of all importers, ended by NULL. */
extern const struct importer *const importers[];

/* The importer called `name`. Errors: STATUS_NOT_FOUND with the list of formats and the nearest. */
enum status importer_find(const char *name, const struct importer **importer);

/* The value of option `name`: what the user gave, else its default; NULL when there is neither. */
const char *import_value(const struct import_args *args, const char *name);

/* The value of option `name` as a number within [least, most]. Errors: STATUS_INVALID. */
enum status import_value_int(const struct import_args *args, const char *name, int64_t least,
                             int64_t most, int64_t *value);

/* The value of option `name` as yes or no. Errors: STATUS_INVALID. */
enum status import_value_bool(const struct import_args *args, const char *name, bool *value);

/* Chains hashes: the fingerprint `seed` extended by bytes. Starts with seed 0. */
uint64_t import_hash(uint64_t seed, const void *bytes, int64_t size);

/* Extends a fingerprint by the name, size and modification time of `path`. Errors:
 * STATUS_NOT_FOUND, STATUS_IO. */
enum status import_hash_file(uint64_t *seed, const char *path);

#ifdef __cplusplus
}
#endif
#endif
