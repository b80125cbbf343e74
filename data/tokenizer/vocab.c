#include "data/tokenizer/vocab.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

/* How much of a token a message shows, for %.*s. */
#define SHOWN(length) ((length) > 200 ? 200 : (int)(length))

enum { MAX_TOKENS = 1 << 24, MAX_TOKEN_BYTES = 1 << 20 };

void vocab_fini(struct vocab *vocab)
{
    free(vocab->tokens);
    free(vocab->slots);
    arena_fini(&vocab->arena);
    *vocab = (struct vocab){0};
}

static enum status reserve(struct vocab *vocab, int64_t count)
{
    if (count <= vocab->capacity) return STATUS_OK;
    int64_t capacity = vocab->capacity ? vocab->capacity : 1024;
    while (capacity < count) {
        capacity *= 2;
    }
    struct token *tokens = realloc(vocab->tokens, (size_t)capacity * sizeof *tokens);
    CHECK(tokens, STATUS_NO_MEMORY, "no memory for a vocabulary of %" PRId64 " tokens", capacity);
    memset(tokens + vocab->capacity, 0,
           (size_t)(capacity - vocab->capacity) * sizeof *vocab->tokens);
    vocab->tokens = tokens;
    vocab->capacity = (int32_t)capacity;
    return STATUS_OK;
}

enum status vocab_place(struct vocab *vocab, const char *file, const char *text, size_t length,
                        int64_t id, int64_t limit)
{
    CHECK(limit <= MAX_TOKENS, STATUS_UNSUPPORTED,
          "%s: %" PRId64 " tokens, at most %d are supported", file, limit, MAX_TOKENS);
    CHECK(length <= MAX_TOKEN_BYTES, STATUS_CORRUPT,
          "%s: a token of %zu bytes, at most %d are supported", file, length, MAX_TOKEN_BYTES);
    CHECK(id >= 0 && id < limit, STATUS_CORRUPT,
          "%s: token '%.*s' has id %" PRId64 "; with %" PRId64
          " tokens the ids must be 0 to %" PRId64 " without a gap",
          file, SHOWN(length), text, id, limit, limit - 1);
    TRY(reserve(vocab, id + 1));
    struct token *token = &vocab->tokens[id];
    CHECK(!token->text, STATUS_CORRUPT, "%s: tokens '%s' and '%.*s' have the same id %" PRId64,
          file, token->text, SHOWN(length), text, id);
    token->text = arena_strndup(&vocab->arena, text, length);
    CHECK(token->text, STATUS_NO_MEMORY, "%s: no memory for the vocabulary", file);
    token->text_length = (uint32_t)length;
    token->bytes = token->text;
    token->bytes_length = token->text_length;
    if (id >= vocab->count) vocab->count = (int32_t)id + 1;
    if (length > vocab->max_text) vocab->max_text = (uint32_t)length;
    return STATUS_OK;
}

/* The slot that holds `text`, or the free one where it belongs. */
static uint32_t find_slot(const struct vocab *vocab, const char *text, size_t length)
{
    uint32_t mask = vocab->num_slots - 1;
    uint32_t slot = (uint32_t)XXH3_64bits(text, length) & mask;
    for (; vocab->slots[slot] >= 0; slot = (slot + 1) & mask) {
        const struct token *token = &vocab->tokens[vocab->slots[slot]];
        if (token->text_length == length && memcmp(token->text, text, length) == 0) break;
    }
    return slot;
}

int32_t vocab_find(const struct vocab *vocab, const char *text, size_t length)
{
    if (!vocab->slots) return -1;
    return vocab->slots[find_slot(vocab, text, length)];
}

/* Makes the table for at least `count` tokens at most half full and enters all tokens. */
static enum status rebuild(struct vocab *vocab, int64_t count, int32_t duplicate[2])
{
    uint32_t num_slots = 64;
    while (num_slots < 2 * count) {
        num_slots *= 2;
    }
    free(vocab->slots);
    vocab->slots = malloc(num_slots * sizeof *vocab->slots);
    CHECK(vocab->slots, STATUS_NO_MEMORY, "no memory for the index of %" PRId64 " tokens", count);
    memset(vocab->slots, 0xFF, num_slots * sizeof *vocab->slots);
    vocab->num_slots = num_slots;
    for (int32_t id = 0; id < vocab->count; id++) {
        const struct token *token = &vocab->tokens[id];
        uint32_t slot = find_slot(vocab, token->text, token->text_length);
        if (vocab->slots[slot] >= 0) {
            duplicate[0] = vocab->slots[slot];
            duplicate[1] = id;
        } else {
            vocab->slots[slot] = id;
        }
    }
    return STATUS_OK;
}

enum status vocab_index(struct vocab *vocab, const char *file)
{
    CHECK(vocab->count > 0, STATUS_CORRUPT, "%s: holds no tokens", file);
    for (int32_t id = 0; id < vocab->count; id++) {
        CHECK(vocab->tokens[id].text, STATUS_CORRUPT,
              "%s: no token has id %" PRId32 ", but the largest id is %" PRId32
              "; the file is damaged or was edited",
              file, id, vocab->count - 1);
    }
    int32_t duplicate[2] = {-1, -1};
    TRY(rebuild(vocab, vocab->count, duplicate));
    CHECK(duplicate[0] < 0, STATUS_CORRUPT,
          "%s: token '%s' is there twice, with ids %" PRId32 " and %" PRId32, file,
          vocab->tokens[duplicate[0]].text, duplicate[0], duplicate[1]);
    return STATUS_OK;
}

enum status vocab_append(struct vocab *vocab, const char *text, size_t length, int32_t *id)
{
    CHECK(vocab_find(vocab, text, length) < 0, STATUS_INVALID,
          "token '%.*s' is in the vocabulary already", SHOWN(length), text);
    *id = vocab->count;
    TRY(vocab_place(vocab, "added token", text, length, *id, (int64_t)*id + 1));
    if (2 * (int64_t)vocab->count > vocab->num_slots) {
        int32_t duplicate[2];
        return rebuild(vocab, vocab->count, duplicate);
    }
    vocab->slots[find_slot(vocab, text, length)] = *id;
    return STATUS_OK;
}
