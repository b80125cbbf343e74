#include "data/image/normalize.h"

#include <assert.h>
#include <string.h>

const struct image_normalization image_normalization_imagenet = {
    .name = "imagenet",
    .divisor = 255,
    .mean = {0.485f, 0.456f, 0.406f},
    .std = {0.229f, 0.224f, 0.225f},
};

const struct image_normalization image_normalization_clip = {
    .name = "clip",
    .divisor = 255,
    .mean = {0.48145466f, 0.4578275f, 0.40821073f},
    .std = {0.26862954f, 0.26130258f, 0.27577711f},
};

const struct image_normalization image_normalization_fine = {
    .name = "fine",
    .divisor = 1,
    .bgr = true,
    .mean = {103.530f, 116.280f, 123.675f},
    .std = {57.375f, 57.120f, 58.395f},
};

enum status image_normalization_find(const char *name,
                                     const struct image_normalization **normalization)
{
    static const struct image_normalization *const all[] = {
        &image_normalization_imagenet, &image_normalization_clip, &image_normalization_fine};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcmp(all[i]->name, name) != 0) continue;
        *normalization = all[i];
        return STATUS_OK;
    }
    return status_fail(STATUS_INVALID,
                       "image normalization '%s' is unknown; there are imagenet, clip, fine", name);
}

int64_t image_padded_size(int64_t size, int64_t multiple)
{
    return (size + multiple - 1) / multiple * multiple;
}

void image_normalize(struct image_view view, const struct image_normalization *normalization,
                     int64_t height, int64_t width, float *out)
{
    assert(view.height <= height && view.width <= width);
    for (int plane = 0; plane < IMAGE_CHANNELS; plane++) {
        int channel = normalization->bgr ? 2 - plane : plane;
        float table[256]; /* one rounding a step, like tensor / 255, - mean, / std */
        for (int i = 0; i < 256; i++) {
            float value = (float)i / normalization->divisor;
            value = value - normalization->mean[plane];
            table[i] = value / normalization->std[plane];
        }
        for (int64_t y = 0; y < height; y++, out += width) {
            int64_t filled = y < view.height ? view.width : 0;
            const uint8_t *pixel = view.pixels + y * view.stride + channel;
            for (int64_t x = 0; x < filled; x++, pixel += IMAGE_CHANNELS) {
                out[x] = table[*pixel];
            }
            memset(out + filled, 0, (size_t)(width - filled) * sizeof *out);
        }
    }
}
