/*
 * The two texts of Flickr30k Entities: sentences with bracketed phrases, and XML with boxes.
 */
#ifndef WEFT_DATA_IMPORT_FLICKR_MARKUP_H
#define WEFT_DATA_IMPORT_FLICKR_MARKUP_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/arena.h"
#include "runtime/base/status.h"

enum { FLICKR_MAX_PHRASES = 64 };

/* "[/EN#283585/people A man]": the words, and the chain of mentions that they belong to. */
struct flickr_phrase {
    int64_t chain;      /* 0: not visual */
    int32_t begin, end; /* characters (code points) of the plain sentence */
};

struct flickr_sentence {
    const char *text; /* plain, in the arena */
    int64_t length;   /* bytes */
    struct flickr_phrase phrase[FLICKR_MAX_PHRASES];
    int num_phrases;
};

/*
 * Takes the brackets out of one line (without its line end). Errors: STATUS_INVALID with the
 * column: a bracket not closed, a phrase without words or id, brackets within brackets, too many
 * phrases; STATUS_NO_MEMORY.
 */
enum status flickr_parse_sentence(const char *line, int64_t length, struct arena *arena,
                                  struct flickr_sentence *sentence);

/* One box of the XML, for each chain that it is said to belong to. */
struct flickr_box {
    int64_t chain;
    int64_t xyxy[4]; /* xmin, ymin, xmax, ymax as written: pixels from 1, last one included */
    struct flickr_box *next;
};

struct flickr_boxes {
    int64_t width, height; /* 0 when the file does not say */
    struct flickr_box *first;
    int64_t count;
};

/* Reads an annotation file. Objects without a box (scene, nobndbox) give none. Errors:
 * STATUS_INVALID with the line: not well formed, a box without four numbers, a bad chain id;
 * STATUS_NO_MEMORY. */
enum status flickr_parse_boxes(const char *xml, int64_t length, struct arena *arena,
                               struct flickr_boxes *boxes);

#endif
