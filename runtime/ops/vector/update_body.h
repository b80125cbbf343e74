/* Slices of update.h. Included by vector_*.c only. All f32. */

SLICE(adamw)
{
    (void)half;
    const struct adamw_job a = *(const struct adamw_job *)args;
    const vf gradient_scale = vf_set(a.gradient_scale);
    const vf beta1 = vf_set(a.beta1);
    const vf beta2 = vf_set(a.beta2);
    const vf rest1 = vf_set(a.one_minus_beta1);
    const vf rest2 = vf_set(a.one_minus_beta2);
    const vf eps = vf_set(a.eps);
    const vf v_scale = vf_set(a.v_scale);
    const vf step_size = vf_set(a.step_size);
    const vf before = vf_set(a.decay_before);
    const vf after = vf_set(a.decay_after);
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf g = vf_load_n(a.g + (i), n) * gradient_scale;                                           \
        vf m = vf_fma(beta1, vf_load_n(a.m + (i), n), rest1 * g);                                  \
        vf v = vf_fma(beta2, vf_load_n(a.v + (i), n), rest2 * g * g);                              \
        vf_store_n(a.m + (i), n, m);                                                               \
        vf_store_n(a.v + (i), n, v);                                                               \
        vf step = step_size * m / vf_fma(vf_sqrt(v), v_scale, eps);                                \
        vf p = vf_fma(vf_load_n(a.p + (i), n), before, -step) * after;                             \
        vf_store_n(a.p + (i), n, p);                                                               \
        if (a.shadow) vb_store_n(a.shadow + (i), n, p);                                            \
    } while (0)
    VEC_FOR(begin, end, STEP);
#undef STEP
}

SLICE(ema)
{
    (void)half;
    const struct vector_map m = *(const struct vector_map *)args;
    float *ema = m.y;
    const float *p = m.a;
    const vf decay = vf_set(m.alpha);
    const vf rest = vf_set(m.beta);
#define STEP(i, n)                                                                                 \
    vf_store_n(ema + (i), n, vf_fma(decay, vf_load_n(ema + (i), n), rest * vf_load_n(p + (i), n)))
    VEC_FOR(begin, end, STEP);
#undef STEP
}

#if defined(VEC_AVX512)
typedef __m512d vec_double;
#define WIDEN_HALF(p)      _mm512_cvtps_pd(_mm256_loadu_ps(p))
#define ADD_SQUARE(x, sum) _mm512_fmadd_pd(x, x, sum)
#elif defined(VEC_AVX2)
typedef __m256d vec_double;
#define WIDEN_HALF(p)      _mm256_cvtps_pd(_mm_loadu_ps(p))
#define ADD_SQUARE(x, sum) _mm256_fmadd_pd(x, x, sum)
#else
typedef double vec_double __attribute__((vector_size(VEC * 4)));
#define WIDEN_HALF(p)      ((vec_double){(double)(p)[0], (double)(p)[1]})
#define ADD_SQUARE(x, sum) ((x) * (x) + (sum))
#endif

SLICE(sum_squares)
{
    (void)half;
    enum { HALF = VEC / 2 };
    const struct vector_map m = *(const struct vector_map *)args;
    for (int64_t part = begin; part < end; part++) {
        const float *x = (const float *)m.a + part * m.part;
        const int64_t size = m.count - part * m.part < m.part ? m.count - part * m.part : m.part;
        vec_double sum[4] = {{0}, {0}, {0}, {0}};
        int64_t i = 0;
        for (; i + 4 * HALF <= size; i += 4 * HALF) {
            __builtin_prefetch(x + i + 512);
            __builtin_prefetch(x + i + 512 + 2 * HALF);
            for (int k = 0; k < 4; k++) {
                vec_double wide = WIDEN_HALF(x + i + k * HALF);
                sum[k] = ADD_SQUARE(wide, sum[k]);
            }
        }
        vec_double all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        double lane[HALF];
        memcpy(lane, &all, sizeof lane);
        double total = 0;
        for (int k = 0; k < HALF; k++) {
            total += lane[k];
        }
        for (; i < size; i++) {
            total += (double)x[i] * (double)x[i];
        }
        m.partial[part] = total;
    }
}
#undef WIDEN_HALF
#undef ADD_SQUARE
