/* Resize kernels for AVX-512: as in resize_avx2.c with twice the width, four rows or 64 bytes. */
#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "data/image/resize_impl.h"

static inline __m512i combine(__m512i high, __m512i low)
{
    __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(high, RESIZE_LOW_BITS), low);
    sum = _mm512_add_epi32(sum, _mm512_set1_epi32(RESIZE_ROUND));
    return _mm512_srai_epi32(sum, RESIZE_FRACTION_BITS);
}

/* Sixteen bytes at offset `at` of each of the four rows, a row a lane. */
static inline __m512i load_rows(const uint8_t *const in[RESIZE_GROUP], int64_t at)
{
    __m512i rows = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(in[0] + at)));
    rows = _mm512_inserti32x4(rows, _mm_loadu_si128((const __m128i *)(in[1] + at)), 1);
    rows = _mm512_inserti32x4(rows, _mm_loadu_si128((const __m128i *)(in[2] + at)), 2);
    return _mm512_inserti32x4(rows, _mm_loadu_si128((const __m128i *)(in[3] + at)), 3);
}

/* A pair of taps' weights, everywhere. */
static inline __m512i load_pair(const int16_t *weights)
{
    int32_t pair;
    memcpy(&pair, weights, sizeof pair);
    return _mm512_set1_epi32(pair);
}

static inline __m512i add_products(__m512i sum, __m512i pixels, __m512i weights)
{
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pixels, weights));
}

void resize_horizontal_avx512(const struct resize_axis *axis, const uint8_t *const in[RESIZE_GROUP],
                              uint8_t *const out[RESIZE_GROUP])
{
    const __m512i taps01 = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m512i taps23 = _mm512_broadcast_i32x4(
        _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
    int64_t blocks = axis->taps / RESIZE_TAPS;
    const int16_t *weights = axis->split;
    for (int64_t x = 0; x < axis->size; x++, weights += blocks * 8) {
        __m512i high = _mm512_setzero_si512();
        __m512i low = _mm512_setzero_si512();
        int64_t at = (int64_t)axis->first[x] * 3;
        const int16_t *weight = weights;
        for (int32_t tap = 0; tap < axis->count[x]; tap += RESIZE_TAPS, at += 12, weight += 8) {
            __m512i bytes = load_rows(in, at);
            __m512i left = _mm512_shuffle_epi8(bytes, taps01);
            __m512i right = _mm512_shuffle_epi8(bytes, taps23);
            high = add_products(high, left, load_pair(weight));
            high = add_products(high, right, load_pair(weight + 2));
            low = add_products(low, left, load_pair(weight + 4));
            low = add_products(low, right, load_pair(weight + 6));
        }
        __m512i sum = _mm512_max_epi32(combine(high, low), _mm512_setzero_si512());
        __m128i rgbx = _mm512_cvtusepi32_epi8(sum);
        /* The fourth byte is overwritten by the next pixel; rows of the ring are padded. */
        _mm_storeu_si32(out[0] + x * 3, rgbx);
        _mm_storeu_si32(out[1] + x * 3, _mm_shuffle_epi32(rgbx, 1));
        _mm_storeu_si32(out[2] + x * 3, _mm_shuffle_epi32(rgbx, 2));
        _mm_storeu_si32(out[3] + x * 3, _mm_shuffle_epi32(rgbx, 3));
    }
}

/* The output bytes of `mask`, from `at` on. */
static inline void vertical_block(const uint8_t *const *in, const int32_t *weights, int64_t count,
                                  int64_t at, uint8_t *out, __mmask64 mask)
{
    const __m512i zero = _mm512_setzero_si512();
    __m512i high[4] = {zero, zero, zero, zero};
    __m512i low[4] = {zero, zero, zero, zero};
    for (int64_t row = 0; row < count; row += 2) {
        /* An odd row at the end pairs with itself and weight zero. */
        int64_t next = row + 1 < count ? row + 1 : row;
        int32_t second = row + 1 < count ? weights[row + 1] : 0;
        __m512i weight_high = _mm512_set1_epi32((resize_high(weights[row]) & 0xFFFF) |
                                                (int32_t)((uint32_t)resize_high(second) << 16));
        __m512i weight_low = _mm512_set1_epi32(resize_low(weights[row]) | resize_low(second) << 16);
        __m512i a = _mm512_maskz_loadu_epi8(mask, in[row] + at);
        __m512i b = _mm512_maskz_loadu_epi8(mask, in[next] + at);
        __m512i left = _mm512_unpacklo_epi8(a, b);
        __m512i right = _mm512_unpackhi_epi8(a, b);
        __m512i pairs[4] = {_mm512_unpacklo_epi8(left, zero), _mm512_unpackhi_epi8(left, zero),
                            _mm512_unpacklo_epi8(right, zero), _mm512_unpackhi_epi8(right, zero)};
        for (int i = 0; i < 4; i++) {
            high[i] = _mm512_add_epi32(high[i], _mm512_madd_epi16(pairs[i], weight_high));
            low[i] = _mm512_add_epi32(low[i], _mm512_madd_epi16(pairs[i], weight_low));
        }
    }
    __m512i first = _mm512_packs_epi32(combine(high[0], low[0]), combine(high[1], low[1]));
    __m512i last = _mm512_packs_epi32(combine(high[2], low[2]), combine(high[3], low[3]));
    _mm512_mask_storeu_epi8(out + at, mask, _mm512_packus_epi16(first, last));
}

void resize_vertical_avx512(const uint8_t *const *in, const int32_t *weights, int64_t count,
                            uint8_t *out, int64_t bytes)
{
    enum { BLOCK = 64 };
    int64_t at = 0;
    for (; at + BLOCK <= bytes; at += BLOCK) {
        vertical_block(in, weights, count, at, out, ~(__mmask64)0);
    }
    if (at < bytes) {
        vertical_block(in, weights, count, at, out, ~(__mmask64)0 >> (BLOCK - (bytes - at)));
    }
}

#else
/* An empty translation unit is not C. */
typedef int resize_avx512_needs_x86;
#endif
