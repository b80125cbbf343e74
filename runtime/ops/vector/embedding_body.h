/* Slices of embedding.h. Included by vector_*.c only. */

SLICE(embedding_fwd)
{
    const struct rows_by_id_job m = *(const struct rows_by_id_job *)args;
    const float *table = m.x;
    for (int64_t t = begin; t < end; t++) {
        const int64_t id = m.ids[t];
        const bool good = id >= 0 && id < m.num_rows;
        const float *row = table + (good ? id : 0) * m.cols;
#define STEP(i, n) vx_store(m.y, t *m.cols + (i), n, half, good ? vf_load_n(row + (i), n) : (vf){0})
        VEC_FOR(0, m.cols, STEP);
#undef STEP
    }
}

SLICE(gather_rows)
{
    const struct rows_by_id_job m = *(const struct rows_by_id_job *)args;
    const size_t bytes = (size_t)m.cols * (half ? sizeof(bf16) : sizeof(float));
    for (int64_t t = begin; t < end; t++) {
        const int64_t id = m.ids[t];
        char *y = (char *)m.y + (size_t)t * bytes;
        if (id >= 0 && id < m.num_rows) {
            memcpy(y, (const char *)m.x + (size_t)id * bytes, bytes);
        } else {
            memset(y, 0, bytes);
        }
    }
}

/* Columns [first, last) of destination row i. */
VEC_INLINE void scatter_row(const struct scatter_job *m, int64_t i, int64_t first, int64_t last,
                            const bool half)
{
    const int64_t cols = m->a.cols;
    const bool d_half = m->a.d_dtype == VECTOR_BF16;
    const int32_t from = m->start[i];
    const int32_t to = m->start[i + 1];
    if (from == to && m->a.accumulate) return;
#define STEP(c, n)                                                                                 \
    do {                                                                                           \
        vf sum = m->a.accumulate ? vx_load(m->a.d, i * cols + (c), n, d_half) : (vf){0};           \
        for (int32_t k = from; k < to; k++) {                                                      \
            sum += vx_load(m->a.dy, m->order[k] * cols + (c), n, half);                            \
        }                                                                                          \
        vx_store(m->a.d, i *cols + (c), n, d_half, sum);                                           \
    } while (0)
    VEC_FOR(first, last, STEP);
#undef STEP
}

SLICE(scatter_add_rows)
{
    const struct scatter_job *m = args;
    if (!m->by_columns) {
        for (int64_t i = begin; i < end; i++) {
            scatter_row(m, i, 0, m->a.cols, half);
        }
        return;
    }
    const int64_t last = end * VECTOR_ALIGN < m->a.cols ? end * VECTOR_ALIGN : m->a.cols;
    for (int64_t i = 0; i < m->a.num_rows; i++) {
        scatter_row(m, i, begin * VECTOR_ALIGN, last, half);
    }
}
