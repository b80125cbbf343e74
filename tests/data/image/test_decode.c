/* Decoding whatever the format: limits, borrowed memory, foreign formats, probing, orientation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <webp/encode.h>

#include <cmocka.h>

#include "data/image/image.h"

static void assert_message(const char *part)
{
    if (!strstr(status_message(), part)) fail_msg("'%s' lacks '%s'", status_message(), part);
}

static void store_big(uint8_t *out, uint32_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        out[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
    }
}

/* The checksum of a PNG chunk (ISO 3309). */
static uint32_t crc32_of(const uint8_t *bytes, size_t size)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
        }
    }
    return ~crc;
}

/* Rewrites the size in a PNG's header. */
static void set_png_size(struct strbuf *file, uint32_t width, uint32_t height)
{
    uint8_t *bytes = (uint8_t *)file->text;
    store_big(bytes + 16, width, 4);
    store_big(bytes + 20, height, 4);
    store_big(bytes + 29, crc32_of(bytes + 12, 17), 4);
}

static void make_image(struct image *image, int64_t width, int64_t height)
{
    assert_int_equal(image_reserve(image, width, height), STATUS_OK);
    for (int64_t i = 0; i < width * height * 3; i++) {
        image->pixels[i] = (uint8_t)(i * 37 + i / 7);
    }
}

static void test_bombs(void **state)
{
    (void)state;
    struct image image = {0};
    make_image(&image, 8, 8);
    struct strbuf png = {0};
    struct strbuf jpeg = {0};
    assert_int_equal(image_encode_png(image_as_view(&image), 6, &png), STATUS_OK);
    assert_int_equal(image_encode_jpeg(image_as_view(&image), 90, &jpeg), STATUS_OK);
    image_fini(&image);

    set_png_size(&png, 30000, 30000);
    assert_int_equal(image_decode(png.text, png.length, NULL, &image), STATUS_INVALID);
    assert_message("PNG: 30000 x 30000 pixels is above the limit of 178956970");
    assert_null(image.pixels); /* refused before anything was allocated */
    set_png_size(&png, 0x7FFFFFFF, 0x7FFFFFFF);
    assert_int_equal(image_decode(png.text, png.length, NULL, &image), STATUS_INVALID);
    set_png_size(&png, 0xFFFFFFFF, 1);
    assert_int_equal(image_decode(png.text, png.length, NULL, &image), STATUS_INVALID);
    set_png_size(&png, 0, 8);
    assert_int_equal(image_decode(png.text, png.length, NULL, &image), STATUS_CORRUPT);

    uint8_t *frame = (uint8_t *)jpeg.text;
    while (frame[0] != 0xFF || frame[1] != 0xC0)
        frame++;
    store_big(frame + 5, 30000, 2);
    store_big(frame + 7, 30000, 2);
    assert_int_equal(image_decode(jpeg.text, jpeg.length, NULL, &image), STATUS_INVALID);
    assert_message("JPEG: 30000 x 30000 pixels is above the limit");
    assert_null(image.pixels);

    struct image_decode_options options = {.max_pixels = 63};
    store_big(frame + 5, 8, 2);
    store_big(frame + 7, 8, 2);
    assert_int_equal(image_decode(jpeg.text, jpeg.length, &options, &image), STATUS_INVALID);
    options.max_pixels = 64;
    assert_int_equal(image_decode(jpeg.text, jpeg.length, &options, &image), STATUS_OK);
    image_fini(&image);
    strbuf_fini(&png);
    strbuf_fini(&jpeg);
}

static void test_borrowed_memory(void **state)
{
    (void)state;
    struct image image = {0};
    make_image(&image, 9, 5);
    struct strbuf file = {0};
    assert_int_equal(image_encode_png(image_as_view(&image), 1, &file), STATUS_OK);
    uint8_t memory[9 * 5 * 3 + 1];
    memset(memory, 0xEE, sizeof memory);
    struct image borrowed = image_borrow(memory, 9 * 5 * 3 - 1);
    assert_int_equal(image_decode(file.text, file.length, NULL, &borrowed), STATUS_INVALID);
    assert_message("needs 135 bytes, the caller's buffer has 134");
    borrowed = image_borrow(memory, 9 * 5 * 3);
    assert_int_equal(image_decode(file.text, file.length, NULL, &borrowed), STATUS_OK);
    assert_memory_equal(memory, image.pixels, 9 * 5 * 3);
    assert_int_equal(memory[9 * 5 * 3], 0xEE);
    image_fini(&borrowed); /* does not free what it does not own */
    image_fini(&image);
    strbuf_fini(&file);
}

static void test_foreign_formats(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *message;
    } rows[] = {
        {"GIF89a.......", 13, "is a GIF; weft reads JPEG, PNG and WebP"},
        {"<!DOCTYPE html><p>404", 21, "is an HTML page"},
        {"\0\0\0\x20"
         "ftypavif",
         12, "is an AVIF"},
        {"\x01\x02\x03", 3, "it starts with the bytes 01 02 03 (3 in all)"},
        {"RIFF\x24\0\0\0WAVE", 12, "is no JPEG, PNG or WebP"},
    };
    struct image_info info;
    struct image image = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(image_probe(rows[i].bytes, rows[i].size, &info), STATUS_UNSUPPORTED);
        assert_message(rows[i].message);
        assert_int_equal(image_decode(rows[i].bytes, rows[i].size, NULL, &image),
                         STATUS_UNSUPPORTED);
    }
    assert_int_equal(image_decode("", 0, NULL, &image), STATUS_CORRUPT);
    assert_message("0 bytes");
}

/* ---- orientation ---- */

enum { WIDTH = 3, HEIGHT = 2 }; /* as stored */

/* A TIFF structure with one entry, the orientation. */
static size_t make_exif(int orientation, int little, uint8_t out[26])
{
    static const uint8_t big[26] = {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1};
    static const uint8_t small[26] = {'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1};
    memcpy(out, little ? small : big, 26);
    out[little ? 18 : 19] = (uint8_t)orientation;
    return 26;
}

static void make_png(const struct image *image, int orientation, int little, struct strbuf *out)
{
    struct strbuf plain = {0};
    assert_int_equal(image_encode_png(image_as_view(image), 6, &plain), STATUS_OK);
    uint8_t chunk[12 + 26];
    size_t size = make_exif(orientation, little, chunk + 8);
    store_big(chunk, (uint32_t)size, 4);
    memcpy(chunk + 4, "eXIf", 4);
    store_big(chunk + 8 + size, crc32_of(chunk + 4, size + 4), 4);
    strbuf_append_bytes(out, plain.text, 33);
    strbuf_append_bytes(out, chunk, size + 12);
    strbuf_append_bytes(out, plain.text + 33, plain.length - 33);
    strbuf_fini(&plain);
}

static void make_webp(const struct image *image, int orientation, int little, struct strbuf *out)
{
    uint8_t *plain = NULL;
    size_t size = WebPEncodeLosslessRGB(image->pixels, WIDTH, HEIGHT, WIDTH * 3, &plain);
    assert_true(size > 12);
    uint8_t head[30] = "RIFF....WEBPVP8X\x0A\0\0\0\x08\0\0\0";
    head[24] = WIDTH - 1;
    head[27] = HEIGHT - 1;
    uint8_t exif[8 + 26] = "EXIF\x1A\0\0\0";
    make_exif(orientation, little, exif + 8);
    uint32_t total = (uint32_t)(30 - 8 + size - 12 + sizeof exif);
    for (int i = 0; i < 4; i++) {
        head[4 + i] = (uint8_t)(total >> 8 * i);
    }
    strbuf_append_bytes(out, head, 30);
    strbuf_append_bytes(out, plain + 12, size - 12);
    strbuf_append_bytes(out, exif, sizeof exif);
    WebPFree(plain);
}

/*
 * Where the stored pixel (row, column) is seen. EXIF 2.3 names, for each value, the visual side of
 * the 0th row and of the 0th column: top-left, top-right, bottom-right, bottom-left, left-top,
 * right-top, right-bottom, left-bottom.
 */
static void seen_at(int orientation, int row, int column, int64_t *x, int64_t *y)
{
    static const char row_side[] = " TTBBLRRL";
    static const char column_side[] = " LRRLTTBB";
    switch (row_side[orientation]) {
    case 'T':
        *y = row;
        break;
    case 'B':
        *y = HEIGHT - 1 - row;
        break;
    case 'L':
        *x = row;
        break;
    default:
        *x = HEIGHT - 1 - row;
        break;
    }
    switch (column_side[orientation]) {
    case 'L':
        *x = column;
        break;
    case 'R':
        *x = WIDTH - 1 - column;
        break;
    case 'T':
        *y = column;
        break;
    default:
        *y = WIDTH - 1 - column;
        break;
    }
}

static void test_orientations(void **state)
{
    (void)state;
    struct image stored = {0};
    struct image image = {0};
    make_image(&stored, WIDTH, HEIGHT);
    for (int n = 0; n < 9 * 4; n++) {
        int orientation = n % 9; /* 0 is no orientation: upright */
        int little = n / 9 & 1;
        struct strbuf file = {0};
        (n / 18 ? make_webp : make_png)(&stored, orientation, little, &file);
        struct image_info info;
        assert_int_equal(image_probe(file.text, file.length, &info), STATUS_OK);
        assert_int_equal(info.format, n / 18 ? IMAGE_WEBP : IMAGE_PNG);
        assert_int_equal(info.orientation, orientation ? orientation : 1);
        assert_int_equal(info.width, WIDTH);
        assert_int_equal(info.height, HEIGHT);

        assert_int_equal(image_decode(file.text, file.length, NULL, &image), STATUS_OK);
        assert_memory_equal(image.pixels, stored.pixels, WIDTH * HEIGHT * 3);
        struct image_decode_options options = {.apply_orientation = true};
        if (image_decode(file.text, file.length, &options, &image))
            fail_msg("%s", status_message());
        assert_int_equal(image.width, orientation >= 5 ? HEIGHT : WIDTH);
        assert_int_equal(image.height, orientation >= 5 ? WIDTH : HEIGHT);
        for (int i = 0; i < WIDTH * HEIGHT; i++) {
            int64_t x = 0;
            int64_t y = 0;
            seen_at(orientation ? orientation : 1, i / WIDTH, i % WIDTH, &x, &y);
            assert_memory_equal(image.pixels + (y * image.width + x) * 3, stored.pixels + i * 3, 3);
        }
        strbuf_fini(&file);
    }
    image_fini(&stored);
    image_fini(&image);
}

static void test_jpeg_orientation(void **state)
{
    (void)state;
    struct image image = {0};
    make_image(&image, 20, 10);
    struct strbuf plain = {0};
    assert_int_equal(image_encode_jpeg(image_as_view(&image), 90, &plain), STATUS_OK);
    uint8_t segment[10 + 26] = "\xFF\xE1\0\x22"
                               "Exif\0";
    make_exif(6, 1, segment + 10);
    struct strbuf file = {0};
    strbuf_append_bytes(&file, plain.text, 2);
    strbuf_append_bytes(&file, segment, sizeof segment);
    strbuf_append_bytes(&file, plain.text + 2, plain.length - 2);
    struct image_info info;
    assert_int_equal(image_probe(file.text, file.length, &info), STATUS_OK);
    assert_int_equal(info.format, IMAGE_JPEG);
    assert_int_equal(info.orientation, 6);
    struct image_decode_options options = {.apply_orientation = true};
    assert_int_equal(image_decode(file.text, file.length, &options, &image), STATUS_OK);
    assert_int_equal(image.width, 10);
    assert_int_equal(image.height, 20);
    image_fini(&image);
    strbuf_fini(&plain);
    strbuf_fini(&file);
}

static void test_box_outline(void **state)
{
    (void)state;
    struct image image = {0};
    assert_int_equal(image_reserve(&image, 12, 10), STATUS_OK);
    memset(image.pixels, 0, 12 * 10 * 3);
    static const uint8_t red[3] = {255, 0, 0};
    image_draw_box(&image, (const float[4]){2, 3, 9, 8}, red, 2);
    for (int y = 0; y < 10; y++) {
        for (int x = 0; x < 12; x++) {
            bool inside = x >= 2 && x < 9 && y >= 3 && y < 8;
            bool hole = x >= 4 && x < 7 && y >= 5 && y < 6;
            assert_int_equal(image.pixels[(y * 12 + x) * 3], inside && !hole ? 255 : 0);
            assert_int_equal(image.pixels[(y * 12 + x) * 3 + 1], 0);
        }
    }
    /* Beyond the picture: only the edge that is inside is drawn. */
    memset(image.pixels, 0, 12 * 10 * 3);
    image_draw_box(&image, (const float[4]){-5, -5, 6, 100}, red, 1);
    for (int i = 0; i < 120; i++) {
        assert_int_equal(image.pixels[i * 3], i % 12 == 5 ? 255 : 0);
    }
    image_draw_box(&image, (const float[4]){20, 20, 30, 30}, red, 3);
    image_draw_box(&image, (const float[4]){5, 5, 2, 2}, red, 3);
    image_fini(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_borrowed_memory),
        cmocka_unit_test(test_foreign_formats),
        cmocka_unit_test(test_orientations),
        cmocka_unit_test(test_jpeg_orientation),
        cmocka_unit_test(test_box_outline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
