/*
 * Images: RGB8 pixels in memory, and the way to and from encoded files (JPEG, PNG, WebP).
 *
 * Pixels are unsigned bytes, interleaved RGB, rows from the top (height x width x 3, "HWC"). A
 * decoded image equals Pillow's `Image.open(...).convert("RGB")`, byte for byte:
 *
 *   grey, 1 to 8 bits  the value scaled to 0..255 in all three channels
 *   palette            the palette's colours; transparency (tRNS) is ignored
 *   alpha              dropped: neither blended nor premultiplied
 *   16 bits a channel  the upper byte. Deliberate difference: for 16-bit *grey* PNG, Pillow clips
 *                      at 255, which turns all but the darkest 1/256 of the range white; weft
 *                      takes the upper byte there too
 *   CMYK, YCCK JPEG    read as Adobe's inverted values, r = k - (255-c)*k/255, whatever the file
 *                      says about itself
 *   colour profiles, gamma, EXIF orientation (unless asked for): ignored
 *
 * Where Pillow makes a picture out of damaged data, weft reports STATUS_CORRUPT: a truncated file,
 * a bad checksum, Huffman data that does not add up, a palette index without a colour. Nothing is
 * filled with grey.
 *
 * All functions are thread-safe (no shared state) and not collective. Messages tell format, place
 * and reason; the caller puts the name of the sample in front (status_prefix).
 */
#ifndef WEFT_DATA_IMAGE_IMAGE_H
#define WEFT_DATA_IMAGE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/base/strbuf.h"

enum { IMAGE_CHANNELS = 3 };

/* The default limit on width x height, Pillow's: a picture above it is taken for a bomb. */
#define IMAGE_MAX_PIXELS INT64_C(178956970)

/* The greatest width or height of any picture; what JPEG and WebP can say is below it. */
#define IMAGE_MAX_SIDE INT64_C(1000000)

/* ---- pixels ---- */

/*
 * An owned or borrowed pixel buffer that functions grow as they need. Zero-initialise for an owned
 * one and free it with image_fini; set it up with image_borrow to decode into memory of the
 * caller. Reusing one image for many pictures allocates only when a larger one comes.
 */
struct image {
    uint8_t *pixels; /* [height, width, 3], rows without gaps */
    int64_t width;
    int64_t height;
    size_t capacity; /* bytes at `pixels` */
    bool borrowed;   /* `pixels` belongs to the caller and cannot grow */
};

/* A part of someone else's pixels: what resizing and encoding read. */
struct image_view {
    const uint8_t *pixels; /* [height, width, 3] */
    int64_t width;
    int64_t height;
    int64_t stride; /* bytes from one row to the next, at least 3 x width */
};

/* An image over `capacity` bytes of the caller's, who keeps owning them. */
struct image image_borrow(uint8_t *pixels, size_t capacity);

/*
 * Makes room for width x height (both 1 to IMAGE_MAX_SIDE) and sets both; old pixels are not kept.
 * Errors: STATUS_INVALID (a size out of range, a borrowed buffer that is too small),
 * STATUS_NO_MEMORY.
 */
enum status image_reserve(struct image *image, int64_t width, int64_t height);

/* Frees the pixels unless they are borrowed and leaves an empty image. */
void image_fini(struct image *image);

/* The whole image as a view, valid until the image changes. */
struct image_view image_as_view(const struct image *image);

/* The rectangle [x, x+width) x [y, y+height) of `view`, which the caller made sure lies inside. */
struct image_view image_crop(struct image_view view, int64_t x, int64_t y, int64_t width,
                             int64_t height);

/*
 * Draws the outline of the box [x0, x1) x [y0, y1) in pixels, `thickness` pixels wide and growing
 * inwards; what lies outside the image is left out. For contact sheets and debugging.
 */
void image_draw_box(struct image *image, const float box[4], const uint8_t colour[3],
                    int thickness);

/* ---- decoding ---- */

enum image_format { IMAGE_UNKNOWN, IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP };

/* "JPEG", "PNG", "WebP" or "unknown". */
const char *image_format_name(enum image_format format);

/* Zero-initialised: the defaults. */
struct image_decode_options {
    int64_t max_pixels; /* refuse more, before anything is allocated; 0 is IMAGE_MAX_PIXELS */
    /* Turn and mirror as the EXIF orientation says, like Pillow's ImageOps.exif_transpose. Off by
     * default: reference pipelines ignore it, and boxes are given for the stored pixels. */
    bool apply_orientation;
    /* JPEG only: decode at half the size (rounded up) by the DCT, about twice as fast. Changes
     * pixels. PNG and WebP have no such way and come in full size. */
    bool half_size;
    /* JPEG only: accept bytes between the end of the picture data and the end marker. Some
     * cameras leave such bytes; so does a bit error, hence the default is to refuse. */
    bool allow_extraneous;
};

/* What an encoded file says about itself. */
struct image_info {
    enum image_format format;
    int64_t width; /* as stored, before any orientation */
    int64_t height;
    int orientation; /* EXIF, 1 to 8; 1 (upright) when absent or out of range */
};

/*
 * Reads format, size and orientation from `size` bytes of an `encoded` picture without decoding; no
 * limit on pixels applies. Errors: STATUS_CORRUPT (empty, or cut off before the size),
 * STATUS_UNSUPPORTED (another format, which the message names when it is a known one).
 */
enum status image_probe(const void *encoded, size_t size, struct image_info *info);

/*
 * Decodes `size` encoded bytes into `image` (RGB8). `options` may be NULL for the defaults. After
 * a failure the contents of `image` are undefined but it can be used again.
 *
 * Errors: STATUS_CORRUPT (damaged or truncated, with the decoder's reason), STATUS_UNSUPPORTED
 * (another format, a kind that the decoder does not know such as 12-bit JPEG or animated WebP),
 * STATUS_INVALID (above max_pixels, a borrowed buffer that is too small), STATUS_NO_MEMORY.
 */
enum status image_decode(const void *bytes, size_t size, const struct image_decode_options *options,
                         struct image *image);

/* ---- encoding ---- */

/*
 * Appends `view` as an RGB PNG to `out`. Lossless; `level` is zlib's, 1 (fast) to 9 (small).
 * Errors: STATUS_INVALID (empty view, level), STATUS_NO_MEMORY.
 */
enum status image_encode_png(struct image_view view, int level, struct strbuf *out);

/*
 * Appends `view` as a baseline JPEG (4:2:0) of `quality` 1 to 100 to `out`. Errors: STATUS_INVALID
 * (a size above 65,500, quality), STATUS_NO_MEMORY.
 */
enum status image_encode_jpeg(struct image_view view, int quality, struct strbuf *out);

#endif
