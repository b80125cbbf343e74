/*
 * JSON values as a tree in an arena: for single items, not for whole annotation files.
 */
#ifndef WEFT_DATA_IMPORT_JSON_VALUE_H
#define WEFT_DATA_IMPORT_JSON_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "data/import/json.h"
#include "runtime/base/arena.h"

struct json_value {
    enum json_type type;
    bool boolean;
    bool whole; /* the number has no fraction and fits `integer` */
    int64_t integer;
    double number;
    const char *text; /* of a string, with a NUL after its end */
    int64_t length;
    const char *key;          /* within an object; NULL within an array */
    struct json_value *child; /* first element of an array or object */
    struct json_value *next;  /* next element of the same container */
    int64_t count;            /* elements */
};

/* Reads the next value into the arena. Errors: those of json.h; STATUS_CORRUPT for a tree of more
 * than a million values. */
enum status json_read(struct json_reader *reader, struct arena *arena, struct json_value **value);

/* Reads the one value in bytes [begin, end) of the input; end -1: what begins there, and whatever
 * follows it is left alone. Errors: as json_read. */
enum status json_read_at(const struct input *input, int64_t begin, int64_t end, struct arena *arena,
                         struct json_value **value);

/* The element `key` of an object (the last one with that name), or NULL. */
const struct json_value *json_get(const struct json_value *object, const char *key);

/* "a string", "an array", ... for messages. */
const char *json_type_name(enum json_type type);

/*
 * The element `key` as what its type says. Errors: STATUS_INVALID naming the key: it is not there
 * (json_get tells beforehand), or something else.
 */
enum status json_get_string(const struct json_value *object, const char *key,
                            const struct json_value **string);
enum status json_get_int(const struct json_value *object, const char *key, int64_t *value);
enum status json_get_number(const struct json_value *object, const char *key, double *value);
enum status json_get_array(const struct json_value *object, const char *key,
                           const struct json_value **array);

/* An id: a number or a string, as text in the arena. */
enum status json_get_id(const struct json_value *object, const char *key, struct arena *arena,
                        const char **id);

/* Four numbers. `what` is for the message: "bbox". */
enum status json_four_numbers(const struct json_value *array, const char *what, double value[4]);

#endif
