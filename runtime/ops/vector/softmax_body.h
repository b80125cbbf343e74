/* Slices of softmax.h. Included by vector_*.c only. */

/* Four running values each: a maximum takes 4 cycles, and four can be under way. */
VEC_INLINE float row_largest(const void *x, int64_t at, int64_t cols, float scale, const bool half)
{
    const vf vscale = vf_set(scale);
    const vf lowest = vf_set(-INFINITY);
    vf top0 = lowest;
    vf top1 = lowest;
    int64_t c = 0;
    for (; c + 2 * VEC <= cols; c += 2 * VEC) {
        top0 = vf_max(top0, vx_load(x, at + c, VEC, half) * vscale);
        top1 = vf_max(top1, vx_load(x, at + c + VEC, VEC, half) * vscale);
    }
#define STEP(i, n) top0 = vf_max(top0, vf_first(n, vx_load(x, at + (i), n, half) * vscale, lowest))
    VEC_FOR(c, cols, STEP);
#undef STEP
    return vf_largest(vf_max(top0, top1));
}

/*
 * The sum of exp(scale * x - top) over a row, blocks added in f64; the exponentials are left in
 * `keep` unless it is NULL.
 */
VEC_INLINE double row_exp_sum(const void *x, int64_t at, int64_t cols, float scale, float top,
                              float *keep, const bool half)
{
    const vf vscale = vf_set(scale);
    const vf shift = vf_set(-top);
    double total = 0;
    for (int64_t c = 0; c < cols; c += VECTOR_BLOCK) {
        vf sum = {0};
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf e = vf_exp(vf_fma(vx_load(x, at + (i), n, half), vscale, shift));                       \
        if (keep) vf_store_n(keep + (i), n, e);                                                    \
        sum += vf_first(n, e, (vf){0});                                                            \
    } while (0)
        VEC_FOR(c, c + VECTOR_BLOCK < cols ? c + VECTOR_BLOCK : cols, STEP);
#undef STEP
        total += (double)vf_sum(sum);
    }
    return total;
}

/* `kind` is 1 for the logarithm. */
SLICE(softmax_fwd)
{
    const struct vector_rows m = *(const struct vector_rows *)args;
    const vf scale = vf_set(m.alpha);
    for (int64_t r = begin; r < end; r++) {
        const int64_t at = r * m.cols;
        const float top = row_largest(m.a, at, m.cols, m.alpha, half);
        const vf shift = vf_set(-top);
        if (m.kind) {
            const double sum = row_exp_sum(m.a, at, m.cols, m.alpha, top, NULL, half);
            const vf minus = vf_set((float)log(sum));
#define STEP(i, n)                                                                                 \
    vx_put(m.y, at + (i), n, half, m.stream,                                                       \
           vf_fma(vx_load(m.a, at + (i), n, half), scale, shift) - minus)
            VEC_FOR(0, m.cols, STEP);
#undef STEP
            continue;
        }
        float buffer[VECTOR_ROW];
        float *keep = m.cols <= VECTOR_ROW ? buffer : NULL;
        const double sum = row_exp_sum(m.a, at, m.cols, m.alpha, top, keep, half);
        const vf factor = vf_set((float)(1.0 / sum));
        if (keep) {
#define STEP(i, n) vx_put(m.y, at + (i), n, half, m.stream, vf_load_n(keep + (i), n) * factor)
            VEC_FOR(0, m.cols, STEP);
#undef STEP
        } else {
#define STEP(i, n)                                                                                 \
    vx_put(m.y, at + (i), n, half, m.stream,                                                       \
           vf_exp(vf_fma(vx_load(m.a, at + (i), n, half), scale, shift)) * factor)
            VEC_FOR(0, m.cols, STEP);
#undef STEP
        }
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
            vf sum = {0};
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf dy = vx_load(m.b, at + (i), n, half);                                                   \
        sum = m.kind ? sum + dy : vf_fma(vx_load(m.a, at + (i), n, half), dy, sum);                \
    } while (0)
            VEC_FOR(c, c + VECTOR_BLOCK < m.cols ? c + VECTOR_BLOCK : m.cols, STEP);
#undef STEP
            total += (double)vf_sum(sum);
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
    const int64_t cols = a.cols;
    for (int64_t r = begin; r < end; r++) {
        double sum = 0;
        float top = -INFINITY;
        for (int64_t c = 0; c < cols; c += VECTOR_BLOCK) {
            const int64_t size = cols - c < VECTOR_BLOCK ? cols - c : VECTOR_BLOCK;
            const float block_top = row_largest(a.logits, r * cols + c, size, 1.0F, half);
            if (!(block_top <= top)) {
                sum = top == -INFINITY ? 0 : sum * exp((double)top - (double)block_top);
                top = block_top;
            }
            /* A block of nothing but -inf so far adds nothing; -inf - -inf would be NaN. */
            const float shift = top == -INFINITY ? 0 : top;
            sum += row_exp_sum(a.logits, r * cols + c, size, 1.0F, shift, NULL, half);
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
            target > 0 ? row_largest(a.logits, r * cols, target, 1.0F, half) : -INFINITY;
        a.correct[r] = (target == 0 || before < value) && !isnan(a.lse[r]);
    }
}

SLICE(cross_entropy_bwd)
{
    const struct cross_entropy_job *job = args;
    const struct cross_entropy_bwd a = job->bwd;
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
           vf_exp(vx_load(a.logits, at + (i), n, half) - lse) * g)
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
