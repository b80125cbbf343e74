/*
 * From bytes to what the network computes with: (x - mean) / std per channel, planes first.
 *
 * On a device this happens there, from the u8 batch; this is the CPU's version and the definition.
 */
#ifndef WEFT_DATA_IMAGE_NORMALIZE_H
#define WEFT_DATA_IMAGE_NORMALIZE_H

#include "data/image/image.h"

struct image_normalization {
    const char *name;
    float divisor; /* pixels are divided by this first: 255 or 1 */
    bool bgr;      /* plane 0 is blue */
    float mean[3]; /* in the order of the planes */
    float std[3];
};

/* Coarse stage, and ImageNet weights in general: RGB / 255, torchvision's constants. */
extern const struct image_normalization image_normalization_imagenet;

/* METER with CLIP's vision transformer: RGB / 255, CLIP's constants. */
extern const struct image_normalization image_normalization_clip;

/* FIBER's fine stage: BGR, 0..255, Caffe's order of the ImageNet constants. */
extern const struct image_normalization image_normalization_fine;

/* The normalization named "imagenet", "clip" or "fine". Errors: STATUS_INVALID. */
enum status image_normalization_find(const char *name,
                                     const struct image_normalization **normalization);

/* `size` rounded up to a multiple of `multiple`, both positive: the side of a padded batch. */
int64_t image_padded_size(int64_t size, int64_t multiple);

/*
 * Writes `view` to `out` [3, height, width] as f32, (x / divisor - mean) / std rounded as PyTorch
 * rounds it; to the right of the view and below it 0, that is, padding comes after normalisation.
 * The view must not be larger than height x width.
 */
void image_normalize(struct image_view view, const struct image_normalization *normalization,
                     int64_t height, int64_t width, float *out);

#endif
