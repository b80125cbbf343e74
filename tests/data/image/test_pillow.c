/*
 * Against the Pillow at hand: pictures of every kind that it writes, EXIF orientation, and resizing
 * with random sizes and fractional boxes. All bytes must be the same.
 *
 * needs=python:PIL
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "data/image/resize.h"
#include "tests/data/image/tar_read.h"

struct row {
    char file[32];
    char expected[32];
    char filter[16];
    long width;
    long height;
    int orient;
    float box[4];
};

static void compare(const char *folder, const struct row *row)
{
    char path[256];
    size_t size = 0;
    snprintf(path, sizeof path, "%s/%s", folder, row->file);
    uint8_t *bytes = tar_load(path, &size);
    assert_non_null(bytes);
    struct image image = {0};
    struct image resized = {0};
    struct image_scratch scratch = {0};
    struct image_decode_options options = {.apply_orientation = row->orient};
    if (image_decode(bytes, size, &options, &image)) {
        fail_msg("%s: %s", row->file, status_message());
    }
    const struct image *out = &image;
    if (row->filter[0] != '-') {
        struct image_resize how = {.width = row->width, .height = row->height};
        how.filter = strcmp(row->filter, "BICUBIC") == 0 ? IMAGE_BICUBIC : IMAGE_BILINEAR;
        memcpy(how.box, row->box, sizeof how.box);
        if (image_resize(image_as_view(&image), &how, &scratch, &resized)) {
            fail_msg("%s: %s", row->file, status_message());
        }
        out = &resized;
    }
    free(bytes);
    snprintf(path, sizeof path, "%s/%s", folder, row->expected);
    bytes = tar_load(path, &size);
    assert_non_null(bytes);
    assert_int_equal(out->width, row->width);
    assert_int_equal(out->height, row->height);
    assert_int_equal(size, row->width * row->height * 3);
    for (size_t i = 0; i < size; i++) {
        if (out->pixels[i] == bytes[i]) continue;
        fail_msg("%s (%s): byte %zu is %d, Pillow has %d", row->file, row->filter, i,
                 out->pixels[i], bytes[i]);
    }
    free(bytes);
    image_fini(&image);
    image_fini(&resized);
    image_scratch_fini(&scratch);
}

static void test_against_pillow(void **state)
{
    (void)state;
    char folder[128];
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/weft-pillow-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(folder));
    char command[512];
    snprintf(command, sizeof command, "python3 tests/data/image/pillow.py files '%s'", folder);
    assert_int_equal(system(command), 0);
    char path[256];
    snprintf(path, sizeof path, "%s/list.txt", folder);
    FILE *list = fopen(path, "r");
    assert_non_null(list);
    int rows = 0;
    struct row row;
    while (fscanf(list, "%31s %31s %ld %ld %d %15s %f %f %f %f", row.file, row.expected, &row.width,
                  &row.height, &row.orient, row.filter, &row.box[0], &row.box[1], &row.box[2],
                  &row.box[3]) == 10) {
        compare(folder, &row);
        rows++;
    }
    fclose(list);
    assert_true(rows > 150);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_pillow)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
