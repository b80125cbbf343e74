/* Slices of random.h. Included by vector_*.c only. */

/*
 * The words of elements [4 * block, 4 * block + 2 * VEC) in order, from VEC / 2 Philox blocks at
 * once.
 *
 * Each 32-bit counter word has a 64-bit lane, where the 32 x 32 -> 64 multiply wants it. The
 * product goes on as the low word without being cut: the multiply ignores upper halves, and what
 * the exclusive-or leaves there is dropped at the end. So a round is 2 multiplies, 2 shifts and 4
 * exclusive-ors (2 ternary operations), and nothing moves between lanes. The blocks sit in the
 * lanes in the order that makes the final 64-bit unpack yield them in sequence.
 */
#if !defined(VEC_PORTABLE)
#if defined(VEC_AVX512)
typedef __m512i vec_wide;
#define WIDE_SET(x)       _mm512_set1_epi64((long long)(x))
#define WIDE_LANES        _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7)
#define WIDE_ADD(a, b)    _mm512_add_epi64(a, b)
#define WIDE_MUL(a, b)    _mm512_mul_epu32(a, b)
#define WIDE_HIGH(a)      _mm512_srli_epi64(a, 32)
#define WIDE_XOR(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0x96)
#define WIDE_PAIR(a, b)   _mm512_mask_blend_epi32(0xAAAA, a, _mm512_slli_epi64(b, 32))
#define WIDE_EVEN(a, b)   _mm512_unpacklo_epi64(a, b)
#define WIDE_ODD(a, b)    _mm512_unpackhi_epi64(a, b)
#else
typedef __m256i vec_wide;
#define WIDE_SET(x)       _mm256_set1_epi64x((long long)(x))
#define WIDE_LANES        _mm256_setr_epi64x(0, 2, 1, 3)
#define WIDE_ADD(a, b)    _mm256_add_epi64(a, b)
#define WIDE_MUL(a, b)    _mm256_mul_epu32(a, b)
#define WIDE_HIGH(a)      _mm256_srli_epi64(a, 32)
#define WIDE_XOR(a, b, c) _mm256_xor_si256(_mm256_xor_si256(a, b), c)
#define WIDE_PAIR(a, b)   _mm256_blend_epi32(a, _mm256_slli_epi64(b, 32), 0xAA)
#define WIDE_EVEN(a, b)   _mm256_unpacklo_epi64(a, b)
#define WIDE_ODD(a, b)    _mm256_unpackhi_epi64(a, b)
#endif

VEC_INLINE void philox_words(struct rng_key key, uint64_t step, uint64_t sample, uint32_t block,
                             vu words[2])
{
    /* A carry out of the low half of block + lane is dropped with the upper halves. */
    vec_wide c0 = WIDE_ADD(WIDE_SET(block), WIDE_LANES);
    vec_wide c1 = WIDE_SET((uint32_t)sample);
    vec_wide c2 = WIDE_SET((uint32_t)(sample >> 32));
    vec_wide c3 = WIDE_SET((uint32_t)step);
    for (int round = 0; round < 10; round++) {
        vec_wide a = WIDE_MUL(c0, WIDE_SET(0xD2511F53u));
        vec_wide b = WIDE_MUL(c2, WIDE_SET(0xCD9E8D57u));
        c0 = WIDE_XOR(WIDE_HIGH(b), c1, WIDE_SET(key.word[0]));
        c1 = b;
        c2 = WIDE_XOR(WIDE_HIGH(a), c3, WIDE_SET(key.word[1]));
        c3 = a;
        key.word[0] += 0x9E3779B9u;
        key.word[1] += 0xBB67AE85u;
    }
    vec_wide low = WIDE_PAIR(c0, c1);
    vec_wide high = WIDE_PAIR(c2, c3);
    words[0] = (vu)WIDE_EVEN(low, high);
    words[1] = (vu)WIDE_ODD(low, high);
}
#undef WIDE_SET
#undef WIDE_LANES
#undef WIDE_ADD
#undef WIDE_MUL
#undef WIDE_HIGH
#undef WIDE_XOR
#undef WIDE_PAIR
#undef WIDE_EVEN
#undef WIDE_ODD
#else
VEC_INLINE void philox_words(struct rng_key key, uint64_t step, uint64_t sample, uint32_t block,
                             vu words[2])
{
    for (uint32_t i = 0; i < 2; i++) {
        struct rng_block b = rng_at(key, step, sample, block + i);
        memcpy(&words[i], b.word, sizeof words[i]);
    }
}
#endif

/* Elements [first, last) of one row, which are elements [e, ...) of the sample. */
VEC_INLINE void dropout_span(const struct dropout_job *job, uint64_t sample, int64_t e,
                             int64_t first, int64_t last, const bool half)
{
    const struct dropout *a = &job->a;
    const vf scale = vf_set(job->scale);
    const vu threshold = vu_set(job->threshold);
    enum { CHUNK = 2 * VEC };
    int64_t chunk = e / CHUNK * CHUNK;
    int64_t at = first - (e - chunk); /* where the chunk begins in the tensor, maybe before first */
    for (; at < last; at += CHUNK, chunk += CHUNK) {
        vu words[2];
        philox_words(a->key, a->step, sample, (uint32_t)(chunk / 4), words);
        if (at >= first && at + CHUNK <= last) {
            for (int64_t k = 0; k < 2; k++) {
                vf x = vx_load(a->x, at + k * VEC, VEC, half) * scale;
                vx_store(a->y, at + k * VEC, VEC, half, vf_keep(vu_ge(words[k], threshold), x));
            }
            continue;
        }
        uint32_t word[CHUNK];
        memcpy(word, words, sizeof word);
        for (int64_t k = 0; k < CHUNK; k++) {
            if (at + k < first || at + k >= last) continue;
            vf x = vx_load(a->x, at + k, 1, half) * scale;
            vx_store(a->y, at + k, 1, half, word[k] >= job->threshold ? x : (vf){0});
        }
    }
}

SLICE(dropout)
{
    const struct dropout_job *job = args;
    const struct dropout *a = &job->a;
    while (begin < end) {
        const int64_t r = begin / a->per_row;
        const int64_t row_end = (r + 1) * a->per_row;
        const int64_t last = row_end < end ? row_end : end;
        const int64_t e = r / a->samples * a->per_row + (begin - r * a->per_row);
        dropout_span(job, a->sample_base + (uint64_t)(r % a->samples), e, begin, last, half);
        begin = last;
    }
}

SLICE(drop_path)
{
    const struct drop_path_job *job = args;
    const struct drop_path *a = &job->a;
    const vf scale = vf_set(job->scale);
    while (begin < end) {
        const int64_t r = begin / a->per_row;
        const int64_t row_end = (r + 1) * a->per_row;
        const int64_t last = row_end < end ? row_end : end;
        const int64_t e = r / a->samples;
        const struct rng_block block =
            rng_at(a->key, a->step, a->sample_base + (uint64_t)(r % a->samples), (uint32_t)(e / 4));
        const bool keep = rng_uniform(block.word[e % 4]) >= a->p;
        if (keep) {
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf x = a->x ? vx_load(a->x, i, n, half) : (vf){0};                                         \
        vx_store(a->y, i, n, half, vf_fma(vx_load(a->branch, i, n, half), scale, x));              \
    } while (0)
            VEC_FOR(begin, last, STEP);
#undef STEP
        } else if (a->x != a->y || !a->x) {
#define STEP(i, n) vx_store(a->y, i, n, half, a->x ? vx_load(a->x, i, n, half) : (vf){0})
            VEC_FOR(begin, last, STEP);
#undef STEP
        }
        begin = last;
    }
}
