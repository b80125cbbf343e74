/*
 * Writing pictures: PNG and JPEG into a growing buffer.
 *
 * Both libraries leave by longjmp; what must be freed lives in the writer structs. The output is
 * appended, so several pictures (or a picture inside a page) can share one buffer.
 */
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include "data/image/image.h"

static enum status check_view(const char *format, struct image_view view, int64_t max_side)
{
    CHECK(view.pixels && view.width >= 1 && view.height >= 1 && view.width <= max_side &&
              view.height <= max_side,
          STATUS_INVALID, "%s: cannot write %lld x %lld pixels, each side must be 1 to %lld",
          format, (long long)view.width, (long long)view.height, (long long)max_side);
    return STATUS_OK;
}

/* ---- PNG ---- */

struct png_writer {
    png_structp png;
    png_infop info;
    jmp_buf failed;
    enum status status;
    struct strbuf *out;
};

static void png_on_error(png_structp png, png_const_charp text)
{
    struct png_writer *writer = png_get_error_ptr(png);
    enum status code = writer->out->failed ? STATUS_NO_MEMORY : STATUS_INTERNAL;
    writer->status = status_fail(code, "PNG: cannot write: %s", text);
    longjmp(writer->failed, 1);
}

static void png_on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void png_on_write(png_structp png, png_bytep bytes, size_t count)
{
    struct png_writer *writer = png_get_io_ptr(png);
    strbuf_append_bytes(writer->out, bytes, count);
    if (writer->out->failed) png_error(png, "no memory");
}

static void png_on_flush(png_structp png)
{
    (void)png;
}

static void png_write_guarded(struct png_writer *writer, struct image_view view, int level)
{
    if (setjmp(writer->failed) != 0) return;
    writer->png =
        png_create_write_struct(PNG_LIBPNG_VER_STRING, writer, png_on_error, png_on_warning);
    if (writer->png) writer->info = png_create_info_struct(writer->png);
    if (!writer->info) {
        writer->status = status_fail(STATUS_NO_MEMORY, "PNG: no memory for a writer");
        return;
    }
    png_structp png = writer->png;
    png_set_write_fn(png, writer, png_on_write, png_on_flush);
    png_set_compression_level(png, level);
    png_set_IHDR(png, writer->info, (png_uint_32)view.width, (png_uint_32)view.height, 8,
                 PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, writer->info);
    for (int64_t y = 0; y < view.height; y++) {
        png_write_row(png, view.pixels + y * view.stride);
    }
    png_write_end(png, NULL);
}

enum status image_encode_png(struct image_view view, int level, struct strbuf *out)
{
    TRY(check_view("PNG", view, IMAGE_MAX_SIDE));
    CHECK(level >= 1 && level <= 9, STATUS_INVALID, "PNG: compression level %d is not 1 to 9",
          level);
    struct png_writer writer = {.out = out};
    png_write_guarded(&writer, view, level);
    png_destroy_write_struct(&writer.png, &writer.info);
    return writer.status;
}

/* ---- JPEG ---- */

struct jpeg_writer {
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr error;
    jmp_buf failed;
    enum status status;
    struct jpeg_destination_mgr destination;
    JOCTET buffer[1 << 14];
    struct strbuf *out;
};

static void jpeg_on_start(j_compress_ptr info)
{
    struct jpeg_writer *writer = info->client_data;
    writer->destination.next_output_byte = writer->buffer;
    writer->destination.free_in_buffer = sizeof writer->buffer;
}

static boolean jpeg_on_full(j_compress_ptr info)
{
    struct jpeg_writer *writer = info->client_data;
    strbuf_append_bytes(writer->out, writer->buffer, sizeof writer->buffer);
    jpeg_on_start(info);
    return TRUE;
}

static void jpeg_on_end(j_compress_ptr info)
{
    struct jpeg_writer *writer = info->client_data;
    size_t used = sizeof writer->buffer - writer->destination.free_in_buffer;
    strbuf_append_bytes(writer->out, writer->buffer, used);
}

static void jpeg_on_error(j_common_ptr info)
{
    struct jpeg_writer *writer = info->client_data;
    char text[JMSG_LENGTH_MAX];
    info->err->format_message(info, text);
    writer->status = status_fail(STATUS_NO_MEMORY, "JPEG: cannot write: %s", text);
    longjmp(writer->failed, 1);
}

static void jpeg_write_guarded(struct jpeg_writer *writer, struct image_view view, int quality)
{
    struct jpeg_compress_struct *info = &writer->info;
    if (setjmp(writer->failed) != 0) return;
    jpeg_create_compress(info);
    info->client_data = writer;
    info->dest = &writer->destination;
    info->image_width = (JDIMENSION)view.width;
    info->image_height = (JDIMENSION)view.height;
    info->input_components = IMAGE_CHANNELS;
    info->in_color_space = JCS_RGB;
    jpeg_set_defaults(info);
    jpeg_set_quality(info, quality, TRUE);
    jpeg_start_compress(info, TRUE);
    while (info->next_scanline < info->image_height) {
        /* libjpeg takes rows without const, and only reads them. */
        JSAMPROW row = (JSAMPROW)(uintptr_t)(view.pixels + info->next_scanline * view.stride);
        jpeg_write_scanlines(info, &row, 1);
    }
    jpeg_finish_compress(info);
}

enum status image_encode_jpeg(struct image_view view, int quality, struct strbuf *out)
{
    TRY(check_view("JPEG", view, JPEG_MAX_DIMENSION));
    CHECK(quality >= 1 && quality <= 100, STATUS_INVALID, "JPEG: quality %d is not 1 to 100",
          quality);
    struct jpeg_writer writer;
    memset(&writer, 0, sizeof writer);
    writer.info.err = jpeg_std_error(&writer.error);
    writer.info.client_data = &writer;
    writer.error.error_exit = jpeg_on_error;
    writer.destination.init_destination = jpeg_on_start;
    writer.destination.empty_output_buffer = jpeg_on_full;
    writer.destination.term_destination = jpeg_on_end;
    writer.out = out;
    jpeg_write_guarded(&writer, view, quality);
    jpeg_destroy_compress(&writer.info);
    if (writer.status == STATUS_OK && out->failed) {
        writer.status = status_fail(STATUS_NO_MEMORY, "JPEG: no memory");
    }
    return writer.status;
}
