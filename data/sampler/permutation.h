/*
 * Keyed permutations of [0, n) in constant memory: a Feistel network on just enough bits, walked
 * until it lands inside (Black, Rogaway: "Ciphers with arbitrary finite domains", CT-RSA 2002,
 * section 3). Fewer than two walks on average.
 */
#ifndef WEFT_DATA_SAMPLER_PERMUTATION_H
#define WEFT_DATA_SAMPLER_PERMUTATION_H

#include <stdint.h>

struct permutation {
    uint64_t key;
    uint64_t count;
    int left_bits;
    int right_bits;
};

/* The permutation of [0, count) of this key; count >= 1. */
struct permutation permutation_make(uint64_t key, uint64_t count);

/* Where `index` (below count) goes. */
uint64_t permutation_at(const struct permutation *permutation, uint64_t index);

#endif
