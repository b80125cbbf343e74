/* WebP: lossless, lossy, alpha; truncated and damaged files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <webp/encode.h>

#include <cmocka.h>

#include "data/image/image.h"

enum { WIDTH = 21, HEIGHT = 17 };

static void make_rgba(uint8_t pixels[WIDTH * HEIGHT * 4])
{
    for (int i = 0; i < WIDTH * HEIGHT; i++) {
        int x = i % WIDTH;
        int y = i / WIDTH;
        pixels[4 * i] = (uint8_t)(x * 12);
        pixels[4 * i + 1] = (uint8_t)(y * 14);
        pixels[4 * i + 2] = (uint8_t)(x * y);
        pixels[4 * i + 3] = (uint8_t)(x < 9 ? 0 : x * 10);
    }
}

/* A WebP of the pixels: lossless for quality 0. */
static void encode(const uint8_t *rgba, float quality, struct strbuf *out)
{
    WebPConfig config;
    WebPPicture picture;
    WebPMemoryWriter writer;
    assert_true(WebPConfigInit(&config) && WebPPictureInit(&picture));
    config.lossless = quality == 0;
    config.quality = quality == 0 ? 50 : quality;
    config.exact = 1; /* keep colours under alpha 0 */
    picture.use_argb = config.lossless;
    picture.width = WIDTH;
    picture.height = HEIGHT;
    assert_true(WebPPictureImportRGBA(&picture, rgba, WIDTH * 4));
    WebPMemoryWriterInit(&writer);
    picture.writer = WebPMemoryWrite;
    picture.custom_ptr = &writer;
    assert_true(WebPEncode(&config, &picture));
    strbuf_append_bytes(out, writer.mem, writer.size);
    WebPMemoryWriterClear(&writer);
    WebPPictureFree(&picture);
}

static void test_alpha_is_dropped(void **state)
{
    (void)state;
    uint8_t rgba[WIDTH * HEIGHT * 4];
    make_rgba(rgba);
    struct strbuf file = {0};
    encode(rgba, 0, &file);
    struct image image = {0};
    assert_int_equal(image_decode(file.text, file.length, NULL, &image), STATUS_OK);
    assert_int_equal(image.width, WIDTH);
    assert_int_equal(image.height, HEIGHT);
    for (int i = 0; i < WIDTH * HEIGHT; i++) {
        assert_memory_equal(image.pixels + 3 * i, rgba + 4 * i, 3);
    }
    image_fini(&image);
    strbuf_fini(&file);
}

static void test_lossy(void **state)
{
    (void)state;
    uint8_t rgba[WIDTH * HEIGHT * 4];
    make_rgba(rgba);
    for (int i = 0; i < WIDTH * HEIGHT; i++) {
        rgba[4 * i + 1] = rgba[4 * i + 2] = rgba[4 * i]; /* grey: chroma is half size */
    }
    struct strbuf file = {0};
    encode(rgba, 98, &file);
    struct image image = {0};
    assert_int_equal(image_decode(file.text, file.length, NULL, &image), STATUS_OK);
    for (int i = 0; i < WIDTH * HEIGHT; i++) {
        assert_true(abs(image.pixels[3 * i] - rgba[4 * i]) < 12);
    }
    image_fini(&image);
    strbuf_fini(&file);
}

static void test_truncated_everywhere(void **state)
{
    (void)state;
    uint8_t rgba[WIDTH * HEIGHT * 4];
    make_rgba(rgba);
    for (int lossy = 0; lossy < 2; lossy++) {
        struct strbuf file = {0};
        encode(rgba, lossy ? 80 : 0, &file);
        struct image image = {0};
        for (size_t length = 0; length < file.length; length++) {
            uint8_t *part = malloc(length + !length);
            memcpy(part, file.text, length);
            enum status status = image_decode(part, length, NULL, &image);
            free(part);
            assert_true(status == STATUS_CORRUPT || (length < 12 && status == STATUS_UNSUPPORTED));
        }
        assert_non_null(strstr(status_message(), "WebP: truncated"));
        image_fini(&image);
        strbuf_fini(&file);
    }
}

/* WebP has no checksums: a changed bit is an error or another picture, never more. */
static void test_bit_errors(void **state)
{
    (void)state;
    uint8_t rgba[WIDTH * HEIGHT * 4];
    make_rgba(rgba);
    for (int lossy = 0; lossy < 2; lossy++) {
        struct strbuf file = {0};
        encode(rgba, lossy ? 80 : 0, &file);
        struct image image = {0};
        size_t seen = 0;
        for (size_t bit = 0; bit < file.length * 8; bit++) {
            file.text[bit / 8] = (char)(file.text[bit / 8] ^ (1 << bit % 8));
            seen += image_decode(file.text, file.length, NULL, &image) != STATUS_OK;
            file.text[bit / 8] = (char)(file.text[bit / 8] ^ (1 << bit % 8));
        }
        assert_true(seen > 0);
        assert_int_equal(image_decode(file.text, file.length, NULL, &image), STATUS_OK);
        image_fini(&image);
        strbuf_fini(&file);
    }
}

static void test_animated(void **state)
{
    (void)state;
    /* RIFF, then VP8X with the animation flag on a 16 x 16 canvas, then an empty ANIM chunk. */
    static const char bytes[] = "RIFF\x24\0\0\0WEBPVP8X\x0A\0\0\0\x02\0\0\0\x0F\0\0\x0F\0\0"
                                "ANIM\x06\0\0\0\0\0\0\0\0\0";
    struct image image = {0};
    assert_int_equal(image_decode(bytes, sizeof bytes - 1, NULL, &image), STATUS_UNSUPPORTED);
    assert_non_null(strstr(status_message(), "animated"));
    image_fini(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alpha_is_dropped),
        cmocka_unit_test(test_lossy),
        cmocka_unit_test(test_truncated_everywhere),
        cmocka_unit_test(test_bit_errors),
        cmocka_unit_test(test_animated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
