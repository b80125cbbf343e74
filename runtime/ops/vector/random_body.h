/* Slices of random.h. Included by vector_*.c only. */

/*
 * The words of elements [4 * block, 4 * block + 4 * VEC) in order, from VEC Philox blocks at once.
 *
 * Each 32-bit counter word has a 64-bit lane, where the 32 x 32 -> 64 multiply wants it. The
 * product goes on as the low word without being cut: the multiply ignores upper halves, and what
 * the exclusive-or leaves there is dropped at the end. So a round is 2 multiplies, 2 moves of the
 * upper half down (by shuffle, because shifts and multiplies share a port) and 4 exclusive-ors (2
 * ternary operations). The blocks sit in the lanes in the order that makes the final 64-bit unpack
 * yield them in sequence. Two sets of VEC / 2 blocks run side by side: one alone would wait for its
 * own results. `keys` are the two key words of each round, as 64-bit numbers in memory, from where
 * they are broadcast for free.
 */
#if !defined(VEC_PORTABLE)
#if defined(VEC_AVX512)
typedef __m512i vec_wide;
#define WIDE_SET(x)       _mm512_set1_epi64((long long)(x))
#define WIDE_LANES        _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7)
#define WIDE_ADD(a, b)    _mm512_add_epi64(a, b)
#define WIDE_MUL(a, b)    _mm512_mul_epu32(a, b)
#define WIDE_HIGH(a)      _mm512_shuffle_epi32(a, _MM_PERM_DDBB)
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
#define WIDE_HIGH(a)      _mm256_shuffle_epi32(a, 0xF5)
#define WIDE_XOR(a, b, c) _mm256_xor_si256(_mm256_xor_si256(a, b), c)
#define WIDE_PAIR(a, b)   _mm256_blend_epi32(a, _mm256_slli_epi64(b, 32), 0xAA)
#define WIDE_EVEN(a, b)   _mm256_unpacklo_epi64(a, b)
#define WIDE_ODD(a, b)    _mm256_unpackhi_epi64(a, b)
#endif

VEC_INLINE void philox_words(const uint64_t keys[20], uint64_t step, uint64_t sample,
                             uint32_t block, vu words[4])
{
    vec_wide c[2][4];
    for (uint32_t set = 0; set < 2; set++) {
        /* A carry out of the low half of block + lane is dropped with the upper halves. */
        c[set][0] = WIDE_ADD(WIDE_SET(block + set * (VEC / 2)), WIDE_LANES);
        c[set][1] = WIDE_SET((uint32_t)sample);
        c[set][2] = WIDE_SET((uint32_t)(sample >> 32));
        c[set][3] = WIDE_SET((uint32_t)step);
    }
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
#pragma GCC unroll 2
        for (int set = 0; set < 2; set++) {
            vec_wide a = WIDE_MUL(c[set][0], WIDE_SET(0xD2511F53u));
            vec_wide b = WIDE_MUL(c[set][2], WIDE_SET(0xCD9E8D57u));
            c[set][0] = WIDE_XOR(WIDE_HIGH(b), c[set][1], WIDE_SET(keys[2 * round]));
            c[set][1] = b;
            c[set][2] = WIDE_XOR(WIDE_HIGH(a), c[set][3], WIDE_SET(keys[2 * round + 1]));
            c[set][3] = a;
        }
    }
    for (int set = 0; set < 2; set++) {
        vec_wide low = WIDE_PAIR(c[set][0], c[set][1]);
        vec_wide high = WIDE_PAIR(c[set][2], c[set][3]);
        words[2 * set] = (vu)WIDE_EVEN(low, high);
        words[2 * set + 1] = (vu)WIDE_ODD(low, high);
    }
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
VEC_INLINE void philox_words(const uint64_t keys[20], uint64_t step, uint64_t sample,
                             uint32_t block, vu words[4])
{
    const struct rng_key key = {{(uint32_t)keys[0], (uint32_t)keys[1]}};
    for (uint32_t i = 0; i < 4; i++) {
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
    enum { CHUNK = 4 * VEC };
    int64_t chunk = e / CHUNK * CHUNK;
    int64_t at = first - (e - chunk); /* where the chunk begins in the tensor, maybe before first */
    for (; at < last; at += CHUNK, chunk += CHUNK) {
        vu words[4];
        philox_words(job->keys, a->step, sample, (uint32_t)(chunk / 4), words);
#define STEP(i, n, word)                                                                           \
    do {                                                                                           \
        vf x = vx_load_ahead(a->x, i, n, half) * scale;                                            \
        vx_put(a->y, i, n, half, job->stream, vf_keep(vu_ge(word, threshold), x));                 \
    } while (0)
        if (at >= first && at + CHUNK <= last) {
            STEP(at, VEC, words[0]);
            STEP(at + VEC, VEC, words[1]);
            STEP(at + 2 * VEC, VEC, words[2]);
            STEP(at + 3 * VEC, VEC, words[3]);
            continue;
        }
        uint32_t word[CHUNK + VEC] = {0}; /* vectors are read from any place in the chunk */
        memcpy(word, words, sizeof words);
        const int64_t from = at < first ? first : at;
        const int64_t to = at + CHUNK < last ? at + CHUNK : last;
        for (int64_t i = from; i < to; i += VEC) {
            vu part;
            memcpy(&part, word + (i - at), sizeof part);
            STEP(i, (int)(to - i < VEC ? to - i : VEC), part);
        }
#undef STEP
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
    if (job->stream) vec_fence();
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
