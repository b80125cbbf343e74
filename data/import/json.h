/*
 * JSON, read as a stream (RFC 8259).
 *
 * Annotation files are one object of up to some hundred megabytes. A document tree of them costs
 * many times that, so importers pull values one after the other, skip what they do not need, and
 * remember byte offsets to come back to. Memory is one buffer and the longest string. Small objects
 * (one item, one line) are more convenient as a tree: json_value.h, built on this.
 *
 *     TRY(json_begin(&reader, JSON_OBJECT));
 *     for (;;) {
 *         TRY(json_next_key(&reader, &key));
 *         if (!key) break;
 *         if (strcmp(key, "id") == 0) TRY(json_int(&reader, &id));
 *         else TRY(json_skip(&reader));
 *     }
 *
 * Strict: no comments, trailing commas, NaN, single quotes or control characters in strings.
 * Strings are not checked to be UTF-8 and lone surrogates are kept (as three bytes each): a bad
 * text is the fault of one item, found when it is packed, not of the file.
 */
#ifndef WEFT_DATA_IMPORT_JSON_H
#define WEFT_DATA_IMPORT_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "data/import/input.h"
#include "runtime/base/status.h"
#include "runtime/base/strbuf.h"

enum json_type {
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
    JSON_END /* only white space is left */
};

enum { JSON_MAX_DEPTH = 128 };

/* One pass over a range of an input. Initialise with json_open, free with json_close. */
struct json_reader {
    struct input input;
    int64_t end;        /* of the range, in the input */
    int64_t position;   /* of buffer[0] in the input */
    uint8_t *buffer;    /* owned */
    int64_t capacity;   /* of the buffer */
    int64_t at;         /* next byte in the buffer */
    int64_t filled;     /* bytes in the buffer */
    struct strbuf key;  /* owned; the last key, decoded */
    struct strbuf text; /* owned; the last string, decoded */
    int depth;
    bool first[JSON_MAX_DEPTH];  /* no element of this container was read yet */
    bool object[JSON_MAX_DEPTH]; /* it is an object */
};

/*
 * Starts reading at byte `begin` of the input, up to `end` (-1: the end of the input).
 * `buffer_size` is the least step in which it is read: large for whole files, small for one item.
 * Errors: STATUS_NO_MEMORY. A UTF-8 byte order mark at the beginning of the input is skipped.
 */
enum status json_open(struct json_reader *reader, const struct input *input, int64_t begin,
                      int64_t end, int64_t buffer_size);
void json_close(struct json_reader *reader);

/*
 * All functions below fail with STATUS_CORRUPT (not JSON, or not what is asked for) naming file,
 * line and column, STATUS_IO, or STATUS_NO_MEMORY.
 */

/* The type of the value that comes next, without reading it. */
enum status json_peek(struct json_reader *reader, enum json_type *type);

/* Offset in the input of the value that comes next. */
enum status json_position(struct json_reader *reader, int64_t *position);

/* Enters an array or object. */
enum status json_begin(struct json_reader *reader, enum json_type type);

/* In an object: reads the next key (valid until the next key); NULL at the end, which leaves it. */
enum status json_next_key(struct json_reader *reader, const char **key);

/* In an array: whether there is another element; if not, leaves the array. */
enum status json_next(struct json_reader *reader, bool *more);

/* A string, decoded, with a NUL after its end; valid until the next string. `length` may be NULL.
 */
enum status json_string(struct json_reader *reader, const char **text, int64_t *length);

/* A number; a number without fraction that fits; either, telling which. */
enum status json_number(struct json_reader *reader, double *value);
enum status json_int(struct json_reader *reader, int64_t *value);
enum status json_any_number(struct json_reader *reader, double *value, bool *whole,
                            int64_t *integer);
enum status json_bool(struct json_reader *reader, bool *value);
enum status json_null(struct json_reader *reader);

/* Reads over one value of any type. */
enum status json_skip(struct json_reader *reader);

/* Demands that nothing but white space follows. */
enum status json_finish(struct json_reader *reader);

/* Fails with STATUS_CORRUPT, naming file, line and column of the next byte. */
enum status json_fail(struct json_reader *reader, const char *format, ...) STATUS_PRINTF(2, 3);

#endif
