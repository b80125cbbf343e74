/* Decoding: which decoder, how large a picture may be, and the orientation. */
#include "data/image/decode_impl.h"

const char *image_format_name(enum image_format format)
{
    switch (format) {
    case IMAGE_JPEG:
        return "JPEG";
    case IMAGE_PNG:
        return "PNG";
    case IMAGE_WEBP:
        return "WebP";
    case IMAGE_UNKNOWN:
        break;
    }
    return "unknown";
}

enum status decode_check_size(const char *format, int64_t width, int64_t height,
                              const struct image_decode_options *options)
{
    int64_t limit = options->max_pixels > 0 ? options->max_pixels : IMAGE_MAX_PIXELS;
    CHECK(width >= 1 && height >= 1, STATUS_CORRUPT, "%s: says it is %lld x %lld pixels", format,
          (long long)width, (long long)height);
    CHECK(
        width <= IMAGE_MAX_SIDE && height <= IMAGE_MAX_SIDE && width <= limit / height,
        STATUS_INVALID,
        "%s: %lld x %lld pixels is above the limit of %lld pixels; shrink the picture or raise the "
        "limit",
        format, (long long)width, (long long)height, (long long)limit);
    return STATUS_OK;
}

static enum status decode_stored(const struct image_info *info, const uint8_t *bytes, size_t size,
                                 const struct image_decode_options *options, struct image *image)
{
    switch (info->format) {
    case IMAGE_JPEG:
        return decode_jpeg(bytes, size, options, image);
    case IMAGE_PNG:
        return decode_png(bytes, size, options, image);
    case IMAGE_WEBP:
        return decode_webp(bytes, size, options, image);
    case IMAGE_UNKNOWN:
        break;
    }
    return status_fail(STATUS_INTERNAL, "image format %d has no decoder", (int)info->format);
}

enum status image_decode(const void *bytes, size_t size, const struct image_decode_options *options,
                         struct image *image)
{
    static const struct image_decode_options defaults;
    if (!options) options = &defaults;
    struct image_info info;
    TRY(image_probe(bytes, size, &info));
    TRY(decode_check_size(image_format_name(info.format), info.width, info.height, options));
    if (!options->apply_orientation || info.orientation == 1) {
        return decode_stored(&info, bytes, size, options, image);
    }
    struct image stored = {0};
    enum status status = decode_stored(&info, bytes, size, options, &stored);
    if (status == STATUS_OK) status = orient_image(&stored, info.orientation, image);
    image_fini(&stored);
    return status;
}
