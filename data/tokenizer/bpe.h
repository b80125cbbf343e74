/*
 * Byte-level byte-pair encoding of one piece of text (Sennrich, Haddow, Birch: "Neural machine
 * translation of rare words with subword units", ACL 2016, on bytes as in GPT-2): of all adjacent
 * pairs of tokens the one with the lowest rank is merged, the leftmost first, until no pair is left
 * that has a rank.
 */
#ifndef WEFT_DATA_TOKENIZER_BPE_H
#define WEFT_DATA_TOKENIZER_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

struct merge {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX is a free slot */
    uint32_t rank;
    int32_t id; /* the token they make */
};

/* The merges, indexed by pair. Read-only after loading. */
struct bpe {
    struct merge *slots; /* [num_slots], a power of two, open addressing */
    uint32_t num_slots;
    int32_t num_merges;
    int32_t byte_id[256]; /* the token of a single byte, -1 for none */
    bool complete;        /* every byte has one */
};

/* Work space of bpe_encode; grows to the longest piece seen. Zero-initialise. */
struct bpe_work {
    void *memory;
    size_t size;
};

/* Prepares for `num_merges` merges. */
enum status bpe_init(struct bpe *bpe, int64_t num_merges);
void bpe_fini(struct bpe *bpe);

/* Enters a merge with the next rank. False when the pair has one already. */
bool bpe_add_merge(struct bpe *bpe, int32_t left, int32_t right, int32_t id);

/*
 * Encodes bytes[0..length) as one piece into ids (room for `length`); a byte that has no token
 * gives -1. Returns the number of tokens, -1 when memory is out. n^2 for short pieces, n log n for
 * others.
 */
int64_t bpe_encode(const struct bpe *bpe, struct bpe_work *work, const char *bytes, size_t length,
                   int32_t *ids);

/* Frees work space that one huge piece left behind. */
void bpe_work_trim(struct bpe_work *work);
void bpe_work_fini(struct bpe_work *work);

#endif
