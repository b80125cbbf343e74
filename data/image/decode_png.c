/*
 * PNG through libpng: any colour type and depth to RGB8.
 *
 * Every checksum counts, also those of chunks that are not used (a bit that flipped there shows a
 * damaged file), and the file must go on to its end chunk. libpng leaves by longjmp; whatever must
 * be freed lives in `struct png_reader`. Chunks that do not decide pixels are skipped without being
 * unpacked, which spares their cost and their decompression bombs.
 */
#include <png.h>
#include <setjmp.h>
#include <string.h>

#include "data/image/decode_impl.h"

struct png_reader {
    png_structp png;
    png_infop info;
    jmp_buf failed;
    enum status status;
    const uint8_t *bytes;
    size_t size;
    size_t at;
    const struct image_decode_options *options;
};

static _Noreturn void stop(struct png_reader *reader, enum status code)
{
    reader->status = code;
    longjmp(reader->failed, 1);
}

static void on_error(png_structp png, png_const_charp text)
{
    struct png_reader *reader = png_get_error_ptr(png);
    stop(reader, status_fail(STATUS_CORRUPT, "PNG: %s, at byte %zu of %zu", text, reader->at,
                             reader->size));
}

/* What libpng only warns of (odd profiles, dates, text) does not touch pixels. */
static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void on_read(png_structp png, png_bytep out, size_t count)
{
    struct png_reader *reader = png_get_io_ptr(png);
    if (count > reader->size - reader->at) {
        reader->at = reader->size;
        png_error(png, "truncated");
    }
    memcpy(out, reader->bytes + reader->at, count);
    reader->at += count;
}

static void set_up(struct png_reader *reader)
{
    /* Names of five bytes each, NUL included, as libpng wants them. */
    static const png_byte unused[] = "bKGD\0cHRM\0eXIf\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0"
                                     "sBIT\0sCAL\0sPLT\0sRGB\0sTER\0tEXt\0tIME\0zTXt";
    png_set_read_fn(reader->png, reader, on_read);
    png_set_crc_action(reader->png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_benign_errors(reader->png, 1);
    png_set_user_limits(reader->png, (png_uint_32)IMAGE_MAX_SIDE, (png_uint_32)IMAGE_MAX_SIDE);
    png_set_keep_unknown_chunks(reader->png, PNG_HANDLE_CHUNK_NEVER, unused, sizeof unused / 5);
}

/* Asks libpng for RGB8, or for one index a byte; returns the number of passes over the rows. */
static int choose_output(struct png_reader *reader, bool palette)
{
    png_structp png = reader->png;
    if (palette) {
        png_set_packing(png);
    } else {
        png_set_strip_16(png);
        png_set_strip_alpha(png);
        if (!(png_get_color_type(png, reader->info) & PNG_COLOR_MASK_COLOR)) {
            png_set_expand_gray_1_2_4_to_8(png);
            png_set_gray_to_rgb(png);
        }
    }
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, reader->info);
    return passes;
}

/*
 * Indices to colours, in place: a row's indices lie in the last third of its RGB bytes, so reading
 * stays ahead of writing. libpng would take an index without a colour for black.
 */
static void apply_palette(struct png_reader *reader, struct image *image)
{
    png_colorp colours = NULL;
    int count = 0;
    png_get_PLTE(reader->png, reader->info, &colours, &count);
    for (int64_t y = 0; y < image->height; y++) {
        uint8_t *rgb = image->pixels + y * image->width * IMAGE_CHANNELS;
        const uint8_t *index = rgb + 2 * image->width;
        for (int64_t x = 0; x < image->width; x++, rgb += IMAGE_CHANNELS) {
            int i = index[x];
            if (i >= count) {
                stop(reader, status_fail(STATUS_CORRUPT,
                                         "PNG: palette index %d at pixel %lld,%lld, but only %d "
                                         "colours",
                                         i, (long long)x, (long long)y, count));
            }
            rgb[0] = colours[i].red;
            rgb[1] = colours[i].green;
            rgb[2] = colours[i].blue;
        }
    }
}

static void decode_rows(struct png_reader *reader, struct image *image)
{
    png_structp png = reader->png;
    png_read_info(png, reader->info);
    int64_t width = png_get_image_width(png, reader->info);
    int64_t height = png_get_image_height(png, reader->info);
    reader->status = decode_check_size("PNG", width, height, reader->options);
    if (reader->status != STATUS_OK) return;
    bool palette = png_get_color_type(png, reader->info) == PNG_COLOR_TYPE_PALETTE;
    int passes = choose_output(reader, palette);
    int64_t stride = width * IMAGE_CHANNELS;
    int64_t row_bytes = (int64_t)png_get_rowbytes(png, reader->info);
    if (row_bytes != (palette ? width : stride)) {
        stop(reader, status_fail(STATUS_INTERNAL, "PNG: rows of %lld bytes for %lld pixels",
                                 (long long)row_bytes, (long long)width));
    }
    reader->status = image_reserve(image, width, height);
    if (reader->status != STATUS_OK) return;
    for (int pass = 0; pass < passes; pass++) {
        for (int64_t y = 0; y < height; y++) {
            png_read_row(png, image->pixels + y * stride + (stride - row_bytes), NULL);
        }
    }
    png_read_end(png, NULL);
    if (palette) apply_palette(reader, image);
}

/* Every failure inside libpng comes back to the setjmp. `reader` belongs to the caller, so that it
 * keeps its values over the jump (C17 7.13.2.1). */
static void decode_guarded(struct png_reader *reader, struct image *image)
{
    if (setjmp(reader->failed) != 0) return;
    reader->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, reader, on_error, on_warning);
    if (reader->png) reader->info = png_create_info_struct(reader->png);
    if (!reader->info) {
        stop(reader, status_fail(STATUS_NO_MEMORY, "PNG: no memory for a decoder"));
    }
    set_up(reader);
    decode_rows(reader, image);
}

enum status decode_png(const uint8_t *bytes, size_t size,
                       const struct image_decode_options *options, struct image *image)
{
    struct png_reader reader = {.bytes = bytes, .size = size, .options = options};
    decode_guarded(&reader, image);
    png_destroy_read_struct(&reader.png, &reader.info, NULL);
    return reader.status;
}
