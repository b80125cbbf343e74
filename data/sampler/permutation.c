#include "data/sampler/permutation.h"

#include <assert.h>

enum { ROUNDS = 6 };

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xBF58476D1CE4E5B9u;
    x ^= x >> 27;
    x *= 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

struct permutation permutation_make(uint64_t key, uint64_t count)
{
    assert(count >= 1);
    int bits = 2;
    while (bits < 64 && (count - 1) >> bits) {
        bits++;
    }
    return (struct permutation){
        .key = key, .count = count, .left_bits = bits / 2, .right_bits = bits - bits / 2};
}

/* One pass of the network: the halves change in turn, so that they may differ in width. */
static uint64_t encrypt(const struct permutation *p, uint64_t value)
{
    uint64_t left_mask = ((uint64_t)1 << p->left_bits) - 1;
    uint64_t right_mask = ((uint64_t)1 << p->right_bits) - 1;
    uint64_t left = value >> p->right_bits;
    uint64_t right = value & right_mask;
    for (uint64_t round = 0; round < ROUNDS; round += 2) {
        left ^= mix(p->key + (right << 4) + round) & left_mask;
        right ^= mix(p->key + (left << 4) + round + 1) & right_mask;
    }
    return left << p->right_bits | right;
}

uint64_t permutation_at(const struct permutation *permutation, uint64_t index)
{
    do {
        index = encrypt(permutation, index);
    } while (index >= permutation->count);
    return index;
}
