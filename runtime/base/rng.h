/*
 * Counter-based random numbers: Philox4x32-10.
 *
 * Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Every random
 * number of weft is a function of what it is for, never of how many were drawn before it:
 *
 *     key     = hash(seed, purpose, site)          what is being drawn, and where in the model or
 * pipeline counter = (element / 4, sample, step)        for which element of which sample at which
 * step
 *
 * so shuffles, augmentation, masks and dropout do not depend on rank count, thread count or
 * restarts.
 */
#ifndef WEFT_RUNTIME_BASE_RNG_H
#define WEFT_RUNTIME_BASE_RNG_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Kernels draw the same numbers by the same code. */
#if defined(__CUDACC__)
#define RNG_INLINE static inline __host__ __device__
#else
#define RNG_INLINE static inline
#endif

/* What a stream of numbers is for. Values are part of the checkpoint contract: append, never
 * renumber. */
enum rng_purpose {
    RNG_INIT = 1,     /* parameter initialisation; site = parameter name, sample = 0 */
    RNG_DROPOUT = 2,  /* dropout and drop-path; site = module path */
    RNG_SHUFFLE = 3,  /* sample order; site = epoch */
    RNG_AUGMENT = 4,  /* image augmentation */
    RNG_MASK = 5,     /* masked-language-model masks */
    RNG_NEGATIVE = 6, /* hard negatives */
    RNG_SCENE = 7,    /* generated scenes */
    RNG_TEST = 8      /* test and benchmark data */
};

struct rng_key {
    uint32_t word[2];
};

struct rng_block {
    uint32_t word[4];
};

/* One Philox4x32-10 block, exactly as Random123's philox4x32(10 rounds). */
RNG_INLINE struct rng_block rng_philox(struct rng_block counter, struct rng_key key)
{
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * counter.word[0];
        uint64_t b = (uint64_t)0xCD9E8D57u * counter.word[2];
        struct rng_block next;
        next.word[0] = (uint32_t)(b >> 32) ^ counter.word[1] ^ key.word[0];
        next.word[1] = (uint32_t)b;
        next.word[2] = (uint32_t)(a >> 32) ^ counter.word[3] ^ key.word[1];
        next.word[3] = (uint32_t)a;
        counter = next;
        key.word[0] += 0x9E3779B9u;
        key.word[1] += 0xBB67AE85u;
    }
    return counter;
}

/* A 64-bit site from a dotted module path or any other name (FNV-1a, then mixed). */
uint64_t rng_site(const char *name);

/* The key of one stream. `seed` is the run's seed, `site` tells places of one purpose apart. */
struct rng_key rng_key(uint64_t seed, enum rng_purpose purpose, uint64_t site);

/*
 * The block of four numbers for elements [4 * block, 4 * block + 4) of `sample` at `step`. `sample`
 * is the global sample index. The upper half of `step` beyond 32 bits is not used.
 */
RNG_INLINE struct rng_block rng_at(struct rng_key key, uint64_t step, uint64_t sample,
                                   uint32_t block)
{
    struct rng_block counter;
    counter.word[0] = block;
    counter.word[1] = (uint32_t)sample;
    counter.word[2] = (uint32_t)(sample >> 32);
    counter.word[3] = (uint32_t)step;
    return rng_philox(counter, key);
}

/* [0, 1) with 24 bits, from one word. */
RNG_INLINE float rng_uniform(uint32_t word)
{
    return (float)(word >> 8) * 0x1p-24f;
}

/* An unbiased-enough integer in [0, bound) by the multiply-shift method (bias below bound / 2^32).
 */
RNG_INLINE uint32_t rng_below(uint32_t word, uint32_t bound)
{
    return (uint32_t)(((uint64_t)word * bound) >> 32);
}

/* Fills `out[count]` with the standard normal distribution (Box-Muller, both values of a pair
 * used). */
void rng_fill_normal(struct rng_key key, uint64_t step, uint64_t sample, float *out, int64_t count);

/* Fills `out[count]` with uniform numbers in [0, 1). */
void rng_fill_uniform(struct rng_key key, uint64_t step, uint64_t sample, float *out,
                      int64_t count);

#ifdef __cplusplus
}
#endif
#endif
