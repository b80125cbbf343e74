/*
 * Byte-level BPE of running text: pieces by the split rule, each through the cache of words or the
 * merges. Nearly every piece of a caption is a word of at most CACHE_WORD bytes that was seen
 * before, so that the cost of a piece is its scan, a hash and one cache line.
 */
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer/encode_impl.h"
#include "data/tokenizer/split.h"
#include "data/tokenizer/utf8.h"

/* Drops the spaces at both ends of a token from its span. */
static struct text_span trim(struct text_span span, const char *bytes, uint32_t length)
{
    uint32_t lead = 0;
    while (lead < length && bytes[lead] == ' ') {
        lead++;
    }
    uint32_t trail = 0;
    while (trail < length - lead && bytes[length - 1 - trail] == ' ') {
        trail++;
    }
    return (struct text_span){span.begin + (int32_t)lead, span.end - (int32_t)trail};
}

/* How many bytes a token stands for; -1 is a byte that has none, and becomes the unknown token. */
static uint32_t bytes_of(const struct encoder *encoder, int32_t id)
{
    return id < 0 ? 1 : encoder->tokenizer->vocab.tokens[id].bytes_length;
}

static enum status push(struct encoder *encoder, int32_t id, struct text_span span, uint8_t flags)
{
    if (id < 0) id = encoder->tokenizer->special[TOKENIZER_UNKNOWN];
    return encoder_push(encoder, id, span, flags);
}

static enum status push_ascii(struct encoder *encoder, const char *piece, const int32_t *ids,
                              int64_t count)
{
    uint8_t flags = TOKEN_WORD_START;
    for (int64_t i = 0; i < count; i++) {
        uint32_t length = bytes_of(encoder, ids[i]);
        struct text_span span = {encoder->position, encoder->position + (int32_t)length};
        if (piece[0] == ' ' || piece[length - 1] == ' ') span = trim(span, piece, length);
        TRY(push(encoder, ids[i], span, flags));
        flags = 0;
        piece += length;
        encoder->position += (int32_t)length;
    }
    return STATUS_OK;
}

/* The same where characters have several bytes: a part of a character spans all of it. */
static enum status push_unicode(struct encoder *encoder, const char *piece, size_t size,
                                const int32_t *ids, int64_t count)
{
    uint8_t flags = TOKEN_WORD_START;
    size_t at = 0;                        /* the token's first byte */
    size_t reached = 0;                   /* the byte behind the characters that were read */
    int32_t position = encoder->position; /* characters before `reached` */
    for (int64_t i = 0; i < count; i++) {
        uint32_t length = bytes_of(encoder, ids[i]);
        struct text_span span = {reached > at ? position - 1 : position, position};
        while (reached < at + length) {
            int32_t codepoint;
            reached += (size_t)utf8_read(piece + reached, size - reached, &codepoint);
            position++;
        }
        span.end = position;
        TRY(push(encoder, ids[i], trim(span, piece + at, length), flags));
        flags = 0;
        at += length;
    }
    encoder->position = position;
    return STATUS_OK;
}

/* The tokens of a piece, in the cache or in the scratch. */
static enum status find_ids(struct encoder *encoder, const char *piece, size_t length,
                            const int32_t **ids, int64_t *count)
{
    struct tokenizer_scratch *scratch = encoder->scratch;
    struct cache_entry *entry = NULL;
    if (length <= CACHE_WORD) {
        bool hit;
        entry = scratch_lookup(scratch, piece, length, &hit);
        if (hit) {
            *ids = entry->ids;
            *count = entry->count;
            return STATUS_OK;
        }
    }
    if (scratch->ids_capacity < length) {
        size_t capacity = length < 256 ? 256 : length;
        int32_t *grown = realloc(scratch->ids, capacity * sizeof *grown);
        CHECK(grown, STATUS_NO_MEMORY, "no memory for the %zu bytes of one word", length);
        scratch->ids = grown;
        scratch->ids_capacity = capacity;
    }
    *count = bpe_encode(&encoder->tokenizer->bpe, &scratch->bpe, piece, length, scratch->ids);
    CHECK(*count > 0, STATUS_NO_MEMORY, "no memory for the %zu bytes of one word", length);
    *ids = scratch->ids;
    if (entry) scratch_store(entry, piece, length, scratch->ids, *count);
    return STATUS_OK;
}

static enum status encode_piece(struct encoder *encoder, const char *text, struct piece piece)
{
    const int32_t *ids;
    int64_t count;
    TRY(find_ids(encoder, text, piece.bytes, &ids, &count));
    if (piece.ascii) return push_ascii(encoder, text, ids, count);
    return push_unicode(encoder, text, piece.bytes, ids, count);
}

static bool starts_with_space(const char *text, size_t length)
{
    int32_t codepoint;
    utf8_read(text, length, &codepoint);
    return unicode_class(codepoint) == CHAR_SPACE;
}

enum status encode_bpe(struct encoder *encoder, const char *text, size_t length)
{
    if (encoder->tokenizer->prefix_space && length > 0 && !starts_with_space(text, length)) {
        struct strbuf *prefixed = &encoder->scratch->prefixed;
        strbuf_clear(prefixed);
        strbuf_append(prefixed, " ");
        strbuf_append_bytes(prefixed, text, length);
        CHECK(!prefixed->failed, STATUS_NO_MEMORY, "no memory for a text of %zu bytes", length);
        text = prefixed->text;
        length++;
        encoder->position--; /* the added space is in front of the text */
    }
    while (length > 0 && !encoder_full(encoder)) {
        struct piece piece = split_next(text, length);
        TRY(encode_piece(encoder, text, piece));
        text += piece.bytes;
        length -= piece.bytes;
    }
    bpe_work_trim(&encoder->scratch->bpe);
    return STATUS_OK;
}
