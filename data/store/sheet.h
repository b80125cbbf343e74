/* Contact sheet: an HTML page without outside references that shows pictures with their boxes
 * drawn, captions with their phrases marked, questions with answers, statements with labels. */
#ifndef WEFT_DATA_STORE_SHEET_H
#define WEFT_DATA_STORE_SHEET_H

#include <stdint.h>

#include "data/store/store.h"
#include "data/store/summary.h"
#include "runtime/base/status.h"

struct sheet_options {
    int64_t count; /* pictures on the sheet */
    int64_t first; /* first of a run of pictures; -1: spread evenly over the set */
    int side;      /* longest side of a picture on the sheet, pixels */
};

/* Writes the sheet to `path`. Errors: as reading rows, STATUS_CORRUPT for a picture that does not
 * decode (the row named), STATUS_IO. */
enum status sheet_write(const struct store *store, const struct summary *summary,
                        const struct sheet_options *options, const char *path);

#endif
