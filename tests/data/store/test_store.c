/*
 * What is written to a set of shards is what is read from it, by every way of reading. Runs without
 * mpirun and without MPI_Init although libhdf5 is the parallel build.
 */
#include "tests/data/store/fixture.h"

#include <mpi.h>
#include <pthread.h>
#include <xxhash.h>

static char folder[PATH_MAX];

enum { NUM_SAMPLES = 30, NUM_SHARDS = 3 };

static int make_set(void **state)
{
    (void)state;
    folder_make(folder);
    for (int i = 0; i < NUM_SHARDS; i++) {
        char path[PATH_MAX + 32];
        /* In an order of names that is not the order of positions. */
        snprintf(path, sizeof path, "%s/small-%d.h5", folder, NUM_SHARDS - i);
        shard_make(path, i * NUM_SAMPLES / NUM_SHARDS, NUM_SAMPLES / NUM_SHARDS, i, NUM_SHARDS);
    }
    return 0;
}

static int remove_set(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

static struct store *open_set(void)
{
    struct store *store = NULL;
    const char *pattern = folder;
    ASSERT_OK(store_open(&store, &pattern, 1, NULL));
    return store;
}

static void compare_images(const struct store *store, const struct sample *sample, int64_t first)
{
    struct store_image image = {0};
    for (int32_t i = 0; i < sample->num_images; i++) {
        ASSERT_OK(store_image_read(store, first + i, &image));
        assert_int_equal(image.size, sample->images[i].size);
        assert_memory_equal(image.bytes, sample->images[i].bytes, (size_t)image.size);
        assert_int_equal(image.width, sample->images[i].width);
        assert_int_equal(image.height, sample->images[i].height);
        assert_true(image.hash == XXH64(image.bytes, (size_t)image.size, 0));
        ASSERT_OK(store_image_key(store, first + i, &image));
        assert_string_equal(image.key, sample->images[i].key);
    }
    store_image_fini(&image);
}

static void compare_answers(const struct store *store, const struct sample *sample,
                            int32_t sample_text, int64_t text)
{
    struct store_answers answers = {0};
    ASSERT_OK(store_answers_read(store, text, &answers));
    int32_t count = 0;
    for (int32_t i = 0; i < sample->num_answers; i++) {
        if (sample->answers[i].text != sample_text) continue;
        assert_true(count < answers.num_answers);
        assert_string_equal(answers.answers[count].answer, sample->answers[i].answer);
        assert_true(answers.answers[count].score == sample->answers[i].score);
        count++;
    }
    assert_int_equal(count, answers.num_answers);
    store_answers_fini(&answers);
}

static void compare_texts(const struct store *store, const struct sample *sample, int64_t image,
                          int64_t first)
{
    struct store_text text = {0};
    for (int32_t i = 0; i < sample->num_texts; i++) {
        const struct sample_text *wanted = &sample->texts[i];
        ASSERT_OK(store_text_read(store, first + i, &text));
        assert_int_equal(text.length, wanted->length);
        assert_string_equal(text.text, wanted->text);
        assert_int_equal(text.kind, wanted->kind);
        assert_int_equal(text.label, wanted->label);
        assert_int_equal(text.image, image + wanted->image);
        assert_int_equal(text.image2, wanted->image2 < 0 ? -1 : image + wanted->image2);
        ASSERT_OK(store_text_key(store, first + i, &text));
        assert_string_equal(text.key, "");
        compare_answers(store, sample, i, first + i);
    }
    store_text_fini(&text);
}

static void compare_boxes(const struct store *store, const struct sample *sample, int64_t image,
                          int64_t first_text)
{
    struct store_boxes boxes = {0};
    ASSERT_OK(store_boxes_read(store, image, -1, &boxes));
    assert_int_equal(boxes.num_boxes, 2);
    assert_int_equal(sample->num_boxes, 2);
    for (int32_t i = 0; i < 2; i++) {
        const struct sample_box *wanted = &sample->boxes[i];
        const struct store_box *box = &boxes.boxes[i];
        assert_memory_equal(box->xyxy, wanted->xyxy, sizeof box->xyxy);
        assert_int_equal(box->text, wanted->text < 0 ? -1 : first_text + wanted->text);
        assert_int_equal(box->category, wanted->category);
        assert_int_equal(box->crowd, wanted->crowd);
    }
    assert_int_equal(boxes.boxes[0].num_spans, 2);
    assert_int_equal(boxes.spans[boxes.boxes[0].first_span].begin, 2);
    assert_int_equal(boxes.spans[boxes.boxes[0].first_span + 1].end, 13);
    assert_int_equal(boxes.boxes[1].num_spans, 0);
    ASSERT_OK(store_boxes_read(store, image, first_text, &boxes));
    assert_int_equal(boxes.num_boxes, 1);
    ASSERT_OK(store_boxes_read(store, image, first_text + 1, &boxes));
    assert_int_equal(boxes.num_boxes, 0);
    store_boxes_fini(&boxes);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct store *store = open_set();
    assert_int_equal(store_num_shards(store), NUM_SHARDS);
    assert_string_equal(store_name(store), "small");
    assert_string_equal(store_category_name(store, 1), "dog");
    assert_string_equal(store_category_name(store, 3), "");
    assert_int_equal(store_num_categories(store), 3);
    struct sample sample = {0};
    int64_t image = 0;
    int64_t text = 0;
    int64_t boxes = 0;
    for (int i = 0; i < NUM_SAMPLES; i++) {
        sample_make(&sample, i);
        ASSERT_OK(sample_clean(&sample, 3));
        compare_images(store, &sample, image);
        compare_texts(store, &sample, image, text);
        compare_boxes(store, &sample, image, text);
        image += sample.num_images;
        text += sample.num_texts;
        boxes += sample.num_boxes;
        sample_clear(&sample);
    }
    assert_int_equal(store_num_images(store), image);
    assert_int_equal(store_num_texts(store), text);
    assert_int_equal(store_num_boxes(store), boxes);
    assert_int_equal(store_num_answers(store), NUM_SAMPLES);
    store_close(&store);
    assert_null(store);
    int initialized = 1;
    MPI_Initialized(&initialized);
    assert_false(initialized);
}

static void test_texts_of_images(void **state)
{
    (void)state;
    struct store *store = open_set();
    struct store_text text = {0};
    int64_t next = 0;
    for (int64_t i = 0; i < store_num_images(store); i++) {
        int64_t first = 0;
        int64_t count = 0;
        ASSERT_OK(store_image_texts(store, i, &first, &count));
        for (int64_t j = 0; j < count; j++) {
            ASSERT_OK(store_text_read(store, first + j, &text));
            assert_int_equal(text.image, i);
        }
        if (count) assert_int_equal(first, next);
        next += count;
    }
    assert_int_equal(next, store_num_texts(store));
    ASSERT_FAILS(store_text_read(store, next, &text), STATUS_INVALID, "does not exist");
    ASSERT_FAILS(store_text_read(store, -1, &text), STATUS_INVALID, "does not exist");
    store_text_fini(&text);
    store_close(&store);
}

/* ---- threads ---- */

struct reader {
    const struct store *store;
    const uint64_t *hashes; /* of images, texts behind them */
    unsigned seed;
    enum status status;
    int wrong;
};

static void *read_at_random(void *argument)
{
    enum { READS = 3000 };
    struct reader *reader = argument;
    struct store_image image = {0};
    struct store_text text = {0};
    int64_t images = store_num_images(reader->store);
    int64_t texts = store_num_texts(reader->store);
    for (int i = 0; i < READS && reader->status == STATUS_OK; i++) {
        int64_t at = rand_r(&reader->seed) % images;
        reader->status = store_image_read(reader->store, at, &image);
        reader->wrong += XXH64(image.bytes, (size_t)image.size, 0) != reader->hashes[at];
        if (reader->status != STATUS_OK) break;
        at = rand_r(&reader->seed) % texts;
        reader->status = store_text_read(reader->store, at, &text);
        reader->wrong += XXH64(text.text, (size_t)text.length, 0) != reader->hashes[images + at];
    }
    store_image_fini(&image);
    store_text_fini(&text);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    struct store *store = open_set();
    int64_t images = store_num_images(store);
    int64_t texts = store_num_texts(store);
    uint64_t *hashes = calloc((size_t)(images + texts), sizeof *hashes);
    assert_non_null(hashes);
    struct store_image image = {0};
    struct store_text text = {0};
    for (int64_t i = 0; i < images; i++) {
        ASSERT_OK(store_image_read(store, i, &image));
        hashes[i] = image.hash;
    }
    for (int64_t i = 0; i < texts; i++) {
        ASSERT_OK(store_text_read(store, i, &text));
        hashes[images + i] = XXH64(text.text, (size_t)text.length, 0);
    }
    pthread_t threads[THREADS];
    struct reader readers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        readers[i] = (struct reader){.store = store, .hashes = hashes, .seed = (unsigned)i};
        assert_int_equal(pthread_create(&threads[i], NULL, read_at_random, &readers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(readers[i].status, STATUS_OK);
        assert_int_equal(readers[i].wrong, 0);
    }
    store_image_fini(&image);
    store_text_fini(&text);
    free(hashes);
    store_close(&store);
}

/* Equal samples make equal files, byte for byte. */
static void test_same_bytes_twice(void **state)
{
    (void)state;
    char path[2][PATH_MAX + 32];
    size_t size[2];
    uint8_t *bytes[2];
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/again-%d.file", folder, i);
        shard_make(path[i], 0, 7, 0, 1);
        bytes[i] = file_load(path[i], &size[i]);
        if (i == 0) sleep(1); /* times stored in the file would differ now */
    }
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(bytes[0], bytes[1], size[0]);
    free(bytes[0]);
    free(bytes[1]);
}

/* From nothing at all to pictures of several alignment units. */
static void test_sizes(void **state)
{
    (void)state;
    static const int counts[] = {0, 1, 2, 40, 400};
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/sizes.file", folder);
    const char *pattern = path;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        shard_make(path, 100, counts[i], 0, 1);
        struct store *store = NULL;
        ASSERT_OK(store_open(&store, &pattern, 1, NULL));
        assert_true(store_num_images(store) >= counts[i]);
        struct store_image image = {0};
        for (int64_t j = 0; j < store_num_images(store); j++) {
            ASSERT_OK(store_image_read(store, j, &image));
        }
        store_image_fini(&image);
        store_close(&store);
    }
}

/* A caption of a million characters, four bytes each, beside one of a single character. */
static void test_long_caption(void **state)
{
    (void)state;
    enum { CHARACTERS = 1000000 };
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/long.file", folder);
    const char *pattern = path;
    char *words = malloc(4 * CHARACTERS);
    assert_non_null(words);
    for (int i = 0; i < CHARACTERS; i++) {
        memcpy(words + 4 * i, "\xF0\x9F\x90\x88", 4);
    }
    struct shard_head head = {.set = "long", .set_id = "", .origin = "", .shard = 0, .shards = 1};
    struct shard_writer *writer = NULL;
    ASSERT_OK(shard_writer_create(&writer, path, &head));
    struct sample sample = {0};
    sample_add_png(&sample, 3, 3, 1, "cat.png");
    ASSERT_OK(sample_add_text(&sample, TEXT_CAPTION, 0, words, 4 * CHARACTERS, "long", NULL));
    sample_add_words(&sample, TEXT_CAPTION, 0, "x", NULL);
    int32_t box = 0;
    ASSERT_OK(sample_add_box(&sample, 0, (float[4]){0, 0, 1, 1}, &box));
    sample.boxes[box].text = 0;
    ASSERT_OK(sample_add_span(&sample, box, CHARACTERS - 1, CHARACTERS));
    ASSERT_OK(sample_clean(&sample, 0));
    assert_int_equal(sample.num_rejects, 0);
    ASSERT_OK(shard_writer_add(writer, &sample, NULL));
    ASSERT_OK(shard_writer_finish(&writer, 0));
    struct store *store = NULL;
    ASSERT_OK(store_open(&store, &pattern, 1, NULL));
    struct store_text text = {0};
    ASSERT_OK(store_text_read(store, 0, &text));
    assert_int_equal(text.length, 4 * CHARACTERS);
    assert_memory_equal(text.text, words, 4 * CHARACTERS);
    ASSERT_OK(store_text_key(store, 0, &text));
    assert_string_equal(text.key, "long");
    ASSERT_OK(store_text_read(store, 1, &text));
    assert_string_equal(text.text, "x");
    ASSERT_OK(store_text_key(store, 1, &text));
    assert_string_equal(text.key, "");
    store_text_fini(&text);
    store_close(&store);
    sample_fini(&sample);
    free(words);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),       cmocka_unit_test(test_texts_of_images),
        cmocka_unit_test(test_same_bytes_twice), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_long_caption),     cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, make_set, remove_set);
}
