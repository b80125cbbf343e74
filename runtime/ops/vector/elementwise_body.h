/* Slices of elementwise.h and triad_cpu. Included by vector_*.c only. */

#define MAP_SLICE(name, RESULT)                                                                    \
    SLICE(name)                                                                                    \
    {                                                                                              \
        const struct vector_map m = *(const struct vector_map *)args;                              \
        const vf alpha = vf_set(m.alpha);                                                          \
        const vf beta = vf_set(m.beta);                                                            \
        (void)alpha, (void)beta;                                                                   \
        VEC_FOR(begin, end, RESULT);                                                               \
        if (m.stream) vec_fence();                                                                 \
    }
#define LOAD(x, i, n)       vx_load_ahead(m.x, i, n, half)
#define PUT(x, i, n, value) vx_put(m.x, i, n, half, m.stream, value)

#define STEP(i, n) PUT(y, i, n, vf_fma(alpha, LOAD(b, i, n), LOAD(a, i, n)))
MAP_SLICE(triad, STEP)
MAP_SLICE(axpy, STEP) /* also y = a + *alpha * b: the caller has read alpha */
#undef STEP

#define STEP(i, n) PUT(y, i, n, LOAD(a, i, n) + LOAD(b, i, n))
MAP_SLICE(add, STEP)
#undef STEP

#define STEP(i, n) PUT(y, i, n, LOAD(a, i, n) - LOAD(b, i, n))
MAP_SLICE(sub, STEP)
#undef STEP

#define STEP(i, n) PUT(y, i, n, LOAD(a, i, n) * LOAD(b, i, n))
MAP_SLICE(mul, STEP)
#undef STEP

#define STEP(i, n) PUT(y, i, n, alpha *LOAD(a, i, n))
MAP_SLICE(scale, STEP)
#undef STEP

#define STEP(i, n) PUT(y, i, n, vf_min(beta, vf_max(alpha, LOAD(a, i, n))))
MAP_SLICE(clamp_fwd, STEP)
#undef STEP

/* NaN in x: both comparisons fail, so x + dy carries it on instead of a zero. */
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf x = LOAD(a, i, n);                                                                      \
        vf dy = LOAD(b, i, n);                                                                     \
        vf inside = vf_keep(vm_and(vf_le(alpha, x), vf_le(x, beta)), dy);                          \
        PUT(y, i, n, vf_select(vf_eq(x, x), inside, x));                                           \
    } while (0)
MAP_SLICE(clamp_bwd, STEP)
#undef STEP

#define STEP(i, n) PUT(y, i, n, alpha)
MAP_SLICE(fill, STEP)
#undef STEP

/* The dtype of the table is that of x; `kind` is that of y. */
#define STEP(i, n) vx_put(m.y, i, n, m.kind == VECTOR_BF16, m.stream, LOAD(a, i, n))
MAP_SLICE(cast, STEP)
#undef STEP

#undef MAP_SLICE
#undef LOAD
#undef PUT

SLICE(bias_add)
{
    const struct vector_rows m = *(const struct vector_rows *)args;
    for (int64_t r = begin; r < end; r++) {
        const int64_t row = r * m.cols;
#define STEP(i, n)                                                                                 \
    vx_put(m.y, row + (i), n, half, m.stream,                                                      \
           vx_load_ahead(m.a, row + (i), n, half) + vf_load_n(m.u + (i), n))
        VEC_FOR(0, m.cols, STEP);
#undef STEP
    }
    if (m.stream) vec_fence();
}

/* Sums of blocks go over to f64. */
SLICE(gated_add_bwd)
{
    const struct vector_map m = *(const struct vector_map *)args;
    const vf alpha = vf_set(m.alpha);
    for (int64_t part = begin; part < end; part++) {
        double total = 0;
        const int64_t last = part * m.part + m.part < m.count ? part * m.part + m.part : m.count;
        for (int64_t at = part * m.part; at < last; at += VECTOR_BLOCK) {
            vf sum = {0};
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf dy = vx_load(m.a, i, n, half);                                                          \
        sum = vf_fma(dy, vx_load(m.b, i, n, half), sum);                                           \
        if (m.y) vx_store(m.y, i, n, half, alpha *dy);                                             \
    } while (0)
            VEC_FOR(at, at + VECTOR_BLOCK < last ? at + VECTOR_BLOCK : last, STEP);
#undef STEP
            total += (double)vf_sum(sum);
        }
        m.partial[part] = total;
    }
}
