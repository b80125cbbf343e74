/*
 * UTF-8 and the Unicode properties that tokenizers split on (utf8proc's tables).
 */
#ifndef WEFT_DATA_TOKENIZER_UTF8_H
#define WEFT_DATA_TOKENIZER_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Classes of GPT-2's split rule: \p{L}, \p{N}, \s (the White_Space property), and the rest. */
enum char_class { CHAR_OTHER, CHAR_LETTER, CHAR_NUMBER, CHAR_SPACE };

/*
 * Reads the character at text[0..length), length > 0. Returns its number of bytes (1 to 4) and its
 * code point; where the bytes are not UTF-8 (also overlong forms, surrogates and values above
 * U+10FFFF) returns 1 and the code point -1.
 */
int utf8_read(const char *text, size_t length, int32_t *codepoint);

/* Writes a valid code point as 1 to 4 bytes and returns how many. */
int utf8_write(int32_t codepoint, char out[4]);

/* True when all of the text is UTF-8; otherwise `*position` is the first byte that is not. */
bool utf8_valid(const char *text, size_t length, size_t *position);

/* The number of characters; a byte that is not UTF-8 counts as one. */
int64_t utf8_count(const char *text, size_t length);

/* The class of a code point, -1 (not UTF-8) being CHAR_OTHER. */
enum char_class unicode_class(int32_t codepoint);

/* Cc, Cf and Co: what BERT's clean-up removes (after tab, line feed and carriage return). */
bool unicode_is_control(int32_t codepoint);

/* ASCII punctuation and the P categories: what BERT splits off. */
bool unicode_is_punctuation(int32_t codepoint);

/* The blocks of Chinese characters that BERT puts spaces around. U+2B820 to U+2B91F are not among
 * them in the Hugging Face library, and so not here. */
bool unicode_is_cjk(int32_t codepoint);

/* Lower case by the full mapping, without the context rule for the Greek sigma: `out` gets 1 or 2
 * code points. */
int unicode_lower(int32_t codepoint, int32_t out[2]);

enum { UNICODE_MAX_DECOMPOSED = 8 };

/* Canonical decomposition (NFD) with nonspacing marks (Mn) removed: how many code points. Marks are
 * not reordered; the ones that could be and are not Mn occur in no word that BERT knows. */
int unicode_strip_accents(int32_t codepoint, int32_t out[UNICODE_MAX_DECOMPOSED]);

#endif
