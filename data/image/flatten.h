/*
 * Transparent pictures laid on a colour. image_decode drops transparency, as Pillow's
 * convert("RGB") does; what then shows are the colours that were hidden, often black. Packing can
 * lay such pictures on a background instead.
 */
#ifndef WEFT_DATA_IMAGE_FLATTEN_H
#define WEFT_DATA_IMAGE_FLATTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "data/image/image.h"

/* True when the encoded picture can be transparent: a PNG with alpha channel or tRNS, a WebP with
 * alpha. Looks at headers only; false for anything that is not a picture. */
bool image_has_alpha(const void *bytes, size_t size);

/*
 * Decodes a picture for which image_has_alpha holds and which image_decode accepts, and blends it
 * over `background` (RGB, in the stored values, without regard to gamma: round(a c + (1 - a) b))
 * into `image`. Errors: STATUS_CORRUPT, STATUS_UNSUPPORTED, STATUS_NO_MEMORY.
 */
enum status image_flatten(const void *bytes, size_t size, const uint8_t background[3],
                          struct image *image);

#endif
