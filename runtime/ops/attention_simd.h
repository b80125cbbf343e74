/*
 * The vectors that the attention kernels are written in: `vf` holds VF floats, whatever the widest
 * register of the including file's instruction set (see the Makefile's suffix rule) is.
 *
 * Loads and stores do not need alignment. Multiply-adds round once where the processor can.
 */
#ifndef WEFT_RUNTIME_OPS_ATTENTION_SIMD_H
#define WEFT_RUNTIME_OPS_ATTENTION_SIMD_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "runtime/base/bf16.h"
#include "runtime/base/rng.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

/* A loop over vectors that must stay in registers; `count` is a constant after inlining. */
#define REPEAT(i, count) _Pragma("GCC unroll 16") for (int i = 0; i < (count); i++)

#if defined(__AVX512F__)

enum { VF = 16 };
typedef __m512 vf;

INLINE vf vf_set(float x)
{
    return _mm512_set1_ps(x);
}
INLINE vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
INLINE void vf_store(float *p, vf x)
{
    _mm512_storeu_ps(p, x);
}
INLINE vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
INLINE vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
INLINE vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
INLINE vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
INLINE vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

/* Each 128-bit lane of the result has a combination of x[0], x[1], x[2], x[3]. */
#define FOLD_4(x, combine)                                                                         \
    const __m512 low = combine(_mm512_unpacklo_ps(x[0], x[1]), _mm512_unpackhi_ps(x[0], x[1]));    \
    const __m512 high = combine(_mm512_unpacklo_ps(x[2], x[3]), _mm512_unpackhi_ps(x[2], x[3]));   \
    const __m512 all =                                                                             \
        combine(_mm512_shuffle_ps(low, high, 0x44), _mm512_shuffle_ps(low, high, 0xEE))

/* out[i] = sum of the floats of x[i]. */
INLINE void vf_sum_4(const vf *x, float *out)
{
    FOLD_4(x, _mm512_add_ps);
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}

/* out[i] = the largest float of x[i]. */
INLINE void vf_top_4(const vf *x, float *out)
{
    FOLD_4(x, _mm512_max_ps);
    __m256 half = _mm256_max_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    _mm_storeu_ps(out, _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}

/* x = 2^exponent * mantissa, the mantissa in [1, 2), for positive normal x. */
INLINE void vf_split(vf x, vf *exponent, vf *mantissa)
{
    *exponent = _mm512_getexp_ps(x);
    *mantissa = _mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
}

/* `x` where a != b, otherwise 0. */
INLINE vf vf_where_differ(vf a, vf b, vf x)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ), x);
}

/* The float whose upper bits are the lowest of `x`'s: 2^(n - 127) when those are n. */
INLINE vf vf_power(vf x)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x), 23));
}

INLINE vf vf_load_bf16(const bf16 *p)
{
    __m256i half = _mm256_loadu_si256((const __m256i *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

INLINE void vf_store_bf16(bf16 *p, vf x)
{
#if defined(__AVX512BF16__)
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(x));
#else
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    up = _mm512_mask_mov_epi32(up, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), quiet);
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16)));
#endif
}

/* Transposes the VF x VF floats whose rows are `stride` apart. */
INLINE void vf_transpose(const float *in, int64_t in_stride, float *out, int64_t out_stride)
{
    __m512 r[16];
    __m512 t[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        r[i] = _mm512_loadu_ps(in + i * in_stride);
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xEE);
        r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
    }
    /* r[4 g + c] has, in 128-bit lane l, column 4 l + c of rows 4 g .. 4 g + 3. */
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        t[c] = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88);
        t[4 + c] = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88);
        t[8 + c] = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xDD);
        t[12 + c] = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xDD);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        _mm512_storeu_ps(out + c * out_stride, _mm512_shuffle_f32x4(t[c], t[4 + c], 0x88));
        _mm512_storeu_ps(out + (4 + c) * out_stride,
                         _mm512_shuffle_f32x4(t[8 + c], t[12 + c], 0x88));
        _mm512_storeu_ps(out + (8 + c) * out_stride, _mm512_shuffle_f32x4(t[c], t[4 + c], 0xDD));
        _mm512_storeu_ps(out + (12 + c) * out_stride,
                         _mm512_shuffle_f32x4(t[8 + c], t[12 + c], 0xDD));
    }
}

enum { PHILOX_BLOCKS = 8 };

/* keep[0 .. 32) = 1 or 0 for the elements of PHILOX_BLOCKS blocks, one in each 64-bit lane (whose
 * upper half is garbage). */
INLINE void philox_keep(struct rng_key key, uint64_t step, uint64_t sample, uint32_t block,
                        uint32_t drop_below, float *keep)
{
    const __m512i m0 = _mm512_set1_epi64(0xD2511F53u);
    const __m512i m1 = _mm512_set1_epi64(0xCD9E8D57u);
    __m512i c0 =
        _mm512_add_epi64(_mm512_set1_epi64(block), _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0));
    __m512i c1 = _mm512_set1_epi64((int64_t)(sample & 0xFFFFFFFFu));
    __m512i c2 = _mm512_set1_epi64((int64_t)(sample >> 32));
    __m512i c3 = _mm512_set1_epi64((int64_t)(step & 0xFFFFFFFFu));
    for (int round = 0; round < 10; round++) {
        __m512i a = _mm512_mul_epu32(m0, c0);
        __m512i b = _mm512_mul_epu32(m1, c2);
        c0 = _mm512_ternarylogic_epi64(_mm512_srli_epi64(b, 32), c1, _mm512_set1_epi64(key.word[0]),
                                       0x96);
        c2 = _mm512_ternarylogic_epi64(_mm512_srli_epi64(a, 32), c3, _mm512_set1_epi64(key.word[1]),
                                       0x96);
        c1 = b;
        c3 = a;
        key.word[0] += 0x9E3779B9u;
        key.word[1] += 0xBB67AE85u;
    }
    __m512i low = _mm512_mask_blend_epi32(0xAAAA, c0, _mm512_slli_epi64(c1, 32));
    __m512i high = _mm512_mask_blend_epi32(0xAAAA, c2, _mm512_slli_epi64(c3, 32));
    __m512i first =
        _mm512_permutex2var_epi64(low, _mm512_set_epi64(11, 3, 10, 2, 9, 1, 8, 0), high);
    __m512i second =
        _mm512_permutex2var_epi64(low, _mm512_set_epi64(15, 7, 14, 6, 13, 5, 12, 4), high);
    __m512i least = _mm512_set1_epi32((int)drop_below);
    vf one = vf_set(1);
    vf_store(keep, _mm512_maskz_mov_ps(_mm512_cmpge_epu32_mask(first, least), one));
    vf_store(keep + 16, _mm512_maskz_mov_ps(_mm512_cmpge_epu32_mask(second, least), one));
}

#elif defined(__AVX2__)

enum { VF = 8 };
typedef __m256 vf;

INLINE vf vf_set(float x)
{
    return _mm256_set1_ps(x);
}
INLINE vf vf_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
INLINE void vf_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x);
}
INLINE vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
INLINE vf vf_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}
INLINE vf vf_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}
INLINE vf vf_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}
INLINE vf vf_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

#define FOLD_4(x, combine)                                                                         \
    const __m256 low = combine(_mm256_unpacklo_ps(x[0], x[1]), _mm256_unpackhi_ps(x[0], x[1]));    \
    const __m256 high = combine(_mm256_unpacklo_ps(x[2], x[3]), _mm256_unpackhi_ps(x[2], x[3]));   \
    const __m256 all =                                                                             \
        combine(_mm256_shuffle_ps(low, high, 0x44), _mm256_shuffle_ps(low, high, 0xEE))

INLINE void vf_sum_4(const vf *x, float *out)
{
    FOLD_4(x, _mm256_add_ps);
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
}

INLINE void vf_top_4(const vf *x, float *out)
{
    FOLD_4(x, _mm256_max_ps);
    _mm_storeu_ps(out, _mm_max_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
}

INLINE void vf_split(vf x, vf *exponent, vf *mantissa)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i power = _mm256_sub_epi32(_mm256_srli_epi32(bits, 23), _mm256_set1_epi32(127));
    *exponent = _mm256_cvtepi32_ps(power);
    __m256i fraction = _mm256_and_si256(bits, _mm256_set1_epi32(0x7FFFFF));
    *mantissa = _mm256_castsi256_ps(_mm256_or_si256(fraction, _mm256_set1_epi32(0x3F800000)));
}

INLINE vf vf_where_differ(vf a, vf b, vf x)
{
    return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_NEQ_UQ), x);
}

INLINE vf vf_power(vf x)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x), 23));
}

INLINE vf vf_load_bf16(const bf16 *p)
{
    __m128i half = _mm_loadu_si128((const __m128i *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

INLINE void vf_store_bf16(bf16 *p, vf x)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    up = _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, is_nan), 16);
    __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(up), _mm256_extracti128_si256(up, 1));
    _mm_storeu_si128((__m128i *)p, words);
}

INLINE void vf_transpose(const float *in, int64_t in_stride, float *out, int64_t out_stride)
{
    __m256 r[8];
    __m256 t[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        r[i] = _mm256_loadu_ps(in + i * in_stride);
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xEE);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        _mm256_storeu_ps(out + c * out_stride, _mm256_permute2f128_ps(r[c], r[4 + c], 0x20));
        _mm256_storeu_ps(out + (4 + c) * out_stride, _mm256_permute2f128_ps(r[c], r[4 + c], 0x31));
    }
}

enum { PHILOX_BLOCKS = 4 };

INLINE void philox_keep(struct rng_key key, uint64_t step, uint64_t sample, uint32_t block,
                        uint32_t drop_below, float *keep)
{
    const __m256i m0 = _mm256_set1_epi64x(0xD2511F53u);
    const __m256i m1 = _mm256_set1_epi64x(0xCD9E8D57u);
    __m256i c0 = _mm256_add_epi64(_mm256_set1_epi64x(block), _mm256_set_epi64x(3, 2, 1, 0));
    __m256i c1 = _mm256_set1_epi64x((int64_t)(sample & 0xFFFFFFFFu));
    __m256i c2 = _mm256_set1_epi64x((int64_t)(sample >> 32));
    __m256i c3 = _mm256_set1_epi64x((int64_t)(step & 0xFFFFFFFFu));
    for (int round = 0; round < 10; round++) {
        __m256i a = _mm256_mul_epu32(m0, c0);
        __m256i b = _mm256_mul_epu32(m1, c2);
        c0 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(b, 32), c1),
                              _mm256_set1_epi64x(key.word[0]));
        c2 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(a, 32), c3),
                              _mm256_set1_epi64x(key.word[1]));
        c1 = b;
        c3 = a;
        key.word[0] += 0x9E3779B9u;
        key.word[1] += 0xBB67AE85u;
    }
    __m256i low = _mm256_blend_epi32(c0, _mm256_slli_epi64(c1, 32), 0xAA);
    __m256i high = _mm256_blend_epi32(c2, _mm256_slli_epi64(c3, 32), 0xAA);
    __m256i even = _mm256_unpacklo_epi64(low, high); /* blocks 0 and 2 */
    __m256i odd = _mm256_unpackhi_epi64(low, high);
    __m256i word[2] = {_mm256_permute2x128_si256(even, odd, 0x20),
                       _mm256_permute2x128_si256(even, odd, 0x31)};
    __m256i least = _mm256_set1_epi32((int)drop_below);
    for (int i = 0; i < 2; i++) {
        __m256i kept = _mm256_cmpeq_epi32(_mm256_max_epu32(word[i], least), word[i]);
        vf_store(keep + 8 * i, _mm256_and_ps(_mm256_castsi256_ps(kept), vf_set(1)));
    }
}

#else

enum { VF = 4 };
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));

INLINE vf vf_set(float x)
{
    return (vf){x, x, x, x};
}

INLINE vf vf_load(const float *p)
{
    vf x;
    memcpy(&x, p, sizeof x);
    return x;
}

INLINE void vf_store(float *p, vf x)
{
    memcpy(p, &x, sizeof x);
}
INLINE vf vf_add(vf a, vf b)
{
    return a + b;
}
INLINE vf vf_sub(vf a, vf b)
{
    return a - b;
}
INLINE vf vf_mul(vf a, vf b)
{
    return a * b;
}
INLINE vf vf_div(vf a, vf b)
{
    return a / b;
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return a * b + c;
}

/* a where `mask` is all ones, b where it is 0. */
INLINE vf vf_select(vi mask, vf a, vf b)
{
    return (vf)(((vi)a & mask) | ((vi)b & ~mask));
}

INLINE vf vf_max(vf a, vf b)
{
    return vf_select(a > b, a, b);
}

INLINE void vf_sum_4(const vf *x, float *out)
{
    for (int i = 0; i < 4; i++) {
        out[i] = (x[i][0] + x[i][2]) + (x[i][1] + x[i][3]);
    }
}

INLINE void vf_top_4(const vf *x, float *out)
{
    for (int i = 0; i < 4; i++) {
        float a = x[i][0] > x[i][1] ? x[i][0] : x[i][1];
        float b = x[i][2] > x[i][3] ? x[i][2] : x[i][3];
        out[i] = a > b ? a : b;
    }
}

INLINE void vf_split(vf x, vf *exponent, vf *mantissa)
{
    vi power = ((vi)x >> 23) - 127;
    *exponent = __builtin_convertvector(power, vf);
    *mantissa = (vf)(((vi)x & 0x7FFFFF) | 0x3F800000);
}

INLINE vf vf_where_differ(vf a, vf b, vf x)
{
    return vf_select(a != b, x, vf_set(0));
}

INLINE vf vf_power(vf x)
{
    return (vf)((vi)x << 23);
}

INLINE vf vf_load_bf16(const bf16 *p)
{
    return (vf){bf16_to_f32(p[0]), bf16_to_f32(p[1]), bf16_to_f32(p[2]), bf16_to_f32(p[3])};
}

INLINE void vf_store_bf16(bf16 *p, vf x)
{
    for (int i = 0; i < 4; i++)
        p[i] = bf16_from_f32(x[i]);
}

INLINE void vf_transpose(const float *in, int64_t in_stride, float *out, int64_t out_stride)
{
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 4; j++)
            out[j * out_stride + i] = in[i * in_stride + j];
    }
}

enum { PHILOX_BLOCKS = 1 };

INLINE void philox_keep(struct rng_key key, uint64_t step, uint64_t sample, uint32_t block,
                        uint32_t drop_below, float *keep)
{
    struct rng_block random = rng_at(key, step, sample, block);
    for (int i = 0; i < 4; i++)
        keep[i] = random.word[i] >= drop_below ? 1 : 0;
}

#endif

/*
 * x[i] = 2^x[i] for x < 128; below -126 it is a denormal number or 0, NaN stays. Adding `magic`
 * leaves round(x) + 127, the exponent of the power, in the lowest bits. The polynomial is the
 * minimax one for the relative error on [-1/2, 1/2], 7.5e-8, or 2.6e-6 when `rough`, for results
 * that become bf16. Several vectors at once, step by step, because a processor's scheduler does not
 * look far enough ahead to overlap whole exponentials.
 */
INLINE void vf_exp2(int count, vf *x, bool rough)
{
    static const float fine[6] = {1.0000000716546822f,   0.693146967064733f,
                                  0.2402211972384874f,   0.055507132735437094f,
                                  0.009675541334205775f, 0.0013276471979039245f};
    static const float coarse[5] = {0.9999992614457144f, 0.6931218147367706f, 0.2402474482794409f,
                                    0.05591786031930373f, 0.00957010190807703f};
    const float *c = rough ? coarse : fine;
    int degree = rough ? 4 : 5;
    vf magic = vf_set(0x1.8p23f + 127);
    vf power[8];
    vf f[8];
    REPEAT (i, count)
        x[i] = vf_max(vf_set(-127), x[i]);
    REPEAT (i, count)
        power[i] = vf_add(x[i], magic);
    REPEAT (i, count)
        f[i] = vf_sub(power[i], magic);
    REPEAT (i, count)
        f[i] = vf_sub(x[i], f[i]);
    REPEAT (i, count)
        power[i] = vf_power(power[i]);
    REPEAT (i, count)
        x[i] = vf_set(c[degree]);
    REPEAT (k, degree) {
        REPEAT (i, count)
            x[i] = vf_fma(x[i], f[i], vf_set(c[degree - 1 - k]));
    }
    REPEAT (i, count)
        x[i] = vf_mul(x[i], power[i]);
}

/*
 * log2 of positive normal numbers, absolute error 1e-7 (NaN stays): with t = (m - c) / (m + c),
 * log2(m) = log2(c) + 2 / ln 2 * (t + t^3 / 3 + t^5 / 5 + ..), for c = sqrt(2) in the middle of [1,
 * 2).
 */
INLINE vf vf_log2(vf x)
{
    vf exponent;
    vf m;
    vf_split(x, &exponent, &m);
    vf root = vf_set(1.41421356237309505f);
    vf t = vf_div(vf_sub(m, root), vf_add(m, root));
    vf square = vf_mul(t, t);
    vf p = vf_fma(vf_set(0.32059889797532520f), square, vf_set(0.41219858311113240f));
    p = vf_fma(p, square, vf_set(0.57707801635558535f));
    p = vf_fma(p, square, vf_set(0.96179669392597556f));
    p = vf_fma(p, square, vf_set(2.88539008177792681f));
    vf not_a_number = vf_sub(x, x);
    return vf_add(vf_add(vf_fma(p, t, vf_set(0.5f)), exponent), not_a_number);
}

#endif
