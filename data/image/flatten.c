#include "data/image/flatten.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>

enum { PNG_SIGNATURE = 8, PNG_CHUNK_REST = 12, PNG_COLOUR_TYPE = 25 };

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool is_png(const uint8_t *bytes, size_t size)
{
    return size > PNG_COLOUR_TYPE && png_sig_cmp(bytes, 0, PNG_SIGNATURE) == 0;
}

/* Alpha in the colour type, or a tRNS chunk, which comes before the first IDAT. */
static bool png_has_alpha(const uint8_t *bytes, size_t size)
{
    if (bytes[PNG_COLOUR_TYPE] & PNG_COLOR_MASK_ALPHA) return true;
    size_t at = PNG_SIGNATURE;
    while (size - at >= PNG_CHUNK_REST) {
        const uint8_t *name = bytes + at + 4;
        if (memcmp(name, "tRNS", 4) == 0) return true;
        if (memcmp(name, "IDAT", 4) == 0) return false;
        uint32_t length = big_endian(bytes + at);
        if (length > size - at - PNG_CHUNK_REST) return false;
        at += PNG_CHUNK_REST + length;
    }
    return false;
}

bool image_has_alpha(const void *bytes, size_t size)
{
    if (is_png(bytes, size)) return png_has_alpha(bytes, size);
    WebPBitstreamFeatures features;
    bool webp = size >= 16 && memcmp(bytes, "RIFF", 4) == 0 &&
                memcmp((const uint8_t *)bytes + 8, "WEBP", 4) == 0;
    return webp && WebPGetFeatures(bytes, size, &features) == VP8_STATUS_OK && features.has_alpha;
}

static void blend(const uint8_t *rgba, const uint8_t background[3], struct image *image)
{
    uint8_t *out = image->pixels;
    for (int64_t i = 0; i < image->width * image->height; i++, rgba += 4, out += IMAGE_CHANNELS) {
        int alpha = rgba[3];
        for (int c = 0; c < IMAGE_CHANNELS; c++) {
            out[c] = (uint8_t)((rgba[c] * alpha + background[c] * (255 - alpha) + 127) / 255);
        }
    }
}

static enum status flatten_png(const void *bytes, size_t size, const uint8_t background[3],
                               struct image *image)
{
    png_image png = {.version = PNG_IMAGE_VERSION};
    uint8_t *rgba = NULL;
    enum status status = STATUS_OK;
    if (!png_image_begin_read_from_memory(&png, bytes, size)) {
        return status_fail(STATUS_CORRUPT, "PNG: %s", png.message);
    }
    png.format = PNG_FORMAT_RGBA;
    rgba = malloc(PNG_IMAGE_SIZE(png));
    if (!rgba) status = status_fail(STATUS_NO_MEMORY, "PNG: no memory for its pixels");
    if (status == STATUS_OK) status = image_reserve(image, png.width, png.height);
    if (status == STATUS_OK && !png_image_finish_read(&png, NULL, rgba, 0, NULL)) {
        status = status_fail(STATUS_CORRUPT, "PNG: %s", png.message);
    }
    if (status == STATUS_OK) blend(rgba, background, image);
    free(rgba);
    png_image_free(&png);
    return status;
}

static enum status flatten_webp(const void *bytes, size_t size, const uint8_t background[3],
                                struct image *image)
{
    int width = 0;
    int height = 0;
    uint8_t *rgba = WebPDecodeRGBA(bytes, size, &width, &height);
    CHECK(rgba, STATUS_CORRUPT, "WebP: cannot be decoded with its alpha");
    enum status status = image_reserve(image, width, height);
    if (status == STATUS_OK) blend(rgba, background, image);
    WebPFree(rgba);
    return status;
}

enum status image_flatten(const void *bytes, size_t size, const uint8_t background[3],
                          struct image *image)
{
    return is_png(bytes, size) ? flatten_png(bytes, size, background, image)
                               : flatten_webp(bytes, size, background, image);
}
