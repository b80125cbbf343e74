/*
 * GPT-2's map between bytes and printable characters: vocabulary files write each byte of a token
 * as one character, printable Latin-1 as itself and the other 68 bytes as U+0100 to U+0143 in
 * order, so that a space is Ġ (U+0120).
 */
#ifndef WEFT_DATA_TOKENIZER_BYTEMAP_H
#define WEFT_DATA_TOKENIZER_BYTEMAP_H

#include <stddef.h>
#include <stdint.h>

/* The character that stands for a byte. */
int32_t bytemap_char(uint8_t byte);

/* The byte that a character stands for, -1 for none. */
int bytemap_byte(int32_t codepoint);

/* Writes `length` bytes in the alphabet of the map, as UTF-8: at most 2 * length bytes. Returns how
 * many. */
size_t bytemap_encode(const uint8_t *bytes, size_t length, char *out);

/* The inverse. Returns the number of bytes, at most `length`, or -1 when a character is not in the
 * alphabet. */
int64_t bytemap_decode(const char *text, size_t length, uint8_t *out);

#endif
