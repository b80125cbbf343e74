#include "data/store/schema.h"

#define BYTES(path, in, need)                                                                      \
    {                                                                                              \
        .name = (path), .group = (in), .type = SCHEMA_BYTES, .width = 1, .required = (need),       \
        .columns = 1                                                                               \
    }
#define OFFSET(path, in, count, need)                                                              \
    {                                                                                              \
        .name = (path), .group = (in), .type = SCHEMA_OFFSET, .width = 8, .is_signed = true,       \
        .counts = (count), .required = (need), .columns = 1                                        \
    }
#define INT(path, in, bytes, sign, need, default)                                                  \
    {                                                                                              \
        .name = (path), .group = (in), .type = SCHEMA_INT, .width = (bytes), .is_signed = (sign),  \
        .required = (need), .columns = 1, .absent = (default)                                      \
    }

const struct schema_row schema[TABLE_COUNT] = {
    [TABLE_IMAGES_BYTES] = BYTES("images/bytes", GROUP_IMAGES, true),
    [TABLE_IMAGES_OFFSET] = OFFSET("images/offset", GROUP_IMAGES, true, true),
    [TABLE_IMAGES_HASH] = INT("images/hash", GROUP_IMAGES, 8, false, false, 0),
    [TABLE_IMAGES_WIDTH] = INT("images/width", GROUP_IMAGES, 4, true, false, 0),
    [TABLE_IMAGES_HEIGHT] = INT("images/height", GROUP_IMAGES, 4, true, false, 0),
    [TABLE_IMAGES_KEY] = BYTES("images/key", GROUP_IMAGES, false),
    [TABLE_IMAGES_KEY_OFFSET] = OFFSET("images/key_offset", GROUP_IMAGES, false, false),
    [TABLE_TEXTS_BYTES] = BYTES("texts/bytes", GROUP_TEXTS, true),
    [TABLE_TEXTS_OFFSET] = OFFSET("texts/offset", GROUP_TEXTS, true, true),
    [TABLE_TEXTS_IMAGE] = INT("texts/image", GROUP_TEXTS, 8, true, true, 0),
    [TABLE_TEXTS_IMAGE2] = INT("texts/image2", GROUP_TEXTS, 8, true, false, -1),
    [TABLE_TEXTS_KIND] = INT("texts/kind", GROUP_TEXTS, 1, true, false, 0),
    [TABLE_TEXTS_LABEL] = INT("texts/label", GROUP_TEXTS, 1, true, false, -1),
    [TABLE_TEXTS_KEY] = BYTES("texts/key", GROUP_TEXTS, false),
    [TABLE_TEXTS_KEY_OFFSET] = OFFSET("texts/key_offset", GROUP_TEXTS, false, false),
    [TABLE_BOXES_XYXY] = {.name = "boxes/xyxy",
                          .group = GROUP_BOXES,
                          .type = SCHEMA_FLOAT,
                          .width = 4,
                          .counts = true,
                          .required = true,
                          .columns = 4},
    [TABLE_BOXES_IMAGE] = INT("boxes/image", GROUP_BOXES, 8, true, true, 0),
    [TABLE_BOXES_TEXT] = INT("boxes/text", GROUP_BOXES, 8, true, false, -1),
    [TABLE_BOXES_CATEGORY] = INT("boxes/category", GROUP_BOXES, 4, true, false, -1),
    [TABLE_BOXES_CROWD] = INT("boxes/crowd", GROUP_BOXES, 1, true, false, 0),
    [TABLE_SPANS_BOX] = {.name = "spans/box",
                         .group = GROUP_SPANS,
                         .type = SCHEMA_INT,
                         .width = 8,
                         .is_signed = true,
                         .counts = true,
                         .required = true,
                         .columns = 1},
    [TABLE_SPANS_BEGIN] = INT("spans/begin", GROUP_SPANS, 4, true, true, 0),
    [TABLE_SPANS_END] = INT("spans/end", GROUP_SPANS, 4, true, true, 0),
    [TABLE_ANSWERS_BYTES] = BYTES("answers/bytes", GROUP_ANSWERS, true),
    [TABLE_ANSWERS_OFFSET] = OFFSET("answers/offset", GROUP_ANSWERS, true, true),
    [TABLE_ANSWERS_TEXT] = INT("answers/text", GROUP_ANSWERS, 8, true, true, 0),
    [TABLE_ANSWERS_SCORE] = {.name = "answers/score",
                             .group = GROUP_ANSWERS,
                             .type = SCHEMA_FLOAT,
                             .width = 4,
                             .required = true,
                             .columns = 1},
    [TABLE_CATEGORIES_BYTES] = BYTES("categories/bytes", GROUP_CATEGORIES, true),
    [TABLE_CATEGORIES_OFFSET] = OFFSET("categories/offset", GROUP_CATEGORIES, true, true),
    [TABLE_CATEGORIES_ID] = INT("categories/id", GROUP_CATEGORIES, 8, true, false, -1),
};

const char *const schema_group_names[GROUP_COUNT] = {
    [GROUP_IMAGES] = "images", [GROUP_TEXTS] = "texts",     [GROUP_BOXES] = "boxes",
    [GROUP_SPANS] = "spans",   [GROUP_ANSWERS] = "answers", [GROUP_CATEGORIES] = "categories",
};
