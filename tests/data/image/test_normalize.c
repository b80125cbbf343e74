/* Normalisation: constants, channel order, padding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "data/image/normalize.h"

static void test_values(void **state)
{
    (void)state;
    /* As torch has it: ((x / 255) - mean) / std, one f32 rounding a step. */
    static const uint8_t pixels[2][2][3] = {{{0, 128, 255}, {1, 2, 3}},
                                            {{9, 8, 7}, {200, 100, 50}}};
    struct image_view view = {&pixels[0][0][0], 2, 2, 6};
    float out[3][2][2];
    const struct image_normalization *norm = NULL;
    assert_int_equal(image_normalization_find("imagenet", &norm), STATUS_OK);
    image_normalize(view, norm, 2, 2, &out[0][0][0]);
    static const float mean[3] = {0.485f, 0.456f, 0.406f};
    static const float std[3] = {0.229f, 0.224f, 0.225f};
    for (int c = 0; c < 3; c++) {
        for (int i = 0; i < 4; i++) {
            float scaled = (float)pixels[i / 2][i % 2][c] / 255.0f;
            float centred = scaled - mean[c];
            assert_true(out[c][i / 2][i % 2] == centred / std[c]);
        }
    }
    /* Caffe's constants: blue first, 0..255. */
    assert_int_equal(image_normalization_find("fine", &norm), STATUS_OK);
    image_normalize(view, norm, 2, 2, &out[0][0][0]);
    assert_true(out[0][0][0] == (255 - 103.530f) / 57.375f);
    assert_true(out[1][0][0] == (128 - 116.280f) / 57.120f);
    assert_true(out[2][0][0] == (0 - 123.675f) / 58.395f);
    assert_true(out[2][1][1] == (200 - 123.675f) / 58.395f);
    assert_int_equal(image_normalization_find("clip", &norm), STATUS_OK);
    assert_true(norm->divisor == 255 && !norm->bgr && norm->std[2] == 0.27577711f);
    assert_int_equal(image_normalization_find("caffe", &norm), STATUS_INVALID);
    assert_non_null(strstr(status_message(), "imagenet, clip, fine"));
}

static void test_padding(void **state)
{
    (void)state;
    assert_int_equal(image_padded_size(1, 32), 32);
    assert_int_equal(image_padded_size(32, 32), 32);
    assert_int_equal(image_padded_size(800, 32), 800);
    assert_int_equal(image_padded_size(1333, 32), 1344);
    uint8_t pixels[3 * 5 * 3];
    memset(pixels, 255, sizeof pixels);
    struct image_view view = {pixels, 3, 5, 9};
    float out[3 * 8 * 4];
    memset(out, 0xFF, sizeof out);
    image_normalize(view, &image_normalization_imagenet, 8, 4, out);
    for (int i = 0; i < 3 * 8 * 4; i++) {
        bool inside = i % 4 < 3 && i / 4 % 8 < 5;
        assert_true(inside ? out[i] > 2 : out[i] == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_padding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
