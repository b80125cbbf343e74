/* Shared between the kernels of image_resize; not for other folders. */
#ifndef WEFT_DATA_IMAGE_RESIZE_IMPL_H
#define WEFT_DATA_IMAGE_RESIZE_IMPL_H

#include <stddef.h>
#include <stdint.h>

/*
 * Fixed point: a weight w has 22 fraction bits and fits 24 bits with its sign. 16-bit multipliers
 * take it as w = high * 2^11 + low with low in [0, 2^11), so sums of products stay exact: the
 * accumulators of both halves may wrap, their combination modulo 2^32 is the true sum, which fits.
 */
enum {
    RESIZE_FRACTION_BITS = 22,
    RESIZE_LOW_BITS = 11,
    RESIZE_ROUND = 1 << (RESIZE_FRACTION_BITS - 1),
    RESIZE_GROUP = 4,       /* rows that a horizontal kernel does at once */
    RESIZE_TAPS = 4,        /* taps are padded with zero weights to a multiple of this */
    RESIZE_OVERREAD = 16,   /* bytes that kernels may read behind the last padded tap */
    RESIZE_ROW_PADDING = 64 /* bytes that kernels may write behind a row of the ring */
};

/* The filter along one axis. */
struct resize_axis {
    int64_t size;     /* output samples */
    int64_t taps;     /* stride of `weights`: the greatest count, padded */
    int32_t *first;   /* [size] the first source sample */
    int32_t *count;   /* [size] source samples that matter */
    int32_t *weights; /* [size, taps] zero behind `count` */
    int16_t *split;   /* [size, taps / 4, 2, 4] or NULL, see resize_horizontal */
};

/*
 * Filters RESIZE_GROUP rows, `in[i]` to `out[i]` (RGB, axis->size pixels). Reads up to the padded
 * taps and RESIZE_OVERREAD bytes more. The vector kernels use `axis->split`: for each output and
 * each four taps their high parts, then their low parts.
 */
typedef void resize_horizontal(const struct resize_axis *axis,
                               const uint8_t *const in[RESIZE_GROUP],
                               uint8_t *const out[RESIZE_GROUP]);

/*
 * One output row of `bytes` bytes: the sum over `count` rows `in[i]` with `weights[i]`. Reads and
 * writes nothing beyond `bytes`.
 */
typedef void resize_vertical(const uint8_t *const *in, const int32_t *weights, int64_t count,
                             uint8_t *out, int64_t bytes);

resize_horizontal resize_horizontal_scalar, resize_horizontal_avx2, resize_horizontal_avx512;
resize_vertical resize_vertical_scalar, resize_vertical_avx2, resize_vertical_avx512;

/* The two halves of a weight. */
static inline int32_t resize_high(int32_t weight)
{
    return weight >> RESIZE_LOW_BITS;
}

static inline int32_t resize_low(int32_t weight)
{
    return weight & ((1 << RESIZE_LOW_BITS) - 1);
}

static inline uint8_t resize_clip(int32_t sum)
{
    int32_t value = sum >> RESIZE_FRACTION_BITS;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

#endif
