/* Summary: what a set holds, in numbers, for weft inspect and the contact sheet. */
#ifndef WEFT_DATA_STORE_SUMMARY_H
#define WEFT_DATA_STORE_SUMMARY_H

#include <stdint.h>

#include "data/image/image.h"
#include "data/store/sample.h"
#include "data/store/store.h"
#include "runtime/base/status.h"

struct summary {
    int64_t image_bytes;
    int64_t num_sized;     /* images whose size is stored */
    int32_t least_side[2]; /* least width and height of those */
    int32_t most_side[2];
    int64_t num_looked_at; /* images whose format was looked up, a sample spread over the set */
    int64_t num_format[IMAGE_WEBP + 1]; /* of those, by enum image_format */
    int64_t num_kind[TEXT_NUM_KINDS];
    int64_t num_label[2]; /* statements that are false, true */
    int64_t num_pairs;
    int64_t text_bytes;
    int64_t least_text; /* bytes of the shortest text */
    int64_t most_text;
    int64_t num_text_keys; /* different ones; 0 when there are none */
    int64_t num_boxes_with_text;
    int64_t num_crowd;
    int64_t num_spans;
    int64_t num_skipped;   /* bad items left out at packing */
    int num_sealed;        /* shards */
    int64_t *num_category; /* [store_num_categories] boxes of each, owned */
};

/* Reads the tables from end to end; memory 8 bytes a text with a key. Free with summary_fini.
 * Errors: as reading rows. */
enum status summary_make(const struct store *store, struct summary *summary);
void summary_fini(struct summary *summary);

/* Puts the categories with the most boxes first: `order` gets up to `most` category rows; returns
 * how many have boxes at all, up to `most`. */
int64_t summary_top_categories(const struct store *store, const struct summary *summary,
                               int64_t most, int64_t *order);

/* A caption, question, ...: the kind's name. */
const char *text_kind_name(enum text_kind kind);

#endif
