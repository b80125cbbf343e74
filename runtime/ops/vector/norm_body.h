/* Slices of norm.h. Included by vector_*.c only. */

/*
 * One row of layer normalisation. The row is summed, then the deviations d from that mean are:
 * their sum corrects the mean's rounding error (it is not zero when the values share a large
 * offset), their squares give the variance. The third pass normalises. `x` is read from the cache
 * after the first pass.
 */
VEC_INLINE void layernorm_row(const struct layernorm_fwd *a, const void *x, int64_t at, bool half,
                              void *y, int64_t row, bool y_half, bool stream)
{
    const int64_t cols = a->cols;
    const float inverse = 1.0F / (float)cols;
    vf sum = {0};
#define STEP(i, n) sum += vx_load(x, at + (i), n, half)
    VEC_FOR(0, cols, STEP);
#undef STEP
    const float mean = vf_sum(sum) * inverse;
    const vf vmean = vf_set(mean);
    vf first = {0};
    vf second = {0};
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf d = vf_first(n, vx_load(x, at + (i), n, half) - vmean, (vf){0});                        \
        first += d;                                                                                \
        second = vf_fma(d, d, second);                                                             \
    } while (0)
    VEC_FOR(0, cols, STEP);
#undef STEP
    const float delta = vf_sum(first) * inverse;
    float variance = vf_sum(second) * inverse - delta * delta;
    variance = variance < 0 ? 0 : variance;
    const float rstd = 1.0F / sqrtf(variance + a->eps);
    const vf scale = vf_set(rstd);
    const vf shift = vf_set(-delta * rstd);
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf v = vf_fma(vx_load(x, at + (i), n, half) - vmean, scale, shift);                        \
        if (a->gamma) v *= vf_load_n(a->gamma + (i), n);                                           \
        if (a->beta) v += vf_load_n(a->beta + (i), n);                                             \
        vx_put(y, row *cols + (i), n, y_half, stream, v);                                          \
    } while (0)
    VEC_FOR(0, cols, STEP);
#undef STEP
    if (a->mean) a->mean[row] = mean + delta;
    if (a->rstd) a->rstd[row] = rstd;
}

SLICE(layernorm_fwd)
{
    const struct layernorm_job *job = args;
    const struct layernorm_fwd a = job->fwd;
    const int64_t cols = a.cols;
    for (int64_t r = begin; r < end; r++) {
        if (!a.residual) {
            layernorm_row(&a, a.x, r * cols, half, a.y, r, half, job->stream);
            continue;
        }
        /* The sum leaves for memory; a copy stays in the first-level cache for the three passes. */
        float copy[VECTOR_ROW];
        const bool fits = cols <= VECTOR_ROW;
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf s =                                                                                     \
            vx_load(a.x, r * cols + (i), n, half) + vx_load(a.residual, r * cols + (i), n, half);  \
        s = vx_round(s, half);                                                                     \
        vx_put(a.sum, r *cols + (i), n, half, job->stream_sum, s);                                 \
        if (fits) vf_store_n(copy + (i), n, s);                                                    \
    } while (0)
        VEC_FOR(0, cols, STEP);
#undef STEP
        if (fits) {
            layernorm_row(&a, copy, 0, false, a.y, r, half, job->stream);
        } else {
            layernorm_row(&a, a.sum, r * cols, half, a.y, r, half, job->stream);
        }
    }
    if (job->stream || job->stream_sum) vec_fence();
}

/*
 * dx of one row. With g = dy * gamma: c1 = mean(g), c2 = mean(g * xhat), and
 * dx = rstd * (g - c1 - xhat * c2). The same first pass adds dy * xhat and dy to this part's
 * dgamma and dbeta.
 */
VEC_INLINE void layernorm_bwd_row(const struct layernorm_bwd *a, int64_t r, const bool half,
                                  float *dgamma, float *dbeta, const bool stream)
{
    const int64_t cols = a->cols;
    const vf rstd = vf_set(a->rstd[r]);
    const vf mean = vf_set(a->mean[r]);
    vf sum1 = {0};
    vf sum2 = {0};
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf dy = vx_load(a->dy, r * cols + (i), n, half);                                           \
        vf xhat = (vx_load(a->x, r * cols + (i), n, half) - mean) * rstd;                          \
        vf dyx = vf_first(n, dy * xhat, (vf){0});                                                  \
        vf g = a->gamma ? vf_load_n(a->gamma + (i), n) : vf_set(1.0F);                             \
        sum1 = vf_fma(dy, g, sum1);                                                                \
        sum2 = vf_fma(dyx, g, sum2);                                                               \
        if (dgamma) {                                                                              \
            vf_store_n(dgamma + (i), n, vf_load_n(dgamma + (i), n) + dyx);                         \
            vf_store_n(dbeta + (i), n, vf_load_n(dbeta + (i), n) + dy);                            \
        }                                                                                          \
    } while (0)
    VEC_FOR(0, cols, STEP);
#undef STEP
    if (!a->dx) return;
    const float inverse = 1.0F / (float)cols;
    const vf c1 = vf_set(vf_sum(sum1) * inverse);
    const vf c2 = vf_set(vf_sum(sum2) * inverse);
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf g = vx_load(a->dy, r * cols + (i), n, half);                                            \
        if (a->gamma) g *= vf_load_n(a->gamma + (i), n);                                           \
        vf xhat = (vx_load(a->x, r * cols + (i), n, half) - mean) * rstd;                          \
        vf d = vf_fnma(xhat, c2, g - c1);                                                          \
        vf extra = a->dresidual ? vx_load(a->dresidual, r * cols + (i), n, half) : (vf){0};        \
        vx_put(a->dx, r *cols + (i), n, half, stream, vf_fma(d, rstd, extra));                     \
    } while (0)
    VEC_FOR(0, cols, STEP);
#undef STEP
}

SLICE(layernorm_bwd)
{
    const struct layernorm_job *job = args;
    const struct layernorm_bwd a = job->bwd;
    for (int64_t part = begin; part < end; part++) {
        float *dgamma = a.dgamma ? (float *)a.scratch + part * 2 * a.cols : NULL;
        float *dbeta = dgamma ? dgamma + a.cols : NULL;
        if (dgamma) memset(dgamma, 0, (size_t)a.cols * 2 * sizeof *dgamma);
        int64_t last = (part + 1) * job->part;
        if (last > a.rows) last = a.rows;
        for (int64_t r = part * job->part; r < last; r++) {
            layernorm_bwd_row(&a, r, half, dgamma, dbeta, job->stream);
        }
    }
    if (job->stream) vec_fence();
}

SLICE(l2norm_fwd)
{
    const struct vector_rows m = *(const struct vector_rows *)args;
    for (int64_t r = begin; r < end; r++) {
        const float norm = sqrtf(row_dot_of(m.a, m.a, r * m.cols, m.cols, half));
        m.p[r] = norm;
        vf divisor = vf_set(norm < m.alpha ? m.alpha : norm);
#define STEP(i, n)                                                                                 \
    vx_put(m.y, r *m.cols + (i), n, half, m.stream,                                                \
           vx_load(m.a, r * m.cols + (i), n, half) / divisor)
        VEC_FOR(0, m.cols, STEP);
#undef STEP
    }
    if (m.stream) vec_fence();
}

SLICE(l2norm_bwd)
{
    const struct vector_rows m = *(const struct vector_rows *)args;
    for (int64_t r = begin; r < end; r++) {
        const bool clamped = m.u[r] < m.alpha;
        const vf dot = vf_set(clamped ? 0.0F : row_dot_of(m.a, m.b, r * m.cols, m.cols, half));
        const vf inverse = vf_set(1.0F / (clamped ? m.alpha : m.u[r]));
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf y = vx_load(m.a, r * m.cols + (i), n, half);                                            \
        vf dy = vx_load(m.b, r * m.cols + (i), n, half);                                           \
        vx_put(m.y, r *m.cols + (i), n, half, m.stream, vf_fnma(y, dot, dy) * inverse);            \
    } while (0)
        VEC_FOR(0, m.cols, STEP);
#undef STEP
    }
    if (m.stream) vec_fence();
}
