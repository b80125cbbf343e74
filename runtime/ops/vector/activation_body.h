/* Slices of activation.h. Included by vector_*.c only. */

#if defined(VEC_AVX512)
#include "runtime/ops/vector/gelu_table.h"

VEC_INLINE vf gelu_polynomial(const float (*table)[32], int terms, vu index, vf f)
{
    vf p = vf_lookup_32(table[terms - 1], index);
    for (int j = terms - 2; j >= 0; j--) {
        p = vf_fma(p, f, vf_lookup_32(table[j], index));
    }
    return p;
}

/* x Phi(x) is max(x, 0) - t Phi(-t) with t = |x|; its slope is odd about 1/2. */
VEC_INLINE vf gelu(vf x, vf *slope, const bool coarse)
{
    const vf magic = vf_set(0x1.8p23F); /* its low bits are 0: those of z are the table index */
    vf t = vf_min(vf_set(5.7F), vf_abs(x));
    vf z = vf_fma(t, vf_set(5.5F), magic);
    vf f = vf_fma(t, vf_set(5.5F), magic - z);
    vf tail = gelu_polynomial(coarse ? gelu_tail_coarse : gelu_tail, coarse ? 4 : 5, (vu)z, f);
    vf half = gelu_polynomial(coarse ? gelu_slope_coarse : gelu_slope, coarse ? 4 : 5, (vu)z, f);
    vf signed_half = (vf)((vu)half ^ ((vu)x & vu_set(0x80000000u)));
    *slope = vf_set(0.5F) + signed_half;
    return vf_fnma(t, tail, vf_max((vf){0}, x));
}
#else
VEC_INLINE vf gelu(vf x, vf *slope, const bool coarse)
{
    (void)coarse;
    vf t = vf_abs(x);
    vf tail;
    vf density = vf_normal(t, &tail);
    *slope = vf_fma(x, density, vf_select(vf_lt(x, (vf){0}), tail, vf_set(1.0F) - tail));
    t = vf_min(vf_set(14.5F), t); /* infinity times 0 would be NaN */
    return vf_fnma(t, tail, vf_max((vf){0}, x));
}
#endif

/*
 * f(x), and f'(x) through `slope`. What the caller does not use is removed by the compiler.
 * `coarse`: the results will be rounded to bf16.
 */
VEC_INLINE vf activate(enum activation kind, vf x, vf *slope, const bool coarse)
{
    const vf one = vf_set(1.0F);
    switch (kind) {
    case ACTIVATION_GELU:
        return gelu(x, slope, coarse);
    case ACTIVATION_GELU_QUICK: {
        vf z;
        vf s = vf_sigmoid_scaled(x, 1.702F, &z, slope);
        *slope = vf_fma(z, *slope, s);
        return x * s;
    }
    case ACTIVATION_TANH: {
        vf t = vf_min(vf_set(40.0F), vf_abs(x));
        vf e = vf_exp(t * vf_set(-2.0F));
        vf r = vf_recip(e + one);
        *slope = e * r * r * vf_set(4.0F); /* 1 / cosh^2, without 1 - tanh^2 */
        return vf_tanh(x);
    }
    case ACTIVATION_RELU:
        *slope = vf_select(vf_eq(x, x), vf_keep(vf_lt((vf){0}, x), one), x);
        return vf_max((vf){0}, x);
    default: {
        vf z;
        return vf_sigmoid_scaled(x, 1.0F, &z, slope);
    }
    }
}

/* f'(x) from y = f(x). */
VEC_INLINE vf slope_of_output(enum activation kind, vf y)
{
    if (kind == ACTIVATION_TANH) return vf_fnma(y, y, vf_set(1.0F));
    if (kind == ACTIVATION_SIGMOID) return vf_fnma(y, y, y);
    return vf_select(vf_eq(y, y), vf_keep(vf_lt((vf){0}, y), vf_set(1.0F)), y);
}

VEC_INLINE void activation_fwd_kind(const struct vector_map *args, int64_t begin, int64_t end,
                                    const bool half, const enum activation kind)
{
    const struct vector_map m = *args;
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf slope;                                                                                  \
        vx_put(m.y, i, n, half, m.stream,                                                          \
               activate(kind, vx_load_ahead(m.a, i, n, half), &slope, half));                      \
    } while (0)
    VEC_FOR(begin, end, STEP);
#undef STEP
    if (m.stream) vec_fence();
}

VEC_INLINE void activation_bwd_kind(const struct vector_map *args, int64_t begin, int64_t end,
                                    const bool half, const enum activation kind)
{
    const struct vector_map m = *args;
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf slope;                                                                                  \
        vf dy = vx_load_ahead(m.b, i, n, half);                                                    \
        (void)activate(kind, vx_load_ahead(m.a, i, n, half), &slope, half);                        \
        vx_put(m.y, i, n, half, m.stream, dy *slope);                                              \
    } while (0)
    VEC_FOR(begin, end, STEP);
#undef STEP
    if (m.stream) vec_fence();
}

VEC_INLINE void activation_both_kind(const struct vector_map *args, int64_t begin, int64_t end,
                                     const bool half, const enum activation kind)
{
    const struct vector_map m = *args;
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf slope;                                                                                  \
        vf dy = vx_load_ahead(m.b, i, n, half);                                                    \
        vf value = activate(kind, vx_load_ahead(m.a, i, n, half), &slope, half);                   \
        vx_put(m.z, i, n, half, m.stream, value);                                                  \
        vx_put(m.y, i, n, half, m.stream, dy *slope);                                              \
    } while (0)
    VEC_FOR(begin, end, STEP);
#undef STEP
    if (m.stream) vec_fence();
}

VEC_INLINE void activation_bwd_output_kind(const struct vector_map *args, int64_t begin,
                                           int64_t end, const bool half, const enum activation kind)
{
    const struct vector_map m = *args;
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf slope = slope_of_output(kind, vx_load_ahead(m.a, i, n, half));                          \
        vx_put(m.y, i, n, half, m.stream, vx_load_ahead(m.b, i, n, half) * slope);                 \
    } while (0)
    VEC_FOR(begin, end, STEP);
#undef STEP
    if (m.stream) vec_fence();
}

#define BY_KIND(function)                                                                          \
    const struct vector_map *map = args;                                                           \
    switch (map->kind) {                                                                           \
    case ACTIVATION_GELU:                                                                          \
        function(map, begin, end, half, ACTIVATION_GELU);                                          \
        break;                                                                                     \
    case ACTIVATION_GELU_QUICK:                                                                    \
        function(map, begin, end, half, ACTIVATION_GELU_QUICK);                                    \
        break;                                                                                     \
    case ACTIVATION_TANH:                                                                          \
        function(map, begin, end, half, ACTIVATION_TANH);                                          \
        break;                                                                                     \
    case ACTIVATION_RELU:                                                                          \
        function(map, begin, end, half, ACTIVATION_RELU);                                          \
        break;                                                                                     \
    default:                                                                                       \
        function(map, begin, end, half, ACTIVATION_SIGMOID);                                       \
    }

SLICE(activation_fwd){BY_KIND(activation_fwd_kind)}

SLICE(activation_bwd){BY_KIND(activation_bwd_kind)}

SLICE(activation_both){BY_KIND(activation_both_kind)}

SLICE(activation_bwd_output)
{
    const struct vector_map *map = args;
    if (map->kind == ACTIVATION_TANH) {
        activation_bwd_output_kind(map, begin, end, half, ACTIVATION_TANH);
    } else if (map->kind == ACTIVATION_SIGMOID) {
        activation_bwd_output_kind(map, begin, end, half, ACTIVATION_SIGMOID);
    } else {
        activation_bwd_output_kind(map, begin, end, half, ACTIVATION_RELU);
    }
}
#undef BY_KIND
