/*
 * tokenizer_encode and what surrounds the two algorithms: added tokens in the text, special tokens
 * around it, truncation, batches, spans, and the work space of a thread.
 *
 * Text is encoded front to back and stops as soon as there are more tokens than fit, so a caption
 * of a megabyte costs a training run no more than the tokens it keeps. That is exact because pieces
 * (words) do not influence each other.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "data/tokenizer/encode_impl.h"
#include "data/tokenizer/utf8.h"

/* ---- work space ----------------------------------------------------------------------------- */

enum status tokenizer_scratch_create(const struct tokenizer *tokenizer,
                                     struct tokenizer_scratch **out)
{
    struct tokenizer_scratch *scratch = calloc(1, sizeof *scratch);
    *out = scratch;
    CHECK(scratch, STATUS_NO_MEMORY, "no memory for a tokenizer's work space");
    scratch->owner = tokenizer->fingerprint;
    size_t size = CACHE_SIZE * sizeof *scratch->cache;
    scratch->cache = aligned_alloc(sizeof *scratch->cache, size);
    if (!scratch->cache) {
        tokenizer_scratch_destroy(out);
        return status_fail(STATUS_NO_MEMORY, "no memory for a tokenizer's cache of %zu bytes",
                           size);
    }
    memset(scratch->cache, 0, size);
    return STATUS_OK;
}

void tokenizer_scratch_destroy(struct tokenizer_scratch **scratch)
{
    if (!*scratch) return;
    free((*scratch)->cache);
    free((*scratch)->ids);
    bpe_work_fini(&(*scratch)->bpe);
    strbuf_fini(&(*scratch)->prefixed);
    free(*scratch);
    *scratch = NULL;
}

struct cache_entry *scratch_lookup(struct tokenizer_scratch *scratch, const char *word,
                                   size_t length, bool *hit)
{
    uint64_t hash = XXH3_64bits(word, length);
    struct cache_entry *entry = &scratch->cache[hash & (CACHE_SIZE - 1)];
    *hit = entry->length == length && memcmp(entry->word, word, length) == 0;
    return entry;
}

void scratch_store(struct cache_entry *entry, const char *word, size_t length, const int32_t *ids,
                   int64_t count)
{
    if (count > CACHE_IDS) return;
    entry->length = (uint8_t)length;
    entry->count = (uint8_t)count;
    memcpy(entry->word, word, length);
    memcpy(entry->ids, ids, (size_t)count * sizeof *ids);
}

/* ---- the result ----------------------------------------------------------------------------- */

void encoding_fini(struct encoding *encoding)
{
    free(encoding->ids);
    free(encoding->spans);
    free(encoding->flags);
    *encoding = (struct encoding){0};
}

/* Makes room for one more token. */
static enum status grow(struct encoding *out)
{
    int64_t capacity = out->capacity ? 2 * out->capacity : 64;
    int32_t *ids = realloc(out->ids, (size_t)capacity * sizeof *ids);
    if (ids) out->ids = ids;
    struct text_span *spans = realloc(out->spans, (size_t)capacity * sizeof *spans);
    if (spans) out->spans = spans;
    uint8_t *flags = realloc(out->flags, (size_t)capacity);
    if (flags) out->flags = flags;
    CHECK(ids && spans && flags, STATUS_NO_MEMORY, "no memory for %" PRId64 " tokens", capacity);
    out->capacity = capacity;
    return STATUS_OK;
}

enum status encoder_push(struct encoder *encoder, int32_t id, struct text_span span, uint8_t flags)
{
    struct encoding *out = encoder->out;
    if (out->count == out->capacity) TRY(grow(out));
    out->ids[out->count] = id;
    out->spans[out->count] = span;
    out->flags[out->count] = flags;
    out->count++;
    return STATUS_OK;
}

/* ---- encoding ------------------------------------------------------------------------------- */

static enum status encode_plain(struct encoder *encoder, const char *text, size_t length)
{
    if (encoder->tokenizer->kind == TOKENIZER_BPE) return encode_bpe(encoder, text, length);
    return encode_wordpiece(encoder, text, length);
}

/* The added token that the text starts with, NULL for none. */
static const struct added_token *match_added(const struct tokenizer *tokenizer, const char *text,
                                             size_t length, bool special)
{
    const int64_t *begin = &tokenizer->added_begin[(uint8_t)text[0]];
    for (int64_t i = begin[0]; i < begin[1]; i++) {
        const struct added_token *added = &tokenizer->added[i];
        const struct token *token = &tokenizer->vocab.tokens[added->id];
        if ((special || !added->special) && token->text_length <= length &&
            memcmp(token->text, text, token->text_length) == 0) {
            return added;
        }
    }
    return NULL;
}

/* The bytes of white space at the end (`backward`) or the start of the text. */
static size_t space_at(const char *text, size_t length, bool backward)
{
    size_t found = 0;
    while (found < length) {
        size_t at = found;
        if (backward) {
            at = length - found - 1;
            while (at > 0 && ((uint8_t)text[at] & 0xC0) == 0x80) {
                at--;
            }
        }
        size_t room = backward ? length - found - at : length - at;
        int32_t codepoint;
        size_t size = (size_t)utf8_read(text + at, room, &codepoint);
        if (unicode_class(codepoint) != CHAR_SPACE || (backward && size != room)) break;
        found += size;
    }
    return found;
}

/* Encodes what lies between added tokens, and pushes these. */
static enum status encode_with_added(struct encoder *encoder, const char *text, size_t length,
                                     bool special)
{
    const struct tokenizer *tokenizer = encoder->tokenizer;
    size_t start = 0;
    for (size_t i = 0; i < length && !encoder_full(encoder);) {
        const struct added_token *added = match_added(tokenizer, text + i, length - i, special);
        if (!added) {
            i++;
            continue;
        }
        const struct token *token = &tokenizer->vocab.tokens[added->id];
        size_t before = i - start;
        size_t stripped = added->strip_left ? space_at(text + start, before, true) : 0;
        TRY(encode_plain(encoder, text + start, before - stripped));
        encoder->position += (int32_t)utf8_count(text + i - stripped, stripped);
        struct text_span span = {encoder->position, encoder->position};
        span.end += (int32_t)utf8_count(token->text, token->text_length);
        uint8_t flags = TOKEN_WORD_START | (token->special ? TOKEN_SPECIAL : 0);
        if (!encoder_full(encoder)) TRY(encoder_push(encoder, added->id, span, flags));
        i += token->text_length;
        size_t after = added->strip_right ? space_at(text + i, length - i, false) : 0;
        encoder->position = span.end + (int32_t)utf8_count(text + i, after);
        i += after;
        start = i;
    }
    if (encoder_full(encoder)) return STATUS_OK;
    return encode_plain(encoder, text + start, length - start);
}

static enum status check_text(const char *text, size_t length, bool allow_bytes)
{
    CHECK(length <= INT32_MAX, STATUS_INVALID, "a text of %zu bytes; at most %d can be encoded",
          length, INT32_MAX);
    size_t position;
    CHECK(allow_bytes || utf8_valid(text, length, &position), STATUS_INVALID,
          "the text is not UTF-8 at byte %zu (0x%02X)", position,
          (unsigned)(uint8_t)text[position]);
    return STATUS_OK;
}

enum status tokenizer_encode(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                             const char *text, size_t length, const struct encode_options *options,
                             struct encoding *out)
{
    static const struct encode_options defaults = {0};
    if (!options) options = &defaults;
    out->count = 0;
    out->truncated = false;
    CHECK(scratch->owner == tokenizer->fingerprint, STATUS_INTERNAL,
          "the work space belongs to another tokenizer");
    TRY(check_text(text, length, options->allow_bytes));
    int64_t around = options->add_special ? 2 : 0;
    CHECK(options->max_length == 0 || options->max_length >= around, STATUS_INVALID,
          "max_length is %" PRId64 ", the special tokens alone are %" PRId64, options->max_length,
          around);
    struct encoder encoder = {.tokenizer = tokenizer, .scratch = scratch, .out = out};
    encoder.limit = options->max_length ? options->max_length - around / 2 : INT64_MAX - 1;
    const struct text_span nowhere = {0, 0};
    const uint8_t flags = TOKEN_SPECIAL | TOKEN_WORD_START;
    int32_t id;
    if (options->add_special) {
        TRY(tokenizer_require(tokenizer, TOKENIZER_BEGIN, &id));
        TRY(encoder_push(&encoder, id, nowhere, flags));
    }
    bool added = options->special_in_text ? tokenizer->num_added > 0 : tokenizer->has_plain_added;
    TRY(added ? encode_with_added(&encoder, text, length, options->special_in_text)
              : encode_plain(&encoder, text, length));
    out->truncated = encoder_full(&encoder);
    if (out->truncated) out->count = encoder.limit;
    if (options->add_special) {
        TRY(tokenizer_require(tokenizer, TOKENIZER_END, &id));
        TRY(encoder_push(&encoder, id, nowhere, flags));
    }
    return STATUS_OK;
}

/* ---- batches -------------------------------------------------------------------------------- */

enum status tokenizer_pad(const struct tokenizer *tokenizer, const struct encoding *encoding,
                          int64_t row_length, int32_t *ids, int32_t *mask)
{
    int32_t pad = -1;
    CHECK(encoding->count <= row_length, STATUS_INVALID,
          "%" PRId64 " tokens do not fit into a row of %" PRId64 "; set max_length",
          encoding->count, row_length);
    if (encoding->count < row_length) TRY(tokenizer_require(tokenizer, TOKENIZER_PAD, &pad));
    for (int64_t i = 0; i < row_length; i++) {
        bool token = i < encoding->count;
        ids[i] = token ? encoding->ids[i] : pad;
        mask[i] = token;
    }
    return STATUS_OK;
}

enum status tokenizer_encode_batch(const struct tokenizer *tokenizer,
                                   struct tokenizer_scratch *scratch, const char *const *texts,
                                   const size_t *lengths, int64_t count,
                                   const struct encode_options *options, int64_t row_length,
                                   int32_t *ids, int32_t *mask)
{
    CHECK(row_length > 0, STATUS_INVALID, "rows of %" PRId64 " tokens", row_length);
    struct encode_options row_options = options ? *options : (struct encode_options){0};
    row_options.max_length = row_length;
    struct encoding encoding = {0};
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < count && status == STATUS_OK; i++) {
        status =
            tokenizer_encode(tokenizer, scratch, texts[i], lengths[i], &row_options, &encoding);
        if (status == STATUS_OK) {
            status = tokenizer_pad(tokenizer, &encoding, row_length, ids + i * row_length,
                                   mask + i * row_length);
        }
        if (status != STATUS_OK) status = status_prefix(status, "row %" PRId64, i);
    }
    encoding_fini(&encoding);
    return status;
}

/* ---- spans ---------------------------------------------------------------------------------- */

int64_t encoding_find_char(const struct encoding *encoding, int64_t position)
{
    for (int64_t i = 0; i < encoding->count; i++) {
        if (position >= encoding->spans[i].begin && position < encoding->spans[i].end) return i;
    }
    return -1;
}

bool encoding_find_span(const struct encoding *encoding, struct text_span span, int64_t *first,
                        int64_t *last)
{
    *first = -1;
    *last = -1;
    for (int32_t i = 0; i < 3 && *first < 0; i++) {
        *first = encoding_find_char(encoding, (int64_t)span.begin + i);
    }
    for (int32_t i = 1; i <= 3 && *last < 0; i++) {
        *last = encoding_find_char(encoding, (int64_t)span.end - i);
    }
    return *first >= 0 && *last >= *first;
}
