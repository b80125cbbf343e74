/* Slices of reduce.h, and the other reductions to one number. Included by vector_*.c only. */

/* For each part: the sum over its elements of TERM(i, n), a vector whose missing lanes are zero. */
#define REDUCE_SLICE(name, TERM)                                                                   \
    SLICE(name)                                                                                    \
    {                                                                                              \
        const struct vector_map m = *(const struct vector_map *)args;                              \
        for (int64_t part = begin; part < end; part++) {                                           \
            const int64_t first = part * m.part;                                                   \
            const int64_t last = first + m.part < m.count ? first + m.part : m.count;              \
            double total = 0;                                                                      \
            for (int64_t at = first; at < last; at += VECTOR_BLOCK) {                              \
                vf sum = {0};                                                                      \
                VEC_FOR(at, at + VECTOR_BLOCK < last ? at + VECTOR_BLOCK : last, TERM);            \
                total += (double)vf_sum(sum);                                                      \
            }                                                                                      \
            m.partial[part] = total;                                                               \
        }                                                                                          \
    }

#define STEP(i, n) sum += vx_load(m.a, i, n, half)
REDUCE_SLICE(sum_all, STEP)
#undef STEP

#define STEP(i, n) sum = vf_fma(vx_load(m.a, i, n, half), vx_load(m.b, i, n, half), sum)
REDUCE_SLICE(dot, STEP)
#undef STEP

#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf d = vx_load(m.a, i, n, half) - vx_load(m.b, i, n, half);                                \
        sum = vf_fma(d, d, sum);                                                                   \
    } while (0)
REDUCE_SLICE(mse_fwd, STEP)
#undef STEP
#undef REDUCE_SLICE

/* out[c] += x[r, c] for `rows` rows from `x` on; four rows a pass, to spare the trips through out.
 */
VEC_INLINE void add_rows(const void *x, int64_t at, int64_t stride, int64_t rows, int64_t cols,
                         float *out, const bool half)
{
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        const int64_t base = at + r * stride;
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vf a = vx_load_ahead(x, base + (i), n, half);                                              \
        vf b = vx_load_ahead(x, base + stride + (i), n, half);                                     \
        vf c = vx_load_ahead(x, base + 2 * stride + (i), n, half);                                 \
        vf d = vx_load_ahead(x, base + 3 * stride + (i), n, half);                                 \
        vf_store_n(out + (i), n, vf_load_n(out + (i), n) + ((a + b) + (c + d)));                   \
    } while (0)
        VEC_FOR(0, cols, STEP);
#undef STEP
    }
    for (; r < rows; r++) {
        const int64_t base = at + r * stride;
#define STEP(i, n)                                                                                 \
    vf_store_n(out + (i), n, vf_load_n(out + (i), n) + vx_load(x, base + (i), n, half))
        VEC_FOR(0, cols, STEP);
#undef STEP
    }
}

SLICE(column_sum)
{
    const struct column_sum_job m = *(const struct column_sum_job *)args;
    for (int64_t unit = begin; unit < end; unit++) {
        if (m.part) {
            const int64_t first = unit * m.part;
            const int64_t rows = m.rows - first < m.part ? m.rows - first : m.part;
            float *out = m.out + unit * m.cols;
            memset(out, 0, (size_t)m.cols * sizeof *out);
            add_rows(m.x, first * m.stride, m.stride, rows, m.cols, out, half);
        } else {
            const int64_t c = unit * VECTOR_GROUP;
            const int64_t cols = m.cols - c < VECTOR_GROUP ? m.cols - c : VECTOR_GROUP;
            memset(m.out + c, 0, (size_t)cols * sizeof *m.out);
            add_rows(m.x, c, m.stride, m.rows, cols, m.out + c, half);
        }
    }
}

SLICE(sum_middle)
{
    const struct middle_job m = *(const struct middle_job *)args;
    for (int64_t unit = begin; unit < end; unit++) {
        if (m.inner == 1) { /* the unit is a row */
            const double total = row_sum_of(m.x, unit * m.length, m.length, half);
            vx_store(m.y, unit, 1, half, vf_set((float)((double)m.scale * total)));
            continue;
        }
        const int64_t o = unit / m.groups;
        const int64_t c = unit % m.groups * VECTOR_GROUP;
        const int64_t cols = m.inner - c < VECTOR_GROUP ? m.inner - c : VECTOR_GROUP;
        float out[VECTOR_GROUP] = {0};
        add_rows(m.x, o * m.length * m.inner + c, m.inner, m.length, cols, out, half);
#define STEP(i, n)                                                                                 \
    vx_store(m.y, o *m.inner + c + (i), n, half, vf_load_n(out + (i), n) * vf_set(m.scale))
        VEC_FOR(0, cols, STEP);
#undef STEP
    }
}

SLICE(broadcast_middle)
{
    const struct middle_job m = *(const struct middle_job *)args;
    const vf scale = vf_set(m.scale);
    for (int64_t unit = begin; unit < end; unit++) {
        if (m.inner == 1) {
            const vf value = vf_set(vx_load(m.x, unit, 1, half)[0]) * scale;
#define STEP(i, n) vx_store(m.y, unit *m.length + (i), n, half, value)
            VEC_FOR(0, m.length, STEP);
#undef STEP
            continue;
        }
        const int64_t o = unit / m.groups;
        const int64_t c = unit % m.groups * VECTOR_GROUP;
        const int64_t cols = m.inner - c < VECTOR_GROUP ? m.inner - c : VECTOR_GROUP;
        for (int64_t k = 0; k < m.length; k++) {
#define STEP(i, n)                                                                                 \
    vx_store(m.y, (o * m.length + k) * m.inner + c + (i), n, half,                                 \
             vx_load(m.x, o * m.inner + c + (i), n, half) * scale)
            VEC_FOR(0, cols, STEP);
#undef STEP
        }
    }
}
