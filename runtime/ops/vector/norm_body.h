/* Slices of norm.h. Included by vector_*.c only. */

/*
 * One row of layer normalisation. The row is summed, then the deviations d from that mean are:
 * their sum corrects the mean's rounding error (it is not zero when the values share a large
 * offset), their squares give the variance. The third pass normalises.
 *
 * The first pass brings the row from memory, adds the residual, and leaves an f32 copy on the stack
 * where a plain second look would have to convert or to come from a written-out sum. Rows too long
 * for that are read again.
 */
VEC_INLINE float layernorm_first(const struct layernorm_job *job, int64_t at, float *copy,
                                 const bool half)
{
    const struct layernorm_fwd *a = &job->fwd;
    vf sum[4] = {{0}, {0}, {0}, {0}};
    if (a->residual) {
#define STEP(i, n, k)                                                                              \
    do {                                                                                           \
        vf s = vx_load_ahead(a->x, at + (i), n, half);                                             \
        s = vx_round(s + vx_load_ahead(a->residual, at + (i), n, half), half);                     \
        vx_put(a->sum, at + (i), n, half, job->stream_sum, s);                                     \
        if (copy) vf_store_n(copy + (i), n, s);                                                    \
        sum[k] += s;                                                                               \
    } while (0)
        VEC_FOR_4(0, a->cols, STEP);
#undef STEP
    } else {
#define STEP(i, n, k)                                                                              \
    do {                                                                                           \
        vf s = vx_load_ahead(a->x, at + (i), n, half);                                             \
        if (half && copy) vf_store_n(copy + (i), n, s);                                            \
        sum[k] += s;                                                                               \
    } while (0)
        VEC_FOR_4(0, a->cols, STEP);
#undef STEP
    }
    return vf_sum_4(sum);
}

/* Passes two and three over the row in x at `at`, which is f32 unless x_half. */
VEC_INLINE void layernorm_rest(const struct layernorm_job *job, const void *x, int64_t at,
                               const bool x_half, float mean, int64_t row, const bool half)
{
    const struct layernorm_fwd *a = &job->fwd;
    const int64_t cols = a->cols;
    const float inverse = 1.0F / (float)cols;
    const vf vmean = vf_set(mean);
    vf first[4] = {{0}, {0}, {0}, {0}};
    vf second[4] = {{0}, {0}, {0}, {0}};
#define STEP(i, n, k)                                                                              \
    do {                                                                                           \
        vf d = vf_first(n, vx_load(x, at + (i), n, x_half) - vmean, (vf){0});                      \
        if (!half) first[k] += d;                                                                  \
        second[k] = vf_fma(d, d, second[k]);                                                       \
    } while (0)
    VEC_FOR_4(0, cols, STEP);
#undef STEP
    const float delta = half ? 0 : vf_sum_4(first) * inverse;
    float variance = vf_sum_4(second) * inverse - delta * delta;
    variance = variance < 0 ? 0 : variance;
    const float rstd = 1.0F / sqrtf(variance + a->eps);
    const vf scale = vf_set(rstd);
    const vf shift = vf_set(-delta * rstd);
    const float *gamma = a->gamma;
    const float *beta = a->beta;
    if (gamma && beta) {
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf v = vf_fma(vx_load(x, at + (i), n, x_half) - vmean, scale, shift);                      \
        v = vf_fma(v, vf_load_n(gamma + (i), n), vf_load_n(beta + (i), n));                        \
        vx_put(a->y, row *cols + (i), n, half, job->stream, v);                                    \
    } while (0)
        VEC_FOR(0, cols, STEP);
#undef STEP
    } else {
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf v = vf_fma(vx_load(x, at + (i), n, x_half) - vmean, scale, shift);                      \
        if (gamma) v *= vf_load_n(gamma + (i), n);                                                 \
        if (beta) v += vf_load_n(beta + (i), n);                                                   \
        vx_put(a->y, row *cols + (i), n, half, job->stream, v);                                    \
    } while (0)
        VEC_FOR(0, cols, STEP);
#undef STEP
    }
    if (a->mean) a->mean[row] = mean + delta;
    if (a->rstd) a->rstd[row] = rstd;
}

SLICE(layernorm_fwd)
{
    const struct layernorm_job job = *(const struct layernorm_job *)args;
    const struct layernorm_fwd *a = &job.fwd;
    const float inverse = 1.0F / (float)a->cols;
    float buffer[VECTOR_ROW] __attribute__((aligned(64)));
    const int64_t group = rows_at_once(a->cols);
    for (int64_t r = begin; r < end; r += group) {
        const int64_t rows = end - r < group ? end - r : group;
        float mean[ROWS_AT_ONCE];
        for (int64_t k = 0; k < rows; k++) {
            float *copy = a->cols <= VECTOR_ROW ? buffer + k * a->cols : NULL;
            mean[k] = layernorm_first(&job, (r + k) * a->cols, copy, half) * inverse;
        }
        for (int64_t k = 0; k < rows; k++) {
            if (a->cols <= VECTOR_ROW && (half || a->residual)) {
                layernorm_rest(&job, buffer, k * a->cols, false, mean[k], r + k, half);
            } else {
                const void *x = a->residual ? a->sum : a->x;
                layernorm_rest(&job, x, (r + k) * a->cols, half, mean[k], r + k, half);
            }
        }
    }
    if (job.stream || job.stream_sum) vec_fence();
}

/*
 * The first pass of the gradient of a row. With g = dy * gamma: c1 = mean(g), c2 = mean(g * xhat);
 * and dy * xhat and dy are added to this part's dgamma and dbeta. g and xhat are left in `keep`, as
 * rows of cols elements, unless it is NULL.
 */
VEC_INLINE void layernorm_bwd_first(const struct layernorm_bwd *a, int64_t r, const bool half,
                                    float *dgamma, float *dbeta, float *keep, float c[2])
{
    const int64_t cols = a->cols;
    const int64_t at = r * cols;
    const vf rstd = vf_set(a->rstd[r]);
    const vf mean = vf_set(a->mean[r]);
    vf sum1[4] = {{0}, {0}, {0}, {0}};
    vf sum2[4] = {{0}, {0}, {0}, {0}};
#define STEP(i, n, k)                                                                              \
    do {                                                                                           \
        vf dy = vx_load_ahead(a->dy, at + (i), n, half);                                           \
        vf xhat = (vx_load_ahead(a->x, at + (i), n, half) - mean) * rstd;                          \
        vf g = a->gamma ? dy * vf_load_n(a->gamma + (i), n) : dy;                                  \
        sum1[k] += g;                                                                              \
        sum2[k] = vf_fma(vf_first(n, xhat, (vf){0}), g, sum2[k]);                                  \
        if (keep) {                                                                                \
            vf_store_n(keep + (i), n, g);                                                          \
            vf_store_n(keep + cols + (i), n, xhat);                                                \
        }                                                                                          \
        if (dgamma) {                                                                              \
            vf_store_n(dgamma + (i), n, vf_fma(dy, xhat, vf_load_n(dgamma + (i), n)));             \
            vf_store_n(dbeta + (i), n, vf_load_n(dbeta + (i), n) + dy);                            \
        }                                                                                          \
    } while (0)
    VEC_FOR_4(0, cols, STEP);
#undef STEP
    c[0] = vf_sum_4(sum1) / (float)cols;
    c[1] = vf_sum_4(sum2) / (float)cols;
}

/* The second pass: dx = rstd * (g - c1 - xhat * c2), plus dresidual. */
VEC_INLINE void layernorm_bwd_second(const struct layernorm_bwd *a, int64_t r, const bool half,
                                     const float *keep, const float c[2], const bool stream)
{
    const int64_t cols = a->cols;
    const int64_t at = r * cols;
    const vf rstd = vf_set(a->rstd[r]);
    const vf mean = vf_set(a->mean[r]);
    const vf c1 = vf_set(c[0]);
    const vf c2 = vf_set(c[1]);
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf g;                                                                                      \
        vf xhat;                                                                                   \
        if (keep) {                                                                                \
            g = vf_load_n(keep + (i), n);                                                          \
            xhat = vf_load_n(keep + cols + (i), n);                                                \
        } else {                                                                                   \
            g = vx_load(a->dy, at + (i), n, half);                                                 \
            if (a->gamma) g *= vf_load_n(a->gamma + (i), n);                                       \
            xhat = (vx_load(a->x, at + (i), n, half) - mean) * rstd;                               \
        }                                                                                          \
        vf d = vf_fnma(xhat, c2, g - c1);                                                          \
        vf extra = a->dresidual ? vx_load_ahead(a->dresidual, at + (i), n, half) : (vf){0};        \
        vx_put(a->dx, at + (i), n, half, stream, vf_fma(d, rstd, extra));                          \
    } while (0)
    VEC_FOR(0, cols, STEP);
#undef STEP
}

SLICE(layernorm_bwd)
{
    const struct layernorm_job *job = args;
    const struct layernorm_bwd a = job->bwd;
    const int64_t group = rows_at_once(a.cols);
    const bool keeps = half && a.dx && a.cols <= VECTOR_ROW; /* f32 rows are read again instead */
    float buffer[2 * VECTOR_ROW] __attribute__((aligned(64)));
    for (int64_t part = begin; part < end; part++) {
        float *dgamma = a.dgamma ? (float *)a.scratch + part * 2 * a.cols : NULL;
        float *dbeta = dgamma ? dgamma + a.cols : NULL;
        if (dgamma) memset(dgamma, 0, (size_t)a.cols * 2 * sizeof *dgamma);
        int64_t last = (part + 1) * job->part;
        if (last > a.rows) last = a.rows;
        for (int64_t r = part * job->part; r < last; r += group) {
            const int64_t rows = last - r < group ? last - r : group;
            float c[ROWS_AT_ONCE][2];
            for (int64_t k = 0; k < rows; k++) {
                float *keep = keeps ? buffer + 2 * k * a.cols : NULL;
                layernorm_bwd_first(&a, r + k, half, dgamma, dbeta, keep, c[k]);
            }
            for (int64_t k = 0; k < rows && a.dx; k++) {
                const float *keep = keeps ? buffer + 2 * k * a.cols : NULL;
                layernorm_bwd_second(&a, r + k, half, keep, c[k], job->stream);
            }
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
        const float divisor = norm < m.alpha ? m.alpha : norm;
        /* A reciprocal that is not a normal number would lose bits or be infinite. */
        const bool inverts = divisor > 1e-30F && divisor < 1e30F;
        const vf factor = vf_set(1.0F / divisor);
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf x = vx_load(m.a, r * m.cols + (i), n, half);                                            \
        vx_put(m.y, r *m.cols + (i), n, half, m.stream,                                            \
               inverts ? x * factor : x / vf_set(divisor));                                        \
    } while (0)
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
