/*
 * Rows with the same key put together: the captions of an image, the questions of an image.
 */
#ifndef WEFT_DATA_IMPORT_GROUP_H
#define WEFT_DATA_IMPORT_GROUP_H

#include <stdint.h>

#include "runtime/base/status.h"

/* Group g has rows row[first[g]] .. row[first[g + 1] - 1], in rising order; groups are numbered by
 * first appearance. Zero-initialise; free with group_fini. */
struct grouping {
    int64_t num_groups;
    int64_t *first; /* [num_groups + 1], owned */
    int64_t *row;   /* [rows], owned */
};

/* Groups rows 0 .. num_rows - 1 by key. Errors: STATUS_NO_MEMORY. */
enum status group_rows(const uint64_t *keys, int64_t num_rows, struct grouping *grouping);
void group_fini(struct grouping *grouping);

/* A key from text: 64 bits of a hash. Who groups by it compares the texts when it uses the group.
 */
uint64_t group_key(const char *text, int64_t length);

/* A growing array of 64-bit numbers; zero-initialise, free `value` with free(). */
struct int_list {
    int64_t *value; /* owned */
    int64_t count;
    int64_t room;
};

/* Errors: STATUS_NO_MEMORY. */
enum status int_list_add(struct int_list *list, int64_t value);

/* A map from 64-bit keys to numbers; zero-initialise, free with int_map_fini. */
struct int_map {
    uint64_t *key;  /* owned */
    int64_t *value; /* owned; -1 marks a free slot */
    int64_t slots;  /* a power of two */
    int64_t count;
};

/* The value of `key`; when it is new, `fresh` (0 or more) becomes its value. Errors:
 * STATUS_NO_MEMORY. */
enum status int_map_put(struct int_map *map, uint64_t key, int64_t fresh, int64_t *value);

/* The value of `key`, or -1. */
int64_t int_map_get(const struct int_map *map, uint64_t key);
void int_map_fini(struct int_map *map);

#endif
