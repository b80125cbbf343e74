/* Slices of activation.h. Included by vector_*.c only. */

/* f(x), and f'(x) through `slope`. What the caller does not use is removed by the compiler. */
VEC_INLINE vf activate(enum activation kind, vf x, vf *slope)
{
    const vf one = vf_set(1.0F);
    switch (kind) {
    case ACTIVATION_GELU: {
        vf density;
        vf phi = vf_normal(x, &density);
        *slope = vf_fma(x, density, phi);
        return x * phi;
    }
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
        vx_put(m.y, i, n, half, m.stream, activate(kind, vx_load(m.a, i, n, half), &slope));       \
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
        vf dy = vx_load(m.b, i, n, half);                                                          \
        (void)activate(kind, vx_load(m.a, i, n, half), &slope);                                    \
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
        vf dy = vx_load(m.b, i, n, half);                                                          \
        vf value = activate(kind, vx_load(m.a, i, n, half), &slope);                               \
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
        vf slope = slope_of_output(kind, vx_load(m.a, i, n, half));                                \
        vx_put(m.y, i, n, half, m.stream, vx_load(m.b, i, n, half) * slope);                       \
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
