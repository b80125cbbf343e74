/*
 * A vector of VEC floats, for kernels that are written once and compiled for each instruction set:
 * AVX-512 (16 lanes), AVX2 + FMA (8), and GCC/Clang vector extensions (4) for everything else,
 * which is SSE2 or NEON in practice. The file that includes this chooses by its compiler flags.
 *
 *   vf  floats      vu  unsigned 32-bit integers      vm  a mask, one truth value a lane
 *
 * + - * / work on vf, + - & | ^ << >> on vu. `n` in the *_n forms is how many leading lanes exist,
 * 1 <= n <= VEC: loads fill the others with zero, stores leave memory beyond them alone. With
 * the constant VEC they compile to the plain form.
 *
 * Minimum and maximum return their second argument when either is NaN (as x86 does); kernels put
 * the data second. Products and sums are contracted only where vf_fma is written: the same source
 * gives the same roundings with every compiler.
 */
#ifndef WEFT_RUNTIME_BACKEND_CPU_VEC_H
#define WEFT_RUNTIME_BACKEND_CPU_VEC_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "runtime/base/bf16.h"

#define VEC_INLINE static inline __attribute__((always_inline, unused))

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define VEC_AVX512 1
#define VEC        16
#elif defined(__AVX2__) && defined(__FMA__)
#define VEC_AVX2 1
#define VEC      8
#else
#define VEC_PORTABLE 1
#define VEC          4
#endif

#if !defined(VEC_PORTABLE)
#include <immintrin.h>
#endif

typedef float vf __attribute__((vector_size(VEC * 4)));
typedef uint32_t vu __attribute__((vector_size(VEC * 4)));

VEC_INLINE vf vf_set(float value)
{
    return value - (vf){0};
}

VEC_INLINE vu vu_set(uint32_t value)
{
    return value + (vu){0};
}

VEC_INLINE vf vf_abs(vf x)
{
    return (vf)((vu)x & vu_set(0x7FFFFFFFu));
}

/* `magnitude` (not negative) with the sign of `sign`. */
VEC_INLINE vf vf_with_sign(vf magnitude, vf sign)
{
    return (vf)((vu)magnitude | ((vu)sign & vu_set(0x80000000u)));
}

#if defined(VEC_AVX512)

typedef __mmask16 vm;

VEC_INLINE vm vm_first(int n)
{
    return (vm)((1u << n) - 1u);
}
VEC_INLINE vm vm_and(vm a, vm b)
{
    return a & b;
}
VEC_INLINE bool vm_any(vm a)
{
    return a != 0;
}
VEC_INLINE vm vu_ge(vu a, vu b)
{
    return _mm512_cmpge_epu32_mask((__m512i)a, (__m512i)b);
}
VEC_INLINE vm vf_lt(vf a, vf b)
{
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ);
}
VEC_INLINE vm vf_le(vf a, vf b)
{
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LE_OQ);
}
VEC_INLINE vm vf_eq(vf a, vf b)
{
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_EQ_OQ);
}
/* a where the mask holds, else b. */
VEC_INLINE vf vf_select(vm mask, vf a, vf b)
{
    return (vf)_mm512_mask_blend_ps(mask, (__m512)b, (__m512)a);
}
/* a where the mask holds, else 0. */
VEC_INLINE vf vf_keep(vm mask, vf a)
{
    return (vf)_mm512_maskz_mov_ps(mask, (__m512)a);
}
/* a * b + c */
VEC_INLINE vf vf_fma(vf a, vf b, vf c)
{
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
/* c - a * b */
VEC_INLINE vf vf_fnma(vf a, vf b, vf c)
{
    return (vf)_mm512_fnmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
VEC_INLINE vf vf_min(vf a, vf b)
{
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
}
VEC_INLINE vf vf_max(vf a, vf b)
{
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
}
VEC_INLINE vf vf_sqrt(vf a)
{
    return (vf)_mm512_sqrt_ps((__m512)a);
}
/* 1 / x within 1 ulp, for finite x of normal size whose reciprocal is normal. */
VEC_INLINE vf vf_recip(vf x)
{
    vf r = (vf)_mm512_rcp14_ps((__m512)x);
    return vf_fma(vf_fnma(x, r, vf_set(1.0F)), r, r);
}
VEC_INLINE vf vf_load(const float *p)
{
    return (vf)_mm512_loadu_ps(p);
}
/* table[index % 32] in each lane; only here, where it is one instruction. */
VEC_INLINE vf vf_lookup_32(const float table[32], vu index)
{
    __m512 low = _mm512_loadu_ps(table);
    __m512 high = _mm512_loadu_ps(table + 16);
    return (vf)_mm512_permutex2var_ps(low, (__m512i)index, high);
}
VEC_INLINE vf vf_load_n(const float *p, int n)
{
    if (__builtin_constant_p(n) && (n) == VEC) return vf_load(p);
    return (vf)_mm512_maskz_loadu_ps(vm_first(n), p);
}
VEC_INLINE void vf_store(float *p, vf x)
{
    _mm512_storeu_ps(p, (__m512)x);
}
VEC_INLINE void vf_store_n(float *p, int n, vf x)
{
    if (__builtin_constant_p(n) && (n) == VEC) {
        vf_store(p, x);
    } else {
        _mm512_mask_storeu_ps(p, vm_first(n), (__m512)x);
    }
}
VEC_INLINE void vf_stream(float *p, vf x)
{
    _mm512_stream_ps(p, (__m512)x);
}
VEC_INLINE vf vec_widen(__m256i x)
{
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16);
}
VEC_INLINE __m256i vec_narrow(vf x)
{
#if defined(__AVX512BF16__)
    return (__m256i)_mm512_cvtneps_pbh((__m512)x);
#else
    vu bits = (vu)x;
    vu rounded = bits + vu_set(0x7FFFu) + ((bits >> 16) & vu_set(1));
    __mmask16 nan = _mm512_cmp_ps_mask((__m512)x, (__m512)x, _CMP_UNORD_Q);
    __m512i quiet = (__m512i)(bits | vu_set(0x400000u));
    __m512i chosen = _mm512_mask_blend_epi32(nan, (__m512i)rounded, quiet);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(chosen, 16));
#endif
}
VEC_INLINE vf vb_load_n(const bf16 *p, int n)
{
    if (__builtin_constant_p(n) && (n) == VEC) {
        return vec_widen(_mm256_loadu_si256((const __m256i *)(const void *)p));
    }
    return vec_widen(_mm256_maskz_loadu_epi16(vm_first(n), p));
}
VEC_INLINE void vb_store_n(bf16 *p, int n, vf x)
{
    if (__builtin_constant_p(n) && (n) == VEC) {
        _mm256_storeu_si256((__m256i *)(void *)p, vec_narrow(x));
    } else {
        _mm256_mask_storeu_epi16(p, vm_first(n), vec_narrow(x));
    }
}
VEC_INLINE void vb_stream(bf16 *p, vf x)
{
    _mm256_stream_si256((__m256i *)(void *)p, vec_narrow(x));
}
/* x * 2^n for n a whole number, |n| < 400; results below the normal range lose bits, not all. */
VEC_INLINE vf vf_scale2(vf x, vf n)
{
    return (vf)_mm512_scalef_ps((__m512)x, (__m512)n);
}

#elif defined(VEC_AVX2)

typedef __m256 vm;

VEC_INLINE vm vm_first(int n)
{
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane));
}
VEC_INLINE vm vm_and(vm a, vm b)
{
    return _mm256_and_ps(a, b);
}
VEC_INLINE bool vm_any(vm a)
{
    return _mm256_movemask_ps(a) != 0;
}
VEC_INLINE vm vu_ge(vu a, vu b)
{
    __m256i larger = _mm256_max_epu32((__m256i)a, (__m256i)b);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(larger, (__m256i)a));
}
VEC_INLINE vm vf_lt(vf a, vf b)
{
    return _mm256_cmp_ps((__m256)a, (__m256)b, _CMP_LT_OQ);
}
VEC_INLINE vm vf_le(vf a, vf b)
{
    return _mm256_cmp_ps((__m256)a, (__m256)b, _CMP_LE_OQ);
}
VEC_INLINE vm vf_eq(vf a, vf b)
{
    return _mm256_cmp_ps((__m256)a, (__m256)b, _CMP_EQ_OQ);
}
VEC_INLINE vf vf_select(vm mask, vf a, vf b)
{
    return (vf)_mm256_blendv_ps((__m256)b, (__m256)a, mask);
}
VEC_INLINE vf vf_keep(vm mask, vf a)
{
    return (vf)_mm256_and_ps(mask, (__m256)a);
}
VEC_INLINE vf vf_fma(vf a, vf b, vf c)
{
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
VEC_INLINE vf vf_fnma(vf a, vf b, vf c)
{
    return (vf)_mm256_fnmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
VEC_INLINE vf vf_min(vf a, vf b)
{
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
}
VEC_INLINE vf vf_max(vf a, vf b)
{
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
}
VEC_INLINE vf vf_sqrt(vf a)
{
    return (vf)_mm256_sqrt_ps((__m256)a);
}
VEC_INLINE vf vf_recip(vf x)
{
    return vf_set(1.0F) / x;
}
VEC_INLINE vf vf_load(const float *p)
{
    return (vf)_mm256_loadu_ps(p);
}
VEC_INLINE vf vf_load_n(const float *p, int n)
{
    if (__builtin_constant_p(n) && (n) == VEC) return vf_load(p);
    return (vf)_mm256_maskload_ps(p, _mm256_castps_si256(vm_first(n)));
}
VEC_INLINE void vf_store(float *p, vf x)
{
    _mm256_storeu_ps(p, (__m256)x);
}
VEC_INLINE void vf_store_n(float *p, int n, vf x)
{
    if (__builtin_constant_p(n) && (n) == VEC) {
        vf_store(p, x);
    } else {
        _mm256_maskstore_ps(p, _mm256_castps_si256(vm_first(n)), (__m256)x);
    }
}
VEC_INLINE void vf_stream(float *p, vf x)
{
    _mm256_stream_ps(p, (__m256)x);
}
VEC_INLINE vf vec_widen(__m128i x)
{
    return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16);
}
VEC_INLINE __m128i vec_narrow(vf x)
{
    vu bits = (vu)x;
    vu rounded = bits + vu_set(0x7FFFu) + ((bits >> 16) & vu_set(1));
    __m256 nan = _mm256_cmp_ps((__m256)x, (__m256)x, _CMP_UNORD_Q);
    vf quiet = (vf)(bits | vu_set(0x400000u));
    __m256i chosen = (__m256i)((vu)_mm256_blendv_ps((__m256)rounded, (__m256)quiet, nan) >> 16);
    __m256i packed = _mm256_packus_epi32(chosen, chosen);
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
}
VEC_INLINE vf vb_load_n(const bf16 *p, int n)
{
    if (__builtin_constant_p(n) && (n) == VEC) {
        return vec_widen(_mm_loadu_si128((const __m128i *)(const void *)p));
    }
    bf16 lanes[VEC] = {0};
    memcpy(lanes, p, (size_t)n * sizeof *p);
    return vec_widen(_mm_loadu_si128((const __m128i *)(const void *)lanes));
}
VEC_INLINE void vb_store_n(bf16 *p, int n, vf x)
{
    bf16 lanes[VEC];
    if (__builtin_constant_p(n) && (n) == VEC) {
        _mm_storeu_si128((__m128i *)(void *)p, vec_narrow(x));
    } else {
        _mm_storeu_si128((__m128i *)(void *)lanes, vec_narrow(x));
        memcpy(p, lanes, (size_t)n * sizeof *p);
    }
}
VEC_INLINE void vb_stream(bf16 *p, vf x)
{
    _mm_stream_si128((__m128i *)(void *)p, vec_narrow(x));
}

#else /* portable */

typedef vu vm;

VEC_INLINE vm vm_first(int n)
{
    vu lane = {0, 1, 2, 3};
    return (vm)(lane < vu_set((uint32_t)n));
}
VEC_INLINE vm vm_and(vm a, vm b)
{
    return a & b;
}
VEC_INLINE bool vm_any(vm a)
{
    return (a[0] | a[1] | a[2] | a[3]) != 0;
}
VEC_INLINE vm vu_ge(vu a, vu b)
{
    return (vm)(a >= b);
}
VEC_INLINE vm vf_lt(vf a, vf b)
{
    return (vm)(a < b);
}
VEC_INLINE vm vf_le(vf a, vf b)
{
    return (vm)(a <= b);
}
VEC_INLINE vm vf_eq(vf a, vf b)
{
    return (vm)(a == b);
}
VEC_INLINE vf vf_select(vm mask, vf a, vf b)
{
    return (vf)((mask & (vu)a) | (~mask & (vu)b));
}
VEC_INLINE vf vf_keep(vm mask, vf a)
{
    return (vf)(mask & (vu)a);
}
VEC_INLINE vf vf_fma(vf a, vf b, vf c)
{
#if defined(__FP_FAST_FMAF)
    vf r;
    for (int i = 0; i < VEC; i++) {
        r[i] = __builtin_fmaf(a[i], b[i], c[i]);
    }
    return r;
#else
    return a * b + c;
#endif
}
VEC_INLINE vf vf_fnma(vf a, vf b, vf c)
{
    return vf_fma(-a, b, c);
}
VEC_INLINE vf vf_min(vf a, vf b)
{
    return vf_select(vf_lt(a, b), a, b);
}
VEC_INLINE vf vf_max(vf a, vf b)
{
    return vf_select(vf_lt(b, a), a, b);
}
VEC_INLINE vf vf_sqrt(vf a)
{
    vf r;
    for (int i = 0; i < VEC; i++) {
        r[i] = sqrtf(a[i]);
    }
    return r;
}
VEC_INLINE vf vf_recip(vf x)
{
    return vf_set(1.0F) / x;
}
VEC_INLINE vf vf_load_n(const float *p, int n)
{
    vf r = {0};
    memcpy(&r, p, (size_t)n * sizeof *p);
    return r;
}
VEC_INLINE vf vf_load(const float *p)
{
    return vf_load_n(p, VEC);
}
VEC_INLINE void vf_store_n(float *p, int n, vf x)
{
    memcpy(p, &x, (size_t)n * sizeof *p);
}
VEC_INLINE void vf_store(float *p, vf x)
{
    vf_store_n(p, VEC, x);
}
VEC_INLINE void vf_stream(float *p, vf x)
{
    vf_store(p, x);
}
VEC_INLINE vf vb_load_n(const bf16 *p, int n)
{
    bf16 lanes[VEC] = {0};
    memcpy(lanes, p, (size_t)n * sizeof *p);
    vu bits = {lanes[0], lanes[1], lanes[2], lanes[3]};
    return (vf)(bits << 16);
}
VEC_INLINE void vb_store_n(bf16 *p, int n, vf x)
{
    vu bits = (vu)x;
    vu rounded = bits + vu_set(0x7FFFu) + ((bits >> 16) & vu_set(1));
    vu number = (vu)(x == x);
    vu chosen = ((number & rounded) | (~number & (bits | vu_set(0x400000u)))) >> 16;
    bf16 lanes[VEC];
    for (int i = 0; i < VEC; i++) {
        lanes[i] = (bf16)chosen[i];
    }
    memcpy(p, lanes, (size_t)n * sizeof *p);
}
VEC_INLINE void vb_stream(bf16 *p, vf x)
{
    vb_store_n(p, VEC, x);
}

#endif

#if !defined(VEC_AVX512)
/* In two steps of powers that are normal numbers, so that the result may be subnormal or infinite.
 */
VEC_INLINE vf vf_scale2(vf x, vf n)
{
    const vf magic = vf_set(0x1.8p23F);
    vf half = n * vf_set(0.5F) + magic - magic;
    vu a = ((vu)(half + vf_set(0x1.8p23F + 127.0F))) << 23;
    vu b = ((vu)(n - half + vf_set(0x1.8p23F + 127.0F))) << 23;
    return x * (vf)a * (vf)b;
}
#endif

/* Orders earlier vf_stream and vb_stream stores before later ones; call it before others may read.
 */
VEC_INLINE void vec_fence(void)
{
#if !defined(VEC_PORTABLE)
    _mm_sfence();
#endif
}

#if !defined(VEC_PORTABLE)
VEC_INLINE __m128 vec_quarter_sum(vf x)
{
#if defined(VEC_AVX512)
    __m256 half =
        _mm256_add_ps(_mm512_castps512_ps256((__m512)x), _mm512_extractf32x8_ps((__m512)x, 1));
#else
    __m256 half = (__m256)x;
#endif
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}
VEC_INLINE __m128 vec_quarter_max(vf x)
{
#if defined(VEC_AVX512)
    __m256 half =
        _mm256_max_ps(_mm512_castps512_ps256((__m512)x), _mm512_extractf32x8_ps((__m512)x, 1));
#else
    __m256 half = (__m256)x;
#endif
    return _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}
/* The sum of the lanes, as a balanced tree. */
VEC_INLINE float vf_sum(vf x)
{
    __m128 a = vec_quarter_sum(x);
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}
/* The largest lane; unspecified when a lane is NaN. */
VEC_INLINE float vf_largest(vf x)
{
    __m128 a = vec_quarter_max(x);
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}
#else
VEC_INLINE float vf_sum(vf x)
{
    return (x[0] + x[2]) + (x[1] + x[3]);
}
VEC_INLINE float vf_largest(vf x)
{
    float a = x[0] > x[2] ? x[0] : x[2];
    float b = x[1] > x[3] ? x[1] : x[3];
    return a > b ? a : b;
}
#endif

/* x with the lanes from n on replaced by those of `other`. */
VEC_INLINE vf vf_first(int n, vf x, vf other)
{
    return __builtin_constant_p(n) && (n) == VEC ? x : vf_select(vm_first(n), x, other);
}

/* n elements of a tensor from index i: f32, or bf16 when `half`. */
VEC_INLINE vf vx_load(const void *base, int64_t i, int n, bool half)
{
    return half ? vb_load_n((const bf16 *)base + i, n) : vf_load_n((const float *)base + i, n);
}

VEC_INLINE void vx_store(void *base, int64_t i, int n, bool half, vf x)
{
    if (half) {
        vb_store_n((bf16 *)base + i, n, x);
    } else {
        vf_store_n((float *)base + i, n, x);
    }
}

/*
 * vx_load for the first pass over memory: also asks for the data 1 KiB ahead, because the hardware
 * prefetcher stops at each 4 KiB page. May ask for addresses beyond the tensor, which is harmless.
 */
VEC_INLINE vf vx_load_ahead(const void *base, int64_t i, int n, bool half)
{
    __builtin_prefetch((const char *)base + i * (half ? 2 : 4) + 1024);
    return vx_load(base, i, n, half);
}

/* Asks for the data at index i, in the second-level cache, while something else is computed. */
VEC_INLINE void vx_prefetch(const void *base, int64_t i, bool half)
{
    __builtin_prefetch((const char *)base + i * (half ? 2 : 4), 0, 2);
}

/* What vx_store then vx_load would return: x rounded to the tensor's dtype. */
VEC_INLINE vf vx_round(vf x, bool half)
{
    if (!half) return x;
    bf16 lanes[VEC];
    vb_store_n(lanes, VEC, x);
    return vb_load_n(lanes, VEC);
}

/* vx_store past the caches when `stream`; then the address is aligned to the vector. */
VEC_INLINE void vx_put(void *base, int64_t i, int n, bool half, bool stream, vf x)
{
    if (!stream || !(__builtin_constant_p(n) && (n) == VEC)) {
        vx_store(base, i, n, half, x);
    } else if (half) {
        vb_stream((bf16 *)base + i, x);
    } else {
        vf_stream((float *)base + i, x);
    }
}

/* Runs STEP(i, n) over [begin, end): full vectors with the constant n = VEC, then the rest. */
#define VEC_FOR(begin, end, STEP)                                                                  \
    do {                                                                                           \
        int64_t vec_i = (begin);                                                                   \
        const int64_t vec_end = (end);                                                             \
        for (; vec_i + VEC <= vec_end; vec_i += VEC) {                                             \
            STEP(vec_i, VEC);                                                                      \
        }                                                                                          \
        if (vec_i < vec_end) STEP(vec_i, (int)(vec_end - vec_i));                                  \
    } while (0)

/*
 * The same with four vectors a turn: STEP(i, n, k) with the constant k in 0..3 telling them apart,
 * so that a reduction has four running values. Addition takes 4 cycles and two can begin each
 * cycle.
 */
#define VEC_FOR_4(begin, end, STEP)                                                                \
    do {                                                                                           \
        int64_t vec_i = (begin);                                                                   \
        const int64_t vec_end = (end);                                                             \
        for (; vec_i + 4 * VEC <= vec_end; vec_i += 4 * VEC) {                                     \
            STEP(vec_i, VEC, 0);                                                                   \
            STEP(vec_i + VEC, VEC, 1);                                                             \
            STEP(vec_i + 2 * VEC, VEC, 2);                                                         \
            STEP(vec_i + 3 * VEC, VEC, 3);                                                         \
        }                                                                                          \
        for (; vec_i + VEC <= vec_end; vec_i += VEC) {                                             \
            STEP(vec_i, VEC, 0);                                                                   \
        }                                                                                          \
        if (vec_i < vec_end) STEP(vec_i, (int)(vec_end - vec_i), 1);                               \
    } while (0)

/* The sum of the lanes of four vectors. */
VEC_INLINE float vf_sum_4(const vf x[4])
{
    return vf_sum((x[0] + x[1]) + (x[2] + x[3]));
}

#endif
