/*
 * Antialiased resizing, equal to Pillow's `Image.resize` byte for byte.
 *
 * A separable filter whose support grows with the reduction factor, so that every source pixel of
 * the box has its share. As in Pillow (Resample.c): weights in double, normalised, rounded to 22
 * fraction bits; integer sums; a horizontal pass to 8 bits, then a vertical one. All instruction
 * sets and any split into calls give the same bytes. (Pillow up to 12. Pillow 13 takes the vertical
 * pass first where that is cheaper, which gives other pixels; trained models saw these.)
 */
#ifndef WEFT_DATA_IMAGE_RESIZE_H
#define WEFT_DATA_IMAGE_RESIZE_H

#include "data/image/image.h"

enum image_filter {
    IMAGE_BILINEAR, /* triangle, support 1 */
    IMAGE_BICUBIC   /* Keys' cubic with a = -0.5, support 2 */
};

/* Memory that calls of one thread reuse. Zero-initialise; freed by image_scratch_fini. */
struct image_scratch {
    void *memory; /* owned */
    size_t capacity;
};

void image_scratch_fini(struct image_scratch *scratch);

struct image_resize {
    enum image_filter filter;
    int64_t width; /* what the box becomes, in pixels */
    int64_t height;
    /* x0, y0, x1, y1 in source pixels, fractions allowed (float, as Pillow has it). All zero: the
     * whole source. The filter reads pixels around the box too; to keep it inside, pass image_crop
     * of the source (as torchvision's resized_crop does). */
    float box[4];
    /* x0, y0, x1, y1 in output pixels: compute only this part, e.g. the centre. All zero: all. */
    int64_t window[4];
    bool mirror; /* mirror left-right afterwards; costs nothing */
};

/*
 * Resizes `source` into `out`, which is reserved for the size of the window and must not overlap
 * it. Errors: STATUS_INVALID (an empty source, a box or window outside its picture, a size out of
 * range), STATUS_NO_MEMORY.
 */
enum status image_resize(struct image_view source, const struct image_resize *how,
                         struct image_scratch *scratch, struct image *out);

#endif
