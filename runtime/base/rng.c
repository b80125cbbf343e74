#include "runtime/base/rng.h"

#include <math.h>

/* The finaliser of splitmix64: every input bit reaches every output bit. */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xBF58476D1CE4E5B9u;
    x ^= x >> 27;
    x *= 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

uint64_t rng_site(const char *name)
{
    uint64_t hash = 0xCBF29CE484222325u;
    for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
        hash = (hash ^ *p) * 0x100000001B3u;
    }
    return mix(hash);
}

struct rng_key rng_key(uint64_t seed, enum rng_purpose purpose, uint64_t site)
{
    uint64_t hash = mix(seed + 0x9E3779B97F4A7C15u);
    hash = mix(hash ^ (uint64_t)purpose);
    hash = mix(hash + site);
    return (struct rng_key){{(uint32_t)hash, (uint32_t)(hash >> 32)}};
}

void rng_fill_uniform(struct rng_key key, uint64_t step, uint64_t sample, float *out, int64_t count)
{
    for (int64_t i = 0; i < count; i += 4) {
        struct rng_block block = rng_at(key, step, sample, (uint32_t)(i / 4));
        for (int64_t j = 0; j < 4 && i + j < count; j++) {
            out[i + j] = rng_uniform(block.word[j]);
        }
    }
}

void rng_fill_normal(struct rng_key key, uint64_t step, uint64_t sample, float *out, int64_t count)
{
    for (int64_t i = 0; i < count; i += 4) {
        struct rng_block block = rng_at(key, step, sample, (uint32_t)(i / 4));
        double value[4];
        for (int j = 0; j < 4; j += 2) {
            /* u in (0, 1], so that the logarithm is finite. */
            double u = ((double)block.word[j] + 1.0) * 0x1p-32;
            double angle = (double)block.word[j + 1] * (0x1p-32 * 6.283185307179586);
            double radius = sqrt(-2.0 * log(u));
            value[j] = radius * cos(angle);
            value[j + 1] = radius * sin(angle);
        }
        for (int64_t j = 0; j < 4 && i + j < count; j++) {
            out[i + j] = (float)value[j];
        }
    }
}
