/* weft check finds every kind of fault, counts it and names the first row; and seals what is sound.
 */
#include "tests/data/store/fixture.h"

#include <fcntl.h>
#include <math.h>

#include "data/store/check.h"
#include "data/store/reseal.h"
#include "data/store/shard.h"

static char folder[PATH_MAX];
static char path[PATH_MAX + 32];
static struct findings findings;

static int setup(void **state)
{
    (void)state;
    folder_make(folder);
    snprintf(path, sizeof path, "%s/bad.h5", folder);
    findings_init(&findings);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    findings_fini(&findings);
    folder_remove(folder);
    return 0;
}

/* Writes samples without cleaning them. */
static void write_raw(const char *to, struct sample *samples, int count)
{
    struct shard_head head = {.set = "bad",
                              .set_id = "",
                              .origin = "",
                              .shard = 0,
                              .shards = 1,
                              .categories = fixture_categories,
                              .num_categories = 3};
    struct shard_writer *writer = NULL;
    ASSERT_OK(shard_writer_create(&writer, to, &head));
    for (int i = 0; i < count; i++) {
        ASSERT_OK(shard_writer_add(writer, &samples[i], NULL));
        sample_fini(&samples[i]);
    }
    ASSERT_OK(shard_writer_finish(&writer, 0));
}

static void check(const char *pattern)
{
    findings_fini(&findings);
    findings_init(&findings);
    struct check_options options = {.files = &pattern, .num_files = 1, .num_threads = 2};
    ASSERT_OK(check_run(&options, &findings));
}

static void expect(const char *kind, int64_t count, const char *first)
{
    const struct finding *finding = findings_get(&findings, kind);
    if (!finding) fail_msg("'%s' was not found", kind);
    if (finding->count != count) {
        fail_msg("%s: %lld times, first: %s", kind, (long long)finding->count, finding->first);
    }
    if (!strstr(finding->first, first)) fail_msg("%s: first: %s", kind, finding->first);
}

static void test_sound(void **state)
{
    (void)state;
    shard_make(path, 0, 12, 0, 1);
    check(path);
    assert_int_equal(findings.count, 0);
}

static void test_boxes(void **state)
{
    (void)state;
    static const float boxes[][4] = {{0, 0, 4, 4},       {NAN, 0, 1, 1}, {3, 0, 2, 1},
                                     {1, 1, 1, 2},       {0, 0, 99, 1},  {-5, 0, 1, 1},
                                     {0, 0, 1, INFINITY}};
    struct sample samples[2] = {0};
    for (int i = 0; i < 2; i++) {
        sample_add_png(&samples[i], 10, 10, (unsigned)i, i ? "b.png" : "a.png");
        for (size_t j = 0; j < sizeof boxes / sizeof boxes[0]; j++) {
            ASSERT_OK(sample_add_box(&samples[i], 0, boxes[j], NULL));
        }
    }
    write_raw(path, samples, 2);
    check(path);
    expect("box with a coordinate that is not a number", 4, "image 0 ('a.png'): box 1 [nan, 0, 1");
    expect("box with its corners out of order", 2, "box 2 [3, 0, 2, 1] on 10 x 10");
    expect("box without an area", 2, "('a.png'): box 3");
    expect("box outside its image", 4, "box 4 [0, 0, 99, 1]");
    assert_int_equal(findings_errors(&findings), 4);
}

static void test_texts_and_spans(void **state)
{
    (void)state;
    struct sample sample = {0};
    int32_t box = 0;
    int32_t text = 0;
    sample_add_png(&sample, 10, 10, 1, "a.png");
    sample_add_words(&sample, TEXT_CAPTION, 0, "good words", &text);
    sample_add_words(&sample, TEXT_CAPTION, 0, "", NULL);
    sample_add_words(&sample, TEXT_CAPTION, 0, " \n", NULL);
    sample_add_words(&sample, TEXT_CAPTION, 0, "bad \xC3", NULL);
    sample_add_words(&sample, TEXT_CAPTION, 0, "bad \xED\xA0\x80 surrogate", NULL);
    ASSERT_OK(sample_add_box(&sample, 0, (float[4]){0, 0, 1, 1}, &box));
    sample.boxes[box].text = text;
    ASSERT_OK(sample_add_span(&sample, box, 0, 4));
    ASSERT_OK(sample_add_span(&sample, box, 5, 11));
    ASSERT_OK(sample_add_span(&sample, box, 4, 5));
    ASSERT_OK(sample_add_span(&sample, box, 3, 3));
    ASSERT_OK(sample_add_answer(&sample, text, "yes", 3, 1.5f));
    ASSERT_OK(sample_add_answer(&sample, text, "no", 2, -1.0f));
    write_raw(path, &sample, 1);
    check(path);
    expect("empty text", 2, "image 0 ('a.png'): text 1");
    expect("not valid UTF-8", 2, "text 3");
    expect("span outside its text", 1, "span [5, 11) of text 0 with 10 characters");
    expect("empty phrase", 2, "span [4, 5)");
    expect("answer score outside [0, 1]", 2, "answer 0 to text 0, score 1.5");
    assert_int_equal(findings_errors(&findings), 5);
}

static void test_pictures(void **state)
{
    (void)state;
    struct sample samples[5] = {0};
    for (int i = 0; i < 5; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d.png", i);
        sample_add_png(&samples[i], 10, 10, (unsigned)(i == 4 ? 0 : i), key);
    }
    samples[1].images[0].bytes = (const uint8_t *)"hello";
    samples[1].images[0].size = 5;
    samples[2].images[0].size -= 20;
    samples[3].images[0].width = 11;
    write_raw(path, samples, 5);
    check(path);
    expect(FOUND_PICTURE, 2, "image 1 ('1.png'): ");
    expect(FOUND_SIZE, 1, "image 3 ('3.png'): stored as 11 x 10, is 10 x 10");
    expect(FOUND_DUPLICATE, 1, "image 4 ('4.png') is the same as");
    assert_int_equal(findings_errors(&findings), 2); /* a duplicate is a note */
}

/* Changes element `row` of an integer table in the file, whose seal is taken off. */
static void patch(enum schema_table table, int64_t row, int64_t value)
{
    struct shard shard;
    ASSERT_OK(shard_open(&shard, path, false));
    const struct shard_column *column = &shard.columns[table];
    assert_true(column->present);
    int file = open(path, O_RDWR);
    assert_true(file >= 0);
    assert_int_equal(
        pwrite(file, &value, column->width, (off_t)(column->offset + row * column->width)),
        column->width);
    if (shard.sealed) assert_int_equal(ftruncate(file, shard.file_bytes), 0);
    close(file);
    shard_close(&shard);
}

static void test_tables(void **state)
{
    (void)state;
    shard_make(path, 0, 12, 0, 1); /* 16 images, 38 texts, 24 boxes, 24 spans, 12 answers */
    patch(TABLE_IMAGES_OFFSET, 0, 1);
    patch(TABLE_TEXTS_OFFSET, 4, 100000);
    patch(TABLE_TEXTS_IMAGE, 20, 3);
    patch(TABLE_TEXTS_IMAGE2, 0, 16);
    patch(TABLE_TEXTS_KIND, 7, 4);
    patch(TABLE_TEXTS_LABEL, 8, 2);
    patch(TABLE_BOXES_TEXT, 3, -2);
    patch(TABLE_BOXES_CATEGORY, 5, 3);
    patch(TABLE_SPANS_BOX, 9, 24);
    patch(TABLE_ANSWERS_TEXT, 0, 37);
    check(path);
    expect(FOUND_OFFSET, 3, "images/offset[0] is 1 after 0; offsets rise from 0 to");
    expect(FOUND_ORDER, 3, "texts/image[20] is 3 after ");
    expect(FOUND_REFERENCE, 4, "texts/image2[0] is 16 and must be within -1 and 15");
    expect(FOUND_VALUE, 2, "texts/kind[7] is 4 and must be within 0 and 3");
    expect(FOUND_HASH, 1, "image 0 ('picture-0.png'): the picture's bytes are damaged");
    expect(FOUND_NO_SEAL, 1, "weft check --seal adds a seal");
    assert_true(findings_errors(&findings) >= 6); /* and rows that cannot be read */
    expect(FOUND_ROW, findings_get(&findings, FOUND_ROW)->count, "bad.h5: ");
}

static void test_files(void **state)
{
    (void)state;
    char other[PATH_MAX + 32];
    struct check_options options = {.num_threads = 1};
    const char *pattern = folder;
    options.files = &pattern;
    options.num_files = 1;
    shard_make(path, 0, 2, 0, 3);
    snprintf(other, sizeof other, "%s/second.h5", folder);
    shard_make(other, 2, 2, 2, 3);
    ASSERT_OK(check_run(&options, &findings));
    expect(FOUND_SET, 1, "has 3 shards and 2 were given: shard 1 is missing");
    findings_fini(&findings);
    findings_init(&findings);
    options.partial = true;
    ASSERT_OK(check_run(&options, &findings));
    assert_int_equal(findings.count, 0);
    assert_int_equal(truncate(other, 1000), 0);
    ASSERT_OK(check_run(&options, &findings)); /* the good file is checked all the same */
    expect(FOUND_FILE, 1, "second.h5: not a sound HDF5 file");
    pattern = "/nowhere/*.h5";
    ASSERT_FAILS(check_run(&options, &findings), STATUS_NOT_FOUND, "matches nothing");
}

static void test_against(void **state)
{
    (void)state;
    char other[PATH_MAX + 32];
    shard_make(path, 0, 10, 0, 1);
    snprintf(other, sizeof other, "%s/other.h5", folder);
    shard_make(other, 8, 10, 0, 1);
    const char *files = path;
    const char *against = other;
    struct check_options options = {
        .files = &files, .num_files = 1, .against = &against, .num_against = 1};
    ASSERT_OK(check_run(&options, &findings));
    expect(FOUND_OVERLAP, 3, "bad.h5: image 11 ('picture-8.png') is also ");
    assert_non_null(strstr(findings_get(&findings, FOUND_OVERLAP)->first, "other.h5: image 0"));
    findings_fini(&findings);
    findings_init(&findings);
    shard_make(other, 10, 10, 0, 1);
    ASSERT_OK(check_run(&options, &findings));
    assert_int_equal(findings.count, 0);
}

/* Taking the seal off and putting it on again gives the same file. */
static void test_seal(void **state)
{
    (void)state;
    shard_make(path, 0, 12, 0, 1);
    size_t size = 0;
    size_t again_size = 0;
    uint8_t *bytes = file_load(path, &size);
    bool sealed = true;
    ASSERT_OK(reseal(path, &sealed));
    assert_false(sealed);
    assert_int_equal(truncate(path, (off_t)size - 64), 0);
    check(path);
    expect(FOUND_NO_SEAL, 1, "bad.h5");
    ASSERT_OK(reseal(path, &sealed));
    assert_true(sealed);
    uint8_t *again = file_load(path, &again_size);
    assert_int_equal(size, again_size);
    assert_memory_equal(bytes, again, size);
    check(path);
    assert_int_equal(findings.count, 0);
    free(bytes);
    free(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sound, setup, teardown),
        cmocka_unit_test_setup_teardown(test_boxes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_texts_and_spans, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pictures, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tables, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_against, setup, teardown),
        cmocka_unit_test_setup_teardown(test_seal, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
