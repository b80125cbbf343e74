/* Small sets for the loader's tests: pictures with captions and boxes, some of them bad on demand;
 * a tokenizer; options that ask for everything. */
#ifndef WEFT_TESTS_DATA_LOADER_LOADER_FIXTURE_H
#define WEFT_TESTS_DATA_LOADER_LOADER_FIXTURE_H

#include "tests/data/store/fixture.h"

#include "data/loader/loader.h"

#define TOKENIZER "tests/data/tokenizer/cases/vocab.json"

enum { SIDE = 24, LENGTH = 12, SEED = 7 };

/* What is wrong with a picture or its caption. */
enum wrong { NOTHING, BAD_PICTURE, BAD_TEXT, PAIR };

struct set_options {
    int first;     /* numbers of the pictures: [first, first + count) */
    int count;     /* one caption each, and a second one for every third */
    int bad_every; /* picture number % bad_every == 1 has `wrong`; 0: none */
    enum wrong wrong;
    int shard;
    int shards;
};

static inline void picture_add(struct sample *sample, int number, bool bad)
{
    char key[64];
    snprintf(key, sizeof key, "picture-%d.png", number);
    sample_add_png(sample, 20 + number % 7 * 3, 16 + number % 5 * 4, (unsigned)number, key);
    /* A cut PNG: the tables and the hash are right, the decoder finds the end missing. */
    if (bad) sample->images[sample->num_images - 1].size -= 30;
}

static inline void caption_add(struct sample *sample, int number, const char *what, int32_t *text)
{
    char words[96];
    snprintf(words, sizeof words, "a %s of the dog number %d on a red table", what, number);
    ASSERT_OK(sample_add_text(sample, TEXT_CAPTION, 0, words, (int64_t)strlen(words), NULL, text));
}

static inline void set_add(struct sample *sample, int number, enum wrong wrong)
{
    int32_t text = 0;
    int32_t box = 0;
    picture_add(sample, number, wrong == BAD_PICTURE);
    caption_add(sample, number, wrong == BAD_TEXT ? "\xFF\xFE" : "picture", &text);
    ASSERT_OK(sample_add_box(sample, 0, (float[4]){1, 2, 15, 14}, &box));
    sample->boxes[box].text = text;
    sample->boxes[box].category = number % 3;
    ASSERT_OK(sample_add_span(sample, box, 2, 9));
    ASSERT_OK(sample_add_box(sample, 0, (float[4]){3, 0, 9.5f, 8}, &box));
    sample->boxes[box].crowd = true;
    if (wrong == PAIR) {
        picture_add(sample, number + 1000, false);
        sample->texts[text].image2 = 1;
    }
    if (number % 3 == 0) caption_add(sample, number, "painting", NULL);
}

static inline void set_make(const char *path, const struct set_options *o)
{
    struct shard_head head = {.set = "pictures",
                              .set_id = "00000000000000aa",
                              .origin = "test",
                              .shard = o->shard,
                              .shards = o->shards ? o->shards : 1,
                              .categories = fixture_categories,
                              .num_categories = 3};
    struct shard_writer *writer = NULL;
    struct sample sample = {0};
    ASSERT_OK(shard_writer_create(&writer, path, &head));
    for (int i = o->first; i < o->first + o->count; i++) {
        bool bad = o->bad_every && i % o->bad_every == 1;
        set_add(&sample, i, bad ? o->wrong : NOTHING);
        ASSERT_OK(shard_writer_add(writer, &sample, NULL));
        sample_clear(&sample);
    }
    sample_fini(&sample);
    ASSERT_OK(shard_writer_finish(&writer, 0));
}

/* One set on disk, open, with a tokenizer; and options for all that a loader can do. */
struct fixture {
    char folder[PATH_MAX];
    char path[PATH_MAX + 32];
    struct store *store;
    struct tokenizer *tokenizer;
    struct loader_set sets[2];
    struct image_transform transform;
    struct mlm_options mlm;
    struct loader_options options;
};

static inline void fixture_open(struct fixture *f, const struct set_options *o)
{
    memset(f, 0, sizeof *f);
    folder_make(f->folder);
    snprintf(f->path, sizeof f->path, "%s/set.h5", f->folder);
    set_make(f->path, o);
    const char *path = f->path;
    ASSERT_OK(store_open(&f->store, &path, 1, NULL));
    ASSERT_OK(tokenizer_load(TOKENIZER, NULL, &f->tokenizer));
    ASSERT_OK(image_transform_find("albef_randaug", SIDE, &f->transform));
    f->mlm = mlm_defaults;
    f->sets[0].store = f->store;
    f->options = (struct loader_options){.sets = f->sets,
                                         .num_sets = 1,
                                         .size = 1,
                                         .batch = 8,
                                         .seed = SEED,
                                         .transform = &f->transform,
                                         .tokenizer = f->tokenizer,
                                         .text_length = LENGTH,
                                         .mlm = &f->mlm,
                                         .boxes = true,
                                         .max_bad_rate = 1,
                                         .num_threads = 2};
}

static inline void fixture_close(struct fixture *f)
{
    store_close(&f->store);
    tokenizer_destroy(&f->tokenizer);
    folder_remove(f->folder);
}

/* What a slot holds, in short. */
struct slot {
    uint64_t sample;
    uint64_t hash;
    int64_t row;
    int set;
    int valid;
};

static inline struct slot slot_of(const struct loader_batch *batch, int64_t i)
{
    return (struct slot){batch->sample[i], loader_slot_hash(batch, i), batch->row[i], batch->set[i],
                         batch->valid[i]};
}

/* Takes `num_batches` batches of every one of `size` ranks and puts the slots in their global
 * order: out[number][rank part]. `global` samples a batch, divisible by size. */
static inline void slots_take(const struct loader_options *options, int size, int64_t global,
                              int64_t start, int64_t num_batches, struct slot *out)
{
    for (int rank = 0; rank < size; rank++) {
        struct loader_options o = *options;
        struct loader *loader = NULL;
        o.rank = rank;
        o.size = size;
        o.batch = global / size;
        o.start = start;
        ASSERT_OK(loader_create(&loader, &o));
        for (int64_t b = 0; b < num_batches; b++) {
            const struct loader_batch *batch = NULL;
            ASSERT_OK(loader_next(loader, &batch));
            assert_int_equal(batch->number, start + b);
            for (int64_t i = 0; i < batch->count; i++) {
                out[b * global + rank * o.batch + i] = slot_of(batch, i);
            }
        }
        loader_destroy(&loader);
    }
}

static inline void slots_equal(const struct slot *a, const struct slot *b, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        assert_int_equal(a[i].sample, b[i].sample);
        assert_int_equal(a[i].set, b[i].set);
        assert_int_equal(a[i].row, b[i].row);
        assert_int_equal(a[i].valid, b[i].valid);
        assert_int_equal(a[i].hash, b[i].hash);
    }
}

#endif
