/* Judging a sample before it is packed. */
#ifndef WEFT_DATA_STORE_CLEAN_H
#define WEFT_DATA_STORE_CLEAN_H

#include <stdint.h>

#include "data/store/sample.h"
#include "runtime/base/status.h"

/*
 * Brings a sample into the form in which it is stored, in place: texts sorted by image, boxes by
 * image, spans by box, answers by text (stable), boxes clipped where they stick out by at most a
 * pixel. Bad rows are taken out, with what hangs on them (the spans of a box, the boxes and answers
 * of a text), each with a message in sample->rejects that names the image's key and the reason.
 * Nothing is to be added to the sample afterwards. Image sizes must be filled in. `num_categories`
 * bounds box categories. Errors: STATUS_INVALID when the item as a whole is bad (no image; a
 * reference to a row that is not there, an error of the importer), STATUS_NO_MEMORY.
 */
enum status sample_clean(struct sample *sample, int64_t num_categories);

#endif
