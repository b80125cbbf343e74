/* Bad rows, shards that change under a loader, stopping, and where waiting went. */
#include "tests/data/loader/loader_fixture.h"

#include <pthread.h>
#include <time.h>

#include "runtime/base/log.h"

enum { BATCH = 8 };

static int set_up(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    return 0;
}

/* ---- policies ---- */

static void fails(enum wrong wrong, enum status code, const char *reason)
{
    struct fixture f;
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    char first[2048] = "";
    fixture_open(&f, &(struct set_options){.count = 20, .bad_every = 10, .wrong = wrong});
    /* The same error at the same batch, whatever the threads. */
    int64_t at[2] = {-1, -1};
    for (int t = 0; t < 2; t++) {
        f.options.num_threads = t ? 4 : 1;
        enum status status = STATUS_OK;
        ASSERT_OK(loader_create(&loader, &f.options));
        while (status == STATUS_OK) {
            at[t]++;
            assert_true(at[t] < 4);
            status = loader_next(loader, &batch);
        }
        assert_int_equal(status, code);
        assert_null(batch);
        if (!strstr(status_message(), reason)) fail_msg("%s", status_message());
        assert_non_null(strstr(status_message(), f.path));
        assert_non_null(strstr(status_message(), "data.on_bad"));
        if (t == 0) snprintf(first, sizeof first, "%s", status_message());
        assert_string_equal(first, status_message());
        ASSERT_FAILS(loader_next(loader, &batch), code, reason);
        loader_destroy(&loader);
    }
    assert_int_equal(at[0], at[1]);
    fixture_close(&f);
}

static void test_fail(void **state)
{
    (void)state;
    fails(BAD_PICTURE, STATUS_CORRUPT, "('picture-");
    fails(BAD_TEXT, STATUS_INVALID, "text ");
    fails(PAIR, STATUS_UNSUPPORTED, "pair of pictures");
}

static bool is_blank(const struct fixture *f, const struct loader_batch *batch, int64_t i)
{
    const uint8_t *pixels = batch->pixels + i * SIDE * SIDE * 3;
    bool blank = batch->boxes[i].num_boxes == 0;
    for (int64_t p = 0; p < SIDE * SIDE * 3; p++) {
        blank &= pixels[p] == 0;
    }
    for (int64_t t = 0; t < LENGTH; t++) {
        blank &= batch->mask[i * LENGTH + t] == (t < 2);
        blank &= batch->mlm_labels[i * LENGTH + t] == MLM_IGNORE;
        blank &= batch->mlm_ids[i * LENGTH + t] == batch->ids[i * LENGTH + t];
    }
    return blank && batch->ids[i * LENGTH + 1] == tokenizer_special(f->tokenizer, TOKENIZER_END);
}

/* 30 pictures, 40 texts; pictures 1, 11, 21 are bad, of which 21 has two texts: 4 of 40 rows. */
static void test_skip(void **state)
{
    (void)state;
    struct fixture f;
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    fixture_open(&f, &(struct set_options){.count = 30, .bad_every = 10, .wrong = BAD_PICTURE});
    f.options.on_bad = LOADER_SKIP;
    ASSERT_OK(loader_create(&loader, &f.options));
    int num_invalid = 0;
    for (int b = 0; b < 5; b++) {
        ASSERT_OK(loader_next(loader, &batch));
        int64_t here = 0;
        for (int64_t i = 0; i < BATCH; i++) {
            assert_int_equal(batch->valid[i], batch->image[i] % 10 != 1);
            assert_int_equal(is_blank(&f, batch, i), !batch->valid[i]);
            here += !batch->valid[i];
        }
        assert_int_equal(batch->num_bad, here);
        num_invalid += (int)here;
    }
    assert_int_equal(num_invalid, 4);
    struct loader_stats stats = loader_stats(loader);
    assert_int_equal(stats.bad, 4);
    assert_int_equal(stats.seen, 40);
    assert_int_equal(stats.batches, 5);
    loader_destroy(&loader);
    fixture_close(&f);
}

/* A text alone does not look at its picture: here it would be refused. */
static void test_texts_alone(void **state)
{
    (void)state;
    struct fixture f;
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    fixture_open(&f, &(struct set_options){.count = 30, .bad_every = 10, .wrong = BAD_PICTURE});
    f.options.on_bad = LOADER_FAIL;
    ASSERT_OK(loader_create(&loader, &f.options));
    int refused = 0;
    for (uint64_t sample = 0; sample < 40; sample++) {
        ASSERT_OK(loader_texts_at(loader, &sample, 1, &batch));
        bool bad = batch->image[0] % 10 == 1;
        assert_int_equal(batch->num_bad, 0);
        assert_int_equal(batch->valid[0], 1);
        enum status status = loader_samples_at(loader, &sample, 1, &batch);
        assert_int_equal(status != STATUS_OK, bad);
        refused += bad;
    }
    assert_int_equal(refused, 4);
    loader_destroy(&loader);
    fixture_close(&f);
}

static void test_replace(void **state)
{
    (void)state;
    struct fixture f;
    static struct slot slots[3][5 * BATCH];
    static struct slot skipped[5 * BATCH];
    fixture_open(&f, &(struct set_options){.count = 30, .bad_every = 2, .wrong = BAD_PICTURE});
    f.options.on_bad = LOADER_SKIP;
    slots_take(&f.options, 1, BATCH, 0, 5, skipped);
    f.options.on_bad = LOADER_REPLACE;
    slots_take(&f.options, 1, BATCH, 0, 5, slots[0]);
    f.options.num_threads = 3;
    slots_take(&f.options, 2, BATCH, 0, 5, slots[1]);
    slots_take(&f.options, 8, BATCH, 0, 5, slots[2]);
    slots_equal(slots[0], slots[1], 5 * BATCH);
    slots_equal(slots[0], slots[2], 5 * BATCH);
    int replaced = 0;
    for (int i = 0; i < 5 * BATCH; i++) {
        assert_int_equal(slots[0][i].valid, 1);
        assert_int_equal(slots[0][i].sample, skipped[i].sample);
        assert_int_equal(slots[0][i].row != skipped[i].row, !skipped[i].valid);
        replaced += !skipped[i].valid;
    }
    assert_int_equal(replaced, 20);
    fixture_close(&f);
}

static void test_all_bad(void **state)
{
    (void)state;
    struct fixture f;
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    fixture_open(
        &f, &(struct set_options){.first = 1, .count = 1, .bad_every = 2, .wrong = BAD_PICTURE});
    f.options.on_bad = LOADER_REPLACE;
    f.options.batch = 1;
    ASSERT_OK(loader_create(&loader, &f.options));
    ASSERT_FAILS(loader_next(loader, &batch), STATUS_CORRUPT, "32 rows drawn in place");
    loader_destroy(&loader);
    fixture_close(&f);
}

/* Above the rate after 1000 samples; counts of an earlier part of the run are carried on. */
static void test_rate(void **state)
{
    (void)state;
    struct fixture f;
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    fixture_open(&f, &(struct set_options){.count = 30, .bad_every = 10, .wrong = BAD_PICTURE});
    f.options.on_bad = LOADER_SKIP;
    f.options.max_bad_rate = 0.05;
    ASSERT_OK(loader_create(&loader, &f.options));
    int64_t taken = 0;
    while (loader_next(loader, &batch) == STATUS_OK) {
        taken += batch->count;
        assert_true(taken < LOADER_RATE_SAMPLES);
    }
    assert_int_equal(taken, LOADER_RATE_SAMPLES - BATCH);
    assert_non_null(strstr(status_message(), "100 of the last 1000 samples"));
    assert_non_null(strstr(status_message(), "data.max_bad_rate 0.05"));
    assert_non_null(strstr(status_message(), "('picture-"));
    loader_destroy(&loader);
    f.options.max_bad_rate = 0.5;
    f.options.seen = 2000;
    f.options.bad = 1004; /* 1004 or 1005 of 2008 is above a half */
    ASSERT_OK(loader_create(&loader, &f.options));
    enum status status = STATUS_OK;
    for (int b = 0; b < 5 && status == STATUS_OK; b++) {
        status = loader_next(loader, &batch);
    }
    assert_int_equal(status, STATUS_CORRUPT);
    loader_destroy(&loader);
    fixture_close(&f);
}

/* Four epochs: each bad row is counted every time and named once. */
static void test_named_once(void **state)
{
    (void)state;
    struct fixture f;
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    char path[PATH_MAX + 16];
    size_t size = 0;
    fixture_open(&f, &(struct set_options){.count = 30, .bad_every = 10, .wrong = BAD_TEXT});
    f.options.on_bad = LOADER_REPLACE;
    snprintf(path, sizeof path, "%s/log", f.folder);
    log_set_level(LOG_WARNING);
    ASSERT_OK(log_set_file(path));
    ASSERT_OK(loader_create(&loader, &f.options));
    for (int b = 0; b < 20; b++) {
        ASSERT_OK(loader_next(loader, &batch));
    }
    assert_true(loader_stats(loader).bad >= 12); /* captions of 1, 11 and 21, four times */
    loader_destroy(&loader);
    ASSERT_OK(log_set_file(NULL));
    log_set_level(LOG_ERROR);
    char *text = (char *)file_load(path, &size);
    text[size] = '\0';
    int lines = 0;
    for (char *at = text; (at = strstr(at, "bad row, replaced: ")); at++) {
        lines++;
    }
    assert_int_equal(lines, 3);
    free(text);
    fixture_close(&f);
}

/* Captions of no and of a million characters are rows like others; a picture that claims to have
 * 900 million pixels is a bad one, refused before anything is allocated for it. */
static void test_extremes(void **state)
{
    (void)state;
    enum { MANY = 1000000 };
    static const uint8_t bomb[] = {0x89, 'P',  'N', 'G', '\r', '\n', 0x1A, '\n', 0,    0,    0,
                                   13,   'I',  'H', 'D', 'R',  0,    0,    0x75, 0x30, 0,    0,
                                   0x75, 0x30, 8,   2,   0,    0,    0,    0x63, 0xA3, 0x64, 0x5C};
    struct fixture f;
    struct store *store = NULL;
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    char path[PATH_MAX + 64];
    const char *pattern = path;
    struct shard_head head = {
        .set = "extreme", .set_id = "00000000000000cc", .origin = "test", .shards = 1};
    struct shard_writer *writer = NULL;
    struct sample sample = {0};
    char *words = malloc(MANY);
    assert_non_null(words);
    for (int i = 0; i < MANY; i++) {
        words[i] = "a red dog "[i % 10];
    }
    fixture_open(&f, &(struct set_options){.count = 3});
    snprintf(path, sizeof path, "%s/extreme.h5", f.folder);
    ASSERT_OK(shard_writer_create(&writer, path, &head));
    picture_add(&sample, 1, false);
    ASSERT_OK(sample_add_text(&sample, TEXT_CAPTION, 0, "", 0, NULL, NULL));
    ASSERT_OK(sample_add_text(&sample, TEXT_CAPTION, 0, words, MANY, NULL, NULL));
    ASSERT_OK(shard_writer_add(writer, &sample, NULL));
    sample_clear(&sample);
    ASSERT_OK(sample_add_image(&sample, bomb, sizeof bomb, "bomb.png", NULL));
    ASSERT_OK(sample_add_text(&sample, TEXT_CAPTION, 0, "a bomb", 6, NULL, NULL));
    ASSERT_OK(shard_writer_add(writer, &sample, NULL));
    sample_fini(&sample);
    ASSERT_OK(shard_writer_finish(&writer, 0));
    ASSERT_OK(store_open(&store, &pattern, 1, NULL));
    f.sets[0].store = store;
    f.options.order = LOADER_SEQUENTIAL;
    f.options.boxes = false;
    f.options.on_bad = LOADER_SKIP;
    ASSERT_OK(loader_create(&loader, &f.options));
    ASSERT_OK(loader_next(loader, &batch));
    assert_int_equal(batch->count, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(batch->valid[i], i < 2);
    }
    assert_int_equal(batch->mask[1], 1);
    assert_int_equal(batch->mask[2], 0);
    assert_int_equal(batch->mask[LENGTH + LENGTH - 1], 1);
    loader_destroy(&loader);
    f.options.on_bad = LOADER_FAIL;
    ASSERT_OK(loader_create(&loader, &f.options));
    ASSERT_FAILS(loader_next(loader, &batch), STATUS_INVALID, "30000 x 30000");
    assert_non_null(strstr(status_message(), "image 1 ('bomb.png')"));
    loader_destroy(&loader);
    store_close(&store);
    free(words);
    fixture_close(&f);
}

/* ---- shards that change ---- */

static void test_replaced_shard(void **state)
{
    (void)state;
    struct fixture f;
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    fixture_open(&f, &(struct set_options){.count = 30});
    store_close(&f.store);
    const char *path = f.path;
    ASSERT_OK(store_open(&f.store, &path, 1, &(struct store_options){.recheck_every = 1}));
    f.sets[0].store = f.store;
    f.options.on_bad = LOADER_SKIP; /* that is not a bad row */
    ASSERT_OK(loader_create(&loader, &f.options));
    ASSERT_OK(loader_next(loader, &batch));
    char other[PATH_MAX + 64];
    snprintf(other, sizeof other, "%s.new", f.path);
    set_make(other, &(struct set_options){.first = 100, .count = 30});
    assert_int_equal(rename(other, f.path), 0);
    enum status status = STATUS_OK;
    time_t begin = time(NULL);
    while (status == STATUS_OK && time(NULL) - begin < 8) {
        status = loader_next(loader, &batch);
    }
    assert_int_equal(status, STATUS_INVALID);
    assert_non_null(strstr(status_message(), "was replaced"));
    loader_destroy(&loader);
    fixture_close(&f);
}

/* A shard cut off under the loader: rows beyond the end are bad, each named with the file. */
static void test_torn_shard(void **state)
{
    (void)state;
    struct fixture f;
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    fixture_open(&f, &(struct set_options){.count = 30});
    store_close(&f.store);
    const char *path = f.path;
    ASSERT_OK(store_open(&f.store, &path, 1, &(struct store_options){.recheck_every = -1}));
    f.sets[0].store = f.store;
    assert_int_equal(truncate(f.path, 4096), 0);
    ASSERT_OK(loader_create(&loader, &f.options));
    enum status status = loader_next(loader, &batch);
    assert_true(status == STATUS_IO || status == STATUS_CORRUPT);
    assert_non_null(strstr(status_message(), f.path));
    loader_destroy(&loader);
    fixture_close(&f);
}

/* ---- stopping ---- */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void test_destroy(void **state)
{
    (void)state;
    struct fixture f;
    const struct loader_batch *batch = NULL;
    fixture_open(&f, &(struct set_options){.count = 30});
    f.options.num_threads = 4;
    for (int i = 0; i < 30; i++) {
        struct loader *loader = NULL;
        ASSERT_OK(loader_create(&loader, &f.options));
        for (int b = 0; b < i % 4; b++) {
            ASSERT_OK(loader_next(loader, &batch));
        }
        double begin = seconds();
        loader_destroy(&loader);
        assert_true(seconds() - begin < 2);
    }
    fixture_close(&f);
}

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

/* The consumer waits for batches of large pictures, made by one thread, when SIGTERM comes. */
static void *send_signal(void *thread)
{
    struct timespec pause = {.tv_nsec = 100000000};
    nanosleep(&pause, NULL);
    pthread_kill(*(pthread_t *)thread, SIGTERM);
    return NULL;
}

static void test_signal(void **state)
{
    (void)state;
    struct fixture f;
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    struct image_transform large;
    pthread_t self = pthread_self();
    pthread_t sender;
    struct sigaction action = {.sa_handler = on_signal};
    struct sigaction before;
    fixture_open(&f, &(struct set_options){.count = 30});
    ASSERT_OK(image_transform_find("albef_randaug", 1200, &large));
    f.options.transform = &large;
    f.options.batch = 40;
    f.options.num_threads = 1;
    f.options.prefetch = 1;
    f.options.stop = &stop;
    assert_int_equal(sigaction(SIGTERM, &action, &before), 0);
    stop = 0;
    ASSERT_OK(loader_create(&loader, &f.options));
    assert_int_equal(pthread_create(&sender, NULL, send_signal, &self), 0);
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        status = loader_next(loader, &batch);
    }
    assert_int_equal(status, STATUS_CANCELLED);
    double begin = seconds();
    loader_destroy(&loader);
    assert_true(seconds() - begin < 2);
    pthread_join(sender, NULL);
    sigaction(SIGTERM, &before, NULL);
    fixture_close(&f);
}

/* ---- where waiting went ---- */

static void test_waiting(void **state)
{
    (void)state;
    struct fixture f;
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    struct image_transform large;
    fixture_open(&f, &(struct set_options){.count = 30});
    ASSERT_OK(image_transform_find("albef_randaug", 400, &large));
    f.options.transform = &large;
    f.options.num_threads = 1;
    ASSERT_OK(loader_create(&loader, &f.options));
    double begin = seconds();
    for (int b = 0; b < 8; b++) {
        ASSERT_OK(loader_next(loader, &batch));
    }
    double whole = seconds() - begin;
    struct loader_stats stats = loader_stats(loader);
    double parts = stats.wait_read + stats.wait_decode + stats.wait_tokenise + stats.wait_other;
    assert_true(stats.wait > 0 && stats.wait <= whole);
    assert_true(stats.wait > parts - 1e-9 && stats.wait < parts + 1e-9);
    /* Resizing to 400 x 400 takes far longer than anything else here. */
    assert_true(stats.wait_decode > 0.5 * stats.wait);
    assert_true(stats.wait_read > 0 && stats.wait_tokenise > 0);
    assert_true(stats.busy_decode > stats.busy_read + stats.busy_tokenise);
    /* A consumer that is slower than the threads does not wait. */
    struct timespec pause = {.tv_sec = 1};
    nanosleep(&pause, NULL);
    double before = loader_stats(loader).wait;
    ASSERT_OK(loader_next(loader, &batch));
    assert_true(loader_stats(loader).wait - before < 0.3);
    loader_destroy(&loader);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fail),           cmocka_unit_test(test_skip),
        cmocka_unit_test(test_texts_alone),    cmocka_unit_test(test_replace),
        cmocka_unit_test(test_all_bad),        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_named_once),     cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_replaced_shard), cmocka_unit_test(test_torn_shard),
        cmocka_unit_test(test_destroy),        cmocka_unit_test(test_signal),
        cmocka_unit_test(test_waiting),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
