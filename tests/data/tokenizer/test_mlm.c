/* Masking: the distribution of the reference collator, whole words, and draws that stand alone. */
#include "tests/data/tokenizer/tokenizer_test.h"

#include <math.h>

#include "data/tokenizer/mlm.h"

enum { SAMPLES = 6000, LENGTH = 40 };

/* Whether `count` hits of `trials` are within five standard deviations of probability p. */
static bool is_rate(double count, double trials, double p)
{
    return fabs(count - trials * p) <= 5 * sqrt(trials * p * (1 - p));
}

static void encode_sample(struct loaded *loaded, int variant)
{
    static const char *const texts[] = {
        "a red square is to the left of a small blue circle, and the yellow umbrella isn't",
        "two giraffes", "", "skateboarders photographing rectangular refrigerators quietly"};
    struct encode_options options = {.add_special = true, .max_length = LENGTH};
    encode_text(loaded, texts[variant % 4], &options);
}

/* Counts over many samples what became of the tokens. */
struct counts {
    double tokens, chosen, masked, kept, changed, both_neighbours, neighbours;
    double histogram[1024]; /* ids of changed tokens */
};

static struct counts count_masks(struct loaded *loaded, const struct mlm *mlm)
{
    struct counts counts = {0};
    int32_t ids[LENGTH];
    int32_t labels[LENGTH];
    for (int i = 0; i < SAMPLES; i++) {
        encode_sample(loaded, i);
        const struct encoding *encoding = &loaded->encoding;
        assert_ok(mlm_mask(mlm, 0, (uint64_t)i, encoding, LENGTH, ids, labels));
        for (int64_t k = 0; k < LENGTH; k++) {
            bool token = k > 0 && k + 1 < encoding->count;
            if (!token) {
                assert_int_equal(labels[k], MLM_IGNORE);
                assert_int_equal(ids[k], k == 0 ? 0 : k < encoding->count ? 2 : 1);
                continue;
            }
            bool chosen = labels[k] != MLM_IGNORE;
            counts.tokens++;
            counts.neighbours += k > 1;
            counts.both_neighbours += k > 1 && chosen && labels[k - 1] != MLM_IGNORE;
            counts.chosen += chosen;
            if (!chosen) assert_int_equal(ids[k], encoding->ids[k]);
            if (!chosen) continue;
            assert_int_equal(labels[k], encoding->ids[k]);
            bool masked = ids[k] == mlm->mask_id;
            counts.masked += masked;
            counts.kept += ids[k] == labels[k];
            counts.changed += !masked && ids[k] != labels[k];
            if (!masked && ids[k] != labels[k]) counts.histogram[ids[k]]++;
        }
    }
    return counts;
}

static void test_distribution(void **state)
{
    (void)state;
    struct loaded bpe = load(CASES "/vocab.json", NULL);
    struct mlm mlm;
    assert_ok(mlm_init(&mlm, bpe.tokenizer, NULL));
    struct counts counts = count_masks(&bpe, &mlm);
    int32_t vocab = tokenizer_vocab_size(bpe.tokenizer);
    assert_true(counts.tokens > 100000);
    assert_true(is_rate(counts.chosen, counts.tokens, 0.15));
    /* A random id is now and then the mask or the token itself. */
    assert_true(is_rate(counts.masked, counts.chosen, 0.8 + 0.1 / vocab));
    assert_true(is_rate(counts.kept, counts.chosen, 0.1 + 0.1 / vocab));
    assert_true(is_rate(counts.changed, counts.chosen, 0.1 - 0.2 / vocab));
    /* Tokens are drawn independently. */
    assert_true(is_rate(counts.both_neighbours, counts.neighbours, 0.15 * 0.15));
    /* Random ids are uniform over the vocabulary: chi-squared, five standard deviations. */
    double chi = 0;
    double expected = counts.changed / (vocab - 1);
    for (int32_t id = 0; id < vocab - 1; id++) {
        chi += (counts.histogram[id] - expected) * (counts.histogram[id] - expected) / expected;
    }
    assert_true(fabs(chi - (vocab - 2)) < 5 * sqrt(2.0 * (vocab - 2)));
    unload(&bpe);
}

static void check_whole_words(struct loaded *loaded)
{
    struct mlm mlm;
    struct mlm_options options = mlm_defaults;
    options.whole_word = true;
    assert_ok(mlm_init(&mlm, loaded->tokenizer, &options));
    int32_t ids[LENGTH];
    int32_t labels[LENGTH];
    double words = 0;
    double chosen_words = 0;
    double parts = 0;
    for (int i = 0; i < SAMPLES; i++) {
        encode_sample(loaded, i);
        const struct encoding *encoding = &loaded->encoding;
        assert_ok(mlm_mask(&mlm, 1, (uint64_t)i, encoding, LENGTH, ids, labels));
        for (int64_t k = 1; k + 1 < encoding->count; k++) {
            bool chosen = labels[k] != MLM_IGNORE;
            if (encoding->flags[k] & TOKEN_WORD_START) {
                words++;
                chosen_words += chosen;
            } else {
                parts++;
                assert_int_equal(chosen, labels[k - 1] != MLM_IGNORE);
            }
        }
    }
    assert_true(parts > SAMPLES);
    assert_true(is_rate(chosen_words, words, 0.15));
    struct counts counts =
        count_masks(loaded, &mlm); /* what becomes of tokens is drawn per token */
    int32_t vocab = tokenizer_vocab_size(loaded->tokenizer);
    assert_true(is_rate(counts.masked, counts.chosen, 0.8 + 0.1 / vocab));
    assert_true(is_rate(counts.kept, counts.chosen, 0.1 + 0.1 / vocab));
}

static void test_whole_words(void **state)
{
    (void)state;
    struct loaded bpe = load(CASES "/vocab.json", NULL);
    struct loaded wordpiece = load(CASES "/vocab.txt", NULL);
    check_whole_words(&bpe);
    /* The special ids are other ones here, so only the words are checked. */
    struct mlm mlm;
    struct mlm_options options = mlm_defaults;
    options.whole_word = true;
    options.probability = 0.5;
    assert_ok(mlm_init(&mlm, wordpiece.tokenizer, &options));
    int32_t ids[LENGTH];
    int32_t labels[LENGTH];
    int chosen_parts = 0;
    for (int i = 0; i < 200; i++) {
        encode_sample(&wordpiece, 3);
        assert_ok(mlm_mask(&mlm, 0, (uint64_t)i, &wordpiece.encoding, LENGTH, ids, labels));
        for (int64_t k = 1; k + 1 < wordpiece.encoding.count; k++) {
            if (wordpiece.encoding.flags[k] & TOKEN_WORD_START) continue;
            assert_int_equal(labels[k] != MLM_IGNORE, labels[k - 1] != MLM_IGNORE);
            chosen_parts += labels[k] != MLM_IGNORE;
        }
    }
    assert_true(chosen_parts > 100);
    unload(&bpe);
    unload(&wordpiece);
}

static void mask_sample(struct loaded *loaded, const struct mlm *mlm, uint64_t epoch,
                        uint64_t sample, int64_t row_length, int32_t *both)
{
    encode_sample(loaded, 0);
    assert_ok(mlm_mask(mlm, epoch, sample, &loaded->encoding, row_length, both, both + row_length));
}

/* A function of (seed, site, epoch, sample, place): nothing that came before has an influence. */
static void test_reproducible(void **state)
{
    (void)state;
    struct loaded bpe = load(CASES "/vocab.json", NULL);
    struct mlm_options options = mlm_defaults;
    options.seed = 5;
    struct mlm mlm;
    assert_ok(mlm_init(&mlm, bpe.tokenizer, &options));
    int32_t first[2 * LENGTH];
    int32_t other[4 * LENGTH];
    mask_sample(&bpe, &mlm, 3, 1234567890123, LENGTH, first);
    for (uint64_t i = 0; i < 10; i++) {
        mask_sample(&bpe, &mlm, 3, i, LENGTH, other);
    }
    assert_memory_not_equal(first, other, sizeof first);
    mask_sample(&bpe, &mlm, 3, 1234567890123, LENGTH, other);
    assert_memory_equal(first, other, sizeof first);
    mask_sample(&bpe, &mlm, 3, 1234567890123, 2 * LENGTH, other); /* longer rows: the same mask */
    assert_memory_equal(first, other, LENGTH * sizeof *first);
    mask_sample(&bpe, &mlm, 4, 1234567890123, LENGTH, other);
    assert_memory_not_equal(first, other, sizeof first);
    options.seed = 6;
    assert_ok(mlm_init(&mlm, bpe.tokenizer, &options));
    mask_sample(&bpe, &mlm, 3, 1234567890123, LENGTH, other);
    assert_memory_not_equal(first, other, sizeof first);
    unload(&bpe);
}

static void test_limits_and_refusals(void **state)
{
    (void)state;
    struct loaded bpe = load(CASES "/vocab.json", NULL);
    struct mlm mlm;
    struct mlm_options options = {.probability = 1, .mask_fraction = 1};
    assert_ok(mlm_init(&mlm, bpe.tokenizer, &options));
    int32_t both[2 * LENGTH];
    mask_sample(&bpe, &mlm, 0, 0, LENGTH, both);
    for (int64_t k = 1; k + 1 < bpe.encoding.count; k++) {
        assert_int_equal(both[k], mlm.mask_id);
        assert_int_equal(both[LENGTH + k], bpe.encoding.ids[k]);
    }
    options.probability = 0;
    assert_ok(mlm_init(&mlm, bpe.tokenizer, &options));
    mask_sample(&bpe, &mlm, 0, 0, LENGTH, both);
    assert_memory_equal(both, bpe.encoding.ids, (size_t)bpe.encoding.count * sizeof *both);
    options.probability = NAN;
    assert_int_equal(mlm_init(&mlm, bpe.tokenizer, &options), STATUS_INVALID);
    assert_message("the probability of masking is");
    options.probability = 0.15;
    options.random_fraction = 0.5;
    assert_int_equal(mlm_init(&mlm, bpe.tokenizer, &options), STATUS_INVALID);
    assert_message("and so must their sum");
    assert_int_equal(mlm_mask(&mlm, 0, 0, &bpe.encoding, 3, both, both + LENGTH), STATUS_INVALID);
    unload(&bpe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distribution),
        cmocka_unit_test(test_whole_words),
        cmocka_unit_test(test_reproducible),
        cmocka_unit_test(test_limits_and_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
