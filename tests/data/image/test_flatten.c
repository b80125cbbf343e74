/* Transparent pictures laid on a colour: which can be transparent, and the blended values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <png.h>
#include <webp/encode.h>

#include "data/image/flatten.h"

static const uint8_t background[3] = {200, 100, 0};

/* Two pixels a row: half and fully transparent; opaque and nearly transparent. */
static const uint8_t rgba[16] = {10, 20, 30, 128, 90, 80, 70, 0, 1, 2, 3, 255, 255, 255, 255, 51};
static const uint8_t blended[12] = {105, 60, 15, 200, 100, 0, 1, 2, 3, 211, 131, 51};

static size_t write_png(png_uint_32 format, const void *pixels, const void *colours, int count,
                        uint8_t *out, size_t room)
{
    png_image image = {.version = PNG_IMAGE_VERSION, .width = 2, .height = 2, .format = format};
    image.colormap_entries = (png_uint_32)count;
    png_alloc_size_t size = room;
    assert_true(png_image_write_to_memory(&image, out, &size, 0, pixels, 0, colours));
    return size;
}

static void check(const uint8_t *bytes, size_t size, const uint8_t *expected, int tolerance)
{
    struct image image = {0};
    assert_true(image_has_alpha(bytes, size));
    assert_int_equal(image_flatten(bytes, size, background, &image), STATUS_OK);
    assert_int_equal(image.width, 2);
    assert_int_equal(image.height, 2);
    for (int i = 0; i < 12; i++) {
        assert_true(abs(image.pixels[i] - expected[i]) <= tolerance);
    }
    image_fini(&image);
}

static void test_png(void **state)
{
    (void)state;
    uint8_t bytes[4096];
    size_t size = write_png(PNG_FORMAT_RGBA, rgba, NULL, 0, bytes, sizeof bytes);
    check(bytes, size, blended, 0);
    const uint8_t grey_alpha[8] = {10, 128, 90, 0, 1, 255, 255, 51};
    const uint8_t grey_blended[12] = {105, 55, 5, 200, 100, 0, 1, 1, 1, 211, 131, 51};
    size = write_png(PNG_FORMAT_GA, grey_alpha, NULL, 0, bytes, sizeof bytes);
    check(bytes, size, grey_blended, 0);
    const uint8_t index[4] = {0, 1, 2, 3};
    size = write_png(PNG_FORMAT_RGBA_COLORMAP, index, rgba, 4, bytes, sizeof bytes);
    check(bytes, size, blended, 0);
}

static void test_webp(void **state)
{
    (void)state;
    uint8_t *bytes = NULL;
    /* Without "exact" libwebp clears the colours of fully transparent pixels, which do not show. */
    size_t size = WebPEncodeLosslessRGBA(rgba, 2, 2, 8, &bytes);
    assert_true(size > 0);
    check(bytes, size, blended, 0);
    WebPFree(bytes);
}

static void test_opaque(void **state)
{
    (void)state;
    uint8_t bytes[4096];
    size_t size = write_png(PNG_FORMAT_RGB, rgba, NULL, 0, bytes, sizeof bytes);
    assert_false(image_has_alpha(bytes, size));
    uint8_t *webp = NULL;
    size = WebPEncodeLosslessRGB(rgba, 2, 2, 6, &webp);
    assert_false(image_has_alpha(webp, size));
    WebPFree(webp);
}

static void test_damage(void **state)
{
    (void)state;
    uint8_t bytes[4096];
    struct image image = {0};
    size_t size = write_png(PNG_FORMAT_RGBA, rgba, NULL, 0, bytes, sizeof bytes);
    for (size_t length = 0; length < size; length++) {
        uint8_t *copy = malloc(length + 1); /* so that a sanitizer sees reads behind the end */
        memcpy(copy, bytes, length);
        image_has_alpha(copy, length);
        if (length + 12 < size) { /* a lost end chunk does no harm */
            assert_int_equal(image_flatten(copy, length, background, &image), STATUS_CORRUPT);
        }
        free(copy);
    }
    assert_false(image_has_alpha("not a picture at all, however long", 34));
    assert_false(image_has_alpha("\x89PNG\r\n\x1a\n", 8));
    image_fini(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_png),
        cmocka_unit_test(test_webp),
        cmocka_unit_test(test_opaque),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
