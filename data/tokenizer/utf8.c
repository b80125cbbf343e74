#include "data/tokenizer/utf8.h"

#include <assert.h>
#include <string.h>

#include <utf8proc.h>

int utf8_read(const char *text, size_t length, int32_t *codepoint)
{
    const uint8_t *byte = (const uint8_t *)text;
    if (byte[0] < 0x80) {
        *codepoint = byte[0];
        return 1;
    }
    *codepoint = -1;
    int size = byte[0] < 0xC2   ? 0
               : byte[0] < 0xE0 ? 2
               : byte[0] < 0xF0 ? 3
               : byte[0] < 0xF5 ? 4
                                : 0;
    if (size == 0 || length < (size_t)size) return 1;
    int32_t value = byte[0] & (0x7F >> size);
    for (int i = 1; i < size; i++) {
        if ((byte[i] & 0xC0) != 0x80) return 1;
        value = value << 6 | (byte[i] & 0x3F);
    }
    bool surrogate = value >= 0xD800 && value < 0xE000;
    bool overlong = value < (size == 4 ? 0x10000 : size == 3 ? 0x800 : 0x80);
    if (surrogate || overlong || value > 0x10FFFF) return 1;
    *codepoint = value;
    return size;
}

int utf8_write(int32_t codepoint, char out[4])
{
    assert(codepoint >= 0 && codepoint <= 0x10FFFF);
    uint32_t c = (uint32_t)codepoint;
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    int size = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = size - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (c & 0x3F));
        c >>= 6;
    }
    static const uint8_t lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    out[0] = (char)(lead[size] | c);
    return size;
}

/* The number of leading ASCII bytes, counted eight at a time. */
static size_t ascii_prefix(const char *text, size_t length)
{
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
        uint64_t word;
        memcpy(&word, text + i, 8);
        if (word & 0x8080808080808080u) break;
    }
    while (i < length && (uint8_t)text[i] < 0x80) {
        i++;
    }
    return i;
}

bool utf8_valid(const char *text, size_t length, size_t *position)
{
    size_t i = 0;
    while (i < length) {
        i += ascii_prefix(text + i, length - i);
        if (i == length) break;
        int32_t codepoint;
        int size = utf8_read(text + i, length - i, &codepoint);
        if (codepoint < 0) {
            *position = i;
            return false;
        }
        i += (size_t)size;
    }
    return true;
}

int64_t utf8_count(const char *text, size_t length)
{
    int64_t count = 0;
    for (size_t i = 0; i < length; count++) {
        int32_t codepoint;
        i += (size_t)utf8_read(text + i, length - i, &codepoint);
    }
    return count;
}

/* The White_Space property; the categories alone miss the controls and U+0085. */
static bool is_space(int32_t c)
{
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

enum char_class unicode_class(int32_t codepoint)
{
    if (codepoint < 0) return CHAR_OTHER;
    if (is_space(codepoint)) return CHAR_SPACE;
    switch (utf8proc_category(codepoint)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return CHAR_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return CHAR_NUMBER;
    default:
        return CHAR_OTHER;
    }
}

bool unicode_is_control(int32_t codepoint)
{
    if (codepoint == '\t' || codepoint == '\n' || codepoint == '\r') return false;
    utf8proc_category_t category = utf8proc_category(codepoint);
    return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
           category == UTF8PROC_CATEGORY_CO;
}

bool unicode_is_punctuation(int32_t c)
{
    if (c < 0x80) {
        return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
               (c >= 123 && c <= 126);
    }
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
        return true;
    default:
        return false;
    }
}

bool unicode_is_cjk(int32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
           (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

int unicode_lower(int32_t codepoint, int32_t out[2])
{
    if (codepoint == 0x130) { /* the only character whose lower case is two */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    out[0] = utf8proc_tolower(codepoint);
    return 1;
}

int unicode_strip_accents(int32_t codepoint, int32_t out[UNICODE_MAX_DECOMPOSED])
{
    if (codepoint < 0x80) {
        out[0] = codepoint;
        return 1;
    }
    utf8proc_int32_t parts[UNICODE_MAX_DECOMPOSED];
    int boundary_class = 0;
    utf8proc_ssize_t num_parts =
        utf8proc_decompose_char(codepoint, parts, UNICODE_MAX_DECOMPOSED,
                                UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary_class);
    assert(num_parts >= 0 && num_parts <= UNICODE_MAX_DECOMPOSED);
    int count = 0;
    for (utf8proc_ssize_t i = 0; i < num_parts; i++) {
        if (utf8proc_category(parts[i]) != UTF8PROC_CATEGORY_MN) out[count++] = parts[i];
    }
    return count;
}
