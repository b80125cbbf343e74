/* JPEG: grey, colour, CMYK, YCCK, baseline and progressive; every kind of damage is an error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/image/image.h"
#include "tests/data/image/jpeg_write.h"

enum { WIDTH = 45, HEIGHT = 35 };

static const struct jpeg_kind rgb_kind = {
    .in = JCS_RGB, .stored = JCS_YCbCr, .components = 3, .quality = 90};

/* Smooth in x and y, so that lossy coding stays near: component c of 0..3. */
static uint8_t smooth(int x, int y, int c)
{
    static const int slope[4][2] = {{5, 0}, {0, 6}, {2, 2}, {-3, 1}};
    return (uint8_t)(c == 3 ? 180 + slope[3][0] * x + slope[3][1] * y
                            : 10 + slope[c][0] * x + slope[c][1] * y);
}

static void write_smooth(const struct jpeg_kind *kind, struct strbuf *out)
{
    uint8_t samples[WIDTH * HEIGHT * 4];
    for (int i = 0; i < WIDTH * HEIGHT * kind->components; i++) {
        int pixel = i / kind->components;
        samples[i] = smooth(pixel % WIDTH, pixel / WIDTH, i % kind->components);
    }
    jpeg_write(kind, samples, WIDTH, HEIGHT, out);
}

static void assert_near(int actual, int expected, int tolerance)
{
    if (abs(actual - expected) > tolerance) fail_msg("%d is not near %d", actual, expected);
}

static void decode(const struct strbuf *file, const struct image_decode_options *options,
                   struct image *image)
{
    if (image_decode(file->text, file->length, options, image) != STATUS_OK) {
        fail_msg("%s", status_message());
    }
}

static void test_colour_spaces(void **state)
{
    (void)state;
    static const struct jpeg_kind kinds[] = {
        {.in = JCS_GRAYSCALE, .stored = JCS_GRAYSCALE, .components = 1},
        {.in = JCS_RGB, .stored = JCS_YCbCr, .components = 3},
        {.in = JCS_RGB, .stored = JCS_RGB, .components = 3},
        {.in = JCS_CMYK, .stored = JCS_CMYK, .components = 4},
        {.in = JCS_CMYK, .stored = JCS_YCCK, .components = 4},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        for (int variant = 0; variant < 8; variant++) {
            struct jpeg_kind kind = kinds[i];
            kind.quality = 100;
            kind.full_chroma = kind.components > 1;
            kind.progressive = variant & 1;
            kind.restart_rows = variant >> 1 & 1;
            kind.arithmetic = variant >> 2;
            struct strbuf file = {0};
            write_smooth(&kind, &file);
            struct image image = {0};
            decode(&file, NULL, &image);
            assert_int_equal(image.width, WIDTH);
            assert_int_equal(image.height, HEIGHT);
            for (int p = 0; p < WIDTH * HEIGHT; p++) {
                for (int c = 0; c < 3; c++) {
                    int expected = smooth(p % WIDTH, p / WIDTH, kind.components == 1 ? 0 : c);
                    /* Adobe's inverted ink: what is stored is 255 - ink. */
                    if (kind.components == 4) {
                        int k = smooth(p % WIDTH, p / WIDTH, 3);
                        expected = k - (255 - expected) * k / 255;
                    }
                    assert_near(image.pixels[p * 3 + c], expected, 4);
                }
            }
            image_fini(&image);
            strbuf_fini(&file);
        }
    }
}

static void test_two_components(void **state)
{
    (void)state;
    struct jpeg_kind kind = {
        .in = JCS_UNKNOWN, .stored = JCS_UNKNOWN, .components = 2, .quality = 90};
    struct strbuf file = {0};
    write_smooth(&kind, &file);
    struct image image = {0};
    assert_int_equal(image_decode(file.text, file.length, NULL, &image), STATUS_UNSUPPORTED);
    assert_non_null(strstr(status_message(), "2 colour components"));
    image_fini(&image);
    strbuf_fini(&file);
}

static void test_half_size(void **state)
{
    (void)state;
    struct jpeg_kind kind = rgb_kind;
    kind.quality = 98;
    kind.full_chroma = 1;
    struct strbuf file = {0};
    write_smooth(&kind, &file);
    struct image image = {0};
    decode(&file, &(struct image_decode_options){.half_size = true}, &image);
    assert_int_equal(image.width, (WIDTH + 1) / 2);
    assert_int_equal(image.height, (HEIGHT + 1) / 2);
    for (int y = 1; y < HEIGHT / 2 - 1; y++) {
        for (int x = 1; x < WIDTH / 2 - 1; x++) {
            for (int c = 0; c < 3; c++) {
                int mean = (smooth(2 * x, 2 * y, c) + smooth(2 * x + 1, 2 * y + 1, c)) / 2;
                assert_near(image.pixels[(y * image.width + x) * 3 + c], mean, 6);
            }
        }
    }
    image_fini(&image);
    strbuf_fini(&file);
}

static void test_truncated_everywhere(void **state)
{
    (void)state;
    for (int progressive = 0; progressive < 2; progressive++) {
        struct jpeg_kind kind = rgb_kind;
        kind.progressive = progressive;
        struct strbuf file = {0};
        write_smooth(&kind, &file);
        struct image image = {0};
        for (size_t length = 0; length < file.length; length++) {
            /* A copy of exactly that length, so that a sanitizer sees reads beyond it. */
            uint8_t *part = malloc(length + !length);
            memcpy(part, file.text, length);
            enum status status = image_decode(part, length, NULL, &image);
            free(part);
            if (length < 3) continue;
            if (status != STATUS_CORRUPT) fail_msg("%zu of %zu bytes", length, file.length);
            assert_non_null(strstr(status_message(), "truncated"));
        }
        image_fini(&image);
        strbuf_fini(&file);
    }
}

/* Most single bit errors in the picture data are seen, since it must come out even at the end.
 * Those that are not change some block's coefficients; no decoder can tell them from a picture. */
static void test_bit_errors(void **state)
{
    (void)state;
    struct jpeg_kind kind = rgb_kind;
    kind.progressive = 1;
    struct strbuf file = {0};
    write_smooth(&kind, &file);
    struct image image = {0};
    size_t seen = 0;
    for (size_t bit = 0; bit < file.length * 8; bit++) {
        file.text[bit / 8] = (char)(file.text[bit / 8] ^ (1 << bit % 8));
        enum status status = image_decode(file.text, file.length, NULL, &image);
        file.text[bit / 8] = (char)(file.text[bit / 8] ^ (1 << bit % 8));
        seen += status != STATUS_OK;
        if (status == STATUS_OK) assert_true(image.width > 0 && image.height > 0);
    }
    assert_true(seen > file.length * 8 / 4);
    /* The decoder is as good as new after all these jumps. */
    decode(&file, NULL, &image);
    image_fini(&image);
    strbuf_fini(&file);
}

static void test_extraneous_bytes(void **state)
{
    (void)state;
    struct strbuf file = {0};
    write_smooth(&rgb_kind, &file);
    struct image plain = {0};
    decode(&file, NULL, &plain);
    struct strbuf longer = {0};
    strbuf_append_bytes(&longer, file.text, file.length - 2);
    strbuf_append_bytes(&longer, "\0\0\0\0\0\0\xFF\xD9", 8);
    struct image image = {0};
    assert_int_equal(image_decode(longer.text, longer.length, NULL, &image), STATUS_CORRUPT);
    assert_non_null(strstr(status_message(), "extraneous bytes before marker 0xd9"));
    decode(&longer, &(struct image_decode_options){.allow_extraneous = true}, &image);
    assert_memory_equal(image.pixels, plain.pixels, WIDTH * HEIGHT * 3);
    /* What follows the end marker is nobody's business. */
    strbuf_append(&file, "a trailer");
    decode(&file, NULL, &image);
    assert_memory_equal(image.pixels, plain.pixels, WIDTH * HEIGHT * 3);
    image_fini(&plain);
    image_fini(&image);
    strbuf_fini(&file);
    strbuf_fini(&longer);
}

/* A file that repeats one of its scans thousands of times costs more than it weighs. */
static void test_scan_bomb(void **state)
{
    (void)state;
    struct jpeg_kind kind = rgb_kind;
    kind.separate = 1;
    struct strbuf file = {0};
    write_smooth(&kind, &file);
    struct image image = {0};
    decode(&file, NULL, &image);
    size_t last = file.length - 2; /* where the last scan starts */
    while ((uint8_t)file.text[last] != 0xFF || (uint8_t)file.text[last + 1] != 0xDA) {
        last--;
    }
    struct strbuf bomb = {0};
    strbuf_append_bytes(&bomb, file.text, last);
    for (int i = 0; i < 600; i++) {
        strbuf_append_bytes(&bomb, file.text + last, file.length - 2 - last);
    }
    strbuf_append_bytes(&bomb, "\xFF\xD9", 2);
    assert_int_equal(image_decode(bomb.text, bomb.length, NULL, &image), STATUS_CORRUPT);
    assert_non_null(strstr(status_message(), "more than 500 scans"));
    image_fini(&image);
    strbuf_fini(&bomb);
    strbuf_fini(&file);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct image image = {0};
    assert_int_equal(image_reserve(&image, WIDTH, HEIGHT), STATUS_OK);
    for (int i = 0; i < WIDTH * HEIGHT * 3; i++) {
        image.pixels[i] = smooth(i / 3 % WIDTH, i / 3 / WIDTH, i % 3);
    }
    struct strbuf file = {0};
    strbuf_append(&file, "appended");
    struct image_view part = image_crop(image_as_view(&image), 2, 3, 40, 30);
    assert_int_equal(image_encode_jpeg(part, 95, &file), STATUS_OK);
    struct image back = {0};
    assert_int_equal(image_decode(file.text + 8, file.length - 8, NULL, &back), STATUS_OK);
    assert_int_equal(back.width, 40);
    assert_int_equal(back.height, 30);
    for (int p = 0; p < 40 * 30; p++) {
        for (int c = 0; c < 3; c++) {
            assert_near(back.pixels[p * 3 + c], smooth(p % 40 + 2, p / 40 + 3, c), 12);
        }
    }
    assert_int_equal(image_encode_jpeg(part, 0, &file), STATUS_INVALID);
    part.width = 70000;
    assert_int_equal(image_encode_jpeg(part, 90, &file), STATUS_INVALID);
    image_fini(&image);
    image_fini(&back);
    strbuf_fini(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_colour_spaces), cmocka_unit_test(test_two_components),
        cmocka_unit_test(test_half_size),     cmocka_unit_test(test_truncated_everywhere),
        cmocka_unit_test(test_bit_errors),    cmocka_unit_test(test_extraneous_bytes),
        cmocka_unit_test(test_scan_bomb),     cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
