/*
 * Token for token what two independent GPT-2 tokenizers give: ids, and what follows from them.
 * needs=shared/golden/gpt2_bpe.jsonl,shared/data/gpt2-bpe timeout=60
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/utf8.h"

enum { NUM_LINES = 561, VOCAB = 50257 };

static struct tokenizer *tokenizer;
static struct tokenizer_scratch *scratch;

static void shared_path(char *out, size_t size, const char *name)
{
    const char *shared = getenv("WEFT_SHARED");
    snprintf(out, size, "%s/%s", shared ? shared : "../shared", name);
}

static int setup(void **state)
{
    (void)state;
    char path[1024];
    shared_path(path, sizeof path, "data/gpt2-bpe");
    if (tokenizer_load(path, NULL, &tokenizer) != STATUS_OK ||
        tokenizer_scratch_create(tokenizer, &scratch) != STATUS_OK) {
        print_error("%s\n", status_message());
        return 1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tokenizer_scratch_destroy(&scratch);
    tokenizer_destroy(&tokenizer);
    return 0;
}

/* Calls `check` on every line of the golden file. */
static void each_line(void (*check)(const char *text, size_t length, const json_t *ids))
{
    char path[1024];
    shared_path(path, sizeof path, "golden/gpt2_bpe.jsonl");
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *line = NULL;
    size_t capacity = 0;
    int count = 0;
    for (; getline(&line, &capacity, file) > 0; count++) {
        json_t *row = json_loads(line, JSON_ALLOW_NUL, NULL);
        assert_non_null(row);
        const json_t *text = json_object_get(row, "text");
        check(json_string_value(text), json_string_length(text), json_object_get(row, "ids"));
        json_decref(row);
    }
    free(line);
    fclose(file);
    assert_int_equal(count, NUM_LINES);
}

static void check_ids(const char *text, size_t length, const json_t *ids)
{
    struct encoding encoding = {0};
    assert_int_equal(tokenizer_encode(tokenizer, scratch, text, length, NULL, &encoding),
                     STATUS_OK);
    if (encoding.count != (int64_t)json_array_size(ids)) fail_msg("number of tokens of '%s'", text);
    for (int64_t i = 0; i < encoding.count; i++) {
        json_int_t expected = json_integer_value(json_array_get(ids, (size_t)i));
        if (encoding.ids[i] != expected) fail_msg("token %lld of '%s'", (long long)i, text);
    }
    encoding_fini(&encoding);
}

static void check_round_trip(const char *text, size_t length, const json_t *ids)
{
    (void)ids;
    struct encoding encoding = {0};
    struct strbuf decoded = {0};
    assert_int_equal(tokenizer_encode(tokenizer, scratch, text, length, NULL, &encoding),
                     STATUS_OK);
    assert_int_equal(tokenizer_decode(tokenizer, encoding.ids, encoding.count, false, &decoded),
                     STATUS_OK);
    assert_int_equal(decoded.length, length);
    if (length) assert_memory_equal(decoded.text, text, length);
    strbuf_fini(&decoded);
    encoding_fini(&encoding);
}

/* Spans are in order, inside the text, and every character but spaces is in one. */
static void check_spans(const char *text, size_t length, const json_t *ids)
{
    (void)ids;
    struct encoding encoding = {0};
    assert_int_equal(tokenizer_encode(tokenizer, scratch, text, length, NULL, &encoding),
                     STATUS_OK);
    int32_t characters = 0;
    for (size_t i = 0; i < length; characters++) {
        int32_t codepoint;
        bool covered = encoding_find_char(&encoding, characters) >= 0;
        i += (size_t)utf8_read(text + i, length - i, &codepoint);
        if (unicode_class(codepoint) != CHAR_SPACE) assert_true(covered);
        if (codepoint == ' ') assert_false(covered);
    }
    int32_t end = 0;
    for (int64_t i = 0; i < encoding.count; i++) {
        assert_true(encoding.spans[i].begin <= encoding.spans[i].end);
        assert_true(encoding.spans[i].end >= end);
        end = encoding.spans[i].end;
    }
    assert_true(end <= characters);
    encoding_fini(&encoding);
}

static void test_ids(void **state)
{
    (void)state;
    assert_int_equal(tokenizer_vocab_size(tokenizer), VOCAB);
    each_line(check_ids);
    each_line(check_ids); /* now from the cache */
}

static void test_round_trip(void **state)
{
    (void)state;
    each_line(check_round_trip);
}

static void test_spans(void **state)
{
    (void)state;
    each_line(check_spans);
}

/* GPT-2 has none of RoBERTa's special tokens; they are added on request, behind the last id. */
static void test_special_tokens(void **state)
{
    (void)state;
    int32_t id;
    assert_int_equal(tokenizer_special(tokenizer, TOKENIZER_MASK), -1);
    assert_int_equal(tokenizer_require(tokenizer, TOKENIZER_MASK, &id), STATUS_NOT_FOUND);
    assert_non_null(strstr(status_message(), "no mask token ('<mask>')"));
    char path[1024];
    shared_path(path, sizeof path, "data/gpt2-bpe/vocab.json");
    struct tokenizer_options options = {.special[TOKENIZER_END] = "<|endoftext|>",
                                        .add_special = true};
    struct tokenizer *extended;
    assert_int_equal(tokenizer_load(path, &options, &extended), STATUS_OK);
    assert_int_equal(tokenizer_special(extended, TOKENIZER_END), 50256);
    assert_int_equal(tokenizer_special(extended, TOKENIZER_BEGIN), 50257);
    assert_int_equal(tokenizer_special(extended, TOKENIZER_MASK), 50260);
    assert_int_equal(tokenizer_vocab_size(extended), 50261);
    assert_true(tokenizer_fingerprint(extended) != tokenizer_fingerprint(tokenizer));
    tokenizer_destroy(&extended);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_special_tokens),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
