/*
 * Words are counted once; training works on the distinct ones. Each pair of adjacent tokens has a
 * count and a list of the words where it was seen, so that a merge touches those words only. A heap
 * yields the most frequent pair; counts that fell since an entry was pushed are found out when it
 * surfaces, and it is pushed again with the true count. Counts that rise push an entry at once, so
 * the heap always holds an entry at least as high as each pair's count.
 *
 * Lists of words are not shortened when a pair leaves a word, and may name a word twice: a word is
 * searched for the pair before it is touched.
 */
#include "data/tokenizer/train.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "data/tokenizer/bytemap.h"
#include "data/tokenizer/split.h"
#include "data/tokenizer/tokenizer_impl.h"
#include "data/tokenizer/utf8.h"

struct word_count {
    const char *bytes; /* NULL: a free slot */
    uint32_t length;
    int64_t count;
};

struct bpe_trainer {
    struct word_count *words; /* [num_slots], a power of two, open addressing */
    int64_t num_slots;
    struct arena arena; /* the bytes of words */
    struct bpe_trainer_stats stats;
};

/* ---- counting words ------------------------------------------------------------------------- */

enum status bpe_trainer_create(struct bpe_trainer **out)
{
    struct bpe_trainer *trainer = calloc(1, sizeof *trainer);
    *out = trainer;
    CHECK(trainer, STATUS_NO_MEMORY, "no memory for a trainer");
    trainer->num_slots = 1 << 12;
    trainer->words = calloc((size_t)trainer->num_slots, sizeof *trainer->words);
    if (!trainer->words) {
        bpe_trainer_destroy(out);
        return status_fail(STATUS_NO_MEMORY, "no memory for a trainer");
    }
    return STATUS_OK;
}

void bpe_trainer_destroy(struct bpe_trainer **trainer)
{
    if (!*trainer) return;
    free((*trainer)->words);
    arena_fini(&(*trainer)->arena);
    free(*trainer);
    *trainer = NULL;
}

static struct word_count *find_word(struct word_count *words, int64_t num_slots, const char *bytes,
                                    size_t length)
{
    uint64_t slot = XXH3_64bits(bytes, length) & (uint64_t)(num_slots - 1);
    while (words[slot].bytes &&
           (words[slot].length != length || memcmp(words[slot].bytes, bytes, length) != 0)) {
        slot = (slot + 1) & (uint64_t)(num_slots - 1);
    }
    return &words[slot];
}

static enum status grow_words(struct bpe_trainer *trainer)
{
    int64_t num_slots = 2 * trainer->num_slots;
    struct word_count *words = calloc((size_t)num_slots, sizeof *words);
    CHECK(words, STATUS_NO_MEMORY, "no memory for %" PRId64 " words", num_slots / 2);
    for (int64_t i = 0; i < trainer->num_slots; i++) {
        const struct word_count *word = &trainer->words[i];
        if (word->bytes) *find_word(words, num_slots, word->bytes, word->length) = *word;
    }
    free(trainer->words);
    trainer->words = words;
    trainer->num_slots = num_slots;
    return STATUS_OK;
}

static enum status count_word(struct bpe_trainer *trainer, const char *bytes, size_t length)
{
    struct word_count *word = find_word(trainer->words, trainer->num_slots, bytes, length);
    trainer->stats.num_pieces++;
    if (word->bytes) {
        word->count++;
        return STATUS_OK;
    }
    word->bytes = arena_strndup(&trainer->arena, bytes, length);
    CHECK(word->bytes, STATUS_NO_MEMORY, "no memory for %" PRId64 " words",
          trainer->stats.num_distinct);
    word->length = (uint32_t)length;
    word->count = 1;
    trainer->stats.num_distinct++;
    return 2 * trainer->stats.num_distinct > trainer->num_slots ? grow_words(trainer) : STATUS_OK;
}

enum status bpe_trainer_add(struct bpe_trainer *trainer, const char *text, size_t length)
{
    size_t position;
    CHECK(utf8_valid(text, length, &position), STATUS_INVALID,
          "the text is not UTF-8 at byte %zu (0x%02X)", position,
          (unsigned)(uint8_t)text[position]);
    trainer->stats.num_texts++;
    trainer->stats.num_bytes += (int64_t)length;
    while (length > 0) {
        struct piece piece = split_next(text, length);
        if (piece.bytes <= TRAIN_MAX_PIECE) {
            TRY(count_word(trainer, text, piece.bytes));
        } else {
            trainer->stats.num_left_out++;
        }
        text += piece.bytes;
        length -= piece.bytes;
    }
    return STATUS_OK;
}

struct bpe_trainer_stats bpe_trainer_stats(const struct bpe_trainer *trainer)
{
    return trainer->stats;
}

/* ---- pairs ---------------------------------------------------------------------------------- */

struct train_word {
    int32_t *ids; /* [length], in the pool */
    int32_t length;
    int64_t count; /* how often the word occurs */
};

struct train_pair {
    uint64_t pair; /* left id << 32 | right id */
    int64_t count;
    int64_t queued;  /* the heap holds an entry with this count, or 0 */
    uint32_t *words; /* owned; [num_words] where the pair was seen */
    uint32_t num_words;
    uint32_t capacity; /* 0: a free slot */
};

struct heap_entry {
    int64_t count;
    uint64_t pair;
};

struct training {
    struct tokenizer *tokenizer;
    struct train_word *words; /* [num_words] */
    int64_t num_words;
    int32_t *pool;
    struct train_pair *pairs; /* [num_slots], a power of two, open addressing */
    int64_t num_slots;
    int64_t num_pairs;
    struct heap_entry *heap;
    int64_t heap_size;
    int64_t heap_capacity;
};

static void training_fini(struct training *training)
{
    for (int64_t i = 0; training->pairs && i < training->num_slots; i++) {
        free(training->pairs[i].words);
    }
    free(training->pairs);
    free(training->words);
    free(training->pool);
    free(training->heap);
}

/* More frequent first, then the smaller ids. */
static bool goes_first(const struct heap_entry *a, const struct heap_entry *b)
{
    return a->count != b->count ? a->count > b->count : a->pair < b->pair;
}

/* Enters a pair with its count, unless the heap holds an entry that is as high. */
static enum status push_pair(struct training *training, struct train_pair *pair)
{
    if (pair->count <= pair->queued) return STATUS_OK;
    struct heap_entry entry = {pair->count, pair->pair};
    pair->queued = pair->count;
    if (training->heap_size == training->heap_capacity) {
        int64_t capacity = training->heap_capacity ? 2 * training->heap_capacity : 1024;
        struct heap_entry *heap = realloc(training->heap, (size_t)capacity * sizeof *heap);
        CHECK(heap, STATUS_NO_MEMORY, "no memory for %" PRId64 " pairs", capacity);
        training->heap = heap;
        training->heap_capacity = capacity;
    }
    struct heap_entry *heap = training->heap;
    int64_t i = training->heap_size++;
    for (; i > 0 && goes_first(&entry, &heap[(i - 1) / 2]); i = (i - 1) / 2) {
        heap[i] = heap[(i - 1) / 2];
    }
    heap[i] = entry;
    return STATUS_OK;
}

static struct heap_entry pop_entry(struct training *training)
{
    struct heap_entry *heap = training->heap;
    struct heap_entry first = heap[0];
    int64_t size = --training->heap_size;
    struct heap_entry entry = heap[size];
    int64_t i = 0;
    for (int64_t child = 1; child < size; child = 2 * i + 1) {
        if (child + 1 < size && goes_first(&heap[child + 1], &heap[child])) child++;
        if (!goes_first(&heap[child], &entry)) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = entry;
    return first;
}

static uint64_t make_pair(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static struct train_pair *find_pair(struct train_pair *pairs, int64_t num_slots, uint64_t pair)
{
    uint64_t slot = ((pair * 0x9E3779B97F4A7C15u) >> 20) & (uint64_t)(num_slots - 1);
    while (pairs[slot].capacity && pairs[slot].pair != pair) {
        slot = (slot + 1) & (uint64_t)(num_slots - 1);
    }
    return &pairs[slot];
}

static enum status grow_pairs(struct training *training)
{
    int64_t num_slots = training->num_slots ? 2 * training->num_slots : 1 << 12;
    struct train_pair *pairs = calloc((size_t)num_slots, sizeof *pairs);
    CHECK(pairs, STATUS_NO_MEMORY, "no memory for %" PRId64 " pairs", num_slots / 2);
    for (int64_t i = 0; i < training->num_slots; i++) {
        const struct train_pair *pair = &training->pairs[i];
        if (pair->capacity) *find_pair(pairs, num_slots, pair->pair) = *pair;
    }
    free(training->pairs);
    training->pairs = pairs;
    training->num_slots = num_slots;
    return STATUS_OK;
}

/* Adds a word to the list of a pair, which is made when it is new. */
static enum status note_word(struct train_pair *pair, uint32_t word)
{
    if (pair->num_words > 0 && pair->words[pair->num_words - 1] == word) return STATUS_OK;
    if (pair->num_words == pair->capacity) {
        uint32_t capacity = pair->capacity ? 2 * pair->capacity : 4;
        uint32_t *words = realloc(pair->words, capacity * sizeof *words);
        CHECK(words, STATUS_NO_MEMORY, "no memory for the words of a pair");
        pair->words = words;
        pair->capacity = capacity;
    }
    pair->words[pair->num_words++] = word;
    return STATUS_OK;
}

/* Counts the pair (left, right) of a word `sign` times its count; `note` lists the word with it. */
static enum status count_pair(struct training *training, int32_t left, int32_t right, uint32_t word,
                              int sign, bool note)
{
    if (2 * (training->num_pairs + 1) > training->num_slots) TRY(grow_pairs(training));
    uint64_t key = make_pair(left, right);
    struct train_pair *pair = find_pair(training->pairs, training->num_slots, key);
    if (!pair->capacity) {
        training->num_pairs++;
        pair->pair = key;
    }
    pair->count += sign * training->words[word].count;
    return note || !pair->capacity ? note_word(pair, word) : STATUS_OK;
}

/* ---- training ------------------------------------------------------------------------------- */

/* Places the special tokens that come first and the 256 bytes. <mask> is appended at the end. */
static enum status place_fixed(struct tokenizer *tokenizer)
{
    struct vocab *vocab = &tokenizer->vocab;
    int32_t id;
    for (int role = 0; role < TOKENIZER_MASK; role++) {
        const char *name = tokenizer_role_names[TOKENIZER_BPE][role];
        TRY(vocab_append(vocab, name, strlen(name), &id));
    }
    for (int32_t character = 0; character < 512; character++) {
        int byte = bytemap_byte(character);
        if (byte < 0) continue;
        char text[2];
        uint8_t raw = (uint8_t)byte;
        size_t length = bytemap_encode(&raw, 1, text);
        TRY(vocab_append(vocab, text, length, &tokenizer->bpe.byte_id[byte]));
    }
    return STATUS_OK;
}

/* Lays out the words as tokens of single bytes and counts their pairs. */
static enum status start_training(struct training *training, const struct bpe_trainer *trainer)
{
    int64_t num_words = trainer->stats.num_distinct;
    size_t size = 0;
    for (int64_t i = 0; i < trainer->num_slots; i++) {
        if (trainer->words[i].bytes) size += trainer->words[i].length;
    }
    training->words = calloc((size_t)num_words, sizeof *training->words);
    training->pool = malloc((size + 1) * sizeof *training->pool);
    CHECK(training->words && training->pool && num_words < UINT32_MAX, STATUS_NO_MEMORY,
          "no memory to train on %" PRId64 " words", num_words);
    int32_t *ids = training->pool;
    for (int64_t i = 0; i < trainer->num_slots; i++) {
        const struct word_count *word = &trainer->words[i];
        if (!word->bytes) continue;
        uint32_t index = (uint32_t)training->num_words++;
        training->words[index] = (struct train_word){ids, (int32_t)word->length, word->count};
        for (uint32_t k = 0; k < word->length; k++) {
            ids[k] = training->tokenizer->bpe.byte_id[(uint8_t)word->bytes[k]];
            if (k > 0) TRY(count_pair(training, ids[k - 1], ids[k], index, 1, true));
        }
        ids += word->length;
    }
    for (int64_t i = 0; i < training->num_slots; i++) {
        if (training->pairs[i].capacity) TRY(push_pair(training, &training->pairs[i]));
    }
    return STATUS_OK;
}

/* Counts all pairs of a word `sign` times; lists the word with those that hold `id`. */
static enum status count_pairs_of(struct training *training, uint32_t index, int sign, int32_t id)
{
    const struct train_word *word = &training->words[index];
    for (int32_t i = 0; i + 1 < word->length; i++) {
        bool note = word->ids[i] == id || word->ids[i + 1] == id;
        TRY(count_pair(training, word->ids[i], word->ids[i + 1], index, sign, note));
    }
    return STATUS_OK;
}

/* Replaces left, right by `id` in a word, left to right, and pushes the pairs that it made. */
static enum status merge_word(struct training *training, uint32_t index, int32_t left,
                              int32_t right, int32_t id)
{
    struct train_word *word = &training->words[index];
    bool found = false;
    for (int32_t i = 0; i + 1 < word->length && !found; i++) {
        found = word->ids[i] == left && word->ids[i + 1] == right;
    }
    if (!found) return STATUS_OK;
    TRY(count_pairs_of(training, index, -1, -1));
    int32_t length = 0;
    for (int32_t i = 0; i < word->length; length++) {
        bool here = i + 1 < word->length && word->ids[i] == left && word->ids[i + 1] == right;
        word->ids[length] = here ? id : word->ids[i];
        i += here ? 2 : 1;
    }
    word->length = length;
    return count_pairs_of(training, index, 1, id);
}

/* After a merge: entries for the pairs with the new token in the words that it went through. */
static enum status push_new_pairs(struct training *training, const uint32_t *words,
                                  uint32_t num_words, int32_t id)
{
    for (uint32_t k = 0; k < num_words; k++) {
        const struct train_word *word = &training->words[words[k]];
        for (int32_t i = 0; i + 1 < word->length; i++) {
            if (word->ids[i] != id && word->ids[i + 1] != id) continue;
            uint64_t key = make_pair(word->ids[i], word->ids[i + 1]);
            TRY(push_pair(training, find_pair(training->pairs, training->num_slots, key)));
        }
    }
    return STATUS_OK;
}

static bool is_special_name(const char *text, size_t length)
{
    for (int role = 0; role < TOKENIZER_NUM_ROLES; role++) {
        const char *name = tokenizer_role_names[TOKENIZER_BPE][role];
        if (strlen(name) == length && memcmp(name, text, length) == 0) return true;
    }
    return false;
}

/* The token of two tokens: new, or one that other parts made before. -1 when text must not become
 * it, because it is the name of a special token. */
static enum status join_tokens(struct tokenizer *tokenizer, int32_t left, int32_t right,
                               int32_t *id)
{
    const struct token *a = &tokenizer->vocab.tokens[left];
    const struct token *b = &tokenizer->vocab.tokens[right];
    char text[4 * TRAIN_MAX_PIECE];
    size_t length = (size_t)a->text_length + b->text_length;
    assert(length <= sizeof text);
    memcpy(text, a->text, a->text_length);
    memcpy(text + a->text_length, b->text, b->text_length);
    *id = -1;
    if (is_special_name(text, length)) return STATUS_OK;
    *id = vocab_find(&tokenizer->vocab, text, length);
    if (*id < 0) TRY(vocab_append(&tokenizer->vocab, text, length, id));
    bpe_add_merge(&tokenizer->bpe, left, right, *id);
    return STATUS_OK;
}

static enum status apply_merge(struct training *training, uint64_t key)
{
    int32_t left = (int32_t)(key >> 32);
    int32_t right = (int32_t)(uint32_t)key;
    int32_t id;
    TRY(join_tokens(training->tokenizer, left, right, &id));
    if (id < 0) return STATUS_OK;
    /* The table may grow while words change, but not this list: words are listed with pairs that
     * hold the new token, which is longer than both of these. */
    struct train_pair *pair = find_pair(training->pairs, training->num_slots, key);
    const uint32_t *words = pair->words;
    uint32_t num_words = pair->num_words;
    pair->num_words = 0;
    for (uint32_t k = 0; k < num_words; k++) {
        TRY(merge_word(training, words[k], left, right, id));
    }
    return push_new_pairs(training, words, num_words, id);
}

static enum status run_training(struct training *training, int32_t vocab_size,
                                int64_t min_frequency)
{
    const struct tokenizer *tokenizer = training->tokenizer;
    int32_t last = vocab_size - 1; /* one is left for <mask> */
    while (training->heap_size > 0 && tokenizer->vocab.count < last &&
           tokenizer->bpe.num_merges < vocab_size) {
        struct heap_entry entry = pop_entry(training);
        struct train_pair *pair = find_pair(training->pairs, training->num_slots, entry.pair);
        if (entry.count == pair->queued) pair->queued = 0;
        if (entry.count > pair->count) {
            TRY(push_pair(training, pair));
        } else if (entry.count == pair->count) {
            if (entry.count < min_frequency || entry.count < 1) break;
            TRY(apply_merge(training, entry.pair));
        }
    }
    return STATUS_OK;
}

static enum status train(const struct bpe_trainer *trainer, struct tokenizer *tokenizer,
                         int32_t vocab_size, int64_t min_frequency)
{
    tokenizer->kind = TOKENIZER_BPE;
    TRY(bpe_init(&tokenizer->bpe, vocab_size));
    TRY(place_fixed(tokenizer));
    struct training training = {.tokenizer = tokenizer};
    enum status status = start_training(&training, trainer);
    if (status == STATUS_OK) status = run_training(&training, vocab_size, min_frequency);
    training_fini(&training);
    TRY(status);
    TRY(tokenizer_map_bytes(tokenizer));
    int32_t id;
    const char *mask = tokenizer_role_names[TOKENIZER_BPE][TOKENIZER_MASK];
    TRY(vocab_append(&tokenizer->vocab, mask, strlen(mask), &id));
    return tokenizer_finish(tokenizer, "the trained vocabulary", NULL);
}

enum status bpe_trainer_train(struct bpe_trainer *trainer, int32_t vocab_size,
                              int64_t min_frequency, struct tokenizer **out)
{
    *out = NULL;
    CHECK(vocab_size >= TRAIN_FIXED_TOKENS && vocab_size <= 1 << 24, STATUS_INVALID,
          "a vocabulary of %" PRId32
          " tokens; it needs %d for bytes and special tokens, and at most "
          "%d are supported",
          vocab_size, TRAIN_FIXED_TOKENS, 1 << 24);
    CHECK(trainer->stats.num_pieces > 0, STATUS_INVALID, "there is no text to train on");
    TRY(tokenizer_create(out));
    enum status status = train(trainer, *out, vocab_size, min_frequency);
    if (status != STATUS_OK) tokenizer_destroy(out);
    return status;
}
