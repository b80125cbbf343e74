/*
 * The picture operations of RandomAugment, as FIBER's coarse stage uses them.
 *
 * Cubuk et al., "RandAugment", 2020, in the form that ALBEF and FIBER took from OpenCV code.
 * AutoContrast, Equalize, Brightness and Sharpness give the same bytes as Pillow's ImageOps and
 * ImageEnhance; ShearX to Rotate the same as OpenCV's warpAffine (bilinear at 1/32 pixel, pixel
 * centres at whole coordinates, outside is grey 128).
 *
 * Deliberate difference: where sharpening leaves 0..255, the reference's cast to bytes wraps (a
 * bright edge turns black); Pillow and weft clip.
 */
#ifndef WEFT_DATA_IMAGE_AUGMENT_H
#define WEFT_DATA_IMAGE_AUGMENT_H

#include "data/image/image.h"

/* Values count in the random draw of the recipe: append, never renumber. */
enum image_op {
    IMAGE_OP_IDENTITY,
    IMAGE_OP_AUTO_CONTRAST, /* each channel's range to 0..255, cut-off 0 */
    IMAGE_OP_EQUALIZE,      /* each channel's histogram made flat */
    IMAGE_OP_BRIGHTNESS,    /* argument: factor; 1 changes nothing */
    IMAGE_OP_SHARPNESS,     /* argument: factor; 0 smooths, 1 changes nothing. The border stays */
    IMAGE_OP_SHEAR_X,       /* argument: x moves by argument * y */
    IMAGE_OP_SHEAR_Y,       /* argument: y moves by argument * x */
    IMAGE_OP_TRANSLATE_X,   /* argument: pixels to the left */
    IMAGE_OP_TRANSLATE_Y,   /* argument: pixels up */
    IMAGE_OP_ROTATE,        /* argument: degrees counter-clockwise about (width/2, height/2) */
    IMAGE_OP_COUNT
};

/* "Identity", "AutoContrast", ... as in the literature. */
const char *image_op_name(enum image_op op);

/*
 * The argument of `op` at `level` of 10, with its sign reversed for the operations that have one if
 * `negative`: factors level/10 * 1.8 + 0.1, shear level/10 * 0.3, translation `level` pixels,
 * rotation level * 3 degrees. 0 for operations without an argument.
 */
float image_op_argument(enum image_op op, float level, bool negative);

/*
 * Applies `op` to `source`; `out` is reserved at its size and must not overlap it. Errors:
 * STATUS_INVALID (unknown op, argument not finite, borrowed `out` too small), STATUS_NO_MEMORY.
 */
enum status image_op_apply(enum image_op op, float argument, struct image_view source,
                           struct image *out);

/*
 * The affine map of `op` on pixel centres, forward: x' = m[0] x + m[1] y + m[2], y' = m[3] x +
 * m[4] y + m[5]. False for operations that leave pixels where they are.
 */
bool image_op_affine(enum image_op op, float argument, int64_t width, int64_t height, double m[6]);

#endif
