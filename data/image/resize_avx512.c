/*
 * The vertical resize kernel for AVX-512: resize_avx2.c with twice the width. The horizontal pass
 * stays with AVX2: its unit of work is one pixel's four taps, and two rows in one register cost the
 * same port cycles (512-bit multiplication and shuffling have one port each).
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "data/image/resize_impl.h"

static inline __m512i combine(__m512i high, __m512i low)
{
    __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(high, RESIZE_LOW_BITS), low);
    sum = _mm512_add_epi32(sum, _mm512_set1_epi32(RESIZE_ROUND));
    return _mm512_srai_epi32(sum, RESIZE_FRACTION_BITS);
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
