/*
 * The operations of RandomAugment, and resizing, against committed hashes of what Pillow 9.4 and
 * OpenCV 4.8 make of the same picture: `python3 tests/data/image/pillow.py hashes` prints them.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "data/image/augment.h"
#include "data/image/resize.h"

enum { WIDTH = 61, HEIGHT = 47 };

/* The picture of pillow.py. */
static void make_picture(struct image *image)
{
    assert_int_equal(image_reserve(image, WIDTH, HEIGHT), STATUS_OK);
    for (int i = 0; i < WIDTH * HEIGHT * 3; i++) {
        int x = i / 3 % WIDTH;
        int y = i / 3 / WIDTH;
        int value = x * 7 + y * 13 + x * y % 31 * 5 + i % 3 * 50 + (x / 8 + y / 8) % 2 * 60;
        image->pixels[i] = (uint8_t)(value % 251);
    }
}

/* FNV-1a, 64 bits. */
static uint64_t hash(const struct image *image)
{
    uint64_t value = 0xCBF29CE484222325u;
    for (int64_t i = 0; i < image->width * image->height * 3; i++) {
        value = (value ^ image->pixels[i]) * 0x100000001B3u;
    }
    return value;
}

static void test_operations(void **state)
{
    (void)state;
    static const struct {
        enum image_op op;
        float argument;
        uint64_t hash;
    } rows[] = {
        {IMAGE_OP_AUTO_CONTRAST, 0, 0xcab8f0cebfa41bc9u},
        {IMAGE_OP_EQUALIZE, 0, 0x7ebb1806487fae26u},
        {IMAGE_OP_BRIGHTNESS, (float)1.36, 0x997cb53141df2fb6u},
        {IMAGE_OP_BRIGHTNESS, (float)0.4, 0xf987ee5b437b9f7du},
        {IMAGE_OP_SHARPNESS, (float)1.36, 0x34a0f226c3ab7789u},
        {IMAGE_OP_SHARPNESS, (float)0.28, 0x61be577b2052209bu},
        {IMAGE_OP_SHEAR_X, (float)0.21, 0x63f427ff8f9e67b3u},
        {IMAGE_OP_SHEAR_Y, (float)0.21, 0x67fd13a29f49a884u},
        {IMAGE_OP_TRANSLATE_X, 7, 0x3fa87b6f3be09b60u},
        {IMAGE_OP_TRANSLATE_Y, 7, 0x3beb60812f2ce891u},
        {IMAGE_OP_ROTATE, 21, 0x6cb9c3994d28b07bu},
        {IMAGE_OP_SHEAR_X, (float)-0.21, 0xeee1fc03795a6e37u},
        {IMAGE_OP_SHEAR_Y, (float)-0.21, 0x633ec686c34c2680u},
        {IMAGE_OP_TRANSLATE_X, -7, 0x3409bd61869250fdu},
        {IMAGE_OP_TRANSLATE_Y, -7, 0x481ea4bec55e2ec2u},
        {IMAGE_OP_ROTATE, -21, 0x1b84f900a2556c44u},
    };
    struct image source = {0};
    struct image out = {0};
    make_picture(&source);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(image_op_apply(rows[i].op, rows[i].argument, image_as_view(&source), &out),
                         STATUS_OK);
        if (hash(&out) != rows[i].hash) {
            fail_msg("%s(%g)", image_op_name(rows[i].op), (double)rows[i].argument);
        }
    }
    image_fini(&source);
    image_fini(&out);
}

static void test_resize(void **state)
{
    (void)state;
    static const struct {
        struct image_resize how;
        uint64_t hash;
    } rows[] = {
        {{.filter = IMAGE_BILINEAR, .width = 24, .height = 24, .box = {0, 0, 0, 0}},
         0xbd6c017de710a3d6u},
        {{.filter = IMAGE_BILINEAR, .width = 100, .height = 30, .box = {0, 0, 0, 0}},
         0x92e7a8ea7d2796dbu},
        {{.filter = IMAGE_BILINEAR, .width = 20, .height = 33, .box = {3.5, 1.25, 40, 46.75}},
         0x7ad3e2ad9d580eaeu},
        {{.filter = IMAGE_BICUBIC, .width = 24, .height = 24, .box = {0, 0, 0, 0}},
         0x8a8e226f134cdc97u},
        {{.filter = IMAGE_BICUBIC, .width = 100, .height = 30, .box = {0, 0, 0, 0}},
         0x76d70503304cffacu},
        {{.filter = IMAGE_BICUBIC, .width = 20, .height = 33, .box = {3.5, 1.25, 40, 46.75}},
         0x260a069aa664bfaeu},
    };
    struct image source = {0};
    struct image out = {0};
    struct image_scratch scratch = {0};
    make_picture(&source);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(image_resize(image_as_view(&source), &rows[i].how, &scratch, &out),
                         STATUS_OK);
        if (hash(&out) != rows[i].hash) fail_msg("row %zu", i);
    }
    image_fini(&source);
    image_fini(&out);
    image_scratch_fini(&scratch);
}

/* A part of a picture, with a stride, gives the same as a copy of it. */
static void test_views(void **state)
{
    (void)state;
    struct image source = {0};
    struct image part = {0};
    struct image expected = {0};
    struct image actual = {0};
    make_picture(&source);
    struct image_view view = image_crop(image_as_view(&source), 5, 7, 33, 21);
    assert_int_equal(image_op_apply(IMAGE_OP_IDENTITY, 0, view, &part), STATUS_OK);
    for (int op = 0; op < IMAGE_OP_COUNT; op++) {
        float argument = image_op_argument((enum image_op)op, 7, true);
        assert_int_equal(
            image_op_apply((enum image_op)op, argument, image_as_view(&part), &expected),
            STATUS_OK);
        assert_int_equal(image_op_apply((enum image_op)op, argument, view, &actual), STATUS_OK);
        assert_int_equal(actual.width, 33);
        assert_int_equal(actual.height, 21);
        assert_memory_equal(actual.pixels, expected.pixels, 33 * 21 * 3);
    }
    image_fini(&source);
    image_fini(&part);
    image_fini(&expected);
    image_fini(&actual);
}

static void test_tiny_and_flat(void **state)
{
    (void)state;
    struct image source = {0};
    struct image out = {0};
    for (int64_t width = 1; width < 5; width++) {
        for (int64_t height = 1; height < 5; height++) {
            assert_int_equal(image_reserve(&source, width, height), STATUS_OK);
            memset(source.pixels, 77, (size_t)(width * height * 3));
            for (int op = 0; op < IMAGE_OP_COUNT; op++) {
                enum image_op kind = (enum image_op)op;
                float argument = image_op_argument(kind, 7, false);
                assert_int_equal(image_op_apply(kind, argument, image_as_view(&source), &out),
                                 STATUS_OK);
                /* One level has no contrast to stretch and no histogram to flatten. */
                if (op <= IMAGE_OP_EQUALIZE || op == IMAGE_OP_SHARPNESS) {
                    assert_memory_equal(out.pixels, source.pixels, width * height * 3);
                }
            }
        }
    }
    image_fini(&source);
    image_fini(&out);
}

static void test_arguments(void **state)
{
    (void)state;
    assert_true(image_op_argument(IMAGE_OP_BRIGHTNESS, 7, true) == 1.36f);
    assert_true(image_op_argument(IMAGE_OP_SHARPNESS, 7, false) == 1.36f);
    assert_true(image_op_argument(IMAGE_OP_SHEAR_X, 7, false) == 0.21f);
    assert_true(image_op_argument(IMAGE_OP_SHEAR_Y, 7, true) == -0.21f);
    assert_true(image_op_argument(IMAGE_OP_TRANSLATE_X, 7, true) == -7);
    assert_true(image_op_argument(IMAGE_OP_TRANSLATE_Y, 7, false) == 7);
    assert_true(image_op_argument(IMAGE_OP_ROTATE, 7, false) == 21);
    assert_true(image_op_argument(IMAGE_OP_EQUALIZE, 7, true) == 0);
}

static void test_refusals(void **state)
{
    (void)state;
    struct image source = {0};
    struct image out = {0};
    make_picture(&source);
    struct image_view view = image_as_view(&source);
    assert_int_equal(image_op_apply(IMAGE_OP_ROTATE, NAN, view, &out), STATUS_INVALID);
    assert_non_null(strstr(status_message(), "Rotate"));
    assert_int_equal(image_op_apply(IMAGE_OP_COUNT, 0, view, &out), STATUS_INVALID);
    image_fini(&source);
    image_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operations), cmocka_unit_test(test_resize),
        cmocka_unit_test(test_views),      cmocka_unit_test(test_tiny_and_flat),
        cmocka_unit_test(test_arguments),  cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
