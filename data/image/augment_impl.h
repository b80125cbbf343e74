/* Shared between the kernels of image_op_apply; not for other folders. */
#ifndef WEFT_DATA_IMAGE_AUGMENT_IMPL_H
#define WEFT_DATA_IMAGE_AUGMENT_IMPL_H

#include "data/image/image.h"

/* Source positions are fixed point: MAP_BITS of fraction while they are computed, of which the
 * interpolation uses WEIGHT_BITS. */
enum {
    AUGMENT_MAP_BITS = 10,
    AUGMENT_WEIGHT_BITS = 5,
    AUGMENT_WEIGHT_ONE = 1 << AUGMENT_WEIGHT_BITS,
    AUGMENT_WEIGHT_MASK = AUGMENT_WEIGHT_ONE - 1,
    AUGMENT_SHIFT = AUGMENT_MAP_BITS - AUGMENT_WEIGHT_BITS,
    AUGMENT_BLOCK = 32 /* columns that a warp does at once */
};

/* A piece of a row: pixel i comes from ((x + dx[i]) >> SHIFT, (y + dy[i]) >> SHIFT) in 1/32 pixel.
 */
struct augment_span {
    int64_t x;
    int64_t y;
    const int32_t *dx;
    const int32_t *dy;
};

/*
 * AUGMENT_BLOCK pixels to `out` [AUGMENT_BLOCK, 3], bilinear. All positions lie at least three
 * pixels from the right border, one from the lower and not outside the others, so that eight bytes
 * can be read at each.
 */
typedef void augment_warp(struct image_view source, const struct augment_span *span, uint8_t *out);

/* One inner row of `bytes` bytes between `above` and `below`, but for its first and last pixel: a
 * blend of each byte with the mean of its neighbourhood (weights 1, the middle 5, of 13). */
typedef void augment_sharpen(const uint8_t *above, const uint8_t *row, const uint8_t *below,
                             int64_t bytes, float factor, uint8_t *out);

augment_warp augment_warp_scalar, augment_warp_avx2;
augment_sharpen augment_sharpen_scalar, augment_sharpen_avx2;

#endif
