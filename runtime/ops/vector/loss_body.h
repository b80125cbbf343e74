/* Slices of loss.h. Included by vector_*.c only. */

SLICE(bce_fwd)
{
    const struct vector_map m = *(const struct vector_map *)args;
    const float *target = m.b;
    float *loss = m.y;
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf x = vx_load(m.a, i, n, half);                                                           \
        vf linear = vf_fnma(x, vf_load_n(target + (i), n), vf_max((vf){0}, x));                    \
        vf_store_n(loss + (i), n, linear + vf_log1p_unit(vf_exp(-vf_abs(x))));                     \
    } while (0)
    VEC_FOR(begin, end, STEP);
#undef STEP
}

SLICE(bce_bwd)
{
    const struct vector_map m = *(const struct vector_map *)args;
    const float *target = m.b;
    const float *dloss = m.c;
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf difference = vf_sigmoid(vx_load(m.a, i, n, half)) - vf_load_n(target + (i), n);         \
        vx_store(m.y, i, n, half, difference *vf_load_n(dloss + (i), n));                          \
    } while (0)
    VEC_FOR(begin, end, STEP);
#undef STEP
}

SLICE(mse_bwd)
{
    const struct vector_map m = *(const struct vector_map *)args;
    const vf factor = vf_set(m.alpha);
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf d = (vx_load(m.a, i, n, half) - vx_load(m.b, i, n, half)) * factor;                     \
        if (m.y) vx_store(m.y, i, n, half, d);                                                     \
        if (m.z) vx_store(m.z, i, n, half, -d);                                                    \
    } while (0)
    VEC_FOR(begin, end, STEP);
#undef STEP
}

SLICE(row_dot)
{
    const struct vector_rows m = *(const struct vector_rows *)args;
    for (int64_t r = begin; r < end; r++) {
        m.p[r] = row_dot_of(m.a, m.b, r * m.cols, m.cols, half);
    }
}

/* y = u * a + v * b for one row. */
VEC_INLINE void combine_row(const void *a, float u, const void *b, float v, void *y, int64_t at,
                            int64_t cols, const bool half)
{
    const vf vu_ = vf_set(u);
    const vf vv = vf_set(v);
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf value = vu_ * vx_load(a, at + (i), n, half);                                            \
        if (b) value = vf_fma(vv, vx_load(b, at + (i), n, half), value);                           \
        vx_store(y, at + (i), n, half, value);                                                     \
    } while (0)
    VEC_FOR(0, cols, STEP);
#undef STEP
}

SLICE(row_axpby)
{
    const struct vector_rows m = *(const struct vector_rows *)args;
    for (int64_t r = begin; r < end; r++) {
        combine_row(m.a, m.u[r], m.b, m.b ? m.v[r] : 0, m.y, r * m.cols, m.cols, half);
    }
}

SLICE(cosine_fwd)
{
    const struct vector_rows m = *(const struct vector_rows *)args;
    for (int64_t r = begin; r < end; r++) {
        const float dot = row_dot_of(m.a, m.b, r * m.cols, m.cols, half);
        const float a = sqrtf(row_dot_of(m.a, m.a, r * m.cols, m.cols, half));
        const float b = sqrtf(row_dot_of(m.b, m.b, r * m.cols, m.cols, half));
        m.q[r] = a < m.alpha ? m.alpha : a;
        m.r[r] = b < m.alpha ? m.alpha : b;
        m.p[r] = dot / (m.q[r] * m.r[r]);
    }
}

SLICE(cosine_bwd)
{
    const struct vector_rows m = *(const struct vector_rows *)args;
    for (int64_t r = begin; r < end; r++) {
        const int64_t at = r * m.cols;
        const float a = m.v[r];
        const float b = m.w[r];
        const float cross = m.dout[r] / (a * b);
        /* At a clamped norm only the product depends on the vector. */
        const float self_a = a > m.alpha ? -m.dout[r] * m.u[r] / (a * a) : 0;
        const float self_b = b > m.alpha ? -m.dout[r] * m.u[r] / (b * b) : 0;
        if (m.y) combine_row(m.b, cross, m.a, self_a, m.y, at, m.cols, half);
        if (m.z) combine_row(m.a, cross, m.b, self_b, m.z, at, m.cols, half);
    }
}
