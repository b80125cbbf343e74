/*
 * Training of a byte-level BPE vocabulary (Sennrich et al., ACL 2016, algorithm 1, on bytes).
 *
 * Deterministic: the result depends on how often each piece of text occurs, not on the order of the
 * texts, the machine or the number of threads. The most frequent pair of adjacent tokens is merged;
 * of pairs that are equally frequent, the one whose left token has the smaller id, then the one
 * whose right token has. Ids go to the special tokens, to the 256 bytes in the order of the
 * characters that stand for them, then to tokens as they are made. The Hugging Face library's
 * trainer follows the same rule and so finds the same merges.
 *
 * The layout is RoBERTa's: <s> <pad> </s> <unk> are 0 to 3, <mask> is the last id.
 */
#ifndef WEFT_DATA_TOKENIZER_TRAIN_H
#define WEFT_DATA_TOKENIZER_TRAIN_H

#include <stddef.h>
#include <stdint.h>

#include "data/tokenizer/tokenizer.h"
#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    TRAIN_FIXED_TOKENS = 256 + TOKENIZER_NUM_ROLES, /* the smallest vocabulary */
    TRAIN_MAX_PIECE = 1024 /* longer pieces, in bytes, are no words and are left out */
};

/* What was counted so far. */
struct bpe_trainer_stats {
    int64_t num_texts;
    int64_t num_bytes;
    int64_t num_pieces;   /* words as the split rule makes them */
    int64_t num_distinct; /* different ones */
    int64_t num_left_out; /* pieces above TRAIN_MAX_PIECE */
};

struct bpe_trainer;

enum status bpe_trainer_create(struct bpe_trainer **out);
void bpe_trainer_destroy(struct bpe_trainer **trainer);

/* Counts the pieces of one text. INVALID, and nothing counted, when it is not UTF-8. */
enum status bpe_trainer_add(struct bpe_trainer *trainer, const char *text, size_t length);

struct bpe_trainer_stats bpe_trainer_stats(const struct bpe_trainer *trainer);

/*
 * Makes a tokenizer of at most `vocab_size` tokens: fewer when no pair is left that occurs
 * `min_frequency` times. May be called again with other numbers. Errors: INVALID (vocab_size below
 * TRAIN_FIXED_TOKENS or above 2^24, no text), NO_MEMORY.
 */
enum status bpe_trainer_train(struct bpe_trainer *trainer, int32_t vocab_size,
                              int64_t min_frequency, struct tokenizer **out);

#ifdef __cplusplus
}
#endif
#endif
