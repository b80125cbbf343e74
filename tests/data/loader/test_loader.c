/* The loader: the same samples, byte for byte, whatever ranks, threads and starting point; single
 * samples; what a batch holds. */
#include "tests/data/loader/loader_fixture.h"

static struct fixture f; /* 60 pictures with 80 captions */

enum { GLOBAL = 42 };

static int set_up(void **state)
{
    (void)state;
    fixture_open(&f, &(struct set_options){.count = 60});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_close(&f);
    return 0;
}

/* Two epochs of 80 rows are four global batches of 42 with the wrap at 80; the union of the ranks
 * is one sequence, and each epoch holds every row once. */
static void test_ranks(void **state)
{
    (void)state;
    static const int sizes[] = {1, 2, 3, 7};
    enum { BATCHES = 4 };
    static struct slot slots[4][BATCHES * GLOBAL];
    struct loader_options o = f.options;
    o.tail = SAMPLER_TAIL_WRAP;
    for (int s = 0; s < 4; s++) {
        slots_take(&o, sizes[s], GLOBAL, 0, BATCHES, slots[s]);
        slots_equal(slots[0], slots[s], BATCHES * GLOBAL);
    }
    int64_t rows = store_num_texts(f.store);
    assert_int_equal(rows, 80);
    for (int epoch = 0; epoch < 2; epoch++) {
        bool seen[80] = {false};
        for (int64_t i = 0; i < rows; i++) {
            const struct slot *slot = &slots[0][epoch * rows + i];
            assert_int_equal(slot->sample, epoch * rows + i);
            assert_false(seen[slot->row]);
            seen[slot->row] = true;
        }
    }
}

/* The same row looks different in the next epoch, and under another seed. */
static void test_augmentation_changes(void **state)
{
    (void)state;
    static struct slot slots[160];
    static struct slot others[80];
    struct loader_options o = f.options;
    slots_take(&o, 1, 80, 0, 2, slots);
    o.seed++;
    slots_take(&o, 1, 80, 0, 1, others);
    int same_place = 0;
    for (int i = 0; i < 80; i++) {
        for (int j = 80; j < 160; j++) {
            if (slots[i].row == slots[j].row) assert_true(slots[i].hash != slots[j].hash);
        }
        same_place += slots[i].row == others[i].row;
        for (int j = 0; j < 80; j++) {
            if (slots[i].row == others[j].row) assert_true(slots[i].hash != others[j].hash);
        }
    }
    assert_true(same_place < 10);
}

static void test_resume(void **state)
{
    (void)state;
    static struct slot whole[6 * GLOBAL];
    static struct slot part[2 * GLOBAL];
    slots_take(&f.options, 2, GLOBAL, 0, 6, whole);
    static const int sizes[] = {1, 3, 7};
    for (int s = 0; s < 3; s++) {
        slots_take(&f.options, sizes[s], GLOBAL, 4, 2, part);
        slots_equal(whole + (size_t)4 * GLOBAL, part, 2 * GLOBAL);
    }
}

static void test_threads(void **state)
{
    (void)state;
    static struct slot slots[2][6 * GLOBAL];
    struct loader_options o = f.options;
    o.num_threads = 1;
    o.prefetch = 1;
    slots_take(&o, 1, GLOBAL, 0, 6, slots[0]);
    o.num_threads = 4;
    o.prefetch = 5;
    slots_take(&o, 1, GLOBAL, 0, 6, slots[1]);
    slots_equal(slots[0], slots[1], 6 * GLOBAL);
}

static void test_mixture(void **state)
{
    (void)state;
    static struct slot slots[2][2 * GLOBAL];
    struct fixture other;
    fixture_open(&other, &(struct set_options){.first = 500, .count = 5});
    struct loader_options o = f.options;
    struct loader_set sets[2] = {{f.store, 1}, {other.store, 3}};
    o.sets = sets;
    o.num_sets = 2;
    o.epoch_samples = 50;
    o.tail = SAMPLER_TAIL_WRAP;
    slots_take(&o, 1, GLOBAL, 0, 2, slots[0]);
    slots_take(&o, 3, GLOBAL, 0, 2, slots[1]);
    slots_equal(slots[0], slots[1], 2 * GLOBAL);
    int second = 0;
    for (int i = 0; i < 2 * GLOBAL; i++) {
        second += slots[0][i].set == 1;
    }
    assert_in_range(second, 50, 76);
    fixture_close(&other);
}

/* One sample alone is the slot of its batch, also from a loader that never made that batch. */
static void test_single(void **state)
{
    (void)state;
    struct loader *loader = NULL;
    struct loader *other = NULL;
    const struct loader_batch *batch = NULL;
    const struct loader_batch *single = NULL;
    struct loader_options o = f.options;
    ASSERT_OK(loader_create(&loader, &o));
    o.rank = 1;
    o.size = 2;
    o.start = 9;
    ASSERT_OK(loader_create(&other, &o));
    for (int b = 0; b < 12; b++) {
        ASSERT_OK(loader_next(loader, &batch));
    }
    assert_int_equal(batch->count, 8);
    ASSERT_OK(loader_samples_at(other, batch->sample, batch->count, &single));
    for (int64_t i = 0; i < batch->count; i++) {
        struct slot a = slot_of(batch, i);
        struct slot b = slot_of(single, i);
        slots_equal(&a, &b, 1);
    }
    ASSERT_OK(loader_samples_at(other, batch->sample + 3, 1, &single));
    assert_int_equal(loader_slot_hash(single, 0), loader_slot_hash(batch, 3));
    ASSERT_OK(loader_texts_at(other, batch->sample, batch->count, &single));
    size_t text = (size_t)(batch->count * LENGTH) * sizeof(int32_t);
    assert_memory_equal(single->ids, batch->ids, text);
    assert_memory_equal(single->mask, batch->mask, text);
    assert_memory_equal(single->mlm_ids, batch->mlm_ids, text);
    assert_memory_equal(single->mlm_labels, batch->mlm_labels, text);
    ASSERT_OK(loader_samples_at(other, batch->sample, batch->count, &single));
    assert_int_equal(loader_slot_hash(single, 7), loader_slot_hash(batch, 7));
    ASSERT_FAILS(loader_samples_at(other, batch->sample, 9, &single), STATUS_INVALID, "at once");
    ASSERT_FAILS(loader_texts_at(other, batch->sample, 9, &single), STATUS_INVALID, "at once");
    loader_destroy(&loader);
    loader_destroy(&other);
}

/* ---- what is in a batch ---- */

static void check_tokens(const struct loader_batch *batch, int64_t i, int *num_masked)
{
    const int32_t *ids = batch->ids + i * LENGTH;
    const int32_t *mask = batch->mask + i * LENGTH;
    const int32_t *hidden = batch->mlm_ids + i * LENGTH;
    const int32_t *labels = batch->mlm_labels + i * LENGTH;
    assert_int_equal(ids[0], tokenizer_special(f.tokenizer, TOKENIZER_BEGIN));
    int64_t count = 0;
    for (int64_t t = 0; t < LENGTH; t++) {
        count += mask[t];
        if (labels[t] == MLM_IGNORE) {
            assert_int_equal(ids[t], hidden[t]);
        } else {
            assert_int_equal(labels[t], ids[t]);
            ++*num_masked;
        }
    }
    assert_int_equal(ids[count - 1], tokenizer_special(f.tokenizer, TOKENIZER_END));
}

static void check_boxes(const struct loader_batch *batch, int64_t i, int *num_boxes)
{
    const struct loader_boxes *boxes = &batch->boxes[i];
    for (int32_t b = 0; b < boxes->num_boxes; b++) {
        const struct loader_box *box = &boxes->boxes[b];
        assert_true(box->xyxy[0] >= 0 && box->xyxy[2] <= SIDE && box->xyxy[2] > box->xyxy[0]);
        assert_true(box->xyxy[1] >= 0 && box->xyxy[3] <= SIDE && box->xyxy[3] > box->xyxy[1]);
        assert_int_equal(box->num_spans, box->of_text);
        assert_int_equal(box->crowd, !box->of_text);
        if (!box->of_text) continue;
        const struct loader_span *span = &boxes->spans[box->first_span];
        assert_int_equal(span->begin, 2);
        assert_int_equal(span->end, 9);
        assert_true(span->first_token >= 1 && span->last_token >= span->first_token);
        ++*num_boxes;
    }
}

static void test_contents(void **state)
{
    (void)state;
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    struct store_text text = {0};
    int num_masked = 0;
    int num_boxes = 0;
    ASSERT_OK(loader_create(&loader, &f.options));
    assert_int_equal(loader_num_batches(loader), 10);
    for (int b = 0; b < 10; b++) {
        assert_int_equal(loader_position(loader), b);
        ASSERT_OK(loader_next(loader, &batch));
        assert_int_equal(batch->count, 8);
        assert_int_equal(batch->index, 8 * b);
        for (int64_t i = 0; i < batch->count; i++) {
            ASSERT_OK(store_text_read(f.store, batch->row[i], &text));
            assert_int_equal(batch->image[i], text.image);
            assert_int_equal(batch->kind[i], TEXT_CAPTION);
            assert_int_equal(batch->label[i], TEXT_LABEL_NONE);
            assert_int_equal(batch->valid[i], 1);
            assert_int_equal(batch->extent[2 * i], SIDE);
            assert_int_equal(batch->extent[2 * i + 1], SIDE);
            check_tokens(batch, i, &num_masked);
            check_boxes(batch, i, &num_boxes);
        }
    }
    assert_int_equal(batch->epoch, 0);
    ASSERT_OK(loader_next(loader, &batch));
    assert_int_equal(batch->epoch, 1);
    assert_int_equal(batch->index, 0);
    assert_in_range(num_masked, 40, 250); /* 15 % of about 800 tokens */
    assert_in_range(num_boxes, 40, 60);   /* of the 60 that captions have; some are cropped away */
    store_text_fini(&text);
    loader_destroy(&loader);
}

/* Without a flip and a crop, pixels are what decoding and resizing by hand give. */
static void test_pixels(void **state)
{
    (void)state;
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    struct store_image encoded = {0};
    struct image decoded = {0};
    struct image resized = {0};
    struct image_scratch scratch = {0};
    const struct image_resize how = {.width = SIDE, .height = SIDE, .filter = IMAGE_BICUBIC};
    struct loader_options o = f.options;
    ASSERT_OK(image_transform_find("albef", SIDE, &f.transform));
    ASSERT_OK(loader_create(&loader, &o));
    ASSERT_OK(loader_next(loader, &batch));
    for (int64_t i = 0; i < batch->count; i++) {
        ASSERT_OK(store_image_read(f.store, batch->image[i], &encoded));
        ASSERT_OK(image_decode(encoded.bytes, (size_t)encoded.size, NULL, &decoded));
        ASSERT_OK(image_resize(image_as_view(&decoded), &how, &scratch, &resized));
        assert_memory_equal(batch->pixels + i * SIDE * SIDE * 3, resized.pixels, SIDE * SIDE * 3);
    }
    ASSERT_OK(image_transform_find("albef_randaug", SIDE, &f.transform));
    loader_destroy(&loader);
    store_image_fini(&encoded);
    image_fini(&decoded);
    image_fini(&resized);
    image_scratch_fini(&scratch);
}

/* Pictures that keep their shape lie in the upper left of a square, the rest is black. */
static void test_fine(void **state)
{
    (void)state;
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    struct image_transform fine = {2,
                                   {{.kind = IMAGE_STEP_SHORT_SIDE,
                                     .filter = IMAGE_BILINEAR,
                                     .num_sides = 3,
                                     .sides = {20, 24, 28},
                                     .max_long = 45},
                                    {.kind = IMAGE_STEP_FLIP, .probability = 0.5f}}};
    struct loader_options o = f.options;
    o.transform = &fine;
    int wide = 0;
    ASSERT_OK(loader_create(&loader, &o));
    for (int b = 0; b < 4; b++) {
        ASSERT_OK(loader_next(loader, &batch));
        assert_int_equal(batch->side, 64);
        for (int64_t i = 0; i < batch->count; i++) {
            int64_t height = batch->extent[2 * i];
            int64_t width = batch->extent[2 * i + 1];
            const uint8_t *pixels = batch->pixels + i * 64 * 64 * 3;
            assert_in_range(height < width ? height : width, 18, 28);
            assert_in_range(height < width ? width : height, 20, 45);
            wide += width > height;
            int64_t inside = 0;
            for (int64_t p = 0; p < 64 * 64; p++) {
                bool in = p / 64 < height && p % 64 < width;
                bool black = !(pixels[3 * p] | pixels[3 * p + 1] | pixels[3 * p + 2]);
                if (!in) assert_true(black);
                inside += in && !black;
            }
            assert_true(inside > height * width / 2);
        }
    }
    assert_in_range(wide, 5, 31);
    loader_destroy(&loader);
}

/* ---- memory ---- */

static int num_allocated;

static enum status allocate(void *user, size_t size, void **memory)
{
    assert_ptr_equal(user, &num_allocated);
    num_allocated++;
    *memory = aligned_alloc(64, size);
    return *memory ? STATUS_OK : status_fail(STATUS_NO_MEMORY, "none left");
}

static void release(void *user, void *memory)
{
    assert_ptr_equal(user, &num_allocated);
    num_allocated--;
    free(memory);
}

static enum status refuse(void *user, size_t size, void **memory)
{
    (void)user;
    *memory = NULL;
    return status_fail(STATUS_NO_MEMORY, "cannot pin %zu bytes", size);
}

static void test_memory(void **state)
{
    (void)state;
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    struct loader_options o = f.options;
    o.memory = (struct loader_memory){allocate, release, &num_allocated};
    o.prefetch = 3;
    ASSERT_OK(loader_create(&loader, &o));
    assert_int_equal(num_allocated, 4);
    ASSERT_OK(loader_next(loader, &batch));
    assert_int_equal((uintptr_t)batch->pixels % 64, 0);
    assert_int_equal((uintptr_t)batch->ids % 64, 0);
    assert_int_equal((uintptr_t)batch->mlm_labels % 64, 0);
    assert_int_equal((uintptr_t)batch->valid % 64, 0);
    assert_true(loader_buffer_bytes(loader) >= (size_t)4 * 8 * SIDE * SIDE * 3);
    loader_destroy(&loader);
    assert_int_equal(num_allocated, 0);
    loader_destroy(&loader);
    o.memory.allocate = refuse;
    ASSERT_FAILS(loader_create(&loader, &o), STATUS_NO_MEMORY, "cannot pin");
    assert_null(loader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks),    cmocka_unit_test(test_augmentation_changes),
        cmocka_unit_test(test_resume),   cmocka_unit_test(test_threads),
        cmocka_unit_test(test_mixture),  cmocka_unit_test(test_single),
        cmocka_unit_test(test_contents), cmocka_unit_test(test_pixels),
        cmocka_unit_test(test_fine),     cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
