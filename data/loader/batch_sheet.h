/* What a batch holds, for people: as text, and as an HTML page of its exact pixels and tokens. */
#ifndef WEFT_DATA_LOADER_BATCH_SHEET_H
#define WEFT_DATA_LOADER_BATCH_SHEET_H

#include "data/loader/loader.h"
#include "runtime/base/strbuf.h"

/*
 * Appends the batch as text: per slot its sample number, row, picture, what the transform did, hash
 * (loader_slot_hash), text, tokens, masked tokens with their labels, boxes. `batch` came from
 * `loader`. Errors: as reading rows, STATUS_NO_MEMORY.
 */
enum status batch_print(const struct loader *loader, const struct loader_batch *batch,
                        struct strbuf *out);

/*
 * Writes the page to `path`: pixels as lossless pictures with the boxes drawn beside them, tokens
 * with the hidden ones marked. `title` stands above. Errors: as batch_print, STATUS_IO.
 */
enum status batch_sheet_write(const struct loader *loader, const struct loader_batch *batch,
                              const char *title, const char *path);

#endif
