/* PNG: every colour type and depth, interlaced or not, to RGB8; damage is an error. */
#include <png.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/image/image.h"

enum { WIDTH = 13, HEIGHT = 11 };

struct png_case {
    int colour;
    int depth;
    int interlace;
    int transparent; /* a tRNS chunk */
};

static void on_write(png_structp png, png_bytep bytes, size_t count)
{
    strbuf_append_bytes(png_get_io_ptr(png), bytes, count);
}

static int samples_of(int colour)
{
    switch (colour) {
    case PNG_COLOR_TYPE_GRAY:
    case PNG_COLOR_TYPE_PALETTE:
        return 1;
    case PNG_COLOR_TYPE_GRAY_ALPHA:
        return 2;
    case PNG_COLOR_TYPE_RGB:
        return 3;
    default:
        return 4;
    }
}

/* The value of sample `s` of pixel (x, y), below 2^depth: different in every byte. */
static unsigned sample_at(int x, int y, int s, int depth)
{
    unsigned value = (unsigned)(x * 40503 + y * 25801 + s * 9973 + 77) * 2654435761u >> 16;
    return value & ((1u << depth) - 1);
}

static png_color colour_at(int i)
{
    return (png_color){(png_byte)(i * 7 + 1), (png_byte)(255 - i), (png_byte)(i * 31)};
}

static void pack_row(const struct png_case *c, int y, uint8_t *row)
{
    int samples = samples_of(c->colour);
    memset(row, 0, (size_t)WIDTH * 8);
    for (int x = 0; x < WIDTH; x++) {
        for (int s = 0; s < samples; s++) {
            unsigned value = sample_at(x, y, s, c->depth);
            int index = x * samples + s;
            if (c->depth == 16) {
                row[2 * index] = (uint8_t)(value >> 8);
                row[2 * index + 1] = (uint8_t)value;
            } else {
                int bit = index * c->depth;
                row[bit / 8] |= (uint8_t)(value << (8 - c->depth - bit % 8));
            }
        }
    }
}

static void write_png(const struct png_case *c, int num_colours, struct strbuf *out)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(png, out, on_write, NULL);
    png_set_IHDR(png, info, WIDTH, HEIGHT, c->depth, c->colour,
                 c->interlace ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, 0, 0);
    png_color palette[256];
    png_byte alpha[3] = {0, 128, 255};
    png_color_16 key = {.gray = 1, .red = 1, .green = 2, .blue = 3};
    if (c->colour == PNG_COLOR_TYPE_PALETTE) {
        for (int i = 0; i < num_colours; i++) {
            palette[i] = colour_at(i);
        }
        png_set_PLTE(png, info, palette, num_colours);
        if (c->transparent) png_set_tRNS(png, info, alpha, num_colours < 3 ? 1 : 3, NULL);
    } else if (c->transparent) {
        png_set_tRNS(png, info, NULL, 0, &key);
    }
    /* A picture of another gamma: Pillow and weft both ignore it. */
    png_set_gAMA(png, info, 0.8);
    png_set_check_for_invalid_index(png, -1);
    png_write_info(png, info);
    int passes = png_set_interlace_handling(png);
    for (int pass = 0; pass < passes; pass++) {
        for (int y = 0; y < HEIGHT; y++) {
            uint8_t row[WIDTH * 8];
            pack_row(c, y, row);
            png_write_row(png, row);
        }
    }
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
}

static uint8_t expected_at(const struct png_case *c, int x, int y, int channel)
{
    if (c->colour == PNG_COLOR_TYPE_PALETTE) {
        png_color entry = colour_at((int)sample_at(x, y, 0, c->depth));
        return channel == 0 ? entry.red : channel == 1 ? entry.green : entry.blue;
    }
    int sample = c->colour & PNG_COLOR_MASK_COLOR ? channel : 0;
    unsigned value = sample_at(x, y, sample, c->depth);
    if (c->depth == 16) return (uint8_t)(value >> 8);
    return (uint8_t)(value * 255u / ((1u << c->depth) - 1));
}

static void test_colour_types(void **state)
{
    (void)state;
    static const struct {
        int colour;
        int depth;
    } kinds[] = {{0, 1}, {0, 2}, {0, 4}, {0, 8}, {0, 16}, {2, 8}, {2, 16}, {3, 1},
                 {3, 2}, {3, 4}, {3, 8}, {4, 8}, {4, 16}, {6, 8}, {6, 16}};
    struct image image = {0};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        for (int variant = 0; variant < 4; variant++) {
            struct png_case c = {kinds[i].colour, kinds[i].depth, variant & 1, variant >> 1};
            if (c.transparent && (c.colour & PNG_COLOR_MASK_ALPHA)) continue;
            struct strbuf file = {0};
            write_png(&c, 1 << (c.depth < 8 ? c.depth : 8), &file);
            if (image_decode(file.text, file.length, NULL, &image) != STATUS_OK) {
                fail_msg("colour %d depth %d: %s", c.colour, c.depth, status_message());
            }
            assert_int_equal(image.width, WIDTH);
            assert_int_equal(image.height, HEIGHT);
            for (int p = 0; p < WIDTH * HEIGHT * 3; p++) {
                int x = p / 3 % WIDTH;
                int y = p / 3 / WIDTH;
                if (image.pixels[p] != expected_at(&c, x, y, p % 3)) {
                    fail_msg("colour %d depth %d variant %d pixel %d,%d channel %d: %d not %d",
                             c.colour, c.depth, variant, x, y, p % 3, image.pixels[p],
                             expected_at(&c, x, y, p % 3));
                }
            }
            strbuf_fini(&file);
        }
    }
    image_fini(&image);
}

static void test_palette_index_without_colour(void **state)
{
    (void)state;
    struct png_case c = {PNG_COLOR_TYPE_PALETTE, 8, 0, 0};
    struct strbuf file = {0};
    write_png(&c, 17, &file);
    struct image image = {0};
    assert_int_equal(image_decode(file.text, file.length, NULL, &image), STATUS_CORRUPT);
    assert_non_null(strstr(status_message(), "palette index"));
    assert_non_null(strstr(status_message(), "only 17 colours"));
    image_fini(&image);
    strbuf_fini(&file);
}

static void test_truncated_everywhere(void **state)
{
    (void)state;
    for (int interlace = 0; interlace < 2; interlace++) {
        struct png_case c = {PNG_COLOR_TYPE_RGB_ALPHA, 8, interlace, 0};
        struct strbuf file = {0};
        write_png(&c, 0, &file);
        struct image image = {0};
        for (size_t length = 0; length < file.length; length++) {
            /* A copy of exactly that length, so that a sanitizer sees reads beyond it. */
            uint8_t *part = malloc(length + !length);
            memcpy(part, file.text, length);
            enum status status = image_decode(part, length, NULL, &image);
            free(part);
            assert_true(status == STATUS_CORRUPT || (length < 8 && status == STATUS_UNSUPPORTED));
            if (length >= 33) assert_non_null(strstr(status_message(), "PNG: truncated"));
        }
        image_fini(&image);
        strbuf_fini(&file);
    }
}

static void test_every_bit_counts(void **state)
{
    (void)state;
    struct png_case c = {PNG_COLOR_TYPE_PALETTE, 4, 0, 1};
    struct strbuf file = {0};
    write_png(&c, 16, &file);
    struct image image = {0};
    for (size_t bit = 0; bit < file.length * 8; bit++) {
        file.text[bit / 8] = (char)(file.text[bit / 8] ^ (1 << bit % 8));
        if (image_decode(file.text, file.length, NULL, &image) == STATUS_OK) {
            fail_msg("bit %zu of byte %zu flipped, and nothing was said", bit % 8, bit / 8);
        }
        file.text[bit / 8] = (char)(file.text[bit / 8] ^ (1 << bit % 8));
    }
    image_fini(&image);
    strbuf_fini(&file);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct image image = {0};
    assert_int_equal(image_reserve(&image, 37, 5), STATUS_OK);
    for (int i = 0; i < 37 * 5 * 3; i++) {
        image.pixels[i] = (uint8_t)(i * i);
    }
    struct image_view part = image_crop(image_as_view(&image), 3, 1, 30, 4);
    struct strbuf file = {0};
    strbuf_append(&file, "appended");
    assert_int_equal(image_encode_png(part, 6, &file), STATUS_OK);
    struct image back = {0};
    assert_int_equal(image_decode(file.text + 8, file.length - 8, NULL, &back), STATUS_OK);
    assert_int_equal(back.width, 30);
    assert_int_equal(back.height, 4);
    for (int64_t y = 0; y < 4; y++) {
        assert_memory_equal(back.pixels + y * 90, part.pixels + y * part.stride, 90);
    }
    assert_int_equal(image_encode_png(part, 10, &file), STATUS_INVALID);
    image_fini(&image);
    image_fini(&back);
    strbuf_fini(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_colour_types),
        cmocka_unit_test(test_palette_index_without_colour),
        cmocka_unit_test(test_truncated_everywhere),
        cmocka_unit_test(test_every_bit_counts),
        cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
