/*
 * Resize kernels for AVX2: pmaddwd on pairs of taps, with weights in two halves (resize_impl.h).
 *
 * Horizontal: each 128-bit lane is a row of the group, so rows share shuffles, weights (a pair is
 * one dword, broadcast) and the final rounding. Four taps of a pixel are 12 bytes; byte shuffles
 * make 16-bit pairs (r0 r1)(g0 g1)(b0 b1) out of the first two taps and of the others. Vertical:
 * bytes of two rows are interleaved to pairs; lane order takes care of itself, as unpacking and
 * packing are inverse.
 */
#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "data/image/resize_impl.h"

/* high * 2^11 + low + rounding, shifted down; the sum is exact modulo 2^32. */
static inline __m256i combine(__m256i high, __m256i low)
{
    __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(high, RESIZE_LOW_BITS), low);
    sum = _mm256_add_epi32(sum, _mm256_set1_epi32(RESIZE_ROUND));
    return _mm256_srai_epi32(sum, RESIZE_FRACTION_BITS);
}

/* Sixteen bytes of two rows, a row a lane. */
static inline __m256i load_rows(const uint8_t *lower, const uint8_t *upper)
{
    __m256i rows = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)lower));
    return _mm256_inserti128_si256(rows, _mm_loadu_si128((const __m128i *)upper), 1);
}

/* A pair of taps' weights, everywhere. */
static inline __m256i load_pair(const int16_t *weights)
{
    int32_t pair;
    memcpy(&pair, weights, sizeof pair);
    return _mm256_set1_epi32(pair);
}

/* Adds the products of four taps of two rows. */
static inline void add_taps(__m256i rows, const int16_t *weight, __m256i *high, __m256i *low)
{
    const __m256i taps01 = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m256i taps23 = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
    __m256i left = _mm256_shuffle_epi8(rows, taps01);
    __m256i right = _mm256_shuffle_epi8(rows, taps23);
    *high = _mm256_add_epi32(*high, _mm256_madd_epi16(left, load_pair(weight)));
    *high = _mm256_add_epi32(*high, _mm256_madd_epi16(right, load_pair(weight + 2)));
    *low = _mm256_add_epi32(*low, _mm256_madd_epi16(left, load_pair(weight + 4)));
    *low = _mm256_add_epi32(*low, _mm256_madd_epi16(right, load_pair(weight + 6)));
}

void resize_horizontal_avx2(const struct resize_axis *axis, const uint8_t *const in[RESIZE_GROUP],
                            uint8_t *const out[RESIZE_GROUP])
{
    int64_t blocks = axis->taps / RESIZE_TAPS;
    const int16_t *weights = axis->split;
    for (int64_t x = 0; x < axis->size; x++, weights += blocks * 8) {
        __m256i high01 = _mm256_setzero_si256();
        __m256i high23 = high01;
        __m256i low01 = high01;
        __m256i low23 = high01;
        int64_t at = (int64_t)axis->first[x] * 3;
        const int16_t *weight = weights;
        for (int32_t tap = 0; tap < axis->count[x]; tap += RESIZE_TAPS, at += 12, weight += 8) {
            add_taps(load_rows(in[0] + at, in[1] + at), weight, &high01, &low01);
            add_taps(load_rows(in[2] + at, in[3] + at), weight, &high23, &low23);
        }
        __m256i words = _mm256_packs_epi32(combine(high01, low01), combine(high23, low23));
        __m256i bytes = _mm256_packus_epi16(words, words);
        __m128i even = _mm256_castsi256_si128(bytes); /* rows 0 and 2, R G B X each */
        __m128i odd = _mm256_extracti128_si256(bytes, 1);
        /* The fourth byte is overwritten by the next pixel; rows of the ring are padded. */
        _mm_storeu_si32(out[0] + x * 3, even);
        _mm_storeu_si32(out[1] + x * 3, odd);
        _mm_storeu_si32(out[2] + x * 3, _mm_shuffle_epi32(even, 1));
        _mm_storeu_si32(out[3] + x * 3, _mm_shuffle_epi32(odd, 1));
    }
}

/* 32 output bytes from `at` on. */
static inline void vertical_block(const uint8_t *const *in, const int32_t *weights, int64_t count,
                                  int64_t at, uint8_t *out)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i high[4] = {zero, zero, zero, zero};
    __m256i low[4] = {zero, zero, zero, zero};
    for (int64_t row = 0; row < count; row += 2) {
        /* An odd row at the end pairs with itself and weight zero. */
        int64_t next = row + 1 < count ? row + 1 : row;
        int32_t second = row + 1 < count ? weights[row + 1] : 0;
        __m256i weight_high = _mm256_set1_epi32((resize_high(weights[row]) & 0xFFFF) |
                                                (int32_t)((uint32_t)resize_high(second) << 16));
        __m256i weight_low = _mm256_set1_epi32(resize_low(weights[row]) | resize_low(second) << 16);
        __m256i a = _mm256_loadu_si256((const __m256i *)(in[row] + at));
        __m256i b = _mm256_loadu_si256((const __m256i *)(in[next] + at));
        __m256i left = _mm256_unpacklo_epi8(a, b);
        __m256i right = _mm256_unpackhi_epi8(a, b);
        __m256i pairs[4] = {_mm256_unpacklo_epi8(left, zero), _mm256_unpackhi_epi8(left, zero),
                            _mm256_unpacklo_epi8(right, zero), _mm256_unpackhi_epi8(right, zero)};
        for (int i = 0; i < 4; i++) {
            high[i] = _mm256_add_epi32(high[i], _mm256_madd_epi16(pairs[i], weight_high));
            low[i] = _mm256_add_epi32(low[i], _mm256_madd_epi16(pairs[i], weight_low));
        }
    }
    __m256i first = _mm256_packs_epi32(combine(high[0], low[0]), combine(high[1], low[1]));
    __m256i last = _mm256_packs_epi32(combine(high[2], low[2]), combine(high[3], low[3]));
    _mm256_storeu_si256((__m256i *)(out + at), _mm256_packus_epi16(first, last));
}

void resize_vertical_avx2(const uint8_t *const *in, const int32_t *weights, int64_t count,
                          uint8_t *out, int64_t bytes)
{
    enum { BLOCK = 32 };
    if (bytes < BLOCK) {
        resize_vertical_scalar(in, weights, count, out, bytes);
        return;
    }
    int64_t at = 0;
    for (; at + BLOCK <= bytes; at += BLOCK) {
        vertical_block(in, weights, count, at, out);
    }
    /* The last block overlaps the one before it and writes the same bytes again. */
    if (at < bytes) vertical_block(in, weights, count, bytes - BLOCK, out);
}

#else
/* An empty translation unit is not C. */
typedef int resize_avx2_needs_x86;
#endif
