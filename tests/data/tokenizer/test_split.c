/*
 * The scanner for GPT-2's split rule against PCRE2 running the regular expression itself, and the
 * classes of characters against PCRE2's for every code point.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pcre2.h>

#include "data/tokenizer/split.h"
#include "data/tokenizer/utf8.h"
#include "runtime/base/rng.h"

/* PCRE2's \s lacks U+0085, which has the White_Space property, so classes are spelled out. */
#define SPACE "\\s\\x{85}"
static const char pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE
                              "\\p{L}\\p{N}]+|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+";

static pcre2_code *compile(const char *text)
{
    int error;
    PCRE2_SIZE offset;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &offset, NULL);
    assert_non_null(code);
    return code;
}

/* The length that PCRE2 matches at the start of the text. */
static size_t match(const pcre2_code *code, pcre2_match_data *data, const char *text, size_t length)
{
    int found = pcre2_match(code, (PCRE2_SPTR)text, length, 0, 0, data, NULL);
    return found > 0 ? pcre2_get_ovector_pointer(data)[1] : 0;
}

static void check_text(const pcre2_code *code, pcre2_match_data *data, const char *text,
                       size_t length)
{
    for (size_t at = 0; at < length;) {
        struct piece piece = split_next(text + at, length - at);
        size_t expected = match(code, data, text + at, length - at);
        if (piece.bytes != expected) {
            fail_msg("%zu bytes, not %zu, at byte %zu of '%s'", piece.bytes, expected, at, text);
        }
        bool ascii = true;
        for (size_t i = 0; i < piece.bytes; i++) {
            ascii = ascii && (uint8_t)text[at + i] < 128;
        }
        assert_int_equal(piece.ascii, ascii);
        at += piece.bytes;
    }
}

static void test_random_texts(void **state)
{
    (void)state;
    static const char *const parts[] = {" ",
                                        "  ",
                                        "\n",
                                        "\t ",
                                        "\xC2\xA0",
                                        "\xE3\x80\x80",
                                        "\xC2\x85",
                                        "'",
                                        "'s",
                                        "'re",
                                        "'l",
                                        "'ll",
                                        "'v",
                                        "a",
                                        "Ab",
                                        "1",
                                        "23",
                                        "!",
                                        ".",
                                        "_",
                                        "-",
                                        "\xC3\xA9",
                                        "\xC2\xBD",
                                        "\xE6\x97\xA5",
                                        "e\xCC\x81",
                                        "\xF0\x9F\x98\x80",
                                        "\xE2\x80\x8B",
                                        "\xEF\xBB\xBF"};
    enum { NUM_PARTS = sizeof parts / sizeof parts[0], NUM_TEXTS = 20000 };
    pcre2_code *code = compile(pattern);
    pcre2_match_data *data = pcre2_match_data_create(4, NULL);
    struct rng_key key = rng_key(1, RNG_TEST, 0);
    for (uint64_t i = 0; i < NUM_TEXTS; i++) {
        char text[256] = "";
        uint32_t count = rng_below(rng_at(key, 0, i, 0).word[0], 16);
        for (uint32_t k = 0; k < count; k++) {
            strcat(text, parts[rng_below(rng_at(key, 1, i, k).word[0], NUM_PARTS)]);
        }
        check_text(code, data, text, strlen(text));
    }
    pcre2_match_data_free(data);
    pcre2_code_free(code);
}

/* Tables of different Unicode versions differ in characters that one of them does not have yet. */
static void test_classes(void **state)
{
    (void)state;
    pcre2_code *codes[] = {compile("[^" SPACE "\\p{L}\\p{N}]"), compile("\\p{L}"),
                           compile("\\p{N}"), compile("[" SPACE "]")};
    pcre2_code *unassigned = compile("\\p{Cn}");
    pcre2_match_data *data = pcre2_match_data_create(4, NULL);
    int different = 0;
    for (int32_t c = 0; c < 0x110000; c++) {
        if (c >= 0xD800 && c < 0xE000) continue;
        char text[4];
        size_t length = (size_t)utf8_write(c, text);
        bool same = match(codes[unicode_class(c)], data, text, length) == length;
        if (!same && match(unassigned, data, text, length) == 0) different++;
    }
    assert_true(different < 20);
    for (int i = 0; i < 4; i++) {
        pcre2_code_free(codes[i]);
    }
    pcre2_code_free(unassigned);
    pcre2_match_data_free(data);
}

/* Bytes that are not UTF-8 count as characters of the third class. */
static void test_invalid_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bytes;
    } rows[] = {
        {"a\xFFz", 1},   {"\xFF\xFE!a", 3}, {" \x80\x80 ", 3},   {"\xC3 ", 1},
        {"\xE6\x97", 2}, {"\xC0\xAF/", 3},  {"\xED\xA0\x80", 3}, {"\xF4\x90\x80\x80 ", 4},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(split_next(rows[i].text, strlen(rows[i].text)).bytes, rows[i].bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_texts),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_invalid_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
