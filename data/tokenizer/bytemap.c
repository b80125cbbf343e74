#include "data/tokenizer/bytemap.h"

#include <stdbool.h>

#include "data/tokenizer/utf8.h"

enum { FIRST_MOVED = 0x100, NUM_MOVED = 68 };

static bool is_printable(int c)
{
    return (c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c <= 0xFF && c != 0xAD);
}

/* The bytes that are moved are 0-0x20, 0x7F-0xA0 and 0xAD; this is the place of one among them. */
static int moved_index(uint8_t byte)
{
    return byte <= 0x20 ? byte : byte <= 0xA0 ? byte - 0x7F + 0x21 : NUM_MOVED - 1;
}

static int moved_byte(int index)
{
    return index <= 0x20 ? index : index < NUM_MOVED - 1 ? index - 0x21 + 0x7F : 0xAD;
}

int32_t bytemap_char(uint8_t byte)
{
    return is_printable(byte) ? byte : FIRST_MOVED + moved_index(byte);
}

int bytemap_byte(int32_t codepoint)
{
    if (codepoint >= FIRST_MOVED && codepoint < FIRST_MOVED + NUM_MOVED) {
        return moved_byte(codepoint - FIRST_MOVED);
    }
    return codepoint >= 0 && codepoint < 0x100 && is_printable(codepoint) ? codepoint : -1;
}

size_t bytemap_encode(const uint8_t *bytes, size_t length, char *out)
{
    char *end = out;
    for (size_t i = 0; i < length; i++) {
        end += utf8_write(bytemap_char(bytes[i]), end);
    }
    return (size_t)(end - out);
}

int64_t bytemap_decode(const char *text, size_t length, uint8_t *out)
{
    int64_t count = 0;
    for (size_t i = 0; i < length; count++) {
        int32_t codepoint;
        i += (size_t)utf8_read(text + i, length - i, &codepoint);
        int byte = bytemap_byte(codepoint);
        if (byte < 0) return -1;
        out[count] = (uint8_t)byte;
    }
    return count;
}
