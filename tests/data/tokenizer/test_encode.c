/* What encoding promises: round trips, policies, truncation, padding, special tokens, huge texts.
 */
#include "tests/data/tokenizer/tokenizer_test.h"

#include <pthread.h>

#include "data/tokenizer/utf8.h"
#include "runtime/base/rng.h"

static void assert_round_trip(struct loaded *bpe, const char *text, size_t length, bool bytes)
{
    struct encode_options options = {.allow_bytes = bytes};
    assert_ok(
        tokenizer_encode(bpe->tokenizer, bpe->scratch, text, length, &options, &bpe->encoding));
    struct strbuf decoded = {0};
    assert_ok(
        tokenizer_decode(bpe->tokenizer, bpe->encoding.ids, bpe->encoding.count, false, &decoded));
    assert_int_equal(decoded.length, length);
    if (length) assert_memory_equal(decoded.text, text, length);
    strbuf_fini(&decoded);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct loaded bpe = load(CASES "/vocab.json", NULL);
    struct rng_key key = rng_key(2, RNG_TEST, 0);
    for (uint64_t i = 0; i < 2000; i++) {
        char text[64 * 4];
        size_t length = 0;
        size_t count = rng_below(rng_at(key, 0, i, 0).word[0], 64);
        for (uint32_t k = 0; k < count; k++) {
            struct rng_block draw = rng_at(key, 1, i, k);
            static const uint32_t limits[] = {0x80, 0x80, 0x800, 0x3000, 0x110000};
            int32_t c = (int32_t)rng_below(draw.word[0], limits[rng_below(draw.word[1], 5)]);
            length += (size_t)utf8_write(c >= 0xD800 && c < 0xE000 ? 'x' : c, text + length);
        }
        assert_round_trip(&bpe, text, length, false);
        for (size_t k = 0; k < length; k++) {
            text[k] = (char)rng_at(key, 2, i, (uint32_t)k).word[0];
        }
        assert_round_trip(&bpe, text, length, true);
    }
    unload(&bpe);
}

static void test_invalid_utf8(void **state)
{
    (void)state;
    struct loaded bpe = load(CASES "/vocab.json", NULL);
    struct loaded wordpiece = load(CASES "/vocab.txt", NULL);
    const char *text = "a red\xFF square";
    assert_int_equal(
        tokenizer_encode(bpe.tokenizer, bpe.scratch, text, strlen(text), NULL, &bpe.encoding),
        STATUS_INVALID);
    assert_message("the text is not UTF-8 at byte 5 (0xFF)");
    struct encode_options bytes = {.allow_bytes = true};
    encode_text(&bpe, text, &bytes);
    int64_t square = encoding_find_char(&bpe.encoding, 7); /* the bad byte is one character */
    assert_int_equal(bpe.encoding.spans[square].begin, 7);
    encode_text(&wordpiece, text, &bytes);
    assert_int_equal(wordpiece.encoding.count, 3); /* dropped */
    assert_int_equal(wordpiece.encoding.spans[2].begin, 7);
    unload(&bpe);
    unload(&wordpiece);
}

static void test_truncation(void **state)
{
    (void)state;
    struct loaded bpe = load(CASES "/vocab.json", NULL);
    const char *text = "a red square is above a blue circle";
    struct encode_options options = {.add_special = true};
    encode_text(&bpe, text, &options);
    int64_t full = bpe.encoding.count;
    int32_t ids[64];
    memcpy(ids, bpe.encoding.ids, (size_t)full * sizeof *ids);
    assert_false(bpe.encoding.truncated);
    for (int64_t length = 2; length <= full + 2; length++) {
        options.max_length = length;
        encode_text(&bpe, text, &options);
        int64_t expected = length < full ? length : full;
        assert_int_equal(bpe.encoding.count, expected);
        assert_int_equal(bpe.encoding.truncated, length < full);
        assert_memory_equal(bpe.encoding.ids, ids, (size_t)(expected - 1) * sizeof *ids);
        assert_int_equal(bpe.encoding.ids[expected - 1],
                         tokenizer_special(bpe.tokenizer, TOKENIZER_END));
    }
    options.max_length = 1;
    assert_int_equal(
        tokenizer_encode(bpe.tokenizer, bpe.scratch, text, strlen(text), &options, &bpe.encoding),
        STATUS_INVALID);
    assert_message("max_length is 1, the special tokens alone are 2");
    unload(&bpe);
}

static void test_batch(void **state)
{
    (void)state;
    enum { ROWS = 3, LENGTH = 8 };
    struct loaded bpe = load(CASES "/vocab.json", NULL);
    const char *texts[ROWS] = {"a red square", "", "a b c d e f g h i j"};
    size_t lengths[ROWS];
    for (int i = 0; i < ROWS; i++) {
        lengths[i] = strlen(texts[i]);
    }
    int32_t ids[ROWS * LENGTH];
    int32_t mask[ROWS * LENGTH];
    struct encode_options options = {.add_special = true};
    assert_ok(tokenizer_encode_batch(bpe.tokenizer, bpe.scratch, texts, lengths, ROWS, &options,
                                     LENGTH, ids, mask));
    static const int32_t empty[LENGTH] = {0, 2, 1, 1, 1, 1, 1, 1};
    static const int32_t empty_mask[LENGTH] = {1, 1};
    assert_memory_equal(ids + LENGTH, empty, sizeof empty);
    assert_memory_equal(mask + LENGTH, empty_mask, sizeof empty_mask);
    for (int i = 0; i < ROWS; i++) {
        options.max_length = LENGTH;
        encode_text(&bpe, texts[i], &options);
        for (int64_t k = 0; k < LENGTH; k++) {
            bool token = k < bpe.encoding.count;
            assert_int_equal(mask[i * LENGTH + k], token);
            assert_int_equal(ids[i * LENGTH + k], token ? bpe.encoding.ids[k] : 1);
        }
    }
    assert_int_equal(ids[ROWS * LENGTH - 1], 2); /* cut, with its end token */
    texts[1] = "\xFF";
    lengths[1] = 1;
    assert_int_equal(tokenizer_encode_batch(bpe.tokenizer, bpe.scratch, texts, lengths, ROWS,
                                            &options, LENGTH, ids, mask),
                     STATUS_INVALID);
    assert_message("row 1: the text is not UTF-8 at byte 0");
    assert_int_equal(tokenizer_pad(bpe.tokenizer, &bpe.encoding, 3, ids, mask), STATUS_INVALID);
    assert_message("do not fit into a row of 3");
    unload(&bpe);
}

/* "<mask>" in a text is text, unless asked for; the space before RoBERTa's mask goes. */
static void test_special_in_text(void **state)
{
    (void)state;
    struct loaded bpe = load(CASES "/vocab.json", NULL);
    struct loaded wordpiece = load(CASES "/vocab.txt", NULL);
    int32_t mask = tokenizer_special(bpe.tokenizer, TOKENIZER_MASK);
    encode_text(&bpe, "a <mask></s> square", NULL);
    for (int64_t i = 0; i < bpe.encoding.count; i++) {
        assert_false(tokenizer_is_special(bpe.tokenizer, bpe.encoding.ids[i]));
    }
    struct encode_options parse = {.special_in_text = true};
    encode_text(&bpe, "a <mask></s> square", &parse);
    assert_int_equal(bpe.encoding.count, 4);
    assert_int_equal(bpe.encoding.ids[1], mask);
    assert_int_equal(bpe.encoding.ids[2], 2);
    assert_int_equal(bpe.encoding.flags[1], TOKEN_SPECIAL | TOKEN_WORD_START);
    assert_int_equal(bpe.encoding.spans[1].begin, 2);
    assert_int_equal(bpe.encoding.spans[1].end, 8);
    assert_int_equal(bpe.encoding.spans[3].begin, 13);
    encode_text(&wordpiece, "a [MASK]square", &parse);
    assert_int_equal(wordpiece.encoding.count, 3);
    assert_int_equal(wordpiece.encoding.ids[1],
                     tokenizer_special(wordpiece.tokenizer, TOKENIZER_MASK));
    assert_int_equal(wordpiece.encoding.spans[2].begin, 8);
    unload(&bpe);
    unload(&wordpiece);
}

static void test_find_span(void **state)
{
    (void)state;
    struct loaded bpe = load(CASES "/vocab.json", NULL);
    /*          0123456789012345 */
    const char *text = "a caf\xC3\xA9 is  red";
    encode_text(&bpe, text, &(struct encode_options){.add_special = true});
    const struct encoding *encoding = &bpe.encoding;
    assert_int_equal(encoding_find_char(encoding, 0), 1);
    assert_int_equal(encoding_find_char(encoding, 1), -1); /* a space is in no token's span */
    int64_t first;
    int64_t last;
    assert_true(encoding_find_span(encoding, (struct text_span){2, 6}, &first, &last));
    assert_int_equal(encoding->spans[first].begin, 2);
    assert_int_equal(encoding->spans[last].end, 6);
    /* From a space the next character is taken, and before one the character in front. */
    int64_t same_first;
    int64_t same_last;
    assert_true(encoding_find_span(encoding, (struct text_span){1, 7}, &same_first, &same_last));
    assert_int_equal(same_first, first);
    assert_int_equal(same_last, last);
    assert_false(encoding_find_span(encoding, (struct text_span){20, 24}, &first, &last));
    assert_false(
        encoding_find_span(encoding, (struct text_span){INT32_MAX, INT32_MIN}, &first, &last));
    unload(&bpe);
}

/* One word of a million letters, a million spaces, a million accents: no time to be quadratic. */
static void test_million_characters(void **state)
{
    (void)state;
    enum { SIZE = 1000000 };
    struct loaded bpe = load(CASES "/vocab.json", NULL);
    struct loaded wordpiece = load(CASES "/vocab.txt", NULL);
    static const char *const units[] = {"a",        "abcdefghij", " ", "the ",
                                        "\xC3\xA9", "\xCC\x81",   ".", "\n"};
    char *text = malloc(SIZE);
    assert_non_null(text);
    for (size_t unit = 0; unit < sizeof units / sizeof units[0]; unit++) {
        size_t step = strlen(units[unit]);
        for (size_t i = 0; i + step <= SIZE; i += step) {
            memcpy(text + i, units[unit], step);
        }
        size_t length = SIZE / step * step;
        assert_round_trip(&bpe, text, length, false);
        assert_ok(tokenizer_encode(wordpiece.tokenizer, wordpiece.scratch, text, length, NULL,
                                   &wordpiece.encoding));
        struct encode_options cut = {.max_length = 40, .add_special = true};
        assert_ok(tokenizer_encode(bpe.tokenizer, bpe.scratch, text, length, &cut, &bpe.encoding));
        assert_true(bpe.encoding.count <= 40);
    }
    free(text);
    unload(&bpe);
    unload(&wordpiece);
}

static void test_decode(void **state)
{
    (void)state;
    struct loaded wordpiece = load(CASES "/vocab.txt", NULL);
    struct encode_options special = {.add_special = true};
    encode_text(&wordpiece, "A Red\tumbrellas!", &special);
    struct strbuf out = {0};
    assert_ok(tokenizer_decode(wordpiece.tokenizer, wordpiece.encoding.ids,
                               wordpiece.encoding.count, true, &out));
    assert_string_equal(out.text, "a red umbrellas !");
    int32_t bad = tokenizer_vocab_size(wordpiece.tokenizer);
    assert_int_equal(tokenizer_decode(wordpiece.tokenizer, &bad, 1, false, &out), STATUS_INVALID);
    assert_message("token 0 has id ");
    strbuf_fini(&out);
    unload(&wordpiece);
}

/* Threads share the tokenizer and have a scratch each, in different states. */
struct thread {
    const struct tokenizer *tokenizer;
    int number;
    uint64_t hash; /* of all ids, to be the same in all threads */
};

static void *run_thread(void *context)
{
    struct thread *thread = context;
    struct tokenizer_scratch *scratch;
    struct encoding encoding = {0};
    char text[64];
    if (tokenizer_scratch_create(thread->tokenizer, &scratch) != STATUS_OK) return NULL;
    for (int warm = 0; warm < thread->number; warm++) {
        snprintf(text, sizeof text, "warm %d the cache %d", warm, thread->number);
        tokenizer_encode(thread->tokenizer, scratch, text, strlen(text), NULL, &encoding);
    }
    for (int i = 0; i < 20000; i++) {
        snprintf(text, sizeof text, "a red square number %d beside umbrella%d", i % 997, i * 7919);
        if (tokenizer_encode(thread->tokenizer, scratch, text, strlen(text), NULL, &encoding))
            break;
        for (int64_t k = 0; k < encoding.count; k++) {
            thread->hash = thread->hash * 31 + (uint64_t)encoding.ids[k];
        }
    }
    encoding_fini(&encoding);
    tokenizer_scratch_destroy(&scratch);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    struct loaded bpe = load(CASES "/vocab.json", NULL);
    struct thread threads[THREADS];
    pthread_t handles[THREADS];
    for (int i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){bpe.tokenizer, i, 1};
        assert_int_equal(pthread_create(&handles[i], NULL, run_thread, &threads[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(handles[i], NULL), 0);
        assert_true(threads[i].hash != 1);
        assert_true(threads[i].hash == threads[0].hash);
    }
    unload(&bpe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_invalid_utf8),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_batch),
        cmocka_unit_test(test_special_in_text),
        cmocka_unit_test(test_find_span),
        cmocka_unit_test(test_million_characters),

        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
