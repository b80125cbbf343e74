/* Shared between the decoders of data/image; not for other folders. */
#ifndef WEFT_DATA_IMAGE_DECODE_IMPL_H
#define WEFT_DATA_IMAGE_DECODE_IMPL_H

#include "data/image/image.h"

/*
 * Refuses a picture whose declared size is above `options->max_pixels`. Decoders call it as soon as
 * they know the size and before they allocate anything that grows with it.
 */
enum status decode_check_size(const char *format, int64_t width, int64_t height,
                              const struct image_decode_options *options);

/*
 * One decoder a format, called with bytes that start with the format's signature. They check the
 * size, reserve `image` and fill it, without regard to the orientation.
 */
enum status decode_jpeg(const uint8_t *bytes, size_t size,
                        const struct image_decode_options *options, struct image *image);
enum status decode_png(const uint8_t *bytes, size_t size,
                       const struct image_decode_options *options, struct image *image);
enum status decode_webp(const uint8_t *bytes, size_t size,
                        const struct image_decode_options *options, struct image *image);

/* Copies `from` to `to` turned and mirrored as EXIF `orientation` (2 to 8) asks. */
enum status orient_image(const struct image *from, int orientation, struct image *to);

#endif
