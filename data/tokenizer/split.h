/*
 * GPT-2's split rule: cuts text into the pieces that BPE works on, one call a piece.
 *
 *     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 */
#ifndef WEFT_DATA_TOKENIZER_SPLIT_H
#define WEFT_DATA_TOKENIZER_SPLIT_H

#include <stdbool.h>
#include <stddef.h>

struct piece {
    size_t bytes; /* its length */
    bool ascii;   /* all bytes are below 0x80 */
};

/* The piece that starts at text[0..length), length > 0. A byte that is not UTF-8 is a character of
 * the third class ([^\s\p{L}\p{N}]). Pieces cover the text without a gap. */
struct piece split_next(const char *text, size_t length);

#endif
