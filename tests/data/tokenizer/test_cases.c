/*
 * Ids, spans and words of committed cases, which the Hugging Face library wrote
 * (test_hugging_face.py): byte-level BPE, WordPiece in lower case, WordPiece with case.
 */
#include "tests/data/tokenizer/tokenizer_test.h"

#include <jansson.h>

enum { NUM_CASES = 28 };

static int64_t integer_at(const json_t *list, int64_t index)
{
    return json_integer_value(json_array_get(list, (size_t)index));
}

static void check_case(const json_t *row, const struct encoding *encoding, int line)
{
    const json_t *ids = json_object_get(row, "ids");
    const json_t *spans = json_object_get(row, "spans");
    const json_t *words = json_object_get(row, "words");
    if ((int64_t)json_array_size(ids) != encoding->count) fail_msg("line %d: number of ids", line);
    for (int64_t i = 0; i < encoding->count; i++) {
        const json_t *span = json_array_get(spans, (size_t)i);
        int64_t word = integer_at(words, i);
        bool starts = i == 0 || word < 0 || word != integer_at(words, i - 1);
        bool good = encoding->ids[i] == integer_at(ids, i) &&
                    encoding->spans[i].begin == integer_at(span, 0) &&
                    encoding->spans[i].end == integer_at(span, 1) &&
                    !(encoding->flags[i] & TOKEN_WORD_START) == !starts &&
                    !(encoding->flags[i] & TOKEN_SPECIAL) == (word >= 0);
        if (!good) fail_msg("line %d, token %d", line, (int)i);
    }
}

static void check_file(const char *name, const char *path, const struct tokenizer_options *options)
{
    struct loaded loaded = load(path, options);
    size_t size;
    char *cases = file_read(CASES, name, &size);
    int line = 0;
    for (char *at = strtok(cases, "\n"); at; at = strtok(NULL, "\n")) {
        line++;
        json_t *row = json_loads(at, JSON_ALLOW_NUL, NULL);
        assert_non_null(row);
        const json_t *text = json_object_get(row, "text");
        struct encode_options special = {.add_special = true};
        assert_ok(tokenizer_encode(loaded.tokenizer, loaded.scratch, json_string_value(text),
                                   json_string_length(text), &special, &loaded.encoding));
        check_case(row, &loaded.encoding, line);
        json_decref(row);
    }
    assert_int_equal(line, NUM_CASES);
    free(cases);
    unload(&loaded);
}

static void test_bpe(void **state)
{
    (void)state;
    check_file("bpe.jsonl", CASES "/vocab.json", NULL);
}

static void test_wordpiece(void **state)
{
    (void)state;
    check_file("wordpiece.jsonl", CASES "/vocab.txt", NULL);
}

static void test_wordpiece_cased(void **state)
{
    (void)state;
    check_file("wordpiece_cased.jsonl", CASES "/vocab.txt",
               &(struct tokenizer_options){.cased = true});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bpe),
        cmocka_unit_test(test_wordpiece),
        cmocka_unit_test(test_wordpiece_cased),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
