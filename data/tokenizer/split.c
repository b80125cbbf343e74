/*
 * The regular expression as a scanner. Its alternatives can be told apart by the first characters:
 * after an optional space (U+0020) the class of one character selects a run of that class; anything
 * else is white space. `\s+(?!\S)` takes a run of white space to the end of the text, or all but
 * its last character, which then starts the next piece (as the optional space, or alone); a run of
 * one is taken by `\s+`. A general regular expression engine (PCRE2) gives the same pieces ten
 * times slower; the tests compare.
 */
#include "data/tokenizer/split.h"

#include <string.h>

#include "data/tokenizer/utf8.h"

#define L CHAR_LETTER
#define N CHAR_NUMBER
#define S CHAR_SPACE
static const unsigned char ascii_class[128] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, S, S, S, S, S, 0, 0, /* control */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* control */
    S, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* space ... / */
    N, N, N, N, N, N, N, N, N, N, 0, 0, 0, 0, 0, 0, /* 0 ... ? */
    0, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, /* @ ... O */
    L, L, L, L, L, L, L, L, L, L, L, 0, 0, 0, 0, 0, /* P ... _ */
    0, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, /* ` ... o */
    L, L, L, L, L, L, L, L, L, L, L, 0, 0, 0, 0, 0, /* p ... DEL */
};
#undef L
#undef N
#undef S

/* The class and the number of bytes of the character at text[0..length). */
static enum char_class read_class(const char *text, size_t length, size_t *bytes)
{
    unsigned char first = (unsigned char)text[0];
    if (first < 128) {
        *bytes = 1;
        return (enum char_class)ascii_class[first];
    }
    int32_t codepoint;
    *bytes = (size_t)utf8_read(text, length, &codepoint);
    return unicode_class(codepoint);
}

/* The end of the run of characters of `class` that starts at `i`. */
static size_t run_end(const char *text, size_t length, size_t i, enum char_class class, bool *ascii)
{
    size_t bytes;
    while (i < length && read_class(text + i, length - i, &bytes) == class) {
        if ((unsigned char)text[i] >= 128) *ascii = false;
        i += bytes;
    }
    return i;
}

/* The length of 's 't 're 've 'm 'll 'd at text[0..length), 0 for none. */
static size_t contraction(const char *text, size_t length)
{
    if (length < 2 || text[0] != '\'') return 0;
    switch (text[1]) {
    case 's':
    case 't':
    case 'm':
    case 'd':
        return 2;
    case 'r':
    case 'v':
        return length > 2 && text[2] == 'e' ? 3 : 0;
    case 'l':
        return length > 2 && text[2] == 'l' ? 3 : 0;
    default:
        return 0;
    }
}

static struct piece split_space(const char *text, size_t length)
{
    struct piece piece = {0, true};
    size_t i = 0;
    size_t last = 0;
    size_t bytes = 0;
    while (i < length && read_class(text + i, length - i, &bytes) == CHAR_SPACE) {
        last = i;
        i += bytes;
    }
    piece.bytes = i == length || last == 0 ? i : last;
    for (size_t k = 0; k < piece.bytes; k++) {
        if ((unsigned char)text[k] >= 128) piece.ascii = false;
    }
    return piece;
}

struct piece split_next(const char *text, size_t length)
{
    struct piece piece = {contraction(text, length), true};
    if (piece.bytes) return piece;
    size_t start = text[0] == ' ' && length > 1;
    size_t bytes;
    enum char_class class = read_class(text + start, length - start, &bytes);
    if (class == CHAR_SPACE) return split_space(text, length);
    piece.bytes = run_end(text, length, start, class, &piece.ascii);
    return piece;
}
