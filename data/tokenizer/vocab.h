/*
 * The tokens of a vocabulary: id to token and token to id. Built once, then read-only.
 */
#ifndef WEFT_DATA_TOKENIZER_VOCAB_H
#define WEFT_DATA_TOKENIZER_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/arena.h"
#include "runtime/base/status.h"

struct token {
    const char *text;      /* as the file writes it, NUL-terminated; NULL while the id is free */
    const char *bytes;     /* what it stands for in the text */
    uint32_t text_length;  /* bytes of `text` */
    uint32_t bytes_length; /* bytes of `bytes` */
    bool special;          /* left out of decoded text on request, never masked */
    bool added;            /* looked for in the text itself */
};

struct vocab {
    struct token *tokens; /* [count] by id */
    int32_t count;        /* ids are [0, count) */
    int32_t capacity;
    int32_t *slots; /* hash table of ids by `text`, -1 is free; [num_slots], a power of two */
    uint32_t num_slots;
    uint32_t max_text; /* the longest `text` in bytes */
    struct arena arena;
};

void vocab_fini(struct vocab *vocab);

/*
 * Gives `text` (copied) the id `id`, which must be free and below `limit`. `bytes` is at first the
 * same as `text`. `file` is for messages. CORRUPT when the id is taken or out of range.
 */
enum status vocab_place(struct vocab *vocab, const char *file, const char *text, size_t length,
                        int64_t id, int64_t limit);

/* Checks that the ids have no gap and the tokens no duplicate (CORRUPT), and builds the index. */
enum status vocab_index(struct vocab *vocab, const char *file);

/* Adds a token behind the last id of an indexed vocabulary; INVALID when it exists. */
enum status vocab_append(struct vocab *vocab, const char *text, size_t length, int32_t *id);

/* The id of a token, -1 when there is none. */
int32_t vocab_find(const struct vocab *vocab, const char *text, size_t length);

#endif
