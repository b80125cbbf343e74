/* Inside of a store, shared by opening, reading and the programs that look closer. */
#ifndef WEFT_DATA_STORE_STORE_IMPL_H
#define WEFT_DATA_STORE_STORE_IMPL_H

#include "data/store/shard.h"
#include "data/store/store.h"
#include "runtime/base/arena.h"

struct store_category {
    const char *name;
    int64_t id;
};

struct store {
    struct store_options options;
    struct shard *shards; /* [num_shards], owned */
    int num_shards;
    int64_t *image_begin; /* [num_shards + 1] global index of a shard's first image */
    int64_t *text_begin;  /* [num_shards + 1] */
    int64_t rows[GROUP_COUNT];
    struct store_category *categories; /* [num_categories] */
    int64_t num_categories;
    uint64_t fingerprint;
    struct arena arena; /* of the tables above */
};

/* Looks whether the shard was replaced, when the last look is long enough ago. Errors:
 * STATUS_INVALID. */
enum status store_recheck(const struct store *store, struct shard *shard);

/* The files that `patterns` name (see store_open), each once, in order of names; `paths` are freed
 * by store_expand_free. Errors: STATUS_NOT_FOUND, STATUS_NO_MEMORY. */
enum status store_expand(const char *const *patterns, int num_patterns, char ***paths, int *count);
void store_expand_free(char **paths, int count);

#endif
