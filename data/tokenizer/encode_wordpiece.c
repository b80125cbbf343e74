/*
 * BERT's tokenization: clean-up, Chinese characters and punctuation as words of their own, accents
 * and case off, then the longest piece of the vocabulary from the left, continuations written ##
 * (Devlin et al., NAACL 2019; Wu et al., arXiv 1609.08144 for WordPiece).
 *
 * Every step of the normalisation looks at one character, so the text goes through all of them
 * character by character into the word being collected; no normalised copy of the text is made, and
 * each character of the word keeps where it came from.
 */
#include <string.h>

#include "data/tokenizer/encode_impl.h"
#include "data/tokenizer/utf8.h"

/* The longest token at `start` of the word: its id, and its end in `*next`. -1 for none. */
static int32_t longest_piece(const struct vocab *vocab, const struct word *word, int32_t start,
                             int32_t *next)
{
    char piece[sizeof word->bytes + 2];
    size_t prefix = start > 0 ? 2 : 0;
    piece[0] = piece[1] = '#';
    int32_t end = word->count;
    while (end > start && word->start[end] - word->start[start] + prefix > vocab->max_text) {
        end--;
    }
    size_t length = (size_t)(word->start[end] - word->start[start]);
    memcpy(piece + prefix, word->bytes + word->start[start], length);
    for (; end > start; end--) {
        length = (size_t)(word->start[end] - word->start[start]);
        int32_t id = vocab_find(vocab, piece, prefix + length);
        if (id >= 0) {
            *next = end;
            return id;
        }
    }
    return -1;
}

/* Fills ids with the pieces of the word; a word that cannot be covered is one unknown token. */
static int32_t find_pieces(const struct tokenizer *tokenizer, const struct word *word, int32_t *ids)
{
    int32_t count = 0;
    for (int32_t start = 0; start < word->count; count++) {
        ids[count] = longest_piece(&tokenizer->vocab, word, start, &start);
        if (ids[count] < 0) {
            ids[0] = tokenizer->special[TOKENIZER_UNKNOWN];
            return 1;
        }
    }
    return count;
}

/* Pushes the tokens of the word with the characters that they came from. */
static enum status push_word(struct encoder *encoder, const int32_t *ids, int32_t count)
{
    const struct word *word = &encoder->scratch->word;
    if (count == 1) {
        struct text_span span = {word->source[0], word->last + 1};
        return encoder_push(encoder, ids[0], span, TOKEN_WORD_START);
    }
    int32_t at = 0;
    for (int32_t i = 0; i < count; i++) {
        uint32_t bytes = encoder->tokenizer->vocab.tokens[ids[i]].text_length - (i > 0 ? 2 : 0);
        int32_t end = at;
        while (word->start[end] < word->start[at] + bytes) {
            end++;
        }
        struct text_span span = {word->source[at], word->source[end - 1] + 1};
        TRY(encoder_push(encoder, ids[i], span, i == 0 ? TOKEN_WORD_START : 0));
        at = end;
    }
    return STATUS_OK;
}

/* Ends the word being collected. */
static enum status flush_word(struct encoder *encoder)
{
    const struct tokenizer *tokenizer = encoder->tokenizer;
    struct word *word = &encoder->scratch->word;
    if (word->count == 0) return STATUS_OK;
    enum status status;
    int32_t ids[WORD_CHARS];
    if (word->count > tokenizer->wordpiece.max_word) {
        status = push_word(encoder, &tokenizer->special[TOKENIZER_UNKNOWN], 1);
    } else {
        size_t length = word->start[word->count];
        struct cache_entry *entry = NULL;
        bool hit = false;
        if (length <= CACHE_WORD) {
            entry = scratch_lookup(encoder->scratch, word->bytes, length, &hit);
        }
        if (hit) {
            status = push_word(encoder, entry->ids, entry->count);
        } else {
            int32_t count = find_pieces(tokenizer, word, ids);
            if (entry) scratch_store(entry, word->bytes, length, ids, count);
            status = push_word(encoder, ids, count);
        }
    }
    word->count = 0;
    return status;
}

/* Adds a normalised character to the word. */
static void append(struct word *word, int32_t codepoint, int32_t source)
{
    if (word->count < WORD_CHARS) {
        if (word->count == 0) word->start[0] = 0;
        uint16_t at = word->start[word->count];
        word->source[word->count] = source;
        word->start[word->count + 1] = (uint16_t)(at + utf8_write(codepoint, word->bytes + at));
    }
    word->last = source;
    word->count++;
}

/* A character after clean-up and accents: white space and punctuation end words. */
static enum status take_normalised(struct encoder *encoder, int32_t codepoint, int32_t source)
{
    if (unicode_class(codepoint) == CHAR_SPACE) return flush_word(encoder);
    bool alone = unicode_is_punctuation(codepoint);
    if (alone) TRY(flush_word(encoder));
    append(&encoder->scratch->word, codepoint, source);
    return alone ? flush_word(encoder) : STATUS_OK;
}

static enum status take_character(struct encoder *encoder, int32_t codepoint, int32_t source)
{
    const struct wordpiece *rules = &encoder->tokenizer->wordpiece;
    if (codepoint < 0) return STATUS_OK; /* not UTF-8: dropped */
    if (rules->clean_text &&
        (codepoint == 0 || codepoint == 0xFFFD || unicode_is_control(codepoint))) {
        return STATUS_OK;
    }
    bool alone = rules->split_cjk && unicode_is_cjk(codepoint);
    if (alone) TRY(flush_word(encoder));
    int32_t parts[UNICODE_MAX_DECOMPOSED] = {codepoint};
    int num_parts = rules->strip_accents ? unicode_strip_accents(codepoint, parts) : 1;
    for (int i = 0; i < num_parts; i++) {
        int32_t lower[2] = {parts[i], 0};
        int num_lower = rules->lower_case ? unicode_lower(parts[i], lower) : 1;
        for (int k = 0; k < num_lower; k++) {
            TRY(take_normalised(encoder, lower[k], source));
        }
    }
    return alone ? flush_word(encoder) : STATUS_OK;
}

/* Letters and digits of ASCII, which are most of all text, need none of the rules but case. */
static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

enum status encode_wordpiece(struct encoder *encoder, const char *text, size_t length)
{
    struct word *word = &encoder->scratch->word;
    bool lower_case = encoder->tokenizer->wordpiece.lower_case;
    word->count = 0;
    for (size_t i = 0; i < length && !encoder_full(encoder);) {
        int32_t source = encoder->position++;
        if (is_plain(text[i])) {
            char c = text[i++];
            append(word, lower_case && c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c, source);
            continue;
        }
        int32_t codepoint;
        i += (size_t)utf8_read(text + i, length - i, &codepoint);
        TRY(take_character(encoder, codepoint, source));
    }
    return flush_word(encoder);
}
