/*
 * Decoding and resizing against Pillow, on pictures that others made: the golden file holds
 * Pillow's pixels. We ask for more than its README: the same bytes, not one level of difference.
 *
 * needs=shared/golden/image_resize.h5,shared/data/coco128/coco128.tar
 */
#include <hdf5.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/image/resize.h"
#include "tests/data/image/tar_read.h"

static const char *shared(void)
{
    const char *folder = getenv("WEFT_SHARED");
    return folder ? folder : "../shared";
}

static void read_text(hid_t group, const char *name, char *out, size_t size)
{
    hid_t attribute = H5Aopen(group, name, H5P_DEFAULT);
    hid_t type = H5Aget_type(attribute);
    char *text = NULL;
    assert_true(H5Aread(attribute, type, &text) >= 0);
    snprintf(out, size, "%s", text);
    H5free_memory(text);
    H5Tclose(type);
    H5Aclose(attribute);
}

static int64_t read_number(hid_t group, const char *name)
{
    int64_t value = -1;
    hid_t attribute = H5Aopen(group, name, H5P_DEFAULT);
    assert_true(H5Aread(attribute, H5T_NATIVE_INT64, &value) >= 0);
    H5Aclose(attribute);
    return value;
}

/* "coco128/train2017/x.jpg" lies in coco128/coco128.tar, "emoji/train/x.png" in emoji/train.tar. */
static void decode_source(const char *source, struct image *image)
{
    char path[512];
    const char *member_name = strchr(source, '/') + 1;
    if (strncmp(source, "coco128/", 8) == 0) {
        snprintf(path, sizeof path, "%s/data/coco128/coco128.tar", shared());
    } else {
        size_t length = (size_t)(strchr(member_name, '/') - source);
        snprintf(path, sizeof path, "%s/data/%.*s.tar", shared(), (int)length, source);
    }
    size_t size = 0;
    uint8_t *archive = tar_load(path, &size);
    if (!archive) fail_msg("cannot read %s", path);
    struct tar_member member;
    for (size_t at = 0; tar_next(archive, size, &at, &member);) {
        if (strcmp(member.name, member_name) != 0) continue;
        assert_int_equal(image_decode(member.bytes, member.size, NULL, image), STATUS_OK);
        free(archive);
        return;
    }
    fail_msg("%s has no member %s", path, member_name);
}

static void compare(hid_t group, const char *name, const struct image *image,
                    enum image_filter filter, int64_t width, int64_t height)
{
    struct image_resize how = {.filter = filter, .width = width, .height = height};
    size_t bytes = (size_t)(how.width * how.height * IMAGE_CHANNELS);
    uint8_t *expected = malloc(bytes);
    hid_t dataset = H5Dopen2(group, name, H5P_DEFAULT);
    assert_true(H5Dread(dataset, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, expected) >= 0);
    H5Dclose(dataset);
    struct image_scratch scratch = {0};
    struct image out = {0};
    assert_int_equal(image_resize(image_as_view(image), &how, &scratch, &out), STATUS_OK);
    assert_int_equal(out.width, how.width);
    assert_int_equal(out.height, how.height);
    assert_memory_equal(out.pixels, expected, bytes);
    image_fini(&out);
    image_scratch_fini(&scratch);
    free(expected);
}

static void test_against_pillow(void **state)
{
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s/golden/image_resize.h5", shared());
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0);
    int groups = 0;
    for (;; groups++) {
        char name[16];
        snprintf(name, sizeof name, "%02d", groups);
        if (H5Lexists(file, name, H5P_DEFAULT) <= 0) break;
        hid_t group = H5Gopen2(file, name, H5P_DEFAULT);
        char source[256];
        read_text(group, "source", source, sizeof source);
        struct image image = {0};
        decode_source(source, &image);
        int64_t sum = 0;
        for (int64_t i = 0; i < image.width * image.height * IMAGE_CHANNELS; i++) {
            sum += image.pixels[i];
        }
        assert_int_equal(sum, read_number(group, "rgb_sum"));
        compare(group, "bicubic_64", &image, IMAGE_BICUBIC, 64, 64);
        compare(group, "bicubic_96", &image, IMAGE_BICUBIC, 96, 96);
        compare(group, "bicubic_224", &image, IMAGE_BICUBIC, 224, 224);
        compare(group, "bilinear_96x160", &image, IMAGE_BILINEAR, 160, 96);
        image_fini(&image);
        H5Gclose(group);
    }
    assert_true(groups >= 12);
    H5Fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_pillow)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
