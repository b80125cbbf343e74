/*
 * Schema v1 as a table: every dataset that a shard may hold (docs/data-format.md). Reading, writing
 * and checking go through this one list.
 */
#ifndef WEFT_DATA_STORE_SCHEMA_H
#define WEFT_DATA_STORE_SCHEMA_H

#include <stdbool.h>
#include <stdint.h>

#define SCHEMA_FORMAT  "weft"
#define SCHEMA_VERSION 1

/* What the rows of a dataset are. */
enum schema_group {
    GROUP_IMAGES,
    GROUP_TEXTS,
    GROUP_BOXES,
    GROUP_SPANS,
    GROUP_ANSWERS,
    GROUP_CATEGORIES,
    GROUP_COUNT
};

enum schema_type {
    SCHEMA_BYTES,  /* uint8, no rows of its own: the next dataset of the table says where rows begin
                    */
    SCHEMA_OFFSET, /* integers, one more than rows: row i = bytes [offset[i], offset[i + 1]) */
    SCHEMA_INT,    /* integers, one a row */
    SCHEMA_FLOAT   /* floats, `columns` a row */
};

enum schema_table {
    TABLE_IMAGES_BYTES,
    TABLE_IMAGES_OFFSET,
    TABLE_IMAGES_HASH,
    TABLE_IMAGES_WIDTH,
    TABLE_IMAGES_HEIGHT,
    TABLE_IMAGES_KEY,
    TABLE_IMAGES_KEY_OFFSET,
    TABLE_TEXTS_BYTES,
    TABLE_TEXTS_OFFSET,
    TABLE_TEXTS_IMAGE,
    TABLE_TEXTS_IMAGE2,
    TABLE_TEXTS_KIND,
    TABLE_TEXTS_LABEL,
    TABLE_TEXTS_KEY,
    TABLE_TEXTS_KEY_OFFSET,
    TABLE_BOXES_XYXY,
    TABLE_BOXES_IMAGE,
    TABLE_BOXES_TEXT,
    TABLE_BOXES_CATEGORY,
    TABLE_BOXES_CROWD,
    TABLE_SPANS_BOX,
    TABLE_SPANS_BEGIN,
    TABLE_SPANS_END,
    TABLE_ANSWERS_BYTES,
    TABLE_ANSWERS_OFFSET,
    TABLE_ANSWERS_TEXT,
    TABLE_ANSWERS_SCORE,
    TABLE_CATEGORIES_BYTES,
    TABLE_CATEGORIES_OFFSET,
    TABLE_CATEGORIES_ID,
    TABLE_COUNT
};

struct schema_row {
    const char *name; /* path within the file, "images/bytes" */
    enum schema_group group;
    enum schema_type type;
    int width;      /* bytes of an element as weft writes it; reading takes other widths too */
    bool is_signed; /* as weft writes it */
    bool counts;    /* this dataset's length says how many rows its group has */
    bool required;  /* must be there when its group has rows */
    int columns;    /* elements a row */
    int64_t absent; /* what a missing dataset means for every row */
};

extern const struct schema_row schema[TABLE_COUNT];
extern const char *const schema_group_names[GROUP_COUNT];

#endif
