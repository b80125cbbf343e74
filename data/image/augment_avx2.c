/*
 * RandomAugment's two costly kernels for AVX2, equal to the plain ones bit for bit.
 *
 * Warp: a pixel and its right neighbour are six bytes, loaded as eight from the upper row into the
 * low half of a lane and from the lower row into the high half. pmaddubsw blends across, pmaddwd
 * down; both stay exact (255 * 32 * 32 + 512 < 2^18). Two pixels a register, one a lane.
 */
#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "data/image/augment_impl.h"

/* Upper and lower row at fixed-point position (x, y) of one pixel. */
static inline __m128i load_corners(struct image_view source, int64_t x, int64_t y)
{
    const uint8_t *pixel = source.pixels + (y >> AUGMENT_WEIGHT_BITS) * source.stride +
                           (x >> AUGMENT_WEIGHT_BITS) * IMAGE_CHANNELS;
    __m128i upper = _mm_loadl_epi64((const __m128i *)pixel);
    __m128i lower = _mm_loadl_epi64((const __m128i *)(pixel + source.stride));
    return _mm_unpacklo_epi64(upper, lower);
}

/* (32 - f) and f as bytes of a word. */
static inline int16_t across_weights(int64_t position)
{
    int fraction = (int)(position & AUGMENT_WEIGHT_MASK);
    return (int16_t)(AUGMENT_WEIGHT_ONE - fraction + (fraction << 8));
}

/* (32 - f) and f as words. */
static inline int32_t down_weights(int64_t position)
{
    int fraction = (int)(position & AUGMENT_WEIGHT_MASK);
    return AUGMENT_WEIGHT_ONE - fraction + (fraction << 16);
}

/* Two pixels as R G B X in the low dword of each lane. */
static inline __m256i blend_two(struct image_view source, const struct augment_span *span, int i)
{
    const __m256i pairs = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 3, 1, 4, 2, 5, -1, -1, 8, 11, 9, 12, 10, 13, -1, -1));
    const __m256i bytes = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
    int64_t x0 = (span->x + span->dx[i]) >> AUGMENT_SHIFT;
    int64_t y0 = (span->y + span->dy[i]) >> AUGMENT_SHIFT;
    int64_t x1 = (span->x + span->dx[i + 1]) >> AUGMENT_SHIFT;
    int64_t y1 = (span->y + span->dy[i + 1]) >> AUGMENT_SHIFT;
    __m256i corners = _mm256_set_m128i(load_corners(source, x1, y1), load_corners(source, x0, y0));
    __m256i across =
        _mm256_set_m128i(_mm_set1_epi16(across_weights(x1)), _mm_set1_epi16(across_weights(x0)));
    __m256i down =
        _mm256_set_m128i(_mm_set1_epi32(down_weights(y1)), _mm_set1_epi32(down_weights(y0)));
    __m256i rows = _mm256_maddubs_epi16(_mm256_shuffle_epi8(corners, pairs), across);
    __m256i upper_lower = _mm256_unpacklo_epi16(rows, _mm256_unpackhi_epi64(rows, rows));
    __m256i sum = _mm256_madd_epi16(upper_lower, down);
    sum = _mm256_add_epi32(sum, _mm256_set1_epi32(1 << (2 * AUGMENT_WEIGHT_BITS - 1)));
    return _mm256_shuffle_epi8(_mm256_srli_epi32(sum, 2 * AUGMENT_WEIGHT_BITS), bytes);
}

void augment_warp_avx2(struct image_view source, const struct augment_span *span, uint8_t *out)
{
    const __m128i drop_fourth =
        _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    uint8_t packed[AUGMENT_BLOCK * IMAGE_CHANNELS + 4];
    for (int i = 0; i < AUGMENT_BLOCK; i += 4) {
        __m256i a = blend_two(source, span, i);
        __m256i b = blend_two(source, span, i + 2);
        __m256i both = _mm256_unpacklo_epi32(a, b); /* pixels 0, 2 in lane 0; 1, 3 in lane 1 */
        __m128i four =
            _mm_unpacklo_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
        _mm_storeu_si128((__m128i *)(packed + i * IMAGE_CHANNELS),
                         _mm_shuffle_epi8(four, drop_fourth));
    }
    memcpy(out, packed, (size_t)AUGMENT_BLOCK * IMAGE_CHANNELS);
}

static inline __m256i load_words(const uint8_t *bytes)
{
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)bytes));
}

static inline __m256i column(const uint8_t *above, const uint8_t *row, const uint8_t *below,
                             int64_t i)
{
    __m256i outer = _mm256_add_epi16(load_words(above + i), load_words(below + i));
    return _mm256_add_epi16(outer, load_words(row + i));
}

/* smooth + factor * difference for eight values, clipped and cut to integers. */
static inline __m256i extrapolate(__m256i smooth, __m256i difference, __m256 factor)
{
    __m256 product = _mm256_mul_ps(factor, _mm256_cvtepi32_ps(difference));
    __m256 value = _mm256_add_ps(_mm256_cvtepi32_ps(smooth), product);
    value = _mm256_min_ps(_mm256_max_ps(value, _mm256_setzero_ps()), _mm256_set1_ps(255));
    return _mm256_cvttps_epi32(value);
}

void augment_sharpen_avx2(const uint8_t *above, const uint8_t *row, const uint8_t *below,
                          int64_t bytes, float factor, uint8_t *out)
{
    enum { STEP = 16 };
    const __m256 factors = _mm256_set1_ps(factor);
    int64_t end = bytes - IMAGE_CHANNELS;
    int64_t i = IMAGE_CHANNELS;
    for (; i + STEP <= end; i += STEP) {
        __m256i middle = load_words(row + i);
        __m256i sum = _mm256_add_epi16(column(above, row, below, i - IMAGE_CHANNELS),
                                       column(above, row, below, i + IMAGE_CHANNELS));
        sum = _mm256_add_epi16(sum, column(above, row, below, i));
        sum = _mm256_add_epi16(sum, _mm256_slli_epi16(middle, 2));
        /* (sum + 6) / 13 by a multiplication with 2^19 / 13, rounded up: exact below 2^15. */
        __m256i smooth = _mm256_add_epi16(sum, _mm256_set1_epi16(6));
        smooth = _mm256_srli_epi16(_mm256_mulhi_epu16(smooth, _mm256_set1_epi16((short)40330)), 3);
        __m256i difference = _mm256_sub_epi16(middle, smooth);
        __m256i first =
            extrapolate(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(smooth)),
                        _mm256_cvtepi16_epi32(_mm256_castsi256_si128(difference)), factors);
        __m256i last =
            extrapolate(_mm256_cvtepi16_epi32(_mm256_extracti128_si256(smooth, 1)),
                        _mm256_cvtepi16_epi32(_mm256_extracti128_si256(difference, 1)), factors);
        __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(first, last), 0xD8);
        __m128i result =
            _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
        _mm_storeu_si128((__m128i *)(out + i), result);
    }
    /* The rest as a row of its own, whose first and last pixel are not touched. */
    i -= IMAGE_CHANNELS;
    augment_sharpen_scalar(above + i, row + i, below + i, bytes - i, factor, out + i);
}

#else
/* An empty translation unit is not C. */
typedef int augment_avx2_needs_x86;
#endif
