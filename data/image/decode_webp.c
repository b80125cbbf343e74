/* WebP through libwebp: lossy and lossless stills. Alpha is dropped, not blended. */
#include <string.h>
#include <webp/decode.h>

#include "data/image/decode_impl.h"

static enum status failure(VP8StatusCode code, size_t size)
{
    switch (code) {
    case VP8_STATUS_OUT_OF_MEMORY:
        return status_fail(STATUS_NO_MEMORY, "WebP: no memory");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return status_fail(STATUS_UNSUPPORTED, "WebP: uses a feature that libwebp does not know");
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
        return status_fail(STATUS_CORRUPT, "WebP: truncated at byte %zu", size);
    default:
        return status_fail(STATUS_CORRUPT, "WebP: damaged picture data (libwebp: %d)", code);
    }
}

/* libwebp is content with a file that has lost its end; the RIFF header says where that is. */
static enum status check_length(const uint8_t *bytes, size_t size)
{
    uint64_t riff = (uint64_t)bytes[4] | (uint64_t)bytes[5] << 8 | (uint64_t)bytes[6] << 16 |
                    (uint64_t)bytes[7] << 24;
    CHECK(riff + 8 <= size, STATUS_CORRUPT, "WebP: truncated, %zu bytes of %llu", size,
          (unsigned long long)(riff + 8));
    return STATUS_OK;
}

enum status decode_webp(const uint8_t *bytes, size_t size,
                        const struct image_decode_options *options, struct image *image)
{
    WebPDecoderConfig config;
    CHECK(WebPInitDecoderConfig(&config), STATUS_UNSUPPORTED,
          "WebP: libwebp has another version than its headers");
    TRY(check_length(bytes, size));
    VP8StatusCode code = WebPGetFeatures(bytes, size, &config.input);
    if (code != VP8_STATUS_OK) return failure(code, size);
    CHECK(!config.input.has_animation, STATUS_UNSUPPORTED,
          "WebP: animated; weft reads still pictures, extract a frame first");
    TRY(decode_check_size("WebP", config.input.width, config.input.height, options));
    TRY(image_reserve(image, config.input.width, config.input.height));
    config.output.colorspace = MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = image->pixels;
    config.output.u.RGBA.stride = (int)(image->width * IMAGE_CHANNELS);
    config.output.u.RGBA.size = (size_t)image->width * (size_t)image->height * IMAGE_CHANNELS;
    code = WebPDecode(bytes, size, &config);
    WebPFreeDecBuffer(&config.output);
    return code == VP8_STATUS_OK ? STATUS_OK : failure(code, size);
}
