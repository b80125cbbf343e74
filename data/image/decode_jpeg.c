/*
 * JPEG through libjpeg-turbo, strict.
 *
 * libjpeg reports damage as warnings and makes up what is missing (grey boxes). Here every warning
 * stops decoding, except those that are known to come from sloppy writers and to leave the pixels
 * alone (is_harmless). libjpeg leaves by longjmp; everything that must be released lives in
 * `struct jpeg_reader` or in libjpeg's own pools, so one jpeg_destroy_decompress frees all.
 *
 * Settings that decide pixels (accurate integer DCT, smooth upsampling) are libjpeg's defaults, as
 * Pillow uses. Rejected:
 *
 * - The TurboJPEG interface: no CMYK rules, no say about warnings.
 * - Decoding only what lies under a crop (jpeg_crop_scanline, jpeg_skip_scanlines with a margin of
 *   one block row and column: the same bytes). It saves 9 % of the decoding time on COCO with crops
 *   of half to all of the area, since all Huffman codes must still be read; 14 % if the end of the
 *   file is left unread, and then truncation goes unseen.
 */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#include "data/image/decode_impl.h"

struct jpeg_reader {
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr error;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    enum status status;
    size_t size; /* of the encoded bytes */
    const struct image_decode_options *options;
};

/* A progressive file of some kilobytes can ask for any number of passes over a large picture. */
enum { MAX_SCANS = 500, ROWS_A_CALL = 16, MARKER_EOI = 0xD9 };

static struct jpeg_reader *reader_of(j_common_ptr info)
{
    return (struct jpeg_reader *)info->client_data;
}

static _Noreturn void stop(struct jpeg_reader *reader, enum status code, const char *text)
{
    size_t left = reader->info.src ? reader->info.src->bytes_in_buffer : 0;
    size_t at = left <= reader->size ? reader->size - left : reader->size;
    reader->status = status_fail(code, "JPEG: %s, at byte %zu of %zu", text, at, reader->size);
    longjmp(reader->failed, 1);
}

static enum status code_of(int message)
{
    switch (message) {
    case JERR_OUT_OF_MEMORY:
        return STATUS_NO_MEMORY;
    case JERR_ARITH_NOTIMPL:
    case JERR_BAD_PRECISION:
    case JERR_CCIR601_NOTIMPL:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_FRACT_SAMPLE_NOTIMPL:
    case JERR_NOT_COMPILED:
    case JERR_SOF_UNSUPPORTED:
        return STATUS_UNSUPPORTED;
    default:
        return STATUS_CORRUPT;
    }
}

static void on_error(j_common_ptr info)
{
    char text[JMSG_LENGTH_MAX];
    info->err->format_message(info, text);
    stop(reader_of(info), code_of(info->err->msg_code), text);
}

static bool is_harmless(const struct jpeg_reader *reader)
{
    const struct jpeg_error_mgr *error = &reader->error;
    switch (error->msg_code) {
    case JWRN_ADOBE_XFORM:    /* an unknown colour code in the Adobe marker: YCbCr is assumed */
    case JWRN_BOGUS_ICC:      /* a damaged colour profile: not used */
    case JWRN_JFIF_MAJOR:     /* a future JFIF version */
    case JWRN_NOT_SEQUENTIAL: /* zeroes where baseline says 0..63: common, and ignored */
        return true;
    case JWRN_EXTRANEOUS_DATA:
        return reader->options->allow_extraneous && error->msg_parm.i[1] == MARKER_EOI;
    default:
        return false;
    }
}

static void on_message(j_common_ptr info, int level)
{
    struct jpeg_reader *reader = reader_of(info);
    if (level >= 0 || is_harmless(reader)) return;
    if (info->err->msg_code == JWRN_JPEG_EOF) stop(reader, STATUS_CORRUPT, "truncated");
    char text[JMSG_LENGTH_MAX];
    info->err->format_message(info, text);
    stop(reader, STATUS_CORRUPT, text);
}

static void on_progress(j_common_ptr info)
{
    struct jpeg_reader *reader = reader_of(info);
    if (reader->info.input_scan_number > MAX_SCANS) {
        stop(reader, STATUS_CORRUPT, "more than 500 scans");
    }
}

/* 8-bit a * b / 255, rounded, as Pillow's MULDIV255. */
static uint8_t multiply_255(unsigned a, unsigned b)
{
    unsigned product = a * b + 128;
    return (uint8_t)(((product >> 8) + product) >> 8);
}

/* In Adobe files 255 is no ink, so `ink` holds 255-c, 255-m, 255-y, 255-k. */
static void row_from_inverted_cmyk(const uint8_t *ink, uint8_t *rgb, int64_t width)
{
    for (int64_t x = 0; x < width; x++, ink += 4, rgb += 3) {
        for (int c = 0; c < 3; c++) {
            rgb[c] = (uint8_t)(ink[3] - multiply_255(255u - ink[c], ink[3]));
        }
    }
}

static void row_from_grey(const uint8_t *grey, uint8_t *rgb, int64_t width)
{
    for (int64_t x = 0; x < width; x++, rgb += 3) {
        rgb[0] = rgb[1] = rgb[2] = grey[x];
    }
}

static void choose_output(struct jpeg_reader *reader)
{
    struct jpeg_decompress_struct *info = &reader->info;
    switch (info->num_components) {
    case 1:
        info->out_color_space = JCS_GRAYSCALE;
        break;
    case 3:
        info->out_color_space = JCS_RGB;
        break;
    case 4:
        info->out_color_space = JCS_CMYK;
        break;
    default: {
        char text[64];
        snprintf(text, sizeof text, "%d colour components", info->num_components);
        stop(reader, STATUS_UNSUPPORTED, text);
    }
    }
    if (reader->options->half_size) {
        info->scale_num = 1;
        info->scale_denom = 2;
    }
}

/* RGB rows go straight to the image, several a call. */
static void read_rgb(struct jpeg_decompress_struct *info, struct image *image)
{
    while (info->output_scanline < info->output_height) {
        JSAMPROW rows[ROWS_A_CALL];
        unsigned count = info->output_height - info->output_scanline;
        if (count > ROWS_A_CALL) count = ROWS_A_CALL;
        size_t stride = (size_t)image->width * IMAGE_CHANNELS;
        for (unsigned i = 0; i < count; i++) {
            rows[i] = image->pixels + (info->output_scanline + i) * stride;
        }
        jpeg_read_scanlines(info, rows, count);
    }
}

/* Grey and CMYK rows pass through a row buffer of libjpeg's pool. */
static void read_converted(struct jpeg_decompress_struct *info, struct image *image)
{
    JSAMPARRAY row =
        info->mem->alloc_sarray((j_common_ptr)info, JPOOL_IMAGE,
                                info->output_width * (JDIMENSION)info->output_components, 1);
    while (info->output_scanline < info->output_height) {
        uint8_t *rgb =
            image->pixels + (size_t)info->output_scanline * (size_t)image->width * IMAGE_CHANNELS;
        jpeg_read_scanlines(info, row, 1);
        if (info->out_color_space == JCS_CMYK) {
            row_from_inverted_cmyk(row[0], rgb, image->width);
        } else {
            row_from_grey(row[0], rgb, image->width);
        }
    }
}

/* Every failure inside libjpeg comes back to the setjmp. `reader` belongs to the caller, so that it
 * keeps its values over the jump (C17 7.13.2.1). */
static void decode_guarded(struct jpeg_reader *reader, const uint8_t *bytes, struct image *image)
{
    struct jpeg_decompress_struct *info = &reader->info;
    if (setjmp(reader->failed) != 0) return;
    jpeg_create_decompress(info);
    info->client_data = reader;
    info->progress = &reader->progress;
    jpeg_mem_src(info, bytes, (unsigned long)reader->size);
    jpeg_read_header(info, TRUE);
    /* Again, though the probe did: it may have read another frame header than libjpeg does. */
    reader->status =
        decode_check_size("JPEG", info->image_width, info->image_height, reader->options);
    if (reader->status != STATUS_OK) return;
    choose_output(reader);
    jpeg_start_decompress(info);
    reader->status = image_reserve(image, info->output_width, info->output_height);
    if (reader->status != STATUS_OK) return;
    if (info->out_color_space == JCS_RGB) {
        read_rgb(info, image);
    } else {
        read_converted(info, image);
    }
    /* Reads on to the end marker, so that a file cut off behind the last row is noticed. */
    jpeg_finish_decompress(info);
}

enum status decode_jpeg(const uint8_t *bytes, size_t size,
                        const struct image_decode_options *options, struct image *image)
{
    struct jpeg_reader reader;
    memset(&reader, 0, sizeof reader);
    reader.size = size;
    reader.options = options;
    reader.info.err = jpeg_std_error(&reader.error);
    reader.info.client_data = &reader; /* an error may come before jpeg_create has run */
    reader.error.error_exit = on_error;
    reader.error.emit_message = on_message;
    reader.progress.progress_monitor = on_progress;
    decode_guarded(&reader, bytes, image);
    jpeg_destroy_decompress(&reader.info);
    return reader.status;
}
