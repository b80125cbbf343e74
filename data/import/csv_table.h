/*
 * Tables of separated values (RFC 4180): fields may be quoted, a quoted field may hold separators,
 * line ends and doubled quotes. Lines end with LF or CRLF.
 */
#ifndef WEFT_DATA_IMPORT_CSV_TABLE_H
#define WEFT_DATA_IMPORT_CSV_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "data/import/group.h"
#include "data/import/input.h"
#include "runtime/base/arena.h"
#include "runtime/base/status.h"

struct csv_dialect {
    char separator; /* ',' or '\t' */
    bool quotes;    /* false: a quotation mark is a character like any other */
};

struct csv_field {
    const char *text; /* with a NUL after its end */
    int64_t length;   /* bytes */
};

/*
 * Finds where records begin: byte offsets are appended to `offsets`, with the end of the input as
 * the last one. Empty lines are no records. Errors: STATUS_CORRUPT (a quote that is never closed,
 * naming its line), STATUS_IO, STATUS_NO_MEMORY.
 */
enum status csv_index(const struct input *input, struct csv_dialect dialect,
                      struct int_list *offsets);

/*
 * Splits the record in `text` [length] (with or without its line end) into fields, in the arena.
 * Errors: STATUS_INVALID (text after a closing quote, a quote not closed), STATUS_NO_MEMORY.
 */
enum status csv_split(const char *text, int64_t length, struct csv_dialect dialect,
                      struct arena *arena, struct csv_field **fields, int *num_fields);

#endif
