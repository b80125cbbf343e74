/* Evaluation: rows in order, a contiguous part for each rank; and options that are refused. */
#include "tests/data/loader/loader_fixture.h"

static struct fixture f; /* 20 pictures with 27 captions */

static int set_up(void **state)
{
    (void)state;
    fixture_open(&f, &(struct set_options){.count = 20});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_close(&f);
    return 0;
}

static struct loader_options evaluation(enum loader_rows rows)
{
    struct loader_options o = f.options;
    o.order = LOADER_SEQUENTIAL;
    o.rows = rows;
    o.mlm = NULL;
    o.boxes = false;
    return o;
}

/* Every rank takes as many batches; together they hold each row once, in order. */
static void test_texts(void **state)
{
    (void)state;
    static const int sizes[] = {1, 2, 3, 7, 40};
    for (int s = 0; s < 5; s++) {
        int64_t next = 0;
        int64_t num_batches = -1;
        for (int rank = 0; rank < sizes[s]; rank++) {
            struct loader_options o = evaluation(LOADER_TEXTS);
            struct loader *loader = NULL;
            const struct loader_batch *batch = NULL;
            o.transform = NULL;
            o.rank = rank;
            o.size = sizes[s];
            o.batch = 4;
            ASSERT_OK(loader_create(&loader, &o));
            assert_int_equal(loader_num_rows(loader), 27);
            if (rank == 0) num_batches = loader_num_batches(loader);
            assert_int_equal(loader_num_batches(loader), num_batches);
            for (int64_t b = 0; b < num_batches; b++) {
                ASSERT_OK(loader_next(loader, &batch));
                assert_int_equal(batch->number, b);
                assert_null(batch->pixels);
                assert_null(batch->mlm_ids);
                if (batch->count) assert_int_equal(batch->index, next);
                for (int64_t i = 0; i < batch->count; i++) {
                    assert_int_equal(batch->sample[i], next);
                    assert_int_equal(batch->row[i], next++);
                }
            }
            for (int again = 0; again < 2; again++) {
                ASSERT_OK(loader_next(loader, &batch));
                assert_int_equal(batch->count, 0);
            }
            loader_destroy(&loader);
        }
        assert_int_equal(next, 27);
    }
}

/* Only the first rows, divided like all of them. */
static void test_limit(void **state)
{
    (void)state;
    int64_t next = 0;
    for (int rank = 0; rank < 3; rank++) {
        struct loader_options o = evaluation(LOADER_TEXTS);
        struct loader *loader = NULL;
        const struct loader_batch *batch = NULL;
        o.max_rows = 10;
        o.rank = rank;
        o.size = 3;
        ASSERT_OK(loader_create(&loader, &o));
        assert_int_equal(loader_num_rows(loader), 10);
        assert_int_equal(loader_num_batches(loader), 1);
        ASSERT_OK(loader_next(loader, &batch));
        for (int64_t i = 0; i < batch->count; i++) {
            assert_int_equal(batch->row[i], next++);
        }
        loader_destroy(&loader);
    }
    assert_int_equal(next, 10);
}

static void test_images(void **state)
{
    (void)state;
    struct loader_options o = evaluation(LOADER_IMAGES);
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    struct image_transform albef;
    struct loader_set sets[2] = {{.store = f.store}, {.store = f.store}};
    uint64_t hash[40];
    ASSERT_OK(image_transform_find("albef", SIDE, &albef));
    o.sets = sets;
    o.num_sets = 2;
    o.tokenizer = NULL;
    o.transform = &albef;
    o.start = 1;
    ASSERT_OK(loader_create(&loader, &o));
    assert_int_equal(loader_num_batches(loader), 5);
    for (int64_t at = 8; at < 40;) {
        ASSERT_OK(loader_next(loader, &batch));
        assert_int_equal(batch->count, 8);
        for (int64_t i = 0; i < 8; i++, at++) {
            assert_int_equal(batch->set[i], at / 20);
            assert_int_equal(batch->image[i], at % 20);
            assert_int_equal(batch->kind[i], -1);
            hash[at] = loader_slot_hash(batch, i);
            /* Nothing is random: the same picture of the other set is the same. */
            if (at >= 28) assert_int_equal(hash[at], hash[at - 20]);
        }
    }
    ASSERT_OK(loader_next(loader, &batch));
    assert_int_equal(batch->count, 0);
    uint64_t sample = 33;
    ASSERT_OK(loader_samples_at(loader, &sample, 1, &batch));
    assert_int_equal(loader_slot_hash(batch, 0), hash[33]);
    sample = 40;
    ASSERT_FAILS(loader_samples_at(loader, &sample, 1, &batch), STATUS_INVALID, "no sample 40");
    loader_destroy(&loader);
}

static void refused(const struct loader_options *options, enum status code, const char *part)
{
    struct loader *loader = NULL;
    ASSERT_FAILS(loader_create(&loader, options), code, part);
    assert_null(loader);
}

static void test_refusals(void **state)
{
    (void)state;
    struct loader_options o = f.options;
    o.text_length = 2;
    refused(&o, STATUS_INVALID, "max_text_len is 2");
    o = f.options;
    o.batch = 28;
    refused(&o, STATUS_INVALID, "27 samples, fewer than one global batch of 28");
    o = f.options;
    o.batch = 0;
    refused(&o, STATUS_INVALID, "micro-batch is 0");
    o = f.options;
    o.rank = 1;
    refused(&o, STATUS_INVALID, "rank 1 of 1");
    o = f.options;
    o.tokenizer = NULL;
    refused(&o, STATUS_INVALID, "masking needs a tokenizer");
    o = f.options;
    o.transform = NULL;
    refused(&o, STATUS_INVALID, "boxes need a transform");
    o = f.options;
    o.rows = LOADER_IMAGES;
    refused(&o, STATUS_INVALID, "nothing to tokenise");
    o = f.options;
    o.num_sets = 0;
    refused(&o, STATUS_INVALID, "not 0");
    struct loader_set sets[2] = {{f.store, 1}, {f.store, 0}};
    o = f.options;
    o.sets = sets;
    o.num_sets = 2;
    refused(&o, STATUS_INVALID, "either every set a weight or none");
    o = f.options;
    o.max_rows = 5;
    refused(&o, STATUS_INVALID, "only rows in sequence");
    struct image_transform endless = {
        1, {{.kind = IMAGE_STEP_SHORT_SIDE, .num_sides = 1, .sides = {20}}}};
    o = f.options;
    o.transform = &endless;
    refused(&o, STATUS_INVALID, "0 pixels a side");
}

/* A set of pictures alone is good for picture rows, and for nothing else. */
static void test_no_texts(void **state)
{
    (void)state;
    char path[PATH_MAX + 64];
    const char *pattern = path;
    struct shard_head head = {.set = "bare", .set_id = "00000000000000bb", .shards = 1};
    struct shard_writer *writer = NULL;
    struct sample sample = {0};
    struct store *store = NULL;
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    head.origin = "test";
    snprintf(path, sizeof path, "%s/bare.h5", f.folder);
    ASSERT_OK(shard_writer_create(&writer, path, &head));
    picture_add(&sample, 3, false);
    ASSERT_OK(shard_writer_add(writer, &sample, NULL));
    ASSERT_OK(shard_writer_finish(&writer, 0));
    sample_fini(&sample);
    ASSERT_OK(store_open(&store, &pattern, 1, NULL));
    struct loader_set sets[2] = {{.store = f.store}, {.store = store}};
    struct loader_options o = f.options;
    o.sets = sets;
    o.num_sets = 2;
    o.boxes = false;
    refused(&o, STATUS_INVALID, "data.sets.1: bare holds no texts, only 1 pictures");
    o.rows = LOADER_IMAGES;
    o.tokenizer = NULL;
    o.mlm = NULL;
    o.batch = 21;
    ASSERT_OK(loader_create(&loader, &o));
    ASSERT_OK(loader_next(loader, &batch));
    assert_null(batch->ids);
    loader_destroy(&loader);
    o.boxes = true;
    refused(&o, STATUS_INVALID, "bare holds none");
    store_close(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),    cmocka_unit_test(test_limit),
        cmocka_unit_test(test_images),   cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_no_texts),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
