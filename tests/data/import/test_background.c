/* weft pack --background: transparent pictures are stored opaque, others as they are. */
#include "tests/data/import/fixture.h"

#include <png.h>

#include "data/store/pack.h"
#include "data/store/store.h"

static void make_set(void)
{
    /* Left half transparent with black below, right half opaque red. */
    uint8_t rgba[8 * 4 * 4] = {0};
    uint8_t bytes[4096];
    png_alloc_size_t size = sizeof bytes;
    png_image image = {
        .version = PNG_IMAGE_VERSION, .width = 8, .height = 4, .format = PNG_FORMAT_RGBA};
    for (int i = 0; i < 8 * 4; i++) {
        if (i % 8 < 4) continue;
        rgba[4 * i] = 255;
        rgba[4 * i + 3] = 255;
    }
    assert_true(png_image_write_to_memory(&image, bytes, &size, 0, rgba, 0, NULL));
    fixture_bytes("set/a.png", bytes, size);
    fixture_text("set/a.txt", "transparent");
    fixture_png("set/b.png", 8, 4, 77);
    fixture_text("set/b.txt", "opaque");
}

static struct pack_totals pack(const char *output, bool flatten, int64_t max_side)
{
    static const char *values[8];
    const char *sources[] = {fixture_path("set")};
    struct pack_totals totals;
    struct pack_options options = {.output = output,
                                   .shard_size = 100,
                                   .quality = 90,
                                   .num_threads = 1,
                                   .flatten = flatten,
                                   .max_side = max_side,
                                   .background = {255, 255, 255}};
    assert_int_equal(importer_find("folder", &options.importer), STATUS_OK);
    values[0] = options.importer->options[0].value;
    options.args = (struct import_args){sources, 1, options.importer->options, values};
    enum status status = pack_run(&options, &totals);
    if (status != STATUS_OK) print_error("%s\n", status_message());
    assert_int_equal(status, STATUS_OK);
    return totals;
}

/* The pixels of picture `index` of a set. */
static void read_back(const char *path, int64_t index, struct image *pixels, int64_t *stored)
{
    struct store *store = NULL;
    struct store_image image = {0};
    assert_int_equal(store_open(&store, &path, 1, NULL), STATUS_OK);
    assert_int_equal(store_image_read(store, index, &image), STATUS_OK);
    assert_int_equal(image_decode(image.bytes, (size_t)image.size, NULL, pixels), STATUS_OK);
    assert_int_equal(image.width, pixels->width);
    *stored = image.size;
    store_image_fini(&image);
    store_close(&store);
}

static void test_background(void **state)
{
    (void)state;
    struct image pixels = {0};
    int64_t before = 0;
    int64_t after = 0;
    make_set();
    struct pack_totals totals = pack(fixture_path("plain.h5"), false, 0);
    assert_int_equal(totals.transparent, 1);
    read_back(fixture_path("plain.h5"), 0, &pixels, &before);
    assert_int_equal(pixels.pixels[0], 0);
    read_back(fixture_path("plain.h5"), 1, &pixels, &before);
    totals = pack(fixture_path("white.h5"), true, 0);
    assert_int_equal(totals.transparent, 0);
    read_back(fixture_path("white.h5"), 1, &pixels, &after);
    assert_int_equal(before, after);
    read_back(fixture_path("white.h5"), 0, &pixels, &after);
    const uint8_t row[6] = {255, 255, 255, 255, 0, 0};
    assert_memory_equal(pixels.pixels + 9, row, 6);
    /* Made smaller as well. */
    pack(fixture_path("small.h5"), true, 4);
    read_back(fixture_path("small.h5"), 0, &pixels, &after);
    assert_int_equal(pixels.width, 4);
    assert_int_equal(pixels.height, 2);
    assert_true(pixels.pixels[1] > 240);
    image_fini(&pixels);
}

/* Another background is another set: going on with it is refused. */
static void test_going_on_with_another_background(void **state)
{
    (void)state;
    make_set();
    const char *sources[] = {fixture_path("set")};
    const char *values[8];
    struct pack_totals totals;
    pack(fixture_path("once.h5"), true, 0);
    struct pack_options options = {.output = fixture_path("once.h5"),
                                   .shard_size = 100,
                                   .quality = 90,
                                   .num_threads = 1,
                                   .flatten = true,
                                   .background = {0, 0, 0}};
    assert_int_equal(importer_find("folder", &options.importer), STATUS_OK);
    values[0] = options.importer->options[0].value;
    options.args = (struct import_args){sources, 1, options.importer->options, values};
    assert_int_equal(pack_run(&options, &totals), STATUS_INVALID);
    assert_says("once.h5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_background),
        cmocka_unit_test(test_going_on_with_another_background),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
