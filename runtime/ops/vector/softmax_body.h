/* Slices of softmax.h. Included by vector_*.c only. */

/*
 * The largest of x, or of -x when `negate`; NaN may be passed over. bf16 values are left as f32 in
 * `copy` unless it is NULL.
 */
VEC_INLINE float row_largest(const void *x, int64_t at, int64_t cols, const bool negate,
                             float *copy, const bool half)
{
    const vf lowest = vf_set(-INFINITY);
    vf top[4] = {lowest, lowest, lowest, lowest};
#define STEP(i, n, k)                                                                              \
    do {                                                                                           \
        vf v = vx_load_ahead(x, at + (i), n, half);                                                \
        if (half && copy) vf_store_n(copy + (i), n, v);                                            \
        top[k] = vf_max(top[k], vf_first(n, negate ? -v : v, lowest));                             \
    } while (0)
    VEC_FOR_4(0, cols, STEP);
#undef STEP
    return vf_largest(vf_max(vf_max(top[0], top[1]), vf_max(top[2], top[3])));
}

/*
 * softmax(scale * x) of a row: with s = |scale| and x negated where scale is negative, each element
 * is exp(s * (x - top)), top the largest x. The difference is exact where it matters, near the top,
 * and rate = s * log2(e) goes into the reduction of the exponential.
 */
struct softmax_scale {
    vf rate;
    vf lowest; /* of x - top: below it the exponential is 0 */
};

VEC_INLINE struct softmax_scale softmax_scale_of(float scale)
{
    const float rate = fabsf(scale) * 1.44269504089F;
    return (struct softmax_scale){vf_set(rate), vf_set(-152.0F / rate)};
}

VEC_INLINE vf softmax_exp(const struct softmax_scale *scale, vf top, vf x, const bool negate,
                          const bool coarse)
{
    vf d = (negate ? -x : x) - top;
    return vf_exp2_scaled(vf_max(scale->lowest, d), scale->rate, coarse);
}

/*
 * The sum of the exponentials of a row of x, whose elements are f32 unless x_half. They are left in
 * `keep` unless it is NULL (it may be x). Meanwhile the memory is kept busy: a row of `later` is
 * asked for, what the caller needs next. `coarse`: see vf_exp2_scaled.
 */
VEC_INLINE double row_exp_sum(const void *x, int64_t at, int64_t cols, const bool x_half,
                              const struct softmax_scale *scale, float top, const bool negate,
                              float *keep, const void *later, int64_t later_at, const bool coarse)
{
    const vf vtop = vf_set(top);
    double total = 0;
    for (int64_t c = 0; c < cols; c += VECTOR_BLOCK) {
        vf sum[4] = {{0}, {0}, {0}, {0}};
#define STEP(i, n, k)                                                                              \
    do {                                                                                           \
        vx_prefetch(later, later_at + (i), coarse);                                                \
        vf e = softmax_exp(scale, vtop, vx_load(x, at + (i), n, x_half), negate, coarse);          \
        if (keep) vf_store_n(keep + (i), n, e);                                                    \
        sum[k] += vf_first(n, e, (vf){0});                                                         \
    } while (0)
        VEC_FOR_4(c, c + VECTOR_BLOCK < cols ? c + VECTOR_BLOCK : cols, STEP);
#undef STEP
        total += (double)vf_sum_4(sum);
    }
    return total;
}

/* The last pass of a row, from the exponentials in `keep`, or computing them again. */
VEC_INLINE void softmax_last(const struct vector_rows *m, int64_t at,
                             const struct softmax_scale *scale, float top, double sum,
                             const float *keep, const bool negate, const bool half)
{
    const vf factor = vf_set((float)(1.0 / sum));
    const vf vtop = vf_set(top);
    if (keep) {
#define STEP(i, n) vx_put(m->y, at + (i), n, half, m->stream, vf_load_n(keep + (i), n) * factor)
        VEC_FOR(0, m->cols, STEP);
#undef STEP
    } else {
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf x = vx_load(m->a, at + (i), n, half);                                                   \
        vx_put(m->y, at + (i), n, half, m->stream,                                                 \
               softmax_exp(scale, vtop, x, negate, half) * factor);                                \
    } while (0)
        VEC_FOR(0, m->cols, STEP);
#undef STEP
    }
}

VEC_INLINE void softmax_rows(const struct vector_rows *args, int64_t begin, int64_t end,
                             const bool negate, const bool half)
{
    const struct vector_rows m = *args;
    const struct softmax_scale scale = softmax_scale_of(m.alpha);
    const int64_t group = rows_at_once(m.cols);
    const bool keeps = m.cols <= VECTOR_ROW;
    float buffer[VECTOR_ROW] __attribute__((aligned(64)));
    for (int64_t r = begin; r < end; r += group) {
        const int64_t rows = end - r < group ? end - r : group;
        float top[ROWS_AT_ONCE];
        double sum[ROWS_AT_ONCE];
        for (int64_t k = 0; k < rows; k++) {
            float *copy = keeps ? buffer + k * m.cols : NULL;
            top[k] = row_largest(m.a, (r + k) * m.cols, m.cols, negate, copy, half);
        }
        for (int64_t k = 0; k < rows; k++) {
            const int64_t at = (r + k) * m.cols;
            const int64_t next = at + group * m.cols;
            float *keep = buffer + k * m.cols;
            if (!keeps) {
                sum[k] = row_exp_sum(m.a, at, m.cols, half, &scale, top[k], negate, NULL, m.a, next,
                                     half);
            } else if (half) {
                sum[k] = row_exp_sum(keep, 0, m.cols, false, &scale, top[k], negate, keep, m.a,
                                     next, half);
            } else {
                sum[k] = row_exp_sum(m.a, at, m.cols, false, &scale, top[k], negate, keep, m.a,
                                     next, half);
            }
        }
        for (int64_t k = 0; k < rows; k++) {
            const float *keep = keeps ? buffer + k * m.cols : NULL;
            softmax_last(&m, (r + k) * m.cols, &scale, top[k], sum[k], keep, negate, half);
        }
    }
}

VEC_INLINE void log_softmax_rows(const struct vector_rows *args, int64_t begin, int64_t end,
                                 const bool negate, const bool half)
{
    const struct vector_rows m = *args;
    const struct softmax_scale scale = softmax_scale_of(m.alpha);
    const vf factor = vf_set(fabsf(m.alpha));
    for (int64_t r = begin; r < end; r++) {
        const int64_t at = r * m.cols;
        const float top = row_largest(m.a, at, m.cols, negate, NULL, half);
        const double sum =
            row_exp_sum(m.a, at, m.cols, half, &scale, top, negate, NULL, m.a, at + m.cols, false);
        const vf minus = vf_set(-(float)log(sum));
        const vf vtop = vf_set(top);
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf x = vx_load(m.a, at + (i), n, half);                                                    \
        vf d = (negate ? -x : x) - vtop;                                                           \
        vx_put(m.y, at + (i), n, half, m.stream, vf_fma(d, factor, minus));                        \
    } while (0)
        VEC_FOR(0, m.cols, STEP);
#undef STEP
    }
}

/* `kind` is 1 for the logarithm. */
SLICE(softmax_fwd)
{
    const struct vector_rows m = *(const struct vector_rows *)args;
    const bool negate = m.alpha < 0;
    if (m.kind && negate) {
        log_softmax_rows(&m, begin, end, true, half);
    } else if (m.kind) {
        log_softmax_rows(&m, begin, end, false, half);
    } else if (negate) {
        softmax_rows(&m, begin, end, true, half);
    } else {
        softmax_rows(&m, begin, end, false, half);
    }
    if (m.stream) vec_fence();
}

/* `kind` is 1 for the logarithm. */
SLICE(softmax_bwd)
{
    const struct vector_rows m = *(const struct vector_rows *)args;
    const vf scale = vf_set(m.alpha);
    for (int64_t r = begin; r < end; r++) {
        const int64_t at = r * m.cols;
        double total = 0;
        for (int64_t c = 0; c < m.cols; c += VECTOR_BLOCK) {
            vf sum[4] = {{0}, {0}, {0}, {0}};
#define STEP(i, n, k)                                                                              \
    do {                                                                                           \
        vf dy = vx_load_ahead(m.b, at + (i), n, half);                                             \
        vf y = vx_load_ahead(m.a, at + (i), n, half);                                              \
        sum[k] = m.kind ? sum[k] + dy : vf_fma(y, dy, sum[k]);                                     \
    } while (0)
            VEC_FOR_4(c, c + VECTOR_BLOCK < m.cols ? c + VECTOR_BLOCK : m.cols, STEP);
#undef STEP
            total += (double)vf_sum_4(sum);
        }
        const vf sum = vf_set((float)total);
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf y = vx_load(m.a, at + (i), n, half);                                                    \
        vf dy = vx_load(m.b, at + (i), n, half);                                                   \
        vf d = m.kind ? vf_fnma(vf_exp(y), sum, dy) : y * (dy - sum);                              \
        vx_put(m.y, at + (i), n, half, m.stream, d * scale);                                       \
    } while (0)
        VEC_FOR(0, m.cols, STEP);
#undef STEP
    }
    if (m.stream) vec_fence();
}

VEC_INLINE float element(const void *x, int64_t i, const bool half)
{
    return half ? bf16_to_f32(((const bf16 *)x)[i]) : ((const float *)x)[i];
}

/*
 * Block by block, so that a long row is read from memory once: the largest value of a block
 * first, then its exponentials against the largest so far; the sum is rescaled when that grows.
 */
SLICE(cross_entropy_fwd)
{
    const struct cross_entropy_fwd a = ((const struct cross_entropy_job *)args)->fwd;
    const struct softmax_scale scale = softmax_scale_of(1.0F);
    const int64_t cols = a.cols;
    for (int64_t r = begin; r < end; r++) {
        double sum = 0;
        float top = -INFINITY;
        for (int64_t c = 0; c < cols; c += VECTOR_BLOCK) {
            const int64_t size = cols - c < VECTOR_BLOCK ? cols - c : VECTOR_BLOCK;
            const int64_t at = r * cols + c;
            const float block_top = row_largest(a.logits, at, size, false, NULL, half);
            if (!(block_top <= top)) {
                sum = top == -INFINITY ? 0 : sum * exp((double)top - (double)block_top);
                top = block_top;
            }
            /* A block of nothing but -inf so far adds nothing; -inf - -inf would be NaN. */
            const float shift = top == -INFINITY ? 0 : top;
            sum += row_exp_sum(a.logits, at, size, half, &scale, shift, false, NULL, a.logits,
                               at + VECTOR_BLOCK, half);
        }
        const double lse = (double)top + log(sum);
        a.lse[r] = (float)lse;
        const int32_t target = a.targets[r];
        const bool ignored = target == a.ignore_index;
        const bool bad = !ignored && (target < 0 || target >= cols);
        if (a.correct) a.correct[r] = 0;
        a.loss[r] = bad ? NAN : 0;
        if (ignored || bad) continue;
        const float value = element(a.logits, r * cols + target, half);
        a.loss[r] = (float)(lse - (double)value);
        if (!a.correct || !(value == top)) continue;
        /* The first of equals counts, as in argmax. */
        const float before =
            target > 0 ? row_largest(a.logits, r * cols, target, false, NULL, half) : -INFINITY;
        a.correct[r] = (target == 0 || before < value) && !isnan(a.lse[r]);
    }
}

SLICE(cross_entropy_bwd)
{
    const struct cross_entropy_job *job = args;
    const struct cross_entropy_bwd a = job->bwd;
    const struct softmax_scale scale = softmax_scale_of(1.0F);
    const int64_t cols = a.cols;
    for (int64_t r = begin; r < end; r++) {
        const int64_t at = r * cols;
        const int32_t target = a.targets[r];
        if (target == a.ignore_index || target < 0 || target >= cols) {
#define STEP(i, n) vx_put(a.dlogits, at + (i), n, half, job->stream, (vf){0})
            VEC_FOR(0, cols, STEP);
#undef STEP
            continue;
        }
        const vf lse = vf_set(a.lse[r]);
        const vf g = vf_set(a.dloss[r]);
        /* The target's element in f32, before anything is overwritten or rounded. */
        const float value = element(a.logits, at + target, half);
        float one[VEC];
        vf_store(one, (vf_exp(vf_set(value) - lse) - vf_set(1.0F)) * g);
#define STEP(i, n)                                                                                 \
    vx_put(a.dlogits, at + (i), n, half, job->stream,                                              \
           softmax_exp(&scale, lse, vx_load_ahead(a.logits, at + (i), n, half), false, half) * g)
        VEC_FOR(0, cols, STEP);
#undef STEP
        if (job->stream) vec_fence();
        if (half) {
            ((bf16 *)a.dlogits)[at + target] = bf16_from_f32(one[0]);
        } else {
            ((float *)a.dlogits)[at + target] = one[0];
        }
    }
    if (job->stream) vec_fence();
}
