/*
 * Store: reading a data set of HDF5 shards (schema v1, docs/data-format.md).
 *
 * A store is a set of shards seen as one: images 0 .. store_num_images - 1 and texts 0 ..
 * store_num_texts - 1 in the order of the shards' positions. HDF5 is asked once, at opening, where
 * each dataset lies in its file; from then on everything is read by pread at those offsets, so any
 * number of threads read at once without a lock, memory does not grow with the number of rows, and
 * a file that shrinks under a running job is an error and not a crash.
 *
 * Not collective: every rank opens the set by itself. All reading functions are thread-safe on one
 * store as long as each thread passes its own output struct.
 */
#ifndef WEFT_DATA_STORE_STORE_H
#define WEFT_DATA_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "data/store/sample.h"
#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct store;

/* How store_open looks at shards. Zero is right for training. */
struct store_options {
    bool no_hash;      /* do not verify the hash of image bytes at each read */
    bool partial;      /* accept a set with shards missing (weft check and weft inspect of single
                          files) */
    bool unverified;   /* do not verify the seal (hash of all tables) at opening */
    int recheck_every; /* seconds between looks whether a shard was replaced; 0: 10, -1: never */
};

/*
 * Opens the shards that `patterns` name (files, or globs quoted from the shell; a directory means
 * its
 * *.h5) as one set in the order of their positions. Checked: every shard is sound HDF5 of schema v1
 * and its seal holds; all belong to the same set with the same categories; none is missing or there
 * twice. `options` may be NULL. Errors: STATUS_NOT_FOUND (nothing matches), STATUS_IO,
 * STATUS_CORRUPT, STATUS_UNSUPPORTED (chunked, compressed or big-endian datasets, another schema
 * version), STATUS_INVALID (shards of different sets). Each names the file and the remedy. The
 * caller closes the store with store_close.
 */
enum status store_open(struct store **store, const char *const *patterns, int num_patterns,
                       const struct store_options *options);
void store_close(struct store **store);

int64_t store_num_images(const struct store *store);
int64_t store_num_texts(const struct store *store);
int64_t store_num_boxes(const struct store *store);
int64_t store_num_answers(const struct store *store);
int store_num_shards(const struct store *store);
const char *store_name(const struct store *store);
const char *store_shard_path(const struct store *store, int shard);

/* A hash of the set's contents (shard identities and counts). A resumed run compares it. */
uint64_t store_fingerprint(const struct store *store);

int64_t store_num_categories(const struct store *store);
const char *store_category_name(const struct store *store, int64_t category); /* "" out of range */
int64_t store_category_id(const struct store *store, int64_t category); /* the source's own id */

/* The shard of an image or a text, and its row there. Messages name these. */
void store_locate_image(const struct store *store, int64_t image, int *shard, int64_t *row);
void store_locate_text(const struct store *store, int64_t text, int *shard, int64_t *row);

/* Zero-initialise these before the first read. They keep their memory from read to read; free them
 * with their _fini. Pointers into them are valid until the next read into the same struct. */
struct store_image {
    uint8_t *bytes;   /* encoded picture */
    int64_t size;     /* bytes */
    int32_t width;    /* pixels, as stored in the tables; 0: not known */
    int32_t height;   /* as above */
    uint64_t hash;    /* XXH64 of bytes, seed 0; computed when the shard stores none */
    int64_t index;    /* global image index */
    int64_t capacity; /* of bytes */
    char *key;        /* source name, "" when there is none; only by store_image_key */
    int64_t key_capacity;
};

struct store_text {
    char *text;     /* UTF-8, with a NUL after its end */
    int64_t length; /* bytes */
    enum text_kind kind;
    int8_t label;     /* TEXT_LABEL_* */
    int64_t image;    /* global image index */
    int64_t image2;   /* second picture of a pair, -1 for none */
    int64_t index;    /* global text index */
    int64_t capacity; /* of text */
    char *key;        /* id of the source; only by store_text_key */
    int64_t key_capacity;
};

struct store_scratch { /* private */
    void *bytes;
    int64_t capacity;
};

struct store_span {
    int32_t begin; /* characters (code points) of the box's text: [begin, end) */
    int32_t end;
};

struct store_box {
    float xyxy[4];      /* pixels, half-open */
    int64_t text;       /* global text index, -1 for none */
    int32_t category;   /* row of the category list, -1 for none */
    int32_t crowd;      /* 0 or 1 */
    int32_t first_span; /* in store_boxes.spans */
    int32_t num_spans;
};

struct store_boxes {
    struct store_box *boxes;  /* [num_boxes] */
    struct store_span *spans; /* [num_spans] */
    int32_t num_boxes;
    int32_t num_spans;
    int32_t box_capacity;
    int32_t span_capacity;
    struct store_scratch scratch;
};

struct store_answers {
    struct store_answer {
        const char *answer; /* UTF-8, with a NUL after its end */
        int64_t length;
        float score;
    } * answers; /* [num_answers] */
    int32_t num_answers;
    int32_t answer_capacity;
    char *text; /* private: where the answers lie */
    int64_t text_capacity;
};

/*
 * Reads one row by its global index. Errors, each naming file, row and key: STATUS_CORRUPT (a table
 * entry out of range, or bytes whose hash differs), STATUS_IO (read failed, file shorter than it
 * was), STATUS_INVALID (the shard was replaced since the set was opened, or an index out of range).
 */
enum status store_image_read(const struct store *store, int64_t image, struct store_image *out);
enum status store_text_read(const struct store *store, int64_t text, struct store_text *out);

/* The boxes of an image, with their spans, in stored order. `text` >= 0 keeps the boxes of that
 * text only; -1 gives all. */
enum status store_boxes_read(const struct store *store, int64_t image, int64_t text,
                             struct store_boxes *out);

/* The answers of a question, in stored order. */
enum status store_answers_read(const struct store *store, int64_t text, struct store_answers *out);

/* The texts about an image: [first, first + count). Pairs are listed at their first picture. */
enum status store_image_texts(const struct store *store, int64_t image, int64_t *first,
                              int64_t *count);

/* Source names: fills `key` of the struct, "" when the shard has none. */
enum status store_image_key(const struct store *store, int64_t image, struct store_image *out);
enum status store_text_key(const struct store *store, int64_t text, struct store_text *out);

void store_image_fini(struct store_image *image);
void store_text_fini(struct store_text *text);
void store_boxes_fini(struct store_boxes *boxes);
void store_answers_fini(struct store_answers *answers);

#ifdef __cplusplus
}
#endif
#endif
