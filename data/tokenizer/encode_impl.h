/*
 * One call of tokenizer_encode in progress, and the work space that it runs in.
 */
#ifndef WEFT_DATA_TOKENIZER_ENCODE_IMPL_H
#define WEFT_DATA_TOKENIZER_ENCODE_IMPL_H

#include "data/tokenizer/tokenizer_impl.h"

enum {
    CACHE_WORD = 30,     /* bytes of the longest word that is cached */
    CACHE_IDS = 8,       /* and its most tokens */
    CACHE_SIZE = 1 << 14 /* words; a power of two */
};

/* One cache line: a word and its tokens. Which words are there has no effect on results. */
struct cache_entry {
    uint8_t length; /* 0: free */
    uint8_t count;
    char word[CACHE_WORD];
    int32_t ids[CACHE_IDS];
};

enum { WORD_CHARS = 1024 }; /* above the largest wordpiece.max_word */

/* WordPiece: the word being collected, normalised. */
struct word {
    char bytes[4 * WORD_CHARS];
    uint16_t start[WORD_CHARS + 1]; /* byte at which each character starts, and the end */
    int32_t source[WORD_CHARS];     /* its character in the text */
    int32_t count;                  /* characters; what does not fit is only counted */
    int32_t last;                   /* character in the text of the last one counted */
};

struct tokenizer_scratch {
    struct cache_entry *cache; /* [CACHE_SIZE], aligned to its size */
    struct bpe_work bpe;
    int32_t *ids; /* [ids_capacity] tokens of a piece that is not cached */
    size_t ids_capacity;
    struct strbuf prefixed; /* text behind an added space */
    struct word word;
    uint64_t owner; /* fingerprint of the tokenizer that the cache is of */
};

struct encoder {
    const struct tokenizer *tokenizer;
    struct tokenizer_scratch *scratch;
    struct encoding *out;
    int64_t limit;    /* encoding stops as soon as there are more tokens than this */
    int32_t position; /* characters of the text before the current place */
};

/* Appends one token. */
enum status encoder_push(struct encoder *encoder, int32_t id, struct text_span span, uint8_t flags);

static inline bool encoder_full(const struct encoder *encoder)
{
    return encoder->out->count > encoder->limit;
}

/* The cache line where a word of 1 to CACHE_WORD bytes is or belongs; `*hit` tells which. */
struct cache_entry *scratch_lookup(struct tokenizer_scratch *scratch, const char *word,
                                   size_t length, bool *hit);

/* Keeps a word's tokens when they fit. */
void scratch_store(struct cache_entry *entry, const char *word, size_t length, const int32_t *ids,
                   int64_t count);

/* Encodes text[0..length), in which no added tokens are looked for, and moves the position on,
 * unless the encoder gets full. */
enum status encode_bpe(struct encoder *encoder, const char *text, size_t length);
enum status encode_wordpiece(struct encoder *encoder, const char *text, size_t length);

#endif
