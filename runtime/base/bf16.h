/* bfloat16: the upper half of an f32. Conversions round to nearest even and keep NaN a NaN. */
#ifndef WEFT_RUNTIME_BASE_BF16_H
#define WEFT_RUNTIME_BASE_BF16_H

#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

static inline float bf16_to_f32(bf16 value)
{
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

static inline bf16 bf16_from_f32(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (bf16)((bits >> 16) | 0x40u);
    return (bf16)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

#endif
